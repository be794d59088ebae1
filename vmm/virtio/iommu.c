/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/virtio/iommu.h"

#include <assert.h>
#include <errno.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_iommu.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/bytes.h"
#include "vmm/base/err.h"
#include "vmm/base/fd.h"
#include "vmm/base/math.h"
#include "vmm/virtio/device.h"
#include "vmm/virtio/iova-state.h"
#include "vmm/virtio/iova.h"

#define QUEUE_SIZE    256
#define QUEUE_REQUEST 0
#define QUEUE_EVENT   1
#define FAULTS_MAX    16U /* that wait for the driver; more are only counted */
#define TAIL_SIZE     ((uint32_t)sizeof(struct virtio_iommu_req_tail))

#define CONFIG_BYPASS offsetof(struct virtio_iommu_config, bypass)

static_assert(sizeof(struct virtio_iommu_req_attach) == 24, "virtio 1.3, 5.13.6.3");
static_assert(sizeof(struct virtio_iommu_req_map) == 40, "virtio 1.3, 5.13.6.5");
static_assert(sizeof(struct virtio_iommu_req_probe) == 72, "virtio 1.3, 5.13.6.7");
static_assert(sizeof(struct virtio_iommu_fault) == 24, "virtio 1.3, 5.13.6.9");

/* What the guest set that is neither an attachment nor a mapping (iova-state.h). */
struct virtio_iommu_state {
	uint8_t bypass;
	uint8_t pad[7];
};
#define F(kind, member) STATE_##kind(struct virtio_iommu_state, member)
static const struct state_field iommu_fields[] = { F(U8, bypass), F(BYTES, pad) };
#undef F

static int iommu_validate(const void *state, struct err *err)
{
	const struct virtio_iommu_state *st = state;

	return st->bypass <= 1 ? 0 : err_set(err, EBADMSG, "bypass is %u", st->bypass);
}

static const struct state_desc iommu_state_desc = {
	"virtio-iommu",
	.version = 1,
	STATE_LAYOUT(struct virtio_iommu_state, iommu_fields),
	.validate = iommu_validate,
};

enum iommu_counter {
	COUNTER_MAPS,
	COUNTER_UNMAPS,
	COUNTER_REFUSED,
	COUNTER_FAULTS,
	COUNTER_N_,
};

struct virtio_iommu {
	struct virtio_device dev;
	struct iova_unit *unit;
	struct virtio_iommu_state st; /* dev->lock */
	_Atomic uint64_t values[COUNTER_N_];
	struct virtio_counter counters[COUNTER_N_ + 1];

	pthread_mutex_t faults_lock; /* leaf: below the unit's lock */
	struct iova_fault faults[FAULTS_MAX];
	unsigned int n_faults;
	bool active; /* under faults_lock: the event queue is served */
};

static struct virtio_iommu *virtio_iommu(struct virtio_device *dev)
{
	return container_of(dev, struct virtio_iommu, dev);
}

static void count(struct virtio_iommu *iommu, enum iommu_counter i)
{
	atomic_fetch_add_explicit(&iommu->values[i], 1, memory_order_relaxed);
}

/* --- requests ------------------------------------------------------------------------- */

/* Of the readable part; 0: there is no such type. */
static size_t request_size(uint8_t type)
{
	switch (type) {
	case VIRTIO_IOMMU_T_ATTACH:
		return sizeof(struct virtio_iommu_req_attach) - TAIL_SIZE;
	case VIRTIO_IOMMU_T_DETACH:
		return sizeof(struct virtio_iommu_req_detach) - TAIL_SIZE;
	case VIRTIO_IOMMU_T_MAP:
		return sizeof(struct virtio_iommu_req_map) - TAIL_SIZE;
	case VIRTIO_IOMMU_T_UNMAP:
		return sizeof(struct virtio_iommu_req_unmap) - TAIL_SIZE;
	case VIRTIO_IOMMU_T_PROBE:
		return sizeof(struct virtio_iommu_req_probe);
	default:
		return 0;
	}
}

static uint32_t get32(const uint8_t *bytes, size_t off)
{
	return (uint32_t)bytes_get_le(bytes + off, 4);
}

static bool all_zero(const uint8_t *bytes, size_t from, size_t len)
{
	for (size_t i = from; i < from + len; i++)
		if (bytes[i])
			return false;
	return true;
}

/* The fields; false: a reserved one is not zero (5.13.6.3.2: rejected). */
static bool parse_fields(const uint8_t *b, struct virtio_iommu_request *ret)
{
	switch (ret->type) {
	case VIRTIO_IOMMU_T_ATTACH:
		ret->domain = get32(b, offsetof(struct virtio_iommu_req_attach, domain));
		ret->endpoint = get32(b, offsetof(struct virtio_iommu_req_attach, endpoint));
		ret->flags = get32(b, offsetof(struct virtio_iommu_req_attach, flags));
		return !(ret->flags & ~(uint32_t)VIRTIO_IOMMU_ATTACH_F_BYPASS) &&
		       all_zero(b, offsetof(struct virtio_iommu_req_attach, reserved), 4);
	case VIRTIO_IOMMU_T_DETACH:
		ret->domain = get32(b, offsetof(struct virtio_iommu_req_detach, domain));
		ret->endpoint = get32(b, offsetof(struct virtio_iommu_req_detach, endpoint));
		return all_zero(b, offsetof(struct virtio_iommu_req_detach, reserved), 8);
	case VIRTIO_IOMMU_T_MAP:
		ret->domain = get32(b, offsetof(struct virtio_iommu_req_map, domain));
		ret->virt_start =
			bytes_get_le(b + offsetof(struct virtio_iommu_req_map, virt_start), 8);
		ret->virt_end =
			bytes_get_le(b + offsetof(struct virtio_iommu_req_map, virt_end), 8);
		ret->phys_start =
			bytes_get_le(b + offsetof(struct virtio_iommu_req_map, phys_start), 8);
		ret->flags = get32(b, offsetof(struct virtio_iommu_req_map, flags));
		/* VIRTIO_IOMMU_F_MMIO is not offered. */
		return !(ret->flags &
			 ~(uint32_t)(VIRTIO_IOMMU_MAP_F_READ | VIRTIO_IOMMU_MAP_F_WRITE));
	case VIRTIO_IOMMU_T_UNMAP:
		ret->domain = get32(b, offsetof(struct virtio_iommu_req_unmap, domain));
		ret->virt_start =
			bytes_get_le(b + offsetof(struct virtio_iommu_req_unmap, virt_start), 8);
		ret->virt_end =
			bytes_get_le(b + offsetof(struct virtio_iommu_req_unmap, virt_end), 8);
		return all_zero(b, offsetof(struct virtio_iommu_req_unmap, reserved), 4);
	case VIRTIO_IOMMU_T_PROBE:
		ret->endpoint = get32(b, offsetof(struct virtio_iommu_req_probe, endpoint));
		return all_zero(b, offsetof(struct virtio_iommu_req_probe, reserved), 64);
	default:
		return false;
	}
}

int virtio_iommu_parse(const uint8_t *bytes, size_t len, uint64_t writable_len,
		       struct virtio_iommu_request *ret, uint8_t *ret_status)
{
	struct virtio_iommu_request req = { .type = len ? bytes[0] : 0 };
	size_t size;

	if (len < sizeof(struct virtio_iommu_req_head) || writable_len < TAIL_SIZE)
		return -EBADMSG;
	size = request_size(req.type);
	*ret_status = VIRTIO_IOMMU_S_OK;
	if (req.type == VIRTIO_IOMMU_T_PROBE && writable_len >= VIRTIO_IOMMU_PROBE_SIZE + TAIL_SIZE)
		req.tail = VIRTIO_IOMMU_PROBE_SIZE;
	else if (req.type == VIRTIO_IOMMU_T_PROBE)
		*ret_status = VIRTIO_IOMMU_S_INVAL; /* too short: 5.13.6.7.2 */
	if (!size)
		*ret_status = VIRTIO_IOMMU_S_UNSUPP;
	else if (len < size || !parse_fields(bytes, &req))
		*ret_status = VIRTIO_IOMMU_S_INVAL;
	*ret = req;
	return 0;
}

static uint8_t status_of(int r)
{
	switch (-r) {
	case 0:
		return VIRTIO_IOMMU_S_OK;
	case ENOENT:
		return VIRTIO_IOMMU_S_NOENT;
	case ERANGE:
		return VIRTIO_IOMMU_S_RANGE;
	case ENOMEM:
		return VIRTIO_IOMMU_S_NOMEM;
	case EINVAL:
		return VIRTIO_IOMMU_S_INVAL;
	default:
		return VIRTIO_IOMMU_S_DEVERR;
	}
}

uint8_t virtio_iommu_execute(struct iova_unit *unit, const struct virtio_iommu_request *req)
{
	switch (req->type) {
	case VIRTIO_IOMMU_T_ATTACH:
		return status_of(iova_attach(unit, req->domain, req->endpoint,
					     req->flags & VIRTIO_IOMMU_ATTACH_F_BYPASS));
	case VIRTIO_IOMMU_T_DETACH:
		return status_of(iova_detach(unit, req->domain, req->endpoint));
	case VIRTIO_IOMMU_T_MAP:
		return status_of(iova_map(unit, req->domain, req->virt_start, req->virt_end,
					  req->phys_start, req->flags));
	case VIRTIO_IOMMU_T_UNMAP:
		return status_of(iova_unmap(unit, req->domain, req->virt_start, req->virt_end));
	case VIRTIO_IOMMU_T_PROBE:
		return iova_has_endpoint(unit, req->endpoint) ? VIRTIO_IOMMU_S_OK
							      : VIRTIO_IOMMU_S_NOENT;
	default:
		return VIRTIO_IOMMU_S_UNSUPP;
	}
}

/* What an endpoint cannot have mapped: the interrupts' addresses. The rest of the list is NONE. */
static void put_properties(uint8_t properties[static VIRTIO_IOMMU_PROBE_SIZE])
{
	memset(properties, 0, VIRTIO_IOMMU_PROBE_SIZE);
	bytes_put_le(properties, 2, VIRTIO_IOMMU_PROBE_T_RESV_MEM);
	bytes_put_le(properties + 2, 2,
		     sizeof(struct virtio_iommu_probe_resv_mem) -
			     sizeof(struct virtio_iommu_probe_property));
	properties[offsetof(struct virtio_iommu_probe_resv_mem, subtype)] =
		VIRTIO_IOMMU_RESV_MEM_T_MSI;
	bytes_put_le(properties + offsetof(struct virtio_iommu_probe_resv_mem, start), 8,
		     IOVA_MSI_START);
	bytes_put_le(properties + offsetof(struct virtio_iommu_probe_resv_mem, end), 8,
		     IOVA_MSI_END);
}

static void count_request(struct virtio_iommu *iommu, uint8_t type, uint8_t status)
{
	if (status != VIRTIO_IOMMU_S_OK)
		count(iommu, COUNTER_REFUSED);
	else if (type == VIRTIO_IOMMU_T_MAP)
		count(iommu, COUNTER_MAPS);
	else if (type == VIRTIO_IOMMU_T_UNMAP)
		count(iommu, COUNTER_UNMAPS);
}

/* One request: 1, 0 none, -EBADMSG. */
static int take_request(struct virtio_queue *q, void *data)
{
	struct virtio_iommu *iommu = data;
	uint8_t bytes[VIRTIO_IOMMU_REQUEST_MAX] = { 0 };
	uint8_t answer[VIRTIO_IOMMU_PROBE_SIZE + sizeof(struct virtio_iommu_req_tail)] = { 0 };
	struct virtio_iommu_request req;
	struct virtq_chain chain;
	uint8_t status = 0;
	size_t len;
	int r;

	r = virtio_queue_pop(q, &chain);
	if (r <= 0)
		return r;
	len = (size_t)MIN(chain.readable_len, sizeof(bytes));
	r = virtq_chain_read(q, &chain, 0, bytes, len);
	if (r >= 0)
		r = virtio_iommu_parse(bytes, len, chain.writable_len, &req, &status);
	if (r < 0)
		return r;
	if (status == VIRTIO_IOMMU_S_OK)
		status = virtio_iommu_execute(iommu->unit, &req);
	if (req.tail && status == VIRTIO_IOMMU_S_OK)
		put_properties(answer);
	answer[req.tail] = status;
	count_request(iommu, req.type, status);
	if (virtq_chain_write(q, &chain, 0, answer, req.tail + TAIL_SIZE) < 0)
		return -EBADMSG;
	virtio_queue_push(q, chain.head, req.tail + TAIL_SIZE);
	return 1;
}

/* --- faults ----------------------------------------------------------------------------- */

/* The thread that translated. */
static void on_fault(const struct iova_fault *fault, void *data)
{
	struct virtio_iommu *iommu = data;
	bool tell = false;

	count(iommu, COUNTER_FAULTS);
	pthread_mutex_lock(&iommu->faults_lock);
	if (iommu->active && iommu->n_faults < FAULTS_MAX) {
		iommu->faults[iommu->n_faults++] = *fault;
		tell = true;
	}
	pthread_mutex_unlock(&iommu->faults_lock);
	/* As if the driver had: the thread of the queue looks at the faults. */
	if (tell)
		eventfd_signal(iommu->dev.queues[QUEUE_EVENT].kick_fd);
}

static bool next_fault(struct virtio_iommu *iommu, struct iova_fault *ret)
{
	bool found;

	pthread_mutex_lock(&iommu->faults_lock);
	found = iommu->n_faults > 0;
	if (found) {
		*ret = iommu->faults[0];
		iommu->n_faults--;
		memmove(&iommu->faults[0], &iommu->faults[1],
			iommu->n_faults * sizeof(iommu->faults[0]));
	}
	pthread_mutex_unlock(&iommu->faults_lock);
	return found;
}

static bool has_fault(struct virtio_iommu *iommu)
{
	bool found;

	pthread_mutex_lock(&iommu->faults_lock);
	found = iommu->n_faults > 0;
	pthread_mutex_unlock(&iommu->faults_lock);
	return found;
}

/* One fault into one buffer: 1, 0 no fault or no buffer, -EBADMSG. */
static int take_event(struct virtio_queue *q, void *data)
{
	struct virtio_iommu *iommu = data;
	uint8_t bytes[sizeof(struct virtio_iommu_fault)] = { 0 };
	struct iova_fault fault = { 0 };
	struct virtq_chain chain;
	int r;

	if (!has_fault(iommu))
		return 0;
	r = virtio_queue_pop(q, &chain);
	if (r <= 0)
		return r;
	if (chain.writable_len < sizeof(bytes))
		return -EBADMSG;
	next_fault(iommu, &fault);
	bytes[0] = fault.mapping ? VIRTIO_IOMMU_FAULT_R_MAPPING : VIRTIO_IOMMU_FAULT_R_DOMAIN;
	bytes_put_le(bytes + offsetof(struct virtio_iommu_fault, flags), 4,
		     (fault.access == IOVA_WRITE ? VIRTIO_IOMMU_FAULT_F_WRITE
						 : VIRTIO_IOMMU_FAULT_F_READ) |
			     VIRTIO_IOMMU_FAULT_F_ADDRESS);
	bytes_put_le(bytes + offsetof(struct virtio_iommu_fault, endpoint), 4, fault.endpoint);
	bytes_put_le(bytes + offsetof(struct virtio_iommu_fault, address), 8, fault.iova);
	if (virtq_chain_write(q, &chain, 0, bytes, sizeof(bytes)) < 0)
		return -EBADMSG;
	virtio_queue_push(q, chain.head, sizeof(bytes));
	return 1;
}

/* Until faults or buffers run out; the driver need not tell of new buffers while none waits. */
static int serve_events(struct virtio_iommu *iommu, struct virtio_queue *q)
{
	int r = 0;

	do {
		virtio_queue_kicks_off(q);
		while ((r = take_event(q, iommu)) > 0)
			;
	} while (r == 0 && has_fault(iommu) && virtio_queue_kicks_on(q));
	virtio_queue_notify(q);
	return r;
}

/* --- the device -------------------------------------------------------------------------- */

static void iommu_kick(struct virtio_device *dev, struct virtio_queue *q)
{
	struct virtio_iommu *iommu = virtio_iommu(dev);
	int r = q->index == QUEUE_REQUEST ? virtio_queue_serve(q, take_request, iommu)
					  : serve_events(iommu, q);

	if (r < 0)
		virtio_device_broken(dev, "malformed %s",
				     q->index == QUEUE_REQUEST ? "request" : "event buffer");
}

static void set_active(struct virtio_iommu *iommu, bool active)
{
	pthread_mutex_lock(&iommu->faults_lock);
	iommu->active = active;
	iommu->n_faults = 0;
	pthread_mutex_unlock(&iommu->faults_lock);
}

static int iommu_activate(struct virtio_device *dev, struct err *err _unused_)
{
	set_active(virtio_iommu(dev), dev->queues[QUEUE_EVENT].st.enabled);
	return 0;
}

static void iommu_reset(struct virtio_device *dev)
{
	struct virtio_iommu *iommu = virtio_iommu(dev);

	set_active(iommu, false);
	iova_detach_all(iommu->unit);
}

/* vCPU, dev->lock held */
static void set_bypass(struct virtio_iommu *iommu, uint8_t bypass)
{
	iommu->st.bypass = bypass;
	iommu->dev.config[CONFIG_BYPASS] = bypass;
	iova_set_bypass(iommu->unit, bypass);
}

/* 5.13.4.2: the one field that the driver writes, 0 or 1, after it has taken the feature. */
static void iommu_config_write(struct virtio_device *dev, uint32_t off, const void *buf,
			       uint32_t len)
{
	uint8_t value = *(const uint8_t *)buf;

	if (off == CONFIG_BYPASS && len == 1 && value <= 1 &&
	    virtio_has_feature(dev, VIRTIO_IOMMU_F_BYPASS_CONFIG))
		set_bypass(virtio_iommu(dev), value);
}

void virtio_iommu_power_on(struct virtio_device *dev)
{
	iova_detach_all(virtio_iommu(dev)->unit);
	pthread_mutex_lock(&dev->lock);
	set_bypass(virtio_iommu(dev), 1);
	pthread_mutex_unlock(&dev->lock);
}

static void *iommu_state_ptr(struct virtio_device *dev)
{
	return &virtio_iommu(dev)->st;
}

static int iommu_save_tables(struct virtio_device *dev, struct state_table *ret, struct err *err)
{
	return iova_save(virtio_iommu(dev)->unit, ret, err);
}

static int iommu_load_tables(struct virtio_device *dev, const struct state_table *tables,
			     struct err *err)
{
	struct virtio_iommu *iommu = virtio_iommu(dev);
	int r = iova_load(iommu->unit, tables, err);

	if (r < 0)
		return err_prefix(err, r, "%s '%s'", dev->ops->name, dev->id);
	pthread_mutex_lock(&dev->lock);
	set_bypass(iommu, iommu->st.bypass);
	pthread_mutex_unlock(&dev->lock);
	return 0;
}

static const struct virtio_counter *iommu_counters(struct virtio_device *dev)
{
	return virtio_iommu(dev)->counters;
}

static void iommu_free(struct virtio_device *dev)
{
	struct virtio_iommu *iommu = virtio_iommu(dev);

	iova_on_fault(iommu->unit, NULL, NULL);
	virtio_device_deinit(dev);
	pthread_mutex_destroy(&iommu->faults_lock);
	free(iommu);
}

static const struct virtio_device_ops iommu_ops = {
	.name = "iommu",
	.device_id = VIRTIO_ID_IOMMU,
	.pci_class = 0x08, /* system peripheral: IOMMU */
	.pci_subclass = 0x06,
	.threads = VIRTIO_THREADS_SHARED,
	.state = &iommu_state_desc,
	.activate = iommu_activate,
	.kick = iommu_kick,
	.config_write = iommu_config_write,
	.reset = iommu_reset,
	.state_ptr = iommu_state_ptr,
	.n_tables = IOVA_TABLES_N_,
	.save_tables = iommu_save_tables,
	.load_tables = iommu_load_tables,
	.counters = iommu_counters,
	.free = iommu_free,
};

static void fill_config(struct virtio_iommu *iommu)
{
	uint8_t *config = iommu->dev.config;

	iommu->dev.config_size = sizeof(struct virtio_iommu_config);
	/* Any page of 4 KiB and more. */
	bytes_put_le(config + offsetof(struct virtio_iommu_config, page_size_mask), 8,
		     ~(IOVA_PAGE_SIZE - 1));
	bytes_put_le(config + offsetof(struct virtio_iommu_config, input_range.end), 8,
		     iova_last(iommu->unit));
	bytes_put_le(config + offsetof(struct virtio_iommu_config, domain_range.end), 4,
		     UINT32_MAX);
	bytes_put_le(config + offsetof(struct virtio_iommu_config, probe_size), 4,
		     VIRTIO_IOMMU_PROBE_SIZE);
}

int virtio_iommu_new(const struct virtio_iommu_params *params, struct virtio_device **ret,
		     struct err *err)
{
	static const char *const names[COUNTER_N_] = { "maps", "unmaps", "refused", "faults" };
	static const uint16_t sizes[] = { QUEUE_SIZE, QUEUE_SIZE };
	struct virtio_iommu *iommu = calloc(1, sizeof(*iommu));
	int r;

	if (!iommu)
		return err_errno(err, ENOMEM, "iommu '%s'", params->id);
	iommu->unit = params->unit;
	iommu->dev.features_offered =
		VIRTIO_FEATURE(VIRTIO_F_VERSION_1) | VIRTIO_FEATURE(VIRTIO_RING_F_EVENT_IDX) |
		VIRTIO_FEATURE(VIRTIO_RING_F_INDIRECT_DESC) |
		VIRTIO_FEATURE(VIRTIO_IOMMU_F_MAP_UNMAP) | VIRTIO_FEATURE(VIRTIO_IOMMU_F_PROBE) |
		VIRTIO_FEATURE(VIRTIO_IOMMU_F_BYPASS_CONFIG);
	if (iova_last(params->unit) != UINT64_MAX)
		iommu->dev.features_offered |= VIRTIO_FEATURE(VIRTIO_IOMMU_F_INPUT_RANGE);
	fill_config(iommu);
	r = virtio_device_init(&iommu->dev, &iommu_ops, params->id, sizes, ARRAY_SIZE(sizes), err);
	if (r < 0) {
		free(iommu);
		return r;
	}
	pthread_mutex_init(&iommu->faults_lock, NULL);
	for (unsigned int i = 0; i < COUNTER_N_; i++)
		iommu->counters[i] = (struct virtio_counter){ names[i], &iommu->values[i] };
	virtio_iommu_power_on(&iommu->dev);
	iova_on_fault(params->unit, on_fault, iommu);
	*ret = &iommu->dev;
	return 0;
}
