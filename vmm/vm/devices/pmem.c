/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `pmem` becomes virtio-pmem, in addresses between RAM and the PCI windows
 */
#include <errno.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/math.h"
#include "vmm/config/device-list.h"
#include "vmm/virtio/pmem.h"
#include "vmm/vm/devices.h"
#include "vmm/vm/vm.h"

/* The processor's large pages can map all of it. */
#define AREA_ALIGN GIB

static int size_of(struct vm *vm, size_t i, uint64_t *ret, struct err *err)
{
	const struct pmem_config *pmem = &vm->config->pmem[i];
	int fd = resources_get(&vm->resources, pmem->file, err), r;

	if (fd < 0)
		return err_prefix(err, fd, "pmem '%s'", pmem->pci.id);
	r = virtio_pmem_size(fd, pmem->size, ret, err);
	return r < 0 ? resources_blame(err_prefix(err, r, "%s", pmem->file), err) : 0;
}

int vm_pmem_reserve(struct vm *vm, struct err *err)
{
	uint64_t sum = 0, size = 0;
	int r;

	for (size_t i = 0; i < vm->config->n_pmem; i++) {
		r = size_of(vm, i, &size, err);
		if (r < 0)
			return r;
		if (__builtin_add_overflow(sum, align_up(size, AREA_ALIGN), &sum))
			sum = align_down(UINT64_MAX, AREA_ALIGN);
	}
	if (sum == 0)
		return 0;
	r = x86_windows_take(&vm->windows, sum, &vm->pmem_gpa, err);
	if (r < 0)
		return err_prefix(err, r, "/pmem");
	vm->pmem_end = vm->pmem_gpa + sum;
	return 0;
}

static int create_pmem(struct vm *vm, const struct config_device *device, struct err *err)
{
	const struct pmem_config *pmem = &vm->config->pmem[device->index];
	struct virtio_pmem_params params = {
		.id = device->id,
		.discard_writes = pmem->discard_writes,
		.mem = &vm->mem,
		.gpa = vm->pmem_gpa,
	};
	struct virtio_device *dev = NULL;
	int r;

	r = size_of(vm, device->index, &params.size, err);
	if (r < 0)
		return r;
	params.fd = resources_take(&vm->resources, pmem->file, err);
	if (params.fd < 0)
		return err_prefix(err, params.fd, "pmem '%s'", device->id);
	if (range_fits(params.gpa, params.size, vm->pmem_end))
		r = virtio_pmem_new(&params, &dev, err);
	else
		r = err_set(err, EBUSY, "the file became larger while the machine started");
	if (r < 0) {
		close(params.fd);
		return resources_blame(err_prefix(err, r, "%s", pmem->file), err);
	}
	vm->pmem_gpa += align_up(params.size, AREA_ALIGN);
	return vm_plug_virtio(vm, &vm_pmem_kind, device, dev, err);
}

const struct vm_device_kind vm_pmem_kind = { .key = "pmem", .create = create_pmem };
