/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/client/mock-service.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <systemd/sd-event.h>
#include <unistd.h>

#include "dbus/bus-error.h"
#include "dbus/bus-path.h"
#include "dbus/variant.h"
#include "vmm/base/err.h"

#define SLOW_USEC 1300000

struct mock {
	const struct private_bus *address;
	pthread_t thread;
	int stop_fd;
	pthread_mutex_t lock; /* log and config */
	GString *log;
	char *config;

	sd_event *event;
	sd_bus *bus;
	GPtrArray *vms; /* names */
	uint32_t n_jobs;
	struct end_of_job *stuck; /* of 'stuck' until it is canceled, and 'stubborn' */
	char *console_vm;
	int console_fd;
};

struct end_of_job {
	struct mock *mock;
	uint32_t id;
	char *vm;
	bool canceled;
};

/* --- machines ------------------------------------------------------------------ */

static bool exists(struct mock *mock, const char *name)
{
	/* Some are there without being listed: for the cases about consoles and Ctrl-C. */
	return g_str_equal(name, "mute") || g_str_equal(name, "stuck") ||
	       g_str_equal(name, "stubborn") || g_str_equal(name, "taken-console") ||
	       g_ptr_array_find_with_equal_func(mock->vms, name, g_str_equal, NULL);
}

static void note(struct mock *mock, sd_bus_message *m, const char *vm, GVariant *options)
{
	pthread_mutex_lock(&mock->lock);
	g_string_append_printf(mock->log, "%s(%s", sd_bus_message_get_member(m), vm);
	if (options) {
		const char *key;
		GVariant *value;
		GVariantIter iter;

		g_variant_iter_init(&iter, options);
		while (g_variant_iter_loop(&iter, "{&sv}", &key, &value)) {
			g_autofree char *text = g_variant_print(value, FALSE);

			g_string_append_printf(mock->log, " %s=%s", key, text);
		}
	}
	g_string_append(mock->log, ") ");
	pthread_mutex_unlock(&mock->lock);
}

static void set_config(struct mock *mock, const char *config)
{
	pthread_mutex_lock(&mock->lock);
	g_free(mock->config);
	mock->config = g_strdup(config);
	pthread_mutex_unlock(&mock->lock);
}

/* The refusals of whole machines; true when the call has been answered. */
static bool refused(sd_bus_message *m, const char *vm)
{
	static const struct {
		const char *vm, *name, *text;
	} refusals[] = {
		{ "denied", SD_BUS_ERROR_ACCESS_DENIED, "access denied" },
		{ "ask", SD_BUS_ERROR_INTERACTIVE_AUTHORIZATION_REQUIRED,
		  "interactive authentication required" },
		{ "busy", BUS_ERROR_BUSY, "virtual machine 'busy' has a job already: start (7)" },
	};

	for (size_t i = 0; i < G_N_ELEMENTS(refusals); i++) {
		if (strcmp(refusals[i].vm, vm) != 0)
			continue;
		sd_bus_reply_method_errorf(m, refusals[i].name, "%s", refusals[i].text);
		return true;
	}
	return false;
}

static char *vm_of(sd_bus_message *m)
{
	char *name = NULL;

	g_assert_cmpint(bus_path_parse_vm(sd_bus_message_get_path(m), &name), ==, 0);
	return name;
}

static void emit_state(struct mock *mock, const char *vm, const char *from, const char *to,
		       const char *reason)
{
	_cleanup_free_ char *path = bus_path_vm(vm);

	sd_bus_emit_signal(mock->bus, path, BRUME_VM_INTERFACE, "StateChanged", "sss", from, to,
			   reason);
	if (strcmp(to, "running") != 0)
		sd_bus_emit_signal(mock->bus, BRUME_ROOT_PATH, BRUME_MANAGER_INTERFACE, "VMRemoved",
				   "so", vm, path);
}

/* --- jobs ---------------------------------------------------------------------- */

static int on_job_end(sd_event_source *s, uint64_t usec, void *userdata)
{
	struct end_of_job *end = userdata;
	_cleanup_free_ char *vm = bus_path_vm(end->vm), *job = bus_path_job(end->id);
	const char *result = "done", *name = "", *text = "";

	(void)s;
	(void)usec;
	if (end->canceled) {
		result = "canceled";
		name = BUS_ERROR_JOB_CANCELED;
		text = "the removal of device 'd0' was canceled";
	} else if (strcmp(end->vm, "broken") == 0) {
		result = "failed";
		name = BUS_ERROR_WORKER_FAILED;
		text = "the worker of 'broken' ended: signal, SEGV";
	} else if (strcmp(end->vm, "deaf") == 0) {
		result = "failed";
		name = BUS_ERROR_GUEST_TIMEOUT;
		text = "the guest of 'deaf' did not react within 90 s";
	}
	sd_bus_emit_signal(end->mock->bus, BRUME_ROOT_PATH, BRUME_MANAGER_INTERFACE, "JobRemoved",
			   "uoosss", end->id, job, vm, result, name, text);
	g_free(end->vm);
	g_free(end);
	return 0;
}

static int start_job(struct mock *mock, sd_bus_message *m, const char *vm)
{
	struct end_of_job *end = g_new0(struct end_of_job, 1);
	_cleanup_free_ char *path = bus_path_job(++mock->n_jobs);
	uint64_t usec = strcmp(vm, "slow") == 0 ? SLOW_USEC : 0;

	*end = (struct end_of_job){ mock, mock->n_jobs, g_strdup(vm), false };
	if (strcmp(vm, "stuck") == 0 || strcmp(vm, "stubborn") == 0)
		mock->stuck = end;
	else if (usec == 0) /* before the reply, which a client must cope with */
		on_job_end(NULL, 0, end);
	else
		g_assert_cmpint(sd_event_add_time_relative(mock->event, NULL, CLOCK_MONOTONIC, usec,
							   0, on_job_end, end),
				>=, 0);
	return sd_bus_reply_method_return(m, "o", path);
}

static int get_job(sd_bus *bus, const char *path, const char *interface, const char *property,
		   sd_bus_message *reply, void *userdata, sd_bus_error *e)
{
	(void)bus, (void)path, (void)interface, (void)userdata, (void)e;
	if (strcmp(property, "Progress") == 0)
		return sd_bus_message_append(reply, "d", 0.5);
	return sd_bus_message_append(reply, "s",
				     strcmp(property, "State") == 0   ? "running"
				     : strcmp(property, "Phase") == 0 ? "building"
								      : "");
}

static int method_cancel_job(sd_bus_message *m, void *userdata, sd_bus_error *e)
{
	struct mock *mock = userdata;
	int r;

	(void)e;
	if (!mock->stuck)
		return sd_bus_reply_method_errorf(m, BUS_ERROR_INVALID_STATE, "it is over already");
	note(mock, m, mock->stuck->vm, NULL);
	if (strcmp(mock->stuck->vm, "stubborn") == 0)
		return sd_bus_reply_method_errorf(m, SD_BUS_ERROR_NOT_SUPPORTED,
						  "the job cannot be canceled now");
	r = sd_bus_reply_method_return(m, "");
	mock->stuck->canceled = true;
	on_job_end(NULL, 0, mock->stuck);
	mock->stuck = NULL;
	return r;
}

static const sd_bus_vtable job_vtable[] = {
	SD_BUS_VTABLE_START(SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD("Cancel", "a{sv}", "", method_cancel_job, 0),
	SD_BUS_PROPERTY("State", "s", get_job, 0, 0),
	SD_BUS_PROPERTY("Phase", "s", get_job, 0, 0),
	SD_BUS_PROPERTY("Progress", "d", get_job, 0, 0),
	SD_BUS_PROPERTY("ErrorName", "s", get_job, 0, 0),
	SD_BUS_PROPERTY("ErrorMessage", "s", get_job, 0, 0),
	SD_BUS_VTABLE_END,
};

static int find_job(sd_bus *bus, const char *path, const char *interface, void *userdata,
		    void **ret, sd_bus_error *e)
{
	uint32_t id;

	(void)bus, (void)interface, (void)e;
	*ret = userdata;
	return bus_path_parse_job(path, &id) == 0;
}

/* --- the machine's interface ------------------------------------------------------ */

static int method_job(sd_bus_message *m, void *userdata, sd_bus_error *e)
{
	g_autoptr(GVariant) options = NULL;
	struct mock *mock = userdata;
	_cleanup_free_ char *vm = vm_of(m);

	(void)e;
	g_assert_cmpint(variant_from_message(m, "a{sv}", &options, NULL), ==, 0);
	note(mock, m, vm, options);
	return refused(m, vm) ? 1 : start_job(mock, m, vm);
}

static int method_simple(sd_bus_message *m, void *userdata, sd_bus_error *e)
{
	struct mock *mock = userdata;
	_cleanup_free_ char *vm = vm_of(m);

	(void)e;
	note(mock, m, vm, NULL);
	if (refused(m, vm))
		return 1;
	if (strcmp(sd_bus_message_get_member(m), "Terminate") == 0)
		emit_state(mock, vm, "running", "stopped", "request");
	if (strcmp(sd_bus_message_get_member(m), "PowerButton") == 0)
		emit_state(mock, vm, "running", "stopped", "guest-shutdown");
	return sd_bus_reply_method_return(m, "");
}

static void end_console(struct mock *mock, sd_event_source *s)
{
	sd_event_source_set_enabled(s, SD_EVENT_OFF);
	close(mock->console_fd);
	mock->console_fd = -EBADF;
}

static int on_console(sd_event_source *s, int fd, uint32_t events, void *userdata)
{
	struct mock *mock = userdata;
	char buf[256];
	ssize_t n = read(fd, buf, sizeof(buf) - 1);

	(void)events;
	if (n <= 0) {
		end_console(mock, s);
		return 0;
	}
	buf[n] = '\0';
	if (strstr(buf, "poweroff")) {
		emit_state(mock, mock->console_vm, "running", "stopped", "guest-shutdown");
		end_console(mock, s);
	} else if (strstr(buf, "crash")) {
		emit_state(mock, mock->console_vm, "running", "crashed", "signal");
		end_console(mock, s);
	} else {
		for (ssize_t i = 0; i < n; i++)
			buf[i] = g_ascii_toupper(buf[i]);
		g_assert_cmpint(write(fd, buf, (size_t)n), ==, n);
	}
	return 0;
}

static int method_open_console(sd_bus_message *m, void *userdata, sd_bus_error *e)
{
	g_autoptr(GVariant) options = NULL;
	struct mock *mock = userdata;
	const char *console;
	char *vm = vm_of(m);
	int fds[2], r;

	(void)e;
	g_free(mock->console_vm);
	mock->console_vm = vm;
	g_assert_cmpint(sd_bus_message_read(m, "s", &console), >, 0);
	g_assert_cmpint(variant_from_message(m, "a{sv}", &options, NULL), ==, 0);
	note(mock, m, vm, options);
	if (refused(m, vm))
		return 1;
	if (strcmp(vm, "taken-console") == 0)
		return sd_bus_reply_method_errorf(m, BUS_ERROR_CONSOLE_IN_USE,
						  "the console is in use");
	if (strcmp(console, "nowhere") == 0)
		return sd_bus_reply_method_errorf(m, BUS_ERROR_NO_SUCH_CONSOLE,
						  "virtual machine '%s' has no console 'nowhere'",
						  vm);
	g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), ==, 0);
	mock->console_fd = fds[0];
	g_assert_cmpint(write(fds[0], "boot\r\n", 6), ==, 6);
	g_assert_cmpint(sd_event_add_io(mock->event, NULL, fds[0], EPOLLIN, on_console, mock), >=,
			0);
	r = sd_bus_reply_method_return(m, "hs", fds[1], "");
	close(fds[1]);
	return r;
}

static int method_get_config(sd_bus_message *m, void *userdata, sd_bus_error *e)
{
	_cleanup_free_ char *vm = vm_of(m);
	const char *which;

	(void)e;
	note(userdata, m, vm, NULL);
	g_assert_cmpint(sd_bus_message_read(m, "s", &which), >, 0);
	if (strcmp(vm, "db-1") == 0 && strcmp(which, "boot") == 0)
		return sd_bus_reply_method_errorf(m, BUS_ERROR_INVALID_STATE,
						  "VM 'db-1' is stopped");
	return sd_bus_reply_method_return(m, "s",
					  strcmp(which, "next") == 0
						  ? "{\"cpus\":{\"boot_vcpus\":2}}"
						  : "{\"cpus\":{\"boot_vcpus\":1}}");
}

static int method_set_config(sd_bus_message *m, void *userdata, sd_bus_error *e)
{
	_cleanup_free_ char *vm = vm_of(m);
	const char *config;

	(void)e;
	note(userdata, m, vm, NULL);
	g_assert_cmpint(sd_bus_message_read(m, "s", &config), >, 0);
	set_config(userdata, config);
	return sd_bus_reply_method_return(m, "");
}

static int method_autostart(sd_bus_message *m, void *userdata, sd_bus_error *e)
{
	int enable;

	(void)e;
	g_assert_cmpint(sd_bus_message_read(m, "b", &enable), >, 0);
	note(userdata, m, enable ? "on" : "off", NULL);
	return sd_bus_reply_method_return(m, "");
}

static int method_description(sd_bus_message *m, void *userdata, sd_bus_error *e)
{
	const char *text;

	(void)e;
	g_assert_cmpint(sd_bus_message_read(m, "s", &text), >, 0);
	note(userdata, m, text, NULL);
	return sd_bus_reply_method_return(m, "");
}

static int method_properties(sd_bus_message *m, void *userdata, sd_bus_error *e)
{
	g_autoptr(GVariant) list = NULL, shown = NULL;
	_cleanup_free_ char *vm = vm_of(m);
	int runtime;

	(void)e;
	g_assert_cmpint(sd_bus_message_read(m, "b", &runtime), >, 0);
	g_assert_cmpint(variant_from_message(m, "a(sv)", &list, NULL), ==, 0);
	shown = g_variant_ref_sink(
		g_variant_new_parsed("{%s: <%@a(sv)>}", runtime ? "unit" : "both", list));
	note(userdata, m, vm, shown);
	return refused(m, vm) ? 1 : sd_bus_reply_method_return(m, "");
}

static int method_counters(sd_bus_message *m, void *userdata, sd_bus_error *e)
{
	(void)userdata, (void)e;
	return sd_bus_reply_method_return(m, "a{sa{st}}", 1, "_disk0", 1, "read_bytes",
					  (uint64_t)4096);
}

static int method_list_devices(sd_bus_message *m, void *userdata, sd_bus_error *e)
{
	_cleanup_free_ char *vm = vm_of(m);

	(void)userdata, (void)e;
	if (strcmp(vm, "web1") != 0)
		return sd_bus_reply_method_return(m, "a(ssso)", 0);
	return sd_bus_reply_method_return(m, "a(ssso)", 3, "_disk0", "disk", "0000:00:02.0",
					  "/org/brume/vm1/vm/web1/device/_5fdisk0", "n0", "net",
					  "0000:00:03.0", "/org/brume/vm1/vm/web1/device/n0",
					  "__rng", "rng", "",
					  "/org/brume/vm1/vm/web1/device/_5f_5frng");
}

/* How many descriptors there were, as if that were an option. */
static GVariant *read_fds_and_options(sd_bus_message *m)
{
	g_autoptr(GVariant) options = NULL;
	uint32_t n = 0;
	const char *name;
	GVariantDict dict;
	int fd;

	g_assert_cmpint(sd_bus_message_enter_container(m, 'a', "{sh}"), >, 0);
	while (sd_bus_message_read(m, "{sh}", &name, &fd) > 0)
		n++;
	g_assert_cmpint(sd_bus_message_exit_container(m), >=, 0);
	g_assert_cmpint(variant_from_message(m, "a{sv}", &options, NULL), ==, 0);
	g_variant_dict_init(&dict, options);
	if (n)
		g_variant_dict_insert(&dict, "fds", "u", n);
	return g_variant_ref_sink(g_variant_dict_end(&dict));
}

static int by_key(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The order of a dictionary says nothing, and is the hash table's. */
static GVariant *sort_keys(GVariant *dict)
{
	g_autofree const char **keys = g_new0(const char *, g_variant_n_children(dict));
	GVariantBuilder sorted;
	GVariantIter iter;
	size_t n = 0;

	g_variant_iter_init(&iter, dict);
	while (g_variant_iter_next(&iter, "{&sv}", &keys[n], NULL))
		n++;
	qsort(keys, n, sizeof(*keys), by_key);
	g_variant_builder_init(&sorted, G_VARIANT_TYPE_VARDICT);
	for (size_t i = 0; i < n; i++) {
		g_autoptr(GVariant) value = g_variant_lookup_value(dict, keys[i], NULL);

		g_variant_builder_add(&sorted, "{sv}", keys[i], value);
	}
	return g_variant_builder_end(&sorted);
}

static int method_add_device(sd_bus_message *m, void *userdata, sd_bus_error *e)
{
	g_autoptr(GVariant) config = NULL, options = NULL, all = NULL, shown = NULL;
	_cleanup_free_ char *vm = vm_of(m), *path = NULL;
	g_autofree char *id = NULL;
	const char *type, *none;
	GVariantDict dict;

	(void)e;
	g_assert_cmpint(sd_bus_message_read(m, "ss", &type, &none), >, 0);
	g_assert_cmpstr(none, ==, "");
	g_assert_cmpint(variant_from_message(m, "a{sv}", &config, NULL), ==, 0);
	options = read_fds_and_options(m);
	g_variant_dict_init(&dict, options);
	g_variant_dict_insert(&dict, type, "@a{sv}", sort_keys(config));
	all = g_variant_ref_sink(g_variant_dict_end(&dict));
	shown = g_variant_ref_sink(sort_keys(all));
	note(userdata, m, vm, shown);
	if (refused(m, vm))
		return 1;
	if (!g_variant_lookup(config, "id", "s", &id))
		id = g_strdup("_disk5");
	path = bus_path_device(vm, id);
	return sd_bus_reply_method_return(m, "o", path);
}

static int method_change(sd_bus_message *m, void *userdata, sd_bus_error *e)
{
	const char *member = sd_bus_message_get_member(m), *id;
	g_autoptr(GVariant) options = NULL;
	struct mock *mock = userdata;
	_cleanup_free_ char *vm = vm_of(m);
	g_autofree char *text = NULL;
	uint64_t bytes;
	uint32_t n;

	(void)e;
	if (strcmp(member, "ResizeVCPUs") == 0) {
		g_assert_cmpint(sd_bus_message_read(m, "u", &n), >, 0);
		text = g_strdup_printf("%s %u", vm, n);
	} else if (strcmp(member, "ResizeMemoryZone") == 0) {
		g_assert_cmpint(sd_bus_message_read(m, "st", &id, &bytes), >, 0);
		text = g_strdup_printf("%s %s %" G_GUINT64_FORMAT, vm, id, bytes);
	} else if (strcmp(member, "ResizeMemory") == 0) {
		g_assert_cmpint(sd_bus_message_read(m, "t", &bytes), >, 0);
		text = g_strdup_printf("%s %" G_GUINT64_FORMAT, vm, bytes);
	} else {
		g_assert_cmpint(sd_bus_message_read(m, "s", &id), >, 0);
		text = g_strdup_printf("%s %s", vm, id);
	}
	g_assert_cmpint(variant_from_message(m, "a{sv}", &options, NULL), ==, 0);
	note(mock, m, text, options);
	return refused(m, vm) ? 1 : start_job(mock, m, vm);
}

static int method_set_balloon(sd_bus_message *m, void *userdata, sd_bus_error *e)
{
	g_autofree char *text = NULL;
	uint64_t bytes;

	(void)e;
	g_assert_cmpint(sd_bus_message_read(m, "t", &bytes), >, 0);
	text = g_strdup_printf("%" G_GUINT64_FORMAT, bytes);
	note(userdata, m, text, NULL);
	return sd_bus_reply_method_return(m, "");
}

static int method_set_console_size(sd_bus_message *m, void *userdata, sd_bus_error *e)
{
	g_autofree char *text = NULL;
	uint16_t columns, rows;
	const char *console;

	(void)e;
	g_assert_cmpint(sd_bus_message_read(m, "sqq", &console, &columns, &rows), >, 0);
	text = g_strdup_printf("'%s' %ux%u", console, columns, rows);
	note(userdata, m, text, NULL);
	return sd_bus_reply_method_return(m, "");
}

/* An echo: what is sent comes back, until the end. */
static int method_connect_vsock(sd_bus_message *m, void *userdata, sd_bus_error *e)
{
	char buf[64];
	uint32_t port;
	int fds[2], r;

	(void)userdata;
	g_assert_cmpint(sd_bus_message_read(m, "u", &port), >, 0);
	if (port != 7)
		return sd_bus_error_setf(e, "org.freedesktop.DBus.Error.Failed",
					 "nobody listens on vsock port %u of the guest", port);
	g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), ==, 0);
	r = sd_bus_reply_method_return(m, "h", fds[1]);
	close(fds[1]);
	sd_bus_flush(sd_bus_message_get_bus(m));
	for (ssize_t n; (n = read(fds[0], buf, sizeof(buf))) > 0;)
		g_assert_cmpint(write(fds[0], buf, (size_t)n), ==, n);
	close(fds[0]);
	return r;
}

static int method_set_link(sd_bus_message *m, void *userdata, sd_bus_error *e)
{
	int up;

	(void)e;
	g_assert_cmpint(sd_bus_message_read(m, "b", &up), >, 0);
	note(userdata, m, up ? "up" : "down", NULL);
	return sd_bus_reply_method_return(m, "");
}

static int method_set_rate_limit(sd_bus_message *m, void *userdata, sd_bus_error *e)
{
	g_autoptr(GVariant) limits = NULL, options = NULL, shown = NULL;
	const char *path = sd_bus_message_get_path(m), *group = NULL;

	(void)e;
	if (strcmp(sd_bus_message_get_member(m), "SetRateLimitGroup") == 0)
		g_assert_cmpint(sd_bus_message_read(m, "s", &group), >, 0);
	g_assert_cmpint(variant_from_message(m, "a{sv}", &limits, NULL), ==, 0);
	g_assert_cmpint(variant_from_message(m, "a{sv}", &options, NULL), ==, 0);
	shown = g_variant_ref_sink(
		g_variant_new_parsed("{'limits': <%@a{sv}>, 'options': <%@a{sv}>}", limits,
				     options));
	note(userdata, m, group ? group : strrchr(path, '/') + 1, shown);
	return sd_bus_reply_method_return(m, "");
}

static int get_device(sd_bus *bus, const char *path, const char *interface, const char *property,
		      sd_bus_message *reply, void *userdata, sd_bus_error *e)
{
	bool rng = g_str_has_suffix(path, "rng"), net = g_str_has_suffix(path, "n0");

	(void)bus, (void)interface, (void)userdata, (void)e;
	if (strcmp(property, "State") == 0)
		return sd_bus_message_append(reply, "s", net ? "ejecting" : "present");
	return sd_bus_message_append(reply, "b",
				     strcmp(property, "Removable") == 0 ? !rng : (int)net);
}

static const sd_bus_vtable device_vtable[] = {
	SD_BUS_VTABLE_START(SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_PROPERTY("Removable", "b", get_device, 0, 0),
	SD_BUS_PROPERTY("Persistent", "b", get_device, 0, 0),
	SD_BUS_PROPERTY("HotPlugged", "b", get_device, 0, 0),
	SD_BUS_PROPERTY("State", "s", get_device, 0, 0),
	SD_BUS_VTABLE_END,
};

static int method_resize_disk(sd_bus_message *m, void *userdata, sd_bus_error *e)
{
	_cleanup_free_ char *vm = NULL, *id = NULL;
	g_autofree char *text = NULL;
	uint64_t bytes;

	(void)e;
	g_assert_cmpint(bus_path_parse_device(sd_bus_message_get_path(m), &vm, &id), ==, 0);
	g_assert_cmpint(sd_bus_message_read(m, "t", &bytes), >, 0);
	text = g_strdup_printf("%s %" G_GUINT64_FORMAT, id, bytes);
	note(userdata, m, text, NULL);
	return start_job(userdata, m, vm);
}

/* A descriptor becomes a word: a GVariant has no place for one. */
static int method_replace_disk(sd_bus_message *m, void *userdata, sd_bus_error *e)
{
	_cleanup_free_ char *vm = NULL, *id = NULL;
	g_autoptr(GString) text = g_string_new(NULL);
	g_autoptr(GVariant) options = NULL;
	const char *key, *type;

	(void)e;
	g_assert_cmpint(bus_path_parse_device(sd_bus_message_get_path(m), &vm, &id), ==, 0);
	g_string_append(text, id);
	g_assert_cmpint(sd_bus_message_enter_container(m, 'a', "{sv}"), >, 0);
	while (sd_bus_message_enter_container(m, 'e', "sv") > 0) {
		g_assert_cmpint(sd_bus_message_read(m, "s", &key), >, 0);
		g_assert_cmpint(sd_bus_message_peek_type(m, NULL, &type), >, 0);
		g_string_append_printf(text, " %s", key);
		if (strcmp(type, "s") == 0) {
			const char *value;

			g_assert_cmpint(sd_bus_message_read(m, "v", "s", &value), >, 0);
			g_string_append_printf(text, "=%s", value);
		} else {
			g_assert_cmpint(sd_bus_message_skip(m, "v"), >, 0);
		}
		g_assert_cmpint(sd_bus_message_exit_container(m), >=, 0);
	}
	g_assert_cmpint(sd_bus_message_exit_container(m), >=, 0);
	g_assert_cmpint(variant_from_message(m, "a{sv}", &options, NULL), ==, 0);
	note(userdata, m, text->str, options);
	return sd_bus_reply_method_return(m, "");
}

static const sd_bus_vtable disk_vtable[] = {
	SD_BUS_VTABLE_START(SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD("Resize", "ta{sv}", "o", method_resize_disk, 0),
	SD_BUS_METHOD("Replace", "a{sv}a{sv}", "", method_replace_disk, 0),
	SD_BUS_METHOD("SetRateLimit", "a{sv}a{sv}", "", method_set_rate_limit, 0),
	SD_BUS_VTABLE_END,
};

static const sd_bus_vtable net_vtable[] = {
	SD_BUS_VTABLE_START(SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD("SetLink", "ba{sv}", "", method_set_link, 0),
	SD_BUS_METHOD("SetRateLimit", "a{sv}a{sv}", "", method_set_rate_limit, 0),
	SD_BUS_VTABLE_END,
};

static int get_vm(sd_bus *bus, const char *path, const char *interface, const char *property,
		  sd_bus_message *reply, void *userdata, sd_bus_error *e)
{
	_cleanup_free_ char *name = NULL;

	(void)bus, (void)interface, (void)userdata, (void)e;
	g_assert_cmpint(bus_path_parse_vm(path, &name), ==, 0);
	if (strcmp(property, "Name") == 0)
		return sd_bus_message_append(reply, "s", name);
	if (strcmp(property, "State") == 0)
		return sd_bus_message_append(reply, "s", "running");
	if (strcmp(property, "Description") == 0)
		return sd_bus_message_append(reply, "s", "with \033[31mcolour");
	if (strcmp(property, "VCPUs") == 0)
		return sd_bus_message_append(reply, "u", 4);
	if (strcmp(property, "VCPUsTarget") == 0)
		return sd_bus_message_append(reply, "u", 6);
	if (strcmp(property, "VCPUsMax") == 0)
		return sd_bus_message_append(reply, "u", 8);
	if (strcmp(property, "MemoryMax") == 0)
		return sd_bus_message_append(reply, "t", (uint64_t)5 << 29);
	if (strcmp(property, "Consoles") == 0 && strcmp(name, "mute") == 0)
		return sd_bus_message_append(reply, "as", 0);
	if (strcmp(property, "Consoles") == 0)
		return sd_bus_message_append(reply, "as", 2, "serial", "console");
	return sd_bus_message_append(reply, "t", (uint64_t)1 << 30);
}

static const sd_bus_vtable vm_vtable[] = {
	SD_BUS_VTABLE_START(SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD("Start", "a{sv}", "o", method_job, 0),
	SD_BUS_METHOD("Shutdown", "a{sv}", "o", method_job, 0),
	SD_BUS_METHOD("Reboot", "a{sv}", "o", method_job, 0),
	SD_BUS_METHOD("Reset", "a{sv}", "", method_simple, 0),
	SD_BUS_METHOD("Terminate", "a{sv}", "", method_simple, 0),
	SD_BUS_METHOD("Pause", "a{sv}", "", method_simple, 0),
	SD_BUS_METHOD("Resume", "a{sv}", "", method_simple, 0),
	SD_BUS_METHOD("PowerButton", "a{sv}", "", method_simple, 0),
	SD_BUS_METHOD("InjectNMI", "a{sv}", "", method_simple, 0),
	SD_BUS_METHOD("Delete", "a{sv}", "", method_simple, 0),
	SD_BUS_METHOD("OpenConsole", "sa{sv}", "hs", method_open_console, 0),
	SD_BUS_METHOD("GetConfig", "s", "s", method_get_config, 0),
	SD_BUS_METHOD("SetConfig", "sa{sv}", "", method_set_config, 0),
	SD_BUS_METHOD("SetAutostart", "ba{sv}", "", method_autostart, 0),
	SD_BUS_METHOD("SetDescription", "sa{sv}", "", method_description, 0),
	SD_BUS_METHOD("SetResourceProperties", "ba(sv)a{sv}", "", method_properties, 0),
	SD_BUS_METHOD("GetCounters", "a{sv}", "a{sa{st}}", method_counters, 0),
	SD_BUS_METHOD("ListDevices", "", "a(ssso)", method_list_devices, 0),
	SD_BUS_METHOD("AddDevice", "ssa{sv}a{sh}a{sv}", "o", method_add_device, 0),
	SD_BUS_METHOD("RemoveDevice", "sa{sv}", "o", method_change, 0),
	SD_BUS_METHOD("ResizeVCPUs", "ua{sv}", "o", method_change, 0),
	SD_BUS_METHOD("ResizeMemory", "ta{sv}", "o", method_change, 0),
	SD_BUS_METHOD("ResizeMemoryZone", "sta{sv}", "o", method_change, 0),
	SD_BUS_METHOD("SetBalloon", "ta{sv}", "", method_set_balloon, 0),
	SD_BUS_METHOD("SetConsoleSize", "sqqa{sv}", "", method_set_console_size, 0),
	SD_BUS_METHOD("ConnectVSock", "ua{sv}", "h", method_connect_vsock, 0),
	SD_BUS_METHOD("SetRateLimitGroup", "sa{sv}a{sv}", "", method_set_rate_limit, 0),
	SD_BUS_PROPERTY("Name", "s", get_vm, 0, 0),
	SD_BUS_PROPERTY("Description", "s", get_vm, 0, 0),
	SD_BUS_PROPERTY("State", "s", get_vm, 0, 0),
	SD_BUS_PROPERTY("VCPUs", "u", get_vm, 0, 0),
	SD_BUS_PROPERTY("VCPUsTarget", "u", get_vm, 0, 0),
	SD_BUS_PROPERTY("VCPUsMax", "u", get_vm, 0, 0),
	SD_BUS_PROPERTY("Memory", "t", get_vm, 0, 0),
	SD_BUS_PROPERTY("MemoryTarget", "t", get_vm, 0, 0),
	SD_BUS_PROPERTY("MemoryMax", "t", get_vm, 0, 0),
	SD_BUS_PROPERTY("Consoles", "as", get_vm, 0, 0),
	SD_BUS_SIGNAL("StateChanged", "sss", 0),
	SD_BUS_VTABLE_END,
};

static int find_device(sd_bus *bus, const char *path, const char *interface, void *userdata,
		       void **ret, sd_bus_error *e)
{
	_cleanup_free_ char *vm = NULL, *id = NULL;

	(void)bus, (void)interface, (void)e;
	*ret = userdata;
	return bus_path_parse_device(path, &vm, &id) == 0;
}

static int find_vm(sd_bus *bus, const char *path, const char *interface, void *userdata, void **ret,
		   sd_bus_error *e)
{
	_cleanup_free_ char *name = NULL;

	(void)bus, (void)interface, (void)e;
	*ret = userdata;
	return bus_path_parse_vm(path, &name) == 0 && exists(userdata, name);
}

/* The machines, and the devices of the one that has any. */
static int enumerate_objects(sd_bus *bus, const char *prefix, void *userdata, char ***ret,
			     sd_bus_error *e)
{
	static const char *const devices[] = { "_disk0", "n0", "__rng" };
	struct mock *mock = userdata;
	char **paths = calloc(mock->vms->len + G_N_ELEMENTS(devices) + 1, sizeof(char *));
	size_t n = 0;

	(void)bus, (void)prefix, (void)e;
	for (unsigned int i = 0; i < mock->vms->len; i++)
		paths[n++] = bus_path_vm(mock->vms->pdata[i]);
	for (size_t i = 0; i < G_N_ELEMENTS(devices); i++)
		paths[n++] = bus_path_device("web1", devices[i]);
	*ret = paths;
	return 0;
}

/* --- the manager -------------------------------------------------------------------- */

static int method_create(sd_bus_message *m, void *userdata, sd_bus_error *e)
{
	g_autoptr(GVariant) options = NULL;
	struct mock *mock = userdata;
	_cleanup_free_ char *path = NULL;
	const char *name, *config;

	(void)e;
	g_assert_cmpint(sd_bus_message_read(m, "ss", &name, &config), >, 0);
	options = read_fds_and_options(m);
	note(mock, m, name, options);
	set_config(mock, config);
	if (strcmp(name, "taken") == 0)
		return sd_bus_reply_method_errorf(m, BUS_ERROR_VM_EXISTS,
						  "virtual machine 'taken' exists already");
	if (strstr(config, "wrong"))
		return sd_bus_reply_method_errorf(m, BUS_ERROR_INVALID_CONFIG,
						  "/wrong: unknown key");
	if (!exists(mock, name))
		g_ptr_array_add(mock->vms, g_strdup(name));
	path = bus_path_vm(name);
	return sd_bus_reply_method_return(m, "o", path);
}

static int method_validate(sd_bus_message *m, void *userdata, sd_bus_error *e)
{
	const char *config;

	(void)e;
	g_assert_cmpint(sd_bus_message_read(m, "s", &config), >, 0);
	set_config(userdata, config);
	if (strstr(config, "wrong"))
		return sd_bus_reply_method_return(m, "a(sss)", 1, "error", "/wrong", "unknown key");
	return sd_bus_reply_method_return(m, "a(sss)", 0);
}

static int method_list_jobs(sd_bus_message *m, void *userdata, sd_bus_error *e)
{
	_cleanup_free_ char *vm = bus_path_vm("db-1"), *job = bus_path_job(7);

	(void)userdata, (void)e;
	return sd_bus_reply_method_return(m, "a(usssdoo)", 1, 7, "start", "running", "building",
					  0.25, vm, job);
}

static int method_cancel(sd_bus_message *m, void *userdata, sd_bus_error *e)
{
	uint32_t id;

	(void)userdata, (void)e;
	g_assert_cmpint(sd_bus_message_read(m, "u", &id), >, 0);
	if (id == 7)
		return sd_bus_reply_method_return(m, "");
	return sd_bus_reply_method_errorf(m, BUS_ERROR_NO_SUCH_JOB, "no job %u", id);
}

static const sd_bus_vtable manager_vtable[] = {
	SD_BUS_VTABLE_START(SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD("CreateVM", "ssa{sh}a{sv}", "o", method_create, 0),
	SD_BUS_METHOD("ValidateConfig", "sa{sv}", "a(sss)", method_validate, 0),
	SD_BUS_METHOD("ListJobs", "", "a(usssdoo)", method_list_jobs, 0),
	SD_BUS_METHOD("CancelJob", "u", "", method_cancel, 0),
	SD_BUS_SIGNAL("JobRemoved", "uoosss", 0),
	SD_BUS_SIGNAL("VMRemoved", "so", 0),
	SD_BUS_VTABLE_END,
};

/* --- the thread ----------------------------------------------------------------------- */

static int on_stop(sd_event_source *s, int fd, uint32_t events, void *userdata)
{
	(void)s, (void)fd, (void)events;
	return sd_event_exit(userdata, 0);
}

static void *run(void *data)
{
	struct mock *mock = data;

	g_assert_cmpint(sd_event_loop(mock->event), ==, 0);
	return NULL;
}

struct mock *mock_start(const struct private_bus *bus)
{
	static const char *const names[] = { "web1", "db-1",   "slow", "broken",
					     "deaf", "denied", "ask",  "busy" };
	struct mock *mock = g_new0(struct mock, 1);

	mock->address = bus;
	mock->console_fd = -EBADF;
	mock->stop_fd = eventfd(0, EFD_CLOEXEC);
	mock->log = g_string_new(NULL);
	mock->vms = g_ptr_array_new_with_free_func(g_free);
	for (size_t i = 0; i < G_N_ELEMENTS(names); i++)
		g_ptr_array_add(mock->vms, g_strdup(names[i]));
	pthread_mutex_init(&mock->lock, NULL);
	g_assert_cmpint(sd_event_new(&mock->event), >=, 0);
	mock->bus = private_bus_connect(bus);
	g_assert_cmpint(sd_bus_add_object_vtable(mock->bus, NULL, BRUME_ROOT_PATH,
						 BRUME_MANAGER_INTERFACE, manager_vtable, mock),
			>=, 0);
	g_assert_cmpint(sd_bus_add_fallback_vtable(mock->bus, NULL, BRUME_VM_PATH_PREFIX,
						   BRUME_VM_INTERFACE, vm_vtable, find_vm, mock),
			>=, 0);
	g_assert_cmpint(sd_bus_add_fallback_vtable(mock->bus, NULL, BRUME_VM_PATH_PREFIX,
						   BRUME_DEVICE_INTERFACE, device_vtable,
						   find_device, mock),
			>=, 0);
	g_assert_cmpint(sd_bus_add_fallback_vtable(mock->bus, NULL, BRUME_VM_PATH_PREFIX,
						   BRUME_DEVICE_INTERFACE ".Disk", disk_vtable,
						   find_device, mock),
			>=, 0);
	g_assert_cmpint(sd_bus_add_fallback_vtable(mock->bus, NULL, BRUME_VM_PATH_PREFIX,
						   BRUME_DEVICE_INTERFACE ".Net", net_vtable,
						   find_device, mock),
			>=, 0);
	g_assert_cmpint(sd_bus_add_fallback_vtable(mock->bus, NULL, BRUME_JOB_PATH_PREFIX,
						   BRUME_JOB_INTERFACE, job_vtable, find_job, mock),
			>=, 0);
	g_assert_cmpint(sd_bus_add_node_enumerator(mock->bus, NULL, BRUME_VM_PATH_PREFIX,
						   enumerate_objects, mock),
			>=, 0);
	g_assert_cmpint(sd_bus_add_object_manager(mock->bus, NULL, BRUME_ROOT_PATH), >=, 0);
	g_assert_cmpint(sd_bus_request_name(mock->bus, BRUME_BUS_NAME, 0), >=, 0);
	g_assert_cmpint(sd_bus_attach_event(mock->bus, mock->event, 0), >=, 0);
	g_assert_cmpint(sd_event_add_io(mock->event, NULL, mock->stop_fd, EPOLLIN, on_stop,
					mock->event),
			>=, 0);
	g_assert_cmpint(pthread_create(&mock->thread, NULL, run, mock), ==, 0);
	return mock;
}

void mock_stop(struct mock *mock)
{
	g_assert_cmpint(eventfd_write(mock->stop_fd, 1), ==, 0);
	pthread_join(mock->thread, NULL);
	sd_bus_flush_close_unref(mock->bus);
	sd_event_unref(mock->event);
	close(mock->stop_fd);
	if (mock->console_fd >= 0)
		close(mock->console_fd);
	if (mock->stuck)
		g_free(mock->stuck->vm);
	g_free(mock->stuck);
	g_ptr_array_unref(mock->vms);
	g_string_free(mock->log, TRUE);
	g_free(mock->config);
	g_free(mock->console_vm);
	pthread_mutex_destroy(&mock->lock);
	g_free(mock);
}

char *mock_take_log(struct mock *mock)
{
	char *log;

	pthread_mutex_lock(&mock->lock);
	log = g_strdup(mock->log->str);
	g_string_truncate(mock->log, 0);
	pthread_mutex_unlock(&mock->lock);
	return g_strchomp(log);
}

char *mock_config(struct mock *mock)
{
	char *config;

	pthread_mutex_lock(&mock->lock);
	config = g_strdup(mock->config);
	pthread_mutex_unlock(&mock->lock);
	return config;
}
