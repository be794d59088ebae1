/* SPDX-License-Identifier: Apache-2.0 */
/*
 * MSI-X (PCI Local Bus 3.0, 6.8.2): table, pending bits, masks
 *
 * Lives in its device's BAR; the device forwards accesses by offset.  Registers
 * are under the embedding device's pci->lock; raise is for any thread and
 * takes no lock: it signals the vector's eventfd, and where that goes is
 * irq_vector_update()'s affair.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "vmm/base/state.h"
#include "vmm/bus/irq.h"

struct err;
struct pci_device;

#define MSIX_ENTRY_BYTES 16
#define MSIX_VECTORS_MAX 2048

struct msix_entry_state {
	uint64_t addr;
	uint32_t data;
	uint32_t control; /* bit 0: masked */
};
extern const struct state_desc msix_entry_state_desc;

struct msix {
	struct pci_device *pci;
	uint8_t cap; /* offset of the capability */
	uint16_t n;
	bool enabled, function_masked;
	struct msix_entry_state *entries;
	struct irq_vector *vectors;
};

/* Control thread. Adds the capability; table and pba are offsets in BAR bar. */
int msix_init(struct msix *m, struct pci_device *pci, struct irq_table *irqs, uint16_t n,
	      uint8_t bar, uint32_t table_off, uint32_t pba_off, struct err *err);
void msix_deinit(struct msix *m);
/* pci->lock held. */
void msix_reset(struct msix *m);

/* vCPU threads, pci->lock held. off is relative to the table or the pending bits. */
void msix_table_read(struct msix *m, uint32_t off, void *data, uint32_t len);
void msix_table_write(struct msix *m, uint32_t off, const void *data, uint32_t len);
void msix_pba_read(struct msix *m, uint32_t off, void *data, uint32_t len);
/* The guest wrote bytes [off, off+len) of configuration space. */
void msix_config_written(struct msix *m, uint32_t off, uint32_t len);

/* Any thread. A vector that is out of range or masked: nothing is delivered. */
void msix_raise(struct msix *m, uint16_t vector);
