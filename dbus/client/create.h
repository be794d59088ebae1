/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Definitions: from a JSON file, or from options
 */
#pragma once

#include "dbus/client/arguments.h"
#include "dbus/client/client.h"
#include <stdbool.h>

/*
 * The JSON text to send: the contents of `file` ("-" is standard input; NULL =
 * none), or what the --cpus, --disk ... options say.  Both or neither is a usage
 * error.  g_free() it.
 */
int definition_read(const struct client *c, const struct arguments *a, const char *file,
		    char **ret);

/* Manager.CreateVM */
int create_vm(struct client *c, const struct arguments *a, const char *name, const char *config,
	      bool persistent);
