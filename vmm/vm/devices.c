/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/vm/devices.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/err.h"
#include "vmm/sandbox/sandbox.h"
#include "vmm/virtio/blk.h"
#include "vmm/virtio/console.h"
#include "vmm/virtio/net.h"
#include "vmm/virtio/rng.h"
#include "vmm/virtio/transport-pci.h"
#include "vmm/vm/vm.h"

#define ID_RNG     "__rng"
#define ID_CONSOLE "__console"

static void on_activated(struct virtio_pci *vp, bool active, void *data)
{
	struct vm *vm = data;

	vm->listener.device_changed(vp->dev->id, active, vm->listener.data);
}

/* Takes dev over, also when it fails. */
static int plug(struct vm *vm, struct virtio_device *dev, int slot, struct err *err)
{
	struct virtio_pci *vp = NULL;
	int r;

	dev->mem = &vm->mem;
	dev->shared_loop = &vm->shared_loop;
	dev->thread_enter = sandbox_enter;
	r = virtio_pci_new(dev, vm->hv, &vm->irqs, &vm->mailbox, &vp, err);
	if (r < 0)
		return r;
	vp->activated = on_activated;
	vp->activated_data = vm;
	r = pci_segment_add(&vm->segment, &vp->pci, slot, err);
	if (r < 0) {
		virtio_pci_free(vp);
		return r;
	}
	vm->devices[vm->n_devices++] = vp;
	return 0;
}

static int add_disk(struct vm *vm, const struct disk_config *disk, struct err *err)
{
	struct virtio_blk_params params = {
		.id = disk->id,
		.readonly = disk->readonly,
		.direct = disk->direct,
		.serial = disk->serial,
		.n_queues = disk->num_queues,
		.queue_size = disk->queue_size,
	};
	struct virtio_device *dev = NULL;
	int r;

	params.fd = resources_dup(&vm->resources, disk->path, err);
	if (params.fd < 0)
		return err_prefix(err, params.fd, "disk '%s'", disk->id);
	r = virtio_blk_new(&params, &dev, err);
	if (r < 0) {
		close(params.fd);
		return resources_blame(err_prefix(err, r, "%s", disk->path), err);
	}
	return plug(vm, dev, disk->has_pci_device_id ? disk->pci_device_id : -1, err);
}

static int take_taps(struct vm *vm, const struct net_config *net, int *fds, uint16_t n_pairs,
		     struct err *err)
{
	char name[64];

	for (uint16_t i = 0; i < n_pairs; i++) {
		snprintf(name, sizeof(name), "%s/%u", net->tap, i);
		fds[i] = resources_dup(&vm->resources, name, err);
		if (fds[i] < 0)
			return err_prefix(err, fds[i], "network '%s'", net->id);
	}
	return 0;
}

static void close_all(const int *fds, uint16_t n)
{
	for (uint16_t i = 0; i < n; i++)
		if (fds[i] >= 0)
			close(fds[i]);
}

static int add_net(struct vm *vm, const struct net_config *net, struct err *err)
{
	int fds[VM_NET_PAIRS_MAX];
	uint16_t n_pairs = net->num_queues / 2;
	struct virtio_net_params params = {
		.id = net->id,
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
				   net->id);
	if (r >= 0) {
		r = virtio_net_new(&params, &dev, err);
		if (r < 0)
			resources_blame(err_prefix(err, r, "%s", net->tap), err);
	}
	if (r < 0) {
		close_all(fds, n_pairs);
		return r;
	}
	return plug(vm, dev, net->has_pci_device_id ? net->pci_device_id : -1, err);
}

static int add_rng(struct vm *vm, struct err *err)
{
	struct virtio_rng_params params = { .id = ID_RNG };
	struct virtio_device *dev = NULL;
	int r;

	params.fd = resources_dup(&vm->resources, vm->config->rng.src, err);
	if (params.fd < 0)
		return err_prefix(err, params.fd, "rng");
	r = virtio_rng_new(&params, &dev, err);
	if (r < 0) {
		close(params.fd);
		return resources_blame(err_prefix(err, r, "%s", vm->config->rng.src), err);
	}
	return plug(vm, dev, -1, err);
}

static int add_console(struct vm *vm, struct err *err)
{
	const struct virtio_console_params params = {
		.id = ID_CONSOLE,
		.chardev = &vm->platform.console_chardev,
	};
	struct virtio_device *dev = NULL;
	int r = virtio_console_new(&params, &dev, err);

	return r < 0 ? r : plug(vm, dev, -1, err);
}

/* Those with a slot of their own first, so that no other takes it. */
static int add_disks_and_nets(struct vm *vm, bool with_slot, struct err *err)
{
	const struct vm_config *c = vm->config;
	int r = 0;

	for (size_t i = 0; r >= 0 && i < c->n_disks; i++)
		if (c->disks[i].has_pci_device_id == with_slot)
			r = add_disk(vm, &c->disks[i], err);
	for (size_t i = 0; r >= 0 && i < c->n_nets; i++)
		if (c->nets[i].has_pci_device_id == with_slot)
			r = add_net(vm, &c->nets[i], err);
	return r;
}

int vm_devices_create(struct vm *vm, struct err *err)
{
	const struct vm_config *c = vm->config;
	int r;

	vm->devices = calloc(c->n_disks + c->n_nets + 2, sizeof(struct virtio_pci *));
	if (!vm->devices)
		return err_set(err, ENOMEM, "out of memory for the devices");
	r = add_disks_and_nets(vm, true, err);
	if (r >= 0 && c->console.mode != CONSOLE_MODE_OFF)
		r = add_console(vm, err);
	if (r >= 0)
		r = add_disks_and_nets(vm, false, err);
	if (r >= 0)
		r = add_rng(vm, err);
	return r;
}

void vm_devices_free(struct vm *vm)
{
	while (vm->n_devices > 0) {
		struct virtio_pci *vp = vm->devices[--vm->n_devices];

		pci_segment_remove(&vm->segment, &vp->pci);
		virtio_pci_free(vp);
	}
	free(vm->devices);
	vm->devices = NULL;
}
