/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/boot-config.h"

#include "daemon/machine.h"
#include "vmm/base/cleanup.h"
#include "vmm/config/vm-config.h"
#include <string.h>
#include <unistd.h>

#define TASKS_EXTRA 64

/*
 * A network without an address gets a locally administered one that depends on
 * the machine and the network's id only, so it stays the same from start to start.
 */
static void fill_in_mac(struct net_config *net, const char *uuid)
{
	g_autoptr(GChecksum) sum = g_checksum_new(G_CHECKSUM_SHA256);
	guint8 digest[32];
	gsize len = sizeof(digest);

	g_checksum_update(sum, (const guchar *)uuid, -1);
	g_checksum_update(sum, (const guchar *)net->pci.id, -1);
	g_checksum_get_digest(sum, digest, &len);
	memcpy(net->mac.bytes, digest, sizeof(net->mac.bytes));
	net->mac.bytes[0] = (uint8_t)((net->mac.bytes[0] & 0xfc) | 0x02); /* local, unicast */
	net->has_mac = true;
}

GVariant *boot_config_for_worker(const char *text, const char *uuid, struct err *err)
{
	_cleanup_(vm_config_free_cleanup) struct vm_config *config = NULL;

	if (machine_parse_config(text, &config, NULL, err) < 0)
		return NULL;
	/* Its SMBIOS needs the UUID, also when the definition leaves it to us. */
	if (!config->platform.uuid)
		config->platform.uuid = g_strdup(uuid);
	for (size_t i = 0; i < config->n_nets; i++)
		if (!config->nets[i].has_mac)
			fill_in_mac(&config->nets[i], uuid);
	vm_config_strip_resources(config);
	return g_variant_ref_sink(vm_config_serialise(config));
}

/*
 * Threads of a worker: one a vCPU, one a disk queue, one a pair of network
 * queues, some for everything else.  io_uring adds workers of its own to each
 * ring when requests cannot go on without waiting; the kernel keeps those for
 * regular files at four a CPU of the host or, when fewer, the ring's depth.
 */
uint64_t boot_config_count_tasks(const struct vm_config *config)
{
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	uint64_t tasks = TASKS_EXTRA + config->cpus.max_vcpus, workers;

	for (size_t i = 0; i < config->n_disks; i++) {
		workers = MIN((uint64_t)config->disks[i].queue_size, 4 * (uint64_t)MAX(cpus, 1));
		tasks += config->disks[i].num_queues * (1 + workers);
	}
	for (size_t i = 0; i < config->n_nets; i++)
		tasks += config->nets[i].num_queues / 2;
	return tasks;
}
