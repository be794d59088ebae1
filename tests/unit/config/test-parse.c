/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vm_config_parse(): the shape of a definition, its types and defaults, and what is known
 * by name and not supported yet
 */
#include "refused.h"

static const struct refused refused[] = {
	{ "top/list", "[]", "definition: must be an object, is a list" },
	{ "top/number", "7", "definition: must be an object, is 7" },
	{ "top/empty", "{}", "/payload: names nothing to start, must have 'kernel' or 'firmware'" },
	{ "top/unknown-key", VM(",'frobnicate':1"),
	  "/frobnicate: unknown key, must be one of cpus, memory, payload, disks, net, rng, serial, "
	  "console, debug_console, platform, "
	  "rate_limit_groups, rtc, balloon, fs, pmem, vsock, pvpanic, iommu, numa, watchdog, "
	  "watchdog_action, pci_segments" },
	{ "top/close-key", VM(",'disk':[]"), "/disk: unknown key, did you mean 'disks'?" },
	{ "top/key-of-section", VM(",'kernel':'/k'"),
	  "/kernel: unknown key, did you mean 'kernel' in 'payload'?" },
	{ "top/slash-in-key", VM(",'a/b~c':1"),
	  "/a~1b~0c: unknown key, must be one of cpus, memory, payload, disks, net, rng, serial, "
	  "console, debug_console, platform, rate_limit_groups, rtc, balloon, fs, pmem, vsock, "
	  "pvpanic, iommu, numa, watchdog, watchdog_action, pci_segments" },
	{ "top/section-string", VM(",'cpus':'4'"), "/cpus: must be an object, is the string '4'" },
	{ "top/section-list", VM(",'memory':[1]"), "/memory: must be an object, is a list" },
};

static const struct {
	const char *name, *json, *text;
} later_cases[] = {
	{ "vdpa", VM(",'vdpa':[{'path':'/x'}]"), "/vdpa: not supported yet" },
	{ "devices", VM(",'devices':[{'path':'/x'}]"), "/devices: not supported yet" },
	{ "user-devices", VM(",'user_devices':[{'socket':'/x'}]"),
	  "/user_devices: not supported yet" },
	{ "tpm", VM(",'tpm':{'socket':'/x'}"), "/tpm: not supported yet" },
	{ "landlock", VM(",'landlock_enable':true"), "/landlock_enable: not supported yet" },
	{ "kvm-hyperv", VM(",'cpus':{'kvm_hyperv':true}"), "/cpus/kvm_hyperv: not supported yet" },
	{ "amx", VM(",'cpus':{'features':{'amx':true}}"), "/cpus/features/amx: not supported yet" },
	{ "core-scheduling", VM(",'cpus':{'core_scheduling':'Vm'}"),
	  "/cpus/core_scheduling: 'Vm' is not supported yet, must be Off" },
	{ "igvm", "{'payload':{'igvm':'/x'}}", "/payload/igvm: not supported yet" },
	{ "disk-vhost-user", VM(",'disks':[{'path':'/x','vhost_user':true}]"),
	  "/disks/0/vhost_user: not supported yet" },
	{ "disk-vmdk", VM(",'disks':[{'path':'/x','image_type':'Vmdk'}]"),
	  "/disks/0/image_type: 'Vmdk' is not supported yet, must be Unknown, Raw, Qcow2, Vhd or "
	  "Vhdx" },
	{ "tdx", VM(",'platform':{'tdx':true}"), "/platform/tdx: not supported yet" },
};

static void test_later(gconstpointer data)
{
	size_t i = GPOINTER_TO_SIZE(data);
	g_autoptr(GVariant) dict = definition_from_json(later_cases[i].json);
	struct vm_config *config = NULL;
	struct err err = { 0 };
	int r;

	r = vm_config_parse(dict, &config, &err);
	g_assert_cmpstr(err.msg, ==, later_cases[i].text);
	g_assert_cmpint(r, ==, -EOPNOTSUPP);
	g_assert_cmpint(err.fault, ==, FAULT_UNSUPPORTED);
	g_assert_null(config);
}

/* What `ch-remote info` of Cloud Hypervisor prints holds every key, unused ones too. */
static void test_cloud_hypervisor_file(void)
{
	_cleanup_(vm_config_free_cleanup) struct vm_config *config = config_from_json(
		"{'cpus':{'boot_vcpus':2,'max_vcpus':4,'topology':null,'kvm_hyperv':false,"
		"'max_phys_bits':46,'affinity':null,'features':{'amx':false},'nested':true},"
		"'memory':{'size':1073741824,'mergeable':false,'hotplug_method':'Acpi',"
		"'hotplug_size':null,'hotplugged_size':null,'shared':false,'hugepages':false,"
		"'hugepage_size':null,'prefault':false,'zones':null,'thp':true},"
		"'payload':{'firmware':null,'kernel':'/boot/vmlinuz','cmdline':'console=ttyS0',"
		"'initramfs':null,'igvm':null},'rate_limit_groups':null,"
		"'disks':[{'path':'/x.img','readonly':false,'direct':false,'iommu':false,"
		"'num_queues':2,'queue_size':128,'vhost_user':false,'vhost_socket':null,"
		"'rate_limit_group':null,'rate_limiter_config':null,'id':'_disk0',"
		"'disable_io_uring':false,'disable_aio':false,'pci_segment':0,'serial':null,"
		"'queue_affinity':null,'backing_files':false,'sparse':true,'image_type':'Raw',"
		"'lock_granularity':'ByteRange'}],"
		"'net':[{'tap':'tap0','ip':null,'mask':null,'mac':'52:54:00:12:34:56',"
		"'host_mac':null,'mtu':null,'iommu':false,'num_queues':2,'queue_size':256,"
		"'vhost_user':false,'vhost_socket':null,'vhost_mode':'Client','id':'_net1',"
		"'fds':null,'rate_limiter_config':null,'pci_segment':0,'offload_tso':true,"
		"'offload_ufo':true,'offload_csum':true}],"
		"'rng':{'src':'/dev/urandom','iommu':false},'balloon':null,'fs':null,'pmem':null,"
		"'serial':{'file':null,'mode':'Null','iommu':false,'socket':null},"
		"'console':{'file':null,'mode':'Tty','iommu':false,'socket':null},"
		"'debug_console':{'file':null,'mode':'Off','iobase':233},'devices':null,"
		"'user_devices':null,'vdpa':null,'vsock':null,'pvpanic':false,'iommu':false,"
		"'numa':null,'watchdog':false,'gdb':false,'pci_segments':null,"
		"'platform':{'num_pci_segments':1,'iommu_segments':null,'iommu_address_width':64,"
		"'serial_number':'s1','uuid':null,'oem_strings':null,'tdx':false,'sev_snp':false},"
		"'tpm':null,'preserved_fds':null,'landlock_enable':false,'landlock_rules':null}");

	g_assert_cmpuint(config->cpus.boot_vcpus, ==, 2);
	g_assert_cmpuint(config->cpus.max_vcpus, ==, 4);
	g_assert_false(config->cpus.has_topology);
	g_assert_cmpuint(config->n_disks, ==, 1);
	g_assert_cmpstr(config->disks[0].path, ==, "/x.img");
	g_assert_null(config->disks[0].serial);
	g_assert_cmpuint(config->n_nets, ==, 1);
	g_assert_true(config->nets[0].has_mac);
	g_assert_cmphex(config->nets[0].mac.bytes[5], ==, 0x56);
	g_assert_cmpuint(config->nets[0].mtu, ==, 0);
	g_assert_cmpint(config->serial.mode, ==, CONSOLE_MODE_NULL);
	g_assert_cmpint(config->console.mode, ==, CONSOLE_MODE_TTY);
	g_assert_cmpstr(config->platform.serial_number, ==, "s1");
	g_assert_null(config->platform.oem_strings);
}

static void test_defaults(void)
{
	_cleanup_(vm_config_free_cleanup) struct vm_config *config = config_from_json(
		VM(",'disks':[{'path':'/x'},{'path':'/y','id':'_disk0'}],'net':[{}]"));

	g_assert_cmpuint(config->cpus.boot_vcpus, ==, 1);
	g_assert_cmpuint(config->cpus.max_vcpus, ==, 1);
	g_assert_cmpuint(config->cpus.max_phys_bits, ==, 46);
	g_assert_true(config->cpus.nested);
	g_assert_cmpuint(config->memory.size, ==, 512u << 20);
	g_assert_true(config->memory.thp);
	g_assert_cmpuint(config->disks[0].num_queues, ==, 1);
	g_assert_cmpuint(config->disks[0].queue_size, ==, 128);
	g_assert_false(config->disks[0].pci.has_pci_device_id);
	g_assert_cmpuint(config->nets[0].num_queues, ==, 2);
	g_assert_cmpuint(config->nets[0].queue_size, ==, 256);
	g_assert_true(config->nets[0].offload_tso);
	g_assert_false(config->nets[0].has_mac);
	g_assert_cmpstr(config->rng.src, ==, "/dev/urandom");
	g_assert_cmpint(config->serial.mode, ==, CONSOLE_MODE_TTY);
	g_assert_cmpint(config->console.mode, ==, CONSOLE_MODE_OFF);
	g_assert_cmpint(config->debug_console.mode, ==, CONSOLE_MODE_OFF);
	g_assert_cmphex(config->debug_console.iobase, ==, 0xe9);
	/* "_disk0" is taken by the second one */
	g_assert_cmpstr(config->disks[0].pci.id, ==, "_disk1");
	g_assert_cmpstr(config->disks[1].pci.id, ==, "_disk0");
	g_assert_cmpstr(config->nets[0].pci.id, ==, "_net2");
}

/* Every integer type of D-Bus and GVariant, and what JSON readers make of integers. */
static void test_integer_types(void)
{
	static const char *const good[] = {
		"byte 2", "int16 2", "uint16 2",     "2",     "uint32 2", "int64 2", "uint64 2",
		"2.0",    "<2>",     "<<uint16 2>>", "@mi 2",
	};

	for (size_t i = 0; i < G_N_ELEMENTS(good); i++) {
		g_autofree char *text = g_strdup_printf(
			"{'payload': <{'kernel': <'/k'>}>, 'cpus': <{'boot_vcpus': <%s>}>}",
			good[i]);
		g_autoptr(GVariant) dict =
			g_variant_parse(G_VARIANT_TYPE_VARDICT, text, NULL, NULL, NULL);
		_cleanup_(vm_config_free_cleanup) struct vm_config *config = NULL;
		struct err err = { 0 };

		g_assert_nonnull(dict);
		g_assert_cmpint(vm_config_parse(dict, &config, &err), ==, 0);
		g_assert_cmpstr(err.msg, ==, "");
		g_assert_cmpuint(config->cpus.boot_vcpus, ==, 2);
	}
}

/* Typed containers, as they come from the bus, and a key that is there twice. */
static void test_typed_containers(void)
{
	g_autoptr(GVariant) good = g_variant_ref_sink(
		g_variant_new_parsed("{'payload': <{'kernel': '/k'}>,"
				     " 'cpus': <{'boot_vcpus': uint32 4, 'max_vcpus': 4}>,"
				     " 'disks': <[{'path': <'/x'>, 'num_queues': <uint16 4>}]>,"
				     " 'platform': <{'oem_strings': <['a', 'b']>}>}"));
	GVariantBuilder twice;
	g_autoptr(GVariant) bad = NULL;
	_cleanup_(vm_config_free_cleanup) struct vm_config *config = NULL;
	struct err err = { 0 };

	g_assert_cmpint(vm_config_parse(good, &config, &err), ==, 0);
	g_assert_cmpuint(config->disks[0].num_queues, ==, 4);
	g_assert_cmpstr(config->platform.oem_strings[1], ==, "b");
	g_assert_null(config->platform.oem_strings[2]);

	g_variant_builder_init(&twice, G_VARIANT_TYPE_VARDICT);
	g_variant_builder_add_parsed(&twice, "{'memory', <{'shared': <true>}>}");
	g_variant_builder_add_parsed(&twice, "{'memory', <{'shared': <true>}>}");
	bad = g_variant_ref_sink(g_variant_builder_end(&twice));
	g_assert_cmpint(vm_config_parse(bad, &config, &err), ==, -EINVAL);
	g_assert_cmpstr(err.msg, ==, "/memory: given twice");
}

/* Long and strange foreign text stays one valid, short sentence. */
static void test_foreign_text(void)
{
	g_autofree char *euros = g_strnfill(900, 'x'), *json = NULL;
	g_autoptr(GVariant) dict = NULL;
	struct vm_config *config = NULL;
	struct err err = { 0 };

	for (size_t i = 0; i + 3 <= 900; i += 3)
		memcpy(euros + i, "\xe2\x82\xac", 3);
	json = g_strdup_printf("{'%s':1}", euros);
	dict = definition_from_json(json);
	g_assert_cmpint(vm_config_parse(dict, &config, &err), ==, -EINVAL);
	g_assert_true(g_utf8_validate(err.msg, -1, NULL));
	g_assert_nonnull(strstr(err.msg, ": unknown key, must be one of cpus"));

	g_clear_pointer(&dict, g_variant_unref);
	g_clear_pointer(&json, g_free);
	err_clear(&err);
	json = g_strdup_printf("{'payload':{'kernel':'%s'}}", euros);
	dict = definition_from_json(json);
	g_assert_cmpint(vm_config_parse(dict, &config, &err), ==, -EINVAL);
	g_assert_true(g_utf8_validate(err.msg, -1, NULL));
	g_assert_true(
		g_str_has_suffix(err.msg, "...' is not an absolute path, must start with '/'"));
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	add_refused(refused, G_N_ELEMENTS(refused));
	for (size_t i = 0; i < G_N_ELEMENTS(later_cases); i++) {
		g_autofree char *path =
			g_strdup_printf("/config/parse/later/%s", later_cases[i].name);

		g_test_add_data_func(path, GSIZE_TO_POINTER(i), test_later);
	}
	g_test_add_func("/config/parse/cloud-hypervisor-file", test_cloud_hypervisor_file);
	g_test_add_func("/config/parse/defaults", test_defaults);
	g_test_add_func("/config/parse/integer-types", test_integer_types);
	g_test_add_func("/config/parse/typed-containers", test_typed_containers);
	g_test_add_func("/config/parse/foreign-text", test_foreign_text);
	return g_test_run();
}
