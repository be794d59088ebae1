/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-mem: which blocks can be plugged and unplugged, and what becomes of the memory
 */
#include "vmm/virtio/mem.h"

#include <glib.h>
#include <linux/virtio_mem.h>
#include <string.h>

#include "tests/lib/mock-queue.h"
#include "vmm/base/bytes.h"
#include "vmm/base/err.h"
#include "vmm/base/math.h"

#define RAM      (16 * MIB)
#define GPA      (4 * GIB)
#define BLOCK    VIRTIO_MEM_BLOCK_MIN
#define BLOCKS   16U
#define SIZE     (BLOCKS * BLOCK)
#define FEATURES VIRTIO_FEATURE(VIRTIO_F_VERSION_1)

struct fixture {
	struct mock_driver driver;
	struct virtio_device *dev;
	unsigned int n_changes;
};

static void on_changed(void *data)
{
	struct fixture *f = data;

	f->n_changes++;
}

static void setup(struct fixture *f, uint64_t requested)
{
	const struct guest_zone_params zone = {
		.pointer = "/memory", .size = SIZE, .file_fd = -1, .host_node = -1, .blocks = true
	};
	const struct virtio_mem_params params = {
		.id = "__mem",
		.gpa = GPA,
		.size = SIZE,
		.block = BLOCK,
		.requested = requested,
		.node = 1,
		.changed = on_changed,
		.data = f,
	};
	struct err err = { 0 };

	memset(f, 0, sizeof(*f));
	if (virtio_mem_new(&params, &f->dev, &err) < 0)
		g_error("%s", err.msg);
	mock_driver_init(&f->driver, f->dev, RAM);
	if (guest_mem_add_ram(&f->driver.mem, GPA, &zone, &err) < 0)
		g_error("%s", err.msg);
	mock_driver_start(&f->driver, FEATURES);
}

static void teardown(struct fixture *f)
{
	mock_driver_deinit(&f->driver);
}

/* The type of the response; of STATE with the state in the upper half. */
static uint32_t request(struct fixture *f, uint16_t type, uint64_t gpa, uint16_t n)
{
	uint8_t req[24] = { 0 }, resp[10];
	struct mock_buf bufs[2];

	bytes_put_le(req, 2, type);
	bytes_put_le(req + 8, 8, gpa);
	bytes_put_le(req + 16, 2, n);
	memset(resp, 0xff, sizeof(resp));
	bufs[0] = (struct mock_buf){ mock_put(&f->driver, req, sizeof(req)), sizeof(req), false };
	bufs[1] = (struct mock_buf){ mock_put(&f->driver, resp, sizeof(resp)), sizeof(resp), true };
	g_assert_cmpuint(mock_queue_do(&f->driver.queues[0], bufs, 2), ==, sizeof(resp));
	mock_read(&f->driver, bufs[1].gpa, resp, sizeof(resp));
	return (uint32_t)(bytes_get_le(resp, 2) | bytes_get_le(resp + 8, 2) << 16);
}

static uint64_t config(const struct fixture *f, uint32_t off)
{
	return bytes_get_le(f->dev->config + off, 8);
}

static void assert_plugged(struct fixture *f, uint64_t blocks)
{
	struct virtio_mem_figures figures;

	virtio_mem_get(f->dev, &figures);
	g_assert_cmpuint(figures.plugged, ==, blocks * BLOCK);
	g_assert_cmpuint(config(f, 40), ==, blocks * BLOCK);
}

static void test_config(void)
{
	static struct fixture f;

	setup(&f, 4 * BLOCK);
	g_assert_cmpuint(f.dev->config_size, ==, 56);
	g_assert_cmpuint(config(&f, 0), ==, BLOCK);
	g_assert_cmpuint(config(&f, 8), ==, 1); /* node */
	g_assert_cmpuint(config(&f, 16), ==, GPA);
	g_assert_cmpuint(config(&f, 24), ==, SIZE);
	g_assert_cmpuint(config(&f, 32), ==, SIZE);
	g_assert_cmpuint(config(&f, 48), ==, 4 * BLOCK);
	assert_plugged(&f, 0);
	virtio_mem_set_requested(f.dev, 8 * BLOCK);
	g_assert_cmpuint(config(&f, 48), ==, 8 * BLOCK);
	teardown(&f);
}

static void test_plug_and_unplug(void)
{
	static struct fixture f;
	char byte = 0;

	setup(&f, 4 * BLOCK);
	g_assert_cmpuint(request(&f, VIRTIO_MEM_REQ_PLUG, GPA + BLOCK, 3), ==, VIRTIO_MEM_RESP_ACK);
	assert_plugged(&f, 3);
	g_assert_cmpuint(f.n_changes, ==, 1);
	/* more than is wanted */
	g_assert_cmpuint(request(&f, VIRTIO_MEM_REQ_PLUG, GPA + 8 * BLOCK, 2), ==,
			 VIRTIO_MEM_RESP_NACK);
	assert_plugged(&f, 3);
	g_assert_cmpuint(request(&f, VIRTIO_MEM_REQ_STATE, GPA + BLOCK, 3), ==,
			 VIRTIO_MEM_RESP_ACK | VIRTIO_MEM_STATE_PLUGGED << 16);
	g_assert_cmpuint(request(&f, VIRTIO_MEM_REQ_STATE, GPA, 3), ==,
			 VIRTIO_MEM_RESP_ACK | VIRTIO_MEM_STATE_MIXED << 16);
	g_assert_cmpuint(request(&f, VIRTIO_MEM_REQ_STATE, GPA + 4 * BLOCK, BLOCKS - 4), ==,
			 VIRTIO_MEM_RESP_ACK | VIRTIO_MEM_STATE_UNPLUGGED << 16);
	/* what is unplugged is the host's, and zeros when it comes again */
	g_assert_cmpint(guest_write(&f.driver.mem, GPA + BLOCK, "x", 1), ==, 0);
	g_assert_cmpuint(request(&f, VIRTIO_MEM_REQ_UNPLUG, GPA + BLOCK, 1), ==,
			 VIRTIO_MEM_RESP_ACK);
	assert_plugged(&f, 2);
	g_assert_cmpint(guest_read(&f.driver.mem, GPA + BLOCK, &byte, 1), ==, 0);
	g_assert_cmpint(byte, ==, 0);
	/* what was not asked for can be given back too; a driver's reset changes nothing */
	mock_driver_reset(&f.driver);
	mock_driver_start(&f.driver, FEATURES);
	assert_plugged(&f, 2);
	g_assert_cmpuint(request(&f, VIRTIO_MEM_REQ_UNPLUG_ALL, 0, 0), ==, VIRTIO_MEM_RESP_ACK);
	assert_plugged(&f, 0);
	g_assert_cmpuint(request(&f, VIRTIO_MEM_REQ_PLUG, GPA, 4), ==, VIRTIO_MEM_RESP_ACK);
	g_assert_cmpuint(mock_driver_counter(&f.driver, "plug_ops"), ==, 2);
	g_assert_cmpuint(mock_driver_counter(&f.driver, "unplug_ops"), ==, 2);
	g_assert_cmpuint(mock_driver_counter(&f.driver, "nacks"), ==, 1);
	/* the machine's reset */
	mock_driver_reset(&f.driver);
	virtio_mem_forget(f.dev);
	assert_plugged(&f, 0);
	g_assert_cmpuint(config(&f, 48), ==, 4 * BLOCK);
	teardown(&f);
}

/* 5.15.6.2: the device answers ERROR, and nothing changes. */
static void test_wrong(void)
{
	static const struct {
		const char *name;
		uint16_t type;
		uint64_t gpa;
		uint16_t n;
	} cases[] = {
		{ "unknown", 77, GPA, 1 },
		{ "no block", VIRTIO_MEM_REQ_PLUG, GPA + 4 * BLOCK, 0 },
		{ "below", VIRTIO_MEM_REQ_PLUG, GPA - BLOCK, 1 },
		{ "in the middle of a block", VIRTIO_MEM_REQ_PLUG, GPA + 4 * BLOCK + 4096, 1 },
		{ "behind", VIRTIO_MEM_REQ_PLUG, GPA + SIZE, 1 },
		{ "over the end", VIRTIO_MEM_REQ_PLUG, GPA + SIZE - BLOCK, 2 },
		{ "very many", VIRTIO_MEM_REQ_PLUG, GPA, 0xffff },
		{ "nowhere", VIRTIO_MEM_REQ_PLUG, UINT64_MAX - BLOCK + 1, 1 },
		{ "plugged already", VIRTIO_MEM_REQ_PLUG, GPA + BLOCK, 1 },
		{ "partly plugged", VIRTIO_MEM_REQ_PLUG, GPA + BLOCK, 2 },
		{ "not plugged", VIRTIO_MEM_REQ_UNPLUG, GPA + 4 * BLOCK, 1 },
		{ "partly not plugged", VIRTIO_MEM_REQ_UNPLUG, GPA, 3 },
		{ "unplug over the end", VIRTIO_MEM_REQ_UNPLUG, GPA + SIZE - BLOCK, 2 },
		{ "state over the end", VIRTIO_MEM_REQ_STATE, GPA + SIZE - BLOCK, 2 },
	};
	static struct fixture f;

	setup(&f, SIZE);
	g_assert_cmpuint(request(&f, VIRTIO_MEM_REQ_PLUG, GPA, 2), ==, VIRTIO_MEM_RESP_ACK);
	for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
		uint32_t got = request(&f, cases[i].type, cases[i].gpa, cases[i].n);

		if ((got & 0xffff) != VIRTIO_MEM_RESP_ERROR)
			g_error("%s: answer %u", cases[i].name, got);
		assert_plugged(&f, 2);
	}
	g_assert_cmpuint(mock_driver_counter(&f.driver, "errors"), ==, G_N_ELEMENTS(cases));
	g_assert_false(virtio_device_is_broken(f.dev));
	teardown(&f);
}

/* Chains that cannot carry a request or its answer break the device, and a reset mends it. */
static void test_malformed(void)
{
	static const struct {
		uint32_t readable, writable;
	} cases[] = { { 23, 10 }, { 24, 9 }, { 0, 10 }, { 24, 0 } };
	static struct fixture f;

	setup(&f, SIZE);
	for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
		uint64_t gpa = mock_alloc(&f.driver, 64, 8);
		const struct mock_buf bufs[] = {
			{ gpa, cases[i].readable, false },
			{ gpa + 32, cases[i].writable, true },
		};

		mock_queue_add(&f.driver.queues[0], bufs, 2);
		mock_queue_kick(&f.driver.queues[0]);
		mock_driver_wait_broken(&f.driver);
		mock_driver_reset(&f.driver);
		mock_driver_start(&f.driver, FEATURES);
	}
	g_assert_cmpuint(request(&f, VIRTIO_MEM_REQ_PLUG, GPA, 2), ==, VIRTIO_MEM_RESP_ACK);
	teardown(&f);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/virtio/mem/config", test_config);
	g_test_add_func("/virtio/mem/plug-and-unplug", test_plug_and_unplug);
	g_test_add_func("/virtio/mem/wrong", test_wrong);
	g_test_add_func("/virtio/mem/malformed", test_malformed);
	return g_test_run();
}
