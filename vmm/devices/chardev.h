/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host's end of a console
 *
 * What the guest prints goes into a ring of the last 64 KiB; the client that
 * opens the console is sent what the ring holds and then what follows, at its
 * own speed.  A client that is too slow loses the oldest output, never the
 * guest its time: writing takes a short lock and no system call, unless the
 * ring was empty (a wake-up).  Mode File writes to a descriptor instead.
 *
 * One client at a time, on one end of a socket pair.  Its input goes to the
 * receiver, which says how much it took; the rest waits in the socket.  In mode
 * Socket clients come to a listening socket instead; while there is one, the
 * others wait there.
 *
 * In mode Pty a terminal is there besides, by its master.  It is a client of
 * its own, while somebody has the other side open: it and the one on a socket
 * pair are both sent everything, and both may type.  Nothing tells when the
 * other side is opened, so that is looked for once a second, as a terminal
 * that nobody has open reports EPOLLHUP all the time and cannot be waited for.
 *
 * Threads: write from any thread; client I/O on the loop; open on control.
 * chardev->lock is a leaf.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/base/loop.h"
#include "vmm/config/vm-config.h"

struct err;

#define CHARDEV_RING      (64U << 10)
#define CHARDEV_PTY_INPUT 256U

/* Loop thread: takes up to len bytes, returns how many (0: full, call chardev_receive_more). */
typedef size_t (*chardev_receive_fn)(void *data, const uint8_t *buf, size_t len);

/* Loop thread, but for `sent`. */
struct chardev_client {
	struct chardev *chardev;
	struct loop_source source; /* not armed: there is nobody */
	uint64_t sent;             /* chardev->lock: bytes it has got or lost */
	bool readonly;             /* its input is dropped */
	bool input_ended;          /* it has shut its sending side, and still reads */
};

struct chardev {
	enum console_mode mode;
	char name[16]; /* "serial" */
	struct loop *loop;
	int file_fd; /* mode File: the file; Socket: the listening socket; Pty: the master */
	chardev_receive_fn receive;
	void *receive_data;

	pthread_mutex_t lock; /* the ring and its positions */
	uint8_t *ring;        /* allocated with the first byte */
	uint64_t head;        /* bytes ever written */

	int wake_fd;                 /* there is output for a client, or room for its input */
	struct loop_source wake;     /* loop thread */
	struct loop_source listener; /* mode Socket; armed while there is no client */
	struct chardev_client client;
	struct chardev_client pty;    /* mode Pty; armed while somebody has it open */
	struct loop_source pty_timer; /* mode Pty; running while nobody has */
	/* What was read of the terminal and not taken yet: it cannot be left there. */
	uint8_t pty_input[CHARDEV_PTY_INPUT];
	size_t n_pty_input;
	_Atomic uint64_t dropped; /* bytes that clients were too slow for */
};

/* Control thread. file_fd is taken over on success (modes File, Socket, Pty; else -EBADF). */
int chardev_init(struct chardev *c, const char *name, enum console_mode mode, int file_fd,
		 struct loop *loop, struct err *err);
/* The loop has not been stopped yet. */
void chardev_deinit(struct chardev *c);
/* Before the guest runs. */
void chardev_set_receiver(struct chardev *c, chardev_receive_fn fn, void *data);
/*
 * A new client's end.  FAULT_CONSOLE_IN_USE when there is one and force is
 * false; FAULT_NO_SUCH_CONSOLE unless console_mode_can_open().
 */
int chardev_open(struct chardev *c, bool force, bool readonly, int *ret_fd, struct err *err);

/* Any thread. */
void chardev_write(struct chardev *c, const void *buf, size_t len);
/* The receiver has room again. */
void chardev_receive_more(struct chardev *c);
