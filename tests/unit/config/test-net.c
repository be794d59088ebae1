/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Networks of a definition: what is refused, with which sentence
 */
#include "refused.h"

static const struct refused refused[] = {
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
	{ "net/tap-all", VM(",'net':[{'tap':'all'}]"),
	  "/net/0/tap: 'all' is a name that the kernel keeps for itself, must be another" },
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
};

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	add_refused(refused, G_N_ELEMENTS(refused));
	return g_test_run();
}
