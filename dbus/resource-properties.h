/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Resource properties of a worker's unit: what may be set, and to what
 *
 * One table with the names and types of systemd's bus (org.freedesktop.systemd1(5))
 * and the ranges of systemd 252 (systemd.resource-control(5), systemd.exec(5)).
 * Where systemd's bus takes a value that systemd itself drops when it reads its
 * unit files again (daemon-reload), or puts text into such a file as it came,
 * the range here is narrower.  Whatever else a unit has is the sandbox, which is
 * nobody's to change over the bus.
 *
 * A set of properties is an a(sv) in the table's order without a name twice;
 * NULL is the empty set.  In JSON it is an object: numbers, "infinity", lists of
 * processors as "0-3,5", limits of devices as an object path -> number.
 *
 * The daemon and brumectl use it.  Pure functions.
 */
#pragma once

#include "vmm/base/cleanup.h"
#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct err;

enum resource_property_kind {
	RESOURCE_PROPERTY_BYTES,  /* t */
	RESOURCE_PROPERTY_WEIGHT, /* t */
	RESOURCE_PROPERTY_QUOTA, /* t, microseconds of processor time a second; a percentage in text
				  */
	RESOURCE_PROPERTY_USEC,  /* t */
	RESOURCE_PROPERTY_COUNT, /* t */
	RESOURCE_PROPERTY_NUMBER, /* i */
	RESOURCE_PROPERTY_MASK,   /* ay: bit n of byte n / 8 */
	RESOURCE_PROPERTY_LIMITS, /* a(st): path of a device or file, bytes or operations a second
				   */
};

enum resource_property_flags {
	RESOURCE_PROPERTY_INFINITY = 1 << 0, /* UINT64_MAX is a value, too */
	RESOURCE_PROPERTY_UNSET = 1 << 1,    /* ... and means what a unit has by itself */
	RESOURCE_PROPERTY_AT_START = 1 << 2, /* of a process: not changeable while it runs */
	/* A user's systemd has no such controller; of a number: nobody may lower it there. */
	RESOURCE_PROPERTY_SYSTEM = 1 << 3,
};

struct resource_property {
	const char *name;    /* on the bus */
	const char *setting; /* in unit files and on command lines */
	enum resource_property_kind kind;
	unsigned int flags;
	int64_t min;
	uint64_t max;      /* of a mask: how many bytes */
	unsigned int base; /* of K, M, G in text */
};

extern const struct resource_property resource_properties[];
extern const size_t n_resource_properties;

const struct resource_property *resource_property_find(const char *name);
/* "t": static. */
const char *resource_property_type(const struct resource_property *property);
bool resource_property_is_unset(const struct resource_property *property, GVariant *value);

/* Is this a(sv), from anybody, a set?  user: for the systemd of a user's session. */
_must_check_ int resource_properties_check(GVariant *list, bool user, GVariant **ret,
					   struct err *err);

/*
 * What a unit that has `base` has after `changes`; either may be NULL.  Limits
 * are merged device by device, as systemd does it.  What is back at what a unit
 * has by itself is left out.  NULL when nothing remains.
 */
GVariant *resource_properties_merge(GVariant *base, GVariant *changes);
/* The part that a running unit can be given; NULL when there is none of it. */
GVariant *resource_properties_live(GVariant *set);
/* First one that is not part of it, NULL. */
const struct resource_property *resource_properties_first_at_start(GVariant *set);
bool resource_properties_have(GVariant *set, const char *name);
/* One name a line, for polkit's rules; g_free() it. */
char *resource_properties_names(GVariant *set);

/* a{sv} that becomes a JSON object, and a set from what such an object was read as. */
GVariant *resource_properties_to_json(GVariant *set);
_must_check_ int resource_properties_from_json(GVariant *dict, GVariant **ret, struct err *err);

/* "0-3,5" or "0-3 5"; NULL when it is not a list of numbers below 8 * max_bytes. "" has no bytes.
 */
GVariant *resource_mask_parse(const char *text, size_t max_bytes);
