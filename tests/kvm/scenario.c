/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/kvm/scenario.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmm/arch/x86/cpuid.h"
#include "vmm/arch/x86/memory-map.h"
#include "vmm/config/vm-config.h"
#include "vmm/hypervisor/hypervisor.h"

#define TAP_NAME "tinytap0"

void scenario_expect_done(struct test_worker *w)
{
	_cleanup_free_ char *out = test_worker_output(w);

	if (strstr(out, "not ok") || !strstr(out, "done "))
		g_error("the guest said:\n%s", out);
}

static void run_scenario(const void *data)
{
	const struct scenario *s = data;
	const char *edge = s->edge ? s->edge : SCENARIO_POWEROFF;
	struct err err = { 0 };
	struct test_worker w;

	if (access("/dev/kvm", R_OK | W_OK) < 0) {
		g_test_skip("no access to /dev/kvm");
		return;
	}
	test_worker_spawn(&w, NULL);
	test_worker_resource(&w, "/rng/src", open("/dev/urandom", O_RDONLY | O_CLOEXEC));
	if (s->prepare)
		s->prepare(&w);
	if (test_worker_start(&w, s->cmdline, s->config, false, &err) < 0)
		g_error("Start: %s", err.msg);
	test_worker_wait_exit(&w, s->seconds ? s->seconds : 20);
	scenario_expect_done(&w);
	g_assert_true(WIFEXITED(w.status));
	g_assert_cmpint(WEXITSTATUS(w.status), ==, s->status);
	g_assert_cmpuint(w.states->len, >, 0);
	g_assert_cmpstr(w.states->pdata[w.states->len - 1], ==, edge);
	if (s->check)
		s->check(&w);
	test_worker_end(&w);
}

void scenarios_add(const struct scenario *scenarios, size_t n)
{
	for (size_t i = 0; i < n; i++)
		g_test_add_data_func(scenarios[i].name, &scenarios[i], run_scenario);
}

void prepare_disk(struct test_worker *w)
{
	test_worker_resource(w, "/disks/0/path", test_disk(1U << 20));
}

/* Sends every frame of the guest back to it, as long as the process lives. */
static void *echo_frames(void *data)
{
	int fd = GPOINTER_TO_INT(data);
	struct sockaddr_ll from;
	socklen_t len = sizeof(from);
	char frame[2048];
	ssize_t n;

	while ((n = recvfrom(fd, frame, sizeof(frame), 0, (struct sockaddr *)&from, &len)) > 0) {
		if (from.sll_pkttype != PACKET_OUTGOING && send(fd, frame, (size_t)n, 0) < 0)
			break;
		len = sizeof(from);
	}
	return NULL;
}

static int open_tap(void)
{
	struct ifreq ifr = { .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR };
	int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
	int control = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	g_assert_cmpint(fd, >=, 0);
	g_strlcpy(ifr.ifr_name, TAP_NAME, sizeof(ifr.ifr_name));
	g_assert_cmpint(ioctl(fd, TUNSETIFF, &ifr), ==, 0);
	ifr.ifr_flags = IFF_UP;
	g_assert_cmpint(ioctl(control, SIOCSIFFLAGS, &ifr), ==, 0);
	close(control);
	return fd;
}

void prepare_net(struct test_worker *w)
{
	struct sockaddr_ll ll = { .sll_family = AF_PACKET, .sll_protocol = htobe16(ETH_P_ALL) };
	int tap, packet;

	/* A namespace of this test program: nothing of the host's network is touched. */
	g_assert_cmpint(unshare(CLONE_NEWNET), ==, 0);
	tap = open_tap();
	packet = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htobe16(ETH_P_ALL));
	g_assert_cmpint(packet, >=, 0);
	ll.sll_ifindex = (int)if_nametoindex(TAP_NAME);
	g_assert_cmpint(bind(packet, (struct sockaddr *)&ll, sizeof(ll)), ==, 0);
	g_thread_unref(g_thread_new("echo", echo_frames, GINT_TO_POINTER(packet)));
	test_worker_resource(w, "/net/0/tap/0", tap);
}

void prepare_all_devices(struct test_worker *w)
{
	prepare_disk(w);
	prepare_net(w);
}

uint64_t scenario_platform_start(void)
{
	_cleanup_close_ int kvm = test_open_kvm();
	const struct cpus_config cpus = { .boot_vcpus = 1, .max_vcpus = 1, .max_phys_bits = 46 };
	struct x86_windows windows;
	struct hv_caps caps;

	g_assert_cmpint(hypervisor_kvm.probe(kvm, &caps, NULL), ==, 0);
	g_assert_cmpint(x86_windows_init(&windows, 512ULL << 20, x86_phys_bits(&caps, &cpus), NULL),
			==, 0);
	return windows.platform_start;
}
