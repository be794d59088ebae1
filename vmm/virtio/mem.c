/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/virtio/mem.h"

#include <assert.h>
#include <errno.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_mem.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/bytes.h"
#include "vmm/base/err.h"
#include "vmm/base/log.h"
#include "vmm/base/math.h"
#include "vmm/memory/guest-memory.h"
#include "vmm/virtio/device.h"

#define QUEUE_SIZE 128

/* virtio 1.3, 5.15.4 */
#define CONFIG_BLOCK_SIZE  0U
#define CONFIG_NODE        8U
#define CONFIG_ADDR        16U
#define CONFIG_REGION_SIZE 24U
#define CONFIG_USABLE_SIZE 32U
#define CONFIG_PLUGGED     40U
#define CONFIG_REQUESTED   48U
#define CONFIG_SIZE        56U

static_assert(sizeof(struct virtio_mem_config) == CONFIG_SIZE, "virtio 1.3, 5.15.4");

/* 5.15.6: le16 type, 6 bytes of padding, le64 address, le16 number of blocks */
#define REQUEST_ADDR   8U
#define REQUEST_BLOCKS 16U
/* le16 type, 6 bytes of padding, le16 state */
#define RESPONSE_STATE 8U

enum {
	COUNTER_PLUG_OPS,
	COUNTER_UNPLUG_OPS,
	COUNTER_NACKS,
	COUNTER_ERRORS,
	COUNTER_N_,
};

struct virtio_mem {
	struct virtio_device dev;
	struct virtio_mem_state st; /* under dev->lock; blocks: I/O thread while active */
	uint64_t gpa, size, block;
	void (*changed)(void *data);
	void *data;
	_Atomic uint64_t values[COUNTER_N_]; /* relaxed, sums only */
	struct virtio_counter counters[COUNTER_N_ + 1];
};

static struct virtio_mem *virtio_mem(struct virtio_device *dev)
{
	return container_of(dev, struct virtio_mem, dev);
}

static int mem_validate(const void *state, struct err *err)
{
	const struct virtio_mem_state *st = state;

	if (st->plugged % VIRTIO_MEM_BLOCK_MIN || st->requested % VIRTIO_MEM_BLOCK_MIN)
		return err_set(err, EBADMSG, "mem: 0x%llx bytes of 0x%llx are no whole blocks",
			       (unsigned long long)st->plugged, (unsigned long long)st->requested);
	return 0;
}

#define F(kind, member) STATE_##kind(struct virtio_mem_state, member)
static const struct state_field mem_fields[] = {
	F(U64, requested),
	F(U64, plugged),
	F(BYTES, blocks),
};
#undef F

const struct state_desc virtio_mem_state_desc = {
	.name = "mem",
	.version = 1,
	STATE_LAYOUT(struct virtio_mem_state, mem_fields),
	.validate = mem_validate,
};

/* --- blocks: I/O thread --------------------------------------------------------- */

struct blocks {
	uint64_t first, n;
};

static bool is_plugged(const struct virtio_mem *mem, uint64_t block)
{
	return mem->st.blocks[block / 8] & 1U << block % 8;
}

static uint64_t count_plugged(const struct virtio_mem *mem, const struct blocks *blocks)
{
	uint64_t n = 0;

	for (uint64_t i = 0; i < blocks->n; i++)
		n += is_plugged(mem, blocks->first + i);
	return n;
}

static void set_blocks(struct virtio_mem *mem, const struct blocks *blocks, bool plugged)
{
	for (uint64_t i = blocks->first; i < blocks->first + blocks->n; i++) {
		uint8_t bit = (uint8_t)(1U << i % 8);

		if (plugged)
			mem->st.blocks[i / 8] |= bit;
		else
			mem->st.blocks[i / 8] &= (uint8_t)~bit;
	}
}

static void set_plugged(struct virtio_mem *mem, uint64_t bytes)
{
	pthread_mutex_lock(&mem->dev.lock);
	mem->st.plugged = bytes;
	bytes_put_le(mem->dev.config + CONFIG_PLUGGED, 8, bytes);
	pthread_mutex_unlock(&mem->dev.lock);
	virtio_device_values_changed(&mem->dev);
	mem->changed(mem->data);
}

/* Whole blocks of the region, at least one. */
static bool get_blocks(const struct virtio_mem *mem, const uint8_t *req, struct blocks *ret)
{
	uint64_t gpa = bytes_get_le(req + REQUEST_ADDR, 8);
	uint64_t n = bytes_get_le(req + REQUEST_BLOCKS, 2);

	/* Neither product can overflow: 2^16 blocks of a region below 2^52. */
	if (gpa < mem->gpa || (gpa - mem->gpa) % mem->block || n == 0 ||
	    !range_fits(gpa - mem->gpa, n * mem->block, mem->size))
		return false;
	*ret = (struct blocks){ .first = (gpa - mem->gpa) / mem->block, .n = n };
	return true;
}

static bool discard(struct virtio_mem *mem, uint64_t off, uint64_t len)
{
	uint64_t freed = 0;
	int r = guest_mem_discard(mem->dev.mem, mem->gpa + off, len, &freed);

	if (r < 0)
		log_warning("mem '%s': the host does not take %llu MiB back: %s", mem->dev.id,
			    (unsigned long long)(len / MIB), strerrordesc_np(-r));
	return r >= 0;
}

/* 5.15.6.4 to 5.15.6.7 */
static uint16_t plug(struct virtio_mem *mem, const uint8_t *req)
{
	uint64_t requested, bytes;
	struct blocks blocks;

	if (!get_blocks(mem, req, &blocks) || count_plugged(mem, &blocks) > 0)
		return VIRTIO_MEM_RESP_ERROR;
	pthread_mutex_lock(&mem->dev.lock);
	requested = mem->st.requested;
	pthread_mutex_unlock(&mem->dev.lock);
	bytes = mem->st.plugged + blocks.n * mem->block;
	if (bytes > requested)
		return VIRTIO_MEM_RESP_NACK;
	set_blocks(mem, &blocks, true);
	set_plugged(mem, bytes);
	return VIRTIO_MEM_RESP_ACK;
}

static uint16_t unplug(struct virtio_mem *mem, const uint8_t *req)
{
	struct blocks blocks;

	if (!get_blocks(mem, req, &blocks) || count_plugged(mem, &blocks) < blocks.n)
		return VIRTIO_MEM_RESP_ERROR;
	if (!discard(mem, blocks.first * mem->block, blocks.n * mem->block))
		return VIRTIO_MEM_RESP_BUSY;
	set_blocks(mem, &blocks, false);
	set_plugged(mem, mem->st.plugged - blocks.n * mem->block);
	return VIRTIO_MEM_RESP_ACK;
}

static uint16_t unplug_all(struct virtio_mem *mem)
{
	if (!discard(mem, 0, mem->size))
		return VIRTIO_MEM_RESP_BUSY;
	memset(mem->st.blocks, 0, sizeof(mem->st.blocks));
	set_plugged(mem, 0);
	return VIRTIO_MEM_RESP_ACK;
}

static uint16_t get_state(struct virtio_mem *mem, const uint8_t *req, uint16_t *ret_state)
{
	struct blocks blocks;
	uint64_t n;

	if (!get_blocks(mem, req, &blocks))
		return VIRTIO_MEM_RESP_ERROR;
	n = count_plugged(mem, &blocks);
	*ret_state = n == 0          ? VIRTIO_MEM_STATE_UNPLUGGED
		     : n == blocks.n ? VIRTIO_MEM_STATE_PLUGGED
				     : VIRTIO_MEM_STATE_MIXED;
	return VIRTIO_MEM_RESP_ACK;
}

static void count(struct virtio_mem *mem, unsigned int counter)
{
	atomic_fetch_add_explicit(&mem->values[counter], 1, memory_order_relaxed);
}

void virtio_mem_answer(struct virtio_device *dev, const uint8_t req[VIRTIO_MEM_REQUEST_SIZE],
		       uint8_t ret[VIRTIO_MEM_RESPONSE_SIZE])
{
	struct virtio_mem *mem = virtio_mem(dev);
	uint16_t state = 0;
	uint16_t type = (uint16_t)bytes_get_le(req, 2), resp = VIRTIO_MEM_RESP_ERROR;

	if (type == VIRTIO_MEM_REQ_PLUG)
		resp = plug(mem, req);
	else if (type == VIRTIO_MEM_REQ_UNPLUG)
		resp = unplug(mem, req);
	else if (type == VIRTIO_MEM_REQ_UNPLUG_ALL)
		resp = unplug_all(mem);
	else if (type == VIRTIO_MEM_REQ_STATE)
		resp = get_state(mem, req, &state);
	if (resp == VIRTIO_MEM_RESP_ERROR)
		count(mem, COUNTER_ERRORS);
	else if (resp != VIRTIO_MEM_RESP_ACK)
		count(mem, COUNTER_NACKS);
	else if (type != VIRTIO_MEM_REQ_STATE)
		count(mem, type == VIRTIO_MEM_REQ_PLUG ? COUNTER_PLUG_OPS : COUNTER_UNPLUG_OPS);
	memset(ret, 0, VIRTIO_MEM_RESPONSE_SIZE);
	bytes_put_le(ret, 2, resp);
	bytes_put_le(ret + RESPONSE_STATE, 2, state);
}

/* One request: 1, 0 none, -errno. */
static int take(struct virtio_queue *q, void *data)
{
	uint8_t req[VIRTIO_MEM_REQUEST_SIZE], resp[VIRTIO_MEM_RESPONSE_SIZE];
	struct virtio_mem *mem = data;
	struct virtq_chain chain;
	int r = virtio_queue_pop(q, &chain);

	if (r <= 0)
		return r;
	if (virtq_chain_read(q, &chain, 0, req, sizeof(req)) < 0 ||
	    chain.writable_len < sizeof(resp))
		return -EBADMSG;
	virtio_mem_answer(&mem->dev, req, resp);
	if (virtq_chain_write(q, &chain, 0, resp, sizeof(resp)) < 0)
		return -EBADMSG;
	virtio_queue_push(q, chain.head, sizeof(resp));
	return 1;
}

static void mem_kick(struct virtio_device *dev, struct virtio_queue *q)
{
	/* Giving much back takes a while; control waits for one request at most. */
	if (virtio_queue_serve_some(q, 1, take, virtio_mem(dev)) < 0)
		virtio_device_broken(dev, "malformed request");
}

/* --- control thread --------------------------------------------------------------- */

static int mem_activate(struct virtio_device *dev _unused_, struct err *err _unused_)
{
	return 0;
}

/* 5.15.5.1: what is plugged stays so, whoever drives it. */
static void mem_reset(struct virtio_device *dev _unused_)
{
}

static void *mem_state_ptr(struct virtio_device *dev)
{
	return &virtio_mem(dev)->st;
}

static const struct virtio_counter *mem_counters(struct virtio_device *dev)
{
	return virtio_mem(dev)->counters;
}

static void mem_free(struct virtio_device *dev)
{
	struct virtio_mem *mem = virtio_mem(dev);

	virtio_device_deinit(dev);
	free(mem);
}

static const struct virtio_device_ops mem_ops = {
	.name = "mem",
	.device_id = VIRTIO_ID_MEM,
	.pci_class = 0x05, /* memory controller, other */
	.pci_subclass = 0x80,
	.threads = VIRTIO_THREADS_PER_QUEUE,
	.state = &virtio_mem_state_desc,
	.activate = mem_activate,
	.kick = mem_kick,
	.reset = mem_reset,
	.state_ptr = mem_state_ptr,
	.counters = mem_counters,
	.free = mem_free,
};

static void fill_config(struct virtio_mem *mem, const struct virtio_mem_params *params)
{
	uint8_t *config = mem->dev.config;

	mem->dev.config_size = CONFIG_SIZE;
	bytes_put_le(config + CONFIG_BLOCK_SIZE, 8, mem->block);
	bytes_put_le(config + CONFIG_NODE, 2, params->node >= 0 ? (uint64_t)params->node : 0);
	bytes_put_le(config + CONFIG_ADDR, 8, mem->gpa);
	bytes_put_le(config + CONFIG_REGION_SIZE, 8, mem->size);
	bytes_put_le(config + CONFIG_USABLE_SIZE, 8, mem->size);
	bytes_put_le(config + CONFIG_REQUESTED, 8, mem->st.requested);
}

int virtio_mem_new(const struct virtio_mem_params *params, struct virtio_device **ret,
		   struct err *err)
{
	static const char *const names[COUNTER_N_] = { "plug_ops", "unplug_ops", "nacks",
						       "errors" };
	static const uint16_t sizes[] = { QUEUE_SIZE };
	struct virtio_mem *mem = calloc(1, sizeof(*mem));
	int r;

	assert(params->size / params->block <= VIRTIO_MEM_BLOCKS_MAX);
	if (!mem)
		return err_errno(err, ENOMEM, "mem '%s'", params->id);
	mem->gpa = params->gpa;
	mem->size = params->size;
	mem->block = params->block;
	mem->changed = params->changed;
	mem->data = params->data;
	mem->st.requested = params->requested;
	mem->dev.features_offered = VIRTIO_FEATURE(VIRTIO_F_VERSION_1) |
				    VIRTIO_FEATURE(VIRTIO_RING_F_EVENT_IDX) |
				    VIRTIO_FEATURE(VIRTIO_RING_F_INDIRECT_DESC) |
				    VIRTIO_FEATURE(VIRTIO_MEM_F_UNPLUGGED_INACCESSIBLE);
	if (params->node >= 0)
		mem->dev.features_offered |= VIRTIO_FEATURE(VIRTIO_MEM_F_ACPI_PXM);
	r = virtio_device_init(&mem->dev, &mem_ops, params->id, sizes, ARRAY_SIZE(sizes), err);
	if (r < 0) {
		free(mem);
		return r;
	}
	fill_config(mem, params);
	for (unsigned int i = 0; i < COUNTER_N_; i++)
		mem->counters[i] = (struct virtio_counter){ names[i], &mem->values[i] };
	*ret = &mem->dev;
	return 0;
}

void virtio_mem_set_requested(struct virtio_device *dev, uint64_t bytes)
{
	struct virtio_mem *mem = virtio_mem(dev);

	pthread_mutex_lock(&dev->lock);
	mem->st.requested = bytes;
	bytes_put_le(dev->config + CONFIG_REQUESTED, 8, bytes);
	pthread_mutex_unlock(&dev->lock);
	virtio_device_config_changed(dev);
	virtio_device_values_changed(dev);
}

void virtio_mem_get(struct virtio_device *dev, struct virtio_mem_figures *ret)
{
	struct virtio_mem *mem = virtio_mem(dev);

	pthread_mutex_lock(&dev->lock);
	*ret = (struct virtio_mem_figures){ .requested = mem->st.requested,
					    .plugged = mem->st.plugged };
	pthread_mutex_unlock(&dev->lock);
}

void virtio_mem_forget(struct virtio_device *dev)
{
	struct virtio_mem *mem = virtio_mem(dev);

	memset(mem->st.blocks, 0, sizeof(mem->st.blocks));
	set_plugged(mem, 0);
}
