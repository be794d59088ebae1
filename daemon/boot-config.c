/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/boot-config.h"

#include "daemon/machine.h"
#include "vmm/base/cleanup.h"
#include "vmm/config/vm-config.h"
#include <string.h>
#include <unistd.h>

#define TASKS_EXTRA   64
#define TASKS_HOTPLUG (64 * 32 * 2) /* PCI segments, slots; a thread and a worker of io_uring */

/*
 * A network without an address gets a locally administered one that depends on
 * the machine and the network's id only, so it stays the same from start to start.
 */
void boot_config_mac(const struct net_config *net, const char *uuid, struct mac_addr *ret)
{
	g_autoptr(GChecksum) sum = g_checksum_new(G_CHECKSUM_SHA256);
	guint8 digest[32];
	gsize len = sizeof(digest);

	if (net->has_mac) {
		*ret = net->mac;
		return;
	}
	g_checksum_update(sum, (const guchar *)uuid, -1);
	g_checksum_update(sum, (const guchar *)net->pci.id, -1);
	g_checksum_get_digest(sum, digest, &len);
	memcpy(ret->bytes, digest, sizeof(ret->bytes));
	ret->bytes[0] = (uint8_t)((ret->bytes[0] & 0xfc) | 0x02); /* local, unicast */
}

static void fill_in_mac(struct net_config *net, const char *uuid)
{
	boot_config_mac(net, uuid, &net->mac);
	net->has_mac = true;
}

void boot_config_choose_macs(struct vm_config *config, const char *uuid)
{
	for (size_t i = 0; i < config->n_nets; i++)
		if (!config->nets[i].has_mac)
			fill_in_mac(&config->nets[i], uuid);
}

GVariant *boot_config_for_worker(const char *text, const char *uuid, struct err *err)
{
	_cleanup_(vm_config_free_cleanup) struct vm_config *config = NULL;

	if (machine_parse_config(text, &config, NULL, err) < 0)
		return NULL;
	/* Its SMBIOS needs the UUID, also when the definition leaves it to us. */
	if (!config->platform.uuid)
		config->platform.uuid = g_strdup(uuid);
	boot_config_choose_macs(config, uuid);
	vm_config_strip_resources(config);
	return g_variant_ref_sink(vm_config_serialise(config));
}

/*
 * Threads of a worker: one a vCPU, one a disk queue, one a pair of network
 * queues, one a pmem, some for everything else, and some for what is plugged in
 * while it runs: a disk for which there is none left has I/O errors.  io_uring
 * adds workers of its own to each ring when requests cannot go on without waiting;
 * the kernel keeps those for regular files at four a CPU of the host or, when
 * fewer, the ring's depth.
 */
uint64_t boot_config_count_tasks(const struct vm_config *config)
{
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	uint64_t tasks = TASKS_EXTRA + TASKS_HOTPLUG, workers;

	tasks += config->cpus.max_vcpus + config->n_pmem;
	for (size_t i = 0; i < config->n_disks; i++) {
		workers = MIN((uint64_t)config->disks[i].queue_size, 4 * (uint64_t)MAX(cpus, 1));
		tasks += config->disks[i].num_queues * (1 + workers);
	}
	for (size_t i = 0; i < config->n_nets; i++)
		tasks += config->nets[i].num_queues / 2; /* with vhost the kernel's threads */
	return tasks;
}
