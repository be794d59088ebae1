/* SPDX-License-Identifier: Apache-2.0 */
/*
 * PCI configuration space, BARs and MSI-X of bus 0
 *
 * pci_scan() fills pci_devices in slot order. Configuration goes through ECAM when the MCFG names
 * one, else through ports 0xcf8/0xcfc.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define PCI_VENDOR         0x00
#define PCI_DEVICE         0x02
#define PCI_COMMAND        0x04
#define PCI_STATUS         0x06
#define PCI_CLASS          0x08
#define PCI_HEADER_TYPE    0x0e
#define PCI_BAR(n)         (0x10 + (n)*4)
#define PCI_CAPABILITIES   0x34
#define PCI_COMMAND_IO     1
#define PCI_COMMAND_MEMORY 2
#define PCI_COMMAND_MASTER 4
#define PCI_COMMAND_NOINTX (1 << 10)
#define PCI_STATUS_CAPS    (1 << 4)
#define PCI_CAP_VENDOR     0x09
#define PCI_CAP_MSIX       0x11

#define PCI_DEVICES_MAX 40

struct pci_device {
	uint8_t slot, function;
	uint16_t vendor, device;
	uint32_t class_revision;
	uint8_t msix_cap; /* offset, 0 = none or not set up */
	uint16_t msix_vectors;
	uint64_t msix_table, msix_pba;
};

struct pci_bar {
	uint64_t address, size; /* size 0: not implemented */
	bool io, wide, prefetchable;
};

extern struct pci_device pci_devices[PCI_DEVICES_MAX];
extern unsigned int pci_n_devices;

void pci_scan(void);
/* what was found before is forgotten */
void pci_rescan(void);
struct pci_device *pci_find(uint16_t vendor, uint16_t device, unsigned int nth);

uint64_t pci_ecam_base(void);
uint32_t pci_read(const struct pci_device *pci, uint16_t off, unsigned int size);
void pci_write(const struct pci_device *pci, uint16_t off, unsigned int size, uint32_t value);
uint32_t pci_cf8_read(uint8_t slot, uint8_t function, uint16_t off, unsigned int size);
uint32_t pci_ecam_read(uint8_t slot, uint8_t function, uint16_t off, unsigned int size);

/* offset of the next capability of type @id behind @after (0 = from the start), 0 = none */
uint8_t pci_capability(const struct pci_device *pci, uint8_t id, uint8_t after);

/* sizes BAR @n with decoding off and puts everything back */
struct pci_bar pci_bar_probe(const struct pci_device *pci, unsigned int n);
/* where BAR @n is, mapped and decoding; a BAR nobody placed gets an address first */
uint64_t pci_bar_map(const struct pci_device *pci, unsigned int n);
void pci_bar_set(const struct pci_device *pci, unsigned int n, bool wide, uint64_t address);

/* MSI-X: all vectors masked after pci_msix_enable() */
bool pci_msix_enable(struct pci_device *pci);
void pci_msix_set(const struct pci_device *pci, uint16_t entry, uint8_t vector);
void pci_msix_mask(const struct pci_device *pci, uint16_t entry, bool mask);
void pci_msix_function_mask(const struct pci_device *pci, bool mask);
bool pci_msix_pending(const struct pci_device *pci, uint16_t entry);
