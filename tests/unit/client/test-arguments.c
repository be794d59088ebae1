/* SPDX-License-Identifier: Apache-2.0 */
#include <glib.h>
#include <string.h>

#include "dbus/client/arguments.h"
#include "dbus/client/verbs.h"
#include "vmm/config/config.h"
#include "vmm/config/device-list.h"
#include "vmm/config/tables.h"

static const struct {
	const char *text;
	bool good;
	uint64_t usec;
} durations[] = {
	{ "90", true, 90000000 },
	{ "1.5", true, 1500000 },
	{ "500ms", true, 500000 },
	{ "2min", true, 120000000 },
	{ "1h", true, 3600000000u },
	{ "3s", true, 3000000 },
	{ "0", true, 0 },
	{ "7us", true, 7 },
	{ "infinity", true, UINT64_MAX },
	{ "", false, 0 },
	{ "-1", false, 0 },
	{ "abc", false, 0 },
	{ "5 parsec", false, 0 },
	{ "nan", false, 0 },
	{ "1e300", false, 0 },
};

static void test_duration(void)
{
	for (size_t i = 0; i < G_N_ELEMENTS(durations); i++) {
		uint64_t usec = 0;

		g_test_message("%s", durations[i].text);
		g_assert_cmpint(parse_duration(durations[i].text, &usec), ==, durations[i].good);
		g_assert_cmpuint(usec, ==, durations[i].usec);
	}
}

static const struct {
	const char *text;
	bool good;
	uint64_t n;
} counts[] = {
	{ "0", true, 0 },
	{ "4096", true, 4096 },
	{ "10M", true, 10 << 20 },
	{ "2g", true, UINT64_C(2) << 30 },
	{ "16777215T", true, UINT64_C(16777215) << 40 },
	{ "18446744073709551615", true, UINT64_MAX },
	{ "18446744073709551616", false, 0 },
	{ "16777216T", false, 0 },
	{ "", false, 0 },
	{ "-1", false, 0 },
	{ " 1", false, 0 },
	{ "1.5G", false, 0 },
	{ "1GB", false, 0 },
	{ "M", false, 0 },
};

static void test_count(void)
{
	for (size_t i = 0; i < G_N_ELEMENTS(counts); i++) {
		uint64_t n = 0;
		bool good = parse_count(counts[i].text, &n);

		g_test_message("%s", counts[i].text);
		g_assert_cmpint(good, ==, counts[i].good);
		if (good)
			g_assert_cmpuint(n, ==, counts[i].n);
	}
}

/* The words of a line as argv; g_strfreev() it. */
static char **words(const char *line, int *ret_argc)
{
	char **argv = g_strsplit(line, " ", -1);

	*ret_argc = (int)g_strv_length(argv);
	return argv;
}

static void test_followers(void)
{
	static const char *const expected[][2] = {
		{ "disk", "path=a" }, { "disk", "path=b,readonly=on" },
		{ "disk", "path=c" }, { "net", "tap=t0" },
		{ "net", "tap=t1" },  { "cpus", "boot=4" },
	};
	struct arguments a;
	g_autofree char **argv = NULL;
	g_auto(GStrv) owner = NULL;
	int argc;

	owner = words("x web1 --disk path=a path=b,readonly=on --disk path=c --net tap=t0 tap=t1 "
		      "--cpus boot=4",
		      &argc);
	argv = g_memdup2(owner, sizeof(char *) * (size_t)(argc + 1));
	arguments_init(&a);
	g_assert_cmpint(arguments_parse(&a, argc, argv, GROUP_VM, false), >, 0);
	g_assert_cmpint(a.n_positional, ==, 1);
	g_assert_cmpstr(a.positional[0], ==, "web1");
	g_assert_cmpuint(a.vm_options->len, ==, G_N_ELEMENTS(expected));
	for (unsigned int i = 0; i < a.vm_options->len; i++) {
		struct vm_option *option = &g_array_index(a.vm_options, struct vm_option, i);

		g_assert_cmpstr(option->section, ==, expected[i][0]);
		g_assert_cmpstr(option->text, ==, expected[i][1]);
	}
	arguments_deinit(&a);
}

static void test_stops_at_verb(void)
{
	g_autofree char **argv = NULL;
	g_auto(GStrv) owner = NULL;
	struct arguments a;
	int argc;

	owner = words("brumectl --json -H host start --paused web1", &argc);
	argv = g_memdup2(owner, sizeof(char *) * (size_t)(argc + 1));
	arguments_init(&a);
	g_assert_cmpint(arguments_parse(&a, argc, argv, GROUP_GLOBAL, true), ==, 4);
	g_assert_true(a.json);
	g_assert_cmpstr(a.host, ==, "host");
	g_assert_cmpint(arguments_parse(&a, argc - 4, argv + 4, GROUP_GLOBAL | GROUP_START, false),
			>, 0);
	g_assert_true(a.paused);
	g_assert_true(a.json);
	g_assert_cmpstr(a.positional[0], ==, "web1");
	arguments_deinit(&a);
}

/* --console has three meanings; each verb knows one. */
static void test_groups(void)
{
	static const struct {
		unsigned int groups;
		const char *line;
	} cases[] = {
		{ GROUP_START, "x --console web1" },
		{ GROUP_CONSOLE, "x --console serial web1" },
		{ GROUP_VM, "x --console off web1" },
	};

	for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
		g_autofree char **argv = NULL;
		g_auto(GStrv) owner = NULL;
		struct arguments a;
		int argc;

		owner = words(cases[i].line, &argc);
		argv = g_memdup2(owner, sizeof(char *) * (size_t)(argc + 1));
		arguments_init(&a);
		g_assert_cmpint(arguments_parse(&a, argc, argv, cases[i].groups, false), >, 0);
		g_assert_cmpint(a.attach, ==, i == 0);
		g_assert_cmpstr(a.console_name, ==, i == 1 ? "serial" : NULL);
		g_assert_cmpuint(a.vm_options->len, ==, i == 2 ? 1 : 0);
		g_assert_cmpint(a.n_positional, ==, 1);
		arguments_deinit(&a);
	}
}

/* The text of a file of the source tree. */
static char *source_file(const char *path)
{
	g_autofree char *full = g_build_filename(g_getenv("SOURCE_ROOT"), path, NULL);
	char *text = NULL;
	g_autoptr(GError) error = NULL;

	if (!g_file_get_contents(full, &text, NULL, &error))
		g_error("%s", error->message);
	return text;
}

static void check_mentioned(const char *file, const char *option)
{
	g_autofree char *text = source_file(file), *plain = NULL, *pattern = NULL;
	g_auto(GStrv) parts = g_strsplit(text, "\\-", -1); /* roff's hyphen */

	plain = g_strjoinv("-", parts);
	pattern = g_strdup_printf("--%s(?![-a-z])", option);
	if (!g_regex_match_simple(pattern, plain, 0, 0))
		g_error("%s does not know --%s", file, option);
}

/* What repeats is listed behind one sentence. */
static bool is_said_to_repeat(const char *option)
{
	g_autofree char *text = source_file("docs/man/brumectl.1");
	g_auto(GStrv) parts = g_strsplit(option, "-", -1), rest = NULL, lines = NULL;
	g_autofree char *name = g_strjoinv("\\-", parts);

	rest = g_strsplit(text, "may be given several times, and take several values:\n", 2);
	g_assert_nonnull(rest[1]);
	lines = g_strsplit(rest[1], "\n", -1);
	for (char **line = lines; g_str_has_prefix(*line, ".BR \\-\\-"); line++) {
		g_auto(GStrv) words = g_strsplit(*line, " ", -1);

		if (strcmp(words[1] + strlen("\\-\\-"), name) == 0)
			return true;
	}
	return false;
}

static void check_option(const struct config_field *field)
{
	static const char *const files[] = { "docs/man/brumectl.1", "dbus/client/verbs.c",
					     "dbus/client/completion/brumectl",
					     "dbus/client/completion/_brumectl" };
	const char *option = field->option ?: field->key;
	g_autofree char *line = g_strdup_printf("x --%s a=b c=d", option);
	g_autofree char **argv = NULL;
	g_auto(GStrv) owner = NULL;
	struct arguments a;
	bool list = field->kind == CONFIG_LIST;
	int argc;

	g_test_message("--%s", option);
	owner = words(line, &argc);
	argv = g_memdup2(owner, sizeof(char *) * (size_t)(argc + 1));
	arguments_init(&a);
	g_assert_cmpint(arguments_parse(&a, argc, argv, GROUP_VM, false), >, 0);
	g_assert_cmpuint(a.vm_options->len, ==, list ? 2 : 1);
	g_assert_cmpstr(g_array_index(a.vm_options, struct vm_option, 0).section, ==, option);
	arguments_deinit(&a);
	for (size_t i = 0; i < G_N_ELEMENTS(files); i++)
		check_mentioned(files[i], option);
	g_assert_cmpint(is_said_to_repeat(option), ==, list);
}

/* Every row of a definition is an option, in the parser, help, manual and completions. */
static void test_definition(void)
{
	static const struct config_table *const tables[] = { &vm_table, &payload_table };

	for (size_t i = 0; i < G_N_ELEMENTS(tables); i++)
		for (size_t j = 0; j < tables[i]->n_fields; j++)
			if (tables[i]->fields[j].kind != CONFIG_LATER &&
			    tables[i]->fields[j].table != &payload_table)
				check_option(&tables[i]->fields[j]);
}

static void check_contains(const char *file, const char *words)
{
	g_autofree char *text = source_file(file);

	if (!strstr(text, words))
		g_error("%s does not say \"%s\"", file, words);
}

/* What "device add" takes is what can be plugged in, in the help and the completions too. */
static void test_kinds(void)
{
	g_autoptr(GString) spaced = g_string_new(NULL), said = g_string_new(NULL);
	const char *last = NULL;

	for (size_t i = 0; i < vm_table.n_fields; i++) {
		const struct config_field *field = &vm_table.fields[i];

		if (field->kind == CONFIG_LATER || !config_device_is_removable(field->key))
			continue;
		if (last) {
			g_string_append_printf(spaced, "%s ", last);
			g_string_append_printf(said, "%s%s", said->len ? ", " : "", last);
		}
		last = field->option ?: field->key;
	}
	g_assert_nonnull(last);
	g_string_append(spaced, last);
	g_string_append_printf(said, " or %s", last);
	check_contains("dbus/client/completion/brumectl", spaced->str);
	check_contains("dbus/client/completion/_brumectl", spaced->str);
	check_contains("dbus/client/verbs.c", said->str);
}

/* No verb may take two groups that give one name two meanings. */
static void test_verbs(void)
{
	for (size_t i = 0; i < n_verbs; i++) {
		unsigned int consoles = verbs[i].groups & (GROUP_START | GROUP_CONSOLE | GROUP_VM);

		g_assert_true((consoles & (consoles - 1)) == 0);
		g_assert_true(verb_find(verbs[i].name) == &verbs[i]);
		g_assert_cmpint(verbs[i].min, <=, verbs[i].max);
		g_assert_nonnull(verbs[i].run);
	}
	g_assert_null(verb_find("frobnicate"));
	g_assert_true(verb_is_family("device"));
	g_assert_false(verb_is_family("devices"));
	g_assert_false(verb_is_family("device add"));
	g_assert_false(verb_is_family(""));
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/client/arguments/duration", test_duration);
	g_test_add_func("/client/arguments/count", test_count);
	g_test_add_func("/client/arguments/followers", test_followers);
	g_test_add_func("/client/arguments/stops-at-verb", test_stops_at_verb);
	g_test_add_func("/client/arguments/groups", test_groups);
	g_test_add_func("/client/arguments/definition", test_definition);
	g_test_add_func("/client/arguments/kinds", test_kinds);
	g_test_add_func("/client/verbs/table", test_verbs);
	return g_test_run();
}
