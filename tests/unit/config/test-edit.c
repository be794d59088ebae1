/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One device more, one less: what is refused leaves nothing, what moves up stays itself
 */
#include <glib.h>

#include "vmm/base/err.h"
#include "vmm/config/edit.h"
#include "vmm/config/vm-config.h"

#define BASE                                                                                       \
	"{'payload': <{'kernel': <'/k'>}>,"                                                        \
	" 'disks': <[{'path': <'/a'>, 'id': <'a'>}, {'path': <'/b'>}]>,"                           \
	" 'net': <[{'tap': <'t0'>, 'id': <'n0'>}, {'tap': <'t1'>, 'id': <'n1'>},"                  \
	" {'tap': <'t2'>, 'id': <'n2'>}]>}"

static struct vm_config *parse(const char *text)
{
	g_autoptr(GVariant) dict =
		g_variant_ref_sink(g_variant_parse(G_VARIANT_TYPE_VARDICT, text, NULL, NULL, NULL));
	struct vm_config *config = NULL;
	struct err err = { 0 };

	if (vm_config_parse(dict, &config, &err) < 0)
		g_error("%s", err.msg);
	return config;
}

static GVariant *element(const char *text)
{
	return g_variant_parse(G_VARIANT_TYPE_VARDICT, text, NULL, NULL, NULL);
}

static void test_with(void)
{
	_cleanup_(vm_config_free_cleanup) struct vm_config *config = parse(BASE), *with = NULL;
	struct err err = { 0 };
	size_t index = 99;

	g_assert_cmpint(vm_config_with_device(config, "disks", element("{'path': <'/c'>}"), &with,
					      &index, &err),
			==, 0);
	g_assert_cmpuint(index, ==, 2);
	g_assert_cmpuint(with->n_disks, ==, 3);
	g_assert_cmpuint(config->n_disks, ==, 2);
	g_assert_cmpstr(with->disks[1].pci.id, ==, "_disk0");
	g_assert_cmpstr(with->disks[2].pci.id, ==, "_disk1");
	g_assert_cmpstr(with->disks[2].path, ==, "/c");
}

static void test_single(void)
{
	_cleanup_(vm_config_free_cleanup) struct vm_config *config = parse(BASE), *with = NULL,
							   *without = NULL;
	struct err err = { 0 };
	size_t index;

	if (vm_config_with_device(config, "vsock",
				  element("{'cid': <uint32 5>, 'socket': <'/run/v'>}"), &with,
				  &index, &err) < 0)
		g_error("%s", err.msg);
	g_assert_true(with->has_vsock);
	g_assert_cmpint(vm_config_without_device(with, "vsock", 0, &without, &err), ==, 0);
	g_assert_false(without->has_vsock);
}

static void test_refused(void)
{
	_cleanup_(vm_config_free_cleanup) struct vm_config *config = parse(BASE);
	struct vm_config *with = NULL;
	struct err err = { 0 };
	size_t index = 99;

	g_assert_cmpint(vm_config_with_device(config, "disks",
					      element("{'path': <'/c'>, 'id': <'a'>}"), &with,
					      &index, &err),
			<, 0);
	g_assert_cmpstr(err.msg, ==, "/disks/2/id: 'a' is /disks/0's too, must be unique");
	/* who has prepared something for it knows what for */
	g_assert_cmpuint(index, ==, 2);
	g_assert_null(with);
	err = (struct err){ 0 };
	g_assert_cmpint(vm_config_with_device(config, "net", element("{'tap': <'a/b'>}"), &with,
					      &index, &err),
			<, 0);
	g_assert_true(g_str_has_prefix(err.msg, "/net/3/tap: 'a/b' is not an interface name"));
}

/* In the worker the resources are pointers, of the places where they were. */
static void test_stripped(void)
{
	_cleanup_(vm_config_free_cleanup) struct vm_config *config = parse(BASE), *without = NULL,
							   *with = NULL;
	struct err err = { 0 };
	size_t index;

	vm_config_strip_resources(config);
	if (vm_config_without_device(config, "net", 0, &without, &err) < 0)
		g_error("%s", err.msg);
	g_assert_cmpuint(without->n_nets, ==, 2);
	g_assert_cmpstr(without->nets[0].pci.id, ==, "n1");
	g_assert_cmpstr(without->nets[0].tap, ==, "/net/0/tap");
	if (vm_config_with_device(without, "net", element("{'tap': <'/net/2/tap'>}"), &with, &index,
				  &err) < 0)
		g_error("%s", err.msg);
	g_assert_cmpuint(index, ==, 2);
}

/* An element from somebody who counts otherwise; what is no resource only looks like one. */
static void test_place(void)
{
	g_autoptr(GVariant) given = g_variant_ref_sink(
		element("{'path': <'/disks/7/path'>, 'serial': <'/disks/7/path'>}"));
	g_autoptr(GVariant) placed = vm_config_place_element("disks", given, 2);
	g_autoptr(GVariant) other = vm_config_place_element("net", given, 2);
	const char *path, *serial;

	g_assert_true(g_variant_lookup(placed, "path", "&s", &path));
	g_assert_cmpstr(path, ==, "/disks/2/path");
	g_assert_true(g_variant_lookup(placed, "serial", "&s", &serial));
	g_assert_cmpstr(serial, ==, "/disks/7/path");
	g_assert_true(g_variant_lookup(other, "path", "&s", &path));
	g_assert_cmpstr(path, ==, "/disks/7/path");
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/config/edit/with", test_with);
	g_test_add_func("/config/edit/single", test_single);
	g_test_add_func("/config/edit/refused", test_refused);
	g_test_add_func("/config/edit/stripped", test_stripped);
	g_test_add_func("/config/edit/place", test_place);
	return g_test_run();
}
