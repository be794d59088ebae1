/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-pmem driver (virtio 1.3, 5.19), and what it must not do
 */
#include <stddef.h>

#include "tests/kvm/guest/io.h"
#include "tests/kvm/guest/platform.h"
#include "tests/kvm/guest/report.h"
#include "tests/kvm/guest/scenario.h"
#include "tests/kvm/guest/virtio.h"

#define QUEUE_SIZE 16
#define REQUEST_MS 5000
#define PAGE       4096U
#define UNSET      0xeeeeeeeeU

static struct virtio_device dev;
static struct virtqueue queue;
static struct {
	uint32_t type;
	volatile uint32_t ret;
} request;

static bool start(void)
{
	if (!virtio_negotiate(&dev, 0) || !virtqueue_setup(&dev, &queue, 0, QUEUE_SIZE))
		return check(false, "pmem device starts");
	virtio_driver_ok(&dev);
	return true;
}

/* One request whose parts are as long as that. */
static enum virtio_outcome submit(uint32_t type, uint32_t readable, uint32_t writable)
{
	const struct segment chain[] = {
		{ &request.type, readable, false },
		{ (const void *)&request.ret, writable, true },
	};
	struct virtq_used_elem used;
	enum virtio_outcome outcome;

	request.type = type;
	request.ret = UNSET;
	virtqueue_add(&queue, chain, 2);
	virtqueue_kick(&queue);
	outcome = virtio_wait(&dev, &queue, REQUEST_MS);
	if (outcome == OUTCOME_USED)
		virtqueue_take(&queue, &used);
	return outcome;
}

static void check_request(uint32_t type, uint32_t want, const char *name)
{
	check_eq(submit(type, 4, 4), OUTCOME_USED, "%s is answered", name);
	check_eq(request.ret, want, "%s", name);
}

static bool same(const volatile char *memory, const char *text)
{
	for (; *text; text++, memory++)
		if (*memory != *text)
			return false;
	return true;
}

static void check_memory(uint64_t at, uint64_t size)
{
	volatile char *memory = (volatile char *)at; /* NOLINT: an address from the device */
	volatile char *last = memory + size - PAGE;
	const char *text = "from the guest";

	check(same(memory + PAGE, "from the host"), "the host's bytes are there");
	for (; *text; text++)
		*last++ = *text;
}

static void check_misuse(void)
{
	static const struct {
		const char *name;
		uint32_t readable, writable;
	} cases[] = {
		{ "a request of three bytes", 3, 4 },
		{ "room for three bytes of answer", 4, 3 },
	};

	for (unsigned int i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		check_eq(submit(0, cases[i].readable, cases[i].writable), OUTCOME_NEEDS_RESET, "%s",
			 cases[i].name);
		if (!check(virtio_reset(&dev), "reset after it") || !start())
			return;
		check_request(0, 0, "flush after the reset");
	}
}

static void run_pmem(void)
{
	uint64_t config, at, size;

	if (!virtio_find(VIRTIO_PMEM, 0, &dev)) {
		skip("no virtio-pmem device");
		return;
	}
	if (!start())
		return;
	config = dev.region[REGION_CONFIG];
	at = mmio_read32(config) | (uint64_t)mmio_read32(config + 4) << 32;
	size = mmio_read32(config + 8) | (uint64_t)mmio_read32(config + 12) << 32;
	info("pmem at 0x%lx, 0x%lx bytes", at, size);
	if (!check(at >= GIB(4) && at % (2U << 20) == 0 && size == 4U << 20,
		   "a place outside RAM, aligned"))
		return;
	check_memory(at, size);
	check_request(0, 0, "flush");
	check_request(1, 1, "a type that does not exist");
	check_request(0xffffffff, 1, "the last type there is");
	check_misuse();
}

const struct scenario pmem_scenarios[] = {
	{ "pmem", run_pmem },
	{ 0 },
};
