/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/vm/boot.h"

#include <errno.h>
#include <stdlib.h>

#include "vmm/acpi/smbios.h"
#include "vmm/acpi/tables.h"
#include "vmm/arch/x86/boot.h"
#include "vmm/arch/x86/cpuid.h"
#include "vmm/arch/x86/layout.h"
#include "vmm/base/err.h"
#include "vmm/base/log.h"
#include "vmm/hypervisor/x86-state.h"
#include "vmm/loader/loader.h"
#include "vmm/vm/fw-cfg.h"
#include "vmm/vm/resize.h"
#include "vmm/vm/topology.h"
#include "vmm/vm/vm.h"

static const enum loader_mode modes[BOOT_PROTOCOL_N_] = {
	[BOOT_PROTOCOL_AUTO] = LOADER_AUTO,
	[BOOT_PROTOCOL_PVH] = LOADER_PVH,
	[BOOT_PROTOCOL_BZIMAGE] = LOADER_BZIMAGE,
};

/* "/payload/kernel: <what was found>, must be ..." */
static int bad_payload(const struct payload_config *pc, int r, struct err *err)
{
	struct err found;

	if (!err || (r != -ENOEXEC && r != -EBADMSG))
		return resources_blame(r, err);
	found = *err;
	err_clear(err);
	return err_fault(err, FAULT_BAD_CONFIG, -r, "%s, must be %s", found.msg,
			 pc->firmware ? "a firmware image with a PVH note"
				      : "a whole bzImage, or ELF image with a PVH note");
}

/* Memory that begins with what a file holds. */
static bool has_files(const struct vm *vm)
{
	for (size_t i = 0; i < vm->config->memory.n_zones; i++)
		if (vm->config->memory.zones[i].file)
			return true;
	return false;
}

static int load_payload(struct vm *vm, uint64_t rsdp_gpa, struct loader_result *ret,
			struct err *err)
{
	const struct payload_config *pc = &vm->config->payload;
	const char *image = pc->firmware ? pc->firmware : pc->kernel;
	struct x86_memmap memmap;
	struct loader_params params = {
		.what = image,
		.initramfs_fd = -EBADF,
		.cmdline = pc->cmdline,
		.memmap = &memmap,
		.rsdp_gpa = rsdp_gpa,
		.mode = modes[pc->boot_protocol],
		.fresh_ram = !has_files(vm), /* new mappings, or emptied by guest_mem_clear() */
	};
	int r;

	vm_init_memmap(vm, &memmap);
	r = resources_get(&vm->resources, image, err);
	if (r < 0)
		return r;
	params.kernel_fd = r;
	if (pc->initramfs) {
		r = resources_get(&vm->resources, pc->initramfs, err);
		if (r < 0)
			return r;
		params.initramfs_fd = r;
	}
	r = loader_load(&vm->mem, &params, ret, err);
	if (r < 0)
		return bad_payload(pc, r, err);
	log_debug("%s: %s", params.what, ret->format);
	return 0;
}

static int set_vcpus(struct vm *vm, const struct x86_boot_entry *entry, struct err *err)
{
	const struct cpus_config *cpus = &vm->config->cpus;
	bool x2apic = x86_max_apic_id(cpus) > 254;
	_cleanup_free_ struct x86_vcpu_state *st = calloc(1, sizeof(*st));
	int r;

	if (!st)
		return err_set(err, ENOMEM, "out of memory for a vCPU's registers");
	for (uint32_t i = 0; i < vm->vcpus.n; i++) {
		struct hv_vcpu *hv = vm->vcpus.vcpus[i].hv;

		if (!vm->vcpus.vcpus[i].present)
			continue;
		x86_boot_state(st, entry, i == 0, x86_apic_id(cpus, i), x2apic);
		/* A vCPU that never ran has nothing to forget, and asking takes a while. */
		if (vm->boots > 0)
			hv->ops->forget(hv);
		r = hv->ops->state_set(hv, st, err);
		if (r < 0)
			return r;
	}
	return 0;
}

int vm_load(struct vm *vm, struct err *err)
{
	struct loader_result loaded = { 0 };
	uint64_t rsdp_gpa = 0;
	int r;

	r = x86_boot_tables(&vm->mem, err);
	if (r < 0)
		return r;
	r = vm_build_acpi(vm, &rsdp_gpa, err);
	if (r < 0)
		return r;
	r = smbios_build(&vm->mem, &vm->config->platform, err);
	if (r < 0)
		return r;
	r = load_payload(vm, rsdp_gpa, &loaded, err);
	if (r < 0)
		return r;
	r = vm_fill_fw_cfg(vm, rsdp_gpa, err);
	if (r < 0)
		return r;
	return set_vcpus(vm, &loaded.entry, err);
}
