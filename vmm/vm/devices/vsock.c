/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `vsock` becomes virtio-vsock
 *
 * Wishes of the guest go through the mailbox to the control thread, which tells
 * the daemon; without one they are refused at once.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/fd.h"
#include "vmm/config/device-list.h"
#include "vmm/virtio/transport-pci.h"
#include "vmm/virtio/vsock.h"
#include "vmm/vm/devices.h"
#include "vmm/vm/vm.h"

/* On the device's thread. */
static void on_wish(void *data)
{
	struct vm *vm = data;

	mailbox_post(&vm->mailbox, &vm->vsock_wishes);
}

static struct vm_device *find_vsock(struct vm *vm)
{
	for (size_t i = 0; i < vm->n_devices; i++)
		if (vm->devices[i]->kind == &vm_vsock_kind)
			return vm->devices[i];
	return NULL;
}

static void tell_wishes(struct message *message)
{
	struct vm *vm = container_of(message, struct vm, vsock_wishes);
	struct vm_device *dev = find_vsock(vm);
	struct vsock_wish wish;

	while (dev && virtio_vsock_next_wish(dev->vp->dev, &wish)) {
		if (!vm->listener.vsock_wanted ||
		    !vm->listener.vsock_wanted(wish.cookie, wish.port, wish.seqpacket,
					       vm->listener.data))
			virtio_vsock_answer(dev->vp->dev, wish.cookie, -ECONNREFUSED);
	}
}

int vm_answer_vsock(struct vm *vm, uint32_t cookie, int fd, struct err *err)
{
	struct vm_device *dev = find_vsock(vm);
	int r;

	if (!dev) {
		if (fd >= 0)
			close(fd);
		return err_fault(err, FAULT_NO_SUCH_DEVICE, ENXIO,
				 "the machine has no vsock device");
	}
	/* The thread of all slow devices must never wait for it. */
	r = fd >= 0 ? fd_set_nonblock(fd, true) : -ECONNREFUSED;
	if (r < 0 && fd >= 0)
		close(fd);
	virtio_vsock_answer(dev->vp->dev, cookie, r < 0 ? r : fd);
	return 0;
}

/* The second socket is there when the daemon made them; a caller's descriptor is alone. */
static int open_listener(struct vm *vm, const char *name, bool needed, struct err *err)
{
	struct err missing = { 0 };
	int fd = resources_take(&vm->resources, name, needed ? err : &missing), r;

	if (fd < 0)
		return needed ? fd : -EBADF;
	r = fd_set_nonblock(fd, true);
	if (r < 0) {
		close(fd);
		return err_errno(err, -r, "%s", name);
	}
	return fd;
}

static int create_vsock(struct vm *vm, const struct config_device *device, struct err *err)
{
	const struct vsock_config *vsock = &vm->config->vsock;
	struct virtio_vsock_params params = {
		.id = device->id,
		.cid = vsock->cid,
		.wish = on_wish,
		.data = vm,
	};
	struct virtio_device *dev = NULL;
	char seqpacket[128];
	int r;

	snprintf(seqpacket, sizeof(seqpacket), "%s/seqpacket", vsock->socket);
	vm->vsock_wishes.fn = tell_wishes;
	params.listen_fds[0] = open_listener(vm, vsock->socket, true, err);
	if (params.listen_fds[0] < 0)
		return err_prefix(err, params.listen_fds[0], "vsock '%s'", device->id);
	params.listen_fds[1] = open_listener(vm, seqpacket, false, err);
	r = virtio_vsock_new(&params, &dev, err);
	if (r < 0) {
		for (size_t i = 0; i < VSOCK_LISTENERS; i++)
			if (params.listen_fds[i] >= 0)
				close(params.listen_fds[i]);
		return r;
	}
	return vm_plug_virtio(vm, &vm_vsock_kind, device, dev, err);
}

static int connect_vsock(struct vm_device *dev, int fd, struct err *err)
{
	return virtio_vsock_add_client(dev->vp->dev, fd, err);
}

const struct vm_device_kind vm_vsock_kind = {
	.key = "vsock",
	.create = create_vsock,
	.connect_vsock = connect_vsock,
};
