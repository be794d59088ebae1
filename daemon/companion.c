/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/companion.h"

#include "daemon/spawner.h"
#include "daemon/unit.h"
#include "vmm/base/cleanup.h"
#include "vmm/base/err.h"
#include "vmm/base/log.h"
#include <errno.h>
#include <glib.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SD_NAME    "org.freedesktop.systemd1"
#define SD_PATH    "/org/freedesktop/systemd1"
#define SD_MANAGER SD_NAME ".Manager"
#define START_USEC (30 * 1000000ULL)

/* One unit of a start. */
struct launch {
	struct companion_units *start;
	char *unit;
	char *job; /* until it is over */
	sd_bus_slot *call;
	bool done;
};

struct companion_units {
	sd_bus_slot *job_match;
	struct launch *launches;
	size_t n, n_done;
	void (*done)(void *data, const struct err *err);
	void *data;
};

void companion_deinit(struct companion *companion)
{
	g_free(companion->id);
	g_strfreev(companion->argv);
	if (companion->fd >= 0)
		close(companion->fd);
	if (companion->out_fd > 0)
		close(companion->out_fd);
	if (companion->peer_fd > 0)
		close(companion->peer_fd);
	*companion = (struct companion){ .fd = -EBADF };
}

const char *companion_find_program(const char *const *paths, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (access(paths[i], X_OK) == 0)
			return paths[i];
	return NULL;
}

static void companion_units_free(struct companion_units *start)
{
	if (!start)
		return;
	for (size_t i = 0; i < start->n; i++) {
		sd_bus_slot_unref(start->launches[i].call);
		g_free(start->launches[i].unit);
		g_free(start->launches[i].job);
	}
	sd_bus_slot_unref(start->job_match);
	g_free(start->launches);
	g_free(start);
}

/* May free the start: nothing after this. */
static void launch_done(struct launch *launch, const struct err *err)
{
	struct companion_units *start = launch->start;

	if (launch->done)
		return;
	launch->done = true;
	start->n_done++;
	if (err || start->n_done == start->n)
		start->done(start->data, err);
}

static int on_started(sd_bus_message *reply, void *userdata, sd_bus_error *error)
{
	struct launch *launch = userdata;
	const sd_bus_error *e = sd_bus_message_get_error(reply);
	struct err err = { 0 };
	const char *job;

	(void)error;
	launch->call = sd_bus_slot_unref(launch->call);
	if (e) {
		err_fault(&err, FAULT_HOST_RESOURCE, EIO, "systemd does not start '%s': %s",
			  launch->unit, e->message ? e->message : e->name);
		launch_done(launch, &err);
	} else if (sd_bus_message_read(reply, "o", &job) >= 0) {
		launch->job = g_strdup(job);
	}
	return 1;
}

static int on_job_removed(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	struct companion_units *start = userdata;
	const char *job, *result;
	struct err err = { 0 };

	(void)error;
	if (sd_bus_message_read(m, "uoss", NULL, &job, NULL, &result) < 0)
		return 0;
	for (size_t i = 0; i < start->n; i++) {
		struct launch *launch = &start->launches[i];

		if (!launch->job || strcmp(launch->job, job) != 0)
			continue;
		if (strcmp(result, "done") != 0)
			err_fault(&err, FAULT_HOST_RESOURCE, EIO,
				  "'%s' could not be started (%s): its journal tells why",
				  launch->unit, result);
		launch_done(launch, err.code ? &err : NULL);
		return 0;
	}
	return 0;
}

static int append_strings(sd_bus_message *m, const char *name, const char *value)
{
	return sd_bus_message_append(m, "(sv)", name, "as", 1, value);
}

/* ExecStart a(sasb) */
static int append_exec(sd_bus_message *m, char *const *argv)
{
	int r;

	r = sd_bus_message_open_container(m, 'r', "sv");
	if (r >= 0)
		r = sd_bus_message_append(m, "s", "ExecStart");
	if (r >= 0)
		r = sd_bus_message_open_container(m, 'v', "a(sasb)");
	if (r >= 0)
		r = sd_bus_message_open_container(m, 'a', "(sasb)");
	if (r >= 0)
		r = sd_bus_message_open_container(m, 'r', "sasb");
	if (r >= 0)
		r = sd_bus_message_append(m, "s", argv[0]);
	if (r >= 0)
		r = sd_bus_message_append_strv(m, (char **)argv);
	if (r >= 0)
		r = sd_bus_message_append(m, "b", false);
	for (int i = 0; r >= 0 && i < 4; i++)
		r = sd_bus_message_close_container(m);
	return r;
}

static int append_properties(sd_bus_message *m, bool user, const char *worker_unit, const char *vm,
			     const char *slice, const struct companion *companion)
{
	const struct companion_kind *kind = companion->kind;
	g_autofree char *description =
		g_strdup_printf("%s of virtual machine %s", kind->description, vm);
	int r;

	r = sd_bus_message_open_container(m, 'a', "(sv)");
	if (r >= 0)
		r = sd_bus_message_append(m, "(sv)(sv)(sv)(sv)", "Description", "s", description,
					  "Slice", "s", slice, "SyslogIdentifier", "s", kind->name,
					  "StandardInputFileDescriptor", "h", companion->fd);
	if (r >= 0 && companion->out_fd > 0)
		r = sd_bus_message_append(m, "(sv)", "StandardOutputFileDescriptor", "h",
					  companion->out_fd);
	if (r >= 0)
		r = append_strings(m, "BindsTo", worker_unit);
	/* On the way down the guest has it as long as it has its worker. */
	if (r >= 0)
		r = append_strings(m, "Before", worker_unit);
	if (r >= 0)
		r = append_exec(m, companion->argv);
	if (r >= 0)
		r = unit_append_table(m, kind->properties, kind->n_properties, user, NULL);
	if (r >= 0)
		r = unit_append_log_field(m, vm);
	return r < 0 ? r : sd_bus_message_close_container(m);
}

static int launch_unit(struct launch *launch, sd_bus *bus, bool user, const char *worker_unit,
		       const char *vm, const char *slice, const struct companion *companion,
		       struct err *err)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
	int r;

	r = sd_bus_message_new_method_call(bus, &m, SD_NAME, SD_PATH, SD_MANAGER,
					   "StartTransientUnit");
	/* Otherwise a worker that has just ended would be started again for its companion. */
	if (r >= 0)
		r = sd_bus_message_append(m, "ss", launch->unit, "ignore-dependencies");
	if (r >= 0)
		r = append_properties(m, user, worker_unit, vm, slice, companion);
	if (r >= 0)
		r = sd_bus_message_append(m, "a(sa(sv))", 0);
	if (r >= 0)
		r = sd_bus_call_async(bus, &launch->call, m, on_started, launch, START_USEC);
	return r < 0 ? err_errno(err, -r, "cannot start '%s'", launch->unit) : 0;
}

int companion_start_units(sd_bus *bus, bool user, const char *worker_unit, const char *vm,
			  const char *slice, const struct companion *companions, size_t n,
			  void (*done)(void *data, const struct err *err), void *data,
			  struct companion_units **ret, struct err *err)
{
	struct companion_units *start = g_new0(struct companion_units, 1);
	int r;

	start->launches = g_new0(struct launch, n);
	start->done = done;
	start->data = data;
	/* Sent before the calls whose jobs it is to see. */
	r = sd_bus_match_signal_async(bus, &start->job_match, SD_NAME, SD_PATH, SD_MANAGER,
				      "JobRemoved", on_job_removed, NULL, start);
	if (r < 0)
		err_errno(err, -r, "cannot watch systemd");
	for (size_t i = 0; r >= 0 && i < n; i++) {
		struct launch *launch = &start->launches[start->n++];

		launch->start = start;
		launch->unit = g_strdup_printf("brume-%s-%s:%s.service", companions[i].kind->name,
					       vm, companions[i].id);
		r = launch_unit(launch, bus, user, worker_unit, vm, slice, &companions[i], err);
	}
	if (r < 0) {
		companion_units_free(start);
		return r;
	}
	*ret = start;
	return 0;
}

/* --- units or not ------------------------------------------------------------------ */

struct companion_start {
	sd_event *event;
	char *vm;
	struct companion *companions;
	size_t n;
	struct companion_units *units; /* while systemd starts them */
	sd_event_source *settle;
	void (*done)(void *data, const struct err *err);
	void *data;
};

void companion_start_free(struct companion_start *start)
{
	if (!start)
		return;
	companion_units_free(start->units);
	sd_event_source_disable_unref(start->settle);
	sd_event_unref(start->event);
	g_free(start->vm);
	g_free(start);
}

static bool has_ended(const struct companion *companion)
{
	struct pollfd peer = { .fd = companion->peer_fd };

	return companion->peer_fd > 0 && poll(&peer, 1, 0) == 1 && peer.revents & POLLHUP;
}

static int on_settled(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct companion_start *start = userdata;
	struct err err = { 0 };

	(void)source;
	(void)usec;
	for (size_t i = 0; i < start->n && !err.code; i++) {
		const struct companion *companion = &start->companions[i];

		if (has_ended(companion))
			err_fault(&err, FAULT_HOST_RESOURCE, ECHILD,
				  "%s of device '%s' has ended at once: the journal of "
				  "'brume-%s-%s:%s.service' tells why",
				  companion->kind->name, companion->id, companion->kind->name,
				  start->vm, companion->id);
	}
	start->done(start->data, err.code ? &err : NULL);
	return 0;
}

/* Its end of the socket is its own from here on: while we had it too, it could not end. */
static void close_ends(struct companion *companion)
{
	if (companion->fd >= 0)
		close(companion->fd);
	companion->fd = -EBADF;
	if (companion->out_fd > 0)
		close(companion->out_fd);
	companion->out_fd = 0;
}

static int settle(struct companion_start *start, struct err *err)
{
	uint64_t usec = 0;
	int r;

	for (size_t i = 0; i < start->n; i++) {
		close_ends(&start->companions[i]);
		usec = MAX(usec, start->companions[i].kind->settle_usec);
	}
	r = sd_event_add_time_relative(start->event, &start->settle, CLOCK_MONOTONIC, usec, 0,
				       on_settled, start);
	return r < 0 ? err_errno(err, -r, "cannot set a timer") : 0;
}

static void on_running(void *data, const struct err *err)
{
	struct companion_start *start = data;
	struct err cause = { 0 };

	if (err)
		cause = *err;
	companion_units_free(TAKE_PTR(start->units));
	if (cause.code || settle(start, &cause) < 0)
		start->done(start->data, &cause);
}

int companion_start(sd_event *event, struct spawn *worker, const char *vm, const char *slice,
		    struct companion *companions, size_t n,
		    void (*done)(void *data, const struct err *err), void *data,
		    struct companion_start **ret, struct err *err)
{
	struct companion_start *start;
	int r;

	*ret = NULL;
	if (n == 0)
		return 0;
	start = g_new0(struct companion_start, 1);
	start->event = sd_event_ref(event);
	start->vm = g_strdup(vm);
	start->companions = companions;
	start->n = n;
	start->done = done;
	start->data = data;
	r = worker->spawner->ops->start_companions(worker, vm, slice, companions, n, on_running,
						   start, &start->units, err);
	if (r == 0 && !start->units)
		r = settle(start, err);
	if (r < 0) {
		companion_start_free(start);
		return r;
	}
	*ret = start;
	return 0;
}
