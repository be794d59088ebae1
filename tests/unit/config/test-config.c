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

#define FW_CFG_ITEMS(list)                                                                         \
	"{'payload':{'kernel':'/k','fw_cfg_config':{'items':{'item_list':[" list "]}}}}"

static const struct {
	const char *name, *json, *text;
} bad_cases[] = {
	{ "hotplug-size", VM(",'memory':{'hotplug_size':1073741825}"),
	  "/memory/hotplug_size: 1073741825 is not a multiple of 128 MiB (134217728), must be like "
	  "1207959552" },
	{ "hotplug-zones",
	  VM(",'memory':{'size':0,'hotplug_size':134217728,'zones':[{'id':'a','size':67108864}]}"),
	  "/memory/hotplug_size: 134217728 cannot be had with /memory/zones, must be left out" },
	{ "hotplug-method", VM(",'memory':{'hotplug_method':'Pages'}"),
	  "/memory/hotplug_method: 'Pages' is unknown, must be Acpi or VirtioMem" },
	{ "hotplugged-acpi", VM(",'memory':{'hotplug_size':134217728,'hotplugged_size':134217728}"),
	  "/memory/hotplugged_size: 134217728 has no effect, needs /memory/hotplug_method VirtioMem" },
	{ "hotplugged-more",
	  VM(",'memory':{'hotplug_method':'VirtioMem','hotplug_size':134217728,"
	     "'hotplugged_size':136314880}"),
	  "/memory/hotplugged_size: 136314880 is more than /memory/hotplug_size, must be at most "
	  "134217728" },
	{ "hotplugged-block",
	  VM(",'memory':{'hotplug_method':'VirtioMem','hotplug_size':134217728,"
	     "'hotplugged_size':1048576}"),
	  "/memory/hotplugged_size: 1048576 is not a multiple of 2097152, must be like 2097152" },
	{ "hotplug-hugepages",
	  VM(",'memory':{'hotplug_method':'VirtioMem','hotplug_size':134217728,'hugepages':true}"),
	  "/memory/hugepages: cannot be had with hotplug_method VirtioMem, must be false: blocks "
	  "could not be given back" },
	{ "zone-hotplug-acpi",
	  VM(",'memory':{'size':0,'zones':[{'id':'a','size':67108864,'hotplug_size':134217728}]}"),
	  "/memory/zones/0/hotplug_size: 134217728 has no effect, needs /memory/hotplug_method "
	  "VirtioMem" },
	{ "zone-hotplug-unit",
	  VM(",'memory':{'size':0,'hotplug_method':'VirtioMem','zones':[{'id':'a','size':67108864,"
	     "'hotplug_size':2097152}]}"),
	  "/memory/zones/0/hotplug_size: 2097152 is not a multiple of 128 MiB (134217728)" },
	{ "zone-hotplugged",
	  VM(",'memory':{'size':0,'hotplug_method':'VirtioMem','zones':[{'id':'a','size':67108864,"
	     "'hotplugged_size':2097152}]}"),
	  "/memory/zones/0/hotplugged_size: 2097152 is more than /memory/zones/0/hotplug_size, must "
	  "be at most 0" },
	/* shape */
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

	/* small devices */
	{ "balloon/unaligned", VM(",'balloon':{'size':4097}"),
	  "/balloon/size: 4097 is not a multiple of 4096" },
	{ "balloon/too-big", VM(",'balloon':{'size':1073741824},'memory':{'size':1073741824}"),
	  "/balloon/size: 1073741824 is all of the machine's memory, must be less than "
	  "1073741824" },
	{ "balloon/iommu", VM(",'iommu':true,'balloon':{'iommu':true}"),
	  "/balloon/iommu: it cannot be behind an IOMMU, must "
	  "be false" },
	{ "balloon/interval", VM(",'balloon':{'statistics_interval':86401}"),
	  "/balloon/statistics_interval: 86401 is out of range, must be 0 to 86400" },
	{ "pvpanic/string", VM(",'pvpanic':'yes'"),
	  "/pvpanic: must be true or false, is the string 'yes'" },
	{ "watchdog/action", VM(",'watchdog':true,'watchdog_action':'Explode'"),
	  "/watchdog_action: 'Explode' is unknown, must be Reset, Poweroff, Pause or Report" },
	{ "fw-cfg/no-contents", FW_CFG_ITEMS("{'name':'opt/x'}"),
	  "/payload/fw_cfg_config/items/item_list/0: has no contents, must have one of 'file' and "
	  "'string'" },
	{ "fw-cfg/both", FW_CFG_ITEMS("{'name':'opt/x','file':'/f','string':'s'}"),
	  "/payload/fw_cfg_config/items/item_list/0: has both, must have one of 'file' and "
	  "'string'" },
	{ "fw-cfg/no-name", FW_CFG_ITEMS("{'string':'s'}"),
	  "/payload/fw_cfg_config/items/item_list/0/name: missing, must be given" },
	{ "fw-cfg/etc", FW_CFG_ITEMS("{'name':'etc/e820','string':'s'}"),
	  "/payload/fw_cfg_config/items/item_list/0/name: 'etc/e820' is the machine's own, must not "
	  "begin with etc/" },
	{ "fw-cfg/twice",
	  FW_CFG_ITEMS("{'name':'opt/x','string':'s'},{'name':'opt/x','string':'t'}"),
	  "/payload/fw_cfg_config/items/item_list/1/name: 'opt/x' is item 0's too, must be unique" },
	{ "fw-cfg/space", FW_CFG_ITEMS("{'name':'opt/a b','string':'s'}"),
	  "/payload/fw_cfg_config/items/item_list/0/name: 'opt/a b' has a character that is not "
	  "printable ASCII" },
	{ "fw-cfg/long",
	  FW_CFG_ITEMS("{'name':'opt/3456789012345678901234567890123456789012345678901234567',"
		       "'string':'s'}"),
	  "/payload/fw_cfg_config/items/item_list/0/name: "
	  "'opt/3456789012345678901234567890123456789012345678901234567' is not 1 to 55 characters "
	  "long" },

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
	  "/memory/size: is 0 and there are no /memory/zones, must be at least 16777216 (16 MiB)" },
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
	{ "disks/serial-bidi",
	  VM(",'disks':[{'path':'/x','serial':'a\xe2\x80\xae"
	     "b'}]"),
	  "/disks/0/serial: 'a\xe2\x80\xae"
	  "b' is not a disk serial number, must hold printable ASCII only" },
	{ "disks/serial-letter", VM(",'disks':[{'path':'/x','serial':'\xc3\xa4'}]"),
	  "/disks/0/serial: '\xc3\xa4' is not a disk serial number, must hold printable ASCII only" },
	{ "disks/image-type", VM(",'disks':[{'path':'/x','image_type':'ISO'}]"),
	  "/disks/0/image_type: 'ISO' is unknown, must be Unknown, Raw, Qcow2, Vhd or Vhdx" },
	{ "disks/lock", VM(",'disks':[{'path':'/x','lock_granularity':'None'}]"),
	  "/disks/0/lock_granularity: 'None' is unknown, must be ByteRange or Full" },
	{ "disks/backing-raw",
	  VM(",'disks':[{'path':'/x','backing_files':true,'image_type':'Raw'}]"),
	  "/disks/0/backing_files: only images of image_type Qcow2 have backing files, must be "
	  "false" },
	{ "disks/backing-unknown", VM(",'disks':[{'path':'/x','backing_files':true}]"),
	  "/disks/0/backing_files: only images of image_type Qcow2 have backing files, must be "
	  "false" },
	{ "disks/backing-fd",
	  VM(",'disks':[{'path':{'fd':'a'},'backing_files':true,'image_type':'Qcow2'}]"),
	  "/disks/0/backing_files: an image given as a descriptor cannot have backing files, must "
	  "be false or path a path" },
	{ "disks/affinity-queue",
	  VM(",'disks':[{'path':'/x','queue_affinity':[{'queue_index':1,'host_cpus':[0]}]}]"),
	  "/disks/0/queue_affinity/0/queue_index: 1 is not below num_queues, must be at most 0" },
	{ "disks/affinity-empty",
	  VM(",'disks':[{'path':'/x','queue_affinity':[{'queue_index':0,'host_cpus':[]}]}]"),
	  "/disks/0/queue_affinity/0/host_cpus: is empty, must name at least one CPU" },
	{ "disks/affinity-twice",
	  VM(",'disks':[{'path':'/x','queue_affinity':[{'queue_index':0,'host_cpus':[0]},"
	     "{'queue_index':0,'host_cpus':[1]}]}]"),
	  "/disks/0/queue_affinity/1/queue_index: queue 0 is in entry 0 too, must be unique" },
	{ "disks/affinity-cpu",
	  VM(",'disks':[{'path':'/x','queue_affinity':[{'queue_index':0,'host_cpus':[8192]}]}]"),
	  "/disks/0/queue_affinity/0/host_cpus/0: 8192 is out of range, must be 0 to 8191" },
	{ "pmem/no-file", VM(",'pmem':[{'size':2097152}]"),
	  "/pmem/0/file: missing, must be given" },
	{ "pmem/size", VM(",'pmem':[{'file':'/x','size':1048576}]"),
	  "/pmem/0/size: 1048576 is not a multiple of 2 MiB, must be like 2097152" },
	{ "pmem/twice", VM(",'pmem':[{'file':'/x'},{'file':'/x','discard_writes':true}]"),
	  "/pmem/1/file: '/x' is /pmem/0 too, must have discard_writes in both" },
	{ "pmem/key", VM(",'pmem':[{'file':'/x','discard_write':true}]"),
	  "/pmem/0/discard_write: unknown key, did you mean 'discard_writes'?" },
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
	  "/disks/0/pci_device_id: 0 is the host bridge's on segment 0, must be 1 to 31" },
	{ "disks/slot-high", VM(",'disks':[{'path':'/x','pci_device_id':32}]"),
	  "/disks/0/pci_device_id: 32 is out of range, must be 0 to 31" },
	{ "disks/segment", VM(",'disks':[{'path':'/x','pci_segment':1}]"),
	  "/disks/0/pci_segment: 1 does not exist, must be less than /platform/num_pci_segments, "
	  "1" },
	{ "disks/slot-twice-on-a-segment",
	  VM(",'disks':[{'path':'/x','pci_segment':1,'pci_device_id':0},{'path':'/y',"
	     "'pci_segment':1,'pci_device_id':0}],'platform':{'num_pci_segments':2}"),
	  "/disks/1/pci_device_id: 0 is /disks/0's too, must be unique" },
	{ "platform/segments", VM(",'platform':{'num_pci_segments':97}"),
	  "/platform/num_pci_segments: 97 is out of range, must be 1 to 96" },
	{ "pci_segments/none", VM(",'pci_segments':[{'pci_segment':1}]"),
	  "/pci_segments/0/pci_segment: 1 does not exist, must be less than "
	  "/platform/num_pci_segments, 1" },
	{ "pci_segments/twice", VM(",'pci_segments':[{'pci_segment':0},{'pci_segment':0}]"),
	  "/pci_segments/1/pci_segment: 0 is in /pci_segments/0 already, must be given once" },
	{ "pci_segments/weight",
	  VM(",'pci_segments':[{'pci_segment':0,'mmio64_aperture_weight':0}]"),
	  "/pci_segments/0/mmio64_aperture_weight: 0 is out of range, must be 1 to 65535" },

	/* iommu */
	{ "iommu/segment", VM(",'platform':{'iommu_segments':[1]}"),
	  "/platform/iommu_segments/0: 1 does not exist, must be less than "
	  "/platform/num_pci_segments, 1" },
	{ "iommu/segment-twice", VM(",'platform':{'num_pci_segments':2,'iommu_segments':[1,1]}"),
	  "/platform/iommu_segments/1: 1 is there twice" },
	{ "iommu/off-on-its-segment",
	  VM(",'disks':[{'path':'/x','pci_segment':1}],'platform':{'num_pci_segments':2,"
	     "'iommu_segments':[1]}"),
	  "/disks/0/iommu: is off, must be on: segment 1 is one of /platform/iommu_segments" },
	{ "iommu/width", VM(",'platform':{'iommu_address_width_bits':65}"),
	  "/platform/iommu_address_width_bits: 65 is out of range, must be 32 to 64" },
	{ "iommu/balloon", VM(",'balloon':{'iommu':true}"),
	  "/balloon/iommu: it cannot be behind an IOMMU, must be false" },
	{ "iommu/fs",
	  VM(",'memory':{'shared':true},"
	     "'fs':[{'tag':'a','source':'/a','iommu':true}]"),
	  "/fs/0/iommu: it cannot be behind an IOMMU, must be false" },
	{ "iommu/vhost", VM(",'net':[{'vhost':true,'iommu':true}]"),
	  "/net/0/iommu: cannot be had with vhost, which knows no IOMMU, must be false" },

	/* memory zones */
	{ "zones/none", VM(",'memory':{'size':0}"),
	  "/memory/size: is 0 and there are no /memory/zones, must be at least 16777216 (16 MiB)" },
	{ "zones/both", VM(",'memory':{'zones':[{'id':'a'}]}"),
	  "/memory/size: 536870912 and /memory/zones cannot both be, must be 0: the zones are all "
	  "of the memory" },
	{ "zones/shared", VM(",'memory':{'size':0,'shared':true,'zones':[{'id':'a'}]}"),
	  "/memory/shared: has no effect with /memory/zones, must be set for each zone" },
	{ "zones/no-id", VM(",'memory':{'size':0,'zones':[{}]}"),
	  "/memory/zones/0/id: missing, must be given" },
	{ "zones/same-id", VM(",'memory':{'size':0,'zones':[{'id':'a'},{'id':'a'}]}"),
	  "/memory/zones/1/id: 'a' is zone 0's too, must be unique" },
	{ "zones/size",
	  VM(",'memory':{'size':0,'zones':[{'id':'a','size':17825792},{'id':'b',"
	     "'size':1048576}]}"),
	  "/memory/zones/0/size: 17825792 is not a multiple of 2 MiB (2097152) above 0" },
	{ "zones/hugepage_size",
	  VM(",'memory':{'size':0,'zones':[{'id':'a','hugepage_size':"
	     "2097152}]}"),
	  "/memory/zones/0/hugepage_size: has no effect, needs /memory/zones/0/hugepages" },
	{ "zones/file-hugepages",
	  VM(",'memory':{'size':0,'zones':[{'id':'a','file':'/x','hugepages':true}]}"),
	  "/memory/zones/0/hugepages: cannot be had with a file, must be false: a file on hugetlbfs "
	  "is of huge pages" },
	{ "zones/file-node",
	  VM(",'memory':{'size':0,'zones':[{'id':'a','file':'/x','shared':true,"
	     "'host_numa_node':0}]}"),
	  "/memory/zones/0/host_numa_node: cannot be had with a shared file, whose pages may be "
	  "there already, must be left out" },
	{ "zones/mergeable",
	  VM(",'memory':{'size':0,'zones':[{'id':'a','shared':true,'mergeable':true}]}"),
	  "/memory/zones/0/mergeable: cannot be had with shared, must be false" },

	/* numa */
	{ "numa/id-twice", VM(",'numa':[{'guest_numa_id':0},{'guest_numa_id':0}]"),
	  "/numa/1/guest_numa_id: 0 is /numa/0's too, must be unique" },
	{ "numa/id-gap", VM(",'numa':[{'guest_numa_id':2}]"),
	  "/numa/0/guest_numa_id: 2 leaves numbers out, must be less than the number of nodes, 1" },
	{ "numa/cpu", VM(",'numa':[{'guest_numa_id':0,'cpus':[1]}]"),
	  "/numa/0/cpus/0: 1 does not exist, must be 0 to 0" },
	{ "numa/cpu-of-two",
	  VM(",'numa':[{'guest_numa_id':0,'cpus':[0]},{'guest_numa_id':1,'cpus':[0]}]"),
	  "/numa/1/cpus/0: 0 is of /numa/0 already, must be in one node" },
	{ "numa/distance-to-nobody",
	  VM(",'numa':[{'guest_numa_id':0,'distances':[{'destination':3,'distance':20}]}]"),
	  "/numa/0/distances/0/destination: 3 is no node, must be a guest_numa_id" },
	{ "numa/distance-to-itself",
	  VM(",'numa':[{'guest_numa_id':0,'distances':[{'destination':0,'distance':20}]}]"),
	  "/numa/0/distances/0/distance: 20 to node 0, must be 10" },
	{ "numa/zone", VM(",'numa':[{'guest_numa_id':0,'memory_zones':['a']}]"),
	  "/numa/0/memory_zones/0: 'a' is no zone, must be an id of /memory/zones" },
	{ "numa/zone-of-two",
	  VM(",'memory':{'size':0,'zones':[{'id':'a'}]},'numa':[{'guest_numa_id':0,"
	     "'memory_zones':['a']},{'guest_numa_id':1,'memory_zones':['a']}]"),
	  "/numa/1/memory_zones/0: 'a' is of /numa/0 already, must be in one node" },
	{ "numa/segment", VM(",'numa':[{'guest_numa_id':0,'pci_segments':[1]}]"),
	  "/numa/0/pci_segments/0: 1 does not exist, must be less than "
	  "/platform/num_pci_segments, 1" },
	{ "numa/segment-0",
	  VM(",'numa':[{'guest_numa_id':0},{'guest_numa_id':1,'pci_segments':[0]}]"),
	  "/numa/1/pci_segments/0: segment 0 is of node 0, must not be of node 1" },
	{ "disks/slot-wraps", VM(",'disks':[{'path':'/x','pci_device_id':257}]"),
	  "/disks/0/pci_device_id: 257 is out of range, must be 0 to 31" },
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
	{ "net/host-mac-multicast", VM(",'net':[{'host_mac':'53:54:00:12:34:56'}]"),
	  "/net/0/host_mac: '53:54:00:12:34:56' is a multicast address, must have an even first "
	  "byte" },
	{ "net/backend", VM(",'net':[{'backend':'slirp'}]"),
	  "/net/0/backend: 'slirp' is unknown, must be Tap or Passt" },
	{ "net/passt-tap", VM(",'net':[{'backend':'Passt','tap':'t0'}]"),
	  "/net/0/tap: is not for the back end 'Passt', needs 'Tap'" },
	{ "net/passt-ip", VM(",'net':[{'backend':'Passt','ip':'10.0.0.1','mask':'255.0.0.0'}]"),
	  "/net/0/ip: is not for the back end 'Passt', needs 'Tap'" },
	{ "net/passt-host-mac", VM(",'net':[{'backend':'Passt','host_mac':'52:54:00:12:34:56'}]"),
	  "/net/0/host_mac: is not for the back end 'Passt', needs 'Tap'" },
	{ "net/passt-vhost", VM(",'net':[{'backend':'Passt','vhost':true}]"),
	  "/net/0/vhost: is not for the back end 'Passt', needs 'Tap'" },
	{ "net/passt-queues",
	  VM(",'cpus':{'boot_vcpus':2},'net':[{'backend':'Passt','num_queues':4}]"),
	  "/net/0/num_queues: 4 is more than the one pair of passt, must be 2" },
	{ "net/tap-forward", VM(",'net':[{'forward_tcp':['22']}]"),
	  "/net/0/forward_tcp: is not for the back end 'Tap', needs 'Passt'" },
	{ "net/forward-empty", VM(",'net':[{'backend':'Passt','forward_tcp':['']}]"),
	  "/net/0/forward_tcp/0: '' is not a port to forward, must be like '8080', '2222:22', "
	  "'8000-8010:80-90' or '127.0.0.1/2222:22'" },
	{ "net/forward-large", VM(",'net':[{'backend':'Passt','forward_udp':['53','65536']}]"),
	  "/net/0/forward_udp/1: '65536' is not a port to forward, must be like '8080', "
	  "'2222:22', '8000-8010:80-90' or '127.0.0.1/2222:22'" },
	{ "net/forward-address", VM(",'net':[{'backend':'Passt','forward_tcp':['1.2.3/22']}]"),
	  "/net/0/forward_tcp/0: '1.2.3/22' is not a port to forward, must be like '8080', "
	  "'2222:22', '8000-8010:80-90' or '127.0.0.1/2222:22'" },
	{ "net/forward-option", VM(",'net':[{'backend':'Passt','forward_tcp':['22 --runas 0']}]"),
	  "/net/0/forward_tcp/0: '22 --runas 0' is not a port to forward, must be like '8080', "
	  "'2222:22', '8000-8010:80-90' or '127.0.0.1/2222:22'" },
	{ "net/forward-ranges", VM(",'net':[{'backend':'Passt','forward_tcp':['10-20:1-5']}]"),
	  "/net/0/forward_tcp/0: '10-20:1-5' names ranges of two sizes, must be of one" },
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
	  "/net/0/num_queues: 4 is more than the one pair of a descriptor, must be 2, or "
	  "/net/0/fds have one for each pair" },
	{ "fd/tap-address", VM(",'net':[{'tap':{'fd':'t'},'ip':'10.0.0.1','mask':'255.0.0.0'}]"),
	  "/net/0/ip: has no effect with a descriptor, must be set on its interface" },

	{ "fds/number", VM(",'net':[{'fds':[3]}]"), "/net/0/fds/0: must be {\"fd\": NAME}, is 3" },
	{ "fds/string", VM(",'net':[{'fds':[{'fd':'a'},'fd:b']}]"),
	  "/net/0/fds/1: must be {\"fd\": NAME}, is the string 'fd:b'" },
	{ "fds/one", VM(",'net':[{'fds':{'fd':'a'}}]"),
	  "/net/0/fds: must be a list, is an object" },
	{ "fds/more", VM(",'net':[{'fds':[{'fd':'a','x':1}]}]"),
	  "/net/0/fds/0: must be {\"fd\": NAME}, is another object" },
	{ "fds/name", VM(",'net':[{'fds':[{'fd':'a b'}]}]"),
	  "/net/0/fds/0/fd: 'a b' is not an id, must consist of letters, digits, '_', '.' and "
	  "'-'" },
	{ "fds/queues",
	  VM(",'cpus':{'boot_vcpus':3},'net':[{'fds':[{'fd':'a'},{'fd':'b'}],'num_queues':6}]"),
	  "/net/0/num_queues: 6 is not two for each of the 2 descriptors of /net/0/fds, must be "
	  "4" },
	{ "fds/vcpus", VM(",'net':[{'fds':[{'fd':'a'},{'fd':'b'}]}]"),
	  "/net/0/fds: 2 descriptors are more than one per vCPU, must be at most 1" },
	{ "fds/tap", VM(",'net':[{'fds':[{'fd':'a'}],'tap':'t0'}]"),
	  "/net/0/fds: is another way to say what /net/0/tap says, must be without it" },
	{ "fds/tap-fd", VM(",'net':[{'fds':[{'fd':'a'}],'tap':{'fd':'b'}}]"),
	  "/net/0/fds: is another way to say what /net/0/tap says, must be without it" },
	{ "fds/address", VM(",'net':[{'fds':[{'fd':'a'}],'ip':'10.0.0.1','mask':'255.0.0.0'}]"),
	  "/net/0/ip: has no effect with a descriptor, must be set on its interface" },
	{ "fds/host-mac", VM(",'net':[{'fds':[{'fd':'a'}],'host_mac':'52:54:00:12:34:56'}]"),
	  "/net/0/host_mac: has no effect with a descriptor, must be set on its interface" },
	{ "fds/passt", VM(",'net':[{'fds':[{'fd':'a'}],'backend':'Passt'}]"),
	  "/net/0/fds: is not for the back end 'Passt', needs 'Tap'" },

	/* rng, consoles, platform */
	{ "rng/null", VM(",'rng':{'src':null}"), "/rng/src: must be a string, is null" },
	{ "serial/mode", VM(",'serial':{'mode':'tty'}"),
	  "/serial/mode: 'tty' is unknown, must be Off, Null, Tty, File, Socket or Pty" },
	{ "serial/file-missing", VM(",'serial':{'mode':'File'}"),
	  "/serial/file: missing, must be given in mode File" },
	{ "console/file-unused", VM(",'console':{'mode':'Tty','file':'/x'}"),
	  "/console/file: has no effect in mode Tty, needs mode File" },
	{ "console/file-pty", VM(",'console':{'mode':'Pty','file':'/x'}"),
	  "/console/file: has no effect in mode Pty, needs mode File" },
	{ "console/socket-missing", VM(",'console':{'mode':'Socket'}"),
	  "/console/socket: missing, must be given in mode Socket" },
	{ "serial/socket-unused", VM(",'serial':{'socket':'/x'}"),
	  "/serial/socket: has no effect in mode Tty, needs mode Socket" },
	{ "serial/socket-directory", VM(",'serial':{'mode':'Socket','socket':'/x/'}"),
	  "/serial/socket: '/x/' is a directory, must be the name of a socket" },
	{ "vsock/cid", VM(",'vsock':{'cid':2,'socket':'/x'}"),
	  "/vsock/cid: 2 is out of range, must be 3 to 4294967294" },
	{ "vsock/socket", VM(",'vsock':{'cid':3}"), "/vsock/socket: missing, must be given" },
	{ "vsock/socket-long",
	  VM(",'vsock':{'cid':3,'socket':'/0123456789012345678901234567890123456789012345678901"
	     "2345678901234567890123456789012345678901234'}"),
	  "/vsock/socket: "
	  "'/012345678901234567890123456789012345678901234567890123456789012345678901...' is too "
	  "long for a socket, must be at most 95 bytes" },
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
	{ "fs/no-backend", VM(",'memory':{'shared':true},'fs':[{'tag':'x'}]"),
	  "/fs/0: has neither source nor socket, must have one" },
	{ "fs/two-backends",
	  VM(",'memory':{'shared':true},'fs':[{'tag':'x','source':'/d','socket':'/s'}]"),
	  "/fs/0/source: has no effect with /fs/0/socket, must be the only one of them" },
	{ "fs/tag-twice",
	  VM(",'memory':{'shared':true},'fs':[{'tag':'x','source':'/d'},{'tag':'x','source':'/e'}]"),
	  "/fs/1/tag: 'x' is /fs/0's too, must be another" },
	{ "fs/tag-long",
	  VM(",'memory':{'shared':true},"
	     "'fs':[{'tag':'0123456789012345678901234567890123456','source':'/d'}]"),
	  "/fs/0/tag: '0123456789012345678901234567890123456' is no tag, must have 1 to 36 bytes" },
	{ "fs/private-memory", VM(",'fs':[{'tag':'x','source':'/d'}]"),
	  "/fs/0: needs guest memory that virtiofsd can map, /memory/shared must be true" },
	{ "fs/queues",
	  VM(",'memory':{'shared':true},'fs':[{'tag':'x','source':'/d','num_queues':2}]"),
	  "/fs/0/num_queues: 2 is more than /cpus/boot_vcpus, must be at most 1" },
	{ "fs/queue-size",
	  VM(",'memory':{'shared':true},'fs':[{'tag':'x','source':'/d','queue_size':100}]"),
	  "/fs/0/queue_size: 100 is not a power of two, must be like 1024" },
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

static void test_too_many_devices(void)
{
	g_autoptr(GString) json = g_string_new("{'payload':{'kernel':'/k'},'disks':[");
	g_autoptr(GVariant) dict = NULL;
	struct vm_config *config = NULL;
	struct err err = { 0 };

	for (unsigned int i = 0; i < 24; i++)
		g_string_append_printf(json, "%s{'path':'/d%u'}", i ? "," : "", i);
	g_string_append(json, "],'net':[{},{},{},{},{},{},{}]}");
	dict = definition_from_json(json->str);
	g_assert_cmpint(vm_config_parse(dict, &config, &err), ==, -EINVAL);
	g_assert_cmpstr(
		err.msg, ==,
		"/disks: 24 disks, 7 nets and 1 other devices need 32 PCI slots, must be at most "
		"31, or some on other segments (pci_segment)");
}

/* Another segment has 32 slots, and no more. */
static void test_devices_of_segments(void)
{
	for (unsigned int n = 32; n <= 33; n++) {
		g_autoptr(GString) json = g_string_new("{'payload':{'kernel':'/k'},'disks':[");
		_cleanup_(vm_config_free_cleanup) struct vm_config *config = NULL;
		g_autoptr(GVariant) dict = NULL;
		struct err err = { 0 };

		for (unsigned int i = 0; i < n; i++)
			g_string_append_printf(json, "%s{'path':'/d%u','pci_segment':1}",
					       i ? "," : "", i);
		g_string_append(json, "],'platform':{'num_pci_segments':2}}");
		dict = definition_from_json(json->str);
		g_assert_cmpint(vm_config_parse(dict, &config, &err), ==, n == 32 ? 0 : -EINVAL);
		g_assert_cmpstr(err.msg, ==,
				n == 32 ? ""
					: "/platform/num_pci_segments: 33 devices are on segment "
					  "1, must be at most 32");
	}
}

/* What follows from the keys, and an IOMMU that nobody asked for by name. */
static void test_topology(void)
{
	g_autoptr(GVariant) dict = definition_from_json(
		"{'payload':{'kernel':'/k'},'cpus':{'boot_vcpus':3},"
		"'memory':{'size':0,'mergeable':true,'zones':[{'id':'a','size':268435456},"
		"{'id':'b','shared':true,'mergeable':false,'host_numa_node':1}]},"
		"'rng':{'iommu':true},"
		"'platform':{'num_pci_segments':3},"
		"'numa':[{'guest_numa_id':1,'cpus':[1],'memory_zones':['b'],'pci_segments':[2],"
		"'distances':[{'destination':0,'distance':40}]},"
		"{'guest_numa_id':0,'cpus':[0,2],'memory_zones':['a']}]}");
	_cleanup_(vm_config_free_cleanup) struct vm_config *config = NULL;
	struct err err = { 0 };

	g_assert_cmpint(vm_config_parse(dict, &config, &err), ==, 0);
	g_assert_cmpstr(err.msg, ==, "");
	g_assert_cmpuint(memory_config_size(&config->memory), ==, 768 << 20);
	g_assert_true(memory_zone_is_mergeable(&config->memory, 0));
	g_assert_false(memory_zone_is_mergeable(&config->memory, 1));
	g_assert_true(vm_config_has_iommu(config));
	g_assert_false(vm_config_is_iommu_segment(config, 0));
	g_assert_cmpuint(numa_of_vcpu(config, 1), ==, 1);
	g_assert_cmpuint(numa_of_vcpu(config, 2), ==, 0);
	g_assert_cmpuint(numa_of_zone(config, 0), ==, 0);
	g_assert_cmpuint(numa_of_zone(config, 1), ==, 1);
	g_assert_cmpuint(numa_of_segment(config, 1), ==, 0);
	g_assert_cmpuint(numa_of_segment(config, 2), ==, 1);
	g_assert_cmpuint(numa_distance(config, 1, 0), ==, 40);
	g_assert_cmpuint(numa_distance(config, 0, 1), ==, 40);
	g_assert_cmpuint(numa_distance(config, 0, 0), ==, 10);
}

#define EVERYTHING                                                                                          \
	"{'cpus':{'boot_vcpus':4,'max_vcpus':8,'max_phys_bits':40,'nested':false,"                          \
	"'topology':{'threads_per_core':2,'cores_per_die':2,'dies_per_package':1,'packages':2},"            \
	"'affinity':[{'vcpu':0,'host_cpus':[0,2]},{'vcpu':7,'host_cpus':[8191]}]},"                         \
	"'memory':{'size':4294967296,'shared':true,'hugepages':true,'hugepage_size':2097152,"               \
	"'prefault':true,'reserve':true,'thp':false},"                                                      \
	"'payload':{'kernel':'/boot/vmlinuz','initramfs':'/boot/initrd','cmdline':'quiet \\\\',"            \
	"'fw_cfg_config':{'e820':false,'items':{'item_list':[{'name':'opt/x','file':'/i'},"                 \
	"{'name':'opt/y','string':'z'}]}}},"                                                                \
	"'disks':[{'path':'/a','readonly':true,'direct':true,'num_queues':4,'queue_size':1024,"             \
	"'serial':'S','id':'root','pci_device_id':31,'queue_affinity':[{'queue_index':1,'host_cpus':[0]}]," \
	"'rate_limiter_config':{'ops':{'size':9,'refill_time':100}}},"                                      \
	"{'path':'/a','readonly':true,'rate_limit_group':'g'}],"                                            \
	"'rate_limit_groups':[{'id':'g','rate_limiter_config':{'bandwidth':{'size':1,"                      \
	"'refill_time':1}}}],'fs':[{'tag':'t','source':'/d'}],'pmem':[{'file':'/p'}],"                      \
	"'net':[{'tap':'t0','ip':'10.0.0.1','mask':'255.255.255.0','mac':'52:54:00:ab:cd:ef',"              \
	"'mtu':9000,'num_queues':8,'queue_size':512,'offload_tso':false,'offload_ufo':false,"               \
	"'offload_csum':false,'id':'lan','pci_device_id':4},"                                               \
	"{'ip':'fd00::1','mask':'ffff:ffff:ffff:ffff::','host_mac':'02:00:00:00:00:01',"                    \
	"'rate_limiter_config':{'ops':{'size':9,'refill_time':100}},"                                       \
	"'rx_rate_limiter_config':{'ops':{'size':9,'refill_time':100}},"                                    \
	"'tx_rate_limiter_config':{'ops':{'size':9,'refill_time':100}}},"                                   \
	"{'backend':'Passt','forward_tcp':['80'],'forward_udp':['53']},"                                    \
	"{'fds':[{'fd':'n0'},{'fd':'n1'}]}],"                                                               \
	"'rng':{'src':'/dev/hwrng'},'serial':{'mode':'File','file':'/s.log'},"                              \
	"'console':{'mode':'Tty'},'debug_console':{'mode':'File','file':'/d.log','iobase':1026},"           \
	"'balloon':{'size':1073741824,'deflate_on_oom':true,'free_page_reporting':true,"                    \
	"'statistics_interval':0,'pci_device_id':9},'rtc':{},'pvpanic':true,'watchdog':true,"               \
	"'watchdog_action':'Pause','vsock':{'cid':3,'socket':'/v'},"                                        \
	"'iommu':true,'numa':[{'guest_numa_id':0,'cpus':[1,2],"                                             \
	"'distances':[{'destination':0,'distance':10}],'pci_segments':[0]}],"                               \
	"'pci_segments':[{'pci_segment':1,'mmio32_aperture_weight':2}],"                                    \
	"'platform':{'num_pci_segments':2,'iommu_segments':[1],'iommu_address_width_bits':48,"              \
	"'system_serial_number':'a','system_uuid':"                                                         \
	"'8c1d3a5e-2f60-4b9a-9d57-0e4c6a7b8f12','system_manufacturer':'b',"                                 \
	"'system_product_name':'c','system_version':'d','system_family':'e',"                               \
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
	assert_round_trip(VM(",'memory':{'size':0,'zones':[{'id':'a','file':'/x','shared':true},"
			     "{'id':'b','size':2097152,'host_numa_node':3,'mergeable':true}]},"
			     "'numa':[{'guest_numa_id':0,'memory_zones':['a','b']}]"));
	assert_round_trip("{'payload':{'firmware':'/f'},'serial':{'mode':'Off'}}");
}

/* Does an element of the list have the key? */
static bool list_has(GVariant *all, const char *list, const char *key)
{
	g_autoptr(GVariant) items = g_variant_lookup_value(all, list, G_VARIANT_TYPE("aa{sv}"));

	for (gsize i = 0; items && i < g_variant_n_children(items); i++) {
		g_autoptr(GVariant) item = g_variant_get_child_value(items, i);
		g_autoptr(GVariant) v = g_variant_lookup_value(item, key, NULL);

		if (v)
			return true;
	}
	return false;
}

/* Another form of rate_limiter_config, which is the one that is written. */
static bool is_flat_limit(const char *key)
{
	return strstr(key, "bw_") || strstr(key, "ops_");
}

/* No member that the serialiser forgets: what cannot be combined is in several elements. */
static void test_serialise_is_complete(void)
{
	_cleanup_(vm_config_free_cleanup) struct vm_config *config = config_from_json(EVERYTHING);
	g_autoptr(GVariant) all = g_variant_ref_sink(vm_config_serialise(config));
	const struct {
		const struct config_table *table;
		const char *list;
	} whole[] = { { &vm_table, NULL }, { &disk_table, "disks" }, { &net_table, "net" } };

	for (size_t i = 0; i < G_N_ELEMENTS(whole); i++) {
		for (size_t j = 0; j < whole[i].table->n_fields; j++) {
			const struct config_field *field = &whole[i].table->fields[j];
			g_autoptr(GVariant) v = g_variant_lookup_value(all, field->key, NULL);
			bool has = whole[i].list ? list_has(all, whole[i].list, field->key)
						 : v != NULL;

			g_test_message("%s", field->key);
			g_assert_cmpint(has, ==,
					field->kind != CONFIG_LATER && !is_flat_limit(field->key));
		}
	}
}

static int print_resource(const struct resource *res, void *data, struct err *err _unused_)
{
	g_string_append_printf(data, "%s=%s%s%s index %zu\n", res->pointer,
			       res->value ? res->value : "-", res->readonly ? " ro" : "",
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
			"/payload/kernel=/boot/vmlinuz ro index 0\n"
			"/payload/initramfs=/boot/initrd ro index 0\n"
			"/payload/fw_cfg_config/items/item_list/0/file=/i ro index 0\n"
			"/disks/0/path=/a ro direct index 0\n"
			"/disks/1/path=/a ro index 1\n"
			"/net/0/tap=t0 index 0\n"
			"/net/1/tap=- index 1\n"
			"/net/2/tap=- index 2\n"
			"/net/3/fds/0=fd:n0 index 3\n"
			"/net/3/fds/1=fd:n1 index 3\n"
			"/rng/src=/dev/hwrng ro index 0\n"
			"/serial/file=/s.log index 0\n"
			"/debug_console/file=/d.log index 0\n"
			"/fs/0/source=/d index 0\n"
			"/pmem/0/file=/p index 0\n"
			"/vsock/socket=/v index 0\n");

	g_assert_cmpint(vm_config_foreach_resource(config, refuse_second, &count, &err), ==,
			-ENOENT);
	g_assert_cmpstr(err.msg, ==, "/payload/initramfs");
	g_assert_cmpuint(count, ==, 2);
}

/* The mode asks for a terminal; nothing names one, and the worker's configuration is the same. */
static void test_pty(void)
{
	_cleanup_(vm_config_free_cleanup) struct vm_config *config =
		config_from_json(VM(",'serial':{'mode':'Pty'},'console':{'mode':'Tty'},"
				    "'debug_console':{'mode':'Pty'}"));
	g_autoptr(GString) out = g_string_new(NULL);

	g_assert_cmpint(vm_config_foreach_resource(config, print_resource, out, NULL), ==, 0);
	g_assert_nonnull(strstr(out->str, "/serial/mode=- index 0\n"));
	g_assert_nonnull(strstr(out->str, "/debug_console/mode=- index 0\n"));
	g_assert_null(strstr(out->str, "/console/mode"));
	vm_config_strip_resources(config);
	g_assert_cmpint(config->serial.mode, ==, CONSOLE_MODE_PTY);
	g_assert_null(config->serial.file);
	g_assert_null(config->serial.socket);
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

/* Several of one tap: their number is that of the pairs, and the worker sees a tap. */
static void test_net_fds(void)
{
	static const char *const text = VM(",'cpus':{'boot_vcpus':3},'net':[{'tap':'t0'},"
					   "{'fds':[{'fd':'a'},{'fd':'b'},{'fd':'3'}]},"
					   "{'fds':[],'num_queues':4},{'fds':[{'fd':'c'}]}]");
	_cleanup_(vm_config_free_cleanup) struct vm_config *config = config_from_json(text);
	_cleanup_(vm_config_free_cleanup) struct vm_config *again = NULL, *worker = NULL;
	g_autoptr(GVariant) dict = g_variant_ref_sink(vm_config_serialise(config));
	g_autoptr(GVariant) sent = NULL;
	g_autofree char *json = config_json_print(dict, CONFIG_JSON_COMPACT);
	g_autoptr(GString) out = g_string_new(NULL);

	g_assert_cmpuint(config->nets[0].num_queues, ==, 2);
	g_assert_cmpuint(config->nets[1].num_queues, ==, 6);
	g_assert_cmpuint(config->nets[2].num_queues, ==, 4);
	g_assert_cmpuint(config->nets[3].num_queues, ==, 2);
	g_assert_null(config->nets[2].fds);
	g_assert_nonnull(strstr(json, "\"fds\":[{\"fd\":\"a\"},{\"fd\":\"b\"},{\"fd\":\"3\"}]"));
	g_assert_cmpint(vm_config_parse(dict, &again, NULL), ==, 0);
	g_assert_cmpint(vm_config_foreach_resource(again, print_resource, out, NULL), ==, 0);
	g_assert_nonnull(strstr(out->str, "/net/0/tap=t0 index 0\n"
					  "/net/1/fds/0=fd:a index 1\n"
					  "/net/1/fds/1=fd:b index 1\n"
					  "/net/1/fds/2=fd:3 index 1\n"
					  "/net/2/tap=- index 2\n"
					  "/net/3/fds/0=fd:c index 3\n"));

	vm_config_strip_resources(again);
	sent = g_variant_ref_sink(vm_config_serialise(again));
	g_assert_cmpint(vm_config_parse(sent, &worker, NULL), ==, 0);
	g_assert_null(worker->nets[1].fds);
	g_assert_cmpstr(worker->nets[1].tap, ==, "/net/1/tap");
	g_assert_cmpuint(worker->nets[1].num_queues, ==, 6);
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
	g_assert_cmpint(console_mode_from_string("pty", &mode), ==, -EINVAL);
	g_assert_null(console_mode_to_string(CONSOLE_MODE_N_));
	for (unsigned int i = 0; i < NET_BACKEND_N_; i++) {
		enum net_backend_kind kind = NET_BACKEND_N_;

		g_assert_cmpint(net_backend_kind_from_string(net_backend_kind_to_string(i), &kind),
				==, 0);
		g_assert_cmpuint(kind, ==, i);
	}
	g_assert_null(net_backend_kind_to_string(NET_BACKEND_N_));
	for (unsigned int i = 0; i < IMAGE_TYPE_N_; i++) {
		enum image_type type = IMAGE_TYPE_N_;

		g_assert_cmpint(image_type_from_string(image_type_to_string(i), &type), ==, 0);
		g_assert_cmpuint(type, ==, i);
	}
	g_assert_null(image_type_to_string(IMAGE_TYPE_N_));
	for (unsigned int i = 0; i < LOCK_GRANULARITY_N_; i++) {
		enum lock_granularity g = LOCK_GRANULARITY_N_;

		g_assert_cmpint(lock_granularity_from_string(lock_granularity_to_string(i), &g), ==,
				0);
		g_assert_cmpuint(g, ==, i);
	}
	g_assert_null(lock_granularity_to_string(LOCK_GRANULARITY_N_));
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
	g_test_add_func("/config/devices-of-segments", test_devices_of_segments);
	g_test_add_func("/config/topology", test_topology);
	g_test_add_func("/config/parse/foreign-text", test_foreign_text);
	g_test_add_func("/config/serialise/round-trip", test_round_trip);
	g_test_add_func("/config/serialise/complete", test_serialise_is_complete);
	g_test_add_func("/config/resources/walk", test_resources);
	g_test_add_func("/config/resources/pty", test_pty);
	g_test_add_func("/config/resources/strip", test_strip);
	g_test_add_func("/config/resources/fds", test_fds);
	g_test_add_func("/config/resources/net-fds", test_net_fds);
	g_test_add_func("/config/console-mode/round-trip", test_console_mode);
	return g_test_run();
}
