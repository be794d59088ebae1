/* SPDX-License-Identifier: Apache-2.0 */
/*
 * scenario of processors that fight over the devices: one resets and sets up, one moves BARs and
 * flips the command register and MSI-X masks, the others ring doorbells and read everything
 *
 * Nothing about the order is defined, so nothing is checked meanwhile; afterwards every device must
 * work. The devices' targets in RAM are a scratch area.
 */
#include <stddef.h>

#include "tests/kvm/guest/acpi.h"
#include "tests/kvm/guest/cpu.h"
#include "tests/kvm/guest/io.h"
#include "tests/kvm/guest/pci.h"
#include "tests/kvm/guest/platform.h"
#include "tests/kvm/guest/random.h"
#include "tests/kvm/guest/report.h"
#include "tests/kvm/guest/scenario.h"
#include "tests/kvm/guest/victim.h"

#define CPUS_MAX      16
#define TARGETS_MAX   8
#define RING_SIZE     16
#define SCRATCH_PAGES 8

struct target {
	struct victim *victim;
	struct pci_device pci; /* a copy: the BAR moves under the original */
	uint64_t home, away, size, features;
	uint64_t common, notify, msix; /* offsets in the BAR */
	struct virtq_desc *desc;
	volatile struct virtq_avail *avail;
	volatile struct virtq_used *used;
};

static struct target targets[TARGETS_MAX];
static unsigned int n_targets;
static uint8_t *scratch;
static volatile bool over;
static unsigned int next_job, running;

static uint64_t base_of(const struct target *t, struct random *r)
{
	return random_below(r, 4) ? t->home : t->away;
}

static void fill_ring(struct target *t, struct random *r)
{
	for (uint16_t i = 0; i < RING_SIZE; i++) {
		t->desc[i] = (struct virtq_desc){
			.addr = (uint64_t)scratch + random_below(r, SCRATCH_PAGES * 2048),
			.len = random_below(r, 2048),
			.flags = (uint16_t)random_below(r, 4),
			.next = (uint16_t)random_below(r, RING_SIZE),
		};
		t->avail->ring[i] = (uint16_t)random_below(r, RING_SIZE);
	}
	t->avail->idx = (uint16_t)random_below(r, RING_SIZE);
}

/* reset, and up again, without a look at the answers */
static void cycle(struct target *t, struct random *r)
{
	uint64_t common = base_of(t, r) + t->common;

	mmio_write8(common + COMMON_STATUS, 0);
	fill_ring(t, r);
	mmio_write8(common + COMMON_STATUS, VIRTIO_ACKNOWLEDGE | VIRTIO_DRIVER);
	mmio_write32(common + COMMON_DRIVER_FEATURE_SELECT, 1);
	mmio_write32(common + COMMON_DRIVER_FEATURE, (uint32_t)(t->features >> 32));
	mmio_write8(common + COMMON_STATUS,
		    VIRTIO_ACKNOWLEDGE | VIRTIO_DRIVER | VIRTIO_FEATURES_OK);
	for (uint16_t q = 0; q < 2; q++) {
		mmio_write16(common + COMMON_QUEUE_SELECT, q);
		mmio_write16(common + COMMON_QUEUE_SIZE, RING_SIZE);
		mmio_write64(common + COMMON_QUEUE_DESC, (uint64_t)t->desc);
		mmio_write64(common + COMMON_QUEUE_AVAIL, (uint64_t)t->avail);
		mmio_write64(common + COMMON_QUEUE_USED, (uint64_t)t->used);
		mmio_write16(common + COMMON_QUEUE_VECTOR, (uint16_t)random_below(r, 4));
		mmio_write16(common + COMMON_QUEUE_ENABLE, 1);
	}
	mmio_write8(common + COMMON_STATUS,
		    VIRTIO_ACKNOWLEDGE | VIRTIO_DRIVER | VIRTIO_FEATURES_OK | VIRTIO_DRIVER_OK);
}

static void put_bar(const struct target *t, uint64_t address)
{
	pci_write(&t->pci, PCI_BAR(0), 4, (uint32_t)address);
	pci_write(&t->pci, PCI_BAR(1), 4, (uint32_t)(address >> 32));
}

static void move(struct target *t, struct random *r)
{
	uint32_t entry = random_below(r, t->pci.msix_vectors);

	switch (random_below(r, 6)) {
	case 0:
		put_bar(t, t->away);
		break;
	case 1:
		put_bar(t, t->home);
		break;
	case 2: /* onto another device */
		put_bar(t, targets[random_below(r, n_targets)].home);
		break;
	case 3:
		pci_write(&t->pci, PCI_COMMAND, 2, random_below(r, 8));
		break;
	case 4:
		pci_write(&t->pci, t->pci.msix_cap + 2U, 2, random_next(r) & 0xc000);
		break;
	default: /* 6.8.2: the vector's mask bit */
		mmio_write32(base_of(t, r) + t->msix + 16 * entry + 12, random_below(r, 2));
		break;
	}
	if (random_below(r, 2))
		pci_write(&t->pci, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
}

static void flood(struct target *t, struct random *r)
{
	uint64_t base = base_of(t, r);

	for (uint32_t i = 0; i < 8; i++)
		mmio_write16(base + t->notify + 4 * random_below(r, 4), (uint16_t)i);
	mmio_read32(base + random_below(r, (uint32_t)t->size / 4) * 4);
	mmio_read8(base + t->common + COMMON_STATUS);
	pci_read(&t->pci, (uint16_t)(random_below(r, 64) * 4), 4);
}

static void (*const jobs[])(struct target *t, struct random *r) = { cycle, move, flood };

static void fight(void)
{
	unsigned int job = __atomic_fetch_add(&next_job, 1, __ATOMIC_RELAXED);
	struct random r = random_seed(arg_u64("seed", 1) * 64 + job);

	while (!over)
		jobs[job % 3](&targets[random_below(&r, n_targets)], &r);
	__atomic_fetch_sub(&running, 1, __ATOMIC_RELEASE);
}

static void add_target(struct victim *v)
{
	struct target *t = &targets[n_targets];
	struct pci_bar bar = pci_bar_probe(v->dev.pci, 0);

	if (n_targets == TARGETS_MAX || v->type->frees || !bar.size || !v->dev.have_msix)
		return;
	/* once with well-formed requests: all that is lazily made is there */
	check(victim_works(v), "%s works before", v->type->name);
	*t = (struct target){
		.victim = v,
		.pci = *v->dev.pci,
		.home = bar.address,
		.size = bar.size,
		.features = v->dev.features,
		.common = v->dev.region[REGION_COMMON] - bar.address,
		.notify = v->dev.region[REGION_NOTIFY] - bar.address,
		.msix = v->dev.pci->msix_table - bar.address,
		.desc = alloc_pages(1),
		.avail = alloc_pages(1),
		.used = alloc_pages(1),
	};
	n_targets++;
}

static void choose_other_places(void)
{
	uint64_t top = 0;

	for (unsigned int i = 0; i < n_targets; i++)
		if (targets[i].home + targets[i].size > top)
			top = targets[i].home + targets[i].size;
	for (unsigned int i = 0; i < n_targets; i++) {
		targets[i].away = (top + targets[i].size - 1) & ~(targets[i].size - 1);
		top = targets[i].away + targets[i].size;
	}
}

static bool all_stand(void *arg)
{
	(void)arg;
	return __atomic_load_n(&running, __ATOMIC_ACQUIRE) == 0;
}

static void go_home(void)
{
	for (unsigned int i = 0; i < n_targets; i++)
		pci_write(&targets[i].pci, PCI_COMMAND, 2, 0);
	/* twice: the first round may find a place taken */
	for (unsigned int i = 0; i < 2 * n_targets; i++) {
		const struct target *t = &targets[i % n_targets];

		put_bar(t, i < n_targets ? t->away : t->home);
		pci_write(&t->pci, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	}
}

static void run_bad_race(void)
{
	struct acpi_cpu cpus[CPUS_MAX];
	unsigned int n = acpi_cpus(cpus, CPUS_MAX);

	scratch = alloc_pages(SCRATCH_PAGES);
	victim_each(add_target);
	if (n < 2 || n_targets == 0) {
		skip("%u processors, %u devices", n, n_targets);
		return;
	}
	choose_other_places();
	irq_handler[VECTOR_TO_AP] = fight;
	for (unsigned int i = 0; i < n && i < CPUS_MAX; i++) {
		if (cpus[i].apic_id == apic_id() ||
		    !check(ap_start(cpus[i].apic_id), "processor %u starts", cpus[i].apic_id))
			continue;
		running++;
	}
	info("racing");
	for (unsigned int i = 0; i < n && i < CPUS_MAX; i++)
		if (cpus[i].apic_id != apic_id())
			apic_send(cpus[i].apic_id, VECTOR_TO_AP);
	sleep_ms((uint32_t)arg_u64("ms", 1000));
	over = true;
	check(wait_until(all_stand, NULL, 5000), "all processors end");
	go_home();
	for (unsigned int i = 0; i < n_targets; i++) {
		struct victim *v = targets[i].victim;

		check(virtio_map(&v->dev), "%s is mapped again", v->type->name);
		victim_recovers(v, "race");
	}
}

const struct scenario race_scenarios[] = {
	{ "bad-race", run_bad_race },
	{ 0 },
};
