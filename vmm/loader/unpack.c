/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/loader/unpack.h"

#include <errno.h>
#include <lz4.h>
#include <lzma.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <zlib.h>
#include <zstd.h>

#include "vmm/arch/x86/memory-map.h"
#include "vmm/base/bytes.h"
#include "vmm/base/err.h"
#include "vmm/base/fd.h"
#include "vmm/base/math.h"
#include "vmm/loader/elf.h"
#include "vmm/loader/file.h"

#define INPUT_BYTES (256 * 1024)
#define LZ4_BLOCK   (8 * 1024 * 1024) /* lz4(1), legacy format: every block but the last */
#define LZ4_MAGIC   0x184c2102u
/* Linux packs with dictionaries of 32 MiB, zstd --ultra with windows of 128 MiB. */
#define XZ_MEMORY_MAX       (192 * MIB)
#define ZSTD_WINDOW_LOG_MAX 27
#define SIZE_FIELD          4 /* unpacked size behind the compressed data */

static const struct {
	const char *name;
	uint8_t magic[6];
	uint8_t n;
} formats[UNPACK_N_] = {
	[UNPACK_NONE] = { "uncompressed", { 0x7f, 'E', 'L', 'F' }, 4 },
	[UNPACK_GZIP] = { "gzip", { 0x1f, 0x8b }, 2 },
	[UNPACK_XZ] = { "xz", { 0xfd, '7', 'z', 'X', 'Z', 0 }, 6 },
	[UNPACK_LZ4] = { "LZ4", { 0x02, 0x21, 0x4c, 0x18 }, 4 },
	[UNPACK_ZSTD] = { "zstd", { 0x28, 0xb5, 0x2f, 0xfd }, 4 },
	[UNPACK_OTHER] = { "other", { 0 }, 0 },
};

const char *unpack_format_to_string(enum unpack_format format)
{
	return format < UNPACK_N_ ? formats[format].name : NULL;
}

int unpack_probe(int fd, uint64_t off, uint64_t size, enum unpack_format *ret, struct err *err)
{
	uint8_t head[6] = { 0 };
	int r;

	*ret = UNPACK_OTHER;
	if (size < sizeof(head) + SIZE_FIELD)
		return 0;
	r = fd_pread_all(fd, head, sizeof(head), off);
	if (r < 0)
		return err_errno(err, -r, "cannot read the payload");
	for (int i = 0; i < UNPACK_OTHER; i++)
		if (memcmp(head, formats[i].magic, formats[i].n) == 0)
			*ret = (enum unpack_format)i;
	return 0;
}

/* Bytes of the file in order, through one buffer. */
struct input {
	int fd;
	uint64_t off, left;
	uint8_t *buf;
	size_t capacity;
};

static void input_cleanup(struct input *in)
{
	if (in->buf)
		munmap(in->buf, in->capacity);
}

static int input_init(struct input *in, int fd, uint64_t off, uint64_t size, size_t capacity,
		      struct err *err)
{
	*in = (struct input){ .fd = fd, .off = off, .left = size, .capacity = capacity };
	in->buf = mmap(NULL, capacity, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (in->buf == MAP_FAILED) {
		in->buf = NULL;
		return err_errno(err, errno, "cannot get %zu bytes to unpack from", capacity);
	}
	return 0;
}

/* Exactly n bytes, n <= capacity. */
static int input_take(struct input *in, size_t n, struct err *err)
{
	int r;

	if (n > in->left || n > in->capacity)
		return err_set(err, EBADMSG, "the payload is cut off or damaged");
	r = fd_pread_all(in->fd, in->buf, n, in->off);
	if (r < 0)
		return err_errno(err, -r, "cannot read at byte %llu", (unsigned long long)in->off);
	in->off += n;
	in->left -= n;
	return 0;
}

/* LZ4 legacy: magic, then blocks of le32 packed size and data, each independent. */
static int unpack_lz4(struct input *in, struct elf_stream *out, struct err *err)
{
	int r;

	r = input_take(in, 4, err); /* the magic, which unpack_probe() saw */
	if (r < 0)
		return r;
	while (!elf_stream_done(out)) {
		size_t want = MIN((uint64_t)LZ4_BLOCK, out->size - out->pos), len;
		uint32_t packed;
		void *dst;
		int n;

		r = input_take(in, 4, err);
		if (r < 0)
			return r;
		packed = (uint32_t)bytes_get_le(in->buf, 4);
		if (packed == LZ4_MAGIC) /* a second archive, appended */
			continue;
		r = input_take(in, packed, err);
		if (r < 0)
			return r;
		dst = elf_stream_reserve(out, want, true, &len);
		n = LZ4_decompress_safe((const char *)in->buf, dst, (int)packed, (int)len);
		if (n <= 0)
			return err_set(err, EBADMSG, "the LZ4 payload is damaged");
		r = elf_stream_commit(out, (size_t)n, err);
		if (r < 0)
			return r;
	}
	return 0;
}

/*
 * zstd, xz and gzip have the same streaming form: a step consumes some input
 * and produces some output.
 */
enum step {
	STEP_MORE, /* call again */
	STEP_END,  /* end of the compressed stream */
	STEP_ERROR,
};

struct codec {
	const char *name;
	enum step (*step)(void *state, const uint8_t **in, size_t *n_in, uint8_t **out,
			  size_t *n_out);
	void *state;
};

static int unpack_stream(const struct codec *codec, struct input *in, struct elf_stream *out,
			 struct err *err)
{
	const uint8_t *src = NULL;
	size_t n_src = 0;
	bool end = false;
	int r;

	while (!end && !elf_stream_done(out)) {
		size_t len, n_dst;
		uint8_t *dst;

		dst = elf_stream_reserve(out, MIN(out->size - out->pos, 4 * MIB), false, &len);
		n_dst = len;
		/* Filled to the brim, because the first piece must hold the ELF headers. */
		while (n_dst > 0 && !end) {
			size_t before = n_src + n_dst;

			if (n_src == 0 && in->left > 0) {
				size_t n = MIN((uint64_t)in->capacity, in->left);

				r = input_take(in, n, err);
				if (r < 0)
					return r;
				src = in->buf;
				n_src = n;
				before = n_src + n_dst;
			}
			switch (codec->step(codec->state, &src, &n_src, &dst, &n_dst)) {
			case STEP_MORE:
				/* no progress: the stream wants input there is none of */
				if (n_src + n_dst == before)
					return err_set(err, EBADMSG, "the %s payload is cut off",
						       codec->name);
				break;
			case STEP_END:
				end = true;
				break;
			case STEP_ERROR:
				return err_set(err, EBADMSG, "the %s payload is damaged",
					       codec->name);
			}
		}
		if (len == n_dst)
			break;
		r = elf_stream_commit(out, len - n_dst, err);
		if (r < 0)
			return r;
	}
	return 0;
}

static enum step zstd_step(void *state, const uint8_t **in, size_t *n_in, uint8_t **out,
			   size_t *n_out)
{
	ZSTD_inBuffer ib = { *in, *n_in, 0 };
	ZSTD_outBuffer ob = { *out, *n_out, 0 };
	size_t r = ZSTD_decompressStream(state, &ob, &ib);

	*in += ib.pos;
	*n_in -= ib.pos;
	*out += ob.pos;
	*n_out -= ob.pos;
	if (ZSTD_isError(r))
		return STEP_ERROR;
	return r == 0 ? STEP_END : STEP_MORE;
}

static int unpack_zstd(struct input *in, struct elf_stream *out, struct err *err)
{
	ZSTD_DCtx *ctx = ZSTD_createDCtx();
	struct codec codec = { "zstd", zstd_step, ctx };
	int r;

	if (!ctx)
		return err_errno(err, ENOMEM, "zstd");
	ZSTD_DCtx_setParameter(ctx, ZSTD_d_windowLogMax, ZSTD_WINDOW_LOG_MAX);
	r = unpack_stream(&codec, in, out, err);
	ZSTD_freeDCtx(ctx);
	return r;
}

static enum step xz_step(void *state, const uint8_t **in, size_t *n_in, uint8_t **out,
			 size_t *n_out)
{
	lzma_stream *s = state;
	lzma_ret r;

	s->next_in = *in;
	s->avail_in = *n_in;
	s->next_out = *out;
	s->avail_out = *n_out;
	r = lzma_code(s, LZMA_RUN);
	*in = s->next_in;
	*n_in = s->avail_in;
	*out = s->next_out;
	*n_out = s->avail_out;
	if (r == LZMA_STREAM_END)
		return STEP_END;
	/* LZMA_BUF_ERROR: no progress possible, which the caller sees by itself */
	return r == LZMA_OK || r == LZMA_BUF_ERROR ? STEP_MORE : STEP_ERROR;
}

static int unpack_xz(struct input *in, struct elf_stream *out, struct err *err)
{
	lzma_stream s = LZMA_STREAM_INIT;
	struct codec codec = { "xz", xz_step, &s };
	int r;

	if (lzma_stream_decoder(&s, XZ_MEMORY_MAX, 0) != LZMA_OK)
		return err_errno(err, ENOMEM, "xz");
	r = unpack_stream(&codec, in, out, err);
	lzma_end(&s);
	return r;
}

static enum step gzip_step(void *state, const uint8_t **in, size_t *n_in, uint8_t **out,
			   size_t *n_out)
{
	z_stream *s = state;
	int r;

	/* zlib's input is not const for historical reasons; both counts are at most 4 MiB */
	s->next_in = (Bytef *)(uintptr_t)*in;
	s->avail_in = (uInt)*n_in;
	s->next_out = *out;
	s->avail_out = (uInt)*n_out;
	r = inflate(s, Z_NO_FLUSH);
	*in = s->next_in;
	*n_in = s->avail_in;
	*out = s->next_out;
	*n_out = s->avail_out;
	if (r == Z_STREAM_END)
		return STEP_END;
	return r == Z_OK || r == Z_BUF_ERROR ? STEP_MORE : STEP_ERROR;
}

static int unpack_gzip(struct input *in, struct elf_stream *out, struct err *err)
{
	z_stream s = { 0 };
	struct codec codec = { "gzip", gzip_step, &s };
	int r;

	if (inflateInit2(&s, 16 + MAX_WBITS) != Z_OK) /* 16: a gzip header */
		return err_errno(err, ENOMEM, "gzip");
	r = unpack_stream(&codec, in, out, err);
	inflateEnd(&s);
	return r;
}

/* What the payload says it unpacks to: its last four bytes. */
static int unpacked_size(int fd, uint64_t off, uint64_t size, const struct x86_memmap *memmap,
			 uint64_t *ret, struct err *err)
{
	uint8_t field[SIZE_FIELD];
	uint64_t n;
	int r;

	r = fd_pread_all(fd, field, sizeof(field), off + size - sizeof(field));
	if (r < 0)
		return err_errno(err, -r, "cannot read the end of the payload");
	n = bytes_get_le(field, sizeof(field));
	/* Not all of it is loaded: section headers and relocations are not. */
	if (n < sizeof(field) || n > 2 * memmap_payload_end(memmap))
		return err_set(
			err, ENOSPC,
			"the payload unpacks to %llu MiB, the machine has %llu MiB of memory",
			(unsigned long long)(align_up(n, MIB) / MIB),
			(unsigned long long)memmap_ram_mib(memmap));
	*ret = n;
	return 0;
}

int unpack_elf(int fd, uint64_t off, uint64_t size, enum unpack_format format,
	       const struct elf_target *target, struct elf_image *ret, struct err *err)
{
	bool lz4 = format == UNPACK_LZ4;
	_cleanup_(input_cleanup) struct input in = { 0 };
	_cleanup_(elf_stream_deinit) struct elf_stream out = { 0 };
	uint64_t unpacked = 0;
	int r;

	if (format == UNPACK_NONE)
		return elf_load_file(fd, off, size, target, ret, err);
	r = unpacked_size(fd, off, size, target->memmap, &unpacked, err);
	if (r < 0)
		return r;
	r = input_init(&in, fd, off, size - SIZE_FIELD,
		       lz4 ? (size_t)LZ4_COMPRESSBOUND(LZ4_BLOCK) : INPUT_BYTES, err);
	if (r < 0)
		return r;
	/* gzip's own last four bytes are the size field: they belong to the stream. */
	if (format == UNPACK_GZIP)
		in.left += SIZE_FIELD;
	r = elf_stream_init(&out, target, unpacked, lz4 ? LZ4_BLOCK : ELF_HEAD_BYTES, err);
	if (r < 0)
		return r;

	switch (format) {
	case UNPACK_LZ4:
		r = unpack_lz4(&in, &out, err);
		break;
	case UNPACK_ZSTD:
		r = unpack_zstd(&in, &out, err);
		break;
	case UNPACK_XZ:
		r = unpack_xz(&in, &out, err);
		break;
	case UNPACK_GZIP:
		r = unpack_gzip(&in, &out, err);
		break;
	case UNPACK_NONE:
	case UNPACK_OTHER:
	case UNPACK_N_:
		r = err_set(err, EINVAL, "nothing to unpack");
		break;
	}
	if (r < 0)
		return r;
	r = elf_stream_finish(&out, err);
	if (r < 0)
		return r;
	*ret = out.image;
	return 0;
}
