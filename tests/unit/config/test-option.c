/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Option strings: what `brumectl run --disk path=...` understands, and the
 * sentence for what it does not.
 */
#include <errno.h>

#include "definition.h"
#include "vmm/config/option.h"
#include "vmm/config/tables.h"

static const struct {
	const char *option, *text, *json; /* the definition afterwards, compact */
} good_cases[] = {
	{ "cpus", "boot=4", "{'cpus':{'boot_vcpus':4}}" },
	{ "cpus", "boot=2,max=8", "{'cpus':{'boot_vcpus':2,'max_vcpus':8}}" },
	{ "cpus", "boot_vcpus=2", "{'cpus':{'boot_vcpus':2}}" },
	{ "cpus", "topology=2:4:1:1",
	  "{'cpus':{'topology':{'cores_per_die':4,'dies_per_package':1,'packages':1,"
	  "'threads_per_core':2}}}" },
	{ "cpus", "affinity=[0@[2,3],1@[4-6,9]]",
	  "{'cpus':{'affinity':[{'host_cpus':[2,3],'vcpu':0},{'host_cpus':[4,5,6,9],'vcpu':1}]}}" },
	{ "cpus", "affinity=[0@5]", "{'cpus':{'affinity':[{'host_cpus':[5],'vcpu':0}]}}" },
	{ "cpus", "nested=off,kvm_hyperv=off", "{'cpus':{'kvm_hyperv':false,'nested':false}}" },
	{ "memory", "size=512M", "{'memory':{'size':536870912}}" },
	{ "memory", "size=1T", "{'memory':{'size':1099511627776}}" },
	{ "memory", "size=1048576K,shared=on,thp=off",
	  "{'memory':{'shared':true,'size':1073741824,"
	  "'thp':false}}" },
	{ "memory", "hugepages=true,hugepage_size=2M",
	  "{'memory':{'hugepage_size':2097152,'hugepages':true}}" },
	{ "disk", "path=/x.img", "{'disks':[{'path':'/x.img'}]}" },
	{ "disk", "path=x.img,readonly=on",
	  "{'disks':[{'path':'/home/me/x.img','readonly':true}]}" },
	{ "disk", "path=\"/a,b=c.img\",direct=false",
	  "{'disks':[{'direct':false,'path':'/a,b=c.img'}]}" },
	{ "disk", "path=/x,image_type=raw,pci_segment=0,sparse=on,vhost_user=off",
	  "{'disks':[{'image_type':'Raw','path':'/x','pci_segment':0,'sparse':true,"
	  "'vhost_user':false}]}" },
	{ "disk",
	  "path=/x,image_type=qcow2,backing_files=on,sparse=off,lock_granularity=byte-range,"
	  "num_queues=2,queue_affinity=[0@[1,2-4],1@[0]],_disable_io_uring=on,_disable_aio=on",
	  "{'disks':[{'backing_files':true,'disable_aio':true,'disable_io_uring':true,"
	  "'image_type':'Qcow2','lock_granularity':'ByteRange','num_queues':2,'path':'/x',"
	  "'queue_affinity':[{'host_cpus':[1,2,3,4],'queue_index':0},{'host_cpus':[0],"
	  "'queue_index':1}],'sparse':false}]}" },
	{ "disks", "path=/x", "{'disks':[{'path':'/x'}]}" },
	{ "net", "num_queues=2", "{'net':[{'num_queues':2}]}" },
	{ "net", "tap=tap0,mac=52:54:00:12:34:56,num_queues=4",
	  "{'net':[{'mac':'52:54:00:12:34:56','num_queues':4,'tap':'tap0'}]}" },
	{ "net", "fd=3", "{'net':[{'fds':[{'fd':'3'}]}]}" },
	{ "net", "fd=[a,\"b\"],vhost=on",
	  "{'net':[{'fds':[{'fd':'a'},{'fd':'b'}],'vhost':true}]}" },
	{ "net", "ip=fd00::1,mask=ffff::", "{'net':[{'ip':'fd00::1','mask':'ffff::'}]}" },
	{ "balloon", "size=1G,deflate_on_oom=on,free_page_reporting=on,statistics_interval=0",
	  "{'balloon':{'deflate_on_oom':true,'free_page_reporting':true,'size':1073741824,"
	  "'statistics_interval':0}}" },
	{ "balloon", "on", "{'balloon':{}}" },
	{ "rtc", "on", "{'rtc':{}}" },
	{ "rtc", "pci_device_id=7", "{'rtc':{'pci_device_id':7}}" },
	{ "pvpanic", "on", "{'pvpanic':true}" },
	{ "watchdog", "off", "{'watchdog':false}" },
	{ "watchdog-action", "poweroff", "{'watchdog_action':'Poweroff'}" },
	{ "fw-cfg-config", "on", "{'payload':{'fw_cfg_config':{}}}" },
	{ "fw-cfg-config", "e820=off,items=[name=opt/x@file=f,name=opt/y@string=a=b]",
	  "{'payload':{'fw_cfg_config':{'e820':false,'items':{'item_list':[{'file':'/home/me/f',"
	  "'name':'opt/x'},{'name':'opt/y','string':'a=b'}]}}}}" },
	{ "rng", "src=/dev/hwrng", "{'rng':{'src':'/dev/hwrng'}}" },
	{ "serial", "tty", "{'serial':{'mode':'Tty'}}" },
	{ "serial", "off", "{'serial':{'mode':'Off'}}" },
	{ "serial", "pty", "{'serial':{'mode':'Pty'}}" },
	{ "serial", "file=log", "{'serial':{'file':'/home/me/log','mode':'File'}}" },
	{ "console", "mode=null", "{'console':{'mode':'Null'}}" },
	{ "debug-console", "file=/l,iobase=0xe9",
	  "{'debug_console':{'file':'/l','iobase':233,'mode':'File'}}" },
	{ "debug_console", "tty", "{'debug_console':{'mode':'Tty'}}" },
	{ "platform", "serial_number=a,uuid=8c1d3a5e-2f60-4b9a-9d57-0e4c6a7b8f12",
	  "{'platform':{'system_serial_number':'a','system_uuid':"
	  "'8c1d3a5e-2f60-4b9a-9d57-0e4c6a7b8f12'}}" },
	{ "platform", "oem_strings=[a,\"b,c\",d]", "{'platform':{'oem_strings':['a','b,c','d']}}" },
	{ "platform", "oem_strings=[]", "{'platform':{'oem_strings':[]}}" },
	{ "kernel", "vmlinuz", "{'payload':{'kernel':'/home/me/vmlinuz'}}" },
	{ "boot-protocol", "BzImage", "{'payload':{'boot_protocol':'BzImage'}}" },
	{ "firmware", "/f", "{'payload':{'firmware':'/f'}}" },
	{ "cmdline", "root=/dev/vda,\"x\" [", "{'payload':{'cmdline':'root=/dev/vda,#x# ['}}" },
};

static int compare_strings(gconstpointer a, gconstpointer b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Like JSON without insignificant differences: keys sorted. */
static char *sorted_print(GVariant *value)
{
	g_autoptr(GVariant) v = config_value_unwrap(value);
	g_autoptr(GPtrArray) parts = g_ptr_array_new_with_free_func(g_free);
	g_autofree char *inner = NULL;
	bool object = config_value_is_object(v);

	if (!object && !config_value_is_list(v))
		return config_json_print(v, CONFIG_JSON_COMPACT);
	for (size_t i = 0; i < g_variant_n_children(v); i++) {
		g_autoptr(GVariant) child = g_variant_get_child_value(v, i);

		if (object) {
			g_autoptr(GVariant) key = g_variant_get_child_value(child, 0);
			g_autoptr(GVariant) content = g_variant_get_child_value(child, 1);
			g_autofree char *text = sorted_print(content);

			g_ptr_array_add(parts,
					g_strdup_printf("\"%s\":%s",
							g_variant_get_string(key, NULL), text));
		} else {
			g_ptr_array_add(parts, sorted_print(child));
		}
	}
	if (object)
		g_ptr_array_sort(parts, compare_strings);
	g_ptr_array_add(parts, NULL);
	inner = g_strjoinv(",", (char **)parts->pdata);
	return g_strdup_printf(object ? "{%s}" : "[%s]", inner);
}

static void test_good(void)
{
	for (size_t i = 0; i < G_N_ELEMENTS(good_cases); i++) {
		g_autoptr(GVariantDict) dict = g_variant_dict_new(NULL);
		g_autoptr(GVariant) result = NULL;
		g_autofree char *text = NULL, *want = NULL;
		struct err err = { 0 };

		g_test_message("--%s %s", good_cases[i].option, good_cases[i].text);
		g_assert_cmpint(config_option_apply(dict, good_cases[i].option, good_cases[i].text,
						    "/home/me", &err),
				==, 0);
		g_assert_cmpstr(err.msg, ==, "");
		result = g_variant_ref_sink(g_variant_dict_end(dict));
		text = sorted_print(result);
		want = g_strdelimit(g_strdup(good_cases[i].json), "'", '"');
		if (strchr(want, '#')) { /* quotes inside a string */
			g_auto(GStrv) parts = g_strsplit(want, "#", -1);

			g_free(want);
			want = g_strjoinv("\\\"", parts);
		}
		g_assert_cmpstr(text, ==, want);
	}
}

static const struct {
	const char *name, *option, *text, *error;
	enum fault fault;
} bad_cases[] = {
	{ "toggle", "disk", "path=/x,readonly=maybe",
	  "--disk: readonly: 'maybe' is not a toggle, must be on or off", FAULT_BAD_CONFIG },
	{ "number", "cpus", "boot=two", "--cpus: boot: 'two' is not a number", FAULT_BAD_CONFIG },
	{ "number-empty", "cpus", "boot=", "--cpus: boot: has no value, must be key=value",
	  FAULT_BAD_CONFIG },
	{ "number-negative", "cpus", "boot=-1", "--cpus: boot: '-1' is not a number",
	  FAULT_BAD_CONFIG },
	{ "number-trailing", "cpus", "boot=2x", "--cpus: boot: '2x' is not a number",
	  FAULT_BAD_CONFIG },
	{ "number-overflow", "cpus", "boot=18446744073709551616",
	  "--cpus: boot: '18446744073709551616' is not a number", FAULT_BAD_CONFIG },
	{ "number-hex-empty", "cpus", "boot=0x", "--cpus: boot: '0x' is not a number",
	  FAULT_BAD_CONFIG },
	{ "range", "cpus", "boot=0", "--cpus: boot: 0 is out of range, must be 1 to 1024",
	  FAULT_BAD_CONFIG },
	{ "key", "cpus", "bot=1", "--cpus: bot: unknown key, did you mean 'boot'?",
	  FAULT_BAD_CONFIG },
	{ "key-list", "rng", "file=/x",
	  "--rng: file: unknown key, must be one of src, pci_device_id, pci_segment, "
	  "iommu",
	  FAULT_BAD_CONFIG },
	{ "key-quoted", "disk", "\"path=/a,b\"",
	  "--disk: \"path: unknown key, did you mean 'path'?", FAULT_BAD_CONFIG },
	{ "key-twice", "cpus", "boot=1,boot=2", "--cpus: boot: given twice", FAULT_BAD_CONFIG },
	{ "key-twice-two-names", "cpus", "boot=1,boot_vcpus=2", "--cpus: boot: given twice",
	  FAULT_BAD_CONFIG },
	{ "no-value", "disk", "/x.img", "--disk: '/x.img' has no value, must be key=value",
	  FAULT_BAD_CONFIG },
	{ "no-value-key", "disk", "path=/x,readonly",
	  "--disk: 'readonly' has no value, must be key=value", FAULT_BAD_CONFIG },
	{ "comma-end", "disk", "path=/x,", "--disk: nothing between two commas, must be key=value",
	  FAULT_BAD_CONFIG },
	{ "comma-twice", "disk", "path=/x,,readonly=on",
	  "--disk: nothing between two commas, must be key=value", FAULT_BAD_CONFIG },
	{ "required", "disk", "readonly=on", "--disk: path: missing, must be given",
	  FAULT_BAD_CONFIG },
	{ "empty-disk", "disk", "", "--disk: is empty, must be like path=PATH", FAULT_BAD_CONFIG },
	{ "empty-cpus", "cpus", "", "--cpus: is empty, must be like boot=COUNT", FAULT_BAD_CONFIG },
	{ "empty-net", "net", "", "--net: is empty, must be like tap=NAME", FAULT_BAD_CONFIG },
	{ "empty-serial", "serial", "", "--serial: is empty, must be like tty", FAULT_BAD_CONFIG },
	{ "empty-platform", "platform", "", "--platform: is empty, must be like serial_number=TEXT",
	  FAULT_BAD_CONFIG },
	{ "empty-toggle", "memory", "shared=", "--memory: shared: has no value, must be key=value",
	  FAULT_BAD_CONFIG },
	{ "empty-quoted-toggle", "memory", "shared=\"\"",
	  "--memory: shared: '' is not a toggle, must be on or off", FAULT_BAD_CONFIG },
	{ "empty-strings", "platform", "oem_strings=",
	  "--platform: oem_strings: has no value, must be key=value", FAULT_BAD_CONFIG },
	{ "empty-affinity", "cpus",
	  "affinity=", "--cpus: affinity: has no value, must be key=value", FAULT_BAD_CONFIG },
	{ "empty-later", "disk", "path=/x,vhost_user=",
	  "--disk: vhost_user: has no value, must be key=value", FAULT_BAD_CONFIG },
	{ "quote", "disk", "path=\"/x", "--disk: quote is not closed, must end with '\"'",
	  FAULT_BAD_CONFIG },
	{ "bracket-open", "cpus", "affinity=[0@[1]", "--cpus: '[' is not closed, must end with ']'",
	  FAULT_BAD_CONFIG },
	{ "bracket-close", "cpus", "affinity=0@1]", "--cpus: ']' without '['", FAULT_BAD_CONFIG },
	{ "bracket-deep", "cpus", "affinity=[[[[[[[[[1]]]]]]]]]",
	  "--cpus: too many '[', must be at most 8 deep", FAULT_BAD_CONFIG },
	{ "bracket-rest", "platform", "oem_strings=[a]b",
	  "--platform: oem_strings: text after ']', must end with ']'", FAULT_BAD_CONFIG },
	{ "size", "memory", "size=12Q",
	  "--memory: size: '12Q' is not a size, must be a number of bytes, or with K, M, G or T "
	  "like 512M",
	  FAULT_BAD_CONFIG },
	{ "size-unit", "memory", "size=12MB",
	  "--memory: size: '12MB' is not a size, must be a number of bytes, or with K, M, G or T "
	  "like 512M",
	  FAULT_BAD_CONFIG },
	{ "size-overflow", "memory", "size=18014398509481984K",
	  "--memory: size: '18014398509481984K' is not a size, must be a number of bytes, or with "
	  "K, M, G or T like 512M",
	  FAULT_BAD_CONFIG },
	{ "topology-short", "cpus", "topology=1:2",
	  "--cpus: topology: '1:2' is not complete, must be THREADS:CORES:DIES:PACKAGES",
	  FAULT_BAD_CONFIG },
	{ "topology-text", "cpus", "topology=1:2:x:1",
	  "--cpus: topology: dies_per_package: 'x' is not a number", FAULT_BAD_CONFIG },
	{ "topology-range", "cpus", "topology=3:1:1:1",
	  "--cpus: topology: threads_per_core: 3 is out of range, must be 1 to 2",
	  FAULT_BAD_CONFIG },
	{ "affinity-tuple", "cpus", "affinity=[0]",
	  "--cpus: affinity[0]: '0' is not complete, must be [VCPU@[HOSTCPU,...],...]",
	  FAULT_BAD_CONFIG },
	{ "affinity-range", "cpus", "affinity=[0@[5-3]]",
	  "--cpus: affinity[0]: host_cpus: '5-3' is not a number or range, must be like [1,3-5]",
	  FAULT_BAD_CONFIG },
	{ "affinity-bomb", "cpus", "affinity=[0@[0-4294967295]]",
	  "--cpus: affinity[0]: host_cpus: '0-4294967295' is too much, must be at most 8192 numbers",
	  FAULT_BAD_CONFIG },
	{ "affinity-bomb-64", "cpus", "affinity=[0@[0-18446744073709551615]]",
	  "--cpus: affinity[0]: host_cpus: '0-18446744073709551615' is too much, must be at most "
	  "8192 numbers",
	  FAULT_BAD_CONFIG },
	{ "mode", "serial", "loud",
	  "--serial: mode: 'loud' is unknown, must be Off, Null, Tty, File, Socket or Pty",
	  FAULT_BAD_CONFIG },
	{ "mode-twice", "serial", "tty,off", "--serial: mode: given twice", FAULT_BAD_CONFIG },
	{ "mac", "net", "mac=zz",
	  "--net: mac: 'zz' is not a MAC address, must be like 52:54:00:12:34:56",
	  FAULT_BAD_CONFIG },
	{ "key-later", "disk", "path=/x,vhost_user=on", "--disk: vhost_user: not supported yet",
	  FAULT_UNSUPPORTED },
	{ "key-later-option", "disk", "path=/x,socket=/s", "--disk: socket: not supported yet",
	  FAULT_UNSUPPORTED },
	{ "value-later", "disk", "path=/x,image_type=vmdk",
	  "--disk: image_type: 'Vmdk' is not supported yet, must be Unknown, Raw, Qcow2, Vhd or "
	  "Vhdx",
	  FAULT_UNSUPPORTED },
	{ "option-later", "tpm", "socket=/s", "--tpm: not supported yet", FAULT_UNSUPPORTED },
	{ "option-later-renamed", "device", "path=/x", "--device: not supported yet",
	  FAULT_UNSUPPORTED },
	{ "option-later-payload", "igvm", "/x", "--igvm: not supported yet", FAULT_UNSUPPORTED },
	{ "option-unknown", "frob", "x", "'--frob' is not an option of a machine",
	  FAULT_BAD_ARGUMENT },
	{ "scalar-empty", "pvpanic", "", "--pvpanic: '' is not a toggle, must be on or off",
	  FAULT_BAD_CONFIG },
	{ "scalar-wrong", "watchdog", "reset",
	  "--watchdog: 'reset' is not a toggle, must be on or off", FAULT_BAD_CONFIG },
	{ "fw-cfg-unknown", "fw-cfg-config", "items=[name=a@fil=/x]",
	  "--fw-cfg-config: items: item_list[0]: fil: unknown key, did you mean 'file'?",
	  FAULT_BAD_CONFIG },
	{ "on-is-no-value", "rng", "on", "--rng: 'on' has no value, must be key=value",
	  FAULT_BAD_CONFIG },
	{ "option-payload", "payload", "kernel=/k", "'--payload' is not an option of a machine",
	  FAULT_BAD_ARGUMENT },
	{ "kernel-empty", "kernel", "", "--kernel: '' is not an absolute path, must start with '/'",
	  FAULT_BAD_CONFIG },
	{ "not-utf8", "disk", "path=/\xff", "--disk: text is not UTF-8", FAULT_BAD_CONFIG },
	{ "cmdline-not-utf8", "cmdline", "\xff", "--cmdline: text is not UTF-8", FAULT_BAD_CONFIG },
};

static void test_bad(gconstpointer data)
{
	size_t i = GPOINTER_TO_SIZE(data);
	g_autoptr(GVariantDict) dict = g_variant_dict_new(NULL);
	g_autoptr(GVariant) result = NULL;
	struct err err = { 0 };
	int r;

	r = config_option_apply(dict, bad_cases[i].option, bad_cases[i].text, "/home/me", &err);
	g_assert_cmpstr(err.msg, ==, bad_cases[i].error);
	g_assert_cmpint(err.fault, ==, bad_cases[i].fault);
	g_assert_cmpint(r, ==, -err.code);
	/* nothing of it stays behind */
	result = g_variant_ref_sink(g_variant_dict_end(dict));
	g_assert_cmpuint(g_variant_n_children(result), ==, 0);
}

static void apply(GVariantDict *dict, const char *option, const char *text)
{
	struct err err = { 0 };

	g_assert_cmpint(config_option_apply(dict, option, text, "/home/me", &err), ==, 0);
	g_assert_cmpstr(err.msg, ==, "");
}

/* What one types for a whole machine, and what becomes of it. */
static void test_machine(void)
{
	g_autoptr(GVariantDict) dict = g_variant_dict_new(NULL);
	g_autoptr(GVariant) definition = NULL;
	_cleanup_(vm_config_free_cleanup) struct vm_config *config = NULL;
	struct err err = { 0 };

	apply(dict, "kernel", "vmlinuz");
	apply(dict, "initramfs", "/boot/initrd");
	apply(dict, "cmdline", "console=ttyS0 root=/dev/vda");
	apply(dict, "cpus", "boot=4,topology=2:2:1:1");
	apply(dict, "memory", "size=1G");
	apply(dict, "disk", "path=root.img,num_queues=4");
	apply(dict, "disk", "path=/data.img,readonly=on");
	apply(dict, "net", "tap=tap0");
	apply(dict, "serial", "tty");
	g_assert_cmpint(config_option_apply(dict, "cpus", "boot=1", NULL, &err), ==, -EINVAL);
	g_assert_cmpstr(err.msg, ==, "--cpus: given twice");
	err_clear(&err);
	g_assert_cmpint(config_option_apply(dict, "kernel", "/k", NULL, &err), ==, -EINVAL);
	g_assert_cmpstr(err.msg, ==, "--kernel: given twice");
	err_clear(&err);

	definition = g_variant_ref_sink(g_variant_dict_end(dict));
	g_assert_cmpint(vm_config_parse(definition, &config, &err), ==, 0);
	g_assert_cmpstr(err.msg, ==, "");
	g_assert_cmpstr(config->payload.kernel, ==, "/home/me/vmlinuz");
	g_assert_cmpstr(config->payload.cmdline, ==, "console=ttyS0 root=/dev/vda");
	g_assert_cmpuint(config->cpus.max_vcpus, ==, 4);
	g_assert_cmpuint(config->memory.size, ==, 1u << 30);
	g_assert_cmpuint(config->n_disks, ==, 2);
	g_assert_cmpstr(config->disks[0].path, ==, "/home/me/root.img");
	g_assert_true(config->disks[1].readonly);
	g_assert_cmpstr(config->nets[0].tap, ==, "tap0");
}

/* Options on top of a JSON text: lists grow, sections are not replaced silently. */
static void test_on_top_of_json(void)
{
	g_autoptr(GVariant) base = definition_from_json(VM(",'disks':[{'path':'/a'}],'memory':{}"));
	g_autoptr(GVariantDict) dict = g_variant_dict_new(base);
	g_autoptr(GVariant) definition = NULL;
	_cleanup_(vm_config_free_cleanup) struct vm_config *config = NULL;
	struct err err = { 0 };

	apply(dict, "disk", "path=/b");
	apply(dict, "cmdline", "quiet");
	g_assert_cmpint(config_option_apply(dict, "memory", "size=1G", NULL, &err), ==, -EINVAL);
	g_assert_cmpstr(err.msg, ==, "--memory: given twice");
	err_clear(&err);
	definition = g_variant_ref_sink(g_variant_dict_end(dict));
	g_assert_cmpint(vm_config_parse(definition, &config, &err), ==, 0);
	g_assert_cmpuint(config->n_disks, ==, 2);
	g_assert_cmpstr(config->disks[0].path, ==, "/a");
	g_assert_cmpstr(config->disks[1].path, ==, "/b");
	g_assert_cmpstr(config->payload.kernel, ==, "/k");
	g_assert_cmpstr(config->payload.cmdline, ==, "quiet");
}

static void test_relative_without_directory(void)
{
	g_autoptr(GVariantDict) dict = g_variant_dict_new(NULL);
	struct err err = { 0 };

	g_assert_cmpint(config_option_apply(dict, "disk", "path=x.img", NULL, &err), ==, -EINVAL);
	g_assert_cmpstr(err.msg, ==,
			"--disk: path: 'x.img' is not an absolute path, must start with '/'");
}

/* What `brumectl device add` takes. */
static void test_device(void)
{
	static const struct {
		const char *kind, *text, *dir, *expected; /* of good ones it begins with '{' */
	} devices[] = {
		{ "disk", "path=x.img,readonly=on", "/home/me",
		  "{'path': <'/home/me/x.img'>, 'readonly': <true>}" },
		{ "net", "tap=t0", NULL, "{'tap': <'t0'>}" },
		{ "disk", "path=x.img", NULL,
		  "disk: path: 'x.img' is not an absolute path, must start with '/'" },
		{ "disk", "readonly=on", NULL, "disk: path: *" },
		{ "net", "mtu=0", NULL, "net: mtu: 0 *" },
		{ "vsock", "cid=3", NULL, "vsock: socket: *" },
		{ "rng", "src=/dev/urandom", NULL,
		  "'rng' is no kind of device that can be added, must be disk, net, fs, pmem or "
		  "vsock" },
		{ "disks", "path=/x", NULL, "'disks' is no kind of device *" },
		{ "user-device", "socket=/x", NULL, "'user-device' is no kind of device *" },
		{ "", "path=/x", NULL, "'' is no kind of device *" },
		{ "\377", "path=/x", NULL, "kind of a device is not UTF-8" },
	};

	for (size_t i = 0; i < G_N_ELEMENTS(devices); i++) {
		bool good = devices[i].expected[0] == '{';
		g_autoptr(GVariant) device = NULL;
		g_autofree char *got = NULL;
		struct err err = { 0 };
		int r = config_option_device(devices[i].kind, devices[i].text, devices[i].dir,
					     &device, &err);

		g_assert_cmpint(r, ==, good ? 0 : -EINVAL);
		got = good ? g_variant_print(device, FALSE) : g_strdup(err.msg);
		if (!g_pattern_match_simple(devices[i].expected, got))
			g_error("%s %s: '%s'", devices[i].kind, devices[i].text, got);
	}
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/config/option/good", test_good);
	for (size_t i = 0; i < G_N_ELEMENTS(bad_cases); i++) {
		g_autofree char *path = g_strdup_printf("/config/option/bad/%s", bad_cases[i].name);

		g_test_add_data_func(path, GSIZE_TO_POINTER(i), test_bad);
	}
	g_test_add_func("/config/option/machine", test_machine);
	g_test_add_func("/config/option/on-top-of-json", test_on_top_of_json);
	g_test_add_func("/config/option/relative-without-directory",
			test_relative_without_directory);
	g_test_add_func("/config/option/device", test_device);
	return g_test_run();
}
