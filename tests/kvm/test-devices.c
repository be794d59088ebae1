/* SPDX-License-Identifier: Apache-2.0 */
/* PCI, MSI-X and the virtio devices, driven by a well-behaved tiny guest. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/kvm/scenario.h"

static void prepare_two_disks(struct test_worker *w)
{
	prepare_disk(w);
	test_worker_resource(w, "/disks/1/path", test_disk(2U << 20));
}

static void check_serial(struct test_worker *w)
{
	g_assert_cmpuint(test_worker_count(w, "# serial tiny-serial"), ==, 1);
}

/* Slots in the order of the configuration: disk, net, rng behind the bridge. */
static void check_slots(struct test_worker *w)
{
	g_assert_cmpuint(test_worker_count(w, "# device 0.0 8086:0d57"), ==, 1);
	g_assert_cmpuint(test_worker_count(w, "1af4:1042"), ==, 1);
	g_assert_cmpuint(test_worker_count(w, "1af4:1041"), ==, 1);
	g_assert_cmpuint(test_worker_count(w, "1af4:1044"), ==, 1);
}

static char image_path[] = "/tmp/brume-test-image-XXXXXX";

static void run(const char *const *argv)
{
	g_autoptr(GError) error = NULL;
	int status = 0;

	if (!g_spawn_sync(NULL, (char **)(uintptr_t)argv, NULL,
			  G_SPAWN_SEARCH_PATH | G_SPAWN_STDOUT_TO_DEV_NULL, NULL, NULL, NULL, NULL,
			  &status, &error) ||
	    !g_spawn_check_wait_status(status, &error))
		g_error("%s: %s", argv[0], error->message);
}

/* With something in every `step` MiB of the first `filled`; the guest writes to other places. */
static void prepare_image(struct test_worker *w, const char *format, const char *options,
			  const char *size, unsigned int filled, unsigned int step)
{
	const char *const create[] = { "qemu-img", "create", "-q",       "-f", format,
				       "-o",       options,  image_path, size, NULL };
	g_autoptr(GPtrArray) fill = g_ptr_array_new_with_free_func(g_free);
	int fd;

	memcpy(strrchr(image_path, '-') + 1, "XXXXXX", 6);
	fd = mkostemp(image_path, O_CLOEXEC);
	g_assert_cmpint(fd, >=, 0);
	run(create);
	for (const char *const *arg = (const char *[]){ "qemu-io", "-f", format, NULL }; *arg;
	     arg++)
		g_ptr_array_add(fill, g_strdup(*arg));
	for (unsigned int mib = step; mib < filled; mib += step) {
		g_ptr_array_add(fill, g_strdup("-c"));
		g_ptr_array_add(fill, g_strdup_printf("write -q %uM 4k", mib));
	}
	g_ptr_array_add(fill, g_strdup(image_path));
	g_ptr_array_add(fill, NULL);
	if (filled)
		run((const char *const *)fill->pdata);
	test_worker_resource(w, "/disks/0/path", fd);
}

/* The worker is gone, and what it left is a whole image. */
static void check_image(const char *format)
{
	/* vpc has no check: its tables are read */
	const char *const check[] = { "qemu-img", "check", "-q", "-f", format, image_path, NULL };
	const char *const map[] = { "qemu-img", "map", "-f", format, image_path, NULL };

	run(strcmp(format, "vpc") == 0 ? map : check);
	g_assert_cmpint(unlink(image_path), ==, 0);
}

static void prepare_qcow2(struct test_worker *w)
{
	prepare_image(w, "qcow2", "compat=1.1", "1M", 0, 0);
}

static void check_qcow2(struct test_worker *w G_GNUC_UNUSED)
{
	check_image("qcow2");
}

/* So many blocks that the tables of them are large: 300 and more. */
static void prepare_vhd(struct test_worker *w)
{
	prepare_image(w, "vpc", "force_size=on", "1G", 700, 2);
}

static void prepare_fixed_vhd(struct test_worker *w)
{
	prepare_image(w, "vpc", "subformat=fixed,force_size=on", "8M", 0, 0);
}

static void check_vhd(struct test_worker *w G_GNUC_UNUSED)
{
	check_image("vpc");
}

static void prepare_vhdx(struct test_worker *w)
{
	prepare_image(w, "vhdx", "block_size=1M", "1G", 400, 1);
}

static void check_vhdx(struct test_worker *w G_GNUC_UNUSED)
{
	check_image("vhdx");
}

static int pmem_fd = -1;

static void prepare_pmem(struct test_worker *w)
{
	pmem_fd = memfd_create("pmem", MFD_CLOEXEC);
	g_assert_cmpint(ftruncate(pmem_fd, 4 << 20), ==, 0);
	g_assert_cmpint(pwrite(pmem_fd, "from the host", 14, 4096), ==, 14);
	test_worker_resource(w, "/pmem/0/file", dup(pmem_fd));
}

static void check_pmem(struct test_worker *w G_GNUC_UNUSED)
{
	char text[15] = "";

	g_assert_cmpint(pread(pmem_fd, text, 14, (4 << 20) - 4096), ==, 14);
	g_assert_cmpstr(text, ==, "from the guest");
	close(pmem_fd);
}

static const struct scenario scenarios[] = {
	{ "/pci/enum", "test=pci-enum", CONFIG_ALL, prepare_all_devices, check_slots },
	{ "/pci/bar-move", "test=bar-move", CONFIG_DISK, prepare_disk },
	{ "/msix/mask", "test=msix-mask count=32", CONFIG_DISK, prepare_disk },
	{ "/msix/mask-2-vcpus", "test=msix-mask count=32 depth=16",
	  "{'cpus': <{'boot_vcpus': <uint32 2>}>, 'disks': <[{'path': <'/disks/0/path'>}]>}",
	  prepare_disk },
	{ "/blk/rw", "test=blk-rw sectors=2048",
	  "{'disks': <[{'path': <'/disks/0/path'>, 'serial': <'tiny-serial'>}]>}", prepare_disk,
	  check_serial },
	{ "/blk/rw-then-reset", "test=blk-rw,blk-read", CONFIG_DISK, prepare_disk },
	{ "/blk/second-disk", "test=blk-rw nth=1 sectors=4096",
	  "{'disks': <[{'path': <'/disks/0/path'>}, {'path': <'/disks/1/path'>}]>}",
	  prepare_two_disks },
	{ "/blk/readonly", "test=blk-ro",
	  "{'disks': <[{'path': <'/disks/0/path'>, 'readonly': <true>}]>}", prepare_disk },
	{ "/blk/past-the-end", "test=blk-oob", CONFIG_DISK, prepare_disk },
	{ "/blk/multi-queue", "test=blk-mq queues=2",
	  "{'cpus': <{'boot_vcpus': <uint32 2>}>,"
	  " 'disks': <[{'path': <'/disks/0/path'>, 'num_queues': <uint32 2>}]>}",
	  prepare_disk },
	{ "/blk/ranges", "test=blk-ranges", CONFIG_DISK, prepare_disk },
	{ "/blk/aio", "test=blk-rw,blk-ranges,blk-load count=64",
	  "{'disks': <[{'path': <'/disks/0/path'>, 'disable_io_uring': <true>}]>}", prepare_disk },
	{ "/blk/sync", "test=blk-rw,blk-ranges,blk-load count=64",
	  "{'disks': <[{'path': <'/disks/0/path'>, 'disable_io_uring': <true>,"
	  " 'disable_aio': <true>}]>}",
	  prepare_disk },
	{ "/blk/qcow2", "test=blk-rw,blk-ranges,blk-load,blk-oob count=64 sectors=2048",
	  "{'disks': <[{'path': <'/disks/0/path'>, 'image_type': <'Qcow2'>}]>}", prepare_qcow2,
	  check_qcow2 },
	{ "/blk/qcow2-aio", "test=blk-rw,blk-ranges,blk-load count=64 sectors=2048",
	  "{'disks': <[{'path': <'/disks/0/path'>, 'image_type': <'Qcow2'>,"
	  " 'disable_io_uring': <true>}]>}",
	  prepare_qcow2, check_qcow2 },
	{ "/blk/vhd", "test=blk-rw,blk-load count=64",
	  "{'disks': <[{'path': <'/disks/0/path'>, 'image_type': <'Vhd'>}]>}", prepare_vhd,
	  check_vhd },
	{ "/blk/vhd-aio", "test=blk-rw,blk-load count=64",
	  "{'disks': <[{'path': <'/disks/0/path'>, 'image_type': <'Vhd'>,"
	  " 'disable_io_uring': <true>}]>}",
	  prepare_vhd, check_vhd },
	{ "/blk/vhd-fixed", "test=blk-rw,blk-load count=64",
	  "{'disks': <[{'path': <'/disks/0/path'>, 'image_type': <'Vhd'>}]>}", prepare_fixed_vhd,
	  check_vhd },
	{ "/blk/vhd-fixed-aio", "test=blk-rw,blk-load count=64",
	  "{'disks': <[{'path': <'/disks/0/path'>, 'image_type': <'Vhd'>,"
	  " 'disable_io_uring': <true>}]>}",
	  prepare_fixed_vhd, check_vhd },
	{ "/blk/vhdx", "test=blk-rw,blk-load count=64",
	  "{'disks': <[{'path': <'/disks/0/path'>, 'image_type': <'Vhdx'>}]>}", prepare_vhdx,
	  check_vhdx },
	{ "/blk/vhdx-aio", "test=blk-rw,blk-load count=64",
	  "{'disks': <[{'path': <'/disks/0/path'>, 'image_type': <'Vhdx'>,"
	  " 'disable_io_uring': <true>}]>}",
	  prepare_vhdx, check_vhdx },
	{ "/pmem/misuse", "test=pmem", "{'pmem': <[{'file': <'/pmem/0/file'>}]>}", prepare_pmem,
	  check_pmem },
	{ "/blk/indirect", "test=blk-indirect", CONFIG_DISK, prepare_disk },
	{ "/blk/event-index", "test=blk-eventidx", CONFIG_DISK, prepare_disk },
	{ "/blk/load", "test=blk-load count=512 depth=32", CONFIG_DISK, prepare_disk },
	{ "/net/loop", "test=net-loop count=64", CONFIG_NET, prepare_net },
	{ "/net/control-queue", "test=net-ctrl", CONFIG_NET, prepare_net },
	{ "/rng", "test=rng", NULL },
	{ "/console/output", "test=console text=hello-there", "{'console': <{'mode': <'Tty'>}>}",
	  NULL },
};

/* What the guest wrote is in the image, and nowhere else. */
static void test_blk_contents(void)
{
	_cleanup_close_ int disk = test_disk(1U << 20), before = test_disk(1U << 20);
	struct err err = { 0 };
	struct test_worker w;
	char a[512], b[512];

	test_worker_spawn(&w, NULL);
	test_worker_resource(&w, "/rng/src", open("/dev/urandom", O_RDONLY | O_CLOEXEC));
	test_worker_resource(&w, "/disks/0/path", dup(disk));
	g_assert_cmpint(test_worker_start(&w, "test=blk-rw at=8 n=8 pattern=7", CONFIG_DISK, false,
					  &err),
			==, 0);
	test_worker_wait_exit(&w, 20);
	scenario_expect_done(&w);
	for (off_t sector = 0; sector < 2048; sector++) {
		bool written = sector >= 8 && sector < 16;

		g_assert_cmpint(pread(disk, a, sizeof(a), sector * 512), ==, 512);
		g_assert_cmpint(pread(before, b, sizeof(b), sector * 512), ==, 512);
		if ((memcmp(a, b, sizeof(a)) != 0) != written)
			g_error("sector %ld %s", (long)sector,
				written ? "was not written" : "was written");
	}
	test_worker_end(&w);
}

/* virtio-console both ways, by its name. */
static void test_console_echo(void)
{
	_cleanup_close_ int fd = -EBADF;
	struct err err = { 0 };
	struct test_worker w;
	char buf[64] = "";

	test_worker_spawn(&w, NULL);
	test_worker_resource(&w, "/rng/src", open("/dev/urandom", O_RDONLY | O_CLOEXEC));
	g_assert_cmpint(test_worker_start(&w, "test=console text=hi-host echo=1",
					  "{'console': <{'mode': <'Tty'>}>}", false, &err),
			==, 0);
	g_assert_cmpint(test_worker_open_console(&w, "console", false, &fd, &err), ==, 0);
	test_worker_wait_output(&w, "# waiting", 10);
	g_assert_cmpint(read(fd, buf, sizeof(buf) - 1), >, 0);
	g_assert_nonnull(strstr(buf, "hi-host"));
	g_assert_cmpint(write(fd, "hi-guest\n", 9), ==, 9);
	test_worker_wait_exit(&w, 15);
	g_assert_cmpuint(test_worker_count(&w, "# input hi-guest"), ==, 1);
	scenario_expect_done(&w);
	test_worker_end(&w);
}

/* Pausing and resetting while requests are in flight. */
static void test_blk_pause_under_load(void)
{
	struct err err = { 0 };
	struct test_worker w;

	test_worker_spawn(&w, NULL);
	test_worker_resource(&w, "/rng/src", open("/dev/urandom", O_RDONLY | O_CLOEXEC));
	prepare_disk(&w);
	g_assert_cmpint(test_worker_start(&w, "test=blk-load count=2000 depth=32", CONFIG_DISK,
					  false, &err),
			==, 0);
	for (unsigned int i = 0; i < 20 && !w.exited; i++) {
		test_worker_run_for(&w, 10);
		if (!w.exited && test_worker_call(&w, "Pause", &err) >= 0)
			test_worker_call(&w, "Resume", &err);
		err_clear(&err);
	}
	test_worker_wait_exit(&w, 30);
	scenario_expect_done(&w);
	test_worker_end(&w);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	scenarios_add(scenarios, G_N_ELEMENTS(scenarios));
	g_test_add_func("/blk/contents", test_blk_contents);
	g_test_add_func("/blk/pause-under-load", test_blk_pause_under_load);
	g_test_add_func("/console/echo", test_console_echo);
	return g_test_run();
}
