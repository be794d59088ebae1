/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Between sd-bus messages and GVariant
 *
 * GVariant is the one in-memory form of structured data; a D-Bus
 * message is one of its serialisations.  These two functions walk one complete
 * type at the message's cursor in either direction.  Descriptors (`h`) have no
 * meaning inside a GVariant and are refused; a caller that takes descriptors
 * reads them from the message itself.
 *
 * Linked into the daemon and the worker; any thread that owns the message.
 */
#pragma once

#include "vmm/base/cleanup.h"
#include <glib.h>
#include <systemd/sd-bus.h>

struct err;

DEFINE_CLEANUP(GVariant, g_variant_unref);

/* Containers inside containers, variants included; D-Bus' own limit for arrays plus structs. */
#define VARIANT_DEPTH_MAX 64

/*
 * Reads one value of the complete type `type` ("a{sv}").  The result is not
 * floating: g_variant_unref() it.  A message that holds something else, a
 * descriptor, or deeper nesting than VARIANT_DEPTH_MAX is FAULT_BAD_ARGUMENT;
 * the cursor then stands where reading stopped.
 */
_must_check_ int variant_from_message(sd_bus_message *m, const char *type, GVariant **ret,
				      struct err *err);

/*
 * The same from a sender that is not trusted with our time and memory: a value
 * that costs more than max is refused (E2BIG) before more than that was copied.
 * Each value, containers included, costs VARIANT_VALUE_COST, texts and arrays
 * of numbers their length besides.
 */
_must_check_ int variant_from_message_max(sd_bus_message *m, const char *type, size_t max,
					  GVariant **ret, struct err *err);
#define VARIANT_VALUE_COST 16

/*
 * Appends a value of any type without handles and maybes (-EOPNOTSUPP); does
 * not take the reference, sinks a floating one.  A value made from foreign
 * bytes must be in normal form.  After a failure the message is half-written
 * and good for nothing.
 */
_must_check_ int variant_append(sd_bus_message *m, GVariant *value);
