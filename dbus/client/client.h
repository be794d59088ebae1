/* SPDX-License-Identifier: Apache-2.0 */
/*
 * brumectl's connection to the service
 *
 * Whatever fails is reported here, once, on standard error: the sentence that
 * came over the bus, and where there is something to do about it, a hint.  The
 * functions then return the exit status, so a verb returns what it got.
 */
#pragma once

#include "vmm/base/cleanup.h"
#include <glib.h>
#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-bus.h>

/* Documented in brumectl(1): scripts branch on them. */
enum exit_status {
	EXIT_OK = 0,
	EXIT_FAILED = 1,
	EXIT_USAGE = 2,
	EXIT_NO_SUCH = 3,    /* virtual machine, device, job or console */
	EXIT_REFUSED = 4,    /* polkit said no */
	EXIT_NO_SERVICE = 5, /* brumed cannot be reached */
	EXIT_TIMED_OUT = 6,  /* the guest did not react */
};

/* Prompts for a password take as long as they take. */
#define CLIENT_TIMEOUT_USEC (UINT64_C(600) * 1000000)

struct client {
	sd_bus *bus;
	const char *host; /* NULL: this one */
	bool user;        /* the session's service */
	bool json;
	bool ask_password;
	int agent_pid; /* pkttyagent, 0 = none */
};

int client_connect(struct client *c);
void client_disconnect(struct client *c);

/* "brumectl: ..." on standard error. */
void client_complain(const char *fmt, ...) _printf_(1, 2);
int client_out_of_memory(void);
/* The bus carries UTF-8 only, and drops who sends something else.  NULL is fine. */
int client_check_text(const char *what, const char *text);
/* The object of a machine; free() it. */
int client_vm_path(const char *vm, char **ret);

/*
 * Reports what the bus answered: r < 0, e may be unset.  `vm` is the machine
 * the call was about, NULL = none.
 */
int client_report(const struct client *c, const char *vm, int r, const sd_bus_error *e);
/* With this hint, in which %s is the machine; NULL: the usual one. */
int client_report_hint(const struct client *c, const char *vm, int r, const sd_bus_error *e,
		       const char *hint);

/* A call that may ask for a password; the path is the manager's or a VM's. */
int client_manager_call(struct client *c, const char *member, sd_bus_message **ret);
int client_vm_call(struct client *c, const char *vm, const char *member, sd_bus_message **ret);

/* Appends key and value of an a{sv} whose container is open; r chains failures. */
int client_append_option(sd_bus_message *m, int r, const char *key, const char *type, ...);

/* Sends it and waits; *ret_reply may be NULL. */
int client_call(struct client *c, const char *vm, sd_bus_message *m, sd_bus_message **ret_reply);

/* All objects with their properties, a{oa{sa{sv}}}; all properties of one machine, a{sv}. */
int client_get_objects(struct client *c, GVariant **ret);
int client_get_vm(struct client *c, const char *vm, GVariant **ret);

/* Calls a method of a VM whose only argument is an empty a{sv} and which replies nothing. */
int client_simple_call(struct client *c, const char *vm, const char *member);
