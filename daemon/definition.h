/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is known about a VM besides its state
 *
 * The same fields are kept in the definition file of a persistent VM
 * (store.h) and in the state file of a running one (runtime.h): name, owner
 * and the configuration as JSON text.  The configuration stays text here; the
 * parsed form is made by whoever needs it.
 *
 * Plain data, strings owned (g_free).
 */
#pragma once

#include "daemon/given-fds.h"
#include "vmm/base/cleanup.h"
#include <glib.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct err;

#define VM_NAME_MAX        64   /* machined's and the kernel's limit for a host name */
#define VM_DESCRIPTION_MAX 4096 /* bytes */

struct definition {
	char *name, *uuid;
	uid_t owner;
	bool persistent, autostart;
	char *description;
	char *slice;  /* NULL = the daemon's default */
	char *config; /* compact JSON object */
	/* Of the worker's unit: a set of dbus/resource-properties.h, NULL = none. */
	GVariant *properties;
	struct given_fds fds; /* of a transient VM; not saved anywhere */
};

void definition_deinit(struct definition *def);

/* A host name, so that it is a machine name and needs no escaping in a unit name. */
int vm_name_check(const char *name, struct err *err);
int vm_description_check(const char *description, struct err *err);
/* Lower case with hyphens; ret has room for 37 characters. */
int uuid_normalise(const char *text, char ret[static 37], struct err *err);

/*
 * An a{sv} under construction whose keys stay in their order: these become files
 * and texts that people read (a GVariantDict is a hash table).
 */
void dict_add(GVariantBuilder *dict, const char *key, const char *format, ...);
void dict_add_value(GVariantBuilder *dict, const char *key, GVariant *value);

/* Adds the definition's keys to a dictionary that will become a JSON file. */
int definition_save(const struct definition *def, GVariantBuilder *dict, struct err *err);
int definition_load(GVariant *dict, struct definition *ret, struct err *err);

/* JSON text that must be an object, as a{sv}; errors are FAULT_BAD_CONFIG. */
int json_object_parse(const char *text, GVariant **ret, struct err *err);
/* The same of at most max bytes, for a file that holds configurations. */
int json_object_parse_max(const char *text, size_t max, GVariant **ret, struct err *err);

/* Typed reads of a dictionary that came out of JSON; missing = default. */
char *dict_dup_string(GVariant *dict, const char *key);
bool dict_get_bool(GVariant *dict, const char *key, bool fallback);
uint64_t dict_get_uint(GVariant *dict, const char *key, uint64_t fallback);
