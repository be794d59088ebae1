/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a running VM costs besides its RAM
 *
 * The worker and QEMU's microvm with 128 MiB, one vCPU, two disks and a tap,
 * all brought up by the guest, which then halts.  From /proc/PID/smaps: resident
 * (RSS), the process's share of it (PSS), and what is its alone (private dirty),
 * each without the mapping of the guest's RAM.  Of the worker also without
 * devices.
 *
 * Then what one idle device costs, of each kind: a worker with several of it (or
 * one, where there can be no more) less one with none, divided by their number.
 * The guest has brought them up and halts.  Kinds are taken in turns.
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
#include <sys/un.h>
#include <unistd.h>

#include "tests/bench/bench.h"
#include "tests/bench/peer.h"

#define GOAL_KIB   4096.0
#define DEVICE_KIB 64.0
#define MANY       8 /* of a kind that there can be several of */
#define PMEM_SIZE  (2 << 20)
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

/* --- one device of each kind --- */

struct kind {
	const char *name;
	const char *config; /* of the machine; of one device: a list of n, %u is its number */
	const char *list;   /* its key; NULL: not a list */
	int (*open)(void);
	const char *resource; /* name of what open() gave, %u as above */
	unsigned int n;
};

static int new_tap(void)
{
	static unsigned int n;
	struct ifreq ifr = { .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR };
	int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);

	g_assert_cmpint(fd, >=, 0);
	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "benchtap%u", ++n);
	g_assert_cmpint(ioctl(fd, TUNSETIFF, &ifr), ==, 0);
	return fd;
}

static int new_pmem(void)
{
	int fd = memfd_create("pmem", MFD_CLOEXEC);

	g_assert_cmpint(ftruncate(fd, PMEM_SIZE), ==, 0);
	return fd;
}

static int new_listener(void)
{
	const struct sockaddr_un any = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	g_assert_cmpint(fd, >=, 0);
	g_assert_cmpint(bind(fd, (const struct sockaddr *)&any, sizeof(sa_family_t)), ==, 0);
	g_assert_cmpint(listen(fd, 4), ==, 0);
	return fd;
}

static int new_qcow2(void)
{
	char path[] = "/tmp/bench-qcow2-XXXXXX";
	const char *const argv[] = { "qemu-img", "create", "-q", "-f", "qcow2", path, "16M", NULL };
	g_autoptr(GError) error = NULL;
	int fd = mkstemp(path), status = 0;

	g_assert_cmpint(fd, >=, 0);
	if (!g_spawn_sync(NULL, (char **)(uintptr_t)argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL,
			  NULL, NULL, &status, &error) ||
	    !g_spawn_check_wait_status(status, &error))
		g_error("%s", error->message);
	unlink(path);
	return fd;
}

static const struct kind kinds[] = {
	{ "disk", "{'path': <'/disks/%u/path'>}", "disks", make_disk, "/disks/%u/path", MANY },
	{ "disk-aio", "{'path': <'/disks/%u/path'>, 'disable_io_uring': <true>}", "disks",
	  make_disk, "/disks/%u/path", MANY },
	{ "disk-qcow2", "{'path': <'/disks/%u/path'>, 'image_type': <'Qcow2'>}", "disks", new_qcow2,
	  "/disks/%u/path", MANY },
	{ "net", "{'tap': <'/net/%u/tap'>, 'mac': <'52:54:00:12:34:56'>}", "net", new_tap,
	  "/net/%u/tap/0", MANY },
	{ "pmem", "{'file': <'/pmem/%u/file'>}", "pmem", new_pmem, "/pmem/%u/file", MANY },
	{ "console", "'console': <{'mode': <'Tty'>}>", .n = 1 },
	{ "balloon",
	  "'balloon': <{'size': <uint64 0>, 'free_page_reporting': <true>,"
	  " 'statistics_interval': <uint32 1>}>",
	  .n = 1 },
	{ "vsock", "'vsock': <{'cid': <uint64 3>, 'socket': <'/vsock/socket'>}>",
	  .open = new_listener, .resource = "/vsock/socket", .n = 1 },
	{ "rtc", "'rtc': <@a{sv} {}>", .n = 1 },
	{ "iommu", "'rng': <{'src': <'/rng/src'>, 'iommu': <true>}>", .n = 1 },
	{ "pvpanic", "'pvpanic': <true>", .n = 1 },
	{ "watchdog", "'watchdog': <true>", .n = 1 },
	{ "fw-cfg",
	  "'payload': <{'fw_cfg_config': <{'items': <{'item_list': <["
	  "{'name': <'opt/test'>, 'string': <'hello'>}]>}>}>}>",
	  .n = 1 },
};

static struct bench_samples device_samples[G_N_ELEMENTS(kinds)][FIGURES_N_];

/* format with i in place of its %u, if it has one */
static void number(GString *to, const char *format, unsigned int i)
{
	const char *at = strstr(format, "%u");

	if (!at) {
		g_string_append(to, format);
		return;
	}
	g_string_append_len(to, format, at - format);
	g_string_append_printf(to, "%u%s", i, at + 2);
}

static char *config_of(const struct kind *kind)
{
	GString *config = g_string_new("{");

	if (kind->list)
		g_string_append_printf(config, "'%s': <[", kind->list);
	for (unsigned int i = 0; i < kind->n; i++) {
		if (i > 0)
			g_string_append(config, ", ");
		number(config, kind->config, i);
	}
	g_string_append(config, kind->list ? "]>}" : "}");
	return g_string_free(config, FALSE);
}

static void measure_worker(const char *config, const struct peer_resource *resources, double *sums)
{
	double ram[FIGURES_N_] = { 0 };
	struct peer p;
	int r;

	peer_start_brume(&p, CMDLINE, config, resources);
	r = peer_wait_code(&p, PEER_CODE_DONE, TIMEOUT_MS);
	if (r < 0)
		g_error("%s: %s", config, g_strerror(-r));
	g_usleep(50000); /* the last interrupts, and the halt itself */
	measure(p.pid, sums, ram);
	peer_end(&p);
}

/* With a bare worker right before it: what the host's other processes share changes all the time.
 */
static void take_kind(const struct kind *kind, struct bench_samples *samples)
{
	struct peer_resource resources[MANY + 1] = { 0 };
	g_autofree char *config = config_of(kind);
	double sums[FIGURES_N_] = { 0 }, bare[FIGURES_N_] = { 0 };
	unsigned int n = kind->open ? kind->n : 0;

	for (unsigned int i = 0; i < n; i++) {
		GString *name = g_string_new(NULL);

		number(name, kind->resource, i);
		resources[i] = (struct peer_resource){ g_string_free(name, FALSE), kind->open() };
	}
	resources[n].fd = -EBADF;
	measure_worker("@a{sv} {}", NULL, bare);
	measure_worker(config, resources, sums);
	for (unsigned int i = 0; i < n; i++) {
		close(resources[i].fd);
		g_free((char *)(uintptr_t)resources[i].name);
	}
	for (size_t i = 0; i < FIGURES_N_; i++)
		bench_add(&samples[i], (sums[i] - bare[i]) / kind->n);
}

static int compare_kinds(void)
{
	static const char *const names[FIGURES_N_] = {
		[RSS] = "device-rss",
		[PSS] = "device-pss",
		[PRIVATE_DIRTY] = "device-private-dirty",
	};
	g_autofree char *qemu_img = g_find_program_in_path("qemu-img");
	int r = 0;

	for (unsigned int run = 0; run < bench_runs(); run++)
		for (size_t i = 0; i < G_N_ELEMENTS(kinds); i++)
			if (qemu_img || kinds[i].open != new_qcow2)
				take_kind(&kinds[i], device_samples[i]);
	for (size_t i = 0; i < G_N_ELEMENTS(kinds); i++) {
		if (device_samples[i][0].n == 0) {
			r = bench_print_missing(names[PSS], kinds[i].name,
						"qemu-img is not installed");
			continue;
		}
		for (size_t j = 0; j < FIGURES_N_; j++) {
			device_samples[i][j].benchmark = names[j];
			device_samples[i][j].peer = kinds[i].name;
			device_samples[i][j].unit = "KiB";
			device_samples[i][j].goal = j == PSS ? DEVICE_KIB : 0;
			bench_print(&device_samples[i][j]);
		}
	}
	return r;
}

int main(int argc, char **argv)
{
	int r;

	if (argc == 3 && strcmp(argv[1], "--process") == 0)
		return print_process(argv[2]);
	r = compare_all();
	if (access("/dev/kvm", R_OK | W_OK) == 0 && compare_kinds() != 0)
		r = 1;
	return r;
}
