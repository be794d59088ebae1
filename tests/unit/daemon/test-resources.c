/* SPDX-License-Identifier: Apache-2.0 */
/* What a definition names, opened: links, and files that a failed start made */
#include "daemon/machine.h"
#include "daemon/resources.h"
#include "dbus/host-resources.h"
#include "tests/unit/daemon/fixture.h"
#include "vmm/base/cleanup.h"
#include "vmm/base/err.h"
#include "vmm/base/fd.h"
#include "vmm/config/vm-config.h"
#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define WAIT     "a{sv}", 1, "Wait", "b", 1
#define STRANGER 54321 /* a uid that is not ours */

static char *in_dir(const char *dir, const char *name)
{
	return g_build_filename(dir, name, NULL);
}

static int open_disk(const char *path, uid_t owner, struct err *err)
{
	_cleanup_(resource_set_deinit) struct resource_set set = { 0 };
	_cleanup_(vm_config_free_cleanup) struct vm_config *config = NULL;
	g_autofree char *text =
		g_strdup_printf("{\"payload\":{\"kernel\":\"%s\"},\"disks\":[{\"path\":\"%s\"}]}",
				"/proc/version", path);

	*err = (struct err){ 0 };
	g_assert_cmpint(machine_parse_config(text, &config, NULL, err), ==, 0);
	return resources_open(config, NULL, "/dev/null", owner, &set, err);
}

/* A link is the owner's to change after the file was authorised. */
static void test_symlink(void)
{
	g_autofree char *dir = g_dir_make_tmp("brumed-XXXXXX", NULL);
	g_autofree char *file = in_dir(dir, "disk"), *link = in_dir(dir, "link");
	g_autofree char *folder = in_dir(dir, "folder"), *through = in_dir(dir, "folder/disk");
	g_autofree char *sentence = g_strdup_printf(
		"'%s' goes through a symbolic link, which is not followed for a machine owned by "
		"user '%d'; give the real path",
		link, STRANGER);
	g_autofree char *zeros = g_strnfill(4096, '0');
	struct err err = { 0 };

	g_assert_true(g_file_set_contents(file, zeros, 4096, NULL));
	g_assert_cmpint(symlink(file, link), ==, 0);
	g_assert_cmpint(symlink(dir, folder), ==, 0);

	g_assert_cmpint(open_disk(link, STRANGER, &err), ==, -ELOOP);
	g_assert_cmpint(err.fault, ==, FAULT_HOST_RESOURCE);
	if (!strstr(err.msg, sentence))
		g_error("%s", err.msg);
	g_assert_cmpint(open_disk(through, STRANGER, &err), ==, -ELOOP);
	g_assert_cmpint(open_disk("/proc/self/fd/0", STRANGER, &err), ==, -ELOOP);
	g_remove(folder);
	g_remove(link);
	g_remove(file);
	g_remove(dir);
}

static void test_real_path(void)
{
	g_autofree char *dir = g_dir_make_tmp("brumed-XXXXXX", NULL);
	g_autofree char *file = in_dir(dir, "disk"), *link = in_dir(dir, "link");
	g_autofree char *zeros = g_strnfill(4096, '0');
	struct err err = { 0 };

	g_assert_true(g_file_set_contents(file, zeros, 4096, NULL));
	g_assert_cmpint(symlink(file, link), ==, 0);
	g_assert_cmpint(open_disk(file, STRANGER, &err), ==, 0);
	g_assert_cmpint(open_disk(link, 0, &err), ==, 0);
	g_assert_cmpint(open_disk(link, geteuid(), &err), ==, 0);
	g_remove(link);
	g_remove(file);
	g_remove(dir);
}

static const struct {
	const char *title, *words;
	bool made; /* the file was there before */
} outputs[] = {
	{ "new", "fake-start-fails", false },
	{ "there-before", "fake-start-fails", true },
	{ "start-works", "", false },
};

static void test_output(gconstpointer data)
{
	size_t i = GPOINTER_TO_SIZE(data);
	struct fixture *f = fixture_new();
	g_autofree char *file = in_dir(f->dir, "serial.log");
	g_autofree char *more =
		g_strdup_printf("\"serial\":{\"mode\":\"File\",\"file\":\"%s\"}", file);
	g_autofree char *config = fixture_config(f, outputs[i].words, more);
	bool fails = outputs[i].words[0];

	if (outputs[i].made)
		g_assert_true(g_file_set_contents(file, "", 0, NULL));
	fixture_create(f, "o", "", true);
	fixture_vm_ok(f, "o", "SetConfig", "sa{sv}", config, 0);
	if (!fails) {
		fixture_vm_ok(f, "o", "Start", WAIT);
		g_assert_cmpint(access(file, F_OK), ==, 0);
	} else {
		fixture_vm_fails(f, "o", "ResourceUnavailable", "no memory for the fake's guest",
				 "Start", WAIT);
		/* On a helper thread, which nobody waits for. */
		for (int n = 0; n < 500 && !outputs[i].made && access(file, F_OK) == 0; n++)
			g_usleep(10000);
		g_assert_cmpint(access(file, F_OK), ==, outputs[i].made ? 0 : -1);
	}
	fixture_free(f);
}

/* Made, and then another resource of the same start is missing. */
static void test_output_half(gconstpointer owner)
{
	g_autofree char *dir = g_dir_make_tmp("brumed-XXXXXX", NULL);
	g_autofree char *file = in_dir(dir, "serial.log");
	_cleanup_(resource_set_deinit) struct resource_set set = { 0 };
	_cleanup_(vm_config_free_cleanup) struct vm_config *config = NULL;
	g_autofree char *text =
		g_strdup_printf("{\"payload\":{\"kernel\":\"/proc/version\"},"
				"\"serial\":{\"mode\":\"File\",\"file\":\"%s\"},"
				"\"console\":{\"mode\":\"File\",\"file\":\"/nonexistent/x\"}}",
				file);
	struct err err = { 0 };

	g_assert_cmpint(machine_parse_config(text, &config, NULL, &err), ==, 0);
	g_assert_cmpint(resources_open(config, NULL, "/dev/null", GPOINTER_TO_UINT(owner), &set,
				       &err),
			==, -ENOENT);
	g_assert_cmpint(access(file, F_OK), ==, -1);
	g_assert_cmpint(g_remove(dir), ==, 0);
}

/* Somebody has written to it, or put another file in its place: not ours to remove. */
static void test_output_used(void)
{
	g_autofree char *dir = g_dir_make_tmp("brumed-XXXXXX", NULL);
	g_autofree char *used = in_dir(dir, "used"), *other = in_dir(dir, "other");
	struct created_file items[2] = { { .path = used }, { .path = other } };
	struct created_files created = { .items = items, .n = 2 };
	struct stat st;

	g_assert_true(g_file_set_contents(used, "x", 1, NULL));
	g_assert_true(g_file_set_contents(other, "", 0, NULL));
	g_assert_cmpint(stat(used, &st), ==, 0);
	items[0].dev = items[1].dev = st.st_dev;
	items[0].ino = items[1].ino = st.st_ino;
	created_files_remove(&created);
	g_assert_cmpint(g_remove(used), ==, 0);
	g_assert_cmpint(g_remove(other), ==, 0);
	g_remove(dir);
}

static const char *detail(const struct host_resource_details *details, const char *key)
{
	for (size_t i = 0; details->list[i]; i += 2)
		if (g_str_equal(details->list[i], key))
			return details->list[i + 1];
	return NULL;
}

/* What a rule of polkit sees: everything that is the host's, and each on its own line. */
static void test_details(void)
{
	_cleanup_(vm_config_free_cleanup) struct vm_config *config = NULL;
	struct host_resource_details details;
	g_autoptr(GVariant) properties = g_variant_ref_sink(g_variant_new_parsed(
		"@a(sv) [('CPUWeight', <uint64 10>), ('TasksMax', <uint64 900>)]"));

	g_assert_cmpint(
		machine_parse_config(
			"{\"payload\":{\"kernel\":\"/a:b\"},\"disks\":[{\"path\":\"/c\"}],"
			"\"net\":[{\"tap\":\"t0\",\"ip\":\"192.0.2.1\",\"mask\":\"255.255.255.0\"},"
			"{\"tap\":\"t1\"}]}",
			&config, NULL, NULL),
		==, 0);
	g_assert_true(host_resource_details(config, "x.slice", properties, &details));
	g_assert_cmpstr(detail(&details, "path"), ==, "/a:b\n/c");
	g_assert_cmpstr(detail(&details, "interface"), ==, "t0\nt1");
	g_assert_cmpstr(detail(&details, "address"), ==, "192.0.2.1/255.255.255.0");
	g_assert_cmpstr(detail(&details, "slice"), ==, "x.slice");
	g_assert_cmpstr(detail(&details, "property"), ==, "CPUWeight\nTasksMax");
}

static void test_details_source(void)
{
	_cleanup_(vm_config_free_cleanup) struct vm_config *config = NULL;
	struct host_resource_details details;

	g_assert_cmpint(machine_parse_config("{\"payload\":{\"kernel\":\"/k\"},"
					     "\"rng\":{\"src\":\"/dev/hwrng\"}}",
					     &config, NULL, NULL),
			==, 0);
	g_assert_true(host_resource_details(config, NULL, NULL, &details));
	g_assert_cmpstr(detail(&details, "path"), ==, "/k\n/dev/hwrng");
	g_assert_null(detail(&details, "address"));
}

/* What a worker says, with the path that it does not know. */
static void test_name_paths(void)
{
	g_autofree char *dirs = g_strnfill(300, 'd');
	g_autofree char *text =
		g_strdup_printf("{\"payload\":{\"kernel\":\"/srv/k\",\"initramfs\":{\"fd\":\"i\"}},"
				"\"disks\":[{\"path\":\"/%s\"}]}",
				dirs);
	_cleanup_(vm_config_free_cleanup) struct vm_config *config = NULL;
	static const struct {
		const char *said, *told;
	} cases[] = {
		{ "/payload/kernel: no kernel", "/payload/kernel: '/srv/k': no kernel" },
		{ "/payload/initramfs: empty", "/payload/initramfs: descriptor 'i': empty" },
		{ "/payload/firmware: none there", "/payload/firmware: none there" },
		{ "/payload/kernels: no such key", "/payload/kernels: no such key" },
		{ "/cpus/max_vcpus: 9 is too many", "/cpus/max_vcpus: 9 is too many" },
		{ "no memory", "no memory" },
	};
	struct err long_path = { 0 };

	g_assert_cmpint(machine_parse_config(text, &config, NULL, NULL), ==, 0);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct err err = { 0 };

		err_fault(&err, FAULT_BAD_CONFIG, ENOEXEC, "%s", cases[i].said);
		resources_name_paths(config, &err);
		g_assert_cmpstr(err.msg, ==, cases[i].told);
		g_assert_cmpint(err.fault, ==, FAULT_BAD_CONFIG);
		g_assert_cmpint(err.code, ==, ENOEXEC);
	}
	/* The reason is what must not be lost. */
	err_fault(&long_path, FAULT_BAD_CONFIG, EINVAL, "/disks/0/path: the image is too small");
	resources_name_paths(config, &long_path);
	g_assert_true(g_str_has_prefix(long_path.msg, "/disks/0/path: '/ddddd"));
	g_assert_true(g_str_has_suffix(long_path.msg, "...': the image is too small"));
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/daemon/resources/symlink", test_symlink);
	g_test_add_func("/daemon/resources/real-path", test_real_path);
	for (size_t i = 0; i < ARRAY_SIZE(outputs); i++) {
		g_autofree char *path =
			g_strdup_printf("/daemon/resources/output/%s", outputs[i].title);

		g_test_add_data_func(path, GSIZE_TO_POINTER(i), test_output);
	}
	g_test_add_data_func("/daemon/resources/output-half/root", GUINT_TO_POINTER(0),
			     test_output_half);
	g_test_add_data_func("/daemon/resources/output-half/stranger", GUINT_TO_POINTER(STRANGER),
			     test_output_half);
	g_test_add_func("/daemon/resources/output-used", test_output_used);
	g_test_add_func("/daemon/resources/name-paths", test_name_paths);
	g_test_add_func("/daemon/resources/details", test_details);
	g_test_add_func("/daemon/resources/details-source", test_details_source);
	return g_test_run();
}
