/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzzing of VHDX images: the input changes a good one
 *
 * Such a file has 6 MiB, nearly all of it empty.  So the input is a list of changes of
 * four bytes each: a window, an offset in it (two bytes), a value.  Then checksums
 * are made right, so that what they guard is looked at.
 */
#include <assert.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/fuzz/use-image.h"
#include "vmm/base/log.h"
#include "vmm/base/math.h"
#include "vmm/block/block.h"
#include "vmm/block/vhdx/internal.h"

#define FILE_BYTES (7U << 20)
#define LOG_OFF    0x100000U
#define BAT_OFF    0x200000U
#define ITEMS_OFF  0x300000U
#define VALUES_OFF (ITEMS_OFF + 0x10000U)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct {
	uint32_t off, len;
} windows[] = {
	{ 0x10000, 80 },    /* header */
	{ 0x30000, 160 },   /* regions */
	{ ITEMS_OFF, 256 }, /* items */
	{ VALUES_OFF, 64 }, /* their values */
	{ BAT_OFF, 64 },    /* BAT */
	{ LOG_OFF, 16384 }, /* log: two entries */
};

static const uint8_t bat_guid[16] = { 0x66, 0x77, 0xc2, 0x2d, 0x23, 0xf6, 0x00, 0x42,
				      0x9d, 0x64, 0x11, 0x5e, 0x9b, 0xfd, 0x4a, 0x08 };
static const uint8_t items_guid[16] = { 0x06, 0xa2, 0x7c, 0x8b, 0x90, 0x47, 0x9a, 0x4b,
					0xb8, 0xfe, 0x57, 0x5f, 0x05, 0x0f, 0x88, 0x6e };
static const uint8_t item_guids[4][16] = {
	{ 0x37, 0x67, 0xa1, 0xca, 0x36, 0xfa, 0x43, 0x4d, 0xb3, 0xb6, 0x33, 0xf0, 0xaa, 0x44, 0xe7,
	  0x6b },
	{ 0x24, 0x42, 0xa5, 0x2f, 0x1b, 0xcd, 0x76, 0x48, 0xb2, 0x11, 0x5d, 0xbe, 0xd8, 0x3b, 0xf4,
	  0xb8 },
	{ 0x1d, 0xbf, 0x41, 0x81, 0x6f, 0xa9, 0x09, 0x47, 0xba, 0x47, 0xf2, 0x33, 0xa8, 0xfa, 0xab,
	  0x5f },
	{ 0xc7, 0x48, 0xa3, 0xcd, 0x5d, 0x44, 0x71, 0x44, 0x9c, 0xc9, 0xe9, 0x88, 0x52, 0x51, 0xc5,
	  0x56 },
};

static void put(uint8_t *file, uint32_t off, const void *data, size_t len)
{
	memcpy(file + off, data, len);
}

static void put_le(uint8_t *file, uint32_t off, unsigned int len, uint64_t value)
{
	bytes_put_le(file + off, len, value);
}

static void put_region(uint8_t *file, uint32_t n, const uint8_t guid[16], uint32_t off)
{
	uint32_t at = 0x30010 + n * 32;

	put(file, at, guid, 16);
	put_le(file, at + 16, 8, off);
	put_le(file, at + 24, 4, 1 << 20);
}

/* An entry of the log that writes a page of the BAT. */
static void put_log(uint8_t *file, uint32_t n, uint32_t tail)
{
	uint32_t at = LOG_OFF + n * 8192;

	put(file, at, "loge", 4);
	put_le(file, at + 8, 4, 8192);
	put_le(file, at + 12, 4, tail);
	put_le(file, at + 16, 8, 7 + n);
	put_le(file, at + 24, 4, 1);
	put(file, at + 32, file + 0x10030, 16);
	put_le(file, at + 48, 8, FILE_BYTES - (1 << 20));
	put_le(file, at + 56, 8, FILE_BYTES);
	put(file, at + 64, "desc", 4);
	put_le(file, at + 80, 8, BAT_OFF);
	put_le(file, at + 88, 8, 7 + n);
	put(file, at + 4096, "data", 4);
	put_le(file, at + 8188, 4, 7 + n);
}

static void make_good(uint8_t *file)
{
	static const uint32_t lens[4] = { 8, 8, 4, 4 };
	static const uint64_t values[4] = { 1 << 20, 3 << 20, 512, 512 };

	put(file, 0, VHDX_FILE_SIGNATURE, 8);
	put(file, 0x10000, "head", 4);
	memset(file + 0x10030, 0x5a, 16); /* there is a log */
	put_le(file, 0x10000 + 66, 2, 1);
	put_le(file, 0x10000 + 68, 4, 1 << 20);
	put_le(file, 0x10000 + 72, 8, LOG_OFF);
	put(file, 0x30000, "regi", 4);
	put_le(file, 0x30008, 4, 2);
	put_region(file, 0, bat_guid, BAT_OFF);
	put_region(file, 1, items_guid, ITEMS_OFF);
	put(file, ITEMS_OFF, "metadata", 8);
	put_le(file, ITEMS_OFF + 10, 2, 4);
	for (uint32_t i = 0; i < 4; i++) {
		uint32_t at = ITEMS_OFF + 32 + i * 32;

		put(file, at, item_guids[i], 16);
		put_le(file, at + 16, 4, 0x10000 + i * 8);
		put_le(file, at + 20, 4, lens[i]);
		put_le(file, at + 24, 4, 4);
		put_le(file, VALUES_OFF + i * 8, lens[i], values[i]);
	}
	put_le(file, BAT_OFF, 8, 0x400000 | VHDX_BAT_FULLY_PRESENT);
	put_log(file, 0, 0);
	put_log(file, 1, 0);
}

static void make_sums(uint8_t *file)
{
	put_le(file, 0x10004, 4, vhdx_checksum(file + 0x10000, 4096, 4));
	put_le(file, 0x30004, 4, vhdx_checksum(file + 0x30000, 65536, 4));
	for (uint32_t at = LOG_OFF; at < LOG_OFF + 16384; at += 8192) {
		uint64_t len = bytes_get_le(file + at + 8, 4);

		if (len >= 64 && len <= 16384)
			put_le(file, at + 4, 4, vhdx_checksum(file + at, len, 4));
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t *file;
	int fd;

	log_set_level(LOG_LEVEL_ERROR);
	fd = memfd_create("fuzz", MFD_CLOEXEC);
	if (fd < 0 || ftruncate(fd, FILE_BYTES) < 0)
		return 0;
	file = mmap(NULL, FILE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert(file != MAP_FAILED);
	make_good(file);
	for (size_t i = 0; i + 4 <= size; i += 4) {
		unsigned int w = data[i] % ARRAY_SIZE(windows);
		uint32_t off = (data[i + 1] | (uint32_t)data[i + 2] << 8) % windows[w].len;

		file[windows[w].off + off] = data[i + 3];
	}
	make_sums(file);
	munmap(file, FILE_BYTES);
	use_image(&block_format_vhdx, fd, false);
	use_image(&block_format_vhdx, fd, true);
	use_image(&block_format_vhdx, fd, true);
	close(fd);
	return 0;
}
