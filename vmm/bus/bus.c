/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/bus/bus.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/err.h"
#include "vmm/base/math.h"

void bus_init(struct bus *bus, uint64_t limit)
{
	*bus = (struct bus){ .limit = limit };
	pthread_rwlock_init(&bus->lock, NULL);
}

void bus_deinit(struct bus *bus)
{
	pthread_rwlock_destroy(&bus->lock);
	free(bus->devices);
	*bus = (struct bus){ 0 };
}

/* The first device whose range ends behind addr: it has addr, or is the next one above. */
static size_t search(const struct bus *bus, uint64_t addr)
{
	size_t low = 0, high = bus->n_devices;

	while (low < high) {
		size_t mid = low + (high - low) / 2;
		const struct bus_device *dev = bus->devices[mid];

		if (addr >= dev->base && addr - dev->base >= dev->len)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

/* lock held. Where a device at base belongs, or -errno. */
static int find_place(const struct bus *bus, const struct bus_device *dev, uint64_t base,
		      uint64_t len, size_t *ret, struct err *err)
{
	uint64_t last;
	size_t at;

	if (!len || __builtin_add_overflow(base, len - 1, &last) ||
	    (bus->limit && last >= bus->limit))
		return err_set(err, EINVAL,
			       "'%s' does not fit: 0x%llx bytes at 0x%llx are outside the address "
			       "space",
			       dev->ops->name, (unsigned long long)len, (unsigned long long)base);
	at = search(bus, base);
	if (at < bus->n_devices && bus->devices[at]->base <= last) {
		const struct bus_device *other = bus->devices[at];

		return err_fault(err, FAULT_NONE, EBUSY,
				 "'%s' cannot be at 0x%llx to 0x%llx: '%s' is at 0x%llx to 0x%llx",
				 dev->ops->name, (unsigned long long)base, (unsigned long long)last,
				 other->ops->name, (unsigned long long)other->base,
				 (unsigned long long)(other->base + (other->len - 1)));
	}
	*ret = at;
	return 0;
}

static void insert(struct bus *bus, size_t at, struct bus_device *dev, uint64_t base, uint64_t len)
{
	memmove(&bus->devices[at + 1], &bus->devices[at],
		(bus->n_devices - at) * sizeof(struct bus_device *));
	bus->devices[at] = dev;
	bus->n_devices++;
	dev->base = base;
	dev->len = len;
}

int bus_add(struct bus *bus, struct bus_device *dev, uint64_t base, uint64_t len, struct err *err)
{
	size_t at;
	int r;

	pthread_rwlock_wrlock(&bus->lock);
	r = find_place(bus, dev, base, len, &at, err);
	if (r == 0 && bus->n_devices == bus->capacity) {
		size_t capacity = bus->capacity ? 2 * bus->capacity : 16;
		struct bus_device **more = reallocarray(bus->devices, capacity, sizeof(*more));

		if (more) {
			bus->devices = more;
			bus->capacity = capacity;
		} else {
			r = err_errno(err, ENOMEM, "cannot add '%s' to the bus", dev->ops->name);
		}
	}
	if (r == 0)
		insert(bus, at, dev, base, len);
	pthread_rwlock_unlock(&bus->lock);
	return r;
}

void bus_remove(struct bus *bus, struct bus_device *dev)
{
	pthread_rwlock_wrlock(&bus->lock);
	for (size_t i = 0; i < bus->n_devices; i++) {
		if (bus->devices[i] != dev)
			continue;
		bus->n_devices--;
		memmove(&bus->devices[i], &bus->devices[i + 1],
			(bus->n_devices - i) * sizeof(struct bus_device *));
		break;
	}
	pthread_rwlock_unlock(&bus->lock);
}

/* The device that has all of [addr, addr + len), and the offset in it. */
static struct bus_device *lookup(struct bus *bus, uint64_t addr, uint32_t len, uint64_t *ret_off)
{
	struct bus_device *dev = NULL;
	size_t at;

	pthread_rwlock_rdlock(&bus->lock);
	at = search(bus, addr);
	if (at < bus->n_devices && addr >= bus->devices[at]->base &&
	    range_fits(addr - bus->devices[at]->base, len, bus->devices[at]->len)) {
		dev = bus->devices[at];
		*ret_off = addr - dev->base;
	}
	pthread_rwlock_unlock(&bus->lock);
	return dev;
}

/* What devices are promised; an access that crosses a page can come in odd pieces. */
static bool is_plain(uint32_t len)
{
	return len <= 8 && is_pow2(len);
}

void bus_read(struct bus *bus, uint64_t addr, void *data, uint32_t len)
{
	uint64_t off;
	struct bus_device *dev;

	if (!is_plain(len)) {
		for (uint32_t i = 0; i < len; i++)
			bus_read(bus, addr + i, (uint8_t *)data + i, 1);
		return;
	}
	dev = lookup(bus, addr, len, &off);
	if (dev)
		dev->ops->read(dev, off, data, len);
	else
		memset(data, 0xff, len);
}

void bus_write(struct bus *bus, uint64_t addr, const void *data, uint32_t len)
{
	uint64_t off;
	struct bus_device *dev;

	if (!is_plain(len)) {
		for (uint32_t i = 0; i < len; i++)
			bus_write(bus, addr + i, (const uint8_t *)data + i, 1);
		return;
	}
	dev = lookup(bus, addr, len, &off);
	if (dev)
		dev->ops->write(dev, off, data, len);
}
