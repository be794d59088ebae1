/* SPDX-License-Identifier: Apache-2.0 */
#include <glib.h>
#include <stdlib.h>
#include <time.h>

#include "dbus/client/events.h"
#include "dbus/client/output.h"
#include "vmm/config/json.h"

static const struct {
	uint64_t bytes;
	const char *text;
} sizes[] = {
	{ 0, "0" },
	{ 1023, "1023" },
	{ 1024, "1K" },
	{ 1536, "1.5K" },
	{ 512ull << 20, "512M" },
	{ 1ull << 30, "1G" },
	{ (1ull << 30) + (1ull << 29), "1.5G" },
	{ 3ull << 40, "3T" },
	{ UINT64_MAX, "16.0E" },
};

static void test_size(void)
{
	for (size_t i = 0; i < G_N_ELEMENTS(sizes); i++) {
		char buf[24];

		g_assert_cmpstr(format_size(sizes[i].bytes, buf), ==, sizes[i].text);
	}
}

static void test_time(void)
{
	char buf[40];

	g_assert_cmpstr(format_time(0, buf), ==, "-");
	g_assert_cmpstr(format_time(1700000000ull * 1000000, buf), ==, "2023-11-14 22:13:20");
}

/* What a guest or another user wrote must not reach the terminal's parser. */
static void test_clean(void)
{
	g_autofree char *a = clean_text("a\033[31mb\nc"), *b = clean_text("bad \xff\xfe utf8");
	g_autofree char *c = clean_text("gr\303\274n"), *d = clean_text("c1 \302\233 control");

	g_assert_cmpstr(a, ==, "a?[31mb?c");
	g_assert_true(g_utf8_validate(b, -1, NULL));
	g_assert_cmpstr(c, ==, "gr\303\274n");
	g_assert_cmpstr(d, ==, "c1 ? control");
}

static const struct {
	const char *value, *text;
} values[] = {
	{ "'plain'", "plain" },
	{ "<'boxed'>", "boxed" },
	{ "true", "yes" },
	{ "['a', 'b']", "a b" },
	{ "@as []", "" },
	{ "uint32 7", "7" },
	{ "0.5", "0.5" },
	{ "objectpath '/a'", "/a" },
	{ "{'k': <3>}", "{'k': <3>}" },
};

static void test_value(void)
{
	for (size_t i = 0; i < G_N_ELEMENTS(values); i++) {
		g_autoptr(GVariant) value =
			g_variant_parse(NULL, values[i].value, NULL, NULL, NULL);
		g_autofree char *text = format_value(value);

		g_assert_cmpstr(text, ==, values[i].text);
	}
}

static const struct {
	const char *name, *path, *interface, *member, *body, *text, *vm;
} events[] = {
	{ "state", "/org/brume/vm1/vm/web1", "org.brume.vm1.VirtualMachine", "StateChanged",
	  "('running', 'stopped', 'guest-shutdown')",
	  "web1 StateChanged running stopped guest-shutdown", "web1" },
	{ "encoded name", "/org/brume/vm1/vm/db_2d1", "org.brume.vm1.VirtualMachine", "Event",
	  "('serial', 'overrun', {'n': <3>})", "db-1 Event serial overrun {'n': <3>}", "db-1" },
	{ "properties", "/org/brume/vm1/vm/web1", "org.freedesktop.DBus.Properties",
	  "PropertiesChanged",
	  "('org.brume.vm1.VirtualMachine', {'State': <'running'>, 'MainPID': <uint32 7>}, @as [])",
	  "web1 PropertiesChanged State=running MainPID=7", "web1" },
	{ "job of the manager", "/org/brume/vm1", "org.brume.vm1.Manager", "JobRemoved",
	  "(uint32 3, objectpath '/org/brume/vm1/job/3', "
	  "objectpath '/org/brume/vm1/vm/web1', 'done', '', '')",
	  "web1 JobRemoved 3 /org/brume/vm1/job/3 /org/brume/vm1/vm/web1 done \"\" \"\"", "web1" },
	{ "job object", "/org/brume/vm1/job/3", "org.freedesktop.DBus.Properties",
	  "PropertiesChanged", "('org.brume.vm1.Job', {'Phase': <'building'>}, @as [])",
	  "job/3 PropertiesChanged Phase=building", NULL },
	{ "a device of a machine", "/org/brume/vm1/vm/web1/device/root", "org.brume.vm1.Device",
	  "X", "(1,)", "web1 X 1", "web1" },
	{ "manager", "/org/brume/vm1", "org.freedesktop.DBus.Properties", "PropertiesChanged",
	  "('org.brume.vm1.Manager', {'NVMs': <uint32 2>}, @as [])", "- PropertiesChanged NVMs=2",
	  NULL },
	{ "object added", "/org/brume/vm1", "org.freedesktop.DBus.ObjectManager", "InterfacesAdded",
	  "(objectpath '/org/brume/vm1/vm/web1', {'org.freedesktop.DBus.Peer': @a{sv} {}, "
	  "'org.brume.vm1.VirtualMachine': {'Name': <'web1'>}})",
	  "web1 InterfacesAdded /org/brume/vm1/vm/web1 org.brume.vm1.VirtualMachine", "web1" },
	{ "object removed", "/org/brume/vm1", "org.freedesktop.DBus.ObjectManager",
	  "InterfacesRemoved", "(objectpath '/org/brume/vm1/job/4', ['org.brume.vm1.Job'])",
	  "- InterfacesRemoved /org/brume/vm1/job/4 org.brume.vm1.Job", NULL },
	{ "hostile text", "/org/brume/vm1/vm/web1", "org.brume.vm1.VirtualMachine", "Event",
	  "('a\\nb', '\\u001b[2J')", "web1 Event a?b ?[2J", "web1" },
};

static void test_events(void)
{
	for (size_t i = 0; i < G_N_ELEMENTS(events); i++) {
		g_autoptr(GVariant) body = g_variant_parse(NULL, events[i].body, NULL, NULL, NULL);
		struct event event = { 17, events[i].path, events[i].interface, events[i].member,
				       body };
		g_autofree char *text = NULL;

		g_assert_nonnull(body);
		text = event_to_text(&event);
		g_assert_cmpstr(text, ==, events[i].text);
		g_assert_true(event_is_about(&event, NULL));
		g_assert_false(event_is_about(&event, "other"));
		if (events[i].vm)
			g_assert_true(event_is_about(&event, events[i].vm));
	}
}

static void test_event_json(void)
{
	g_autoptr(GVariant) body = g_variant_ref_sink(g_variant_new("(sss)", "a", "b", "c"));
	struct event event = { 17, "/org/brume/vm1/vm/web1", "org.brume.vm1.VirtualMachine",
			       "StateChanged", body };
	g_autoptr(GVariant) dict = g_variant_ref_sink(event_to_json(&event));
	g_autofree char *json = config_json_print(dict, CONFIG_JSON_COMPACT);

	g_assert_cmpstr(
		json, ==,
		"{\"timestamp\":17,\"vm\":\"web1\",\"path\":\"/org/brume/vm1/vm/web1\","
		"\"interface\":\"org.brume.vm1.VirtualMachine\",\"signal\":\"StateChanged\","
		"\"arguments\":[\"a\",\"b\",\"c\"]}");
}

int main(int argc, char **argv)
{
	setenv("TZ", "UTC", 1);
	tzset();
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/client/output/size", test_size);
	g_test_add_func("/client/output/time", test_time);
	g_test_add_func("/client/output/clean", test_clean);
	g_test_add_func("/client/output/value", test_value);
	g_test_add_func("/client/events/text", test_events);
	g_test_add_func("/client/events/json", test_event_json);
	return g_test_run();
}
