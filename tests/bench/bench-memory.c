/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a running VM costs besides its RAM
 *
 * The worker and QEMU's microvm with 128 MiB, one vCPU, two disks and a tap,
 * all brought up by the guest, which then halts.  From /proc/PID/smaps: resident
 * (RSS), the process's share of it (PSS), and what is its alone (private dirty),
 * each without the mapping of the guest's RAM.  Of the worker also without
 * devices, which gives the cost of one.
 */
#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/bench/bench.h"
#include "tests/bench/peer.h"

#define GOAL_KIB   4096.0
#define TIMEOUT_MS 60000
#define CMDLINE    "test=activate then=hlt"
#define DISK_SIZE  (16 << 20)

enum figure {
	RSS,
	PSS,
	PRIVATE_DIRTY,
	FIGURES_N_,
};

static const struct {
	const char *key, *name;
} figures[FIGURES_N_] = {
	[RSS] = { "Rss", "memory-rss" },
	[PSS] = { "Pss", "memory-pss" },
	[PRIVATE_DIRTY] = { "Private_Dirty", "memory-private-dirty" },
};

static int make_disk(void)
{
	int fd = memfd_create("disk", 0);

	g_assert_cmpint(ftruncate(fd, DISK_SIZE), ==, 0);
	return fd;
}

/* Pages of a binary that was just linked would count as private dirty. */
static void write_back(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd >= 0) {
		fsync(fd);
		close(fd);
	}
}

/* In a network namespace of our own: nothing of the host's network is touched. */
static int make_tap(void)
{
	struct ifreq ifr = { .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR };
	int fd;

	if (unshare(CLONE_NEWNET) < 0)
		return -errno;
	fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK);
	if (fd < 0)
		return -errno;
	g_strlcpy(ifr.ifr_name, "benchtap0", sizeof(ifr.ifr_name));
	return ioctl(fd, TUNSETIFF, &ifr) < 0 ? -errno : fd;
}

/* Mappings that touch count as one: advice about a part splits the guest's RAM. */
struct block {
	uint64_t end, size;
	double kib[FIGURES_N_];
};

static void block_close(struct block *block, double *sums)
{
	for (size_t i = 0; i < FIGURES_N_ && block->size < (uint64_t)PEER_MEMORY_MIB << 20; i++)
		sums[i] += block->kib[i];
	*block = (struct block){ 0 };
}

static bool read_smaps(pid_t pid, double *sums)
{
	struct block block = { 0 };
	char path[64], line[512];
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/smaps", (int)pid);
	f = fopen(path, "re");
	if (!f)
		return false;
	while (fgets(line, sizeof(line), f)) {
		unsigned long start, end, inode;
		char mode[5], key[32];
		long kib;

		if (sscanf(line, "%lx-%lx %4s %*x %*s %lu", &start, &end, mode, &inode) == 4) {
			if (start != block.end || inode != 0)
				block_close(&block, sums);
			block.end = inode == 0 ? end : 0;
			block.size += end - start;
		} else if (sscanf(line, "%31[A-Za-z_]: %ld kB", key, &kib) == 2) {
			for (size_t i = 0; i < FIGURES_N_; i++)
				if (strcmp(key, figures[i].key) == 0)
					block.kib[i] += (double)kib;
		}
	}
	block_close(&block, sums);
	fclose(f);
	return true;
}

/* Medians of what take() adds. */
struct subject {
	const char *peer;
	double goal;
	struct bench_samples samples[FIGURES_N_];
};

static void take(struct subject *s, struct peer *p)
{
	double sums[FIGURES_N_] = { 0 };
	int r = peer_wait_code(p, PEER_CODE_DONE, TIMEOUT_MS);

	if (r < 0)
		g_error("%s: %s", s->peer, g_strerror(-r));
	g_usleep(50000); /* the last interrupts, and the halt itself */
	g_assert_true(read_smaps(p->pid, sums));
	for (size_t i = 0; i < FIGURES_N_; i++)
		bench_add(&s->samples[i], sums[i]);
	peer_end(p);
}

static void subject_print(struct subject *s)
{
	for (size_t i = 0; i < FIGURES_N_; i++) {
		s->samples[i].benchmark = figures[i].name;
		s->samples[i].peer = s->peer;
		s->samples[i].unit = "KiB";
		s->samples[i].goal = i == RSS ? s->goal : 0;
		bench_print(&s->samples[i]);
	}
}

static void run_qemu(struct subject *s, int disk0, int disk1, int tap)
{
	char drive0[96], drive1[96], netdev[64];
	const char *argv[] = { PEER_QEMU_ARGV(PEER_QEMU_MACHINE ",pcie=on", g_getenv("BRUME_TINY"),
					      CMDLINE),
			       "-drive",
			       drive0,
			       "-device",
			       "virtio-blk-pci,drive=d0",
			       "-drive",
			       drive1,
			       "-device",
			       "virtio-blk-pci,drive=d1",
			       "-netdev",
			       netdev,
			       "-device",
			       "virtio-net-pci,netdev=n0,romfile=",
			       "-device",
			       "virtio-rng-pci",
			       NULL };
	struct peer p;

	snprintf(drive0, sizeof(drive0), "if=none,id=d0,format=raw,file=/proc/self/fd/%d", disk0);
	snprintf(drive1, sizeof(drive1), "if=none,id=d1,format=raw,file=/proc/self/fd/%d", disk1);
	snprintf(netdev, sizeof(netdev), "tap,id=n0,fd=%d", tap);
	peer_start(&p, argv);
	take(s, &p);
}

int main(void)
{
	static const char config[] =
		"{'disks': <[{'path': <'/disks/0/path'>}, {'path': <'/disks/1/path'>}]>,"
		" 'net': <[{'tap': <'/net/0/tap'>, 'mac': <'52:54:00:12:34:56'>}]>}";
	static const char one_disk[] = "{'disks': <[{'path': <'/disks/0/path'>}]>}";
	static struct subject full = { "brume", GOAL_KIB, { { 0 } } };
	static struct subject bare = { "brume-no-devices", 0, { { 0 } } };
	static struct subject disk = { "brume-1-disk", 0, { { 0 } } };
	static struct subject qemu = { "qemu-microvm", 0, { { 0 } } };
	const char *missing = peer_qemu_missing();
	int disk0 = make_disk(), disk1 = make_disk(), tap = make_tap();
	const struct peer_resource resources[] = { { "/disks/0/path", disk0 },
						   { "/disks/1/path", disk1 },
						   { "/net/0/tap/0", tap },
						   { NULL, -EBADF } };
	const struct peer_resource only_disk[] = { { "/disks/0/path", disk0 }, { NULL, -EBADF } };
	struct peer p;

	if (access("/dev/kvm", R_OK | W_OK) < 0 || tap < 0) {
		bench_print_skip("memory-rss", "brume",
				 tap < 0 ? "cannot make a tap" : "no access to /dev/kvm");
		return 0;
	}
	write_back(g_getenv("BRUME_VMM"));
	for (unsigned int i = 0; i < bench_runs(); i++) {
		peer_start_brume(&p, CMDLINE, config, resources);
		take(&full, &p);
		peer_start_brume(&p, CMDLINE, "@a{sv} {}", NULL);
		take(&bare, &p);
		peer_start_brume(&p, CMDLINE, one_disk, only_disk);
		take(&disk, &p);
		if (!missing)
			run_qemu(&qemu, disk0, disk1, tap);
	}
	subject_print(&full);
	subject_print(&bare);
	subject_print(&disk);
	subject_print(&qemu);
	if (missing)
		bench_print_skip("memory-rss", "qemu-microvm", missing);
	return 0;
}
