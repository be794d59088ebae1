/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/devices/debug-port.h"

#include <string.h>
#include <time.h>

#define DEBUG_CONSOLE_SIGNATURE 0xe9 /* what a read answers, so a guest can probe for it */

static void code_read(struct bus_device *dev _unused_, uint64_t off _unused_, void *data,
		      uint32_t len)
{
	memset(data, 0xff, len);
}

static uint64_t now_usec(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000ULL + (uint64_t)ts.tv_nsec / 1000;
}

static void code_write(struct bus_device *dev, uint64_t off _unused_, const void *data,
		       uint32_t len _unused_)
{
	struct debug_port *port = container_of(dev, struct debug_port, region);
	uint8_t code = *(const uint8_t *)data;
	uint64_t none = 0;

	/* release: pairs with the acquire in debug_port_take */
	if (atomic_load_explicit(&port->usec[code], memory_order_relaxed) == 0 &&
	    atomic_compare_exchange_strong_explicit(&port->usec[code], &none,
						    now_usec() - port->start_usec + 1,
						    memory_order_release, memory_order_relaxed))
		port->notify(port->data);
}

bool debug_port_take(struct debug_port *port, uint8_t *ret_code, uint64_t *ret_usec)
{
	for (unsigned int code = 0; code < 256; code++) {
		uint64_t bit = 1ULL << (code % 64), usec;

		usec = atomic_load_explicit(&port->usec[code], memory_order_acquire);
		if (usec == 0 || (port->told[code / 64] & bit))
			continue;
		port->told[code / 64] |= bit;
		*ret_code = (uint8_t)code;
		*ret_usec = usec - 1;
		return true;
	}
	return false;
}

static const struct bus_ops code_ops = { "debug-port", code_read, code_write };

void debug_port_init(struct debug_port *port, uint64_t start_usec, void (*notify)(void *data),
		     void *data)
{
	memset(port, 0, sizeof(*port));
	port->region.ops = &code_ops;
	port->start_usec = start_usec;
	port->notify = notify;
	port->data = data;
}

static void console_read(struct bus_device *dev _unused_, uint64_t off _unused_, void *data,
			 uint32_t len)
{
	memset(data, DEBUG_CONSOLE_SIGNATURE, len);
}

static void console_write(struct bus_device *dev, uint64_t off _unused_, const void *data,
			  uint32_t len)
{
	chardev_write(container_of(dev, struct debug_console, region)->chardev, data, len);
}

static const struct bus_ops console_ops = { "debug-console", console_read, console_write };

void debug_console_init(struct debug_console *dev, struct chardev *chardev)
{
	*dev = (struct debug_console){ .region.ops = &console_ops, .chardev = chardev };
}
