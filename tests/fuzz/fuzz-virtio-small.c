/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzzing of devices whose requests are plain buffers: a console, an entropy source, persistent
 * memory.  {u8 which, u8 kicks}, and then the start of guest RAM, with the rings of their queues;
 * what comes back lies in RAM, and a device that breaks stands still
 */
#include <assert.h>
#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vmm/base/math.h"
#include "vmm/devices/chardev.h"
#include "vmm/memory/guest-memory.h"
#include "vmm/virtio/console.h"
#include "vmm/virtio/device.h"
#include "vmm/virtio/pmem.h"
#include "vmm/virtio/rng.h"

#define RAM        (64 * KIB)
#define PMEM_GPA   (4 * GIB)
#define QUEUE_SIZE 16U
/* a page for each queue: descriptors, available and used ring */
#define QUEUE_PAGE 0x1000U
#define AVAIL      0x400U
#define USED       0x800U

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct guest_mem mem;
static struct chardev chardev;
static struct loop loop; /* without a thread: what is for it is done at once */

static void no_interrupt(void *transport, struct virtio_queue *q)
{
	(void)transport;
	(void)q;
}

static void no_config_interrupt(void *transport)
{
	(void)transport;
}

static const struct virtio_transport_ops transport = { no_interrupt, no_config_interrupt, NULL };

static void set_up(void)
{
	static const struct guest_mem_params params = { .size = RAM };
	int r = guest_mem_init(&mem, NULL, &params, NULL);

	assert(r == 0);
	r = chardev_init(&chardev, "console", CONSOLE_MODE_NULL, -EBADF, &loop, NULL);
	assert(r == 0);
}

static struct virtio_device *new_device(uint8_t which)
{
	struct virtio_pmem_params pmem = { .id = "pmem", .mem = &mem, .gpa = PMEM_GPA };
	const struct virtio_rng_params rng = { .id = "rng", .fd = -EBADF };
	const struct virtio_console_params console = { .id = "console", .chardev = &chardev };
	struct virtio_device *dev = NULL;
	int r;

	switch (which % 3) {
	case 0:
		r = virtio_rng_new(&rng, &dev, NULL);
		break;
	case 1:
		r = virtio_console_new(&console, &dev, NULL);
		break;
	default:
		pmem.fd = memfd_create("pmem", MFD_CLOEXEC);
		r = ftruncate(pmem.fd, VIRTIO_PMEM_ALIGN);
		assert(r == 0);
		r = virtio_pmem_new(&pmem, &dev, NULL);
	}
	assert(r == 0);
	dev->mem = &mem;
	dev->transport = &transport;
	return dev;
}

static bool start(struct virtio_device *dev)
{
	dev->features = dev->features_offered & ~VIRTIO_FEATURE(VIRTIO_F_ACCESS_PLATFORM);
	for (uint16_t i = 0; i < dev->n_queues; i++) {
		struct virtio_queue *q = &dev->queues[i];
		uint64_t page = (uint64_t)(i % 2) * QUEUE_PAGE;

		q->st.size = QUEUE_SIZE;
		q->st.desc_gpa = page;
		q->st.avail_gpa = page + AVAIL;
		q->st.used_gpa = page + USED;
		q->st.enabled = true;
		if (virtio_queue_start(q, &mem, dev->features, NULL) < 0)
			return false;
	}
	return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct virtio_device *dev;
	int r;

	if (size < 2)
		return 0;
	if (!mem.n_regions)
		set_up();
	r = guest_mem_clear(&mem, NULL, NULL, NULL);
	assert(r == 0);
	r = guest_write(&mem, 0, data + 2, MIN(size - 2, (size_t)RAM));
	assert(r == 0);
	dev = new_device(data[0]);
	if (start(dev)) {
		for (unsigned int i = 0; i < 1U + data[1] % 4 && !virtio_device_is_broken(dev); i++)
			dev->ops->kick(dev, &dev->queues[(data[1] >> 2) % dev->n_queues]);
		for (uint16_t i = 0; i < dev->n_queues; i++)
			virtio_queue_stop(&dev->queues[i]);
	}
	dev->ops->free(dev);
	return 0;
}
