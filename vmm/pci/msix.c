/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/pci/msix.h"

#include <assert.h>
#include <errno.h>
#include <linux/pci_regs.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/bytes.h"
#include "vmm/base/err.h"
#include "vmm/base/log.h"
#include "vmm/pci/pci.h"

static const struct state_field msix_entry_fields[] = {
	STATE_U64(struct msix_entry_state, addr),
	STATE_U32(struct msix_entry_state, data),
	STATE_U32(struct msix_entry_state, control),
};
const struct state_desc msix_entry_state_desc = {
	"msix-entry",
	.version = 1,
	STATE_LAYOUT(struct msix_entry_state, msix_entry_fields),
};

int msix_init(struct msix *m, struct pci_device *pci, struct irq_table *irqs, uint16_t n,
	      uint8_t bar, uint32_t table_off, uint32_t pba_off, struct err *err)
{
	uint8_t body[PCI_CAP_MSIX_SIZEOF] = { 0 };
	int r;

	assert(n > 0 && n <= MSIX_VECTORS_MAX);
	*m = (struct msix){ .pci = pci };
	m->entries = calloc(n, sizeof(*m->entries));
	m->vectors = calloc(n, sizeof(*m->vectors));
	if (!m->entries || !m->vectors) {
		msix_deinit(m);
		return err_set(err, ENOMEM, "out of memory for %u interrupt vectors", n);
	}
	for (; m->n < n; m->n++) {
		r = irq_vector_init(&m->vectors[m->n], irqs, err);
		if (r < 0) {
			msix_deinit(m);
			return r;
		}
		m->entries[m->n].control = PCI_MSIX_ENTRY_CTRL_MASKBIT;
	}
	bytes_put_le(body + PCI_MSIX_FLAGS, 2, n - 1U);
	bytes_put_le(body + PCI_MSIX_TABLE, 4, table_off | bar);
	bytes_put_le(body + PCI_MSIX_PBA, 4, pba_off | bar);
	m->cap = pci_add_capability(pci, PCI_CAP_ID_MSIX, body, sizeof(body));
	pci_set_writable(pci, m->cap + PCI_MSIX_FLAGS,
			 PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL, 2);
	return 0;
}

void msix_deinit(struct msix *m)
{
	for (uint16_t i = 0; i < m->n; i++)
		irq_vector_deinit(&m->vectors[i]);
	m->n = 0;
	free(m->vectors);
	free(m->entries);
	m->vectors = NULL;
	m->entries = NULL;
}

static void update(struct msix *m, uint16_t i)
{
	const struct msix_entry_state *e = &m->entries[i];
	struct hv_msi msi = { .addr = e->addr, .data = e->data };
	bool masked =
		!m->enabled || m->function_masked || (e->control & PCI_MSIX_ENTRY_CTRL_MASKBIT);
	int r = irq_vector_update(&m->vectors[i], &msi, masked);

	if (r < 0)
		log_guest("device '%s': interrupt vector %u cannot be routed: %s", m->pci->id, i,
			  strerror(-r));
}

void msix_reset(struct msix *m)
{
	m->enabled = false;
	m->function_masked = false;
	for (uint16_t i = 0; i < m->n; i++) {
		m->entries[i] = (struct msix_entry_state){ .control = PCI_MSIX_ENTRY_CTRL_MASKBIT };
		update(m, i);
		irq_vector_clear(&m->vectors[i]);
	}
}

static void entry_pack(const struct msix_entry_state *e, uint8_t raw[static MSIX_ENTRY_BYTES])
{
	bytes_put_le(raw, 8, e->addr);
	bytes_put_le(raw + 8, 4, e->data);
	bytes_put_le(raw + 12, 4, e->control);
}

void msix_table_read(struct msix *m, uint32_t off, void *data, uint32_t len)
{
	uint8_t raw[MSIX_ENTRY_BYTES];
	uint32_t i = off / MSIX_ENTRY_BYTES, at = off % MSIX_ENTRY_BYTES;

	memset(data, 0xff, len);
	if (i >= m->n || at + len > MSIX_ENTRY_BYTES)
		return;
	entry_pack(&m->entries[i], raw);
	memcpy(data, raw + at, len);
}

void msix_table_write(struct msix *m, uint32_t off, const void *data, uint32_t len)
{
	uint8_t raw[MSIX_ENTRY_BYTES];
	uint32_t i = off / MSIX_ENTRY_BYTES, at = off % MSIX_ENTRY_BYTES;
	struct msix_entry_state old;

	/* 6.8.2: aligned doublewords or quadwords only */
	if (i >= m->n || (len != 4 && len != 8) || at % len != 0)
		return;
	old = m->entries[i];
	entry_pack(&old, raw);
	memcpy(raw + at, data, len);
	m->entries[i] = (struct msix_entry_state){
		.addr = bytes_get_le(raw, 8),
		.data = (uint32_t)bytes_get_le(raw + 8, 4),
		.control = (uint32_t)bytes_get_le(raw + 12, 4) & PCI_MSIX_ENTRY_CTRL_MASKBIT,
	};
	if (memcmp(&old, &m->entries[i], sizeof(old)) != 0)
		update(m, (uint16_t)i);
}

void msix_pba_read(struct msix *m, uint32_t off, void *data, uint32_t len)
{
	uint8_t *out = data;

	for (uint32_t byte = 0; byte < len; byte++) {
		out[byte] = 0;
		for (uint32_t bit = 0; bit < 8; bit++) {
			uint32_t i = (off + byte) * 8 + bit;

			if (i < m->n && irq_vector_pending(&m->vectors[i]))
				out[byte] |= (uint8_t)(1U << bit);
		}
	}
}

void msix_config_written(struct msix *m, uint32_t off, uint32_t len)
{
	uint32_t at = m->cap + (uint32_t)PCI_MSIX_FLAGS;
	uint32_t flags;
	bool enabled, masked;

	if (off + len <= at || off >= at + 2)
		return;
	flags = pci_config_get(m->pci, at, 2);
	enabled = flags & PCI_MSIX_FLAGS_ENABLE;
	masked = flags & PCI_MSIX_FLAGS_MASKALL;
	if (enabled == m->enabled && masked == m->function_masked)
		return;
	m->enabled = enabled;
	m->function_masked = masked;
	for (uint16_t i = 0; i < m->n; i++)
		update(m, i);
}

void msix_raise(struct msix *m, uint16_t vector)
{
	/* A race with the guest switching MSI-X off only leaves a pending bit behind. */
	if (vector < m->n)
		irq_vector_raise(&m->vectors[vector]);
}
