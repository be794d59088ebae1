/* SPDX-License-Identifier: Apache-2.0 */
/*
 * AddDevice over the bus, with fake workers: all of it is there afterwards, or nothing
 */
#include "daemon/machine.h"
#include "daemon/manager.h"
#include "dbus/bus-path.h"
#include "tests/unit/daemon/fixture.h"
#include "vmm/base/cleanup.h"
#include "vmm/config/vm-config.h"
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define WAIT "a{sv}", 1, "Wait", "b", 1
#define NONE "a{sv}", 0
#define VM   "/org/brume/vm1/vm/web1"
#define DATA VM "/device/data"
#define ADD  "ssa{sv}a{sh}a{sv}"

#define INVALID "org.freedesktop.DBus.Error.InvalidArgs"

static char *image(struct fixture *f)
{
	char *path = g_build_filename(f->dir, "data.raw", NULL);

	if (access(path, F_OK) < 0) {
		g_assert_true(g_file_set_contents(path, "", 0, NULL));
		g_assert_cmpint(truncate(path, 1 << 20), ==, 0);
	}
	return path;
}

static struct machine *start(struct fixture *f, const char *words)
{
	fixture_create(f, "web1", words, true);
	fixture_vm_ok(f, "web1", "Start", WAIT);
	return manager_find(f->manager, "web1");
}

static void add_ok(struct fixture *f, const char *id, bool persist)
{
	g_autofree char *path = image(f);

	fixture_vm_ok(f, "web1", "AddDevice", ADD, "disk", id, 1, "path", "s", path, 0, 1,
		      "Persist", "b", (int)persist);
}

static void add_fails(struct fixture *f, const char *error, const char *text)
{
	g_autofree char *path = image(f);

	fixture_vm_fails(f, "web1", error, text, "AddDevice", ADD, "disk", "data", 1, "path", "s",
			 path, 0, 1, "Persist", "b", 1);
}

static void assert_id_taken(struct fixture *f)
{
	fixture_vm_fails(f, "web1", "InvalidConfig", "'data'", "AddDevice", ADD, "disk", "data", 1,
			 "path", "s", f->kernel, 0, 0);
}

static bool config_has(struct fixture *f, const char *which, const char *text)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
	const char *json;

	reply = fixture_call(f, VM, BRUME_VM_INTERFACE, "GetConfig", "s", which);
	g_assert_nonnull(reply);
	g_assert_cmpint(sd_bus_message_read(reply, "s", &json), >, 0);
	return strstr(json, text);
}

/* They differ as texts exactly when a restart is required. */
static void assert_restart_required(struct fixture *f, bool required)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *boot = NULL, *next = NULL;
	const char *one, *other;

	boot = fixture_call(f, VM, BRUME_VM_INTERFACE, "GetConfig", "s", "boot");
	next = fixture_call(f, VM, BRUME_VM_INTERFACE, "GetConfig", "s", "next");
	g_assert_cmpint(sd_bus_message_read(boot, "s", &one), >, 0);
	g_assert_cmpint(sd_bus_message_read(next, "s", &other), >, 0);
	g_assert_true((strcmp(one, other) != 0) == required);
	fixture_assert_property(f, "web1", "RestartRequired", required ? "1" : "0");
}

/* Another VM can have the image: nobody holds its lock. */
static void assert_image_free(struct fixture *f)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	g_autofree char *path = image(f);
	_cleanup_close_ int fd = open(path, O_RDWR | O_CLOEXEC);

	g_assert_cmpint(fd, >=, 0);
	g_assert_cmpint(fcntl(fd, F_OFD_GETLK, &lock), ==, 0);
	g_assert_cmpint(lock.l_type, ==, F_UNLCK);
}

static void assert_nothing_came(struct fixture *f, unsigned int n_fds)
{
	g_assert_false(config_has(f, "next", "data.raw"));
	g_assert_false(fixture_has_log(f, "InterfacesAdded:" DATA));
	g_assert_false(fixture_has_log(f, "DeviceAdded:data," DATA));
	g_assert_null(manager_find(f->manager, "web1")->plug);
	assert_image_free(f);
	g_assert_cmpuint(fixture_count_fds(), ==, n_fds);
}

static void test_stopped(void)
{
	struct fixture *f = fixture_new();

	fixture_create(f, "web1", "", true);
	add_ok(f, "data", false);
	g_assert_true(config_has(f, "next", "data.raw"));
	fixture_assert_property(f, "web1", "RestartRequired", "0");
	/* There are device objects while it runs only. */
	g_assert_false(fixture_has_log(f, "DeviceAdded:data," DATA));
	assert_id_taken(f);
	fixture_vm_ok(f, "web1", "Start", WAIT);
	g_assert_true(fixture_has_log(f, "InterfacesAdded:" DATA));
	/* It came with its machine, not to it. */
	g_assert_false(fixture_has_log(f, "DeviceAdded:data," DATA));
	fixture_free(f);
}

static void test_running(void)
{
	struct fixture *f = fixture_new();

	start(f, "");
	add_ok(f, "data", false);
	g_assert_cmpint(fixture_find_log(f, "InterfacesAdded:" DATA), >=, 0);
	g_assert_cmpint(fixture_find_log(f, "InterfacesAdded:" DATA), <,
			fixture_find_log(f, "DeviceAdded:data," DATA));
	g_assert_true(config_has(f, "boot", "data.raw"));
	g_assert_false(config_has(f, "next", "data.raw"));
	assert_restart_required(f, true);
	assert_id_taken(f);
	/* The next daemon knows it, and that it was not there at the start. */
	fixture_stop_daemon(f);
	fixture_start_daemon(f);
	g_assert_true(config_has(f, "boot", "data.raw"));
	fixture_vm_ok(f, "web1", "GetDevice", "s", "data");
	fixture_vm_ok(f, "web1", "RemoveDevice", "sa{sv}", "data", 3, "Wait", "b", 1, "Force", "b",
		      1, "TimeoutUSec", "t", (uint64_t)1000);
	assert_restart_required(f, false);
	add_ok(f, "data", false);
	/* Not with the next boot. */
	fixture_vm_ok(f, "web1", "Terminate", NONE);
	fixture_wait_state(f, "web1", MACHINE_STATE_STOPPED);
	fixture_vm_ok(f, "web1", "Start", WAIT);
	fixture_vm_fails(f, "web1", "NoSuchDevice", "'data'", "GetDevice", "s", "data");
	fixture_free(f);
}

static void test_paused_and_persistent(void)
{
	struct fixture *f = fixture_new();
	g_autofree char *other = g_build_filename(f->dir, "other.raw", NULL);

	start(f, "");
	fixture_vm_ok(f, "web1", "Pause", NONE);
	add_ok(f, "data", true);
	g_assert_true(config_has(f, "boot", "data.raw"));
	g_assert_true(config_has(f, "next", "data.raw"));
	fixture_assert_property(f, "web1", "RestartRequired", "0");
	/* An id is chosen. */
	g_assert_true(g_file_set_contents(other, "0123456789abcdef", -1, NULL));
	g_assert_cmpint(truncate(other, 1 << 20), ==, 0);
	fixture_vm_ok(f, "web1", "AddDevice", ADD, "disk", "", 1, "path", "s", other, 0, 1,
		      "Persist", "b", 1);
	fixture_vm_ok(f, "web1", "GetDevice", "s", "_disk0");
	fixture_assert_property(f, "web1", "RestartRequired", "0");
	fixture_free(f);
}

static void test_bad(void)
{
	struct fixture *f = fixture_new();
	g_autofree char *path = image(f);
	unsigned int n_fds;

	start(f, "");
	n_fds = fixture_count_fds();
	fixture_vm_fails(f, "web1", INVALID, "'rng' is no type of device that can be added",
			 "AddDevice", ADD, "rng", "data", 0, 0, 0);
	fixture_vm_fails(f, "web1", INVALID, "there must be no 'id' in the configuration too",
			 "AddDevice", ADD, "disk", "data", 1, "id", "s", "x", 0, 0);
	fixture_vm_fails(f, "web1", "InvalidConfig", "/disks/0/paht", "AddDevice", ADD, "disk",
			 "data", 1, "paht", "s", path, 0, 0);
	fixture_vm_fails(f, "web1", "InvalidConfig", "/disks/0/pci_device_id", "AddDevice", ADD,
			 "disk", "data", 2, "path", "s", path, "pci_device_id", "y", 99, 0, 0);
	fixture_vm_fails(f, "web1", INVALID, "Presist", "AddDevice", ADD, "disk", "data", 1, "path",
			 "s", path, 0, 1, "Presist", "b", 1);
	fixture_vm_fails(f, "web1", "org.freedesktop.DBus.Error.FileNotFound", "/srv/none.raw",
			 "AddDevice", ADD, "disk", "data", 1, "path", "s", "/srv/none.raw", 0, 0);
	assert_nothing_came(f, n_fds);
	fixture_free(f);
}

static void test_refused(void)
{
	struct fixture *f = fixture_new();
	unsigned int n_fds;

	start(f, "fake-no-plug");
	n_fds = fixture_count_fds();
	add_fails(f, "ResourceUnavailable",
		  "cannot add device 'data' to VM 'web1': the fake has no slot");
	g_assert_false(config_has(f, "boot", "data.raw"));
	assert_nothing_came(f, n_fds);
	/* Nothing of it is in the way of the next. */
	add_fails(f, "ResourceUnavailable", "the fake has no slot");
	fixture_assert_property(f, "web1", "RestartRequired", "0");
	fixture_free(f);
}

static void test_worker_dies(void)
{
	struct fixture *f = fixture_new();

	start(f, "fake-plug-dies");
	add_fails(f, "WorkerFailed",
		  "cannot add device 'data' to VM 'web1': the VM ended meanwhile");
	fixture_wait_state(f, "web1", MACHINE_STATE_CRASHED);
	g_assert_false(config_has(f, "next", "data.raw"));
	g_assert_false(fixture_has_log(f, "DeviceAdded:data," DATA));
	assert_image_free(f);
	fixture_assert_nothing_left(f, "web1");
	fixture_free(f);
}

/* What became of it is asked when there is a connection again. */
static void test_answer_lost(void)
{
	struct fixture *f = fixture_new();
	unsigned int n_fds;

	start(f, "fake-plug-closes");
	add_ok(f, "data", true);
	g_assert_true(fixture_has_log(f, "DeviceAdded:data," DATA));
	g_assert_true(config_has(f, "boot", "data.raw"));
	g_assert_true(config_has(f, "next", "data.raw"));
	fixture_free(f);

	f = fixture_new();
	start(f, "fake-plug-loses");
	n_fds = fixture_count_fds();
	add_fails(f, "WorkerFailed", "the connection to the worker ended meanwhile");
	g_assert_false(config_has(f, "boot", "data.raw"));
	assert_nothing_came(f, n_fds);
	fixture_free(f);
}

static int on_late(sd_bus_message *reply, void *userdata, sd_bus_error *error)
{
	bool *done = userdata;

	(void)error;
	g_assert_false(sd_bus_message_is_method_error(reply, NULL));
	*done = true;
	return 1;
}

static void test_busy(void)
{
	struct fixture *f = fixture_new();
	struct machine *vm = start(f, "fake-plug-late");
	g_autofree char *path = image(f);
	bool done = false;

	g_assert_cmpint(sd_bus_call_method_async(f->client, NULL, NULL, VM, BRUME_VM_INTERFACE,
						 "AddDevice", on_late, &done, ADD, "disk", "data",
						 1, "path", "s", path, 0, 0),
			>=, 0);
	while (!vm->plug)
		fixture_turn(f, 100000);
	fixture_vm_fails(f, "web1", "Busy", "VM 'web1' is busy: device 'data' is being added to it",
			 "AddDevice", ADD, "disk", "x", 1, "path", "s", path, 0, 0);
	fixture_vm_fails(f, "web1", "Busy", "device 'data' is being added", "SetConfig", "sa{sv}",
			 vm->def.config, 0);
	while (!done)
		fixture_turn(f, 100000);
	g_assert_true(fixture_has_log(f, "DeviceAdded:data," DATA));
	fixture_free(f);
}

static int on_any(sd_bus_message *reply, void *userdata, sd_bus_error *error)
{
	(void)reply, (void)userdata, (void)error;
	return 1;
}

/* The daemon goes in the middle: the next one asks the worker what became of it. */
static void test_daemon_goes(void)
{
	struct fixture *f = fixture_new();
	struct machine *vm = start(f, "fake-plug-late");
	g_autofree char *path = image(f);
	gint64 end;

	g_assert_cmpint(sd_bus_call_method_async(f->client, NULL, NULL, VM, BRUME_VM_INTERFACE,
						 "AddDevice", on_any, NULL, ADD, "disk", "data", 1,
						 "path", "s", path, 0, 0),
			>=, 0);
	while (!vm->plug)
		fixture_turn(f, 100000);
	/* Long enough for the worker to have heard of it. */
	for (end = g_get_monotonic_time() + 150000; g_get_monotonic_time() < end;)
		fixture_turn(f, 10000);
	g_assert_nonnull(vm->plug);
	fixture_stop_daemon(f);
	fixture_start_daemon(f);
	fixture_vm_ok(f, "web1", "GetDevice", "s", "data");
	g_assert_true(config_has(f, "boot", "data.raw"));
	fixture_assert_property(f, "web1", "RestartRequired", "1");
	fixture_free(f);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/daemon/plug/stopped", test_stopped);
	g_test_add_func("/daemon/plug/running", test_running);
	g_test_add_func("/daemon/plug/paused", test_paused_and_persistent);
	g_test_add_func("/daemon/plug/bad", test_bad);
	g_test_add_func("/daemon/plug/refused", test_refused);
	g_test_add_func("/daemon/plug/worker-dies", test_worker_dies);
	g_test_add_func("/daemon/plug/answer-lost", test_answer_lost);
	g_test_add_func("/daemon/plug/busy", test_busy);
	g_test_add_func("/daemon/plug/daemon-goes", test_daemon_goes);
	return g_test_run();
}
