/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/virtio/iova-state.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "vmm/base/err.h"
#include "vmm/base/sort.h"
#include "vmm/virtio/iova.h"

#define F(kind, member) STATE_##kind(struct iova_attachment_state, member)
static const struct state_field attachment_fields[] = {
	F(U32, endpoint),
	F(U32, domain),
	F(BOOL, bypass),
	F(BYTES, pad),
};
#undef F
const struct state_desc iova_attachment_state_desc = {
	"virtio-iommu-attachment",
	.version = 1,
	STATE_LAYOUT(struct iova_attachment_state, attachment_fields),
};

#define F(kind, member) STATE_##kind(struct iova_mapping_state, member)
static const struct state_field mapping_fields[] = {
	F(U64, start), F(U64, end), F(U64, gpa), F(U32, domain), F(U32, access),
};
#undef F
const struct state_desc iova_mapping_state_desc = {
	"virtio-iommu-mapping",
	.version = 1,
	STATE_LAYOUT(struct iova_mapping_state, mapping_fields),
};

/* --- saving --- */

static void save_attachment(void *data, uint32_t endpoint, uint32_t domain, bool bypass)
{
	struct state_table *table = &((struct state_table *)data)[IOVA_TABLE_ATTACHMENTS];

	((struct iova_attachment_state *)table->rows)[table->n++] = (struct iova_attachment_state){
		.endpoint = endpoint, .domain = domain, .bypass = bypass
	};
}

static void save_mapping(void *data, uint32_t domain, uint64_t start, uint64_t end, uint64_t gpa,
			 unsigned int access)
{
	struct state_table *table = &((struct state_table *)data)[IOVA_TABLE_MAPPINGS];

	((struct iova_mapping_state *)table->rows)[table->n++] =
		(struct iova_mapping_state){ start, end, gpa, domain, access };
}

static int by_endpoint(const void *a, const void *b)
{
	const struct iova_attachment_state *x = a, *y = b;

	return (x->endpoint > y->endpoint) - (x->endpoint < y->endpoint);
}

static int by_start(const void *a, const void *b)
{
	const struct iova_mapping_state *x = a, *y = b;

	return x->domain != y->domain ? (x->domain > y->domain) - (x->domain < y->domain)
				      : (x->start > y->start) - (x->start < y->start);
}

int iova_save(struct iova_unit *unit, struct state_table tables[static IOVA_TABLES_N_],
	      struct err *err)
{
	struct state_table *at = &tables[IOVA_TABLE_ATTACHMENTS];
	struct state_table *maps = &tables[IOVA_TABLE_MAPPINGS];
	const struct iova_visitor visitor = { save_attachment, save_mapping, tables };

	*at = (struct state_table){ .desc = &iova_attachment_state_desc };
	*maps = (struct state_table){ .desc = &iova_mapping_state_desc };
	at->rows = calloc(iova_n_attachments(unit) + 1ULL, sizeof(struct iova_attachment_state));
	maps->rows = calloc(iova_n_mappings(unit) + 1ULL, sizeof(struct iova_mapping_state));
	if (!at->rows || !maps->rows) {
		state_table_deinit(at);
		state_table_deinit(maps);
		return err_set(err, ENOMEM, "out of memory for the IOMMU's state");
	}
	iova_visit(unit, &visitor);
	sort_rows(at->rows, at->n, sizeof(struct iova_attachment_state), by_endpoint);
	sort_rows(maps->rows, maps->n, sizeof(struct iova_mapping_state), by_start);
	return 0;
}

/* --- loading --- */

static bool all_zero(const uint8_t *bytes, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (bytes[i])
			return false;
	return true;
}

/* Also how many there can be: endpoints ascend, and each is one of the unit's. */
static int check_attachments(struct iova_unit *unit, const struct state_table *table,
			     struct err *err)
{
	const struct iova_attachment_state *rows = table->rows;

	for (uint32_t i = 0; i < table->n; i++) {
		if (i > 0 && rows[i].endpoint <= rows[i - 1].endpoint)
			return err_set(err, EBADMSG,
				       "endpoint %#" PRIx32 " of the IOMMU comes after %#" PRIx32
				       ", must be in ascending order",
				       rows[i].endpoint, rows[i - 1].endpoint);
		if (!iova_has_endpoint(unit, rows[i].endpoint))
			return err_set(err, EBADMSG,
				       "there is no device at endpoint %#" PRIx32 " of the IOMMU",
				       rows[i].endpoint);
		if (!all_zero(rows[i].pad, sizeof(rows[i].pad)))
			return err_set(err, EBADMSG,
				       "endpoint %#" PRIx32 " of the IOMMU: padding is not zero",
				       rows[i].endpoint);
		for (uint32_t k = 0; k < i; k++)
			if (rows[k].domain == rows[i].domain && rows[k].bypass != rows[i].bypass)
				return err_set(err, EBADMSG,
					       "domain %" PRIu32 " of the IOMMU is a bypass for "
					       "one endpoint and not for another",
					       rows[i].domain);
	}
	return 0;
}

static bool is_domain(const struct state_table *attachments, uint32_t domain)
{
	const struct iova_attachment_state *rows = attachments->rows;

	for (uint32_t i = 0; i < attachments->n; i++)
		if (rows[i].domain == domain)
			return !rows[i].bypass;
	return false;
}

static int check_mapping(struct iova_unit *unit, const struct state_table *attachments,
			 const struct iova_mapping_state *m,
			 const struct iova_mapping_state *before, struct err *err)
{
	const char *wrong = NULL;

	if (before && by_start(before, m) >= 0)
		wrong = "is not in ascending order";
	else if (before && before->domain == m->domain && m->start <= before->end)
		wrong = "overlaps the one before";
	else if (m->access & ~(uint32_t)(IOVA_READ | IOVA_WRITE))
		wrong = "allows what there is not";
	else if (iova_check_mapping(unit, m->start, m->end, m->gpa) < 0)
		wrong = "is not in whole pages of addresses that can be mapped";
	/* The same domain as that of the row before: looked up already. */
	else if ((!before || before->domain != m->domain) && !is_domain(attachments, m->domain))
		wrong = "is of a domain without endpoints, or of a bypass";
	if (!wrong)
		return 0;
	return err_set(err, EBADMSG,
		       "mapping %#" PRIx64 "-%#" PRIx64 " of domain %" PRIu32 " of the IOMMU %s",
		       m->start, m->end, m->domain, wrong);
}

static int check_mappings(struct iova_unit *unit, const struct state_table tables[],
			  struct err *err)
{
	const struct state_table *table = &tables[IOVA_TABLE_MAPPINGS];
	const struct iova_mapping_state *rows = table->rows;

	if (table->n > IOVA_MAPPINGS_MAX)
		return err_set(err, EBADMSG, "the IOMMU has %u mappings, must be %u at most",
			       table->n, IOVA_MAPPINGS_MAX);
	for (uint32_t i = 0; i < table->n; i++) {
		int r = check_mapping(unit, &tables[IOVA_TABLE_ATTACHMENTS], &rows[i],
				      i > 0 ? &rows[i - 1] : NULL, err);

		if (r < 0)
			return r;
	}
	return 0;
}

/* What was checked: only memory can be missing. */
static int commit(struct iova_unit *unit, const struct state_table tables[])
{
	const struct iova_attachment_state *at = tables[IOVA_TABLE_ATTACHMENTS].rows;
	const struct iova_mapping_state *maps = tables[IOVA_TABLE_MAPPINGS].rows;
	int r = 0;

	iova_detach_all(unit);
	for (uint32_t i = 0; r == 0 && i < tables[IOVA_TABLE_ATTACHMENTS].n; i++)
		r = iova_attach(unit, at[i].domain, at[i].endpoint, at[i].bypass);
	for (uint32_t i = 0; r == 0 && i < tables[IOVA_TABLE_MAPPINGS].n; i++)
		r = iova_map(unit, maps[i].domain, maps[i].start, maps[i].end, maps[i].gpa,
			     maps[i].access);
	return r;
}

int iova_load(struct iova_unit *unit, const struct state_table tables[static IOVA_TABLES_N_],
	      struct err *err)
{
	int r;

	r = check_attachments(unit, &tables[IOVA_TABLE_ATTACHMENTS], err);
	if (r >= 0)
		r = check_mappings(unit, tables, err);
	if (r < 0)
		return r;
	r = commit(unit, tables);
	if (r < 0) {
		iova_detach_all(unit);
		return err_errno(err, -r, "cannot take the IOMMU's state over");
	}
	return 0;
}
