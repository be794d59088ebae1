/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/devices/chardev.h"

#include <fcntl.h>
#include <glib.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <termios.h>

#include "vmm/base/err.h"
#include "vmm/base/fd.h"

struct fixture {
	struct loop loop;
	struct chardev c;
	/* The receiver: takes up to room bytes; what came is in got. */
	pthread_mutex_t lock; /* not GMutex, whose waiting TSan cannot see */
	pthread_cond_t changed;
	size_t room;
	GString *got;
};

static size_t receive(void *data, const uint8_t *buf, size_t len)
{
	struct fixture *f = data;
	size_t n;

	pthread_mutex_lock(&f->lock);
	n = MIN(len, f->room);
	g_string_append_len(f->got, (const char *)buf, (gssize)n);
	f->room -= n;
	pthread_cond_broadcast(&f->changed);
	pthread_mutex_unlock(&f->lock);
	return n;
}

static void set_up_mode(struct fixture *f, enum console_mode mode, int file_fd)
{
	struct err err = { 0 };

	pthread_mutex_init(&f->lock, NULL);
	pthread_cond_init(&f->changed, NULL);
	f->room = 1000;
	f->got = g_string_new(NULL);
	g_assert_cmpint(loop_start(&f->loop, "io", NULL, &err), ==, 0);
	g_assert_cmpint(chardev_init(&f->c, "serial", mode, file_fd, &f->loop, &err), ==, 0);
	chardev_set_receiver(&f->c, receive, f);
}

static void set_up(struct fixture *f, gconstpointer data G_GNUC_UNUSED)
{
	set_up_mode(f, CONSOLE_MODE_TTY, -EBADF);
}

static void tear_down(struct fixture *f, gconstpointer data G_GNUC_UNUSED)
{
	chardev_deinit(&f->c);
	loop_stop(&f->loop);
	g_string_free(f->got, TRUE);
	pthread_mutex_destroy(&f->lock);
	pthread_cond_destroy(&f->changed);
}

static int open_client(struct fixture *f, bool force, bool readonly)
{
	struct err err = { 0 };
	int fd = -EBADF;

	g_assert_cmpint(chardev_open(&f->c, force, readonly, &fd, &err), ==, 0);
	return fd;
}

static void assert_read(int fd, const char *expected)
{
	size_t len = strlen(expected);
	g_autofree char *buf = g_malloc0(len + 1);

	for (size_t n = 0; n < len;) {
		ssize_t r = read(fd, buf + n, len - n);

		g_assert_cmpint(r, >, 0);
		n += (size_t)r;
	}
	g_assert_cmpstr(buf, ==, expected);
}

static void assert_received(struct fixture *f, const char *expected)
{
	struct timespec end;

	clock_gettime(CLOCK_REALTIME, &end);
	end.tv_sec += 5;
	pthread_mutex_lock(&f->lock);
	while (f->got->len < strlen(expected))
		if (pthread_cond_timedwait(&f->changed, &f->lock, &end) != 0)
			break;
	g_assert_cmpstr(f->got->str, ==, expected);
	pthread_mutex_unlock(&f->lock);
}

static void test_output(struct fixture *f, gconstpointer data G_GNUC_UNUSED)
{
	_cleanup_close_ int fd = -EBADF;

	chardev_write(&f->c, "before ", 7);
	fd = open_client(f, false, false);
	assert_read(fd, "before ");
	chardev_write(&f->c, "after", 5);
	assert_read(fd, "after");
	for (char ch = 'a'; ch <= 'z'; ch++)
		chardev_write(&f->c, &ch, 1);
	assert_read(fd, "abcdefghijklmnopqrstuvwxyz");
	g_assert_cmpuint(f->c.dropped, ==, 0);
}

static void test_replay_last_64k(struct fixture *f, gconstpointer data G_GNUC_UNUSED)
{
	g_autoptr(GString) all = g_string_new(NULL);
	_cleanup_close_ int fd = -EBADF;
	int again;

	for (unsigned int i = 0; i < 20000; i++) {
		char line[16];
		int n = g_snprintf(line, sizeof(line), "%07u\n", i);

		g_string_append(all, line);
		chardev_write(&f->c, line, (size_t)n);
	}
	fd = open_client(f, false, false);
	assert_read(fd, all->str + all->len - CHARDEV_RING);
	/* The next one gets the same. */
	again = open_client(f, true, false);
	assert_read(again, all->str + all->len - CHARDEV_RING);
	close(again);
}

static void test_in_use(struct fixture *f, gconstpointer data G_GNUC_UNUSED)
{
	_cleanup_close_ int first = open_client(f, false, false), second = -EBADF;
	struct err err = { 0 };
	int fd = -EBADF;
	char byte;

	g_assert_cmpint(chardev_open(&f->c, false, false, &fd, &err), ==, -EBUSY);
	g_assert_cmpint(err.fault, ==, FAULT_CONSOLE_IN_USE);
	g_assert_cmpstr(err.msg, ==, "console 'serial' is in use by another client");
	g_assert_cmpint(fd, ==, -EBADF);
	second = open_client(f, true, false);
	g_assert_cmpint(read(first, &byte, 1), ==, 0); /* turned out */
	chardev_write(&f->c, "x", 1);
	assert_read(second, "x");
}

static void test_client_leaves(struct fixture *f, gconstpointer data G_GNUC_UNUSED)
{
	for (int i = 0; i < 50; i++) {
		struct err err = { 0 };
		int fd = -EBADF;

		/* Without force: the one before has been noticed to be gone, sooner or later. */
		while (chardev_open(&f->c, false, i % 2, &fd, &err) < 0) {
			g_assert_cmpint(err.fault, ==, FAULT_CONSOLE_IN_USE);
			err_clear(&err);
		}
		chardev_write(&f->c, "hello", 5);
		close(fd);
	}
}

static void test_half_closed(struct fixture *f, gconstpointer data G_GNUC_UNUSED)
{
	_cleanup_close_ int fd = open_client(f, false, false);

	g_assert_cmpint(write(fd, "last", 4), ==, 4);
	g_assert_cmpint(shutdown(fd, SHUT_WR), ==, 0);
	assert_received(f, "last");
	chardev_write(&f->c, "still there", 11);
	assert_read(fd, "still there");
	chardev_receive_more(&f->c);
	chardev_write(&f->c, "!", 1);
	assert_read(fd, "!");
}

static void test_input(struct fixture *f, gconstpointer data G_GNUC_UNUSED)
{
	_cleanup_close_ int fd = open_client(f, false, false);

	g_assert_cmpint(write(fd, "ls\n", 3), ==, 3);
	assert_received(f, "ls\n");
}

static void make_room(struct fixture *f, size_t bytes)
{
	pthread_mutex_lock(&f->lock);
	f->room = bytes;
	pthread_mutex_unlock(&f->lock);
}

/* More than the device takes at once. */
static void type_digits(struct fixture *f, int fd)
{
	make_room(f, 4);
	g_assert_cmpint(write(fd, "0123456789", 10), ==, 10);
	assert_received(f, "0123");
}

/* It takes the others one by one. */
static void receive_digits(struct fixture *f)
{
	for (size_t i = 4; i < 10; i++) {
		g_autofree char *expected = g_strndup("0123456789", i + 1);

		make_room(f, 1);
		chardev_receive_more(&f->c);
		assert_received(f, expected);
	}
}

static void test_input_waits_for_room(struct fixture *f, gconstpointer data G_GNUC_UNUSED)
{
	_cleanup_close_ int fd = open_client(f, false, false);

	type_digits(f, fd);
	receive_digits(f);
}

static void test_readonly(struct fixture *f, gconstpointer data G_GNUC_UNUSED)
{
	_cleanup_close_ int fd = open_client(f, false, true);

	g_assert_cmpint(write(fd, "rm -rf /\n", 9), ==, 9);
	chardev_write(&f->c, "ok", 2);
	assert_read(fd, "ok");
	g_assert_cmpuint(f->got->len, ==, 0);
}

/* Somebody who does not read while the guest writes finds a gap, then the end. */
static void read_late(struct fixture *f, int fd)
{
	g_autofree char *chunk = g_malloc(4096);
	uint64_t total = 0, got = 0;
	char last = 0;

	for (unsigned int i = 0; i < 1000; i++) {
		memset(chunk, 'a' + (int)(i % 26), 4096);
		chardev_write(&f->c, chunk, 4096);
		total += 4096;
	}
	chardev_write(&f->c, "$", 1);
	total++;
	while (last != '$') {
		ssize_t n = read(fd, chunk, 4096);

		g_assert_cmpint(n, >, 0);
		got += (uint64_t)n;
		last = chunk[n - 1];
	}
	g_assert_cmpuint(f->c.dropped, >, 0);
	g_assert_cmpuint(got + f->c.dropped, ==, total);
}

/* A client that does not read costs the guest nothing. */
static void test_slow_client(struct fixture *f, gconstpointer data G_GNUC_UNUSED)
{
	_cleanup_close_ int fd = open_client(f, false, false);

	read_late(f, fd);
}

/* A device on the loop's thread (virtio-console) writes more than the ring in one go. */
struct big {
	struct chardev *c;
	char *data;
	size_t len;
};

static void write_big(void *data)
{
	struct big *big = data;

	chardev_write(big->c, big->data, big->len);
}

static void test_big_write_on_loop(struct fixture *f, gconstpointer data G_GNUC_UNUSED)
{
	_cleanup_close_ int fd = open_client(f, false, false);
	struct big big = { .c = &f->c, .len = 3 * CHARDEV_RING / 2 };

	big.data = g_malloc0(big.len + 1);
	memset(big.data, 'x', big.len);
	loop_call(&f->loop, write_big, &big);
	assert_read(fd, big.data);
	g_assert_cmpuint(f->c.dropped, ==, 0);
	g_free(big.data);
}

static void test_while_parked(struct fixture *f, gconstpointer data G_GNUC_UNUSED)
{
	_cleanup_close_ int fd = -EBADF;
	struct pollfd p;

	loop_park(&f->loop);
	fd = open_client(f, false, false);
	chardev_write(&f->c, "later", 5);
	p = (struct pollfd){ .fd = fd, .events = POLLIN };
	g_assert_cmpint(poll(&p, 1, 20), ==, 0);
	loop_unpark(&f->loop);
	assert_read(fd, "later");
}

static gpointer write_lines(gpointer data)
{
	for (int i = 0; i < 500; i++)
		chardev_write(data, "0123456789abcde\n", 16);
	return NULL;
}

static void test_writers(struct fixture *f, gconstpointer data G_GNUC_UNUSED)
{
	_cleanup_close_ int fd = open_client(f, false, false);
	GThread *threads[2];
	g_autoptr(GString) expected = g_string_new(NULL);

	for (int i = 0; i < 2; i++)
		threads[i] = g_thread_new("vcpu", write_lines, &f->c);
	for (int i = 0; i < 1000; i++)
		g_string_append(expected, "0123456789abcde\n");
	assert_read(fd, expected->str);
	for (int i = 0; i < 2; i++)
		g_thread_join(threads[i]);
}

static void test_file(void)
{
	struct fixture f = { 0 };
	_cleanup_close_ int fd = memfd_create("log", MFD_CLOEXEC);
	char buf[16] = "";
	struct err err = { 0 };
	int client = -EBADF;

	set_up_mode(&f, CONSOLE_MODE_FILE, fd_dup(fd));
	chardev_write(&f.c, "hello ", 6);
	chardev_write(&f.c, "file", 4);
	g_assert_cmpint(pread(fd, buf, sizeof(buf), 0), ==, 10);
	g_assert_cmpstr(buf, ==, "hello file");
	g_assert_cmpint(chardev_open(&f.c, false, false, &client, &err), ==, -ENXIO);
	g_assert_cmpint(err.fault, ==, FAULT_NO_SUCH_CONSOLE);
	g_assert_cmpstr(err.msg, ==,
			"console 'serial' cannot be opened: its mode is neither Tty nor Pty");
	chardev_receive_more(&f.c);
	tear_down(&f, NULL);
}

/* A listening socket and its address. */
static int listener_new(struct sockaddr_un *ret)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	socklen_t len = sizeof(*ret);

	*ret = (struct sockaddr_un){ .sun_family = AF_UNIX };
	/* autobind: an abstract name */
	g_assert_cmpint(bind(fd, (struct sockaddr *)ret, sizeof(sa_family_t)), ==, 0);
	g_assert_cmpint(getsockname(fd, (struct sockaddr *)ret, &len), ==, 0);
	g_assert_cmpint(listen(fd, 8), ==, 0);
	return fd;
}

static int connect_client(const struct sockaddr_un *addr)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	g_assert_cmpint(connect(fd, (const struct sockaddr *)addr, sizeof(sa_family_t) + 6), ==, 0);
	return fd;
}

/* Early output is kept; one client after the other, each hears what the ring holds. */
static void test_socket(void)
{
	struct fixture f = { 0 };
	struct err err = { 0 };
	struct sockaddr_un addr;
	int client = -EBADF, next;

	set_up_mode(&f, CONSOLE_MODE_SOCKET, listener_new(&addr));
	chardev_write(&f.c, "early ", 6);
	g_assert_cmpint(chardev_open(&f.c, false, false, &client, &err), ==, -ENXIO);
	g_assert_cmpstr(err.msg, ==,
			"console 'serial' cannot be opened: its mode is neither Tty nor Pty");
	client = connect_client(&addr);
	assert_read(client, "early ");
	chardev_write(&f.c, "output", 6);
	assert_read(client, "output");
	g_assert_cmpint(write(client, "typed", 5), ==, 5);
	assert_received(&f, "typed");
	next = connect_client(&addr); /* waits */
	g_assert_cmpint(write(next, "!", 1), ==, 1);
	chardev_write(&f.c, " for one", 8);
	assert_read(client, " for one");
	close(client);
	assert_read(next, "early output for one");
	assert_received(&f, "typed!");
	close(next);
	tear_down(&f, NULL);
}

/* --- mode Pty: what daemon/open-pty.c does, and who opens the other side --- */

struct pty_fixture {
	struct fixture f;
	char path[64];
};

static int open_terminal(const struct pty_fixture *p)
{
	int fd = open(p->path, O_RDWR | O_NOCTTY | O_CLOEXEC);

	g_assert_cmpint(fd, >=, 0);
	return fd;
}

static void set_up_pty(struct pty_fixture *p, gconstpointer data G_GNUC_UNUSED)
{
	int master = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK), slave;
	struct termios raw;

	g_assert_cmpint(master, >=, 0);
	g_assert_cmpint(unlockpt(master), ==, 0);
	g_assert_cmpint(ptsname_r(master, p->path, sizeof(p->path)), ==, 0);
	slave = open_terminal(p);
	g_assert_cmpint(tcgetattr(slave, &raw), ==, 0);
	cfmakeraw(&raw);
	g_assert_cmpint(tcsetattr(slave, TCSANOW, &raw), ==, 0);
	close(slave);
	set_up_mode(&p->f, CONSOLE_MODE_PTY, master);
}

static void tear_down_pty(struct pty_fixture *p, gconstpointer data G_GNUC_UNUSED)
{
	tear_down(&p->f, NULL);
	/* It is gone with its master. */
	g_assert_cmpint(access(p->path, F_OK), ==, -1);
}

struct look {
	const struct chardev *c;
	bool there;
};

static void look_on_loop(void *data)
{
	struct look *look = data;

	look->there = look->c->pty.source.armed;
}

/* The chardev knows whether somebody has it open: sooner or later. */
static void wait_pty(struct pty_fixture *p, bool there)
{
	struct look look = { .c = &p->f.c };

	for (int i = 0; i < 500; i++) {
		loop_call(&p->f.loop, look_on_loop, &look);
		if (look.there == there)
			return;
		g_usleep(10000);
	}
	g_error("the terminal is %s", there ? "not seen to be open" : "seen as open still");
}

static void assert_nothing_more(int fd)
{
	struct pollfd poller = { .fd = fd, .events = POLLIN };

	g_assert_cmpint(poll(&poller, 1, 50), ==, 0);
}

static void test_pty(struct pty_fixture *p, gconstpointer data G_GNUC_UNUSED)
{
	struct fixture *f = &p->f;
	int fd;

	chardev_write(&f->c, "early ", 6);
	fd = open_terminal(p);
	assert_read(fd, "early ");
	chardev_write(&f->c, "output\r\n", 8);
	assert_read(fd, "output\r\n");
	g_assert_cmpint(write(fd, "typed\r", 6), ==, 6);
	assert_received(f, "typed\r");
	assert_nothing_more(fd); /* no echo: that is the guest's to do */
	close(fd);
}

/* Each that opens it is sent what the ring holds, once. */
static void test_pty_again(struct pty_fixture *p, gconstpointer data G_GNUC_UNUSED)
{
	struct fixture *f = &p->f;

	chardev_write(&f->c, "one ", 4);
	for (int i = 0; i < 3; i++) {
		int fd = open_terminal(p);

		assert_read(fd, "one ");
		assert_nothing_more(fd);
		close(fd);
		wait_pty(p, false);
	}
	chardev_write(&f->c, "two ", 4);
	for (int i = 0; i < 2; i++) {
		int fd = open_terminal(p);

		assert_read(fd, "one two ");
		close(fd);
		wait_pty(p, false);
	}
}

/* Who did not read leaves next to nothing behind for the one who comes next. */
static void test_pty_unread(struct pty_fixture *p, gconstpointer data G_GNUC_UNUSED)
{
	struct fixture *f = &p->f;
	g_autofree char *chunk = g_strnfill(40000, 'x');
	uint64_t got = 0;
	char last = 0;
	int fd = open_terminal(p);

	wait_pty(p, true);
	chardev_write(&f->c, chunk, 40000);
	g_usleep(50000);
	close(fd);
	wait_pty(p, false);
	chardev_write(&f->c, "$", 1);
	fd = open_terminal(p);
	while (last != '$') {
		ssize_t n = read(fd, chunk, 4096);

		g_assert_cmpint(n, >, 0);
		got += (uint64_t)n;
		last = chunk[n - 1];
	}
	g_assert_cmpuint(got, >=, 40001);
	g_assert_cmpuint(got, <=, 40001 + 4096); /* what the line discipline had taken already */
	close(fd);
}

/* As "echo text > /dev/pts/7" does. */
static void test_pty_typed_and_left(struct pty_fixture *p, gconstpointer data G_GNUC_UNUSED)
{
	struct fixture *f = &p->f;

	for (int i = 0; i < 2; i++) {
		int fd = open_terminal(p);

		g_assert_cmpint(write(fd, "0123456789", 10), ==, 10);
		close(fd);
		assert_received(f, i == 0 ? "0123456789" : "01234567890123456789");
	}
}

static void test_pty_input_waits(struct pty_fixture *p, gconstpointer data G_GNUC_UNUSED)
{
	struct fixture *f = &p->f;
	int fd = open_terminal(p);

	type_digits(f, fd);
	close(fd); /* what it typed is kept all the same */
	wait_pty(p, false);
	receive_digits(f);
}

/* It has the terminal open and does not read: the guest goes on, the oldest bytes are lost. */
static void test_pty_slow(struct pty_fixture *p, gconstpointer data G_GNUC_UNUSED)
{
	int fd = open_terminal(p);

	wait_pty(p, true);
	read_late(&p->f, fd);
	close(fd);
}

/* A client of the bus beside it: both are sent everything, both may type. */
static void test_pty_and_client(struct pty_fixture *p, gconstpointer data G_GNUC_UNUSED)
{
	struct fixture *f = &p->f;
	_cleanup_close_ int client = -EBADF;
	int fd = open_terminal(p);

	chardev_write(&f->c, "a", 1);
	assert_read(fd, "a");
	client = open_client(f, false, false);
	assert_read(client, "a");
	chardev_write(&f->c, "b", 1);
	assert_read(fd, "b");
	assert_read(client, "b");
	g_assert_cmpint(write(fd, "1", 1), ==, 1);
	assert_received(f, "1");
	g_assert_cmpint(write(client, "2", 1), ==, 1);
	assert_received(f, "12");
	close(fd);
	wait_pty(p, false);
	chardev_write(&f->c, "c", 1);
	assert_read(client, "c");
	fd = open_terminal(p);
	assert_read(fd, "abc");
	close(fd);
}

static void test_pty_while_parked(struct pty_fixture *p, gconstpointer data G_GNUC_UNUSED)
{
	int fd = open_terminal(p);

	loop_park(&p->f.loop);
	chardev_write(&p->f.c, "later", 5);
	assert_nothing_more(fd);
	loop_unpark(&p->f.loop);
	assert_read(fd, "later");
	close(fd);
}

/* Its end comes with the chardev's, also while somebody has it open. */
static void test_pty_end(struct pty_fixture *p, gconstpointer data G_GNUC_UNUSED)
{
	int fd = open_terminal(p);
	char byte;

	wait_pty(p, true);
	chardev_deinit(&p->f.c);
	g_assert_cmpint(read(fd, &byte, 1), ==, 0);
	close(fd);
}

static void test_null(void)
{
	static const enum console_mode modes[] = { CONSOLE_MODE_OFF, CONSOLE_MODE_NULL };

	for (size_t i = 0; i < G_N_ELEMENTS(modes); i++) {
		struct fixture f = { 0 };

		set_up_mode(&f, modes[i], -EBADF);
		chardev_write(&f.c, "nobody", 6);
		g_assert_null(f.c.ring);
		tear_down(&f, NULL);
	}
}

#define ADD_PTY(path, fn) g_test_add(path, struct pty_fixture, NULL, set_up_pty, fn, tear_down_pty)
#define ADD(path, fn)     g_test_add(path, struct fixture, NULL, set_up, fn, tear_down)

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	ADD("/devices/chardev/output", test_output);
	ADD("/devices/chardev/replay-last-64k", test_replay_last_64k);
	ADD("/devices/chardev/in-use", test_in_use);
	ADD("/devices/chardev/client-leaves", test_client_leaves);
	ADD("/devices/chardev/half-closed", test_half_closed);
	ADD("/devices/chardev/input", test_input);
	ADD("/devices/chardev/input-waits-for-room", test_input_waits_for_room);
	ADD("/devices/chardev/readonly", test_readonly);
	ADD("/devices/chardev/slow-client", test_slow_client);
	ADD("/devices/chardev/big-write-on-loop", test_big_write_on_loop);
	ADD("/devices/chardev/while-parked", test_while_parked);
	ADD("/devices/chardev/writers", test_writers);
	ADD_PTY("/devices/chardev/pty", test_pty);
	ADD_PTY("/devices/chardev/pty/again", test_pty_again);
	ADD_PTY("/devices/chardev/pty/unread", test_pty_unread);
	ADD_PTY("/devices/chardev/pty/typed-and-left", test_pty_typed_and_left);
	ADD_PTY("/devices/chardev/pty/input-waits-for-room", test_pty_input_waits);
	ADD_PTY("/devices/chardev/pty/slow", test_pty_slow);
	ADD_PTY("/devices/chardev/pty/and-client", test_pty_and_client);
	ADD_PTY("/devices/chardev/pty/while-parked", test_pty_while_parked);
	ADD_PTY("/devices/chardev/pty/end", test_pty_end);
	g_test_add_func("/devices/chardev/file", test_file);
	g_test_add_func("/devices/chardev/socket", test_socket);
	g_test_add_func("/devices/chardev/null", test_null);
	return g_test_run();
}
