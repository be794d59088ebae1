/* SPDX-License-Identifier: Apache-2.0 */
/*
 * I/O APIC in user space (Intel 82093AA data sheet, 1996)
 *
 * 24 pins, version 0x11, a register window of 0x20 bytes: index at 0x00, data
 * at 0x10.  This version has no EOI register; the end of a level interrupt
 * comes from the local APIC in the kernel as HV_EXIT_IOAPIC_EOI.  For that the
 * hypervisor must know the route of every unmasked level pin: GSI = pin in the
 * interrupt table.  The message itself is sent by msi_send.
 *
 * A level pin that is asserted while masked interrupts when it is unmasked; an
 * edge on a masked pin is lost (data sheet, 3.2.4, interrupt mask).  Several
 * devices may share a pin only through a common irq_line user that ors them.
 *
 * Locks: ioapic->lock nests inside a device's lock and outside irq_table.lock.
 */
#pragma once

#include <pthread.h>
#include <stdint.h>

#include "vmm/base/state.h"
#include "vmm/bus/bus.h"
#include "vmm/bus/irq.h"

#define IOAPIC_PINS    24
#define IOAPIC_VERSION 0x00170011U

struct ioapic_state {
	uint64_t redirection[IOAPIC_PINS];
	uint32_t levels; /* bit per pin: what its line is at */
	uint8_t index;   /* IOREGSEL */
	uint8_t id;
	uint16_t pad;
};
extern const struct state_desc ioapic_state_desc;

struct ioapic_line {
	struct irq_line line;
	struct ioapic *ioapic;
	uint32_t pin;
};

struct ioapic {
	struct bus_device region; /* MMIO, LAYOUT_IOAPIC_SIZE bytes */
	struct irq_table *irqs;
	pthread_mutex_t lock; /* st */
	struct ioapic_state st;
	struct ioapic_line lines[IOAPIC_PINS];
};

/* Control thread. irqs: made with IOAPIC_PINS pins. */
void ioapic_init(struct ioapic *ioapic, struct irq_table *irqs);
void ioapic_deinit(struct ioapic *ioapic);
/* As after power-on; lines keep their level, which belongs to the devices. */
void ioapic_reset(struct ioapic *ioapic);
/*
 * After st was loaded: tells the hypervisor the routes again.
 * For snapshots, which nothing loads as yet but the tests.
 */
void ioapic_restore(struct ioapic *ioapic);
struct irq_line *ioapic_line(struct ioapic *ioapic, uint32_t pin);

/* vCPU thread: the guest ended interrupt vector. */
void ioapic_eoi(struct ioapic *ioapic, uint8_t vector);
