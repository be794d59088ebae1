/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzzing of everything loader_load() does with a kernel file, in each mode
 */
#include <assert.h>
#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vmm/arch/x86/layout.h"
#include "vmm/base/err.h"
#include "vmm/base/math.h"
#include "vmm/loader/loader.h"
#include "vmm/memory/guest-memory.h"

#define RAM (32 * MIB)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const enum loader_mode modes[] = { LOADER_AUTO, LOADER_PVH, LOADER_BZIMAGE };
	static struct guest_mem mem;
	static struct x86_memmap map;
	const struct guest_mem_params mp = {
		.size = RAM,
		.hole_start = LAYOUT_HOLE_START,
		.hole_end = LAYOUT_HOLE_END,
	};
	int fd;

	if (!map.n) {
		int r = guest_mem_init(&mem, NULL, &mp, NULL);

		assert(r == 0);
		x86_memmap_init(&map, RAM);
	}
	fd = memfd_create("fuzz", MFD_CLOEXEC);
	if (fd < 0)
		return 0;
	if (!size || write(fd, data, size) == (ssize_t)size)
		for (size_t i = 0; i < ARRAY_SIZE(modes); i++) {
			struct loader_result ret = { 0 };
			struct err err = { 0 };
			int r;

			r = loader_load(&mem,
					&(struct loader_params){ .what = "kernel",
								 .kernel_fd = fd,
								 .initramfs_fd = -EBADF,
								 .memmap = &map,
								 .mode = modes[i],
								 .fresh_ram = true },
					&ret, &err);
			assert((r < 0) == (err.msg[0] != 0));
			assert(r < 0 || (ret.format && ret.entry.rip < RAM));
		}
	close(fd);
	return 0;
}
