/* SPDX-License-Identifier: Apache-2.0 */
/*
 * scenario of MSI-X masking (PCI 3.0, 6.8.2 and 6.8.3.2), on virtio-blk
 *
 * What must hold: a masked vector never interrupts, what happened meanwhile shows in the pending
 * bit and arrives once after unmasking, with the address and data of that moment; and however mask
 * and unmask race with completions, no interrupt is ever lost. The last is what the load part looks
 * for: its driver only looks at the ring when interrupted, so one lost interrupt is a timeout.
 */
#include <stddef.h>

#include "tests/kvm/guest/blk.h"
#include "tests/kvm/guest/cpu.h"
#include "tests/kvm/guest/pci.h"
#include "tests/kvm/guest/platform.h"
#include "tests/kvm/guest/report.h"
#include "tests/kvm/guest/scenario.h"

#define QUEUE_ENTRY 1 /* MSI-X entry of queue 0 */
#define WAIT_MS     3000
#define QUIET_MS    3
#define VECTOR_ALT  (VECTOR_N_ - 1)

static struct blk disk;

struct expectation {
	uint8_t vector;
	uint32_t above;
};

static bool came(void *arg)
{
	const struct expectation *e = arg;

	return irq_count[e->vector] > e->above;
}

/* an interrupt on @vector beyond the @before seen earlier */
static bool interrupt_after(uint8_t vector, uint32_t before)
{
	struct expectation e = { vector, before };

	return wait_until(came, &e, WAIT_MS);
}

static uint8_t queue_vector(void)
{
	return disk.dev.vector;
}

/* one read, its completion seen in the ring; then a while for an interrupt that should not come */
static bool masked_request(void)
{
	bool good = blk_request(&disk, 0, BLK_T_IN, 0, disk.slot[1].data, BLK_SECTOR) == BLK_S_OK;

	sleep_ms(QUIET_MS);
	return good;
}

static void mask_entry(bool mask)
{
	pci_msix_mask(disk.dev.pci, QUEUE_ENTRY, mask);
}

static void mask_function(bool mask)
{
	pci_msix_function_mask(disk.dev.pci, mask);
}

static void masked_then_unmasked(void (*set_mask)(bool mask), const char *name)
{
	uint32_t count = (uint32_t)arg_u64("count", 32), early = 0, not_pending = 0, lost = 0;
	uint32_t doubled = 0, still = 0, failed = 0;

	for (uint32_t i = 0; i < count; i++) {
		uint32_t before = irq_count[queue_vector()];

		set_mask(true);
		failed += !masked_request();
		early += irq_count[queue_vector()] != before;
		not_pending += !pci_msix_pending(disk.dev.pci, QUEUE_ENTRY);
		set_mask(false);
		lost += !interrupt_after(queue_vector(), before);
		doubled += irq_count[queue_vector()] > before + 1;
		still += pci_msix_pending(disk.dev.pci, QUEUE_ENTRY);
		if (lost || failed)
			break;
	}
	check_eq(failed, 0, "%s: requests failed", name);
	check_eq(early, 0, "%s: interrupts while masked", name);
	check_eq(not_pending, 0, "%s: pending bit missing", name);
	check_eq(lost, 0, "%s: interrupts lost after unmasking", name);
	check_eq(doubled, 0, "%s: interrupts delivered twice", name);
	check_eq(still, 0, "%s: pending bit left after delivery", name);
}

static void plain(void)
{
	uint32_t before = irq_count[queue_vector()];

	check(masked_request() && interrupt_after(queue_vector(), before),
	      "unmasked: interrupt comes");
}

static void changed_while_masked(void)
{
	uint32_t old = irq_count[queue_vector()], alt = irq_count[VECTOR_ALT];

	mask_entry(true);
	masked_request();
	pci_msix_set(disk.dev.pci, QUEUE_ENTRY, VECTOR_ALT);
	mask_entry(false);
	check(interrupt_after(VECTOR_ALT, alt),
	      "data changed while masked: arrives at the new vector");
	check_eq(irq_count[queue_vector()], old, "and not at the old one");
	/* and with nothing pending: the next interrupt takes the new way */
	mask_entry(true);
	pci_msix_set(disk.dev.pci, QUEUE_ENTRY, queue_vector());
	mask_entry(false);
	masked_request();
	check(interrupt_after(queue_vector(), old), "changed back: arrives at the first vector");
	check_eq(irq_count[VECTOR_ALT], alt + 1, "and no more at the other");
}

static void masked_without_cause(void)
{
	uint32_t before = irq_count[queue_vector()];

	mask_entry(true);
	mask_entry(false);
	mask_function(true);
	mask_function(false);
	sleep_ms(QUIET_MS);
	check_eq(irq_count[queue_vector()], before, "unmasking with nothing pending stays silent");
}

/* mask and unmask all the time while requests complete; only interrupts wake the driver */
static void under_load(void (*set_mask)(bool mask), const char *name)
{
	unsigned int count = (unsigned int)arg_u64("count", 32) * 4, sent = 0, done = 0, bad = 0;
	unsigned int depth = (unsigned int)arg_u64("depth", 8);

	if (depth == 0 || depth > BLK_SLOTS)
		depth = BLK_SLOTS;
	while (done < count) {
		uint32_t seen = irq_count[queue_vector()];
		bool woken;

		for (unsigned int i = 0; i < depth && sent < count; i++)
			if (disk.slot[i].head < 0 &&
			    blk_submit(&disk, 0, i, BLK_T_IN, i, BLK_SECTOR)) {
				virtqueue_kick(&disk.queue[0]);
				sent++;
				set_mask(sent & 1);
			}
		set_mask(true);
		set_mask(false);
		woken = interrupt_after(queue_vector(), seen);
		done += blk_reap(&disk, 0, &bad);
		if (!woken)
			break;
	}
	check_eq(done, count, "%s flipped under load: requests seen through interrupts", name);
	check_eq(bad, 0, "%s flipped under load: requests failed", name);
	/* what is still on its way must not spoil the next part */
	sleep_ms(QUIET_MS);
}

static void run_msix_mask(void)
{
	if (!blk_open(&disk, 0, false))
		return;
	if (!disk.dev.have_msix) {
		skip("device without MSI-X");
		return;
	}
	plain();
	masked_then_unmasked(mask_entry, "vector mask");
	masked_then_unmasked(mask_function, "function mask");
	changed_while_masked();
	masked_without_cause();
	under_load(mask_entry, "vector mask");
	under_load(mask_function, "function mask");
}

const struct scenario msix_scenarios[] = {
	{ "msix-mask", run_msix_mask },
	{ 0 },
};
