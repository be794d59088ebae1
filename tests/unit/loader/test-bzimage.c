/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bzImage: setup header, payload of each compression, and every field wrong in turn
 */
#include <asm/bootparam.h>
#include <errno.h>
#include <glib.h>
#include <string.h>

#include "tests/unit/loader/image.h"
#include "vmm/arch/x86/layout.h"
#include "vmm/base/bytes.h"
#include "vmm/base/cleanup.h"
#include "vmm/base/err.h"
#include "vmm/base/math.h"
#include "vmm/loader/bzimage.h"
#include "vmm/loader/elf.h"
#include "vmm/loader/loader.h"

static int load(int fd, enum loader_mode mode, struct guest_mem *mem, struct x86_memmap *map,
		struct loader_result *ret, struct err *err)
{
	return loader_load(mem,
			   &(struct loader_params){ .what = "kernel",
						    .kernel_fd = fd,
						    .initramfs_fd = -EBADF,
						    .cmdline = "quiet",
						    .memmap = map,
						    .mode = mode,
						    .rsdp_gpa = LAYOUT_RSDP },
			   ret, err);
}

static void test_unpack(void)
{
	static const char *const names[UNPACK_OTHER] = {
		"bzImage, uncompressed, entered by PVH",
		"bzImage, gzip, unpacked, entered by PVH",
		"bzImage, xz, unpacked, entered by PVH",
		"bzImage, LZ4, unpacked, entered by PVH",
		"bzImage, zstd, unpacked, entered by PVH",
	};
	g_autofree struct image *im = image_new();
	/* sections and relocations behind the image, more than an LZ4 block of them */
	size_t len = sizeof(*im) + (9 << 20);
	g_autofree uint8_t *big = g_malloc0(len);

	memcpy(big, im, sizeof(*im));
	for (int f = 0; f < 2 * UNPACK_OTHER; f++) {
		enum unpack_format format = (enum unpack_format)(f / 2);
		size_t packed_len, bz_len;
		g_autofree uint8_t *packed =
			image_pack(format, big, f & 1 ? len : sizeof(*im), &packed_len);
		g_autofree uint8_t *bz = image_bzimage(packed, packed_len, &bz_len);
		_cleanup_close_ int fd = image_fd(bz, bz_len);
		struct loader_result ret;
		struct guest_mem mem;
		struct x86_memmap map;
		struct err err = { 0 };

		image_ram(&mem, &map, 64);
		g_assert_cmpint(load(fd, LOADER_AUTO, &mem, &map, &ret, &err), ==, 0);
		g_assert_cmpstr(err.msg, ==, "");
		g_assert_cmpint(ret.entry.protocol, ==, X86_BOOT_PVH);
		g_assert_cmphex(ret.entry.rip, ==, IMAGE_ENTRY);
		g_assert_cmpstr(ret.format, ==, names[format]);
		image_check(&mem, im);
		guest_mem_deinit(&mem);
	}
}

/* Segments that a decompressor can fill in place across block limits. */
static void test_unpack_large(void)
{
	const size_t data_size = 40 << 20;
	g_autofree uint8_t *big = g_malloc0(sizeof(struct image) + data_size);
	struct image *im = (struct image *)(void *)big;
	g_autofree struct image *small = image_new();

	memcpy(im, small, sizeof(*im));
	im->data.p_offset = sizeof(*im);
	im->data.p_filesz = im->data.p_memsz = data_size;
	for (size_t i = 0; i < data_size; i++)
		big[sizeof(*im) + i] = (uint8_t)(i >> 4 ^ i >> 12);
	for (int f = UNPACK_GZIP; f < UNPACK_OTHER; f++) {
		size_t packed_len, bz_len;
		g_autofree uint8_t *packed = image_pack((enum unpack_format)f, big,
							sizeof(*im) + data_size, &packed_len);
		g_autofree uint8_t *bz = image_bzimage(packed, packed_len, &bz_len);
		_cleanup_close_ int fd = image_fd(bz, bz_len);
		struct loader_result ret;
		struct guest_mem mem;
		struct x86_memmap map;
		struct err err = { 0 };

		image_ram(&mem, &map, 64);
		g_assert_cmpint(load(fd, LOADER_PVH, &mem, &map, &ret, &err), ==, 0);
		g_assert_cmpmem(guest_range(&mem, IMAGE_DATA, data_size, 1), data_size,
				big + sizeof(*im), data_size);
		guest_mem_deinit(&mem);
	}
}

static void test_plain(void)
{
	static const uint8_t payload[64] = { 'B', 'Z', 'h' };
	size_t len;
	g_autofree uint8_t *bz = image_bzimage(payload, sizeof(payload), &len);
	_cleanup_close_ int fd = image_fd(bz, len);
	struct loader_result ret;
	struct guest_mem mem;
	struct x86_memmap map;
	struct boot_params bp;
	struct err err = { 0 };
	char cmdline[6];

	image_ram(&mem, &map, 64);
	g_assert_cmpint(load(fd, LOADER_AUTO, &mem, &map, &ret, &err), ==, 0);
	g_assert_cmpint(ret.entry.protocol, ==, X86_BOOT_BZIMAGE);
	g_assert_cmphex(ret.entry.rip, ==, 0x100000);
	g_assert_cmpstr(ret.format, ==, "bzImage");
	g_assert_cmpmem(guest_range(&mem, 0x100000, len - 2048, 1), len - 2048, bz + 2048,
			len - 2048);

	g_assert_cmpint(guest_read(&mem, LAYOUT_ZERO_PAGE, &bp, sizeof(bp)), ==, 0);
	g_assert_cmphex(bp.hdr.header, ==, 0x53726448);
	g_assert_cmphex(bp.hdr.type_of_loader, ==, 0xff);
	g_assert_cmphex(bp.hdr.cmd_line_ptr, ==, 0x20000);
	g_assert_cmphex(bp.acpi_rsdp_addr, ==, 0xa0000);
	g_assert_cmphex(bp.hdr.ramdisk_image, ==, 0);
	g_assert_cmpuint(bp.e820_entries, ==, 3);
	g_assert_cmphex(bp.e820_table[1].addr, ==, 0x100000);
	g_assert_cmphex(bp.e820_table[1].size, ==, 63 << 20);
	g_assert_cmpuint(bp.e820_table[1].type, ==, 1);
	g_assert_cmpuint(bp.sentinel, ==, 0);
	/* nothing of the code behind the header may look like fields of it */
	g_assert_cmphex(bp.hdr.kernel_info_offset, ==, 0);
	g_assert_cmpint(guest_read(&mem, LAYOUT_CMDLINE, cmdline, 6), ==, 0);
	g_assert_cmpstr(cmdline, ==, "quiet");
	guest_mem_deinit(&mem);
}

/* The header is cut where its jump says, whatever follows. */
static void test_short_header(void)
{
	static const uint8_t payload[64] = { 0 };
	size_t len;
	g_autofree uint8_t *bz = image_bzimage(payload, sizeof(payload), &len);
	struct bzimage image;
	_cleanup_close_ int fd = -EBADF;

	memset(bz + 0x23c, 0xcc, 0x30);
	bytes_put_le(bz + 0x206, 2, 0x0206);
	bz[0x201] = 0x3a; /* to 0x23c: behind cmdline_size */
	fd = image_fd(bz, len);
	g_assert_cmpint(bzimage_probe(fd, len, &image, NULL), ==, 1);
	g_assert_cmphex(image.header.hardware_subarch, ==, 0);
	g_assert_cmphex(image.header.payload_length, ==, 0);
	g_assert_cmphex(image.header.pref_address, ==, 0);
	g_assert_cmpuint(image.payload_size, ==, 0);
	g_assert_cmpuint(image.cmdline_max, ==, 2047);
}

static void test_no_pvh(void)
{
	g_autofree struct image *im = image_new();
	g_autofree uint8_t *packed = NULL, *bz = NULL;
	size_t packed_len, len;
	_cleanup_close_ int fd = -EBADF;
	struct loader_result ret;
	struct guest_mem mem;
	struct x86_memmap map;
	struct err err = { 0 };

	im->pvh.nhdr.n_type = 17;
	packed = image_pack(UNPACK_LZ4, im, sizeof(*im), &packed_len);
	bz = image_bzimage(packed, packed_len, &len);
	fd = image_fd(bz, len);
	image_ram(&mem, &map, 64);
	g_assert_cmpint(load(fd, LOADER_AUTO, &mem, &map, &ret, &err), ==, 0);
	g_assert_cmpint(ret.entry.protocol, ==, X86_BOOT_BZIMAGE);
	g_assert_cmpint(load(fd, LOADER_PVH, &mem, &map, &ret, &err), ==, -ENOEXEC);
	g_assert_cmpstr(err.msg, ==, "kernel: the ELF image has no PVH note (Xen, type 18)");
	guest_mem_deinit(&mem);
}

static void test_mode_bzimage(void)
{
	g_autofree struct image *im = image_new();
	size_t packed_len, len;
	g_autofree uint8_t *packed = image_pack(UNPACK_LZ4, im, sizeof(*im), &packed_len);
	g_autofree uint8_t *bz = image_bzimage(packed, packed_len, &len);
	_cleanup_close_ int fd = image_fd(bz, len);
	struct loader_result ret;
	struct guest_mem mem;
	struct x86_memmap map;

	image_ram(&mem, &map, 64);
	g_assert_cmpint(load(fd, LOADER_BZIMAGE, &mem, &map, &ret, NULL), ==, 0);
	g_assert_cmpint(ret.entry.protocol, ==, X86_BOOT_BZIMAGE);
	guest_mem_deinit(&mem);
}

/* Offsets of boot.rst's table; the payload is LZ4. */
static void test_hostile(void)
{
	static const struct {
		const char *name;
		size_t off;
		unsigned int size;
		uint64_t value;
		const char *text; /* a part of it; NULL: still loads */
	} cases[] = {
		{ "boot_flag", 0x1fe, 2, 0,
		  "neither an ELF image nor a bzImage "
		  "(starts with '00 00 00 00')" },
		{ "header", 0x202, 4, 0,
		  "neither an ELF image nor a bzImage "
		  "(starts with '00 00 00 00')" },
		{ "version 2.05", 0x206, 2, 0x205, "boot protocol 2.05 is older than 2.06" },
		{ "version 2.07", 0x206, 2, 0x207, NULL }, /* no payload fields: plain boot */
		{ "version 255", 0x206, 2, 0xffff, NULL },
		{ "zImage", 0x211, 1, 0, "a zImage (loadflags 0x00): only bzImage is supported" },
		{ "jump", 0x201, 1, 0,
		  "the setup header ends at byte 0x202, too early for "
		  "protocol 2.15" },
		{ "setup_sects 0", 0x1f1, 1, 0, " bytes of code announced, " },
		{ "setup_sects", 0x1f1, 1, 255, "cut off: 255 setup sectors, but only " },
		{ "syssize", 0x1f4, 4, UINT32_MAX,
		  "cut off: 68719476720 bytes of code announced, " },
		{ "payload_offset", 0x248, 4, UINT32_MAX, "the payload (bytes 4294967295 + " },
		{ "payload_length", 0x24c, 4, UINT32_MAX,
		  "the payload (bytes 768 + 4294967295) reaches past the end of the code" },
		{ "payload_length 0", 0x24c, 4, 0, NULL },
		{ "payload_length 1", 0x24c, 4, 1, NULL },
		{ "payload_length 11", 0x24c, 4, 11, "the payload unpacks to" },
		{ "pref_address", 0x258, 8, UINT64_MAX, NULL }, /* of no interest when unpacked */
		{ "LZ4 block size", 2048 + 0x300 + 4, 4, UINT32_MAX,
		  "the payload is cut off or damaged" },
		{ "LZ4 block size 0", 2048 + 0x300 + 4, 4, 0, "the LZ4 payload is damaged" },
		{ "LZ4 block size 1", 2048 + 0x300 + 4, 4, 1, "the LZ4 payload is damaged" },
		{ "LZ4 data", 2048 + 0x300 + 8, 8, UINT64_MAX, "" },
	};
	g_autofree struct image *im = image_new();

	/* incompressible, so that sizes do not depend on the library */
	for (size_t i = 0, x = 1; i < sizeof(im->text_bytes); i++) {
		x = x * 6364136223846793005ULL + 1442695040888963407ULL;
		im->text_bytes[i] = (uint8_t)(x >> 56);
	}
	for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
		size_t packed_len, len;
		g_autofree uint8_t *packed = image_pack(UNPACK_LZ4, im, sizeof(*im), &packed_len);
		g_autofree uint8_t *bz = image_bzimage(packed, packed_len, &len);
		_cleanup_close_ int fd = -EBADF;
		struct loader_result ret;
		struct guest_mem mem;
		struct x86_memmap map;
		struct err err = { 0 };
		int r;

		g_test_message("%s (%zu bytes, payload %zu)", cases[i].name, len, packed_len);
		bytes_put_le(bz + cases[i].off, cases[i].size, cases[i].value);
		fd = image_fd(bz, len);
		image_ram(&mem, &map, 64);
		r = load(fd, LOADER_AUTO, &mem, &map, &ret, &err);
		if (!cases[i].text) {
			g_assert_cmpstr(err.msg, ==, "");
			g_assert_cmpint(r, ==, 0);
		} else {
			g_assert_cmpint(r, <, 0);
			g_assert_true(g_str_has_prefix(err.msg, "kernel: "));
			if (!strstr(err.msg, cases[i].text))
				g_assert_cmpstr(err.msg, ==, cases[i].text);
		}
		guest_mem_deinit(&mem);
	}
}

/* Every format with bytes missing, flipped, or a wrong unpacked size. */
static void test_damaged_payload(void)
{
	g_autofree struct image *im = image_new();

	for (int f = UNPACK_GZIP; f < UNPACK_OTHER; f++) {
		size_t packed_len;
		g_autofree uint8_t *packed =
			image_pack((enum unpack_format)f, im, sizeof(*im), &packed_len);

		for (size_t pos = 0; pos < packed_len + 8;
		     pos += MAX(packed_len / 200, (size_t)1)) {
			g_autofree uint8_t *copy = g_memdup2(packed, packed_len);
			size_t cut = packed_len, len;
			g_autofree uint8_t *bz = NULL;
			_cleanup_close_ int fd = -EBADF;
			struct loader_result ret;
			struct guest_mem mem;
			struct x86_memmap map;
			struct err err = { 0 };
			int r;

			if (pos & 1 && pos < packed_len)
				copy[pos] ^= 0xff;
			else
				cut = MIN(pos, packed_len);
			bz = image_bzimage(copy, cut, &len);
			fd = image_fd(bz, len);
			image_ram(&mem, &map, 64);
			r = load(fd, LOADER_PVH, &mem, &map, &ret, &err);
			if (r < 0)
				g_assert_cmpstr(err.msg, !=, "");
			guest_mem_deinit(&mem);
		}
	}
}

/* A payload that says it is small and is not: output stops at what was announced. */
static void test_bomb(void)
{
	size_t len = 48 << 20;
	g_autofree uint8_t *zeros = g_malloc0(len);
	g_autofree struct image *im = image_new();

	im->data.p_offset = 0x100000; /* beyond what will be announced */
	memcpy(zeros, im, sizeof(*im));
	for (int f = UNPACK_XZ; f < UNPACK_OTHER; f++) {
		size_t packed_len, bz_len;
		g_autofree uint8_t *packed =
			image_pack((enum unpack_format)f, zeros, len, &packed_len);
		g_autofree uint8_t *bz = NULL;
		_cleanup_close_ int fd = -EBADF;
		struct loader_result ret;
		struct guest_mem mem;
		struct x86_memmap map;
		struct err err = { 0 };

		bytes_put_le(packed + packed_len - 4, 4, 100000);
		bz = image_bzimage(packed, packed_len, &bz_len);
		fd = image_fd(bz, bz_len);
		image_ram(&mem, &map, 64);
		g_assert_cmpint(load(fd, LOADER_PVH, &mem, &map, &ret, &err), <, 0);
		g_assert_cmpstr(err.msg, !=, "");
		guest_mem_deinit(&mem);
	}
}

static void test_small_machine(void)
{
	static const uint8_t payload[64] = { 0 };
	size_t len;
	g_autofree uint8_t *bz = image_bzimage(payload, sizeof(payload), &len);
	_cleanup_close_ int fd = image_fd(bz, len);
	struct loader_result ret;
	struct guest_mem mem;
	struct x86_memmap map;
	struct err err = { 0 };

	image_ram(&mem, &map, 16);
	g_assert_cmpint(load(fd, LOADER_AUTO, &mem, &map, &ret, &err), ==, -ENOSPC);
	g_assert_cmpstr(err.msg, ==,
			"kernel: the kernel needs 2 MiB at 0x1000000 to start, the "
			"machine has 16 MiB of memory");
	guest_mem_deinit(&mem);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/loader/bzimage/unpack", test_unpack);
	g_test_add_func("/loader/bzimage/unpack-large", test_unpack_large);
	g_test_add_func("/loader/bzimage/plain", test_plain);
	g_test_add_func("/loader/bzimage/short-header", test_short_header);
	g_test_add_func("/loader/bzimage/no-pvh", test_no_pvh);
	g_test_add_func("/loader/bzimage/mode-bzimage", test_mode_bzimage);
	g_test_add_func("/loader/bzimage/hostile", test_hostile);
	g_test_add_func("/loader/bzimage/damaged-payload", test_damaged_payload);
	g_test_add_func("/loader/bzimage/bomb", test_bomb);
	g_test_add_func("/loader/bzimage/small-machine", test_small_machine);
	return g_test_run();
}
