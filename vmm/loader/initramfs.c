/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/loader/initramfs.h"

#include "vmm/arch/x86/memory-map.h"
#include "vmm/base/err.h"
#include "vmm/base/math.h"
#include "vmm/loader/file.h"

#define PAGE 4096

int initramfs_load(int fd, struct guest_mem *mem, const struct x86_memmap *memmap,
		   uint64_t kernel_end, uint64_t limit, struct initramfs *ret, struct err *err)
{
	uint64_t size = 0, end, gpa;
	int r;

	*ret = (struct initramfs){ 0 };
	if (fd < 0)
		return 0;
	r = file_size(fd, &size, err);
	if (r < 0)
		return err_prefix(err, r, "/payload/initramfs");
	if (size == 0)
		return err_set(err, EINVAL, "/payload/initramfs: the file is empty");

	end = align_down(MIN(memmap_payload_end(memmap), limit), PAGE);
	if (size > end || align_down(end - size, PAGE) < kernel_end)
		return err_set(err, ENOSPC,
			       "/payload/initramfs: %llu MiB do not fit into %llu MiB of memory "
			       "beside the kernel, which ends at %llu MiB",
			       (unsigned long long)(align_up(size, MIB) / MIB),
			       (unsigned long long)memmap_ram_mib(memmap),
			       (unsigned long long)(align_up(kernel_end, MIB) / MIB));
	gpa = align_down(end - size, PAGE);
	r = file_read_guest(fd, 0, mem, gpa, size, err);
	if (r < 0)
		return err_prefix(err, r, "/payload/initramfs");
	*ret = (struct initramfs){ .gpa = gpa, .size = size };
	return 0;
}
