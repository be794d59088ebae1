/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What clients ask of devices while the machine runs (devices.h)
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/fd.h"
#include "vmm/base/thread.h"
#include "vmm/vm/devices.h"
#include "vmm/vm/vm.h"

static struct vm_device *find(struct vm *vm, const char *id, struct err *err)
{
	struct vm_device *dev;

	assert_on_control();
	dev = vm_device_find(vm, id);
	if (!dev)
		err_fault(err, FAULT_NO_SUCH_DEVICE, ENXIO, "there is no device '%s'", id);
	return dev;
}

static int cannot(const struct vm_device *dev, const char *what, struct err *err)
{
	return err_fault(err, FAULT_UNSUPPORTED, EOPNOTSUPP, "device '%s' (%s) %s", dev->id,
			 dev->type, what);
}

int vm_set_link(struct vm *vm, const char *id, bool up, struct err *err)
{
	struct vm_device *dev = find(vm, id, err);

	if (!dev)
		return -ENXIO;
	if (!dev->kind->set_link)
		return cannot(dev, "has no link", err);
	return dev->kind->set_link(dev, up, err);
}

int vm_resize_disk(struct vm *vm, const char *id, uint64_t bytes, struct err *err)
{
	struct vm_device *dev = find(vm, id, err);

	if (!dev)
		return -ENXIO;
	if (!dev->kind->resize_disk)
		return cannot(dev, "is no disk, which could be resized", err);
	return dev->kind->resize_disk(dev, bytes, err);
}

int vm_replace_disk(struct vm *vm, const char *id, const char *pointer, const char *type,
		    struct err *err)
{
	struct vm_device *dev = find(vm, id, err);
	int r = -ENXIO;

	if (dev && !dev->kind->replace_disk)
		r = cannot(dev, "is no disk, whose image could be replaced", err);
	else if (dev)
		r = dev->kind->replace_disk(dev, pointer, type, err);
	if (r < 0)
		resources_drop(&vm->resources, pointer);
	return r;
}

int vm_set_balloon(struct vm *vm, uint64_t bytes, struct err *err)
{
	assert_on_control();
	for (size_t i = 0; i < vm->n_devices; i++)
		if (vm->devices[i]->kind->set_balloon)
			return vm->devices[i]->kind->set_balloon(vm->devices[i], bytes, err);
	return err_fault(err, FAULT_NO_SUCH_DEVICE, ENXIO, "the machine has no balloon");
}

static int connect_vsock(struct vm_device *dev, uint32_t port, int *ret_fd, struct err *err)
{
	_cleanup_close_ int ours = -EBADF;
	char line[32];
	int fds[2], r;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) < 0)
		return err_errno(err, errno, "cannot make a socket for port %u", port);
	ours = fds[0];
	snprintf(line, sizeof(line), "CONNECT %u\n", port);
	r = fd_write_all(ours, line, strlen(line));
	if (r < 0) {
		close(fds[1]);
		return err_errno(err, -r, "cannot ask for port %u", port);
	}
	r = dev->kind->connect_vsock(dev, fds[1], err);
	if (r < 0)
		return r;
	*ret_fd = TAKE_FD(ours);
	return 0;
}

int vm_connect_vsock(struct vm *vm, uint32_t port, int *ret_fd, struct err *err)
{
	assert_on_control();
	for (size_t i = 0; i < vm->n_devices; i++)
		if (vm->devices[i]->kind->connect_vsock)
			return connect_vsock(vm->devices[i], port, ret_fd, err);
	return err_fault(err, FAULT_NO_SUCH_DEVICE, ENXIO, "the machine has no vsock device");
}

int vm_set_console_size(struct vm *vm, const char *name, uint16_t columns, uint16_t rows,
			struct err *err)
{
	const char *consoles[PLATFORM_CONSOLES_MAX + 1] = { NULL };

	assert_on_control();
	platform_list_consoles(&vm->platform, consoles);
	if (name[0] == '\0' && consoles[0])
		name = consoles[0];
	/* Of the three only virtio-console can say how large it is. */
	for (size_t i = 0; strcmp(name, "console") == 0 && i < vm->n_devices; i++)
		if (vm->devices[i]->kind->set_console_size)
			return vm->devices[i]->kind->set_console_size(vm->devices[i], columns, rows,
								      err);
	return err_fault(err, FAULT_UNSUPPORTED, EOPNOTSUPP,
			 "console '%s' has no size that the guest could be told", name);
}
