/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/base/state.h"

#include <glib.h>

#include "vmm/base/err.h"

struct inner {
	uint16_t a, b;
};

struct outer {
	uint64_t big;
	struct inner one, many[2];
	uint32_t array[3];
	uint8_t flags[7];
	bool on;
};

static const struct state_field inner_fields[] = {
	STATE_U16(struct inner, a),
	STATE_U16(struct inner, b),
};
static const struct state_desc inner_desc = { "inner", .version = 1,
					      STATE_LAYOUT(struct inner, inner_fields) };

static const struct state_field outer_fields[] = {
	STATE_U64(struct outer, big),
	STATE_STRUCT(struct outer, one, &inner_desc),
	STATE_STRUCT_ARRAY(struct outer, many, &inner_desc),
	STATE_ARRAY_U32(struct outer, array),
	STATE_BYTES(struct outer, flags),
	STATE_BOOL(struct outer, on),
};

static void test_tiles(void)
{
	const struct state_desc desc = { "outer", .version = 1,
					 STATE_LAYOUT(struct outer, outer_fields) };
	struct err err = { 0 };

	g_assert_true(state_desc_tiles(&desc, &err));
	g_assert_cmpstr(err.msg, ==, "");
}

static void test_forgotten(void)
{
	static const struct {
		const char *name;
		size_t skip;
		const char *text;
	} cases[] = {
		{ "the first", 0, "outer: field 'one' starts at byte 8, the one before ends at 0" },
		{ "in the middle", 3,
		  "outer: field 'flags' starts at byte 32, the one before ends at 20" },
		{ "the last", 5, "outer: the fields end at byte 39, the struct at 40" },
	};

	for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
		struct state_field fields[G_N_ELEMENTS(outer_fields)];
		struct state_desc desc = { "outer", .version = 1, .size = 40, .fields = fields };
		struct err err = { 0 };

		g_test_message("%s", cases[i].name);
		for (size_t k = 0; k < G_N_ELEMENTS(outer_fields); k++)
			if (k != cases[i].skip)
				fields[desc.n_fields++] = outer_fields[k];
		g_assert_false(state_desc_tiles(&desc, &err));
		g_assert_cmpstr(err.msg, ==, cases[i].text);
	}
}

static void test_forgotten_inside(void)
{
	struct state_desc inner = inner_desc, desc = { "outer", .version = 1, .size = 4 };
	struct state_field field = {
		.name = "one", .kind = STATE_KIND_STRUCT, .size = 4, .count = 1, .desc = &inner
	};
	struct err err = { 0 };

	desc.fields = &field;
	desc.n_fields = 1;
	g_assert_true(state_desc_tiles(&desc, &err));
	inner.n_fields = 1;
	g_assert_false(state_desc_tiles(&desc, &err));
	g_assert_cmpstr(err.msg, ==, "outer: inner: the fields end at byte 2, the struct at 4");
	err_clear(&err);
	inner.size = 8;
	g_assert_false(state_desc_tiles(&desc, &err));
	g_assert_cmpstr(err.msg, ==, "outer: field 'one' has 4 bytes, its table 8");
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/base/state/tiles", test_tiles);
	g_test_add_func("/base/state/forgotten", test_forgotten);
	g_test_add_func("/base/state/forgotten-inside", test_forgotten_inside);
	return g_test_run();
}
