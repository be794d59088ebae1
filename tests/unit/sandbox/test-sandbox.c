/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What each role's filter does, in children that may die of it
 */
#include "vmm/sandbox/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <linux/kvm.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmm/base/cleanup.h"
#include "vmm/base/err.h"

enum call {
	CALL_COMMON, /* write, futex, mmap, clock */
	CALL_KVM,
	CALL_OTHER_IOCTL,
	CALL_FLUSH,
	CALL_POLL,
	CALL_EPOLL,
	CALL_SOCKET_UNIX,
	CALL_SOCKET_INET,
	CALL_EXEC_MAP,
	CALL_EXECVE,
	CALL_FORBIDDEN, /* ptrace: nobody's */
	CALL_OPEN,      /* refused, not fatal */
};

/* 0: did what it should, and the process goes on. */
static int make(enum call call)
{
	char *const none[] = { NULL };
	struct pollfd p = { .fd = -1 };
	long r = 0;

	switch (call) {
	case CALL_COMMON:
		r = syscall(SYS_write, -1, "", 0);
		r = r == -1 && errno == EBADF ? syscall(SYS_gettid) : -1;
		return r > 0 && mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) !=
					       MAP_FAILED
			       ? 0
			       : 1;
	case CALL_KVM:
		r = syscall(SYS_ioctl, -1, (unsigned long)KVM_RUN, 0UL);
		return r == -1 && errno == EBADF ? 0 : 1;
	case CALL_OTHER_IOCTL:
		r = syscall(SYS_ioctl, -1, 0x5401UL, 0UL); /* TCGETS */
		break;
	case CALL_FLUSH:
		r = syscall(SYS_ioctl, -1, (unsigned long)TCFLSH, 1UL);
		return r == -1 && errno == EBADF ? 0 : 1;
	case CALL_POLL:
		return syscall(SYS_poll, &p, 1UL, 0) == 0 ? 0 : 1;
	case CALL_EPOLL:
		r = syscall(SYS_epoll_wait, -1, NULL, 1, 0);
		return r == -1 && errno != ENOSYS ? 0 : 1;
	case CALL_SOCKET_UNIX:
		return syscall(SYS_socket, AF_UNIX, SOCK_STREAM, 0) >= 0 ? 0 : 1;
	case CALL_SOCKET_INET:
		r = syscall(SYS_socket, AF_INET, SOCK_STREAM, 0);
		break;
	case CALL_EXEC_MAP:
		r = syscall(SYS_mmap, NULL, 4096UL, PROT_READ | PROT_EXEC,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0UL);
		break;
	case CALL_EXECVE:
		r = syscall(SYS_execve, "/nonexistent", none, none);
		break;
	case CALL_FORBIDDEN:
		r = syscall(SYS_ptrace, 0xffffffffUL, 0UL, 0UL, 0UL);
		break;
	case CALL_OPEN:
		r = syscall(SYS_openat, AT_FDCWD, "/dev/null", 0);
		return r == -1 && errno == EACCES ? 0 : 1;
	}
	(void)r; /* only whether the process lives is of interest */
	return 0;
}

/* The wait status of a child that enters role and makes call. */
static int in_child(enum sandbox_mode mode, enum thread_role role, enum call call)
{
	const struct rlimit no_core = { 0 };
	int status = 0;
	pid_t pid;

	pid = fork();
	g_assert_cmpint(pid, >=, 0);
	if (pid == 0) {
		setrlimit(RLIMIT_CORE, &no_core);
		if (sandbox_init(mode, NULL) < 0 || sandbox_enter(role, NULL) < 0)
			_exit(99);
		_exit(make(call));
	}
	g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
	return status;
}

static const enum thread_role roles[] = { THREAD_ROLE_CONTROL, THREAD_ROLE_VCPU, THREAD_ROLE_IO };

#define C (1U << THREAD_ROLE_CONTROL)
#define V (1U << THREAD_ROLE_VCPU)
#define I (1U << THREAD_ROLE_IO)

static const struct {
	const char *name;
	enum call call;
	unsigned int allowed; /* roles */
} cases[] = {
	{ "everyday calls", CALL_COMMON, C | V | I },
	{ "KVM_RUN", CALL_KVM, C | V | I },
	{ "an ioctl of a terminal", CALL_OTHER_IOCTL, 0 },
	{ "flushing a terminal", CALL_FLUSH, C | I },
	{ "poll", CALL_POLL, C | V | I },
	{ "epoll_wait", CALL_EPOLL, C | I },
	{ "a Unix socket", CALL_SOCKET_UNIX, C },
	{ "an Internet socket", CALL_SOCKET_INET, 0 },
	{ "executable memory", CALL_EXEC_MAP, 0 },
	{ "execve", CALL_EXECVE, 0 },
	{ "ptrace", CALL_FORBIDDEN, 0 },
	{ "openat is refused", CALL_OPEN, C | V | I },
};

static void test_kill(void)
{
	for (size_t i = 0; i < G_N_ELEMENTS(cases); i++)
		for (size_t k = 0; k < G_N_ELEMENTS(roles); k++) {
			int status = in_child(SANDBOX_KILL, roles[k], cases[i].call);

			g_test_message("%s, %s", thread_role_to_string(roles[k]), cases[i].name);
			if (cases[i].allowed & (1U << roles[k])) {
				g_assert_true(WIFEXITED(status));
				g_assert_cmpint(WEXITSTATUS(status), ==, 0);
			} else {
				g_assert_true(WIFSIGNALED(status));
				g_assert_cmpint(WTERMSIG(status), ==, SIGSYS);
			}
		}
}

static void test_log_and_off(void)
{
	for (size_t i = 0; i < G_N_ELEMENTS(cases); i++)
		for (size_t k = 0; k < G_N_ELEMENTS(roles); k++) {
			g_test_message("%s", cases[i].name);
			g_assert_cmpint(in_child(SANDBOX_LOG, roles[k], cases[i].call), ==, 0);
		}
	g_assert_cmpint(in_child(SANDBOX_OFF, THREAD_ROLE_VCPU, CALL_FORBIDDEN), ==, 0);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/sandbox/kill", test_kill);
	g_test_add_func("/sandbox/log-and-off", test_log_and_off);
	return g_test_run();
}
