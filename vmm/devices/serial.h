/* SPDX-License-Identifier: Apache-2.0 */
/*
 * 16550A UART (National Semiconductor PC16550D data sheet; clauses below)
 *
 * Transmission is instant: THR is always empty.  Input waits in the receive
 * FIFO and, when that is full, in the client's socket.  Registers are under
 * serial->lock, which nests outside the line's own.
 */
#pragma once

#include <pthread.h>
#include <stdint.h>

#include "vmm/base/state.h"
#include "vmm/bus/bus.h"
#include "vmm/bus/irq.h"
#include "vmm/devices/chardev.h"

#define SERIAL_PORTS 8
#define SERIAL_FIFO  16

struct serial_state {
	uint16_t divisor;
	uint8_t ier, fcr, lcr, mcr, lsr, msr, scr;
	uint8_t thr_empty_pending; /* the THRE interrupt has not been seen yet */
	uint8_t rx_len;
	uint8_t rx[SERIAL_FIFO];
	uint8_t pad[1];
};
extern const struct state_desc serial_state_desc;

struct serial {
	struct bus_device region;
	struct serial_state st;
	pthread_mutex_t lock;
	struct irq_line *line;
	bool line_level;
	struct chardev *chardev;
};

/* Control thread; becomes the chardev's receiver. */
void serial_init(struct serial *s, struct irq_line *line, struct chardev *chardev);
void serial_deinit(struct serial *s);
void serial_reset(struct serial *s);
/*
 * After st was loaded: the line to where it belongs, and input again.
 * For snapshots, which nothing loads as yet but the tests.
 */
void serial_restore(struct serial *s);
