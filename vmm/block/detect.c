/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/block/detect.h"

#include <errno.h>
#include <linux/fs.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/base/cleanup.h"
#include "vmm/base/err.h"
#include "vmm/base/math.h"

#define PIECE    4096U /* what any O_DIRECT allows */
#define VHD_TAIL 512U

struct magic {
	const char *text;
	size_t len;
	const char *format;
};

/* At the start of the file. */
static const struct magic magics[] = {
	{ "QFI\xfb", 4, "qcow2" }, { "vhdxfile", 8, "vhdx" },
	{ "conectix", 8, "vhd" }, /* dynamic: a copy of the footer */
	{ "KDMV", 4, "vmdk" },     { "# Disk DescriptorFile", 21, "vmdk" },
};
static const char vhd_cookie[] = "conectix";

static uint64_t size_of(int fd)
{
	struct stat st;
	uint64_t size = 0;

	if (fstat(fd, &st) < 0)
		return 0;
	if (S_ISBLK(st.st_mode))
		return ioctl(fd, BLKGETSIZE64, &size) < 0 ? 0 : size;
	return (uint64_t)st.st_size;
}

/* A fixed VHD has nothing but a footer in its last sector. */
static bool ends_like_vhd(int fd, uint8_t *buf)
{
	uint64_t size = size_of(fd), at;
	ssize_t n;

	if (size < VHD_TAIL)
		return false;
	at = align_down(size - VHD_TAIL, PIECE);
	n = pread(fd, buf, PIECE, (off_t)at);
	return n >= (ssize_t)(size - at) &&
	       memcmp(buf + (size - VHD_TAIL - at), vhd_cookie, strlen(vhd_cookie)) == 0;
}

const char *block_looks_like(int fd, const char *stated)
{
	_cleanup_free_ uint8_t *buf = aligned_alloc(PIECE, PIECE);
	bool vhd;
	ssize_t n;

	if (!buf)
		return NULL;
	vhd = ends_like_vhd(fd, buf);
	/* The start of a fixed one is the guest's. */
	if (vhd && stated && strcmp(stated, "vhd") == 0)
		return "vhd";
	n = pread(fd, buf, PIECE, 0);
	for (size_t i = 0; i < ARRAY_SIZE(magics); i++)
		if (n >= (ssize_t)magics[i].len && memcmp(buf, magics[i].text, magics[i].len) == 0)
			return magics[i].format;
	return vhd ? "vhd" : NULL;
}

int block_check_stated(int fd, const char *stated, struct err *err)
{
	const char *found;

	if (stated && strcmp(stated, "raw") == 0)
		return 0;
	found = block_looks_like(fd, stated);
	if (!stated && found)
		return err_fault(err, FAULT_BAD_CONFIG, EINVAL,
				 "the image has the header of a %s image: set image_type to %s, or "
				 "to raw if that header is a raw disk's contents",
				 found, found);
	if (stated && (!found || strcmp(stated, found) != 0))
		return err_fault(err, FAULT_BAD_CONFIG, EINVAL,
				 "image_type says %s, but the image has %s%s%s", stated,
				 found ? "the header of a " : "no header of a known format",
				 found ?: "", found ? " image" : "");
	return 0;
}

int block_check_backing(int fd, const char *stated, unsigned int number, struct err *err)
{
	const char *found;

	if (strcmp(stated, "raw") == 0)
		return 0;
	found = block_looks_like(fd, stated);
	if (found && strcmp(stated, found) == 0)
		return 0;
	return err_fault(err, FAULT_BAD_CONFIG, EINVAL,
			 "backing file %u is stated to be a %s image, but it has %s%s%s", number,
			 stated, found ? "the header of a " : "no header of a known format",
			 found ?: "", found ? " image" : "");
}
