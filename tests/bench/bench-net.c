/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Network frames a second, and what the host's processors spend on them
 *
 * The tiny guest's driver on a tap, in turns with QEMU's virtio-net on the same tap.
 * Sent frames end in the host's stack, which has no use for them; received ones come
 * from a packet socket that offers more than are taken.  With /dev/vhost-net (the
 * linux rig) both also with the kernel's data path.
 *
 * BENCH_CASES=tx-64,... picks cases.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/bench/bench.h"
#include "tests/bench/io.h"
#include "tests/bench/peer.h"
#include "vmm/base/cleanup.h"

#define TAP    "benchtap0"
#define MAC    "52:54:00:12:34:56"
#define BATCH  64
#define HEADER 12

struct bench_case {
	const char *name, *guest;
	unsigned int count, receive; /* bytes of the frames somebody has to send */
};

static const struct bench_case cases[] = {
	{ "tx-64", "test=bench-net-tx size=64", 200000, 0 },
	{ "tx-1500", "test=bench-net-tx size=1500", 200000, 0 },
	{ "rx-64", "test=bench-net-rx", 200000, 64 },
	{ "rx-1500", "test=bench-net-rx", 200000, 1500 },
};

/* In a network namespace of our own: nothing of the host's network is touched. */
static int make_tap(void)
{
	struct ifreq ifr = { .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR };
	int fd, header = HEADER, s;

	fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK);
	if (fd < 0)
		return -errno;
	g_strlcpy(ifr.ifr_name, TAP, sizeof(ifr.ifr_name));
	if (ioctl(fd, TUNSETIFF, &ifr) < 0 || ioctl(fd, TUNSETVNETHDRSZ, &header) < 0)
		g_error("cannot make a tap: %s", g_strerror(errno));
	s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	ifr.ifr_flags = IFF_UP;
	if (s < 0 || ioctl(s, SIOCSIFFLAGS, &ifr) < 0)
		g_error("cannot bring the tap up: %s", g_strerror(errno));
	close(s);
	return fd;
}

/* A process that sends to the tap until it is killed. */
static pid_t start_sender(unsigned int size)
{
	static uint8_t frame[2048] = { 0x52, 0x54, 0x00, 0x12, 0x34, 0x56, 2,
				       0,    0,    0,    0,    1,    0x88, 0xb5 };
	struct iovec iov = { frame, size };
	struct mmsghdr all[BATCH];
	struct sockaddr_ll to = { .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL) };
	pid_t pid = fork();
	int s;

	if (pid != 0)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	to.sll_ifindex = (int)if_nametoindex(TAP);
	s = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
	if (s < 0 || bind(s, (struct sockaddr *)&to, sizeof(to)) < 0)
		_exit(1);
	for (unsigned int i = 0; i < BATCH; i++)
		all[i].msg_hdr = (struct msghdr){ .msg_iov = &iov, .msg_iovlen = 1 };
	/* What does not fit is dropped by the tap; a little rest leaves the guest a processor. */
	while (sendmmsg(s, all, BATCH, 0) >= 0 || errno == ENOBUFS || errno == ENETDOWN)
		sched_yield();
	_exit(1);
}

static void measure(struct io_subject *s, struct peer *p, const struct bench_case *c)
{
	pid_t sender = c->receive ? start_sender(c->receive) : -1;

	io_measure(s, p, c->count);
	if (sender > 0) {
		kill(sender, SIGKILL);
		waitpid(sender, NULL, 0);
	}
}

static void take_ours(struct io_subject *s, const struct bench_case *c, const char *cmdline)
{
	_cleanup_close_ int tap = make_tap();
	const struct peer_resource resources[] = { { "/net/0/tap/0", tap }, { NULL, -EBADF } };
	struct peer p;

	peer_start_brume(&p, cmdline, "{'net': <[{'tap': <'/net/0/tap'>, 'mac': <'" MAC "'>}]>}",
			 resources);
	measure(s, &p, c);
}

static void take_qemu(struct io_subject *s, const struct bench_case *c, const char *cmdline,
		      bool vhost)
{
	_cleanup_close_ int tap = make_tap();
	g_autofree char *netdev =
		g_strdup_printf("tap,id=n0,fd=%d,vhost=%s", tap, vhost ? "on" : "off");
	const char *argv[] = { PEER_QEMU_ARGV(PEER_QEMU_MACHINE ",pcie=on", g_getenv("BRUME_TINY"),
					      cmdline),
			       "-name",
			       "bench,debug-threads=on",
			       "-netdev",
			       netdev,
			       "-device",
			       "virtio-net-pci,netdev=n0,romfile=,disable-legacy=on,mac=" MAC,
			       NULL };
	struct peer p;

	peer_start(&p, argv);
	measure(s, &p, c);
}

static void run_case(const struct bench_case *c, bool with_qemu)
{
	g_autofree char *cmdline =
		g_strdup_printf("out=e9 then=hlt count=%u %s", c->count, c->guest);
	g_autofree char *for_qemu = g_strdup_printf("%s " PEER_QEMU_PCIE, cmdline);
	g_autofree char *cpu = g_strdup_printf("%s-cpu", c->name);
	static struct io_subject ours, qemu;

	io_subject_init(&ours, "brume", c->name, cpu);
	io_subject_init(&qemu, "qemu-microvm", c->name, cpu);
	for (unsigned int i = 0; i < io_runs(); i++) {
		take_ours(&ours, c, cmdline);
		if (with_qemu)
			take_qemu(&qemu, c, for_qemu, false);
	}
	io_print(&ours, with_qemu ? &qemu : NULL, &qemu);
	if (with_qemu)
		io_print(&qemu, NULL, NULL);
}

int main(void)
{
	const char *missing = peer_qemu_missing();

	if (access("/dev/kvm", R_OK | W_OK) < 0)
		return bench_print_missing("net", "brume", "no access to /dev/kvm");
	if (unshare(CLONE_NEWNET) < 0)
		return bench_print_missing("net", "brume", "cannot make a network namespace");
	for (size_t i = 0; i < G_N_ELEMENTS(cases); i++)
		if (io_wanted(cases[i].name))
			run_case(&cases[i], !missing);
	return missing ? bench_print_missing("net", "qemu-microvm", missing) : 0;
}
