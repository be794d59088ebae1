/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opening and closing qcow2 images
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/log.h"
#include "vmm/base/math.h"
#include "vmm/block/qcow2/internal.h"
#include "vmm/block/raw.h"

/* As QEMU has it: enough for 256 GiB in clusters of 64 KiB. */
#define L2_CACHE_MAX   (32 * MIB)
#define REFCOUNT_CACHE (1 * MIB)

static int read_header(struct qcow2 *q, struct qcow2_header *h, struct err *err)
{
	uint8_t *head = qcow2_pages_new(QCOW2_HEAD_BYTES);
	struct stat st = { 0 };
	int r;

	if (!head)
		return err_errno(err, ENOMEM, "cannot read the image's header");
	r = fstat(q->io.fd, &st) < 0 ? -errno : file_io_read(&q->io, 0, head, QCOW2_HEAD_BYTES);
	if (r < 0) {
		err_errno(err, -r, "cannot read the image's header");
	} else {
		/* raw_inspect() knows how large a device is; of a file, whole blocks only. */
		q->fixed_size = S_ISBLK(st.st_mode);
		q->file_size = q->fixed_size ? q->base.size : (uint64_t)st.st_size;
		r = qcow2_header_parse(head, (size_t)MIN(q->file_size, (uint64_t)QCOW2_HEAD_BYTES),
				       h, err);
	}
	qcow2_pages_free(head, QCOW2_HEAD_BYTES);
	return r;
}

/* What the header says against what the file is and what was asked for. */
static int check_header(const struct qcow2 *q, const struct qcow2_header *h,
			const struct block_image_params *params, struct err *err)
{
	uint64_t cluster = 1ULL << h->cluster_bits, l1_len = h->l1_entries * 8ULL;
	uint64_t reftable_len = (uint64_t)h->reftable_clusters << h->cluster_bits;

	if (!params->readonly && h->n_snapshots > 0)
		return err_set(err, ENOTSUP,
			       "the image has %u internal snapshots, with which it cannot be "
			       "written: delete them with 'qemu-img snapshot -d'",
			       h->n_snapshots);
	if (!params->readonly && (h->incompatible & QCOW2_INCOMPATIBLE_CORRUPT))
		return err_set(err, EUCLEAN,
			       "the image is marked corrupt: it can be opened with 'readonly', or "
			       "repaired with 'qemu-img check -r all'");
	if (!range_fits(h->l1_off, l1_len, q->file_size))
		return err_set(err, EINVAL,
			       "the L1 table of %llu bytes at %llu is not inside the file",
			       (unsigned long long)l1_len, (unsigned long long)h->l1_off);
	if (!range_fits(h->reftable_off, reftable_len, align_up(q->file_size, cluster)))
		return err_set(err, EINVAL,
			       "the refcount table of %llu bytes at %llu is not inside the file",
			       (unsigned long long)reftable_len,
			       (unsigned long long)h->reftable_off);
	if (ranges_overlap(h->l1_off, l1_len, h->reftable_off, reftable_len))
		return err_set(err, EINVAL,
			       "the L1 table at %llu and the refcount table at %llu overlap",
			       (unsigned long long)h->l1_off, (unsigned long long)h->reftable_off);
	if (h->size < q->base.logical_block)
		return err_set(err, EINVAL, "the disk has %llu bytes, less than one block of %u",
			       (unsigned long long)h->size, q->base.logical_block);
	if (cluster < q->base.off_align)
		return err_set(err, ENOTSUP,
			       "direct I/O ('direct') needs blocks of %u bytes here, the image has "
			       "clusters of %llu",
			       q->base.off_align, (unsigned long long)cluster);
	/* What the backing files will ask for is not known yet: this much at most. */
	if (params->direct && params->n_backing > 0 && cluster < FILE_IO_BLOCK)
		return err_set(err, ENOTSUP,
			       "direct I/O ('direct') with backing files needs clusters of %u "
			       "bytes, the image has %llu",
			       FILE_IO_BLOCK, (unsigned long long)cluster);
	if (h->backing_name[0] && params->n_backing == 0)
		return err_set(err, EINVAL,
			       "the image is based on backing file '%s', which was not given",
			       h->backing_name);
	if (!h->backing_name[0] && params->n_backing > 0)
		return err_set(err, EINVAL, "the image has no backing file, %u are given",
			       params->n_backing);
	return 0;
}

static void take_header(struct qcow2 *q, const struct qcow2_header *h,
			const struct block_image_params *params)
{
	struct block_image *img = &q->base;
	bool extended = h->incompatible & QCOW2_INCOMPATIBLE_EXTENDED_L2;

	snprintf(q->id, sizeof(q->id), "%s", params->id);
	q->has_bitmaps = h->has_bitmaps;
	q->version = h->version;
	q->cluster_bits = h->cluster_bits;
	q->cluster = 1ULL << h->cluster_bits;
	q->entry_words = extended ? 2 : 1;
	q->l2_bits = h->cluster_bits - (extended ? 4 : 3);
	q->unit_bits = h->cluster_bits - (extended ? 5 : 0);
	q->refcount_order = h->refcount_order;
	q->compression = h->compression;
	q->incompatible = h->incompatible;
	q->lazy = !params->readonly && h->version >= 3 && (h->compatible & QCOW2_COMPATIBLE_LAZY);
	q->l1_off = h->l1_off;
	q->l1_entries = h->l1_entries;
	q->reftable_off = h->reftable_off;
	q->reftable_clusters = h->reftable_clusters;
	q->stale_end = align_up(q->file_size, q->cluster);
	q->used_end = q->file_size;
	img->ops = &block_format_qcow2;
	img->epoch = &q->epoch;
	img->size = align_down(h->size, img->logical_block);
	if (img->size != h->size)
		log_warning("disk '%s': the image's last %u bytes are no whole block and unused",
			    q->id, (unsigned int)(h->size - img->size));
	/* The file's own topology says nothing about where clusters are. */
	img->alignment_off = img->min_io = img->opt_io = 0;
	img->can_discard = img->can_write_zeroes = !params->readonly;
	img->discard_granularity = params->readonly ? 0 : (uint32_t)q->cluster;
}

static int make_memory(struct qcow2 *q)
{
	uint32_t slice = (uint32_t)MIN(q->cluster, (uint64_t)QCOW2_SLICE_MAX);
	uint64_t tables = (uint64_t)q->l1_entries << q->cluster_bits;

	q->l1 = qcow2_pages_new(MAX(q->l1_entries, 1U) * 8UL);
	q->tables = qcow2_places_new(q->l1_entries);
	q->copy = qcow2_pages_new(q->cluster);
	q->inflater = qcow2_inflater_new();
	q->freed.ranges = qcow2_pages_new(QCOW2_FREES_MAX * sizeof(*q->freed.ranges));
	q->aging.ranges = qcow2_pages_new(QCOW2_FREES_MAX * sizeof(*q->aging.ranges));
	if (!q->l1 || !q->tables || !q->copy || !q->inflater || !q->freed.ranges ||
	    !q->aging.ranges)
		return -ENOMEM;
	if (qcow2_cache_init(&q->l2_cache, q, slice, MIN(tables, L2_CACHE_MAX)) < 0)
		return -ENOMEM;
	return qcow2_cache_init(&q->refcount_cache, q, slice, REFCOUNT_CACHE);
}

static int load_l1(struct qcow2 *q, struct err *err)
{
	int r;

	r = file_io_read(&q->io, q->l1_off, q->l1, q->l1_entries * 8UL);
	if (r < 0)
		return err_errno(err, -r, "cannot read the image's L1 table");
	for (uint32_t i = 0; i < q->l1_entries; i++) {
		uint64_t entry = qcow2_get64((const void *)&q->l1[i]);
		uint64_t table = entry & QCOW2_OFFSET_MASK;

		atomic_init(&q->l1[i], entry);
		if (table)
			qcow2_places_add(q->tables, table);
		if (table && ((table & (q->cluster - 1)) || table >= q->file_size ||
			      !qcow2_is_data_place(q, table, q->cluster)))
			return err_set(err, EUCLEAN,
				       "L1 entry %u points at %llu, where no L2 table can be", i,
				       (unsigned long long)table);
	}
	return 0;
}

/* Before the first write: what the file promises and nobody keeps any more. */
static int prepare_to_write(struct qcow2 *q, uint64_t autoclear, struct err *err)
{
	const uint8_t none[8] = { 0 };
	int r = 0;

	if (q->incompatible & QCOW2_INCOMPATIBLE_DIRTY)
		r = qcow2_repair(q, err);
	if (r < 0 || autoclear == 0)
		return r;
	r = file_io_write(&q->io, QCOW2_H_AUTOCLEAR, none, sizeof(none));
	if (r >= 0)
		r = file_io_flush(&q->io);
	return r < 0 ? err_errno(err, -r, "cannot write the image's header") : 0;
}

/* Last, as what it took over is closed with it. */
static int open_backing(struct qcow2 *q, const struct block_image_params *params, struct err *err)
{
	struct block_image_params below = *params;
	struct block_image *img = &q->base, *b = NULL;
	int r;

	if (params->n_backing == 0)
		return 0;
	below.readonly = true;
	below.backing++;
	below.n_backing--;
	r = params->backing->format->open(params->backing->fd, &below, &b, err);
	if (r < 0)
		return err_prefix(err, r, "backing file");
	q->backing = b;
	for (unsigned int i = 0; i < b->n_files; i++)
		img->files[img->n_files++] = b->files[i];
	img->mem_align = MAX(img->mem_align, b->mem_align);
	img->off_align = MAX(img->off_align, b->off_align);
	img->logical_block = MAX(img->logical_block, b->logical_block);
	img->physical_block = MAX(img->physical_block, img->logical_block);
	img->size = align_down(img->size, img->logical_block);
	return 0;
}

/* Everything but descriptors. */
static void deinit(struct qcow2 *q)
{
	qcow2_cache_deinit(&q->l2_cache);
	qcow2_cache_deinit(&q->refcount_cache);
	qcow2_inflater_free(q->inflater);
	qcow2_pages_free(q->l1, MAX(q->l1_entries, 1U) * 8UL);
	qcow2_places_free(q->tables);
	qcow2_pages_free(q->copy, q->cluster);
	qcow2_pages_free(q->freed.ranges, QCOW2_FREES_MAX * sizeof(*q->freed.ranges));
	qcow2_pages_free(q->aging.ranges, QCOW2_FREES_MAX * sizeof(*q->aging.ranges));
	file_io_deinit(&q->io);
	pthread_mutex_destroy(&q->lock);
	block_epoch_deinit(&q->epoch);
	free(q);
}

static int open_image(struct qcow2 *q, struct qcow2_header *h,
		      const struct block_image_params *params, struct err *err)
{
	int r;

	r = raw_inspect(q->io.fd, params, &q->base, err);
	if (r < 0)
		return r;
	r = file_io_init(&q->io, q->io.fd, &q->base, err);
	if (r >= 0)
		r = read_header(q, h, err);
	if (r >= 0)
		r = check_header(q, h, params, err);
	if (r < 0)
		return r;
	take_header(q, h, params);
	if (make_memory(q) < 0)
		return err_errno(err, ENOMEM, "cannot open the image");
	r = load_l1(q, err);
	if (r >= 0 && !params->readonly)
		r = prepare_to_write(q, h->autoclear, err);
	if (r >= 0)
		r = open_backing(q, params, err);
	return r;
}

static int qcow2_open(int fd, const struct block_image_params *params, struct block_image **ret,
		      struct err *err)
{
	_cleanup_free_ struct qcow2_header *h = calloc(1, sizeof(*h));
	struct qcow2 *q = aligned_alloc(_Alignof(struct qcow2), sizeof(*q));
	int r;

	if (!q || !h) {
		free(q);
		return err_errno(err, ENOMEM, "cannot open the image");
	}
	*q = (struct qcow2){ .io.fd = fd };
	pthread_mutex_init(&q->lock, NULL);
	block_epoch_init(&q->epoch);
	r = open_image(q, h, params, err);
	if (r < 0) {
		deinit(q);
		return r;
	}
	*ret = &q->base;
	return 0;
}

static int qcow2_map(struct block_image *img, const struct block_access *access,
		     struct block_extent *ret)
{
	struct qcow2 *q = qcow2_image(img);

	if (access->op == BLOCK_OP_READ)
		return qcow2_map_read(q, access, ret);
	if (img->readonly)
		return -EROFS;
	if (access->op == BLOCK_OP_WRITE)
		return qcow2_map_write(q, access, ret);
	return qcow2_map_zero(q, access, ret);
}

static int qcow2_sync_metadata(struct block_image *img)
{
	return qcow2_sync(qcow2_image(img));
}

/* No queue is left, so what ages is over. */
static int write_all(struct qcow2 *q)
{
	int r;

	do {
		r = qcow2_sync_locked(q);
	} while (r >= 0 && q->freed.n + q->aging.n > 0);
	if (r >= 0)
		r = qcow2_write_out(q);
	if (r >= 0 && q->io.unflushed)
		r = file_io_flush(&q->io);
	if (r >= 0)
		r = qcow2_set_incompatible(q, 0, QCOW2_INCOMPATIBLE_DIRTY);
	if (r >= 0 && !q->fixed_size && q->used_end < q->file_size &&
	    ftruncate(q->io.fd, (off_t)q->used_end) < 0)
		r = -errno;
	return r;
}

static void qcow2_close(struct block_image *img)
{
	struct qcow2 *q = qcow2_image(img);
	int r = 0;

	pthread_mutex_lock(&q->lock);
	if (!img->readonly && !q->failed)
		r = write_all(q);
	pthread_mutex_unlock(&q->lock);
	if (r < 0)
		log_warning("disk '%s': the image was not closed cleanly: %s", q->id,
			    strerrordesc_np(-r));
	block_image_close(q->backing);
	close(q->io.fd);
	deinit(q);
}

const struct block_format_ops block_format_qcow2 = {
	.name = "qcow2",
	.open = qcow2_open,
	.map = qcow2_map,
	.sync_metadata = qcow2_sync_metadata,
	.resize = qcow2_resize,
	.close = qcow2_close,
};
