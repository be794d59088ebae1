/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <glib.h>

#include "dbus/bus-path.h"
#include "vmm/base/cleanup.h"

static const struct {
	const char *name, *path;
} vms[] = {
	{ "web1", "/org/brume/vm1/vm/web1" },
	{ "db-1", "/org/brume/vm1/vm/db_2d1" },
	{ "1a", "/org/brume/vm1/vm/_31a" },
	{ "a.b", "/org/brume/vm1/vm/a_2eb" },
};

static void test_vm(void)
{
	for (size_t i = 0; i < G_N_ELEMENTS(vms); i++) {
		_cleanup_free_ char *path = bus_path_vm(vms[i].name), *name = NULL;

		g_assert_cmpstr(path, ==, vms[i].path);
		g_assert_cmpint(bus_path_parse_vm(path, &name), ==, 0);
		g_assert_cmpstr(name, ==, vms[i].name);
	}
}

static void test_vm_foreign(void)
{
	static const char *const paths[] = {
		"/",
		"/org/brume/vm1",
		"/org/brume/vm1/vm",
		"/org/brume/vm1/vm/",
		"/org/brume/vm1/vm/_",
		"/org/brume/vm1/vm/web_31", /* another spelling of web1 */
		"/org/brume/vm1/vm/web1/device/root",
		"/org/brume/vm1/job/1",
		"/org/brume/vm1/vmx/web1",
		"",
	};

	for (size_t i = 0; i < G_N_ELEMENTS(paths); i++) {
		char *name = NULL;

		g_assert_cmpint(bus_path_parse_vm(paths[i], &name), ==, -EINVAL);
		g_assert_null(name);
	}
}

static void test_job(void)
{
	static const uint32_t ids[] = { 1, 42, UINT32_MAX };

	for (size_t i = 0; i < G_N_ELEMENTS(ids); i++) {
		_cleanup_free_ char *path = bus_path_job(ids[i]);
		uint32_t id = 0;

		g_assert_cmpint(bus_path_parse_job(path, &id), ==, 0);
		g_assert_cmpuint(id, ==, ids[i]);
	}
}

static void test_job_foreign(void)
{
	static const char *const paths[] = {
		"/org/brume/vm1/job",     "/org/brume/vm1/job/",   "/org/brume/vm1/job/x",
		"/org/brume/vm1/job/01",  "/org/brume/vm1/job/-1", "/org/brume/vm1/job/4294967296",
		"/org/brume/vm1/job/1/2", "/org/brume/vm1/vm/1",   "",
	};

	for (size_t i = 0; i < G_N_ELEMENTS(paths); i++) {
		uint32_t id = 7;

		g_assert_cmpint(bus_path_parse_job(paths[i], &id), ==, -EINVAL);
		g_assert_cmpuint(id, ==, 7);
	}
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/dbus/bus-path/vm/round-trip", test_vm);
	g_test_add_func("/dbus/bus-path/vm/foreign", test_vm_foreign);
	g_test_add_func("/dbus/bus-path/job/round-trip", test_job);
	g_test_add_func("/dbus/bus-path/job/foreign", test_job_foreign);
	return g_test_run();
}
