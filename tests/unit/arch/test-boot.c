/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Registers and tables at entry
 */
#include <glib.h>
#include <string.h>

#include "vmm/arch/x86/boot.h"
#include "vmm/arch/x86/layout.h"
#include "vmm/base/bytes.h"
#include "vmm/base/err.h"
#include "vmm/base/math.h"
#include "vmm/hypervisor/x86-state.h"
#include "vmm/memory/guest-memory.h"

static const struct x86_boot_entry pvh = { X86_BOOT_PVH, 0x1000200 };
static const struct x86_boot_entry bzimage = { X86_BOOT_BZIMAGE, 0x100000 };

static uint32_t lapic(const struct x86_vcpu_state *st, unsigned int off)
{
	return (uint32_t)bytes_get_le(st->lapic + off, 4);
}

static uint64_t msr(const struct x86_vcpu_state *st, uint32_t index)
{
	for (uint32_t i = 0; i < st->n_msrs; i++)
		if (st->msrs[i].index == index)
			return st->msrs[i].value;
	g_assert_not_reached();
}

static struct x86_vcpu_state *state(const struct x86_boot_entry *entry, bool bsp, uint32_t id,
				    bool x2apic)
{
	struct x86_vcpu_state *st = g_new(struct x86_vcpu_state, 1);

	memset(st, 0xa5, sizeof(*st)); /* whatever was there must not survive */
	x86_boot_state(st, entry, bsp, id, x2apic);
	return st;
}

static void check_segment(const struct x86_segment *s, uint16_t selector, uint8_t type,
			  uint32_t limit, uint8_t system)
{
	g_assert_cmphex(s->selector, ==, selector);
	g_assert_cmphex(s->base, ==, 0);
	g_assert_cmphex(s->limit, ==, limit);
	g_assert_cmphex(s->type, ==, type);
	g_assert_cmpuint(s->present, ==, 1);
	g_assert_cmpuint(s->s, ==, !system);
	g_assert_cmpuint(s->unusable, ==, 0);
}

static void test_pvh(void)
{
	g_autofree struct x86_vcpu_state *st = state(&pvh, true, 0, false);

	g_assert_cmphex(st->parts, ==, X86_STATE_ALL);
	g_assert_cmpuint(st->mp_state, ==, X86_MP_RUNNABLE);
	g_assert_cmphex(st->rip, ==, 0x1000200);
	g_assert_cmphex(st->rbx, ==, 0x6000);
	g_assert_cmphex(st->rsi, ==, 0);
	g_assert_cmphex(st->rflags, ==, 2);
	g_assert_cmphex(st->cr0, ==, 1);
	g_assert_cmphex(st->cr4, ==, 0);
	g_assert_cmphex(st->efer, ==, 0);
	check_segment(&st->cs, 0x08, 0xb, 0xffffffff, 0);
	g_assert_cmpuint(st->cs.db, ==, 1);
	g_assert_cmpuint(st->cs.l, ==, 0);
	check_segment(&st->ds, 0x10, 0x3, 0xffffffff, 0);
	check_segment(&st->es, 0x10, 0x3, 0xffffffff, 0);
	check_segment(&st->ss, 0x10, 0x3, 0xffffffff, 0);
	check_segment(&st->tr, 0x18, 0xb, 0x67, 1);
	g_assert_cmphex(st->gdt.base, ==, 0x500);
	g_assert_cmphex(st->gdt.limit, ==, 31);
	g_assert_cmphex(st->idt.base, ==, 0x520);
	g_assert_cmphex(st->apic_base, ==, 0xfee00900);
	g_assert_cmphex(bytes_get_le(st->xsave, 2), ==, 0x37f);
	g_assert_cmphex(bytes_get_le(st->xsave + 24, 4), ==, 0x1f80);
	g_assert_cmphex(bytes_get_le(st->xsave + 512, 8), ==, 3);
	g_assert_cmphex(msr(st, 0x1a0), ==, 1);
	g_assert_cmphex(msr(st, 0x2ff), ==, 0x806);
	g_assert_cmphex(msr(st, 0x10), ==, 0);
}

static void test_bzimage(void)
{
	g_autofree struct x86_vcpu_state *st = state(&bzimage, true, 0, false);

	g_assert_cmphex(st->rip, ==, 0x100000);
	g_assert_cmphex(st->rsi, ==, 0x7000);
	g_assert_cmphex(st->rsp, ==, 0x8ff0);
	g_assert_cmphex(st->rbx, ==, 0);
}

static void test_ap(void)
{
	g_autofree struct x86_vcpu_state *st = state(&pvh, false, 3, false);

	g_assert_cmpuint(st->mp_state, ==, X86_MP_WAIT_SIPI);
	g_assert_cmphex(st->rip, ==, 0xfff0);
	g_assert_cmphex(st->cs.base, ==, 0xffff0000);
	g_assert_cmphex(st->cs.selector, ==, 0xf000);
	g_assert_cmphex(st->cr0, ==, 0x60000010);
	g_assert_cmphex(st->rbx, ==, 0);
	g_assert_cmphex(st->apic_base, ==, 0xfee00800); /* not the boot processor */
}

static void test_lapic(void)
{
	g_autofree struct x86_vcpu_state *x = state(&pvh, true, 5, false);
	g_autofree struct x86_vcpu_state *x2 = state(&pvh, false, 300, true);

	g_assert_cmphex(lapic(x, 0x20), ==, 5u << 24);
	g_assert_cmphex(lapic(x, 0x350), ==, 0x700);
	g_assert_cmphex(lapic(x, 0x360), ==, 0x400);
	g_assert_cmphex(lapic(x, 0x320), ==, 0x10000);
	g_assert_cmphex(lapic(x, 0x370), ==, 0x10000);
	g_assert_cmphex(lapic(x, 0xf0), ==, 0xff);
	g_assert_cmphex(lapic(x, 0xe0), ==, 0xffffffff);
	g_assert_cmphex(lapic(x2, 0x20), ==, 300);
	g_assert_cmphex(x2->apic_base, ==, 0xfee00c00);
}

static void test_tables(void)
{
	static const uint64_t gdt[4] = { 0, 0x00cf9b000000ffff, 0x00cf93000000ffff,
					 0x00008b0000000067 };
	const struct guest_mem_params mp = {
		.size = MIB,
		.hole_start = LAYOUT_HOLE_START,
		.hole_end = LAYOUT_HOLE_END,
	};
	struct guest_mem mem;
	uint8_t bytes[32], idt[8], ebda[2];
	static const uint8_t zeros[8];

	g_assert_cmpint(guest_mem_init(&mem, NULL, &mp, NULL), ==, 0);
	g_assert_cmpint(guest_fill(&mem, 0x500, 0xff, 0x28), ==, 0);
	g_assert_cmpint(x86_boot_tables(&mem, NULL), ==, 0);
	g_assert_cmpint(guest_read(&mem, 0x500, bytes, sizeof(bytes)), ==, 0);
	for (size_t i = 0; i < 4; i++)
		g_assert_cmphex(bytes_get_le(bytes + i * 8, 8), ==, gdt[i]);
	g_assert_cmpint(guest_read(&mem, 0x520, idt, sizeof(idt)), ==, 0);
	g_assert_cmpmem(idt, 8, zeros, 8);
	g_assert_cmpint(guest_read(&mem, 0x40e, ebda, sizeof(ebda)), ==, 0);
	g_assert_cmphex(bytes_get_le(ebda, 2), ==, 0xa000);
	guest_mem_deinit(&mem);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/arch/boot/pvh", test_pvh);
	g_test_add_func("/arch/boot/bzimage", test_bzimage);
	g_test_add_func("/arch/boot/ap", test_ap);
	g_test_add_func("/arch/boot/lapic", test_lapic);
	g_test_add_func("/arch/boot/tables", test_tables);
	return g_test_run();
}
