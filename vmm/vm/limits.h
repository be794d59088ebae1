/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The machine's rate limiters
 *
 * One for each disk that is in no group, one for each direction of a network
 * device whose frames go through us, one for each group; also where nothing is
 * limited now, because that can be changed (SetRateLimit).  They outlive the
 * devices, whose queues only borrow them.
 *
 * Control thread.
 */
#pragma once

#include "vmm/base/list.h"

struct err;
struct rate_limit_config;
struct rate_limiter;
struct vm;

enum vm_limit {
	VM_LIMIT_GROUP,
	VM_LIMIT_DISK,
	VM_LIMIT_RX, /* to the guest */
	VM_LIMIT_TX,
	VM_LIMIT_N_,
};

/* Those of the groups; before the devices. */
int vm_limits_init(struct vm *vm, struct err *err);
/* After the devices. */
void vm_limits_deinit(struct vm *vm);

/* For device kinds; limit NULL: not now. */
int vm_limits_add(struct vm *vm, enum vm_limit what, const char *id,
		  const struct rate_limit_config *limit, struct rate_limiter **ret,
		  struct err *err);
/* NULL: there is none. */
struct rate_limiter *vm_limits_find(struct vm *vm, enum vm_limit what, const char *id);
/* For a disk: its group's, or one of its own. */
int vm_limits_of_disk(struct vm *vm, size_t index, struct rate_limiter **ret, struct err *err);
/* For a network device that has both. */
int vm_limits_of_net(struct vm *vm, size_t index, struct rate_limiter **ret_rx,
		     struct rate_limiter **ret_tx, struct err *err);
/* Those of a device that has been taken out. */
void vm_limits_remove(struct vm *vm, const char *id);

/* What clients ask: the new limit is in force when it returns. direction: "", "rx", "tx", "both" */
int vm_set_rate_limit(struct vm *vm, const char *id, const char *direction,
		      const struct rate_limit_config *limit, struct err *err);
int vm_set_rate_limit_group(struct vm *vm, const char *group, const struct rate_limit_config *limit,
			    struct err *err);
