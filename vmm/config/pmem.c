/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `pmem`: files of the host as persistent memory of the guest
 */
#include <errno.h>
#include <string.h>

#include "vmm/base/err.h"
#include "vmm/config/check.h"
#include "vmm/config/tables.h"

#define PMEM_ALIGN (2ULL << 20) /* what Linux adds at a time (vmm/virtio/pmem.h) */

static const struct config_field pmem_fields[] = {
	{ .key = "file",
	  .kind = CONFIG_STRING,
	  .flags = CONFIG_REQUIRED | CONFIG_RESOURCE,
	  CONFIG_AT(struct pmem_config, file),
	  .check = check_path,
	  .resource = RESOURCE_PMEM,
	  .arg = "PATH",
	  .doc = "file that the guest has as memory; or a directory, in which a file without a "
		 "name is made that is gone when the machine is" },
	{ .key = "size",
	  .kind = CONFIG_SIZE,
	  .flags = CONFIG_OPTIONAL,
	  CONFIG_AT(struct pmem_config, size),
	  .def_text = "the file's",
	  .arg = "SIZE",
	  .doc = "a multiple of 2 MiB, at most as much as the file has; a directory needs it" },
	{ .key = "discard_writes",
	  .kind = CONFIG_BOOL,
	  CONFIG_AT(struct pmem_config, discard_writes),
	  .doc = "what the guest writes is lost when the machine ends; the file is only read" },
	CONFIG_PCI_FIELDS(struct pmem_config),
};
const struct config_table pmem_table = {
	.name = "Persistent memory",
	.doc = "A virtio-pmem device; may be given several times. A guest can mount a file system "
	       "in it that bypasses its page cache (DAX).",
	.fields = pmem_fields,
	.n_fields = ARRAY_SIZE(pmem_fields),
	.size = sizeof(struct pmem_config),
};

static int check_size(const struct vm_config *config, size_t i, struct err *err)
{
	uint64_t size = config->pmem[i].size;

	if (size % PMEM_ALIGN == 0)
		return 0;
	return config_error(err,
			    "/pmem/%zu/size: %llu is not a multiple of 2 MiB, must be like %llu", i,
			    (unsigned long long)size,
			    (unsigned long long)(size / PMEM_ALIGN + 1) * PMEM_ALIGN);
}

/* Two machines' pmem on one file, or one twice, destroy what is in it. */
static int check_shared_file(const struct vm_config *config, size_t i, struct err *err)
{
	const struct pmem_config *pmem = &config->pmem[i];
	char quoted[CONFIG_QUOTE_MAX];

	/* A directory may well be there twice: each has a file of its own. */
	for (size_t j = 0; j < i; j++)
		if (strcmp(pmem->file, config->pmem[j].file) == 0 && !pmem->size &&
		    !(pmem->discard_writes && config->pmem[j].discard_writes))
			return config_error(err,
					    "/pmem/%zu/file: %s is /pmem/%zu too, must have "
					    "discard_writes in both",
					    i, config_quote(pmem->file, quoted), j);
	return 0;
}

static size_t count_pmem(const struct vm_config *config)
{
	return config->n_pmem;
}

static const struct config_rule rules[] = {
	{ check_size, { "pmem" } },
	{ check_shared_file, { "pmem" } },
};
const struct config_rules pmem_rules = CONFIG_RULES(rules, count_pmem);
