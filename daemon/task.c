/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/task.h"

#include "vmm/base/err.h"
#include "vmm/base/fd.h"
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/epoll.h>

#define TASK_STACK_SIZE (256 * 1024)

struct task {
	const struct task_ops *ops;
	void *data, *owner;
	int done_fd;
	sd_event_source *source;
	int r; /* written by the helper before done_fd, read by the loop after it */
	struct err err;
	atomic_uint refs; /* the loop's and the helper's */
};

static void task_unref(struct task *task)
{
	/* Acquire-release: the last one sees everything that the other wrote. */
	if (atomic_fetch_sub_explicit(&task->refs, 1, memory_order_acq_rel) > 1)
		return;
	task->ops->free_data(task->data);
	close(task->done_fd);
	free(task);
}

static void *task_thread(void *arg)
{
	struct task *task = arg;

	task->r = task->ops->work(task->data, &task->err);
	eventfd_signal(task->done_fd);
	task_unref(task);
	return NULL;
}

static int task_on_done(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
	struct task *task = userdata;

	(void)source;
	(void)revents;
	if (!eventfd_take(fd))
		return 0;
	task->source = sd_event_source_disable_unref(task->source);
	task->ops->done(task->data, task->r, &task->err, task->owner);
	task_unref(task);
	return 0;
}

static int task_thread_start(struct task *task)
{
	pthread_attr_t attr;
	pthread_t thread;
	sigset_t all, old;
	int r;

	r = pthread_attr_init(&attr);
	if (r > 0)
		return -r;
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attr, TASK_STACK_SIZE);
	/* Signals are the main loop's. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	r = pthread_create(&thread, &attr, task_thread, task);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attr);
	return -r;
}

int task_start(sd_event *event, const struct task_ops *ops, void *data, void *owner,
	       struct task **ret, struct err *err)
{
	_cleanup_free_ struct task *task = NULL;
	_cleanup_close_ int fd = -EBADF;
	int r;

	task = calloc(1, sizeof(*task));
	if (!task)
		return err_errno(err, ENOMEM, "cannot start a helper thread");
	fd = eventfd_new();
	if (fd < 0)
		return err_errno(err, -fd, "cannot start a helper thread");
	task->ops = ops;
	task->data = data;
	task->owner = owner;
	task->done_fd = fd;
	atomic_init(&task->refs, 2);
	r = sd_event_add_io(event, &task->source, fd, EPOLLIN, task_on_done, task);
	if (r < 0)
		return err_errno(err, -r, "cannot watch a helper thread");
	r = task_thread_start(task);
	if (r < 0) {
		sd_event_source_disable_unref(task->source);
		return err_errno(err, -r, "cannot start a helper thread");
	}
	(void)TAKE_FD(fd);
	*ret = TAKE_PTR(task);
	return 0;
}

void task_abandon(struct task *task)
{
	if (!task)
		return;
	task->source = sd_event_source_disable_unref(task->source);
	task_unref(task);
}
