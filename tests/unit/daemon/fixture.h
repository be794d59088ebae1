/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A whole daemon in the test process: manager, service, fake workers
 *
 * The bus is a socket pair with the service at one end and the test at the
 * other; workers are children that run fake-worker.c.  Everything shares one
 * event loop, which turns while the test waits.
 */
#pragma once

#include "daemon/machine.h"
#include <glib.h>
#include <stdbool.h>
#include <systemd/sd-bus.h>
#include <systemd/sd-event.h>

struct manager;
struct service;

struct fixture {
	char *dir, *kernel;
	const char *worker;
	sd_event *event;
	sd_bus *server, *client;
	struct manager *manager;
	struct service *service;
	bool adopted;
	GPtrArray *log;     /* signals and "reply", one line each, in their order */
	sd_bus_error error; /* of the last call */
	unsigned int n_fds; /* open ones before the daemon started */
};

struct fixture *fixture_new(void);
void fixture_free(struct fixture *f);
/* The daemon dies and starts again; workers do not notice. */
void fixture_stop_daemon(struct fixture *f);
void fixture_start_daemon(struct fixture *f);

/* NULL and f->error when it failed. Types and arguments as of sd_bus_message_append(). */
sd_bus_message *fixture_call(struct fixture *f, const char *path, const char *interface,
			     const char *method, const char *types, ...);
/* As above, on the VM; must succeed; the reply is dropped. */
void fixture_vm_ok(struct fixture *f, const char *name, const char *method, const char *types, ...);
/* Must fail with this error name (after "org.brume.vm1." unless it has a dot) and text. */
void fixture_vm_fails(struct fixture *f, const char *name, const char *error, const char *text,
		      const char *method, const char *types, ...);
void fixture_assert_error(struct fixture *f, const char *error, const char *text);

/* A VM whose fake worker behaves as these words say; transient unless persistent. */
void fixture_create(struct fixture *f, const char *name, const char *words, bool persistent);
char *fixture_config(struct fixture *f, const char *words, const char *more);

char *fixture_get_string(struct fixture *f, const char *name, const char *property);
#define fixture_assert_property(f, name, property, value)                                          \
	do {                                                                                       \
		g_autofree char *got_ = fixture_get_string(f, name, property);                     \
		g_assert_cmpstr(got_, ==, value);                                                  \
	} while (0)

/* Turns the loop until the log has this line; fails after 10 s. */
void fixture_wait_log(struct fixture *f, const char *line);
void fixture_wait_state(struct fixture *f, const char *name, enum machine_state state);
bool fixture_has_log(struct fixture *f, const char *line);
/* Index in the log, -1. */
int fixture_find_log(struct fixture *f, const char *line);
void fixture_turn(struct fixture *f, uint64_t usec);
/*
 * A worker that has stopped itself (SIGSTOP) says what it has to say and ends, and
 * nothing of that is seen before the spawner tells: how NULL = as it went.
 */
void fixture_wait_held(struct fixture *f, uint32_t pid);
void fixture_let_end(struct machine *vm, const struct spawn_exit *how);
/* No runtime directory, no connection, no descriptor of a VM is left. */
void fixture_assert_nothing_left(struct fixture *f, const char *name);
unsigned int fixture_count_fds(void);
