/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/block/qcow2/header.h"

#include <errno.h>
#include <stdio.h>

#include "vmm/base/err.h"
#include "vmm/base/math.h"

/* The feature name table, a place in the head. */
struct feature_names {
	const uint8_t *at;
	size_t n;
};

/* Foreign text that will be printed: what is no printable ASCII becomes '?'. */
static void copy_text(char *to, const uint8_t *from, size_t len)
{
	for (size_t i = 0; i < len; i++)
		to[i] = from[i] >= 0x20 && from[i] < 0x7f ? (char)from[i] : '?';
	to[len] = 0;
}

static int refuse_features(uint64_t unknown, const struct feature_names *names, struct err *err)
{
	char text[256] = "";
	size_t at = 0;

	for (unsigned int bit = 0; bit < 64; bit++) {
		char name[QCOW2_FEATURE_NAME_LEN] = "";

		if (!(unknown >> bit & 1))
			continue;
		for (size_t i = 0; i < names->n; i++) {
			const uint8_t *entry = names->at + i * QCOW2_FEATURE_NAME_LEN;

			if (entry[0] == 0 && entry[1] == bit)
				copy_text(name, entry + 2,
					  strnlen((const char *)entry + 2,
						  QCOW2_FEATURE_NAME_LEN - 2));
		}
		at += (size_t)snprintf(text + at, sizeof(text) - at,
				       name[0] ? "%sbit %u '%s'" : "%sbit %u%s", at ? ", " : "",
				       bit, name);
		if (at >= sizeof(text))
			break;
	}
	return err_set(err, ENOTSUP, "the image has features that are not supported: %s", text);
}

/* From `at` up to end; a table that runs over its end is an error. */
static int parse_extensions(const uint8_t *head, size_t at, size_t end, struct qcow2_header *h,
			    struct feature_names *ret_names, struct err *err)
{
	while (end - at >= 8) {
		uint32_t type = qcow2_get32(head + at), len = qcow2_get32(head + at + 4);

		at += 8;
		if (type == QCOW2_EXT_END)
			return 0;
		if (len > end - at)
			return err_set(err, EINVAL,
				       "header extension 0x%08x of %u bytes does not fit", type,
				       len);
		if (type == QCOW2_EXT_BACKING_FORMAT) {
			if (len > QCOW2_FORMAT_NAME_MAX)
				return err_set(err, EINVAL,
					       "the backing format's name has %u bytes, more than "
					       "%u",
					       len, QCOW2_FORMAT_NAME_MAX);
			copy_text(h->backing_format, head + at, len);
		} else if (type == QCOW2_EXT_FEATURE_NAMES) {
			ret_names->at = head + at;
			ret_names->n = len / QCOW2_FEATURE_NAME_LEN;
		} else if (type == QCOW2_EXT_BITMAPS) {
			h->has_bitmaps = true;
		}
		at += MIN((size_t)align_up(len, 8), end - at);
	}
	return 0;
}

/* ret_end: where extensions end at the latest. */
static int parse_backing(const uint8_t *head, size_t len, struct qcow2_header *h, size_t *ret_end,
			 struct err *err)
{
	uint64_t off = qcow2_get64(head + QCOW2_H_BACKING_OFF);
	uint32_t n = qcow2_get32(head + QCOW2_H_BACKING_LEN);
	uint64_t limit = MIN((uint64_t)len, 1ULL << h->cluster_bits);

	*ret_end = (size_t)limit;
	if (off == 0)
		return 0;
	if (n == 0 || n > QCOW2_BACKING_NAME_MAX)
		return err_set(err, EINVAL, "the backing file's name has %u bytes: 1 to %u work", n,
			       QCOW2_BACKING_NAME_MAX);
	if (!range_fits(off, n, limit))
		return err_set(err, EINVAL,
			       "the backing file's name, %u bytes at %llu, is not in the first "
			       "cluster",
			       n, (unsigned long long)off);
	if (memchr(head + off, 0, n))
		return err_set(err, EINVAL, "the backing file's name contains a zero byte");
	memcpy(h->backing_name, head + off, n);
	h->backing_name[n] = 0;
	*ret_end = (size_t)off;
	return 0;
}

static int parse_v3(const uint8_t *head, size_t len, struct qcow2_header *h, size_t *ret_length,
		    struct err *err)
{
	uint32_t length;

	if (len < QCOW2_H_V3_LENGTH)
		return err_set(err, EINVAL, "the file ends within the qcow2 header");
	h->incompatible = qcow2_get64(head + QCOW2_H_INCOMPATIBLE);
	h->compatible = qcow2_get64(head + QCOW2_H_COMPATIBLE);
	h->autoclear = qcow2_get64(head + QCOW2_H_AUTOCLEAR);
	h->refcount_order = qcow2_get32(head + QCOW2_H_REFCOUNT_ORDER);
	length = qcow2_get32(head + QCOW2_H_LENGTH);
	if (length < QCOW2_H_V3_LENGTH || length % 8 || length > len ||
	    length > 1U << h->cluster_bits)
		return err_set(err, EINVAL, "the qcow2 header states a length of %u bytes", length);
	if (h->refcount_order > QCOW2_REFCOUNT_ORDER_MAX)
		return err_set(err, EINVAL, "refcount_order is %u: at most %u works",
			       h->refcount_order, QCOW2_REFCOUNT_ORDER_MAX);
	if (length > QCOW2_H_COMPRESSION)
		h->compression = head[QCOW2_H_COMPRESSION];
	*ret_length = length;
	return 0;
}

static int check_features(const struct qcow2_header *h, const struct feature_names *names,
			  struct err *err)
{
	if (h->incompatible & ~QCOW2_INCOMPATIBLE_KNOWN)
		return refuse_features(h->incompatible & ~QCOW2_INCOMPATIBLE_KNOWN, names, err);
	if (h->incompatible & QCOW2_INCOMPATIBLE_DATA_FILE)
		return err_set(err, ENOTSUP,
			       "the image keeps its data in an external data file, which is not "
			       "supported");
	if (!(h->incompatible & QCOW2_INCOMPATIBLE_COMPRESSION) != !h->compression ||
	    h->compression > QCOW2_COMPRESSION_ZSTD)
		return err_set(err, ENOTSUP,
			       "compression type %u is not supported: zlib (0) and "
			       "zstd (1, with its feature bit) are",
			       h->compression);
	if ((h->incompatible & QCOW2_INCOMPATIBLE_EXTENDED_L2) &&
	    h->cluster_bits < QCOW2_CLUSTER_BITS_MIN_EXTENDED)
		return err_set(err, EINVAL,
			       "extended L2 entries need clusters of 16384 bytes or more, not %u",
			       1U << h->cluster_bits);
	return 0;
}

/* What can be said without knowing the file. */
static int check_tables(const struct qcow2_header *h, struct err *err)
{
	const uint64_t cluster = 1ULL << h->cluster_bits;
	bool extended = h->incompatible & QCOW2_INCOMPATIBLE_EXTENDED_L2;
	uint64_t l2_covers = cluster * (cluster / (extended ? 16 : 8));

	if (h->l1_off % cluster || h->l1_off == 0)
		return err_set(err, EINVAL, "the L1 table is at %llu, which is no cluster's start",
			       (unsigned long long)h->l1_off);
	if (h->l1_entries > QCOW2_L1_BYTES_MAX / 8)
		return err_set(err, EFBIG, "the L1 table has %u entries: at most %llu work",
			       h->l1_entries, QCOW2_L1_BYTES_MAX / 8);
	if (h->size > INT64_MAX)
		return err_set(err, EFBIG, "the disk's size of %llu bytes is too large",
			       (unsigned long long)h->size);
	if (h->size / l2_covers + (h->size % l2_covers != 0) > h->l1_entries)
		return err_set(err, EINVAL,
			       "the L1 table has %u entries, too few for a disk of %llu bytes",
			       h->l1_entries, (unsigned long long)h->size);
	if (h->reftable_off % cluster || h->reftable_off == 0)
		return err_set(err, EINVAL,
			       "the refcount table is at %llu, which is no cluster's start",
			       (unsigned long long)h->reftable_off);
	if (h->reftable_clusters == 0 || h->reftable_clusters > QCOW2_REFTABLE_BYTES_MAX / cluster)
		return err_set(err, EINVAL, "the refcount table has %u clusters: 1 to %llu work",
			       h->reftable_clusters,
			       (unsigned long long)(QCOW2_REFTABLE_BYTES_MAX / cluster));
	return 0;
}

int qcow2_header_parse(const uint8_t *head, size_t len, struct qcow2_header *ret, struct err *err)
{
	struct qcow2_header h = { .refcount_order = QCOW2_REFCOUNT_ORDER_V2 };
	struct feature_names names = { 0 };
	size_t length = QCOW2_H_V2_LENGTH, end = 0;
	uint32_t crypt;
	int r = 0;

	if (len < QCOW2_H_V2_LENGTH || qcow2_get32(head) != QCOW2_MAGIC)
		return err_set(err, EINVAL, "the file has no qcow2 header");
	h.version = qcow2_get32(head + QCOW2_H_VERSION);
	if (h.version != 2 && h.version != 3)
		return err_set(err, ENOTSUP, "qcow2 version %u is not supported: 2 and 3 are",
			       h.version);
	h.cluster_bits = qcow2_get32(head + QCOW2_H_CLUSTER_BITS);
	if (h.cluster_bits < QCOW2_CLUSTER_BITS_MIN || h.cluster_bits > QCOW2_CLUSTER_BITS_MAX)
		return err_set(err, EINVAL, "cluster_bits is %u: %u to %u work", h.cluster_bits,
			       QCOW2_CLUSTER_BITS_MIN, QCOW2_CLUSTER_BITS_MAX);
	h.size = qcow2_get64(head + QCOW2_H_SIZE);
	crypt = qcow2_get32(head + QCOW2_H_CRYPT);
	h.l1_entries = qcow2_get32(head + QCOW2_H_L1_ENTRIES);
	h.l1_off = qcow2_get64(head + QCOW2_H_L1_OFF);
	h.reftable_off = qcow2_get64(head + QCOW2_H_REFTABLE_OFF);
	h.reftable_clusters = qcow2_get32(head + QCOW2_H_REFTABLE_CLUSTERS);
	h.n_snapshots = qcow2_get32(head + QCOW2_H_N_SNAPSHOTS);
	if (h.version == 3)
		r = parse_v3(head, len, &h, &length, err);
	if (r >= 0)
		r = parse_backing(head, len, &h, &end, err);
	if (r >= 0 && end > length)
		r = parse_extensions(head, length, end, &h, &names, err);
	if (r >= 0)
		r = check_features(&h, &names, err);
	if (r < 0)
		return r;
	if (crypt)
		return err_set(err, ENOTSUP,
			       "the image is encrypted (method %u, %s), which is not "
			       "supported",
			       crypt,
			       crypt == 1   ? "AES"
			       : crypt == 2 ? "LUKS"
					    : "unknown");
	r = check_tables(&h, err);
	if (r < 0)
		return r;
	*ret = h;
	return 0;
}
