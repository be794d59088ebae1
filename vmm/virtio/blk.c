/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/virtio/blk-internal.h"

#include <errno.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_ids.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/log.h"
#include "vmm/base/math.h"
#include "vmm/base/thread.h"
#include "vmm/block/block-queue.h"

#define HOST_CPUS_MAX 8192 /* the largest that Linux can be made for */

/*
 * Bytes of one range.  Zeroes may have to be written, by a blocking call: that
 * must be no longer than a device may be busy.
 */
#define DISCARD_MAX      (1UL << 30)
#define WRITE_ZEROES_MAX (16UL << 20)

/* Up to and without what secure erase has (5.2.4). */
#define CONFIG_SIZE (offsetof(struct virtio_blk_config, unused1) + 3)

#define COUNTERS(name) name "_ops", name "_bytes", name "_latency_ns", name "_latency_max_ns"
static const char *const counter_names[COUNTER_N_] = {
	COUNTERS("read"),    COUNTERS("write"),        COUNTERS("flush"),
	COUNTERS("discard"), COUNTERS("write_zeroes"), "errors",
};
#undef COUNTERS

#define F(kind, member) STATE_##kind(struct virtio_blk_state, member)
static const struct state_field blk_fields[] = { F(BOOL, writeback), F(BYTES, pad) };
#undef F
const struct state_desc virtio_blk_state_desc = {
	"virtio-blk",
	.version = 1,
	STATE_LAYOUT(struct virtio_blk_state, blk_fields),
};

static const struct virtio_device_ops blk_ops;

static void blk_kick(struct virtio_device *dev, struct virtio_queue *q)
{
	blk_queue_serve(&virtio_blk(dev)->queues[q->index]);
}

static void blk_reset(struct virtio_device *dev)
{
	struct virtio_blk *blk = virtio_blk(dev);

	for (uint16_t i = 0; i < dev->n_queues; i++)
		if (blk->queues[i].q)
			blk_queue_deinit(&blk->queues[i]);
	pthread_mutex_lock(&dev->lock);
	blk->st.writeback = true;
	dev->config[offsetof(struct virtio_blk_config, wce)] = 1;
	pthread_mutex_unlock(&dev->lock);
}

/* 5.2.6.2: who cannot flush, or chose write-through, gets durable writes. */
static void choose_cache_mode(struct virtio_blk *blk)
{
	bool through =
		!virtio_has_feature(&blk->dev, VIRTIO_BLK_F_FLUSH) ||
		(virtio_has_feature(&blk->dev, VIRTIO_BLK_F_CONFIG_WCE) && !blk->st.writeback);

	blk->dev.config[offsetof(struct virtio_blk_config, wce)] = !through;
	atomic_store_explicit(&blk->write_through, through, memory_order_relaxed);
}

/* virtio_blk_new() saw that it can be done; CPUs may have gone offline since. */
static void bind_queue(const struct virtio_blk *blk, uint16_t i)
{
	int r;

	if (!blk->cpus || !blk->cpus[i])
		return;
	r = pthread_setaffinity_np(blk->dev.queues[i].loop->thread.handle,
				   CPU_ALLOC_SIZE(HOST_CPUS_MAX), blk->cpus[i]);
	if (r > 0)
		log_warning("disk '%s': the thread of queue %u runs on any CPU: %s", blk->dev.id, i,
			    strerror(r));
}

uint64_t virtio_blk_n_images(struct virtio_device *dev)
{
	return virtio_blk(dev)->n_images;
}

const char *virtio_blk_engine(struct virtio_device *dev)
{
	struct virtio_blk *blk = virtio_blk(dev);

	for (uint16_t i = 0; i < dev->n_queues; i++)
		if (blk->queues[i].io)
			return block_queue_engine_name(blk->queues[i].io);
	return NULL;
}

static void log_engine(struct virtio_blk *blk)
{
	log_info("disk '%s': %s through %s", blk->dev.id, blk->img->ops->name,
		 virtio_blk_engine(&blk->dev) ?: "no queue");
}

static int blk_activate(struct virtio_device *dev, struct err *err)
{
	struct virtio_blk *blk = virtio_blk(dev);
	int r;

	pthread_mutex_lock(&dev->lock);
	choose_cache_mode(blk);
	pthread_mutex_unlock(&dev->lock);
	for (uint16_t i = 0; i < dev->n_queues; i++) {
		if (!dev->queues[i].loop)
			continue;
		r = blk_queue_init(&blk->queues[i], blk, &dev->queues[i], err);
		if (r < 0) {
			blk_reset(dev);
			return r;
		}
		bind_queue(blk, i);
	}
	log_engine(blk);
	virtio_device_values_changed(dev); /* the engine */
	return 0;
}

static void blk_config_write(struct virtio_device *dev, uint32_t off, const void *buf, uint32_t len)
{
	struct virtio_blk *blk = virtio_blk(dev);

	if (off != offsetof(struct virtio_blk_config, wce) || len != 1 ||
	    !virtio_has_feature(dev, VIRTIO_BLK_F_CONFIG_WCE))
		return;
	blk->st.writeback = *(const uint8_t *)buf & 1;
	choose_cache_mode(blk);
}

static void blk_pause(struct virtio_device *dev)
{
	struct virtio_blk *blk = virtio_blk(dev);
	struct block_image *img = blk->img;
	int r = 0;

	for (uint16_t i = 0; i < dev->n_queues; i++)
		if (blk->queues[i].io)
			loop_call(dev->queues[i].loop, blk_queue_drain, &blk->queues[i]);
	/* So that a copy made meanwhile is whole. */
	if (!img->readonly && img->ops->sync_metadata)
		r = img->ops->sync_metadata(img);
	if (r < 0)
		log_warning("disk '%s': its metadata cannot be written for the pause: %s", dev->id,
			    strerrordesc_np(-r));
}

static void *blk_state_ptr(struct virtio_device *dev)
{
	return &virtio_blk(dev)->st;
}

static const struct virtio_counter *blk_counters(struct virtio_device *dev)
{
	return virtio_blk(dev)->counters;
}

static void free_cpus(struct virtio_blk *blk)
{
	for (uint16_t i = 0; blk->cpus && i < VIRTIO_BLK_QUEUES_MAX; i++)
		CPU_FREE(blk->cpus[i]);
	free(blk->cpus);
}

static void blk_free(struct virtio_device *dev)
{
	struct virtio_blk *blk = virtio_blk(dev);

	virtio_device_deinit(dev);
	block_image_close(blk->img);
	free_cpus(blk);
	free(blk->queues);
	free(blk);
}

#define PUT(member, value)                                                                         \
	bytes_put_le(config + offsetof(struct virtio_blk_config, member),                          \
		     sizeof(((struct virtio_blk_config *)0)->member), (value))

/* What another image may change while a driver has the disk. */
static void fill_medium(struct virtio_blk *blk)
{
	const struct block_image *img = blk->img;
	uint8_t *config = blk->dev.config;
	bool discard = blk->limits.discard_max, zeroes = blk->limits.write_zeroes_max;

	PUT(capacity, img->size / BLOCK_SECTOR);
	PUT(max_discard_sectors, blk->limits.discard_max / BLOCK_SECTOR);
	PUT(max_discard_seg, discard ? VIRTIO_BLK_RANGES_MAX : 0);
	PUT(discard_sector_alignment,
	    discard ? MAX(img->discard_granularity, BLOCK_SECTOR) / BLOCK_SECTOR : 0);
	PUT(max_write_zeroes_sectors, blk->limits.write_zeroes_max / BLOCK_SECTOR);
	PUT(max_write_zeroes_seg, zeroes ? VIRTIO_BLK_RANGES_MAX : 0);
	PUT(write_zeroes_may_unmap, zeroes && blk->limits.may_unmap);
}

static void fill_config(struct virtio_blk *blk, const struct virtio_blk_params *params)
{
	const struct block_image *img = blk->img;
	uint8_t *config = blk->dev.config;
	unsigned int exp = 0;

	while (exp < UINT8_MAX && img->logical_block << exp < img->physical_block)
		exp++;
	fill_medium(blk);
	/* All buffers but the header and the status byte. */
	PUT(seg_max, params->queue_size - 2U);
	PUT(blk_size, img->logical_block);
	PUT(physical_block_exp, exp);
	PUT(alignment_offset, img->alignment_off);
	PUT(min_io_size, MIN(img->min_io, (uint32_t)UINT16_MAX));
	PUT(opt_io_size, img->opt_io);
	PUT(wce, 1);
	PUT(num_queues, params->n_queues);
	blk->dev.config_size = CONFIG_SIZE;
}
#undef PUT

#define FEATURES_MEDIUM                                                                            \
	(VIRTIO_FEATURE(VIRTIO_BLK_F_DISCARD) | VIRTIO_FEATURE(VIRTIO_BLK_F_WRITE_ZEROES))

static uint64_t medium_features(const struct virtio_blk_limits *limits)
{
	return (limits->discard_max ? VIRTIO_FEATURE(VIRTIO_BLK_F_DISCARD) : 0) |
	       (limits->write_zeroes_max ? VIRTIO_FEATURE(VIRTIO_BLK_F_WRITE_ZEROES) : 0);
}

static uint64_t features_offered(const struct virtio_blk_params *params,
				 const struct virtio_blk_limits *limits)
{
	uint64_t features =
		VIRTIO_FEATURE(VIRTIO_F_VERSION_1) | VIRTIO_FEATURE(VIRTIO_RING_F_EVENT_IDX) |
		VIRTIO_FEATURE(VIRTIO_RING_F_INDIRECT_DESC) | VIRTIO_FEATURE(VIRTIO_BLK_F_SEG_MAX) |
		VIRTIO_FEATURE(VIRTIO_BLK_F_BLK_SIZE) | VIRTIO_FEATURE(VIRTIO_BLK_F_TOPOLOGY) |
		VIRTIO_FEATURE(VIRTIO_BLK_F_FLUSH) | VIRTIO_FEATURE(VIRTIO_BLK_F_CONFIG_WCE);

	if (params->readonly)
		features |= VIRTIO_FEATURE(VIRTIO_BLK_F_RO);
	if (params->n_queues > 1)
		features |= VIRTIO_FEATURE(VIRTIO_BLK_F_MQ);
	return features | medium_features(limits);
}

static struct virtio_blk_limits image_limits(const struct block_image *img, bool keep_allocated)
{
	struct virtio_blk_limits limits = {
		.size = img->size,
		.align = MAX(BLOCK_SECTOR, img->off_align),
		.readonly = img->readonly,
		.may_unmap = img->can_discard && !keep_allocated,
	};

	if (img->readonly)
		return limits;
	if (limits.may_unmap)
		limits.discard_max = DISCARD_MAX;
	if (img->can_write_zeroes)
		limits.write_zeroes_max = WRITE_ZEROES_MAX;
	return limits;
}

/* Whether a thread can be bound like this is seen by doing it to our own for a moment. */
static int try_cpus(const cpu_set_t *cpus)
{
	size_t size = CPU_ALLOC_SIZE(HOST_CPUS_MAX);
	cpu_set_t *before = CPU_ALLOC(HOST_CPUS_MAX);
	int r = 0;

	if (!before)
		return -ENOMEM;
	if (sched_getaffinity(0, size, before) < 0 || sched_setaffinity(0, size, cpus) < 0)
		r = -errno;
	else
		(void)sched_setaffinity(0, size, before);
	CPU_FREE(before);
	return r;
}

static int set_cpus(struct virtio_blk *blk, const struct virtio_blk_affinity *affinity,
		    struct err *err)
{
	size_t size = CPU_ALLOC_SIZE(HOST_CPUS_MAX);
	cpu_set_t *cpus = CPU_ALLOC(HOST_CPUS_MAX);
	int r;

	if (!cpus)
		return err_set(err, ENOMEM, "disk '%s': out of memory for a set of CPUs",
			       blk->dev.id);
	CPU_ZERO_S(size, cpus);
	for (size_t i = 0; i < affinity->n_host_cpus; i++)
		CPU_SET_S(affinity->host_cpus[i], size, cpus);
	CPU_FREE(blk->cpus[affinity->queue]);
	blk->cpus[affinity->queue] = cpus;
	r = try_cpus(cpus);
	if (r < 0)
		return err_fault(err, FAULT_HOST_RESOURCE, -r,
				 "disk '%s': queue %u cannot be bound to the host's CPUs of "
				 "queue_affinity: %s",
				 blk->dev.id, affinity->queue, strerror(-r));
	return 0;
}

static int set_affinity(struct virtio_blk *blk, const struct virtio_blk_params *params,
			struct err *err)
{
	int r = 0;

	if (params->n_affinity == 0)
		return 0;
	blk->cpus = calloc(VIRTIO_BLK_QUEUES_MAX, sizeof(cpu_set_t *));
	if (!blk->cpus)
		return err_errno(err, ENOMEM, "disk '%s'", params->id);
	for (size_t i = 0; r >= 0 && i < params->n_affinity; i++)
		r = set_cpus(blk, &params->affinity[i], err);
	return r;
}

static int check_params(const struct virtio_blk_params *params, struct err *err)
{
	if (params->n_queues < 1 || params->n_queues > VIRTIO_BLK_QUEUES_MAX)
		return err_set(err, EINVAL, "disk '%s': num_queues is %u: 1 to %u are possible",
			       params->id, params->n_queues, VIRTIO_BLK_QUEUES_MAX);
	if (!is_pow2(params->queue_size) || params->queue_size < 4 ||
	    params->queue_size > VIRTQ_SIZE_MAX)
		return err_set(err, EINVAL,
			       "disk '%s': queue_size is %u: a power of two from 4 to %u is needed",
			       params->id, params->queue_size, VIRTQ_SIZE_MAX);
	if (params->serial && strlen(params->serial) > VIRTIO_BLK_SERIAL_MAX)
		return err_set(err, EINVAL, "disk '%s': serial '%s' is longer than %u bytes",
			       params->id, params->serial, VIRTIO_BLK_SERIAL_MAX);
	for (size_t i = 0; i < params->n_affinity; i++)
		if (params->affinity[i].queue >= params->n_queues)
			return err_set(err, EINVAL,
				       "disk '%s': queue_affinity is for queue %u, there are %u",
				       params->id, params->affinity[i].queue, params->n_queues);
	return 0;
}

int virtio_blk_new(const struct virtio_blk_params *params, struct virtio_device **ret,
		   struct err *err)
{
	const struct block_image_params image = { .id = params->id,
						  .readonly = params->readonly,
						  .direct = params->direct,
						  .allocate = params->keep_allocated,
						  .backing = params->backing,
						  .n_backing = params->n_backing };
	uint16_t sizes[VIRTIO_BLK_QUEUES_MAX];
	const char *serial = params->serial ?: params->id;
	struct virtio_blk *blk;
	int r;

	r = check_params(params, err);
	if (r < 0)
		return r;
	blk = calloc(1, sizeof(*blk));
	if (!blk)
		return err_errno(err, ENOMEM, "disk '%s'", params->id);
	blk->queues = calloc(params->n_queues, sizeof(*blk->queues));
	if (!blk->queues) {
		r = err_errno(err, ENOMEM, "disk '%s'", params->id);
		goto fail;
	}
	for (uint16_t i = 0; i < params->n_queues; i++)
		sizes[i] = params->queue_size;
	r = virtio_device_init(&blk->dev, &blk_ops, params->id, sizes, params->n_queues, err);
	if (r < 0)
		goto fail;
	r = set_affinity(blk, params, err);
	if (r < 0)
		goto fail_device;
	/* Last, because closing the image would close the caller's descriptor. */
	r = block_image_open(params->format ?: &block_format_raw, params->fd, &image, &blk->img,
			     err);
	if (r < 0)
		goto fail_device;
	blk->limiter = params->limiter;
	blk->n_images = 1;
	blk->engine = params->engine;
	blk->without_engines = params->without_engines;
	blk->st.writeback = true;
	blk->direct = params->direct;
	blk->keep_allocated = params->keep_allocated;
	blk->limits = image_limits(blk->img, params->keep_allocated);
	blk->dev.features_offered |= features_offered(params, &blk->limits);
	memcpy(blk->serial, serial, strnlen(serial, sizeof(blk->serial)));
	for (unsigned int i = 0; i < COUNTER_N_; i++)
		blk->counters[i] = (struct virtio_counter){ counter_names[i], &blk->values[i] };
	fill_config(blk, params);
	*ret = &blk->dev;
	return 0;

fail_device:
	virtio_device_deinit(&blk->dev);
fail:
	free_cpus(blk);
	free(blk->queues);
	free(blk);
	return r;
}

/* --- what clients ask while it runs --- */

/* Nothing is in flight and nothing starts; a paused machine's disk stands already. */
static void hold(struct virtio_blk *blk, bool paused)
{
	if (!paused)
		virtio_device_pause(&blk->dev);
}

static void go_on(struct virtio_blk *blk, bool paused)
{
	if (!paused)
		virtio_device_resume(&blk->dev);
}

static void tell_driver(struct virtio_blk *blk)
{
	virtio_device_config_changed(&blk->dev);
	virtio_device_values_changed(&blk->dev); /* the size */
}

int virtio_blk_resize(struct virtio_device *dev, uint64_t size, bool paused, struct err *err)
{
	struct virtio_blk *blk = virtio_blk(dev);
	int r;

	assert_on_control();
	hold(blk, paused);
	r = block_image_resize(blk->img, size, err);
	if (r >= 0) {
		blk->limits.size = blk->img->size;
		pthread_mutex_lock(&dev->lock);
		fill_medium(blk);
		pthread_mutex_unlock(&dev->lock);
	}
	go_on(blk, paused);
	if (r < 0)
		return r;
	log_info("disk '%s' has %llu bytes now", dev->id, (unsigned long long)size);
	tell_driver(blk);
	return 0;
}

static int open_medium(struct virtio_blk *blk, const struct virtio_blk_medium *medium,
		       struct block_image **ret, struct err *err)
{
	const struct block_image_params params = { .id = blk->dev.id,
						   .readonly = blk->limits.readonly,
						   .direct = blk->direct,
						   .allocate = blk->keep_allocated,
						   .backing = medium->backing,
						   .n_backing = medium->n_backing };
	uint64_t block =
		bytes_get_le(blk->dev.config + offsetof(struct virtio_blk_config, blk_size), 4);
	int r;

	r = block_image_open(medium->format, medium->fd, &params, ret, err);
	if (r < 0) {
		close(medium->fd);
		for (unsigned int i = 0; i < medium->n_backing; i++)
			close(medium->backing[i].fd);
		return r;
	}
	if ((*ret)->logical_block <= block && (*ret)->size % block == 0)
		return 0;
	/* 5.2.5.2: a driver reads the block size once. */
	r = err_fault(err, FAULT_BAD_CONFIG, EINVAL,
		      "disk '%s': the image has %llu bytes in blocks of %u, the guest uses blocks "
		      "of %llu",
		      blk->dev.id, (unsigned long long)(*ret)->size, (*ret)->logical_block,
		      (unsigned long long)block);
	block_image_close(*ret);
	return r;
}

static void free_ios(struct block_queue **ios, uint16_t n)
{
	for (uint16_t i = 0; i < n; i++)
		block_queue_free(ios[i]);
}

/* ios: by queue, NULL where none is served; the old ones then. */
static int swap_ios(struct virtio_blk *blk, struct block_queue **ios, struct err *err)
{
	int r = 0;
	uint16_t i;

	for (i = 0; r >= 0 && i < blk->dev.n_queues; i++)
		if (ios[i])
			r = blk_queue_swap_io(&blk->queues[i], &ios[i]);
	if (r >= 0)
		return 0;
	/* The last one has not changed. */
	for (i--; i-- > 0;)
		if (ios[i] && blk_queue_swap_io(&blk->queues[i], &ios[i]) < 0)
			virtio_device_broken(&blk->dev, "queue %u: cannot go back to its image", i);
	return err_errno(err, -r, "disk '%s': cannot watch completions", blk->dev.id);
}

static int swap_image(struct virtio_blk *blk, struct block_image **img, struct err *err)
{
	struct block_queue *ios[VIRTIO_BLK_QUEUES_MAX] = { NULL };
	struct virtio_device *dev = &blk->dev;
	struct block_image *old = blk->img;
	int r = 0;

	for (uint16_t i = 0; r >= 0 && i < dev->n_queues; i++)
		if (blk->queues[i].io)
			r = blk_queue_open_io(&blk->queues[i], *img, &ios[i], err);
	if (r >= 0)
		r = swap_ios(blk, ios, err);
	if (r >= 0) {
		blk->img = *img;
		blk->limits = image_limits(blk->img, blk->keep_allocated);
		pthread_mutex_lock(&dev->lock);
		dev->features_offered =
			(dev->features_offered & ~FEATURES_MEDIUM) | medium_features(&blk->limits);
		fill_medium(blk);
		pthread_mutex_unlock(&dev->lock);
		*img = old;
	}
	free_ios(ios, dev->n_queues);
	return r;
}

int virtio_blk_replace(struct virtio_device *dev, const struct virtio_blk_medium *medium,
		       bool paused, struct err *err)
{
	struct virtio_blk *blk = virtio_blk(dev);
	struct block_image *img = NULL;
	int r;

	assert_on_control();
	r = open_medium(blk, medium, &img, err);
	if (r < 0)
		return r;
	hold(blk, paused);
	r = swap_image(blk, &img, err);
	go_on(blk, paused);
	block_image_close(img); /* the old one, or the new one when that failed */
	if (r < 0)
		return r;
	blk->n_images++;
	log_info("disk '%s' has another image: %s, %llu bytes", dev->id, blk->img->ops->name,
		 (unsigned long long)blk->img->size);
	tell_driver(blk);
	return 0;
}

static const struct virtio_device_ops blk_ops = {
	.name = "blk",
	.device_id = VIRTIO_ID_BLOCK,
	.pci_class = 0x01,    /* mass storage */
	.pci_subclass = 0x80, /* other */
	.threads = VIRTIO_THREADS_PER_QUEUE,
	.state = &virtio_blk_state_desc,
	.activate = blk_activate,
	.kick = blk_kick,
	.config_write = blk_config_write,
	.reset = blk_reset,
	.pause = blk_pause,
	.state_ptr = blk_state_ptr,
	.counters = blk_counters,
	.free = blk_free,
};
