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

#include "daemon/given-fds.h"
#include "daemon/machine.h"
#include "daemon/resources.h"
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

/* --- descriptors that somebody else opened --------------------------------------- */

#define PLAIN (IFF_TAP | IFF_NO_PI | IFF_VNET_HDR)
#define MANY  (PLAIN | IFF_MULTI_QUEUE)

static int attach(const char *name, int flags)
{
	struct ifreq ifr = { .ifr_flags = (short)flags };
	int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);

	g_strlcpy(ifr.ifr_name, name, sizeof(ifr.ifr_name));
	g_assert_cmpint(fd, >=, 0);
	if (ioctl(fd, TUNSETIFF, &ifr) < 0)
		g_error("TUNSETIFF: %m");
	return fd;
}

/* Two queues; a NULL name is a duplicate of the first. */
static const struct {
	const char *title, *first, *second, *wrong;
	int flags, second_flags;
} given_cases[] = {
	{ "good", "g0", "g0", NULL, MANY, MANY },
	{ "twice", "g0", NULL,
	  "/net/0/fds/1: descriptor 'b': a duplicate of another that is given, must be of a queue "
	  "of its own",
	  MANY, MANY },
	{ "two-taps", "g0", "g1",
	  "/net/0/fds/1: descriptor 'b': attached to 'g1', must be to 'g0' like the first of "
	  "/net/0/fds",
	  MANY, MANY },
	{ "one-queue", "g0", "g1",
	  "/net/0/fds/0: descriptor 'a': attached to 'g0' without IFF_MULTI_QUEUE, must be with it, "
	  "being one of 2",
	  PLAIN, MANY },
	{ "no-header", "g0", "g0",
	  "/net/0/fds/0: descriptor 'a': attached to 'g0' without IFF_NO_PI and IFF_VNET_HDR, must "
	  "be with both",
	  IFF_TAP | IFF_NO_PI | IFF_MULTI_QUEUE, IFF_TAP | IFF_NO_PI | IFF_MULTI_QUEUE },
};

static void check_given(size_t i)
{
	static const char text[] = "{\"payload\":{\"kernel\":\"/proc/version\"},"
				   "\"cpus\":{\"boot_vcpus\":2},"
				   "\"net\":[{\"fds\":[{\"fd\":\"a\"},{\"fd\":\"b\"}]}]}";
	_cleanup_(vm_config_free_cleanup) struct vm_config *config = NULL;
	_cleanup_(given_fds_deinit) struct given_fds fds = { 0 };
	_cleanup_(resource_set_deinit) struct resource_set set = { 0 };
	int a = attach(given_cases[i].first, given_cases[i].flags), b, r;
	struct err err = { 0 };

	b = given_cases[i].second ? attach(given_cases[i].second, given_cases[i].second_flags)
				  : dup(a);
	g_assert_cmpint(machine_parse_config(text, &config, NULL, &err), ==, 0);
	g_assert_cmpint(given_fds_add(&fds, "b", b, &err), ==, 0);
	g_assert_cmpint(given_fds_add(&fds, "a", a, &err), ==, 0);
	close(a);
	close(b);
	g_assert_cmpint(given_fds_check(&fds, config, NULL, true, &err), ==, 0);
	r = resources_open(config, &fds, NULL, "/dev/null", geteuid(), &set, &err);
	g_assert_cmpstr(given_cases[i].wrong ? given_cases[i].wrong : "", ==, err.msg);
	if (r < 0) {
		g_assert_cmpint(err.fault, ==, FAULT_BAD_CONFIG);
		g_assert_cmpuint(set.n_fds, ==, 0);
		return;
	}
	g_assert_cmpuint(set.n_taps, ==, 1);
	g_assert_cmpstr(set.taps[0], ==, "g0");
	g_assert_cmpuint(set.n_fds, ==, 5); /* kvm and the kernel before, rng after */
	g_assert_cmpstr(set.fds[2].pointer, ==, "/net/0/tap/0");
	g_assert_cmpstr(set.fds[3].pointer, ==, "/net/0/tap/1");
}

static void test_given(void)
{
	if (skipped())
		return;
	for (size_t i = 0; i < G_N_ELEMENTS(given_cases); i++) {
		g_test_message("%s", given_cases[i].title);
		check_given(i);
	}
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	have_namespace = unshare(CLONE_NEWNET) == 0;
	g_test_add_func("/daemon/tap/set", test_set);
	g_test_add_func("/daemon/tap/nothing-to-do", test_nothing_to_do);
	g_test_add_func("/daemon/tap/queues", test_queues);
	g_test_add_func("/daemon/tap/given", test_given);
	return g_test_run();
}
