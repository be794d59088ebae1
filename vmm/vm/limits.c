/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/vm/limits.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/err.h"
#include "vmm/base/thread.h"
#include "vmm/config/vm-config.h"
#include "vmm/virtio/rate-limiter.h"
#include "vmm/vm/devices.h"
#include "vmm/vm/vm.h"

struct limit {
	struct list link;
	enum vm_limit what;
	char id[64]; /* of the device or group */
	struct rate_limiter *limiter;
};

static struct limit *find(struct vm *vm, enum vm_limit what, const char *id)
{
	struct limit *limit;

	LIST_FOREACH(limit, &vm->limits, link)
		if (limit->what == what && strcmp(limit->id, id) == 0)
			return limit;
	return NULL;
}

static void limit_free(struct limit *limit)
{
	list_remove(&limit->link);
	rate_limiter_free(limit->limiter);
	free(limit);
}

int vm_limits_add(struct vm *vm, enum vm_limit what, const char *id,
		  const struct rate_limit_config *config, struct rate_limiter **ret,
		  struct err *err)
{
	struct limit *limit = calloc(1, sizeof(*limit));
	int r;

	if (!limit)
		return err_set(err, ENOMEM, "out of memory for the rate limit of '%s'", id);
	limit->what = what;
	snprintf(limit->id, sizeof(limit->id), "%s", id);
	r = rate_limiter_new(config, &limit->limiter, err);
	if (r < 0) {
		free(limit);
		return r;
	}
	list_append(&vm->limits, &limit->link);
	*ret = limit->limiter;
	return 0;
}

int vm_limits_init(struct vm *vm, struct err *err)
{
	struct rate_limiter *limiter = NULL;
	int r = 0;

	for (size_t i = 0; r >= 0 && i < vm->config->n_rate_limit_groups; i++) {
		const struct rate_limit_group_config *group = &vm->config->rate_limit_groups[i];

		r = vm_limits_add(vm, VM_LIMIT_GROUP, group->id, &group->limit, &limiter, err);
	}
	return r;
}

void vm_limits_deinit(struct vm *vm)
{
	while (!list_empty(&vm->limits))
		limit_free(container_of(vm->limits.next, struct limit, link));
}

struct rate_limiter *vm_limits_find(struct vm *vm, enum vm_limit what, const char *id)
{
	struct limit *limit = find(vm, what, id);

	return limit ? limit->limiter : NULL;
}

int vm_limits_of_disk(struct vm *vm, size_t index, struct rate_limiter **ret, struct err *err)
{
	const struct disk_config *disk = &vm->config->disks[index];

	if (!disk->rate_limit_group)
		return vm_limits_add(vm, VM_LIMIT_DISK, disk->pci.id, &disk->limit, ret, err);
	*ret = vm_limits_find(vm, VM_LIMIT_GROUP, disk->rate_limit_group);
	return 0;
}

int vm_limits_of_net(struct vm *vm, size_t index, struct rate_limiter **ret_rx,
		     struct rate_limiter **ret_tx, struct err *err)
{
	const struct net_config *net = &vm->config->nets[index];
	int r;

	r = vm_limits_add(vm, VM_LIMIT_RX, net->pci.id, net_rate_limit(net, false), ret_rx, err);
	return r < 0 ? r
		     : vm_limits_add(vm, VM_LIMIT_TX, net->pci.id, net_rate_limit(net, true),
				     ret_tx, err);
}

void vm_limits_remove(struct vm *vm, const char *id)
{
	struct limit *limit, *next;

	LIST_FOREACH_SAFE(limit, next, &vm->limits, link)
		if (limit->what != VM_LIMIT_GROUP && strcmp(limit->id, id) == 0)
			limit_free(limit);
}

/* --- what clients ask --- */

static const struct disk_config *disk_of(const struct vm *vm, const char *id)
{
	for (size_t i = 0; i < vm->config->n_disks; i++)
		if (strcmp(vm->config->disks[i].pci.id, id) == 0)
			return &vm->config->disks[i];
	return NULL;
}

static int no_limit(const struct vm *vm, const struct vm_device *dev, struct err *err)
{
	const struct disk_config *disk = disk_of(vm, dev->id);

	if (disk && disk->rate_limit_group)
		return err_fault(err, FAULT_WRONG_STATE, EPROTO,
				 "disk '%s' shares the limit of group '%s', which is what must be "
				 "changed",
				 dev->id, disk->rate_limit_group);
	return err_fault(err, FAULT_UNSUPPORTED, EOPNOTSUPP, "device '%s' (%s) has no rate limit",
			 dev->id, dev->type);
}

static int bad_direction(const struct vm_device *dev, const char *direction, bool has,
			 struct err *err)
{
	return err_fault(err, FAULT_BAD_ARGUMENT, EINVAL,
			 has ? "direction '%s' of device '%s' is unknown, must be 'rx', 'tx' or "
			       "'both'"
			     : "direction '%s' of device '%s': it has none, must be left out",
			 direction, dev->id);
}

int vm_set_rate_limit(struct vm *vm, const char *id, const char *direction,
		      const struct rate_limit_config *config, struct err *err)
{
	struct rate_limiter *disk, *rx, *tx;
	const struct vm_device *dev;
	bool both;

	assert_on_control();
	dev = vm_device_find(vm, id);
	if (!dev)
		return err_fault(err, FAULT_NO_SUCH_DEVICE, ENXIO, "there is no device '%s'", id);
	disk = vm_limits_find(vm, VM_LIMIT_DISK, id);
	rx = vm_limits_find(vm, VM_LIMIT_RX, id);
	tx = vm_limits_find(vm, VM_LIMIT_TX, id);
	if (!disk && !rx)
		return no_limit(vm, dev, err);
	if (disk) {
		if (direction[0])
			return bad_direction(dev, direction, false, err);
		rate_limiter_set(disk, config);
		return 0;
	}
	both = direction[0] == '\0' || strcmp(direction, "both") == 0;
	if (!both && strcmp(direction, "rx") != 0 && strcmp(direction, "tx") != 0)
		return bad_direction(dev, direction, true, err);
	if (both || direction[0] == 'r')
		rate_limiter_set(rx, config);
	if (both || direction[0] == 't')
		rate_limiter_set(tx, config);
	return 0;
}

int vm_set_rate_limit_group(struct vm *vm, const char *group,
			    const struct rate_limit_config *config, struct err *err)
{
	struct rate_limiter *limiter;

	assert_on_control();
	limiter = vm_limits_find(vm, VM_LIMIT_GROUP, group);
	if (!limiter)
		return err_fault(err, FAULT_NO_SUCH_DEVICE, ENXIO,
				 "there is no rate limit group '%s'", group);
	rate_limiter_set(limiter, config);
	return 0;
}
