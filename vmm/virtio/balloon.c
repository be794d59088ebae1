/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/virtio/balloon.h"

#include <assert.h>
#include <errno.h>
#include <linux/virtio_balloon.h>
#include <linux/virtio_ids.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "vmm/base/bytes.h"
#include "vmm/base/err.h"
#include "vmm/base/math.h"
#include "vmm/base/sort.h"
#include "vmm/memory/guest-memory.h"
#include "vmm/virtio/device.h"

#define PAGE_SHIFT_BALLOON 12 /* 5.5.6: always, whatever the guest's pages are */
#define PFNS_PER_TURN      1024U
#define STATS_BYTES        10U /* 5.5.6.3: le16 tag, le64 value, packed */
#define STATS_MAX          64U /* entries of a buffer that are looked at */

#define QUEUE_SIZE           128
#define QUEUE_SIZE_REPORTING 32

enum {
	QUEUE_INFLATE,
	QUEUE_DEFLATE,
	QUEUE_STATS,
	QUEUE_HINT, /* never by that meaning: FREE_PAGE_HINT is not offered */
	QUEUE_REPORTING,
	QUEUES,
};

/* virtio 1.3, 5.5.4 */
#define CONFIG_NUM_PAGES 0U
#define CONFIG_ACTUAL    4U
#define CONFIG_POISON    12U
#define CONFIG_SIZE      16U

static_assert(sizeof(struct virtio_balloon_config) == CONFIG_SIZE, "virtio 1.3, 5.5.4");

struct virtio_balloon {
	struct virtio_device dev;
	struct virtio_balloon_state st; /* under dev->lock; stats_*: shared thread while active */
	struct virtio_balloon_figures figures; /* the stats of it; under dev->lock */
	unsigned int interval;                 /* seconds */
	int timer_fd;
	struct loop_source timer_source;
	uint32_t pfns[PFNS_PER_TURN]; /* shared thread */
	_Atomic uint64_t inflated, deflated, reported, freed, failures;
	struct virtio_counter counters[6];
};

const char *const virtio_balloon_statistic_names[VIRTIO_BALLOON_STATISTICS] = {
	[VIRTIO_BALLOON_S_SWAP_IN] = "statistics.swap_in",
	[VIRTIO_BALLOON_S_SWAP_OUT] = "statistics.swap_out",
	[VIRTIO_BALLOON_S_MAJFLT] = "statistics.major_faults",
	[VIRTIO_BALLOON_S_MINFLT] = "statistics.minor_faults",
	[VIRTIO_BALLOON_S_MEMFREE] = "statistics.free_memory",
	[VIRTIO_BALLOON_S_MEMTOT] = "statistics.total_memory",
	[VIRTIO_BALLOON_S_AVAIL] = "statistics.available_memory",
	[VIRTIO_BALLOON_S_CACHES] = "statistics.disk_caches",
	[VIRTIO_BALLOON_S_HTLB_PGALLOC] = "statistics.hugetlb_allocations",
	[VIRTIO_BALLOON_S_HTLB_PGFAIL] = "statistics.hugetlb_failures",
};
static_assert(VIRTIO_BALLOON_S_HTLB_PGFAIL + 1 == VIRTIO_BALLOON_STATISTICS, "5.5.6.4");

static int balloon_validate(const void *state, struct err *err)
{
	const struct virtio_balloon_state *st = state;

	if (st->stats_kept && st->stats_head >= QUEUE_SIZE)
		return err_set(err, EBADMSG, "balloon: statistics buffer %u, not below %u",
			       st->stats_head, QUEUE_SIZE);
	if (st->pad)
		return err_set(err, EBADMSG, "balloon: padding is not zero");
	return 0;
}

#define F(kind, member) STATE_##kind(struct virtio_balloon_state, member)
static const struct state_field balloon_fields[] = {
	F(U32, num_pages),  F(U32, actual),      F(U32, poison),
	F(U16, stats_head), F(BOOL, stats_kept), F(U8, pad),
};
#undef F

const struct state_desc virtio_balloon_state_desc = {
	.name = "balloon",
	.version = 1,
	STATE_LAYOUT(struct virtio_balloon_state, balloon_fields),
	.validate = balloon_validate,
};

static struct virtio_balloon *virtio_balloon(struct virtio_device *dev)
{
	return container_of(dev, struct virtio_balloon, dev);
}

static void count(_Atomic uint64_t *counter, uint64_t n)
{
	atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
}

/* --- parsers --------------------------------------------------------------- */

static int by_page(const void *a, const void *b)
{
	const uint32_t *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

void virtio_balloon_sort(uint32_t *pfns, uint32_t n)
{
	uint32_t up = 1, down = 1;

	/* What drivers send is nearly always one or the other already. */
	while (up < n && pfns[up - 1] <= pfns[up])
		up++;
	if (up >= n)
		return;
	while (down < n && pfns[down - 1] >= pfns[down])
		down++;
	if (down < n) {
		sort_rows(pfns, n, sizeof(*pfns), by_page);
		return;
	}
	for (uint32_t i = 0; i < n / 2; i++) {
		uint32_t kept = pfns[i];

		pfns[i] = pfns[n - 1 - i];
		pfns[n - 1 - i] = kept;
	}
}

bool virtio_balloon_range(const uint32_t *pfns, uint32_t n, uint32_t *at, uint64_t *ret_gpa,
			  uint64_t *ret_len)
{
	uint64_t first, end;

	if (*at >= n)
		return false;
	first = pfns[*at];
	end = first + 1;
	/* the same page twice is one page */
	for ((*at)++; *at < n && pfns[*at] <= end; (*at)++)
		end = MAX(end, pfns[*at] + 1ULL);
	*ret_gpa = first << PAGE_SHIFT_BALLOON;
	*ret_len = (end - first) << PAGE_SHIFT_BALLOON;
	return true;
}

void virtio_balloon_parse_stats(const void *buf, uint32_t len, struct virtio_balloon_figures *ret)
{
	const uint8_t *p = buf;

	ret->stats_known = 0;
	for (; len >= STATS_BYTES; len -= STATS_BYTES, p += STATS_BYTES) {
		uint64_t tag = bytes_get_le(p, 2), value = bytes_get_le(p + 2, 8);

		/* A driver says all ones of what it does not know. */
		if (tag >= VIRTIO_BALLOON_STATISTICS || value == UINT64_MAX)
			continue;
		ret->stats[tag] = value;
		ret->stats_known |= 1U << tag;
	}
}

/* --- queues: shared thread --------------------------------------------------- */

/* 0, or -EFAULT: not the guest's RAM. */
static int discard(struct virtio_balloon *balloon, uint64_t gpa, uint64_t len)
{
	uint64_t freed = 0;
	int r = guest_mem_discard(balloon->dev.mem, gpa, len, &freed);

	count(&balloon->freed, freed);
	if (r < 0 && r != -EFAULT) {
		/* The page stays where it is, which costs the host memory and the guest nothing. */
		count(&balloon->failures, 1);
		return 0;
	}
	return r;
}

/* Page numbers [off, off + 4 n) of the request, a turn's worth. */
static int discard_pages(struct virtio_balloon *balloon, struct virtio_queue *q,
			 const struct virtq_chain *chain, uint64_t off, uint32_t n)
{
	uint64_t gpa = 0, len = 0;
	uint32_t at = 0;
	int r = virtq_chain_read(q, chain, off, balloon->pfns, n * sizeof(balloon->pfns[0]));

	if (r < 0)
		return r;
	for (uint32_t i = 0; i < n; i++)
		balloon->pfns[i] = (uint32_t)bytes_get_le(&balloon->pfns[i], 4);
	virtio_balloon_sort(balloon->pfns, n);
	while (r >= 0 && virtio_balloon_range(balloon->pfns, n, &at, &gpa, &len))
		r = discard(balloon, gpa, len);
	return r;
}

/*
 * 5.5.6: a request is an array of page numbers.  Linux sends 256 of them, others some
 * thousands; one that names as many as a chain can hold would keep the thread that all
 * small devices share for minutes, and a reset waiting for it.
 */
#define PAGES_PER_REQUEST_MAX 65536U

static bool is_page_list(const struct virtq_chain *chain)
{
	return chain->readable_len > 0 && chain->readable_len % sizeof(uint32_t) == 0 &&
	       chain->readable_len / sizeof(uint32_t) <= PAGES_PER_REQUEST_MAX;
}

/* 1, 0 none, -errno. */
static int inflate(struct virtio_queue *q, void *data)
{
	struct virtio_balloon *balloon = data;
	struct virtq_chain chain;
	int r = virtio_queue_pop(q, &chain);

	if (r <= 0)
		return r;
	if (!is_page_list(&chain))
		return -EBADMSG;
	for (uint64_t off = 0; off < chain.readable_len;) {
		uint64_t bytes = MIN(chain.readable_len - off, (uint64_t)sizeof(balloon->pfns));

		r = discard_pages(balloon, q, &chain, off, (uint32_t)(bytes / sizeof(uint32_t)));
		if (r < 0)
			return r;
		off += bytes;
	}
	count(&balloon->inflated, chain.readable_len / sizeof(uint32_t) << PAGE_SHIFT_BALLOON);
	virtio_queue_push(q, chain.head, 0);
	return 1;
}

static int deflate(struct virtio_queue *q, void *data)
{
	struct virtio_balloon *balloon = data;
	struct virtq_chain chain;
	int r = virtio_queue_pop(q, &chain);

	if (r <= 0)
		return r;
	if (!is_page_list(&chain))
		return -EBADMSG;
	count(&balloon->deflated, chain.readable_len / sizeof(uint32_t) << PAGE_SHIFT_BALLOON);
	virtio_queue_push(q, chain.head, 0);
	return 1;
}

/* 5.5.6.7: the buffers of a request are the free pages themselves. */
static int report(struct virtio_queue *q, void *data)
{
	struct virtio_balloon *balloon = data;
	struct virtq_chain chain;
	uint32_t poison;
	int r = virtio_queue_pop(q, &chain);

	if (r <= 0)
		return r;
	if (chain.writable_len == 0)
		return -EBADMSG;
	pthread_mutex_lock(&balloon->dev.lock);
	poison = virtio_has_feature(&balloon->dev, VIRTIO_BALLOON_F_PAGE_POISON)
			 ? balloon->st.poison
			 : 0;
	pthread_mutex_unlock(&balloon->dev.lock);
	for (uint16_t i = 0; i < chain.n_writable; i++) {
		const struct virtq_buf *buf = &chain.bufs[chain.n_readable + i];

		if (poison == 0)
			r = discard(balloon, buf->gpa, buf->len);
		if (r < 0)
			return r;
	}
	count(&balloon->reported, chain.writable_len);
	virtio_queue_push(q, chain.head, 0);
	return 1;
}

static uint64_t realtime_usec(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

/* 5.5.6.3: the buffer is kept until fresh figures are wanted. */
static int take_stats(struct virtio_queue *q, void *data)
{
	struct virtio_balloon *balloon = data;
	uint8_t buf[STATS_BYTES * STATS_MAX];
	struct virtq_chain chain;
	uint32_t len;
	int r = virtio_queue_pop(q, &chain);

	if (r <= 0)
		return r;
	if (balloon->st.stats_kept)
		return -EBADMSG; /* 5.5.6.3.1: one at a time */
	len = (uint32_t)MIN(chain.readable_len, (uint64_t)sizeof(buf));
	r = virtq_chain_read(q, &chain, 0, buf, len);
	if (r < 0)
		return r;
	pthread_mutex_lock(&balloon->dev.lock);
	balloon->st.stats_head = chain.head;
	balloon->st.stats_kept = true;
	virtio_balloon_parse_stats(buf, len, &balloon->figures);
	if (balloon->figures.stats_known)
		balloon->figures.stats_usec = realtime_usec();
	pthread_mutex_unlock(&balloon->dev.lock);
	virtio_device_values_changed(&balloon->dev);
	return 1;
}

static bool has_stats_queue(const struct virtio_balloon *balloon)
{
	return virtio_has_feature(&balloon->dev, VIRTIO_BALLOON_F_STATS_VQ);
}

/* Returns the buffer: the driver fills it anew. */
static void ask_stats(void *data)
{
	struct virtio_balloon *balloon = data;
	struct virtio_queue *q = &balloon->dev.queues[QUEUE_STATS];
	bool kept;

	if (virtio_device_is_broken(&balloon->dev))
		return;
	pthread_mutex_lock(&balloon->dev.lock);
	kept = balloon->st.stats_kept;
	balloon->st.stats_kept = false;
	pthread_mutex_unlock(&balloon->dev.lock);
	if (!kept)
		return;
	virtio_queue_push(q, balloon->st.stats_head, 0);
	virtio_queue_notify(q);
}

static void on_timer(struct loop_source *source, uint32_t events _unused_)
{
	uint64_t expirations;

	if (read(source->fd, &expirations, sizeof(expirations)) == (ssize_t)sizeof(expirations))
		ask_stats(source->data);
}

static void balloon_kick(struct virtio_device *dev, struct virtio_queue *q)
{
	struct virtio_balloon *balloon = virtio_balloon(dev);
	int (*take)(struct virtio_queue * q, void *data) = report;
	int r;

	if (q->index == QUEUE_INFLATE)
		take = inflate;
	else if (q->index == QUEUE_DEFLATE)
		take = deflate;
	else if (q->index == QUEUE_STATS && has_stats_queue(balloon))
		take = take_stats;
	else if (!virtio_has_feature(dev, VIRTIO_BALLOON_F_REPORTING))
		return; /* a queue of a feature that was not negotiated: nothing is there */
	r = virtio_queue_serve(q, take, balloon);
	if (r < 0)
		virtio_device_broken(dev, "%s",
				     r == -EFAULT ? "a page that is not RAM" : "malformed request");
}

/* --- control thread ----------------------------------------------------------- */

static void arm_timer(struct virtio_balloon *balloon, bool armed)
{
	const time_t seconds = armed ? (time_t)balloon->interval : 0;
	const struct itimerspec spec = { .it_interval.tv_sec = seconds,
					 .it_value.tv_sec = seconds };

	if (balloon->timer_fd >= 0)
		timerfd_settime(balloon->timer_fd, 0, &spec, NULL);
}

struct watch {
	struct virtio_balloon *balloon;
	int r;
};

static void watch_timer(void *data)
{
	struct watch *w = data;

	w->r = loop_add(w->balloon->dev.shared_loop, &w->balloon->timer_source);
}

static void unwatch_timer(void *data)
{
	struct virtio_balloon *balloon = data;

	loop_remove(balloon->dev.shared_loop, &balloon->timer_source);
}

static int balloon_activate(struct virtio_device *dev, struct err *err)
{
	struct watch w = { .balloon = virtio_balloon(dev) };

	if (w.balloon->timer_fd < 0 || !has_stats_queue(w.balloon))
		return 0;
	w.balloon->timer_source = (struct loop_source){
		.fd = w.balloon->timer_fd, .events = EPOLLIN, .fn = on_timer, .data = w.balloon
	};
	loop_call(dev->shared_loop, watch_timer, &w);
	if (w.r < 0)
		return err_errno(err, -w.r, "cannot watch the timer of the statistics");
	arm_timer(w.balloon, true);
	return 0;
}

static void balloon_pause(struct virtio_device *dev)
{
	struct virtio_balloon *balloon = virtio_balloon(dev);

	arm_timer(balloon, false);
	if (balloon->timer_source.armed)
		loop_call(dev->shared_loop, unwatch_timer, balloon);
}

static void balloon_resume(struct virtio_device *dev)
{
	struct virtio_balloon *balloon = virtio_balloon(dev);
	struct watch w = { .balloon = balloon };

	if (balloon->timer_fd < 0 || !has_stats_queue(balloon) || balloon->timer_source.armed)
		return;
	loop_call(dev->shared_loop, watch_timer, &w);
	if (w.r >= 0)
		arm_timer(balloon, true);
}

/* The driver is gone, and with it what it had lent: its memory is used again as it likes. */
static void balloon_reset(struct virtio_device *dev)
{
	struct virtio_balloon *balloon = virtio_balloon(dev);

	balloon_pause(dev);
	pthread_mutex_lock(&dev->lock);
	balloon->st = (struct virtio_balloon_state){ .num_pages = balloon->st.num_pages };
	bytes_put_le(dev->config + CONFIG_ACTUAL, 4, 0);
	bytes_put_le(dev->config + CONFIG_POISON, 4, 0);
	balloon->figures = (struct virtio_balloon_figures){ 0 };
	pthread_mutex_unlock(&dev->lock);
	virtio_device_values_changed(dev);
}

/* vCPU thread, dev->lock held. 5.5.4: actual and poison_val are the driver's, in any width. */
static void balloon_config_write(struct virtio_device *dev, uint32_t off, const void *buf,
				 uint32_t len)
{
	struct virtio_balloon *balloon = virtio_balloon(dev);
	const uint8_t *bytes = buf;
	bool actual = false;

	for (uint32_t i = 0; i < len; i++) {
		uint32_t at = off + i;

		if ((at >= CONFIG_ACTUAL && at < CONFIG_ACTUAL + 4) ||
		    (at >= CONFIG_POISON && at < CONFIG_SIZE)) {
			dev->config[at] = bytes[i];
			actual = actual || at < CONFIG_POISON;
		}
	}
	balloon->st.actual = (uint32_t)bytes_get_le(dev->config + CONFIG_ACTUAL, 4);
	balloon->st.poison = (uint32_t)bytes_get_le(dev->config + CONFIG_POISON, 4);
	if (actual)
		virtio_device_values_changed(dev);
}

static void *balloon_state_ptr(struct virtio_device *dev)
{
	return &virtio_balloon(dev)->st;
}

static const struct virtio_counter *balloon_counters(struct virtio_device *dev)
{
	return virtio_balloon(dev)->counters;
}

static void balloon_free(struct virtio_device *dev)
{
	struct virtio_balloon *balloon = virtio_balloon(dev);

	virtio_device_deinit(dev);
	if (balloon->timer_fd >= 0)
		close(balloon->timer_fd);
	free(balloon);
}

static const struct virtio_device_ops balloon_ops = {
	.name = "balloon",
	.device_id = VIRTIO_ID_BALLOON,
	.pci_class = 0x05, /* memory controller, RAM */
	.pci_subclass = 0x00,
	.threads = VIRTIO_THREADS_SHARED,
	.state = &virtio_balloon_state_desc,
	.activate = balloon_activate,
	.kick = balloon_kick,
	.config_write = balloon_config_write,
	.reset = balloon_reset,
	.pause = balloon_pause,
	.resume = balloon_resume,
	.state_ptr = balloon_state_ptr,
	.counters = balloon_counters,
	.free = balloon_free,
};

static void fill_counters(struct virtio_balloon *balloon)
{
	const struct virtio_counter counters[] = {
		{ "inflated_bytes", &balloon->inflated }, { "deflated_bytes", &balloon->deflated },
		{ "reported_bytes", &balloon->reported }, { "freed_bytes", &balloon->freed },
		{ "failures", &balloon->failures },
	};

	memcpy(balloon->counters, counters, sizeof(counters));
}

int virtio_balloon_new(const struct virtio_balloon_params *params, struct virtio_device **ret,
		       struct err *err)
{
	static const uint16_t sizes[QUEUES] = { QUEUE_SIZE, QUEUE_SIZE, QUEUE_SIZE, QUEUE_SIZE,
						QUEUE_SIZE_REPORTING };
	struct virtio_balloon *balloon = calloc(1, sizeof(*balloon));
	int r;

	if (!balloon)
		return err_errno(err, ENOMEM, "balloon '%s'", params->id);
	balloon->timer_fd = -EBADF;
	balloon->interval = params->statistics_interval;
	balloon->dev.features_offered = VIRTIO_FEATURE(VIRTIO_RING_F_EVENT_IDX) |
					VIRTIO_FEATURE(VIRTIO_RING_F_INDIRECT_DESC) |
					VIRTIO_FEATURE(VIRTIO_BALLOON_F_STATS_VQ);
	if (params->deflate_on_oom)
		balloon->dev.features_offered |= VIRTIO_FEATURE(VIRTIO_BALLOON_F_DEFLATE_ON_OOM);
	if (params->free_page_reporting)
		balloon->dev.features_offered |= VIRTIO_FEATURE(VIRTIO_BALLOON_F_REPORTING) |
						 VIRTIO_FEATURE(VIRTIO_BALLOON_F_PAGE_POISON);
	balloon->dev.config_size = CONFIG_SIZE;
	/* Without reporting no queue behind the statistics has a meaning. */
	r = virtio_device_init(&balloon->dev, &balloon_ops, params->id, sizes,
			       params->free_page_reporting ? QUEUES : QUEUE_STATS + 1, err);
	if (r < 0) {
		free(balloon);
		return r;
	}
	if (balloon->interval) {
		balloon->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
		if (balloon->timer_fd < 0) {
			r = err_errno(err, errno, "balloon '%s': cannot make its timer",
				      params->id);
			balloon_free(&balloon->dev);
			return r;
		}
	}
	fill_counters(balloon);
	balloon->st.num_pages = (uint32_t)(params->size >> PAGE_SHIFT_BALLOON);
	bytes_put_le(balloon->dev.config + CONFIG_NUM_PAGES, 4, balloon->st.num_pages);
	*ret = &balloon->dev;
	return 0;
}

void virtio_balloon_set_target(struct virtio_device *dev, uint64_t bytes)
{
	struct virtio_balloon *balloon = virtio_balloon(dev);
	uint32_t pages = (uint32_t)(bytes >> PAGE_SHIFT_BALLOON);
	bool same;

	pthread_mutex_lock(&dev->lock);
	same = balloon->st.num_pages == pages;
	balloon->st.num_pages = pages;
	bytes_put_le(dev->config + CONFIG_NUM_PAGES, 4, pages);
	pthread_mutex_unlock(&dev->lock);
	if (same)
		return;
	virtio_device_config_changed(dev);
	virtio_device_values_changed(dev);
	/* Not while paused: its queues stand still. */
	if (dev->active && has_stats_queue(balloon) && dev->queues[QUEUE_STATS].kick_source.armed)
		loop_call(dev->shared_loop, ask_stats, balloon);
}

void virtio_balloon_get(struct virtio_device *dev, struct virtio_balloon_figures *ret)
{
	struct virtio_balloon *balloon = virtio_balloon(dev);

	pthread_mutex_lock(&dev->lock);
	*ret = balloon->figures;
	ret->target = (uint64_t)balloon->st.num_pages << PAGE_SHIFT_BALLOON;
	ret->actual = (uint64_t)balloon->st.actual << PAGE_SHIFT_BALLOON;
	pthread_mutex_unlock(&dev->lock);
}
