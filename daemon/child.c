/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/child.h"

#include "daemon/companion.h"
#include "daemon/runtime.h"
#include "daemon/spawner.h"
#include "vmm/base/cleanup.h"
#include "vmm/base/err.h"
#include "vmm/base/log.h"
#include <errno.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

struct child_spawner {
	struct spawner base;
	sd_event *event;
	char *worker_path;
};

struct child {
	int pidfd;
	bool ours; /* we are the parent */
	sd_event_source *exit_source, *started_source;
};

static void child_release(struct spawn *sp)
{
	struct child *child = sp->impl;

	if (!child)
		return;
	sd_event_source_disable_unref(child->exit_source);
	sd_event_source_disable_unref(child->started_source);
	close(child->pidfd);
	free(child);
	sp->impl = NULL;
	sp->active = false;
}

static void describe_exit(const siginfo_t *info, struct spawn_exit *how)
{
	const char *result = "success";

	how->known = true;
	how->status = info->si_status;
	how->signaled = info->si_code != CLD_EXITED;
	if (info->si_code == CLD_DUMPED)
		result = "core-dump";
	else if (info->si_code != CLD_EXITED)
		result = "signal";
	else if (info->si_status != 0)
		result = "exit-code";
	snprintf(how->result, sizeof(how->result), "%s", result);
}

static int on_exit_event(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
	struct spawn *sp = userdata;
	struct child *child = sp->impl;
	struct spawn_exit how = { 0 };
	siginfo_t info = { 0 };

	(void)source;
	(void)revents;
	if (child->ours && waitid(P_PIDFD, (id_t)fd, &info, WEXITED) == 0)
		describe_exit(&info, &how);
	spawn_exited(sp, &how);
	return 0;
}

static int on_started_event(sd_event_source *source, void *userdata)
{
	struct spawn *sp = userdata;
	struct child *child = sp->impl;

	(void)source;
	child->started_source = sd_event_source_disable_unref(child->started_source);
	sp->handlers->identified(sp->data);
	sp->handlers->started(sp->data, NULL);
	return 0;
}

static int child_watch(struct spawn *sp, bool ours, struct err *err)
{
	struct child_spawner *spawner = (struct child_spawner *)(void *)sp->spawner;
	struct child *child;
	int r;

	child = calloc(1, sizeof(*child));
	if (!child)
		return err_errno(err, ENOMEM, "cannot watch worker %u", sp->pid);
	child->ours = ours;
	child->pidfd = pidfd_open((pid_t)sp->pid, 0);
	if (child->pidfd < 0) {
		r = -errno;
		free(child);
		return err_errno(err, -r, "cannot watch worker %u", sp->pid);
	}
	sp->impl = child;
	sp->active = true;
	r = sd_event_add_io(spawner->event, &child->exit_source, child->pidfd, EPOLLIN,
			    on_exit_event, sp);
	/* The last words on the control channel are read before the end is seen. */
	if (r >= 0)
		r = sd_event_source_set_priority(child->exit_source, SD_EVENT_PRIORITY_NORMAL + 10);
	if (r >= 0)
		r = sd_event_add_defer(spawner->event, &child->started_source, on_started_event,
				       sp);
	if (r < 0) {
		child_release(sp);
		return err_errno(err, -r, "cannot watch worker %u", sp->pid);
	}
	return 0;
}

/*
 * The child's signals as a program expects them: the daemon blocks some for its loop.
 * stdout_fd 0: the daemon's own.
 */
static int spawn_process(char *const argv[], int stdin_fd, int stdout_fd, pid_t *ret)
{
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attr;
	sigset_t none, all;
	int r;

	sigemptyset(&none);
	sigfillset(&all);
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, stdin_fd, STDIN_FILENO);
	if (stdout_fd > 0)
		posix_spawn_file_actions_adddup2(&actions, stdout_fd, STDOUT_FILENO);
	posix_spawnattr_init(&attr);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF |
						POSIX_SPAWN_SETSID);
	posix_spawnattr_setsigmask(&attr, &none);
	posix_spawnattr_setsigdefault(&attr, &all);
	r = posix_spawn(ret, argv[0], &actions, &attr, argv, environ);
	posix_spawnattr_destroy(&attr);
	posix_spawn_file_actions_destroy(&actions);
	return -r;
}

static int child_start(struct spawn *sp, const struct spawn_params *params, struct err *err)
{
	struct child_spawner *spawner = (struct child_spawner *)(void *)sp->spawner;
	char *const argv[] = { spawner->worker_path, NULL };
	pid_t pid;
	int r;

	if (params->properties)
		return err_fault(err, FAULT_UNSUPPORTED, EOPNOTSUPP,
				 "VM '%s' has resource properties, which need workers in units of "
				 "systemd, and this service runs them as plain children",
				 params->name);
	r = spawn_process(argv, params->control_fd, 0, &pid);
	if (r < 0) {
		err_errno(err, -r, "cannot run the worker '%s'", spawner->worker_path);
		if (err)
			err->fault = FAULT_WORKER_FAILED;
		return r;
	}
	sp->pid = (uint32_t)pid;
	sp->pid_start = pid_start_time(sp->pid);
	r = child_watch(sp, true, err);
	if (r < 0) {
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
	}
	return r;
}

static int child_adopt(struct spawn *sp, const char *name, struct err *err)
{
	if (sp->pid == 0 || pid_start_time(sp->pid) != sp->pid_start)
		return err_set(err, ESRCH, "the worker of VM '%s' is gone", name);
	return child_watch(sp, false, err);
}

static int child_kill(struct spawn *sp, int signo, struct err *err)
{
	struct child *child = sp->impl;

	/* ESRCH: it is dead and the event is under way. */
	if (pidfd_send_signal(child->pidfd, signo, NULL, 0) < 0 && errno != ESRCH)
		return err_errno(err, errno, "cannot kill worker %u", sp->pid);
	return 0;
}

/* Nobody else waits for it, and without that it stays a zombie. */
static int on_companion_exit(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
	siginfo_t info;

	(void)revents;
	(void)userdata;
	waitid(P_PIDFD, (id_t)fd, &info, WEXITED);
	/* The loop's reference was the only one: this frees it and closes the pidfd. */
	sd_event_source_set_floating(source, false);
	return 0;
}

/* The loop owns the watch: it ends with its companion, or with the loop. */
static int watch_companion(sd_event *event, pid_t pid)
{
	_cleanup_(sd_event_source_disable_unrefp) sd_event_source *source = NULL;
	_cleanup_close_ int pidfd = pidfd_open(pid, 0);
	int r;

	if (pidfd < 0)
		return -errno;
	r = sd_event_add_io(event, &source, pidfd, EPOLLIN, on_companion_exit, NULL);
	if (r >= 0)
		r = sd_event_source_set_floating(source, true);
	if (r >= 0)
		r = sd_event_source_set_io_fd_own(source, true);
	if (r < 0)
		return r;
	(void)TAKE_FD(pidfd);
	sd_event_source_unref(TAKE_PTR(source));
	return 0;
}

/* They end when their socket to the worker does. */
static int child_start_companions(struct spawn *sp, const char *vm, const char *slice,
				  const struct companion *companions, size_t n,
				  void (*done)(void *data, const struct err *err), void *data,
				  struct companion_units **ret, struct err *err)
{
	struct child_spawner *spawner = (struct child_spawner *)(void *)sp->spawner;

	(void)slice;
	(void)done;
	(void)data;
	(void)ret;
	for (size_t i = 0; i < n; i++) {
		const struct companion *companion = &companions[i];
		pid_t pid;
		int r;

		r = spawn_process(companion->argv, companion->fd, companion->out_fd, &pid);
		if (r < 0)
			return err_errno(err, -r, "cannot run '%s' for VM '%s'", companion->argv[0],
					 vm);
		r = watch_companion(spawner->event, pid);
		if (r < 0)
			log_warning("the end of '%s' will not be seen: %s", companion->argv[0],
				    strerror(-r));
	}
	return 0;
}

static void child_spawner_free(struct spawner *base)
{
	struct child_spawner *spawner = (struct child_spawner *)(void *)base;

	sd_event_unref(spawner->event);
	free(spawner->worker_path);
	free(spawner);
}

static const struct spawner_ops child_ops = {
	.name = "child",
	.start = child_start,
	.adopt = child_adopt,
	.kill = child_kill,
	.start_companions = child_start_companions,
	.release = child_release,
	.free = child_spawner_free,
};

int child_spawner_new(sd_event *event, const char *worker_path, struct spawner **ret,
		      struct err *err)
{
	struct child_spawner *spawner = calloc(1, sizeof(*spawner));

	if (!spawner)
		return err_errno(err, ENOMEM, "cannot start workers");
	spawner->base.ops = &child_ops;
	spawner->event = sd_event_ref(event);
	spawner->worker_path = strdup(worker_path);
	if (!spawner->worker_path) {
		child_spawner_free(&spawner->base);
		return err_errno(err, ENOMEM, "cannot start workers");
	}
	log_warning("workers are plain child processes without a sandbox (--worker-direct): for "
		    "tests only");
	*ret = &spawner->base;
	return 0;
}
