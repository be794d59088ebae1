/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table of machines and jobs
 *
 * Owns every struct machine and struct job and finds them by name, UUID, pid
 * and number.  It knows nothing of D-Bus: whoever presents it to the world is
 * its observer.  Property changes are collected and announced once per turn of
 * the event loop, or earlier when a job ends: who sees it end sees a settled machine.
 *
 * Main loop.
 */
#pragma once

#include "daemon/host.h"
#include "vmm/base/list.h"
#include <glib.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <systemd/sd-event.h>

struct autostart;
struct definition;
struct err;
struct job;
struct machine;
struct machine_device;
struct manager;
struct spawner;

enum manager_property {
	MANAGER_PROPERTY_KVM_AVAILABLE = 1 << 0,
	MANAGER_PROPERTY_N_VMS = 1 << 1,
	MANAGER_PROPERTY_N_RUNNING = 1 << 2,
};

/* What the outside is told: all of it, as soon as there is an observer. */
struct manager_observer {
	void (*vm_added)(void *data, struct machine *vm);
	void (*vm_removed)(void *data, struct machine *vm); /* still complete */
	void (*vm_changed)(void *data, struct machine *vm, uint32_t properties);
	void (*vm_state_changed)(void *data, struct machine *vm, const char *from, const char *to,
				 const char *reason);
	void (*vm_event)(void *data, struct machine *vm, const char *source, const char *name,
			 GVariant *details);
	void (*device_added)(void *data, struct machine_device *dev);
	/* properties: enum machine_device_property */
	void (*device_changed)(void *data, struct machine_device *dev, uint32_t properties);
	void (*device_removed)(void *data, struct machine_device *dev); /* still complete */
	/* After, and before these: it came or goes alone, and not with its machine. */
	void (*device_plugged)(void *data, struct machine_device *dev);
	void (*device_unplugged)(void *data, struct machine_device *dev);
	void (*job_added)(void *data, struct job *job);
	void (*job_changed)(void *data, struct job *job, uint32_t properties);
	void (*job_ended)(void *data, struct job *job);
	void (*job_removed)(void *data, struct job *job); /* still complete */
	void (*manager_changed)(void *data, uint32_t properties);
};

#define manager_tell(manager, event, ...)                                                          \
	do {                                                                                       \
		if ((manager)->observer)                                                           \
			(manager)->observer->event((manager)->observer_data, __VA_ARGS__);         \
	} while (0)

struct manager_options {
	bool user; /* scope of the service */
	const char *state_dir, *runtime_dir;
	const char *kvm_device;
	const char *default_slice;
};

struct manager {
	sd_event *event;
	bool user;
	char *state_dir, *runtime_dir, *kvm_device, *default_slice;
	int runtime_lock;        /* held while we live */
	struct spawner *spawner; /* owned */
	struct host host;
	const struct manager_observer *observer; /* NULL until the service is there */
	void *observer_data;
	GHashTable *machines; /* name -> struct machine, owned */
	GHashTable *uuids;    /* uuid -> struct machine */
	GHashTable *jobs;     /* id -> struct job, owned */
	uint32_t last_job_id;
	struct list dirty; /* machines with changes to announce */
	uint32_t changed;  /* our own */
	sd_event_source *flush;
	unsigned int n_running;
	/* In microseconds; tests make them short. */
	uint64_t job_retention_usec, button_interval_usec, quit_grace_usec, reconnect_usec;
	uint64_t request_usec;    /* for a running worker to do what it is asked */
	uint64_t lost_grace_usec; /* for a starting worker without a connection */
	struct autostart *autostart;
	/* Adoption: how many answers are still to come. */
	unsigned int n_adopting;
	void (*adopted)(void *data);
	void *adopted_data;
};

/* Takes over the spawner, also on failure. */
int manager_new(sd_event *event, const struct manager_options *options, struct spawner *spawner,
		struct manager **ret, struct err *err);
void manager_free(struct manager *manager);
void manager_set_observer(struct manager *manager, const struct manager_observer *observer,
			  void *data);

/* Reads all definitions. */
int manager_load(struct manager *manager, struct err *err);

struct machine *manager_find(struct manager *manager, const char *name);
struct machine *manager_find_uuid(struct manager *manager, const char *uuid);
struct machine *manager_find_pid(struct manager *manager, uint32_t pid);
struct job *manager_find_job(struct manager *manager, uint32_t id);

/* May a VM of this name and UUID be made? */
int manager_check_new(struct manager *manager, const char *name, const char *uuid, struct err *err);
/* Takes over def's contents on success; a persistent one is on disk then. */
int manager_create(struct manager *manager, struct definition *def, struct machine **ret,
		   struct err *err);
/* Frees the machine. */
void manager_remove(struct manager *manager, struct machine *vm);

/* KVM may have come or gone (a module) since the last look. */
void manager_probe_host(struct manager *manager);

/* For machines. */
void manager_add(struct manager *manager, struct machine *vm);
void manager_vm_changed(struct manager *manager, struct machine *vm, uint32_t properties);
void manager_flush(struct manager *manager);
void manager_count_running(struct manager *manager, int delta);

/* For jobs. */
/* Gives it the next number unless it has one that is free. */
int manager_add_job(struct manager *manager, struct job *job, struct err *err);
void manager_remove_job(struct manager *manager, struct job *job);
void manager_job_changed(struct manager *manager, struct job *job, uint32_t properties);
void manager_job_ended(struct manager *manager, struct job *job);

/* Describe(): host and daemon as JSON text, free with g_free(). */
char *manager_describe(struct manager *manager);
