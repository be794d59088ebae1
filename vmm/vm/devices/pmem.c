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
#include "vmm/virtio/transport-pci.h"
#include "vmm/vm/devices.h"
#include "vmm/vm/vm.h"

/* The processor's large pages can map all of it. */
#define AREA_ALIGN GIB
/* For those that come while the machine runs: an eighth of the window, at most this. */
#define LATER_MAX (1024 * GIB)

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
	uint64_t sum = 0, size = 0, later;
	int r;

	for (size_t i = 0; i < vm->config->n_pmem; i++) {
		r = size_of(vm, i, &size, err);
		if (r < 0)
			return r;
		if (__builtin_add_overflow(sum, align_up(size, AREA_ALIGN), &sum))
			sum = align_down(UINT64_MAX, AREA_ALIGN);
	}
	r = x86_windows_take(&vm->windows, sum, &vm->pmem_gpa, err);
	if (r < 0)
		return err_prefix(err, r, "/pmem");
	vm->pmem_end = vm->pmem_gpa + sum;
	/* It follows what is there.  Where the window cannot spare it, none can come. */
	sum = MIN(align_down(vm->windows.mmio64_size / 8, AREA_ALIGN), LATER_MAX);
	if (x86_windows_take(&vm->windows, sum, &later, NULL) == 0)
		vm->pmem_end = later + sum;
	return 0;
}

/* A guest that has not let go of one would take another in its place for it. */
static bool has_husk(const struct vm *vm)
{
	const struct vm_device *husk;

	LIST_FOREACH(husk, &vm->husks, link)
		if (husk->kind == &vm_pmem_kind)
			return true;
	return false;
}

/* Another's place, or a new one. */
static int find_place(struct vm *vm, uint64_t size, uint64_t *ret, struct err *err)
{
	if (!has_husk(vm) && guest_mem_find_retired(&vm->mem, size, ret))
		return 0;
	*ret = vm->pmem_gpa;
	if (range_fits(vm->pmem_gpa, size, vm->pmem_end))
		return 0;
	return err_fault(err, FAULT_UNSUPPORTED, E2BIG,
			 "%llu MiB, and %llu MiB of addresses are left for persistent memory while "
			 "the machine runs",
			 size / MIB, (vm->pmem_end - vm->pmem_gpa) / MIB);
}

static int create_pmem(struct vm *vm, const struct config_device *device, struct err *err)
{
	const struct pmem_config *pmem = &vm->config->pmem[device->index];
	struct virtio_pmem_params params = {
		.id = device->id,
		.discard_writes = pmem->discard_writes,
		.mem = &vm->mem,
	};
	struct virtio_device *dev = NULL;
	int r;

	r = size_of(vm, device->index, &params.size, err);
	if (r < 0)
		return r;
	params.fd = resources_take(&vm->resources, pmem->file, err);
	if (params.fd < 0)
		return err_prefix(err, params.fd, "pmem '%s'", device->id);
	r = find_place(vm, params.size, &params.gpa, err);
	if (r >= 0)
		r = virtio_pmem_new(&params, &dev, err);
	if (r < 0) {
		close(params.fd);
		return resources_blame(err_prefix(err, r, "%s", pmem->file), err);
	}
	if (params.gpa == vm->pmem_gpa)
		vm->pmem_gpa += align_up(params.size, AREA_ALIGN);
	r = vm_plug_virtio(vm, &vm_pmem_kind, device, dev, err);
	/* Servers of other devices' queues are to find it, too. */
	for (size_t i = 0; r >= 0 && i < vm->n_devices; i++)
		if (vm->devices[i]->vp)
			virtio_device_grow_memory(vm->devices[i]->vp->dev);
	return r;
}

const struct vm_device_kind vm_pmem_kind = { .key = "pmem", .create = create_pmem };
