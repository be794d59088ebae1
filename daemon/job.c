/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/job.h"

#include "daemon/manager.h"
#include <assert.h>
#include <errno.h>
#include <glib.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct job_waiter {
	struct list link;
	job_waiter_fn fn;
	void *data;
};

static const char *const kind_names[JOB_KIND_N_] = {
	[JOB_KIND_START] = "start",
	[JOB_KIND_SHUTDOWN] = "shutdown",
	[JOB_KIND_REBOOT] = "reboot",
	[JOB_KIND_REMOVE_DEVICE] = "remove-device",
	[JOB_KIND_RESIZE_VCPUS] = "resize-vcpus",
	[JOB_KIND_RESIZE_MEMORY] = "resize-memory",
	[JOB_KIND_RESIZE_DISK] = "resize-disk",
	[JOB_KIND_REPLACE_DISK] = "replace-disk",
};

static const char *const state_names[JOB_STATE_N_] = {
	[JOB_STATE_RUNNING] = "running",   [JOB_STATE_CANCELING] = "canceling",
	[JOB_STATE_DONE] = "done",         [JOB_STATE_FAILED] = "failed",
	[JOB_STATE_CANCELED] = "canceled",
};

static int name_find(const char *const *names, unsigned int n, const char *s)
{
	for (unsigned int i = 0; i < n; i++)
		if (strcmp(names[i], s) == 0)
			return (int)i;
	return -EINVAL;
}

const char *job_kind_to_string(enum job_kind kind)
{
	return kind < JOB_KIND_N_ ? kind_names[kind] : NULL;
}

int job_kind_from_string(const char *s, enum job_kind *ret)
{
	int i = name_find(kind_names, JOB_KIND_N_, s);

	if (i < 0)
		return i;
	*ret = (enum job_kind)i;
	return 0;
}

const char *job_state_to_string(enum job_state state)
{
	return state < JOB_STATE_N_ ? state_names[state] : NULL;
}

int job_state_from_string(const char *s, enum job_state *ret)
{
	int i = name_find(state_names, JOB_STATE_N_, s);

	if (i < 0)
		return i;
	*ret = (enum job_state)i;
	return 0;
}

const char *job_result(const struct job *job)
{
	if (job->state == JOB_STATE_DONE)
		return "done";
	if (job->state == JOB_STATE_CANCELED)
		return "canceled";
	if (job->err.fault == FAULT_GUEST_TIMEOUT || job->err.code == ETIMEDOUT)
		return "timeout";
	if (job->err.fault == FAULT_NO_SUCH_VM)
		return "vm-gone";
	return "failed";
}

int job_new(struct manager *manager, enum job_kind kind, const char *vm_name, uid_t owner,
	    uint32_t id, struct job **ret, struct err *err)
{
	struct timespec now;
	struct job *job;
	int r;

	clock_gettime(CLOCK_REALTIME, &now);
	job = g_new0(struct job, 1);
	job->manager = manager;
	job->id = id;
	job->kind = kind;
	job->state = JOB_STATE_RUNNING;
	job->vm_name = g_strdup(vm_name);
	job->owner = owner;
	job->start_usec = (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
	job->phase = "";
	job->progress = -1;
	list_init(&job->waiters);
	r = manager_add_job(manager, job, err);
	if (r < 0) {
		job_free(job);
		return r;
	}
	*ret = job;
	return 0;
}

static void tell_waiters(struct job *job, const struct err *err)
{
	struct job_waiter *waiter, *next;

	LIST_FOREACH_SAFE(waiter, next, &job->waiters, link) {
		list_remove(&waiter->link);
		waiter->fn(waiter->data, job, err);
		free(waiter);
	}
}

void job_free(struct job *job)
{
	struct err err = { 0 };

	/* Only when the daemon stops are there any left. */
	err_set(&err, ESHUTDOWN, "the daemon stops; what job %u does may still be completed",
		job->id);
	tell_waiters(job, &err);
	sd_event_source_disable_unref(job->retention);
	g_free(job->vm_name);
	g_free(job);
}

void job_set_phase(struct job *job, const char *phase)
{
	job->phase = phase;
	manager_job_changed(job->manager, job, JOB_PROPERTY_PHASE);
}

void job_allow_cancel(struct job *job, void (*cancel)(struct job *job, void *data), void *data)
{
	job->cancel = cancel;
	job->cancel_data = data;
	job->cancelable = true;
	manager_job_changed(job->manager, job, JOB_PROPERTY_CANCELABLE);
}

void job_forbid_cancel(struct job *job)
{
	if (!job->cancelable)
		return;
	job->cancelable = false;
	manager_job_changed(job->manager, job, JOB_PROPERTY_CANCELABLE);
}

int job_add_waiter(struct job *job, job_waiter_fn fn, void *data)
{
	struct job_waiter *waiter = calloc(1, sizeof(*waiter));

	if (!waiter)
		return -ENOMEM;
	waiter->fn = fn;
	waiter->data = data;
	list_append(&job->waiters, &waiter->link);
	return 0;
}

static int on_retention(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct job *job = userdata;

	(void)source;
	(void)usec;
	manager_remove_job(job->manager, job);
	return 0;
}

void job_finish(struct job *job, const struct err *err)
{
	uint32_t changed = JOB_PROPERTY_STATE | JOB_PROPERTY_CANCELABLE;

	assert(!job_is_over(job));
	job->cancelable = false;
	job->cancel = NULL;
	if (err) {
		job->err = *err;
		changed |= JOB_PROPERTY_ERROR;
		job->state = err->fault == FAULT_CANCELLED ? JOB_STATE_CANCELED : JOB_STATE_FAILED;
	} else {
		job->state = JOB_STATE_DONE;
		job->progress = 1;
		changed |= JOB_PROPERTY_PROGRESS;
	}
	manager_job_changed(job->manager, job, changed);
	manager_job_ended(job->manager, job);
	tell_waiters(job, err ? &job->err : NULL);
	/* Without the timer it stays until the daemon ends, which is only untidy. */
	sd_event_add_time_relative(job->manager->event, &job->retention, CLOCK_MONOTONIC,
				   job->manager->job_retention_usec, 0, on_retention, job);
}

int job_cancel(struct job *job, struct err *err)
{
	if (job_is_over(job))
		return err_fault(err, FAULT_WRONG_STATE, EPROTO, "job %u is over already", job->id);
	if (!job->cancelable || !job->cancel)
		return err_fault(err, FAULT_UNSUPPORTED, EOPNOTSUPP,
				 "job %u (%s) cannot be canceled now", job->id,
				 job_kind_to_string(job->kind));
	if (job->state == JOB_STATE_CANCELING)
		return 0;
	job->state = JOB_STATE_CANCELING;
	manager_job_changed(job->manager, job, JOB_PROPERTY_STATE);
	job->cancel(job, job->cancel_data);
	return 0;
}
