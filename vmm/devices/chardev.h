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
 * Threads: write from any thread; socket I/O on the loop; open on control.
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

#define CHARDEV_RING (64U << 10)

/* Loop thread: takes up to len bytes, returns how many (0: full, call chardev_receive_more). */
typedef size_t (*chardev_receive_fn)(void *data, const uint8_t *buf, size_t len);

struct chardev {
	enum console_mode mode;
	char name[16]; /* "serial" */
	struct loop *loop;
	int file_fd; /* mode File: the file; mode Socket: the listening socket */
	chardev_receive_fn receive;
	void *receive_data;

	pthread_mutex_t lock; /* the ring and its positions */
	uint8_t *ring;        /* allocated with the first byte */
	uint64_t head;        /* bytes ever written */
	uint64_t sent;        /* bytes the client has got or lost */

	int wake_fd;                     /* there is output for the client, or room for its input */
	struct loop_source wake, client; /* loop thread; client.fd -EBADF = none */
	struct loop_source listener;     /* mode Socket; armed while there is no client */
	bool readonly;                   /* the client's input is dropped */
	bool input_ended;                /* it has shut its sending side, and still reads */
	_Atomic uint64_t dropped;        /* bytes the client was too slow for */
};

/* Control thread. file_fd is taken over on success (modes File, Socket; else -EBADF). */
int chardev_init(struct chardev *c, const char *name, enum console_mode mode, int file_fd,
		 struct loop *loop, struct err *err);
/* The loop has not been stopped yet. */
void chardev_deinit(struct chardev *c);
/* Before the guest runs. */
void chardev_set_receiver(struct chardev *c, chardev_receive_fn fn, void *data);
/*
 * A new client's end.  FAULT_CONSOLE_IN_USE when there is one and force is
 * false; FAULT_NO_SUCH_CONSOLE unless the mode is Tty.
 */
int chardev_open(struct chardev *c, bool force, bool readonly, int *ret_fd, struct err *err);

/* Any thread. */
void chardev_write(struct chardev *c, const void *buf, size_t len);
/* The receiver has room again. */
void chardev_receive_more(struct chardev *c);
