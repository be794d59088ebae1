/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/vm/fw-cfg.h"

#include <errno.h>
#include <string.h>

#include "vmm/acpi/loader-files.h"
#include "vmm/arch/x86/memory-map.h"
#include "vmm/base/err.h"
#include "vmm/base/math.h"
#include "vmm/devices/fw-cfg.h"
#include "vmm/loader/bzimage.h"
#include "vmm/loader/file.h"
#include "vmm/vm/resize.h"
#include "vmm/vm/vm.h"

static int offer_e820(struct vm *vm, struct err *err)
{
	struct fw_cfg_e820 entries[X86_MEMMAP_MAX];
	struct x86_memmap memmap;

	vm_init_memmap(vm, &memmap);
	for (size_t i = 0; i < memmap.n; i++)
		entries[i] = (struct fw_cfg_e820){ le64_make(memmap.entries[i].gpa),
						   le64_make(memmap.entries[i].size),
						   le32_make(memmap.entries[i].type) };
	return fw_cfg_add_file(&vm->platform.fw_cfg, "etc/e820", entries,
			       memmap.n * sizeof(entries[0]), err);
}

/* A file of the configuration, as size and data. */
static int offer_file(struct vm *vm, const char *pointer, uint64_t skip, uint16_t size_key,
		      uint16_t data_key, struct err *err)
{
	struct fw_cfg *fw = &vm->platform.fw_cfg;
	int fd = resources_get(&vm->resources, pointer, err), r;
	uint64_t size;

	if (fd < 0)
		return fd;
	r = file_size(fd, &size, err);
	if (r >= 0)
		r = fw_cfg_add_fd(fw, data_key, NULL, fd, skip, size - MIN(size, skip), err);
	if (r >= 0)
		r = fw_cfg_add_u32(fw, size_key, (uint32_t)(size - MIN(size, skip)), err);
	return r < 0 ? resources_blame(err_prefix(err, r, "%s", pointer), err) : 0;
}

/* A bzImage is two files: what runs in real mode, and the rest. */
static int offer_kernel(struct vm *vm, const char *pointer, struct err *err)
{
	struct fw_cfg *fw = &vm->platform.fw_cfg;
	int fd = resources_get(&vm->resources, pointer, err), r;
	struct bzimage image;
	uint64_t size, setup = 0;

	if (fd < 0)
		return fd;
	r = file_size(fd, &size, err);
	if (r < 0)
		return r;
	if (bzimage_probe(fd, size, &image, NULL) > 0)
		setup = image.code_off;
	r = fw_cfg_add_fd(fw, FW_CFG_SETUP_DATA, NULL, fd, 0, setup, err);
	if (r >= 0)
		r = fw_cfg_add_u32(fw, FW_CFG_SETUP_SIZE, (uint32_t)setup, err);
	if (r >= 0)
		r = offer_file(vm, pointer, setup, FW_CFG_KERNEL_SIZE, FW_CFG_KERNEL_DATA, err);
	return r;
}

static int offer_payload(struct vm *vm, struct err *err)
{
	const struct payload_config *pc = &vm->config->payload;
	struct fw_cfg *fw = &vm->platform.fw_cfg;
	int r = 0;

	if (pc->fw_cfg.kernel && pc->kernel)
		r = offer_kernel(vm, pc->kernel, err);
	if (r >= 0 && pc->fw_cfg.initramfs && pc->initramfs)
		r = offer_file(vm, pc->initramfs, 0, FW_CFG_INITRD_SIZE, FW_CFG_INITRD_DATA, err);
	if (r >= 0 && pc->fw_cfg.cmdline && pc->cmdline) {
		size_t len = strlen(pc->cmdline) + 1;

		r = fw_cfg_add(fw, FW_CFG_CMDLINE_DATA, pc->cmdline, len, err);
		if (r >= 0)
			r = fw_cfg_add_u32(fw, FW_CFG_CMDLINE_SIZE, (uint32_t)len, err);
	}
	return r;
}

static int offer_acpi(struct vm *vm, uint64_t rsdp_gpa, struct err *err)
{
	struct fw_cfg *fw = &vm->platform.fw_cfg;
	struct acpi_loader_files files;
	int r = acpi_loader_files_make(&vm->mem, rsdp_gpa, &files, err);

	if (r < 0)
		return r;
	r = fw_cfg_add_file(fw, ACPI_LOADER_TABLES, files.tables, files.tables_len, err);
	if (r >= 0)
		r = fw_cfg_add_file(fw, ACPI_LOADER_RSDP, files.rsdp, files.rsdp_len, err);
	if (r >= 0)
		r = fw_cfg_add_file(fw, ACPI_LOADER_SCRIPT, files.script, files.script_len, err);
	acpi_loader_files_deinit(&files);
	return r;
}

static int offer_items(struct vm *vm, struct err *err)
{
	const struct fw_cfg_items_config *items = &vm->config->payload.fw_cfg.items;
	struct fw_cfg *fw = &vm->platform.fw_cfg;
	int r = 0;

	for (size_t i = 0; r >= 0 && i < items->n; i++) {
		const struct fw_cfg_item_config *item = &items->list[i];
		uint64_t size = 0;
		int fd;

		if (item->string) {
			r = fw_cfg_add_file(fw, item->name, item->string, strlen(item->string),
					    err);
			continue;
		}
		fd = resources_get(&vm->resources, item->file, err);
		r = fd < 0 ? fd : file_size(fd, &size, err);
		if (r >= 0)
			r = fw_cfg_add_fd(fw, 0, item->name, fd, 0, size, err);
		if (r < 0)
			r = resources_blame(err_prefix(err, r, "%s", item->file), err);
	}
	return r;
}

int vm_fill_fw_cfg(struct vm *vm, uint64_t rsdp_gpa, struct err *err)
{
	const struct fw_cfg_config *config = &vm->config->payload.fw_cfg;
	int r;

	if (!vm->config->payload.has_fw_cfg)
		return 0;
	r = fw_cfg_reset(&vm->platform.fw_cfg, err);
	if (r >= 0 && config->e820)
		r = offer_e820(vm, err);
	if (r >= 0)
		r = offer_payload(vm, err);
	if (r >= 0 && config->acpi_tables)
		r = offer_acpi(vm, rsdp_gpa, err);
	if (r >= 0)
		r = offer_items(vm, err);
	return r < 0 ? r : fw_cfg_seal(&vm->platform.fw_cfg, err);
}
