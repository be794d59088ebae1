/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/loader/loader.h"

#include <elf.h>
#include <errno.h>
#include <string.h>

#include "vmm/arch/x86/layout.h"
#include "vmm/base/err.h"
#include "vmm/base/fd.h"
#include "vmm/base/math.h"
#include "vmm/loader/bzimage.h"
#include "vmm/loader/cmdline.h"
#include "vmm/loader/elf.h"
#include "vmm/loader/file.h"
#include "vmm/loader/initramfs.h"
#include "vmm/loader/pvh.h"
#include "vmm/loader/unpack.h"
#include "vmm/loader/zero-page.h"

/* A payload in guest RAM. */
struct loaded {
	struct x86_boot_entry entry;
	struct bzimage image;     /* X86_BOOT_BZIMAGE only */
	uint64_t end_gpa;         /* what is free behind it */
	uint64_t initramfs_limit; /* exclusive */
	uint64_t cmdline_max;
	const char *format;
};

static const char *const unpacked_names[UNPACK_N_] = {
	[UNPACK_NONE] = "bzImage, uncompressed, entered by PVH",
	[UNPACK_GZIP] = "bzImage, gzip, unpacked, entered by PVH",
	[UNPACK_XZ] = "bzImage, xz, unpacked, entered by PVH",
	[UNPACK_LZ4] = "bzImage, LZ4, unpacked, entered by PVH",
	[UNPACK_ZSTD] = "bzImage, zstd, unpacked, entered by PVH",
};

static void set_pvh(struct loaded *l, const struct elf_image *image, const char *format)
{
	*l = (struct loaded){
		.entry = { X86_BOOT_PVH, image->entry_gpa },
		.end_gpa = image->end_gpa,
		.initramfs_limit = LAYOUT_HOLE_START,
		.cmdline_max = LAYOUT_CMDLINE_MAX - 1,
		.format = format,
	};
}

/*
 * 1: unpacked, *ret is filled.  0: this payload is not one we unpack.  A
 * damaged payload is an error even though the guest could be left to find out.
 */
static int load_unpacked(const struct bzimage *image, const struct loader_params *p,
			 const struct elf_target *target, struct loaded *ret, struct err *err)
{
	struct elf_image elf;
	struct err inner = { 0 };
	enum unpack_format format;
	int r;

	r = unpack_probe(p->kernel_fd, image->payload_off, image->payload_size, &format, err);
	if (r < 0)
		return r;
	if (format == UNPACK_OTHER)
		return 0;
	r = unpack_elf(p->kernel_fd, image->payload_off, image->payload_size, format, target, &elf,
		       &inner);
	/* A kernel built without CONFIG_PVH is fine as a bzImage. */
	if (r == -ENOEXEC && p->mode == LOADER_AUTO)
		return 0;
	if (r < 0) {
		if (err)
			*err = inner;
		return r;
	}
	set_pvh(ret, &elf, unpacked_names[format]);
	ret->cmdline_max = image->cmdline_max;
	return 1;
}

static int load_bzimage(const struct bzimage *image, struct guest_mem *mem,
			const struct loader_params *p, const struct elf_target *target,
			struct loaded *ret, struct err *err)
{
	uint64_t end_gpa = 0;
	int r = 0;

	if (p->mode != LOADER_BZIMAGE) {
		r = load_unpacked(image, p, target, ret, err);
		if (r < 0)
			return r;
		if (r > 0)
			return 0;
	}
	if (p->mode == LOADER_PVH)
		return err_set(err, ENOEXEC, "a bzImage whose payload cannot be entered by PVH");
	r = bzimage_load(p->kernel_fd, image, mem, p->memmap, &end_gpa, err);
	if (r < 0)
		return r;
	*ret = (struct loaded){
		.entry = { X86_BOOT_BZIMAGE, LAYOUT_HIGH_RAM },
		.image = *image,
		.end_gpa = end_gpa,
		.initramfs_limit = image->header.initrd_addr_max + 1ULL,
		.cmdline_max = image->cmdline_max,
		.format = "bzImage",
	};
	return 0;
}

static int load_payload(struct guest_mem *mem, const struct loader_params *p, struct loaded *ret,
			struct err *err)
{
	const struct elf_target target = { mem, p->memmap, p->fresh_ram };
	uint8_t magic[SELFMAG] = { 0 };
	struct bzimage image;
	struct elf_image elf;
	uint64_t size = 0;
	int r;

	r = file_size(p->kernel_fd, &size, err);
	if (r < 0)
		return r;
	if (size < sizeof(magic))
		return err_set(err, ENOEXEC, "a file of %llu bytes is no kernel",
			       (unsigned long long)size);
	r = fd_pread_all(p->kernel_fd, magic, sizeof(magic), 0);
	if (r < 0)
		return err_errno(err, -r, "cannot read");
	if (memcmp(magic, ELFMAG, SELFMAG) == 0) {
		r = elf_load_file(p->kernel_fd, 0, size, &target, &elf, err);
		if (r < 0)
			return r;
		set_pvh(ret, &elf, "ELF");
		return 0;
	}
	r = bzimage_probe(p->kernel_fd, size, &image, err);
	if (r < 0)
		return r;
	if (r > 0)
		return load_bzimage(&image, mem, p, &target, ret, err);
	return err_set(err, ENOEXEC,
		       "neither an ELF image nor a bzImage (starts with '%02x %02x %02x %02x')",
		       magic[0], magic[1], magic[2], magic[3]);
}

int loader_load(struct guest_mem *mem, const struct loader_params *params,
		struct loader_result *ret, struct err *err)
{
	struct initramfs initramfs;
	struct loaded l = { 0 };
	int r;

	r = load_payload(mem, params, &l, err);
	if (r < 0)
		return err_prefix(err, r, "%s", params->what);
	r = cmdline_write(mem, params->cmdline, l.cmdline_max, err);
	if (r < 0)
		return r;
	r = initramfs_load(params->initramfs_fd, mem, params->memmap, l.end_gpa, l.initramfs_limit,
			   &initramfs, err);
	if (r < 0)
		return r;
	if (l.entry.protocol == X86_BOOT_PVH)
		r = pvh_write_start_info(mem, params->memmap, &initramfs, params->rsdp_gpa, err);
	else
		r = zero_page_write(mem, &l.image, params->memmap, &initramfs, params->rsdp_gpa,
				    err);
	if (r < 0)
		return r;
	*ret = (struct loader_result){ .entry = l.entry, .format = l.format };
	return 0;
}
