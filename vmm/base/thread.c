/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/base/thread.h"

#include <assert.h>
#include <errno.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
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

struct start {
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
	struct start *start = data;
	struct thread *t = start->thread;

	current_role = t->role;
	log_set_thread_context(t->name);
	pthread_setname_np(pthread_self(), t->name);
	start->r = t->enter ? t->enter(t->role, &start->err) : 0;
	if (start->r < 0) {
		sem_post(&start->entered);
		return NULL;
	}
	/* start lives on the creator's stack: not touched after this. */
	sem_post(&start->entered);
	t->run(t->data);
	return NULL;
}

int thread_start(struct thread *t, struct err *err)
{
	struct start start = { .thread = t };
	sigset_t all, old;
	pthread_attr_t attr;
	int r;

	assert(!t->started);
	sem_init(&start.entered, 0, 0);
	sigfillset(&all);
	if (t->role == THREAD_ROLE_VCPU)
		sigdelset(&all, thread_kick_signal());
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK_SIZE);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	r = pthread_create(&t->handle, &attr, thread_main, &start);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attr);
	if (r != 0) {
		sem_destroy(&start.entered);
		return err_errno(err, r, "cannot start thread '%s'", t->name);
	}
	while (sem_wait(&start.entered) < 0 && errno == EINTR)
		;
	sem_destroy(&start.entered);
	if (start.r < 0) {
		pthread_join(t->handle, NULL);
		if (err)
			*err = start.err;
		return err_prefix(err, start.r, "thread '%s'", t->name);
	}
	t->started = true;
	return 0;
}

void thread_join(struct thread *t)
{
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
