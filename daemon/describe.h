/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One machine as JSON text, for people and scripts: definition, state, and, as
 * far as a worker has told, its devices
 */
#pragma once

#include <glib.h>

struct machine;

/* g_free() it. answer: a worker's Query (a{sv}), NULL without one. */
char *machine_describe(const struct machine *vm, GVariant *answer);
