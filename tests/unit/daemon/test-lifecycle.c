/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Start, pause, shut down, reboot, terminate and the many ways of dying, over
 * the bus, with fake workers
 */
#include "daemon/job.h"
#include "daemon/machine.h"
#include "daemon/manager.h"
#include "dbus/bus-path.h"
#include "tests/unit/daemon/fixture.h"
#include "vmm/base/cleanup.h"
#include "vmm/base/log.h"
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define WAIT "a{sv}", 1, "Wait", "b", 1
#define NONE "a{sv}", 0

static void start(struct fixture *f, const char *name, const char *words, bool persistent)
{
	fixture_create(f, name, words, persistent);
	fixture_vm_ok(f, name, "Start", WAIT);
	fixture_assert_property(f, name, "State", "running");
}

static void test_start(void)
{
	struct fixture *f = fixture_new();
	int changed, removed, reply;

	start(f, "web1", "", true);
	g_assert_true(fixture_has_log(f, "VMNew:web1,/org/brume/vm1/vm/web1"));
	g_assert_true(
		fixture_has_log(f, "JobNew:/org/brume/vm1/job/1,/org/brume/vm1/vm/web1,start"));
	g_assert_true(fixture_has_log(f, "StateChanged:stopped,starting,request"));
	g_assert_true(fixture_has_log(f, "StateChanged:starting,running,started"));
	/* Settled: property changes, then JobRemoved, then the reply to whoever waited. */
	removed = fixture_find_log(f,
				   "JobRemoved:/org/brume/vm1/job/1,/org/brume/vm1/vm/web1,done,,");
	g_assert_cmpint(removed, >, 0);
	for (changed = removed; changed > 0; changed--)
		if (strstr(f->log->pdata[changed], "PropertiesChanged:VirtualMachine") &&
		    strstr(f->log->pdata[changed], ",State,"))
			break;
	g_assert_cmpint(changed, >, fixture_find_log(f, "StateChanged:starting,running,started"));
	for (reply = removed; reply < (int)f->log->len; reply++)
		if (g_str_equal(f->log->pdata[reply], "reply"))
			break;
	g_assert_cmpint(reply, <, (int)f->log->len);
	fixture_assert_property(f, "web1", "CurrentJob", "/");
	g_assert_cmpuint(f->manager->n_running, ==, 1);
	fixture_vm_fails(f, "web1", "InvalidState", "cannot start VM 'web1': it is running",
			 "Start", NONE);
	fixture_vm_ok(f, "web1", "Terminate", NONE);
	fixture_assert_property(f, "web1", "State", "stopped");
	fixture_assert_property(f, "web1", "LastExitReason", "terminated");
	fixture_assert_nothing_left(f, "web1");
	g_assert_cmpuint(f->manager->n_running, ==, 0);
	fixture_vm_ok(f, "web1", "Start", WAIT);
	fixture_assert_property(f, "web1", "State", "running");
	fixture_free(f);
}

/* Told twice that nothing changed, the list of machines with news is still a list. */
static void test_nothing_changed(void)
{
	struct fixture *f = fixture_new();
	struct machine *vm;
	unsigned int n = 0;

	fixture_create(f, "web1", "", true);
	vm = manager_find(f->manager, "web1");
	manager_flush(f->manager);
	machine_changed(vm, 0);
	machine_changed(vm, 0);
	g_assert_true(list_empty(&f->manager->dirty));
	machine_changed(vm, MACHINE_PROPERTY_DESCRIPTION);
	machine_changed(vm, 0);
	machine_changed(vm, MACHINE_PROPERTY_DESCRIPTION);
	for (struct list *at = f->manager->dirty.next; at != &f->manager->dirty; at = at->next)
		g_assert_cmpuint(++n, ==, 1);
	manager_flush(f->manager);
	g_assert_true(list_empty(&f->manager->dirty));
	g_assert_cmpuint(vm->changed, ==, 0);
	fixture_free(f);
}

static void test_pause(void)
{
	struct fixture *f = fixture_new();

	fixture_create(f, "p", "", true);
	fixture_vm_ok(f, "p", "Start", "a{sv}", 2, "Wait", "b", 1, "Paused", "b", 1);
	fixture_assert_property(f, "p", "State", "paused");
	fixture_vm_fails(f, "p", "InvalidState", "it is paused", "Pause", NONE);
	fixture_vm_fails(f, "p", "InvalidState", "resume it first", "Shutdown", NONE);
	fixture_vm_ok(f, "p", "Resume", NONE);
	fixture_assert_property(f, "p", "State", "running");
	fixture_vm_ok(f, "p", "Pause", NONE);
	fixture_assert_property(f, "p", "State", "paused");
	fixture_vm_ok(f, "p", "Terminate", NONE);
	fixture_assert_property(f, "p", "State", "stopped");
	fixture_free(f);
}

static void test_shutdown(void)
{
	struct fixture *f = fixture_new();

	start(f, "s", "fake-second-button", true);
	fixture_vm_ok(f, "s", "Shutdown", WAIT);
	fixture_assert_property(f, "s", "State", "stopped");
	fixture_assert_property(f, "s", "LastExitReason", "guest-shutdown");
	g_assert_true(fixture_has_log(f, "StateChanged:running,shutting-down,request"));
	g_assert_true(fixture_has_log(f, "StateChanged:shutting-down,stopped,guest-shutdown"));
	fixture_assert_nothing_left(f, "s");
	fixture_vm_fails(f, "s", "InvalidState", "it is stopped", "Shutdown", NONE);
	fixture_free(f);
}

static void test_shutdown_deaf(void)
{
	struct fixture *f = fixture_new();

	start(f, "d", "fake-deaf", true);
	fixture_vm_fails(f, "d", "GuestTimeout", "did not react to the power button", "Shutdown",
			 "a{sv}", 2, "Wait", "b", 1, "TimeoutUSec", "t", (uint64_t)60000);
	fixture_assert_property(f, "d", "State", "running");
	g_assert_true(fixture_has_log(
		f, "JobRemoved:/org/brume/vm1/job/2,/org/brume/vm1/vm/d,timeout,"
		   "org.brume.vm1.GuestTimeout,the guest of VM 'd' did not react to the power "
		   "button in time"));
	fixture_vm_ok(f, "d", "Shutdown", "a{sv}", 3, "Wait", "b", 1, "TimeoutUSec", "t",
		      (uint64_t)60000, "Force", "b", 1);
	fixture_assert_property(f, "d", "State", "stopped");
	fixture_assert_nothing_left(f, "d");
	fixture_free(f);
}

/* Once force has begun there is nothing left to cancel. */
static void test_shutdown_committed(void)
{
	struct fixture *f = fixture_new();
	sd_bus_message *reply;

	start(f, "d", "fake-deaf fake-no-quit", true);
	f->manager->quit_grace_usec = 500000;
	fixture_vm_ok(f, "d", "Shutdown", "a{sv}", 2, "TimeoutUSec", "t", (uint64_t)20000, "Force",
		      "b", 1);
	while (!manager_find(f->manager, "d")->terminating)
		fixture_turn(f, 100000);
	g_assert_false(manager_find_job(f->manager, 2)->cancelable);
	reply = fixture_call(f, BRUME_ROOT_PATH, BRUME_MANAGER_INTERFACE, "CancelJob", "u", 2);
	g_assert_null(reply);
	fixture_assert_error(f, "org.freedesktop.DBus.Error.NotSupported",
			     "job 2 (shutdown) cannot be canceled now");
	fixture_wait_log(f, "JobRemoved:/org/brume/vm1/job/2,/org/brume/vm1/vm/d,done,,");
	fixture_assert_property(f, "d", "State", "stopped");
	fixture_free(f);
}

/* A worker that hangs up while it starts and lives on is not waited for for ever. */
static void test_start_closed(void)
{
	struct fixture *f = fixture_new();

	f->manager->lost_grace_usec = 50000;
	fixture_create(f, "c", "fake-start-closes", true);
	fixture_vm_fails(f, "c", "WorkerFailed", "closed its control channel while starting",
			 "Start", WAIT);
	fixture_assert_property(f, "c", "State", "failed");
	fixture_assert_nothing_left(f, "c");
	fixture_free(f);
}

static void test_busy(void)
{
	struct fixture *f = fixture_new();
	sd_bus_message *reply;

	start(f, "b", "fake-deaf", true);
	fixture_vm_ok(f, "b", "Shutdown", NONE);
	fixture_assert_property(f, "b", "State", "shutting-down");
	fixture_assert_property(f, "b", "CurrentJob", "/org/brume/vm1/job/2");
	fixture_vm_fails(f, "b", "Busy", "VM 'b' is busy with job 2 (shutdown)", "Reboot", NONE);
	fixture_vm_fails(f, "b", "InvalidState", "it is shutting-down", "Pause", NONE);
	fixture_vm_fails(f, "b", "Busy", "job 2", "SetConfig", "sa{sv}", "{}", 0);
	fixture_vm_ok(f, "b", "PowerButton", NONE);
	fixture_vm_ok(f, "b", "InjectNMI", NONE);
	reply = fixture_call(f, BRUME_ROOT_PATH, BRUME_MANAGER_INTERFACE, "CancelJob", "u", 2);
	g_assert_nonnull(reply);
	sd_bus_message_unref(reply);
	fixture_assert_property(f, "b", "State", "running");
	reply = fixture_call(f, "/org/brume/vm1/job/2", BRUME_JOB_INTERFACE, "Cancel", "a{sv}", 0);
	g_assert_null(reply);
	fixture_assert_error(f, "InvalidState", "job 2 is over already");
	reply = fixture_call(f, BRUME_ROOT_PATH, BRUME_MANAGER_INTERFACE, "CancelJob", "u", 77);
	g_assert_null(reply);
	fixture_assert_error(f, "NoSuchJob", "there is no job 77");
	fixture_free(f);
}

static void test_reboot(void)
{
	struct fixture *f = fixture_new();

	/* One press is enough here, and a second one would be a second boot. */
	f->manager->button_interval_usec = 60 * G_USEC_PER_SEC;
	start(f, "r", "", true);
	fixture_vm_ok(f, "r", "Reboot", WAIT);
	fixture_assert_property(f, "r", "State", "running");
	fixture_assert_property(f, "r", "StateReason", "guest-reboot");
	g_assert_cmpuint(manager_find(f->manager, "r")->n_boots, ==, 2);
	fixture_vm_ok(f, "r", "Reset", NONE);
	g_assert_cmpuint(manager_find(f->manager, "r")->n_boots, ==, 3);

	start(f, "r2", "fake-deaf", true);
	fixture_vm_fails(f, "r2", "GuestTimeout", "did not react", "Reboot", "a{sv}", 2, "Wait",
			 "b", 1, "TimeoutUSec", "t", (uint64_t)50000);
	fixture_vm_ok(f, "r2", "Reboot", "a{sv}", 3, "Wait", "b", 1, "TimeoutUSec", "t",
		      (uint64_t)50000, "Force", "b", 1);
	fixture_assert_property(f, "r2", "State", "running");
	fixture_assert_property(f, "r2", "StateReason", "reset");
	fixture_free(f);
}

static void test_terminate(void)
{
	struct fixture *f = fixture_new();

	start(f, "t", "fake-no-quit", true);
	fixture_vm_ok(f, "t", "Terminate", NONE);
	fixture_assert_property(f, "t", "State", "stopped");
	fixture_assert_nothing_left(f, "t");

	fixture_create(f, "t2", "fake-start-hangs", true);
	fixture_vm_ok(f, "t2", "Start", NONE);
	fixture_assert_property(f, "t2", "State", "starting");
	fixture_vm_ok(f, "t2", "Terminate", NONE);
	fixture_assert_property(f, "t2", "State", "stopped");
	fixture_assert_nothing_left(f, "t2");
	g_assert_true(fixture_has_log(f, "JobRemoved:/org/brume/vm1/job/2,/org/brume/vm1/vm/t2,"
					 "canceled,org.brume.vm1.JobCanceled,VM 't2' was "
					 "terminated"));
	/* A job that is overtaken by Terminate says so. */
	start(f, "t3", "fake-deaf", true);
	fixture_vm_ok(f, "t3", "Shutdown", NONE);
	fixture_vm_ok(f, "t3", "Terminate", NONE);
	g_assert_true(fixture_has_log(f, "JobRemoved:/org/brume/vm1/job/4,/org/brume/vm1/vm/t3,"
					 "canceled,org.brume.vm1.JobCanceled,VM 't3' was "
					 "terminated"));
	fixture_free(f);
}

static void test_cancel_start(void)
{
	struct fixture *f = fixture_new();
	unsigned int n_fds;

	g_setenv("FAKE_WORKER", "silent", true);
	fixture_create(f, "c", "", true);
	n_fds = fixture_count_fds();
	fixture_vm_ok(f, "c", "Start", NONE);
	fixture_vm_fails(f, "c", "Busy", "is busy with job 1 (start)", "SetConfig", "sa{sv}", "{}",
			 0);
	sd_bus_message_unref(
		fixture_call(f, BRUME_ROOT_PATH, BRUME_MANAGER_INTERFACE, "CancelJob", "u", 1));
	g_assert_cmpstr(f->error.message, ==, NULL);
	fixture_wait_log(f, "JobRemoved:/org/brume/vm1/job/1,/org/brume/vm1/vm/c,canceled,"
			    "org.brume.vm1.JobCanceled,the start was canceled");
	fixture_assert_property(f, "c", "State", "stopped");
	fixture_assert_nothing_left(f, "c");
	for (int n = 0; n < 100 && fixture_count_fds() != n_fds; n++)
		g_usleep(10000);
	g_assert_cmpuint(fixture_count_fds(), ==, n_fds);
	fixture_free(f);
}

/* An open that would wait for a writer for ever must not. */
static void test_fifo(void)
{
	struct fixture *f = fixture_new();
	g_autofree char *fifo = g_build_filename(f->dir, "fifo", NULL);
	g_autofree char *more =
		g_strdup_printf("\"disks\":[{\"path\":\"%s\",\"readonly\":true}]", fifo);
	g_autofree char *config = fixture_config(f, "", more);

	g_assert_cmpint(mkfifo(fifo, 0600), ==, 0);
	fixture_create(f, "p", "", true);
	fixture_vm_ok(f, "p", "SetConfig", "sa{sv}", config, 0);
	fixture_vm_fails(f, "p", "ResourceUnavailable", "is a FIFO, must be a regular file",
			 "Start", WAIT);
	fixture_assert_nothing_left(f, "p");
	fixture_free(f);
}

static const struct {
	const char *name, *words, *state, *reason, *status;
} ends[] = {
	{ "guest-shutdown", "fake-nmi-shutdown", "stopped", "guest-shutdown", "0" },
	{ "triple-fault", "fake-nmi-triple-fault", "crashed", "triple-fault", "5" },
	{ "signal", "fake-nmi-kills", "crashed", "signal", "9" },
};

static void test_end(gconstpointer data)
{
	size_t i = GPOINTER_TO_SIZE(data);
	struct fixture *f = fixture_new();
	g_autofree char *line =
		g_strdup_printf("StateChanged:running,%s,%s", ends[i].state, ends[i].reason);

	start(f, "e", ends[i].words, true);
	fixture_vm_ok(f, "e", "InjectNMI", NONE);
	fixture_wait_log(f, line);
	fixture_assert_property(f, "e", "State", ends[i].state);
	fixture_assert_property(f, "e", "LastExitReason", ends[i].reason);
	fixture_assert_property(f, "e", "LastExitStatus", ends[i].status);
	fixture_assert_property(f, "e", "MainPID", "0");
	fixture_assert_nothing_left(f, "e");
	fixture_vm_ok(f, "e", "Start", WAIT);
	fixture_free(f);
}

static void test_transient(void)
{
	struct fixture *f = fixture_new();
	g_autofree char *file = g_build_filename(f->dir, "state", "x.json", NULL);

	start(f, "x", "fake-nmi-kills", false);
	g_assert_cmpint(access(file, F_OK), ==, -1);
	fixture_vm_ok(f, "x", "InjectNMI", NONE);
	fixture_wait_log(f, "VMRemoved:x,/org/brume/vm1/vm/x");
	g_assert_null(manager_find(f->manager, "x"));
	fixture_assert_nothing_left(f, "x");
	/* One whose start fails is gone as well; the job that tells why is not. */
	fixture_create(f, "y", "fake-start-fails", false);
	fixture_vm_fails(f, "y", "ResourceUnavailable", "no memory for the fake's guest", "Start",
			 WAIT);
	g_assert_null(manager_find(f->manager, "y"));
	fixture_free(f);
}

/* Failures of a start: what the caller hears, and that nothing stays. */
static const struct {
	const char *name;
	const char *mode; /* of the worker before it has a configuration */
	const char *words, *more;
	const char *error, *text;
} failures[] = {
	{ "worker-exits", "exit", "", NULL, "WorkerFailed",
	  "ended while starting: result 'exit-code', status 2" },
	{ "worker-old", "old", "", NULL, "WorkerFailed", "version 0 of the control protocol" },
	{ "resources-refused", "no-resources", "", NULL, "ResourceUnavailable",
	  "handing over resources: the fake takes no resources" },
	{ "boot-fails", NULL, "fake-start-fails", NULL, "ResourceUnavailable",
	  "no memory for the fake's guest" },
	{ "boot-bad-kernel", NULL, "fake-bad-kernel", NULL, "InvalidConfig",
	  "/payload/kernel: '/" },
	{ "boot-dies", NULL, "fake-start-dies", NULL, "WorkerFailed", "status 4" },
	{ "disk-missing", NULL, "", "\"disks\":[{\"path\":\"/nonexistent/a.raw\"}]",
	  "org.freedesktop.DBus.Error.FileNotFound",
	  "disk '_disk0' (/disks/0/path): cannot open '/nonexistent/a.raw' for writing" },
	{ "disk-directory", NULL, "", "\"disks\":[{\"path\":\"/tmp\"}]", "ResourceUnavailable",
	  "disk '_disk0' (/disks/0/path): '/tmp' is a directory, must be a regular file or block device" },
	{ "disk-directory-readonly", NULL, "", "\"disks\":[{\"path\":\"/tmp\",\"readonly\":true}]",
	  "ResourceUnavailable", "'/tmp' is a directory" },
	{ "disk-device", NULL, "", "\"disks\":[{\"path\":\"/dev/null\"}]", "ResourceUnavailable",
	  "'/dev/null' is a character device, must be" },
	{ "serial-directory", NULL, "", "\"serial\":{\"mode\":\"File\",\"file\":\"/tmp\"}",
	  "ResourceUnavailable", "/serial/file: '/tmp' is a directory" },
	{ "rng-directory", NULL, "", "\"rng\":{\"src\":\"/tmp\"}", "ResourceUnavailable",
	  "/rng/src: '/tmp' is a directory" },
	{ "rng-below-file", NULL, "", "\"rng\":{\"src\":\"/etc/passwd/x\"}", "ResourceUnavailable",
	  "/rng/src: cannot open '/etc/passwd/x': Not a directory" },
	{ "tap-name", NULL, "", "\"net\":[{\"tap\":\"lo\"}]", "ResourceUnavailable",
	  "network device '_net0' (/net/0/tap): " },
};

/* A process that has ended may be seen before what it said: that is read first all the same. */
static void test_last_words(void)
{
	struct fixture *f = fixture_new();
	struct machine *vm;

	fixture_create(f, "w", "fake-start-refuses", true);
	fixture_vm_ok(f, "w", "Start", NONE);
	vm = manager_find(f->manager, "w");
	fixture_wait_held(f, vm->spawn.pid);
	log_set_level(0);
	fixture_let_end(vm, NULL);
	fixture_wait_state(f, "w", MACHINE_STATE_FAILED);
	log_set_level(LOG_LEVEL_ERROR);
	fixture_wait_log(f, "JobRemoved:/org/brume/vm1/job/1,/org/brume/vm1/vm/w,failed,"
			    "org.brume.vm1.ResourceUnavailable,VM 'w': booting: the fake's last "
			    "words");
	fixture_assert_nothing_left(f, "w");
	fixture_free(f);
}

static void test_failure(gconstpointer data)
{
	size_t i = GPOINTER_TO_SIZE(data);
	struct fixture *f = fixture_new();
	g_autofree char *config = NULL;
	sd_bus_message *reply;
	unsigned int n_fds;

	if (failures[i].mode)
		g_setenv("FAKE_WORKER", failures[i].mode, true);
	config = fixture_config(f, failures[i].words, failures[i].more);
	reply = fixture_call(f, BRUME_ROOT_PATH, BRUME_MANAGER_INTERFACE, "CreateVM",
			     "ssa{sh}a{sv}", "f", config, 0, 0);
	g_assert_cmpstr(f->error.message, ==, NULL);
	sd_bus_message_unref(reply);
	n_fds = fixture_count_fds();
	for (int round = 0; round < 3; round++) {
		fixture_vm_fails(f, "f", failures[i].error, failures[i].text, "Start", WAIT);
		fixture_assert_property(f, "f", "State", "failed");
		fixture_assert_nothing_left(f, "f");
		/* A helper thread may still be on its last lines. */
		for (int n = 0; n < 100 && fixture_count_fds() != n_fds; n++)
			g_usleep(10000);
		g_assert_cmpuint(fixture_count_fds(), ==, n_fds);
	}
	fixture_vm_ok(f, "f", "Delete", NONE);
	fixture_free(f);
}

static void test_disk_in_use(void)
{
	struct fixture *f = fixture_new();
	g_autofree char *disk = g_build_filename(f->dir, "disk", NULL);
	g_autofree char *more = g_strdup_printf("\"disks\":[{\"path\":\"%s\"}]", disk);
	g_autofree char *link = g_build_filename(f->dir, "link", NULL);
	g_autofree char *twice =
		g_strdup_printf("\"disks\":[{\"path\":\"%s\"},{\"path\":\"%s\"}]", disk, link);
	g_autofree char *config = fixture_config(f, "", more);
	g_autofree char *config2 = fixture_config(f, "", twice);
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	sd_bus_message *reply;
	int fd;

	g_assert_true(g_file_set_contents(disk, "", 0, NULL));
	g_assert_cmpint(symlink(disk, link), ==, 0);
	fixture_create(f, "a", "", true);
	fixture_vm_ok(f, "a", "SetConfig", "sa{sv}", config, 0);
	fd = open(disk, O_RDWR | O_CLOEXEC);
	g_assert_cmpint(fcntl(fd, F_OFD_SETLK, &lock), ==, 0);
	fixture_vm_fails(f, "a", "ResourceUnavailable", "is in use by another process", "Start",
			 WAIT);
	close(fd);
	fixture_vm_fails(f, "a", "InvalidState", "only the configuration of its next boot",
			 "GetConfig", "s", "boot");
	reply = fixture_call(f, BRUME_ROOT_PATH, BRUME_MANAGER_INTERFACE, "CreateVM",
			     "ssa{sh}a{sv}", "b", config2, 0, 0);
	sd_bus_message_unref(reply);
	fixture_vm_fails(f, "b", "ResourceUnavailable", "is the image of disk '_disk0'", "Start",
			 WAIT);
	/* The worker holds the lock, not the daemon; the fake closes its descriptors. */
	fixture_vm_ok(f, "a", "Start", WAIT);
	fixture_free(f);
}

static void test_console(void)
{
	struct fixture *f = fixture_new();
	sd_bus_message *reply;
	const char *tty;
	char buf[16] = "";
	int fd;

	start(f, "c", "", true);
	reply = fixture_call(f, "/org/brume/vm1/vm/c", BRUME_VM_INTERFACE, "OpenConsole", "sa{sv}",
			     "", 0);
	g_assert_cmpstr(f->error.message, ==, NULL);
	g_assert_cmpint(sd_bus_message_read(reply, "hs", &fd, &tty), >, 0);
	g_assert_cmpint(read(fd, buf, sizeof(buf) - 1), ==, 7);
	g_assert_cmpstr(buf, ==, "login: ");
	sd_bus_message_unref(reply);
	fixture_vm_fails(f, "c", "ConsoleInUse", "in use", "OpenConsole", "sa{sv}", "serial", 0);
	fixture_vm_ok(f, "c", "OpenConsole", "sa{sv}", "serial", 1, "Force", "b", 1);
	fixture_vm_fails(f, "c", "NoSuchConsole", "has no console 'hvc7' to open, only 'serial'",
			 "OpenConsole", "sa{sv}", "hvc7", 0);
	fixture_free(f);
}

static void test_questions(void)
{
	struct fixture *f = fixture_new();
	sd_bus_message *reply;
	const char *json;

	start(f, "q", "fake-nmi-event", true);
	reply = fixture_call(f, "/org/brume/vm1/vm/q", BRUME_VM_INTERFACE, "Describe", NULL);
	g_assert_cmpint(sd_bus_message_read(reply, "s", &json), >, 0);
	g_assert_nonnull(strstr(json, "\"0000:00:01.0\""));
	g_assert_nonnull(strstr(json, "\"running\""));
	sd_bus_message_unref(reply);
	reply = fixture_call(f, "/org/brume/vm1/vm/q", BRUME_VM_INTERFACE, "GetCounters", "a{sv}",
			     0);
	g_assert_true(sd_bus_message_has_signature(reply, "a{sa{st}}"));
	sd_bus_message_unref(reply);
	fixture_create(f, "q2", "", true);
	reply = fixture_call(f, BRUME_ROOT_PATH, BRUME_MANAGER_INTERFACE, "GetAllCounters", "a{sv}",
			     0);
	g_assert_cmpstr(f->error.message, ==, NULL);
	g_assert_cmpint(sd_bus_message_enter_container(reply, 'a', "{oa{sa{st}}}"), >, 0);
	g_assert_cmpint(sd_bus_message_enter_container(reply, 'e', "oa{sa{st}}"), >, 0);
	g_assert_cmpint(sd_bus_message_read(reply, "o", &json), >, 0);
	g_assert_cmpstr(json, ==, "/org/brume/vm1/vm/q");
	sd_bus_message_unref(reply);
	fixture_vm_fails(f, "q2", "InvalidState", "it is stopped", "GetCounters", NONE);
	fixture_vm_ok(f, "q2", "Describe", NULL);
	fixture_vm_ok(f, "q", "InjectNMI", NONE);
	fixture_wait_log(f, "Event:guest,nmi,count=1");
	fixture_free(f);
}

/* What a guest causes without end is told in part, and how much of it is not. */
static void test_event_flood(void)
{
	struct fixture *f = fixture_new();
	struct machine *vm;

	start(f, "q", "fake-nmi-flood", true);
	start(f, "other", "fake-nmi-event", true);
	vm = manager_find(f->manager, "q");
	/* Longer than the test takes: only the burst passes. */
	vm->events.interval_usec = 600 * G_USEC_PER_SEC;
	fixture_vm_ok(f, "q", "InjectNMI", NONE);
	log_set_level(0);
	/* Answered after the flood. */
	fixture_vm_ok(f, "q", "Pause", NONE);
	log_set_level(LOG_LEVEL_ERROR);
	fixture_wait_log(f, "Event:guest,flood,count=99");
	g_assert_false(fixture_has_log(f, "Event:guest,flood,count=100"));
	g_assert_cmpuint(vm->events.dropped, ==, 900);
	/* One machine's flood is not another's. */
	fixture_vm_ok(f, "other", "InjectNMI", NONE);
	fixture_wait_log(f, "Event:guest,nmi,count=1");
	/* The bucket is full again. */
	vm->events.interval_usec = 1;
	fixture_vm_ok(f, "q", "Resume", NONE);
	fixture_vm_ok(f, "q", "InjectNMI", NONE);
	for (unsigned int i = 0; i < 2; i++)
		fixture_wait_log(f, i ? "Event:guest,flood,count=1"
				      : "Event:guest,flood,count=0,dropped=900");
	fixture_free(f);
}

/* A worker that hangs in Pause, as it does while a disk's storage hangs. */
static void test_pause_late(void)
{
	struct fixture *f = fixture_new();

	start(f, "p", "fake-pause-late", true);
	f->manager->request_usec = 50000;
	fixture_vm_fails(f, "p", "org.freedesktop.DBus.Error.Timeout",
			 "VM 'p': the worker did not answer Pause within 50 ms: it hangs, or waits "
			 "for storage that does; what was asked for may still happen",
			 "Pause", NONE);
	fixture_assert_property(f, "p", "State", "running");
	g_assert_null(manager_find(f->manager, "p")->job);
	/* It did it in the end, and everybody hears. */
	fixture_wait_state(f, "p", MACHINE_STATE_PAUSED);
	fixture_vm_ok(f, "p", "Resume", NONE);
	/* While it hangs it can be ended all the same: Quit is not waited for. */
	f->manager->request_usec = 10000;
	fixture_vm_fails(f, "p", "org.freedesktop.DBus.Error.Timeout", "did not answer Pause",
			 "Pause", NONE);
	fixture_vm_ok(f, "p", "Terminate", NONE);
	fixture_assert_property(f, "p", "State", "stopped");
	fixture_assert_property(f, "p", "LastExitReason", "terminated");
	fixture_assert_nothing_left(f, "p");
	fixture_free(f);
}

static void test_restart_required(void)
{
	struct fixture *f = fixture_new();
	g_autofree char *other = fixture_config(f, "", "\"cpus\":{\"boot_vcpus\":2}");
	g_autofree char *same = fixture_config(f, "", NULL);

	start(f, "n", "", true);
	fixture_vm_ok(f, "n", "SetConfig", "sa{sv}", other, 0);
	fixture_assert_property(f, "n", "RestartRequired", "1");
	fixture_assert_property(f, "n", "VCPUs", "1");
	fixture_vm_ok(f, "n", "SetConfig", "sa{sv}", same, 0);
	fixture_assert_property(f, "n", "RestartRequired", "0");
	fixture_vm_ok(f, "n", "SetConfig", "sa{sv}", other, 0);
	fixture_vm_ok(f, "n", "Terminate", NONE);
	fixture_assert_property(f, "n", "RestartRequired", "0");
	fixture_assert_property(f, "n", "VCPUs", "2");
	fixture_vm_fails(f, "n", "InvalidConfig", "/platform/system_uuid: the UUID of VM 'n' is",
			 "SetConfig", "sa{sv}",
			 "{\"payload\":{\"kernel\":\"/k\"},\"platform\":{\"system_uuid\":"
			 "\"11111111-2222-3333-4444-555555555555\"}}",
			 0);
	fixture_vm_fails(f, "n", "InvalidConfig", "/platform/uuid: the UUID of VM 'n' is",
			 "SetConfig", "sa{sv}",
			 "{\"payload\":{\"kernel\":\"/k\"},\"platform\":{\"uuid\":"
			 "\"11111111-2222-3333-4444-555555555555\"}}",
			 0);
	fixture_free(f);
}

/* What KVM tells goes with it. */
static void test_kvm_gone(void)
{
	struct fixture *f = fixture_new();

	f->manager->host.kvm_available = true;
	f->manager->host.max_vcpus = 288;
	manager_probe_host(f->manager); /* finds /dev/null */
	g_assert_cmpuint(f->manager->host.max_vcpus, ==, 0);
	fixture_wait_log(f, "PropertiesChanged:Manager,KVMAvailable,MaxVCPUs");
	fixture_free(f);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/daemon/lifecycle/start", test_start);
	g_test_add_func("/daemon/lifecycle/nothing-changed", test_nothing_changed);
	g_test_add_func("/daemon/lifecycle/pause", test_pause);
	g_test_add_func("/daemon/lifecycle/shutdown", test_shutdown);
	g_test_add_func("/daemon/lifecycle/shutdown/deaf", test_shutdown_deaf);
	g_test_add_func("/daemon/lifecycle/busy", test_busy);
	g_test_add_func("/daemon/lifecycle/shutdown-committed", test_shutdown_committed);
	g_test_add_func("/daemon/lifecycle/start-closed", test_start_closed);
	g_test_add_func("/daemon/lifecycle/reboot", test_reboot);
	g_test_add_func("/daemon/lifecycle/terminate", test_terminate);
	g_test_add_func("/daemon/lifecycle/transient", test_transient);
	g_test_add_func("/daemon/lifecycle/cancel-start", test_cancel_start);
	g_test_add_func("/daemon/lifecycle/fifo", test_fifo);
	g_test_add_func("/daemon/lifecycle/disk-in-use", test_disk_in_use);
	g_test_add_func("/daemon/lifecycle/console", test_console);
	g_test_add_func("/daemon/lifecycle/questions", test_questions);
	g_test_add_func("/daemon/lifecycle/event-flood", test_event_flood);
	g_test_add_func("/daemon/lifecycle/pause-late", test_pause_late);
	g_test_add_func("/daemon/lifecycle/restart-required", test_restart_required);
	for (size_t i = 0; i < ARRAY_SIZE(ends); i++) {
		g_autofree char *path = g_strdup_printf("/daemon/lifecycle/end/%s", ends[i].name);

		g_test_add_data_func(path, GSIZE_TO_POINTER(i), test_end);
	}
	g_test_add_func("/daemon/lifecycle/last-words", test_last_words);
	g_test_add_func("/daemon/lifecycle/kvm-gone", test_kvm_gone);
	for (size_t i = 0; i < ARRAY_SIZE(failures); i++) {
		g_autofree char *path =
			g_strdup_printf("/daemon/lifecycle/start-fails/%s", failures[i].name);

		g_test_add_data_func(path, GSIZE_TO_POINTER(i), test_failure);
	}
	return g_test_run();
}
