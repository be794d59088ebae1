/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/base/state.h"

#include <errno.h>
#include <stdlib.h>

#include "vmm/base/err.h"

void state_table_deinit(struct state_table *table)
{
	free(table->rows);
	*table = (struct state_table){ 0 };
}

bool state_desc_tiles(const struct state_desc *desc, struct err *err)
{
	uint32_t at = 0;

	for (size_t i = 0; i < desc->n_fields; i++) {
		const struct state_field *f = &desc->fields[i];

		if (f->offset != at) {
			err_set(err, EINVAL,
				"%s: field '%s' starts at byte %u, the one before ends at %u",
				desc->name, f->name, f->offset, at);
			return false;
		}
		if (f->kind == STATE_KIND_STRUCT) {
			if (f->desc->size != f->size) {
				err_set(err, EINVAL, "%s: field '%s' has %u bytes, its table %u",
					desc->name, f->name, f->size, f->desc->size);
				return false;
			}
			if (!state_desc_tiles(f->desc, err)) {
				err_prefix(err, -EINVAL, "%s", desc->name);
				return false;
			}
		}
		at += f->size * f->count;
	}
	if (at != desc->size) {
		err_set(err, EINVAL, "%s: the fields end at byte %u, the struct at %u", desc->name,
			at, desc->size);
		return false;
	}
	return true;
}
