/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/sandbox/sandbox.h"

#include <assert.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdint.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "sandbox-filters.h" /* made by make-filters.c: control_program, vcpu_program, io_program */
#include "vmm/base/err.h"

#define PROGRAM_MAX 1024

/* Set once before any thread starts, then read only. */
static enum sandbox_mode sandbox_mode = SANDBOX_OFF;

static const struct {
	const struct sock_filter *insns;
	unsigned short n;
} programs[THREAD_ROLE_N_] = {
	[THREAD_ROLE_CONTROL] = { control_program, ARRAY_SIZE(control_program) },
	[THREAD_ROLE_VCPU] = { vcpu_program, ARRAY_SIZE(vcpu_program) },
	[THREAD_ROLE_IO] = { io_program, ARRAY_SIZE(io_program) },
};

static_assert(ARRAY_SIZE(control_program) <= PROGRAM_MAX, "grow PROGRAM_MAX");

int sandbox_init(enum sandbox_mode mode, struct err *err)
{
	sandbox_mode = mode;
	if (mode != SANDBOX_OFF && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return err_errno(err, errno, "cannot give up gaining privileges");
	return 0;
}

static int install(enum thread_role role, const struct sock_filter *insns, struct err *err)
{
	/* the kernel only reads them */
	struct sock_fprog program = { .len = programs[role].n,
				      .filter = (struct sock_filter *)(uintptr_t)insns };

	if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) < 0)
		return err_errno(err, errno, "cannot install the system call filter of a %s thread",
				 thread_role_to_string(role));
	return 0;
}

/* In a function of its own: its 8 KiB would stay resident on each thread's stack. */
static __attribute__((noinline)) int install_logging(enum thread_role role, struct err *err)
{
	struct sock_filter insns[PROGRAM_MAX];

	memcpy(insns, programs[role].insns, programs[role].n * sizeof(insns[0]));
	for (unsigned short i = 0; i < programs[role].n; i++)
		if (insns[i].code == (BPF_RET | BPF_K) && insns[i].k == SECCOMP_RET_KILL_PROCESS)
			insns[i].k = SECCOMP_RET_LOG;
	return install(role, insns, err);
}

int sandbox_enter(enum thread_role role, struct err *err)
{
	switch (sandbox_mode) {
	case SANDBOX_OFF:
		return 0;
	case SANDBOX_LOG:
		return install_logging(role, err);
	case SANDBOX_KILL:
		break;
	}
	return install(role, programs[role].insns, err);
}
