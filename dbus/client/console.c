/* SPDX-License-Identifier: Apache-2.0 */
#include "dbus/client/console.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "dbus/bus-path.h"
#include "dbus/client/verbs.h"

#define ESCAPE_KEY 0x1d /* Ctrl-] */
#define DRAIN_USEC UINT64_C(2000000)
#define NEVER      UINT64_MAX

struct pump {
	const struct console_params *params;
	struct termios saved;
	bool raw;
	bool escaped; /* Ctrl-] was the last key */
	bool input_over;
	uint64_t deadline;  /* monotonic; NEVER before the end of input */
	char pending[4096]; /* read from standard input, not taken by the guest yet */
	size_t n_pending;
	enum console_end end;
	bool ended;
};

static volatile sig_atomic_t got_signal, got_resize;

static void on_signal(int number)
{
	(void)number;
	got_signal = 1;
}

static void on_resize(int number)
{
	(void)number;
	got_resize = 1;
}

/* Of the terminal that the keys come from. */
static void tell_size(const struct pump *p)
{
	struct winsize size;

	got_resize = 0;
	if (p->params->on_size && isatty(STDIN_FILENO) &&
	    ioctl(STDIN_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col && size.ws_row)
		p->params->on_size(size.ws_col, size.ws_row, p->params->data);
}

static uint64_t now_usec(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static void finish(struct pump *p, enum console_end end)
{
	if (!p->ended)
		p->end = end;
	p->ended = true;
}

static void terminal_raw(struct pump *p)
{
	struct termios raw;

	if (!isatty(STDIN_FILENO) || tcgetattr(STDIN_FILENO, &p->saved) < 0)
		return;
	raw = p->saved;
	cfmakeraw(&raw);
	p->raw = tcsetattr(STDIN_FILENO, TCSAFLUSH, &raw) == 0;
}

static void terminal_restore(struct pump *p)
{
	if (p->raw)
		(void)tcsetattr(STDIN_FILENO, TCSADRAIN, &p->saved);
}

/* One byte from a person: the guest's, or part of an escape sequence. */
static void take_key(struct pump *p, char key)
{
	if (p->escaped) {
		p->escaped = false;
		if (key != ESCAPE_KEY && p->params->on_key(key, p->params->data))
			finish(p, CONSOLE_END_LEFT);
		if (key != ESCAPE_KEY)
			return;
	} else if (key == ESCAPE_KEY) {
		if (p->params->on_key)
			p->escaped = true;
		else
			finish(p, CONSOLE_END_LEFT);
		return;
	}
	p->pending[p->n_pending++] = key;
}

static void read_input(struct pump *p)
{
	char buf[sizeof(p->pending)];
	ssize_t n = read(STDIN_FILENO, buf, sizeof(buf));

	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return;
	if (n <= 0) {
		p->input_over = true;
		if (!p->params->stay)
			p->deadline = now_usec() + (p->params->has_timeout ? p->params->timeout_usec
									   : DRAIN_USEC);
		return;
	}
	if (!p->raw) {
		memcpy(p->pending, buf, (size_t)n);
		p->n_pending = (size_t)n;
		return;
	}
	for (ssize_t i = 0; i < n && !p->ended; i++)
		take_key(p, buf[i]);
}

static void write_pending(struct pump *p)
{
	ssize_t n = send(p->params->fd, p->pending, p->n_pending, MSG_NOSIGNAL | MSG_DONTWAIT);

	if (n < 0 && errno == ENOTSOCK) /* a pty */
		n = write(p->params->fd, p->pending, p->n_pending);
	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return;
	if (n < 0) {
		p->n_pending = 0; /* closed: reading will say so after the last output */
		return;
	}
	memmove(p->pending, p->pending + n, p->n_pending - (size_t)n);
	p->n_pending -= (size_t)n;
}

static void read_output(struct pump *p)
{
	char buf[8192];
	ssize_t n = read(p->params->fd, buf, sizeof(buf));

	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return;
	if (n <= 0) { /* EIO: the other end of a pty closed */
		finish(p, CONSOLE_END_CLOSED);
		return;
	}
	for (ssize_t done = 0; done < n;) {
		ssize_t written = write(STDOUT_FILENO, buf + done, (size_t)(n - done));

		if (written < 0 && errno == EINTR)
			continue;
		if (written < 0) {
			finish(p, CONSOLE_END_FAILED);
			return;
		}
		done += written;
	}
	if (p->deadline != NEVER && !p->params->has_timeout)
		p->deadline = now_usec() + DRAIN_USEC; /* it is still talking */
}

static void process_bus(struct pump *p)
{
	int r = 0;

	while (p->params->bus && (r = sd_bus_process(p->params->bus, NULL)) > 0)
		;
	if (r < 0) {
		client_complain("the connection to the bus broke: %s", strerror(-r));
		finish(p, CONSOLE_END_FAILED);
	}
	if (p->params->stop && *p->params->stop)
		finish(p, CONSOLE_END_STOPPED);
}

/* Absolute microseconds until which to sleep. */
static uint64_t next_wakeup(struct pump *p)
{
	uint64_t bus = NEVER;

	if (p->params->bus && sd_bus_get_timeout(p->params->bus, &bus) < 0)
		bus = NEVER;
	return bus < p->deadline ? bus : p->deadline;
}

static void wait_and_move(struct pump *p, const sigset_t *unblocked)
{
	bool room = !p->input_over && p->n_pending == 0;
	struct pollfd fds[3] = {
		{ .fd = room ? STDIN_FILENO : -1, .events = POLLIN },
		{ .fd = p->params->fd, .events = (short)(POLLIN | (p->n_pending ? POLLOUT : 0)) },
		{ .fd = -1 },
	};
	uint64_t until = next_wakeup(p), now = now_usec();
	struct timespec left = { 0 };
	int r;

	if (p->params->bus) {
		fds[2].fd = sd_bus_get_fd(p->params->bus);
		fds[2].events = (short)sd_bus_get_events(p->params->bus);
	}
	if (until > now) {
		left.tv_sec = (time_t)((until - now) / 1000000);
		left.tv_nsec = (long)((until - now) % 1000000) * 1000;
	}
	r = ppoll(fds, 3, until == NEVER ? NULL : &left, unblocked);
	if (r < 0 && errno != EINTR) {
		client_complain("poll: %s", strerror(errno));
		finish(p, CONSOLE_END_FAILED);
		return;
	}
	if (got_signal) {
		finish(p, CONSOLE_END_SIGNAL);
		return;
	}
	if (got_resize)
		tell_size(p);
	if (r < 0)
		return;
	if (fds[1].revents & (POLLIN | POLLHUP | POLLERR))
		read_output(p);
	if (fds[1].revents & POLLOUT)
		write_pending(p);
	if (fds[0].revents)
		read_input(p);
	if (now_usec() >= p->deadline)
		finish(p, CONSOLE_END_DRAINED);
}

enum console_end console_pump(const struct console_params *params)
{
	static const struct {
		int number;
		void (*handler)(int number);
	} signals[] = {
		{ SIGINT, on_signal },
		{ SIGTERM, on_signal },
		{ SIGHUP, on_signal },
		{ SIGWINCH, on_resize },
	};
	struct pump p = { .params = params, .deadline = NEVER };
	struct sigaction saved[ARRAY_SIZE(signals)];
	sigset_t blocked, unblocked;

	/* Blocked but while waiting, so that none is lost between a check and the wait. */
	sigemptyset(&blocked);
	for (size_t i = 0; i < ARRAY_SIZE(signals); i++)
		sigaddset(&blocked, signals[i].number);
	sigprocmask(SIG_BLOCK, &blocked, &unblocked);
	got_signal = 0;
	for (size_t i = 0; i < ARRAY_SIZE(signals); i++) {
		struct sigaction action = { .sa_handler = signals[i].handler };

		sigaction(signals[i].number, &action, &saved[i]);
	}

	terminal_raw(&p);
	tell_size(&p);
	while (!p.ended) {
		process_bus(&p);
		if (!p.ended)
			wait_and_move(&p, &unblocked);
	}
	terminal_restore(&p);

	for (size_t i = 0; i < ARRAY_SIZE(signals); i++)
		sigaction(signals[i].number, &saved[i], NULL);
	sigprocmask(SIG_SETMASK, &unblocked, NULL);
	return p.end;
}

static int check_host(const struct client *c, const char *vm)
{
	if (!c->host)
		return EXIT_OK;
	client_complain("a console cannot come through ssh's bus connection; "
			"use: ssh -t %s brumectl console %s",
			c->host, vm);
	return EXIT_USAGE;
}

int console_check(struct client *c, const char *vm)
{
	_cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
	_cleanup_free_ char *path = NULL;
	g_auto(GStrv) consoles = NULL;
	int r;

	r = check_host(c, vm);
	if (r == EXIT_OK)
		r = client_vm_path(vm, &path);
	if (r == EXIT_OK)
		r = client_connect(c);
	if (r != EXIT_OK)
		return r;
	r = sd_bus_get_property_strv(c->bus, BRUME_BUS_NAME, path, BRUME_VM_INTERFACE, "Consoles",
				     &error, &consoles);
	if (r < 0)
		return client_report(c, vm, r, &error);
	if (consoles && consoles[0])
		return EXIT_OK;
	client_complain("'%s' has no console: set the mode of serial or console to 'Tty' "
			"or 'Pty'",
			vm);
	return EXIT_NO_SUCH;
}

int console_open(struct client *c, const char *vm, const char *console, bool force, bool read_only,
		 int *ret_fd)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL, *reply = NULL;
	const char *tty;
	int fd = -1, r;

	r = check_host(c, vm);
	if (r == EXIT_OK)
		r = client_check_text("the console", console);
	if (r != EXIT_OK)
		return r;
	r = client_vm_call(c, vm, "OpenConsole", &m);
	if (r != EXIT_OK)
		return r;
	r = sd_bus_message_append(m, "s", console);
	if (r >= 0)
		r = sd_bus_message_open_container(m, 'a', "{sv}");
	if (force)
		r = client_append_option(m, r, "Force", "b", 1);
	if (read_only)
		r = client_append_option(m, r, "ReadOnly", "b", 1);
	if (r >= 0)
		r = sd_bus_message_close_container(m);
	if (r < 0)
		return client_report(c, vm, r, NULL);
	r = client_call(c, vm, m, &reply);
	if (r != EXIT_OK)
		return r;
	r = sd_bus_message_read(reply, "hs", &fd, &tty);
	if (r < 0)
		return client_report(c, vm, r, NULL);
	fd = fcntl(fd, F_DUPFD_CLOEXEC, 3); /* the message owns the original */
	if (fd < 0)
		return client_report(c, vm, -errno, NULL);
	*ret_fd = fd;
	return EXIT_OK;
}

struct attached {
	struct client *client;
	const char *console;
	char *path; /* of the VM's object */
};

/* Only a virtio console has a size, which the answer would say: none is asked for. */
static void send_size(uint16_t columns, uint16_t rows, void *data)
{
	const struct attached *at = data;
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;

	if (sd_bus_message_new_method_call(at->client->bus, &m, BRUME_BUS_NAME, at->path,
					   BRUME_VM_INTERFACE, "SetConsoleSize") >= 0 &&
	    sd_bus_message_append(m, "sqqa{sv}", at->console, columns, rows, 0) >= 0 &&
	    sd_bus_message_set_expect_reply(m, 0) >= 0)
		(void)sd_bus_send(at->client->bus, m, NULL);
}

int console_attach(struct client *c, const char *vm, int fd, const struct arguments *a)
{
	_cleanup_free_ char *path = NULL;
	struct attached attached = { c, a->console_name ? a->console_name : "", NULL };
	struct console_params params = {
		.fd = fd,
		.bus = c->bus,
		.on_size = a->read_only ? NULL : send_size,
		.data = &attached,
		.has_timeout = a->has_timeout,
		.timeout_usec = a->timeout_usec,
	};
	bool person = isatty(STDIN_FILENO);
	int r = client_vm_path(vm, &path);

	if (r != EXIT_OK)
		return r;
	attached.path = path;
	if (person)
		fprintf(stderr, "Connected to the console of '%s'. Press Ctrl-] to leave.\n", vm);
	switch (console_pump(&params)) {
	case CONSOLE_END_LEFT:
	case CONSOLE_END_STOPPED:
	case CONSOLE_END_DRAINED:
		if (person)
			fprintf(stderr, "\nLeft the console of '%s'; the machine runs on.\n", vm);
		return EXIT_OK;
	case CONSOLE_END_CLOSED:
		if (person)
			fprintf(stderr, "\nThe console of '%s' was closed.\n", vm);
		return EXIT_OK;
	case CONSOLE_END_SIGNAL:
	case CONSOLE_END_FAILED:
		break;
	}
	return EXIT_FAILED;
}

int verb_console(struct client *c, const struct arguments *a)
{
	_cleanup_close_ int fd = -EBADF;
	const char *vm = a->positional[0];
	int r;

	r = console_open(c, vm, a->console_name ? a->console_name : "", a->force, a->read_only,
			 &fd);
	return r == EXIT_OK ? console_attach(c, vm, fd, a) : r;
}
