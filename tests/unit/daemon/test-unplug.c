/* SPDX-License-Identifier: Apache-2.0 */
/*
 * RemoveDevice over the bus, with fake workers: the guest decides, and what is told is what is
 */
#include "daemon/device.h"
#include "daemon/machine.h"
#include "daemon/manager.h"
#include "dbus/bus-path.h"
#include "tests/unit/daemon/fixture.h"
#include "vmm/base/cleanup.h"
#include "vmm/config/vm-config.h"
#include <signal.h>
#include <string.h>
#include <unistd.h>

#define WAIT    "a{sv}", 1, "Wait", "b", 1
#define NONE    "a{sv}", 0
#define WAIT_IT 1, "Wait", "b", 1
#define VM      "/org/brume/vm1/vm/web1"
#define DATA    VM "/device/data"
#define START   1 /* the job of the start */

#define CANCELED                                                                                   \
	"canceled,org.brume.vm1.JobCanceled,the removal of device 'data' was canceled; the guest " \
	"may let go of it all the same"
#define GONE "DeviceRemoved:data," DATA

static int find_last_log(struct fixture *f, const char *line)
{
	for (unsigned int i = f->log->len; i > 0; i--)
		if (g_str_equal(f->log->pdata[i - 1], line))
			return (int)i - 1;
	return -1;
}

/* Its disk is there from the start, in the definition. */
static struct machine *start(struct fixture *f, const char *words)
{
	g_autofree char *image = g_build_filename(f->dir, "data.raw", NULL);
	g_autofree char *disk =
		g_strdup_printf("\"disks\":[{\"path\":\"%s\",\"id\":\"data\"}]", image);
	g_autofree char *config = fixture_config(f, words, disk);
	sd_bus_message *reply;

	g_assert_true(g_file_set_contents(image, "", 0, NULL));
	g_assert_cmpint(truncate(image, 1 << 20), ==, 0);
	reply = fixture_call(f, BRUME_ROOT_PATH, BRUME_MANAGER_INTERFACE, "CreateVM",
			     "ssa{sh}a{sv}", "web1", config, 0, 1, "Persistent", "b", 1);
	g_assert_cmpstr(f->error.message, ==, NULL);
	sd_bus_message_unref(reply);
	fixture_vm_ok(f, "web1", "Start", WAIT);
	return manager_find(f->manager, "web1");
}

static void assert_there(struct fixture *f, const char *state)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
	const char *is;

	reply = fixture_call(f, DATA, "org.freedesktop.DBus.Properties", "Get", "ss",
			     BRUME_DEVICE_INTERFACE, "State");
	g_assert_nonnull(reply);
	g_assert_cmpint(sd_bus_message_read(reply, "v", "s", &is), >, 0);
	g_assert_cmpstr(is, ==, state);
	g_assert_false(fixture_has_log(f, GONE));
}

static void assert_gone(struct fixture *f)
{
	fixture_wait_log(f, GONE);
	fixture_wait_log(f, "InterfacesRemoved:" DATA);
	fixture_vm_fails(f, "web1", "NoSuchDevice", "VM 'web1' has no device 'data'", "GetDevice",
			 "s", "data");
	fixture_assert_property(f, "web1", "CurrentJob", "/");
	g_assert_null(manager_find(f->manager, "web1")->unplug);
}

static bool config_has(struct fixture *f, const char *which)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
	const char *json;

	reply = fixture_call(f, VM, BRUME_VM_INTERFACE, "GetConfig", "s", which);
	g_assert_nonnull(reply);
	g_assert_cmpint(sd_bus_message_read(reply, "s", &json), >, 0);
	return strstr(json, "data.raw");
}

/* Until the job n is over so. */
static void wait_job(struct fixture *f, unsigned int n, const char *end)
{
	g_autofree char *line =
		g_strdup_printf("JobRemoved:/org/brume/vm1/job/%u," VM ",%s", n, end);

	fixture_wait_log(f, line);
}

static void remove_later(struct fixture *f, uint64_t usec)
{
	fixture_vm_ok(f, "web1", "RemoveDevice", "sa{sv}", "data", 1, "TimeoutUSec", "t", usec);
}

static void cancel(struct fixture *f)
{
	g_autofree char *job = fixture_get_string(f, "web1", "CurrentJob");
	sd_bus_message *reply;

	reply = fixture_call(f, job, BRUME_JOB_INTERFACE, "Cancel", NONE);
	g_assert_cmpstr(f->error.message, ==, NULL);
	sd_bus_message_unref(reply);
}

/* What is under way arrives. */
static void settle(struct fixture *f)
{
	for (unsigned int i = 0; i < 20; i++)
		fixture_turn(f, 5000);
}

static void test_guest_lets_go(void)
{
	struct fixture *f = fixture_new();

	start(f, "fake-lets-go fake");
	fixture_vm_ok(f, "web1", "RemoveDevice", "sa{sv}", "data", WAIT_IT);
	assert_gone(f);
	g_assert_false(config_has(f, "boot"));
	g_assert_true(config_has(f, "next"));
	fixture_assert_property(f, "web1", "RestartRequired", "1");
	fixture_vm_fails(f, "web1", "NoSuchDevice", "'data'", "RemoveDevice", "sa{sv}", "data", 0);
	fixture_free(f);
}

static void test_persist(void)
{
	struct fixture *f = fixture_new();

	start(f, "fake-lets-go fake");
	fixture_vm_ok(f, "web1", "RemoveDevice", "sa{sv}", "data", 2, "Wait", "b", 1, "Persist",
		      "b", 1);
	assert_gone(f);
	g_assert_false(config_has(f, "next"));
	fixture_assert_property(f, "web1", "RestartRequired", "0");
	fixture_free(f);
}

static void test_stopped(void)
{
	struct fixture *f = fixture_new();
	struct machine *vm = start(f, "");

	fixture_vm_ok(f, "web1", "Terminate", NONE);
	fixture_wait_state(f, "web1", MACHINE_STATE_STOPPED);
	g_assert_null(vm->boot);
	fixture_vm_ok(f, "web1", "RemoveDevice", "sa{sv}", "data", WAIT_IT);
	g_assert_false(config_has(f, "next"));
	fixture_vm_fails(f, "web1", "NoSuchDevice",
			 "the definition of VM 'web1' has no device 'data'", "RemoveDevice",
			 "sa{sv}", "data", 0);
	fixture_free(f);
}

/* The guest has it still, it works, and can be asked for again. */
static void test_timeout(void)
{
	struct fixture *f = fixture_new();

	start(f, "fake-lets-go-later");
	fixture_vm_fails(f, "web1", "GuestTimeout",
			 "the guest of VM 'web1' did not let go of device 'data' in time; it has "
			 "it still",
			 "RemoveDevice", "sa{sv}", "data", 2, "Wait", "b", 1, "TimeoutUSec", "t",
			 (uint64_t)50000);
	assert_there(f, "present");
	g_assert_true(config_has(f, "boot"));
	fixture_assert_property(f, "web1", "CurrentJob", "/");
	fixture_vm_ok(f, "web1", "RemoveDevice", "sa{sv}", "data", WAIT_IT);
	assert_gone(f);
	fixture_free(f);
}

static void test_says_no(void)
{
	struct fixture *f = fixture_new();

	start(f, "fake-says-no");
	fixture_vm_fails(f, "web1", "Busy", "does not let go of device 'data': it is in use there",
			 "RemoveDevice", "sa{sv}", "data", WAIT_IT);
	assert_there(f, "present");
	fixture_vm_ok(f, "web1", "RemoveDevice", "sa{sv}", "data", 2, "Wait", "b", 1, "Force", "b",
		      1);
	assert_gone(f);
	fixture_free(f);
}

static void test_force(void)
{
	struct fixture *f = fixture_new();

	start(f, "");
	fixture_vm_ok(f, "web1", "RemoveDevice", "sa{sv}", "data", 3, "Wait", "b", 1, "Force", "b",
		      1, "TimeoutUSec", "t", (uint64_t)50000);
	assert_gone(f);
	fixture_free(f);
}

static void test_worker_fails(void)
{
	struct fixture *f = fixture_new();

	start(f, "fake-no-unplug");
	fixture_vm_fails(f, "web1", "ResourceUnavailable",
			 "cannot remove device 'data' of VM 'web1': the fake cannot eject",
			 "RemoveDevice", "sa{sv}", "data", WAIT_IT);
	assert_there(f, "present");
	fixture_free(f);
}

/* The second client is told which job is in its way. */
static void test_busy(void)
{
	struct fixture *f = fixture_new();

	start(f, "");
	remove_later(f, 0);
	assert_there(f, "ejecting");
	/* It was announced before it could be canceled. */
	g_assert_cmpint(find_last_log(f, "PropertiesChanged:Job,Cancelable"), >,
			fixture_find_log(f, "InterfacesAdded:/org/brume/vm1/job/2"));
	fixture_wait_log(f, "PropertiesChanged:Device,State");
	fixture_vm_fails(f, "web1", "Busy", "VM 'web1' is busy with job 2 (remove-device)",
			 "RemoveDevice", "sa{sv}", "data", 0);
	fixture_vm_fails(f, "web1", "Busy", "busy with job 2 (remove-device)", "ResizeVCPUs",
			 "ua{sv}", 1, 0);
	fixture_vm_fails(f, "web1", "Busy", "busy with job 2 (remove-device)", "AddDevice",
			 "ssa{sv}a{sh}a{sv}", "disk", "x", 1, "path", "s", f->kernel, 0, 0);
	cancel(f);
	fixture_free(f);
}

/* Before the worker has heard of it, which answers later with whatever it likes. */
static void test_cancel_at_once(void)
{
	struct fixture *f = fixture_new();
	struct machine *vm = start(f, "fake-unplug-late");
	gint64 end;

	remove_later(f, 0);
	cancel(f);
	wait_job(f, START + 1, CANCELED);
	assert_there(f, "present");
	/* The next is not ended by the answer to the first. */
	remove_later(f, 0);
	for (end = g_get_monotonic_time() + 400000; g_get_monotonic_time() < end;)
		fixture_turn(f, 50000);
	g_assert_nonnull(vm->unplug);
	assert_there(f, "ejecting");
	cancel(f);
	fixture_free(f);
}

static void test_cancel_waiting(void)
{
	struct fixture *f = fixture_new();

	start(f, "fake-lets-go-later");
	remove_later(f, 0);
	settle(f);
	assert_there(f, "ejecting");
	cancel(f);
	wait_job(f, START + 1, CANCELED);
	assert_there(f, "present");
	fixture_vm_ok(f, "web1", "RemoveDevice", "sa{sv}", "data", WAIT_IT);
	assert_gone(f);
	fixture_free(f);
}

/* A canceled removal that the guest has let happen: the device is gone, the job stays canceled. */
static void test_ejected_after_cancel(void)
{
	struct fixture *f = fixture_new();

	start(f, "fake-nmi-lets-go");
	remove_later(f, 0);
	settle(f);
	cancel(f);
	assert_there(f, "present");
	fixture_vm_ok(f, "web1", "InjectNMI", NONE);
	assert_gone(f);
	g_assert_false(config_has(f, "boot"));
	fixture_free(f);
}

/* Over: nothing to cancel. */
static void test_cancel_after(void)
{
	struct fixture *f = fixture_new();

	start(f, "fake-nmi-lets-go");
	remove_later(f, 0);
	settle(f);
	fixture_vm_ok(f, "web1", "InjectNMI", NONE);
	assert_gone(f);
	wait_job(f, START + 1, "done,,");
	g_assert_null(fixture_call(f, "/org/brume/vm1/job/2", BRUME_JOB_INTERFACE, "Cancel", NONE));
	fixture_assert_error(f, "InvalidState", "job 2 is over already");
	fixture_free(f);
}

/* While it is taken by force nobody can change their mind. */
static void test_cancel_force(void)
{
	struct fixture *f = fixture_new();

	start(f, "fake-unplug-hangs");
	fixture_vm_ok(f, "web1", "RemoveDevice", "sa{sv}", "data", 2, "Force", "b", 1,
		      "TimeoutUSec", "t", (uint64_t)1000);
	settle(f);
	g_assert_null(fixture_call(f, "/org/brume/vm1/job/2", BRUME_JOB_INTERFACE, "Cancel", NONE));
	fixture_assert_error(f, "org.freedesktop.DBus.Error.NotSupported",
			     "job 2 (remove-device) cannot be canceled now");
	assert_there(f, "ejecting");
	fixture_free(f);
}

/* A connection that ends before the worker has answered: it is asked again. */
static void test_connection_lost(void)
{
	struct fixture *f = fixture_new();

	start(f, "fake-unplug-closes fake-lets-go-later");
	fixture_vm_ok(f, "web1", "RemoveDevice", "sa{sv}", "data", 2, "Wait", "b", 1, "TimeoutUSec",
		      "t", (uint64_t)0);
	assert_gone(f);
	fixture_free(f);
}

static void test_vm_ends(void)
{
	struct fixture *f = fixture_new();

	start(f, "fake-nmi-kills");
	remove_later(f, 0);
	settle(f);
	fixture_vm_ok(f, "web1", "InjectNMI", NONE);
	fixture_wait_state(f, "web1", MACHINE_STATE_CRASHED);
	fixture_assert_property(f, "web1", "CurrentJob", "/");
	fixture_assert_nothing_left(f, "web1");
	/* With its machine, not alone. */
	g_assert_false(fixture_has_log(f, GONE));
	fixture_vm_ok(f, "web1", "Start", WAIT);
	assert_there(f, "present");
	fixture_free(f);
}

/* The daemon goes: the next one has the job, with its id, and asks again. */
static void test_daemon_restarts(void)
{
	struct fixture *f = fixture_new();

	start(f, "fake-lets-go-later");
	remove_later(f, 0);
	settle(f);
	assert_there(f, "ejecting");
	fixture_stop_daemon(f);
	fixture_start_daemon(f);
	wait_job(f, START + 1, "done,,");
	assert_gone(f);
	fixture_free(f);
}

/* The deadline is the one it was, and what goes on is told as before. */
static void test_daemon_restarts_waiting(void)
{
	struct fixture *f = fixture_new();

	start(f, "");
	remove_later(f, 400000);
	settle(f);
	fixture_stop_daemon(f);
	fixture_start_daemon(f);
	assert_there(f, "ejecting");
	fixture_assert_property(f, "web1", "CurrentJob", "/org/brume/vm1/job/2");
	wait_job(f, START + 1,
		 "timeout,org.brume.vm1.GuestTimeout,the guest of VM 'web1' did not let go of "
		 "device 'data' in time; it has it still");
	assert_there(f, "present");
	fixture_free(f);
}

/* It went while there was no daemon: the job ends as done all the same. */
static void test_gone_meanwhile(void)
{
	struct fixture *f = fixture_new();
	struct machine *vm = start(f, "fake-signal");
	pid_t pid = (pid_t)vm->spawn.pid;

	remove_later(f, 0);
	settle(f);
	fixture_stop_daemon(f);
	g_assert_cmpint(kill(pid, SIGUSR1), ==, 0);
	g_usleep(200000);
	fixture_start_daemon(f);
	wait_job(f, START + 1, "done,,");
	assert_gone(f);
	g_assert_false(config_has(f, "boot"));
	fixture_free(f);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/daemon/unplug/guest-lets-go", test_guest_lets_go);
	g_test_add_func("/daemon/unplug/persist", test_persist);
	g_test_add_func("/daemon/unplug/stopped", test_stopped);
	g_test_add_func("/daemon/unplug/timeout", test_timeout);
	g_test_add_func("/daemon/unplug/says-no", test_says_no);
	g_test_add_func("/daemon/unplug/force", test_force);
	g_test_add_func("/daemon/unplug/worker-fails", test_worker_fails);
	g_test_add_func("/daemon/unplug/busy", test_busy);
	g_test_add_func("/daemon/unplug/cancel-at-once", test_cancel_at_once);
	g_test_add_func("/daemon/unplug/cancel-waiting", test_cancel_waiting);
	g_test_add_func("/daemon/unplug/ejected-after-cancel", test_ejected_after_cancel);
	g_test_add_func("/daemon/unplug/cancel-after", test_cancel_after);
	g_test_add_func("/daemon/unplug/cancel-force", test_cancel_force);
	g_test_add_func("/daemon/unplug/connection-lost", test_connection_lost);
	g_test_add_func("/daemon/unplug/vm-ends", test_vm_ends);
	g_test_add_func("/daemon/unplug/daemon-restarts", test_daemon_restarts);
	g_test_add_func("/daemon/unplug/daemon-restarts-waiting", test_daemon_restarts_waiting);
	g_test_add_func("/daemon/unplug/gone-meanwhile", test_gone_meanwhile);
	return g_test_run();
}
