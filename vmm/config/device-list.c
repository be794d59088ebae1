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
};

static bool console_wanted(const struct vm_config *config)
{
	return config->console.mode != CONSOLE_MODE_OFF;
}

static const struct device_kind kinds[] = {
	{ "console", "__console", offsetof(struct console_config, pci), console_wanted },
	{ "disks", "disk", offsetof(struct disk_config, pci), NULL },
	{ "net", "net", offsetof(struct net_config, pci), NULL },
	{ "rng", "__rng", offsetof(struct rng_config, pci), NULL },
};

static struct pci_placement *placement(const struct device_kind *kind, void *base)
{
	return (struct pci_placement *)(void *)((char *)base + kind->pci);
}

size_t config_devices(const struct vm_config *config,
		      struct config_device ret[static CONFIG_DEVICES_MAX])
{
	size_t n = 0;

	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		const struct config_field *row = config_find(&vm_table, kinds[i].key, false);
		bool single = row->kind == CONFIG_STRUCT;
		size_t count = single ? 1 : config_list_count(row, config);

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

const char *config_device_pointer(const struct config_device *device,
				  char buf[static CONFIG_POINTER_MAX])
{
	if (device->single)
		snprintf(buf, CONFIG_POINTER_MAX, "/%s", device->key);
	else
		snprintf(buf, CONFIG_POINTER_MAX, "/%s/%zu", device->key, device->index);
	return buf;
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

static int check_slot_unique(const struct vm_config *config, size_t i, struct err *err)
{
	struct config_device devices[CONFIG_DEVICES_MAX];
	const struct config_device *a = &devices[i];
	char here[CONFIG_POINTER_MAX], there[CONFIG_POINTER_MAX];

	config_devices(config, devices);
	for (size_t j = 0; j < i && a->pci->has_pci_device_id; j++) {
		const struct config_device *b = &devices[j];

		if (b->pci->has_pci_device_id && a->pci->pci_device_id == b->pci->pci_device_id)
			return config_error(err, "%s/pci_device_id: %u is %s's too, must be unique",
					    config_device_pointer(a, here), a->pci->pci_device_id,
					    config_device_pointer(b, there));
	}
	return 0;
}

static int check_slot_count(const struct vm_config *config, size_t i _unused_, struct err *err)
{
	size_t n = count_devices(config);

	if (n <= VM_PCI_SLOT_MAX)
		return 0;
	return config_error(
		err,
		"/disks: %zu disks, %zu nets and %zu other devices need %zu PCI slots, must be "
		"at most %d",
		config->n_disks, config->n_nets, n - config->n_disks - config->n_nets, n,
		VM_PCI_SLOT_MAX);
}

/* A value that was wrong is absent here, which breaks none of these. */
static const struct config_rule each_device[] = {
	{ check_id_unique, { NULL } },
	{ check_slot_unique, { NULL } },
};
const struct config_rules device_rules = CONFIG_RULES(each_device, count_devices);

static const struct config_rule all_devices[] = {
	{ check_slot_count, { NULL } },
};
const struct config_rules slot_rules = CONFIG_RULES(all_devices, NULL);
