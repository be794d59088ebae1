/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tables that bind configuration keys to struct members
 *
 * Each config struct of vm-config.h has one config_table.  Parsing, defaults,
 * serialising, freeing, option strings (option.h), help and man page (help.h)
 * and the walk over host resources are all driven by it, so a key exists
 * everywhere as soon as it has its row.  What no row can say (rules between
 * keys) is a `check` function beside the table.
 *
 * Keys of Cloud Hypervisor that are not implemented have a CONFIG_LATER row:
 * they are refused by name, unless the value asks for what happens anyway.
 *
 * Tables are const and hold no state; any thread.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/config/value.h"
#include "vmm/config/vm-config.h"

struct config_problems;

enum config_kind {
	CONFIG_BOOL,    /* bool */
	CONFIG_UINT,    /* uint8_t .. uint64_t, by .size */
	CONFIG_SIZE,    /* uint64_t bytes; K, M, G, T in option strings */
	CONFIG_STRING,  /* char * */
	CONFIG_ENUM,    /* enum, by .names */
	CONFIG_MAC,     /* struct mac_addr; a string in the text */
	CONFIG_STRUCT,  /* embedded struct, by .table */
	CONFIG_LIST,    /* pointer to structs by .table, and a size_t at .count */
	CONFIG_STRINGS, /* char **, NULL-terminated; as a RESOURCE a list of {"fd": NAME} */
	CONFIG_UINTS,   /* uint32_t *, and a size_t at .count */
	CONFIG_LATER,   /* Cloud Hypervisor's key, no member */
};

enum config_flags {
	CONFIG_REQUIRED = 1 << 0,
	CONFIG_OPTIONAL = 1 << 1, /* null is absent is zero; not serialised then */
	CONFIG_HAS = 1 << 2,      /* OPTIONAL, with a bool at .present that tells */
	/* string naming something of the host: .resource; in the text also {"fd": NAME} */
	CONFIG_RESOURCE = 1 << 3,
	CONFIG_BARE = 1 << 4,      /* enum: "--serial tty", the value without a key */
	CONFIG_HEX = 1 << 5,       /* shown as 0x.. in help */
	CONFIG_NO_OPTION = 1 << 6, /* not in option strings, which have other keys for it */
};

/*
 * Indexed by the enum's value.  `later` lists names that are not supported yet, or NULL;
 * `also` other spellings that Cloud Hypervisor takes, by value, or NULL.
 */
struct config_names {
	const char *const *names;
	size_t n;
	const char *const *later;
	const char *const *also;
};

/* Of a CONFIG_RESOURCE member, before the name: vm_config_fd_name(). */
#define CONFIG_FD_PREFIX "fd:"

struct config_table;

struct config_field {
	const char *key;
	const char *option; /* key in option strings and help, if different */
	const char *alias;  /* another spelling of the key */
	enum config_kind kind;
	unsigned int flags;    /* enum config_flags */
	size_t offset, size;   /* of the member: CONFIG_AT() */
	size_t present, count; /* offsets, see CONFIG_HAS, CONFIG_LIST */
	uint64_t def;
	const char *def_text; /* strings; for others only shown in help */
	uint64_t min, max;    /* numbers; both 0 = what the member holds */
	size_t list_max;
	const struct config_names *names;
	const struct config_table *table;
	/* strings: NULL if good, else "is not ..., must be ..." */
	const char *(*check)(const char *value);
	enum resource_kind resource;
	const char *implies;  /* "mode=File": what the option string may leave out */
	const char *harmless; /* LATER: values that change nothing, "0|false" */
	const char *arg;      /* help: PATH in "path=PATH" */
	const char *doc;      /* help: a sentence fragment, no full stop */
	const char *since;    /* NULL: from the first version on */
};

struct config_table {
	const char *name; /* help: "A disk" */
	const char *doc;  /* help: one or two sentences */
	const struct config_field *fields;
	size_t n_fields; /* at most 64 */
	size_t size;     /* of the struct */
};

/* Offset and size from one mention of the member, so that they cannot disagree. */
#define CONFIG_AT(type, member)                                                                    \
	.offset = offsetof(type, member), .size = sizeof(((type *)0)->member)

/* Text and binary forms of one MAC address. */
bool config_mac_parse(const char *text, struct mac_addr *ret);
void config_mac_format(const struct mac_addr *mac, char buf[18]);

/*
 * Fills *base (zeroed, table->size bytes) with defaults, then from the object,
 * and notes what is wrong with it.  Either way config_clear() what *base holds.
 */
void config_parse(const struct config_table *table, GVariant *dict, const struct config_path *path,
		  void *base, struct config_problems *problems);
void config_defaults(const struct config_table *table, void *base);
/* Floating a{sv}; absent optional keys are left out. */
GVariant *config_serialise(const struct config_table *table, const void *base);
/* Frees what the members own and zeroes them. */
void config_clear(const struct config_table *table, void *base);

/* The row for a JSON key or, with `option`, for an option key (JSON keys work there too). */
const struct config_field *config_find(const struct config_table *table, const char *key,
				       bool option);
/* Notes "unknown key, ..."; returns the row that was probably meant, or below which it is. */
const struct config_field *config_unknown_key(const struct config_table *table,
					      const struct config_path *path,
					      struct config_problems *problems);

/* Typed views of members, for code that walks tables. */
static inline bool config_is_present(const struct config_field *field, const void *base)
{
	return !(field->flags & CONFIG_HAS) || *(const bool *)((const char *)base + field->present);
}

static inline const void *config_member(const struct config_field *field, const void *base)
{
	return (const char *)base + field->offset;
}

static inline void *config_member_mut(const struct config_field *field, void *base)
{
	return (char *)base + field->offset;
}

/* CONFIG_UINT, CONFIG_SIZE and CONFIG_ENUM, whatever the member's size. */
uint64_t config_get_uint(const struct config_field *field, const void *base);
void config_set_uint(const struct config_field *field, void *base, uint64_t n);
/* Element i of a CONFIG_LIST, which has *config_list_count() of them. */
void *config_list_at(const struct config_field *field, const void *base, size_t i);
size_t config_list_count(const struct config_field *field, const void *base);
