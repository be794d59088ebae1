/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Resize and Replace of a disk over the bus, with fake workers
 */
#include "daemon/device.h"
#include "daemon/disk-change.h"
#include "daemon/job.h"
#include "daemon/machine.h"
#include "daemon/manager.h"
#include "dbus/bus-path.h"
#include "dbus/variant.h"
#include "tests/unit/daemon/fixture.h"
#include "vmm/base/cleanup.h"
#include "vmm/base/err.h"
#include "vmm/config/vm-config.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define WAIT     "a{sv}", 1, "Wait", "b", 1
#define NONE     "a{sv}", 0
#define VM       "/org/brume/vm1/vm/web1"
#define DISK     VM "/device/d0"
#define DISK_IFC BRUME_DEVICE_INTERFACE ".Disk"
#define INVALID  "org.freedesktop.DBus.Error.InvalidArgs"
#define REFUSED  "org.freedesktop.DBus.Error.NotSupported"
#define MIB      (1ULL << 20)

static char *image(struct fixture *f, const char *name)
{
	char *path = g_build_filename(f->dir, name, NULL);

	g_assert_true(g_file_set_contents(path, "", 0, NULL));
	g_assert_cmpint(truncate(path, 1 << 20), ==, 0);
	return path;
}

/* more: further keys of the disk, each with a comma before it */
static struct machine *start(struct fixture *f, const char *words, const char *more)
{
	g_autofree char *path = image(f, "disk.raw");
	g_autofree char *disk =
		g_strdup_printf("\"disks\":[{\"path\":\"%s\",\"id\":\"d0\"%s}]", path, more);
	g_autofree char *config = fixture_config(f, words, disk);
	sd_bus_message *reply;

	reply = fixture_call(f, BRUME_ROOT_PATH, BRUME_MANAGER_INTERFACE, "CreateVM",
			     "ssa{sh}a{sv}", "web1", config, 0, 1, "Persistent", "b", 1);
	g_assert_cmpstr(f->error.message, ==, NULL);
	sd_bus_message_unref(reply);
	fixture_vm_ok(f, "web1", "Start", WAIT);
	return manager_find(f->manager, "web1");
}

/* As text, NULL when there is none. */
static char *get(struct fixture *f, const char *property)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
	g_autoptr(GVariant) variant = NULL, value = NULL;

	reply = fixture_call(f, DISK, "org.freedesktop.DBus.Properties", "Get", "ss", DISK_IFC,
			     property);
	if (!reply || variant_from_message(reply, "v", &variant, NULL) < 0)
		return NULL;
	value = g_variant_get_variant(variant);
	return g_variant_print(value, FALSE);
}

#define assert_property(f, property, value)                                                        \
	do {                                                                                       \
		g_autofree char *is_ = get(f, property);                                           \
		g_assert_cmpstr(is_, ==, value);                                                   \
	} while (0)

static void assert_path(struct fixture *f, const char *path)
{
	g_autofree char *quoted = g_strdup_printf("'%s'", path);

	assert_property(f, "Path", quoted);
}

static char *config_of(struct fixture *f, const char *which)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *reply =
		fixture_call(f, VM, BRUME_VM_INTERFACE, "GetConfig", "s", which);
	const char *json;

	g_assert_cmpint(sd_bus_message_read(reply, "s", &json), >, 0);
	return g_strdup(json);
}

static void call_ok(struct fixture *f, sd_bus_message *reply)
{
	g_assert_cmpstr(f->error.message, ==, NULL);
	sd_bus_message_unref(reply);
}

static void resize_fails(struct fixture *f, uint64_t bytes, const char *name, const char *text)
{
	g_assert_null(
		fixture_call(f, DISK, DISK_IFC, "Resize", "ta{sv}", bytes, 1, "Wait", "b", 1));
	fixture_assert_error(f, name, text);
}

static void test_resize(void)
{
	struct fixture *f = fixture_new();

	start(f, "", "");
	call_ok(f, fixture_call(f, DISK, DISK_IFC, "Resize", "ta{sv}", 5 * MIB, 1, "Wait", "b", 1));
	fixture_wait_log(f, "PropertiesChanged:Disk,Size,Engine");
	assert_property(f, "Size", "5242880");
	/* The job was over when that had been told. */
	g_assert_cmpint(fixture_find_log(f, "PropertiesChanged:Disk,Size,Engine"), <,
			fixture_find_log(f, "JobRemoved:/org/brume/vm1/job/2," VM ",done,,"));
	call_ok(f, fixture_call(f, DISK, DISK_IFC, "Resize", "ta{sv}", 3 * MIB, 0));
	fixture_wait_log(f, "JobRemoved:/org/brume/vm1/job/3," VM ",done,,");
	assert_property(f, "Size", "3145728");
	fixture_assert_property(f, "web1", "RestartRequired", "0");

	resize_fails(f, 0, INVALID,
		     "disk 'd0' of VM 'web1' cannot have 0 bytes, must be a multiple");
	resize_fails(f, 1025, INVALID, "cannot have 1025 bytes, must be a multiple of 512");
	resize_fails(f, UINT64_MAX - 511, INVALID, "and less than 8 EiB");
	g_assert_null(fixture_call(f, DISK, DISK_IFC, "Resize", "ta{sv}", MIB, 1, "X", "b", 1));
	fixture_assert_error(f, INVALID, "X");
	fixture_free(f);
}

static void test_resize_refused(void)
{
	static const struct {
		const char *words, *more;
		uint64_t bytes;
		const char *name, *text;
	} cases[] = {
		{ "", ",\"readonly\":true", 2 * MIB, "InvalidState",
		  "disk 'd0' of VM 'web1' is read-only and cannot be resized" },
		{ "", ",\"image_type\":\"Vhd\"", 2 * MIB, REFUSED,
		  "has an image of type Vhd, which cannot be resized, must be Raw or Qcow2" },
		{ "", ",\"image_type\":\"Vhdx\"", 2 * MIB, REFUSED,
		  "has an image of type Vhdx, which cannot be resized" },
		{ "fake-no-disks", "", 2 * MIB, "ResourceUnavailable",
		  "cannot resize disk 'd0' of VM 'web1': the fake is full" },
		{ "fake-dies-of-disks", "", 2 * MIB, NULL, NULL },
	};

	for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
		struct fixture *f = fixture_new();

		start(f, cases[i].words, cases[i].more);
		if (cases[i].name)
			resize_fails(f, cases[i].bytes, cases[i].name, cases[i].text);
		else
			g_assert_null(fixture_call(f, DISK, DISK_IFC, "Resize", "ta{sv}",
						   cases[i].bytes, 1, "Wait", "b", 1));
		fixture_free(f);
	}
}

/* What is in the way says so, and other jobs wait. */
static void test_busy(void)
{
	struct fixture *f = fixture_new();
	struct machine *vm = start(f, "", "");

	g_assert_cmpint(machine_begin_job(vm, JOB_KIND_RESIZE_VCPUS, 0, 0, NULL), ==, 0);
	resize_fails(f, MIB, "Busy", "VM 'web1' is busy with job 2 (resize-vcpus)");
	g_assert_null(
		fixture_call(f, DISK, DISK_IFC, "Replace", "a{sv}a{sv}", 1, "Path", "s", "/x", 0));
	fixture_assert_error(f, "Busy", "VM 'web1' is busy with job 2 (resize-vcpus)");
	machine_end_job(vm, NULL);
	vm->replace.id = g_strdup("d0");
	g_assert_null(
		fixture_call(f, DISK, DISK_IFC, "Replace", "a{sv}a{sv}", 1, "Path", "s", "/x", 0));
	fixture_assert_error(f, "Busy",
			     "VM 'web1': its worker has not said yet whether disk 'd0' has got "
			     "another image");
	fixture_free(f);
}

static void replace_fails(struct fixture *f, const char *key, const char *value, const char *name,
			  const char *text)
{
	g_assert_null(
		fixture_call(f, DISK, DISK_IFC, "Replace", "a{sv}a{sv}", 1, key, "s", value, 0));
	fixture_assert_error(f, name, text);
}

static void test_replace(void)
{
	struct fixture *f = fixture_new();
	g_autofree char *old = NULL, *other = image(f, "other.raw"), *third = image(f, "third");
	g_autofree char *boot = NULL, *next = NULL, *both = NULL, *missing = NULL;

	start(f, "", "");
	old = g_build_filename(f->dir, "disk.raw", NULL);
	call_ok(f,
		fixture_call(f, DISK, DISK_IFC, "Replace", "a{sv}a{sv}", 1, "Path", "s", other, 0));
	assert_path(f, other);
	assert_property(f, "Size", "7340032");
	assert_property(f, "Format", "'raw'");
	fixture_wait_log(f, "PropertiesChanged:Disk,Path,Format");
	boot = config_of(f, "boot");
	next = config_of(f, "next");
	g_assert_nonnull(strstr(boot, "other.raw"));
	g_assert_nonnull(strstr(next, "disk.raw"));
	fixture_assert_property(f, "web1", "RestartRequired", "1");

	/* The next daemon knows it too. */
	fixture_stop_daemon(f);
	fixture_start_daemon(f);
	assert_path(f, other);

	call_ok(f, fixture_call(f, DISK, DISK_IFC, "Replace", "a{sv}a{sv}", 2, "Path", "s", third,
				"Format", "s", "raw", 1, "Persist", "b", 1));
	assert_path(f, third);
	both = config_of(f, "next");
	g_assert_nonnull(strstr(both, "third"));
	g_assert_nonnull(strstr(both, "\"image_type\":\"Raw\""));
	fixture_assert_property(f, "web1", "RestartRequired", "0");

	replace_fails(f, "Path", third, "ResourceUnavailable",
		      "is the image of disk 'd0' of VM 'web1' already");
	missing = g_build_filename(f->dir, "missing", NULL);
	replace_fails(f, "Path", missing, "org.freedesktop.DBus.Error.FileNotFound",
		      "cannot replace the image of disk 'd0' of VM 'web1': ");
	replace_fails(f, "Path", "relative", "InvalidConfig", "/disks/0/path: 'relative'");
	replace_fails(f, "Format", "raw", INVALID, "the source has no image, must have either");
	replace_fails(f, "Format", "iso", INVALID,
		      "Format 'iso' is unknown, must be raw, qcow2, vhd or vhdx");
	replace_fails(f, "FD", "x", INVALID, "source 'FD' has the wrong type");
	replace_fails(f, "Size", "x", INVALID, "source 'Size' is unknown, must be one of Path, FD");
	assert_path(f, third);
	fixture_free(f);
}

/* The daemon ends before the answer: the next one sees what became of it. */
static void test_replace_unheard(void)
{
	static const struct {
		const char *words;
		bool done;
	} cases[] = { { "fake-mute-replace", true }, { "fake-mute-replace-lost", false } };

	for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
		struct fixture *f = fixture_new();
		g_autofree char *old = g_build_filename(f->dir, "disk.raw", NULL);
		g_autofree char *other = image(f, "other.raw"), *next = NULL;
		struct machine *vm = start(f, cases[i].words, "");
		struct medium_params params = { .fd = -EBADF, .persist = true };
		struct err err = { 0 };
		struct job *job;

		g_test_message("%s", cases[i].words);
		params.path = other;
		g_assert_cmpint(machine_replace_disk(machine_find_device(vm, "d0"), 0, &params,
						     &job, &err),
				==, 0);
		/* It has been asked. */
		for (unsigned int n = 0; n < 100 && !vm->replace.id; n++)
			fixture_turn(f, 20000);
		g_assert_nonnull(vm->replace.id);
		for (unsigned int n = 0; n < 10; n++)
			fixture_turn(f, 20000);
		assert_path(f, old);
		fixture_stop_daemon(f);
		fixture_start_daemon(f);
		fixture_wait_state(f, "web1", MACHINE_STATE_RUNNING);
		vm = manager_find(f->manager, "web1");
		g_assert_null(vm->replace.id);
		assert_path(f, cases[i].done ? other : old);
		next = config_of(f, "next");
		g_assert_nonnull(strstr(next, cases[i].done ? "other.raw" : "disk.raw"));
		fixture_assert_property(f, "web1", "RestartRequired", "0");
		fixture_free(f);
	}
}

static void test_replace_by_fd(void)
{
	struct fixture *f = fixture_new();
	g_autofree char *other = image(f, "other.raw"), *boot = NULL;
	int fd = open(other, O_RDWR | O_CLOEXEC), reads = open(other, O_RDONLY | O_CLOEXEC);

	start(f, "", "");
	g_assert_null(fixture_call(f, DISK, DISK_IFC, "Replace", "a{sv}a{sv}", 1, "FD", "h", fd, 1,
				   "Persist", "b", 1));
	fixture_assert_error(f, INVALID, "a descriptor is there for a machine that runs");
	g_assert_null(fixture_call(f, DISK, DISK_IFC, "Replace", "a{sv}a{sv}", 2, "FD", "h", fd,
				   "Path", "s", other, 0));
	fixture_assert_error(f, INVALID, "the source has both Path and FD, must have either");
	g_assert_null(
		fixture_call(f, DISK, DISK_IFC, "Replace", "a{sv}a{sv}", 1, "FD", "h", reads, 0));
	fixture_assert_error(f, "InvalidConfig", "descriptor");
	call_ok(f, fixture_call(f, DISK, DISK_IFC, "Replace", "a{sv}a{sv}", 1, "FD", "h", fd, 0));
	assert_path(f, "");
	boot = config_of(f, "boot");
	g_assert_nonnull(strstr(boot, "\"fd\":\"medium\""));
	close(fd);
	close(reads);
	fixture_free(f);
}

/* What a worker refuses has not changed anything, and the old image stays locked. */
static void test_replace_refused(void)
{
	struct fixture *f = fixture_new();
	g_autofree char *other = image(f, "other.raw"), *old = NULL, *text = NULL;
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	int fd;

	start(f, "fake-no-disks", "");
	old = g_build_filename(f->dir, "disk.raw", NULL);
	text = g_strdup_printf("/disks/0/path: '%s': the fake does not like type 'Raw'", other);
	/* Its contents are the worker's to look at. */
	g_assert_null(fixture_call(f, DISK, DISK_IFC, "Replace", "a{sv}a{sv}", 2, "Path", "s",
				   other, "Format", "s", "raw", 0));
	fixture_assert_error(f, "InvalidConfig", text);
	assert_path(f, old);
	fixture_assert_property(f, "web1", "RestartRequired", "0");
	fd = open(old, O_RDWR | O_CLOEXEC);
	g_assert_cmpint(fcntl(fd, F_OFD_SETLK, &lock), ==, -1);
	close(fd);
	fixture_free(f);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/daemon/disk/resize", test_resize);
	g_test_add_func("/daemon/disk/resize/refused", test_resize_refused);
	g_test_add_func("/daemon/disk/busy", test_busy);
	g_test_add_func("/daemon/disk/replace", test_replace);
	g_test_add_func("/daemon/disk/replace/unheard", test_replace_unheard);
	g_test_add_func("/daemon/disk/replace/fd", test_replace_by_fd);
	g_test_add_func("/daemon/disk/replace/refused", test_replace_refused);
	return g_test_run();
}
