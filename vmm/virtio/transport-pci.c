/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/virtio/transport-pci.h"

#include <assert.h>
#include <errno.h>
#include <linux/pci_regs.h>
#include <linux/virtio_pci.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/err.h"
#include "vmm/base/fd.h"
#include "vmm/base/log.h"
#include "vmm/base/mailbox.h"
#include "vmm/base/math.h"
#include "vmm/hypervisor/hypervisor.h"
#include "vmm/virtio/husk.h"

#define PCI_VENDOR_VIRTIO 0x1af4 /* virtio 1.3, 4.1.2 */
#define PCI_DEVICE_MODERN 0x1040
#define ISR_QUEUE         0x1
#define ISR_CONFIG        0x2

/* struct virtio_pci_common_cfg plus queue_notify_data and queue_reset of 1.2 */
#define COMMON_SIZE 0x40U

static const struct state_field virtio_pci_fields[] = {
	STATE_U32(struct virtio_pci_state, device_feature_select),
	STATE_U32(struct virtio_pci_state, driver_feature_select),
	STATE_U64(struct virtio_pci_state, driver_features),
	STATE_U16(struct virtio_pci_state, queue_select),
	STATE_U16(struct virtio_pci_state, config_vector),
	STATE_U8(struct virtio_pci_state, status),
	STATE_BYTES(struct virtio_pci_state, pad),
};
const struct state_desc virtio_pci_state_desc = {
	"virtio-pci",
	.version = 1,
	STATE_LAYOUT(struct virtio_pci_state, virtio_pci_fields),
};

/* --- interrupts: I/O threads --- */

static void queue_interrupt(void *transport, struct virtio_queue *q)
{
	struct virtio_pci *vp = transport;

	atomic_fetch_or_explicit(&vp->isr, ISR_QUEUE, memory_order_release);
	/* Relaxed: drivers set the vector before they enable the queue. */
	msix_raise(&vp->msix, __atomic_load_n(&q->st.vector, __ATOMIC_RELAXED));
}

static void config_interrupt(void *transport)
{
	struct virtio_pci *vp = transport;

	atomic_fetch_or_explicit(&vp->isr, ISR_CONFIG, memory_order_release);
	msix_raise(&vp->msix, __atomic_load_n(&vp->st.config_vector, __ATOMIC_RELAXED));
}

static int queue_call_fd(void *transport, struct virtio_queue *q)
{
	struct virtio_pci *vp = transport;
	uint16_t vector = __atomic_load_n(&q->st.vector, __ATOMIC_RELAXED);

	/* Masked or not: what comes while it is masked waits in the eventfd (bus/irq.h). */
	return vector < vp->msix.n ? vp->msix.vectors[vector].fd : -EBADF;
}

static const struct virtio_transport_ops transport_ops = {
	.queue_interrupt = queue_interrupt,
	.config_interrupt = config_interrupt,
	.queue_call_fd = queue_call_fd,
};

/* --- activation and reset: control thread --- */

static int activate_call(void *data)
{
	struct virtio_pci *vp = data;
	struct err err = { 0 };
	bool wanted;
	int r;

	/* Another vCPU's reset may have come first, with the device as yet not set up again. */
	pthread_mutex_lock(&vp->dev->lock);
	wanted = vp->st.status & VIRTIO_STATUS_DRIVER_OK;
	pthread_mutex_unlock(&vp->dev->lock);
	if (vp->dev->active || !wanted)
		return 0;
	r = virtio_device_activate(vp->dev, &err);
	if (r < 0) {
		log_guest("cannot activate %s", err.msg);
		config_interrupt(vp); /* 2.1: NEEDS_RESET is announced */
	} else {
		log_debug("%s '%s' activated", vp->dev->ops->name, vp->dev->id);
	}
	if (vp->activated)
		vp->activated(vp, r == 0, vp->activated_data);
	return r;
}

static int reset_call(void *data)
{
	struct virtio_pci *vp = data;
	bool was_active = vp->dev->active;

	virtio_device_reset(vp->dev);
	pthread_mutex_lock(&vp->dev->lock);
	vp->st = (struct virtio_pci_state){ .config_vector = VIRTIO_NO_VECTOR };
	pthread_mutex_unlock(&vp->dev->lock);
	atomic_store_explicit(&vp->isr, 0, memory_order_release);
	if (was_active && vp->activated)
		vp->activated(vp, false, vp->activated_data);
	return 0;
}

static int vector_call(void *data)
{
	struct virtio_pci *vp = data;
	struct virtio_device *dev = vp->dev;

	/* Which queue it was is not kept: several vCPUs may have written several vectors. */
	for (uint16_t i = 0; dev->active && i < dev->n_queues; i++)
		if (dev->queues[i].external)
			dev->ops->vector_changed(dev, &dev->queues[i]);
	return 0;
}

/* --- common configuration: vCPU threads, dev->lock held --- */

static struct virtio_queue *selected(struct virtio_pci *vp)
{
	return vp->st.queue_select < vp->dev->n_queues ? &vp->dev->queues[vp->st.queue_select]
						       : NULL;
}

static uint8_t status_get(const struct virtio_pci *vp)
{
	uint8_t needs_reset = virtio_device_is_broken(vp->dev) ? VIRTIO_STATUS_NEEDS_RESET : 0;

	return vp->st.status | needs_reset;
}

static void common_pack(struct virtio_pci *vp, uint8_t out[static COMMON_SIZE])
{
	const struct virtio_queue *q = selected(vp);
	const struct virtio_queue_state none = { .vector = VIRTIO_NO_VECTOR };
	const struct virtio_queue_state *qs = q ? &q->st : &none;
	uint32_t dfs = vp->st.device_feature_select, gfs = vp->st.driver_feature_select;
	uint64_t offered = dfs < 2 ? vp->dev->features_offered >> (32 * dfs) : 0;
	uint64_t accepted = gfs < 2 ? vp->st.driver_features >> (32 * gfs) : 0;

	memset(out, 0, COMMON_SIZE);
	bytes_put_le(out + VIRTIO_PCI_COMMON_DFSELECT, 4, dfs);
	bytes_put_le(out + VIRTIO_PCI_COMMON_DF, 4, offered & UINT32_MAX);
	bytes_put_le(out + VIRTIO_PCI_COMMON_GFSELECT, 4, gfs);
	bytes_put_le(out + VIRTIO_PCI_COMMON_GF, 4, accepted & UINT32_MAX);
	bytes_put_le(out + VIRTIO_PCI_COMMON_MSIX, 2, vp->st.config_vector);
	bytes_put_le(out + VIRTIO_PCI_COMMON_NUMQ, 2, vp->dev->n_queues);
	out[VIRTIO_PCI_COMMON_STATUS] = status_get(vp);
	out[VIRTIO_PCI_COMMON_CFGGENERATION] = vp->dev->config_generation;
	bytes_put_le(out + VIRTIO_PCI_COMMON_Q_SELECT, 2, vp->st.queue_select);
	bytes_put_le(out + VIRTIO_PCI_COMMON_Q_SIZE, 2, qs->size); /* 0: no such queue */
	bytes_put_le(out + VIRTIO_PCI_COMMON_Q_MSIX, 2, qs->vector);
	bytes_put_le(out + VIRTIO_PCI_COMMON_Q_ENABLE, 2, qs->enabled);
	bytes_put_le(out + VIRTIO_PCI_COMMON_Q_NOFF, 2, vp->st.queue_select);
	bytes_put_le(out + VIRTIO_PCI_COMMON_Q_DESCLO, 8, qs->desc_gpa);
	bytes_put_le(out + VIRTIO_PCI_COMMON_Q_AVAILLO, 8, qs->avail_gpa);
	bytes_put_le(out + VIRTIO_PCI_COMMON_Q_USEDLO, 8, qs->used_gpa);
}

static uint16_t valid_vector(const struct virtio_pci *vp, uint64_t value)
{
	return value < vp->msix.n ? (uint16_t)value : VIRTIO_NO_VECTOR; /* 4.1.5.1.2.1 */
}

static void put_half(uint64_t *reg, bool high, uint64_t value)
{
	unsigned int shift = high ? 32 : 0;

	*reg = (*reg & ~(0xffffffffULL << shift)) | (value & 0xffffffffULL) << shift;
}

enum register_change {
	CHANGE_QUIET,
	CHANGE_ACTIVATE,
	CHANGE_RESET,
	CHANGE_VECTOR,
};

/* Registers of the selected queue. Locked once it is enabled: 4.1.4.3.2. */
static enum register_change queue_write(struct virtio_pci *vp, uint32_t off, uint64_t value)
{
	struct virtio_queue *q = selected(vp);
	bool running = vp->st.status & VIRTIO_STATUS_DRIVER_OK;

	if (!q)
		return CHANGE_QUIET;
	if (off == VIRTIO_PCI_COMMON_Q_MSIX) {
		__atomic_store_n(&q->st.vector, valid_vector(vp, value), __ATOMIC_RELAXED);
		return running && vp->dev->ops->vector_changed ? CHANGE_VECTOR : CHANGE_QUIET;
	}
	if (running || q->st.enabled)
		return CHANGE_QUIET;
	switch (off) {
	case VIRTIO_PCI_COMMON_Q_SIZE:
		if (value <= q->size_max && is_pow2(value))
			q->st.size = (uint16_t)value;
		break;
	case VIRTIO_PCI_COMMON_Q_ENABLE:
		if (value == 1)
			q->st.enabled = true;
		break;
	case VIRTIO_PCI_COMMON_Q_DESCLO:
	case VIRTIO_PCI_COMMON_Q_DESCHI:
		put_half(&q->st.desc_gpa, off == VIRTIO_PCI_COMMON_Q_DESCHI, value);
		break;
	case VIRTIO_PCI_COMMON_Q_AVAILLO:
	case VIRTIO_PCI_COMMON_Q_AVAILHI:
		put_half(&q->st.avail_gpa, off == VIRTIO_PCI_COMMON_Q_AVAILHI, value);
		break;
	case VIRTIO_PCI_COMMON_Q_USEDLO:
	case VIRTIO_PCI_COMMON_Q_USEDHI:
		put_half(&q->st.used_gpa, off == VIRTIO_PCI_COMMON_Q_USEDHI, value);
		break;
	default:
		break;
	}
	return CHANGE_QUIET;
}

static enum register_change status_write(struct virtio_pci *vp, uint8_t value)
{
	uint8_t old = vp->st.status;

	if (value == 0)
		return CHANGE_RESET;
	if ((value & old) != old) /* 2.1.1: a driver must not clear a bit */
		return CHANGE_QUIET;
	if ((value & VIRTIO_STATUS_FEATURES_OK) && !(old & VIRTIO_STATUS_FEATURES_OK)) {
		uint64_t accepted = vp->st.driver_features;

		/*
		 * 2.2.2: refused by leaving the bit clear.  6: who does not know that there is
		 * an IOMMU gets no way around it.
		 */
		if ((accepted & ~vp->dev->features_offered) ||
		    !(accepted & VIRTIO_FEATURE(VIRTIO_F_VERSION_1)) ||
		    (vp->dev->iova && !(accepted & VIRTIO_FEATURE(VIRTIO_F_ACCESS_PLATFORM))))
			value &= (uint8_t)~VIRTIO_STATUS_FEATURES_OK;
		else
			vp->dev->features = accepted;
	}
	if ((value & VIRTIO_STATUS_DRIVER_OK) && !(value & VIRTIO_STATUS_FEATURES_OK))
		value &= (uint8_t)~VIRTIO_STATUS_DRIVER_OK;
	vp->st.status = value & (uint8_t)~VIRTIO_STATUS_NEEDS_RESET;
	if ((value & VIRTIO_STATUS_DRIVER_OK) && !(old & VIRTIO_STATUS_DRIVER_OK))
		return CHANGE_ACTIVATE;
	return CHANGE_QUIET;
}

static enum register_change common_write(struct virtio_pci *vp, uint32_t off, uint64_t value)
{
	struct virtio_pci_state *st = &vp->st;

	switch (off) {
	case VIRTIO_PCI_COMMON_DFSELECT:
		st->device_feature_select = (uint32_t)value;
		break;
	case VIRTIO_PCI_COMMON_GFSELECT:
		st->driver_feature_select = (uint32_t)value;
		break;
	case VIRTIO_PCI_COMMON_GF:
		if (st->driver_feature_select < 2 && !(st->status & VIRTIO_STATUS_FEATURES_OK))
			put_half(&st->driver_features, st->driver_feature_select == 1, value);
		break;
	case VIRTIO_PCI_COMMON_MSIX:
		__atomic_store_n(&st->config_vector, valid_vector(vp, value), __ATOMIC_RELAXED);
		break;
	case VIRTIO_PCI_COMMON_STATUS:
		return status_write(vp, (uint8_t)value);
	case VIRTIO_PCI_COMMON_Q_SELECT:
		st->queue_select = (uint16_t)value;
		break;
	default:
		return queue_write(vp, off, value);
	}
	return CHANGE_QUIET;
}

/* Width of the field that starts at off; 0: read-only or no field. */
static uint32_t common_field_size(uint32_t off)
{
	switch (off) {
	case VIRTIO_PCI_COMMON_STATUS:
		return 1;
	case VIRTIO_PCI_COMMON_MSIX:
	case VIRTIO_PCI_COMMON_Q_SELECT:
	case VIRTIO_PCI_COMMON_Q_SIZE:
	case VIRTIO_PCI_COMMON_Q_MSIX:
	case VIRTIO_PCI_COMMON_Q_ENABLE:
		return 2;
	case VIRTIO_PCI_COMMON_DFSELECT:
	case VIRTIO_PCI_COMMON_GFSELECT:
	case VIRTIO_PCI_COMMON_GF:
	case VIRTIO_PCI_COMMON_Q_DESCLO:
	case VIRTIO_PCI_COMMON_Q_DESCHI:
	case VIRTIO_PCI_COMMON_Q_AVAILLO:
	case VIRTIO_PCI_COMMON_Q_AVAILHI:
	case VIRTIO_PCI_COMMON_Q_USEDLO:
	case VIRTIO_PCI_COMMON_Q_USEDHI:
		return 4;
	default:
		return 0;
	}
}

/* --- the registers of BAR 0: vCPU threads, no lock held --- */

static void common_access_write(struct virtio_pci *vp, uint32_t off, const uint8_t *data,
				uint32_t len)
{
	enum register_change change = CHANGE_QUIET;

	pthread_mutex_lock(&vp->dev->lock);
	/* 4.1.3.1: natural widths; 64-bit fields may be written as one or two halves. */
	if (len == 8 && common_field_size(off) == 4 && common_field_size(off + 4) == 4) {
		common_write(vp, off, bytes_get_le(data, 4));
		common_write(vp, off + 4, bytes_get_le(data + 4, 4));
	} else if (len == common_field_size(off)) {
		change = common_write(vp, off, bytes_get_le(data, len));
	}
	pthread_mutex_unlock(&vp->dev->lock);

	if (change == CHANGE_ACTIVATE)
		mailbox_call(vp->mailbox, activate_call, vp);
	else if (change == CHANGE_RESET)
		mailbox_call(vp->mailbox, reset_call, vp);
	else if (change == CHANGE_VECTOR)
		mailbox_call(vp->mailbox, vector_call, vp);
}

static void registers_read(struct virtio_pci *vp, uint32_t off, void *data, uint32_t len)
{
	struct virtio_device *dev = vp->dev;
	uint8_t common[COMMON_SIZE];

	memset(data, 0, len);
	if (range_fits(off, len, COMMON_SIZE)) {
		pthread_mutex_lock(&dev->lock);
		common_pack(vp, common);
		pthread_mutex_unlock(&dev->lock);
		memcpy(data, common + off, len);
	} else if (off == VIRTIO_PCI_ISR_STATUS) {
		*(uint8_t *)data = atomic_exchange_explicit(&vp->isr, 0, memory_order_acq_rel);
	} else if (off >= VIRTIO_PCI_DEVICE &&
		   range_fits(off - VIRTIO_PCI_DEVICE, len, dev->config_size)) {
		pthread_mutex_lock(&dev->lock);
		memcpy(data, dev->config + (off - VIRTIO_PCI_DEVICE), len);
		pthread_mutex_unlock(&dev->lock);
	} else if (off >= VIRTIO_PCI_PBA) {
		pthread_mutex_lock(&vp->pci.lock);
		msix_pba_read(&vp->msix, off - VIRTIO_PCI_PBA, data, len);
		pthread_mutex_unlock(&vp->pci.lock);
	} else if (off >= VIRTIO_PCI_MSIX) {
		pthread_mutex_lock(&vp->pci.lock);
		msix_table_read(&vp->msix, off - VIRTIO_PCI_MSIX, data, len);
		pthread_mutex_unlock(&vp->pci.lock);
	}
}

static void registers_write(struct virtio_pci *vp, uint32_t off, const void *data, uint32_t len)
{
	struct virtio_device *dev = vp->dev;
	uint32_t q;

	if (range_fits(off, len, COMMON_SIZE)) {
		common_access_write(vp, off, data, len);
	} else if (off >= VIRTIO_PCI_DEVICE &&
		   range_fits(off - VIRTIO_PCI_DEVICE, len, dev->config_size)) {
		pthread_mutex_lock(&dev->lock);
		if (dev->ops->config_write)
			dev->ops->config_write(dev, off - VIRTIO_PCI_DEVICE, data, len);
		pthread_mutex_unlock(&dev->lock);
	} else if (off >= VIRTIO_PCI_MSIX && off < VIRTIO_PCI_PBA) {
		pthread_mutex_lock(&vp->pci.lock);
		msix_table_write(&vp->msix, off - VIRTIO_PCI_MSIX, data, len);
		pthread_mutex_unlock(&vp->pci.lock);
	} else if (off >= VIRTIO_PCI_NOTIFY && off < VIRTIO_PCI_MSIX) {
		/* Reached without an ioeventfd, and through the PCI_CFG window. */
		q = (off - VIRTIO_PCI_NOTIFY) / VIRTIO_PCI_NOTIFY_MULTIPLIER;
		if (q < dev->n_queues)
			eventfd_signal(dev->queues[q].kick_fd);
	}
}

static void bar_read(struct bus_device *region, uint64_t off, void *data, uint32_t len)
{
	struct virtio_pci *vp = container_of(region, struct virtio_pci, region);

	if (pci_is_decoding(&vp->pci))
		registers_read(vp, (uint32_t)off, data, len);
	else
		memset(data, 0xff, len);
}

static void bar_write(struct bus_device *region, uint64_t off, const void *data, uint32_t len)
{
	struct virtio_pci *vp = container_of(region, struct virtio_pci, region);

	if (pci_is_decoding(&vp->pci))
		registers_write(vp, (uint32_t)off, data, len);
}

static const struct bus_ops bar_ops = { "virtio-pci", bar_read, bar_write };

/* --- configuration space --- */

static void config_written(struct pci_device *pci, uint32_t off, uint32_t len)
{
	msix_config_written(&container_of(pci, struct virtio_pci, pci)->msix, off, len);
}

/*
 * 4.1.4.9: the window into BAR 0 for firmware that cannot reach it; true when len bytes are legal.
 */
static bool cfg_window(struct virtio_pci *vp, uint32_t off, uint32_t len, uint32_t *ret_off)
{
	uint32_t at = vp->cfg_cap + (uint32_t)sizeof(struct virtio_pci_cap);
	uint32_t width;

	if (off != at)
		return false;
	pthread_mutex_lock(&vp->pci.lock);
	*ret_off =
		pci_config_get(&vp->pci, vp->cfg_cap + offsetof(struct virtio_pci_cap, offset), 4);
	width = pci_config_get(&vp->pci, vp->cfg_cap + offsetof(struct virtio_pci_cap, length), 4);
	pthread_mutex_unlock(&vp->pci.lock);
	return (width == 1 || width == 2 || width == 4) && len == width && *ret_off % width == 0 &&
	       range_fits(*ret_off, width, VIRTIO_PCI_BAR_SIZE);
}

static bool config_read_special(struct pci_device *pci, uint32_t off, void *data, uint32_t len)
{
	struct virtio_pci *vp = container_of(pci, struct virtio_pci, pci);
	uint32_t at = 0;

	if (!cfg_window(vp, off, len, &at))
		return false;
	registers_read(vp, at, data, len);
	return true;
}

static bool config_write_special(struct pci_device *pci, uint32_t off, const void *data,
				 uint32_t len)
{
	struct virtio_pci *vp = container_of(pci, struct virtio_pci, pci);
	uint32_t at = 0;

	if (!cfg_window(vp, off, len, &at))
		return false;
	registers_write(vp, at, data, len);
	return true;
}

/* --- doorbells: control thread --- */

static int doorbell(struct virtio_pci *vp, uint16_t q, bool attach)
{
	/* Any width: drivers write the queue's index as 16 bits, and KVM's fast path wants none. */
	struct hv_ioeventfd io = {
		.addr = vp->pci.bars[0].addr + VIRTIO_PCI_NOTIFY +
			(uint64_t)q * VIRTIO_PCI_NOTIFY_MULTIPLIER,
	};

	return vp->hv->ops->ioeventfd_set(vp->hv, &io, vp->dev->queues[q].kick_fd, attach);
}

static void attach_doorbells(struct virtio_pci *vp, bool attach)
{
	for (uint16_t q = 0; q < vp->dev->n_queues; q++) {
		int r = doorbell(vp, q, attach);

		/* Without it the write reaches bar_write(): slower, and still right. */
		if (r < 0 && attach)
			log_warning("device '%s': queue %u has no ioeventfd: %s", vp->pci.id, q,
				    strerror(-r));
	}
}

static void bar_mapped(struct pci_device *pci, unsigned int bar _unused_)
{
	attach_doorbells(container_of(pci, struct virtio_pci, pci), true);
}

static void bar_unmapping(struct pci_device *pci, unsigned int bar _unused_)
{
	attach_doorbells(container_of(pci, struct virtio_pci, pci), false);
}

static void function_reset(struct pci_device *pci)
{
	struct virtio_pci *vp = container_of(pci, struct virtio_pci, pci);

	reset_call(vp);
	pthread_mutex_lock(&pci->lock);
	msix_reset(&vp->msix);
	pthread_mutex_unlock(&pci->lock);
}

static const struct pci_device_ops pci_ops = {
	.config_written = config_written,
	.config_read_special = config_read_special,
	.config_write_special = config_write_special,
	.bar_unmapping = bar_unmapping,
	.bar_mapped = bar_mapped,
	.reset = function_reset,
};

/* --- construction --- */

static uint8_t add_capability(struct virtio_pci *vp, uint8_t type, uint32_t off, uint32_t len)
{
	/* the notify multiplier, or the PCI_CFG data window, follows the common part */
	uint8_t body[sizeof(struct virtio_pci_cap) + 4] = { 0 };
	bool long_form = type == VIRTIO_PCI_CAP_NOTIFY_CFG || type == VIRTIO_PCI_CAP_PCI_CFG;
	uint8_t size = long_form ? sizeof(body) : sizeof(struct virtio_pci_cap);

	body[offsetof(struct virtio_pci_cap, cap_len)] = size;
	body[offsetof(struct virtio_pci_cap, cfg_type)] = type;
	bytes_put_le(body + offsetof(struct virtio_pci_cap, offset), 4, off);
	bytes_put_le(body + offsetof(struct virtio_pci_cap, length), 4, len);
	if (type == VIRTIO_PCI_CAP_NOTIFY_CFG)
		bytes_put_le(body + sizeof(struct virtio_pci_cap), 4, VIRTIO_PCI_NOTIFY_MULTIPLIER);
	return pci_add_capability(&vp->pci, PCI_CAP_ID_VNDR, body, size);
}

static void add_capabilities(struct virtio_pci *vp)
{
	add_capability(vp, VIRTIO_PCI_CAP_COMMON_CFG, VIRTIO_PCI_COMMON, COMMON_SIZE);
	add_capability(vp, VIRTIO_PCI_CAP_ISR_CFG, VIRTIO_PCI_ISR_STATUS, 1);
	if (vp->dev->config_size)
		add_capability(vp, VIRTIO_PCI_CAP_DEVICE_CFG, VIRTIO_PCI_DEVICE,
			       vp->dev->config_size);
	add_capability(vp, VIRTIO_PCI_CAP_NOTIFY_CFG, VIRTIO_PCI_NOTIFY,
		       vp->dev->n_queues * VIRTIO_PCI_NOTIFY_MULTIPLIER);
	vp->cfg_cap = add_capability(vp, VIRTIO_PCI_CAP_PCI_CFG, 0, 0);
	pci_set_writable(&vp->pci, vp->cfg_cap + offsetof(struct virtio_pci_cap, offset),
			 UINT64_MAX, 8); /* offset and length */
}

int virtio_pci_new(struct virtio_device *dev, struct hv_vm *hv, struct irq_table *irqs,
		   struct mailbox *mailbox, struct virtio_pci **ret, struct err *err)
{
	const struct pci_header header = {
		.vendor = PCI_VENDOR_VIRTIO,
		.device = (uint16_t)(PCI_DEVICE_MODERN + dev->ops->device_id),
		.subsystem_vendor = PCI_VENDOR_VIRTIO,
		.subsystem = (uint16_t)(PCI_DEVICE_MODERN + dev->ops->device_id),
		.class = dev->ops->pci_class,
		.subclass = dev->ops->pci_subclass,
		.revision = 1, /* 4.1.2.1: non-transitional */
	};
	struct virtio_pci *vp = calloc(1, sizeof(*vp));
	int r;

	if (!vp) {
		dev->ops->free(dev);
		return err_set(err, ENOMEM, "device '%s': out of memory", dev->id);
	}
	vp->dev = dev;
	vp->hv = hv;
	vp->mailbox = mailbox;
	vp->st.config_vector = VIRTIO_NO_VECTOR;
	vp->region.ops = &bar_ops;
	dev->transport = &transport_ops;
	dev->transport_data = vp;

	pci_device_init(&vp->pci, &pci_ops, dev->id, &header);
	pci_add_bar(&vp->pci, 0, VIRTIO_PCI_BAR_SIZE, VIRTIO_PCI_BAR_ALIGN, true, &vp->region);
	add_capabilities(vp);
	/* one a queue, and one for configuration changes */
	r = msix_init(&vp->msix, &vp->pci, irqs, (uint16_t)(dev->n_queues + 1), 0, VIRTIO_PCI_MSIX,
		      VIRTIO_PCI_PBA, err);
	if (r < 0) {
		err_prefix(err, r, "device '%s'", dev->id);
		virtio_pci_free(vp);
		return r;
	}
	*ret = vp;
	return 0;
}

int virtio_pci_make_husk(struct virtio_pci *vp, struct err *err)
{
	struct virtio_device *old = vp->dev, *husk = NULL;
	bool active = old->active, broken = virtio_device_is_broken(old);
	int r;

	assert_on_control();
	r = virtio_husk_new(old, &husk, err);
	if (r < 0)
		return r;
	attach_doorbells(vp, false);
	virtio_device_stop(old);
	virtio_husk_take_queues(husk, old);
	husk->transport = &transport_ops;
	husk->transport_data = vp;
	vp->activated = NULL;
	vp->dev = husk;
	attach_doorbells(vp, true);
	old->ops->free(old);
	/* Its driver knows that it is to reset it: so it stays. */
	if (broken)
		virtio_device_broken(husk, "it was taken away");
	else if (active)
		activate_call(vp);
	return 0;
}

void virtio_pci_free(struct virtio_pci *vp)
{
	if (!vp)
		return;
	virtio_device_reset(vp->dev);
	msix_deinit(&vp->msix);
	vp->dev->ops->free(vp->dev);
	pci_device_deinit(&vp->pci);
	free(vp);
}
