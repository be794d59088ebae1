/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Small devices, consoles, shared directories and identity: what is refused, with which sentence
 */
#include "refused.h"

static const struct refused refused[] = {
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
	{ "vsock/cid", VM(",'vsock':{'cid':2,'socket':'/x'}"),
	  "/vsock/cid: 2 is out of range, must be 3 to 4294967294" },
	{ "vsock/socket", VM(",'vsock':{'cid':3}"), "/vsock/socket: missing, must be given" },
	{ "vsock/socket-long",
	  VM(",'vsock':{'cid':3,'socket':'/0123456789012345678901234567890123456789012345678901"
	     "2345678901234567890123456789012345678901234'}"),
	  "/vsock/socket: "
	  "'/012345678901234567890123456789012345678901234567890123456789012345678901...' is too "
	  "long for a socket, must be at most 95 bytes" },
	{ "pvpanic/string", VM(",'pvpanic':'yes'"),
	  "/pvpanic: must be true or false, is the string 'yes'" },
	{ "watchdog/action", VM(",'watchdog':true,'watchdog_action':'Explode'"),
	  "/watchdog_action: 'Explode' is unknown, must be Reset, Poweroff, Pause or Report" },
	{ "rng/null", VM(",'rng':{'src':null}"), "/rng/src: must be a string, is null" },
	{ "serial/mode", VM(",'serial':{'mode':'tty'}"),
	  "/serial/mode: 'tty' is unknown, must be Off, Null, Tty, File, Socket or Pty" },
	{ "serial/file-missing", VM(",'serial':{'mode':'File'}"),
	  "/serial/file: missing, must be given in mode File" },
	{ "serial/socket-unused", VM(",'serial':{'socket':'/x'}"),
	  "/serial/socket: has no effect in mode Tty, needs mode Socket" },
	{ "serial/socket-directory", VM(",'serial':{'mode':'Socket','socket':'/x/'}"),
	  "/serial/socket: '/x/' is a directory, must be the name of a socket" },
	{ "console/file-unused", VM(",'console':{'mode':'Tty','file':'/x'}"),
	  "/console/file: has no effect in mode Tty, needs mode File" },
	{ "console/file-pty", VM(",'console':{'mode':'Pty','file':'/x'}"),
	  "/console/file: has no effect in mode Pty, needs mode File" },
	{ "console/socket-missing", VM(",'console':{'mode':'Socket'}"),
	  "/console/socket: missing, must be given in mode Socket" },
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

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	add_refused(refused, G_N_ELEMENTS(refused));
	return g_test_run();
}
