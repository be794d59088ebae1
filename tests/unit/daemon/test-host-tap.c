/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The daemon's end of taps, on real ones in a network namespace of the test's
 * own: what is set, and that nothing is set that is right already, which who
 * lacks CAP_NET_ADMIN could not do.
 */
#include "daemon/tap.h"

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <linux/capability.h>
#include <linux/if_tun.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/config/vm-config.h"

#define NAME "t0"

static bool have_namespace;

static const struct net_config whole = {
	.tap = (char *)NAME,
	.ip = (char *)"192.168.77.1",
	.mask = (char *)"255.255.255.0",
	.has_host_mac = true,
	.host_mac = { { 0x52, 0x54, 0, 0xaa, 0xbb, 0xcc } },
	.mtu = 1400,
	.num_queues = 2,
};

static bool skipped(void)
{
	if (have_namespace && access("/dev/net/tun", R_OK | W_OK) == 0)
		return false;
	g_test_skip("no network namespace or no /dev/net/tun");
	return true;
}

static void open_tap(const struct net_config *net, struct tap *ret)
{
	struct err err = { 0 };

	if (tap_open(net, ret, &err) < 0)
		g_error("%s", err.msg);
}

static void set_persistent(const struct tap *tap, bool persistent)
{
	g_assert_cmpint(ioctl(tap->fds[0], TUNSETPERSIST, (unsigned long)persistent), ==, 0);
}

/* Gives one capability of this process up. */
static void drop_net_admin(void)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2];

	g_assert_cmpint((int)syscall(SYS_capget, &header, data), ==, 0);
	data[0].effective &= ~(1U << CAP_NET_ADMIN);
	data[0].permitted &= ~(1U << CAP_NET_ADMIN);
	g_assert_cmpint((int)syscall(SYS_capset, &header, data), ==, 0);
}

/* In a child without the capability; NULL: it must work. */
static void unprivileged(const struct net_config *net, const char *wrong)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		struct err err = { 0 };
		struct tap tap;
		int r;

		drop_net_admin();
		r = tap_open(net, &tap, &err);
		if (r < 0)
			fprintf(stderr, "# %s\n", err.msg);
		_exit(wrong ? r == 0 || strcmp(err.msg, wrong) != 0 : r < 0);
	}
	g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
	g_assert_cmpint(status, ==, 0);
}

static void test_set(void)
{
	struct ifreq ifr = { .ifr_name = NAME };
	struct tap tap;
	int sock;

	if (skipped())
		return;
	open_tap(&whole, &tap);
	g_assert_cmpstr(tap.name, ==, NAME);
	g_assert_cmpuint(tap.n_fds, ==, 1);
	sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	g_assert_cmpint(ioctl(sock, SIOCGIFHWADDR, &ifr), ==, 0);
	g_assert_cmpmem(ifr.ifr_hwaddr.sa_data, 6, whole.host_mac.bytes, 6);
	g_assert_cmpint(ioctl(sock, SIOCGIFMTU, &ifr), ==, 0);
	g_assert_cmpint(ifr.ifr_mtu, ==, 1400);
	g_assert_cmpint(ioctl(sock, SIOCGIFFLAGS, &ifr), ==, 0);
	g_assert_cmpint(ifr.ifr_flags & IFF_UP, ==, IFF_UP);
	close(sock);
	tap_close(&tap);
	/* it was not persistent */
	g_assert_cmpuint(if_nametoindex(NAME), ==, 0);
}

static void test_nothing_to_do(void)
{
	static const char *const cannot = "Operation not permitted";
	struct net_config other = whole, v6 = whole,
			  named = { .tap = (char *)NAME, .num_queues = 2 };
	g_autofree char *mtu =
		g_strdup_printf("cannot set the MTU of interface '%s': %s", NAME, cannot);
	g_autofree char *mac =
		g_strdup_printf("cannot set the MAC address of interface '%s': %s", NAME, cannot);
	g_autofree char *address =
		g_strdup_printf("cannot set the address of interface '%s': %s", NAME, cannot);
	struct tap tap;

	if (skipped())
		return;
	open_tap(&whole, &tap);
	g_assert_cmpint(ioctl(tap.fds[0], TUNSETOWNER, (unsigned long)geteuid()), ==, 0);
	set_persistent(&tap, true);
	tap_close(&tap);

	unprivileged(&whole, NULL);
	unprivileged(&named, NULL);
	other.mtu = 1500;
	unprivileged(&other, mtu);
	other = whole;
	other.host_mac.bytes[5] = 1;
	unprivileged(&other, mac);
	other = whole;
	other.ip = (char *)"192.168.77.2";
	unprivileged(&other, address);
	/* IPv6 addresses are added to those there are */
	v6.ip = (char *)"fd00:77::1";
	v6.mask = (char *)"ffff:ffff:ffff:ffff::";
	unprivileged(&v6, address);
	open_tap(&v6, &tap);
	tap_close(&tap);
	unprivileged(&v6, NULL);

	open_tap(&named, &tap);
	set_persistent(&tap, false);
	tap_close(&tap);
}

static void test_queues(void)
{
	struct net_config four = { .num_queues = 8 }, one = { .num_queues = 2 };
	struct err err = { 0 };
	struct tap tap, second;

	if (skipped())
		return;
	open_tap(&four, &tap);
	g_assert_cmpuint(tap.n_fds, ==, 4);
	one.tap = tap.name;
	g_assert_cmpint(tap_open(&one, &second, &err), ==, -EINVAL);
	g_assert_nonnull(strstr(err.msg, "not one with this number of queues"));
	tap_close(&tap);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	have_namespace = unshare(CLONE_NEWNET) == 0;
	g_test_add_func("/daemon/tap/set", test_set);
	g_test_add_func("/daemon/tap/nothing-to-do", test_nothing_to_do);
	g_test_add_func("/daemon/tap/queues", test_queues);
	return g_test_run();
}
