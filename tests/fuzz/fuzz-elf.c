/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzzing of the ELF loader, from a file and as a stream
 *
 * Both ways must agree: what one accepts the other accepts, with the same
 * entry.  (The stream needs its program headers early, so it may refuse more.)
 */
#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vmm/arch/x86/layout.h"
#include "vmm/arch/x86/memory-map.h"
#include "vmm/base/err.h"
#include "vmm/base/math.h"
#include "vmm/loader/elf.h"
#include "vmm/memory/guest-memory.h"

#define RAM (8 * MIB)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int load_stream(const uint8_t *data, size_t size, const struct elf_target *target,
		       struct elf_image *ret, struct err *err)
{
	struct elf_stream s;
	int r;

	r = elf_stream_init(&s, target, size, ELF_HEAD_BYTES, err);
	while (r >= 0 && !elf_stream_done(&s)) {
		size_t want = MIN(size - s.pos, (size_t)5000), n = 0;
		void *dst = elf_stream_reserve(&s, s.pos ? want : size - s.pos, false, &n);

		memcpy(dst, data + s.pos, n);
		r = elf_stream_commit(&s, n, err);
	}
	if (r >= 0)
		r = elf_stream_finish(&s, err);
	if (r >= 0)
		*ret = s.image;
	elf_stream_deinit(&s);
	return r;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct guest_mem mem;
	static struct x86_memmap map;
	const struct guest_mem_params mp = {
		.size = RAM,
		.hole_start = LAYOUT_HOLE_START,
		.hole_end = LAYOUT_HOLE_END,
	};
	const struct elf_target target = { .mem = &mem, .memmap = &map };
	struct elf_image file, stream;
	struct err err = { 0 }, stream_err = { 0 };
	int fd, r, stream_r;

	if (!map.n) {
		r = guest_mem_init(&mem, NULL, &mp, NULL);
		assert(r == 0);
		x86_memmap_init(&map, RAM);
	}
	fd = memfd_create("fuzz", MFD_CLOEXEC);
	if (fd < 0 || (size && write(fd, data, size) != (ssize_t)size))
		return 0;
	r = elf_load_file(fd, 0, size, &target, &file, &err);
	close(fd);
	assert((r < 0) == (err.msg[0] != 0));
	if (size == 0)
		return 0;
	stream_r = load_stream(data, size, &target, &stream, &stream_err);
	assert((stream_r < 0) == (stream_err.msg[0] != 0));
	if (stream_r >= 0)
		assert(r >= 0 && stream.entry_gpa == file.entry_gpa &&
		       stream.end_gpa == file.end_gpa && file.end_gpa <= RAM);
	return 0;
}
