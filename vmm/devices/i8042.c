/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/devices/i8042.h"

#include <string.h>

#define SYSTEM_CONTROL_B  0 /* 0x61 */
#define TIMER2_OUTPUT     0x20
#define COMMAND           3 /* 0x64 */
#define COMMAND_RESET_CPU 0xfe

static void i8042_read(struct bus_device *dev _unused_, uint64_t off, void *data, uint32_t len)
{
	memset(data, 0, len);
	if (off == SYSTEM_CONTROL_B)
		*(uint8_t *)data = TIMER2_OUTPUT;
}

static void i8042_write(struct bus_device *dev, uint64_t off, const void *data, uint32_t len)
{
	struct i8042 *self = container_of(dev, struct i8042, region);

	if (off == COMMAND && len == 1 && *(const uint8_t *)data == COMMAND_RESET_CPU)
		self->request(self->data, MACHINE_REQUEST_RESET);
}

static const struct bus_ops i8042_ops = { "i8042", i8042_read, i8042_write };

void i8042_init(struct i8042 *dev, machine_request_fn request, void *data)
{
	*dev = (struct i8042){ .region.ops = &i8042_ops, .request = request, .data = data };
}
