/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The daemon's end of the control channel (vmm/api/protocol.h)
 *
 * The daemon made the socket that the worker listens on, so connecting works
 * before the worker runs: the kernel queues the connection and calls wait in it
 * until the worker serves them.  Every call is asynchronous and is answered
 * exactly once: by the worker, by the end of the connection, or by
 * worker_free().
 *
 * Main loop.  Handlers and reply functions may free the worker.
 */
#pragma once

#include "vmm/base/cleanup.h"
#include <glib.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-bus.h>

struct err;
struct resource_set;
struct worker;

/* What of a worker's answer is passed on, as variant_from_message_max() counts it. */
#define WORKER_ANSWER_MAX (256 * 1024)

struct worker_handlers {
	void (*state_changed)(void *data, const char *from, const char *to, const char *reason);
	/* Before an event is looked at: is it wanted at all? */
	bool (*wants_event)(void *data);
	/* It was more than anybody is told, and is dropped. */
	void (*event_too_large)(void *data);
	void (*event)(void *data, const char *source, const char *name, GVariant *details);
	/* All values of a device of the guest, a{sv}. */
	void (*device_changed)(void *data, const char *id, GVariant *values);
	/* A device has left the machine; the guest says that it keeps one. */
	void (*device_removed)(void *data, const char *id);
	void (*removal_refused)(void *data, const char *id);
	/* The guest has more or less than it had, a{sv}; it keeps what it was asked for. */
	void (*sizes_changed)(void *data, GVariant *sizes);
	void (*resize_refused)(void *data, const char *what);
	/* Its guest wants a connection to the host (vsock.h). */
	void (*vsock_wanted)(void *data, uint32_t cookie, uint32_t port, bool seqpacket);
	/* The connection ended; the process may be dead or have a newer connection. */
	void (*lost)(void *data);
};

/* reply: the method return, NULL when err is set. */
typedef void (*worker_reply_fn)(void *data, sd_bus_message *reply, const struct err *err);

int worker_connect(sd_event *event, const char *socket_path, const struct worker_handlers *handlers,
		   void *data, struct worker **ret, struct err *err);
/* Fails what is still pending with -ECONNRESET first. NULL is allowed. */
void worker_free(struct worker *worker);

/*
 * A call; method is static text, arguments as of sd_bus_message_append().  Not
 * answered within usec (0 = no limit) it fails with -ETIMEDOUT; the worker may
 * still do what it was asked, a late answer is dropped.
 */
int worker_call(struct worker *worker, const char *method, uint64_t usec, worker_reply_fn fn,
		void *data, struct err *err, const char *types, ...);
int worker_callv(struct worker *worker, const char *method, uint64_t usec, worker_reply_fn fn,
		 void *data, struct err *err, const char *types, va_list ap);
/* AddResources as often as needed. The replies matter only when they are errors: see Start. */
int worker_add_resources(struct worker *worker, const struct resource_set *set, worker_reply_fn fn,
			 void *data, struct err *err);
/* Start with a configuration that names no host resources any more. */
int worker_start(struct worker *worker, GVariant *config, bool paused, worker_reply_fn fn,
		 void *data, struct err *err);
/* AddDevice; element: a{sv} that names no host resources any more. */
int worker_add_device(struct worker *worker, const char *key, GVariant *element, worker_reply_fn fn,
		      void *data, struct err *err);
/* Handles what has arrived already, now. */
void worker_drain(struct worker *worker);
