/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `balloon`: memory that the guest gives back while it runs
 */
#include <errno.h>

#include "vmm/base/err.h"
#include "vmm/config/check.h"
#include "vmm/config/tables.h"

#define BALLOON_PAGE 4096ULL /* virtio 1.3, 5.5.6 */

static const struct config_field balloon_fields[] = {
	{ .key = "size",
	  .kind = CONFIG_SIZE,
	  CONFIG_AT(struct balloon_config, size),
	  .def_text = "0",
	  .arg = "SIZE",
	  .doc = "how much of its memory the guest is to give up from the start" },
	{ .key = "deflate_on_oom",
	  .kind = CONFIG_BOOL,
	  CONFIG_AT(struct balloon_config, deflate_on_oom),
	  .doc = "the guest may take memory back before it would have to kill a process" },
	{ .key = "free_page_reporting",
	  .kind = CONFIG_BOOL,
	  CONFIG_AT(struct balloon_config, free_page_reporting),
	  .doc = "the guest tells which memory it does not use, and the host has it until it is "
		 "used again" },
	{ .key = "statistics_interval",
	  .kind = CONFIG_UINT,
	  CONFIG_AT(struct balloon_config, statistics_interval),
	  .def = 10,
	  .max = 86400,
	  .arg = "SECONDS",
	  .doc = "how often the guest is asked how it uses its memory; 0: only when the size of "
		 "the balloon changes" },
	CONFIG_PCI_SINGLE(struct balloon_config),
};
const struct config_table balloon_table = {
	.name = "Balloon",
	.doc = "The virtio balloon: the guest gives memory back to the host, as much as SetBalloon "
	       "asks for, or whatever is free.  Of memory on huge pages only whole ones are given "
	       "back, and they have to be there when the guest uses them again, or the machine "
	       "ends.",
	.fields = balloon_fields,
	.n_fields = ARRAY_SIZE(balloon_fields),
	.size = sizeof(struct balloon_config),
};

static int check_size(const struct vm_config *config, size_t i _unused_, struct err *err)
{
	uint64_t size = config->balloon.size;

	if (!config->has_balloon || size == 0)
		return 0;
	if (size % BALLOON_PAGE)
		return config_error(err, "/balloon/size: %llu is not a multiple of 4096",
				    (unsigned long long)size);
	if (size >= memory_config_size(&config->memory))
		return config_error(err,
				    "/balloon/size: %llu is all of the machine's memory, must be "
				    "less than %llu",
				    (unsigned long long)size,
				    (unsigned long long)memory_config_size(&config->memory));
	return 0;
}

/* Linux does not take a balloon that wants its addresses translated. */
static int check_iommu(const struct vm_config *config, size_t i _unused_, struct err *err)
{
	if (!config->has_balloon || !config->balloon.pci.iommu)
		return 0;
	return config_error(err, "/balloon/iommu: page numbers are addresses of memory, which no "
				 "IOMMU translates, must be false");
}

static const struct config_rule rules[] = {
	{ check_iommu, { "balloon" } },
	{ check_size, { "balloon", "memory" } },
};
const struct config_rules balloon_rules = CONFIG_RULES(rules, NULL);
