/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The service's name: free, given up in time by a dying predecessor, or not
 */
#include "daemon/bus-name.h"
#include "tests/lib/private-bus.h"
#include "vmm/base/cleanup.h"
#include "vmm/base/err.h"
#include <errno.h>
#include <glib.h>
#include <stdbool.h>
#include <string.h>
#include <systemd/sd-event.h>
#include <unistd.h>

#define NAME "org.brume.test1"

struct fixture {
	struct private_bus bus;
	sd_event *event;
	sd_bus *conn;
	struct bus_name *name;
	unsigned int n_told;
	struct err err;
};

static void set_up(struct fixture *f)
{
	*f = (struct fixture){ 0 };
	private_bus_start(&f->bus);
	g_assert_cmpint(sd_event_new(&f->event), >=, 0);
	f->conn = private_bus_connect(&f->bus);
	g_assert_cmpint(sd_bus_attach_event(f->conn, f->event, 0), >=, 0);
}

static void tear_down(struct fixture *f)
{
	bus_name_free(f->name);
	sd_bus_flush_close_unref(f->conn);
	sd_event_unref(f->event);
	private_bus_stop(&f->bus);
}

static void on_name(void *data, const struct err *err)
{
	struct fixture *f = data;

	f->n_told++;
	if (err)
		f->err = *err;
}

static void request(struct fixture *f, uint64_t wait_usec)
{
	g_assert_cmpint(bus_name_request(f->conn, NAME, wait_usec, on_name, f, &f->name, &f->err),
			==, 0);
}

static void turn(struct fixture *f, uint64_t usec)
{
	g_assert_cmpint(sd_event_run(f->event, usec), >=, 0);
}

static void wait_told(struct fixture *f)
{
	gint64 end = g_get_monotonic_time() + 10 * G_USEC_PER_SEC;

	while (f->n_told == 0) {
		g_assert_cmpint(g_get_monotonic_time(), <, end);
		turn(f, 100000);
	}
}

static const char *owner(const struct fixture *f)
{
	static char name[64];
	_cleanup_(sd_bus_creds_unrefp) sd_bus_creds *creds = NULL;
	const char *unique;

	g_assert_cmpint(sd_bus_get_name_creds(f->conn, NAME, SD_BUS_CREDS_UNIQUE_NAME, &creds), >=,
			0);
	g_assert_cmpint(sd_bus_creds_get_unique_name(creds, &unique), >=, 0);
	g_strlcpy(name, unique, sizeof(name));
	return name;
}

static const char *us(const struct fixture *f)
{
	const char *unique;

	g_assert_cmpint(sd_bus_get_unique_name(f->conn, &unique), >=, 0);
	return unique;
}

static void test_free(void)
{
	struct fixture f;

	set_up(&f);
	request(&f, 1000000);
	wait_told(&f);
	g_assert_cmpint(f.err.code, ==, 0);
	g_assert_cmpstr(owner(&f), ==, us(&f));
	/* NameAcquired comes as well: told once. */
	for (int i = 0; i < 5; i++)
		turn(&f, 10000);
	g_assert_cmpuint(f.n_told, ==, 1);
	tear_down(&f);
}

static void test_given_up(void)
{
	struct fixture f;
	sd_bus *other;

	set_up(&f);
	other = private_bus_connect(&f.bus);
	g_assert_cmpint(sd_bus_request_name(other, NAME, 0), >=, 0);
	request(&f, 10 * G_USEC_PER_SEC);
	for (int i = 0; i < 20; i++)
		turn(&f, 10000);
	g_assert_cmpuint(f.n_told, ==, 0);
	sd_bus_close_unref(other);
	wait_told(&f);
	g_assert_cmpint(f.err.code, ==, 0);
	g_assert_cmpstr(owner(&f), ==, us(&f));
	tear_down(&f);
}

static void test_kept(void)
{
	g_autofree char *text = NULL;
	struct fixture f;
	sd_bus *other;

	set_up(&f);
	other = private_bus_connect(&f.bus);
	g_assert_cmpint(sd_bus_request_name(other, NAME, 0), >=, 0);
	request(&f, 50000);
	wait_told(&f);
	text = g_strdup_printf("process %d has the bus name " NAME
			       " and did not give it up within 50 ms: is it another brumed?",
			       getpid());
	g_assert_cmpint(f.err.code, ==, EBUSY);
	g_assert_cmpstr(f.err.msg, ==, text);
	sd_bus_flush_close_unref(other);
	g_assert_cmpuint(f.n_told, ==, 1);
	tear_down(&f);
}

static void test_refused(void)
{
	struct fixture f;

	set_up(&f);
	g_assert_cmpint(bus_name_request(f.conn, ":1.7", 50000, on_name, &f, &f.name, &f.err), <,
			0);
	g_assert_nonnull(strstr(f.err.msg, "cannot ask for the bus name :1.7"));
	g_assert_null(f.name);
	tear_down(&f);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/daemon/bus-name/free", test_free);
	g_test_add_func("/daemon/bus-name/given-up", test_given_up);
	g_test_add_func("/daemon/bus-name/kept", test_kept);
	g_test_add_func("/daemon/bus-name/refused", test_refused);
	return g_test_run();
}
