/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Jobs: operations that wait for a guest, a disk or a process
 *
 * A VM has at most one exclusive job at a time.  A job ends once, in this
 * order: the property changes it caused are announced, the job's
 * own last properties, then JobRemoved, then everybody who waits for it hears.
 * After that it stays readable for 10 s.
 *
 * A job keeps the name of its VM, not a pointer: a transient VM is gone before
 * its last job.  Main loop.
 */
#pragma once

#include "vmm/base/err.h"
#include "vmm/base/list.h"
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <systemd/sd-event.h>

struct manager;

#define JOB_RETENTION_USEC (10 * 1000000ULL)

enum job_kind {
	JOB_KIND_START,
	JOB_KIND_SHUTDOWN,
	JOB_KIND_REBOOT,
	JOB_KIND_REMOVE_DEVICE,
	JOB_KIND_RESIZE_VCPUS,
	JOB_KIND_RESIZE_MEMORY,
	JOB_KIND_RESIZE_DISK,
	JOB_KIND_REPLACE_DISK,
	JOB_KIND_N_,
};

enum job_state {
	JOB_STATE_RUNNING,
	JOB_STATE_CANCELING,
	JOB_STATE_DONE,
	JOB_STATE_FAILED,
	JOB_STATE_CANCELED,
	JOB_STATE_N_,
};

/* Bits of what changed, for the observer. */
enum job_property {
	JOB_PROPERTY_STATE = 1 << 0,
	JOB_PROPERTY_PHASE = 1 << 1,
	JOB_PROPERTY_PROGRESS = 1 << 2,
	JOB_PROPERTY_CANCELABLE = 1 << 3,
	JOB_PROPERTY_ERROR = 1 << 4,
};

struct job;

/* err NULL: the job is done. Called once. */
typedef void (*job_waiter_fn)(void *data, const struct job *job, const struct err *err);

struct job {
	struct manager *manager;
	uint32_t id;
	enum job_kind kind;
	enum job_state state;
	char *vm_name;
	uid_t owner;
	uint64_t start_usec; /* CLOCK_REALTIME */
	const char *phase;   /* static text */
	double progress;     /* 0..1, -1 unknown */
	bool cancelable;
	struct err err; /* of a failed or canceled one */
	void (*cancel)(struct job *job, void *data);
	void *cancel_data;
	struct list waiters;
	sd_event_source *retention;
};

const char *job_kind_to_string(enum job_kind kind);
int job_kind_from_string(const char *s, enum job_kind *ret);
const char *job_state_to_string(enum job_state state);
int job_state_from_string(const char *s, enum job_state *ret);
/* The result of JobRemoved: "done", "failed", "canceled", "timeout", "vm-gone". */
const char *job_result(const struct job *job);

/* id: of a job that a former daemon had begun, which keeps it when it is free; 0 = the next one. */
int job_new(struct manager *manager, enum job_kind kind, const char *vm_name, uid_t owner,
	    uint32_t id, struct job **ret, struct err *err);
/* Only the manager's table frees jobs. */
void job_free(struct job *job);

static inline bool job_is_over(const struct job *job)
{
	return job->state >= JOB_STATE_DONE;
}

void job_set_phase(struct job *job, const char *phase);
/* It is announced as one that cannot be. */
void job_allow_cancel(struct job *job, void (*cancel)(struct job *job, void *data), void *data);
/* From here on it can only be waited for. */
void job_forbid_cancel(struct job *job);
int job_add_waiter(struct job *job, job_waiter_fn fn, void *data);
/* err NULL = done; FAULT_CANCELLED makes it canceled. The caller flushes properties first. */
void job_finish(struct job *job, const struct err *err);
/* Starts the cancellation; the job ends later, and may still end as done. */
int job_cancel(struct job *job, struct err *err);
