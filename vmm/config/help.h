/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Documentation from the tables
 *
 * What `brumectl help disk` prints and what the man page says about a
 * definition come from the same rows that parse it.  Pure functions; any
 * thread; g_free() the results.
 */
#pragma once

#include <stddef.h>

/*
 * One option ("disk", "disks", "kernel") as plain text of at most 80 columns;
 * NULL: an overview of all.  Returns NULL if there is no such option.
 */
char *config_help(const char *option);

/* The subsections of the man page, as roff (man macros), starting with ".SS". */
char *config_man(void);
