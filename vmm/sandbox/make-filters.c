/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Build-time tool: writes the seccomp programs of sandbox.c as C arrays
 *
 * The tables below are compiled with libseccomp while Brume is built, so the
 * worker neither links the library nor spends its first millisecond generating
 * BPF.  A thread inherits the filter of the thread that starts it, which is
 * always the control thread, so the control program contains the rows of the
 * other roles too.
 */
#include <errno.h>
#include <seccomp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <linux/filter.h>
#include <linux/fs.h>
#include <linux/if_tun.h>
#include <linux/kvm.h>
#include <linux/vhost.h>

struct row {
	int syscall;
	const char *why;
	bool refuse; /* EACCES instead of allowed: libraries ask, and take no for an answer */
	bool has_arg;
	struct scmp_arg_cmp arg;
};

#define ROW(name, reason)                                                                          \
	{                                                                                          \
		SCMP_SYS(name), reason, false, false,                                              \
		{                                                                                  \
			0                                                                          \
		}                                                                                  \
	}
#define REFUSE(name, reason)                                                                       \
	{                                                                                          \
		SCMP_SYS(name), reason, true, false,                                               \
		{                                                                                  \
			0                                                                          \
		}                                                                                  \
	}
#define IOCTL(request, reason)                                                                     \
	{                                                                                          \
		SCMP_SYS(ioctl), reason, false, true, SCMP_A1(SCMP_CMP_EQ, request)                \
	}
#define MASKED(name, n, mask, value, reason)                                                       \
	{                                                                                          \
		SCMP_SYS(name), reason, false, true, SCMP_CMP(n, SCMP_CMP_MASKED_EQ, mask, value)  \
	}

static const struct row common_rows[] = {
	ROW(futex, "locks and condition variables"),
	ROW(read, "eventfds, sockets, taps"),
	ROW(write, "eventfds, sockets, log lines"),
	ROW(writev, "taps, assertion messages"),
	ROW(close, "descriptors handed over"),
	ROW(clock_gettime, "where the vDSO cannot answer: hosts without a stable TSC"),
	ROW(gettimeofday, "the same"),
	ROW(time, "the same"),
	ROW(rt_sigprocmask, "thread start and end"),
	ROW(rt_sigreturn, "after the vCPU kick"),
	ROW(restart_syscall, "after SIGSTOP and SIGCONT"),
	ROW(gettid, "assertions"),
	ROW(getpid, "assertions"),
	ROW(tgkill, "vCPU kick, abort"),
	ROW(exit, "thread end"),
	ROW(exit_group, "process end"),
	ROW(brk, "malloc"),
	ROW(munmap, "malloc, thread stacks"),
	ROW(mremap, "malloc"),
	ROW(madvise, "malloc, thread stacks"),
	MASKED(mmap, 2, PROT_EXEC, 0, "malloc, thread stacks; never code"),
	MASKED(mprotect, 2, PROT_EXEC, 0, "malloc, thread stacks; never code"),
	ROW(sched_yield, "spinning libraries"),
	ROW(timerfd_settime, "sd-event; a watchdog that is armed"),
	ROW(getrandom, "malloc's tcache, virtio-rng"),
	ROW(rseq, "thread start"),
	ROW(set_robust_list, "thread start"),
	ROW(sendto, "console clients"),
	ROW(sendmsg, "console clients, vsock, control channel"),
	ROW(sigaltstack, "thread end"),
	REFUSE(openat, "the root is empty; libraries look for tunables"),
};

static const struct row vcpu_rows[] = {
	ROW(pread64, "files in fw_cfg"),
	MASKED(ioctl, 1, 0xff00, KVMIO << 8, "KVM_RUN, routes, irqfds"),
	ROW(poll, "pending bit of a masked vector"),
};

static const struct row io_rows[] = {
	ROW(epoll_wait, "the event loop"),
	ROW(epoll_pwait, "the event loop"),
	ROW(epoll_ctl, "the event loop"),
	ROW(readv, "taps, disks"),
	ROW(pread64, "disks"),
	ROW(pwrite64, "disks"),
	ROW(lseek, "VHDX: its log says how long the file is"),
	ROW(preadv, "disks"),
	ROW(pwritev, "disks"),
	ROW(preadv2, "disks"),
	ROW(pwritev2, "disks"),
	ROW(fsync, "disks"),
	ROW(fdatasync, "disks"),
	ROW(io_uring_setup, "disks: the ring of a queue"),
	ROW(io_uring_register, "disks"),
	ROW(io_uring_enter, "disks"),
	ROW(clock_nanosleep, "disks: a ring that cannot be waited for"),
	ROW(io_setup, "disks: Linux AIO, where there is no io_uring"),
	ROW(io_destroy, "disks"),
	ROW(io_submit, "disks"),
	ROW(io_getevents, "disks"),
	ROW(ftruncate, "disks: files of images that grow; memfd"),
	ROW(fallocate, "disks: discard, zeroes; emptying shared guest memory for a reboot"),
	ROW(recvfrom, "console clients"),
	ROW(accept4, "vsock, consoles: clients of a listening socket"),
	ROW(poll, "consoles: has somebody the terminal open?"),
	IOCTL(TCFLSH, "consoles: what nobody has read of a terminal"),
	ROW(recvmsg, "console clients"),
	ROW(shutdown, "console clients"),
	ROW(fcntl, "O_NONBLOCK of descriptors handed over"),
	ROW(timerfd_settime, "rate limits"),
	IOCTL(TUNSETOFFLOAD, "net: what the driver negotiated"),
	IOCTL(TUNSETVNETHDRSZ, "net: header size"),
	IOCTL(TUNSETQUEUE, "net: queues in use"),
	IOCTL(TUNGETIFF, "net: is it a tap, with the header we need?"),
	IOCTL(BLKGETSIZE64, "disks: size of a block device"),
	IOCTL(BLKSSZGET, "disks: sector size"),
	IOCTL(BLKPBSZGET, "disks: physical block size"),
	IOCTL(BLKALIGNOFF, "disks: topology"),
	IOCTL(BLKIOMIN, "disks: topology"),
	IOCTL(BLKIOOPT, "disks: topology"),
	IOCTL(BLKDISCARD, "disks: discard of block devices that do not zero"),
	MASKED(ioctl, 1, 0xff00, KVMIO << 8, "IOAPIC lines raised from an I/O thread"),
};

static const struct row control_rows[] = {
	ROW(poll, "control channel, parking vCPUs"),
	ROW(ppoll, "control channel"),
	ROW(epoll_pwait2, "sd-event"),
	ROW(epoll_create1, "event loops of I/O threads"),
	ROW(eventfd2, "doorbells, interrupts"),
	ROW(timerfd_create, "sd-event"),
	IOCTL(VHOST_SET_OWNER, "net: vhost"),
	IOCTL(VHOST_GET_FEATURES, "net: vhost"),
	IOCTL(VHOST_SET_FEATURES, "net: vhost, what the driver negotiated"),
	IOCTL(VHOST_SET_MEM_TABLE, "net: vhost, guest memory"),
	IOCTL(VHOST_SET_VRING_NUM, "net: vhost, rings"),
	IOCTL(VHOST_SET_VRING_BASE, "net: vhost, rings"),
	IOCTL(VHOST_GET_VRING_BASE, "net: vhost, rings"),
	IOCTL(VHOST_SET_VRING_ADDR, "net: vhost, rings"),
	IOCTL(VHOST_SET_VRING_KICK, "net: vhost, doorbells"),
	IOCTL(VHOST_SET_VRING_CALL, "net: vhost, interrupts"),
	IOCTL(VHOST_SET_VRING_ERR, "net: vhost, malformed rings"),
	IOCTL(VHOST_NET_SET_BACKEND, "net: vhost, its tap"),
	ROW(signalfd4, "sd-event"),
	ROW(rt_sigaction, "abort"),
	ROW(accept4, "control channel"),
	ROW(getsockopt, "control channel"),
	ROW(setsockopt, "control channel"),
	ROW(getsockname, "control channel"),
	ROW(getpeername, "control channel"),
	ROW(socketpair, "consoles"),
	MASKED(socket, 0, 0xffffffff, AF_UNIX, "sd_notify"),
	ROW(connect, "sd_notify"),
	ROW(dup, "descriptors handed over"),
	ROW(dup3, "descriptors handed over"),
	ROW(fstat, "descriptors handed over"),
	ROW(newfstatat, "fstat in glibc"),
	ROW(statx, "disks: O_DIRECT alignment"),
	ROW(lseek, "loaders, disks"),
	ROW(memfd_create, "shared guest memory, large D-Bus messages"),
	ROW(clone3, "threads"),
	ROW(clone, "threads"),
	ROW(sched_setaffinity, "cpus.affinity"),
	ROW(sched_getaffinity, "number of processors"),
	ROW(prctl, "thread names, filters of new threads"),
	ROW(seccomp, "filters of new threads"),
	ROW(getuid, "control channel"),
	ROW(geteuid, "control channel"),
	ROW(getgid, "control channel"),
	ROW(getegid, "control channel"),
	ROW(getppid, "control channel"),
	ROW(prlimit64, "thread stacks"),
	ROW(uname, "capabilities of the kernel"),
	ROW(clock_nanosleep, "libraries"),
	ROW(clock_getres, "sd-event"),
	ROW(mbind, "guest memory"),
	ROW(membarrier, "liburing"),
	REFUSE(readlink, "libraries look around"),
	REFUSE(readlinkat, "libraries look around"),
	REFUSE(access, "libraries look around"),
	REFUSE(faccessat, "libraries look around"),
	REFUSE(faccessat2, "libraries look around"),
};

struct table {
	const struct row *rows;
	size_t n;
};

#define TABLE(rows)                                                                                \
	{                                                                                          \
		rows, sizeof(rows) / sizeof((rows)[0])                                             \
	}

static const struct table all[] = {
	TABLE(common_rows),
	TABLE(vcpu_rows),
	TABLE(io_rows),
	TABLE(control_rows),
};

static const struct {
	const char *name;
	unsigned int tables; /* bits of all[] */
} programs[] = {
	{ "vcpu", 0x3 },
	{ "io", 0x5 },
	{ "control", 0xf },
};

static void die(const char *what, int r)
{
	fprintf(stderr, "make-filters: %s: %s\n", what, strerror(-r));
	exit(1);
}

static void add_table(scmp_filter_ctx ctx, const struct table *table)
{
	for (size_t i = 0; i < table->n; i++) {
		const struct row *row = &table->rows[i];
		uint32_t action = row->refuse ? SCMP_ACT_ERRNO(EACCES) : SCMP_ACT_ALLOW;
		int r = seccomp_rule_add_array(ctx, action, row->syscall, row->has_arg, &row->arg);

		if (r < 0 && r != -EEXIST) /* the same row in two tables */
			die(row->why, r);
	}
}

static void write_program(FILE *out, const char *name, unsigned int tables)
{
	scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_KILL_PROCESS);
	struct sock_filter insn;
	FILE *bpf = tmpfile();
	int r;

	if (!ctx || !bpf)
		die(name, -ENOMEM);
	r = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2); /* a binary tree */
	if (r < 0)
		die("optimize", r);
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		if (tables & (1U << i))
			add_table(ctx, &all[i]);
	r = seccomp_export_bpf(ctx, fileno(bpf));
	if (r < 0)
		die("export", r);
	rewind(bpf);
	fprintf(out, "static const struct sock_filter %s_program[] = {\n", name);
	while (fread(&insn, sizeof(insn), 1, bpf) == 1)
		fprintf(out, "\t{ 0x%04x, %u, %u, 0x%08x },\n", insn.code, insn.jt, insn.jf,
			insn.k);
	fprintf(out, "};\n\n");
	fclose(bpf);
	seccomp_release(ctx);
}

int main(int argc, char **argv)
{
	FILE *out = argc == 2 ? fopen(argv[1], "w") : NULL;

	if (!out) {
		fprintf(stderr, "usage: make-filters OUTPUT\n");
		return 2;
	}
	fputs("/* made by vmm/sandbox/make-filters.c */\n\n", out);
	for (size_t i = 0; i < sizeof(programs) / sizeof(programs[0]); i++)
		write_program(out, programs[i].name, programs[i].tables);
	return fclose(out) == 0 ? 0 : 1;
}
