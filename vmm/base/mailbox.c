/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/base/mailbox.h"

#include <errno.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/fd.h"
#include "vmm/base/thread.h"

struct call {
	struct message message;
	struct mailbox *box;
	int (*fn)(void *data);
	void *data;
	int r;
	bool finished;
};

int mailbox_init(struct mailbox *box, struct err *err)
{
	*box = (struct mailbox){ .fd = eventfd_new() };
	if (box->fd < 0)
		return err_errno(err, -box->fd, "cannot make the control thread's eventfd");
	pthread_mutex_init(&box->lock, NULL);
	pthread_cond_init(&box->done, NULL);
	list_init(&box->messages);
	return 0;
}

void mailbox_deinit(struct mailbox *box)
{
	if (box->fd < 0)
		return;
	close(box->fd);
	box->fd = -EBADF;
	pthread_cond_destroy(&box->done);
	pthread_mutex_destroy(&box->lock);
}

static void queue_locked(struct mailbox *box, struct message *message)
{
	if (message->queued)
		return;
	message->queued = true;
	list_append(&box->messages, &message->link);
	eventfd_signal(box->fd);
}

void mailbox_post(struct mailbox *box, struct message *message)
{
	pthread_mutex_lock(&box->lock);
	/* Nobody will read it, and messages that are left may be gone with their owners. */
	if (!box->closed)
		queue_locked(box, message);
	pthread_mutex_unlock(&box->lock);
}

void mailbox_withdraw(struct mailbox *box, struct message *message)
{
	assert_on_control();
	pthread_mutex_lock(&box->lock);
	if (message->queued)
		list_remove(&message->link);
	message->queued = false;
	pthread_mutex_unlock(&box->lock);
}

static void run_call(struct message *message)
{
	struct call *call = container_of(message, struct call, message);
	int r = call->fn(call->data);

	pthread_mutex_lock(&call->box->lock);
	call->r = r;
	call->finished = true;
	pthread_cond_broadcast(&call->box->done);
	pthread_mutex_unlock(&call->box->lock);
}

int mailbox_call(struct mailbox *box, int (*fn)(void *data), void *data)
{
	struct call call = { .message.fn = run_call, .box = box, .fn = fn, .data = data };

	if (thread_get_role() == THREAD_ROLE_CONTROL || thread_get_role() == THREAD_ROLE_NONE)
		return fn(data);
	pthread_mutex_lock(&box->lock);
	if (box->closed) {
		pthread_mutex_unlock(&box->lock);
		return -ESHUTDOWN;
	}
	queue_locked(box, &call.message);
	while (!call.finished && !box->closed)
		pthread_cond_wait(&box->done, &box->lock);
	if (!call.finished) {
		/* closed: either still queued, or running right now on control */
		if (call.message.queued) {
			list_remove(&call.message.link);
			call.r = -ESHUTDOWN;
		} else {
			while (!call.finished)
				pthread_cond_wait(&box->done, &box->lock);
		}
	}
	pthread_mutex_unlock(&box->lock);
	return call.r;
}

void mailbox_drain(struct mailbox *box)
{
	assert_on_control();
	eventfd_take(box->fd);
	pthread_mutex_lock(&box->lock);
	while (!list_empty(&box->messages)) {
		struct message *m = container_of(box->messages.next, struct message, link);

		list_remove(&m->link);
		m->queued = false;
		pthread_mutex_unlock(&box->lock);
		m->fn(m);
		pthread_mutex_lock(&box->lock);
	}
	pthread_mutex_unlock(&box->lock);
}

void mailbox_close(struct mailbox *box)
{
	pthread_mutex_lock(&box->lock);
	box->closed = true;
	pthread_cond_broadcast(&box->done);
	pthread_mutex_unlock(&box->lock);
}
