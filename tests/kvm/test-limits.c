/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rate limits in real time: what passed in some seconds is within 5 % of what
 * was asked, of disks, of networks in each direction, of a group, and after a
 * change while the guest works.
 *
 * Limits are far below what the slowest /dev/kvm lets a guest do, and what is
 * measured is the device's counter, by this process' clock.
 */
#include <endian.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sched.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/kvm/scenario.h"
#include "vmm/api/protocol.h"

#define SETTLE_MSEC  500 /* what was saved before, and the guest's own start */
#define MEASURE_MSEC 4000
#define TAP_NAME     "limit0"
#define FRAME        1000

static uint64_t counter(struct test_worker *w, const char *device, const char *name)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
	const char *id, *key;
	uint64_t value, found = 0;

	g_assert_cmpint(sd_bus_call_method(w->bus, NULL, PROTOCOL_OBJECT, PROTOCOL_INTERFACE,
					   "GetCounters", NULL, &reply, NULL),
			>=, 0);
	g_assert_cmpint(sd_bus_message_enter_container(reply, 'a', "{sa{st}}"), >, 0);
	while (sd_bus_message_enter_container(reply, 'e', "sa{st}") > 0) {
		g_assert_cmpint(sd_bus_message_read(reply, "s", &id), >, 0);
		g_assert_cmpint(sd_bus_message_enter_container(reply, 'a', "{st}"), >, 0);
		while (sd_bus_message_read(reply, "{st}", &key, &value) > 0)
			if (strcmp(id, device) == 0 && strcmp(key, name) == 0)
				found = value;
		sd_bus_message_exit_container(reply);
		sd_bus_message_exit_container(reply);
	}
	return found;
}

/* A second's worth of the counter, within 5 %. */
static void assert_rate(struct test_worker *w, const char *device, const char *name, double wanted)
{
	uint64_t before, after;
	gint64 begin, end;
	double is;

	test_worker_run_for(w, SETTLE_MSEC);
	begin = g_get_monotonic_time();
	before = counter(w, device, name);
	test_worker_run_for(w, MEASURE_MSEC);
	end = g_get_monotonic_time();
	after = counter(w, device, name);
	is = (double)(after - before) * 1e6 / (double)(end - begin);
	g_test_message("%s of '%s': %.1f a second, %.1f asked: %+.2f %%", name, device, is, wanted,
		       (is - wanted) * 100 / wanted);
	g_assert_cmpfloat(is, >, wanted * 0.95);
	g_assert_cmpfloat(is, <, wanted * 1.05);
}

static void call(struct test_worker *w, const char *method, const char *types, ...)
{
	_cleanup_(sd_bus_error_free) sd_bus_error e = SD_BUS_ERROR_NULL;
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
	va_list ap;

	g_assert_cmpint(sd_bus_message_new_method_call(w->bus, &m, NULL, PROTOCOL_OBJECT,
						       PROTOCOL_INTERFACE, method),
			>=, 0);
	va_start(ap, types);
	g_assert_cmpint(sd_bus_message_appendv(m, types, ap), >=, 0);
	va_end(ap);
	sd_bus_call(w->bus, m, 0, &e, NULL);
	g_assert_cmpstr(e.message, ==, NULL);
}

static void begin(struct test_worker *w, void (*prepare)(struct test_worker *w),
		  const char *cmdline, const char *config)
{
	struct err err = { 0 };

	test_worker_spawn(w, NULL);
	test_worker_resource(w, "/rng/src", open("/dev/urandom", O_RDONLY | O_CLOEXEC));
	prepare(w);
	test_worker_start(w, cmdline, config, false, &err);
	g_assert_cmpstr(err.msg, ==, "");
}

#define NO ((uint64_t)0)

static void test_disk_limit(void)
{
	struct test_worker w;

	begin(&w, prepare_disk, "test=bench-blk count=1000000 depth=4",
	      "{'disks': <[{'path': <'/disks/0/path'>, 'id': <'d'>, 'rate_limiter_config': "
	      "<{'bandwidth': <{'size': <uint64 409600>, 'refill_time': <uint64 1000>}>}>}]>}");
	assert_rate(&w, "d", "read_bytes", 409600);
	/* While it waits for that one, another comes, of another kind. */
	call(&w, "SetRateLimit", "sstttttt", "d", "", NO, NO, NO, (uint64_t)5, NO, (uint64_t)100);
	assert_rate(&w, "d", "read_ops", 50);
	call(&w, "SetRateLimit", "sstttttt", "d", "", (uint64_t)81920, NO, (uint64_t)100,
	     (uint64_t)1000, NO, (uint64_t)1000);
	assert_rate(&w, "d", "read_bytes", 819200);
	test_worker_end(&w);
}

static void test_group(void)
{
	struct test_worker w;

	begin(&w, prepare_disk, "test=bench-blk count=1000000 depth=4 write=1",
	      "{'disks': <[{'path': <'/disks/0/path'>, 'id': <'d'>, 'rate_limit_group': <'g'>}]>, "
	      "'rate_limit_groups': <[{'id': <'g'>, 'ops_size': <uint64 60>, 'ops_refill_time': "
	      "<uint64 1000>}]>}");
	assert_rate(&w, "d", "write_ops", 60);
	call(&w, "SetRateLimitGroup", "stttttt", "g", (uint64_t)327680, NO, (uint64_t)1000, NO, NO,
	     NO);
	assert_rate(&w, "d", "write_bytes", 327680);
	test_worker_end(&w);
}

/* An interface in a network namespace of this process; what is sent to it is for nobody. */
static void prepare_tap(struct test_worker *w)
{
	struct ifreq ifr = { .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR };
	int fd, control;

	g_assert_cmpint(unshare(CLONE_NEWNET), ==, 0);
	/* It belongs to the namespace that it is opened in. */
	fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
	control = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	g_assert_cmpint(fd, >=, 0);
	g_strlcpy(ifr.ifr_name, TAP_NAME, sizeof(ifr.ifr_name));
	g_assert_cmpint(ioctl(fd, TUNSETIFF, &ifr), ==, 0);
	ifr.ifr_flags = IFF_UP;
	g_assert_cmpint(ioctl(control, SIOCSIFFLAGS, &ifr), ==, 0);
	close(control);
	test_worker_resource(w, "/net/0/tap/0", fd);
}

#define NET(more)                                                                                  \
	"{'net': <[{'tap': <'/net/0/tap'>, 'id': <'n'>, 'mac': <'52:54:00:12:34:56'>" more "}]>}"

static void test_net_tx(void)
{
	struct test_worker w;

	begin(&w, prepare_tap, "test=bench-net-tx count=1000000 size=1000",
	      NET(", 'tx_ops_size': <uint64 40>, 'tx_ops_refill_time': <uint64 500>"));
	assert_rate(&w, "n", "tx_packets", 80);
	call(&w, "SetRateLimit", "sstttttt", "n", "tx", (uint64_t)FRAME * 60, NO, (uint64_t)1000,
	     NO, NO, NO);
	assert_rate(&w, "n", "tx_bytes", FRAME * 60);
	test_worker_end(&w);
}

static gint stop_sending;

/* More than the limit lets through; what the tap has no room for is lost. */
static void *send_frames(void *data)
{
	int fd = GPOINTER_TO_INT(data);
	uint8_t frame[FRAME] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1, 0x88, 0xb5 };

	while (!g_atomic_int_get(&stop_sending)) {
		(void)!send(fd, frame, sizeof(frame), MSG_DONTWAIT);
		g_usleep(2000);
	}
	close(fd);
	return NULL;
}

static void test_net_rx(void)
{
	struct sockaddr_ll ll = { .sll_family = AF_PACKET };
	struct test_worker w;
	GThread *thread;
	int packet;

	begin(&w, prepare_tap, "test=bench-net-rx count=1000000",
	      NET(", 'bw_size': <uint64 60000>, 'bw_refill_time': <uint64 1000>"));
	packet = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
	g_assert_cmpint(packet, >=, 0);
	ll.sll_ifindex = (int)if_nametoindex(TAP_NAME);
	g_assert_cmpint(bind(packet, (struct sockaddr *)&ll, sizeof(ll)), ==, 0);
	stop_sending = 0;
	thread = g_thread_new("sender", send_frames, GINT_TO_POINTER(packet));
	assert_rate(&w, "n", "rx_bytes", 60000);
	/* Each direction has its own: this one stays. */
	call(&w, "SetRateLimit", "sstttttt", "n", "tx", (uint64_t)1, NO, (uint64_t)1000, NO, NO,
	     NO);
	call(&w, "SetRateLimit", "sstttttt", "n", "rx", NO, NO, NO, (uint64_t)8, NO, (uint64_t)100);
	assert_rate(&w, "n", "rx_packets", 80);
	g_atomic_int_set(&stop_sending, 1);
	g_thread_join(thread);
	test_worker_end(&w);
}

static void assert_refused(struct test_worker *w, const char *text, const char *id,
			   const char *direction)
{
	_cleanup_(sd_bus_error_free) sd_bus_error e = SD_BUS_ERROR_NULL;
	int r = sd_bus_call_method(w->bus, NULL, PROTOCOL_OBJECT, PROTOCOL_INTERFACE,
				   "SetRateLimit", &e, NULL, "sstttttt", id, direction, NO, NO, NO,
				   NO, NO, NO);

	g_assert_cmpint(r, <, 0);
	g_assert_cmpstr(e.message, ==, text);
}

static void test_refused(void)
{
	struct test_worker w;

	begin(&w, prepare_disk, "test=bench-blk count=1000000 depth=4",
	      "{'disks': <[{'path': <'/disks/0/path'>, 'id': <'d'>, 'rate_limit_group': <'g'>}]>, "
	      "'rate_limit_groups': <[{'id': <'g'>, 'ops_size': <uint64 50>, 'ops_refill_time': "
	      "<uint64 1000>}]>}");
	assert_refused(&w, "there is no device 'x'", "x", "");
	assert_refused(&w, "disk 'd' shares the limit of group 'g', which is what must be changed",
		       "d", "");
	assert_refused(&w, "device '__rng' (rng) has no rate limit", "__rng", "");
	test_worker_end(&w);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/limits/disk", test_disk_limit);
	g_test_add_func("/limits/group", test_group);
	g_test_add_func("/limits/net-tx", test_net_tx);
	g_test_add_func("/limits/net-rx", test_net_rx);
	g_test_add_func("/limits/refused", test_refused);
	return g_test_run();
}
