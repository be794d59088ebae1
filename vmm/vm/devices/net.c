/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `net` becomes virtio-net
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/config/device-list.h"
#include "vmm/virtio/net.h"
#include "vmm/virtio/transport-pci.h"
#include "vmm/vm/devices.h"
#include "vmm/vm/limits.h"
#include "vmm/vm/vm.h"

/* One descriptor a pair, named "<pointer>/0" and on. */
static int take_fds(struct vm *vm, const struct net_config *net, const char *pointer, int *fds,
		    struct err *err)
{
	char name[64];

	for (uint16_t i = 0; i < net->num_queues / 2; i++) {
		snprintf(name, sizeof(name), "%s/%u", pointer, i);
		fds[i] = resources_take(&vm->resources, name, err);
		if (fds[i] < 0)
			return err_prefix(err, fds[i], "network '%s'", net->pci.id);
	}
	return 0;
}

static void close_all(const int *fds)
{
	for (uint16_t i = 0; i < VM_NET_PAIRS_MAX; i++)
		if (fds[i] >= 0)
			close(fds[i]);
}

/* The daemon names the resource of a network after its tap, also when that is passt's socket. */
static int take_all(struct vm *vm, const struct config_device *device, int *fds, int *vhost_fds,
		    struct err *err)
{
	const struct net_config *net = &vm->config->nets[device->index];
	char pointer[64];
	int r;

	if (!net->has_mac)
		return err_set(err, EINVAL, "network '%s': the daemon gave it no MAC address",
			       net->pci.id);
	r = take_fds(vm, net, net->tap, fds, err);
	if (r < 0 || !net->vhost)
		return r;
	snprintf(pointer, sizeof(pointer), "/net/%zu/vhost", device->index);
	return take_fds(vm, net, pointer, vhost_fds, err);
}

static int create_net(struct vm *vm, const struct config_device *device, struct err *err)
{
	const struct net_config *net = &vm->config->nets[device->index];
	bool tap = net->backend == NET_BACKEND_TAP;
	int fds[VM_NET_PAIRS_MAX], vhost_fds[VM_NET_PAIRS_MAX];
	struct virtio_net_params params = {
		.id = net->pci.id,
		.wire = tap ? VIRTIO_NET_WIRE_TAP : VIRTIO_NET_WIRE_STREAM,
		.fds = fds,
		.vhost_fds = net->vhost ? vhost_fds : NULL,
		.n_pairs = net->num_queues / 2,
		.queue_size = net->queue_size,
		.mtu = net->mtu,
		/* passt's frames carry nothing that could be offloaded. */
		.offload_tso = tap && net->offload_tso,
		.offload_ufo = tap && net->offload_ufo,
		.offload_csum = tap && net->offload_csum,
	};
	struct virtio_device *dev = NULL;
	int r;

	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		fds[i] = vhost_fds[i] = -EBADF;
	memcpy(params.mac, net->mac.bytes, sizeof(params.mac));
	r = take_all(vm, device, fds, vhost_fds, err);
	if (r >= 0 && !net->vhost)
		r = vm_limits_of_net(vm, device->index, &params.rx_limiter, &params.tx_limiter,
				     err);
	if (r >= 0) {
		r = virtio_net_new(&params, &dev, err);
		if (r < 0)
			resources_blame(err_prefix(err, r, "%s", net->tap), err);
	}
	if (r < 0) {
		close_all(fds);
		close_all(vhost_fds);
		return r;
	}
	return vm_plug_virtio(vm, &vm_net_kind, device, dev, err);
}

static int set_link(struct vm_device *dev, bool up, struct err *err _unused_)
{
	virtio_net_set_link(dev->vp->dev, up);
	return 0;
}

static size_t values(struct vm_device *dev, struct vm_device_value ret[static VM_DEVICE_VALUES_MAX])
{
	ret[0] = (struct vm_device_value){ .name = "link_up",
					   .type = VM_VALUE_BOOL,
					   .b = virtio_net_link_is_up(dev->vp->dev) };
	return 1;
}

const struct vm_device_kind vm_net_kind = {
	.key = "net",
	.create = create_net,
	.set_link = set_link,
	.values = values,
};
