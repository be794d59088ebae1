/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/worker.h"

#include "daemon/resources.h"
#include "dbus/variant.h"
#include "dbus/worker-error.h"
#include "vmm/api/protocol.h"
#include "vmm/base/err.h"
#include "vmm/base/list.h"
#include "vmm/base/log.h"
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

/* Building a VM with prefaulted memory may take minutes; nothing else may. */
#define START_USEC (600 * 1000000ULL)

/*
 * A worker may be in hostile hands, and what it says goes to everybody on the bus,
 * which cuts off whoever sends it a message it finds too large.
 */
#define EVENT_MAX      (16 * 1024)
#define EVENT_NAME_MAX 255

struct worker {
	sd_bus *bus;
	const struct worker_handlers *handlers;
	void *data;
	struct list calls;
	bool in_handler, freed; /* free() inside a handler is finished by worker_leave() */
};

struct worker_request {
	struct list link;
	struct worker *worker;
	const char *method;
	uint64_t usec; /* 0 = no limit */
	sd_bus_slot *slot;
	worker_reply_fn fn;
	void *data;
};

static void worker_destroy(struct worker *worker)
{
	sd_bus_detach_event(worker->bus);
	sd_bus_close_unref(worker->bus);
	free(worker);
}

/* Handlers nest at most in the sense that a reply function starts another call. */
static bool worker_enter(struct worker *worker)
{
	bool outermost = !worker->in_handler;

	worker->in_handler = true;
	return outermost;
}

static void worker_leave(struct worker *worker, bool outermost)
{
	if (!outermost)
		return;
	worker->in_handler = false;
	if (worker->freed)
		worker_destroy(worker);
}

static void request_end(struct worker_request *request, sd_bus_message *reply,
			const struct err *err)
{
	worker_reply_fn fn = request->fn;
	void *data = request->data;

	list_remove(&request->link);
	sd_bus_slot_unref(request->slot);
	free(request);
	if (fn)
		fn(data, reply, err);
}

static int on_reply(sd_bus_message *reply, void *userdata, sd_bus_error *ret_error)
{
	struct worker_request *request = userdata;
	struct worker *worker = request->worker;
	const sd_bus_error *e = sd_bus_message_get_error(reply);
	bool outermost = worker_enter(worker);
	struct err err = { 0 };

	(void)ret_error;
	/* The worker itself never says that: sd-bus does when the time is over. */
	if (e && sd_bus_error_has_name(e, SD_BUS_ERROR_NO_REPLY) && sd_bus_is_open(worker->bus) > 0)
		err_set(&err, ETIMEDOUT, "the worker did not answer %s within %" PRIu64 " ms",
			request->method, request->usec / 1000);
	else if (e && sd_bus_is_open(worker->bus) > 0)
		err_from_worker_error(&err, -sd_bus_message_get_errno(reply), e);
	else if (e) /* sd-bus answers for a peer that hung up */
		err_fault(&err, FAULT_WORKER_FAILED, ECONNRESET, "the worker is gone");
	request_end(request, e ? NULL : reply, e ? &err : NULL);
	worker_leave(worker, outermost);
	return 1;
}

static int on_state_changed(sd_bus_message *m, void *userdata, sd_bus_error *ret_error)
{
	struct worker *worker = userdata;
	const char *from, *to, *reason;
	bool outermost;
	int r;

	(void)ret_error;
	r = sd_bus_message_read(m, "sss", &from, &to, &reason);
	if (r < 0) {
		log_warning("a worker sent a malformed StateChanged: %s", strerror(-r));
		return 0;
	}
	outermost = worker_enter(worker);
	if (!worker->freed)
		worker->handlers->state_changed(worker->data, from, to, reason);
	worker_leave(worker, outermost);
	return 0;
}

/* 0: there is nobody to tell, or nothing. */
static int read_event(struct worker *worker, sd_bus_message *m)
{
	g_autoptr(GVariant) details = NULL;
	const char *source, *name;
	struct err err = { 0 };
	int r;

	r = sd_bus_message_read(m, "ss", &source, &name);
	if (r < 0)
		return r;
	if (strlen(source) > EVENT_NAME_MAX || strlen(name) > EVENT_NAME_MAX)
		return -E2BIG;
	r = variant_from_message_max(m, "a{sv}", EVENT_MAX, &details, &err);
	if (r < 0)
		return -err.code;
	worker->handlers->event(worker->data, source, name, details);
	return 0;
}

static int on_event(sd_bus_message *m, void *userdata, sd_bus_error *ret_error)
{
	struct worker *worker = userdata;
	bool outermost = worker_enter(worker);
	int r;

	(void)ret_error;
	if (!worker->freed && worker->handlers->wants_event(worker->data)) {
		r = read_event(worker, m);
		if (r == -E2BIG)
			worker->handlers->event_too_large(worker->data);
		else if (r < 0)
			log_warning("a worker sent a malformed Event: %s", strerror(-r));
	}
	worker_leave(worker, outermost);
	return 0;
}

static int on_device_changed(sd_bus_message *m, void *userdata, sd_bus_error *ret_error)
{
	struct worker *worker = userdata;
	bool outermost = worker_enter(worker);
	g_autoptr(GVariant) values = NULL;
	struct err err = { 0 };
	const char *id;
	int r;

	(void)ret_error;
	r = sd_bus_message_read(m, "s", &id);
	if (r >= 0)
		r = variant_from_message_max(m, "a{sv}", EVENT_MAX, &values, &err);
	if (r < 0)
		log_warning("a worker sent a DeviceChanged that cannot be taken: %s",
			    err.code ? err.msg : strerror(-r));
	else if (!worker->freed)
		worker->handlers->device_changed(worker->data, id, values);
	worker_leave(worker, outermost);
	return 0;
}

/* Signals of one word. */
static int on_word(sd_bus_message *m, void *userdata, sd_bus_error *ret_error)
{
	struct worker *worker = userdata;
	bool outermost = worker_enter(worker);
	const char *word;
	int r;

	(void)ret_error;
	r = sd_bus_message_read(m, "s", &word);
	if (r < 0)
		log_warning("a worker sent a malformed %s: %s", sd_bus_message_get_member(m),
			    strerror(-r));
	else if (worker->freed)
		;
	else if (sd_bus_message_is_signal(m, NULL, "DeviceRemoved") > 0)
		worker->handlers->device_removed(worker->data, word);
	else if (sd_bus_message_is_signal(m, NULL, "RemovalRefused") > 0)
		worker->handlers->removal_refused(worker->data, word);
	else
		worker->handlers->resize_refused(worker->data, word);
	worker_leave(worker, outermost);
	return 0;
}

static int on_sizes(sd_bus_message *m, void *userdata, sd_bus_error *ret_error)
{
	struct worker *worker = userdata;
	bool outermost = worker_enter(worker);
	g_autoptr(GVariant) sizes = NULL;
	struct err err = { 0 };

	(void)ret_error;
	if (variant_from_message_max(m, "a{sv}", EVENT_MAX, &sizes, &err) < 0)
		log_warning("a worker sent a SizesChanged that cannot be taken: %s", err.msg);
	else if (!worker->freed)
		worker->handlers->sizes_changed(worker->data, sizes);
	worker_leave(worker, outermost);
	return 0;
}

static int on_vsock_wanted(sd_bus_message *m, void *userdata, sd_bus_error *ret_error)
{
	struct worker *worker = userdata;
	bool outermost = worker_enter(worker);
	uint32_t cookie, port;
	int seqpacket, r;

	(void)ret_error;
	r = sd_bus_message_read(m, "uub", &cookie, &port, &seqpacket);
	if (r < 0)
		log_warning("a worker sent a malformed VSockWanted: %s", strerror(-r));
	else if (!worker->freed)
		worker->handlers->vsock_wanted(worker->data, cookie, port, seqpacket);
	worker_leave(worker, outermost);
	return 0;
}

static int on_disconnected(sd_bus_message *m, void *userdata, sd_bus_error *ret_error)
{
	struct worker *worker = userdata;
	bool outermost = worker_enter(worker);

	(void)m;
	(void)ret_error;
	if (!worker->freed)
		worker->handlers->lost(worker->data);
	worker_leave(worker, outermost);
	return 0;
}

static int socket_connect(const char *path)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	_cleanup_close_ int fd = -EBADF;

	if (strlen(path) >= sizeof(addr.sun_path))
		return -ENAMETOOLONG;
	strcpy(addr.sun_path, path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0)
		return -errno;
	return TAKE_FD(fd);
}

static int bus_set_up(struct worker *worker, sd_event *event, int fd)
{
	static const char *const words[] = { "DeviceRemoved", "RemovalRefused", "ResizeRefused" };
	sd_bus *bus = worker->bus;
	int r;

	r = sd_bus_set_description(bus, "worker");
	if (r >= 0)
		r = sd_bus_negotiate_fds(bus, true);
	if (r >= 0)
		r = sd_bus_set_fd(bus, fd, fd);
	if (r < 0) {
		close(fd);
		return r;
	}
	/* From here on the bus closes it. */
	r = sd_bus_start(bus);
	if (r >= 0)
		r = sd_bus_match_signal(bus, NULL, NULL, PROTOCOL_OBJECT, PROTOCOL_INTERFACE,
					"StateChanged", on_state_changed, worker);
	if (r >= 0)
		r = sd_bus_match_signal(bus, NULL, NULL, PROTOCOL_OBJECT, PROTOCOL_INTERFACE,
					"Event", on_event, worker);
	if (r >= 0)
		r = sd_bus_match_signal(bus, NULL, NULL, PROTOCOL_OBJECT, PROTOCOL_INTERFACE,
					"DeviceChanged", on_device_changed, worker);
	if (r >= 0)
		r = sd_bus_match_signal(bus, NULL, NULL, PROTOCOL_OBJECT, PROTOCOL_INTERFACE,
					"VSockWanted", on_vsock_wanted, worker);
	if (r >= 0)
		r = sd_bus_match_signal(bus, NULL, NULL, PROTOCOL_OBJECT, PROTOCOL_INTERFACE,
					"SizesChanged", on_sizes, worker);
	for (size_t i = 0; r >= 0 && i < ARRAY_SIZE(words); i++)
		r = sd_bus_match_signal(bus, NULL, NULL, PROTOCOL_OBJECT, PROTOCOL_INTERFACE,
					words[i], on_word, worker);
	if (r >= 0)
		r = sd_bus_match_signal(bus, NULL, NULL, "/org/freedesktop/DBus/Local",
					"org.freedesktop.DBus.Local", "Disconnected",
					on_disconnected, worker);
	if (r >= 0)
		r = sd_bus_attach_event(bus, event, SD_EVENT_PRIORITY_NORMAL);
	return r;
}

int worker_connect(sd_event *event, const char *socket_path, const struct worker_handlers *handlers,
		   void *data, struct worker **ret, struct err *err)
{
	struct worker *worker;
	int fd, r;

	fd = socket_connect(socket_path);
	if (fd < 0)
		return err_errno(err, -fd, "cannot connect to '%s'", socket_path);
	worker = calloc(1, sizeof(*worker));
	if (!worker) {
		close(fd);
		return err_errno(err, ENOMEM, "cannot connect to '%s'", socket_path);
	}
	worker->handlers = handlers;
	worker->data = data;
	list_init(&worker->calls);
	r = sd_bus_new(&worker->bus);
	if (r < 0)
		close(fd);
	else
		r = bus_set_up(worker, event, fd);
	if (r < 0) {
		worker_destroy(worker);
		return err_errno(err, -r, "cannot connect to '%s'", socket_path);
	}
	*ret = worker;
	return 0;
}

void worker_free(struct worker *worker)
{
	struct err err = { 0 };
	bool outermost;

	if (!worker || worker->freed)
		return;
	outermost = worker_enter(worker);
	worker->freed = true;
	err_fault(&err, FAULT_WORKER_FAILED, ECONNRESET, "the worker is gone");
	while (!list_empty(&worker->calls))
		request_end(container_of(worker->calls.next, struct worker_request, link), NULL,
			    &err);
	worker_leave(worker, outermost);
}

static int request_send(struct worker *worker, const char *method, sd_bus_message *m, uint64_t usec,
			worker_reply_fn fn, void *data)
{
	struct worker_request *request = calloc(1, sizeof(*request));
	int r;

	if (!request)
		return -ENOMEM;
	request->worker = worker;
	request->method = method;
	request->usec = usec;
	request->fn = fn;
	request->data = data;
	r = sd_bus_call_async(worker->bus, &request->slot, m, on_reply, request,
			      usec ? usec : UINT64_MAX);
	if (r < 0) {
		free(request);
		return r;
	}
	list_append(&worker->calls, &request->link);
	return 0;
}

static int call_new(struct worker *worker, const char *method, sd_bus_message **ret)
{
	if (worker->freed)
		return -ECONNRESET;
	return sd_bus_message_new_method_call(worker->bus, ret, NULL, PROTOCOL_OBJECT,
					      PROTOCOL_INTERFACE, method);
}

static int call_failed(const char *method, int r, struct err *err)
{
	if (r >= 0)
		return 0;
	err_errno(err, -r, "cannot send %s to the worker", method);
	if (err)
		err->fault = FAULT_WORKER_FAILED;
	return r;
}

int worker_callv(struct worker *worker, const char *method, uint64_t usec, worker_reply_fn fn,
		 void *data, struct err *err, const char *types, va_list ap)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
	int r;

	r = call_new(worker, method, &m);
	if (r >= 0 && types)
		r = sd_bus_message_appendv(m, types, ap);
	if (r >= 0)
		r = request_send(worker, method, m, usec, fn, data);
	return call_failed(method, r, err);
}

int worker_call(struct worker *worker, const char *method, uint64_t usec, worker_reply_fn fn,
		void *data, struct err *err, const char *types, ...)
{
	va_list ap;
	int r;

	va_start(ap, types);
	r = worker_callv(worker, method, usec, fn, data, err, types, ap);
	va_end(ap);
	return r;
}

int worker_add_resources(struct worker *worker, const struct resource_set *set, worker_reply_fn fn,
			 void *data, struct err *err)
{
	int r = 0;

	for (size_t done = 0; r >= 0 && done < set->n_fds;) {
		_cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;

		r = call_new(worker, "AddResources", &m);
		if (r >= 0)
			r = sd_bus_message_open_container(m, 'a', "{sh}");
		for (size_t n = 0; r >= 0 && n < PROTOCOL_FDS_PER_CALL && done < set->n_fds;
		     n++, done++)
			r = sd_bus_message_append(m, "{sh}", set->fds[done].pointer,
						  set->fds[done].fd);
		if (r >= 0)
			r = sd_bus_message_close_container(m);
		if (r >= 0)
			r = request_send(worker, "AddResources", m, START_USEC, fn, data);
	}
	return call_failed("AddResources", r, err);
}

int worker_start(struct worker *worker, GVariant *config, bool paused, worker_reply_fn fn,
		 void *data, struct err *err)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
	int r;

	r = call_new(worker, "Start", &m);
	if (r >= 0)
		r = variant_append(m, config);
	if (r >= 0)
		r = sd_bus_message_append(m, "a{sv}", 1, "paused", "b", (int)paused);
	if (r >= 0)
		r = request_send(worker, "Start", m, START_USEC, fn, data);
	return call_failed("Start", r, err);
}

int worker_add_device(struct worker *worker, const char *key, GVariant *element, worker_reply_fn fn,
		      void *data, struct err *err)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
	int r;

	r = call_new(worker, "AddDevice", &m);
	if (r >= 0)
		r = sd_bus_message_append(m, "s", key);
	if (r >= 0)
		r = variant_append(m, element);
	if (r >= 0)
		r = request_send(worker, "AddDevice", m, START_USEC, fn, data);
	return call_failed("AddDevice", r, err);
}

void worker_drain(struct worker *worker)
{
	bool outermost = worker_enter(worker);

	while (!worker->freed && sd_bus_process(worker->bus, NULL) > 0)
		;
	worker_leave(worker, outermost);
}
