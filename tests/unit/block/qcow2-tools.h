/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the qcow2 tests share: a folder of their own, qemu-img as maker and judge,
 * and one request after the other on a queue
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/base/err.h"
#include "vmm/block/block-queue.h"
#include "vmm/block/block.h"

#define TOOLS_DEPTH 8U

/* False, and the test is skipped, when there is no qemu-img. */
bool tools_have_qemu_img(void);
/* A folder that tools_clean_up() removes; the path of a file in it, to be freed. */
char *tools_path(const char *name);
void tools_clean_up(void);

/* qemu-img with arguments split at spaces; returns its exit status. */
int tools_qemu_img(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* The same, and it must be 0. */
void tools_qemu_img_ok(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void tools_write_file(const char *path, const void *data, size_t len);

int tools_open_fd(const char *path, bool readonly);
/* The image and its chain, which `backing` names as "format:path format:path"; or NULL and err. */
struct block_image *tools_try_open(const char *path, const char *backing, bool readonly,
				   struct err *err);
struct block_image *tools_open(const char *path, const char *backing, bool readonly);

/* One request from start to end. */
int tools_rw(struct block_queue *bq, enum block_op op, uint64_t off, void *buf, size_t len);
int tools_range(struct block_queue *bq, enum block_op op, uint64_t off, uint64_t len, bool unmap);

/* Deterministic, a stream per state. */
uint64_t tools_random(uint64_t *state);
/* Bytes that say where they were written, and compress well. */
void tools_fill(uint8_t *buf, size_t len, uint64_t seed);
