/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Signals of the service as lines of text
 *
 * Pure functions over GVariants, apart from the verb.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

struct event {
	uint64_t usec; /* CLOCK_REALTIME, when it arrived */
	const char *path, *interface, *member;
	GVariant *body; /* a tuple */
};

/* Is it about this machine?  NULL: about any. */
bool event_is_about(const struct event *event, const char *vm);
/* "web1 StateChanged running stopped guest-shutdown"; g_free() it. */
char *event_to_text(const struct event *event);
/* Floating a{sv}: timestamp, path, interface, signal, vm, arguments. */
GVariant *event_to_json(const struct event *event);
