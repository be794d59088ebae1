/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Saved state, declared once
 *
 * A device embeds `struct x_state` and works on it directly; everything outside
 * that struct (descriptors, pointers, timers, locks) is by definition not part
 * of a snapshot.  The field table beside the struct is what saves, loads and
 * checks it.  A unit test walks every descriptor and asserts that the fields
 * tile the struct without a gap, so a member that is not in the table fails the
 * tests; padding is an explicit member.
 *
 * Loading: decode into a zeroed temporary, validate, assign, then the device's
 * restore re-arms timers and lines.  A hostile stream never touches a live
 * device.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/base/cleanup.h"

struct err;

enum state_kind {
	STATE_KIND_BOOL,
	STATE_KIND_U8,
	STATE_KIND_U16,
	STATE_KIND_U32,
	STATE_KIND_U64,
	STATE_KIND_BYTES,  /* opaque, of size bytes */
	STATE_KIND_STRUCT, /* count members of desc */
};

struct state_desc;

struct state_field {
	const char *name;
	enum state_kind kind;
	uint32_t offset, size;         /* size: of one element */
	uint32_t count;                /* 1, or the length of an array */
	uint32_t since;                /* version that introduced it; absent in older data = zero */
	const struct state_desc *desc; /* STRUCT only */
};

struct state_desc {
	const char *name;
	uint32_t version;
	uint32_t size;
	const struct state_field *fields;
	size_t n_fields;
	/* Optional: refuses contents no device could have had; -EBADMSG and a sentence. */
	int (*validate)(const void *state, struct err *err);
};

/* A wrong kind for the member's type does not compile (or is a NULL-size array). */
#define STATE_SIZEOF_(type, member) sizeof(((type *)0)->member)
#define STATE_SCALAR_(k, ctype, type, member)                                                      \
	{                                                                                          \
		.name = #member, .kind = (k), .offset = offsetof(type, member),                    \
		.size = sizeof(ctype) +                                                            \
			0 * sizeof(char[_Generic(((type *)0)->member, ctype : 1, default           \
						 : -1)]),                                          \
		.count = 1                                                                         \
	}
#define STATE_BOOL(type, member) STATE_SCALAR_(STATE_KIND_BOOL, bool, type, member)
#define STATE_U8(type, member)   STATE_SCALAR_(STATE_KIND_U8, uint8_t, type, member)
#define STATE_U16(type, member)  STATE_SCALAR_(STATE_KIND_U16, uint16_t, type, member)
#define STATE_U32(type, member)  STATE_SCALAR_(STATE_KIND_U32, uint32_t, type, member)
#define STATE_U64(type, member)  STATE_SCALAR_(STATE_KIND_U64, uint64_t, type, member)
#define STATE_BYTES(type, member)                                                                  \
	{                                                                                          \
		.name = #member, .kind = STATE_KIND_BYTES, .offset = offsetof(type, member),       \
		.size = STATE_SIZEOF_(type, member), .count = 1                                    \
	}
#define STATE_ARRAY_(k, ctype, type, member)                                                       \
	{                                                                                          \
		.name = #member, .kind = (k), .offset = offsetof(type, member),                    \
		.size = sizeof(ctype) +                                                            \
			0 * sizeof(char[_Generic(((type *)0)->member[0], ctype : 1, default        \
						 : -1)]),                                          \
		.count = STATE_SIZEOF_(type, member) / sizeof(ctype)                               \
	}
#define STATE_ARRAY_U32(type, member) STATE_ARRAY_(STATE_KIND_U32, uint32_t, type, member)
#define STATE_ARRAY_U64(type, member) STATE_ARRAY_(STATE_KIND_U64, uint64_t, type, member)
#define STATE_STRUCT(type, member, description)                                                    \
	{                                                                                          \
		.name = #member, .kind = STATE_KIND_STRUCT, .offset = offsetof(type, member),      \
		.size = STATE_SIZEOF_(type, member), .count = 1, .desc = (description)             \
	}
#define STATE_STRUCT_ARRAY(type, member, description)                                              \
	{                                                                                          \
		.name = #member, .kind = STATE_KIND_STRUCT, .offset = offsetof(type, member),      \
		.size = sizeof(((type *)0)->member[0]),                                            \
		.count = STATE_SIZEOF_(type, member) / sizeof(((type *)0)->member[0]),             \
		.desc = (description)                                                              \
	}

#define STATE_LAYOUT(type, table)                                                                  \
	.size = sizeof(type), .fields = (table), .n_fields = ARRAY_SIZE(table)

/*
 * State of which there is more or less: rows of one description.  Who saves them
 * allocates them; whoever loads them bounds n first.
 */
struct state_table {
	const struct state_desc *desc;
	void *rows; /* n of desc->size bytes */
	uint32_t n;
};
void state_table_deinit(struct state_table *table);

/* True when the fields cover the struct, in order, with no gap and no overlap. */
bool state_desc_tiles(const struct state_desc *desc, struct err *err);
