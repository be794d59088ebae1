/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/loader/image.h"

#include <glib.h>
#include <lz4hc.h>
#include <lzma.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include "vmm/arch/x86/layout.h"
#include "vmm/base/bytes.h"
#include "vmm/base/math.h"

#define SETUP_SECTS 3
#define CODE_OFF    ((SETUP_SECTS + 1) * 512)
#define PAYLOAD_OFF 0x300 /* in the code */
#define LZ4_BLOCK   (8 << 20)

struct image *image_new(void)
{
	struct image *im = g_new0(struct image, 1);

	memcpy(im->ehdr.e_ident, ELFMAG, SELFMAG);
	im->ehdr.e_ident[EI_CLASS] = ELFCLASS64;
	im->ehdr.e_ident[EI_DATA] = ELFDATA2LSB;
	im->ehdr.e_ident[EI_VERSION] = EV_CURRENT;
	im->ehdr.e_type = ET_EXEC;
	im->ehdr.e_machine = EM_X86_64;
	im->ehdr.e_version = EV_CURRENT;
	im->ehdr.e_ehsize = sizeof(im->ehdr);
	im->ehdr.e_phoff = offsetof(struct image, text);
	im->ehdr.e_phentsize = sizeof(Elf64_Phdr);
	im->ehdr.e_phnum = 3;
	im->text = (Elf64_Phdr){
		.p_type = PT_LOAD,
		.p_flags = PF_R | PF_X,
		.p_paddr = IMAGE_TEXT,
		.p_offset = offsetof(struct image, pvh),
		.p_filesz = offsetof(struct image, data_bytes) - offsetof(struct image, pvh),
	};
	im->text.p_memsz = im->text.p_filesz;
	im->data = (Elf64_Phdr){
		.p_type = PT_LOAD,
		.p_flags = PF_R | PF_W,
		.p_paddr = IMAGE_DATA,
		.p_offset = offsetof(struct image, data_bytes),
		.p_filesz = sizeof(im->data_bytes),
		.p_memsz = sizeof(im->data_bytes) + IMAGE_BSS,
	};
	im->note = (Elf64_Phdr){
		.p_type = PT_NOTE,
		.p_offset = offsetof(struct image, pvh),
		.p_filesz = sizeof(im->pvh),
		.p_memsz = sizeof(im->pvh),
	};
	im->pvh.nhdr = (Elf64_Nhdr){ .n_namesz = 4, .n_descsz = 4, .n_type = 18 };
	memcpy(im->pvh.name, "Xen", 4);
	im->pvh.entry = IMAGE_ENTRY;
	for (size_t i = 0; i < sizeof(im->text_bytes); i++)
		im->text_bytes[i] = (uint8_t)(i * 7 ^ i >> 8);
	for (size_t i = 0; i < sizeof(im->data_bytes); i++)
		im->data_bytes[i] = (uint8_t)(i * 13 ^ i >> 9);
	return im;
}

int image_fd(const void *data, size_t len)
{
	int fd = memfd_create("image", MFD_CLOEXEC);

	g_assert_cmpint(fd, >=, 0);
	g_assert_cmpint(pwrite(fd, data, len, 0), ==, (gssize)len);
	return fd;
}

uint8_t *image_bzimage(const void *payload, size_t payload_len, size_t *ret_len)
{
	size_t len = align_up(CODE_OFF + PAYLOAD_OFF + payload_len, 16);
	uint8_t *b = g_malloc0(len);

	memset(b + CODE_OFF, 0x90, PAYLOAD_OFF);
	b[0x1f1] = SETUP_SECTS;
	bytes_put_le(b + 0x1f4, 4, (len - CODE_OFF) / 16);
	bytes_put_le(b + 0x1fe, 2, 0xaa55);
	bytes_put_le(b + 0x200, 2, 0x6aeb); /* jmp to 0x26c */
	memcpy(b + 0x202, "HdrS", 4);
	bytes_put_le(b + 0x206, 2, 0x020f);
	b[0x211] = 1;                           /* LOADED_HIGH */
	bytes_put_le(b + 0x22c, 4, 0x7fffffff); /* initrd_addr_max */
	bytes_put_le(b + 0x230, 4, 0x200000);   /* kernel_alignment */
	b[0x234] = 1;                           /* relocatable */
	bytes_put_le(b + 0x238, 4, 2047);       /* cmdline_size */
	bytes_put_le(b + 0x248, 4, PAYLOAD_OFF);
	bytes_put_le(b + 0x24c, 4, payload_len);
	bytes_put_le(b + 0x258, 8, 0x1000000); /* pref_address */
	bytes_put_le(b + 0x260, 4, 0x200000);  /* init_size */
	memcpy(b + CODE_OFF + PAYLOAD_OFF, payload, payload_len);
	*ret_len = len;
	return b;
}

static size_t pack_lz4(uint8_t *out, size_t max, const uint8_t *data, size_t len)
{
	size_t n = 4;

	bytes_put_le(out, 4, 0x184c2102);
	for (size_t pos = 0; pos < len; pos += LZ4_BLOCK) {
		int r = LZ4_compress_HC((const char *)data + pos, (char *)out + n + 4,
					(int)MIN((size_t)LZ4_BLOCK, len - pos), (int)(max - n - 4),
					9);

		g_assert_cmpint(r, >, 0);
		bytes_put_le(out + n, 4, (uint64_t)r);
		n += 4 + (size_t)r;
	}
	return n;
}

static size_t pack_gzip(uint8_t *out, size_t max, const uint8_t *data, size_t len)
{
	z_stream s = { .next_in = (Bytef *)(uintptr_t)data,
		       .avail_in = (uInt)len,
		       .next_out = out,
		       .avail_out = (uInt)max };

	g_assert_cmpint(deflateInit2(&s, 9, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY), ==,
			Z_OK);
	g_assert_cmpint(deflate(&s, Z_FINISH), ==, Z_STREAM_END);
	deflateEnd(&s);
	return s.total_out;
}

uint8_t *image_pack(enum unpack_format format, const void *data, size_t len, size_t *ret_len)
{
	size_t max = len * 2 + (1 << 20), n = 0;
	uint8_t *out = g_malloc(max);

	switch (format) {
	case UNPACK_LZ4:
		n = pack_lz4(out, max, data, len);
		break;
	case UNPACK_ZSTD:
		n = ZSTD_compress(out, max, data, len, 3);
		g_assert_false(ZSTD_isError(n));
		break;
	case UNPACK_XZ:
		g_assert_cmpint(lzma_easy_buffer_encode(1, LZMA_CHECK_CRC32, NULL, data, len, out,
							&n, max),
				==, LZMA_OK);
		break;
	case UNPACK_GZIP:
		*ret_len = pack_gzip(out, max, data, len); /* ends with the size by itself */
		return out;
	case UNPACK_NONE:
		memcpy(out, data, len);
		*ret_len = len;
		return out;
	case UNPACK_OTHER:
	case UNPACK_N_:
		g_assert_not_reached();
	}
	bytes_put_le(out + n, 4, len);
	*ret_len = n + 4;
	return out;
}

void image_ram(struct guest_mem *mem, struct x86_memmap *map, uint64_t mib)
{
	const struct guest_mem_params mp = {
		.size = mib * MIB,
		.hole_start = LAYOUT_HOLE_START,
		.hole_end = LAYOUT_HOLE_END,
	};

	g_assert_cmpint(guest_mem_init(mem, NULL, &mp, NULL), ==, 0);
	if (mib > 3)
		g_assert_cmpint(guest_fill(mem, IMAGE_DATA, 0xa5, 0x10000), ==, 0);
	x86_memmap_init(map, mib * MIB);
}

void image_check(struct guest_mem *mem, const struct image *image)
{
	static const uint8_t zeros[IMAGE_BSS];
	uint8_t *got = guest_range(mem, IMAGE_TEXT, image->text.p_filesz, 1);
	size_t end = image->data.p_filesz;

	g_assert_cmpmem(got, image->text.p_filesz, &image->pvh, image->text.p_filesz);
	got = guest_range(mem, IMAGE_DATA, end + IMAGE_BSS + 1, 1);
	g_assert_cmpmem(got, end, image->data_bytes, end);
	g_assert_cmpmem(got + end, IMAGE_BSS, zeros, IMAGE_BSS);
	g_assert_cmphex(got[end + IMAGE_BSS], ==, 0xa5); /* nothing beyond */
}
