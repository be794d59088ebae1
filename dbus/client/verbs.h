/* SPDX-License-Identifier: Apache-2.0 */
/*
 * brumectl's verbs: name, arguments, options, help
 *
 * One table; the list of commands and the help of each come from it.
 */
#pragma once

#include "dbus/client/arguments.h"
#include "dbus/client/client.h"

struct verb {
	const char *name;     /* one word, or two: "device add" */
	const char *synopsis; /* after the name */
	const char *summary;  /* one line */
	int min, max;         /* positional arguments */
	unsigned int groups;  /* enum option_group, besides GLOBAL */
	int (*run)(struct client *c, const struct arguments *a);
};

extern const struct verb verbs[];
extern const size_t n_verbs;

const struct verb *verb_find(const char *name);
/* Is it the first word of verbs of two? */
bool verb_is_family(const char *word);
/* The verb that somebody who typed this may have meant, coming from another tool; NULL = none. */
const char *verb_suggest(const char *name);
/* All commands. */
void help_print(void);
/* "start", "device", "device add", "disk": 0, or EXIT_USAGE after complaining. */
int help_print_topic(const char *topic);

/* list.c */
int verb_list(struct client *c, const struct arguments *a);
int verb_show(struct client *c, const struct arguments *a);
int verb_jobs(struct client *c, const struct arguments *a);
int verb_counters(struct client *c, const struct arguments *a);
/* create.c */
int verb_create(struct client *c, const struct arguments *a);
int verb_validate(struct client *c, const struct arguments *a);
int verb_config(struct client *c, const struct arguments *a);
int verb_set_config(struct client *c, const struct arguments *a);
int verb_set_description(struct client *c, const struct arguments *a);
int verb_delete(struct client *c, const struct arguments *a);
/* power.c */
int verb_start(struct client *c, const struct arguments *a);
int verb_shutdown(struct client *c, const struct arguments *a);
int verb_reboot(struct client *c, const struct arguments *a);
int verb_reset(struct client *c, const struct arguments *a);
int verb_terminate(struct client *c, const struct arguments *a);
int verb_pause(struct client *c, const struct arguments *a);
int verb_resume(struct client *c, const struct arguments *a);
int verb_power_button(struct client *c, const struct arguments *a);
int verb_nmi(struct client *c, const struct arguments *a);
int verb_autostart(struct client *c, const struct arguments *a);
int verb_cancel(struct client *c, const struct arguments *a);
/* devices.c */
int verb_devices(struct client *c, const struct arguments *a);
int verb_set_link(struct client *c, const struct arguments *a);
int verb_set_rate_limit(struct client *c, const struct arguments *a);
int verb_device_resize(struct client *c, const struct arguments *a);
int verb_device_replace(struct client *c, const struct arguments *a);
int verb_balloon(struct client *c, const struct arguments *a);
int verb_vsock(struct client *c, const struct arguments *a);
/* plug.c */
int verb_device_add(struct client *c, const struct arguments *a);
int verb_device_remove(struct client *c, const struct arguments *a);
int verb_cpu(struct client *c, const struct arguments *a);
int verb_memory(struct client *c, const struct arguments *a);
/* properties.c */
int verb_set_property(struct client *c, const struct arguments *a);
/* console.c, events.c, run.c */
int verb_console(struct client *c, const struct arguments *a);
int verb_events(struct client *c, const struct arguments *a);
int verb_run(struct client *c, const struct arguments *a);
