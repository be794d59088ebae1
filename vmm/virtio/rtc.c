/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/virtio/rtc.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#include "vmm/base/err.h"
#include "vmm/base/math.h"
#include "vmm/virtio/device.h"

#define QUEUE_SIZE 64
#define CLOCKS     1

struct virtio_rtc {
	struct virtio_device dev;
	_Atomic uint64_t reads, refused;
	struct virtio_counter counters[3];
};

static struct virtio_rtc *virtio_rtc(struct virtio_device *dev)
{
	return container_of(dev, struct virtio_rtc, dev);
}

static uint64_t realtime_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return (uint64_t)ts.tv_sec * 1000000000ULL + (uint64_t)ts.tv_nsec;
}

/* How long a request and its response are; request 0: there is no such type. */
struct sizes {
	uint32_t request, response;
};

static struct sizes sizes_of(uint16_t type)
{
	switch (type) {
	case VIRTIO_RTC_CFG:
		return (struct sizes){ 8, 16 };
	case VIRTIO_RTC_READ:
	case VIRTIO_RTC_CLOCK_CAP:
	case VIRTIO_RTC_CROSS_CAP:
		return (struct sizes){ 16, 16 };
	case VIRTIO_RTC_READ_CROSS:
		return (struct sizes){ 16, 24 };
	default:
		return (struct sizes){ 0, VIRTIO_RTC_HEADER_SIZE };
	}
}

uint32_t virtio_rtc_answer(const struct virtio_rtc_request *req, uint64_t len, uint64_t now_ns,
			   struct virtio_rtc_response *ret)
{
	uint16_t type = len >= sizeof(req->type) ? le16_get(req->type) : 0;
	struct sizes sizes = sizes_of(type);

	*ret = (struct virtio_rtc_response){ .status = VIRTIO_RTC_EINVAL };
	if (len < VIRTIO_RTC_HEADER_SIZE)
		return VIRTIO_RTC_HEADER_SIZE;
	if (!sizes.request)
		ret->status = VIRTIO_RTC_EOPNOTSUPP;
	if (!sizes.request || len < sizes.request)
		return sizes.response;
	if (type != VIRTIO_RTC_CFG && le16_get(req->clock) >= CLOCKS) {
		ret->status = VIRTIO_RTC_ENODEV;
		return sizes.response;
	}
	ret->status = VIRTIO_RTC_OK;
	if (type == VIRTIO_RTC_CFG)
		ret->cfg.num_clocks = le16_make(CLOCKS);
	else if (type == VIRTIO_RTC_READ)
		ret->clock_reading = le64_make(now_ns);
	else if (type == VIRTIO_RTC_CLOCK_CAP)
		ret->clock_cap.type = VIRTIO_RTC_CLOCK_UTC_MAYBE_SMEARED;
	else if (type == VIRTIO_RTC_READ_CROSS)
		ret->status = VIRTIO_RTC_EOPNOTSUPP;
	/* CROSS_CAP: no flag, no cross timestamps */
	return sizes.response;
}

/* One request: 1, 0 none, -errno. */
static int answer(struct virtio_queue *q, void *data)
{
	struct virtio_rtc *rtc = data;
	struct virtio_rtc_request req = { 0 };
	struct virtio_rtc_response resp;
	struct virtq_chain chain;
	uint32_t len;
	int r = virtio_queue_pop(q, &chain);

	if (r <= 0)
		return r;
	/* No room for a status: nothing can be said. */
	if (chain.writable_len < VIRTIO_RTC_HEADER_SIZE)
		return -EBADMSG;
	r = virtq_chain_read(q, &chain, 0, &req, MIN(chain.readable_len, (uint64_t)sizeof(req)));
	if (r < 0)
		return r;
	len = virtio_rtc_answer(&req, chain.readable_len, realtime_ns(), &resp);
	if (len > chain.writable_len) {
		resp = (struct virtio_rtc_response){ .status = VIRTIO_RTC_EINVAL };
		len = VIRTIO_RTC_HEADER_SIZE;
	}
	r = virtq_chain_write(q, &chain, 0, &resp, len);
	if (r < 0)
		return r;
	atomic_fetch_add_explicit(resp.status == VIRTIO_RTC_OK ? &rtc->reads : &rtc->refused, 1,
				  memory_order_relaxed);
	virtio_queue_push(q, chain.head, len);
	return 1;
}

static void rtc_kick(struct virtio_device *dev, struct virtio_queue *q)
{
	if (virtio_queue_serve(q, answer, virtio_rtc(dev)) < 0)
		virtio_device_broken(dev, "malformed request");
}

static int rtc_activate(struct virtio_device *dev _unused_, struct err *err _unused_)
{
	return 0;
}

static void rtc_reset(struct virtio_device *dev _unused_)
{
	/* Requests are answered as they are taken: nothing is ever in flight. */
}

static const struct virtio_counter *rtc_counters(struct virtio_device *dev)
{
	return virtio_rtc(dev)->counters;
}

static void rtc_free(struct virtio_device *dev)
{
	virtio_device_deinit(dev);
	free(virtio_rtc(dev));
}

static const struct virtio_device_ops rtc_ops = {
	.name = "rtc",
	.device_id = VIRTIO_RTC_ID,
	.pci_class = 0x08, /* system peripheral, real-time clock */
	.pci_subclass = 0x03,
	.threads = VIRTIO_THREADS_SHARED,
	.activate = rtc_activate,
	.kick = rtc_kick,
	.reset = rtc_reset,
	.counters = rtc_counters,
	.free = rtc_free,
};

int virtio_rtc_new(const struct virtio_rtc_params *params, struct virtio_device **ret,
		   struct err *err)
{
	static const uint16_t sizes[] = { QUEUE_SIZE };
	struct virtio_rtc *rtc = calloc(1, sizeof(*rtc));
	int r;

	if (!rtc)
		return err_errno(err, ENOMEM, "rtc '%s'", params->id);
	rtc->dev.features_offered = VIRTIO_FEATURE(VIRTIO_RING_F_EVENT_IDX) |
				    VIRTIO_FEATURE(VIRTIO_RING_F_INDIRECT_DESC);
	r = virtio_device_init(&rtc->dev, &rtc_ops, params->id, sizes, ARRAY_SIZE(sizes), err);
	if (r < 0) {
		free(rtc);
		return r;
	}
	rtc->counters[0] = (struct virtio_counter){ "requests", &rtc->reads };
	rtc->counters[1] = (struct virtio_counter){ "refused", &rtc->refused };
	*ret = &rtc->dev;
	return 0;
}
