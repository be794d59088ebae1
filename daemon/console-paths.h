/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the terminals of a machine's consoles are: those of mode Pty
 *
 * Made by open-pty.c when the machine starts, kept in its state file, told by the
 * property ConsolePaths.  A terminal is gone when the worker, which has the other
 * end, is.
 *
 * Plain data, copied by value.
 */
#pragma once

#include <glib.h>
#include <stddef.h>

#define CONSOLE_PATHS_MAX 3

struct console_path {
	char console[8]; /* "serial", as in the property Consoles */
	char path[32];   /* "/dev/pts/7" */
};

struct console_paths {
	struct console_path items[CONSOLE_PATHS_MAX];
	size_t n;
};

/* "": that console has none. */
const char *console_paths_find(const struct console_paths *paths, const char *console);

/* A floating a{sv} of strings, for the state file and Describe, and back. */
GVariant *console_paths_save(const struct console_paths *paths);
/* What is malformed is left out; dict may be NULL. */
void console_paths_load(GVariant *dict, struct console_paths *ret);
