/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every saved state of the tree: its fields tile its struct
 *
 * tests/lint/check-states.py fails when a header declares one that is not here.
 */
#include <glib.h>

#include "vmm/acpi/cpu-hotplug.h"
#include "vmm/acpi/ged.h"
#include "vmm/acpi/memory-hotplug.h"
#include "vmm/acpi/pci-hotplug.h"
#include "vmm/acpi/pm.h"
#include "vmm/acpi/vmgenid.h"
#include "vmm/base/err.h"
#include "vmm/base/state.h"
#include "vmm/devices/fw-cfg.h"
#include "vmm/devices/ioapic.h"
#include "vmm/devices/rtc.h"
#include "vmm/devices/serial.h"
#include "vmm/devices/watchdog.h"
#include "vmm/pci/msix.h"
#include "vmm/pci/pci.h"
#include "vmm/virtio/balloon.h"
#include "vmm/virtio/blk.h"
#include "vmm/virtio/iova-state.h"
#include "vmm/virtio/mem.h"
#include "vmm/virtio/net.h"
#include "vmm/virtio/queue.h"
#include "vmm/virtio/transport-pci.h"

static const struct state_desc *const all[] = {
	&ged_state_desc,
	&ioapic_state_desc,
	&msix_entry_state_desc,
	&pci_config_state_desc,
	&pm_state_desc,
	&rtc_state_desc,
	&serial_state_desc,
	&virtio_blk_state_desc,
	&virtio_net_state_desc,
	&virtio_pci_state_desc,
	&virtio_queue_state_desc,
	&virtio_balloon_state_desc,
	&virtio_mem_state_desc,
	&vmgenid_state_desc,
	&watchdog_state_desc,
	&pci_hotplug_state_desc,
	&cpu_hotplug_state_desc,
	&fw_cfg_state_desc,
	&iova_attachment_state_desc,
	&iova_mapping_state_desc,
	&memory_hotplug_state_desc,
};

static void test_tiles(void)
{
	for (size_t i = 0; i < G_N_ELEMENTS(all); i++) {
		struct err err = { 0 };

		if (!state_desc_tiles(all[i], &err))
			g_error("%s", err.msg);
		g_assert_cmpuint(all[i]->version, >, 0);
		for (size_t k = 0; k < i; k++) /* names are the keys of a snapshot */
			g_assert_cmpstr(all[k]->name, !=, all[i]->name);
	}
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/vm/states/tile", test_tiles);
	return g_test_run();
}
