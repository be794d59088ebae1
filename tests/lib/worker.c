/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/worker.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "dbus/variant.h"
#include "dbus/worker-error.h"
#include "vmm/api/protocol.h"
#include "vmm/base/cleanup.h"

static int on_state(sd_bus_message *m, void *data, sd_bus_error *e _unused_)
{
	struct test_worker *w = data;
	const char *from, *to, *reason;

	g_assert_cmpint(sd_bus_message_read(m, "sss", &from, &to, &reason), >=, 0);
	g_ptr_array_add(w->states, g_strdup_printf("%s>%s:%s", from, to, reason));
	return 0;
}

static int on_event(sd_bus_message *m, void *data, sd_bus_error *e _unused_)
{
	struct test_worker *w = data;
	_cleanup_(g_variant_unref_cleanup) GVariant *details = NULL;
	const char *source, *name;
	guint64 usec;
	guchar code;

	g_assert_cmpint(sd_bus_message_read(m, "ss", &source, &name), >=, 0);
	g_assert_cmpint(variant_from_message(m, "a{sv}", &details, NULL), >=, 0);
	g_ptr_array_add(w->events, g_strdup_printf("%s/%s", source, name));
	if (g_variant_lookup(details, "code", "y", &code) &&
	    g_variant_lookup(details, "usec", "t", &usec))
		g_hash_table_insert(w->debug_codes, GUINT_TO_POINTER(code),
				    g_memdup2(&usec, sizeof(usec)));
	return 0;
}

/* An abstract address of the kernel's choice. */
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

static void exec_worker(int listen_fd, const char *const *extra)
{
	const char *argv[8] = { g_getenv("BRUME_VMM"), "--log-level=debug" };
	size_t n = 2;

	if (g_getenv("BRUME_VMM_SECCOMP"))
		argv[n++] = g_getenv("BRUME_VMM_SECCOMP");
	for (; extra && *extra && n < G_N_ELEMENTS(argv) - 1; extra++)
		argv[n++] = *extra;
	prctl(PR_SET_PDEATHSIG, SIGKILL); /* a test that aborts leaves no machine behind */
	dup2(listen_fd, STDIN_FILENO);
	execv(argv[0], (char **)(uintptr_t)argv);
	_exit(127);
}

static void connect_bus(struct test_worker *w, const struct sockaddr_un *address, socklen_t len)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	g_assert_cmpint(connect(fd, (const struct sockaddr *)address, len), ==, 0);
	g_assert_cmpint(sd_bus_new(&w->bus), >=, 0);
	g_assert_cmpint(sd_bus_set_fd(w->bus, fd, fd), >=, 0);
	g_assert_cmpint(sd_bus_negotiate_fds(w->bus, 1), >=, 0);
	g_assert_cmpint(sd_bus_match_signal(w->bus, NULL, NULL, PROTOCOL_OBJECT, PROTOCOL_INTERFACE,
					    "StateChanged", on_state, w),
			>=, 0);
	g_assert_cmpint(sd_bus_match_signal(w->bus, NULL, NULL, PROTOCOL_OBJECT, PROTOCOL_INTERFACE,
					    "Event", on_event, w),
			>=, 0);
	g_assert_cmpint(sd_bus_start(w->bus), >=, 0);
}

void test_worker_spawn(struct test_worker *w, const char *const *extra)
{
	struct sockaddr_un address;
	socklen_t len;
	int listen_fd;

	g_assert_nonnull(g_getenv("BRUME_VMM"));
	*w = (struct test_worker){ .debug_fd = memfd_create("debug-console", MFD_CLOEXEC) };
	w->resources = g_ptr_array_new_with_free_func(g_free);
	w->fds = g_array_new(FALSE, FALSE, sizeof(int));
	w->states = g_ptr_array_new_with_free_func(g_free);
	w->events = g_ptr_array_new_with_free_func(g_free);
	w->debug_codes = g_hash_table_new_full(NULL, NULL, NULL, g_free);
	listen_fd = listen_somewhere(&address, &len);
	w->pid = fork();
	g_assert_cmpint(w->pid, >=, 0);
	if (w->pid == 0)
		exec_worker(listen_fd, extra);
	close(listen_fd);
	connect_bus(w, &address, len);
}

static void reap(struct test_worker *w, int flags)
{
	if (!w->exited && waitpid(w->pid, &w->status, flags) == w->pid)
		w->exited = true;
}

void test_worker_end(struct test_worker *w)
{
	if (!w->exited) {
		kill(w->pid, SIGKILL);
		reap(w, 0);
	}
	sd_bus_close_unref(w->bus);
	for (guint i = 0; i < w->fds->len; i++)
		close(g_array_index(w->fds, int, i));
	g_ptr_array_unref(w->resources);
	g_array_unref(w->fds);
	g_ptr_array_unref(w->states);
	g_ptr_array_unref(w->events);
	g_hash_table_unref(w->debug_codes);
	close(w->debug_fd);
}

void test_worker_resource(struct test_worker *w, const char *name, int fd)
{
	g_assert_cmpint(fd, >=, 0);
	g_ptr_array_add(w->resources, g_strdup(name));
	g_array_append_val(w->fds, fd);
}

int test_open_kvm(void)
{
	return open("/dev/kvm", O_RDWR | O_CLOEXEC);
}

static void hand_over(struct test_worker *w)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
	sd_bus_error e = SD_BUS_ERROR_NULL;

	g_assert_cmpint(sd_bus_message_new_method_call(w->bus, &m, NULL, PROTOCOL_OBJECT,
						       PROTOCOL_INTERFACE, "AddResources"),
			>=, 0);
	g_assert_cmpint(sd_bus_message_open_container(m, 'a', "{sh}"), >=, 0);
	for (guint i = 0; i < w->fds->len; i++)
		g_assert_cmpint(sd_bus_message_append(m, "{sh}", w->resources->pdata[i],
						      g_array_index(w->fds, int, i)),
				>=, 0);
	g_assert_cmpint(sd_bus_message_close_container(m), >=, 0);
	if (sd_bus_call(w->bus, m, 0, &e, NULL) < 0)
		g_error("AddResources: %s: %s", e.name, e.message);
}

static GVariant *complete_config(const char *cmdline, const char *config)
{
	_cleanup_(g_variant_unref_cleanup) GVariant *given =
		g_variant_ref_sink(g_variant_new_parsed(config ? config : "@a{sv} {}"));
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
	g_variant_dict_insert_value(&dict, "debug_console",
				    g_variant_new_parsed(
					    "{'mode': <'File'>, 'file': <'/debug_console/file'>}"));
	return g_variant_ref_sink(g_variant_dict_end(&dict));
}

int test_worker_start(struct test_worker *w, const char *cmdline, const char *config, bool paused,
		      struct err *err)
{
	_cleanup_(g_variant_unref_cleanup) GVariant *dict = complete_config(cmdline, config);
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
	_cleanup_(sd_bus_error_free) sd_bus_error e = SD_BUS_ERROR_NULL;
	int r;

	g_assert_nonnull(g_getenv("BRUME_TINY"));
	test_worker_resource(w, PROTOCOL_RESOURCE_KVM, test_open_kvm());
	test_worker_resource(w, "/payload/kernel",
			     open(g_getenv("BRUME_TINY"), O_RDONLY | O_CLOEXEC));
	test_worker_resource(w, "/debug_console/file", dup(w->debug_fd));
	hand_over(w);
	g_assert_cmpint(sd_bus_message_new_method_call(w->bus, &m, NULL, PROTOCOL_OBJECT,
						       PROTOCOL_INTERFACE, "Start"),
			>=, 0);
	g_assert_cmpint(variant_append(m, dict), >=, 0);
	g_assert_cmpint(sd_bus_message_append(m, "a{sv}", 1, "paused", "b", paused), >=, 0);
	r = sd_bus_call(w->bus, m, 20 * 1000000ULL, &e, NULL);
	if (r < 0 && err)
		err_from_worker_error(err, r, &e);
	else if (r < 0)
		g_error("Start: %s: %s", e.name, e.message);
	return r < 0 ? r : 0;
}

int test_worker_call(struct test_worker *w, const char *method, struct err *err)
{
	_cleanup_(sd_bus_error_free) sd_bus_error e = SD_BUS_ERROR_NULL;
	int r = sd_bus_call_method(w->bus, NULL, PROTOCOL_OBJECT, PROTOCOL_INTERFACE, method, &e,
				   NULL, NULL);

	if (r < 0 && err)
		err_from_worker_error(err, r, &e);
	else if (r < 0)
		g_error("%s: %s: %s", method, e.name, e.message);
	return r < 0 ? r : 0;
}

int test_worker_open_console(struct test_worker *w, const char *name, bool force, int *ret_fd,
			     struct err *err)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
	_cleanup_(sd_bus_error_free) sd_bus_error e = SD_BUS_ERROR_NULL;
	int fd, r;

	r = sd_bus_call_method(w->bus, NULL, PROTOCOL_OBJECT, PROTOCOL_INTERFACE, "OpenConsole", &e,
			       &reply, "sbb", name, force, 0);
	if (r < 0) {
		err_from_worker_error(err, r, &e);
		return r;
	}
	g_assert_cmpint(sd_bus_message_read(reply, "h", &fd), >=, 0);
	*ret_fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	return 0;
}

/* --- waiting --- */

static void turn(struct test_worker *w, int msec)
{
	struct pollfd pfd = { .fd = sd_bus_get_fd(w->bus), .events = POLLIN };

	while (sd_bus_process(w->bus, NULL) > 0)
		;
	reap(w, WNOHANG);
	if (!w->exited)
		poll(&pfd, 1, msec);
}

#define WAIT_UNTIL(w, condition, seconds, what)                                                    \
	do {                                                                                       \
		gint64 end_ = g_get_monotonic_time() + (gint64)(seconds)*G_USEC_PER_SEC;           \
		while (!(condition)) {                                                             \
			_cleanup_free_ char *out_ = NULL;                                          \
			if (g_get_monotonic_time() < end_ && !((w)->exited && give_up(w))) {       \
				turn(w, 20);                                                       \
				continue;                                                          \
			}                                                                          \
			out_ = test_worker_output(w);                                              \
			g_error("no %s within %u s (exited %d, status 0x%x); the guest said:\n%s", \
				what, seconds, (w)->exited, (unsigned int)(w)->status, out_);      \
		}                                                                                  \
	} while (0)

/* The process is gone: one last look at what it had sent. */
static bool give_up(struct test_worker *w)
{
	return sd_bus_process(w->bus, NULL) <= 0;
}

void test_worker_wait_exit(struct test_worker *w, unsigned int seconds)
{
	WAIT_UNTIL(w, w->exited, seconds, "end of the worker");
	while (sd_bus_process(w->bus, NULL) > 0)
		;
}

static bool has_output(struct test_worker *w, const char *text)
{
	_cleanup_free_ char *out = test_worker_output(w);

	return strstr(out, text);
}

void test_worker_wait_output(struct test_worker *w, const char *text, unsigned int seconds)
{
	WAIT_UNTIL(w, has_output(w, text), seconds, text);
}

static bool has_state(const struct test_worker *w, const char *edge)
{
	for (guint i = 0; i < w->states->len; i++)
		if (strcmp(w->states->pdata[i], edge) == 0)
			return true;
	return false;
}

void test_worker_wait_state(struct test_worker *w, const char *edge, unsigned int seconds)
{
	WAIT_UNTIL(w, has_state(w, edge), seconds, edge);
}

void test_worker_run_for(struct test_worker *w, unsigned int msec)
{
	gint64 end = g_get_monotonic_time() + (gint64)msec * 1000;

	while (g_get_monotonic_time() < end && !w->exited)
		turn(w, 5);
}

char *test_worker_output(struct test_worker *w)
{
	off_t size = lseek(w->debug_fd, 0, SEEK_END);
	char *text = g_malloc0((size_t)size + 1);

	g_assert_cmpint(pread(w->debug_fd, text, (size_t)size, 0), ==, size);
	return text;
}

unsigned int test_worker_count(struct test_worker *w, const char *text)
{
	_cleanup_free_ char *out = test_worker_output(w);
	unsigned int n = 0;

	for (const char *p = out; (p = strstr(p, text)); p++)
		n++;
	return n;
}

int test_disk(size_t size)
{
	int fd = memfd_create("disk", MFD_CLOEXEC);

	g_assert_cmpint(ftruncate(fd, (off_t)size), ==, 0);
	for (size_t off = 0; off + 512 <= size && off < (1U << 20); off += 512) {
		char sector[512];

		memset(sector, (int)('A' + off / 512 % 26), sizeof(sector));
		g_assert_cmpint(pwrite(fd, sector, sizeof(sector), (off_t)off), ==, 512);
	}
	return fd;
}
