/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What clients ask of the devices of a running machine (device.h)
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "daemon/device.h"
#include "daemon/link.h"
#include "daemon/manager.h"
#include "daemon/request.h"
#include "daemon/worker.h"
#include "vmm/base/err.h"
#include "vmm/config/vm-config.h"

int machine_check_device_request(const struct machine *vm, const char *verb, struct err *err)
{
	return machine_check_state(vm, MACHINE_STATES_GUEST, verb, err);
}

static int check(struct machine *vm, const char *verb, struct err *err)
{
	int r = machine_check_device_request(vm, verb, err);

	return r < 0 ? r : machine_check_connection(vm, err);
}

int machine_set_link(struct machine_device *dev, bool up, machine_done_fn fn, void *data,
		     struct err *err)
{
	int r = check(dev->vm, "set a link of", err);

	return r < 0 ? r
		     : machine_call_worker(dev->vm, "SetLink", fn, data, err, "sb", dev->id,
					   (int)up);
}

/* --- rate limits: what the worker has taken is what the machine runs with ----- */

struct limit_call {
	struct manager *manager;
	char *vm, *id; /* of the device or group: they may be gone when the answer comes */
	bool group, rx, tx;
	struct rate_limit_config limit;
	machine_done_fn fn;
	void *data;
};

static void limit_call_free(struct limit_call *call)
{
	g_free(call->vm);
	g_free(call->id);
	g_free(call);
}

static void set_limit(struct rate_limit_config *to, bool *has,
		      const struct rate_limit_config *limit)
{
	*to = *limit;
	*has = limit->has_bandwidth || limit->has_ops;
}

/* What both directions had together becomes what each has. */
static void set_net_limit(struct net_config *net, const struct limit_call *call)
{
	const struct rate_limit_config *rx = net_rate_limit(net, false);
	const struct rate_limit_config *tx = net_rate_limit(net, true);
	const struct rate_limit_config none = { 0 }, old_rx = rx ? *rx : none,
				       old_tx = tx ? *tx : none;

	set_limit(&net->limit, &net->has_limit, &none);
	set_limit(&net->rx_limit, &net->has_rx_limit, call->rx ? &call->limit : &old_rx);
	set_limit(&net->tx_limit, &net->has_tx_limit, call->tx ? &call->limit : &old_tx);
}

static void keep_limit(struct machine *vm, const struct limit_call *call)
{
	struct rate_limit_group_config *group;
	struct machine_device *dev = NULL;

	if (call->group) {
		group = vm_config_find_rate_limit_group(vm->boot, call->id);
		if (!group)
			return;
		/* It stays a group without a limit: an empty object. */
		group->limit = call->limit;
		group->has_limit = true;
	} else {
		dev = machine_find_device(vm, call->id);
		if (!dev)
			return;
		if (strcmp(dev->key, "disks") == 0)
			set_limit(&vm->boot->disks[dev->index].limit,
				  &vm->boot->disks[dev->index].has_limit, &call->limit);
		else
			set_net_limit(&vm->boot->nets[dev->index], call);
	}
	machine_boot_changed(vm, call->group ? MACHINE_PROPERTY_RATE_LIMITS : 0);
	if (dev)
		machine_device_refresh(dev);
}

static void on_limit_set(void *data, sd_bus_message *reply, const struct err *err)
{
	struct limit_call *call = data;
	struct machine *vm = manager_find(call->manager, call->vm);

	if (!err && vm && vm->boot)
		keep_limit(vm, call);
	call->fn(call->data, reply, err);
	limit_call_free(call);
}

static struct limit_call *limit_call_new(struct machine *vm, const char *id,
					 const struct rate_limit_config *limit, machine_done_fn fn,
					 void *data)
{
	struct limit_call *call = g_new0(struct limit_call, 1);

	call->manager = vm->manager;
	call->vm = g_strdup(vm->def.name);
	call->id = g_strdup(id);
	call->limit = *limit;
	call->fn = fn;
	call->data = data;
	return call;
}

#define BUCKETS(limit)                                                                             \
	(limit)->bandwidth.size, (limit)->bandwidth.one_time_burst,                                \
		(limit)->bandwidth.refill_time, (limit)->ops.size, (limit)->ops.one_time_burst,    \
		(limit)->ops.refill_time

int machine_set_rate_limit(struct machine_device *dev, const char *direction,
			   const struct rate_limit_config *limit, machine_done_fn fn, void *data,
			   struct err *err)
{
	struct limit_call *call;
	int r;

	r = check(dev->vm, "set a rate limit of", err);
	if (r < 0)
		return r;
	call = limit_call_new(dev->vm, dev->id, limit, fn, data);
	call->rx = strcmp(direction, "tx") != 0;
	call->tx = strcmp(direction, "rx") != 0;
	r = machine_call_worker(dev->vm, "SetRateLimit", on_limit_set, call, err, "sstttttt",
				dev->id, direction, BUCKETS(limit));
	if (r < 0)
		limit_call_free(call);
	return r;
}

int machine_check_rate_limit_group(const struct machine *vm, const char *group, struct err *err)
{
	int r = machine_check_device_request(vm, "set a rate limit of", err);

	if (r < 0 || (vm->boot && vm_config_find_rate_limit_group(vm->boot, group)))
		return r;
	return err_fault(err, FAULT_NO_SUCH_DEVICE, ENXIO, "VM '%s' has no rate limit group '%s'",
			 vm->def.name, group);
}

int machine_set_rate_limit_group(struct machine *vm, const char *group,
				 const struct rate_limit_config *limit, machine_done_fn fn,
				 void *data, struct err *err)
{
	struct limit_call *call;
	int r;

	r = machine_check_rate_limit_group(vm, group, err);
	if (r == 0)
		r = machine_check_connection(vm, err);
	if (r < 0)
		return r;
	call = limit_call_new(vm, group, limit, fn, data);
	call->group = true;
	r = machine_call_worker(vm, "SetRateLimitGroup", on_limit_set, call, err, "stttttt", group,
				BUCKETS(limit));
	if (r < 0)
		limit_call_free(call);
	return r;
}

/* --- devices that there is at most one of ---------------------------------------- */

int machine_check_balloon(const struct machine *vm, uint64_t bytes, struct err *err)
{
	uint64_t memory = machine_get_sizes(vm).memory;
	int r = machine_check_device_request(vm, "set the balloon of", err);

	if (r < 0)
		return r;
	if (!machine_device_of_type(vm, "balloon"))
		return err_fault(err, FAULT_NO_SUCH_DEVICE, ENXIO,
				 "VM '%s' has no balloon, its configuration must have one",
				 vm->def.name);
	if (bytes >= memory)
		return err_fault(err, FAULT_BAD_ARGUMENT, EINVAL,
				 "a balloon of %" PRIu64 " bytes is too large for VM '%s', must be "
				 "less than its %" PRIu64 " bytes of memory",
				 bytes, vm->def.name, memory);
	return 0;
}

int machine_set_balloon(struct machine *vm, uint64_t bytes, machine_done_fn fn, void *data,
			struct err *err)
{
	int r = machine_check_balloon(vm, bytes, err);

	if (r == 0)
		r = machine_check_connection(vm, err);
	return r < 0 ? r : machine_call_worker(vm, "SetBalloon", fn, data, err, "t", bytes);
}

int machine_check_vsock(const struct machine *vm, struct err *err)
{
	int r = machine_check_state(vm, MACHINE_STATES_GUEST & ~MACHINE_STATES(PAUSED),
				    "connect to", err);

	if (r < 0)
		return r;
	if (!machine_device_of_type(vm, "vsock"))
		return err_fault(err, FAULT_NO_SUCH_DEVICE, ENXIO,
				 "VM '%s' has no vsock device, its configuration must have one",
				 vm->def.name);
	return 0;
}

int machine_connect_vsock(struct machine *vm, uint32_t port, machine_done_fn fn, void *data,
			  struct err *err)
{
	int r = machine_check_vsock(vm, err);

	if (r == 0)
		r = machine_check_connection(vm, err);
	return r < 0 ? r : machine_call_worker(vm, "ConnectVSock", fn, data, err, "u", port);
}

int machine_set_console_size(struct machine *vm, const char *console, uint16_t columns,
			     uint16_t rows, machine_done_fn fn, void *data, struct err *err)
{
	int r = machine_check_console(vm, console, err);

	if (r == 0)
		r = machine_check_connection(vm, err);
	return r < 0 ? r
		     : machine_call_worker(vm, "SetConsoleSize", fn, data, err, "sqq", console,
					   columns, rows);
}
