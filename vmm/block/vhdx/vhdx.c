/* SPDX-License-Identifier: Apache-2.0 */
/*
 * VHDX images, fixed and dynamic ([MS-VHDX]; internal.h)
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/math.h"
#include "vmm/block/file-io.h"
#include "vmm/block/raw.h"
#include "vmm/block/vhdx/internal.h"

/* The BAT's entry of a payload block (2.5). */
static uint64_t entry_of(const struct vhdx *v, uint64_t block)
{
	return block + block / v->chunk_ratio;
}

static uint64_t load_entry(const struct vhdx *v, uint64_t block)
{
	/* acquire: pairs with allocate() */
	return atomic_load_explicit(&v->bat[entry_of(v, block)], memory_order_acquire);
}

/* --- open --- */

static int check_place(const struct vhdx *v, uint64_t block, uint64_t off, uint64_t file_size,
		       struct err *err)
{
	if (off >= VHDX_SECTION && range_fits(off, v->block_size, file_size) &&
	    !ranges_overlap(off, v->block_size, v->bat_off, v->bat_len) &&
	    !ranges_overlap(off, v->block_size, v->items_off, v->items_len) &&
	    !ranges_overlap(off, v->block_size, v->log_off, v->log_len))
		return 0;
	return err_set(err, EINVAL,
		       "VHDX block %llu lies at %llu, outside the file or over its tables",
		       (unsigned long long)block, (unsigned long long)off);
}

static int check_bat(const struct vhdx *v, uint64_t file_size, struct err *err)
{
	uint64_t *places = calloc(v->n_blocks, sizeof(*places)), overlap = UINT64_MAX;
	size_t n = 0;
	int r = 0;

	if (!places)
		return err_errno(err, ENOMEM, "cannot check the VHDX BAT");
	for (uint64_t i = 0; r >= 0 && i < v->n_blocks; i++) {
		uint64_t entry = load_entry(v, i), state = entry & VHDX_BAT_STATE_MASK;

		if (VHDX_BAT_STATES_EMPTY & 1U << state)
			continue;
		if (state == VHDX_BAT_FULLY_PRESENT)
			r = check_place(v, i, entry & VHDX_BAT_OFF_MASK, file_size, err);
		else
			r = err_set(err, EINVAL,
				    "VHDX block %llu has state %llu, must be 0 to 3 or 6",
				    (unsigned long long)i, (unsigned long long)state);
		places[n++] = entry & VHDX_BAT_OFF_MASK;
	}
	if (r >= 0)
		overlap = file_io_find_overlap(places, n, v->block_size);
	if (overlap != UINT64_MAX)
		r = err_set(err, EINVAL, "two VHDX blocks lie over each other at %llu",
			    (unsigned long long)overlap);
	free(places);
	return r;
}

static int read_bat(struct vhdx *v, uint64_t file_size, struct err *err)
{
	int r;

	v->bat = calloc(v->n_entries, sizeof(*v->bat));
	v->dirty_pages = calloc(v->n_entries * 8 / VHDX_LOG_SECTOR + 1, 1);
	if (!v->bat || !v->dirty_pages)
		return err_errno(err, ENOMEM, "cannot keep a VHDX BAT of %llu entries",
				 (unsigned long long)v->n_entries);
	r = file_io_read(&v->io, v->bat_off, (void *)v->bat, v->n_entries * 8);
	if (r < 0)
		return err_errno(err, -r, "cannot read the VHDX BAT");
	for (uint64_t i = 0; i < v->n_entries; i++) {
		uint64_t raw = atomic_load_explicit(&v->bat[i], memory_order_relaxed);

		atomic_store_explicit(&v->bat[i], le64toh(raw), memory_order_relaxed);
	}
	v->end = align_up(file_size, VHDX_SECTION);
	return check_bat(v, file_size, err);
}

static int file_size_of(int fd, uint64_t *ret, struct err *err)
{
	off_t end = lseek(fd, 0, SEEK_END);

	if (end < 0)
		return err_errno(err, errno, "cannot find the image's end");
	*ret = (uint64_t)end;
	return 0;
}

static void vhdx_free(struct vhdx *v)
{
	pthread_mutex_destroy(&v->lock);
	file_io_deinit(&v->io);
	free((void *)v->bat);
	free(v->dirty_pages);
	free(v);
}

static int vhdx_init(struct vhdx *v, int fd, const struct block_image_params *params,
		     struct err *err)
{
	uint64_t file_size;
	struct stat st;
	int r;

	if (params->n_backing > 0)
		return err_set(err, EINVAL, "a VHDX image has no backing file");
	r = raw_inspect(fd, params, &v->base, err);
	if (r < 0)
		return r;
	if (fstat(fd, &st) < 0)
		return err_errno(err, errno, "cannot inspect the image's descriptor");
	if (!S_ISREG(st.st_mode))
		return err_set(err, EINVAL, "a VHDX image must be a regular file");
	r = file_io_init(&v->io, fd, &v->base, err);
	if (r < 0)
		return r;
	v->base.ops = &block_format_vhdx;
	v->base.can_discard = v->base.can_write_zeroes = false;
	r = vhdx_read_header(v, (uint64_t)st.st_size, err);
	if (r >= 0)
		r = vhdx_replay(v, err);
	if (r >= 0)
		r = file_size_of(fd, &file_size, err);
	if (r >= 0)
		r = vhdx_read_regions(v, file_size, err);
	if (r >= 0)
		r = vhdx_read_items(v, err);
	return r < 0 ? r : read_bat(v, file_size, err);
}

static int vhdx_open(int fd, const struct block_image_params *params, struct block_image **ret,
		     struct err *err)
{
	struct vhdx *v = calloc(1, sizeof(*v));
	int r;

	if (!v)
		return err_errno(err, ENOMEM, "cannot open the image");
	pthread_mutex_init(&v->lock, NULL);
	r = vhdx_init(v, fd, params, err);
	if (r < 0) {
		vhdx_free(v);
		return r;
	}
	*ret = &v->base;
	return 0;
}

/* --- map --- */

/* With the lock. */
static int allocate(struct vhdx *v, uint64_t block)
{
	uint64_t off = v->end, entry = entry_of(v, block);

	if (ftruncate(v->io.fd, (off_t)(off + v->block_size)) < 0)
		return -errno;
	v->end = off + v->block_size;
	v->dirty_pages[entry * 8 / VHDX_LOG_SECTOR] = 1;
	v->dirty = true;
	block_image_changed(&v->base);
	/* release: whoever sees the block sees its space */
	atomic_store_explicit(&v->bat[entry], off | VHDX_BAT_FULLY_PRESENT, memory_order_release);
	return 0;
}

static bool is_present(uint64_t entry)
{
	return (entry & VHDX_BAT_STATE_MASK) == VHDX_BAT_FULLY_PRESENT;
}

static int vhdx_map(struct block_image *img, const struct block_access *access,
		    struct block_extent *ret)
{
	struct vhdx *v = vhdx_image(img);
	uint64_t block = access->off / v->block_size, in_block = access->off % v->block_size;
	uint64_t entry = load_entry(v, block);
	bool write = access->op == BLOCK_OP_WRITE;
	int r = 0;

	if (write && !is_present(entry)) {
		pthread_mutex_lock(&v->lock);
		if (!is_present(load_entry(v, block)))
			r = allocate(v, block);
		pthread_mutex_unlock(&v->lock);
		if (r < 0)
			return r;
		entry = load_entry(v, block);
	}
	*ret = (struct block_extent){
		.kind = is_present(entry) ? BLOCK_EXTENT_HOST : BLOCK_EXTENT_ZERO,
		.off = (entry & VHDX_BAT_OFF_MASK) + in_block,
		.len = MIN(access->len, v->block_size - in_block),
	};
	return 0;
}

static int vhdx_sync(struct block_image *img)
{
	struct vhdx *v = vhdx_image(img);
	int r;

	pthread_mutex_lock(&v->lock);
	r = vhdx_write_bat(v);
	pthread_mutex_unlock(&v->lock);
	return r;
}

static void vhdx_close(struct block_image *img)
{
	struct vhdx *v = vhdx_image(img);

	if (!img->readonly && vhdx_sync(img) >= 0 && file_io_flush(&v->io) >= 0)
		(void)vhdx_end_log(v);
	close(v->io.fd);
	vhdx_free(v);
}

const struct block_format_ops block_format_vhdx = {
	.name = "vhdx",
	.open = vhdx_open,
	.map = vhdx_map,
	.sync_metadata = vhdx_sync,
	.close = vhdx_close,
};
