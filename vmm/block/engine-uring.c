/* SPDX-License-Identifier: Apache-2.0 */
/*
 * io_uring: one ring per queue, one system call for a whole batch
 *
 * The ring's own descriptor goes into the queue's epoll: it is readable while
 * there are completions, which saves an eventfd and a write to it for each.
 *
 * The submission ring is small, since submit empties it; the completion ring
 * holds everything that may be in flight, so it cannot overflow.  Both cost
 * about 20 KiB of kernel memory at a depth of 128.
 */
#include "vmm/block/block.h"

#include <assert.h>
#include <errno.h>
#include <liburing.h>
#include <sched.h>
#include <stdlib.h>

#include "vmm/base/err.h"
#include "vmm/base/math.h"

#define SQ_ENTRIES_MAX 64U

struct engine_uring {
	struct block_engine base;
	struct io_uring ring;
	unsigned int n_in_flight; /* known to the kernel, or finished below */
	int dead;                 /* -errno once the kernel refuses the ring */
	struct block_io *failed;  /* finished without the kernel */
	unsigned int n_files;
	bool files_registered;
	int files[];
};

static struct engine_uring *engine_uring(struct block_engine *engine)
{
	return container_of(engine, struct engine_uring, base);
}

static int uring_open(const int *files, unsigned int n_files, unsigned int depth,
		      struct block_engine **ret, struct err *err)
{
	/*
	 * COOP_TASKRUN (5.19): completions do not interrupt the thread, which
	 * collects them when it next enters the kernel anyway.
	 */
	static const unsigned int flags[] = {
		IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP | IORING_SETUP_COOP_TASKRUN,
		IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP,
	};
	struct engine_uring *e = calloc(1, sizeof(*e) + n_files * sizeof(files[0]));
	int r = -EINVAL;

	if (!e)
		return err_errno(err, ENOMEM, "cannot make an io_uring engine");
	for (size_t i = 0; r == -EINVAL && i < ARRAY_SIZE(flags); i++) {
		struct io_uring_params params = { .flags = flags[i], .cq_entries = depth };

		r = io_uring_queue_init_params(MIN(depth, SQ_ENTRIES_MAX), &e->ring, &params);
	}
	if (r < 0) {
		free(e);
		return err_errno(err, -r, "cannot set up an io_uring");
	}
	e->n_files = n_files;
	for (unsigned int i = 0; i < n_files; i++)
		e->files[i] = files[i];
	/* Saves taking a reference for each transfer; plain descriptors work as well. */
	e->files_registered = io_uring_register_files(&e->ring, files, n_files) == 0;
	e->base = (struct block_engine){ .ops = &block_engine_uring, .event_fd = e->ring.ring_fd };
	*ret = &e->base;
	return 0;
}

static void fail(struct engine_uring *e, struct block_io *io, int result)
{
	io->result = result;
	io->next = e->failed;
	e->failed = io;
}

/* Hands everything queued to the kernel. */
static void flush_queue(struct engine_uring *e)
{
	while (!e->dead && io_uring_sq_ready(&e->ring) > 0) {
		int r = io_uring_submit(&e->ring);

		if (r >= 0 || r == -EINTR)
			continue;
		if (r == -EAGAIN || r == -EBUSY) {
			/* The kernel is short of memory: try again, as a page fault would. */
			sched_yield();
			continue;
		}
		e->dead = r;
	}
}

static void prepare(struct engine_uring *e, struct io_uring_sqe *sqe, struct block_io *io)
{
	int fd = e->files_registered ? (int)io->file : e->files[io->file];

	switch (io->op) {
	case BLOCK_OP_READ:
		io_uring_prep_readv(sqe, fd, io->iov, io->n_iov, io->off);
		break;
	case BLOCK_OP_WRITE:
		io_uring_prep_writev2(sqe, fd, io->iov, io->n_iov, io->off,
				      io->dsync ? RWF_DSYNC : 0);
		break;
	case BLOCK_OP_DISCARD:
	case BLOCK_OP_WRITE_ZEROES:
		io_uring_prep_fallocate(sqe, fd, block_io_falloc_mode(io), (off_t)io->off,
					(off_t)io->len);
		break;
	case BLOCK_OP_FLUSH:
	case BLOCK_OP_N_:
		/* Covers what is finished, not what is in flight: no drain flag needed. */
		io_uring_prep_fsync(sqe, fd, IORING_FSYNC_DATASYNC);
		break;
	}
	if (e->files_registered)
		sqe->flags |= IOSQE_FIXED_FILE;
	io_uring_sqe_set_data(sqe, io);
}

static void uring_submit(struct block_engine *engine, struct block_io *const *ios, unsigned int n)
{
	struct engine_uring *e = engine_uring(engine);
	unsigned int n_prepared = 0;

	e->n_in_flight += n;
	for (; n_prepared < n && !e->dead; n_prepared++) {
		struct io_uring_sqe *sqe = io_uring_get_sqe(&e->ring);

		if (!sqe) {
			flush_queue(e);
			if (e->dead)
				break;
			sqe = io_uring_get_sqe(&e->ring);
			assert(sqe);
		}
		prepare(e, sqe, ios[n_prepared]);
	}
	flush_queue(e);
	if (e->dead) {
		/* What the kernel took still completes; the rest never entered it. */
		n_prepared -= MIN(n_prepared, io_uring_sq_ready(&e->ring));
		for (unsigned int i = n_prepared; i < n; i++)
			fail(e, ios[i], e->dead);
	}
}

static int result_of(const struct engine_uring *e, const struct block_io *io, int res)
{
	if (io->op != BLOCK_OP_DISCARD && io->op != BLOCK_OP_WRITE_ZEROES)
		return res;
	return block_io_after_fallocate(e->files[io->file], io, res);
}

static unsigned int uring_reap(struct block_engine *engine, struct block_io **ret, unsigned int max,
			       bool wait)
{
	struct engine_uring *e = engine_uring(engine);
	unsigned int n = 0;
	struct io_uring_cqe *cqe;

	for (; n < max && e->failed; n++) {
		ret[n] = e->failed;
		e->failed = e->failed->next;
	}
	while (n < max) {
		if (io_uring_peek_cqe(&e->ring, &cqe) != 0) {
			if (n > 0 || !wait || e->n_in_flight == 0)
				break;
			if (io_uring_wait_cqe(&e->ring, &cqe) != 0)
				continue; /* -EINTR */
		}
		ret[n] = io_uring_cqe_get_data(cqe);
		ret[n]->result = result_of(e, ret[n], cqe->res);
		n++;
		io_uring_cqe_seen(&e->ring, cqe);
	}
	e->n_in_flight -= n;
	return n;
}

static void uring_free(struct block_engine *engine)
{
	struct engine_uring *e = engine_uring(engine);

	assert(e->n_in_flight == 0);
	io_uring_queue_exit(&e->ring);
	free(e);
}

const struct block_engine_ops block_engine_uring = {
	.name = "io_uring",
	.open = uring_open,
	.submit = uring_submit,
	.reap = uring_reap,
	.free = uring_free,
};
