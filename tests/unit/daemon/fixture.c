/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/daemon/fixture.h"

#include "daemon/adopt.h"
#include "daemon/child.h"
#include "daemon/end.h"
#include "daemon/machine.h"
#include "daemon/manager.h"
#include "dbus/bus-path.h"
#include "dbus/service.h"
#include "vmm/base/cleanup.h"
#include "vmm/base/err.h"
#include "vmm/base/log.h"
#include <dirent.h>
#include <errno.h>
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define WAIT_USEC (10 * G_USEC_PER_SEC)

unsigned int fixture_count_fds(void)
{
	unsigned int n = 0;
	DIR *dir = opendir("/proc/self/fd");

	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

/* ",count=1": what an Event has to say in numbers */
static void append_details(sd_bus_message *m, GString *line)
{
	const char *key;
	uint32_t value;

	sd_bus_message_enter_container(m, 'a', "{sv}");
	while (sd_bus_message_enter_container(m, 'e', "sv") > 0) {
		sd_bus_message_read(m, "s", &key);
		g_assert_cmpint(sd_bus_message_read(m, "v", "u", &value), >, 0);
		g_string_append_printf(line, ",%s=%u", key, value);
		sd_bus_message_exit_container(m);
	}
}

/* "StateChanged:running,paused,request"; PropertiesChanged names its properties. */
static int on_signal(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	const char *member = sd_bus_message_get_member(m), *s, *key;
	g_autoptr(GString) line = g_string_new(member);
	struct fixture *f = userdata;
	char type;

	(void)error;
	g_string_append_c(line, ':');
	if (g_str_equal(member, "PropertiesChanged")) {
		sd_bus_message_read(m, "s", &s);
		g_string_append(line, strrchr(s, '.') + 1);
		sd_bus_message_enter_container(m, 'a', "{sv}");
		while (sd_bus_message_enter_container(m, 'e', "sv") > 0) {
			sd_bus_message_read(m, "s", &key);
			g_string_append_printf(line, ",%s", key);
			sd_bus_message_skip(m, "v");
			sd_bus_message_exit_container(m);
		}
	} else {
		while (sd_bus_message_peek_type(m, &type, NULL) > 0) {
			if (type == 's' || type == 'o') {
				sd_bus_message_read_basic(m, type, &s);
				if (line->str[line->len - 1] != ':')
					g_string_append_c(line, ',');
				g_string_append(line, s);
			} else {
				char contents[2] = { type, '\0' };

				if (g_str_equal(member, "Event"))
					append_details(m, line);
				if (type == 'a' || type == 'v')
					break;
				sd_bus_message_skip(m, contents);
			}
		}
	}
	g_ptr_array_add(f->log, g_strdup(line->str));
	return 0;
}

static void connect_pair(struct fixture *f)
{
	sd_id128_t id;
	int fds[2];

	g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds), ==,
			0);
	g_assert_cmpint(sd_bus_new(&f->server), >=, 0);
	g_assert_cmpint(sd_bus_new(&f->client), >=, 0);
	g_assert_cmpint(sd_bus_set_fd(f->server, fds[0], fds[0]), >=, 0);
	g_assert_cmpint(sd_bus_set_fd(f->client, fds[1], fds[1]), >=, 0);
	g_assert_cmpint(sd_id128_randomize(&id), >=, 0);
	g_assert_cmpint(sd_bus_set_server(f->server, true, id), >=, 0);
	g_assert_cmpint(sd_bus_negotiate_fds(f->server, true), >=, 0);
	g_assert_cmpint(sd_bus_negotiate_fds(f->client, true), >=, 0);
	g_assert_cmpint(sd_bus_start(f->server), >=, 0);
	g_assert_cmpint(sd_bus_start(f->client), >=, 0);
	g_assert_cmpint(sd_bus_attach_event(f->server, f->event, 0), >=, 0);
	g_assert_cmpint(sd_bus_attach_event(f->client, f->event, 0), >=, 0);
	g_assert_cmpint(sd_bus_add_match(f->client, NULL, "type='signal'", on_signal, f), >=, 0);
}

static void on_adopted(void *data)
{
	struct fixture *f = data;

	f->adopted = true;
}

void fixture_turn(struct fixture *f, uint64_t usec)
{
	g_assert_cmpint(sd_event_run(f->event, usec), >=, 0);
}

void fixture_start_daemon(struct fixture *f)
{
	g_autofree char *state = g_build_filename(f->dir, "state", NULL);
	g_autofree char *runtime = g_build_filename(f->dir, "run", NULL);
	struct manager_options options = {
		.state_dir = state,
		.runtime_dir = runtime,
		.kvm_device = "/dev/null",
		.default_slice = "machine.slice",
	};
	gint64 end = g_get_monotonic_time() + (gint64)WAIT_USEC;
	struct spawner *spawner = NULL;
	struct err err = { 0 };

	connect_pair(f);
	g_assert_cmpint(child_spawner_new(f->event, f->worker, &spawner, &err), ==, 0);
	g_assert_cmpint(manager_new(f->event, &options, spawner, &f->manager, &err), ==, 0);
	f->manager->button_interval_usec = 20000;
	f->manager->quit_grace_usec = 50000;
	f->manager->reconnect_usec = 20000;
	g_assert_cmpint(service_new(f->server, f->manager, false, &f->service, &err), ==, 0);
	g_assert_cmpint(manager_load(f->manager, &err), ==, 0);
	f->adopted = false;
	g_assert_cmpint(manager_adopt(f->manager, on_adopted, f, &err), ==, 0);
	while (!f->adopted) {
		g_assert_cmpint(g_get_monotonic_time(), <, end);
		fixture_turn(f, 1000000);
	}
}

void fixture_stop_daemon(struct fixture *f)
{
	service_free(f->service);
	manager_free(f->manager);
	f->service = NULL;
	f->manager = NULL;
	sd_bus_detach_event(f->client);
	sd_bus_detach_event(f->server);
	f->client = sd_bus_close_unref(f->client);
	f->server = sd_bus_close_unref(f->server);
}

struct fixture *fixture_new(void)
{
	struct fixture *f = g_new0(struct fixture, 1);

	log_set_level(LOG_LEVEL_ERROR);
	log_set_plain();
	f->worker = g_getenv("FAKE_WORKER_PATH");
	g_assert_nonnull(f->worker);
	f->dir = g_dir_make_tmp("brumed-XXXXXX", NULL);
	f->kernel = g_build_filename(f->dir, "kernel", NULL);
	g_assert_true(g_file_set_contents(f->kernel, "k", 1, NULL));
	f->log = g_ptr_array_new_with_free_func(g_free);
	g_assert_cmpint(sd_event_new(&f->event), >=, 0);
	fixture_start_daemon(f);
	return f;
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

/* Workers of a test that left some running. */
static void end_workers(struct fixture *f)
{
	GHashTableIter iter;
	gpointer vm;

	g_hash_table_iter_init(&iter, f->manager->machines);
	while (g_hash_table_iter_next(&iter, NULL, &vm))
		machine_kill(vm);
}

void fixture_free(struct fixture *f)
{
	g_unsetenv("FAKE_WORKER");
	end_workers(f);
	fixture_stop_daemon(f);
	sd_event_unref(f->event);
	sd_bus_error_free(&f->error);
	nftw(f->dir, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
	g_ptr_array_unref(f->log);
	g_free(f->dir);
	g_free(f->kernel);
	g_free(f);
}

struct answer {
	struct fixture *f;
	sd_bus_message *reply;
};

static int on_reply(sd_bus_message *reply, void *userdata, sd_bus_error *error)
{
	struct answer *answer = userdata;

	(void)error;
	answer->reply = sd_bus_message_ref(reply);
	g_ptr_array_add(answer->f->log, g_strdup("reply"));
	return 1;
}

static sd_bus_message *call_va(struct fixture *f, const char *path, const char *interface,
			       const char *method, const char *types, va_list ap)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
	_cleanup_(sd_bus_slot_unrefp) sd_bus_slot *slot = NULL;
	gint64 end = g_get_monotonic_time() + (gint64)WAIT_USEC;
	struct answer answer = { .f = f };

	sd_bus_error_free(&f->error);
	g_assert_cmpint(sd_bus_message_new_method_call(f->client, &m, NULL, path, interface,
						       method),
			>=, 0);
	if (types)
		g_assert_cmpint(sd_bus_message_appendv(m, types, ap), >=, 0);
	g_assert_cmpint(sd_bus_call_async(f->client, &slot, m, on_reply, &answer, 0), >=, 0);
	while (!answer.reply) {
		g_assert_cmpint(g_get_monotonic_time(), <, end);
		fixture_turn(f, 1000000);
	}
	if (!sd_bus_message_is_method_error(answer.reply, NULL))
		return answer.reply;
	sd_bus_error_copy(&f->error, sd_bus_message_get_error(answer.reply));
	sd_bus_message_unref(answer.reply);
	return NULL;
}

sd_bus_message *fixture_call(struct fixture *f, const char *path, const char *interface,
			     const char *method, const char *types, ...)
{
	sd_bus_message *reply;
	va_list ap;

	va_start(ap, types);
	reply = call_va(f, path, interface, method, types, ap);
	va_end(ap);
	return reply;
}

void fixture_vm_ok(struct fixture *f, const char *name, const char *method, const char *types, ...)
{
	_cleanup_free_ char *path = bus_path_vm(name);
	sd_bus_message *reply;
	va_list ap;

	va_start(ap, types);
	reply = call_va(f, path, BRUME_VM_INTERFACE, method, types, ap);
	va_end(ap);
	g_assert_cmpstr(f->error.message, ==, NULL);
	g_assert_nonnull(reply);
	sd_bus_message_unref(reply);
}

void fixture_assert_error(struct fixture *f, const char *error, const char *text)
{
	g_autofree char *full =
		strchr(error, '.') ? g_strdup(error) : g_strdup_printf(BRUME_BUS_NAME ".%s", error);

	if (g_strcmp0(f->error.name, full) != 0 || !strstr(f->error.message, text))
		g_error("expected %s with '%s', got %s: %s", full, text, f->error.name,
			f->error.message);
}

void fixture_vm_fails(struct fixture *f, const char *name, const char *error, const char *text,
		      const char *method, const char *types, ...)
{
	_cleanup_free_ char *path = bus_path_vm(name);
	sd_bus_message *reply;
	va_list ap;

	va_start(ap, types);
	reply = call_va(f, path, BRUME_VM_INTERFACE, method, types, ap);
	va_end(ap);
	g_assert_null(reply);
	fixture_assert_error(f, error, text);
}

char *fixture_config(struct fixture *f, const char *words, const char *more)
{
	return g_strdup_printf("{\"payload\":{\"kernel\":\"%s\",\"cmdline\":\"%s\"},"
			       "\"memory\":{\"size\":134217728}%s%s}",
			       f->kernel, words, more ? "," : "", more ? more : "");
}

void fixture_create(struct fixture *f, const char *name, const char *words, bool persistent)
{
	g_autofree char *config = fixture_config(f, words, NULL);
	sd_bus_message *reply;

	reply = fixture_call(f, BRUME_ROOT_PATH, BRUME_MANAGER_INTERFACE, "CreateVM",
			     "ssa{sh}a{sv}", name, config, 0, 1, "Persistent", "b",
			     (int)persistent);
	g_assert_cmpstr(f->error.message, ==, NULL);
	sd_bus_message_unref(reply);
}

char *fixture_get_string(struct fixture *f, const char *name, const char *property)
{
	_cleanup_free_ char *path = bus_path_vm(name);
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
	const char *contents, *s;
	uint64_t number = 0;
	char type;

	reply = fixture_call(f, path, "org.freedesktop.DBus.Properties", "Get", "ss",
			     BRUME_VM_INTERFACE, property);
	if (!reply)
		return NULL;
	g_assert_cmpint(sd_bus_message_peek_type(reply, &type, &contents), >, 0);
	sd_bus_message_enter_container(reply, 'v', contents);
	if (contents[0] == 's' || contents[0] == 'o') {
		g_assert_cmpint(sd_bus_message_read_basic(reply, contents[0], &s), >, 0);
		return g_strdup(s);
	}
	g_assert_cmpint(sd_bus_message_read_basic(reply, contents[0], &number), >, 0);
	return g_strdup_printf("%" G_GUINT64_FORMAT, number);
}

int fixture_find_log(struct fixture *f, const char *line)
{
	for (unsigned int i = 0; i < f->log->len; i++)
		if (g_str_equal(f->log->pdata[i], line))
			return (int)i;
	return -1;
}

bool fixture_has_log(struct fixture *f, const char *line)
{
	return fixture_find_log(f, line) >= 0;
}

void fixture_wait_log(struct fixture *f, const char *line)
{
	gint64 end = g_get_monotonic_time() + (gint64)WAIT_USEC;

	while (!fixture_has_log(f, line)) {
		if (g_get_monotonic_time() > end) {
			for (unsigned int i = 0; i < f->log->len; i++)
				g_printerr("log: %s\n", (char *)f->log->pdata[i]);
			g_error("'%s' did not come", line);
		}
		fixture_turn(f, 1000000);
	}
}

void fixture_wait_state(struct fixture *f, const char *name, enum machine_state state)
{
	gint64 end = g_get_monotonic_time() + (gint64)WAIT_USEC;

	while (manager_find(f->manager, name)->state != state) {
		g_assert_cmpint(g_get_monotonic_time(), <, end);
		fixture_turn(f, 100000);
	}
}

void fixture_wait_held(struct fixture *f, uint32_t pid)
{
	gint64 end = g_get_monotonic_time() + (gint64)WAIT_USEC;
	siginfo_t info = { 0 };

	while (waitid(P_PID, pid, &info, WSTOPPED | WNOHANG) == 0 && info.si_pid == 0) {
		g_assert_cmpint(g_get_monotonic_time(), <, end);
		fixture_turn(f, 10000);
	}
	g_assert_cmpint(info.si_code, ==, CLD_STOPPED);
}

void fixture_let_end(struct machine *vm, const struct spawn_exit *how)
{
	struct spawn_exit seen = { .known = true, .result = "exit-code" };
	siginfo_t info = { 0 };

	g_assert_cmpint(kill((pid_t)vm->spawn.pid, SIGCONT), ==, 0);
	g_assert_cmpint(waitid(P_PID, vm->spawn.pid, &info, WEXITED), ==, 0);
	seen.status = info.si_status;
	spawn_exited(&vm->spawn, how ? how : &seen);
}

void fixture_assert_nothing_left(struct fixture *f, const char *name)
{
	g_autofree char *runtime = g_build_filename(f->dir, "run", "vm", name, NULL);
	struct machine *vm = manager_find(f->manager, name);

	g_assert_cmpint(access(runtime, F_OK), ==, -1);
	if (!vm)
		return;
	g_assert_null(vm->worker);
	g_assert_null(vm->start);
	g_assert_null(vm->job);
	g_assert_null(vm->boot);
	g_assert_false(vm->spawn.active);
}
