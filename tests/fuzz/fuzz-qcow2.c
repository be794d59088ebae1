/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzzing of qcow2 images: the input is the file
 *
 * It is opened for reading, and then for writing, and used in a fixed way: every
 * operation here and there, a flush, a larger disk, closing.  Reading must not
 * change a byte.  What is read back after a write is not looked at: refcounts that lie
 * can have a cluster in use given away, which only counting all of them would show.
 */
#include <assert.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/fuzz/use-image.h"
#include "vmm/base/err.h"
#include "vmm/base/log.h"
#include "vmm/block/block.h"
#include "vmm/block/qcow2/backing.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t after[1 << 20];
	struct qcow2_backing backing = { 0 };
	struct err err = { 0 };
	int fd, r;

	log_set_level(LOG_LEVEL_ERROR);
	fd = memfd_create("fuzz", MFD_CLOEXEC);
	if (size > sizeof(after) || fd < 0 || (size && write(fd, data, size) != (ssize_t)size)) {
		if (fd >= 0)
			close(fd);
		return 0;
	}
	r = qcow2_read_backing(fd, &backing, &err);
	assert((r < 0) == (err.msg[0] != 0));
	assert(strlen(backing.name) <= QCOW2_BACKING_NAME_MAX);
	use_image(&block_format_qcow2, fd, false);
	assert(pread(fd, after, sizeof(after), 0) == (ssize_t)size);
	assert(size == 0 || memcmp(after, data, size) == 0);
	use_image(&block_format_qcow2, fd, true);
	use_image(&block_format_qcow2, fd, true);
	close(fd);
	return 0;
}
