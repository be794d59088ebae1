/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <glib.h>
#include <string.h>
#include <sys/socket.h>
#include <systemd/sd-bus.h>
#include <unistd.h>

#include "dbus/variant.h"
#include "vmm/base/err.h"

/* A message needs a bus it could be sent on; this one has nobody at the other end. */
static sd_bus *bus_new(int *ret_peer)
{
	sd_bus *bus = NULL;
	int fds[2];

	g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), ==, 0);
	g_assert_cmpint(sd_bus_new(&bus), >=, 0);
	g_assert_cmpint(sd_bus_set_fd(bus, fds[0], fds[0]), >=, 0);
	g_assert_cmpint(sd_bus_negotiate_fds(bus, 1), >=, 0);
	g_assert_cmpint(sd_bus_start(bus), >=, 0);
	*ret_peer = fds[1];
	return bus;
}

static sd_bus_message *message_new(sd_bus *bus)
{
	sd_bus_message *m = NULL;

	g_assert_cmpint(sd_bus_message_new_method_call(bus, &m, NULL, "/", "a.b", "C"), >=, 0);
	return m;
}

static void seal(sd_bus_message *m)
{
	g_assert_cmpint(sd_bus_message_seal(m, 1, 0), >=, 0);
	g_assert_cmpint(sd_bus_message_rewind(m, 1), >=, 0);
}

static const char *const round_trips[] = {
	"true",
	"byte 0xff",
	"int16 -3",
	"uint16 65535",
	"-7",
	"uint32 4294967295",
	"int64 -9223372036854775808",
	"uint64 18446744073709551615",
	"0.5",
	"'text with \\u00e4'",
	"''",
	"objectpath '/a/b_2d'",
	"signature 'a{sv}'",
	"<'boxed'>",
	"<<<uint32 3>>>",
	"b'bytes'",
	"@ay []",
	"[uint64 1, 2, 3]",
	"[0.5, 1.5]",
	"[true, false]",
	"@ab []",
	"@as []",
	"['a', 'b']",
	"('one', uint32 2, [<'three'>])",
	"@a{sv} {}",
	"{'disks': <[{'path': <'/x'>, 'readonly': <true>}]>, 'cpus': <{'boot_vcpus': <int64 4>}>}",
	"{uint32 1: 'a', 2: 'b'}",
	"@a(sv) []",
	"[(byte 1, int64 2), (3, 4)]",
	"@aas [[], ['x']]",
};

static void test_round_trip(void)
{
	int peer;
	sd_bus *bus = bus_new(&peer);

	for (size_t i = 0; i < G_N_ELEMENTS(round_trips); i++) {
		g_autoptr(GVariant) in = g_variant_parse(NULL, round_trips[i], NULL, NULL, NULL);
		g_autoptr(GVariant) out = NULL;
		_cleanup_(sd_bus_message_unrefp) sd_bus_message *m = message_new(bus);
		struct err err = { 0 };

		g_assert_nonnull(in);
		g_assert_cmpint(variant_append(m, in), ==, 0);
		g_assert_cmpint(sd_bus_message_append(m, "s", "after"), >=, 0);
		seal(m);
		g_assert_cmpint(variant_from_message(m, g_variant_get_type_string(in), &out, &err),
				==, 0);
		g_assert_false(g_variant_is_floating(out));
		g_assert_true(g_variant_equal(in, out));
		/* the cursor stands behind the value */
		g_assert_cmpint(sd_bus_message_skip(m, "s"), >, 0);
		g_assert_cmpint(sd_bus_message_at_end(m, 1), >, 0);
	}
	sd_bus_close_unref(bus);
	close(peer);
}

static void test_append_refusals(void)
{
	static const char *const values[] = {
		"handle 0", "just 3", "@ah []", "<@ah []>", "{'fd': <handle 1>}", "(1, @mi nothing)"
	};
	int peer;
	sd_bus *bus = bus_new(&peer);

	for (size_t i = 0; i < G_N_ELEMENTS(values); i++) {
		g_autoptr(GVariant) in = g_variant_parse(NULL, values[i], NULL, NULL, NULL);
		_cleanup_(sd_bus_message_unrefp) sd_bus_message *m = message_new(bus);

		g_assert_nonnull(in);
		g_assert_cmpint(variant_append(m, in), ==, -EOPNOTSUPP);
	}
	sd_bus_close_unref(bus);
	close(peer);
}

static void test_append_sinks_floating(void)
{
	int peer;
	sd_bus *bus = bus_new(&peer);
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *m = message_new(bus);

	g_assert_cmpint(variant_append(m, g_variant_new_uint32(3)), ==,
			0); /* LeakSanitizer looks */
	sd_bus_close_unref(bus);
	close(peer);
}

static void expect_refusal(sd_bus_message *m, const char *type, const char *text)
{
	GVariant *out = NULL;
	struct err err = { 0 };

	g_assert_cmpint(variant_from_message(m, type, &out, &err), ==, -EINVAL);
	g_assert_null(out);
	g_assert_cmpint(err.fault, ==, FAULT_BAD_ARGUMENT);
	g_assert_cmpstr(err.msg, ==, text);
}

static void test_wrong_type(void)
{
	int peer;
	sd_bus *bus = bus_new(&peer);
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *m = message_new(bus);

	g_assert_cmpint(sd_bus_message_append(m, "su", "x", 3), >=, 0);
	seal(m);
	expect_refusal(m, "u", "the message holds type 's' (string) where 'u' (number) belongs");
	expect_refusal(m, "a{sv}", "the message holds type 's' (string) where 'a' (array) belongs");
	expect_refusal(m, "v", "the message holds type 's' (string) where 'v' (variant) belongs");
	g_assert_cmpint(sd_bus_message_skip(m, "su"), >, 0);
	expect_refusal(m, "s", "the message ends where a value of type 's' (string) belongs");
	expect_refusal(m, "av", "the message ends where a value of type 'a' (array) belongs");
	expect_refusal(m, "ms", "'ms' is not a D-Bus type");
	expect_refusal(m, "ss", "'ss' is not one complete D-Bus type");
	expect_refusal(m, "", "'' is not one complete D-Bus type");
	sd_bus_close_unref(bus);
	close(peer);
}

static void test_descriptor(void)
{
	int peer;
	sd_bus *bus = bus_new(&peer);
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *m = message_new(bus);
	int r = sd_bus_message_append(m, "a{sv}", 1, "FD", "h", peer);

	if (r == -EOPNOTSUPP) { /* before authentication finished */
		g_test_skip("descriptors are not negotiated on this connection");
	} else {
		g_assert_cmpint(r, >=, 0);
		seal(m);
		expect_refusal(m, "a{sv}", "a file descriptor ('h') is not possible here");
	}
	sd_bus_close_unref(bus);
	close(peer);
}

static void test_depth(void)
{
	int peer;
	sd_bus *bus = bus_new(&peer);

	for (int levels = VARIANT_DEPTH_MAX; levels <= VARIANT_DEPTH_MAX + 1; levels++) {
		_cleanup_(sd_bus_message_unrefp) sd_bus_message *m = message_new(bus);
		g_autoptr(GVariant) out = NULL;
		struct err err = { 0 };

		for (int i = 0; i < levels; i++)
			g_assert_cmpint(sd_bus_message_open_container(m, 'v',
								      i == levels - 1 ? "u" : "v"),
					>=, 0);
		g_assert_cmpint(sd_bus_message_append(m, "u", 3), >=, 0);
		for (int i = 0; i < levels; i++)
			g_assert_cmpint(sd_bus_message_close_container(m), >=, 0);
		seal(m);
		if (levels == VARIANT_DEPTH_MAX)
			g_assert_cmpint(variant_from_message(m, "v", &out, &err), ==, 0);
		else
			expect_refusal(m, "v", "the value is nested deeper than 64 levels");
	}
	sd_bus_close_unref(bus);
	close(peer);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/dbus/variant/round-trip", test_round_trip);
	g_test_add_func("/dbus/variant/append/refusals", test_append_refusals);
	g_test_add_func("/dbus/variant/append/floating", test_append_sinks_floating);
	g_test_add_func("/dbus/variant/read/wrong-type", test_wrong_type);
	g_test_add_func("/dbus/variant/read/descriptor", test_descriptor);
	g_test_add_func("/dbus/variant/read/depth", test_depth);
	return g_test_run();
}
