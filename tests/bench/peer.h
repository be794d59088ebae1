/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Processes that are measured: the worker, QEMU's microvm, the floor
 *
 * All run the tiny guest of the kvm rig ($BRUME_TINY), whose first instructions
 * write 0x40 to port 0x80, and are killed afterwards.
 */
#pragma once

#include <sys/types.h>
#include <systemd/sd-bus.h>

struct peer {
	pid_t pid;
	double born_ms;       /* bench_now_ms() before the fork */
	int out;              /* port 0x80 arrives here, or -EBADF */
	sd_bus *bus;          /* of the worker, else NULL */
	unsigned char wanted; /* code that is waited for */
	double seen_ms;       /* when it arrived, else 0 */
	int failed;
};

/* What the tiny guest writes to port 0x80: first of all, and when it is done. */
#define PEER_CODE_FIRST 0x40
#define PEER_CODE_DONE  0x41

#define PEER_MEMORY_MIB 128
/* What starts or ends a machine on the bus may be going on for a while after its call. */
#define PEER_SETTLE_USEC 100000

/*
 * argv's standard output is the pipe that port 0x80 goes to.  Extra descriptors
 * are inherited unless they are close-on-exec.
 */
void peer_start(struct peer *p, const char *const *argv);

/* Resources by name, -EBADF ends them: { "/disks/0/path", fd }. */
struct peer_resource {
	const char *name;
	int fd;
};

/*
 * The worker ($BRUME_VMM); config is GVariant text without payload.  Everything
 * is sent at once, as by a daemon that opened the resources while it started.
 */
void peer_start_brume(struct peer *p, const char *cmdline, const char *config,
		      const struct peer_resource *resources);
/* Until the guest writes the code: 0, -ETIMEDOUT, or -EIO and it said why on stderr. */
int peer_wait_code(struct peer *p, unsigned char code, unsigned int msec);
void peer_end(struct peer *p);

/* NULL when QEMU is installed, else why it cannot be run. */
const char *peer_qemu_missing(void);
/* Arguments for a microvm with the tiny guest and port 0x80 on standard output. */
#define PEER_QEMU_MACHINE "microvm,pic=off,pit=off,rtc=off,isa-serial=off"
/* With ",pcie=on" it has PCI, but without its firmware no table says where: for the command line.
 */
#define PEER_QEMU_PCIE "ecam=0xe0000000"
#define PEER_QEMU_ARGV(machine, tiny, cmdline)                                                     \
	"qemu-system-x86_64", "-M", machine, "-accel", "kvm", "-m", "128", "-smp", "1",            \
		"-nodefaults", "-no-user-config", "-display", "none", "-chardev",                  \
		"stdio,id=code,signal=off", "-device", "isa-debugcon,iobase=0x80,chardev=code",    \
		"-kernel", tiny, "-append", cmdline
