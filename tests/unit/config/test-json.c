/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The JSON reader and writer
 */
#include <errno.h>

#include "definition.h"

static const struct {
	const char *text, *variant;
} good_cases[] = {
	{ "{}", "@a{sv} {}" },
	{ " [ ] ", "@av []" },
	{ "0", "int64 0" },
	{ "-0", "int64 0" },
	{ "9223372036854775807", "int64 9223372036854775807" },
	{ "-9223372036854775808", "int64 -9223372036854775808" },
	{ "9223372036854775808", "uint64 9223372036854775808" },
	{ "18446744073709551615", "uint64 18446744073709551615" },
	{ "1.5", "1.5" },
	{ "2e3", "2000.0" },
	{ "1E-2", "0.01" },
	{ "true", "true" },
	{ "null", "@mv nothing" },
	{ "\"\"", "''" },
	{ "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "'\"\\\\/\\b\\f\\n\\r\\t'" },
	{ "\"\\u00e9\\u20AC\\ud83d\\ude00\"", "'\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80'" },
	{ "{\"a\":[1,{\"b\":null}],\"c\":\"d\"}",
	  "{'a': <[<int64 1>, <{'b': <@mv nothing>}>]>, 'c': <'d'>}" },
};

static void test_good(void)
{
	for (size_t i = 0; i < G_N_ELEMENTS(good_cases); i++) {
		g_autoptr(GVariant) value = NULL, again = NULL;
		g_autofree char *print = NULL, *text = NULL;
		struct err err = { 0 };

		g_test_message("%s", good_cases[i].text);
		g_assert_cmpint(config_json_parse(good_cases[i].text, strlen(good_cases[i].text),
						  &value, &err),
				==, 0);
		print = g_variant_print(value, TRUE);
		g_assert_cmpstr(print, ==, good_cases[i].variant);
		for (int pretty = 0; pretty < 2; pretty++) {
			g_clear_pointer(&again, g_variant_unref);
			g_clear_pointer(&text, g_free);
			text = config_json_print(value,
						 pretty ? CONFIG_JSON_PRETTY : CONFIG_JSON_COMPACT);
			g_assert_cmpint(config_json_parse(text, strlen(text), &again, &err), ==, 0);
			g_assert_true(g_variant_equal(value, again));
		}
	}
}

static const struct {
	const char *text, *error;
} bad_cases[] = {
	{ "", "line 1, column 1: text ends here, must have a value" },
	{ "  \n ", "line 2, column 2: text ends here, must have a value" },
	{ "{", "line 1, column 2: text ends here, must have a string in double quotes" },
	{ "{\"a\"", "line 1, column 5: text ends here, must have ':'" },
	{ "{\"a\":", "line 1, column 6: text ends here, must have a value" },
	{ "{\"a\":1", "line 1, column 7: text ends here, must have ',' or '}'" },
	{ "[1", "line 1, column 3: text ends here, must have ',' or ']'" },
	{ "{\n  \"a\": 1,\n}", "line 3, column 1: must be a string in double quotes, is '}'" },
	{ "[1,]", "line 1, column 4: must be a value, is ']'" },
	{ "[1 2]", "line 1, column 4: must be ',' or ']', is '2'" },
	{ "{'a':1}", "line 1, column 2: must be a string in double quotes, is '''" },
	{ "{a:1}", "line 1, column 2: must be a string in double quotes, is 'a'" },
	{ "{\"a\" 1}", "line 1, column 6: must be ':', is '1'" },
	{ "{} x", "line 1, column 4: must be the end of the text, is 'x'" },
	{ "/* */ {}", "line 1, column 1: must be a value, is '/'" },
	{ "nul", "line 1, column 1: must be a value, is 'n'" },
	{ "truex", "line 1, column 1: must be a value, is 't'" },
	{ "NaN", "line 1, column 1: must be a value, is 'N'" },
	{ "+1", "line 1, column 1: must be a value, is '+'" },
	{ "-", "line 1, column 2: text ends here, must have a digit" },
	{ "010", "line 1, column 1: numbers must not start with 0" },
	{ "0x10", "line 1, column 2: must be the end of the text, is 'x'" },
	{ "1.", "line 1, column 3: text ends here, must have a digit" },
	{ ".5", "line 1, column 1: must be a value, is '.'" },
	{ "1e", "line 1, column 3: text ends here, must have a digit" },
	{ "1e999", "line 1, column 1: number is too large" },
	{ "18446744073709551616", "line 1, column 1: integer is too large, must fit 64 bits" },
	{ "-9223372036854775809", "line 1, column 1: integer is too large, must fit 64 bits" },
	{ "\"abc", "line 1, column 5: text ends here, must have the rest of the string" },
	{ "\"a\nb\"", "line 1, column 3: control characters must be escaped in strings" },
	{ "\"\\x\"",
	  "line 1, column 2: unknown escape, must be one of \\\" \\\\ \\/ \\b \\f \\n \\r \\t \\u" },
	{ "\"\\u12g4\"", "line 1, column 2: must be four hexadecimal digits after '\\u'" },
	{ "\"\\u0000\"", "line 1, column 2: strings must not hold NUL" },
	{ "\"\\ud83d\"", "line 1, column 2: surrogate must be followed by its second half" },
	{ "\"\\ud83d\\u0041\"", "line 1, column 2: surrogate must be followed by its second half" },
	{ "\"\\ude00\"", "line 1, column 2: surrogate must follow its first half" },
	{ "\"\\", "line 1, column 3: text ends here, must have the rest of the string" },
	{ "\"\xff\"", "line 1, column 2: text is not UTF-8" },
	{ "[\"\xe2\x82\xac\", x]", "line 1, column 7: must be a value, is 'x'" },
	{ "{\"a\":1,\n \"b\":2, \"a\":3}", "line 2, column 9: key 'a' is given twice" },
	{ "{\"a\":1,\"\\u0061\":3}", "line 1, column 8: key 'a' is given twice" },
};

static void test_bad(void)
{
	for (size_t i = 0; i < G_N_ELEMENTS(bad_cases); i++) {
		/* An exact copy, not NUL-terminated: reading past the end is a sanitizer's find. */
		size_t len = strlen(bad_cases[i].text);
		g_autofree char *text = g_memdup2(bad_cases[i].text, len);
		GVariant *value = NULL;
		struct err err = { 0 };
		int r;

		r = config_json_parse(text, len, &value, &err);
		g_assert_cmpstr(err.msg, ==, bad_cases[i].error);
		g_assert_cmpint(r, ==, -EINVAL);
		g_assert_cmpint(err.fault, ==, FAULT_BAD_CONFIG);
		g_assert_null(value);
	}
}

static void test_nul_in_text(void)
{
	GVariant *value = NULL;
	struct err err = { 0 };

	g_assert_cmpint(config_json_parse("{}\0{}", 5, &value, &err), ==, -EINVAL);
	g_assert_cmpstr(err.msg, ==, "line 1, column 3: text is not UTF-8");
}

/* Unprivileged callers send these to a daemon. */
static void test_deep(void)
{
	g_autofree char *brackets = g_strnfill(400000, '['), *allowed = NULL;
	GVariant *value = NULL;
	struct err err = { 0 };

	g_assert_cmpint(config_json_parse(brackets, 400000, &value, &err), ==, -EINVAL);
	g_assert_cmpstr(err.msg, ==, "line 1, column 33: too deep, must be at most 32 levels");

	err_clear(&err);
	allowed = g_strnfill(2 * CONFIG_JSON_DEPTH_MAX, ']');
	memset(allowed, '[', CONFIG_JSON_DEPTH_MAX);
	g_assert_cmpint(config_json_parse(allowed, strlen(allowed), &value, &err), ==, 0);
	g_variant_unref(value);
}

static void test_long(void)
{
	g_autofree char *text = g_strnfill(CONFIG_JSON_MAX + 1, ' ');
	GVariant *value = NULL;
	struct err err = { 0 };

	g_assert_cmpint(config_json_parse(text, CONFIG_JSON_MAX + 1, &value, &err), ==, -EINVAL);
	g_assert_cmpstr(err.msg, ==, "text of 524289 bytes is too long, must be at most 524288");
}

/* Small values cost much more than their text. */
static void test_many(void)
{
	g_autoptr(GString) text = g_string_new("[0");
	GVariant *value = NULL;
	struct err err = { 0 };

	/* The array itself is one. */
	for (unsigned int i = 2; i < CONFIG_JSON_VALUES_MAX; i++)
		g_string_append(text, ",0");
	g_string_append_c(text, ']');
	g_assert_cmpint(config_json_parse(text->str, text->len, &value, &err), ==, 0);
	g_clear_pointer(&value, g_variant_unref);

	g_string_insert(text, 1, "0,");
	g_assert_cmpint(config_json_parse(text->str, text->len, &value, &err), ==, -EINVAL);
	g_assert_cmpstr(err.msg, ==,
			"line 1, column 200000: too many values, must be at most 100000 in all");
	g_assert_cmpint(err.fault, ==, FAULT_BAD_CONFIG);
	/* Not for our own files, which hold more than one configuration. */
	err_clear(&err);
	g_assert_cmpint(config_json_parse_max(text->str, text->len, text->len, &value, &err), ==,
			0);
	g_clear_pointer(&value, g_variant_unref);
}

static void test_print(void)
{
	static const struct {
		const char *variant, *text;
	} cases[] = {
		{ "{'a': <1>, 'b': <'x'>}", "{\"a\":1,\"b\":\"x\"}" },
		{ "[(byte 1, uint16 2, 'a', true)]", "[[1,2,\"a\",true]]" },
		{ "objectpath '/a'", "\"/a\"" },
		{ "@as []", "[]" },
		{ "@a{sv} {}", "{}" },
		{ "{'a': {'b': uint64 18446744073709551615}}",
		  "{\"a\":{\"b\":18446744073709551615}}" },
		{ "{1: 'a'}", "[[1,\"a\"]]" },
		{ "@mi nothing", "null" },
		{ "@mi 3", "3" },
		{ "5.0", "5.0" },
		{ "0.1", "0.10000000000000001" },
		{ "'\\u007f\\u0001'", "\"\\u007f\\u0001\"" },
	};
	g_autoptr(GVariant) tree = g_variant_ref_sink(
		g_variant_new_parsed("{'a': <[1, 2]>, 'b': <@as []>, 'c': <{'d': <true>}>}"));
	g_autoptr(GVariant) infinity = g_variant_ref_sink(g_variant_new_double(1e308 * 10));
	g_autofree char *pretty = config_json_print(tree, CONFIG_JSON_PRETTY);
	g_autofree char *none = config_json_print(infinity, CONFIG_JSON_COMPACT);

	for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
		g_autoptr(GVariant) v = g_variant_parse(NULL, cases[i].variant, NULL, NULL, NULL);
		g_autofree char *text = config_json_print(v, CONFIG_JSON_COMPACT);

		g_assert_cmpstr(text, ==, cases[i].text);
	}
	g_assert_cmpstr(pretty, ==,
			"{\n  \"a\": [\n    1,\n    2\n  ],\n  \"b\": [],\n  \"c\": {\n"
			"    \"d\": true\n  }\n}\n");
	g_assert_cmpstr(none, ==, "null");
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/config/json/parse/good", test_good);
	g_test_add_func("/config/json/parse/bad", test_bad);
	g_test_add_func("/config/json/parse/nul", test_nul_in_text);
	g_test_add_func("/config/json/parse/deep", test_deep);
	g_test_add_func("/config/json/parse/long", test_long);
	g_test_add_func("/config/json/parse/many", test_many);
	g_test_add_func("/config/json/print", test_print);
	return g_test_run();
}
