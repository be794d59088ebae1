/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Disks and persistent memory of a definition: what is refused, with which sentence
 */
#include "refused.h"

static const struct refused refused[] = {
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
	{ "disks/same-path", VM(",'disks':[{'path':'/a/x'},{'path':'/a//./x'}]"),
	  "/disks/1/path: '/a//./x' is /disks/0 too, must be read-only in both" },
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
	{ "disks/slot-wraps", VM(",'disks':[{'path':'/x','pci_device_id':257}]"),
	  "/disks/0/pci_device_id: 257 is out of range, must be 0 to 31" },
	{ "disks/null-bool", VM(",'disks':[{'path':'/x','direct':null}]"),
	  "/disks/0/direct: must be true or false, is null" },
	{ "pmem/no-file", VM(",'pmem':[{'size':2097152}]"),
	  "/pmem/0/file: missing, must be given" },
	{ "pmem/size", VM(",'pmem':[{'file':'/x','size':1048576}]"),
	  "/pmem/0/size: 1048576 is not a multiple of 2 MiB, must be like 2097152" },
	{ "pmem/twice", VM(",'pmem':[{'file':'/x'},{'file':'/x','discard_writes':true}]"),
	  "/pmem/1/file: '/x' is /pmem/0 too, must have discard_writes in both" },
	{ "pmem/key", VM(",'pmem':[{'file':'/x','discard_write':true}]"),
	  "/pmem/0/discard_write: unknown key, did you mean 'discard_writes'?" },
};

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	add_refused(refused, G_N_ELEMENTS(refused));
	return g_test_run();
}
