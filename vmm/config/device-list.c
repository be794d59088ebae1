/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/config/device-list.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "vmm/base/err.h"
#include "vmm/config/tables.h"

struct device_kind {
	const char *key; /* a row of vm_table: a list or a struct */
	/* Of a list: ids that are chosen begin so, "disk" makes "_disk0"; of a single one: its id.
	 */
	const char *id;
	size_t pci; /* offset of the struct pci_placement */
	/* Single ones: is there one? NULL: always, or by the row's CONFIG_HAS. */
	bool (*wanted)(const struct vm_config *config);
	bool removable;
	/*
	 * Cannot be behind an IOMMU: the pages in a balloon are none that a device reads or
	 * writes, so their numbers are no addresses for it; a vhost-user process knows of none.
	 */
	bool no_iommu;
};

static size_t list_devices(const struct vm_config *config, bool with_iommu,
			   struct config_device ret[static CONFIG_DEVICES_MAX]);

static bool console_wanted(const struct vm_config *config)
{
	return config->console.mode != CONSOLE_MODE_OFF;
}

static bool pvpanic_wanted(const struct vm_config *config)
{
	return config->pvpanic.enabled;
}

bool vm_config_has_iommu(const struct vm_config *config)
{
	struct config_device devices[CONFIG_DEVICES_MAX];
	size_t n;

	if (config->iommu.enabled || config->platform.n_iommu_segments)
		return true;
	n = list_devices(config, false, devices);
	for (size_t i = 0; i < n; i++)
		if (devices[i].pci->iommu)
			return true;
	return false;
}

static const struct device_kind kinds[] = {
	/* first: drivers of what is behind it have to wait for it */
	{ "iommu", "__iommu", offsetof(struct iommu_config, pci), vm_config_has_iommu,
	  .no_iommu = true },
	{ "console", "__console", offsetof(struct console_config, pci), console_wanted },
	{ "disks", "disk", offsetof(struct disk_config, pci), NULL, true },
	{ "net", "net", offsetof(struct net_config, pci), NULL, true },
	{ "fs", "fs", offsetof(struct fs_config, pci), NULL, true, .no_iommu = true },
	{ "pmem", "pmem", offsetof(struct pmem_config, pci), NULL, true },
	{ "rng", "__rng", offsetof(struct rng_config, pci), NULL },
	{ "balloon", "__balloon", offsetof(struct balloon_config, pci), NULL, .no_iommu = true },
	{ "vsock", "__vsock", offsetof(struct vsock_config, pci), NULL, true },
	{ "rtc", "__rtc", offsetof(struct rtc_config, pci), NULL },
	/* its row is the bool that the struct begins with */
	{ "pvpanic", "__pvpanic", offsetof(struct pvpanic_config, pci), pvpanic_wanted,
	  .no_iommu = true },
};

static struct pci_placement *placement(const struct device_kind *kind, void *base)
{
	return (struct pci_placement *)(void *)((char *)base + kind->pci);
}

static size_t list_devices(const struct vm_config *config, bool with_iommu,
			   struct config_device ret[static CONFIG_DEVICES_MAX])
{
	size_t n = 0;

	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		const struct config_field *row = config_find(&vm_table, kinds[i].key, false);
		bool single = row->kind != CONFIG_LIST;
		size_t count = single ? 1 : config_list_count(row, config);

		if (!with_iommu && kinds[i].wanted == vm_config_has_iommu)
			continue; /* it asks for the others */

		if (single && (!config_is_present(row, config) ||
			       (kinds[i].wanted && !kinds[i].wanted(config))))
			continue;
		for (size_t j = 0; j < count; j++) {
			/* The list is of what can be changed; who reads leaves it alone. */
			void *base = single ? (char *)(uintptr_t)config + row->offset
					    : config_list_at(row, config, j);
			struct pci_placement *pci = placement(&kinds[i], base);

			assert(n < CONFIG_DEVICES_MAX);
			ret[n++] = (struct config_device){ kinds[i].key, single, j,
							   single ? kinds[i].id : pci->id, pci };
		}
	}
	return n;
}

size_t config_devices(const struct vm_config *config,
		      struct config_device ret[static CONFIG_DEVICES_MAX])
{
	return list_devices(config, true, ret);
}

const char *config_device_pointer(const struct config_device *device,
				  char buf[static CONFIG_POINTER_MAX])
{
	if (device->single)
		snprintf(buf, CONFIG_POINTER_MAX, "/%s", device->key);
	else
		snprintf(buf, CONFIG_POINTER_MAX, "/%s/%zu", device->key, device->index);
	return buf;
}

bool config_device_at(const struct vm_config *config, const char *key, size_t index,
		      struct config_device *ret)
{
	struct config_device devices[CONFIG_DEVICES_MAX];
	size_t n = config_devices(config, devices);

	for (size_t i = 0; i < n; i++) {
		if (strcmp(devices[i].key, key) == 0 && devices[i].index == index) {
			*ret = devices[i];
			return true;
		}
	}
	return false;
}

bool config_is_device_key(const char *key)
{
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
		if (strcmp(kinds[i].key, key) == 0)
			return true;
	return false;
}

bool config_device_is_removable(const char *key)
{
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
		if (strcmp(kinds[i].key, key) == 0)
			return kinds[i].removable;
	return false;
}

static bool kind_knows_iommu(const char *key)
{
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
		if (strcmp(kinds[i].key, key) == 0)
			return !kinds[i].no_iommu;
	return false;
}

static bool is_vhost_net(const struct vm_config *config, const char *key, size_t index)
{
	return strcmp(key, "net") == 0 && config->nets[index].vhost;
}

bool config_device_knows_iommu(const struct vm_config *config, const char *key, size_t index)
{
	return kind_knows_iommu(key) && !is_vhost_net(config, key, index);
}

static bool id_taken(const struct config_device *devices, size_t n, const char *id)
{
	for (size_t i = 0; i < n; i++) {
		if (g_strcmp0(devices[i].id, id) == 0)
			return true;
	}
	return false;
}

static const char *kind_id(const char *key)
{
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
		if (strcmp(kinds[i].key, key) == 0)
			return kinds[i].id;
	assert(false);
	return NULL;
}

void config_devices_choose_ids(struct vm_config *config)
{
	struct config_device devices[CONFIG_DEVICES_MAX];
	size_t n = config_devices(config, devices);
	unsigned int counter = 0;

	for (size_t i = 0; i < n; i++) {
		const char *kind = kind_id(devices[i].key);

		while (!devices[i].single && !devices[i].pci->id) {
			g_autofree char *id = g_strdup_printf("_%s%u", kind, counter++);

			if (!id_taken(devices, n, id))
				devices[i].id = devices[i].pci->id = g_steal_pointer(&id);
		}
	}
}

/* --- the rules ------------------------------------------------------------- */

static size_t count_devices(const struct vm_config *config)
{
	struct config_device devices[CONFIG_DEVICES_MAX];

	return config_devices(config, devices);
}

static int check_id_unique(const struct vm_config *config, size_t i, struct err *err)
{
	struct config_device devices[CONFIG_DEVICES_MAX];
	const struct config_device *a = &devices[i];
	char here[CONFIG_POINTER_MAX], there[CONFIG_POINTER_MAX];

	config_devices(config, devices);
	for (size_t j = 0; j < i && a->id; j++) {
		const struct config_device *b = &devices[j];

		if (g_strcmp0(a->id, b->id) == 0)
			return config_error(err, "%s/id: '%s' is %s's too, must be unique",
					    config_device_pointer(a, here), a->id,
					    config_device_pointer(b, there));
	}
	return 0;
}

static int check_slot(const struct vm_config *config, size_t i, struct err *err)
{
	struct config_device devices[CONFIG_DEVICES_MAX];
	const struct config_device *a = &devices[i];
	char here[CONFIG_POINTER_MAX], there[CONFIG_POINTER_MAX];

	config_devices(config, devices);
	if (!a->pci->has_pci_device_id)
		return 0;
	if (a->pci->pci_segment == 0 && a->pci->pci_device_id == 0)
		return config_error(err,
				    "%s/pci_device_id: 0 is the host bridge's on segment 0, must "
				    "be 1 to %d",
				    config_device_pointer(a, here), VM_PCI_SLOT_MAX);
	for (size_t j = 0; j < i; j++) {
		const struct config_device *b = &devices[j];

		if (b->pci->has_pci_device_id && a->pci->pci_segment == b->pci->pci_segment &&
		    a->pci->pci_device_id == b->pci->pci_device_id)
			return config_error(err, "%s/pci_device_id: %u is %s's too, must be unique",
					    config_device_pointer(a, here), a->pci->pci_device_id,
					    config_device_pointer(b, there));
	}
	return 0;
}

static int check_segment(const struct vm_config *config, size_t i, struct err *err)
{
	struct config_device devices[CONFIG_DEVICES_MAX];
	const struct config_device *a = &devices[i];
	char here[CONFIG_POINTER_MAX];

	config_devices(config, devices);
	if (a->pci->pci_segment < config->platform.num_pci_segments)
		return 0;
	return config_error(err,
			    "%s/pci_segment: %u does not exist, must be less than "
			    "/platform/num_pci_segments, %u",
			    config_device_pointer(a, here), a->pci->pci_segment,
			    config->platform.num_pci_segments);
}

static int check_iommu(const struct vm_config *config, size_t i, struct err *err)
{
	struct config_device devices[CONFIG_DEVICES_MAX];
	const struct config_device *a = &devices[i];
	char here[CONFIG_POINTER_MAX];

	config_devices(config, devices);
	if (a->pci->iommu && !kind_knows_iommu(a->key))
		return config_error(err, "%s/iommu: it cannot be behind an IOMMU, must be false",
				    config_device_pointer(a, here));
	if (a->pci->iommu && is_vhost_net(config, a->key, a->index))
		return config_error(
			err,
			"%s/iommu: cannot be had with vhost, which knows no IOMMU, must "
			"be false",
			config_device_pointer(a, here));
	if (!a->pci->iommu && vm_config_is_iommu_segment(config, a->pci->pci_segment))
		return config_error(err,
				    "%s/iommu: is off, must be on: segment %u is one of "
				    "/platform/iommu_segments",
				    config_device_pointer(a, here), a->pci->pci_segment);
	return 0;
}

static int check_slot_count(const struct vm_config *config, size_t i, struct err *err)
{
	struct config_device devices[CONFIG_DEVICES_MAX];
	size_t n = config_devices(config, devices), here = 0;
	size_t room = i == 0 ? VM_PCI_SLOT_MAX : VM_PCI_SLOT_MAX + 1;

	for (size_t j = 0; j < n; j++)
		here += devices[j].pci->pci_segment == i;
	if (here <= room)
		return 0;
	if (i == 0)
		return config_error(
			err,
			"/disks: %zu disks, %zu nets and %zu other devices need %zu PCI slots, "
			"must be at most %d, or some on other segments (pci_segment)",
			config->n_disks, config->n_nets, n - config->n_disks - config->n_nets, here,
			VM_PCI_SLOT_MAX);
	return config_error(
		err,
		"/platform/num_pci_segments: %zu devices are on segment %zu, must be at "
		"most %zu",
		here, i, room);
}

/* A value that was wrong is absent here, which breaks none of these. */
static const struct config_rule each_device[] = {
	{ check_id_unique, { NULL } },
	{ check_slot, { NULL } },
	{ check_segment, { "platform" } },
	{ check_iommu, { "platform", "net" } },
};
const struct config_rules device_rules = CONFIG_RULES(each_device, count_devices);

/* A number that was wrong is one here that holds what is listed anyway. */
static size_t count_segments(const struct vm_config *config)
{
	return MIN(MAX(config->platform.num_pci_segments, 1), VM_PCI_SEGMENTS_MAX);
}

static const struct config_rule each_segment[] = {
	{ check_slot_count, { NULL } },
};
const struct config_rules slot_rules = CONFIG_RULES(each_segment, count_segments);
