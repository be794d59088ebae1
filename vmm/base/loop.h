/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The I/O threads' event loop: a small epoll wrapper with its own thread
 *
 * A loop and everything registered with it belong to its thread while the
 * thread runs.  The control thread changes registrations only through
 * loop_call(), which runs a function on the loop's thread and waits for it;
 * when loop_call() has returned, no callback is running.  loop_park() holds the
 * thread at that point until loop_unpark() (pause).
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "vmm/base/list.h"
#include "vmm/base/thread.h"

struct loop;

/* Embedded by whoever owns the descriptor. */
struct loop_source {
	struct list link;
	int fd;
	uint32_t events; /* EPOLLIN and friends */
	void (*fn)(struct loop_source *source, uint32_t events);
	void *data;
	bool armed;
};

struct loop {
	struct thread thread;
	int epoll_fd, wake_fd;
	struct list sources;
	struct loop_source wake;
	pthread_mutex_t lock; /* the request below; leaf */
	pthread_cond_t done;
	void (*call)(void *data);
	void *call_data;
	bool call_pending, parked, stop, initialised;
};

/* Control thread. enter: see struct thread. */
int loop_start(struct loop *loop, const char *name,
	       int (*enter)(enum thread_role role, struct err *err), struct err *err);
/*
 * The same in three steps: until spawn there is no thread, and loop_call() just
 * runs; spawn does not wait for the thread, settle does (struct thread).
 */
int loop_init(struct loop *loop, const char *name,
	      int (*enter)(enum thread_role role, struct err *err), struct err *err);
int loop_spawn(struct loop *loop, struct err *err);
int loop_settle(struct loop *loop, struct err *err);
/* Does nothing for a loop that is all zeroes. */
void loop_stop(struct loop *loop);
/*
 * Runs fn on the loop's thread and waits; also while parked. On the loop's own thread: just runs.
 */
void loop_call(struct loop *loop, void (*fn)(void *data), void *data);
void loop_park(struct loop *loop);
void loop_unpark(struct loop *loop);

/* The loop's thread only (through loop_call). add: 0 or -errno. */
int loop_add(struct loop *loop, struct loop_source *source);
int loop_modify(struct loop *loop, struct loop_source *source, uint32_t events);
void loop_remove(struct loop *loop, struct loop_source *source);
