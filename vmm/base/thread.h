/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Threads and their roles
 *
 * Each thread has one role for life, kept in a thread-local.  The control
 * plane asserts it at its entry points; clang's -Wthread-safety checks the
 * same at compile time through REQUIRES_CONTROL.  docs/threads.md has the
 * table of what each role owns and may do.
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>

#include "vmm/base/cleanup.h"

struct err;
struct thread_entry;

enum thread_role {
	THREAD_ROLE_NONE, /* not ours: a test's main */
	THREAD_ROLE_CONTROL,
	THREAD_ROLE_VCPU,
	THREAD_ROLE_IO,
	THREAD_ROLE_N_,
};

const char *thread_role_to_string(enum thread_role role);

struct thread {
	pthread_t handle;
	char name[16]; /* also the kernel's comm and the log context */
	enum thread_role role;
	/* Runs first in the new thread (seccomp); a failure is thread_settle's. Optional. */
	int (*enter)(enum thread_role role, struct err *err);
	void (*run)(void *data);
	void *data;
	bool started;
	struct thread_entry *entry; /* until settled */
};

/* Spawns and settles. Blocks all signals but the vCPU kick in the new thread. 0 or -errno. */
int thread_start(struct thread *t, struct err *err);
/*
 * In two steps, for who has better things to do than to wait for another
 * processor: spawn returns before the thread has entered.  settle waits for
 * that; when enter failed the thread is gone, and started is false.
 */
int thread_spawn(struct thread *t, struct err *err);
int thread_settle(struct thread *t, struct err *err);
void thread_join(struct thread *t);

/* main() is the control thread of a worker, and says so. */
void thread_set_role(enum thread_role role);
enum thread_role thread_get_role(void);
void assert_on_control(void);

/* The signal that makes KVM_RUN return; handled by an empty handler. */
int thread_kick_signal(void);
