/* SPDX-License-Identifier: Apache-2.0 */
/*
 * VM generation ID: where it is, when it changes, how the guest is told
 */
#include "vmm/acpi/vmgenid.h"

#include <errno.h>
#include <glib.h>
#include <string.h>

#include "vmm/acpi/ged.h"
#include "vmm/arch/x86/layout.h"
#include "vmm/base/err.h"
#include "vmm/base/math.h"
#include "vmm/bus/irq.h"
#include "vmm/memory/guest-memory.h"

static unsigned int edges;

static void count_edge(struct irq_line *line, bool level)
{
	(void)line;
	edges += level;
}

static void test_life(void)
{
	const struct guest_mem_params params = { .size = 2 * MIB };
	struct irq_line line = { .set = count_edge };
	struct vmgenid gen = { 0 }, other = { 0 };
	struct guest_mem mem;
	struct ged ged;
	struct err err = { 0 };
	uint8_t there[16], events;

	g_assert_cmpint(guest_mem_init(&mem, NULL, &params, &err), ==, 0);
	ged_init(&ged, &line);
	g_assert_cmpint(vmgenid_init(&gen, &err), ==, 0);
	g_assert_cmpint(vmgenid_init(&other, &err), ==, 0);
	g_assert_cmpint(memcmp(&gen, &other, sizeof(gen)), !=, 0);
	g_assert_cmpint(vmgenid_place(&gen, &mem, &err), ==, 0);
	g_assert_cmpint(guest_read(&mem, LAYOUT_VMGENID, there, sizeof(there)), ==, 0);
	g_assert_cmpmem(there, sizeof(there), gen.st.guid, sizeof(gen.st.guid));
	g_assert_cmpuint(edges, ==, 0);
	other = gen;
	g_assert_cmpint(vmgenid_renew(&gen, &mem, &ged, &err), ==, 0);
	g_assert_cmpint(memcmp(&gen, &other, sizeof(gen)), !=, 0);
	g_assert_cmpint(guest_read(&mem, LAYOUT_VMGENID, there, sizeof(there)), ==, 0);
	g_assert_cmpmem(there, sizeof(there), gen.st.guid, sizeof(gen.st.guid));
	g_assert_cmpuint(edges, ==, 1);
	ged.mmio.ops->read(&ged.mmio, 0, &events, 1);
	g_assert_cmphex(events, ==, GED_GENERATION);
	ged_deinit(&ged);
	guest_mem_deinit(&mem);
}

static void test_no_memory(void)
{
	const struct guest_mem_params params = { .size = 64 * KIB };
	struct vmgenid gen = { 0 };
	struct guest_mem mem;
	struct err err = { 0 };

	g_assert_cmpint(guest_mem_init(&mem, NULL, &params, &err), ==, 0);
	g_assert_cmpint(vmgenid_place(&gen, &mem, &err), ==, -EFAULT);
	g_assert_cmpstr(err.msg, ==, "no guest memory for the VM generation ID at 0xef000");
	guest_mem_deinit(&mem);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/acpi/vmgenid/life", test_life);
	g_test_add_func("/acpi/vmgenid/no-memory", test_no_memory);
	return g_test_run();
}
