/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Disk images: formats say where data lives, engines move bytes
 *
 *   device -> block_queue -> format (map) and engine (submit, reap)
 *
 * A format turns a range of the virtual disk into an extent: a place in one of
 * the image's files, zeroes, or nothing left to do because it moved the bytes
 * itself (compressed data, copy-on-write, metadata).  It knows no engine and has
 * no thread of its own.  An engine moves bytes between guest memory and files and knows no
 * format.  struct block_queue (block-queue.c) joins the two for one I/O thread:
 * each request is a cursor that maps, moves and advances until it is done, so
 * short transfers and fragmented images need nothing special.
 *
 * The image is made by the control thread and shared by all queues of a disk;
 * map() and sync_metadata() are called on any of their I/O threads, and a format
 * with metadata that changes guards it by a lock of its own.  That lock is held
 * over synchronous calls at most, never until an engine has finished something:
 * so no queue waits for another, whatever thread runs them.  An image never sees
 * a path: it is handed descriptors that the daemon opened, its own and those of
 * its backing chain.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "vmm/base/cleanup.h"

struct block_epoch;
struct block_image;
struct err;

/* The unit of virtio-blk and of image sizes, whatever the medium's own block is. */
#define BLOCK_SECTOR 512U

#define BLOCK_FILES_MAX 8 /* files of one image: itself and its backing chain */

enum block_extent_kind {
	BLOCK_EXTENT_HOST, /* file, off */
	BLOCK_EXTENT_ZERO, /* reads as zeroes; the answer for a READ only */
	BLOCK_EXTENT_DONE, /* the format did it: memory is filled, written, or nothing to do */
	BLOCK_EXTENT_N_,
};

struct block_extent {
	enum block_extent_kind kind;
	unsigned int file; /* index into the image's files */
	uint64_t off, len; /* bytes; 0 < len <= what was asked for */
};

enum block_op {
	BLOCK_OP_READ,
	BLOCK_OP_WRITE,
	BLOCK_OP_FLUSH,        /* covers every write that was finished when it was submitted */
	BLOCK_OP_DISCARD,      /* the contents no longer matter; reads zeroes where that is free */
	BLOCK_OP_WRITE_ZEROES, /* reads zeroes from then on */
	BLOCK_OP_N_,
};

/* What map() is asked: inside the image, len > 0; any op but FLUSH. */
struct block_access {
	enum block_op op;
	bool unmap; /* WRITE_ZEROES may give the storage back */
	uint64_t off, len;
	/* READ and WRITE: len bytes or more, for formats that move them themselves */
	const struct iovec *iov;
	unsigned int n_iov;
};

struct block_format_ops;

/* A file of a backing chain, as the configuration states it. */
struct block_backing {
	int fd;
	const struct block_format_ops *format;
};

struct block_image_params {
	const char *id; /* of the disk, for messages */
	bool readonly;
	bool direct;   /* bypass the host's page cache */
	bool allocate; /* what it grows by has its storage set aside */
	/* What the image's file is based on, the nearest first; read, never written. */
	const struct block_backing *backing;
	unsigned int n_backing; /* < BLOCK_FILES_MAX */
};

struct block_format_ops {
	const char *name; /* "raw" */
	/* Takes fd and the backing descriptors over on success, none of them on failure. */
	int (*open)(int fd, const struct block_image_params *params, struct block_image **ret,
		    struct err *err);
	/*
	 * 0 or -errno; a WRITE allocates.  It may block for as long as some transfers
	 * take, but for nothing that a queue has in flight.  On HOST the caller does
	 * access->op on that place; what it was told stays so until block_epoch_leave().
	 */
	int (*map)(struct block_image *img, const struct block_access *access,
		   struct block_extent *ret);
	/*
	 * Optional: writes cached metadata out; the caller flushes file 0 afterwards.
	 * An order among the writes is the format's, by flushes of its own.
	 */
	int (*sync_metadata)(struct block_image *img);
	/*
	 * Optional: makes the disk larger, or smaller where the format can; size is a
	 * multiple of logical_block.  Control thread, nothing in flight; img->size says so
	 * afterwards.
	 */
	int (*resize)(struct block_image *img, uint64_t size, struct err *err);
	/* Writes everything out and closes all descriptors, the chain's as well. */
	void (*close)(struct block_image *img);
};

extern const struct block_format_ops block_format_raw;
extern const struct block_format_ops block_format_vhd;
extern const struct block_format_ops block_format_vhdx;
extern const struct block_format_ops block_format_qcow2;

/* NULL: there is none of that name. */
const struct block_format_ops *block_format_by_name(const char *name);

/* Set by open, constant afterwards (the size until resize). */
struct block_image {
	const struct block_format_ops *ops;
	int files[BLOCK_FILES_MAX];
	unsigned int n_files;
	uint64_t size;                          /* bytes, multiple of logical_block */
	uint32_t logical_block, physical_block; /* bytes, powers of two, >= BLOCK_SECTOR */
	uint32_t alignment_off;        /* logical blocks up to the first aligned physical one */
	uint32_t min_io, opt_io;       /* logical blocks; 0 = nothing known */
	uint32_t mem_align, off_align; /* what the files' O_DIRECT asks for; 1 = anything goes */
	bool readonly;
	bool can_discard, can_write_zeroes; /* BLOCK_OP_DISCARD, BLOCK_OP_WRITE_ZEROES work */
	uint32_t discard_granularity;       /* bytes, power of two; smaller ranges free nothing */
	struct block_epoch *epoch; /* of formats that free space; NULL: places never move */
	/*
	 * Changes of the metadata that says where data is, counted, and how many of them are
	 * in the file for good.  What has to be durable when it is finished needs a flush while
	 * they differ, whoever made the changes: it may lie in what another request allocated.
	 */
	_Atomic uint64_t changes, durable_changes;
};

/* For formats, before anybody can see the change: who sees it sees it counted. */
static inline void block_image_changed(struct block_image *img)
{
	/* relaxed: what publishes the change is a release, and follows */
	atomic_fetch_add_explicit(&img->changes, 1, memory_order_relaxed);
}

/*
 * The format is what the configuration states, and the caller has looked whether it
 * may be true (detect.h).  What is stated about backing files is looked at here, and
 * a chain that meets itself is an error.
 */
int block_image_open(const struct block_format_ops *format, int fd,
		     const struct block_image_params *params, struct block_image **ret,
		     struct err *err);
void block_image_close(struct block_image *img);
/* -EOPNOTSUPP with a sentence where the format cannot. */
int block_image_resize(struct block_image *img, uint64_t size, struct err *err);
DEFINE_CLEANUP(struct block_image, block_image_close);

/* One transfer between memory and one file; owned by the engine from submit to reap. */
struct block_io {
	enum block_op op;
	bool dsync; /* a write is durable before it is finished */
	bool unmap; /* WRITE_ZEROES may give the storage back */
	unsigned int file;
	const struct iovec *iov; /* READ and WRITE */
	unsigned int n_iov;
	uint64_t off;
	uint64_t len; /* DISCARD and WRITE_ZEROES: bytes */
	/* READ, WRITE: bytes, may be fewer than asked for; others: 0; or -errno */
	int64_t result;
	struct block_io *next; /* the engine's */
};

/* fallocate(2)'s mode for DISCARD and WRITE_ZEROES. */
int block_io_falloc_mode(const struct block_io *io);
/*
 * What that call said, 0 or -errno, becomes the transfer's result: where the file
 * cannot, zeroes are written and a block device is asked for its own discard.
 */
int block_io_after_fallocate(int fd, const struct block_io *io, int result);
/* Both. */
int block_io_fallocate(int fd, const struct block_io *io);

struct block_engine {
	const struct block_engine_ops *ops;
	/*
	 * Readable when something is finished that was not by the time submit returned, after
	 * which reap is to be asked in any case; -EBADF: everything is.
	 */
	int event_fd;
};

struct block_engine_ops {
	const char *name; /* "io_uring" */
	/* Any one thread. files stay the caller's; at most depth transfers in flight. */
	int (*open)(const int *files, unsigned int n_files, unsigned int depth,
		    struct block_engine **ret, struct err *err);
	/* Starts n transfers with as few system calls as it takes. */
	void (*submit)(struct block_engine *engine, struct block_io *const *ios, unsigned int n);
	/* Up to max finished ones; with wait, at least one if any is in flight. */
	unsigned int (*reap)(struct block_engine *engine, struct block_io **ret, unsigned int max,
			     bool wait);
	/* Nothing may be in flight. */
	void (*free)(struct block_engine *engine);
};

extern const struct block_engine_ops block_engine_uring;
extern const struct block_engine_ops block_engine_aio;
extern const struct block_engine_ops block_engine_sync;

/* Engines that are not to be chosen; bits. */
#define BLOCK_WITHOUT_URING 1U
#define BLOCK_WITHOUT_AIO   2U

/*
 * The best engine that works here and is not ruled out: io_uring, aio, sync.  When
 * the host refuses one, one log line a process says so.
 */
int block_engine_open_best(unsigned int without, const int *files, unsigned int n_files,
			   unsigned int depth, struct block_engine **ret, struct err *err);
/* By name: "io_uring", "aio", "sync"; NULL: the best one. */
int block_engine_open(const char *name, const int *files, unsigned int n_files, unsigned int depth,
		      struct block_engine **ret, struct err *err);
void block_engine_free(struct block_engine *engine);
