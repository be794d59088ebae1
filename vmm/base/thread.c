/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/base/thread.h"

#include <assert.h>
#include <errno.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "vmm/base/err.h"
#include "vmm/base/log.h"

/* What devices do on their threads is small; 256 KiB leaves room for libc and logging. */
#define STACK_SIZE (256U << 10)

static _Thread_local enum thread_role current_role;

static const char *const role_names[THREAD_ROLE_N_] = {
	[THREAD_ROLE_NONE] = "none",
	[THREAD_ROLE_CONTROL] = "control",
	[THREAD_ROLE_VCPU] = "vcpu",
	[THREAD_ROLE_IO] = "io",
};

/* Belongs to the creator; the thread lets go of it by posting entered. */
struct thread_entry {
	struct thread *thread;
	struct err err;
	int r;
	sem_t entered;
};

const char *thread_role_to_string(enum thread_role role)
{
	return role < THREAD_ROLE_N_ ? role_names[role] : NULL;
}

static void *thread_main(void *data)
{
	struct thread_entry *entry = data;
	struct thread *t = entry->thread;
	int r;

	current_role = t->role;
	log_set_thread_context(t->name);
	pthread_setname_np(pthread_self(), t->name);
	r = t->enter ? t->enter(t->role, &entry->err) : 0;
	entry->r = r;
	sem_post(&entry->entered);
	if (r >= 0)
		t->run(t->data);
	return NULL;
}

int thread_spawn(struct thread *t, struct err *err)
{
	struct thread_entry *entry = calloc(1, sizeof(*entry));
	sigset_t all, old;
	pthread_attr_t attr;
	int r;

	assert(!t->started);
	if (!entry)
		return err_errno(err, ENOMEM, "cannot start thread '%s'", t->name);
	entry->thread = t;
	sem_init(&entry->entered, 0, 0);
	sigfillset(&all);
	if (t->role == THREAD_ROLE_VCPU)
		sigdelset(&all, thread_kick_signal());
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK_SIZE);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	r = pthread_create(&t->handle, &attr, thread_main, entry);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attr);
	if (r != 0) {
		sem_destroy(&entry->entered);
		free(entry);
		return err_errno(err, r, "cannot start thread '%s'", t->name);
	}
	t->entry = entry;
	t->started = true;
	return 0;
}

int thread_settle(struct thread *t, struct err *err)
{
	struct thread_entry *entry = t->entry;
	int r;

	if (!entry)
		return 0;
	while (sem_wait(&entry->entered) < 0 && errno == EINTR)
		;
	r = entry->r;
	if (r < 0) {
		pthread_join(t->handle, NULL);
		t->started = false;
		if (err)
			*err = entry->err;
		err_prefix(err, r, "thread '%s'", t->name);
	}
	sem_destroy(&entry->entered);
	free(entry);
	t->entry = NULL;
	return r < 0 ? r : 0;
}

int thread_start(struct thread *t, struct err *err)
{
	int r = thread_spawn(t, err);

	return r < 0 ? r : thread_settle(t, err);
}

void thread_join(struct thread *t)
{
	thread_settle(t, NULL);
	if (!t->started)
		return;
	pthread_join(t->handle, NULL);
	t->started = false;
}

void thread_set_role(enum thread_role role)
{
	current_role = role;
}

enum thread_role thread_get_role(void)
{
	return current_role;
}

void assert_on_control(void)
{
	assert(current_role == THREAD_ROLE_CONTROL || current_role == THREAD_ROLE_NONE);
}

int thread_kick_signal(void)
{
	return SIGRTMIN;
}
