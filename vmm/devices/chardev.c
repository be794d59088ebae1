/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/devices/chardev.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/fd.h"
#include "vmm/base/log.h"
#include "vmm/base/math.h"

#define CHUNK           4096U
#define CHUNKS_PER_TURN 16

/* Output is kept for a client, who may come later. */
static bool has_clients(enum console_mode mode)
{
	return mode == CONSOLE_MODE_TTY || mode == CONSOLE_MODE_SOCKET;
}

static bool has_client(const struct chardev *c)
{
	return c->client.fd >= 0;
}

/* --- the loop's thread --- */

/* Mode Socket: the next client may come. Where that fails it is tried again with the next output.
 */
static void listen_on(struct chardev *c)
{
	if (c->mode == CONSOLE_MODE_SOCKET && !has_client(c) && !c->listener.armed)
		(void)loop_add(c->loop, &c->listener);
}

static void drop_client(struct chardev *c)
{
	if (!has_client(c))
		return;
	loop_remove(c->loop, &c->client);
	close(c->client.fd);
	c->client.fd = -EBADF;
	listen_on(c);
}

/* Copies what is next for the client; skips what the ring has lost. */
static size_t peek_output(struct chardev *c, uint8_t *buf, size_t max)
{
	uint64_t oldest, n;

	pthread_mutex_lock(&c->lock);
	oldest = c->head > CHARDEV_RING ? c->head - CHARDEV_RING : 0;
	if (c->sent < oldest) {
		atomic_fetch_add_explicit(&c->dropped, oldest - c->sent, memory_order_relaxed);
		c->sent = oldest;
	}
	n = MIN(c->head - c->sent, (uint64_t)max);
	for (uint64_t i = 0; i < n; i++)
		buf[i] = c->ring[(c->sent + i) % CHARDEV_RING];
	pthread_mutex_unlock(&c->lock);
	return n;
}

static void set_wanted(struct chardev *c, uint32_t flag, bool on)
{
	uint32_t events = on ? c->client.events | flag : c->client.events & ~flag;

	loop_modify(c->loop, &c->client, events);
}

static void send_output(struct chardev *c)
{
	uint8_t buf[CHUNK];
	size_t n;
	ssize_t sent;

	/* A bounded share: the thread serves other consoles and devices too. */
	for (unsigned int i = 0; (n = peek_output(c, buf, sizeof(buf))) > 0; i++) {
		if (i == CHUNKS_PER_TURN) {
			set_wanted(c, EPOLLOUT, true);
			return;
		}
		sent = send(c->client.fd, buf, n, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (sent < 0 && errno == EINTR)
			continue;
		if (sent < 0 && errno == EAGAIN) {
			set_wanted(c, EPOLLOUT, true);
			return;
		}
		if (sent < 0) {
			drop_client(c);
			return;
		}
		pthread_mutex_lock(&c->lock);
		c->sent += (uint64_t)sent;
		pthread_mutex_unlock(&c->lock);
	}
	set_wanted(c, EPOLLOUT, false);
}

static void receive_input(struct chardev *c)
{
	uint8_t buf[256];
	size_t taken;
	ssize_t n;

	/* Look first: what the receiver does not take stays in the socket. */
	n = recv(c->client.fd, buf, sizeof(buf), MSG_DONTWAIT | MSG_PEEK);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n < 0) {
		drop_client(c);
		return;
	}
	if (n == 0) { /* no more input; output goes on until the client hangs up */
		c->input_ended = true;
		set_wanted(c, EPOLLIN, false);
		return;
	}
	taken = (size_t)n;
	if (!c->readonly && c->receive)
		taken = c->receive(c->receive_data, buf, (size_t)n);
	if (taken > 0 && recv(c->client.fd, buf, taken, MSG_DONTWAIT) < 0) {
		drop_client(c);
		return;
	}
	if (taken < (size_t)n)
		set_wanted(c, EPOLLIN, false);
}

/* A report of the client before this one, in the same batch, is not about this one. */
static bool hung_up(const struct chardev *c)
{
	uint8_t byte;

	return recv(c->client.fd, &byte, 1, MSG_DONTWAIT | MSG_PEEK) >= 0 || errno != EAGAIN;
}

static void on_client(struct loop_source *source, uint32_t events)
{
	struct chardev *c = source->data;

	if ((events & EPOLLIN) && (c->client.events & EPOLLIN))
		receive_input(c);
	if (has_client(c) && (events & (EPOLLHUP | EPOLLERR)) && !(c->client.events & EPOLLIN) &&
	    hung_up(c))
		drop_client(c);
	if (has_client(c) && (events & EPOLLOUT))
		send_output(c);
}

static void on_wake(struct loop_source *source, uint32_t events _unused_)
{
	struct chardev *c = source->data;

	eventfd_take(source->fd);
	listen_on(c);
	if (!has_client(c))
		return;
	if (!c->input_ended)
		set_wanted(c, EPOLLIN, true);
	send_output(c);
}

struct open_call {
	struct chardev *c;
	bool force, readonly;
	int fd, r;
};

/* Nobody is there. fd is taken over on success. */
static int adopt_client(struct chardev *c, int fd, bool readonly)
{
	int r;

	c->readonly = readonly;
	c->input_ended = false;
	c->client = (struct loop_source){ .fd = fd, .events = EPOLLIN, .fn = on_client, .data = c };
	pthread_mutex_lock(&c->lock);
	c->sent = 0; /* what the ring still holds is for the new one too */
	if (c->head > CHARDEV_RING)
		c->sent = c->head - CHARDEV_RING;
	pthread_mutex_unlock(&c->lock);
	r = loop_add(c->loop, &c->client);
	if (r < 0) {
		c->client.fd = -EBADF;
		return r;
	}
	send_output(c);
	return 0;
}

static void open_on_loop(void *data)
{
	struct open_call *call = data;
	struct chardev *c = call->c;

	if (has_client(c) && !call->force) {
		call->r = -EBUSY;
		return;
	}
	drop_client(c);
	call->r = adopt_client(c, call->fd, call->readonly);
}

static void on_listener(struct loop_source *source, uint32_t events _unused_)
{
	struct chardev *c = source->data;
	int fd = accept4(source->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

	if (fd < 0 && (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED))
		return;
	/* The others wait for this one's end; without descriptors all wait for better times. */
	loop_remove(c->loop, source);
	if (fd >= 0 && adopt_client(c, fd, false) < 0)
		close(fd);
}

static void start_on_loop(void *data)
{
	struct open_call *call = data;

	call->r = loop_add(call->c->loop, &call->c->wake);
	if (call->r >= 0 && call->c->mode == CONSOLE_MODE_SOCKET)
		call->r = loop_add(call->c->loop, &call->c->listener);
	if (call->r < 0)
		loop_remove(call->c->loop, &call->c->wake);
}

static void stop_on_loop(void *data)
{
	struct chardev *c = data;

	drop_client(c);
	loop_remove(c->loop, &c->listener);
	loop_remove(c->loop, &c->wake);
}

/* --- control thread --- */

int chardev_init(struct chardev *c, const char *name, enum console_mode mode, int file_fd,
		 struct loop *loop, struct err *err)
{
	struct open_call call = { .c = c };
	int r;

	*c = (struct chardev){ .mode = mode, .loop = loop, .file_fd = file_fd };
	c->client.fd = -EBADF;
	c->wake_fd = -EBADF;
	snprintf(c->name, sizeof(c->name), "%s", name);
	pthread_mutex_init(&c->lock, NULL);
	if (!has_clients(mode))
		return 0;
	c->wake_fd = eventfd_new();
	if (c->wake_fd < 0) {
		r = err_errno(err, -c->wake_fd, "console '%s': cannot make an eventfd", name);
		goto fail;
	}
	c->wake = (struct loop_source){
		.fd = c->wake_fd, .events = EPOLLIN, .fn = on_wake, .data = c
	};
	c->listener = (struct loop_source){
		.fd = file_fd, .events = EPOLLIN, .fn = on_listener, .data = c
	};
	loop_call(loop, start_on_loop, &call);
	if (call.r < 0) {
		r = err_errno(err, -call.r, "console '%s': cannot be watched", name);
		close(c->wake_fd);
		goto fail;
	}
	return 0;

fail: /* deinit has nothing to do then */
	pthread_mutex_destroy(&c->lock);
	*c = (struct chardev){ .wake_fd = -EBADF, .file_fd = -EBADF };
	return r;
}

void chardev_deinit(struct chardev *c)
{
	if (!c->loop)
		return;
	if (c->wake.armed)
		loop_call(c->loop, stop_on_loop, c);
	if (c->wake_fd >= 0)
		close(c->wake_fd);
	if (c->file_fd >= 0)
		close(c->file_fd);
	free(c->ring);
	pthread_mutex_destroy(&c->lock);
	*c = (struct chardev){ .wake_fd = -EBADF, .file_fd = -EBADF };
}

void chardev_set_receiver(struct chardev *c, chardev_receive_fn fn, void *data)
{
	c->receive = fn;
	c->receive_data = data;
}

int chardev_open(struct chardev *c, bool force, bool readonly, int *ret_fd, struct err *err)
{
	struct open_call call = { .c = c, .force = force, .readonly = readonly };
	int fds[2];

	if (c->mode != CONSOLE_MODE_TTY)
		return err_fault(err, FAULT_NO_SUCH_CONSOLE, ENXIO,
				 "console '%s' cannot be opened: its mode is not Tty", c->name);
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
		return err_errno(err, errno, "console '%s': cannot make a socket pair", c->name);
	call.fd = fds[0];
	loop_call(c->loop, open_on_loop, &call);
	if (call.r < 0) {
		close(fds[0]);
		close(fds[1]);
		if (call.r == -EBUSY)
			return err_fault(err, FAULT_CONSOLE_IN_USE, EBUSY,
					 "console '%s' is in use by another client", c->name);
		return err_errno(err, -call.r, "console '%s': cannot watch its client", c->name);
	}
	*ret_fd = fds[1];
	return 0;
}

/* --- any thread --- */

static bool put_output(struct chardev *c, const uint8_t *buf, size_t len)
{
	bool was_idle = false, stored = false;

	pthread_mutex_lock(&c->lock);
	if (!c->ring)
		c->ring = malloc(CHARDEV_RING);
	if (c->ring) {
		size_t at = c->head % CHARDEV_RING, first = MIN(len, (size_t)CHARDEV_RING - at);

		was_idle = c->sent == c->head;
		memcpy(c->ring + at, buf, first);
		memcpy(c->ring, buf + first, len - first);
		c->head += len;
		stored = true;
	}
	pthread_mutex_unlock(&c->lock);
	return stored && was_idle;
}

/*
 * A device that runs on the loop's own thread can write more than the ring
 * holds before anybody sends it: it sends as it goes.
 */
static void put_in_parts(struct chardev *c, const uint8_t *buf, size_t len)
{
	bool on_loop = pthread_equal(pthread_self(), c->loop->thread.handle);

	while (len > 0) {
		size_t part = MIN(len, (size_t)CHARDEV_RING / 2);

		if (put_output(c, buf, part) && !on_loop)
			eventfd_signal(c->wake_fd);
		if (on_loop && has_client(c))
			send_output(c);
		buf += part;
		len -= part;
	}
}

void chardev_write(struct chardev *c, const void *buf, size_t len)
{
	switch (c->mode) {
	case CONSOLE_MODE_TTY:
	case CONSOLE_MODE_SOCKET:
		put_in_parts(c, buf, len);
		break;
	case CONSOLE_MODE_FILE:
		if (fd_write_all(c->file_fd, buf, len) < 0)
			log_guest("console '%s': cannot write to its file", c->name);
		break;
	case CONSOLE_MODE_OFF:
	case CONSOLE_MODE_NULL:
	case CONSOLE_MODE_N_:
		break;
	}
}

void chardev_receive_more(struct chardev *c)
{
	if (has_clients(c->mode))
		eventfd_signal(c->wake_fd);
}
