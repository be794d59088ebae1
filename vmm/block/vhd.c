/* SPDX-License-Identifier: Apache-2.0 */
/*
 * VHD images, fixed and dynamic (vhd-abi.h)
 *
 * A fixed image is the disk, with a footer behind it.  A dynamic one has a table
 * of blocks, each with a bitmap of its sectors in front; a sector whose bit is
 * clear reads as zeroes.
 *
 * A new block goes where the footer was, the footer behind it; its space is new
 * and reads as zeroes, so it is linked at once, in memory.  The table is written by
 * sync_metadata(), after a flush: what is linked in the file is there in full.  Until
 * then a crash leaves a block that is not linked, and a footer that is found by its
 * copy at the start.  Blocks never move and are never freed.
 *
 * The lock guards allocation; a lookup takes it only for blocks whose bitmap has not
 * been found full yet.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/math.h"
#include "vmm/block/block.h"
#include "vmm/block/file-io.h"
#include "vmm/block/raw.h"
#include "vmm/block/vhd-abi.h"

#define BLOCK_SIZE_MIN 4096U
#define BLOCK_SIZE_MAX (256U << 20)
#define BLOCKS_MAX     (4U << 20) /* 2 TiB, the format's limit, in blocks of 512 KiB */
#define BITMAP_MAX     (BLOCK_SIZE_MAX / VHD_SECTOR / 8)
#define KNOWN_BITS     64U

struct vhd {
	struct block_image base;
	struct file_io io; /* of the file, under the lock */
	/* dynamic; constant */
	uint32_t block_size, bitmap_size; /* bytes */
	uint32_t n_blocks;
	uint64_t table_off;
	struct vhd_footer footer;
	bool no_trailer; /* the footer was found at the start only */

	_Atomic uint32_t *table;     /* sectors; release when a block is linked */
	_Atomic uint64_t *known;     /* a bit a block: its bitmap is full */
	pthread_mutex_t lock;        /* the rest */
	uint64_t end;                /* of the blocks: here the footer is */
	uint32_t dirty_lo, dirty_hi; /* entries to be written; lo == hi: none */
};

static struct vhd *vhd_image(struct block_image *img)
{
	return container_of(img, struct vhd, base);
}

/* One's complement of the sum of all bytes but the checksum's own. */
static uint32_t checksum(const void *data, size_t len, size_t checksum_off)
{
	const uint8_t *bytes = data;
	uint32_t sum = 0;

	for (size_t i = 0; i < len; i++)
		if (i < checksum_off || i >= checksum_off + 4)
			sum += bytes[i];
	return ~sum;
}

/* --- open --- */

static bool footer_is_good(const struct vhd_footer *f)
{
	return memcmp(f->cookie, VHD_COOKIE, sizeof(f->cookie)) == 0 &&
	       be32toh(f->checksum) ==
		       checksum(f, sizeof(*f), offsetof(struct vhd_footer, checksum));
}

static int read_footer(struct vhd *v, uint64_t file_size, struct err *err)
{
	struct vhd_footer copy;
	int r;

	if (file_size < sizeof(v->footer))
		return err_set(err, EINVAL, "the image has %llu bytes, too few for a VHD footer",
			       (unsigned long long)file_size);
	r = file_io_read(&v->io, file_size - sizeof(v->footer), &v->footer, sizeof(v->footer));
	if (r >= 0 && !footer_is_good(&v->footer)) {
		/* It was being moved when somebody died: a dynamic image has another. */
		r = file_io_read(&v->io, 0, &copy, sizeof(copy));
		if (r >= 0 && (!footer_is_good(&copy) || be32toh(copy.type) == VHD_TYPE_FIXED))
			return err_set(err, EINVAL,
				       "the image's last 512 bytes are no VHD footer: cookie or "
				       "checksum is wrong");
		v->footer = copy;
		v->no_trailer = true;
	}
	return r < 0 ? err_errno(err, -r, "cannot read the VHD footer") : 0;
}

static int check_footer(const struct vhd *v, struct err *err)
{
	uint32_t version = be32toh(v->footer.version), type = be32toh(v->footer.type);
	uint64_t size = be64toh(v->footer.current_size);

	if (version >> 16 != VHD_VERSION_MAJOR)
		return err_set(err, ENOTSUP, "the VHD footer has version %u.%u, must be 1.x",
			       version >> 16, version & 0xffff);
	if (type == VHD_TYPE_DIFFERENCING)
		return err_set(err, ENOTSUP,
			       "differencing VHD images are not supported, the image "
			       "must be fixed or dynamic");
	if (type != VHD_TYPE_FIXED && type != VHD_TYPE_DYNAMIC)
		return err_set(err, EINVAL,
			       "the VHD footer has disk type %u, must be 2 (fixed) or "
			       "3 (dynamic)",
			       type);
	if (v->footer.saved_state)
		return err_set(err, ENOTSUP, "the VHD image belongs to a machine in saved state");
	if (size == 0 || size % VHD_SECTOR)
		return err_set(err, EINVAL,
			       "the VHD footer has a size of %llu bytes, must be a "
			       "multiple of 512",
			       (unsigned long long)size);
	return 0;
}

static int read_dynamic_header(struct vhd *v, uint64_t file_size, struct err *err)
{
	uint64_t off = be64toh(v->footer.data_offset), size = be64toh(v->footer.current_size);
	struct vhd_dynamic h;
	int r;

	if (off % VHD_SECTOR || !range_fits(off, sizeof(h), file_size))
		return err_set(err, EINVAL,
			       "the VHD footer puts the dynamic header at %llu, "
			       "outside the file",
			       (unsigned long long)off);
	r = file_io_read(&v->io, off, &h, sizeof(h));
	if (r < 0)
		return err_errno(err, -r, "cannot read the VHD dynamic header");
	if (memcmp(h.cookie, VHD_DYNAMIC_COOKIE, sizeof(h.cookie)) != 0 ||
	    be32toh(h.checksum) != checksum(&h, sizeof(h), offsetof(struct vhd_dynamic, checksum)))
		return err_set(err, EINVAL,
			       "the VHD dynamic header is damaged: cookie or checksum is wrong");
	if (be32toh(h.version) >> 16 != VHD_VERSION_MAJOR)
		return err_set(err, ENOTSUP, "the VHD dynamic header has version 0x%x, must be 1.x",
			       be32toh(h.version));
	v->block_size = be32toh(h.block_size);
	v->n_blocks = be32toh(h.max_entries);
	v->table_off = be64toh(h.table_offset);
	if (!is_pow2(v->block_size) || v->block_size < BLOCK_SIZE_MIN ||
	    v->block_size > BLOCK_SIZE_MAX)
		return err_set(err, EINVAL,
			       "the VHD block size is %u bytes, must be a power of two "
			       "from 4 KiB to 256 MiB",
			       v->block_size);
	if (v->n_blocks == 0 || v->n_blocks > BLOCKS_MAX ||
	    (uint64_t)v->n_blocks * v->block_size < size)
		return err_set(err, EINVAL,
			       "the VHD table has %u entries, must cover %llu bytes "
			       "with at most %u",
			       v->n_blocks, (unsigned long long)size, BLOCKS_MAX);
	if (v->table_off % VHD_SECTOR ||
	    !range_fits(v->table_off, (uint64_t)v->n_blocks * 4, file_size))
		return err_set(err, EINVAL, "the VHD table lies at %llu, outside the file",
			       (unsigned long long)v->table_off);
	v->bitmap_size = (uint32_t)align_up(v->block_size / VHD_SECTOR / 8, VHD_SECTOR);
	return 0;
}

/* Every block in the file, behind the headers and the table, none over another or the footer. */
static int check_table(struct vhd *v, uint64_t file_size, struct err *err)
{
	uint64_t span = (uint64_t)v->bitmap_size + v->block_size, overlap;
	uint64_t header = be64toh(v->footer.data_offset);
	uint64_t limit = v->no_trailer ? file_size : file_size - sizeof(struct vhd_footer);
	uint64_t *places = calloc(v->n_blocks, sizeof(*places));
	size_t n = 0;
	int r = 0;

	if (!places)
		return err_errno(err, ENOMEM, "cannot check the VHD table");
	v->end = MAX(header + sizeof(struct vhd_dynamic),
		     align_up(v->table_off + (uint64_t)v->n_blocks * 4, VHD_SECTOR));
	for (uint32_t i = 0; r >= 0 && i < v->n_blocks; i++) {
		uint32_t sector = atomic_load_explicit(&v->table[i], memory_order_relaxed);
		uint64_t off = (uint64_t)sector * VHD_SECTOR;

		if (sector == VHD_UNUSED)
			continue;
		if (!range_fits(off, span, limit) || off < sizeof(struct vhd_footer) ||
		    ranges_overlap(off, span, header, sizeof(struct vhd_dynamic)) ||
		    ranges_overlap(off, span, v->table_off, (uint64_t)v->n_blocks * 4))
			r = err_set(err, EINVAL,
				    "VHD block %u lies at %llu, outside the file or over its "
				    "headers or footer",
				    i, (unsigned long long)off);
		v->end = MAX(v->end, off + span);
		places[n++] = off;
	}
	overlap = r >= 0 ? file_io_find_overlap(places, n, span) : UINT64_MAX;
	if (overlap != UINT64_MAX)
		r = err_set(err, EINVAL, "two VHD blocks lie over each other at %llu",
			    (unsigned long long)overlap);
	free(places);
	return r;
}

static int read_table(struct vhd *v, uint64_t file_size, struct err *err)
{
	int r;

	v->table = calloc(v->n_blocks, sizeof(*v->table));
	v->known = calloc(v->n_blocks / KNOWN_BITS + 1, sizeof(*v->known));
	if (!v->table || !v->known)
		return err_errno(err, ENOMEM, "cannot keep a VHD table of %u blocks", v->n_blocks);
	r = file_io_read(&v->io, v->table_off, (void *)v->table, (size_t)v->n_blocks * 4);
	if (r < 0)
		return err_errno(err, -r, "cannot read the VHD table");
	for (uint32_t i = 0; i < v->n_blocks; i++)
		atomic_store_explicit(&v->table[i],
				      be32toh(atomic_load_explicit(&v->table[i],
								   memory_order_relaxed)),
				      memory_order_relaxed);
	return check_table(v, file_size, err);
}

static int open_dynamic(struct vhd *v, uint64_t file_size, struct err *err)
{
	struct stat st;
	int r;

	if (fstat(v->io.fd, &st) < 0)
		return err_errno(err, errno, "cannot inspect the image's descriptor");
	if (!S_ISREG(st.st_mode))
		return err_set(err, EINVAL, "a dynamic VHD image must be a regular file");
	/* Blocks lie at any sector: there is no larger unit they are all aligned to. */
	if (v->base.off_align > VHD_SECTOR)
		return err_set(err, EINVAL,
			       "direct I/O needs units of %u bytes here, a dynamic VHD image has "
			       "512: set direct to false",
			       v->base.off_align);
	v->base.can_discard = v->base.can_write_zeroes = false;
	r = read_dynamic_header(v, file_size, err);
	return r < 0 ? r : read_table(v, file_size, err);
}

static int open_fixed(struct vhd *v, uint64_t file_size, struct err *err)
{
	if (be64toh(v->footer.current_size) > file_size - sizeof(v->footer))
		return err_set(err, EINVAL,
			       "the VHD footer has a size of %llu bytes, the file only %llu",
			       (unsigned long long)be64toh(v->footer.current_size),
			       (unsigned long long)file_size);
	return 0;
}

static void vhd_free(struct vhd *v)
{
	pthread_mutex_destroy(&v->lock);
	file_io_deinit(&v->io);
	free((void *)v->table);
	free((void *)v->known);
	free(v);
}

static int vhd_init(struct vhd *v, int fd, const struct block_image_params *params, struct err *err)
{
	uint64_t file_size;
	off_t end;
	int r;

	if (params->n_backing > 0)
		return err_set(err, EINVAL, "a VHD image has no backing file");
	r = raw_inspect(fd, params, &v->base, err);
	if (r < 0)
		return r;
	r = file_io_init(&v->io, fd, &v->base, err);
	if (r < 0)
		return r;
	/* Also of a block device, which a fixed image may be on. */
	end = lseek(fd, 0, SEEK_END);
	if (end < 0)
		return err_errno(err, errno, "cannot find the image's end");
	file_size = (uint64_t)end;
	v->base.ops = &block_format_vhd;
	r = read_footer(v, file_size, err);
	if (r >= 0)
		r = check_footer(v, err);
	if (r < 0)
		return r;
	v->base.size = align_down(be64toh(v->footer.current_size), v->base.logical_block);
	return be32toh(v->footer.type) == VHD_TYPE_FIXED ? open_fixed(v, file_size, err)
							 : open_dynamic(v, file_size, err);
}

static int vhd_open(int fd, const struct block_image_params *params, struct block_image **ret,
		    struct err *err)
{
	struct vhd *v = calloc(1, sizeof(*v));
	int r;

	if (!v)
		return err_errno(err, ENOMEM, "cannot open the image");
	pthread_mutex_init(&v->lock, NULL);
	r = vhd_init(v, fd, params, err);
	if (r < 0) {
		vhd_free(v);
		return r;
	}
	*ret = &v->base;
	return 0;
}

/* --- map --- */

static bool is_known(const struct vhd *v, uint32_t block)
{
	/* acquire: the bitmap and the zeroes that make it full were written before */
	return atomic_load_explicit(&v->known[block / KNOWN_BITS], memory_order_acquire) &
	       1ULL << block % KNOWN_BITS;
}

static void set_known(struct vhd *v, uint32_t block)
{
	/* release: see is_known() */
	atomic_fetch_or_explicit(&v->known[block / KNOWN_BITS], 1ULL << block % KNOWN_BITS,
				 memory_order_release);
}

/* The run of equal bits from sector at on, at most n of them: its length, and the bit. */
static uint32_t run_of(const uint8_t *bitmap, uint32_t at, uint32_t n, bool *ret_bit)
{
	bool bit = bitmap[at / 8] & 0x80U >> at % 8; /* the first sector is the highest bit */
	uint32_t len = 1;

	while (len < n && !!(bitmap[(at + len) / 8] & 0x80U >> (at + len) % 8) == bit)
		len++;
	*ret_bit = bit;
	return len;
}

/*
 * With the lock: the block's sectors all become valid.  Those that were not, are zero
 * before anybody is told.
 */
static int fill_bitmap(struct vhd *v, uint32_t block, uint64_t off, uint8_t *bitmap)
{
	uint32_t n = v->block_size / VHD_SECTOR, len;
	bool full = true;
	int r = 0;

	for (uint32_t at = 0; r >= 0 && at < n; at += len) {
		bool bit;

		len = run_of(bitmap, at, n - at, &bit);
		full = full && bit;
		if (!bit)
			r = file_io_zero(&v->io, off + v->bitmap_size + (uint64_t)at * VHD_SECTOR,
					 (uint64_t)len * VHD_SECTOR);
	}
	if (r >= 0 && !full) {
		r = file_io_flush(&v->io);
		memset(bitmap, 0xff, v->bitmap_size);
		if (r >= 0)
			r = file_io_write(&v->io, off, bitmap, v->bitmap_size);
		block_image_changed(&v->base);
	}
	if (r >= 0)
		set_known(v, block);
	return r;
}

/* A block whose bitmap has not been seen full: reads by it, a write makes it full. */
static int map_by_bitmap(struct vhd *v, uint32_t block, bool write, uint64_t off, uint32_t sector,
			 uint32_t n, struct block_extent *ret)
{
	_cleanup_free_ uint8_t *bitmap = malloc(v->bitmap_size);
	bool bit = true;
	int r;

	if (!bitmap)
		return -ENOMEM;
	pthread_mutex_lock(&v->lock);
	r = file_io_read(&v->io, off, bitmap, v->bitmap_size);
	if (r >= 0 && write) {
		r = fill_bitmap(v, block, off, bitmap);
	} else if (r >= 0) {
		bool all;

		if (run_of(bitmap, 0, v->block_size / VHD_SECTOR, &all) ==
			    v->block_size / VHD_SECTOR &&
		    all)
			set_known(v, block);
		ret->len = MIN(ret->len, (uint64_t)run_of(bitmap, sector, n, &bit) * VHD_SECTOR);
	}
	pthread_mutex_unlock(&v->lock);
	if (r >= 0 && !bit)
		ret->kind = BLOCK_EXTENT_ZERO;
	return r;
}

/* With the lock. */
static int allocate(struct vhd *v, uint32_t block)
{
	_cleanup_free_ uint8_t *bitmap = malloc(v->bitmap_size);
	uint64_t off = v->end, end = off + v->bitmap_size + v->block_size;
	int r;

	if (!bitmap)
		return -ENOMEM;
	if (end / VHD_SECTOR >= VHD_UNUSED)
		return -EFBIG;
	/*
	 * What an unlinked block of a crash has left there is cut off, so that the space
	 * reads as zeroes; the footer is where the bitmap comes.
	 */
	if (ftruncate(v->io.fd, (off_t)off) < 0 ||
	    ftruncate(v->io.fd, (off_t)(end + sizeof(v->footer))) < 0)
		return -errno;
	memset(bitmap, 0xff, v->bitmap_size);
	r = file_io_write(&v->io, end, &v->footer, sizeof(v->footer));
	if (r >= 0)
		r = file_io_write(&v->io, off, bitmap, v->bitmap_size);
	if (r < 0)
		return r;
	v->end = end;
	v->dirty_lo = v->dirty_lo == v->dirty_hi ? block : MIN(v->dirty_lo, block);
	v->dirty_hi = MAX(v->dirty_hi, block + 1);
	block_image_changed(&v->base);
	set_known(v, block);
	/* release: whoever sees the block sees its space, through the page cache */
	atomic_store_explicit(&v->table[block], (uint32_t)(off / VHD_SECTOR), memory_order_release);
	return 0;
}

static uint32_t load_entry(struct vhd *v, uint32_t block)
{
	/* acquire: pairs with allocate() */
	return atomic_load_explicit(&v->table[block], memory_order_acquire);
}

static int allocate_once(struct vhd *v, uint32_t block)
{
	int r = 0;

	pthread_mutex_lock(&v->lock);
	if (load_entry(v, block) == VHD_UNUSED)
		r = allocate(v, block);
	pthread_mutex_unlock(&v->lock);
	return r;
}

static int map_dynamic(struct vhd *v, const struct block_access *access, struct block_extent *ret)
{
	uint32_t block = (uint32_t)(access->off / v->block_size);
	uint64_t in_block = access->off % v->block_size, off;
	bool write = access->op == BLOCK_OP_WRITE;
	int r;

	*ret = (struct block_extent){ .kind = BLOCK_EXTENT_HOST,
				      .len = MIN(access->len, v->block_size - in_block) };
	if (load_entry(v, block) == VHD_UNUSED) {
		if (!write) {
			ret->kind = BLOCK_EXTENT_ZERO;
			return 0;
		}
		r = allocate_once(v, block);
		if (r < 0)
			return r;
	}
	off = (uint64_t)load_entry(v, block) * VHD_SECTOR;
	if (!is_known(v, block)) {
		r = map_by_bitmap(v, block, write, off, (uint32_t)(in_block / VHD_SECTOR),
				  (uint32_t)(ret->len / VHD_SECTOR), ret);
		if (r < 0)
			return r;
	}
	ret->off = off + v->bitmap_size + in_block;
	return 0;
}

static int vhd_map(struct block_image *img, const struct block_access *access,
		   struct block_extent *ret)
{
	struct vhd *v = vhd_image(img);

	if (v->table)
		return map_dynamic(v, access, ret);
	*ret = (struct block_extent){ .kind = BLOCK_EXTENT_HOST,
				      .off = access->off,
				      .len = access->len };
	return 0;
}

/* --- write-out --- */

/* With the lock. */
static int write_table(struct vhd *v)
{
	uint32_t n = v->dirty_hi - v->dirty_lo;
	_cleanup_free_ uint32_t *entries = NULL;
	int r;

	if (n == 0)
		return 0;
	entries = malloc(n * sizeof(*entries));
	if (!entries)
		return -ENOMEM;
	for (uint32_t i = 0; i < n; i++)
		entries[i] = htobe32(load_entry(v, v->dirty_lo + i));
	r = file_io_flush(&v->io);
	if (r >= 0)
		r = file_io_write(&v->io, v->table_off + (uint64_t)v->dirty_lo * 4, entries,
				  n * sizeof(*entries));
	if (r >= 0)
		v->dirty_lo = v->dirty_hi = 0;
	return r;
}

static int vhd_sync(struct block_image *img)
{
	struct vhd *v = vhd_image(img);
	int r;

	if (!v->table)
		return 0;
	pthread_mutex_lock(&v->lock);
	r = write_table(v);
	pthread_mutex_unlock(&v->lock);
	return r;
}

static void vhd_close(struct block_image *img)
{
	struct vhd *v = vhd_image(img);

	if (v->table && !img->readonly && vhd_sync(img) >= 0)
		(void)file_io_flush(&v->io);
	close(v->io.fd);
	vhd_free(v);
}

const struct block_format_ops block_format_vhd = {
	.name = "vhd",
	.open = vhd_open,
	.map = vhd_map,
	.sync_metadata = vhd_sync,
	.close = vhd_close,
};
