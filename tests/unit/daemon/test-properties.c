/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Resource properties: every name good and bad, as JSON and back, in the
 * definition, in the unit, and changed while the machine runs, by a stand-in for
 * systemd that answers when the test wants it to
 */
#include "daemon/definition.h"
#include "daemon/machine.h"
#include "daemon/manager.h"
#include "daemon/spawner.h"
#include "dbus/bus-path.h"
#include "dbus/resource-properties.h"
#include "tests/unit/daemon/fixture.h"
#include "vmm/base/cleanup.h"
#include "vmm/base/err.h"
#include "vmm/config/json.h"
#include <errno.h>
#include <glib/gstdio.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define INVALID_ARGS  "org.freedesktop.DBus.Error.InvalidArgs"
#define NOT_SUPPORTED "org.freedesktop.DBus.Error.NotSupported"
#define WAIT          "a{sv}", 1, "Wait", "b", 1
#define NONE          "a{sv}", 0
#define INFINITY_TEXT "uint64 18446744073709551615"

static GVariant *parse(const char *text)
{
	g_autoptr(GError) error = NULL;
	GVariant *value = g_variant_parse(G_VARIANT_TYPE("a(sv)"), text, NULL, NULL, &error);

	g_assert_no_error(error);
	return value;
}

static GVariant *one(const char *name, const char *value)
{
	g_autofree char *text = g_strdup_printf("[('%s', <%s>)]", name, value);

	return parse(text);
}

#define ASSERT_SET(set, text)                                                                      \
	do {                                                                                       \
		g_autofree char *printed_ =                                                        \
			(set) ? g_variant_print(set, FALSE) : g_strdup("none");                    \
		g_assert_cmpstr(printed_, ==, text);                                               \
	} while (0)

/* The edges of each range; name by name, so that a new row of the table is missed here. */
static const struct {
	const char *name;
	const char *good[6];
	const char *bad[6];
} ranges[] = {
	{ "MemoryMin", { "uint64 0", INFINITY_TEXT }, { NULL } },
	{ "MemoryLow", { "uint64 0", INFINITY_TEXT }, { NULL } },
	{ "MemoryHigh", { "uint64 1", INFINITY_TEXT }, { "uint64 0" } },
	{ "MemoryMax", { "uint64 1", "uint64 4294967296", INFINITY_TEXT }, { "uint64 0" } },
	{ "MemorySwapMax", { "uint64 0", INFINITY_TEXT }, { NULL } },
	{ "CPUWeight",
	  { "uint64 0", "uint64 1", "uint64 10000", INFINITY_TEXT },
	  { "uint64 10001", "uint64 18446744073709551614" } },
	{ "StartupCPUWeight", { "uint64 0", "uint64 10000", INFINITY_TEXT }, { "uint64 10001" } },
	{ "CPUQuotaPerSecUSec",
	  { "uint64 10000", "uint64 2500000", INFINITY_TEXT },
	  { "uint64 0", "uint64 9999" } },
	{ "CPUQuotaPeriodUSec",
	  { "uint64 1000", "uint64 1000000", INFINITY_TEXT },
	  { "uint64 0", "uint64 999", "uint64 1000001" } },
	{ "AllowedCPUs",
	  { "[byte 3]", "@ay []", "[byte 0, 0, 1]" },
	  { "[byte 0]", "[byte 0, 0]" } },
	{ "AllowedMemoryNodes", { "[byte 1]", "@ay []" }, { "[byte 0]" } },
	{ "IOWeight",
	  { "uint64 1", "uint64 10000", INFINITY_TEXT },
	  { "uint64 0", "uint64 10001" } },
	{ "IOReadBandwidthMax",
	  { "@a(st) []", "[('/dev/sda', uint64 1)]", "[('/', uint64 1)]",
	    "[('/dev/disk/by-id/a:b.c', uint64 5), ('/srv/..a', " INFINITY_TEXT ")]" },
	  { "[('/dev/sda', uint64 0)]", "[('dev/sda', uint64 1)]", "[('', uint64 1)]",
	    "[('/dev/../x', uint64 1)]", "[('/dev/a', uint64 1), ('/dev/a', 2)]" } },
	{ "IOWriteBandwidthMax",
	  { "[('/dev/sda', uint64 1)]" },
	  { "[('/dev//sda', uint64 1)]", "[('/dev/sda/', uint64 1)]", "[('/a b', uint64 1)]",
	    "[('/a\\nExecStart=/x', uint64 1)]", "[('/a%b', uint64 1)]" } },
	{ "IOReadIOPSMax",
	  { "[('/dev/sda', uint64 1)]" },
	  { "[('/./sda', uint64 1)]", "[('/sda/..', uint64 1)]", "[('/a\\'b', uint64 1)]" } },
	{ "IOWriteIOPSMax",
	  { "[('/dev/sda', uint64 1)]" },
	  { "[('/a\\\\b', uint64 1)]", "[('/a\"b', uint64 1)]", "[('/a\\tb', uint64 1)]" } },
	{ "TasksMax", { "uint64 1", INFINITY_TEXT }, { "uint64 0" } },
	{ "Nice", { "-20", "19", "0" }, { "-21", "20" } },
	{ "OOMScoreAdjust", { "-1000", "1000" }, { "-1001", "1001" } },
	{ "TimeoutStopUSec", { "uint64 1000000", INFINITY_TEXT }, { "uint64 0", "uint64 999999" } },
};

static void test_ranges(void)
{
	g_assert_cmpuint(ARRAY_SIZE(ranges), ==, n_resource_properties);
	for (size_t i = 0; i < ARRAY_SIZE(ranges); i++) {
		const char *name = ranges[i].name;

		g_assert_cmpstr(name, ==, resource_properties[i].name);
		for (size_t j = 0; j < 6 && ranges[i].good[j]; j++) {
			g_autoptr(GVariant) list = one(name, ranges[i].good[j]), set = NULL;
			struct err err = { 0 };

			if (resource_properties_check(list, false, &set, &err) < 0)
				g_error("%s", err.msg);
			g_assert_true(g_variant_equal(list, set));
		}
		for (size_t j = 0; j < 6 && ranges[i].bad[j]; j++) {
			g_autoptr(GVariant) list = one(name, ranges[i].bad[j]), set = NULL;
			g_autofree char *start = g_strdup_printf("property '%s': ", name);
			struct err err = { 0 };

			g_test_message("%s %s", name, ranges[i].bad[j]);
			g_assert_cmpint(resource_properties_check(list, false, &set, &err), ==,
					-EINVAL);
			g_assert_cmpint(err.fault, ==, FAULT_BAD_ARGUMENT);
			g_assert_true(g_str_has_prefix(err.msg, start));
			g_assert_nonnull(strstr(err.msg, "must "));
			g_assert_null(set);
		}
	}
}

/* A value of another type, for each row. */
static void test_types(void)
{
	for (size_t i = 0; i < n_resource_properties; i++) {
		const char *type = resource_property_type(&resource_properties[i]);
		g_autoptr(GVariant) list = one(resource_properties[i].name, "'7'"), set = NULL;
		g_autofree char *text = g_strdup_printf("property '%s' has type 's', must be '%s'",
							resource_properties[i].name, type);
		struct err err = { 0 };

		g_assert_cmpint(resource_properties_check(list, false, &set, &err), ==, -EINVAL);
		g_assert_cmpstr(err.msg, ==, text);
	}
}

static void test_sentences(void)
{
	static const struct {
		const char *list, *text;
		bool user;
	} cases[] = {
		{ "[('User', <'root'>)]",
		  "property 'User' is not one that a VM can be given, must be one of MemoryMin, ",
		  false },
		{ "[('', <''>)]", "property '' is not one", false },
		{ "[('CPUWeight', <uint64 1>), ('CPUWeight', <uint64 1>)]",
		  "property 'CPUWeight' is given twice", false },
		{ "[('MemoryMax', <uint64 0>)]",
		  "property 'MemoryMax': 0 is out of range, must be at least 1, or "
		  "18446744073709551615 for infinity",
		  false },
		{ "[('CPUWeight', <uint64 20000>)]",
		  "property 'CPUWeight': 20000 is out of range, must be from 0 to 10000, or "
		  "18446744073709551615 for none of its own",
		  false },
		{ "[('Nice', <20>)]", "property 'Nice': 20 is out of range, must be from -20 to 19",
		  false },
		{ "[('IOReadIOPSMax', <[('/dev/sda', uint64 0)]>)]",
		  "property 'IOReadIOPSMax': 0 for '/dev/sda' is out of range", false },
		{ "[('IOReadIOPSMax', <[('sda', uint64 1)]>)]",
		  "property 'IOReadIOPSMax': 'sda' is not usable as a path, must be absolute",
		  false },
		{ "[('AllowedCPUs', <[byte 0, 0]>)]",
		  "property 'AllowedCPUs': the mask of 2 bytes has no bit set", false },
		{ "[('IOWeight', <uint64 10>)]",
		  "property 'IOWeight' has no effect on the VMs of a user", true },
		{ "[('AllowedCPUs', <[byte 1]>)]", "property 'AllowedCPUs' has no effect", true },
		{ "[('Nice', <-1>)]", "property 'Nice': -1 is not possible for the VMs of a user",
		  true },
	};
	g_autoptr(GVariant) for_user = parse("[('Nice', <5>), ('MemoryMax', <uint64 9>)]"),
			    set = NULL;
	struct err err = { 0 };

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		g_autoptr(GVariant) list = parse(cases[i].list), none = NULL;

		err = (struct err){ 0 };
		g_assert_cmpint(resource_properties_check(list, cases[i].user, &none, &err), <, 0);
		if (!g_str_has_prefix(err.msg, cases[i].text))
			g_error("expected '%s', got '%s'", cases[i].text, err.msg);
	}
	err = (struct err){ 0 };
	g_assert_cmpint(resource_properties_check(for_user, true, &set, &err), ==, 0);
	ASSERT_SET(set, "[('MemoryMax', <uint64 9>), ('Nice', <5>)]");
}

static void test_big(void)
{
	g_autofree uint8_t *bytes = g_malloc0(1025);
	GVariantBuilder limits;
	g_autoptr(GVariant) cpus = NULL, nodes = NULL, io = NULL, set = NULL;
	struct err err = { 0 };

	bytes[0] = 1;
	cpus = g_variant_ref_sink(
		g_variant_new_parsed("[('AllowedCPUs', <%@ay>)]",
				     g_variant_new_fixed_array(G_VARIANT_TYPE_BYTE, bytes, 1025,
							       1)));
	g_assert_cmpint(resource_properties_check(cpus, false, &set, &err), ==, -EINVAL);
	g_assert_cmpstr(
		err.msg, ==,
		"property 'AllowedCPUs': the mask has 1025 bytes, at most 1024 are allowed");
	err = (struct err){ 0 };
	nodes = g_variant_ref_sink(
		g_variant_new_parsed("[('AllowedMemoryNodes', <%@ay>)]",
				     g_variant_new_fixed_array(G_VARIANT_TYPE_BYTE, bytes, 129,
							       1)));
	g_assert_cmpint(resource_properties_check(nodes, false, &set, &err), ==, -EINVAL);
	err = (struct err){ 0 };
	g_variant_builder_init(&limits, G_VARIANT_TYPE("a(st)"));
	for (int i = 0; i < 65; i++) {
		g_autofree char *path = g_strdup_printf("/dev/sd%d", i);

		g_variant_builder_add(&limits, "(st)", path, (guint64)1);
	}
	io = g_variant_ref_sink(
		g_variant_new_parsed("[('IOReadIOPSMax', <%*>)]", g_variant_builder_end(&limits)));
	g_assert_cmpint(resource_properties_check(io, false, &set, &err), ==, -EINVAL);
	g_assert_cmpstr(
		err.msg, ==,
		"property 'IOReadIOPSMax': 65 devices are too many, at most 64 are allowed");
}

static void test_masks(void)
{
	static const struct {
		const char *text, *value;
	} good[] = {
		{ "", "@ay []" },        { "0", "[0x01]" },
		{ "0-3,5", "[0x2f]" },   { "5 0-3", "[0x2f]" },
		{ "8", "[0x00, 0x01]" }, { "6-9,31", "[0xc0, 0x03, 0x00, 0x80]" },
		{ "1,1,1-2", "[0x06]" },
	};
	static const char *const bad[] = { "x",
					   "1-",
					   "-1",
					   "3-1",
					   "1,",
					   ",1",
					   "1,,2",
					   "64",
					   "0-64",
					   "1 - 2",
					   "1;2",
					   "0x1",
					   "99999999999999999999" };

	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		g_autoptr(GVariant) value = resource_mask_parse(good[i].text, 8);
		g_autofree char *printed = g_variant_print(value, i == 0);

		g_assert_cmpstr(printed, ==, good[i].value);
	}
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		g_assert_null(resource_mask_parse(bad[i], 8));
}

static void test_json(void)
{
	static const char all[] =
		"[('MemoryLow', <uint64 0>), ('MemoryMax', <uint64 9223372036854775809>), "
		"('MemorySwapMax', <" INFINITY_TEXT ">), ('CPUWeight', <uint64 50>), "
		"('AllowedCPUs', <[byte 0x2f]>), ('AllowedMemoryNodes', <@ay []>), "
		"('IOReadBandwidthMax', <[('/dev/sda', uint64 1000), ('/srv', " INFINITY_TEXT
		")]>), "
		"('IOWriteIOPSMax', <@a(st) []>), ('Nice', <-5>), ('OOMScoreAdjust', <7>)]";
	static const char *const bad[] = {
		"{\"Bogus\":1}",
		"{\"MemoryMax\":-1}",
		"{\"MemoryMax\":\"1G\"}",
		"{\"MemoryMax\":1.5}",
		"{\"MemoryMax\":null}",
		"{\"MemoryMax\":0}",
		"{\"Nice\":4294967296}",
		"{\"Nice\":\"infinity\"}",
		"{\"AllowedCPUs\":[1]}",
		"{\"AllowedCPUs\":\"a\"}",
		"{\"IOReadIOPSMax\":[]}",
		"{\"IOReadIOPSMax\":{\"/dev/sda\":\"fast\"}}",
		"{\"IOReadIOPSMax\":{\"sda\":1}}",
	};
	g_autoptr(GVariant) set = parse(all), json = NULL, dict = NULL, back = NULL;
	g_autofree char *text = NULL;
	struct err err = { 0 };

	json = g_variant_ref_sink(resource_properties_to_json(set));
	text = config_json_print(json, CONFIG_JSON_COMPACT);
	g_assert_cmpstr(text, ==,
			"{\"MemoryLow\":0,\"MemoryMax\":9223372036854775809,"
			"\"MemorySwapMax\":\"infinity\",\"CPUWeight\":50,\"AllowedCPUs\":\"0-3,5\","
			"\"AllowedMemoryNodes\":\"\",\"IOReadBandwidthMax\":{\"/dev/sda\":1000,"
			"\"/srv\":\"infinity\"},\"IOWriteIOPSMax\":{},\"Nice\":-5,"
			"\"OOMScoreAdjust\":7}");
	g_assert_cmpint(json_object_parse(text, &dict, &err), ==, 0);
	if (resource_properties_from_json(dict, &back, &err) < 0)
		g_error("%s", err.msg);
	g_assert_true(g_variant_equal(set, back));
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		g_autoptr(GVariant) wrong = NULL, none = NULL;

		err = (struct err){ 0 };
		g_assert_cmpint(json_object_parse(bad[i], &wrong, &err), ==, 0);
		g_assert_cmpint(resource_properties_from_json(wrong, &none, &err), ==, -EINVAL);
		g_assert_true(g_str_has_prefix(err.msg, "property '"));
		g_assert_null(none);
	}
}

static void test_merge(void)
{
	static const struct {
		const char *base, *changes, *after;
	} cases[] = {
		{ "[]", "[]", "none" },
		{ "[]", "[('TasksMax', <uint64 9>)]", "[('TasksMax', <uint64 9>)]" },
		{ "[('TasksMax', <uint64 9>)]", "[('CPUWeight', <uint64 5>)]",
		  "[('CPUWeight', <uint64 5>), ('TasksMax', <uint64 9>)]" },
		{ "[('CPUWeight', <uint64 9>)]", "[('CPUWeight', <uint64 5>)]",
		  "[('CPUWeight', <uint64 5>)]" },
		/* back at what a unit has by itself */
		{ "[('CPUWeight', <uint64 9>)]", "[('CPUWeight', <" INFINITY_TEXT ">)]", "none" },
		{ "[('MemoryMax', <uint64 9>)]", "[('MemoryMax', <" INFINITY_TEXT ">)]", "none" },
		{ "[('AllowedCPUs', <[byte 1]>)]", "[('AllowedCPUs', <@ay []>)]", "none" },
		/* which for these is something else than infinity */
		{ "[('TasksMax', <uint64 9>)]", "[('TasksMax', <" INFINITY_TEXT ">)]",
		  "[('TasksMax', <" INFINITY_TEXT ">)]" },
		{ "[('MemoryLow', <uint64 9>)]", "[('MemoryLow', <" INFINITY_TEXT ">)]",
		  "[('MemoryLow', <" INFINITY_TEXT ">)]" },
		/* device by device */
		{ "[('IOReadIOPSMax', <[('/a', uint64 1), ('/b', 2)]>)]",
		  "[('IOReadIOPSMax', <[('/b', uint64 3), ('/c', 4)]>)]",
		  "[('IOReadIOPSMax', <[('/a', uint64 1), ('/b', 3), ('/c', 4)]>)]" },
		{ "[('IOReadIOPSMax', <[('/a', uint64 1), ('/b', 2)]>)]",
		  "[('IOReadIOPSMax', <[('/b', " INFINITY_TEXT ")]>)]",
		  "[('IOReadIOPSMax', <[('/a', uint64 1)]>)]" },
		{ "[('IOReadIOPSMax', <[('/a', uint64 1)]>)]",
		  "[('IOReadIOPSMax', <[('/a', " INFINITY_TEXT ")]>)]", "none" },
		{ "[('IOReadIOPSMax', <[('/a', uint64 1)]>)]", "[('IOReadIOPSMax', <@a(st) []>)]",
		  "none" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		g_autoptr(GVariant) base = parse(cases[i].base), changes = parse(cases[i].changes);
		g_autoptr(GVariant) after = resource_properties_merge(base, changes);
		g_autofree char *text = NULL;

		if (strcmp(cases[i].after, "none") == 0) {
			g_assert_null(after);
		} else {
			g_autoptr(GVariant) expected = parse(cases[i].after);

			text = g_variant_print(after, FALSE);
			g_test_message("%s", text);
			g_assert_true(g_variant_equal(after, expected));
		}
	}
	g_assert_null(resource_properties_merge(NULL, NULL));
}

static void test_live(void)
{
	g_autoptr(GVariant) set = parse("[('CPUWeight', <uint64 5>), ('Nice', <5>)]");
	g_autoptr(GVariant) fixed = parse("[('Nice', <5>), ('TimeoutStopUSec', <uint64 5000000>)]");
	g_autoptr(GVariant) live = resource_properties_live(set);

	ASSERT_SET(live, "[('CPUWeight', <uint64 5>)]");
	g_assert_null(resource_properties_live(fixed));
	g_assert_null(resource_properties_first_at_start(live));
	g_assert_cmpstr(resource_properties_first_at_start(fixed)->name, ==, "Nice");
}

/* --- systemd's stand-in --------------------------------------------------------- */

static struct {
	struct spawner_ops ops;
	const struct spawner_ops *real;
	enum {
		ANSWER,
		REFUSE,
		HOLD,
		FAIL
	} mode;
	GVariant *at_start, *asked;
	struct spawn *sp;
} fake;

static int fake_start(struct spawn *sp, const struct spawn_params *params, struct err *err)
{
	struct spawn_params plain = *params;

	g_clear_pointer(&fake.at_start, g_variant_unref);
	fake.at_start = params->properties ? g_variant_ref(params->properties) : NULL;
	plain.properties = NULL;
	return fake.real->start(sp, &plain, err);
}

static void fake_answer(const char *refusal)
{
	struct err err = { 0 };

	if (refusal)
		err_fault(&err, FAULT_BAD_ARGUMENT, EINVAL, "%s", refusal);
	fake.sp->handlers->properties_set(fake.sp->data, refusal ? &err : NULL);
}

static int on_defer(sd_event_source *source, void *userdata)
{
	(void)source;
	(void)userdata;
	fake_answer(fake.mode == REFUSE ? "systemd refuses" : NULL);
	return 0;
}

static int fake_set(struct spawn *sp, GVariant *properties, struct err *err)
{
	struct machine *vm = sp->data;

	g_clear_pointer(&fake.asked, g_variant_unref);
	fake.asked = g_variant_ref(properties);
	fake.sp = sp;
	if (fake.mode == FAIL)
		return err_set(err, EIO, "the bus is broken");
	if (fake.mode != HOLD)
		g_assert_cmpint(sd_event_add_defer(vm->manager->event, NULL, on_defer, NULL), >=,
				0);
	return 0;
}

static void fake_systemd(struct fixture *f)
{
	fake.real = f->manager->spawner->ops;
	fake.ops = *fake.real;
	fake.ops.start = fake_start;
	fake.ops.set_properties = fake_set;
	fake.mode = ANSWER;
	f->manager->spawner->ops = &fake.ops;
	g_clear_pointer(&fake.asked, g_variant_unref);
	g_clear_pointer(&fake.at_start, g_variant_unref);
}

static struct fixture *new_fixture(void)
{
	struct fixture *f = fixture_new();

	fake_systemd(f);
	return f;
}

static void restart(struct fixture *f)
{
	fixture_stop_daemon(f);
	fixture_start_daemon(f);
	fake_systemd(f);
}

static void end(struct fixture *f)
{
	fixture_free(f);
	g_clear_pointer(&fake.asked, g_variant_unref);
	g_clear_pointer(&fake.at_start, g_variant_unref);
}

static char *read_definition(struct fixture *f, const char *name)
{
	g_autofree char *path = g_strdup_printf("%s/state/%s.json", f->dir, name);
	g_autofree char *text = NULL;
	const char *at;

	g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
	at = strstr(text, "\"resource-properties\"");
	return at ? g_strndup(at, strcspn(at, "}") + 1) : g_strdup("none");
}

static void assert_stored(struct fixture *f, const char *name, const char *set, const char *json)
{
	struct machine *vm = manager_find(f->manager, name);
	g_autofree char *text = read_definition(f, name), *dense = g_strdup(text);
	char *to = dense;

	ASSERT_SET(vm->def.properties, set);
	for (const char *from = text; *from; from++)
		if (!g_ascii_isspace(*from))
			*to++ = *from;
	*to = '\0';
	g_assert_cmpstr(dense, ==, json);
}

#define W5_SET  "[('CPUWeight', <uint64 5>)]"
#define W5_JSON "\"resource-properties\":{\"CPUWeight\":5}"

#define SET(f, name, runtime, ...)                                                                 \
	fixture_vm_ok(f, name, "SetResourceProperties", "ba(sv)a{sv}", runtime, 1, __VA_ARGS__, 0)
#define SET_FAILS(f, name, error, text, runtime, ...)                                              \
	fixture_vm_fails(f, name, error, text, "SetResourceProperties", "ba(sv)a{sv}", runtime, 1, \
			 __VA_ARGS__, 0)
#define WEIGHT(n) "CPUWeight", "t", UINT64_C(n)

static void test_create(void)
{
	struct fixture *f = new_fixture();
	g_autofree char *config = fixture_config(f, "", NULL);
	struct machine *vm;
	sd_bus_message *reply;

	reply = fixture_call(f, BRUME_ROOT_PATH, BRUME_MANAGER_INTERFACE, "CreateVM",
			     "ssa{sh}a{sv}", "p", config, 0, 1, "WorkerProperties", "a(sv)", 4,
			     WEIGHT(5), "AllowedCPUs", "ay", 1, 3, "MemoryMax", "t", UINT64_MAX,
			     "IOReadIOPSMax", "a(st)", 1, "/dev/sda", UINT64_C(9));
	g_assert_cmpstr(f->error.message, ==, NULL);
	sd_bus_message_unref(reply);
	vm = manager_find(f->manager, "p");
	ASSERT_SET(
		vm->def.properties,
		"[('MemoryMax', <uint64 18446744073709551615>), ('CPUWeight', <uint64 5>), "
		"('AllowedCPUs', <[byte 0x03]>), ('IOReadIOPSMax', <[('/dev/sda', uint64 9)]>)]");
	restart(f);
	fixture_vm_ok(f, "p", "Start", WAIT);
	vm = manager_find(f->manager, "p");
	g_assert_true(g_variant_equal(fake.at_start, vm->def.properties));
	/* A transient one has them where a running one is kept. */
	reply = fixture_call(f, BRUME_ROOT_PATH, BRUME_MANAGER_INTERFACE, "CreateVM",
			     "ssa{sh}a{sv}", "t", config, 0, 2, "Persistent", "b", 0,
			     "WorkerProperties", "a(sv)", 1, WEIGHT(5));
	g_assert_cmpstr(f->error.message, ==, NULL);
	sd_bus_message_unref(reply);
	fixture_vm_ok(f, "t", "Start", WAIT);
	restart(f);
	ASSERT_SET(manager_find(f->manager, "t")->def.properties, W5_SET);
	end(f);
}

#define CREATE_FAILS(f, error, text, ...)                                                          \
	do {                                                                                       \
		g_assert_null(fixture_call(f, BRUME_ROOT_PATH, BRUME_MANAGER_INTERFACE,            \
					   "CreateVM", "ssa{sh}a{sv}", "n", config, 0, 1,          \
					   "WorkerProperties", __VA_ARGS__));                      \
		fixture_assert_error(f, error, text);                                              \
		g_assert_cmpuint(g_hash_table_size(f->manager->machines), ==, 0);                  \
	} while (0)

static void test_create_bad(void)
{
	struct fixture *f = new_fixture();
	g_autofree char *config = fixture_config(f, "", NULL);

	CREATE_FAILS(f, INVALID_ARGS, "option 'WorkerProperties' has type 's', must be 'a(sv)'",
		     "s", "CPUWeight=5");
	CREATE_FAILS(f, INVALID_ARGS, "property 'ExecStart' is not one that a VM can be given",
		     "a(sv)", 1, "ExecStart", "s", "/bin/sh");
	CREATE_FAILS(f, INVALID_ARGS, "property 'CPUWeight' has type 's', must be 't'", "a(sv)", 1,
		     "CPUWeight", "s", "5");
	CREATE_FAILS(f, INVALID_ARGS, "option 'WorkerProperties': a file descriptor ('h')", "a(sv)",
		     1, "CPUWeight", "h", STDERR_FILENO);
	fake.ops.set_properties = NULL;
	CREATE_FAILS(f, NOT_SUPPORTED, "resource properties need workers in units of systemd",
		     "a(sv)", 1, WEIGHT(5));
	end(f);
}

static void test_stopped(void)
{
	struct fixture *f = new_fixture();

	fixture_create(f, "s", "", true);
	SET_FAILS(f, "s", "InvalidState",
		  "cannot set resource properties at run time of VM 's': it is stopped", 1,
		  WEIGHT(5));
	SET_FAILS(f, "s", INVALID_ARGS, "property 'CPUWeight': 20000 is out of range", 0,
		  WEIGHT(20000));
	fixture_vm_fails(f, "s", INVALID_ARGS, "no resource property is given",
			 "SetResourceProperties", "ba(sv)a{sv}", 0, 0, 0);
	fixture_vm_fails(f, "s", INVALID_ARGS, "unknown option 'Wait'", "SetResourceProperties",
			 "ba(sv)a{sv}", 0, 1, WEIGHT(5), 1, "Wait", "b", 1);
	/* One that is wrong keeps the others out. */
	fixture_vm_fails(f, "s", INVALID_ARGS, "property 'TasksMax': 0 is out of range",
			 "SetResourceProperties", "ba(sv)a{sv}", 0, 2, WEIGHT(5), "TasksMax", "t",
			 UINT64_C(0), 0);
	assert_stored(f, "s", "none", "none");

	SET(f, "s", 0, WEIGHT(5));
	assert_stored(f, "s", W5_SET, W5_JSON);
	SET(f, "s", 0, "Nice", "i", 7);
	assert_stored(f, "s", "[('CPUWeight', <uint64 5>), ('Nice', <7>)]",
		      "\"resource-properties\":{\"CPUWeight\":5,\"Nice\":7}");
	g_assert_null(fake.asked);
	restart(f);
	SET(f, "s", 0, "Nice", "i", 0);
	SET(f, "s", 0, "CPUWeight", "t", UINT64_MAX);
	assert_stored(f, "s", "[('Nice', <0>)]", "\"resource-properties\":{\"Nice\":0}");
	fixture_vm_ok(f, "s", "Start", WAIT);
	ASSERT_SET(fake.at_start, "[('Nice', <0>)]");
	end(f);
}

static void test_running(void)
{
	struct fixture *f = new_fixture();

	fixture_create(f, "r", "", true);
	fixture_vm_ok(f, "r", "Start", WAIT);
	g_assert_null(fake.at_start);
	/* both */
	SET(f, "r", 0, WEIGHT(5));
	ASSERT_SET(fake.asked, W5_SET);
	assert_stored(f, "r", W5_SET, W5_JSON);
	/* the unit only */
	SET(f, "r", 1, WEIGHT(9));
	ASSERT_SET(fake.asked, "[('CPUWeight', <uint64 9>)]");
	assert_stored(f, "r", W5_SET, W5_JSON);
	/* the definition only: it is the process's */
	SET_FAILS(f, "r", INVALID_ARGS,
		  "property 'Nice' belongs to the process and cannot be changed at run time", 1,
		  "Nice", "i", 3);
	g_clear_pointer(&fake.asked, g_variant_unref);
	SET(f, "r", 0, "Nice", "i", 3);
	g_assert_null(fake.asked);
	/* systemd needs to be told of what is back at its own */
	SET(f, "r", 0, "CPUWeight", "t", UINT64_MAX);
	ASSERT_SET(fake.asked, "[('CPUWeight', <uint64 18446744073709551615>)]");
	assert_stored(f, "r", "[('Nice', <3>)]", "\"resource-properties\":{\"Nice\":3}");
	end(f);
}

static void test_refused(void)
{
	struct fixture *f = new_fixture();

	fixture_create(f, "r", "", true);
	SET(f, "r", 0, WEIGHT(5));
	fixture_vm_ok(f, "r", "Start", WAIT);
	fake.mode = REFUSE;
	SET_FAILS(f, "r", INVALID_ARGS, "systemd refuses", 0, WEIGHT(9));
	assert_stored(f, "r", W5_SET, W5_JSON);
	SET_FAILS(f, "r", INVALID_ARGS, "systemd refuses", 1, WEIGHT(9));
	fake.mode = FAIL;
	SET_FAILS(f, "r", "org.freedesktop.DBus.Error.IOError", "the bus is broken", 0, WEIGHT(9));
	assert_stored(f, "r", W5_SET, W5_JSON);
	fake.mode = ANSWER;
	SET(f, "r", 0, WEIGHT(7));
	end(f);
}

/* A disk that takes nothing more: systemd is not even asked. */
static void test_disk_full(void)
{
	struct fixture *f = new_fixture();
	g_autofree char *blocker = g_build_filename(f->dir, "state", "r.json.new", NULL);

	fixture_create(f, "r", "", true);
	fixture_vm_ok(f, "r", "Start", WAIT);
	g_assert_cmpint(g_mkdir(blocker, 0700), ==, 0);
	SET_FAILS(f, "r", "org.freedesktop.DBus.Error.Failed", "r.json", 0, WEIGHT(9));
	g_assert_null(fake.asked);
	assert_stored(f, "r", "none", "none");
	SET(f, "r", 1, WEIGHT(9));
	end(f);
}

struct waiting {
	bool done;
	char *error;
};

static int on_waited(sd_bus_message *reply, void *userdata, sd_bus_error *error)
{
	const sd_bus_error *e = sd_bus_message_get_error(reply);
	struct waiting *waiting = userdata;

	(void)error;
	waiting->done = true;
	waiting->error = e ? g_strdup_printf("%s: %s", e->name, e->message) : NULL;
	return 1;
}

/* Sent; systemd has got it and is silent. */
static void send_held(struct fixture *f, const char *name, int runtime, struct waiting *waiting)
{
	_cleanup_free_ char *path = bus_path_vm(name);

	fake.mode = HOLD;
	g_clear_pointer(&fake.asked, g_variant_unref);
	g_assert_cmpint(sd_bus_call_method_async(f->client, NULL, NULL, path, BRUME_VM_INTERFACE,
						 "SetResourceProperties", on_waited, waiting,
						 "ba(sv)a{sv}", runtime, 1, WEIGHT(5), 0),
			>=, 0);
	while (!fake.asked)
		fixture_turn(f, 1000000);
}

static void await(struct fixture *f, struct waiting *waiting)
{
	while (!waiting->done)
		fixture_turn(f, 1000000);
}

static void test_pending(void)
{
	struct fixture *f = new_fixture();
	struct waiting first = { 0 };

	fixture_create(f, "r", "", true);
	fixture_vm_ok(f, "r", "Start", WAIT);
	send_held(f, "r", 0, &first);
	SET_FAILS(f, "r", "Busy", "systemd has not answered to an earlier change", 0, WEIGHT(6));
	/* Another change of the definition in the meantime is not lost by putting this back. */
	fixture_vm_ok(f, "r", "SetAutostart", "ba{sv}", 1, 0);
	g_assert_false(first.done);
	fake_answer("no such controller");
	await(f, &first);
	g_assert_cmpstr(first.error, ==, INVALID_ARGS ": no such controller");
	assert_stored(f, "r", "none", "none");
	fixture_assert_property(f, "r", "Autostart", "1");
	g_free(first.error);
	end(f);
}

static void test_ends_meanwhile(void)
{
	struct fixture *f = new_fixture();
	struct waiting both = { 0 }, unit = { 0 };

	fixture_create(f, "r", "", true);
	fixture_vm_ok(f, "r", "Start", WAIT);
	send_held(f, "r", 1, &unit);
	fixture_vm_ok(f, "r", "Terminate", NONE);
	await(f, &unit);
	g_assert_cmpstr(
		unit.error, ==,
		"org.brume.vm1.InvalidState: VM 'r' has ended before systemd changed its unit");
	assert_stored(f, "r", "none", "none");
	fixture_vm_ok(f, "r", "Start", WAIT);
	send_held(f, "r", 0, &both);
	fixture_vm_ok(f, "r", "Terminate", NONE);
	await(f, &both);
	g_assert_null(both.error);
	assert_stored(f, "r", W5_SET, W5_JSON);
	fixture_vm_ok(f, "r", "Start", WAIT);
	ASSERT_SET(fake.at_start, W5_SET);
	g_free(unit.error);
	end(f);
}

/* Nobody was told that it is done; what there is, is whole. */
static void test_daemon_ends_meanwhile(void)
{
	struct fixture *f = new_fixture();
	struct waiting lost = { 0 };

	fixture_create(f, "r", "", true);
	fixture_vm_ok(f, "r", "Start", WAIT);
	send_held(f, "r", 0, &lost);
	restart(f);
	fixture_assert_property(f, "r", "State", "running");
	assert_stored(f, "r", W5_SET, W5_JSON);
	SET(f, "r", 0, WEIGHT(5));
	ASSERT_SET(fake.asked, W5_SET);
	g_free(lost.error);
	end(f);
}

static void test_describe(void)
{
	struct fixture *f = new_fixture();
	_cleanup_free_ char *path = bus_path_vm("d");
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
	const char *text;

	fixture_create(f, "d", "", true);
	SET(f, "d", 0, WEIGHT(5));
	reply = fixture_call(f, path, BRUME_VM_INTERFACE, "Describe", NULL);
	g_assert_cmpint(sd_bus_message_read(reply, "s", &text), >, 0);
	g_assert_nonnull(strstr(text, "\"resource-properties\": {\n    \"CPUWeight\": 5\n  }"));
	end(f);
}

/* A definition that somebody has edited into nonsense is set aside with a reason, not half used. */
static void test_damaged(void)
{
	struct fixture *f = new_fixture();
	g_autofree char *path = g_build_filename(f->dir, "state", "d.json", NULL);
	g_autofree char *aside = g_strdup_printf("%s.damaged", path);
	g_autofree char *text = NULL;
	char *at;

	fixture_create(f, "d", "", true);
	SET(f, "d", 0, WEIGHT(5));
	g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
	at = strstr(text, "\"CPUWeight\"");
	g_assert_nonnull(at);
	memcpy(at, "\"ExecStart\"", strlen("\"ExecStart\""));
	fixture_stop_daemon(f);
	g_assert_true(g_file_set_contents(path, text, -1, NULL));
	fixture_start_daemon(f);
	fake_systemd(f);
	g_assert_null(manager_find(f->manager, "d"));
	g_assert_cmpint(access(aside, F_OK), ==, 0);
	end(f);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/daemon/properties/ranges", test_ranges);
	g_test_add_func("/daemon/properties/types", test_types);
	g_test_add_func("/daemon/properties/sentences", test_sentences);
	g_test_add_func("/daemon/properties/big", test_big);
	g_test_add_func("/daemon/properties/masks", test_masks);
	g_test_add_func("/daemon/properties/json", test_json);
	g_test_add_func("/daemon/properties/merge", test_merge);
	g_test_add_func("/daemon/properties/live", test_live);
	g_test_add_func("/daemon/properties/create", test_create);
	g_test_add_func("/daemon/properties/create-bad", test_create_bad);
	g_test_add_func("/daemon/properties/stopped", test_stopped);
	g_test_add_func("/daemon/properties/running", test_running);
	g_test_add_func("/daemon/properties/refused", test_refused);
	g_test_add_func("/daemon/properties/disk-full", test_disk_full);
	g_test_add_func("/daemon/properties/pending", test_pending);
	g_test_add_func("/daemon/properties/ends-meanwhile", test_ends_meanwhile);
	g_test_add_func("/daemon/properties/daemon-ends-meanwhile", test_daemon_ends_meanwhile);
	g_test_add_func("/daemon/properties/describe", test_describe);
	g_test_add_func("/daemon/properties/damaged", test_damaged);
	return g_test_run();
}
