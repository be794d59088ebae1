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
#include "vmm/vm/devices.h"
#include "vmm/vm/vm.h"

static int take_taps(struct vm *vm, const struct net_config *net, int *fds, uint16_t n_pairs,
		     struct err *err)
{
	char name[64];

	for (uint16_t i = 0; i < n_pairs; i++) {
		snprintf(name, sizeof(name), "%s/%u", net->tap, i);
		fds[i] = resources_dup(&vm->resources, name, err);
		if (fds[i] < 0)
			return err_prefix(err, fds[i], "network '%s'", net->pci.id);
	}
	return 0;
}

static void close_all(const int *fds, uint16_t n)
{
	for (uint16_t i = 0; i < n; i++)
		if (fds[i] >= 0)
			close(fds[i]);
}

static int create_net(struct vm *vm, const struct config_device *device, struct err *err)
{
	const struct net_config *net = &vm->config->nets[device->index];
	int fds[VM_NET_PAIRS_MAX];
	uint16_t n_pairs = net->num_queues / 2;
	struct virtio_net_params params = {
		.id = net->pci.id,
		.fds = fds,
		.n_pairs = n_pairs,
		.queue_size = net->queue_size,
		.mtu = net->mtu,
		.offload_tso = net->offload_tso,
		.offload_ufo = net->offload_ufo,
		.offload_csum = net->offload_csum,
	};
	struct virtio_device *dev = NULL;
	int r;

	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		fds[i] = -EBADF;
	memcpy(params.mac, net->mac.bytes, sizeof(params.mac));
	r = net->has_mac ? take_taps(vm, net, fds, n_pairs, err)
			 : err_set(err, EINVAL, "network '%s': the daemon gave it no MAC address",
				   net->pci.id);
	if (r >= 0) {
		r = virtio_net_new(&params, &dev, err);
		if (r < 0)
			resources_blame(err_prefix(err, r, "%s", net->tap), err);
	}
	if (r < 0) {
		close_all(fds, n_pairs);
		return r;
	}
	return vm_plug_virtio(vm, &vm_net_kind, device, dev, err);
}

const struct vm_device_kind vm_net_kind = { .key = "net", .create = create_net };
