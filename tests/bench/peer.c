/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/bench/peer.h"

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "dbus/variant.h"
#include "tests/bench/bench.h"
#include "vmm/api/protocol.h"
#include "vmm/base/cleanup.h"

static void child_exec(const char *const *argv, int in, int out)
{
	/* Standard error: what goes wrong should be seen, chatter should not. */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	dup2(in, STDIN_FILENO);
	dup2(out, STDOUT_FILENO);
	execvp(argv[0], (char **)(uintptr_t)argv);
	_exit(127);
}

void peer_start(struct peer *p, const char *const *argv)
{
	_cleanup_close_ int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	int fds[2];

	g_assert_cmpint(pipe2(fds, O_CLOEXEC), ==, 0);
	*p = (struct peer){ .out = fds[0], .born_ms = bench_now_ms() };
	p->pid = fork();
	g_assert_cmpint(p->pid, >=, 0);
	if (p->pid == 0)
		child_exec(argv, null, fds[1]);
	close(fds[1]);
}

/* --- the worker --- */

static int on_event(sd_bus_message *m, void *data, sd_bus_error *e _unused_)
{
	_cleanup_(g_variant_unref_cleanup) GVariant *details = NULL;
	struct peer *p = data;
	const char *source, *name;
	guchar code;

	if (sd_bus_message_read(m, "ss", &source, &name) < 0 || strcmp(name, "debug-code") != 0 ||
	    variant_from_message(m, "a{sv}", &details, NULL) < 0 ||
	    !g_variant_lookup(details, "code", "y", &code) || code != p->wanted)
		return 0;
	p->seen_ms = bench_now_ms();
	return 0;
}

static int on_reply(sd_bus_message *m, void *data, sd_bus_error *e _unused_)
{
	const sd_bus_error *error = sd_bus_message_get_error(m);
	struct peer *p = data;

	if (error) {
		fprintf(stderr, "the worker: %s: %s\n", error->name, error->message);
		p->failed = -EIO;
	}
	return 0;
}

static int listen_somewhere(struct sockaddr_un *ret, socklen_t *ret_len)
{
	struct sockaddr_un any = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	g_assert_cmpint(fd, >=, 0);
	g_assert_cmpint(bind(fd, (struct sockaddr *)&any, sizeof(sa_family_t)), ==, 0);
	g_assert_cmpint(listen(fd, 4), ==, 0);
	*ret_len = sizeof(*ret);
	g_assert_cmpint(getsockname(fd, (struct sockaddr *)ret, ret_len), ==, 0);
	return fd;
}

static sd_bus_message *new_call(struct peer *p, const char *method)
{
	sd_bus_message *m = NULL;

	g_assert_cmpint(sd_bus_message_new_method_call(p->bus, &m, NULL, PROTOCOL_OBJECT,
						       PROTOCOL_INTERFACE, method),
			>=, 0);
	return m;
}

static void send_call(struct peer *p, sd_bus_message *m)
{
	g_assert_cmpint(sd_bus_call_async(p->bus, NULL, m, on_reply, p, 0), >=, 0);
	sd_bus_message_unref(m);
}

static void append_resource(sd_bus_message *m, const char *name, int fd)
{
	g_assert_cmpint(fd, >=, 0);
	g_assert_cmpint(sd_bus_message_append(m, "{sh}", name, fd), >=, 0);
}

static void hand_over(struct peer *p, const struct peer_resource *resources)
{
	_cleanup_close_ int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	_cleanup_close_ int tiny = open(g_getenv("BRUME_TINY"), O_RDONLY | O_CLOEXEC);
	_cleanup_close_ int rng = open("/dev/urandom", O_RDONLY | O_CLOEXEC);
	sd_bus_message *m = new_call(p, "AddResources");

	g_assert_cmpint(sd_bus_message_open_container(m, 'a', "{sh}"), >=, 0);
	append_resource(m, PROTOCOL_RESOURCE_KVM, kvm);
	append_resource(m, "/payload/kernel", tiny);
	append_resource(m, "/rng/src", rng);
	for (; resources && resources->fd >= 0; resources++)
		append_resource(m, resources->name, resources->fd);
	g_assert_cmpint(sd_bus_message_close_container(m), >=, 0);
	send_call(p, m);
}

/* config with kernel and command line, memory and, unless it is there, rng */
static GVariant *complete_config(const char *cmdline, const char *config)
{
	_cleanup_(g_variant_unref_cleanup) GVariant *given =
		g_variant_ref_sink(g_variant_new_parsed(config));
	_cleanup_(g_variant_unref_cleanup) GVariant *more = NULL;
	GVariantDict dict, payload;

	g_variant_dict_init(&dict, given);
	more = g_variant_dict_lookup_value(&dict, "payload", G_VARIANT_TYPE_VARDICT);
	g_variant_dict_init(&payload, more);
	g_variant_dict_insert(&payload, "kernel", "s", "/payload/kernel");
	g_variant_dict_insert(&payload, "cmdline", "s", cmdline);
	g_variant_dict_insert_value(&dict, "payload", g_variant_dict_end(&payload));
	if (!g_variant_dict_contains(&dict, "rng"))
		g_variant_dict_insert_value(&dict, "rng",
					    g_variant_new_parsed("{'src': <'/rng/src'>}"));
	g_variant_dict_insert_value(&dict, "memory",
				    g_variant_new_parsed("{'size': <%t>}",
							 (guint64)PEER_MEMORY_MIB << 20));
	return g_variant_ref_sink(g_variant_dict_end(&dict));
}

static void send_start(struct peer *p, GVariant *config)
{
	sd_bus_message *m = new_call(p, "Start");

	g_assert_cmpint(variant_append(m, config), >=, 0);
	g_assert_cmpint(sd_bus_message_append(m, "a{sv}", 0), >=, 0);
	send_call(p, m);
}

void peer_start_brume(struct peer *p, const char *cmdline, const char *config,
		      const struct peer_resource *resources)
{
	_cleanup_(g_variant_unref_cleanup) GVariant *complete = complete_config(cmdline, config);
	const char *argv[] = { g_getenv("BRUME_VMM"), "--log-level=warning",
			       g_getenv("BRUME_VMM_SECCOMP"), NULL };
	struct sockaddr_un address;
	socklen_t len;
	int listener = listen_somewhere(&address, &len);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	*p = (struct peer){ .out = -EBADF, .born_ms = bench_now_ms() };
	p->pid = fork();
	g_assert_cmpint(p->pid, >=, 0);
	if (p->pid == 0)
		child_exec(argv, listener, STDERR_FILENO);
	close(listener);
	g_assert_cmpint(connect(fd, (const struct sockaddr *)&address, len), ==, 0);
	g_assert_cmpint(sd_bus_new(&p->bus), >=, 0);
	g_assert_cmpint(sd_bus_set_fd(p->bus, fd, fd), >=, 0);
	g_assert_cmpint(sd_bus_negotiate_fds(p->bus, 1), >=, 0);
	g_assert_cmpint(sd_bus_match_signal(p->bus, NULL, NULL, PROTOCOL_OBJECT, PROTOCOL_INTERFACE,
					    "Event", on_event, p),
			>=, 0);
	g_assert_cmpint(sd_bus_start(p->bus), >=, 0);
	hand_over(p, resources);
	send_start(p, complete);
}

/* --- both --- */

static void turn_bus(struct peer *p, int msec)
{
	struct pollfd pfd = { .fd = sd_bus_get_fd(p->bus) };
	int r, events;

	while ((r = sd_bus_process(p->bus, NULL)) > 0 && p->seen_ms == 0)
		;
	if (r < 0 && !p->failed) {
		fprintf(stderr, "the worker has hung up: %s\n", strerror(-r));
		p->failed = r;
	}
	if (p->failed || p->seen_ms > 0)
		return;
	events = sd_bus_get_events(p->bus);
	pfd.events = (short)events;
	poll(&pfd, 1, msec);
}

static void turn_pipe(struct peer *p, int msec)
{
	struct pollfd pfd = { .fd = p->out, .events = POLLIN };
	unsigned char code = 0;

	if (poll(&pfd, 1, msec) <= 0)
		return;
	if (read(p->out, &code, 1) <= 0) {
		fprintf(stderr, "process %d ended without running the guest\n", (int)p->pid);
		p->failed = -EIO;
	} else if (code == p->wanted) {
		p->seen_ms = bench_now_ms();
	}
}

int peer_wait_code(struct peer *p, unsigned char code, unsigned int msec)
{
	double end = bench_now_ms() + msec;

	p->wanted = code;
	p->seen_ms = 0;
	while (p->seen_ms == 0 && !p->failed && bench_now_ms() < end) {
		if (p->bus)
			turn_bus(p, (int)msec);
		else
			turn_pipe(p, (int)msec);
	}
	if (p->failed)
		return p->failed;
	return p->seen_ms > 0 ? 0 : -ETIMEDOUT;
}

void peer_end(struct peer *p)
{
	kill(p->pid, SIGKILL);
	waitpid(p->pid, NULL, 0);
	sd_bus_close_unref(p->bus);
	if (p->out >= 0)
		close(p->out);
}

const char *peer_qemu_missing(void)
{
	char *path = g_find_program_in_path("qemu-system-x86_64");
	const char *why = path ? NULL : "qemu-system-x86_64 is not installed";

	g_free(path);
	return why;
}
