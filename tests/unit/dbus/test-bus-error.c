/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <glib.h>
#include <string.h>

#include "dbus/bus-error.h"
#include "dbus/worker-error.h"
#include "vmm/api/protocol.h"
#include "vmm/base/err.h"

/* Every fault has a name of its own, and sd-bus knows its errno. */
static void test_faults(void)
{
	const char *seen[FAULT_N_] = { 0 };

	for (unsigned int i = FAULT_NONE + 1; i < FAULT_N_; i++) {
		_cleanup_(sd_bus_error_free) sd_bus_error e = SD_BUS_ERROR_NULL;
		struct err in = { .code = EIO, .fault = (enum fault)i, .msg = "vm 'x' is so" };
		struct err out = { 0 };

		g_assert_cmpint(bus_error_from_err(&e, &in), ==, -EIO);
		g_assert_cmpstr(e.message, ==, in.msg);
		g_assert_cmpstr(e.name, !=, SD_BUS_ERROR_FAILED);
		for (unsigned int j = 0; j < i; j++)
			g_assert_cmpstr(e.name, !=, seen[j]);
		seen[i] = bus_error_name(&in);
		g_assert_cmpint(sd_bus_error_get_errno(&e), !=, EIO); /* sd-bus' "unknown" */

		err_from_bus_error(&out, -EIO, &e);
		g_assert_cmpint(out.fault, ==, in.fault);
		g_assert_cmpstr(out.msg, ==, in.msg);
		g_assert_cmpint(out.code, ==, sd_bus_error_get_errno(&e));
	}
}

static const struct {
	int code;
	const char *name;
	int back; /* where several share a name */
} plain[] = {
	{ EACCES, "org.freedesktop.DBus.Error.AccessDenied", EACCES },
	{ EPERM, "org.freedesktop.DBus.Error.AccessDenied", EACCES },
	{ ESTALE, "org.freedesktop.DBus.Error.AccessDenied", EACCES },
	{ ENOKEY, "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired", ENOKEY },
	{ EINVAL, "org.freedesktop.DBus.Error.InvalidArgs", EINVAL },
	{ EOPNOTSUPP, "org.freedesktop.DBus.Error.NotSupported", EOPNOTSUPP },
	{ ENOBUFS, "org.freedesktop.DBus.Error.LimitsExceeded", ENOBUFS },
	{ EMFILE, "org.freedesktop.DBus.Error.LimitsExceeded", ENOBUFS },
	{ ETIMEDOUT, "org.freedesktop.DBus.Error.Timeout", ETIMEDOUT },
	{ ENOMEM, "org.freedesktop.DBus.Error.NoMemory", ENOMEM },
	{ ENOENT, "org.freedesktop.DBus.Error.FileNotFound", ENOENT },
	{ EEXIST, "org.freedesktop.DBus.Error.FileExists", EEXIST },
	{ EIO, "org.freedesktop.DBus.Error.IOError", EIO },
	{ ENOSYS, "org.freedesktop.DBus.Error.Failed", EIO },
};

static void test_errnos(void)
{
	for (size_t i = 0; i < G_N_ELEMENTS(plain); i++) {
		_cleanup_(sd_bus_error_free) sd_bus_error e = SD_BUS_ERROR_NULL;
		struct err in = { .code = plain[i].code, .msg = "so it is" }, out = { 0 };

		g_assert_cmpint(bus_error_from_err(&e, &in), ==, -plain[i].code);
		g_assert_cmpstr(e.name, ==, plain[i].name);
		err_from_bus_error(&out, -EIO, &e);
		g_assert_cmpstr(out.msg, ==, "so it is");
		if (strcmp(plain[i].name, SD_BUS_ERROR_FAILED) != 0)
			g_assert_cmpint(out.code, ==, plain[i].back);
	}
}

static void test_foreign(void)
{
	sd_bus_error unit =
		SD_BUS_ERROR_MAKE_CONST("org.freedesktop.systemd1.UnitExists", "it is there");
	sd_bus_error silent = SD_BUS_ERROR_MAKE_CONST("com.example.Odd", NULL);
	struct err err = { 0 };

	err_from_bus_error(&err, -EEXIST, &unit);
	g_assert_cmpint(err.fault, ==, FAULT_NONE);
	g_assert_cmpint(err.code, >, 0);
	g_assert_cmpstr(err.msg, ==, "it is there");
	err_clear(&err);
	err_from_bus_error(&err, -EIO, &silent);
	g_assert_cmpstr(err.msg, ==, "com.example.Odd");
	err_clear(&err);
	err_from_bus_error(&err, -ECONNRESET, NULL);
	g_assert_cmpint(err.code, ==, ECONNRESET);
	g_assert_cmpstr(err.msg, ==, "the call failed: Connection reset by peer");
	err_clear(&err);
	err_from_bus_error(NULL, -EIO, &unit); /* nobody wants to know */
}

static void test_worker_round_trip(void)
{
	for (unsigned int i = 0; i < FAULT_N_; i++) {
		_cleanup_(sd_bus_error_free) sd_bus_error e = SD_BUS_ERROR_NULL,
							  again = SD_BUS_ERROR_NULL;
		struct err in = { .code = ENOTTY, .fault = (enum fault)i, .msg = "disk 'a': so" };
		struct err out = { 0 };

		g_assert_cmpint(worker_error_from_err(&e, &in), ==, -ENOTTY);
		g_assert_true(g_str_has_prefix(e.name, PROTOCOL_ERROR_PREFIX));
		g_assert_true(sd_bus_interface_name_is_valid(e.name));
		err_from_worker_error(&out, -EIO, &e);
		g_assert_cmpint(out.fault, ==, in.fault);
		g_assert_cmpstr(out.msg, ==, in.msg);
		g_assert_cmpint(out.code, >, 0);
		if (i == FAULT_NONE)
			g_assert_cmpint(out.code, ==, ENOTTY);
		/* the usual errno of a fault is the one sd-bus gives its public name */
		bus_error_from_err(&again, &in);
		if (i != FAULT_NONE)
			g_assert_cmpint(out.code, ==, sd_bus_error_get_errno(&again));
	}
}

static void test_worker_names(void)
{
	_cleanup_(sd_bus_error_free) sd_bus_error e = SD_BUS_ERROR_NULL, f = SD_BUS_ERROR_NULL;
	struct err plain_err = { .code = 5, .msg = "x" };
	struct err fault_err = { .code = 16, .fault = FAULT_CONSOLE_IN_USE, .msg = "x" };

	worker_error_from_err(&e, &plain_err);
	g_assert_cmpstr(e.name, ==, "org.brume.Worker1.Error.none.errno_5");
	worker_error_from_err(&f, &fault_err);
	g_assert_cmpstr(f.name, ==, "org.brume.Worker1.Error.console_in_use");
}

static void test_worker_foreign(void)
{
	static const char *const names[] = {
		"org.brume.Worker1.Error.no_such_fault",    "org.brume.Worker1.Error.none",
		"org.brume.Worker1.Error.none.errno_0",     "org.brume.Worker1.Error.none.errno_5x",
		"org.brume.Worker1.Error.none.errno_99999", "org.brume.Worker1.Error.busy.errno_5",
		"org.freedesktop.DBus.Error.UnknownMethod",
	};

	for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
		sd_bus_error e = SD_BUS_ERROR_MAKE_CONST(names[i], "text");
		struct err err = { 0 };

		err_from_worker_error(&err, -EIO, &e);
		g_assert_cmpint(err.fault, ==, FAULT_NONE);
		g_assert_cmpint(err.code, >, 0);
		g_assert_cmpstr(err.msg, ==, "text");
	}
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/dbus/bus-error/faults", test_faults);
	g_test_add_func("/dbus/bus-error/errnos", test_errnos);
	g_test_add_func("/dbus/bus-error/foreign", test_foreign);
	g_test_add_func("/dbus/worker-error/round-trip", test_worker_round_trip);
	g_test_add_func("/dbus/worker-error/names", test_worker_names);
	g_test_add_func("/dbus/worker-error/foreign", test_worker_foreign);
	return g_test_run();
}
