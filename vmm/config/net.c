/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `net`: virtio network devices and the taps behind them
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "vmm/base/err.h"
#include "vmm/config/check.h"
#include "vmm/config/tables.h"

#define FORWARDS_MAX 64

static const char *const backend_names[NET_BACKEND_N_] = {
	[NET_BACKEND_TAP] = "Tap",
	[NET_BACKEND_PASST] = "Passt",
};
static const char *const backend_also[NET_BACKEND_N_] = { "tap", "passt" };
static const struct config_names backends = { backend_names, NET_BACKEND_N_, NULL, backend_also };

const char *net_backend_kind_to_string(enum net_backend_kind kind)
{
	return kind < NET_BACKEND_N_ ? backend_names[kind] : NULL;
}

int net_backend_kind_from_string(const char *s, enum net_backend_kind *ret)
{
	for (int i = 0; i < NET_BACKEND_N_; i++) {
		if (strcmp(s, backend_names[i]) == 0) {
			*ret = (enum net_backend_kind)i;
			return 0;
		}
	}
	return -EINVAL;
}

static const struct config_field net_fields[] = {
	{ .key = "tap",
	  .kind = CONFIG_STRING,
	  .flags = CONFIG_OPTIONAL | CONFIG_RESOURCE,
	  CONFIG_AT(struct net_config, tap),
	  .resource = RESOURCE_TAP,
	  .arg = "NAME",
	  .doc = "tap interface of the host, created if missing; without it one is made for the "
		 "machine's lifetime" },
	{ .key = "fds",
	  .option = "fd",
	  .kind = CONFIG_STRINGS,
	  .flags = CONFIG_OPTIONAL | CONFIG_RESOURCE,
	  CONFIG_AT(struct net_config, fds),
	  .list_max = VM_NET_PAIRS_MAX,
	  .resource = RESOURCE_TAP,
	  .arg = "[NAME,...]",
	  .doc = "descriptors of one tap, one a pair of queues, in place of its name; with "
		 "brumectl their numbers" },
	{ .key = "backend",
	  .kind = CONFIG_ENUM,
	  CONFIG_AT(struct net_config, backend),
	  .def = NET_BACKEND_TAP,
	  .names = &backends,
	  .doc = "tap: an interface of the host; passt: a passt(1) process, which gives the guest "
		 "the host's own network without an interface or a privilege" },
	{ .key = "ip",
	  .kind = CONFIG_STRING,
	  .flags = CONFIG_OPTIONAL,
	  CONFIG_AT(struct net_config, ip),
	  .check = check_address,
	  .arg = "ADDRESS",
	  .doc = "address of the host's end; needs mask" },
	{ .key = "mask",
	  .kind = CONFIG_STRING,
	  .flags = CONFIG_OPTIONAL,
	  CONFIG_AT(struct net_config, mask),
	  .check = check_netmask,
	  .arg = "NETMASK",
	  .doc = "netmask of the host's end, like 255.255.255.0; needs ip" },
	{ .key = "mac",
	  .kind = CONFIG_MAC,
	  .flags = CONFIG_OPTIONAL | CONFIG_HAS,
	  CONFIG_AT(struct net_config, mac),
	  .present = offsetof(struct net_config, has_mac),
	  .arg = "MAC",
	  .doc = "address of the guest's end; without it a local one made from the machine's UUID" },
	{ .key = "host_mac",
	  .kind = CONFIG_MAC,
	  .flags = CONFIG_OPTIONAL | CONFIG_HAS,
	  CONFIG_AT(struct net_config, host_mac),
	  .present = offsetof(struct net_config, has_host_mac),
	  .arg = "MAC",
	  .doc = "address of the host's end, set on the tap; without it the tap's" },
	{ .key = "vhost",
	  .kind = CONFIG_BOOL,
	  CONFIG_AT(struct net_config, vhost),
	  .doc = "let the kernel move the frames (/dev/vhost-net): faster, past the worker and its "
		 "counters; taps only" },
	{ .key = "forward_tcp",
	  .kind = CONFIG_STRINGS,
	  .flags = CONFIG_OPTIONAL,
	  CONFIG_AT(struct net_config, forward_tcp),
	  .check = check_forward,
	  .list_max = FORWARDS_MAX,
	  .arg = "[[ADDRESS/]PORT[:GUESTPORT],...]",
	  .doc = "TCP ports of the host that lead to the guest, on all addresses unless one is "
		 "given; passt only" },
	{ .key = "forward_udp",
	  .kind = CONFIG_STRINGS,
	  .flags = CONFIG_OPTIONAL,
	  CONFIG_AT(struct net_config, forward_udp),
	  .check = check_forward,
	  .list_max = FORWARDS_MAX,
	  .arg = "[[ADDRESS/]PORT[:GUESTPORT],...]",
	  .doc = "the same for UDP; passt only" },
	{ .key = "mtu",
	  .kind = CONFIG_UINT,
	  .flags = CONFIG_OPTIONAL,
	  CONFIG_AT(struct net_config, mtu),
	  .min = 1280,
	  .max = 65521,
	  .arg = "BYTES",
	  .doc = "largest packet, set on the tap and told to the guest; without it the tap's" },
	{ .key = "num_queues",
	  .kind = CONFIG_UINT,
	  .flags = CONFIG_OPTIONAL, /* then config_nets_settle() says it */
	  CONFIG_AT(struct net_config, num_queues),
	  .def_text = "2, or two a descriptor",
	  .min = 2,
	  .max = 2 * VM_NET_PAIRS_MAX,
	  .arg = "COUNT",
	  .doc = "receive and send queues together, an even number, at most two per vCPU" },
	{ .key = "queue_size",
	  .kind = CONFIG_UINT,
	  CONFIG_AT(struct net_config, queue_size),
	  .def = 256,
	  .min = 4,
	  .max = 1024,
	  .arg = "COUNT",
	  .doc = "descriptors in a queue, a power of two" },
	{ .key = "offload_tso",
	  .kind = CONFIG_BOOL,
	  CONFIG_AT(struct net_config, offload_tso),
	  .def = true,
	  .doc = "offer TCP segmentation offload; needs offload_csum" },
	{ .key = "offload_ufo",
	  .kind = CONFIG_BOOL,
	  CONFIG_AT(struct net_config, offload_ufo),
	  .def = true,
	  .doc = "offer UDP fragmentation offload; needs offload_csum" },
	{ .key = "offload_csum",
	  .kind = CONFIG_BOOL,
	  CONFIG_AT(struct net_config, offload_csum),
	  .def = true,
	  .doc = "offer checksum offload" },
	CONFIG_PCI_FIELDS(struct net_config),
	CONFIG_VHOST_USER_LATER,
	{ .key = "vhost_mode", .kind = CONFIG_LATER, .harmless = "Client|client" },
	CONFIG_RATE_FIELDS(struct net_config, "", limit, has_limit, "in each direction"),
	CONFIG_RATE_FIELDS(struct net_config, "rx_", rx_limit, has_rx_limit, "to the guest"),
	CONFIG_RATE_FIELDS(struct net_config, "tx_", tx_limit, has_tx_limit, "from the guest"),
};
const struct config_table net_table = {
	.name = "Network interface",
	.doc = "A virtio network device on a tap interface, or on passt; may be given several "
	       "times.",
	.fields = net_fields,
	.n_fields = ARRAY_SIZE(net_fields),
	.size = sizeof(struct net_config),
};

static int check_tap(const struct vm_config *config, size_t i, struct err *err)
{
	const char *tap = config->nets[i].tap;
	char pointer[32], quoted[CONFIG_QUOTE_MAX];

	if (!tap)
		return 0;
	/* In the worker the name has become the pointer (vm_config_strip_resources()). */
	snprintf(pointer, sizeof(pointer), "/net/%zu/tap", i);
	if (strcmp(tap, pointer) == 0 || vm_config_fd_name(tap))
		return 0;
	if (!is_interface_name(tap))
		return config_error(err,
				    "/net/%zu/tap: %s is not an interface name, must have 1 to 15 "
				    "characters without '/', ':', '%%' and spaces",
				    i, config_quote(tap, quoted));
	/* Of /proc/sys/net/ipv4/conf: no interface can be called so. */
	if (strcmp(tap, "all") == 0 || strcmp(tap, "default") == 0)
		return config_error(err,
				    "/net/%zu/tap: %s is a name that the kernel keeps for itself, "
				    "must be another",
				    i, config_quote(tap, quoted));
	for (size_t j = 0; j < i; j++) {
		if (g_strcmp0(tap, config->nets[j].tap) == 0)
			return config_error(err,
					    "/net/%zu/tap: %s is /net/%zu's too, must be another",
					    i, config_quote(tap, quoted), j);
	}
	return 0;
}

static int check_one_mac(const struct mac_addr *mac, const char *key, size_t i, struct err *err)
{
	static const struct mac_addr zero;
	char text[18];

	config_mac_format(mac, text);
	if (memcmp(mac, &zero, sizeof(zero)) == 0)
		return config_error(err, "/net/%zu/%s: '%s' is no address, must not be all zero", i,
				    key, text);
	if (mac->bytes[0] & 1)
		return config_error(err,
				    "/net/%zu/%s: '%s' is a multicast address, must have an even "
				    "first byte",
				    i, key, text);
	return 0;
}

static int check_mac(const struct vm_config *config, size_t i, struct err *err)
{
	const struct net_config *net = &config->nets[i];

	return net->has_mac ? check_one_mac(&net->mac, "mac", i, err) : 0;
}

static int check_host_mac(const struct vm_config *config, size_t i, struct err *err)
{
	const struct net_config *net = &config->nets[i];

	return net->has_host_mac ? check_one_mac(&net->host_mac, "host_mac", i, err) : 0;
}

/* What is there for the other back end only. */
static int check_backend(const struct vm_config *config, size_t i, struct err *err)
{
	const struct net_config *net = &config->nets[i];
	bool passt = net->backend == NET_BACKEND_PASST;
	char pointer[32];
	const struct {
		bool given;
		const char *key;
	} keys[] = {
		{ passt && net->tap, "tap" },
		{ passt && net->fds, "fds" },
		{ passt && net->ip, "ip" },
		{ passt && net->has_host_mac, "host_mac" },
		{ passt && net->vhost, "vhost" },
		{ !passt && net->forward_tcp, "forward_tcp" },
		{ !passt && net->forward_udp, "forward_udp" },
	};

	snprintf(pointer, sizeof(pointer), "/net/%zu/tap", i);
	for (size_t k = 0; k < ARRAY_SIZE(keys); k++) {
		/* In the worker each network has a pointer there (vm_config_strip_resources()). */
		if (!keys[k].given || (k == 0 && strcmp(net->tap, pointer) == 0))
			continue;
		return config_error(err, "/net/%zu/%s: is not for the back end '%s', needs '%s'", i,
				    keys[k].key, backend_names[net->backend],
				    backend_names[passt ? NET_BACKEND_TAP : NET_BACKEND_PASST]);
	}
	if (passt && net->num_queues != 2)
		return config_error(err,
				    "/net/%zu/num_queues: %u is more than the one pair of passt, "
				    "must be 2",
				    i, net->num_queues);
	return 0;
}

static int check_host_address(const struct vm_config *config, size_t i, struct err *err)
{
	const struct net_config *net = &config->nets[i];

	if (!net->ip != !net->mask)
		return config_error(err, "/net/%zu/%s: has no effect alone, needs /net/%zu/%s", i,
				    net->ip ? "ip" : "mask", i, net->ip ? "mask" : "ip");
	if (net->ip && address_family(net->ip) != address_family(net->mask))
		return config_error(err,
				    "/net/%zu/mask: '%s' is of another kind than /net/%zu/ip, must "
				    "be both IPv4 or both IPv6",
				    i, net->mask, i);
	return 0;
}

static int check_queues(const struct vm_config *config, size_t i, struct err *err)
{
	const struct net_config *net = &config->nets[i];

	if (net->num_queues % 2)
		return config_error(err,
				    "/net/%zu/num_queues: %u is odd, must count receive and send "
				    "queues",
				    i, net->num_queues);
	if (net->fds && net->num_queues != 2 * g_strv_length(net->fds))
		return config_error(err,
				    "/net/%zu/num_queues: %u is not two for each of the %u "
				    "descriptors of /net/%zu/fds, must be %u",
				    i, net->num_queues, g_strv_length(net->fds), i,
				    2 * g_strv_length(net->fds));
	if (net->fds && g_strv_length(net->fds) > config->cpus.boot_vcpus)
		return config_error(err,
				    "/net/%zu/fds: %u descriptors are more than one per vCPU, must "
				    "be at most %u",
				    i, g_strv_length(net->fds), config->cpus.boot_vcpus);
	if (net->num_queues / 2u > config->cpus.boot_vcpus)
		return config_error(err,
				    "/net/%zu/num_queues: %u is more than two per vCPU, must be at "
				    "most %u",
				    i, net->num_queues, 2 * config->cpus.boot_vcpus);
	return 0;
}

/* A descriptor is one queue pair, and whoever opened it has set its interface up. */
static int check_tap_fd(const struct vm_config *config, size_t i, struct err *err)
{
	const struct net_config *net = &config->nets[i];
	bool one = vm_config_fd_name(net->tap);

	if (!one && !net->fds)
		return 0;
	if (net->tap && net->fds)
		return config_error(err,
				    "/net/%zu/fds: is another way to say what /net/%zu/tap says, "
				    "must be without it",
				    i, i);
	if (one && net->num_queues != 2)
		return config_error(err,
				    "/net/%zu/num_queues: %u is more than the one pair of a "
				    "descriptor, must be 2, or /net/%zu/fds have one for each pair",
				    i, net->num_queues, i);
	if (net->ip || net->has_host_mac)
		return config_error(err,
				    "/net/%zu/%s: has no effect with a descriptor, must be set on "
				    "its interface",
				    i, net->ip ? "ip" : "host_mac");
	return 0;
}

static int check_size(const struct vm_config *config, size_t i, struct err *err)
{
	return check_queue_size("net", i, config->nets[i].queue_size, 256, err);
}

static int check_offloads(const struct vm_config *config, size_t i, struct err *err)
{
	const struct net_config *net = &config->nets[i];

	/* Segmentation needs checksums: virtio 1.3, 5.1.3.1. */
	if (net->offload_csum || (!net->offload_tso && !net->offload_ufo))
		return 0;
	return config_error(err,
			    "/net/%zu/%s: needs /net/%zu/offload_csum, must be false without it", i,
			    net->offload_tso ? "offload_tso" : "offload_ufo", i);
}

void config_nets_settle(struct vm_config *config)
{
	for (size_t i = 0; i < config->n_nets; i++) {
		struct net_config *net = &config->nets[i];

		if (net->num_queues == 0)
			net->num_queues = 2 * (net->fds ? (uint16_t)g_strv_length(net->fds) : 1);
	}
}

static size_t count_nets(const struct vm_config *config)
{
	return config->n_nets;
}

static const struct config_rule rules[] = {
	{ check_tap, { "net" } },          { check_mac, { "net" } },
	{ check_host_address, { "net" } }, { check_queues, { "net", "cpus" } },
	{ check_tap_fd, { "net" } },       { check_size, { "net" } },
	{ check_offloads, { "net" } },     { check_host_mac, { "net" } },
	{ check_backend, { "net" } },      { check_net_rate_limit, { "net" } },
};
const struct config_rules net_rules = CONFIG_RULES(rules, count_nets);
