/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/devices/chardev.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <termios.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/fd.h"
#include "vmm/base/log.h"
#include "vmm/base/math.h"

#define CHUNK           4096U
#define CHUNKS_PER_TURN 16
#define PTY_LOOK_SEC    1

/* Output is kept for a client, who may come later. */
static bool has_clients(enum console_mode mode)
{
	return mode == CONSOLE_MODE_SOCKET || console_mode_can_open(mode);
}

static bool is_there(const struct chardev_client *client)
{
	return client->source.armed;
}

static bool is_pty(const struct chardev_client *client)
{
	return client == &client->chardev->pty;
}

/* --- the loop's thread --- */

/* Mode Socket: the next client may come. Where that fails it is tried again with the next output.
 */
static void listen_on(struct chardev *c)
{
	if (c->mode == CONSOLE_MODE_SOCKET && !is_there(&c->client) && !c->listener.armed)
		(void)loop_add(c->loop, &c->listener);
}

static void set_pty_timer(struct chardev *c, bool on)
{
	const struct timespec period = { .tv_sec = on ? PTY_LOOK_SEC : 0 };
	const struct itimerspec spec = { .it_interval = period, .it_value = period };

	timerfd_settime(c->pty_timer.fd, 0, &spec, NULL);
}

static void drop_client(struct chardev_client *client)
{
	struct chardev *c = client->chardev;

	if (!is_there(client))
		return;
	loop_remove(c->loop, &client->source);
	if (is_pty(client)) {
		/* What nobody has read is not for the next one, who is sent the ring. */
		(void)tcflush(client->source.fd, TCOFLUSH);
		set_pty_timer(c, true);
		return;
	}
	close(client->source.fd);
	client->source.fd = -EBADF;
	listen_on(c);
}

/* Copies what is next for the client; skips what the ring has lost. */
static size_t peek_output(struct chardev_client *client, uint8_t *buf, size_t max)
{
	struct chardev *c = client->chardev;
	uint64_t oldest, n;

	pthread_mutex_lock(&c->lock);
	oldest = c->head > CHARDEV_RING ? c->head - CHARDEV_RING : 0;
	if (client->sent < oldest) {
		atomic_fetch_add_explicit(&c->dropped, oldest - client->sent, memory_order_relaxed);
		client->sent = oldest;
	}
	n = MIN(c->head - client->sent, (uint64_t)max);
	for (uint64_t i = 0; i < n; i++)
		buf[i] = c->ring[(client->sent + i) % CHARDEV_RING];
	pthread_mutex_unlock(&c->lock);
	return n;
}

static void set_wanted(struct chardev_client *client, uint32_t flag, bool on)
{
	uint32_t events = client->source.events;

	events = on ? events | flag : events & ~flag;
	loop_modify(client->chardev->loop, &client->source, events);
}

static ssize_t transmit(struct chardev_client *client, const uint8_t *buf, size_t n)
{
	int fd = client->source.fd;

	return is_pty(client) ? write(fd, buf, n) : send(fd, buf, n, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void send_output(struct chardev_client *client)
{
	struct chardev *c = client->chardev;
	uint8_t buf[CHUNK];
	size_t n;
	ssize_t sent;

	/* A bounded share: the thread serves other consoles and devices too. */
	for (unsigned int i = 0; (n = peek_output(client, buf, sizeof(buf))) > 0; i++) {
		if (i == CHUNKS_PER_TURN) {
			set_wanted(client, EPOLLOUT, true);
			return;
		}
		sent = transmit(client, buf, n);
		if (sent < 0 && errno == EINTR)
			continue;
		if (sent < 0 && errno == EAGAIN) {
			set_wanted(client, EPOLLOUT, true);
			return;
		}
		if (sent < 0) { /* EIO: nobody has the terminal open any more */
			drop_client(client);
			return;
		}
		pthread_mutex_lock(&c->lock);
		client->sent += (uint64_t)sent;
		pthread_mutex_unlock(&c->lock);
	}
	set_wanted(client, EPOLLOUT, false);
}

static size_t give_input(const struct chardev *c, const uint8_t *buf, size_t n)
{
	return c->receive ? c->receive(c->receive_data, buf, n) : n;
}

static void receive_input(struct chardev_client *client)
{
	struct chardev *c = client->chardev;
	int fd = client->source.fd;
	uint8_t buf[256];
	size_t taken;
	ssize_t n;

	/* Look first: what the receiver does not take stays in the socket. */
	n = recv(fd, buf, sizeof(buf), MSG_DONTWAIT | MSG_PEEK);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n < 0) {
		drop_client(client);
		return;
	}
	if (n == 0) { /* no more input; output goes on until the client hangs up */
		client->input_ended = true;
		set_wanted(client, EPOLLIN, false);
		return;
	}
	taken = client->readonly ? (size_t)n : give_input(c, buf, (size_t)n);
	if (taken > 0 && recv(fd, buf, taken, MSG_DONTWAIT) < 0) {
		drop_client(client);
		return;
	}
	if (taken < (size_t)n)
		set_wanted(client, EPOLLIN, false);
}

/* A report of the client before this one, in the same batch, is not about this one. */
static bool hung_up(const struct chardev_client *client)
{
	uint8_t byte;

	return recv(client->source.fd, &byte, 1, MSG_DONTWAIT | MSG_PEEK) >= 0 || errno != EAGAIN;
}

static void on_client(struct loop_source *source, uint32_t events)
{
	struct chardev_client *client = source->data;

	if ((events & EPOLLIN) && (source->events & EPOLLIN))
		receive_input(client);
	if (is_there(client) && (events & (EPOLLHUP | EPOLLERR)) && !(source->events & EPOLLIN) &&
	    hung_up(client))
		drop_client(client);
	if (is_there(client) && (events & EPOLLOUT))
		send_output(client);
}

/* What the ring still holds is for the new one too. */
static int begin_client(struct chardev_client *client, uint32_t events)
{
	struct chardev *c = client->chardev;

	client->source.events = events;
	pthread_mutex_lock(&c->lock);
	client->sent = c->head > CHARDEV_RING ? c->head - CHARDEV_RING : 0;
	pthread_mutex_unlock(&c->lock);
	return loop_add(c->loop, &client->source);
}

/* Nobody is there. fd is taken over on success. */
static int adopt_client(struct chardev *c, int fd, bool readonly)
{
	struct chardev_client *client = &c->client;
	int r;

	client->readonly = readonly;
	client->input_ended = false;
	client->source = (struct loop_source){ .fd = fd, .fn = on_client, .data = client };
	r = begin_client(client, EPOLLIN);
	if (r < 0) {
		client->source.fd = -EBADF;
		return r;
	}
	send_output(client);
	return 0;
}

/* --- the terminal of mode Pty, on the loop's thread too --- */

/* The receiver gets what was read already; true when that was all. */
static bool give_pty_input(struct chardev *c)
{
	size_t taken = c->n_pty_input ? give_input(c, c->pty_input, c->n_pty_input) : 0;

	c->n_pty_input -= taken;
	memmove(c->pty_input, c->pty_input + taken, c->n_pty_input);
	return c->n_pty_input == 0;
}

/* Also without somebody at the other side: who has typed and left again has typed. */
static void receive_pty_input(struct chardev *c)
{
	ssize_t n = 0;

	/* A bounded share; a terminal holds 4 KiB. */
	for (unsigned int i = 0; i < CHUNKS_PER_TURN && give_pty_input(c); i++) {
		n = read(c->pty.source.fd, c->pty_input, sizeof(c->pty_input));
		if (n <= 0)
			break;
		c->n_pty_input = (size_t)n;
	}
	if (n < 0 && errno != EAGAIN && errno != EINTR)
		drop_client(&c->pty);
	if (is_there(&c->pty))
		set_wanted(&c->pty, EPOLLIN, c->n_pty_input == 0);
}

/* Somebody has the other side open. */
static bool pty_is_open(struct chardev *c, bool *ret_input)
{
	struct pollfd p = { .fd = c->pty.source.fd, .events = POLLIN };

	if (poll(&p, 1, 0) < 0)
		return false;
	*ret_input = p.revents & POLLIN;
	return !(p.revents & (POLLHUP | POLLERR | POLLNVAL));
}

static void look_at_pty(struct chardev *c)
{
	bool input = false, open = pty_is_open(c, &input);

	if (input)
		receive_pty_input(c);
	if (!open || begin_client(&c->pty, c->n_pty_input ? 0 : EPOLLIN) < 0)
		return;
	set_pty_timer(c, false);
	send_output(&c->pty);
}

static void on_pty_timer(struct loop_source *source, uint32_t events _unused_)
{
	struct chardev *c = source->data;
	uint64_t count;

	if (read(source->fd, &count, sizeof(count)) == sizeof(count) && !is_there(&c->pty))
		look_at_pty(c);
}

static void on_pty(struct loop_source *source, uint32_t events)
{
	struct chardev_client *client = source->data;
	bool input;

	if ((events & EPOLLIN) && (source->events & EPOLLIN))
		receive_pty_input(client->chardev);
	if (is_there(client) && (events & (EPOLLHUP | EPOLLERR)) &&
	    !pty_is_open(client->chardev, &input))
		drop_client(client);
	if (is_there(client) && (events & EPOLLOUT))
		send_output(client);
}

static void wake_pty(struct chardev *c)
{
	if (!is_there(&c->pty)) {
		(void)give_pty_input(c);
		look_at_pty(c);
		return;
	}
	if (c->n_pty_input > 0)
		receive_pty_input(c);
	if (is_there(&c->pty))
		send_output(&c->pty);
}

/* --- all modes, on the loop's thread --- */

static void on_wake(struct loop_source *source, uint32_t events _unused_)
{
	struct chardev *c = source->data;

	eventfd_take(source->fd);
	listen_on(c);
	if (c->mode == CONSOLE_MODE_PTY)
		wake_pty(c);
	if (!is_there(&c->client))
		return;
	if (!c->client.input_ended)
		set_wanted(&c->client, EPOLLIN, true);
	send_output(&c->client);
}

struct open_call {
	struct chardev *c;
	bool force, readonly;
	int fd, r;
};

static void open_on_loop(void *data)
{
	struct open_call *call = data;
	struct chardev *c = call->c;

	if (is_there(&c->client) && !call->force) {
		call->r = -EBUSY;
		return;
	}
	drop_client(&c->client);
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

static void stop_on_loop(void *data)
{
	struct chardev *c = data;

	drop_client(&c->client);
	loop_remove(c->loop, &c->pty.source);
	loop_remove(c->loop, &c->pty_timer);
	loop_remove(c->loop, &c->listener);
	loop_remove(c->loop, &c->wake);
}

static void start_on_loop(void *data)
{
	struct open_call *call = data;
	struct chardev *c = call->c;

	call->r = loop_add(c->loop, &c->wake);
	if (call->r >= 0 && c->mode == CONSOLE_MODE_SOCKET)
		call->r = loop_add(c->loop, &c->listener);
	if (call->r >= 0 && c->mode == CONSOLE_MODE_PTY) {
		call->r = loop_add(c->loop, &c->pty_timer);
		set_pty_timer(c, true);
	}
	if (call->r < 0)
		stop_on_loop(c);
}

/* --- control thread --- */

static int init_pty(struct chardev *c, int fd, struct err *err)
{
	int timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);

	if (timer < 0)
		return err_errno(err, errno, "console '%s': cannot make a timer", c->name);
	c->pty_timer = (struct loop_source){
		.fd = timer, .events = EPOLLIN, .fn = on_pty_timer, .data = c
	};
	c->pty.source = (struct loop_source){ .fd = fd, .fn = on_pty, .data = &c->pty };
	return 0;
}

static void free_all(struct chardev *c)
{
	if (c->wake_fd >= 0)
		close(c->wake_fd);
	if (c->pty_timer.fd >= 0)
		close(c->pty_timer.fd);
	free(c->ring);
	pthread_mutex_destroy(&c->lock);
	*c = (struct chardev){ .wake_fd = -EBADF, .file_fd = -EBADF };
}

int chardev_init(struct chardev *c, const char *name, enum console_mode mode, int file_fd,
		 struct loop *loop, struct err *err)
{
	struct open_call call = { .c = c };
	int r = 0;

	*c = (struct chardev){ .mode = mode, .loop = loop, .file_fd = file_fd };
	c->client.chardev = c->pty.chardev = c;
	c->client.source.fd = c->pty.source.fd = c->pty_timer.fd = -EBADF;
	c->wake_fd = -EBADF;
	snprintf(c->name, sizeof(c->name), "%s", name);
	pthread_mutex_init(&c->lock, NULL);
	if (!has_clients(mode))
		return 0;
	c->wake_fd = eventfd_new();
	if (c->wake_fd < 0)
		r = err_errno(err, -c->wake_fd, "console '%s': cannot make an eventfd", name);
	else if (mode == CONSOLE_MODE_PTY)
		r = init_pty(c, file_fd, err);
	if (r < 0)
		goto fail;
	c->wake = (struct loop_source){
		.fd = c->wake_fd, .events = EPOLLIN, .fn = on_wake, .data = c
	};
	c->listener = (struct loop_source){
		.fd = file_fd, .events = EPOLLIN, .fn = on_listener, .data = c
	};
	loop_call(loop, start_on_loop, &call);
	if (call.r >= 0)
		return 0;
	r = err_errno(err, -call.r, "console '%s': cannot be watched", name);

fail: /* deinit has nothing to do then, the file is the caller's */
	free_all(c);
	return r;
}

void chardev_deinit(struct chardev *c)
{
	if (!c->loop)
		return;
	if (c->wake.armed)
		loop_call(c->loop, stop_on_loop, c);
	if (c->file_fd >= 0)
		close(c->file_fd);
	free_all(c);
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

	if (!console_mode_can_open(c->mode))
		return err_fault(err, FAULT_NO_SUCH_CONSOLE, ENXIO,
				 "console '%s' cannot be opened: its mode is neither Tty nor Pty",
				 c->name);
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

/* True when a client has got all that there was: nothing else will make the loop look again. */
static bool put_output(struct chardev *c, const uint8_t *buf, size_t len)
{
	bool was_idle = false, stored = false;

	pthread_mutex_lock(&c->lock);
	if (!c->ring)
		c->ring = malloc(CHARDEV_RING);
	if (c->ring) {
		size_t at = c->head % CHARDEV_RING, first = MIN(len, (size_t)CHARDEV_RING - at);

		was_idle = c->client.sent == c->head ||
			   (c->mode == CONSOLE_MODE_PTY && c->pty.sent == c->head);
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
		if (on_loop && is_there(&c->client))
			send_output(&c->client);
		if (on_loop && is_there(&c->pty))
			send_output(&c->pty);
		buf += part;
		len -= part;
	}
}

void chardev_write(struct chardev *c, const void *buf, size_t len)
{
	switch (c->mode) {
	case CONSOLE_MODE_TTY:
	case CONSOLE_MODE_SOCKET:
	case CONSOLE_MODE_PTY:
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
