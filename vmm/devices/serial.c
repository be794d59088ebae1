/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/devices/serial.h"

#include <errno.h>
#include <linux/serial_reg.h>
#include <string.h>

#include "vmm/base/err.h"
#include "vmm/base/math.h"

#define F(kind, member) STATE_##kind(struct serial_state, member)
static const struct state_field serial_fields[] = {
	F(U16, divisor), F(U8, ier),   F(U8, fcr),
	F(U8, lcr),      F(U8, mcr),   F(U8, lsr),
	F(U8, msr),      F(U8, scr),   F(U8, thr_empty_pending),
	F(U8, rx_len),   F(BYTES, rx), F(BYTES, pad),
};
#undef F

static int serial_validate(const void *state, struct err *err)
{
	const struct serial_state *st = state;

	if (st->rx_len > SERIAL_FIFO)
		return err_set(err, EBADMSG, "serial: %u bytes in a receive FIFO of %u", st->rx_len,
			       SERIAL_FIFO);
	return 0;
}

const struct state_desc serial_state_desc = {
	"serial",
	.version = 1,
	STATE_LAYOUT(struct serial_state, serial_fields),
	.validate = serial_validate,
};

/* How many bytes the receiver holds: one without FIFOs (8.2, FCR bit 0). */
static uint8_t rx_room(const struct serial_state *st)
{
	uint8_t size = st->fcr & UART_FCR_ENABLE_FIFO ? SERIAL_FIFO : 1;

	return st->rx_len < size ? (uint8_t)(size - st->rx_len) : 0;
}

/*
 * 8.4 and 8.6.5: received data interrupts at the trigger level; less of it does
 * so when no more came for four characters' time, which here is at once.
 */
static uint8_t rx_interrupt_id(const struct serial_state *st)
{
	static const uint8_t levels[] = { 1, 4, 8, 14 };

	if (!(st->fcr & UART_FCR_ENABLE_FIFO) || st->rx_len >= levels[st->fcr >> 6])
		return UART_IIR_RDI;
	return UART_IIR_RX_TIMEOUT;
}

/* 8.6.5: the pending interrupt of the highest priority, as IIR shows it. */
static uint8_t interrupt_id(const struct serial_state *st)
{
	if ((st->ier & UART_IER_RLSI) && (st->lsr & UART_LSR_BRK_ERROR_BITS))
		return UART_IIR_RLSI;
	if ((st->ier & UART_IER_RDI) && st->rx_len > 0)
		return rx_interrupt_id(st);
	if ((st->ier & UART_IER_THRI) && st->thr_empty_pending)
		return UART_IIR_THRI;
	if ((st->ier & UART_IER_MSI) && (st->msr & UART_MSR_ANY_DELTA))
		return UART_IIR_MSI;
	return UART_IIR_NO_INT;
}

/*
 * The line is edge-triggered in the DSDT, as on a PC: it falls while a cause is
 * being served and rises again when another one is pending.
 */
static void update_line(struct serial *s)
{
	bool level = interrupt_id(&s->st) != UART_IIR_NO_INT;

	if (level == s->line_level)
		return;
	s->line_level = level;
	irq_line_set(s->line, level);
}

static void push_rx(struct serial_state *st, uint8_t byte)
{
	if (rx_room(st) == 0) {
		st->lsr |= UART_LSR_OE;
		return;
	}
	st->rx[st->rx_len++] = byte;
	st->lsr |= UART_LSR_DR;
}

static uint8_t pop_rx(struct serial_state *st)
{
	uint8_t byte = st->rx[0];

	if (st->rx_len == 0)
		return 0;
	st->rx_len--;
	memmove(st->rx, st->rx + 1, st->rx_len);
	if (st->rx_len == 0)
		st->lsr &= (uint8_t)~UART_LSR_DR;
	return byte;
}

/* 8.7: in loop mode the modem outputs come back as the modem inputs. */
static uint8_t modem_status(const struct serial_state *st)
{
	uint8_t msr = st->msr & UART_MSR_ANY_DELTA;

	if (!(st->mcr & UART_MCR_LOOP))
		return msr | UART_MSR_DCD | UART_MSR_DSR | UART_MSR_CTS;
	if (st->mcr & UART_MCR_RTS)
		msr |= UART_MSR_CTS;
	if (st->mcr & UART_MCR_DTR)
		msr |= UART_MSR_DSR;
	if (st->mcr & UART_MCR_OUT1)
		msr |= UART_MSR_RI;
	if (st->mcr & UART_MCR_OUT2)
		msr |= UART_MSR_DCD;
	return msr;
}

static uint8_t read_iir(struct serial_state *st)
{
	uint8_t id = interrupt_id(st);

	if (id == UART_IIR_THRI) /* 8.6.5: reading it clears this cause */
		st->thr_empty_pending = 0;
	if (st->fcr & UART_FCR_ENABLE_FIFO)
		id |= 0xc0; /* a working 16550A FIFO: what drivers probe for */
	return id;
}

static uint8_t read_register(struct serial_state *st, uint64_t off, bool *ret_room)
{
	bool dlab = st->lcr & UART_LCR_DLAB;
	uint8_t value;

	switch (off) {
	case UART_RX:
		if (dlab)
			return (uint8_t)st->divisor;
		/* Only a full receiver made the client wait. */
		*ret_room = rx_room(st) == 0;
		return pop_rx(st);
	case UART_IER:
		return dlab ? (uint8_t)(st->divisor >> 8) : st->ier;
	case UART_IIR:
		return read_iir(st);
	case UART_LCR:
		return st->lcr;
	case UART_MCR:
		return st->mcr;
	case UART_LSR:
		value = st->lsr | UART_LSR_TEMT | UART_LSR_THRE;
		st->lsr &= (uint8_t)~UART_LSR_BRK_ERROR_BITS;
		return value;
	case UART_MSR:
		value = modem_status(st);
		st->msr &= (uint8_t)~UART_MSR_ANY_DELTA;
		return value;
	default:
		return st->scr;
	}
}

static void write_fcr(struct serial_state *st, uint8_t value, bool *ret_room)
{
	bool toggled = (st->fcr ^ value) & UART_FCR_ENABLE_FIFO;

	if ((value & UART_FCR_CLEAR_RCVR) || toggled) {
		st->rx_len = 0;
		st->lsr &= (uint8_t)~UART_LSR_DR;
		*ret_room = true;
	}
	st->fcr = value & (UART_FCR_ENABLE_FIFO | UART_FCR_TRIGGER_MASK);
}

/* 1: value is to be transmitted. */
static bool write_register(struct serial_state *st, uint64_t off, uint8_t value, bool *ret_room)
{
	bool dlab = st->lcr & UART_LCR_DLAB;

	switch (off) {
	case UART_TX:
		if (dlab) {
			st->divisor = (uint16_t)((st->divisor & 0xff00) | value);
			return false;
		}
		st->thr_empty_pending = 1; /* sent by the time the guest looks */
		if (st->mcr & UART_MCR_LOOP) {
			push_rx(st, value);
			return false;
		}
		return true;
	case UART_IER:
		if (dlab) {
			st->divisor = (uint16_t)((st->divisor & 0x00ff) | value << 8);
			return false;
		}
		/* Enabling THRI with THR empty raises it at once. */
		if ((value & UART_IER_THRI) && !(st->ier & UART_IER_THRI))
			st->thr_empty_pending = 1;
		st->ier = value & 0x0f;
		return false;
	case UART_FCR:
		write_fcr(st, value, ret_room);
		return false;
	case UART_LCR:
		st->lcr = value;
		return false;
	case UART_MCR:
		/* Input that was cut off by loop mode is welcome again. */
		*ret_room = (st->mcr & UART_MCR_LOOP) && !(value & UART_MCR_LOOP);
		st->mcr = value & 0x1f;
		return false;
	case UART_SCR:
		st->scr = value;
		return false;
	default: /* LSR and MSR are read-only */
		return false;
	}
}

static void serial_read(struct bus_device *dev, uint64_t off, void *data, uint32_t len)
{
	struct serial *s = container_of(dev, struct serial, region);
	bool room = false;

	memset(data, 0, len);
	pthread_mutex_lock(&s->lock);
	*(uint8_t *)data = read_register(&s->st, off, &room);
	update_line(s);
	pthread_mutex_unlock(&s->lock);
	if (room)
		chardev_receive_more(s->chardev);
}

static void serial_write(struct bus_device *dev, uint64_t off, const void *data,
			 uint32_t len _unused_)
{
	struct serial *s = container_of(dev, struct serial, region);
	uint8_t value = *(const uint8_t *)data;
	bool transmit, room = false;

	pthread_mutex_lock(&s->lock);
	transmit = write_register(&s->st, off, value, &room);
	update_line(s);
	pthread_mutex_unlock(&s->lock);
	if (transmit)
		chardev_write(s->chardev, &value, 1);
	if (room)
		chardev_receive_more(s->chardev);
}

static const struct bus_ops serial_ops = { "serial", serial_read, serial_write };

static size_t serial_receive(void *data, const uint8_t *buf, size_t len)
{
	struct serial *s = data;
	size_t taken = 0;

	pthread_mutex_lock(&s->lock);
	/* In loop mode the receiver is cut off from the outside. */
	while (taken < len && rx_room(&s->st) > 0 && !(s->st.mcr & UART_MCR_LOOP))
		push_rx(&s->st, buf[taken++]);
	update_line(s);
	pthread_mutex_unlock(&s->lock);
	return taken;
}

void serial_init(struct serial *s, struct irq_line *line, struct chardev *chardev)
{
	*s = (struct serial){ .region.ops = &serial_ops, .line = line, .chardev = chardev };
	pthread_mutex_init(&s->lock, NULL);
	s->st.divisor = 1;
	chardev_set_receiver(chardev, serial_receive, s);
}

void serial_deinit(struct serial *s)
{
	if (s->chardev)
		pthread_mutex_destroy(&s->lock);
	s->chardev = NULL;
}

void serial_reset(struct serial *s)
{
	pthread_mutex_lock(&s->lock);
	s->st = (struct serial_state){ .divisor = 1 };
	update_line(s);
	pthread_mutex_unlock(&s->lock);
	chardev_receive_more(s->chardev);
}

void serial_restore(struct serial *s)
{
	pthread_mutex_lock(&s->lock);
	update_line(s);
	pthread_mutex_unlock(&s->lock);
	chardev_receive_more(s->chardev);
}
