/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A worker in hostile hands, and callers without privileges: what they send must
 * cost neither the daemon's connection to the bus nor its time
 */
#include "daemon/machine.h"
#include "daemon/manager.h"
#include "dbus/bus-path.h"
#include "tests/unit/daemon/fixture.h"
#include "vmm/base/cleanup.h"
#include "vmm/base/log.h"
#include "vmm/config/json.h"
#include <string.h>

#define WAIT "a{sv}", 1, "Wait", "b", 1
#define NONE "a{sv}", 0

static struct machine *start(struct fixture *f, const char *name, const char *words)
{
	fixture_create(f, name, words, true);
	fixture_vm_ok(f, name, "Start", WAIT);
	fixture_assert_property(f, name, "State", "running");
	return manager_find(f->manager, name);
}

static unsigned int count_log(struct fixture *f, const char *prefix)
{
	unsigned int n = 0;

	for (unsigned int i = 0; i < f->log->len; i++)
		n += g_str_has_prefix(f->log->pdata[i], prefix);
	return n;
}

/* Too long a detail and too long a name are dropped; what follows says so. */
static void test_large_event(void)
{
	struct fixture *f = fixture_new();

	start(f, "v", "fake-nmi-large");
	fixture_vm_ok(f, "v", "InjectNMI", NONE);
	fixture_wait_log(f, "Event:guest,nmi,count=1,dropped=2");
	g_assert_cmpuint(count_log(f, "Event:"), ==, 1);
	fixture_free(f);
}

static void test_large_counters(void)
{
	struct fixture *f = fixture_new();
	sd_bus_message *reply;
	const char *path;

	start(f, "bad", "fake-counters-large");
	start(f, "good", "");
	fixture_vm_fails(f, "bad", "WorkerFailed",
			 "the counters of VM 'bad' cannot be passed on: the value is too large",
			 "GetCounters", NONE);
	fixture_vm_ok(f, "good", "GetCounters", NONE);
	reply = fixture_call(f, BRUME_ROOT_PATH, BRUME_MANAGER_INTERFACE, "GetAllCounters", NONE);
	g_assert_nonnull(reply);
	g_assert_cmpint(sd_bus_message_enter_container(reply, 'a', "{oa{sa{st}}}"), >, 0);
	g_assert_cmpint(sd_bus_message_enter_container(reply, 'e', "oa{sa{st}}"), >, 0);
	g_assert_cmpint(sd_bus_message_read(reply, "o", &path), >, 0);
	g_assert_cmpstr(path, ==, "/org/brume/vm1/vm/good");
	g_assert_cmpint(sd_bus_message_skip(reply, "a{sa{st}}"), >=, 0);
	g_assert_cmpint(sd_bus_message_exit_container(reply), >, 0);
	g_assert_cmpint(sd_bus_message_at_end(reply, false), ==, 1);
	sd_bus_message_unref(reply);
	fixture_free(f);
}

/* 501 changes: some are told, and the last state is the true one. */
static void test_state_flood(void)
{
	struct fixture *f = fixture_new();
	struct machine *vm = start(f, "v", "fake-nmi-toggles");

	/* Longer than the test takes: only the burst passes. */
	vm->worker_states.interval_usec = 600 * G_USEC_PER_SEC;
	fixture_vm_ok(f, "v", "InjectNMI", NONE);
	fixture_wait_log(f, "StateChanged:running,paused,reconnected");
	fixture_assert_property(f, "v", "State", "paused");
	g_assert_cmpuint(count_log(f, "StateChanged:running,paused"), ==, 51);
	g_assert_cmpuint(count_log(f, "StateChanged:paused,running"), ==, 50);
	fixture_free(f);
}

/* The same for its size. */
static void test_size_flood(void)
{
	g_autofree char *last = g_strdup_printf("%u", 501U << 16);
	struct fixture *f = fixture_new();
	struct machine *vm = start(f, "v", "fake-nmi-sizes");
	gint64 end = g_get_monotonic_time() + 10 * G_USEC_PER_SEC;

	vm->worker_sizes.interval_usec = 600 * G_USEC_PER_SEC;
	fixture_vm_ok(f, "v", "InjectNMI", NONE);
	while (vm->sizes.memory != 501U << 16) {
		g_assert_cmpint(g_get_monotonic_time(), <, end);
		fixture_turn(f, 100000);
	}
	fixture_assert_property(f, "v", "Memory", last);
	g_assert_cmpuint(vm->worker_sizes.dropped, ==, 401);
	fixture_free(f);
}

static void test_hangs_up(void)
{
	struct fixture *f = fixture_new();
	struct machine *vm = start(f, "v", "fake-query-closes fake-nmi-toggles");

	log_set_level(0); /* that it was killed is an error in the log */
	fixture_vm_ok(f, "v", "InjectNMI", NONE);
	fixture_wait_state(f, "v", MACHINE_STATE_CRASHED);
	log_set_level(LOG_LEVEL_ERROR);
	fixture_assert_property(f, "v", "StateReason", "worker-misbehaved");
	fixture_assert_property(f, "v", "LastExitReason", "worker-misbehaved");
	fixture_assert_nothing_left(f, "v");
	/* Its successor is not blamed: each worker hangs up once, when it ends. */
	vm->worker_losses.used = vm->worker_losses.burst;
	fixture_vm_ok(f, "v", "Start", WAIT);
	fixture_assert_property(f, "v", "State", "running");
	g_assert_cmpuint(vm->worker_losses.used, ==, 0);
	fixture_free(f);
}

static char *large_text(void)
{
	GString *text = g_string_new("{\"n\":[0");

	while (text->len < CONFIG_JSON_MAX - 16)
		g_string_append(text, ",0");
	g_string_append(text, "]}");
	return g_string_free(text, FALSE);
}

/* Judged before anybody is asked whether the caller may. */
static void test_large_text(void)
{
	static const char *const wrong[] = { "too many values, must be at most 100000 in all",
					     "is too long, must be at most 524288" };
	struct fixture *f = fixture_new();
	const char *severity, *pointer, *text;
	sd_bus_message *reply;

	fixture_create(f, "v", "", true);
	for (size_t i = 0; i < G_N_ELEMENTS(wrong); i++) {
		g_autofree char *config = i ? g_strnfill(CONFIG_JSON_MAX + 1, ' ') : large_text();

		reply = fixture_call(f, BRUME_ROOT_PATH, BRUME_MANAGER_INTERFACE, "ValidateConfig",
				     "sa{sv}", config, 0);
		g_assert_nonnull(reply);
		g_assert_cmpint(sd_bus_message_enter_container(reply, 'a', "(sss)"), >, 0);
		g_assert_cmpint(sd_bus_message_read(reply, "(sss)", &severity, &pointer, &text), >,
				0);
		g_test_message("%s", text);
		g_assert_nonnull(strstr(text, wrong[i]));
		g_assert_cmpint(sd_bus_message_at_end(reply, false), ==, 1);
		sd_bus_message_unref(reply);
		g_assert_null(fixture_call(f, BRUME_ROOT_PATH, BRUME_MANAGER_INTERFACE, "CreateVM",
					   "ssa{sh}a{sv}", "n", config, 0, 0));
		fixture_assert_error(f, "InvalidConfig", wrong[i]);
		fixture_vm_fails(f, "v", "InvalidConfig", wrong[i], "SetConfig", "sa{sv}", config,
				 0);
	}
	fixture_free(f);
}

static sd_bus_message *new_call(struct fixture *f, const char *method, const char *path,
				const char *interface)
{
	sd_bus_message *m;

	g_assert_cmpint(sd_bus_message_new_method_call(f->client, &m, NULL, path, interface,
						       method),
			>=, 0);
	return m;
}

static void append_properties(sd_bus_message *m)
{
	g_assert_cmpint(sd_bus_message_open_container(m, 'a', "(sv)"), >=, 0);
	for (int i = 0; i < 20000; i++)
		g_assert_cmpint(sd_bus_message_append(m, "(sv)", "CPUWeight", "t", UINT64_C(100)),
				>=, 0);
	g_assert_cmpint(sd_bus_message_close_container(m), >=, 0);
}

static int on_answer(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	struct fixture *f = userdata;

	(void)error;
	g_assert_true(sd_bus_message_is_method_error(m, NULL));
	sd_bus_error_copy(&f->error, sd_bus_message_get_error(m));
	g_ptr_array_add(f->log, g_strdup("answer"));
	return 1;
}

static void expect_too_large(struct fixture *f, sd_bus_message *m)
{
	sd_bus_error_free(&f->error);
	g_ptr_array_set_size(f->log, 0);
	g_assert_cmpint(sd_bus_call_async(f->client, NULL, m, on_answer, f, 0), >=, 0);
	fixture_wait_log(f, "answer");
	fixture_assert_error(f, "org.freedesktop.DBus.Error.InvalidArgs", "the value is too large");
	sd_bus_message_unref(m);
}

static void test_many_properties(void)
{
	struct fixture *f = fixture_new();
	sd_bus_message *m;

	fixture_create(f, "v", "", true);
	m = new_call(f, "SetResourceProperties", "/org/brume/vm1/vm/v", BRUME_VM_INTERFACE);
	g_assert_cmpint(sd_bus_message_append(m, "b", 0), >=, 0);
	append_properties(m);
	g_assert_cmpint(sd_bus_message_append(m, NONE), >=, 0);
	expect_too_large(f, m);

	m = new_call(f, "CreateVM", BRUME_ROOT_PATH, BRUME_MANAGER_INTERFACE);
	g_assert_cmpint(sd_bus_message_append(m, "ssa{sh}", "n", "{}", 0), >=, 0);
	g_assert_cmpint(sd_bus_message_open_container(m, 'a', "{sv}"), >=, 0);
	g_assert_cmpint(sd_bus_message_open_container(m, 'e', "sv"), >=, 0);
	g_assert_cmpint(sd_bus_message_append(m, "s", "WorkerProperties"), >=, 0);
	g_assert_cmpint(sd_bus_message_open_container(m, 'v', "a(sv)"), >=, 0);
	append_properties(m);
	for (int i = 0; i < 3; i++)
		g_assert_cmpint(sd_bus_message_close_container(m), >=, 0);
	expect_too_large(f, m);
	fixture_free(f);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/daemon/hostile-worker/large-event", test_large_event);
	g_test_add_func("/daemon/hostile-worker/large-counters", test_large_counters);
	g_test_add_func("/daemon/hostile-worker/state-flood", test_state_flood);
	g_test_add_func("/daemon/hostile-worker/size-flood", test_size_flood);
	g_test_add_func("/daemon/hostile-worker/hangs-up", test_hangs_up);
	g_test_add_func("/daemon/hostile-caller/large-text", test_large_text);
	g_test_add_func("/daemon/hostile-caller/many-properties", test_many_properties);
	return g_test_run();
}
