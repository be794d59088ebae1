/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a guest has told its IOMMU, as saved state: attachments and mappings
 *
 * Two tables (vmm/base/state.h).  Which endpoints there are follows from the
 * configuration; a domain is there because an endpoint is attached to it.  Rows are in
 * one order only, so that the same state is the same bytes, and what is there twice or
 * overlaps is found in one pass.
 *
 * Control thread, nothing translates and no request is served: the device paused or
 * inactive.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/base/state.h"

struct err;
struct iova_unit;

struct iova_attachment_state {
	uint32_t endpoint, domain;
	bool bypass; /* of the domain */
	uint8_t pad[7];
};
extern const struct state_desc iova_attachment_state_desc;

struct iova_mapping_state {
	uint64_t start, end; /* inclusive */
	uint64_t gpa;
	uint32_t domain;
	uint32_t access; /* enum iova_access, or-ed */
};
extern const struct state_desc iova_mapping_state_desc;

enum iova_table {
	IOVA_TABLE_ATTACHMENTS, /* by endpoint, ascending */
	IOVA_TABLE_MAPPINGS,    /* by domain and start, ascending; IOVA_MAPPINGS_MAX at most */
	IOVA_TABLES_N_,
};

/* -ENOMEM */
int iova_save(struct iova_unit *unit, struct state_table tables[static IOVA_TABLES_N_],
	      struct err *err);
/*
 * In place of what there is.  All is checked before anything changes: -EBADMSG and a
 * sentence, the unit as it was.  -ENOMEM: nothing is attached.
 */
int iova_load(struct iova_unit *unit, const struct state_table tables[static IOVA_TABLES_N_],
	      struct err *err);
