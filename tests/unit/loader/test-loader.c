/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A whole load: boot information, initramfs, command line, and a real kernel
 */
#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/unit/loader/image.h"
#include "vmm/arch/x86/layout.h"
#include "vmm/base/cleanup.h"
#include "vmm/base/err.h"
#include "vmm/base/math.h"
#include "vmm/loader/loader.h"
#include "vmm/loader/pvh-abi.h"

struct fixture {
	struct image *image;
	struct guest_mem mem;
	struct x86_memmap map;
	struct loader_params params;
	struct loader_result ret;
	struct err err;
};

static void fixture_init(struct fixture *f, uint64_t mib)
{
	memset(f, 0, sizeof(*f));
	f->image = image_new();
	image_ram(&f->mem, &f->map, mib);
	f->params = (struct loader_params){
		.what = "kernel",
		.kernel_fd = image_fd(f->image, sizeof(*f->image)),
		.initramfs_fd = -EBADF,
		.memmap = &f->map,
		.rsdp_gpa = LAYOUT_RSDP,
	};
}

static void fixture_cleanup(struct fixture *f)
{
	if (f->params.kernel_fd >= 0)
		close(f->params.kernel_fd);
	if (f->params.initramfs_fd >= 0)
		close(f->params.initramfs_fd);
	guest_mem_deinit(&f->mem);
	g_free(f->image);
}

static int load(struct fixture *f)
{
	return loader_load(&f->mem, &f->params, &f->ret, &f->err);
}

static void test_pvh(void)
{
	_cleanup_(fixture_cleanup) struct fixture f;
	struct pvh_start_info info;
	struct pvh_memmap_entry entries[4];
	char cmdline[32];

	fixture_init(&f, 64);
	f.params.cmdline = "console=ttyS0 root=/dev/vda";
	g_assert_cmpint(load(&f), ==, 0);
	g_assert_cmpint(f.ret.entry.protocol, ==, X86_BOOT_PVH);
	g_assert_cmphex(f.ret.entry.rip, ==, IMAGE_ENTRY);
	g_assert_cmpstr(f.ret.format, ==, "ELF");
	image_check(&f.mem, f.image);

	g_assert_cmpint(guest_read(&f.mem, 0x6000, &info, sizeof(info)), ==, 0);
	g_assert_cmphex(le32_get(info.magic), ==, 0x336ec578);
	g_assert_cmpuint(le32_get(info.version), ==, 1);
	g_assert_cmpuint(le32_get(info.nr_modules), ==, 0);
	g_assert_cmphex(le64_get(info.cmdline_paddr), ==, 0x20000);
	g_assert_cmphex(le64_get(info.rsdp_paddr), ==, 0xa0000);
	g_assert_cmphex(le64_get(info.memmap_paddr), ==, 0x7000);
	g_assert_cmpuint(le32_get(info.memmap_entries), ==, 3);
	g_assert_cmpint(guest_read(&f.mem, 0x7000, entries, sizeof(entries)), ==, 0);
	g_assert_cmphex(le64_get(entries[1].addr), ==, 0x100000);
	g_assert_cmphex(le64_get(entries[1].size), ==, 63 * MIB);
	g_assert_cmpuint(le32_get(entries[1].type), ==, 1);
	g_assert_cmphex(le64_get(entries[2].addr), ==, 0xe8000000);
	g_assert_cmpuint(le32_get(entries[2].type), ==, 2);
	g_assert_cmpint(guest_read(&f.mem, 0x20000, cmdline, sizeof(cmdline)), ==, 0);
	g_assert_cmpstr(cmdline, ==, "console=ttyS0 root=/dev/vda");
}

static void test_initramfs(void)
{
	_cleanup_(fixture_cleanup) struct fixture f;
	const size_t size = 3 * MIB + 123;
	g_autofree uint8_t *bytes = g_malloc(size);
	struct pvh_start_info info;
	struct pvh_module module;
	uint64_t gpa;

	for (size_t i = 0; i < size; i++)
		bytes[i] = (uint8_t)(i * 31 ^ i >> 10);
	fixture_init(&f, 16);
	f.params.initramfs_fd = image_fd(bytes, size);
	g_assert_cmpint(load(&f), ==, 0);
	g_assert_cmpint(guest_read(&f.mem, 0x6000, &info, sizeof(info)), ==, 0);
	g_assert_cmpuint(le32_get(info.nr_modules), ==, 1);
	g_assert_cmphex(le64_get(info.modlist_paddr), ==, 0x6040);
	g_assert_cmpint(guest_read(&f.mem, 0x6040, &module, sizeof(module)), ==, 0);
	gpa = le64_get(module.paddr);
	g_assert_cmphex(gpa, ==, align_down(16 * MIB - size, 4096));
	g_assert_cmpuint(le64_get(module.size), ==, size);
	g_assert_cmpmem(guest_range(&f.mem, gpa, size, 1), size, bytes, size);
}

static int sparse_fd(uint64_t size)
{
	int fd = memfd_create("sparse", MFD_CLOEXEC);

	g_assert_cmpint(fd, >=, 0);
	g_assert_cmpint(ftruncate(fd, (off_t)size), ==, 0);
	return fd;
}

static void test_bad_initramfs(void)
{
	static const struct {
		const char *name;
		uint64_t size;
		const char *text;
	} cases[] = {
		{ "empty", 0, "/payload/initramfs: the file is empty" },
		{ "larger than memory", 600 * MIB,
		  "/payload/initramfs: 600 MiB do not fit into 16 MiB of memory beside the kernel, "
		  "which ends at 4 MiB" },
		{ "on the kernel", 13 * MIB,
		  "/payload/initramfs: 13 MiB do not fit into 16 MiB of memory beside the kernel, which "
		  "ends at 4 MiB" },
		{ "huge", INT64_MAX,
		  "/payload/initramfs: 8796093022208 MiB do not fit into 16 MiB of memory beside the "
		  "kernel, which ends at 4 MiB" },
	};

	for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
		_cleanup_(fixture_cleanup) struct fixture f;

		fixture_init(&f, 16);
		f.params.initramfs_fd = sparse_fd(cases[i].size);
		g_assert_cmpint(load(&f), <, 0);
		g_assert_cmpstr(f.err.msg, ==, cases[i].text);
	}
}

static void test_initramfs_pipe(void)
{
	_cleanup_(fixture_cleanup) struct fixture f;
	int fds[2];

	fixture_init(&f, 16);
	g_assert_cmpint(pipe(fds), ==, 0);
	f.params.initramfs_fd = fds[0];
	g_assert_cmpint(load(&f), ==, -EINVAL);
	g_assert_cmpstr(f.err.msg, ==,
			"/payload/initramfs: neither a regular file nor a block device");
	close(fds[1]);
}

static void test_cmdline_limits(void)
{
	_cleanup_(fixture_cleanup) struct fixture f;
	g_autofree char *longest = g_strnfill(65535, 'a');
	g_autofree char *too_long = g_strnfill(65536, 'a');

	fixture_init(&f, 16);
	f.params.cmdline = longest;
	g_assert_cmpint(load(&f), ==, 0);
	f.params.cmdline = too_long;
	g_assert_cmpint(load(&f), ==, -E2BIG);
	g_assert_cmpstr(
		f.err.msg, ==,
		"/payload/cmdline: 65536 bytes are too many, must be at most 65535 for this "
		"kernel");
}

static void test_not_a_kernel(void)
{
	static const struct {
		const char *bytes;
		const char *text;
	} cases[] = {
		{ "", "firmware: a file of 0 bytes is no kernel" },
		{ "abc", "firmware: a file of 3 bytes is no kernel" },
		{ "#!/bin/sh\n", "firmware: neither an ELF image nor a bzImage "
				 "(starts with '23 21 2f 62')" },
		{ "\177ELF", "firmware: not an ELF image" },
	};

	for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
		_cleanup_(fixture_cleanup) struct fixture f;

		fixture_init(&f, 16);
		close(f.params.kernel_fd);
		f.params.kernel_fd = image_fd(cases[i].bytes, strlen(cases[i].bytes));
		f.params.what = "firmware";
		g_assert_cmpint(load(&f), <, 0);
		g_assert_cmpstr(f.err.msg, ==, cases[i].text);
	}
}

static void test_directory(void)
{
	_cleanup_(fixture_cleanup) struct fixture f;

	fixture_init(&f, 16);
	close(f.params.kernel_fd);
	f.params.kernel_fd = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	g_assert_cmpint(load(&f), ==, -EINVAL);
	g_assert_cmpstr(f.err.msg, ==, "kernel: neither a regular file nor a block device");
}

/* Loading twice, as a reset does, gives the same machine. */
static void test_again(void)
{
	_cleanup_(fixture_cleanup) struct fixture f;

	fixture_init(&f, 16);
	g_assert_cmpint(load(&f), ==, 0);
	g_assert_cmpint(guest_fill(&f.mem, IMAGE_TEXT, 0xa5, 0x200000), ==, 0);
	g_assert_cmpint(load(&f), ==, 0);
	image_check(&f.mem, f.image);
}

/* The newest vmlinuz of /boot, or the one that was named. */
static char *find_vmlinuz(void)
{
	const char *named = g_getenv("BRUME_TEST_VMLINUZ");
	g_autoptr(GDir) dir = NULL;
	char *found = NULL;
	const char *name;

	if (named)
		return g_strdup(named);
	dir = g_dir_open("/boot", 0, NULL);
	while (dir && (name = g_dir_read_name(dir))) {
		g_autofree char *path = g_build_filename("/boot", name, NULL);

		if (!g_str_has_prefix(name, "vmlinuz") || access(path, R_OK) < 0)
			continue;
		g_free(found);
		found = TAKE_PTR(path);
	}
	return found;
}

static void test_debian_kernel(void)
{
	_cleanup_(fixture_cleanup) struct fixture f = { 0 };
	g_autofree char *path = find_vmlinuz();
	gint64 start;

	fixture_init(&f, 512);
	if (!path) {
		g_test_skip("no vmlinuz under /boot and BRUME_TEST_VMLINUZ is not set");
		return;
	}
	close(f.params.kernel_fd);
	f.params.kernel_fd = open(path, O_RDONLY | O_CLOEXEC);
	f.params.mode = LOADER_PVH;
	start = g_get_monotonic_time();
	g_assert_cmpint(load(&f), ==, 0);
	g_test_message("%s: %s in %" G_GINT64_FORMAT " us", path, f.ret.format,
		       g_get_monotonic_time() - start);
	g_assert_cmpstr(f.err.msg, ==, "");
	g_assert_cmpint(f.ret.entry.protocol, ==, X86_BOOT_PVH);
	g_assert_cmphex(f.ret.entry.rip, >=, 0x1000000);
	/* its entry starts with cld */
	g_assert_cmphex(*(uint8_t *)guest_range(&f.mem, f.ret.entry.rip, 1, 1), ==, 0xfc);

	f.params.mode = LOADER_BZIMAGE;
	g_assert_cmpint(load(&f), ==, 0);
	g_assert_cmpint(f.ret.entry.protocol, ==, X86_BOOT_BZIMAGE);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/loader/loader/pvh", test_pvh);
	g_test_add_func("/loader/loader/initramfs", test_initramfs);
	g_test_add_func("/loader/loader/bad-initramfs", test_bad_initramfs);
	g_test_add_func("/loader/loader/initramfs-pipe", test_initramfs_pipe);
	g_test_add_func("/loader/loader/cmdline-limits", test_cmdline_limits);
	g_test_add_func("/loader/loader/not-a-kernel", test_not_a_kernel);
	g_test_add_func("/loader/loader/directory", test_directory);
	g_test_add_func("/loader/loader/again", test_again);
	g_test_add_func("/loader/loader/debian-kernel", test_debian_kernel);
	return g_test_run();
}
