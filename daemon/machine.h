/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One virtual machine, as the daemon sees it
 *
 * Definition, state, the worker it has while it runs, and at most one exclusive
 * job.  States and their edges are one table (machine.c), changed by one
 * function, which tells the observer.  What happens in its life has a file each:
 *
 *   start.h           from Start to a running guest
 *   link.h            the connection to its worker, and what the worker says
 *   device.h          the devices it has while it runs
 *   request.h         what a running one is asked: pause, reset, consoles, counters
 *   plug.h            a device is added
 *   unplug.h          a device is removed
 *   resize.h          it gets more or fewer vCPUs, more or less memory
 *   set-properties.h  resource properties of its definition and of its running unit
 *   stop.h            shutdown and reboot: jobs that ask the guest
 *   end.h             terminate, kill, and what an ended worker leaves
 *   adopt.h           found again after a restart of the daemon
 *   describe.h        all about it as JSON
 *
 * Main loop.
 */
#pragma once

#include "daemon/definition.h"
#include "daemon/job.h"
#include "daemon/rate-limit.h"
#include "daemon/resize.h"
#include "daemon/runtime.h"
#include "daemon/spawner.h"
#include "vmm/base/list.h"
#include <glib.h>
#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-bus.h>
#include <systemd/sd-event.h>

struct manager;
struct plug;
struct property_change;
struct start;
struct stop;
struct unplug;
struct vm_config;
struct worker;

enum machine_state {
	MACHINE_STATE_STOPPED,
	MACHINE_STATE_STARTING,
	MACHINE_STATE_RUNNING,
	MACHINE_STATE_PAUSED,
	MACHINE_STATE_SHUTTING_DOWN,
	MACHINE_STATE_REBOOTING,
	MACHINE_STATE_CRASHED, /* the worker died, or its guest did */
	MACHINE_STATE_FAILED,  /* it never ran */
	MACHINE_STATE_N_,
};

enum machine_property {
	MACHINE_PROPERTY_DESCRIPTION = 1 << 0,
	MACHINE_PROPERTY_AUTOSTART = 1 << 2,
	MACHINE_PROPERTY_STATE = 1 << 3, /* with reason and timestamp */
	MACHINE_PROPERTY_CURRENT_JOB = 1 << 4,
	MACHINE_PROPERTY_RESTART_REQUIRED = 1 << 5,
	MACHINE_PROPERTY_CONFIG = 1 << 6,  /* what follows from it: CPUs, memory, consoles */
	MACHINE_PROPERTY_PROCESS = 1 << 7, /* unit, pid, invocation */
	MACHINE_PROPERTY_MACHINE_NAME = 1 << 8,
	MACHINE_PROPERTY_LAST_EXIT = 1 << 9,
	MACHINE_PROPERTY_BALLOON = 1 << 10, /* its size, what it is to be, and the vsock's number */
	MACHINE_PROPERTY_RATE_LIMITS = 1 << 11, /* of groups */
	MACHINE_PROPERTY_CONSOLE_PATHS = 1 << 12,
};

/* Why a start ended that a former daemon had begun. */
#define MACHINE_REASON_DAEMON_RESTARTED "daemon-restarted"
/* Why a worker was killed that hung up again and again. */
#define MACHINE_REASON_WORKER_MISBEHAVED "worker-misbehaved"

/* err NULL: done. reply: what the worker answered, when there is something in it. */
typedef void (*machine_done_fn)(void *data, sd_bus_message *reply, const struct err *err);

struct machine {
	struct manager *manager;
	struct definition def;
	struct vm_config *next; /* def.config parsed */
	struct vm_config *boot; /* what the worker runs; NULL without one */
	char *boot_config;      /* the same as text */
	bool restart_required;
	char **taps; /* host interfaces in use; NULL-terminated or NULL */
	struct console_paths console_paths;
	GPtrArray *devices; /* struct machine_device, while the worker has a guest; or NULL */
	uint32_t n_boots;   /* of the guest in this worker */

	enum machine_state state;
	char state_reason[32];
	uint64_t state_usec; /* CLOCK_REALTIME */
	char last_exit_reason[32];
	int last_exit_status;
	char *machine_name; /* as machined knows it; NULL = it does not */

	struct job *job;  /* the exclusive one, or NULL */
	uint32_t changed; /* to be announced */
	struct list dirty;

	struct spawn spawn;
	struct worker *worker; /* connection, may come and go */
	sd_event_source *reconnect;
	sd_event_source *adopt_timer;       /* adopt.c: its worker is to say what it does */
	struct start *start;                /* while starting */
	struct stop *stop;                  /* while a shutdown or reboot job runs */
	struct plug *plug;                  /* while a device is being added */
	struct unplug *unplug;              /* while one is being removed */
	struct resize *resize;              /* while the guest is to get more or less */
	struct machine_sizes sizes;         /* of the guest, while there is one */
	struct runtime_stop stop_to_resume; /* while adopting */
	struct runtime_removal removal_to_resume;
	struct runtime_resize resize_to_resume;
	struct runtime_replace replace; /* disk-change.c */
	struct created_files created;   /* by the start it was found in, while adopting */
	bool preparing;                 /* the worker cannot have a guest yet */
	char worker_reason[32];         /* why the worker said it is going to end */
	struct rate_limit events, event_warnings;
	struct rate_limit vsock_wishes;                                               /* vsock.c */
	struct rate_limit worker_states, worker_losses, worker_devices, worker_sizes; /* link.c */
	unsigned int n_vsock_connects; /* vsock.c: under way */
	uint32_t events_dropped;       /* before the one that is being told */
	bool terminating;              /* somebody asked for the end */
	bool adopting;
	sd_event_source *quit_timer;
	struct list end_waiters;                 /* replies due when the worker is gone */
	struct property_change *property_change; /* under way, or NULL */
};

const char *machine_state_to_string(enum machine_state state);
int machine_state_from_string(const char *s, enum machine_state *ret);

/* Takes over def's contents on success; config errors are FAULT_BAD_CONFIG. */
int machine_new(struct manager *manager, struct definition *def, struct machine **ret,
		struct err *err);
/* Only manager_remove(). A worker that runs goes on running. */
void machine_free(struct machine *vm);

/* JSON text to a checked configuration. */
int machine_parse_config(const char *text, struct vm_config **ret, char **ret_normalised,
			 struct err *err);
/* And back; g_free() it. */
char *machine_print_config(const struct vm_config *config);

/* A worker exists or is on its way. */
static inline bool machine_is_active(const struct machine *vm)
{
	return vm->state >= MACHINE_STATE_STARTING && vm->state <= MACHINE_STATE_REBOOTING;
}

/* The configuration in force: of the running worker, else of the next boot. */
const struct vm_config *machine_config(const struct machine *vm);
/* NULL-terminated static names; g_free() the array. */
char **machine_consoles(const struct machine *vm);
/* NULL: there are none any more. */
void machine_set_console_paths(struct machine *vm, const struct console_paths *paths);

/* Changes of a definition; they say no while a job runs, where it matters. */
int machine_check_config(const struct machine *vm, const char *text, struct vm_config **ret,
			 char **ret_normalised, struct err *err);
/* What machine_check_config() made; taken over on success. */
int machine_set_config(struct machine *vm, struct vm_config *config, char *normalised,
		       struct err *err);
/* The same with a configuration that was not made of text; taken over, also on failure. */
int machine_define(struct machine *vm, struct vm_config *config, struct err *err);
int machine_set_autostart(struct machine *vm, bool enable, struct err *err);
int machine_set_description(struct machine *vm, const char *description, struct err *err);
/* Of the definition; NULL = none.  For set-properties.c. */
int machine_store_properties(struct machine *vm, GVariant *properties, struct err *err);
int machine_check_delete(const struct machine *vm, struct err *err);
/* Frees the machine. */
int machine_delete(struct machine *vm, bool remove_state, struct err *err);

/* Checks without effect: state and exclusive job. Each action does the same again. */
int machine_check_idle(const struct machine *vm, struct err *err);
int machine_check_state(const struct machine *vm, uint32_t states, const char *verb,
			struct err *err);
#define MACHINE_STATES(a) (1U << MACHINE_STATE_##a)
#define MACHINE_STATES_GUEST                                                                       \
	(MACHINE_STATES(RUNNING) | MACHINE_STATES(PAUSED) | MACHINE_STATES(SHUTTING_DOWN) |        \
	 MACHINE_STATES(REBOOTING))
#define MACHINE_STATES_ENDED                                                                       \
	(MACHINE_STATES(STOPPED) | MACHINE_STATES(CRASHED) | MACHINE_STATES(FAILED))

/* For the files that make up its life, named above. */
void machine_set_state(struct machine *vm, enum machine_state state, const char *reason);
void machine_changed(struct machine *vm, uint32_t properties);
void machine_set_boot(struct machine *vm, struct vm_config *boot, char *boot_config);
/* vm->boot was changed in place; properties: what else that is. */
void machine_boot_changed(struct machine *vm, uint32_t properties);
int machine_save_runtime(struct machine *vm, struct err *err);
/* The same where an old state file is not worth a failure; nothing without a worker. */
void machine_refresh_runtime(struct machine *vm);
void machine_register(struct machine *vm);
/* New exclusive job; id as of job_new(). */
int machine_begin_job(struct machine *vm, enum job_kind kind, uid_t owner, uint32_t id,
		      struct err *err);
/* Announces everything, then ends vm->job, if there is one. */
void machine_end_job(struct machine *vm, const struct err *err);
