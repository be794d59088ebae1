/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Calls from other threads to the control thread
 *
 * mailbox_call() runs a function on the control thread and waits for its
 * result (device activation, BAR moves, reset: whatever changes topology).
 * mailbox_post() leaves a message and goes on; messages are preallocated by
 * their owner, so a vCPU or I/O thread never allocates, and posting one that is
 * still queued does nothing.
 *
 * The control thread watches mailbox->fd and calls mailbox_drain(); whoever
 * waits for parked vCPUs drains too, because a vCPU may be waiting here.
 * Caller holds no lock.
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>

#include "vmm/base/list.h"

struct err;

struct message {
	struct list link;
	void (*fn)(struct message *message); /* on the control thread */
	bool queued;                         /* under the mailbox's lock */
};

struct mailbox {
	int fd; /* eventfd, readable when there is mail */
	pthread_mutex_t lock;
	pthread_cond_t done;
	struct list messages;
	bool closed;
};

int mailbox_init(struct mailbox *box, struct err *err);
void mailbox_deinit(struct mailbox *box);

/* vCPU and I/O threads. On the control thread call runs fn at once. */
int mailbox_call(struct mailbox *box, int (*fn)(void *data), void *data);
void mailbox_post(struct mailbox *box, struct message *message);
/* Control thread: a message whose owner goes; nobody posts it any more. */
void mailbox_withdraw(struct mailbox *box, struct message *message);

/* Control thread. */
void mailbox_drain(struct mailbox *box);
/* From now on calls return -ESHUTDOWN: the machine is going down. */
void mailbox_close(struct mailbox *box);
