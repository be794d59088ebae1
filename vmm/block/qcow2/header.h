/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The header of a qcow2 file, from bytes: a pure function without a file
 *
 * It accepts what the specification allows and this implementation knows, and
 * names what it does not.  Whether offsets fit the file is open.c's to check.
 * Also linked into the daemon, which asks for the backing file only (backing.h).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/block/qcow2/qcow2-abi.h"

struct err;

/*
 * Extensions and the backing file's name must lie within so much of the file.
 * QEMU puts them right behind the header.
 */
#define QCOW2_HEAD_BYTES (64U << 10)

#define QCOW2_FORMAT_NAME_MAX 15

struct qcow2_header {
	uint32_t version, cluster_bits, refcount_order;
	uint64_t size;
	uint32_t l1_entries, reftable_clusters, n_snapshots;
	uint64_t l1_off, reftable_off;
	uint64_t incompatible, compatible, autoclear;
	uint8_t compression;
	bool has_bitmaps; /* persistent dirty bitmaps, QEMU's */
	/* Empty: there is none, or its format is not stated. */
	char backing_name[QCOW2_BACKING_NAME_MAX + 1];
	char backing_format[QCOW2_FORMAT_NAME_MAX + 1];
};

/* head: the file's first len bytes, up to QCOW2_HEAD_BYTES. */
int qcow2_header_parse(const uint8_t *head, size_t len, struct qcow2_header *ret, struct err *err);
