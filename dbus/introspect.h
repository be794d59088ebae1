/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The interfaces' XML as the vtables have it, without any bus
 *
 * sd-bus writes it only as the reply to Introspect, so the two ends of a socket
 * pair are served here in turn: one publishes the vtable, the other asks.
 */
#pragma once

#include <stdio.h>

struct err;

/* Standard XML of an interface as the vtables have it; names for "list". */
int introspect_print(const char *interface, FILE *out, struct err *err);
