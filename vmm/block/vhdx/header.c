/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where things are in a VHDX image: headers, regions, items ([MS-VHDX] 2.2 and 2.6)
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "vmm/base/err.h"
#include "vmm/base/math.h"
#include "vmm/block/file-io.h"
#include "vmm/block/vhdx/internal.h"

#define BAT_MAX (64U << 20) /* of memory: 8 M entries are 8 TiB in blocks of 1 MiB */

/* 2.2.3.1 and 2.6.2, as they are in the file */
static const struct vhdx_guid guid_bat = { { 0x66, 0x77, 0xc2, 0x2d, 0x23, 0xf6, 0x00, 0x42, 0x9d,
					     0x64, 0x11, 0x5e, 0x9b, 0xfd, 0x4a, 0x08 } };
static const struct vhdx_guid guid_items = { { 0x06, 0xa2, 0x7c, 0x8b, 0x90, 0x47, 0x9a, 0x4b, 0xb8,
					       0xfe, 0x57, 0x5f, 0x05, 0x0f, 0x88, 0x6e } };
static const struct vhdx_guid guid_file_parameters = { { 0x37, 0x67, 0xa1, 0xca, 0x36, 0xfa, 0x43,
							 0x4d, 0xb3, 0xb6, 0x33, 0xf0, 0xaa, 0x44,
							 0xe7, 0x6b } };
static const struct vhdx_guid guid_size = { { 0x24, 0x42, 0xa5, 0x2f, 0x1b, 0xcd, 0x76, 0x48, 0xb2,
					      0x11, 0x5d, 0xbe, 0xd8, 0x3b, 0xf4, 0xb8 } };
static const struct vhdx_guid guid_page_83 = { { 0xab, 0x12, 0xca, 0xbe, 0xe6, 0xb2, 0x23, 0x45,
						 0x93, 0xef, 0xc3, 0x09, 0xe0, 0x00, 0xc7, 0x46 } };
static const struct vhdx_guid guid_logical = { { 0x1d, 0xbf, 0x41, 0x81, 0x6f, 0xa9, 0x09, 0x47,
						 0xba, 0x47, 0xf2, 0x33, 0xa8, 0xfa, 0xab, 0x5f } };
static const struct vhdx_guid guid_physical = { { 0xc7, 0x48, 0xa3, 0xcd, 0x5d, 0x44, 0x71, 0x44,
						  0x9c, 0xc9, 0xe9, 0x88, 0x52, 0x51, 0xc5,
						  0x56 } };

static bool guid_equal(const struct vhdx_guid *a, const struct vhdx_guid *b)
{
	return memcmp(a, b, sizeof(*a)) == 0;
}

int vhdx_new_guid(struct vhdx_guid *ret)
{
	if (getrandom(ret->bytes, sizeof(ret->bytes), 0) != (ssize_t)sizeof(ret->bytes))
		return -EIO;
	/* RFC 4122, 4.4: version 4; the file's first three fields are little endian */
	ret->bytes[7] = (uint8_t)((ret->bytes[7] & 0x0f) | 0x40);
	ret->bytes[8] = (uint8_t)((ret->bytes[8] & 0x3f) | 0x80);
	return 0;
}

/* --- headers --- */

static const uint64_t header_places[2] = { VHDX_HEADER_OFF, VHDX_HEADER_2_OFF };

static bool header_is_good(const struct vhdx_header *h)
{
	return memcmp(h->signature, "head", 4) == 0 &&
	       le32_get(h->checksum) ==
		       vhdx_checksum(h, sizeof(*h), offsetof(struct vhdx_header, checksum));
}

static int check_header(const struct vhdx *v, uint64_t file_size, struct err *err)
{
	const struct vhdx_header *h = &v->header;
	uint64_t version = bytes_get_le(h->version, 2), log = bytes_get_le(h->log_version, 2);

	if (version != 1)
		return err_set(err, ENOTSUP, "the VHDX header has version %llu, must be 1",
			       (unsigned long long)version);
	if (log != 0)
		return err_set(err, ENOTSUP, "the VHDX log has version %llu, must be 0",
			       (unsigned long long)log);
	if (v->log_len % VHDX_SECTION || v->log_off % VHDX_SECTION || v->log_len == 0 ||
	    v->log_off < VHDX_SECTION || !range_fits(v->log_off, v->log_len, file_size))
		return err_set(err, EINVAL,
			       "the VHDX log of %u bytes at %llu is not in the file, in whole MiB",
			       v->log_len, (unsigned long long)v->log_off);
	return 0;
}

int vhdx_read_header(struct vhdx *v, uint64_t file_size, struct err *err)
{
	struct vhdx_header h;
	bool found = false;

	for (unsigned int i = 0; i < ARRAY_SIZE(header_places); i++) {
		int r = file_io_read(&v->io, header_places[i], &h, sizeof(h));

		if (r < 0)
			return err_errno(err, -r, "cannot read the VHDX header");
		/* 2.2.2: the good one with the larger number is the current one */
		if (!header_is_good(&h) ||
		    (found && le64_get(h.sequence) <= le64_get(v->header.sequence)))
			continue;
		v->header = h;
		v->header_index = i;
		found = true;
	}
	if (!found)
		return err_set(err, EINVAL,
			       "both VHDX headers are damaged: signature or checksum is wrong");
	v->log_off = le64_get(v->header.log_offset);
	v->log_len = le32_get(v->header.log_length);
	return check_header(v, file_size, err);
}

int vhdx_write_header(struct vhdx *v)
{
	unsigned int other = !v->header_index;
	int r;

	v->header.sequence = le64_make(le64_get(v->header.sequence) + 1);
	v->header.checksum = le32_make(vhdx_checksum(&v->header, sizeof(v->header),
						     offsetof(struct vhdx_header, checksum)));
	r = file_io_write(&v->io, header_places[other], &v->header, sizeof(v->header));
	if (r >= 0)
		r = file_io_flush(&v->io);
	if (r >= 0)
		v->header_index = other;
	return r;
}

/* --- regions --- */

static int take_region(struct vhdx *v, const struct vhdx_region *region, uint64_t file_size,
		       struct err *err)
{
	uint64_t off = le64_get(region->off), len = le32_get(region->len);
	bool bat = guid_equal(&region->guid, &guid_bat);
	bool items = guid_equal(&region->guid, &guid_items);

	if (!bat && !items) {
		if (le32_get(region->required) & 1)
			return err_set(err, ENOTSUP,
				       "the VHDX image has a region that is required and unknown");
		return 0;
	}
	if (off % VHDX_SECTION || len % VHDX_SECTION || len == 0 || off < VHDX_SECTION ||
	    !range_fits(off, len, file_size) || ranges_overlap(off, len, v->log_off, v->log_len))
		return err_set(err, EINVAL,
			       "the VHDX %s region of %llu bytes at %llu is not in the file, in "
			       "whole MiB beside the log",
			       bat ? "BAT" : "metadata", (unsigned long long)len,
			       (unsigned long long)off);
	if (bat ? v->bat_len : v->items_len)
		return err_set(err, EINVAL, "the VHDX image has two %s regions",
			       bat ? "BAT" : "metadata");
	*(bat ? &v->bat_off : &v->items_off) = off;
	*(bat ? &v->bat_len : &v->items_len) = len;
	return 0;
}

static bool regions_are_good(const struct vhdx_regions *t)
{
	return memcmp(t->signature, "regi", 4) == 0 && le32_get(t->n) <= VHDX_REGIONS_MAX &&
	       le32_get(t->checksum) ==
		       vhdx_checksum(t, sizeof(*t), offsetof(struct vhdx_regions, checksum));
}

int vhdx_read_regions(struct vhdx *v, uint64_t file_size, struct err *err)
{
	_cleanup_free_ struct vhdx_regions *t = malloc(sizeof(*t));
	int r;

	if (!t)
		return err_errno(err, ENOMEM, "cannot read the VHDX regions");
	r = file_io_read(&v->io, VHDX_REGIONS_OFF, t, sizeof(*t));
	if (r >= 0 && !regions_are_good(t)) {
		r = file_io_read(&v->io, VHDX_REGIONS_2_OFF, t, sizeof(*t));
		if (r >= 0 && !regions_are_good(t))
			return err_set(err, EINVAL,
				       "both VHDX region tables are damaged: "
				       "signature, count or checksum is wrong");
	}
	if (r < 0)
		return err_errno(err, -r, "cannot read the VHDX regions");
	for (uint32_t i = 0; i < le32_get(t->n); i++) {
		r = take_region(v, &t->regions[i], file_size, err);
		if (r < 0)
			return r;
	}
	if (!v->bat_len || !v->items_len)
		return err_set(err, EINVAL, "the VHDX image has no %s region",
			       v->bat_len ? "metadata" : "BAT");
	if (ranges_overlap(v->bat_off, v->bat_len, v->items_off, v->items_len))
		return err_set(err, EINVAL, "the VHDX BAT and metadata regions overlap");
	return 0;
}

/* --- items --- */

struct item_values {
	struct vhdx_file_parameters parameters;
	le64 size;
	le32 logical, physical;
};

/* Which member an item goes to; 1 and its place, 0 it is not needed, or an error. */
static int find_item(const struct vhdx_item *item, struct item_values *values, void **ret_to,
		     size_t *ret_len, unsigned int *ret_bit, struct err *err)
{
	const struct {
		const struct vhdx_guid *guid;
		void *to;
		size_t len;
	} known[] = {
		{ &guid_file_parameters, &values->parameters, sizeof(values->parameters) },
		{ &guid_size, &values->size, sizeof(values->size) },
		{ &guid_logical, &values->logical, sizeof(values->logical) },
		{ &guid_physical, &values->physical, sizeof(values->physical) },
	};

	for (unsigned int i = 0; i < ARRAY_SIZE(known); i++) {
		if (!guid_equal(&item->guid, known[i].guid))
			continue;
		*ret_to = known[i].to;
		*ret_len = known[i].len;
		*ret_bit = i;
		return 1;
	}
	if (guid_equal(&item->guid, &guid_page_83) || !(le32_get(item->flags) & VHDX_ITEM_REQUIRED))
		return 0;
	return err_set(err, ENOTSUP, "the VHDX image has metadata that is required and unknown");
}

static int read_values(struct vhdx *v, const struct vhdx_items *t, struct item_values *values,
		       struct err *err)
{
	uint64_t n = bytes_get_le(t->n, 2);
	unsigned int seen = 0;

	if (memcmp(t->signature, "metadata", 8) != 0 || n > VHDX_ITEMS_MAX)
		return err_set(err, EINVAL,
			       "the VHDX metadata table is damaged: signature or count is wrong");
	for (uint64_t i = 0; i < n; i++) {
		const struct vhdx_item *item = &t->items[i];
		unsigned int bit = 0;
		size_t len = 0;
		void *to = NULL;
		int r;

		r = find_item(item, values, &to, &len, &bit, err);
		if (r < 0)
			return r;
		if (r == 0)
			continue;
		if (le32_get(item->len) != len || le32_get(item->off) < sizeof(*t) ||
		    !range_fits(le32_get(item->off), len, v->items_len))
			return err_set(err, EINVAL,
				       "a VHDX metadata item of %u bytes at %u is damaged",
				       le32_get(item->len), le32_get(item->off));
		r = file_io_read(&v->io, v->items_off + le32_get(item->off), to, len);
		if (r < 0)
			return err_errno(err, -r, "cannot read the VHDX metadata");
		seen |= 1U << bit;
	}
	if (seen != 0xf)
		return err_set(err, EINVAL,
			       "the VHDX metadata lacks the block size, the disk's "
			       "size or a sector size");
	return 0;
}

/* The BAT must have an entry for each block, and we must be able to keep it. */
static int size_bat(struct vhdx *v, struct err *err)
{
	v->chunk_ratio = VHDX_CHUNK_SECTORS * v->base.logical_block / v->block_size;
	v->n_blocks = (v->base.size + v->block_size - 1) / v->block_size;
	/* 2.5: a sector bitmap's entry follows every chunk, but not the last payload block */
	v->n_entries = v->n_blocks + (v->n_blocks - 1) / v->chunk_ratio;
	if (v->n_entries * 8 > v->bat_len)
		return err_set(
			err, EINVAL,
			"the VHDX BAT region has %llu bytes, a disk of %llu bytes needs %llu",
			(unsigned long long)v->bat_len, (unsigned long long)v->base.size,
			(unsigned long long)v->n_entries * 8);
	if (v->n_entries * 8 > BAT_MAX)
		return err_set(err, ENOTSUP,
			       "the VHDX BAT has %llu entries, at most %u are supported",
			       (unsigned long long)v->n_entries, BAT_MAX / 8);
	return 0;
}

int vhdx_read_items(struct vhdx *v, struct err *err)
{
	_cleanup_free_ struct vhdx_items *t = malloc(sizeof(*t));
	struct item_values values = { 0 };
	uint32_t logical, physical;
	int r;

	if (!t)
		return err_errno(err, ENOMEM, "cannot read the VHDX metadata");
	r = file_io_read(&v->io, v->items_off, t, sizeof(*t));
	if (r < 0)
		return err_errno(err, -r, "cannot read the VHDX metadata");
	r = read_values(v, t, &values, err);
	if (r < 0)
		return r;
	if (le32_get(values.parameters.flags) & VHDX_HAS_PARENT)
		return err_set(err, ENOTSUP,
			       "differencing VHDX images are not supported, the image "
			       "must stand alone");
	v->block_size = le32_get(values.parameters.block_size);
	logical = le32_get(values.logical);
	physical = le32_get(values.physical);
	v->base.size = le64_get(values.size);
	if (!is_pow2(v->block_size) || v->block_size < VHDX_SECTION ||
	    v->block_size > 256 * VHDX_SECTION)
		return err_set(err, EINVAL,
			       "the VHDX block size is %u bytes, must be a power of "
			       "two from 1 MiB to 256 MiB",
			       v->block_size);
	if ((logical != 512 && logical != 4096) || (physical != 512 && physical != 4096))
		return err_set(err, EINVAL,
			       "the VHDX sectors have %u bytes, %u physically, must be 512 or 4096",
			       logical, physical);
	if (v->base.size == 0 || v->base.size % logical || v->base.size > 64ULL << 40)
		return err_set(err, EINVAL,
			       "the VHDX disk has %llu bytes, must be whole sectors of "
			       "%u, at most 64 TiB",
			       (unsigned long long)v->base.size, logical);
	if (v->base.logical_block > logical)
		return err_set(
			err, EINVAL,
			"direct I/O needs units of %u bytes here, the VHDX image has %u: set "
			"direct to false",
			v->base.logical_block, logical);
	v->base.logical_block = logical;
	v->base.physical_block = MAX(physical, logical);
	return size_bat(v, err);
}
