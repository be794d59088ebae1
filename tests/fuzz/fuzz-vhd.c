/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzzing of VHD images: the input is the file
 *
 * The checksums of the footer, of its copy and of the dynamic header are made right,
 * so that what they guard is looked at.
 */
#include <assert.h>
#include <endian.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/fuzz/use-image.h"
#include "vmm/base/log.h"
#include "vmm/base/math.h"
#include "vmm/block/block.h"
#include "vmm/block/vhd-abi.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void sum(uint8_t *p, size_t len, size_t at)
{
	uint32_t total = 0;

	memset(p + at, 0, 4);
	for (size_t i = 0; i < len; i++)
		total += p[i];
	total = htobe32(~total);
	memcpy(p + at, &total, 4);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t file[64 << 10];
	const size_t footer = sizeof(struct vhd_footer), dynamic = sizeof(struct vhd_dynamic);
	int fd;

	log_set_level(LOG_LEVEL_ERROR);
	if (size > sizeof(file) || size < 2 * footer + dynamic)
		return 0;
	memcpy(file, data, size);
	sum(file, footer, offsetof(struct vhd_footer, checksum));
	sum(file + footer, dynamic, offsetof(struct vhd_dynamic, checksum));
	sum(file + size - footer, footer, offsetof(struct vhd_footer, checksum));
	fd = memfd_create("fuzz", MFD_CLOEXEC);
	if (fd >= 0 && write(fd, file, size) == (ssize_t)size) {
		use_image(&block_format_vhd, fd, false);
		use_image(&block_format_vhd, fd, true);
		use_image(&block_format_vhd, fd, true);
	}
	if (fd >= 0)
		close(fd);
	return 0;
}
