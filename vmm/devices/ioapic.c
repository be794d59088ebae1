/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/devices/ioapic.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "vmm/base/bytes.h"
#include "vmm/base/err.h"
#include "vmm/base/log.h"

#define IOREGSEL 0x00
#define IOWIN    0x10

#define REG_ID          0x00
#define REG_VERSION     0x01
#define REG_ARBITRATION 0x02
#define REG_REDIRECTION 0x10 /* two a pin: low, high */

/* Redirection entry, low half (data sheet, 3.2.4). */
#define RTE_VECTOR     0x000ffULL
#define RTE_DELIVERY   0x00700ULL /* 8-10 */
#define RTE_LOGICAL    0x00800ULL
#define RTE_PENDING    0x01000ULL /* delivery status: we never delay */
#define RTE_POLARITY   0x02000ULL
#define RTE_REMOTE_IRR 0x04000ULL
#define RTE_LEVEL      0x08000ULL
#define RTE_MASKED     0x10000ULL
#define RTE_LOW_WRITABLE                                                                           \
	(RTE_VECTOR | RTE_DELIVERY | RTE_LOGICAL | RTE_POLARITY | RTE_LEVEL | RTE_MASKED)
/* High half: destination, and bits 49-55 as its extension (KVM_FEATURE_MSI_EXT_DEST_ID). */
#define RTE_DEST_SHIFT     56
#define RTE_EXT_DEST_SHIFT 49
#define RTE_EXT_DEST_MASK  0x7fULL
#define RTE_HIGH_WRITABLE  0xffff0000ULL
#define RTE_KNOWN          (RTE_HIGH_WRITABLE << 32 | RTE_LOW_WRITABLE | RTE_REMOTE_IRR)

#define DELIVERY_LOWEST 0x100ULL

/* SDM 3A, 11.11: the message that stands for an interrupt. */
#define MSI_ADDR            0xfee00000ULL
#define MSI_ADDR_LOGICAL    0x4ULL
#define MSI_ADDR_REDIRECT   0x8ULL
#define MSI_ADDR_EXT_SHIFT  5
#define MSI_ADDR_DEST_SHIFT 12
#define MSI_DATA_ASSERT     0x4000U
#define MSI_DATA_LEVEL      0x8000U

static int ioapic_validate(const void *state, struct err *err)
{
	const struct ioapic_state *st = state;

	for (unsigned int i = 0; i < IOAPIC_PINS; i++) {
		uint64_t rte = st->redirection[i];

		if (rte & ~RTE_KNOWN)
			return err_set(err, EBADMSG, "ioapic: entry %u has reserved bits: 0x%llx",
				       i, (unsigned long long)rte);
		if ((rte & RTE_REMOTE_IRR) && !(rte & RTE_LEVEL))
			return err_set(err, EBADMSG,
				       "ioapic: edge pin %u waits for the end of an interrupt", i);
	}
	if (st->levels >> IOAPIC_PINS)
		return err_set(err, EBADMSG, "ioapic: levels 0x%x name pins that do not exist",
			       st->levels);
	if (st->id > 0xf)
		return err_set(err, EBADMSG, "ioapic: id %u is above 15", st->id);
	return 0;
}

static const struct state_field ioapic_fields[] = {
	STATE_ARRAY_U64(struct ioapic_state, redirection),
	STATE_U32(struct ioapic_state, levels),
	STATE_U8(struct ioapic_state, index),
	STATE_U8(struct ioapic_state, id),
	STATE_U16(struct ioapic_state, pad),
};

const struct state_desc ioapic_state_desc = {
	"ioapic",
	.version = 1,
	STATE_LAYOUT(struct ioapic_state, ioapic_fields),
	.validate = ioapic_validate,
};

/* ---- under ioapic->lock ------------------------------------------------------ */

static struct hv_msi rte_message(uint64_t rte)
{
	struct hv_msi msi = {
		.addr = MSI_ADDR | (rte >> RTE_DEST_SHIFT) << MSI_ADDR_DEST_SHIFT |
			((rte >> RTE_EXT_DEST_SHIFT) & RTE_EXT_DEST_MASK) << MSI_ADDR_EXT_SHIFT,
		.data = (uint32_t)(rte & (RTE_VECTOR | RTE_DELIVERY)) | MSI_DATA_ASSERT,
	};

	if (rte & RTE_LOGICAL)
		msi.addr |= MSI_ADDR_LOGICAL;
	if ((rte & RTE_DELIVERY) == DELIVERY_LOWEST)
		msi.addr |= MSI_ADDR_REDIRECT;
	if (rte & RTE_LEVEL)
		msi.data |= MSI_DATA_LEVEL;
	return msi;
}

static bool send(struct ioapic *ioapic, uint64_t rte)
{
	struct hv_msi msi = rte_message(rte);
	struct hv_vm *hv = ioapic->irqs->hv;

	return hv->ops->msi_send(hv, &msi) == 0;
}

/* A level pin that is asserted, unmasked and not in service interrupts. */
static void serve_level(struct ioapic *ioapic, uint32_t pin)
{
	uint64_t *rte = &ioapic->st.redirection[pin];

	if (!(ioapic->st.levels & 1U << pin) || !(*rte & RTE_LEVEL) ||
	    (*rte & (RTE_MASKED | RTE_REMOTE_IRR)))
		return;
	/* Set before: the end of the interrupt may be reported by another vCPU at once. */
	*rte |= RTE_REMOTE_IRR;
	/* Nobody there to take it: not in service, tried again at the next change. */
	if (!send(ioapic, *rte))
		*rte &= ~RTE_REMOTE_IRR;
}

/*
 * While a level pin is masked its last route stays: the end of an interrupt
 * that is in service may be yet to come.
 */
static void update_route(struct ioapic *ioapic, uint32_t pin)
{
	uint64_t rte = ioapic->st.redirection[pin];
	struct hv_msi msi = rte_message(rte);
	int r = 0;

	if (!(rte & RTE_LEVEL))
		r = irq_table_set_pin(ioapic->irqs, pin, NULL);
	else if (!(rte & RTE_MASKED))
		r = irq_table_set_pin(ioapic->irqs, pin, &msi);
	if (r < 0)
		log_guest("ioapic: pin %u cannot be routed: %s", pin, strerror(-r));
}

static void rte_write(struct ioapic *ioapic, uint32_t pin, bool high, uint32_t value)
{
	uint64_t *rte = &ioapic->st.redirection[pin];

	if (high)
		*rte = (*rte & 0xffffffffULL) | (value & RTE_HIGH_WRITABLE) << 32;
	else
		*rte = (*rte & ~RTE_LOW_WRITABLE) | (value & RTE_LOW_WRITABLE);
	/*
	 * An edge interrupt has no end to wait for.  Guests rely on that: they
	 * switch a stuck level pin to edge and back (Linux, __eoi_ioapic_pin).
	 */
	if (!(*rte & RTE_LEVEL))
		*rte &= ~RTE_REMOTE_IRR;
	update_route(ioapic, pin);
	serve_level(ioapic, pin);
}

static uint32_t reg_read(const struct ioapic *ioapic)
{
	const struct ioapic_state *st = &ioapic->st;
	uint32_t at;

	switch (st->index) {
	case REG_ID:
	case REG_ARBITRATION:
		return (uint32_t)st->id << 24;
	case REG_VERSION:
		return IOAPIC_VERSION;
	default:
		if (st->index < REG_REDIRECTION || st->index >= REG_REDIRECTION + 2 * IOAPIC_PINS)
			return 0;
		at = st->index - (uint32_t)REG_REDIRECTION;
		return (uint32_t)(st->redirection[at / 2] >> (at % 2 ? 32 : 0));
	}
}

static void reg_write(struct ioapic *ioapic, uint32_t value)
{
	struct ioapic_state *st = &ioapic->st;
	uint32_t at;

	if (st->index == REG_ID) {
		st->id = (value >> 24) & 0xf;
		return;
	}
	if (st->index < REG_REDIRECTION || st->index >= REG_REDIRECTION + 2 * IOAPIC_PINS)
		return;
	at = st->index - (uint32_t)REG_REDIRECTION;
	rte_write(ioapic, at / 2, at % 2, value);
}

/* ---- bus, lines, end of interrupt ---------------------------------------------- */

static struct ioapic *to_ioapic(struct bus_device *dev)
{
	return container_of(dev, struct ioapic, region);
}

/* Registers are 32 bits wide; narrower reads get their low bytes, wider ones zeros above. */
static void ioapic_read(struct bus_device *dev, uint64_t off, void *data, uint32_t len)
{
	struct ioapic *ioapic = to_ioapic(dev);
	uint32_t value = 0;

	pthread_mutex_lock(&ioapic->lock);
	if (off == IOREGSEL)
		value = ioapic->st.index;
	else if (off == IOWIN)
		value = reg_read(ioapic);
	pthread_mutex_unlock(&ioapic->lock);
	bytes_put_le(data, len, value);
}

static void ioapic_write(struct bus_device *dev, uint64_t off, const void *data, uint32_t len)
{
	struct ioapic *ioapic = to_ioapic(dev);
	uint32_t value = (uint32_t)bytes_get_le(data, len);

	pthread_mutex_lock(&ioapic->lock);
	if (off == IOREGSEL)
		ioapic->st.index = (uint8_t)value;
	else if (off == IOWIN && len >= 4)
		reg_write(ioapic, value);
	pthread_mutex_unlock(&ioapic->lock);
}

static const struct bus_ops ioapic_ops = {
	.name = "ioapic",
	.read = ioapic_read,
	.write = ioapic_write,
};

static void line_set(struct irq_line *base, bool level)
{
	struct ioapic_line *line = container_of(base, struct ioapic_line, line);
	struct ioapic *ioapic = line->ioapic;
	uint32_t bit = 1U << line->pin;
	uint64_t rte;
	bool rising;

	pthread_mutex_lock(&ioapic->lock);
	rte = ioapic->st.redirection[line->pin];
	rising = level && !(ioapic->st.levels & bit);
	if (level)
		ioapic->st.levels |= bit;
	else
		ioapic->st.levels &= ~bit;
	if (rte & RTE_LEVEL)
		serve_level(ioapic, line->pin);
	else if (rising && !(rte & RTE_MASKED))
		send(ioapic, rte);
	pthread_mutex_unlock(&ioapic->lock);
}

void ioapic_eoi(struct ioapic *ioapic, uint8_t vector)
{
	pthread_mutex_lock(&ioapic->lock);
	for (uint32_t pin = 0; pin < IOAPIC_PINS; pin++) {
		uint64_t *rte = &ioapic->st.redirection[pin];

		if ((*rte & RTE_VECTOR) != vector || !(*rte & RTE_REMOTE_IRR))
			continue;
		*rte &= ~RTE_REMOTE_IRR;
		serve_level(ioapic, pin); /* still asserted: again */
	}
	pthread_mutex_unlock(&ioapic->lock);
}

struct irq_line *ioapic_line(struct ioapic *ioapic, uint32_t pin)
{
	assert(pin < IOAPIC_PINS);
	return &ioapic->lines[pin].line;
}

/* ---- life ------------------------------------------------------------------------ */

void ioapic_init(struct ioapic *ioapic, struct irq_table *irqs)
{
	*ioapic = (struct ioapic){ .region.ops = &ioapic_ops, .irqs = irqs };
	pthread_mutex_init(&ioapic->lock, NULL);
	for (uint32_t pin = 0; pin < IOAPIC_PINS; pin++) {
		ioapic->lines[pin] =
			(struct ioapic_line){ .line.set = line_set, .ioapic = ioapic, .pin = pin };
		ioapic->st.redirection[pin] = RTE_MASKED;
	}
}

void ioapic_deinit(struct ioapic *ioapic)
{
	pthread_mutex_destroy(&ioapic->lock);
}

void ioapic_reset(struct ioapic *ioapic)
{
	pthread_mutex_lock(&ioapic->lock);
	ioapic->st.index = 0;
	ioapic->st.id = 0;
	for (uint32_t pin = 0; pin < IOAPIC_PINS; pin++) {
		ioapic->st.redirection[pin] = RTE_MASKED;
		update_route(ioapic, pin);
	}
	pthread_mutex_unlock(&ioapic->lock);
}

void ioapic_restore(struct ioapic *ioapic)
{
	pthread_mutex_lock(&ioapic->lock);
	for (uint32_t pin = 0; pin < IOAPIC_PINS; pin++) {
		uint64_t rte = ioapic->st.redirection[pin];
		struct hv_msi msi = rte_message(rte);

		/* In service though masked now: its end is yet to come. */
		if ((rte & RTE_REMOTE_IRR) && (rte & RTE_MASKED))
			irq_table_set_pin(ioapic->irqs, pin, &msi);
		else
			update_route(ioapic, pin);
	}
	pthread_mutex_unlock(&ioapic->lock);
}
