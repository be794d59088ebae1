/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The command line, taken apart
 *
 * Each verb says which groups of options it takes; an option of another group
 * is refused with the verb's name, never ignored.  Values stay text or are
 * plain numbers: what they mean is the verb's business.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

enum option_group {
	GROUP_GLOBAL = 1 << 0,   /* every verb, also in front of it */
	GROUP_START = 1 << 1,    /* --paused --console --no-wait */
	GROUP_STOP = 1 << 2,     /* --wait --no-wait --force --timeout */
	GROUP_VM = 1 << 3,       /* --cpus --disk ...: a definition */
	GROUP_CREATE = 1 << 4,   /* --transient --autostart --description --slice --property */
	GROUP_CONSOLE = 1 << 5,  /* --force --timeout --read-only --console */
	GROUP_CONFIG = 1 << 6,   /* --next */
	GROUP_EVENTS = 1 << 7,   /* --timeout */
	GROUP_RUN = 1 << 8,      /* --name */
	GROUP_PROPERTY = 1 << 9, /* --runtime */
	GROUP_JOB = 1 << 10,     /* --timeout: how long a job may take */
	GROUP_PERSIST = 1 << 11, /* --persist */
	GROUP_REMOVE = 1 << 12,  /* --force */
	GROUP_NO_WAIT = 1 << 13, /* --no-wait */
	GROUP_ZONE = 1 << 14,    /* --zone */
};

/* One "--disk path=..." in the order of the command line. */
struct vm_option {
	const char *section; /* "disk" */
	const char *text;
};

struct arguments {
	bool help, version;
	bool json, user, no_ask_password;
	const char *host;
	bool wait, no_wait, force, paused, attach, next, transient, autostart, read_only;
	bool runtime, persist;
	bool has_timeout;
	uint64_t timeout_usec;
	const char *description, *slice, *name, *console_name, *zone;
	GArray *vm_options;    /* struct vm_option */
	GPtrArray *properties; /* const char *: "CPUWeight=50" */
	char **positional;     /* points into argv */
	int n_positional;
};

void arguments_init(struct arguments *a);
void arguments_deinit(struct arguments *a);

/*
 * Parses argv[1...] with the options of `groups`.  With stop_at_verb it stops
 * before the first argument that is no option.  Returns the index of the first
 * argument that was not used up, or -1 after complaining.
 */
int arguments_parse(struct arguments *a, int argc, char **argv, unsigned int groups,
		    bool stop_at_verb);

/* "90", "1.5", "500ms", "2min", "infinity"; false when it is none of them. */
bool parse_duration(const char *text, uint64_t *ret_usec);
/* "4096", "10M": powers of 1024, as everywhere. */
bool parse_count(const char *text, uint64_t *ret);
