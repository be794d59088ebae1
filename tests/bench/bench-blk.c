/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Disk requests a second, and what the host's processors spend on them
 *
 * The tiny guest's driver against our virtio-blk and QEMU's (an iothread, io_uring),
 * on the same image in the page cache, in turns.  Processor time is that of all
 * threads but the vCPU's, between the guest's first and last request: the vCPU's is
 * the guest's own, which is most of it where KVM emulates instructions.
 *
 * By hand: BENCH_CASES=raw-randread-1,... picks cases, BRUME_VMM another worker.
 */
#include <fcntl.h>
#include <glib.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/bench/bench.h"
#include "tests/bench/io.h"
#include "tests/bench/peer.h"
#include "vmm/base/cleanup.h"

#define IMAGE_BYTES (256UL << 20)

struct bench_case {
	const char *name;
	const char *format;
	const char *guest; /* arguments */
	unsigned int count;
};

static const struct bench_case cases[] = {
	{ "raw-randread-1", "raw", "depth=1", 20000 },
	{ "raw-randread-32", "raw", "depth=32", 100000 },
	{ "raw-randwrite-1", "raw", "write=1 depth=1", 20000 },
	{ "raw-randwrite-32", "raw", "write=1 depth=32", 100000 },
	{ "raw-seqread-1m", "raw", "seq=1 size=1048576 depth=4", 2000 },
	{ "raw-seqwrite-1m", "raw", "write=1 seq=1 size=1048576 depth=4", 2000 },
	{ "qcow2-randread-1", "qcow2", "depth=1", 20000 },
	{ "qcow2-randread-32", "qcow2", "depth=32", 100000 },
	{ "qcow2-randwrite-1", "qcow2", "write=1 depth=1", 20000 },
	{ "qcow2-randwrite-32", "qcow2", "write=1 depth=32", 100000 },
	{ "qcow2-seqread-1m", "qcow2", "seq=1 size=1048576 depth=4", 2000 },
	{ "qcow2-seqwrite-1m", "qcow2", "write=1 seq=1 size=1048576 depth=4", 2000 },
};

struct images {
	char dir[32];
	char *raw, *qcow2;
};

static void run(const char *const *argv)
{
	int status = 0;
	pid_t pid = fork();

	if (pid == 0) {
		execvp(argv[0], (char **)(uintptr_t)argv);
		_exit(127);
	}
	if (pid < 0 || waitpid(pid, &status, 0) < 0 || status != 0)
		g_error("%s failed", argv[0]);
}

/* All blocks are there and in the page cache. */
static void make_images(struct images *im)
{
	static char block[1 << 20];
	int fd;

	g_strlcpy(im->dir, "/tmp/bench-blk-XXXXXX", sizeof(im->dir));
	if (!g_mkdtemp(im->dir))
		g_error("cannot make a directory: %s", g_strerror(errno));
	im->raw = g_strdup_printf("%s/raw", im->dir);
	im->qcow2 = g_strdup_printf("%s/qcow2", im->dir);
	fd = open(im->raw, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	for (size_t at = 0; at < IMAGE_BYTES; at += sizeof(block)) {
		memset(block, (int)(1 + at / sizeof(block)), sizeof(block));
		g_assert_cmpint(write(fd, block, sizeof(block)), ==, sizeof(block));
	}
	fsync(fd);
	close(fd);
	run((const char *const[]){ "qemu-img", "convert", "-q", "-O", "qcow2", im->raw, im->qcow2,
				   NULL });
}

static void remove_images(struct images *im)
{
	unlink(im->raw);
	unlink(im->qcow2);
	rmdir(im->dir);
	g_free(im->raw);
	g_free(im->qcow2);
}

static void take_ours(struct io_subject *s, const struct bench_case *c, const char *image,
		      const char *cmdline)
{
	g_autofree char *config =
		g_strdup_printf("{'disks': <[{'path': <'/disks/0/path'>, 'image_type': <'%s'>}]>}",
				strcmp(c->format, "raw") == 0 ? "Raw" : "Qcow2");
	_cleanup_close_ int fd = open(image, O_RDWR | O_CLOEXEC);
	const struct peer_resource resources[] = { { "/disks/0/path", fd }, { NULL, -EBADF } };
	struct peer p;

	peer_start_brume(&p, cmdline, config, resources);
	io_measure(s, &p, c->count);
}

/* poll: as by default it looks for requests for a while before it sleeps, or it sleeps at once. */
static void take_qemu(struct io_subject *s, const struct bench_case *c, const char *image,
		      const char *cmdline, bool poll)
{
	g_autofree char *drive =
		g_strdup_printf("if=none,id=d0,format=%s,file=%s,aio=io_uring", c->format, image);
	const char *argv[] = {
		PEER_QEMU_ARGV(PEER_QEMU_MACHINE ",pcie=on", g_getenv("BRUME_TINY"), cmdline),
		"-name",
		"bench,debug-threads=on",
		"-object",
		poll ? "iothread,id=io0" : "iothread,id=io0,poll-max-ns=0",
		"-drive",
		drive,
		"-device",
		"virtio-blk-pci,drive=d0,iothread=io0,num-queues=1,disable-legacy=on",
		NULL
	};
	struct peer p;

	peer_start(&p, argv);
	io_measure(s, &p, c->count);
}

static void run_case(const struct bench_case *c, const struct images *im, bool with_qemu)
{
	g_autofree char *cmdline =
		g_strdup_printf("test=bench-blk out=e9 then=hlt count=%u %s", c->count, c->guest);
	g_autofree char *for_qemu = g_strdup_printf("%s " PEER_QEMU_PCIE, cmdline);
	g_autofree char *cpu = g_strdup_printf("%s-cpu", c->name);
	const char *image = strcmp(c->format, "raw") == 0 ? im->raw : im->qcow2;
	static struct io_subject ours, qemu, calm;

	io_subject_init(&ours, "brume", c->name, cpu);
	io_subject_init(&qemu, "qemu-microvm", c->name, cpu);
	io_subject_init(&calm, "qemu-microvm-nopoll", c->name, cpu);
	for (unsigned int i = 0; i < io_runs(); i++) {
		take_ours(&ours, c, image, cmdline);
		if (with_qemu) {
			take_qemu(&qemu, c, image, for_qemu, true);
			take_qemu(&calm, c, image, for_qemu, false);
		}
	}
	io_print(&ours, &qemu, &calm);
	if (with_qemu) {
		io_print(&qemu, NULL, NULL);
		io_print(&calm, NULL, NULL);
	}
}

int main(void)
{
	const char *missing = peer_qemu_missing();
	struct images images;

	if (access("/dev/kvm", R_OK | W_OK) < 0)
		return bench_print_missing("blk", "brume", "no access to /dev/kvm");
	make_images(&images);
	for (size_t i = 0; i < G_N_ELEMENTS(cases); i++)
		if (io_wanted(cases[i].name))
			run_case(&cases[i], &images, !missing);
	remove_images(&images);
	return missing ? bench_print_missing("blk", "qemu-microvm", missing) : 0;
}
