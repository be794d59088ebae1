/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vm_config_parse() and its relatives: what is accepted, what is refused and
 * with which sentence, and that nothing is lost on the way to the worker.
 */
#include <errno.h>

#include "definition.h"
#include "vmm/config/config.h"
#include "vmm/config/problems.h"
#include "vmm/config/tables.h"

static const struct {
	const char *name, *json, *text;
} bad_cases[] = {
	/* shape */
	{ "top/list", "[]", "definition: must be an object, is a list" },
	{ "top/number", "7", "definition: must be an object, is 7" },
	{ "top/empty", "{}", "/payload: names nothing to start, must have 'kernel' or 'firmware'" },
	{ "top/unknown-key", VM(",'frobnicate':1"),
	  "/frobnicate: unknown key, must be one of cpus, memory, payload, disks, net, rng, serial, "
	  "console, debug_console, platform" },
	{ "top/close-key", VM(",'disk':[]"), "/disk: unknown key, did you mean 'disks'?" },
	{ "top/key-of-section", VM(",'kernel':'/k'"),
	  "/kernel: unknown key, did you mean 'kernel' in 'payload'?" },
	{ "top/slash-in-key", VM(",'a/b~c':1"),
	  "/a~1b~0c: unknown key, must be one of cpus, memory, payload, disks, net, rng, serial, "
	  "console, debug_console, platform" },
	{ "top/section-string", VM(",'cpus':'4'"), "/cpus: must be an object, is the string '4'" },
	{ "top/section-list", VM(",'memory':[1]"), "/memory: must be an object, is a list" },

	/* cpus */
	{ "cpus/zero", VM(",'cpus':{'boot_vcpus':0}"),
	  "/cpus/boot_vcpus: 0 is out of range, must be 1 to 1024" },
	{ "cpus/too-many", VM(",'cpus':{'boot_vcpus':1025}"),
	  "/cpus/boot_vcpus: 1025 is out of range, must be 1 to 1024" },
	{ "cpus/negative", VM(",'cpus':{'boot_vcpus':-1}"),
	  "/cpus/boot_vcpus: -1 is out of range, must be 1 to 1024" },
	{ "cpus/huge", VM(",'cpus':{'boot_vcpus':18446744073709551615}"),
	  "/cpus/boot_vcpus: 18446744073709551615 is out of range, must be 1 to 1024" },
	{ "cpus/wraps-32-bits", VM(",'cpus':{'boot_vcpus':4294967297}"),
	  "/cpus/boot_vcpus: 4294967297 is out of range, must be 1 to 1024" },
	{ "cpus/fraction", VM(",'cpus':{'boot_vcpus':1.5}"),
	  "/cpus/boot_vcpus: must be an integer, is 1.5" },
	{ "memory/inexact", VM(",'memory':{'size':1e300}"),
	  "/memory/size: must be an integer, is 1e+300" },
	{ "memory/inexact-negative", VM(",'memory':{'size':-9007199254740994.0}"),
	  "/memory/size: must be an integer, is -9.00719925474099e+15" },
	{ "cpus/string", VM(",'cpus':{'boot_vcpus':'x'}"),
	  "/cpus/boot_vcpus: must be an integer, is the string 'x'" },
	{ "cpus/bool", VM(",'cpus':{'boot_vcpus':true}"),
	  "/cpus/boot_vcpus: must be an integer, is true" },
	{ "cpus/null", VM(",'cpus':{'boot_vcpus':null}"),
	  "/cpus/boot_vcpus: must be an integer, is null" },
	{ "cpus/object", VM(",'cpus':{'boot_vcpus':{}}"),
	  "/cpus/boot_vcpus: must be an integer, is an object" },
	{ "cpus/option-key", VM(",'cpus':{'boot':2}"),
	  "/cpus/boot: unknown key, did you mean 'boot_vcpus'?" },
	{ "cpus/part-of-key", VM(",'cpus':{'vcpus':2}"),
	  "/cpus/vcpus: unknown key, did you mean 'boot_vcpus'?" },
	{ "cpus/max-less-than-boot", VM(",'cpus':{'boot_vcpus':4,'max_vcpus':2}"),
	  "/cpus/max_vcpus: 2 is less than /cpus/boot_vcpus, must be at least 4" },
	{ "cpus/topology-product",
	  VM(",'cpus':{'boot_vcpus':4,'topology':{'threads_per_core':1,'cores_per_die':2,"
	     "'dies_per_package':1,'packages':1}}"),
	  "/cpus/topology: 1:2:1:1 makes 2 vCPUs, must make 4 as /cpus/max_vcpus says" },
	{ "cpus/topology-overflow",
	  VM(",'cpus':{'topology':{'threads_per_core':2,'cores_per_die':1024,"
	     "'dies_per_package':1024,'packages':1024}}"),
	  "/cpus/topology: 2:1024:1024:1024 makes 2147483648 vCPUs, must make 1 as "
	  "/cpus/max_vcpus says" },
	{ "cpus/topology-zero",
	  VM(",'cpus':{'topology':{'threads_per_core':0,'cores_per_die':1,'dies_per_package':1,"
	     "'packages':1}}"),
	  "/cpus/topology/threads_per_core: 0 is out of range, must be 1 to 2" },
	{ "cpus/topology-incomplete", VM(",'cpus':{'topology':{'threads_per_core':1}}"),
	  "/cpus/topology/cores_per_die: missing, must be given" },
	{ "cpus/max-phys-bits", VM(",'cpus':{'max_phys_bits':64}"),
	  "/cpus/max_phys_bits: 64 is out of range, must be 36 to 52" },
	{ "cpus/affinity-vcpu", VM(",'cpus':{'affinity':[{'vcpu':1,'host_cpus':[0]}]}"),
	  "/cpus/affinity/0/vcpu: 1 does not exist, must be 0 to 0" },
	{ "cpus/affinity-twice",
	  VM(",'cpus':{'affinity':[{'vcpu':0,'host_cpus':[0]},{'vcpu':0,'host_cpus':[1]}]}"),
	  "/cpus/affinity/1/vcpu: 0 has an affinity already, must be given once" },
	{ "cpus/affinity-nowhere", VM(",'cpus':{'affinity':[{'vcpu':0,'host_cpus':[]}]}"),
	  "/cpus/affinity/0/host_cpus: is empty, must name at least one CPU" },
	{ "cpus/affinity-host-cpu", VM(",'cpus':{'affinity':[{'vcpu':0,'host_cpus':[1,70000]}]}"),
	  "/cpus/affinity/0/host_cpus/1: 70000 is out of range, must be 0 to 8191" },
	{ "cpus/affinity-string", VM(",'cpus':{'affinity':[{'vcpu':0,'host_cpus':'0-3'}]}"),
	  "/cpus/affinity/0/host_cpus: must be a list, is the string '0-3'" },
	{ "cpus/nested-number", VM(",'cpus':{'nested':1}"),
	  "/cpus/nested: must be true or false, is 1" },

	/* memory */
	{ "memory/zero", VM(",'memory':{'size':0}"),
	  "/memory/size: 0 bytes are too few, must be at least 16777216 (16 MiB)" },
	{ "memory/megabytes-meant", VM(",'memory':{'size':512}"),
	  "/memory/size: 512 bytes are too few, must be at least 16777216 (16 MiB)" },
	{ "memory/odd", VM(",'memory':{'size':16777217}"),
	  "/memory/size: 16777217 is not a multiple of 1 MiB (1048576), must be like 16777216" },
	{ "memory/string", VM(",'memory':{'size':'1G'}"),
	  "/memory/size: must be an integer, is the string '1G'" },
	{ "memory/too-large", VM(",'memory':{'size':70368744177664}"),
	  "/memory/size: 70368744177664 does not fit 46 address bits, must be at most "
	  "70363375468544 (or raise /cpus/max_phys_bits)" },
	{ "memory/mergeable-shared", VM(",'memory':{'mergeable':true,'shared':true}"),
	  "/memory/mergeable: cannot be had with /memory/shared, must be false" },
	{ "memory/mergeable-hugepages", VM(",'memory':{'mergeable':true,'hugepages':true}"),
	  "/memory/mergeable: cannot be had with /memory/hugepages, must be false" },
	{ "memory/hugepage-size-alone", VM(",'memory':{'hugepage_size':2097152}"),
	  "/memory/hugepage_size: has no effect, needs /memory/hugepages" },
	{ "memory/hugepage-size-odd", VM(",'memory':{'hugepages':true,'hugepage_size':3000000}"),
	  "/memory/hugepage_size: 3000000 is not a page size, must be a power of two like 2097152" },
	{ "memory/hugepage-size-large",
	  VM(",'memory':{'hugepages':true,'hugepage_size':1073741824}"),
	  "/memory/hugepage_size: 1073741824 does not divide /memory/size, must be smaller" },

	/* payload */
	{ "payload/both", "{'payload':{'kernel':'/k','firmware':'/f'}}",
	  "/payload/firmware: cannot be had with /payload/kernel, must be one of them" },
	{ "payload/firmware-cmdline", "{'payload':{'firmware':'/f','cmdline':'x'}}",
	  "/payload/cmdline: has no effect with a firmware, needs /payload/kernel" },
	{ "payload/firmware-initramfs", "{'payload':{'firmware':'/f','initramfs':'/i'}}",
	  "/payload/initramfs: has no effect with a firmware, needs /payload/kernel" },
	{ "payload/firmware-bzimage", "{'payload':{'firmware':'/f','boot_protocol':'BzImage'}}",
	  "/payload/boot_protocol: 'BzImage' is for a kernel, a firmware needs 'Auto' or 'Pvh'" },
	{ "payload/protocol", "{'payload':{'kernel':'/k','boot_protocol':'Fast'}}",
	  "/payload/boot_protocol: 'Fast' is unknown, must be Auto, Pvh or BzImage" },
	{ "payload/relative", "{'payload':{'kernel':'vmlinuz'}}",
	  "/payload/kernel: 'vmlinuz' is not an absolute path, must start with '/'" },
	{ "payload/control", "{'payload':{'kernel':'/a\\nb'}}",
	  "/payload/kernel: '/a?b' is not usable as a path, must not hold control characters" },
	{ "payload/empty", "{'payload':{'kernel':''}}",
	  "/payload/kernel: '' is not an absolute path, must start with '/'" },
	{ "payload/number", "{'payload':{'kernel':3}}", "/payload/kernel: must be a string, is 3" },

	/* disks */
	{ "disks/object", VM(",'disks':{'path':'/x'}"), "/disks: must be a list, is an object" },
	{ "disks/of-strings", VM(",'disks':['/x']"),
	  "/disks/0: must be an object, is the string '/x'" },
	{ "disks/no-path", VM(",'disks':[{'readonly':true}]"),
	  "/disks/0/path: missing, must be given" },
	{ "disks/null-path", VM(",'disks':[{'path':null}]"),
	  "/disks/0/path: must be a string, is null" },
	{ "disks/second-one", VM(",'disks':[{'path':'/x'},{'path':'/y','readonly':'yes'}]"),
	  "/disks/1/readonly: must be true or false, is the string 'yes'" },
	{ "disks/typing-error", VM(",'disks':[{'path':'/x','readonyl':true}]"),
	  "/disks/0/readonyl: unknown key, did you mean 'readonly'?" },
	{ "disks/queues", VM(",'disks':[{'path':'/x','num_queues':2}]"),
	  "/disks/0/num_queues: 2 is more than /cpus/boot_vcpus, must be at most 1" },
	{ "disks/no-queues", VM(",'disks':[{'path':'/x','num_queues':0}]"),
	  "/disks/0/num_queues: 0 is out of range, must be 1 to 64" },
	{ "disks/queue-size-2", VM(",'disks':[{'path':'/x','queue_size':2}]"),
	  "/disks/0/queue_size: 2 is out of range, must be 4 to 1024" },
	{ "disks/queue-size-100", VM(",'disks':[{'path':'/x','queue_size':100}]"),
	  "/disks/0/queue_size: 100 is not a power of two, must be like 128" },
	{ "disks/serial", VM(",'disks':[{'path':'/x','serial':'123456789012345678901'}]"),
	  "/disks/0/serial: '123456789012345678901' is not a disk serial number, must have 1 to 20 "
	  "bytes" },
	{ "disks/same-path", VM(",'disks':[{'path':'/a/x'},{'path':'/a/../a/./x'}]"),
	  "/disks/1/path: '/a/../a/./x' is /disks/0 too, must be read-only in both" },
	{ "disks/same-path-one-writes",
	  VM(",'disks':[{'path':'/x'},{'path':'/x','readonly':true}]"),
	  "/disks/1/path: '/x' is /disks/0 too, must be read-only in both" },
	{ "disks/id-reserved", VM(",'disks':[{'path':'/x','id':'__rng'}]"),
	  "/disks/0/id: '__rng' is reserved, must not start with '__'" },
	{ "disks/id-characters", VM(",'disks':[{'path':'/x','id':'my disk'}]"),
	  "/disks/0/id: 'my disk' is not an id, must consist of letters, digits, '_', '.' and '-'" },
	{ "disks/id-start", VM(",'disks':[{'path':'/x','id':'-x'}]"),
	  "/disks/0/id: '-x' is not an id, must start with a letter, a digit or '_'" },
	{ "disks/id-empty", VM(",'disks':[{'path':'/x','id':''}]"),
	  "/disks/0/id: '' is not an id, must have 1 to 64 characters" },
	{ "disks/id-twice", VM(",'disks':[{'path':'/x','id':'a'},{'path':'/y','id':'a'}]"),
	  "/disks/1/id: 'a' is /disks/0's too, must be unique" },
	{ "disks/slot-zero", VM(",'disks':[{'path':'/x','pci_device_id':0}]"),
	  "/disks/0/pci_device_id: 0 is out of range, must be 1 to 31" },
	{ "disks/slot-wraps", VM(",'disks':[{'path':'/x','pci_device_id':257}]"),
	  "/disks/0/pci_device_id: 257 is out of range, must be 1 to 31" },
	{ "disks/null-bool", VM(",'disks':[{'path':'/x','direct':null}]"),
	  "/disks/0/direct: must be true or false, is null" },

	/* net */
	{ "net/id-of-a-disk", VM(",'disks':[{'path':'/x','id':'a'}],'net':[{'id':'a'}]"),
	  "/net/0/id: 'a' is /disks/0's too, must be unique" },
	{ "net/slot-of-a-disk",
	  VM(",'disks':[{'path':'/x','pci_device_id':5}],'net':[{'pci_device_id':5}]"),
	  "/net/0/pci_device_id: 5 is /disks/0's too, must be unique" },
	{ "net/tap-slash", VM(",'net':[{'tap':'a/b'}]"),
	  "/net/0/tap: 'a/b' is not an interface name, must have 1 to 15 characters without '/', "
	  "':', '%' and spaces" },
	{ "net/tap-long", VM(",'net':[{'tap':'abcdefghijklmnop'}]"),
	  "/net/0/tap: 'abcdefghijklmnop' is not an interface name, must have 1 to 15 characters "
	  "without '/', ':', '%' and spaces" },
	{ "net/tap-pointer-of-another", VM(",'net':[{'tap':'/net/1/tap'}]"),
	  "/net/0/tap: '/net/1/tap' is not an interface name, must have 1 to 15 characters without "
	  "'/', ':', '%' and spaces" },
	{ "net/tap-twice", VM(",'net':[{'tap':'t0'},{'tap':'t0'}]"),
	  "/net/1/tap: 't0' is /net/0's too, must be another" },
	{ "net/mac-text", VM(",'net':[{'mac':'52-54-00-12-34-56'}]"),
	  "/net/0/mac: '52-54-00-12-34-56' is not a MAC address, must be like 52:54:00:12:34:56" },
	{ "net/mac-short", VM(",'net':[{'mac':'52:54:00:12:34'}]"),
	  "/net/0/mac: '52:54:00:12:34' is not a MAC address, must be like 52:54:00:12:34:56" },
	{ "net/mac-zero", VM(",'net':[{'mac':'00:00:00:00:00:00'}]"),
	  "/net/0/mac: '00:00:00:00:00:00' is no address, must not be all zero" },
	{ "net/mac-multicast", VM(",'net':[{'mac':'01:00:5e:00:00:01'}]"),
	  "/net/0/mac: '01:00:5e:00:00:01' is a multicast address, must have an even first byte" },
	{ "net/mtu", VM(",'net':[{'mtu':576}]"),
	  "/net/0/mtu: 576 is out of range, must be 1280 to 65521" },
	{ "net/ip-alone", VM(",'net':[{'ip':'10.0.0.1'}]"),
	  "/net/0/ip: has no effect alone, needs /net/0/mask" },
	{ "net/mask-alone", VM(",'net':[{'mask':'255.255.255.0'}]"),
	  "/net/0/mask: has no effect alone, needs /net/0/ip" },
	{ "net/ip-text", VM(",'net':[{'ip':'10.0.0.256','mask':'255.0.0.0'}]"),
	  "/net/0/ip: '10.0.0.256' is not an IP address, must be like 192.168.249.1 or fd00::1" },
	{ "net/ip-multicast", VM(",'net':[{'ip':'224.0.0.1','mask':'255.0.0.0'}]"),
	  "/net/0/ip: '224.0.0.1' is not an address of one host, must be like 192.168.249.1 or "
	  "fd00::1" },
	{ "net/mask-holes", VM(",'net':[{'ip':'10.0.0.1','mask':'255.0.255.0'}]"),
	  "/net/0/mask: '255.0.255.0' is not a netmask, must be like 255.255.255.0 or "
	  "ffff:ffff:ffff:ffff::" },
	{ "net/mask-family", VM(",'net':[{'ip':'fd00::1','mask':'255.255.255.0'}]"),
	  "/net/0/mask: '255.255.255.0' is of another kind than /net/0/ip, must be both IPv4 or "
	  "both IPv6" },
	{ "net/queues-odd", VM(",'cpus':{'boot_vcpus':2},'net':[{'num_queues':3}]"),
	  "/net/0/num_queues: 3 is odd, must count receive and send queues" },
	{ "net/queues-one", VM(",'net':[{'num_queues':1}]"),
	  "/net/0/num_queues: 1 is out of range, must be 2 to 32" },
	{ "net/queues-vcpus", VM(",'cpus':{'boot_vcpus':2},'net':[{'num_queues':6}]"),
	  "/net/0/num_queues: 6 is more than two per vCPU, must be at most 4" },
	{ "net/queue-size", VM(",'net':[{'queue_size':257}]"),
	  "/net/0/queue_size: 257 is not a power of two, must be like 256" },
	{ "net/tso-without-csum", VM(",'net':[{'offload_csum':false}]"),
	  "/net/0/offload_tso: needs /net/0/offload_csum, must be false without it" },
	{ "net/ufo-without-csum", VM(",'net':[{'offload_csum':false,'offload_tso':false}]"),
	  "/net/0/offload_ufo: needs /net/0/offload_csum, must be false without it" },
	{ "net/too-many", VM(",'net':[{},{},{},{},{},{},{},{},{}]"),
	  "/net: 9 entries are too many, must be at most 8" },

	/* descriptors */
	{ "fd/empty", "{'payload':{'kernel':{}}}",
	  "/payload/kernel: must be a string or {\"fd\": NAME}, is another object" },
	{ "fd/more", "{'payload':{'kernel':{'fd':'k','x':1}}}",
	  "/payload/kernel: must be a string or {\"fd\": NAME}, is another object" },
	{ "fd/number", "{'payload':{'kernel':{'fd':3}}}",
	  "/payload/kernel/fd: must be a string, is 3" },
	{ "fd/name", "{'payload':{'kernel':{'fd':'a b'}}}",
	  "/payload/kernel/fd: 'a b' is not an id, must consist of letters, digits, '_', '.' and "
	  "'-'" },
	{ "fd/inside", "{'payload':{'kernel':'fd:k'}}",
	  "/payload/kernel: 'fd:k' is no name of a descriptor, must be {\"fd\": NAME}" },
	{ "fd/inside-tap", VM(",'net':[{'tap':'fd:k'}]"),
	  "/net/0/tap: 'fd:k' is no name of a descriptor, must be {\"fd\": NAME}" },
	{ "fd/tap-queues", VM(",'cpus':{'boot_vcpus':2},'net':[{'tap':{'fd':'t'},'num_queues':4}]"),
	  "/net/0/num_queues: 4 is more than the one pair of a descriptor, must be 2" },
	{ "fd/tap-address", VM(",'net':[{'tap':{'fd':'t'},'ip':'10.0.0.1','mask':'255.0.0.0'}]"),
	  "/net/0/ip: has no effect with a descriptor, must be set on its interface" },

	/* rng, consoles, platform */
	{ "rng/null", VM(",'rng':{'src':null}"), "/rng/src: must be a string, is null" },
	{ "serial/mode", VM(",'serial':{'mode':'tty'}"),
	  "/serial/mode: 'tty' is unknown, must be Off, Null, Tty or File" },
	{ "serial/file-missing", VM(",'serial':{'mode':'File'}"),
	  "/serial/file: missing, must be given in mode File" },
	{ "console/file-unused", VM(",'console':{'mode':'Tty','file':'/x'}"),
	  "/console/file: has no effect in mode Tty, needs mode File" },
	{ "debug-console/file-unused", VM(",'debug_console':{'file':'/x'}"),
	  "/debug_console/file: has no effect in mode Off, needs mode File" },
	{ "debug-console/port-taken", VM(",'debug_console':{'mode':'Tty','iobase':1016}"),
	  "/debug_console/iobase: 1016 (0x3f8) belongs to the serial port, must be another port "
	  "like 233 (0xe9)" },
	{ "debug-console/port-range", VM(",'debug_console':{'iobase':65536}"),
	  "/debug_console/iobase: 65536 is out of range, must be 1 to 65535" },
	{ "platform/uuid", VM(",'platform':{'system_uuid':'1234'}"),
	  "/platform/system_uuid: '1234' is not a UUID, must be like "
	  "8c1d3a5e-2f60-4b9a-9d57-0e4c6a7b8f12" },
	{ "platform/alias-twice",
	  VM(",'platform':{'serial_number':'1','system_serial_number':'2'}"),
	  "/platform/system_serial_number: given twice, 'system_serial_number' and 'serial_number' "
	  "are the same key" },
	{ "platform/empty", VM(",'platform':{'chassis_asset_tag':''}"),
	  "/platform/chassis_asset_tag: '' is not an SMBIOS string, must have 1 to 255 bytes" },
	{ "platform/oem-number", VM(",'platform':{'oem_strings':['a',1]}"),
	  "/platform/oem_strings/1: must be a string, is 1" },
	{ "platform/control-character", VM(",'platform':{'system_family':'a\\u0007b'}"),
	  "/platform/system_family: 'a?b' is not an SMBIOS string, must not hold control characters" },
};

static void test_bad(gconstpointer data)
{
	size_t i = GPOINTER_TO_SIZE(data);
	g_autoptr(GVariant) dict = definition_from_json(bad_cases[i].json);
	struct vm_config *config = NULL;
	struct err err = { 0 };
	int r;

	r = vm_config_parse(dict, &config, &err);
	g_assert_cmpstr(err.msg, ==, bad_cases[i].text);
	g_assert_cmpint(r, ==, -EINVAL);
	g_assert_cmpint(err.fault, ==, FAULT_BAD_CONFIG);
	g_assert_null(config);
	/* a caller that does not want the sentence gets the same answer */
	g_assert_cmpint(vm_config_parse(dict, &config, NULL), ==, -EINVAL);
}

/* All problems of a document, one a line, in its order, and none that follows from another. */
static const struct {
	const char *name, *json, *text;
} all_cases[] = {
	{ "good", VM(""), "" },
	{ "sections", VM(",'cpus':{'boot_vcpus':0,'nested':1},'memory':{'size':'x'},'sereal':{}"),
	  "/cpus/boot_vcpus: 0 is out of range, must be 1 to 1024\n"
	  "/cpus/nested: must be true or false, is 1\n"
	  "/memory/size: must be an integer, is the string 'x'\n"
	  "/sereal: unknown key, did you mean 'serial'?\n" },
	{ "lists",
	  VM(",'disks':[{'path':7,'queue_size':2},{},'x'],'platform':{'oem_strings':[1,'a',2]}"),
	  "/disks/0/path: must be a string, is 7\n"
	  "/disks/0/queue_size: 2 is out of range, must be 4 to 1024\n"
	  "/disks/1/path: missing, must be given\n"
	  "/disks/2: must be an object, is the string 'x'\n"
	  "/platform/oem_strings/0: must be a string, is 1\n"
	  "/platform/oem_strings/2: must be a string, is 2\n" },
	/* rules are looked at after the rows, but told in the document's order */
	{ "rules",
	  "{'disks':[{'path':'/a','queue_size':100,'id':'d'},{'path':'/a','id':'d'}],"
	  "'net':[{'num_queues':3,'queue_size':5}],'cpus':{'boot_vcpus':4,'max_vcpus':2,"
	  "'affinity':[{'vcpu':9,'host_cpus':[0]},{'vcpu':1,'host_cpus':[]}]},"
	  "'rng':{'src':'x'},'payload':{}}",
	  "/disks/0/queue_size: 100 is not a power of two, must be like 128\n"
	  "/disks/1/path: '/a' is /disks/0 too, must be read-only in both\n"
	  "/disks/1/id: 'd' is /disks/0's too, must be unique\n"
	  "/net/0/num_queues: 3 is odd, must count receive and send queues\n"
	  "/net/0/queue_size: 5 is not a power of two, must be like 256\n"
	  "/cpus/max_vcpus: 2 is less than /cpus/boot_vcpus, must be at least 4\n"
	  "/cpus/affinity/0/vcpu: 9 does not exist, must be 0 to 3\n"
	  "/cpus/affinity/1/host_cpus: is empty, must name at least one CPU\n"
	  "/rng/src: 'x' is not an absolute path, must start with '/'\n"
	  "/payload: names nothing to start, must have 'kernel' or 'firmware'\n" },
	{ "firmware",
	  "{'payload':{'initramfs':'/i','cmdline':'x','boot_protocol':'BzImage','firmware':'/f'}}",
	  "/payload/initramfs: has no effect with a firmware, needs /payload/kernel\n"
	  "/payload/cmdline: has no effect with a firmware, needs /payload/kernel\n"
	  "/payload/boot_protocol: 'BzImage' is for a kernel, a firmware needs 'Auto' or 'Pvh'\n" },
	/* no "names nothing to start": that is what the first one means */
	{ "follows-key", "{'payload':{'kernal':'/k'}}",
	  "/payload/kernal: unknown key, did you mean 'kernel'?\n" },
	{ "follows-place", "{'kernel':'/k'}",
	  "/kernel: unknown key, did you mean 'kernel' in 'payload'?\n" },
	{ "follows-later", "{'payload':{'igvm':'/k'},'fs':[]}",
	  "/payload/igvm: not supported yet\n" },
	/* the number of vCPUs is not known: nothing about queues */
	{ "follows-cpus",
	  VM(",'cpus':{'boot_vcpus':'x'},'disks':[{'path':'/a','num_queues':4,"
	     "'queue_size':7}]"),
	  "/cpus/boot_vcpus: must be an integer, is the string 'x'\n"
	  "/disks/0/queue_size: 7 is not a power of two, must be like 128\n" },
	{ "strange-keys", VM(",'cpus':{'a/b':1,'m~n':2,'boot_vcpus':0}"),
	  "/cpus/a~1b: unknown key, must be one of boot_vcpus, max_vcpus, topology, max_phys_bits, "
	  "affinity, nested\n"
	  "/cpus/m~0n: unknown key, must be one of boot_vcpus, max_vcpus, topology, max_phys_bits, "
	  "affinity, nested\n"
	  "/cpus/boot_vcpus: 0 is out of range, must be 1 to 1024\n" },
};

static void test_all(gconstpointer data)
{
	size_t i = GPOINTER_TO_SIZE(data);
	g_autoptr(GVariant) dict = definition_from_json(all_cases[i].json);
	_cleanup_(config_problems_deinit) struct config_problems problems = { 0 };
	_cleanup_(vm_config_free_cleanup) struct vm_config *config = NULL;
	g_autoptr(GString) text = g_string_new(NULL);
	int r;

	r = vm_config_parse_all(dict, &config, &problems);
	for (size_t j = 0; j < config_problems_count(&problems); j++)
		g_string_append_printf(text, "%s\n",
				       g_array_index(problems.list, struct err, j).msg);
	g_assert_cmpstr(text->str, ==, all_cases[i].text);
	g_assert_cmpint(r, ==, config_problems_first(&problems, NULL));
	g_assert_true(!config == (r < 0));
}

/* However long a wrong document is, the list of its problems is not. */
static void test_all_bounded(void)
{
	_cleanup_(config_problems_deinit) struct config_problems problems = { 0 };
	struct vm_config *config = NULL;
	GVariantBuilder dict;
	g_autoptr(GVariant) document = NULL;

	g_variant_builder_init(&dict, G_VARIANT_TYPE_VARDICT);
	for (unsigned int i = 0; i < 10000; i++) {
		g_autofree char *key = g_strdup_printf("unknown%u", i);

		g_variant_builder_add_parsed(&dict, "{%s, <1>}", key);
	}
	document = g_variant_ref_sink(g_variant_builder_end(&dict));
	g_assert_cmpint(vm_config_parse_all(document, &config, &problems), ==, -EINVAL);
	g_assert_cmpuint(config_problems_count(&problems), ==, CONFIG_PROBLEMS_MAX);
	g_assert_true(
		g_str_has_prefix(g_array_index(problems.list, struct err, 99).msg, "/unknown99: "));
}

static const struct {
	const char *name, *json, *text;
} later_cases[] = {
	{ "balloon", VM(",'balloon':{'size':0}"), "/balloon: not supported yet" },
	{ "fs", VM(",'fs':[{'tag':'x','socket':'/s'}]"), "/fs: not supported yet" },
	{ "pmem", VM(",'pmem':[{'file':'/x'}]"), "/pmem: not supported yet" },
	{ "vsock", VM(",'vsock':{'cid':3,'socket':'/s'}"), "/vsock: not supported yet" },
	{ "vdpa", VM(",'vdpa':[{'path':'/x'}]"), "/vdpa: not supported yet" },
	{ "devices", VM(",'devices':[{'path':'/x'}]"), "/devices: not supported yet" },
	{ "user-devices", VM(",'user_devices':[{'socket':'/x'}]"),
	  "/user_devices: not supported yet" },
	{ "numa", VM(",'numa':[{'guest_numa_id':0}]"), "/numa: not supported yet" },
	{ "tpm", VM(",'tpm':{'socket':'/x'}"), "/tpm: not supported yet" },
	{ "watchdog", VM(",'watchdog':true"), "/watchdog: not supported yet" },
	{ "pvpanic", VM(",'pvpanic':true"), "/pvpanic: not supported yet" },
	{ "landlock", VM(",'landlock_enable':true"), "/landlock_enable: not supported yet" },
	{ "rate-limit-groups", VM(",'rate_limit_groups':[{'id':'g'}]"),
	  "/rate_limit_groups: not supported yet" },
	{ "kvm-hyperv", VM(",'cpus':{'kvm_hyperv':true}"), "/cpus/kvm_hyperv: not supported yet" },
	{ "amx", VM(",'cpus':{'features':{'amx':true}}"), "/cpus/features/amx: not supported yet" },
	{ "core-scheduling", VM(",'cpus':{'core_scheduling':'Vm'}"),
	  "/cpus/core_scheduling: 'Vm' is not supported yet, must be Off" },
	{ "hotplug-size", VM(",'memory':{'hotplug_size':1073741824}"),
	  "/memory/hotplug_size: 1073741824 is not supported yet, must be 0" },
	{ "zones", VM(",'memory':{'zones':[{'id':'z','size':1}]}"),
	  "/memory/zones: not supported yet" },
	{ "igvm", "{'payload':{'igvm':'/x'}}", "/payload/igvm: not supported yet" },
	{ "disk-iommu", VM(",'disks':[{'path':'/x','iommu':true}]"),
	  "/disks/0/iommu: not supported yet" },
	{ "disk-segment", VM(",'disks':[{'path':'/x','pci_segment':1}]"),
	  "/disks/0/pci_segment: 1 is not supported yet, must be 0" },
	{ "disk-vhost-user", VM(",'disks':[{'path':'/x','vhost_user':true}]"),
	  "/disks/0/vhost_user: not supported yet" },
	{ "disk-rate", VM(",'disks':[{'path':'/x','rate_limiter_config':{'ops':{'size':1}}}]"),
	  "/disks/0/rate_limiter_config: not supported yet" },
	{ "disk-qcow2", VM(",'disks':[{'path':'/x','image_type':'Qcow2'}]"),
	  "/disks/0/image_type: 'Qcow2' is not supported yet, must be Raw" },
	{ "disk-sparse", VM(",'disks':[{'path':'/x','sparse':false}]"),
	  "/disks/0/sparse: false is not supported yet, must be true" },
	{ "disk-lock", VM(",'disks':[{'path':'/x','lock_granularity':'Full'}]"),
	  "/disks/0/lock_granularity: 'Full' is not supported yet, must be ByteRange" },
	{ "net-fds", VM(",'net':[{'fds':[3]}]"), "/net/0/fds: not supported yet" },
	{ "net-host-mac", VM(",'net':[{'host_mac':'52:54:00:12:34:56'}]"),
	  "/net/0/host_mac: not supported yet" },
	{ "serial-pty", VM(",'serial':{'mode':'Pty'}"),
	  "/serial/mode: 'Pty' is not supported yet, must be Off, Null, Tty or File" },
	{ "console-socket", VM(",'console':{'mode':'Socket'}"),
	  "/console/mode: 'Socket' is not supported yet, must be Off, Null, Tty or File" },
	{ "segments", VM(",'platform':{'num_pci_segments':2}"),
	  "/platform/num_pci_segments: 2 is not supported yet, must be 1" },
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

static void test_too_many_devices(void)
{
	g_autoptr(GString) json = g_string_new("{'payload':{'kernel':'/k'},'disks':[");
	g_autoptr(GVariant) dict = NULL;
	struct vm_config *config = NULL;
	struct err err = { 0 };

	for (unsigned int i = 0; i < VM_DISKS_MAX; i++)
		g_string_append_printf(json, "%s{'path':'/d%u'}", i ? "," : "", i);
	g_string_append(json, "],'net':[{},{},{},{},{},{},{}]}");
	dict = definition_from_json(json->str);
	g_assert_cmpint(vm_config_parse(dict, &config, &err), ==, -EINVAL);
	g_assert_cmpstr(
		err.msg, ==,
		"/disks: 24 disks, 7 nets and 1 other devices need 32 PCI slots, must be at "
		"most 31");
}

#define EVERYTHING                                                                                 \
	"{'cpus':{'boot_vcpus':4,'max_vcpus':8,'max_phys_bits':40,'nested':false,"                 \
	"'topology':{'threads_per_core':2,'cores_per_die':2,'dies_per_package':1,'packages':2},"   \
	"'affinity':[{'vcpu':0,'host_cpus':[0,2]},{'vcpu':7,'host_cpus':[8191]}]},"                \
	"'memory':{'size':4294967296,'shared':true,'hugepages':true,'hugepage_size':2097152,"      \
	"'prefault':true,'reserve':true,'thp':false},"                                             \
	"'payload':{'kernel':'/boot/vmlinuz','initramfs':'/boot/initrd','cmdline':'quiet \\\\'},"  \
	"'disks':[{'path':'/a','readonly':true,'direct':true,'num_queues':4,'queue_size':1024,"    \
	"'serial':'S','id':'root','pci_device_id':31},{'path':'/a','readonly':true}],"             \
	"'net':[{'tap':'t0','ip':'10.0.0.1','mask':'255.255.255.0','mac':'52:54:00:ab:cd:ef',"     \
	"'mtu':9000,'num_queues':8,'queue_size':512,'offload_tso':false,'offload_ufo':false,"      \
	"'offload_csum':false,'id':'lan','pci_device_id':4},"                                      \
	"{'ip':'fd00::1','mask':'ffff:ffff:ffff:ffff::'}],"                                        \
	"'rng':{'src':'/dev/hwrng'},'serial':{'mode':'File','file':'/s.log'},"                     \
	"'console':{'mode':'Tty'},'debug_console':{'mode':'File','file':'/d.log','iobase':1026},"  \
	"'platform':{'system_serial_number':'a','system_uuid':"                                    \
	"'8c1d3a5e-2f60-4b9a-9d57-0e4c6a7b8f12','system_manufacturer':'b',"                        \
	"'system_product_name':'c','system_version':'d','system_family':'e',"                      \
	"'system_sku_number':'f','chassis_asset_tag':'g','oem_strings':['h','i']}}"

static void assert_round_trip(const char *json)
{
	_cleanup_(vm_config_free_cleanup) struct vm_config *first = config_from_json(json);
	g_autoptr(GVariant) once = g_variant_ref_sink(vm_config_serialise(first));
	g_autofree char *text = config_json_print(once, CONFIG_JSON_PRETTY);
	_cleanup_(vm_config_free_cleanup) struct vm_config *second = config_from_json(text);
	g_autoptr(GVariant) again = g_variant_ref_sink(vm_config_serialise(second));
	g_autofree char *first_print = g_variant_print(once, TRUE);
	g_autofree char *second_print = g_variant_print(again, TRUE);

	g_assert_cmpstr(first_print, ==, second_print);
}

static void test_round_trip(void)
{
	_cleanup_(vm_config_free_cleanup) struct vm_config *config = config_from_json(EVERYTHING);

	g_assert_cmpuint(config->cpus.affinity[1].host_cpus[0], ==, 8191);
	g_assert_cmpuint(config->disks[0].pci.pci_device_id, ==, 31);
	g_assert_cmpstr(config->payload.cmdline, ==, "quiet \\");
	g_assert_cmpstr(config->platform.sku_number, ==, "f");
	assert_round_trip(EVERYTHING);
	assert_round_trip(VM());
	assert_round_trip("{'payload':{'firmware':'/f'},'serial':{'mode':'Off'}}");
}

/* No member that the serialiser forgets: everything but what cannot be combined is in there. */
static void test_serialise_is_complete(void)
{
	_cleanup_(vm_config_free_cleanup) struct vm_config *config = config_from_json(EVERYTHING);
	g_autoptr(GVariant) all = g_variant_ref_sink(vm_config_serialise(config));
	g_autoptr(GVariant) disks = g_variant_lookup_value(all, "disks", G_VARIANT_TYPE("aa{sv}"));
	g_autoptr(GVariant) disk = g_variant_get_child_value(disks, 0);
	g_autoptr(GVariant) nets = g_variant_lookup_value(all, "net", G_VARIANT_TYPE("aa{sv}"));
	g_autoptr(GVariant) net = g_variant_get_child_value(nets, 0);
	const struct {
		const struct config_table *table;
		GVariant *object;
	} whole[] = { { &vm_table, all }, { &disk_table, disk }, { &net_table, net } };

	for (size_t i = 0; i < G_N_ELEMENTS(whole); i++) {
		for (size_t j = 0; j < whole[i].table->n_fields; j++) {
			const struct config_field *field = &whole[i].table->fields[j];
			g_autoptr(GVariant) v =
				g_variant_lookup_value(whole[i].object, field->key, NULL);

			g_test_message("%s", field->key);
			if (field->kind == CONFIG_LATER)
				g_assert_null(v);
			else
				g_assert_nonnull(v);
		}
	}
}

static int print_resource(const struct resource *res, void *data, struct err *err _unused_)
{
	g_string_append_printf(data, "%s=%s kind %d%s%s index %zu\n", res->pointer,
			       res->value ? res->value : "-", res->kind, res->readonly ? " ro" : "",
			       res->direct ? " direct" : "", res->index);
	return 0;
}

static int refuse_second(const struct resource *res, void *data, struct err *err)
{
	unsigned int *count = data;

	if (++*count < 2)
		return 0;
	return err_set(err, ENOENT, "%s", res->pointer);
}

static void test_resources(void)
{
	_cleanup_(vm_config_free_cleanup) struct vm_config *config = config_from_json(EVERYTHING);
	g_autoptr(GString) out = g_string_new(NULL);
	unsigned int count = 0;
	struct err err = { 0 };

	g_assert_cmpint(vm_config_foreach_resource(config, print_resource, out, NULL), ==, 0);
	g_assert_cmpstr(out->str, ==,
			"/payload/kernel=/boot/vmlinuz kind 0 ro index 0\n"
			"/payload/initramfs=/boot/initrd kind 0 ro index 0\n"
			"/disks/0/path=/a kind 2 ro direct index 0\n"
			"/disks/1/path=/a kind 2 ro index 1\n"
			"/net/0/tap=t0 kind 4 index 0\n"
			"/net/1/tap=- kind 4 index 1\n"
			"/rng/src=/dev/hwrng kind 1 ro index 0\n"
			"/serial/file=/s.log kind 3 index 0\n"
			"/debug_console/file=/d.log kind 3 index 0\n");

	g_assert_cmpint(vm_config_foreach_resource(config, refuse_second, &count, &err), ==,
			-ENOENT);
	g_assert_cmpstr(err.msg, ==, "/payload/initramfs");
	g_assert_cmpuint(count, ==, 2);
}

/* The daemon strips, the worker parses what it is sent: no path, same machine. */
static void test_strip(void)
{
	_cleanup_(vm_config_free_cleanup) struct vm_config *config = config_from_json(EVERYTHING);
	_cleanup_(vm_config_free_cleanup) struct vm_config *worker = NULL;
	g_autoptr(GVariant) sent = NULL;
	g_autofree char *text = NULL;
	struct err err = { 0 };

	vm_config_strip_resources(config);
	sent = g_variant_ref_sink(vm_config_serialise(config));
	text = g_variant_print(sent, FALSE);
	g_assert_null(strstr(text, "/boot/"));
	g_assert_null(strstr(text, ".log"));
	g_assert_null(strstr(text, "'t0'"));

	g_assert_cmpint(vm_config_parse(sent, &worker, &err), ==, 0);
	g_assert_cmpstr(err.msg, ==, "");
	g_assert_cmpstr(worker->payload.kernel, ==, "/payload/kernel");
	g_assert_cmpstr(worker->payload.cmdline, ==, "quiet \\");
	g_assert_cmpstr(worker->disks[1].path, ==, "/disks/1/path");
	g_assert_cmpstr(worker->disks[1].pci.id, ==, config->disks[1].pci.id);
	g_assert_cmpstr(worker->nets[0].tap, ==, "/net/0/tap");
	g_assert_cmpstr(worker->nets[1].tap, ==, "/net/1/tap");
	g_assert_cmpstr(worker->rng.src, ==, "/rng/src");
	g_assert_cmpstr(worker->debug_console.file, ==, "/debug_console/file");
}

/* {"fd": NAME} in place of whatever names something of the host. */
static void test_fds(void)
{
	static const char *const text =
		"{'payload':{'kernel':{'fd':'k'},'initramfs':{'fd':'i'}},"
		"'disks':[{'path':{'fd':'d'}}],'net':[{'tap':{'fd':'t'}}],'rng':{'src':{'fd':'r'}},"
		"'serial':{'mode':'File','file':{'fd':'s'}}}";
	_cleanup_(vm_config_free_cleanup) struct vm_config *config = config_from_json(text);
	_cleanup_(vm_config_free_cleanup) struct vm_config *again = NULL;
	g_autoptr(GVariant) dict = g_variant_ref_sink(vm_config_serialise(config));
	g_autofree char *json = config_json_print(dict, CONFIG_JSON_COMPACT);

	g_assert_cmpstr(config->payload.kernel, ==, "fd:k");
	g_assert_cmpstr(vm_config_fd_name(config->disks[0].path), ==, "d");
	g_assert_cmpstr(vm_config_fd_name(config->nets[0].tap), ==, "t");
	g_assert_null(vm_config_fd_name("/fd:k"));
	g_assert_null(vm_config_fd_name(NULL));
	g_assert_nonnull(strstr(json, "\"kernel\":{\"fd\":\"k\"}"));
	g_assert_nonnull(strstr(json, "\"file\":{\"fd\":\"s\"}"));
	g_assert_cmpint(vm_config_parse(dict, &again, NULL), ==, 0);
	g_assert_cmpstr(again->rng.src, ==, "fd:r");
	vm_config_strip_resources(again);
	g_assert_cmpstr(again->rng.src, ==, "/rng/src");
}

static void test_console_mode(void)
{
	enum console_mode mode;

	for (unsigned int i = 0; i < CONSOLE_MODE_N_; i++) {
		const char *s = console_mode_to_string((enum console_mode)i);

		g_assert_nonnull(s);
		g_assert_cmpint(console_mode_from_string(s, &mode), ==, 0);
		g_assert_cmpuint(mode, ==, i);
	}
	g_assert_cmpint(console_mode_from_string("Pty", &mode), ==, -EINVAL);
	g_assert_null(console_mode_to_string(CONSOLE_MODE_N_));
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
	for (size_t i = 0; i < G_N_ELEMENTS(bad_cases); i++) {
		g_autofree char *path = g_strdup_printf("/config/parse/bad/%s", bad_cases[i].name);

		g_test_add_data_func(path, GSIZE_TO_POINTER(i), test_bad);
	}
	for (size_t i = 0; i < G_N_ELEMENTS(later_cases); i++) {
		g_autofree char *path =
			g_strdup_printf("/config/parse/later/%s", later_cases[i].name);

		g_test_add_data_func(path, GSIZE_TO_POINTER(i), test_later);
	}
	for (size_t i = 0; i < G_N_ELEMENTS(all_cases); i++) {
		g_autofree char *path = g_strdup_printf("/config/parse/all/%s", all_cases[i].name);

		g_test_add_data_func(path, GSIZE_TO_POINTER(i), test_all);
	}
	g_test_add_func("/config/parse/all/bounded", test_all_bounded);
	g_test_add_func("/config/parse/cloud-hypervisor-file", test_cloud_hypervisor_file);
	g_test_add_func("/config/parse/defaults", test_defaults);
	g_test_add_func("/config/parse/integer-types", test_integer_types);
	g_test_add_func("/config/parse/typed-containers", test_typed_containers);
	g_test_add_func("/config/parse/too-many-devices", test_too_many_devices);
	g_test_add_func("/config/parse/foreign-text", test_foreign_text);
	g_test_add_func("/config/serialise/round-trip", test_round_trip);
	g_test_add_func("/config/serialise/complete", test_serialise_is_complete);
	g_test_add_func("/config/resources/walk", test_resources);
	g_test_add_func("/config/resources/strip", test_strip);
	g_test_add_func("/config/resources/fds", test_fds);
	g_test_add_func("/config/console-mode/round-trip", test_console_mode);
	return g_test_run();
}
