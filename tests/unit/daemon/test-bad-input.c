/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Wrong calls over the bus: each gets the right error name and a sentence, and
 * leaves nothing behind
 */
#include "daemon/machine.h"
#include "daemon/manager.h"
#include "dbus/bus-path.h"
#include "tests/unit/daemon/fixture.h"
#include "vmm/base/cleanup.h"
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define INVALID_ARGS "org.freedesktop.DBus.Error.InvalidArgs"
#define GOOD         "{\"payload\":{\"kernel\":\"/k\"},\"memory\":{\"size\":134217728}}"
#define NAME_64      "a123456789b123456789c123456789d123456789e123456789f123456789abcd"

static const struct {
	const char *title, *name, *config, *error, *text;
} creates[] = {
	{ "name-empty", "", GOOD, INVALID_ARGS, "the name of a VM is empty" },
	{ "name-slash", "a/b", GOOD, INVALID_ARGS, "VM name 'a/b' is not a host name" },
	{ "name-dots", "..", GOOD, INVALID_ARGS, "is not a host name" },
	{ "name-dot-end", "a.", GOOD, INVALID_ARGS, "is not a host name" },
	{ "name-two-dots", "a..b", GOOD, INVALID_ARGS, "is not a host name" },
	{ "name-hyphen", "-a", GOOD, INVALID_ARGS, "is not a host name" },
	{ "name-hyphen-end", "a-", GOOD, INVALID_ARGS, "is not a host name" },
	{ "name-hyphen-label", "a-.b", GOOD, INVALID_ARGS, "is not a host name" },
	{ "name-space", "a b", GOOD, INVALID_ARGS, "is not a host name" },
	{ "name-utf8", "f\303\274r", GOOD, INVALID_ARGS, "is not a host name" },
	{ "name-65", NAME_64 "e", GOOD, INVALID_ARGS, "has 65 bytes, at most 64" },
	{ "name-65-utf8",
	  "\342\202\254\342\202\254\342\202\254\342\202\254\342\202\254\342\202\254\342\202"
	  "\254\342\202\254\342\202\254\342\202\254\342\202\254\342\202\254\342\202\254\342"
	  "\202\254\342\202\254\342\202\254\342\202\254\342\202\254\342\202\254\342\202\254"
	  "\342\202\254\342\202\254\342\202\254\342\202\254\342\202\254\342\202\254\342\202"
	  "\254",
	  GOOD, INVALID_ARGS, "bytes, at most 64" },
	{ "name-taken", "taken", GOOD, "VMExists", "VM 'taken' exists already" },
	{ "uuid-taken", "n",
	  "{\"payload\":{\"kernel\":\"/k\"},\"platform\":{\"uuid\":"
	  "\"11111111-2222-3333-4444-555555555555\"}}",
	  "VMExists", "UUID 11111111-2222-3333-4444-555555555555 belongs to VM 'taken' already" },
	{ "json-empty", "n", "", "InvalidConfig", "line 1" },
	{ "json-cut", "n", "{\"payload\":", "InvalidConfig", "line 1, column 12" },
	{ "json-list", "n", "[]", "InvalidConfig", "must be an object" },
	{ "json-string", "n", "\"x\"", "InvalidConfig", "must be an object" },
	{ "json-trailing", "n", GOOD "x", "InvalidConfig", "line 1, column" },
	{ "key-unknown", "n", "{\"payload\":{\"kernel\":\"/k\"},\"bogus\":1}", "InvalidConfig",
	  "/bogus: " },
	{ "key-later", "n", "{\"payload\":{\"kernel\":\"/k\"},\"tpm\":{\"socket\":\"/s\"}}",
	  "org.freedesktop.DBus.Error.NotSupported", "/tpm: not supported yet" },
	{ "payload-missing", "n", "{}", "InvalidConfig", "/payload" },
	{ "path-newline", "n", "{\"payload\":{\"kernel\":\"/k\\n/etc/shadow\"}}", "InvalidConfig",
	  "is not usable as a path, must not hold control characters" },
	{ "cpus-0", "n", "{\"payload\":{\"kernel\":\"/k\"},\"cpus\":{\"boot_vcpus\":0}}",
	  "InvalidConfig", "/cpus/boot_vcpus: 0 is out of range" },
	{ "cpus-many", "n", "{\"payload\":{\"kernel\":\"/k\"},\"cpus\":{\"boot_vcpus\":5000}}",
	  "InvalidConfig", "/cpus/boot_vcpus: 5000 is out of range" },
	{ "cpus-type", "n", "{\"payload\":{\"kernel\":\"/k\"},\"cpus\":{\"boot_vcpus\":\"2\"}}",
	  "InvalidConfig", "/cpus/boot_vcpus: " },
	{ "memory-0", "n", "{\"payload\":{\"kernel\":\"/k\"},\"memory\":{\"size\":0}}",
	  "InvalidConfig", "/memory/size: " },
	{ "disk-ids", "n",
	  "{\"payload\":{\"kernel\":\"/k\"},\"disks\":[{\"id\":\"a\",\"path\":\"/1\"},"
	  "{\"id\":\"a\",\"path\":\"/2\"}]}",
	  "InvalidConfig", "/disks/1/id: " },
	{ "disk-path-missing", "n", "{\"payload\":{\"kernel\":\"/k\"},\"disks\":[{}]}",
	  "InvalidConfig", "/disks/0/path: " },
	{ "uuid-wrong", "n", "{\"payload\":{\"kernel\":\"/k\"},\"platform\":{\"uuid\":\"12\"}}",
	  "InvalidConfig", "/platform/uuid: " },
};

static void taken(struct fixture *f)
{
	sd_bus_message *reply;

	reply = fixture_call(f, BRUME_ROOT_PATH, BRUME_MANAGER_INTERFACE, "CreateVM",
			     "ssa{sh}a{sv}", "taken",
			     "{\"payload\":{\"kernel\":\"/k\"},\"platform\":{\"uuid\":"
			     "\"11111111-2222-3333-4444-555555555555\"}}",
			     0, 0);
	g_assert_cmpstr(f->error.message, ==, NULL);
	sd_bus_message_unref(reply);
}

static void assert_no_vm(struct fixture *f, const char *name)
{
	g_autofree char *file = g_strdup_printf("%s/state/%s.json", f->dir, name);

	g_assert_cmpuint(g_hash_table_size(f->manager->machines), ==, 1);
	g_assert_cmpuint(g_hash_table_size(f->manager->uuids), ==, 1);
	if (strcmp(name, "taken") != 0)
		g_assert_cmpint(access(file, F_OK), ==, -1);
}

static void test_create(void)
{
	struct fixture *f = fixture_new();

	taken(f);
	for (size_t i = 0; i < ARRAY_SIZE(creates); i++) {
		sd_bus_message *reply;

		g_test_message("%s", creates[i].title);
		reply = fixture_call(f, BRUME_ROOT_PATH, BRUME_MANAGER_INTERFACE, "CreateVM",
				     "ssa{sh}a{sv}", creates[i].name, creates[i].config, 0, 0);
		g_assert_null(reply);
		fixture_assert_error(f, creates[i].error, creates[i].text);
		assert_no_vm(f, creates[i].name);
	}
	/* The longest name there is, for comparison. */
	fixture_create(f, NAME_64, "", true);
	fixture_free(f);
}

#define OPTION(f, error, text, ...)                                                                \
	do {                                                                                       \
		g_assert_null(fixture_call(f, BRUME_ROOT_PATH, BRUME_MANAGER_INTERFACE,            \
					   "CreateVM", "ssa{sh}a{sv}", "n", GOOD, 0,               \
					   __VA_ARGS__));                                          \
		fixture_assert_error(f, error, text);                                              \
		assert_no_vm(f, "n");                                                              \
	} while (0)

static void test_create_options(void)
{
	struct fixture *f = fixture_new();
	g_autofree char *long_text = g_strnfill(VM_DESCRIPTION_MAX + 1, 'x');

	taken(f);
	OPTION(f, INVALID_ARGS, "unknown option 'persistent': CreateVM knows 'Persistent'", 1,
	       "persistent", "b", 1);
	OPTION(f, INVALID_ARGS, "option 'Persistent' has type 's', must be 'b'", 1, "Persistent",
	       "s", "yes");
	OPTION(f, INVALID_ARGS, "option 'Description' has type 'u', must be 's'", 1, "Description",
	       "u", 1);
	OPTION(f, INVALID_ARGS,
	       "option 'Description': the description of a VM has 4097 bytes, at most 4096", 1,
	       "Description", "s", long_text);
	OPTION(f, INVALID_ARGS, "option 'Autostart' is given twice", 2, "Autostart", "b", 1,
	       "Autostart", "b", 1);
	OPTION(f, INVALID_ARGS, "option 'Autostart' needs a persistent VM", 2, "Autostart", "b", 1,
	       "Persistent", "b", 0);
	OPTION(f, INVALID_ARGS, "'machine' is not a slice", 1, "Slice", "s", "machine");
	OPTION(f, INVALID_ARGS, "'a/b.slice' is not a slice", 1, "Slice", "s", "a/b.slice");
	OPTION(f, INVALID_ARGS, "'a--b.slice' is not a slice", 1, "Slice", "s", "a--b.slice");
	OPTION(f, INVALID_ARGS, "'-.slice' is not a slice", 1, "Slice", "s", "-.slice");
	OPTION(f, INVALID_ARGS, "'.slice' is not a slice", 1, "Slice", "s", ".slice");

	g_assert_null(fixture_call(f, BRUME_ROOT_PATH, BRUME_MANAGER_INTERFACE, "CreateVM",
				   "ssa{sh}a{sv}", "n", GOOD, 1, "d", STDIN_FILENO, 0));
	fixture_assert_error(f, INVALID_ARGS,
			     "descriptor 'd': a persistent VM cannot keep it, name a path or set "
			     "option 'Persistent' to false");
	assert_no_vm(f, "n");
	fixture_free(f);
}

static const struct {
	const char *method, *types, *argument, *error, *text;
} lookups[] = {
	{ "GetVM", "s", "nobody", "NoSuchVM", "there is no VM 'nobody'" },
	{ "GetVM", "s", "", "NoSuchVM", "there is no VM ''" },
	{ "GetVMByUUID", "s", "x", INVALID_ARGS, "'x' is not a UUID" },
	{ "GetVMByUUID", "s", "11111111-2222-3333-4444-555555555556", "NoSuchVM",
	  "there is no VM with UUID 11111111-2222-3333-4444-555555555556" },
	{ "ValidateConfig", "u", NULL, INVALID_ARGS, "" },
	{ "GetVM", "o", "/x", INVALID_ARGS, "" },
};

static void test_lookup(void)
{
	struct fixture *f = fixture_new();
	sd_bus_message *reply;

	taken(f);
	for (size_t i = 0; i < ARRAY_SIZE(lookups); i++) {
		reply = fixture_call(f, BRUME_ROOT_PATH, BRUME_MANAGER_INTERFACE, lookups[i].method,
				     lookups[i].types, lookups[i].argument);
		g_assert_null(reply);
		fixture_assert_error(f, lookups[i].error, lookups[i].text);
	}
	g_assert_null(fixture_call(f, BRUME_ROOT_PATH, BRUME_MANAGER_INTERFACE, "GetVMByPID", "u",
				   getpid()));
	fixture_assert_error(f, "NoSuchVM", "is not the worker of any VM");
	g_assert_null(fixture_call(f, BRUME_ROOT_PATH, BRUME_MANAGER_INTERFACE, "GetJob", "u", 9));
	fixture_assert_error(f, "NoSuchJob", "there is no job 9");
	/* Capital letters and no hyphens are the same UUID. */
	reply = fixture_call(f, BRUME_ROOT_PATH, BRUME_MANAGER_INTERFACE, "GetVMByUUID", "s",
			     "11111111222233334444555555555555");
	g_assert_nonnull(reply);
	sd_bus_message_unref(reply);
	g_assert_null(fixture_call(f, "/org/brume/vm1/vm/nobody", BRUME_VM_INTERFACE, "Start",
				   "a{sv}", 0));
	fixture_assert_error(f, "org.freedesktop.DBus.Error.UnknownObject", "");
	fixture_free(f);
}

static void test_vm(void)
{
	struct fixture *f = fixture_new();

	fixture_create(f, "v", "", true);
	fixture_create(f, "t", "", false);
	fixture_vm_fails(f, "v", INVALID_ARGS,
			 "unknown option 'Wiat': Start knows 'Paused', 'Wait'", "Start", "a{sv}", 1,
			 "Wiat", "b", 1);
	fixture_vm_fails(f, "v", INVALID_ARGS, "option 'Wait' has type 'i', must be 'b'", "Start",
			 "a{sv}", 1, "Wait", "i", 1);
	fixture_vm_fails(f, "v", INVALID_ARGS,
			 "unknown option 'x': Shutdown knows 'TimeoutUSec', 'Force', 'Wait'",
			 "Shutdown", "a{sv}", 1, "x", "b", 1);
	fixture_vm_fails(f, "v", INVALID_ARGS, "option 'TimeoutUSec' has type 'u', must be 't'",
			 "Shutdown", "a{sv}", 1, "TimeoutUSec", "u", 1);
	fixture_vm_fails(f, "v", INVALID_ARGS, "unknown option 'x': Pause has no options", "Pause",
			 "a{sv}", 1, "x", "b", 1);
	fixture_vm_fails(f, "v", INVALID_ARGS, "", "Pause", NULL);
	fixture_vm_fails(f, "v", INVALID_ARGS, "", "Start", "s", "x");
	fixture_vm_fails(f, "v", "InvalidState", "cannot pause VM 'v': it is stopped", "Pause",
			 "a{sv}", 0);
	fixture_vm_fails(f, "v", "InvalidState", "cannot resume VM 'v': it is stopped", "Resume",
			 "a{sv}", 0);
	fixture_vm_fails(f, "v", "InvalidState", "cannot reset VM 'v': it is stopped", "Reset",
			 "a{sv}", 0);
	fixture_vm_fails(f, "v", "InvalidState", "cannot terminate VM 'v': it is stopped",
			 "Terminate", "a{sv}", 0);
	fixture_vm_fails(f, "v", "InvalidState", "cannot reboot VM 'v': it is stopped", "Reboot",
			 "a{sv}", 0);
	fixture_vm_fails(f, "v", "InvalidState", "it is stopped", "PowerButton", "a{sv}", 0);
	fixture_vm_fails(f, "v", "InvalidState", "it is stopped", "InjectNMI", "a{sv}", 0);
	fixture_vm_fails(f, "v", "InvalidState", "it is stopped", "OpenConsole", "sa{sv}", "", 0);
	fixture_vm_fails(f, "v", INVALID_ARGS, "'now' is not a configuration, must be 'boot' or",
			 "GetConfig", "s", "now");
	fixture_vm_fails(f, "v", "InvalidConfig", "/cpus/boot_vcpus", "SetConfig", "sa{sv}",
			 "{\"payload\":{\"kernel\":\"/k\"},\"cpus\":{\"boot_vcpus\":0}}", 0);
	fixture_vm_fails(f, "t", "InvalidState", "VM 't' is transient and cannot be started with",
			 "SetAutostart", "ba{sv}", 1, 0);
	fixture_vm_fails(f, "v", INVALID_ARGS, "unknown option 'Force': Delete knows 'RemoveState'",
			 "Delete", "a{sv}", 1, "Force", "b", 1);
	fixture_vm_ok(f, "v", "Start", "a{sv}", 1, "Wait", "b", 1);
	fixture_vm_fails(f, "v", "InvalidState", "cannot delete VM 'v': it is running", "Delete",
			 "a{sv}", 0);
	fixture_assert_property(f, "v", "State", "running");
	fixture_vm_ok(f, "v", "Terminate", "a{sv}", 0);
	fixture_vm_ok(f, "v", "Delete", "a{sv}", 1, "RemoveState", "b", 1);
	g_assert_null(manager_find(f->manager, "v"));
	fixture_free(f);
}

/* One machine's name is the file of another one's definition. */
static void test_delete_state(void)
{
	struct fixture *f = fixture_new();
	g_autofree char *kept = NULL, *dir = NULL, *file = NULL;

	fixture_create(f, "v", "", true);
	fixture_create(f, "v.json", "", true);
	kept = g_build_filename(f->manager->state_dir, "v.json", NULL);
	dir = g_build_filename(f->manager->state_dir, "state", "v.json", NULL);
	file = g_build_filename(dir, "variables", NULL);
	g_assert_cmpint(g_mkdir_with_parents(dir, 0700), ==, 0);
	g_assert_true(g_file_set_contents(file, "", 0, NULL));
	fixture_vm_ok(f, "v.json", "Delete", "a{sv}", 1, "RemoveState", "b", 1);
	g_assert_true(g_file_test(kept, G_FILE_TEST_IS_REGULAR));
	g_assert_false(g_file_test(dir, G_FILE_TEST_EXISTS));
	fixture_vm_ok(f, "v", "Delete", "a{sv}", 1, "RemoveState", "b", 1);
	g_assert_false(g_file_test(kept, G_FILE_TEST_EXISTS));
	fixture_free(f);
}

/* Anybody may send it: it is refused before it has cost much. */
static void test_large_device(void)
{
	struct fixture *f = fixture_new();
	g_autofree char *path = g_strnfill(300 << 10, 'x');

	fixture_create(f, "v", "", true);
	fixture_vm_fails(f, "v", INVALID_ARGS, "config of the device: the value is too large",
			 "AddDevice", "ssa{sv}a{sh}a{sv}", "disk", "", 1, "path", "s", path, 0, 0);
	fixture_free(f);
}

static void test_validate(void)
{
	static const char *const pointers[] = { "/memory/size", "/tpm", "/disks/0/paht",
						"/disks/0/path" };
	struct fixture *f = fixture_new();
	const char *severity, *pointer, *text;
	sd_bus_message *reply;

	reply = fixture_call(f, BRUME_ROOT_PATH, BRUME_MANAGER_INTERFACE, "ValidateConfig",
			     "sa{sv}",
			     "{\"payload\":{\"kernel\":\"/k\"},\"cpus\":{\"boot_vcpus\":0}}", 0);
	g_assert_cmpint(sd_bus_message_enter_container(reply, 'a', "(sss)"), >, 0);
	g_assert_cmpint(sd_bus_message_read(reply, "(sss)", &severity, &pointer, &text), >, 0);
	g_assert_cmpstr(severity, ==, "error");
	g_assert_cmpstr(pointer, ==, "/cpus/boot_vcpus");
	g_assert_true(g_str_has_prefix(text, "0 is out of range"));
	sd_bus_message_unref(reply);
	/* All that is wrong, in the order of the document. */
	reply = fixture_call(f, BRUME_ROOT_PATH, BRUME_MANAGER_INTERFACE, "ValidateConfig",
			     "sa{sv}",
			     "{\"memory\":{\"size\":1},\"tpm\":{},\"disks\":[{\"paht\":\"/x\"}],"
			     "\"payload\":{\"kernel\":\"/k\"}}",
			     0);
	g_assert_cmpint(sd_bus_message_enter_container(reply, 'a', "(sss)"), >, 0);
	for (size_t i = 0; i < G_N_ELEMENTS(pointers); i++) {
		g_assert_cmpint(sd_bus_message_read(reply, "(sss)", &severity, &pointer, &text), >,
				0);
		g_assert_cmpstr(severity, ==, "error");
		g_assert_cmpstr(pointer, ==, pointers[i]);
	}
	g_assert_cmpint(sd_bus_message_at_end(reply, false), ==, 1);
	sd_bus_message_unref(reply);
	reply = fixture_call(f, BRUME_ROOT_PATH, BRUME_MANAGER_INTERFACE, "ValidateConfig",
			     "sa{sv}", GOOD, 0);
	g_assert_cmpint(sd_bus_message_enter_container(reply, 'a', "(sss)"), >, 0);
	g_assert_cmpint(sd_bus_message_at_end(reply, false), ==, 1);
	sd_bus_message_unref(reply);
	fixture_free(f);
}

static void test_description(void)
{
	struct fixture *f = fixture_new();
	g_autofree char *text = g_strnfill(VM_DESCRIPTION_MAX + 1, 'x');

	fixture_create(f, "d", "", true);
	fixture_vm_ok(f, "d", "SetDescription", "sa{sv}", "before", 0);
	fixture_vm_fails(f, "d", INVALID_ARGS, "has 4097 bytes, at most 4096 are allowed",
			 "SetDescription", "sa{sv}", text, 0);
	fixture_assert_property(f, "d", "Description", "before");
	text[VM_DESCRIPTION_MAX] = '\0';
	fixture_vm_ok(f, "d", "SetDescription", "sa{sv}", text, 0);
	fixture_assert_property(f, "d", "Description", text);
	fixture_free(f);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/daemon/bad-input/create", test_create);
	g_test_add_func("/daemon/bad-input/create-options", test_create_options);
	g_test_add_func("/daemon/bad-input/lookup", test_lookup);
	g_test_add_func("/daemon/bad-input/vm", test_vm);
	g_test_add_func("/daemon/bad-input/validate", test_validate);
	g_test_add_func("/daemon/bad-input/delete-state", test_delete_state);
	g_test_add_func("/daemon/bad-input/large-device", test_large_device);
	g_test_add_func("/daemon/bad-input/description", test_description);
	return g_test_run();
}
