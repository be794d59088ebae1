/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Device objects, and what is asked of devices, over the bus, with fake workers
 */
#include "daemon/device.h"
#include "daemon/machine.h"
#include "daemon/manager.h"
#include "dbus/bus-path.h"
#include "dbus/variant.h"
#include "tests/unit/daemon/fixture.h"
#include "vmm/base/cleanup.h"
#include "vmm/config/vm-config.h"
#include <string.h>
#include <unistd.h>

#define WAIT     "a{sv}", 1, "Wait", "b", 1
#define NONE     "a{sv}", 0
#define VM       "/org/brume/vm1/vm/web1"
#define DISK     VM "/device/d0"
#define NET      VM "/device/n0"
#define DISK_IFC BRUME_DEVICE_INTERFACE ".Disk"
#define NET_IFC  BRUME_DEVICE_INTERFACE ".Net"
#define FS_IFC   BRUME_DEVICE_INTERFACE ".FileSystem"

static void create(struct fixture *f, const char *words, const char *more)
{
	g_autofree char *image = g_build_filename(f->dir, "disk.raw", NULL);
	g_autofree char *disk =
		g_strdup_printf("\"disks\":[{\"path\":\"%s\",\"id\":\"d0\",\"serial\":\"S1\",%s",
				image, more);
	g_autofree char *config = fixture_config(f, words, disk);
	sd_bus_message *reply;

	g_assert_true(g_file_set_contents(image, "", 0, NULL));
	g_assert_cmpint(truncate(image, 1 << 20), ==, 0);
	reply = fixture_call(f, BRUME_ROOT_PATH, BRUME_MANAGER_INTERFACE, "CreateVM",
			     "ssa{sh}a{sv}", "web1", config, 0, 1, "Persistent", "b", 1);
	g_assert_cmpstr(f->error.message, ==, NULL);
	sd_bus_message_unref(reply);
}

static struct machine *start(struct fixture *f, const char *words)
{
	create(f, words, "\"bw_size\":1000,\"bw_refill_time\":500}]");
	fixture_vm_ok(f, "web1", "Start", WAIT);
	return manager_find(f->manager, "web1");
}

/* A network needs a tap, which a test of units has not: given to the machine when it runs. */
static void plug_net(struct machine *vm)
{
	g_autoptr(GVariant) answer = g_variant_ref_sink(g_variant_new_parsed(
		"@a{sv} {'devices': <[('d0', 'blk', '0000:00:02.0', 'ok'), "
		"('n0', 'net', '0000:00:03.0', 'ok')]>, 'values': <{'n0': {'link_up': <true>}}>}"));

	machine_devices_clear(vm);
	vm->boot->nets = g_new0(struct net_config, 1);
	vm->boot->n_nets = 1;
	vm->boot->nets[0].pci.id = g_strdup("n0");
	vm->boot->nets[0].num_queues = 2;
	vm->boot->nets[0].queue_size = 256;
	machine_devices_take(vm, answer);
}

/* What is under way arrives. */
static void settle(struct fixture *f)
{
	for (unsigned int i = 0; i < 10; i++)
		fixture_turn(f, 2000);
}

/* As text, NULL when there is none. */
static char *get(struct fixture *f, const char *path, const char *interface, const char *property)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
	g_autoptr(GVariant) variant = NULL, value = NULL;

	reply = fixture_call(f, path, "org.freedesktop.DBus.Properties", "Get", "ss", interface,
			     property);
	if (!reply || variant_from_message(reply, "v", &variant, NULL) < 0)
		return NULL;
	value = g_variant_get_variant(variant);
	return g_variant_print(value, FALSE);
}

#define assert_property(f, path, interface, property, value)                                       \
	do {                                                                                       \
		g_autofree char *is_ = get(f, path, interface, property);                          \
		g_assert_cmpstr(is_, ==, value);                                                   \
	} while (0)

static void call_ok(struct fixture *f, sd_bus_message *reply)
{
	g_assert_cmpstr(f->error.message, ==, NULL);
	sd_bus_message_unref(reply);
}

/* A share needs a virtiofsd: given to the machine when it runs. */
static void test_filesystem(void)
{
	struct fixture *f = fixture_new();
	g_autoptr(GVariant) answer = g_variant_ref_sink(
		g_variant_new_parsed("@a{sv} {'devices': <[('f0', 'fs', '0000:00:02.0', 'ok'), "
				     "('f1', 'fs', '0000:00:03.0', 'ok')]>}"));
	struct machine *vm = start(f, "");

	machine_devices_clear(vm);
	vm->boot->fs = g_new0(struct fs_config, 2);
	vm->boot->n_fs = 2;
	vm->boot->fs[0].pci.id = g_strdup("f0");
	vm->boot->fs[0].tag = g_strdup("share");
	vm->boot->fs[0].source = g_strdup("/srv/share");
	vm->boot->fs[1].pci.id = g_strdup("f1");
	vm->boot->fs[1].tag = g_strdup("other");
	vm->boot->fs[1].socket = g_strdup("/run/virtiofsd.socket");
	machine_devices_take(vm, answer);
	assert_property(f, VM "/device/f0", FS_IFC, "Tag", "'share'");
	assert_property(f, VM "/device/f0", FS_IFC, "Source", "'/srv/share'");
	assert_property(f, VM "/device/f0", FS_IFC, "Socket", "''");
	assert_property(f, VM "/device/f1", FS_IFC, "Source", "''");
	assert_property(f, VM "/device/f1", FS_IFC, "Socket", "'/run/virtiofsd.socket'");
	fixture_free(f);
}

static void test_objects(void)
{
	struct fixture *f = fixture_new();
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
	const char *id, *type, *bdf, *path;

	start(f, "");
	reply = fixture_call(f, VM, BRUME_VM_INTERFACE, "ListDevices", NULL);
	g_assert_cmpint(sd_bus_message_enter_container(reply, 'a', "(ssso)"), >, 0);
	g_assert_cmpint(sd_bus_message_read(reply, "(ssso)", &id, &type, &bdf, &path), >, 0);
	g_assert_cmpstr(id, ==, "d0");
	g_assert_cmpstr(type, ==, "disk");
	g_assert_cmpstr(bdf, ==, "0000:00:02.0");
	g_assert_cmpstr(path, ==, DISK);
	/* They were announced before the job was over. */
	g_assert_cmpint(fixture_find_log(f, "InterfacesAdded:" DISK), <,
			fixture_find_log(f, "JobRemoved:/org/brume/vm1/job/1," VM ",done,,"));
	assert_property(f, DISK, BRUME_DEVICE_INTERFACE, "Id", "'d0'");
	assert_property(f, DISK, BRUME_DEVICE_INTERFACE, "Type", "'disk'");
	assert_property(f, DISK, BRUME_DEVICE_INTERFACE, "VM", "'" VM "'");
	assert_property(f, DISK, BRUME_DEVICE_INTERFACE, "BDF", "'0000:00:02.0'");
	assert_property(f, DISK, BRUME_DEVICE_INTERFACE, "State", "'present'");
	assert_property(f, DISK, BRUME_DEVICE_INTERFACE, "Persistent", "true");
	assert_property(f, DISK, BRUME_DEVICE_INTERFACE, "HotPlugged", "false");
	assert_property(f, DISK, DISK_IFC, "Serial", "'S1'");
	assert_property(f, DISK, DISK_IFC, "Format", "'raw'");
	assert_property(f, DISK, DISK_IFC, "ReadOnly", "false");
	assert_property(f, DISK, DISK_IFC, "Queues", "1");
	assert_property(f, DISK, DISK_IFC, "QueueSize", "128");
	assert_property(f, DISK, DISK_IFC, "RateLimit",
			"{'BandwidthSize': 1000, 'BandwidthRefillUSec': 500000}");
	/* A disk is no network, and there is nothing at other paths. */
	assert_property(f, DISK, NET_IFC, "LinkUp", NULL);
	assert_property(f, VM "/device/nobody", BRUME_DEVICE_INTERFACE, "Id", NULL);
	fixture_vm_fails(f, "web1", "NoSuchDevice", "VM 'web1' has no device 'x'", "GetDevice", "s",
			 "x");
	call_ok(f, fixture_call(f, VM, BRUME_VM_INTERFACE, "GetDevice", "s", "d0"));
	fixture_vm_ok(f, "web1", "Terminate", NONE);
	fixture_wait_log(f, "InterfacesRemoved:" DISK);
	fixture_vm_fails(f, "web1", "NoSuchDevice",
			 "VM 'web1' is stopped: it has devices while it runs", "GetDevice", "s",
			 "d0");
	fixture_free(f);
}

static void test_counters(void)
{
	struct fixture *f = fixture_new();
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
	g_autoptr(GVariant) counters = NULL;
	g_autofree char *text = NULL;

	plug_net(start(f, ""));
	reply = fixture_call(f, NET, BRUME_DEVICE_INTERFACE, "GetCounters", NONE);
	g_assert_cmpint(variant_from_message(reply, "a{st}", &counters, NULL), ==, 0);
	text = g_variant_print(counters, FALSE);
	g_assert_cmpstr(text, ==, "{'rx_packets': 7}");
	g_assert_null(fixture_call(f, NET, BRUME_DEVICE_INTERFACE, "GetCounters", "a{sv}", 1, "X",
				   "b", 1));
	fixture_assert_error(f, "org.freedesktop.DBus.Error.InvalidArgs", "X");
	fixture_free(f);
}

static void test_link(void)
{
	struct fixture *f = fixture_new();
	struct machine *vm = start(f, "");

	plug_net(vm);
	assert_property(f, NET, NET_IFC, "LinkUp", "true");
	call_ok(f, fixture_call(f, NET, NET_IFC, "SetLink", "ba{sv}", 0, 0));
	fixture_wait_log(f, "PropertiesChanged:Net,LinkUp");
	assert_property(f, NET, NET_IFC, "LinkUp", "false");
	call_ok(f, fixture_call(f, NET, NET_IFC, "SetLink", "ba{sv}", 1, 0));
	settle(f);
	assert_property(f, NET, NET_IFC, "LinkUp", "true");
	fixture_free(f);
}

static void test_disk_limit(void)
{
	struct fixture *f = fixture_new();
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
	const char *json;

	start(f, "");
	fixture_assert_property(f, "web1", "RestartRequired", "0");
	call_ok(f, fixture_call(f, DISK, DISK_IFC, "SetRateLimit", "a{sv}a{sv}", 3, "BandwidthSize",
				"t", (uint64_t)5000000, "OpsSize", "t", (uint64_t)100,
				"OpsRefillUSec", "t", (uint64_t)100000, 0));
	fixture_wait_log(f, "PropertiesChanged:Disk,RateLimit");
	assert_property(f, DISK, DISK_IFC, "RateLimit",
			"{'BandwidthSize': 5000000, 'BandwidthRefillUSec': 1000000, 'OpsSize': "
			"100, 'OpsRefillUSec': 100000}");
	reply = fixture_call(f, VM, BRUME_VM_INTERFACE, "GetConfig", "s", "boot");
	g_assert_cmpint(sd_bus_message_read(reply, "s", &json), >, 0);
	g_assert_nonnull(strstr(json, "\"size\":5000000"));
	fixture_assert_property(f, "web1", "RestartRequired", "1");

	/* The next daemon knows it too. */
	fixture_stop_daemon(f);
	fixture_start_daemon(f);
	assert_property(f, DISK, DISK_IFC, "RateLimit",
			"{'BandwidthSize': 5000000, 'BandwidthRefillUSec': 1000000, 'OpsSize': "
			"100, 'OpsRefillUSec': 100000}");
	call_ok(f, fixture_call(f, DISK, DISK_IFC, "SetRateLimit", "a{sv}a{sv}", 0, 0));
	assert_property(f, DISK, DISK_IFC, "RateLimit", "{}");
	fixture_free(f);
}

static void test_net_limit(void)
{
	struct fixture *f = fixture_new();
	struct machine *vm = start(f, "");

	plug_net(vm);
	call_ok(f, fixture_call(f, NET, NET_IFC, "SetRateLimit", "a{sv}a{sv}", 1, "OpsSize", "t",
				(uint64_t)10, 0));
	call_ok(f, fixture_call(f, NET, NET_IFC, "SetRateLimit", "a{sv}a{sv}", 1, "OpsSize", "t",
				(uint64_t)20, 1, "Direction", "s", "rx"));
	assert_property(f, NET, NET_IFC, "ReceiveRateLimit",
			"{'OpsSize': 20, 'OpsRefillUSec': 1000000}");
	assert_property(f, NET, NET_IFC, "TransmitRateLimit",
			"{'OpsSize': 10, 'OpsRefillUSec': 1000000}");
	call_ok(f, fixture_call(f, NET, NET_IFC, "SetRateLimit", "a{sv}a{sv}", 0, 1, "Direction",
				"s", "tx"));
	assert_property(f, NET, NET_IFC, "ReceiveRateLimit",
			"{'OpsSize': 20, 'OpsRefillUSec': 1000000}");
	assert_property(f, NET, NET_IFC, "TransmitRateLimit", "{}");
	fixture_free(f);
}

static void test_group_limit(void)
{
	struct fixture *f = fixture_new();
	bool told = false;

	create(f, "",
	       "\"rate_limit_group\":\"g\"}],\"rate_limit_groups\":[{\"id\":\"g\",\"ops_size\":5,"
	       "\"ops_refill_time\":10}]");
	assert_property(f, VM, BRUME_VM_INTERFACE, "RateLimitGroups",
			"{'g': {'OpsSize': 5, 'OpsRefillUSec': 10000}}");
	fixture_vm_fails(f, "web1", "InvalidState", "it is stopped", "SetRateLimitGroup",
			 "sa{sv}a{sv}", "g", 0, 0);
	fixture_vm_ok(f, "web1", "Start", WAIT);
	assert_property(f, DISK, DISK_IFC, "RateLimitGroup", "'g'");
	g_assert_null(fixture_call(f, DISK, DISK_IFC, "SetRateLimit", "a{sv}a{sv}", 0, 0));
	fixture_assert_error(f, "InvalidState",
			     "disk 'd0' of VM 'web1' shares the limit of group 'g', which is what "
			     "must be changed");
	fixture_vm_ok(f, "web1", "SetRateLimitGroup", "sa{sv}a{sv}", "g", 1, "BandwidthSize", "t",
		      (uint64_t)77, 0);
	settle(f);
	for (unsigned int i = 0; i < f->log->len; i++)
		told = told || strstr(f->log->pdata[i], ",RateLimitGroups");
	g_assert_true(told);
	assert_property(f, VM, BRUME_VM_INTERFACE, "RateLimitGroups",
			"{'g': {'BandwidthSize': 77, 'BandwidthRefillUSec': 1000000}}");
	/* It stays a group when it limits nothing. */
	fixture_vm_ok(f, "web1", "SetRateLimitGroup", "sa{sv}a{sv}", "g", 0, 0);
	fixture_stop_daemon(f);
	fixture_start_daemon(f);
	assert_property(f, VM, BRUME_VM_INTERFACE, "RateLimitGroups", "{'g': {}}");
	fixture_free(f);
}

static void test_bad_limits(void)
{
	static const struct {
		const char *key, *key2, *text;
		uint64_t n;
	} cases[] = {
		{ "Bandwidth", NULL, "Bandwidth", 1 },
		{ "BandwidthRefillUSec", NULL,
		  "BandwidthRefillUSec has no effect alone, must come with BandwidthSize", 2000 },
		{ "OpsOneTimeBurst", NULL,
		  "OpsOneTimeBurst has no effect alone, must come with OpsSize", 2000 },
		{ "OpsRefillUSec", "OpsSize", "1500 is not possible, must be whole milliseconds",
		  1500 },
		{ "OpsRefillUSec", "OpsSize", "0 is not possible, must be whole milliseconds", 0 },
		{ "OpsSize", NULL, "OpsSize: 18446744073709551615 is out of range", UINT64_MAX },
	};
	struct fixture *f = fixture_new();

	start(f, "");
	for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
		if (cases[i].key2)
			g_assert_null(fixture_call(f, DISK, DISK_IFC, "SetRateLimit", "a{sv}a{sv}",
						   2, cases[i].key, "t", cases[i].n, cases[i].key2,
						   "t", (uint64_t)1, 0));
		else
			g_assert_null(fixture_call(f, DISK, DISK_IFC, "SetRateLimit", "a{sv}a{sv}",
						   1, cases[i].key, "t", cases[i].n, 0));
		fixture_assert_error(f, "org.freedesktop.DBus.Error.InvalidArgs", cases[i].text);
	}
	assert_property(f, DISK, DISK_IFC, "RateLimit",
			"{'BandwidthSize': 1000, 'BandwidthRefillUSec': 500000}");
	fixture_free(f);
}

/* What a worker refuses has not changed anything. */
static void test_refused_limit(void)
{
	struct fixture *f = fixture_new();

	start(f, "fake-no-limits");
	g_assert_null(fixture_call(f, DISK, DISK_IFC, "SetRateLimit", "a{sv}a{sv}", 0, 0));
	fixture_assert_error(f, "org.freedesktop.DBus.Error.NotSupported",
			     "the fake limits nothing");
	assert_property(f, DISK, DISK_IFC, "RateLimit",
			"{'BandwidthSize': 1000, 'BandwidthRefillUSec': 500000}");
	fixture_assert_property(f, "web1", "RestartRequired", "0");
	fixture_free(f);
}

/* What the machine has counts, not what its configuration says of one kind of memory. */
static void test_balloon_bound(void)
{
	g_autoptr(GVariant) answer = g_variant_ref_sink(g_variant_new_parsed("@a{sv} {}"));
	struct fixture *f = fixture_new();
	struct machine *vm = start(f, "");
	struct err err = { 0 };

	machine_devices_clear(vm);
	vm->boot->has_balloon = true;
	machine_devices_take(vm, answer);
	vm->boot->memory.size = 0; /* as with zones */
	vm->sizes = (struct machine_sizes){ .vcpus = 1, .memory = 96 << 20 };
	g_assert_cmpint(machine_check_balloon(vm, 0, &err), ==, 0);
	g_assert_cmpint(machine_check_balloon(vm, (96 << 20) - 1, &err), ==, 0);
	g_assert_cmpint(machine_check_balloon(vm, 96 << 20, &err), <, 0);
	g_assert_cmpstr(err.msg, ==,
			"a balloon of 100663296 bytes is too large for VM 'web1', must be less "
			"than its 100663296 bytes of memory");
	fixture_free(f);
}

static void test_without(void)
{
	struct fixture *f = fixture_new();

	start(f, "");
	fixture_assert_property(f, "web1", "VSockCID", "0");
	fixture_assert_property(f, "web1", "Balloon", "0");
	fixture_vm_fails(f, "web1", "NoSuchDevice", "VM 'web1' has no vsock device", "ConnectVSock",
			 "ua{sv}", 22, 0);
	fixture_vm_fails(f, "web1", "NoSuchDevice", "VM 'web1' has no balloon", "SetBalloon",
			 "ta{sv}", (uint64_t)1 << 20, 0);
	fixture_vm_fails(f, "web1", "NoSuchDevice", "VM 'web1' has no rate limit group 'g'",
			 "SetRateLimitGroup", "sa{sv}a{sv}", "g", 0, 0);
	fixture_vm_ok(f, "web1", "Terminate", NONE);
	fixture_vm_fails(f, "web1", "InvalidState", "cannot connect to VM 'web1': it is stopped",
			 "ConnectVSock", "ua{sv}", 22, 0);
	fixture_vm_fails(f, "web1", "InvalidState",
			 "cannot set the balloon of VM 'web1': it is stopped", "SetBalloon",
			 "ta{sv}", (uint64_t)1 << 20, 0);
	fixture_free(f);
}

/* A worker in hostile hands, or one that says nothing. */
static void test_hostile(void)
{
	struct fixture *f = fixture_new();
	struct machine *vm = start(f, "fake-bad-values fake-bad-bdf");

	assert_property(f, DISK, BRUME_DEVICE_INTERFACE, "BDF", "''");
	plug_net(vm);
	call_ok(f, fixture_call(f, NET, NET_IFC, "SetLink", "ba{sv}", 0, 0));
	fixture_wait_log(f, "PropertiesChanged:Net,LinkUp");
	assert_property(f, NET, NET_IFC, "LinkUp", "false");
	g_assert_cmpuint(g_variant_n_children(machine_find_device(vm, "n0")->values), ==, 0);
	fixture_free(f);

	f = fixture_new();
	start(f, "fake-start-says-nothing");
	assert_property(f, DISK, BRUME_DEVICE_INTERFACE, "Id", "'d0'");
	fixture_free(f);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/daemon/devices/objects", test_objects);
	g_test_add_func("/daemon/devices/filesystem", test_filesystem);
	g_test_add_func("/daemon/devices/counters", test_counters);
	g_test_add_func("/daemon/devices/link", test_link);
	g_test_add_func("/daemon/devices/disk-limit", test_disk_limit);
	g_test_add_func("/daemon/devices/net-limit", test_net_limit);
	g_test_add_func("/daemon/devices/group-limit", test_group_limit);
	g_test_add_func("/daemon/devices/bad-limits", test_bad_limits);
	g_test_add_func("/daemon/devices/refused-limit", test_refused_limit);
	g_test_add_func("/daemon/devices/balloon-bound", test_balloon_bound);
	g_test_add_func("/daemon/devices/without", test_without);
	g_test_add_func("/daemon/devices/hostile", test_hostile);
	return g_test_run();
}
