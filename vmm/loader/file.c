/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/loader/file.h"

#include <errno.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "vmm/arch/x86/layout.h"
#include "vmm/arch/x86/memory-map.h"
#include "vmm/base/err.h"
#include "vmm/base/math.h"
#include "vmm/memory/guest-memory.h"

/* One preadv: below the kernel's own limit of 2 GiB a call, so short counts mean end of file. */
#define READ_MAX (512 * MIB)

int file_size(int fd, uint64_t *ret, struct err *err)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return err_errno(err, errno, "cannot stat");
	if (S_ISREG(st.st_mode)) {
		*ret = (uint64_t)st.st_size;
		return 0;
	}
	if (!S_ISBLK(st.st_mode))
		return err_set(err, EINVAL, "neither a regular file nor a block device");
	if (ioctl(fd, BLKGETSIZE64, ret) < 0)
		return err_errno(err, errno, "cannot get the size of the block device");
	return 0;
}

/* Moves an iovec array on by n bytes. */
static void iov_advance(struct iovec **iov, size_t *n_iov, size_t n)
{
	while (*n_iov > 0 && n >= (*iov)->iov_len) {
		n -= (*iov)->iov_len;
		(*iov)++;
		(*n_iov)--;
	}
	if (*n_iov > 0) {
		(*iov)->iov_base = (char *)(*iov)->iov_base + n;
		(*iov)->iov_len -= n;
	}
}

int file_read_guest(int fd, uint64_t off, struct guest_mem *mem, uint64_t gpa, uint64_t len,
		    struct err *err)
{
	while (len > 0) {
		struct iovec vec[GUEST_REGIONS_MAX], *iov = vec;
		uint64_t chunk = MIN(len, (uint64_t)READ_MAX);
		size_t n_iov = 0;
		int r;

		r = guest_iov(mem, gpa, chunk, vec, ARRAY_SIZE(vec), &n_iov);
		if (r < 0)
			return err_set(err, -r, "no guest memory at 0x%llx",
				       (unsigned long long)gpa);
		len -= chunk;
		gpa += chunk;
		while (n_iov > 0) {
			ssize_t n = preadv(fd, iov, (int)n_iov, (off_t)off);

			if (n < 0 && errno == EINTR)
				continue;
			if (n < 0)
				return err_errno(err, errno, "cannot read at byte %llu",
						 (unsigned long long)off);
			if (n == 0)
				return err_set(err, EIO, "ends at byte %llu while being read",
					       (unsigned long long)off);
			off += (uint64_t)n;
			iov_advance(&iov, &n_iov, (size_t)n);
		}
	}
	return 0;
}

bool memmap_has_ram(const struct x86_memmap *map, uint64_t gpa, uint64_t len)
{
	for (size_t i = 0; i < map->n; i++) {
		const struct x86_memmap_entry *e = &map->entries[i];

		if (e->type == X86_MEMMAP_RAM && gpa >= e->gpa &&
		    range_fits(gpa - e->gpa, len, e->size))
			return true;
	}
	return false;
}

uint64_t memmap_payload_end(const struct x86_memmap *map)
{
	for (size_t i = 0; i < map->n; i++) {
		const struct x86_memmap_entry *e = &map->entries[i];

		if (e->type == X86_MEMMAP_RAM && e->gpa == LAYOUT_HIGH_RAM)
			return e->gpa + e->size;
	}
	return 0;
}

uint64_t memmap_ram_mib(const struct x86_memmap *map)
{
	uint64_t sum = 0;

	/* The gap for firmware tables below 1 MiB is RAM as well. */
	for (size_t i = 0; i < map->n; i++)
		if (map->entries[i].type == X86_MEMMAP_RAM)
			sum += map->entries[i].size;
	return (sum + LAYOUT_HIGH_RAM - LAYOUT_EBDA_START) / MIB;
}
