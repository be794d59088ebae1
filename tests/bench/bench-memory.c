/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a running VM costs besides its RAM
 *
 * The worker and QEMU's microvm with 128 MiB, one vCPU, two disks and a tap,
 * all brought up by the guest, which then halts.  From /proc/PID/smaps: resident
 * (RSS), the process's share of it (PSS), and what is its alone (private dirty),
 * each without the mapping of the guest's RAM.  Of the worker also without
 * devices, which gives the cost of one.
 *
 * bench-memory --process PID: the same of a process that runs already, and what
 * of the guest's RAM is resident, as one JSON object (linux-memory.py).
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

struct mapping {
	unsigned long start, end;
	bool anonymous; /* and writable, as RAM is */
	double kib[FIGURES_N_];
};

static GArray *read_smaps(pid_t pid)
{
	GArray *all = g_array_new(FALSE, FALSE, sizeof(struct mapping));
	struct mapping *last = NULL;
	char path[64], line[512];
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/smaps", (int)pid);
	f = fopen(path, "re");
	if (!f)
		g_error("%s: %s", path, g_strerror(errno));
	while (fgets(line, sizeof(line), f)) {
		unsigned long start, end, inode;
		char mode[5], key[32];
		long kib;

		if (sscanf(line, "%lx-%lx %4s %*x %*s %lu", &start, &end, mode, &inode) == 4) {
			struct mapping m = {
				start, end, inode == 0 && strncmp(mode, "rw", 2) == 0, { 0 }
			};

			g_array_append_val(all, m);
			last = &g_array_index(all, struct mapping, all->len - 1);
		} else if (last && sscanf(line, "%31[A-Za-z_]: %ld kB", key, &kib) == 2) {
			for (size_t i = 0; i < FIGURES_N_; i++)
				if (strcmp(key, figures[i].key) == 0)
					last->kib[i] = (double)kib;
		}
	}
	fclose(f);
	return all;
}

/*
 * How many mappings from there are the guest's RAM, or 0: they touch and together
 * have its size.  They may be several, because advice about a part splits one.
 */
static size_t count_ram(const GArray *all, size_t from)
{
	const struct mapping *first = &g_array_index(all, struct mapping, from), *m = first;

	for (size_t n = from; n < all->len && m->anonymous; n++, m++) {
		if (m != first && m->start != m[-1].end)
			break;
		if (m->end - first->start == (unsigned long)PEER_MEMORY_MIB << 20)
			return n - from + 1;
	}
	return 0;
}

/* Sums without and of the guest's RAM, in KiB. */
static void measure(pid_t pid, double *sums, double *ram)
{
	GArray *all = read_smaps(pid);
	size_t from = 0, n_ram = 0;

	while (from < all->len && (n_ram = count_ram(all, from)) == 0)
		from++;
	if (n_ram == 0)
		g_error("process %d: no mapping of %d MiB is the guest's RAM", (int)pid,
			PEER_MEMORY_MIB);
	for (size_t n = 0; n < all->len; n++)
		for (size_t i = 0; i < FIGURES_N_; i++)
			(n >= from && n < from + n_ram ? ram : sums)[i] +=
				g_array_index(all, struct mapping, n).kib[i];
	g_array_free(all, TRUE);
}

static int print_process(const char *text)
{
	double sums[FIGURES_N_] = { 0 }, ram[FIGURES_N_] = { 0 };

	measure(atoi(text), sums, ram);
	printf("{\"ram\": %.0f", ram[RSS]);
	for (size_t i = 0; i < FIGURES_N_; i++)
		printf(", \"%s\": %.0f", figures[i].name, sums[i]);
	puts("}");
	return 0;
}

/* Medians of what take() adds. */
struct subject {
	const char *peer;
	double goal;
	struct bench_samples samples[FIGURES_N_];
};

static void take(struct subject *s, struct peer *p)
{
	double sums[FIGURES_N_] = { 0 }, ram[FIGURES_N_] = { 0 };
	int r = peer_wait_code(p, PEER_CODE_DONE, TIMEOUT_MS);

	if (r < 0)
		g_error("%s: %s", s->peer, g_strerror(-r));
	g_usleep(50000); /* the last interrupts, and the halt itself */
	measure(p->pid, sums, ram);
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
					      CMDLINE " " PEER_QEMU_PCIE),
			       "-drive",
			       drive0,
			       "-device",
			       "virtio-blk-pci,disable-legacy=on,drive=d0",
			       "-drive",
			       drive1,
			       "-device",
			       "virtio-blk-pci,disable-legacy=on,drive=d1",
			       "-netdev",
			       netdev,
			       "-device",
			       "virtio-net-pci,disable-legacy=on,netdev=n0,romfile=",
			       "-device",
			       "virtio-rng-pci,disable-legacy=on",
			       NULL };
	struct peer p;

	snprintf(drive0, sizeof(drive0), "if=none,id=d0,format=raw,file=/proc/self/fd/%d", disk0);
	snprintf(drive1, sizeof(drive1), "if=none,id=d1,format=raw,file=/proc/self/fd/%d", disk1);
	snprintf(netdev, sizeof(netdev), "tap,id=n0,fd=%d", tap);
	peer_start(&p, argv);
	take(s, &p);
}

static int compare_all(void)
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

	if (access("/dev/kvm", R_OK | W_OK) < 0 || tap < 0)
		return bench_print_missing("memory-rss", "brume",
					   tap < 0 ? "cannot make a tap" : "no access to /dev/kvm");
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
	return missing ? bench_print_missing("memory-rss", "qemu-microvm", missing) : 0;
}

int main(int argc, char **argv)
{
	if (argc == 3 && strcmp(argv[1], "--process") == 0)
		return print_process(argv[2]);
	return compare_all();
}
