/* SPDX-License-Identifier: Apache-2.0 */
/*
 * PCI functions: configuration space, BARs, capabilities (PCI Local Bus 3.0, 6)
 *
 * A device embeds struct pci_device, fills its header with pci_device_init()
 * and pci_add_*(), and is put on a segment (segment.h), which gives it a slot
 * and BAR addresses.  One function a slot, one bus a segment.
 *
 * Configuration space belongs to pci->lock (any vCPU).  A BAR move changes the
 * MMIO map and doorbells, so the vCPU that wrote the register hands it to the
 * control thread and waits, holding no lock.
 *
 * Switching memory decoding off does not take the BARs out of the MMIO map:
 * Linux does that to every device while it sizes BARs, and each map change costs
 * two ioctls a queue.  The device's handlers ask pci_is_decoding() instead.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "vmm/base/state.h"
#include "vmm/bus/bus.h"

struct err;
struct pci_device;
struct pci_segment;

#define PCI_BARS        6
#define PCI_CONFIG_SIZE 256 /* no extended capabilities: the rest of the 4 KiB reads zero */

struct pci_bar {
	uint64_t size;  /* power of two; 0 = none */
	uint64_t align; /* of its first address; at least size */
	bool is_64;
	struct bus_device *region; /* owned by the device */
	uint64_t addr;             /* where it is mapped; 0 = not yet */
	/* While pci_sync_bars() moves it, which is the control thread's; else 0. */
	uint64_t to;
	bool there;
};

struct pci_device_ops {
	/* vCPU, pci->lock held; after the generic registers took the write. Optional. */
	void (*config_written)(struct pci_device *pci, uint32_t off, uint32_t len);
	/* vCPU, no lock held: registers that are windows to elsewhere; true = handled. Optional. */
	bool (*config_read_special)(struct pci_device *pci, uint32_t off, void *data, uint32_t len);
	bool (*config_write_special)(struct pci_device *pci, uint32_t off, const void *data,
				     uint32_t len);
	/* Control thread: BAR bar is about to leave, or has arrived at, its address. Optional. */
	void (*bar_unmapping)(struct pci_device *pci, unsigned int bar);
	void (*bar_mapped)(struct pci_device *pci, unsigned int bar);
	/* Control thread: machine reset. Optional. */
	void (*reset)(struct pci_device *pci);
};

/* Saved state of the generic part. */
struct pci_config_state {
	uint8_t config[PCI_CONFIG_SIZE];
};
extern const struct state_desc pci_config_state_desc;

struct pci_device {
	const struct pci_device_ops *ops;
	char id[64];
	struct pci_segment *segment;
	uint8_t slot;
	pthread_mutex_t lock;
	struct pci_config_state st;
	uint8_t writable[PCI_CONFIG_SIZE]; /* mask of bits the guest may change */
	uint8_t initial[PCI_CONFIG_SIZE];  /* contents after reset */
	struct pci_bar bars[PCI_BARS];
	atomic_bool decoding; /* PCI_COMMAND_MEMORY, for the BARs' handlers */
	uint8_t cap_end;      /* first free byte for a capability */
	uint8_t last_cap;
};

struct pci_header {
	uint16_t vendor, device, subsystem_vendor, subsystem;
	uint8_t class, subclass, prog_if, revision;
};

void pci_device_init(struct pci_device *pci, const struct pci_device_ops *ops, const char *id,
		     const struct pci_header *header);
void pci_device_deinit(struct pci_device *pci);

/* A memory BAR (two registers when is_64). region's ops are set by the caller. */
void pci_add_bar(struct pci_device *pci, unsigned int bar, uint64_t size, uint64_t align,
		 bool is_64, struct bus_device *region);
/*
 * Appends a capability: body is all len bytes of it, of which the first two (id
 * and next) are filled in here; returns its offset.
 */
uint8_t pci_add_capability(struct pci_device *pci, uint8_t id, const void *body, uint8_t len);
/* Makes bits of a register writable by the guest. */
void pci_set_writable(struct pci_device *pci, uint32_t off, uint64_t mask, uint32_t len);

/* Without locking: set-up, or pci->lock held. */
uint32_t pci_config_get(const struct pci_device *pci, uint32_t off, uint32_t len);
void pci_config_put(struct pci_device *pci, uint32_t off, uint32_t len, uint32_t value);

/* vCPU threads, no lock held. off + len <= 4096, len 1, 2 or 4, naturally aligned. */
uint32_t pci_config_read(struct pci_device *pci, uint32_t off, uint32_t len);
void pci_config_write(struct pci_device *pci, uint32_t off, uint32_t len, uint32_t value);

/* Any thread: does the function answer to its BARs at all? */
static inline bool pci_is_decoding(const struct pci_device *pci)
{
	/* relaxed: a guest that races its own command register may see either */
	return atomic_load_explicit(&pci->decoding, memory_order_relaxed);
}

/*
 * Control thread: maps the BARs of these devices where their registers say.  All
 * leave before the first arrives, so they can change places; when one finds its
 * place taken none has moved, and the registers are put back.
 */
void pci_sync_bars(struct pci_device *const devices[], size_t n);
/* Control thread: registers as at power-on; the BARs follow with pci_sync_bars(). */
void pci_device_reset(struct pci_device *pci);
