/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Interrupts: lines to the IOAPIC, and MSI vectors over irqfd
 *
 * irq_vector_update() is the one function that owns the order: a vector that is
 * masked leaves the hypervisor's irqfd list before the routing table that no
 * longer has it is set; on unmask the route is set first, then the irqfd.  The
 * other order crashes AMD hosts.
 *
 * While a vector is masked nobody reads its eventfd, so the count in it is the
 * pending bit; attaching the irqfd delivers what is pending.
 *
 * irq_table.lock is a leaf: only dev -> irq nests.
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "vmm/hypervisor/hypervisor.h"

struct err;

/* A level or edge line; the interrupt controller implements it. */
struct irq_line {
	/* Any thread. */
	void (*set)(struct irq_line *line, bool level);
};

static inline void irq_line_set(struct irq_line *line, bool level)
{
	line->set(line, level);
}

static inline void irq_line_pulse(struct irq_line *line)
{
	line->set(line, true);
	line->set(line, false);
}

struct irq_table {
	struct hv_vm *hv;
	pthread_mutex_t lock;
	uint32_t first_gsi, n_gsis; /* the MSI range, behind the IOAPIC's pins */
	struct hv_route *routes;    /* what the hypervisor has now, dense */
	size_t n_routes;
	uint64_t *used; /* bitmap of GSIs */
};

struct irq_vector {
	struct irq_table *table;
	int fd;       /* eventfd: whoever signals it raises the interrupt */
	uint32_t gsi; /* 0 = none yet: allocated at the first unmask */
	struct hv_msi msi;
	bool masked;
};

/* Control thread. pins: GSIs that belong to the IOAPIC. */
int irq_table_init(struct irq_table *table, struct hv_vm *hv, uint32_t pins, struct err *err);
void irq_table_deinit(struct irq_table *table);

int irq_vector_init(struct irq_vector *vector, struct irq_table *table,
		    struct err *err); /* masked */
/* Masks, frees the GSI, closes the eventfd. */
void irq_vector_deinit(struct irq_vector *vector);

/* vCPU or control thread, under the device's lock. -ENOSPC: no GSI left; -errno of the host. */
int irq_vector_update(struct irq_vector *vector, const struct hv_msi *msi, bool masked);
/* True when it was signalled while masked. Any thread. */
bool irq_vector_pending(const struct irq_vector *vector);
/* Any thread, no lock. */
void irq_vector_raise(struct irq_vector *vector);
/* Drops what is pending (device reset while masked). */
void irq_vector_clear(struct irq_vector *vector);

/*
 * The IOAPIC's own routes (GSI = pin): for a level pin that is unmasked the
 * hypervisor must know the vector to report its EOI.  msi NULL removes.
 */
int irq_table_set_pin(struct irq_table *table, uint32_t pin, const struct hv_msi *msi);
