/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/unit.h"

#include "daemon/companion.h"
#include "daemon/machined.h"
#include "daemon/runtime.h"
#include "daemon/spawner.h"
#include "daemon/unit-change.h"
#include "vmm/base/cleanup.h"
#include "vmm/base/err.h"
#include "vmm/base/log.h"
#include <errno.h>
#include <glib.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#define SD_NAME      "org.freedesktop.systemd1"
#define SD_PATH      "/org/freedesktop/systemd1"
#define SD_MANAGER   SD_NAME ".Manager"
#define SD_UNIT_PATH SD_PATH "/unit"
#define UNIT_PREFIX  "brume-vm-"
#define UNIT_SUFFIX  ".service"
#define START_USEC   (30 * 1000000ULL) /* systemd's answer that it has taken the job */
#define RETRY_USEC   (300 * 1000ULL)   /* while systemd re-executes itself it does not answer */
#define AGAIN_USEC   (100 * 1000ULL)   /* while systemd has not forgotten the unit before ours */
#define STARTS_MAX   50

struct unit_spawner {
	struct spawner base;
	sd_bus *bus;
	char *worker_path, *runtime_dir;
	bool user;
	GHashTable *units; /* object path -> struct spawn */
	sd_bus_slot *job_match, *changed_match, *removed_match, *reloading_match;
};

struct unit {
	char *path;
	char *job; /* start job of ours, until it is removed */
	bool up;   /* the start job is over: there is a process to kill */
	bool adopting;
	bool dead;                  /* systemd may forget it */
	sd_bus_message *start_call; /* until systemd has accepted it */
	sd_event_source *again;     /* it is sent again then: nothing of ours is there yet */
	unsigned int n_starts;
	bool killed; /* before that: it is not to be sent again */
	sd_bus_slot *start, *check;
	bool check_again; /* something happened while a check was under way */
	sd_event_source *retry;
	struct machined_registration registration;
	struct unit_change change;
};

/* Of one GetAll: what we look at. */
struct unit_view {
	char active[16], result[32], invocation[33];
	char job[64]; /* of whoever asked for it; "/" = none */
	uint32_t pid;
	int32_t code, status;
};

static struct unit_spawner *spawner_of(const struct spawn *sp)
{
	return (struct unit_spawner *)(void *)sp->spawner;
}

/* Fire and forget: systemd handles our messages in the order we send them. */
static void tell(struct unit_spawner *spawner, const char *method, const char *types, ...)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
	va_list ap;
	int r;

	r = sd_bus_message_new_method_call(spawner->bus, &m, SD_NAME, SD_PATH, SD_MANAGER, method);
	if (r >= 0 && types) {
		va_start(ap, types);
		r = sd_bus_message_appendv(m, types, ap);
		va_end(ap);
	}
	if (r >= 0)
		r = sd_bus_message_set_expect_reply(m, false);
	if (r >= 0)
		r = sd_bus_send(spawner->bus, m, NULL);
	if (r < 0)
		log_warning("cannot send %s to systemd: %s", method, strerror(-r));
}

static void unit_release(struct spawn *sp)
{
	struct unit_spawner *spawner = spawner_of(sp);
	struct unit *unit = sp->impl;

	sp->active = false;
	if (!unit)
		return;
	sp->impl = NULL;
	g_hash_table_remove(spawner->units, unit->path);
	if (unit->dead) {
		/* Forgotten in this order: a failed unit is kept until it is reset. */
		tell(spawner, "ResetFailedUnit", "s", sp->unit);
		tell(spawner, "UnrefUnit", "s", sp->unit);
	}
	sd_bus_slot_unref(unit->start);
	sd_bus_slot_unref(unit->check);
	sd_bus_message_unref(unit->start_call);
	sd_event_source_disable_unref(unit->again);
	sd_event_source_disable_unref(unit->retry);
	unit_change_deinit(&unit->change);
	machined_registration_deinit(&unit->registration);
	free(unit->path);
	free(unit->job);
	free(unit);
}

static int unit_track(struct spawn *sp, const char *name, struct err *err)
{
	struct unit_spawner *spawner = spawner_of(sp);
	struct unit *unit = calloc(1, sizeof(*unit));

	if (!unit)
		return err_errno(err, ENOMEM, "cannot watch the unit of VM '%s'", name);
	free(sp->unit);
	if (asprintf(&sp->unit, UNIT_PREFIX "%s" UNIT_SUFFIX, name) < 0)
		sp->unit = NULL;
	if (!sp->unit || sd_bus_path_encode(SD_UNIT_PATH, sp->unit, &unit->path) < 0) {
		free(unit);
		return err_errno(err, ENOMEM, "cannot watch the unit of VM '%s'", name);
	}
	sp->impl = unit;
	sp->active = true;
	g_hash_table_insert(spawner->units, unit->path, sp);
	return 0;
}

static void copy_text(char *to, size_t size, const char *from)
{
	snprintf(to, size, "%s", from);
}

static int read_text(sd_bus_message *m, char *to, size_t size)
{
	const char *s;
	int r = sd_bus_message_read(m, "v", "s", &s);

	if (r >= 0)
		copy_text(to, size, s);
	return r;
}

/* (uo): number and object path */
static int read_job(sd_bus_message *m, char *to, size_t size)
{
	const char *path;
	int r = sd_bus_message_read(m, "v", "(uo)", NULL, &path);

	if (r >= 0)
		copy_text(to, size, path);
	return r;
}

static int read_invocation(sd_bus_message *m, char to[static 33])
{
	const uint8_t *bytes;
	size_t size;
	int r;

	r = sd_bus_message_enter_container(m, 'v', "ay");
	if (r >= 0)
		r = sd_bus_message_read_array(m, 'y', (const void **)&bytes, &size);
	if (r < 0)
		return r;
	to[0] = '\0';
	for (size_t i = 0; size == 16 && i < size; i++)
		snprintf(to + 2 * i, 3, "%02x", bytes[i]);
	return sd_bus_message_exit_container(m);
}

/* Properties at the cursor, a{sv}; those that are not there keep their value. */
static int read_view(sd_bus_message *m, struct unit_view *view)
{
	const char *key;
	int r;

	r = sd_bus_message_enter_container(m, 'a', "{sv}");
	while (r >= 0 && (r = sd_bus_message_enter_container(m, 'e', "sv")) > 0) {
		r = sd_bus_message_read(m, "s", &key);
		if (r < 0)
			break;
		if (strcmp(key, "ActiveState") == 0)
			r = read_text(m, view->active, sizeof(view->active));
		else if (strcmp(key, "Result") == 0)
			r = read_text(m, view->result, sizeof(view->result));
		else if (strcmp(key, "InvocationID") == 0)
			r = read_invocation(m, view->invocation);
		else if (strcmp(key, "Job") == 0)
			r = read_job(m, view->job, sizeof(view->job));
		else if (strcmp(key, "MainPID") == 0)
			r = sd_bus_message_read(m, "v", "u", &view->pid);
		else if (strcmp(key, "ExecMainCode") == 0)
			r = sd_bus_message_read(m, "v", "i", &view->code);
		else if (strcmp(key, "ExecMainStatus") == 0)
			r = sd_bus_message_read(m, "v", "i", &view->status);
		else
			r = sd_bus_message_skip(m, "v");
		if (r >= 0)
			r = sd_bus_message_exit_container(m);
	}
	return r < 0 ? r : sd_bus_message_exit_container(m);
}

/* The handler does not end the VM: a caller may go on with sp. */
static void identify(struct spawn *sp, const struct unit_view *view)
{
	bool changed = false;

	if (view->pid && view->pid != sp->pid) {
		sp->pid = view->pid;
		sp->pid_start = pid_start_time(view->pid);
		changed = true;
	}
	if (view->invocation[0] && strcmp(view->invocation, sp->invocation_id) != 0) {
		copy_text(sp->invocation_id, sizeof(sp->invocation_id), view->invocation);
		changed = true;
	}
	if (changed)
		sp->handlers->identified(sp->data);
}

static void unit_died(struct spawn *sp, const struct unit_view *view)
{
	struct spawn_exit how = { 0 };
	struct unit *unit = sp->impl;

	unit->dead = true;
	if (view && view->code != 0) {
		how.known = true;
		copy_text(how.result, sizeof(how.result), view->result);
		how.signaled = view->code != CLD_EXITED;
		how.status = view->status;
	} else if (view && view->result[0] && strcmp(view->result, "success") != 0) {
		/* It failed before there was a process: resources, a missing executable. */
		how.known = true;
		copy_text(how.result, sizeof(how.result), view->result);
	}
	spawn_exited(sp, &how);
}

static void unit_check(struct spawn *sp);

static int on_retry(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct spawn *sp = userdata;
	struct unit *unit = sp->impl;

	(void)source;
	(void)usec;
	unit->retry = sd_event_source_disable_unref(unit->retry);
	unit_check(sp);
	return 0;
}

/* Only an answer that says so means that there is no unit; anything else is asked again. */
static void check_failed(struct spawn *sp, const sd_bus_error *e)
{
	struct unit *unit = sp->impl;

	log_debug("%s: %s: %s", sp->unit, e->name, e->message);
	if (sd_bus_error_has_names(e, SD_NAME ".NoSuchUnit", SD_BUS_ERROR_UNKNOWN_OBJECT,
				   SD_BUS_ERROR_UNKNOWN_INTERFACE)) {
		unit_died(sp, NULL);
		return;
	}
	if (!unit->retry)
		sd_event_add_time_relative(sd_bus_get_event(spawner_of(sp)->bus), &unit->retry,
					   CLOCK_MONOTONIC, RETRY_USEC, 0, on_retry, sp);
}

/* A former daemon asked for it, and systemd has not come to it yet: it is about to run. */
static bool is_to_start(const struct unit_view *view)
{
	return strcmp(view->active, "inactive") == 0 && !view->invocation[0] && view->job[0] &&
	       strcmp(view->job, "/") != 0;
}

static int on_check(sd_bus_message *reply, void *userdata, sd_bus_error *error)
{
	struct spawn *sp = userdata;
	struct unit *unit = sp->impl;
	struct unit_view view = { 0 };
	bool again = unit->check_again;

	(void)error;
	unit->check = sd_bus_slot_unref(unit->check);
	unit->check_again = false;
	if (unit->again)
		return 1; /* that is another one */
	if (sd_bus_message_is_method_error(reply, NULL)) {
		check_failed(sp, sd_bus_message_get_error(reply));
		return 1;
	}
	if (read_view(reply, &view) < 0) {
		log_warning("%s: systemd's description is malformed", sp->unit);
		return 1;
	}
	/* The name may have been used again by somebody else. */
	if (sp->invocation_id[0] && strcmp(view.invocation, sp->invocation_id) != 0) {
		unit_died(sp, NULL);
		return 1;
	}
	if (strcmp(view.active, "inactive") == 0 || strcmp(view.active, "failed") == 0) {
		/* Before the first process of a start, "inactive" means not yet. */
		if (unit->job && !view.invocation[0])
			return 1;
		if (!unit->adopting || !is_to_start(&view)) {
			unit_died(sp, &view);
			return 1;
		}
		unit->job = strdup(view.job);
	}
	if (unit->adopting) {
		unit->adopting = false;
		unit->up = strcmp(view.active, "active") == 0;
		identify(sp, &view);
		sp->handlers->started(sp->data, NULL);
		return 1;
	}
	if (again)
		unit_check(sp);
	identify(sp, &view);
	return 1;
}

static void unit_check(struct spawn *sp)
{
	struct unit_spawner *spawner = spawner_of(sp);
	struct unit *unit = sp->impl;
	int r;

	if (unit->again)
		return;
	if (unit->check) {
		unit->check_again = true;
		return;
	}
	/* "" = all interfaces of the object */
	r = sd_bus_call_method_async(spawner->bus, &unit->check, SD_NAME, unit->path,
				     "org.freedesktop.DBus.Properties", "GetAll", on_check, sp, "s",
				     "");
	if (r < 0)
		log_warning("%s: cannot ask systemd: %s", sp->unit, strerror(-r));
}

static int on_start_reply(sd_bus_message *reply, void *userdata, sd_bus_error *error);

static void start_refused(struct spawn *sp, const char *why)
{
	struct err err = { 0 };

	err_fault(&err, FAULT_WORKER_FAILED, ECHILD, "systemd does not start '%s': %s", sp->unit,
		  why);
	unit_release(sp);
	sp->handlers->started(sp->data, &err);
}

static int on_start_again(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct spawn *sp = userdata;
	struct unit_spawner *spawner = spawner_of(sp);
	struct unit *unit = sp->impl;
	int r;

	(void)source;
	(void)usec;
	unit->again = sd_event_source_disable_unref(unit->again);
	if (unit->killed) {
		struct spawn_exit how = { 0 };

		spawn_exited(sp, &how);
		return 0;
	}
	tell(spawner, "ResetFailedUnit", "s", sp->unit);
	r = sd_bus_call_async(spawner->bus, &unit->start, unit->start_call, on_start_reply, sp,
			      START_USEC);
	if (r < 0)
		start_refused(sp, strerror(-r));
	return 0;
}

/*
 * The unit of the machine's last run has ended, but systemd keeps it loaded as
 * long as anything of it is left (its control group, a job, somebody's reference).
 */
static bool start_again(struct spawn *sp, const sd_bus_error *e)
{
	struct unit *unit = sp->impl;

	if (!sd_bus_error_has_name(e, SD_NAME ".UnitExists") || unit->killed ||
	    ++unit->n_starts >= STARTS_MAX)
		return false;
	return sd_event_add_time_relative(sd_bus_get_event(spawner_of(sp)->bus), &unit->again,
					  CLOCK_MONOTONIC, AGAIN_USEC, 0, on_start_again, sp) >= 0;
}

static int on_start_reply(sd_bus_message *reply, void *userdata, sd_bus_error *error)
{
	struct spawn *sp = userdata;
	struct unit *unit = sp->impl;
	const sd_bus_error *e = sd_bus_message_get_error(reply);
	const char *job;

	(void)error;
	unit->start = sd_bus_slot_unref(unit->start);
	if (!e && sd_bus_message_read(reply, "o", &job) >= 0) {
		unit->start_call = sd_bus_message_unref(unit->start_call);
		unit->job = strdup(job);
		return 1;
	}
	if (e && start_again(sp, e))
		return 1;
	/* A late answer is no refusal: systemd may have made the unit, or do so yet. */
	if (!e || sd_bus_error_has_names(e, SD_BUS_ERROR_NO_REPLY, SD_BUS_ERROR_TIMEOUT)) {
		tell(spawner_of(sp), "StopUnit", "ss", sp->unit, "replace");
		unit->dead = true; /* then unit_release() drops our reference too */
	}
	start_refused(sp, e ? e->message : "malformed reply");
	return 1;
}

static int unit_start(struct spawn *sp, const struct spawn_params *params, struct err *err)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
	struct unit_spawner *spawner = spawner_of(sp);
	struct unit *unit;
	int r;

	sp->invocation_id[0] = '\0';
	sp->pid = 0;
	r = unit_track(sp, params->name, err);
	if (r < 0)
		return r;
	unit = sp->impl;
	/* What is left of an earlier one that nobody looked at would keep the name. */
	tell(spawner, "ResetFailedUnit", "s", sp->unit);
	r = sd_bus_message_new_method_call(spawner->bus, &m, SD_NAME, SD_PATH, SD_MANAGER,
					   "StartTransientUnit");
	if (r >= 0)
		r = sd_bus_message_append(m, "ss", sp->unit, "fail");
	if (r < 0)
		err_errno(err, -r, "cannot start '%s'", sp->unit);
	else
		r = unit_append_properties(m, spawner->worker_path, spawner->runtime_dir,
					   spawner->user, params, err);
	if (r == 0) {
		r = sd_bus_message_append(m, "a(sa(sv))", 0);
		if (r >= 0)
			r = sd_bus_call_async(spawner->bus, &unit->start, m, on_start_reply, sp,
					      START_USEC);
		if (r < 0)
			err_errno(err, -r, "cannot start '%s'", sp->unit);
	}
	if (r < 0) {
		unit_release(sp);
		return r;
	}
	unit->start_call = sd_bus_message_ref(m);
	return 0;
}

static int unit_adopt(struct spawn *sp, const char *name, struct err *err)
{
	struct unit_spawner *spawner = spawner_of(sp);
	struct unit *unit;
	int r;

	r = unit_track(sp, name, err);
	if (r < 0)
		return r;
	unit = sp->impl;
	unit->adopting = true;
	tell(spawner, "RefUnit", "s", sp->unit);
	unit_check(sp);
	return 0;
}

static int unit_kill(struct spawn *sp, int signo, struct err *err)
{
	struct unit_spawner *spawner = spawner_of(sp);
	struct unit *unit = sp->impl;

	(void)err;
	unit->killed = true;
	if (unit->again)
		return 0;
	tell(spawner, "KillUnit", "ssi", sp->unit, "all", signo);
	/* A start that is still queued has nothing to kill yet. */
	if (!unit->up)
		tell(spawner, "StopUnit", "ss", sp->unit, "replace");
	return 0;
}

static void on_registered(void *data, const char *machine_name)
{
	struct spawn *sp = data;

	sp->handlers->registered(sp->data, machine_name);
}

static void unit_register_machine(struct spawn *sp, const char *name, const char *uuid,
				  char *const *taps)
{
	struct unit_spawner *spawner = spawner_of(sp);
	struct unit *unit = sp->impl;

	/* The user's machined comes with systemd 259. */
	if (spawner->user || sp->pid == 0)
		return;
	unit->registration.registered = on_registered;
	unit->registration.data = sp;
	machined_register(&unit->registration, spawner->bus, name, uuid, sp->pid, taps);
}

static void on_changed(void *data, const struct err *err)
{
	struct spawn *sp = data;

	sp->handlers->properties_set(sp->data, err);
}

static int unit_set_properties(struct spawn *sp, GVariant *properties, struct err *err)
{
	struct unit *unit = sp->impl;

	if (!unit)
		return err_fault(err, FAULT_WRONG_STATE, EPROTO, "'%s' has ended", sp->unit);
	unit->change.done = on_changed;
	unit->change.data = sp;
	return unit_change_start(&unit->change, spawner_of(sp)->bus, sp->unit, properties, err);
}

static int unit_start_companions(struct spawn *sp, const char *vm, const char *slice,
				 const struct companion *companions, size_t n,
				 void (*done)(void *data, const struct err *err), void *data,
				 struct companion_units **ret, struct err *err)
{
	struct unit_spawner *spawner = spawner_of(sp);

	return companion_start_units(spawner->bus, spawner->user, sp->unit, vm, slice, companions,
				     n, done, data, ret, err);
}

static struct spawn *find_by_unit(struct unit_spawner *spawner, const char *name)
{
	_cleanup_free_ char *path = NULL;

	if (sd_bus_path_encode(SD_UNIT_PATH, name, &path) < 0)
		return NULL;
	return g_hash_table_lookup(spawner->units, path);
}

static int on_job_removed(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	const char *job, *name, *result;
	struct spawn *sp;
	struct unit *unit;
	uint32_t id;

	(void)error;
	if (sd_bus_message_read(m, "uoss", &id, &job, &name, &result) < 0)
		return 0;
	sp = find_by_unit(userdata, name);
	unit = sp ? sp->impl : NULL;
	if (!unit || !unit->job || strcmp(unit->job, job) != 0)
		return 0;
	g_clear_pointer(&unit->job, free);
	if (strcmp(result, "done") != 0) {
		log_debug("%s: start job ended as '%s'", name, result);
		unit_check(sp);
		return 0;
	}
	unit->up = true;
	sp->handlers->started(sp->data, NULL);
	return 0;
}

static int on_properties_changed(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	struct unit_spawner *spawner = userdata;
	const char *path = sd_bus_message_get_path(m), *interface;
	struct spawn *sp = path ? g_hash_table_lookup(spawner->units, path) : NULL;
	struct unit_view view = { 0 };
	struct unit *unit;

	(void)error;
	unit = sp ? sp->impl : NULL;
	if (!unit || unit->adopting || unit->again)
		return 0;
	if (sd_bus_message_read(m, "s", &interface) < 0 || read_view(m, &view) < 0)
		return 0;
	/* The reason of an end is asked for: signals of two interfaces carry it in pieces. */
	if (strcmp(view.active, "inactive") == 0 || strcmp(view.active, "failed") == 0) {
		unit_check(sp);
		return 0;
	}
	if (strcmp(view.active, "active") == 0)
		unit->up = true;
	identify(sp, &view);
	return 0;
}

/* Also sent for units that live on, by daemon-reload: a reason to look, no more. */
static int on_unit_removed(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	struct spawn *sp;
	const char *name;

	(void)error;
	if (sd_bus_message_read(m, "s", &name) < 0)
		return 0;
	sp = find_by_unit(userdata, name);
	if (sp)
		unit_check(sp);
	return 0;
}

static int on_reloading(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	struct unit_spawner *spawner = userdata;
	GHashTableIter iter;
	gpointer sp;
	int active;

	(void)error;
	if (sd_bus_message_read(m, "b", &active) < 0 || active)
		return 0;
	g_hash_table_iter_init(&iter, spawner->units);
	while (g_hash_table_iter_next(&iter, NULL, &sp))
		unit_check(sp);
	return 0;
}

struct unknown_call {
	struct unit_spawner *spawner;
	bool (*known)(const char *name, void *data);
	void *data;
};

static int on_units(sd_bus_message *reply, void *userdata, sd_bus_error *error)
{
	struct unknown_call *call = userdata;
	const char *name, *active;

	(void)error;
	if (!sd_bus_message_is_method_error(reply, NULL) &&
	    sd_bus_message_enter_container(reply, 'a', "(ssssssouso)") >= 0) {
		while (sd_bus_message_read(reply, "(ssssssouso)", &name, NULL, NULL, &active, NULL,
					   NULL, NULL, NULL, NULL, NULL) > 0) {
			size_t len = strlen(name);
			g_autofree char *vm = NULL;

			if (len <= strlen(UNIT_PREFIX) + strlen(UNIT_SUFFIX))
				continue;
			vm = g_strndup(name + strlen(UNIT_PREFIX),
				       len - strlen(UNIT_PREFIX) - strlen(UNIT_SUFFIX));
			if (strcmp(active, "failed") == 0)
				tell(call->spawner, "ResetFailedUnit", "s", name);
			else if (!call->known(vm, call->data))
				log_warning("unit '%s' runs but nothing is known about its VM: it "
					    "is left alone",
					    name);
		}
	}
	return 1;
}

static void unit_report_unknown(struct spawner *base, bool (*known)(const char *name, void *data),
				void *data)
{
	struct unit_spawner *spawner = (struct unit_spawner *)(void *)base;
	struct unknown_call *call = g_new0(struct unknown_call, 1);
	sd_bus_slot *slot = NULL;
	int r;

	*call = (struct unknown_call){ spawner, known, data };
	r = sd_bus_call_method_async(spawner->bus, &slot, SD_NAME, SD_PATH, SD_MANAGER,
				     "ListUnitsByPatterns", on_units, call, "asas", 0, 1,
				     UNIT_PREFIX "*" UNIT_SUFFIX);
	if (r < 0) {
		g_free(call);
		return;
	}
	sd_bus_slot_set_destroy_callback(slot, g_free);
	sd_bus_slot_set_floating(slot, true);
	sd_bus_slot_unref(slot);
}

static void unit_spawner_free(struct spawner *base)
{
	struct unit_spawner *spawner = (struct unit_spawner *)(void *)base;

	sd_bus_slot_unref(spawner->job_match);
	sd_bus_slot_unref(spawner->changed_match);
	sd_bus_slot_unref(spawner->removed_match);
	sd_bus_slot_unref(spawner->reloading_match);
	g_hash_table_destroy(spawner->units);
	sd_bus_unref(spawner->bus);
	free(spawner->worker_path);
	free(spawner->runtime_dir);
	free(spawner);
}

static const struct spawner_ops unit_ops = {
	.name = "systemd",
	.start = unit_start,
	.adopt = unit_adopt,
	.kill = unit_kill,
	.register_machine = unit_register_machine,
	.set_properties = unit_set_properties,
	.start_companions = unit_start_companions,
	.release = unit_release,
	.report_unknown = unit_report_unknown,
	.free = unit_spawner_free,
};

static int add_matches(struct unit_spawner *spawner)
{
	sd_bus *bus = spawner->bus;
	int r;

	r = sd_bus_match_signal_async(bus, &spawner->job_match, SD_NAME, SD_PATH, SD_MANAGER,
				      "JobRemoved", on_job_removed, NULL, spawner);
	if (r >= 0)
		r = sd_bus_match_signal_async(bus, &spawner->removed_match, SD_NAME, SD_PATH,
					      SD_MANAGER, "UnitRemoved", on_unit_removed, NULL,
					      spawner);
	if (r >= 0)
		r = sd_bus_match_signal_async(bus, &spawner->reloading_match, SD_NAME, SD_PATH,
					      SD_MANAGER, "Reloading", on_reloading, NULL, spawner);
	if (r >= 0)
		r = sd_bus_add_match_async(bus, &spawner->changed_match,
					   "type='signal',sender='" SD_NAME "',"
					   "interface='org.freedesktop.DBus.Properties',"
					   "member='PropertiesChanged',"
					   "path_namespace='" SD_UNIT_PATH "'",
					   on_properties_changed, NULL, spawner);
	return r;
}

int unit_spawner_new(sd_bus *bus, const char *worker_path, const char *runtime_dir, bool user,
		     struct spawner **ret, struct err *err)
{
	struct unit_spawner *spawner = calloc(1, sizeof(*spawner));
	int r;

	if (!spawner)
		return err_errno(err, ENOMEM, "cannot start workers");
	spawner->base.ops = &unit_ops;
	spawner->bus = sd_bus_ref(bus);
	spawner->user = user;
	spawner->units = g_hash_table_new(g_str_hash, g_str_equal);
	spawner->worker_path = strdup(worker_path);
	spawner->runtime_dir = strdup(runtime_dir);
	r = spawner->worker_path && spawner->runtime_dir ? add_matches(spawner) : -ENOMEM;
	if (r < 0) {
		unit_spawner_free(&spawner->base);
		return err_errno(err, -r, "cannot watch systemd");
	}
	tell(spawner, "Subscribe", NULL);
	*ret = &spawner->base;
	return 0;
}
