/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/base/loop.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/fd.h"

#define EVENTS_PER_WAIT 16

static void serve_call(struct loop *loop)
{
	pthread_mutex_lock(&loop->lock);
	for (;;) {
		if (loop->call_pending) {
			loop->call(loop->call_data);
			loop->call_pending = false;
			pthread_cond_broadcast(&loop->done);
		} else if (loop->parked && !loop->stop) {
			pthread_cond_wait(&loop->done, &loop->lock);
		} else {
			break;
		}
	}
	pthread_mutex_unlock(&loop->lock);
}

static void on_wake(struct loop_source *source, uint32_t events _unused_)
{
	struct loop *loop = source->data;

	eventfd_take(source->fd);
	serve_call(loop);
}

static void loop_run(void *data)
{
	struct loop *loop = data;
	struct epoll_event events[EVENTS_PER_WAIT];
	bool stop = false;

	while (!stop) {
		int n = epoll_wait(loop->epoll_fd, events, EVENTS_PER_WAIT, -1);

		bool woken = false;

		for (int i = 0; i < n; i++) {
			struct loop_source *source = events[i].data.ptr;

			/* A callback of this batch may have removed a later source. */
			if (source == &loop->wake)
				woken = true;
			else if (source->armed)
				source->fn(source, events[i].events);
		}
		/*
		 * Last: who called may by now have freed a source that it had removed.  Nor
		 * may what is left be asked for again, for an edge is told only once.
		 */
		if (woken)
			loop->wake.fn(&loop->wake, EPOLLIN);
		pthread_mutex_lock(&loop->lock);
		stop = loop->stop;
		pthread_mutex_unlock(&loop->lock);
	}
}

int loop_add(struct loop *loop, struct loop_source *source)
{
	struct epoll_event ev = { .events = source->events, .data.ptr = source };

	if (epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, source->fd, &ev) < 0)
		return -errno;
	source->armed = true;
	list_append(&loop->sources, &source->link);
	return 0;
}

int loop_modify(struct loop *loop, struct loop_source *source, uint32_t events)
{
	struct epoll_event ev = { .events = events, .data.ptr = source };

	if (source->events == events)
		return 0;
	source->events = events;
	return epoll_ctl(loop->epoll_fd, EPOLL_CTL_MOD, source->fd, &ev) < 0 ? -errno : 0;
}

void loop_remove(struct loop *loop, struct loop_source *source)
{
	if (!source->armed)
		return;
	source->armed = false;
	list_remove(&source->link);
	epoll_ctl(loop->epoll_fd, EPOLL_CTL_DEL, source->fd, NULL);
}

int loop_init(struct loop *loop, const char *name,
	      int (*enter)(enum thread_role role, struct err *err), struct err *err)
{
	int r;

	*loop = (struct loop){ .epoll_fd = -EBADF, .wake_fd = -EBADF };
	list_init(&loop->sources);
	pthread_mutex_init(&loop->lock, NULL);
	pthread_cond_init(&loop->done, NULL);
	loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (loop->epoll_fd < 0)
		return err_errno(err, errno, "cannot make an epoll for thread '%s'", name);
	loop->wake_fd = eventfd_new();
	if (loop->wake_fd < 0) {
		r = err_errno(err, -loop->wake_fd, "cannot make an eventfd for thread '%s'", name);
		goto fail_epoll;
	}
	loop->wake = (struct loop_source){
		.fd = loop->wake_fd, .events = EPOLLIN, .fn = on_wake, .data = loop
	};
	r = loop_add(loop, &loop->wake);
	if (r < 0) {
		err_errno(err, -r, "cannot watch the eventfd of thread '%s'", name);
		goto fail_wake;
	}
	loop->thread = (struct thread){
		.role = THREAD_ROLE_IO, .enter = enter, .run = loop_run, .data = loop
	};
	snprintf(loop->thread.name, sizeof(loop->thread.name), "%s", name);
	loop->initialised = true;
	return 0;

fail_wake:
	close(loop->wake_fd);
fail_epoll:
	close(loop->epoll_fd);
	return r;
}

int loop_spawn(struct loop *loop, struct err *err)
{
	return thread_spawn(&loop->thread, err);
}

int loop_settle(struct loop *loop, struct err *err)
{
	return thread_settle(&loop->thread, err);
}

int loop_start(struct loop *loop, const char *name,
	       int (*enter)(enum thread_role role, struct err *err), struct err *err)
{
	int r = loop_init(loop, name, enter, err);

	if (r < 0)
		return r;
	r = thread_start(&loop->thread, err);
	if (r < 0)
		loop_stop(loop);
	return r;
}

void loop_stop(struct loop *loop)
{
	if (!loop->initialised)
		return;
	loop->initialised = false;
	pthread_mutex_lock(&loop->lock);
	loop->stop = true;
	pthread_cond_broadcast(&loop->done);
	pthread_mutex_unlock(&loop->lock);
	eventfd_signal(loop->wake_fd);
	thread_join(&loop->thread);
	close(loop->wake_fd);
	close(loop->epoll_fd);
	pthread_cond_destroy(&loop->done);
	pthread_mutex_destroy(&loop->lock);
}

void loop_call(struct loop *loop, void (*fn)(void *data), void *data)
{
	if (!loop->thread.started || pthread_equal(pthread_self(), loop->thread.handle)) {
		fn(data);
		return;
	}
	pthread_mutex_lock(&loop->lock);
	assert(!loop->call_pending); /* only the control thread calls */
	loop->call = fn;
	loop->call_data = data;
	loop->call_pending = true;
	pthread_cond_broadcast(&loop->done); /* it may be parked */
	eventfd_signal(loop->wake_fd);
	while (loop->call_pending)
		pthread_cond_wait(&loop->done, &loop->lock);
	pthread_mutex_unlock(&loop->lock);
}

static void nothing(void *data _unused_)
{
}

void loop_park(struct loop *loop)
{
	pthread_mutex_lock(&loop->lock);
	loop->parked = true;
	pthread_mutex_unlock(&loop->lock);
	/* Returns when the thread is in serve_call(), where parked now holds it. */
	loop_call(loop, nothing, NULL);
}

void loop_unpark(struct loop *loop)
{
	pthread_mutex_lock(&loop->lock);
	loop->parked = false;
	pthread_cond_broadcast(&loop->done);
	pthread_mutex_unlock(&loop->lock);
}
