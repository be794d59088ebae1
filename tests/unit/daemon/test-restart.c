/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A daemon that dies and comes back: every VM is what it was,
 * and files that cannot be understood are kept
 */
#include "daemon/autostart.h"
#include "daemon/machine.h"
#include "daemon/manager.h"
#include "daemon/spawner.h"
#include "dbus/bus-path.h"
#include "tests/unit/daemon/fixture.h"
#include "vmm/api/protocol.h"
#include "vmm/base/cleanup.h"
#include "vmm/base/log.h"
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define WAIT "a{sv}", 1, "Wait", "b", 1
#define NONE "a{sv}", 0

static void restart(struct fixture *f)
{
	fixture_stop_daemon(f);
	g_ptr_array_set_size(f->log, 0);
	fixture_start_daemon(f);
}

static void start(struct fixture *f, const char *name, const char *words, bool persistent)
{
	fixture_create(f, name, words, persistent);
	fixture_vm_ok(f, name, "Start", WAIT);
}

static void put(struct fixture *f, const char *name, const char *text)
{
	g_autofree char *path = g_build_filename(f->dir, name, NULL);
	g_autofree char *dir = g_path_get_dirname(path);

	g_assert_cmpint(g_mkdir_with_parents(dir, 0700), ==, 0);
	g_assert_true(g_file_set_contents(path, text, -1, NULL));
}

static bool exists(struct fixture *f, const char *name)
{
	g_autofree char *path = g_build_filename(f->dir, name, NULL);

	return access(path, F_OK) == 0;
}

static uint32_t worker_pid(struct fixture *f, const char *name)
{
	return manager_find(f->manager, name)->spawn.pid;
}

static void test_running(void)
{
	struct fixture *f = fixture_new();
	g_autofree char *uuid = NULL;
	uint32_t pid;

	start(f, "run", "", true);
	start(f, "paused", "", true);
	start(f, "guest", "", false);
	fixture_create(f, "idle", "", true);
	fixture_vm_ok(f, "paused", "Pause", NONE);
	fixture_vm_ok(f, "run", "Reset", NONE);
	fixture_vm_ok(f, "guest", "SetDescription", "sa{sv}", "a transient one", 0);
	uuid = fixture_get_string(f, "run", "UUID");
	pid = worker_pid(f, "run");

	restart(f);
	fixture_assert_property(f, "run", "State", "running");
	fixture_assert_property(f, "run", "UUID", uuid);
	fixture_assert_property(f, "paused", "State", "paused");
	fixture_assert_property(f, "guest", "State", "running");
	fixture_assert_property(f, "guest", "Persistent", "0");
	fixture_assert_property(f, "guest", "Description", "a transient one");
	fixture_assert_property(f, "idle", "State", "stopped");
	g_assert_cmpuint(worker_pid(f, "run"), ==, pid);
	g_assert_cmpuint(manager_find(f->manager, "run")->n_boots, ==, 2);
	g_assert_cmpuint(f->manager->n_running, ==, 3);

	/* And they are ours again in every way. */
	fixture_vm_ok(f, "paused", "Resume", NONE);
	fixture_assert_property(f, "paused", "State", "running");
	fixture_vm_ok(f, "run", "Shutdown", WAIT);
	fixture_assert_property(f, "run", "State", "stopped");
	fixture_assert_property(f, "run", "LastExitReason", "guest-shutdown");
	fixture_assert_nothing_left(f, "run");
	fixture_vm_ok(f, "guest", "Terminate", NONE);
	g_assert_null(manager_find(f->manager, "guest"));
	fixture_vm_ok(f, "run", "Start", WAIT);
	fixture_free(f);
}

static void kill_worker(uint32_t pid)
{
	g_assert_cmpint(kill((pid_t)pid, SIGKILL), ==, 0);
	/* In these tests the worker is the test's child; elsewhere it is not the new daemon's. */
	g_assert_cmpint(waitpid((pid_t)pid, NULL, 0), ==, (pid_t)pid);
}

/* The same end is the same reason, whether a daemon saw it or found it. */
static const struct {
	struct spawn_exit how;
	const char *seen, *found; /* found NULL: the same */
} exits[] = {
	{ { true, "success", false, 0 }, "guest-shutdown", NULL },
	{ { true, "exit-code", false, WORKER_EXIT_TRIPLE_FAULT }, "triple-fault", NULL },
	{ { true, "exit-code", false, WORKER_EXIT_VM }, "failed", NULL },
	{ { true, "signal", true, SIGSEGV }, "signal", NULL },
	{ { true, "signal", true, WORKER_EXIT_TRIPLE_FAULT }, "signal", NULL },
	{ { true, "core-dump", true, SIGSEGV }, "core-dump", NULL },
	{ { true, "watchdog", true, SIGABRT }, "watchdog", NULL },
	{ { true, "oom-kill", true, SIGKILL }, "oom-kill", NULL },
	{ { true, "timeout", true, SIGKILL }, "timeout", NULL },
	{ { true, "resources", false, 0 }, "failed", NULL },
	{ { true, "protocol", false, 0 }, "failed", NULL },
	/* systemd forgets what ended well. */
	{ { false, "", false, 0 }, "failed", "guest-shutdown" },
};

static void test_exit_reasons(void)
{
	struct fixture *f = fixture_new();

	fixture_create(f, "e", "", true);
	log_set_level(0);
	for (size_t i = 0; i < 2 * ARRAY_SIZE(exits); i++) {
		size_t row = i / 2;
		bool found = i % 2, clean;
		const char *reason = found && exits[row].found ? exits[row].found : exits[row].seen;
		struct machine *vm = manager_find(f->manager, "e");
		pid_t pid;

		fixture_vm_ok(f, "e", "Start", WAIT);
		pid = (pid_t)vm->spawn.pid;
		if (found) {
			vm->adopting = true;
			f->manager->n_adopting++;
		}
		g_assert_cmpint(kill(pid, SIGKILL), ==, 0);
		g_assert_cmpint(waitpid(pid, NULL, 0), ==, pid);
		spawn_exited(&vm->spawn, &exits[row].how);
		g_test_message("row %zu, %s", row, found ? "found" : "seen");
		clean = g_str_equal(reason, "guest-shutdown");
		fixture_assert_property(f, "e", "State", clean ? "stopped" : "crashed");
		fixture_assert_property(f, "e", "LastExitReason", reason);
		g_assert_cmpint(vm->last_exit_status, ==, exits[row].how.status);
		fixture_assert_nothing_left(f, "e");
	}
	log_set_level(LOG_LEVEL_ERROR);
	fixture_free(f);
}

/* It ends between being found and being asked: what it said is in the socket. */
static void test_found_words(void)
{
	struct spawn_exit unknown = { 0 };
	struct fixture *f = fixture_new();
	struct machine *vm;

	start(f, "w", "fake-nmi-held-fault", true);
	fixture_vm_ok(f, "w", "InjectNMI", NONE);
	vm = manager_find(f->manager, "w");
	fixture_wait_held(f, vm->spawn.pid);
	vm->adopting = true;
	f->manager->n_adopting++;
	fixture_let_end(vm, &unknown);
	fixture_assert_property(f, "w", "State", "crashed");
	fixture_assert_property(f, "w", "LastExitReason", "triple-fault");
	fixture_assert_nothing_left(f, "w");
	fixture_free(f);
}

/* Its definition is lost, but its state file holds it. */
static void test_written_back(void)
{
	static const char *const lost[] = { NULL, "{" };
	struct fixture *f = fixture_new();

	start(f, "b", "", true);
	start(f, "t", "", false);
	log_set_level(0);
	for (size_t i = 0; i < ARRAY_SIZE(lost); i++) {
		g_autofree char *path = g_build_filename(f->dir, "state", "b.json", NULL);

		fixture_stop_daemon(f);
		g_assert_cmpint(unlink(path), ==, 0);
		if (lost[i])
			put(f, "state/b.json", lost[i]);
		fixture_start_daemon(f);
		fixture_assert_property(f, "b", "State", "running");
		fixture_assert_property(f, "b", "Persistent", "1");
		g_assert_true(exists(f, "state/b.json"));
		g_assert_false(exists(f, "state/t.json"));
	}
	log_set_level(LOG_LEVEL_ERROR);
	fixture_vm_ok(f, "b", "Terminate", NONE);
	restart(f);
	fixture_assert_property(f, "b", "State", "stopped");
	fixture_vm_ok(f, "b", "Start", WAIT);
	fixture_free(f);
}

/* Each of 256 vCPUs may run on each of 256 CPUs: 300 KB of numbers. */
static char *big_config(struct fixture *f)
{
	g_autoptr(GString) cpus = g_string_new("\"cpus\":{\"boot_vcpus\":256,\"affinity\":[");

	for (unsigned int i = 0; i < 256; i++) {
		g_string_append_printf(cpus, "%s{\"vcpu\":%u,\"host_cpus\":[", i ? "," : "", i);
		for (unsigned int c = 0; c < 256; c++)
			g_string_append_printf(cpus, "%s%u", c ? "," : "", c);
		g_string_append(cpus, "]}");
	}
	g_string_append(cpus, "]}");
	return fixture_config(f, "", cpus->str);
}

static void test_big(void)
{
	struct fixture *f = fixture_new();
	g_autofree char *config = big_config(f);
	sd_bus_message *reply;
	uint32_t pid;

	for (unsigned int i = 0; i < 2; i++) {
		reply = fixture_call(f, BRUME_ROOT_PATH, BRUME_MANAGER_INTERFACE, "CreateVM",
				     "ssa{sh}a{sv}", i ? "idle" : "big", config, 0, 0);
		g_assert_cmpstr(f->error.message, ==, NULL);
		sd_bus_message_unref(reply);
	}
	fixture_vm_ok(f, "big", "Start", WAIT);
	pid = worker_pid(f, "big");
	restart(f);
	fixture_assert_property(f, "idle", "State", "stopped");
	fixture_assert_property(f, "big", "State", "running");
	g_assert_cmpuint(worker_pid(f, "big"), ==, pid);
	g_assert_cmpstr(manager_find(f->manager, "big")->boot_config, ==,
			manager_find(f->manager, "idle")->def.config);
	fixture_free(f);
}

static void test_worker_gone(void)
{
	struct fixture *f = fixture_new();
	uint32_t pid, transient;

	start(f, "gone", "", true);
	start(f, "tgone", "", false);
	pid = worker_pid(f, "gone");
	transient = worker_pid(f, "tgone");
	fixture_stop_daemon(f);
	kill_worker(pid);
	kill_worker(transient);
	fixture_start_daemon(f);
	fixture_assert_property(f, "gone", "State", "stopped");
	g_assert_null(manager_find(f->manager, "tgone"));
	fixture_assert_nothing_left(f, "gone");
	fixture_assert_nothing_left(f, "tgone");
	g_assert_cmpuint(f->manager->n_running, ==, 0);
	fixture_vm_ok(f, "gone", "Start", WAIT);
	fixture_free(f);
}

static void test_start_cut_short(void)
{
	struct fixture *f = fixture_new();

	g_setenv("FAKE_WORKER", "silent", true);
	fixture_create(f, "cut", "", true);
	fixture_vm_ok(f, "cut", "Start", NONE);
	fixture_assert_property(f, "cut", "State", "starting");
	g_unsetenv("FAKE_WORKER");
	restart(f);
	fixture_assert_property(f, "cut", "State", "failed");
	fixture_assert_property(f, "cut", "StateReason", "daemon-restarted");
	fixture_assert_nothing_left(f, "cut");
	fixture_vm_ok(f, "cut", "Start", WAIT);
	fixture_assert_property(f, "cut", "State", "running");
	fixture_free(f);
}

/* The same when there is nobody left to ask: a missing worker is no guest that turned itself off.
 */
static void test_start_cut_gone(void)
{
	struct fixture *f = fixture_new();
	uint32_t pid;

	g_setenv("FAKE_WORKER", "silent", true);
	fixture_create(f, "cut", "", true);
	fixture_create(f, "tcut", "", false);
	fixture_vm_ok(f, "cut", "Start", NONE);
	fixture_vm_ok(f, "tcut", "Start", NONE);
	g_unsetenv("FAKE_WORKER");
	pid = worker_pid(f, "cut");
	fixture_stop_daemon(f);
	kill_worker(pid);
	fixture_start_daemon(f);
	fixture_assert_property(f, "cut", "State", "failed");
	fixture_assert_property(f, "cut", "StateReason", "daemon-restarted");
	fixture_assert_property(f, "cut", "LastExitReason", "daemon-restarted");
	fixture_assert_nothing_left(f, "cut");
	g_assert_null(manager_find(f->manager, "tcut"));
	fixture_assert_nothing_left(f, "tcut");
	fixture_vm_ok(f, "cut", "Start", WAIT);
	/* From here on it may have a guest, and is asked. */
	g_assert_false(manager_find(f->manager, "cut")->preparing);
	restart(f);
	fixture_assert_property(f, "cut", "State", "running");
	fixture_free(f);
}

static void create_with_file(struct fixture *f, const char *name, const char *file)
{
	g_autofree char *serial =
		g_strdup_printf("\"serial\":{\"mode\":\"File\",\"file\":\"%s/%s\"}", f->dir, file);
	g_autofree char *config = fixture_config(f, "", serial);
	sd_bus_message *reply;

	reply = fixture_call(f, BRUME_ROOT_PATH, BRUME_MANAGER_INTERFACE, "CreateVM",
			     "ssa{sh}a{sv}", name, config, 0, 0);
	g_assert_cmpstr(f->error.message, ==, NULL);
	sd_bus_message_unref(reply);
}

static void wait_created(struct fixture *f, const char *name)
{
	g_autofree char *path = g_build_filename(f->dir, "run", "vm", name, "state", NULL);
	gint64 end = g_get_monotonic_time() + 10 * G_USEC_PER_SEC;
	bool created = false;

	while (!created) {
		g_autofree char *text = NULL;

		g_assert_cmpint(g_get_monotonic_time(), <, end);
		fixture_turn(f, 100000);
		g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
		created = strstr(text, "\"created\"");
	}
}

/* Output files that a start has made go with it, unless somebody has used them. */
static void test_start_cut_files(void)
{
	struct fixture *f = fixture_new();
	gint64 end;

	g_setenv("FAKE_WORKER", "silent", true);
	create_with_file(f, "made", "made.out");
	create_with_file(f, "used", "used.out");
	put(f, "old.out", "");
	create_with_file(f, "old", "old.out");
	fixture_vm_ok(f, "made", "Start", NONE);
	fixture_vm_ok(f, "used", "Start", NONE);
	fixture_vm_ok(f, "old", "Start", NONE);
	g_unsetenv("FAKE_WORKER");
	wait_created(f, "made");
	wait_created(f, "used");
	g_assert_true(exists(f, "made.out"));
	put(f, "used.out", "x");
	log_set_level(0);
	restart(f);
	log_set_level(LOG_LEVEL_ERROR);
	fixture_assert_property(f, "made", "State", "failed");
	end = g_get_monotonic_time() + 10 * G_USEC_PER_SEC;
	while (exists(f, "made.out")) {
		g_assert_cmpint(g_get_monotonic_time(), <, end);
		g_usleep(1000);
	}
	g_assert_true(exists(f, "used.out"));
	g_assert_true(exists(f, "old.out"));
	fixture_vm_ok(f, "made", "Start", WAIT);
	/* Over and done: a running one keeps its file over a restart, empty as it is. */
	restart(f);
	fixture_assert_property(f, "made", "State", "running");
	g_assert_true(exists(f, "made.out"));
	fixture_free(f);
}

/* Without waiting for the answer. */
static void send_terminate(struct fixture *f, const char *name)
{
	_cleanup_free_ char *path = bus_path_vm(name);
	sd_bus_message *m = NULL;

	g_assert_cmpint(sd_bus_message_new_method_call(f->client, &m, NULL, path,
						       BRUME_VM_INTERFACE, "Terminate"),
			>=, 0);
	g_assert_cmpint(sd_bus_message_append(m, "a{sv}", 0), >=, 0);
	g_assert_cmpint(sd_bus_send(f->client, m, NULL), >=, 0);
	sd_bus_message_unref(m);
}

/* A daemon that dies between Terminate and the end of the worker. */
static void test_terminating(void)
{
	struct fixture *f = fixture_new();
	uint32_t pid;

	start(f, "t", "fake-no-quit", true);
	f->manager->quit_grace_usec = 60 * G_USEC_PER_SEC;
	pid = worker_pid(f, "t");
	send_terminate(f, "t");
	while (!manager_find(f->manager, "t")->terminating)
		fixture_turn(f, 100000);
	fixture_stop_daemon(f);
	kill_worker(pid);
	fixture_start_daemon(f);
	fixture_assert_property(f, "t", "State", "stopped");
	fixture_assert_property(f, "t", "LastExitReason", "terminated");
	fixture_free(f);
}

/* The same with a worker that never heard the Quit: the end goes on, and is waited for. */
static void test_terminating_alive(void)
{
	struct fixture *f = fixture_new();

	start(f, "t", "fake-no-quit", true);
	start(f, "q", "", true);
	start(f, "s", "fake-deaf fake-no-quit", true);
	f->manager->quit_grace_usec = 60 * G_USEC_PER_SEC;
	send_terminate(f, "t");
	fixture_vm_ok(f, "s", "Shutdown", "a{sv}", 2, "TimeoutUSec", "t", (uint64_t)20000, "Force",
		      "b", 1);
	while (!manager_find(f->manager, "t")->terminating ||
	       !manager_find(f->manager, "s")->terminating)
		fixture_turn(f, 100000);
	/* As if the daemon had died before the Quit went out. */
	manager_find(f->manager, "q")->terminating = true;
	g_assert_cmpint(machine_save_runtime(manager_find(f->manager, "q"), NULL), ==, 0);
	restart(f);
	fixture_wait_state(f, "t", MACHINE_STATE_STOPPED);
	fixture_wait_state(f, "q", MACHINE_STATE_STOPPED);
	fixture_assert_property(f, "t", "LastExitReason", "terminated");
	fixture_assert_property(f, "q", "LastExitReason", "terminated");
	fixture_wait_log(f, "JobRemoved:/org/brume/vm1/job/4,/org/brume/vm1/vm/s,done,,");
	fixture_assert_property(f, "s", "State", "stopped");
	fixture_vm_ok(f, "t", "Start", WAIT);
	fixture_vm_ok(f, "t", "Terminate", NONE);
	fixture_assert_nothing_left(f, "t");
	fixture_free(f);
}

/* Jobs keep their numbers, deadlines and orders. */
static void test_jobs(void)
{
	struct fixture *f = fixture_new();

	start(f, "s", "fake-deaf", true);
	start(f, "r", "fake-second-button", true);
	fixture_vm_ok(f, "s", "Shutdown", "a{sv}", 2, "TimeoutUSec", "t", (uint64_t)300000, "Force",
		      "b", 1);
	f->manager->button_interval_usec = 60 * G_USEC_PER_SEC;
	fixture_vm_ok(f, "r", "Reboot", NONE);
	restart(f);
	fixture_assert_property(f, "s", "CurrentJob", "/org/brume/vm1/job/3");
	fixture_assert_property(f, "s", "State", "shutting-down");
	fixture_wait_log(f, "JobRemoved:/org/brume/vm1/job/4,/org/brume/vm1/vm/r,done,,");
	fixture_assert_property(f, "r", "State", "running");
	fixture_wait_log(f, "JobRemoved:/org/brume/vm1/job/3,/org/brume/vm1/vm/s,done,,");
	fixture_assert_property(f, "s", "State", "stopped");
	fixture_assert_nothing_left(f, "s");
	fixture_vm_ok(f, "s", "Start", WAIT);
	g_assert_cmpuint(f->manager->last_job_id, ==, 5);
	fixture_free(f);
}

/* Whoever holds the number of a job that is over must not meet another's. */
static void test_job_numbers(void)
{
	struct fixture *f = fixture_new();

	start(f, "a", "", true);
	start(f, "b", "", true);
	restart(f);
	fixture_vm_ok(f, "a", "Terminate", NONE);
	fixture_vm_ok(f, "a", "Start", WAIT);
	g_assert_true(fixture_has_log(f, "JobRemoved:/org/brume/vm1/job/3,/org/brume/vm1/vm/a,"
					 "done,,"));
	fixture_stop_daemon(f);
	put(f, "run/last-job", "4294967295\n");
	fixture_start_daemon(f);
	fixture_vm_ok(f, "a", "Terminate", NONE);
	fixture_vm_ok(f, "a", "Start", WAIT);
	g_assert_cmpuint(f->manager->last_job_id, ==, 1); /* 0 is none */
	fixture_stop_daemon(f);
	put(f, "run/last-job", "many\n");
	log_set_level(0);
	fixture_start_daemon(f);
	log_set_level(LOG_LEVEL_ERROR);
	fixture_vm_ok(f, "b", "Shutdown", WAIT);
	fixture_free(f);
}

static void test_reconnect(void)
{
	struct fixture *f = fixture_new();
	g_autofree char *control = NULL;
	g_autofree char *address = NULL;
	sd_bus *debugger = NULL;

	start(f, "c", "", true);
	control = g_build_filename(f->dir, "run", "vm", "c", "control", NULL);
	address = g_strdup_printf("unix:path=%s", control);
	/* Somebody debugs with busctl: the worker drops our connection for theirs. */
	g_assert_cmpint(sd_bus_new(&debugger), >=, 0);
	g_assert_cmpint(sd_bus_set_address(debugger, address), >=, 0);
	g_assert_cmpint(sd_bus_start(debugger), >=, 0);
	while (manager_find(f->manager, "c")->worker)
		fixture_turn(f, 100000);
	fixture_assert_property(f, "c", "State", "running");
	fixture_vm_fails(f, "c", "WorkerFailed", "there is no connection to the worker", "Pause",
			 NONE);
	sd_bus_close_unref(debugger);
	while (!manager_find(f->manager, "c")->worker)
		fixture_turn(f, 100000);
	fixture_vm_ok(f, "c", "Pause", NONE);
	fixture_free(f);
}

/* Its end may be on its way already: a shutdown waits for it instead of failing. */
static void test_shutdown_unconnected(void)
{
	struct fixture *f = fixture_new();
	g_autofree char *control = NULL, *address = NULL;
	sd_bus *debugger = NULL;

	start(f, "u", "", true);
	control = g_build_filename(f->dir, "run", "vm", "u", "control", NULL);
	address = g_strdup_printf("unix:path=%s", control);
	g_assert_cmpint(sd_bus_new(&debugger), >=, 0);
	g_assert_cmpint(sd_bus_set_address(debugger, address), >=, 0);
	g_assert_cmpint(sd_bus_start(debugger), >=, 0);
	while (manager_find(f->manager, "u")->worker)
		fixture_turn(f, 100000);
	fixture_vm_fails(f, "u", "WorkerFailed", "there is no connection to the worker", "Reboot",
			 NONE);
	fixture_vm_ok(f, "u", "Shutdown", NONE);
	fixture_assert_property(f, "u", "State", "shutting-down");
	sd_bus_close_unref(debugger);
	fixture_wait_state(f, "u", MACHINE_STATE_STOPPED);
	fixture_assert_property(f, "u", "LastExitReason", "guest-shutdown");
	fixture_assert_nothing_left(f, "u");
	fixture_free(f);
}

/* A connection that cannot be made at once, and what was missed meanwhile. */
static void test_reconnect_late(void)
{
	struct fixture *f = fixture_new();
	g_autofree char *control = NULL, *hidden = NULL, *address = NULL;
	sd_bus *debugger = NULL;

	start(f, "c", "", true);
	control = g_build_filename(f->dir, "run", "vm", "c", "control", NULL);
	hidden = g_build_filename(f->dir, "run", "hidden", NULL);
	address = g_strdup_printf("unix:path=%s", control);
	g_assert_cmpint(sd_bus_new(&debugger), >=, 0);
	g_assert_cmpint(sd_bus_set_address(debugger, address), >=, 0);
	g_assert_cmpint(sd_bus_start(debugger), >=, 0);
	g_assert_cmpint(sd_bus_call_method(debugger, NULL, PROTOCOL_OBJECT, PROTOCOL_INTERFACE,
					   "Reset", NULL, NULL, NULL),
			>=, 0);
	g_assert_cmpint(sd_bus_call_method(debugger, NULL, PROTOCOL_OBJECT, PROTOCOL_INTERFACE,
					   "Pause", NULL, NULL, NULL),
			>=, 0);
	g_assert_cmpint(rename(control, hidden), ==, 0);
	while (manager_find(f->manager, "c")->worker)
		fixture_turn(f, 100000);
	sd_bus_close_unref(debugger);
	log_set_level(0);
	for (gint64 end = g_get_monotonic_time() + 100000; g_get_monotonic_time() < end;)
		fixture_turn(f, 10000);
	log_set_level(LOG_LEVEL_ERROR);
	g_assert_null(manager_find(f->manager, "c")->worker);
	fixture_assert_property(f, "c", "State", "running");
	g_assert_cmpint(rename(hidden, control), ==, 0);
	fixture_wait_state(f, "c", MACHINE_STATE_PAUSED);
	fixture_assert_property(f, "c", "StateReason", "reconnected");
	g_assert_cmpuint(manager_find(f->manager, "c")->n_boots, ==, 2);
	fixture_vm_ok(f, "c", "Resume", NONE);
	fixture_free(f);
}

static const struct {
	const char *name, *text;
} damaged[] = {
	{ "empty", "" },
	{ "cut", "{\"name\":\"cut\",\"uuid\"" },
	{ "list", "[]" },
	{ "number", "7" },
	{ "nouuid", "{\"name\":\"nouuid\",\"owner\":0,\"config\":{}}" },
	{ "other",
	  "{\"name\":\"another\",\"uuid\":\"ba5b7c4093494 41db98b8c060ac12f7e\",\"owner\":0,"
	  "\"config\":{}}" },
	{ "badconfig", "{\"name\":\"badconfig\",\"uuid\":\"ba5b7c40-9349-441d-b98b-8c060ac12f7e\","
		       "\"owner\":0,\"config\":{\"cpus\":{\"boot_vcpus\":0}}}" },
};

/* Its worker runs on: neither it nor the way to it is touched, and Start says so. */
static void test_damaged_alive(void)
{
	struct fixture *f = fixture_new();
	uint32_t pid;

	start(f, "live", "", true);
	pid = worker_pid(f, "live");
	fixture_stop_daemon(f);
	put(f, "run/vm/live/state", "{");
	log_set_level(0);
	fixture_start_daemon(f);
	fixture_assert_property(f, "live", "State", "stopped");
	fixture_vm_fails(f, "live", "WorkerFailed", "has a worker already that nothing is known",
			 "Start", WAIT);
	g_assert_true(exists(f, "run/vm/live/control"));
	restart(f);
	g_assert_true(exists(f, "run/vm/live/control"));
	g_assert_true(exists(f, "run/live.state.damaged"));
	log_set_level(LOG_LEVEL_ERROR);
	kill_worker(pid);
	fixture_vm_ok(f, "live", "Start", WAIT);
	fixture_assert_property(f, "live", "State", "running");
	fixture_free(f);
}

static void test_damaged(void)
{
	struct fixture *f = fixture_new();

	fixture_create(f, "good", "", true);
	fixture_stop_daemon(f);
	for (size_t i = 0; i < ARRAY_SIZE(damaged); i++) {
		g_autofree char *name = g_strdup_printf("state/%s.json", damaged[i].name);

		put(f, name, damaged[i].text);
	}
	put(f, "state/good.json.new", "{");
	put(f, "run/vm/broken/state", "{\"name\":");
	put(f, "run/vm/other/state", "{}");
	log_set_level(0);
	fixture_start_daemon(f);
	log_set_level(LOG_LEVEL_ERROR);
	g_assert_cmpuint(g_hash_table_size(f->manager->machines), ==, 1);
	fixture_assert_property(f, "good", "State", "stopped");
	for (size_t i = 0; i < ARRAY_SIZE(damaged); i++) {
		g_autofree char *path =
			g_strdup_printf("%s/state/%s.json.damaged", f->dir, damaged[i].name);
		g_autofree char *text = NULL;

		g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
		g_assert_cmpstr(text, ==, damaged[i].text);
	}
	/* The state files are kept elsewhere: the names are free. */
	g_assert_true(exists(f, "run/broken.state.damaged"));
	g_assert_true(exists(f, "run/other.state.damaged"));
	fixture_assert_nothing_left(f, "broken");
	fixture_create(f, "broken", "", true);
	fixture_vm_ok(f, "broken", "Start", WAIT);
	fixture_vm_ok(f, "broken", "Terminate", NONE);
	/* The same name again: the first damaged file is not overwritten. */
	fixture_stop_daemon(f);
	put(f, "state/empty.json", "x");
	log_set_level(0);
	fixture_start_daemon(f);
	log_set_level(LOG_LEVEL_ERROR);
	{
		g_autofree char *path =
			g_build_filename(f->dir, "state", "empty.json.damaged-1", NULL);

		g_assert_cmpint(access(path, F_OK), ==, 0);
	}
	fixture_free(f);
}

static void test_autostart(void)
{
	struct fixture *f = fixture_new();

	fixture_create(f, "auto", "", true);
	fixture_create(f, "manual", "", true);
	fixture_vm_ok(f, "auto", "SetAutostart", "ba{sv}", 1, 0);
	restart(f);
	fixture_assert_property(f, "auto", "Autostart", "1");
	autostart_run(f->manager->autostart);
	fixture_wait_log(f, "StateChanged:starting,running,started");
	fixture_assert_property(f, "auto", "State", "running");
	fixture_assert_property(f, "manual", "State", "stopped");
	/* Only once after a boot of the host. */
	fixture_vm_ok(f, "auto", "Terminate", NONE);
	restart(f);
	autostart_run(f->manager->autostart);
	fixture_assert_property(f, "auto", "State", "stopped");
	fixture_free(f);
}

static char *autostart_left(struct fixture *f)
{
	g_autofree char *path = g_build_filename(f->dir, "run", "autostart", NULL);
	char *text = NULL;

	g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
	return text;
}

static void create_autostart(struct fixture *f, const char *name, const char *words)
{
	fixture_create(f, name, words, true);
	fixture_vm_ok(f, name, "SetAutostart", "ba{sv}", 1, 0);
}

/* The daemon dies in the middle of it: the next one goes on, with what is left only. */
static void test_autostart_cut(void)
{
	struct fixture *f = fixture_new();
	g_autofree char *left = NULL, *then = NULL;

	create_autostart(f, "a-fails", "fake-start-fails");
	create_autostart(f, "b-runs", "");
	create_autostart(f, "c-off", "fake-start-hangs");
	create_autostart(f, "d-hangs", "fake-start-hangs");
	create_autostart(f, "e-deleted", "");
	for (unsigned int i = 0; i < 5; i++) {
		g_autofree char *name = g_strdup_printf("f%u", i);

		create_autostart(f, name, "fake-start-hangs");
	}
	log_set_level(0);
	autostart_run(f->manager->autostart);
	fixture_wait_state(f, "a-fails", MACHINE_STATE_FAILED);
	fixture_wait_state(f, "b-runs", MACHINE_STATE_RUNNING);
	fixture_wait_state(f, "e-deleted", MACHINE_STATE_RUNNING);
	fixture_wait_state(f, "f4", MACHINE_STATE_STARTING);
	/* An administrator does not want this one. */
	fixture_vm_ok(f, "c-off", "Terminate", NONE);
	fixture_vm_ok(f, "e-deleted", "Terminate", NONE);
	fixture_vm_ok(f, "e-deleted", "Delete", NONE);
	fixture_vm_ok(f, "f1", "SetAutostart", "ba{sv}", 0, 0);
	left = autostart_left(f);
	g_assert_cmpstr(left, ==, "d-hangs\nf0\nf1\nf2\nf3\nf4\n");
	fixture_vm_ok(f, "b-runs", "Terminate", NONE);
	/* All of these hang with a guest on its way: end them, so that there is none. */
	fixture_stop_daemon(f);
	put(f, "run/autostart", "d-hangs\nf1\nf4\nnobody\n");
	fixture_start_daemon(f);
	log_set_level(LOG_LEVEL_ERROR);
	fixture_assert_property(f, "d-hangs", "State", "failed");
	g_free(manager_find(f->manager, "d-hangs")->def.config);
	manager_find(f->manager, "d-hangs")->def.config = fixture_config(f, "", NULL);
	g_free(manager_find(f->manager, "f4")->def.config);
	manager_find(f->manager, "f4")->def.config = fixture_config(f, "", NULL);
	autostart_run(f->manager->autostart);
	fixture_wait_state(f, "d-hangs", MACHINE_STATE_RUNNING);
	fixture_wait_state(f, "f4", MACHINE_STATE_RUNNING);
	fixture_assert_property(f, "a-fails", "State", "stopped");
	fixture_assert_property(f, "b-runs", "State", "stopped");
	fixture_assert_property(f, "c-off", "State", "stopped");
	fixture_assert_property(f, "f1", "State", "failed");
	then = autostart_left(f);
	g_assert_cmpstr(then, ==, "");
	fixture_free(f);
}

/* More than a user may have jobs, of one user; and not all at once. */
static void test_autostart_many(void)
{
	struct fixture *f = fixture_new();
	unsigned int n = 70, most = 0, waiting = 70;

	for (unsigned int i = 0; i < n; i++) {
		g_autofree char *name = g_strdup_printf("m%u", i);

		fixture_create(f, name, "", true);
		manager_find(f->manager, name)->def.autostart = true;
		manager_find(f->manager, name)->def.owner = 4711;
	}
	autostart_run(f->manager->autostart);
	while (f->manager->n_running < n && waiting) {
		GHashTableIter iter;
		gpointer vm;
		unsigned int starting = 0;

		g_hash_table_iter_init(&iter, f->manager->machines);
		waiting = 0;
		while (g_hash_table_iter_next(&iter, NULL, &vm)) {
			enum machine_state state = ((struct machine *)vm)->state;

			starting += state == MACHINE_STATE_STARTING;
			waiting +=
				state == MACHINE_STATE_STARTING || state == MACHINE_STATE_STOPPED;
		}
		most = MAX(most, starting);
		fixture_turn(f, 1000000);
	}
	g_assert_cmpuint(f->manager->n_running, ==, n);
	g_assert_cmpuint(most, <=, 8);
	fixture_free(f);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/daemon/restart/running", test_running);
	g_test_add_func("/daemon/restart/worker-gone", test_worker_gone);
	g_test_add_func("/daemon/restart/start-cut-short", test_start_cut_short);
	g_test_add_func("/daemon/restart/start-cut-gone", test_start_cut_gone);
	g_test_add_func("/daemon/restart/start-cut-files", test_start_cut_files);
	g_test_add_func("/daemon/restart/terminating", test_terminating);
	g_test_add_func("/daemon/restart/jobs", test_jobs);
	g_test_add_func("/daemon/restart/job-numbers", test_job_numbers);
	g_test_add_func("/daemon/restart/exit-reasons", test_exit_reasons);
	g_test_add_func("/daemon/restart/found-words", test_found_words);
	g_test_add_func("/daemon/restart/written-back", test_written_back);
	g_test_add_func("/daemon/restart/big", test_big);
	g_test_add_func("/daemon/restart/reconnect", test_reconnect);
	g_test_add_func("/daemon/restart/shutdown-unconnected", test_shutdown_unconnected);
	g_test_add_func("/daemon/restart/terminating-alive", test_terminating_alive);
	g_test_add_func("/daemon/restart/reconnect-late", test_reconnect_late);
	g_test_add_func("/daemon/restart/damaged-files", test_damaged);
	g_test_add_func("/daemon/restart/damaged-alive", test_damaged_alive);
	g_test_add_func("/daemon/restart/autostart", test_autostart);
	g_test_add_func("/daemon/restart/autostart-cut", test_autostart_cut);
	g_test_add_func("/daemon/restart/autostart-many", test_autostart_many);
	return g_test_run();
}
