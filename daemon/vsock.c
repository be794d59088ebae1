/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/vsock.h"

#include "daemon/listen.h"
#include "daemon/machine.h"
#include "daemon/manager.h"
#include "daemon/task.h"
#include "daemon/worker.h"
#include "vmm/base/cleanup.h"
#include "vmm/base/err.h"
#include "vmm/base/log.h"
#include "vmm/config/vm-config.h"
#include <errno.h>
#include <glib.h>
#include <inttypes.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define CONNECTS_MAX       64U /* of one machine at a time: each is a thread */
#define ANSWER_USEC        (5 * 1000000ULL)
#define WISHES_BURST       512U
#define WISH_INTERVAL_USEC 5000ULL

struct reach {
	struct manager *manager;
	char *vm; /* by name: it may be gone when this is done */
	char *path;
	uid_t owner;
	uint32_t cookie;
	int type, fd;
};

static void answer(struct machine *vm, uint32_t cookie, int fd)
{
	struct err err = { 0 };
	int r;

	if (!vm->worker)
		return; /* it refuses by itself after a while */
	if (fd >= 0)
		r = worker_call(vm->worker, "AcceptVSock", ANSWER_USEC, NULL, NULL, &err, "uh",
				cookie, fd);
	else
		r = worker_call(vm->worker, "RefuseVSock", ANSWER_USEC, NULL, NULL, &err, "u",
				cookie);
	if (r < 0)
		log_warning("VM '%s': %s", vm->def.name, err.msg);
}

static int reach_work(void *data, struct err *err)
{
	struct reach *reach = data;

	(void)err;
	reach->fd = listen_connect(reach->owner, reach->path, reach->type);
	return 0;
}

static void reach_done(void *data, int r, const struct err *err, void *owner)
{
	struct reach *reach = data;
	struct machine *vm = manager_find(reach->manager, reach->vm);

	(void)r;
	(void)err;
	(void)owner;
	if (!vm || vm->n_vsock_connects == 0)
		return;
	vm->n_vsock_connects--;
	if (reach->fd < 0)
		log_debug("VM '%s': its guest cannot connect to '%s': %s", vm->def.name,
			  reach->path, strerror(-reach->fd));
	answer(vm, reach->cookie, reach->fd);
}

static void reach_free(void *data)
{
	struct reach *reach = data;

	if (reach->fd >= 0)
		close(reach->fd);
	g_free(reach->vm);
	g_free(reach->path);
	g_free(reach);
}

static const struct task_ops reach_ops = {
	.work = reach_work,
	.done = reach_done,
	.free_data = reach_free,
};

void machine_vsock_wanted(struct machine *vm, uint32_t cookie, uint32_t port, bool seqpacket)
{
	const char *socket = vm->boot && vm->boot->has_vsock ? vm->boot->vsock.socket : NULL;
	uint32_t dropped;
	struct reach *reach;
	struct task *task = NULL;
	struct err err = { 0 };

	vm->vsock_wishes.burst = WISHES_BURST;
	vm->vsock_wishes.interval_usec = WISH_INTERVAL_USEC;
	/* No answer at all: a worker that does not read must not fill our memory with them. */
	if (!rate_limit_pass(&vm->vsock_wishes, (uint64_t)g_get_monotonic_time(), &dropped))
		return;
	/* A caller's descriptor has no name that others could be beside. */
	if (!socket || vm_config_fd_name(socket) || vm->n_vsock_connects >= CONNECTS_MAX) {
		answer(vm, cookie, -ECONNREFUSED);
		return;
	}
	reach = g_new0(struct reach, 1);
	reach->manager = vm->manager;
	reach->vm = g_strdup(vm->def.name);
	reach->path = g_strdup_printf("%s_%" PRIu32, socket, port);
	reach->owner = vm->def.owner;
	reach->cookie = cookie;
	reach->type = seqpacket ? SOCK_SEQPACKET : SOCK_STREAM;
	reach->fd = -EBADF;
	if (task_start(vm->manager->event, &reach_ops, reach, NULL, &task, &err) < 0) {
		log_warning("VM '%s': %s", vm->def.name, err.msg);
		reach_free(reach);
		answer(vm, cookie, -ECONNREFUSED);
		return;
	}
	vm->n_vsock_connects++;
}
