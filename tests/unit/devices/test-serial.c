/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/devices/serial.h"

#include <glib.h>
#include <linux/serial_reg.h>
#include <poll.h>
#include <string.h>

#include "vmm/base/err.h"

struct fixture {
	struct loop loop;
	struct chardev chardev;
	struct serial serial;
	struct irq_line line;
	int level;            /* atomic */
	unsigned int n_edges; /* rising, atomic */
	int fd;               /* the client's end */
};

static void on_line(struct irq_line *line, bool level)
{
	struct fixture *f = container_of(line, struct fixture, line);

	if (level && !__atomic_load_n(&f->level, __ATOMIC_RELAXED))
		__atomic_add_fetch(&f->n_edges, 1, __ATOMIC_RELAXED);
	__atomic_store_n(&f->level, level, __ATOMIC_RELEASE);
}

static void set_up(struct fixture *f, gconstpointer data G_GNUC_UNUSED)
{
	f->line.set = on_line;
	g_assert_cmpint(loop_start(&f->loop, "io", NULL, NULL), ==, 0);
	g_assert_cmpint(chardev_init(&f->chardev, "serial", CONSOLE_MODE_TTY, -EBADF, &f->loop,
				     NULL),
			==, 0);
	serial_init(&f->serial, &f->line, &f->chardev);
	g_assert_cmpint(chardev_open(&f->chardev, false, false, &f->fd, NULL), ==, 0);
}

static void tear_down(struct fixture *f, gconstpointer data G_GNUC_UNUSED)
{
	close(f->fd);
	chardev_deinit(&f->chardev);
	loop_stop(&f->loop);
	serial_deinit(&f->serial);
}

static uint8_t in(struct fixture *f, uint64_t off)
{
	uint8_t v = 0;

	f->serial.region.ops->read(&f->serial.region, off, &v, 1);
	return v;
}

static void out(struct fixture *f, uint64_t off, uint8_t v)
{
	f->serial.region.ops->write(&f->serial.region, off, &v, 1);
}

static bool level(struct fixture *f)
{
	return __atomic_load_n(&f->level, __ATOMIC_ACQUIRE);
}

/* Waits until the loop's thread has brought what was asked for. */
static void wait_lsr_data(struct fixture *f)
{
	gint64 end = g_get_monotonic_time() + 5 * G_TIME_SPAN_SECOND;

	while (!(in(f, UART_LSR) & UART_LSR_DR)) {
		g_assert_cmpint(g_get_monotonic_time(), <, end);
		g_thread_yield();
	}
}

static void wait_rx_len(struct fixture *f, uint8_t n)
{
	gint64 end = g_get_monotonic_time() + 5 * G_TIME_SPAN_SECOND;
	uint8_t len;

	do {
		g_assert_cmpint(g_get_monotonic_time(), <, end);
		g_thread_yield();
		pthread_mutex_lock(&f->serial.lock);
		len = f->serial.st.rx_len;
		pthread_mutex_unlock(&f->serial.lock);
	} while (len != n);
}

static void test_transmit(struct fixture *f, gconstpointer data G_GNUC_UNUSED)
{
	char buf[8] = "";

	g_assert_cmphex(in(f, UART_LSR), ==, UART_LSR_TEMT | UART_LSR_THRE);
	out(f, UART_TX, 'h');
	out(f, UART_TX, 'i');
	for (ssize_t n = 0; n < 2;)
		n += read(f->fd, buf + n, 2 - (size_t)n);
	g_assert_cmpstr(buf, ==, "hi");
	g_assert_false(level(f));
}

static void test_thre_interrupt(struct fixture *f, gconstpointer data G_GNUC_UNUSED)
{
	g_assert_cmphex(in(f, UART_IIR), ==, UART_IIR_NO_INT);
	out(f, UART_IER, UART_IER_THRI);
	g_assert_true(level(f));
	g_assert_cmphex(in(f, UART_IIR), ==, UART_IIR_THRI);
	g_assert_false(level(f)); /* reading IIR served it */
	g_assert_cmphex(in(f, UART_IIR), ==, UART_IIR_NO_INT);
	out(f, UART_TX, 'x');
	g_assert_true(level(f));
	out(f, UART_IER, 0);
	g_assert_false(level(f));
	/* Linux's test for UARTs that do not raise it again. */
	out(f, UART_IER, UART_IER_THRI);
	in(f, UART_IIR);
	out(f, UART_IER, 0);
	out(f, UART_IER, UART_IER_THRI);
	g_assert_cmphex(in(f, UART_IIR), ==, UART_IIR_THRI);
	g_assert_cmpuint(f->n_edges, ==, 4);
}

static void test_receive(struct fixture *f, gconstpointer data G_GNUC_UNUSED)
{
	out(f, UART_FCR, UART_FCR_ENABLE_FIFO | UART_FCR_TRIGGER_8);
	out(f, UART_IER, UART_IER_RDI);
	g_assert_cmpint(write(f->fd, "abc", 3), ==, 3);
	wait_rx_len(f, 3);
	g_assert_true(level(f));
	g_assert_cmphex(in(f, UART_IIR), ==, 0xc0 | UART_IIR_RX_TIMEOUT);
	g_assert_cmpint(in(f, UART_RX), ==, 'a');
	g_assert_cmpint(in(f, UART_RX), ==, 'b');
	g_assert_cmphex(in(f, UART_LSR) & UART_LSR_DR, ==, UART_LSR_DR);
	g_assert_cmpint(in(f, UART_RX), ==, 'c');
	g_assert_cmphex(in(f, UART_LSR) & UART_LSR_DR, ==, 0);
	g_assert_false(level(f));
	g_assert_cmpint(in(f, UART_RX), ==, 0);
	g_assert_cmpint(write(f->fd, "12345678", 8), ==, 8);
	wait_rx_len(f, 8);
	g_assert_cmphex(in(f, UART_IIR), ==, 0xc0 | UART_IIR_RDI);
	out(f, UART_FCR, UART_FCR_ENABLE_FIFO | UART_FCR_CLEAR_RCVR);
	g_assert_cmphex(in(f, UART_LSR) & UART_LSR_DR, ==, 0);
}

/* More than the FIFO: nothing is lost, with and without FIFO. */
static void test_flow_control(struct fixture *f, gconstpointer data G_GNUC_UNUSED)
{
	static const uint8_t fcrs[] = { 0, UART_FCR_ENABLE_FIFO };

	for (size_t k = 0; k < G_N_ELEMENTS(fcrs); k++) {
		uint8_t text[200];

		out(f, UART_FCR, fcrs[k]);
		for (size_t i = 0; i < sizeof(text); i++)
			text[i] = (uint8_t)(i + 1);
		g_assert_cmpint(write(f->fd, text, sizeof(text)), ==, sizeof(text));
		for (size_t i = 0; i < sizeof(text); i++) {
			wait_lsr_data(f);
			g_assert_cmpuint(in(f, UART_RX), ==, text[i]);
		}
		g_assert_cmphex(in(f, UART_LSR), ==, UART_LSR_TEMT | UART_LSR_THRE);
	}
}

static void test_loop_mode(struct fixture *f, gconstpointer data G_GNUC_UNUSED)
{
	struct pollfd p = { .fd = f->fd, .events = POLLIN };

	out(f, UART_MCR, UART_MCR_LOOP | UART_MCR_OUT2 | UART_MCR_RTS);
	g_assert_cmphex(in(f, UART_MSR) & 0xf0, ==, UART_MSR_DCD | UART_MSR_CTS);
	out(f, UART_MCR, UART_MCR_LOOP | UART_MCR_OUT1 | UART_MCR_DTR);
	g_assert_cmphex(in(f, UART_MSR) & 0xf0, ==, UART_MSR_RI | UART_MSR_DSR);
	out(f, UART_TX, 0x5a);
	g_assert_cmphex(in(f, UART_LSR) & UART_LSR_DR, ==, UART_LSR_DR);
	out(f, UART_TX, 0x5b); /* no FIFO: overrun */
	g_assert_cmphex(in(f, UART_LSR) & UART_LSR_OE, ==, UART_LSR_OE);
	g_assert_cmphex(in(f, UART_LSR) & UART_LSR_OE, ==, 0);
	g_assert_cmphex(in(f, UART_RX), ==, 0x5a);
	g_assert_cmpint(poll(&p, 1, 10), ==, 0); /* nothing of it got out */
	/* What the client sent meanwhile waits for the end of loop mode. */
	g_assert_cmpint(write(f->fd, "k", 1), ==, 1);
	g_usleep(10000);
	g_assert_cmphex(in(f, UART_LSR) & UART_LSR_DR, ==, 0);
	out(f, UART_MCR, 0);
	wait_lsr_data(f);
	g_assert_cmpint(in(f, UART_RX), ==, 'k');
}

/* The steps of Linux's 8250 driver (autoconfig, autoconfig_16550a) that tell a 16550A. */
static void test_linux_autoconfig(struct fixture *f, gconstpointer data G_GNUC_UNUSED)
{
	uint8_t status1, status2;

	out(f, UART_IER, 0);
	g_assert_cmphex(in(f, UART_IER) & 0x0f, ==, 0);
	out(f, UART_IER, 0x0f);
	g_assert_cmphex(in(f, UART_IER) & 0x0f, ==, 0x0f);
	out(f, UART_IER, 0);
	out(f, UART_MCR, UART_MCR_LOOP | 0x0a);
	g_assert_cmphex(in(f, UART_MSR) & 0xf0, ==, 0x90);
	out(f, UART_MCR, 0);
	out(f, UART_LCR, UART_LCR_CONF_MODE_B);
	out(f, UART_EFR, 0);
	out(f, UART_LCR, 0);
	out(f, UART_FCR, UART_FCR_ENABLE_FIFO);
	g_assert_cmphex(in(f, UART_IIR) >> 6, ==, 3);
	/* Not a 16C650 or later: no EFR. */
	out(f, UART_LCR, UART_LCR_CONF_MODE_A);
	g_assert_cmphex(in(f, UART_EFR), !=, 0);
	out(f, UART_LCR, UART_LCR_CONF_MODE_B);
	g_assert_cmphex(in(f, UART_EFR), !=, 0);
	/* Not National's superset: EXCR2 is not there. */
	out(f, UART_LCR, 0);
	status1 = in(f, UART_MCR);
	out(f, UART_LCR, 0xe0);
	status2 = in(f, 0x02);
	if (!((status2 ^ status1) & UART_MCR_LOOP)) {
		out(f, UART_LCR, 0);
		out(f, UART_MCR, status1 ^ UART_MCR_LOOP);
		out(f, UART_LCR, 0xe0);
		status2 = in(f, 0x02);
		out(f, UART_LCR, 0);
		out(f, UART_MCR, status1);
		g_assert_cmphex((status2 ^ status1) & UART_MCR_LOOP, ==, 0);
	}
	/* Not a 16750. */
	out(f, UART_LCR, 0);
	out(f, UART_FCR, UART_FCR_ENABLE_FIFO | UART_FCR7_64BYTE);
	status1 = in(f, UART_IIR) >> 5;
	out(f, UART_FCR, UART_FCR_ENABLE_FIFO);
	out(f, UART_LCR, UART_LCR_CONF_MODE_A);
	out(f, UART_FCR, UART_FCR_ENABLE_FIFO | UART_FCR7_64BYTE);
	status2 = in(f, UART_IIR) >> 5;
	out(f, UART_FCR, UART_FCR_ENABLE_FIFO);
	out(f, UART_LCR, 0);
	g_assert_cmphex(status1, ==, 6);
	g_assert_cmphex(status2, ==, 6);
	/* Not an XScale: UUE does not stick. */
	out(f, UART_IER, UART_IER_UUE);
	g_assert_cmphex(in(f, UART_IER) & UART_IER_UUE, ==, 0);
}

static void test_divisor_and_scratch(struct fixture *f, gconstpointer data G_GNUC_UNUSED)
{
	out(f, UART_SCR, 0xa5);
	g_assert_cmphex(in(f, UART_SCR), ==, 0xa5);
	out(f, UART_LCR, UART_LCR_DLAB | UART_LCR_WLEN8);
	g_assert_cmphex(in(f, UART_DLL), ==, 1);
	out(f, UART_DLL, 0x34);
	out(f, UART_DLM, 0x12);
	g_assert_cmphex(in(f, UART_DLL), ==, 0x34);
	g_assert_cmphex(in(f, UART_DLM), ==, 0x12);
	out(f, UART_LCR, UART_LCR_WLEN8);
	g_assert_cmphex(in(f, UART_IER), ==, 0);
	g_assert_cmphex(f->serial.st.divisor, ==, 0x1234);
	/* Read-only registers. */
	out(f, UART_LSR, 0xff);
	out(f, UART_MSR, 0xff);
	g_assert_cmphex(in(f, UART_LSR), ==, UART_LSR_TEMT | UART_LSR_THRE);
	g_assert_cmphex(in(f, UART_MSR), ==, UART_MSR_DCD | UART_MSR_DSR | UART_MSR_CTS);
}

static void test_reset(struct fixture *f, gconstpointer data G_GNUC_UNUSED)
{
	out(f, UART_IER, UART_IER_THRI);
	out(f, UART_SCR, 7);
	g_assert_true(level(f));
	serial_reset(&f->serial);
	g_assert_false(level(f));
	g_assert_cmphex(in(f, UART_IER), ==, 0);
	g_assert_cmphex(in(f, UART_SCR), ==, 0);
	serial_reset(&f->serial);
	g_assert_cmphex(in(f, UART_LSR), ==, UART_LSR_TEMT | UART_LSR_THRE);
}

static void test_restore(struct fixture *f, gconstpointer data G_GNUC_UNUSED)
{
	struct serial_state saved;

	out(f, UART_FCR, UART_FCR_ENABLE_FIFO);
	out(f, UART_IER, UART_IER_RDI);
	g_assert_cmpint(write(f->fd, "q", 1), ==, 1);
	wait_rx_len(f, 1);
	saved = f->serial.st;
	serial_reset(&f->serial);
	g_assert_false(level(f));
	g_assert_cmpint(serial_state_desc.validate(&saved, NULL), ==, 0);
	f->serial.st = saved;
	serial_restore(&f->serial);
	g_assert_true(level(f));
	g_assert_cmpint(in(f, UART_RX), ==, 'q');
	g_assert_false(level(f));
}

static void test_state(void)
{
	struct serial_state st = { .rx_len = SERIAL_FIFO + 1 };
	struct err err = { 0 };

	g_assert_true(state_desc_tiles(&serial_state_desc, &err));
	g_assert_cmpint(serial_state_desc.validate(&st, &err), ==, -EBADMSG);
	g_assert_cmpstr(err.msg, ==, "serial: 17 bytes in a receive FIFO of 16");
}

#define ADD(path, fn) g_test_add(path, struct fixture, NULL, set_up, fn, tear_down)

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	ADD("/devices/serial/transmit", test_transmit);
	ADD("/devices/serial/thre-interrupt", test_thre_interrupt);
	ADD("/devices/serial/receive", test_receive);
	ADD("/devices/serial/flow-control", test_flow_control);
	ADD("/devices/serial/loop-mode", test_loop_mode);
	ADD("/devices/serial/linux-autoconfig", test_linux_autoconfig);
	ADD("/devices/serial/divisor-and-scratch", test_divisor_and_scratch);
	ADD("/devices/serial/reset", test_reset);
	ADD("/devices/serial/restore", test_restore);
	g_test_add_func("/devices/serial/state", test_state);
	return g_test_run();
}
