/* SPDX-License-Identifier: Apache-2.0 */
#include "dbus/client/agent.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmm/base/cleanup.h"

/* Until the agent is registered a question would find nobody: wait, but not for ever. */
#define AGENT_READY_MS 5000

static void run_agent(pid_t parent, int notify_fd)
{
	char subject[32], notify[16];

	prctl(PR_SET_PDEATHSIG, SIGTERM);
	if (getppid() != parent)
		_exit(1);
	snprintf(subject, sizeof(subject), "%d", (int)parent);
	snprintf(notify, sizeof(notify), "%d", notify_fd);
	fcntl(notify_fd, F_SETFD, 0);
	execlp("pkttyagent", "pkttyagent", "--process", subject, "--notify-fd", notify,
	       "--fallback", NULL);
	_exit(127);
}

int agent_start(void)
{
	_cleanup_close_ int ready = -EBADF, notify = -EBADF;
	pid_t parent = getpid(), pid;
	struct pollfd p;
	int fds[2];

	if (geteuid() == 0 || !isatty(STDIN_FILENO) || !isatty(STDERR_FILENO))
		return 0;
	if (pipe2(fds, O_CLOEXEC) < 0)
		return 0;
	ready = fds[0];
	notify = fds[1];
	pid = fork();
	if (pid < 0)
		return 0;
	if (pid == 0)
		run_agent(parent, notify);
	close(TAKE_FD(notify));
	p = (struct pollfd){ .fd = ready, .events = POLLIN };
	(void)poll(&p, 1, AGENT_READY_MS); /* it closes the pipe when registered, or dies */
	return pid;
}

void agent_stop(int pid)
{
	if (pid <= 0)
		return;
	kill(pid, SIGTERM);
	kill(pid, SIGCONT);
	(void)waitpid(pid, NULL, 0);
}
