/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The worker's end of a tap, on real taps in a network namespace of the test's
 * own; skipped where the test may not make one.
 */
#include "vmm/net/tap.h"

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <linux/if_tun.h>
#include <linux/virtio_net.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/base/cleanup.h"
#include "vmm/base/err.h"

static bool have_namespace;

/* What the daemon does. -1 after skipping the test. */
static int open_tap(const char *name, int flags)
{
	struct ifreq ifr = { .ifr_flags = (short)flags };
	int fd;

	if (!have_namespace) {
		g_test_skip("no network namespace: not root");
		return -1;
	}
	fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
	if (fd < 0) {
		g_test_skip("no /dev/net/tun");
		return -1;
	}
	g_strlcpy(ifr.ifr_name, name, sizeof(ifr.ifr_name));
	g_assert_cmpint(ioctl(fd, TUNSETIFF, &ifr), ==, 0);
	return fd;
}

static void set_up(const char *name)
{
	struct ifreq ifr = { .ifr_flags = IFF_UP };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	g_strlcpy(ifr.ifr_name, name, sizeof(ifr.ifr_name));
	g_assert_cmpint(ioctl(fd, SIOCSIFFLAGS, &ifr), ==, 0);
	close(fd);
}

static void test_init(void)
{
	int fd = open_tap("t0", IFF_TAP | IFF_NO_PI | IFF_VNET_HDR), size = 0;
	struct net_backend *tap = NULL;
	struct err err = { 0 };

	if (fd < 0)
		return;
	g_assert_cmpint(tap_new(fd, false, &tap, &err), ==, 0);
	g_assert_true(container_of(tap, struct tap, base)->is_tap);
	g_assert_true(container_of(tap, struct tap, base)->attached);
	g_assert_cmpint(ioctl(fd, TUNGETVNETHDRSZ, &size), ==, 0);
	g_assert_cmpint(size, ==, TAP_HEADER_SIZE);
	g_assert_cmpint(fcntl(fd, F_GETFL) & O_NONBLOCK, ==, O_NONBLOCK);
	g_assert_cmpint(net_backend_set_offloads(tap, TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 |
							      TUN_F_TSO_ECN | TUN_F_UFO),
			==, 0);
	g_assert_cmpint(net_backend_set_offloads(tap, 0), ==, 0);
	g_assert_cmpint(net_backend_set_offloads(tap, TUN_F_TSO4), ==, -EINVAL);
	net_backend_free(tap);
}

static void test_refused(void)
{
	struct net_backend *tap = NULL;
	struct err err = { 0 };
	int fd = open_tap("t1", IFF_TAP | IFF_NO_PI);

	if (fd < 0)
		return;
	g_assert_cmpint(tap_new(fd, true, &tap, &err), ==, -EINVAL);
	g_assert_cmpstr(err.msg, ==, "tap 't1' was opened without IFF_NO_PI and IFF_VNET_HDR");
	close(fd);
	fd = open_tap("t2", IFF_TUN | IFF_NO_PI | IFF_VNET_HDR);
	err_clear(&err);
	g_assert_cmpint(tap_new(fd, true, &tap, &err), ==, -EINVAL);
	g_assert_cmpstr(err.msg, ==, "'t2' is a tun interface: a tap is needed");
	close(fd);
	fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	err_clear(&err);
	g_assert_cmpint(tap_new(fd, true, &tap, &err), ==, -ENOTSOCK);
	g_assert_cmpstr(err.msg, ==,
			"the network descriptor is neither a tap nor a socket: "
			"Socket operation on non-socket");
	close(fd);
}

/* The kernel's own frames (IPv6 router solicitation and the like) come with a header. */
static void test_frames(void)
{
	int fd = open_tap("t3", IFF_TAP | IFF_NO_PI | IFF_VNET_HDR);
	struct net_backend *tap = NULL;
	uint8_t frame[2048] = { 0 };
	struct pollfd p;

	if (fd < 0)
		return;
	g_assert_cmpint(tap_new(fd, false, &tap, NULL), ==, 0);
	memset(frame + TAP_HEADER_SIZE, 0xff, 6);
	memcpy(frame + TAP_HEADER_SIZE + 6, "\x52\x54\x00\x00\x00\x01\x08\x06", 8);
	/* an interface that is down refuses frames: the device counts a drop */
	g_assert_cmpint(write(tap->fd, frame, TAP_HEADER_SIZE + 60), ==, -1);
	g_assert_cmpint(errno, ==, EIO);
	set_up("t3");
	g_assert_cmpint(write(tap->fd, frame, TAP_HEADER_SIZE + 60), ==, TAP_HEADER_SIZE + 60);
	p = (struct pollfd){ .fd = tap->fd, .events = POLLIN };
	if (poll(&p, 1, 5000) == 1)
		g_assert_cmpint(read(tap->fd, frame, sizeof(frame)), >, TAP_HEADER_SIZE + 14);
	net_backend_free(tap);
}

static void test_queues(void)
{
	struct net_backend *taps[2];
	struct pollfd p;

	for (unsigned int i = 0; i < 2; i++) {
		int fd = open_tap("t4", IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | IFF_MULTI_QUEUE);

		if (fd < 0)
			return;
		g_assert_cmpint(tap_new(fd, false, &taps[i], NULL), ==, 0);
	}
	g_assert_cmpint(net_backend_set_attached(taps[1], false), ==, 0);
	g_assert_cmpint(net_backend_set_attached(taps[1], false), ==, 0);
	/* a detached queue is silent, and still belongs to its interface */
	p = (struct pollfd){ .fd = taps[1]->fd, .events = POLLIN };
	g_assert_cmpint(poll(&p, 1, 0), ==, 0);
	g_assert_cmpint(net_backend_set_offloads(taps[1], TUN_F_CSUM), ==, 0);
	g_assert_cmpint(net_backend_set_attached(taps[1], true), ==, 0);
	g_assert_cmpint(net_backend_set_offloads(taps[1], TUN_F_CSUM), ==, 0);
	net_backend_free(taps[0]);
	net_backend_free(taps[1]);
}

static void test_single_queue(void)
{
	int fd = open_tap("t5", IFF_TAP | IFF_NO_PI | IFF_VNET_HDR);
	struct net_backend *tap = NULL;

	if (fd < 0)
		return;
	g_assert_cmpint(tap_new(fd, false, &tap, NULL), ==, 0);
	g_assert_cmpint(net_backend_set_attached(tap, false), ==, -EINVAL);
	g_assert_true(container_of(tap, struct tap, base)->attached);
	net_backend_free(tap);
}

static void test_socket(void)
{
	struct net_backend *tap = NULL;
	int pair[2];

	g_assert_cmpint(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), ==, 0);
	g_assert_cmpint(tap_new(pair[0], false, &tap, NULL), ==, -ENOTTY);
	g_assert_cmpint(tap_new(pair[0], true, &tap, NULL), ==, 0);
	g_assert_false(container_of(tap, struct tap, base)->is_tap);
	g_assert_cmpint(net_backend_set_offloads(tap, TUN_F_CSUM), ==, 0);
	g_assert_cmpint(net_backend_set_attached(tap, false), ==, 0);
	g_assert_cmpint(net_backend_set_attached(tap, true), ==, 0);
	net_backend_free(tap);
	close(pair[1]);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	have_namespace = unshare(CLONE_NEWNET) == 0;
	g_test_add_func("/net/tap/init", test_init);
	g_test_add_func("/net/tap/refused", test_refused);
	g_test_add_func("/net/tap/frames", test_frames);
	g_test_add_func("/net/tap/queues", test_queues);
	g_test_add_func("/net/tap/single-queue", test_single_queue);
	g_test_add_func("/net/tap/socket", test_socket);
	return g_test_run();
}
