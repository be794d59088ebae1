/* SPDX-License-Identifier: Apache-2.0 */
/*
 * io_uring: one ring per queue, one system call for a whole batch
 *
 * What only copies between memory and the page cache does not go through the ring, for it
 * costs less to do it at once: see try_read() and write_at_once().
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
#include <fcntl.h>
#include <liburing.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/log.h"
#include "vmm/base/math.h"

#define SQ_ENTRIES_MAX 64U

/*
 * Writes at once that take a batch longer than this go through the ring from then on, for
 * SLOW_FACTOR times as long as they took.
 */
#define SLOW_NS     8000000U
#define SLOW_FACTOR 16U

struct engine_file {
	int fd;
	bool reads_at_once, writes_at_once; /* may be tried: through the page cache */
};

struct engine_uring {
	struct block_engine base;
	struct io_uring ring;
	unsigned int n_in_flight;     /* known to the kernel, or finished below */
	int dead;                     /* -errno once the kernel refuses the ring */
	struct block_io *head, *tail; /* finished without the ring, not reaped */
	uint64_t no_writes_until;     /* ns: they would block; 0 = they may be tried */
	unsigned int n_files;
	bool files_registered;
	struct engine_file files[];
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
	struct engine_uring *e = calloc(1, sizeof(*e) + n_files * sizeof(e->files[0]));
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
	for (unsigned int i = 0; i < n_files; i++) {
		int fl = fcntl(files[i], F_GETFL);
		bool cached = fl >= 0 && !(fl & O_DIRECT);

		e->files[i] = (struct engine_file){ files[i], cached, cached };
	}
	/* Saves taking a reference for each transfer; plain descriptors work as well. */
	e->files_registered = io_uring_register_files(&e->ring, files, n_files) == 0;
	e->base = (struct block_engine){ .ops = &block_engine_uring, .event_fd = e->ring.ring_fd };
	*ret = &e->base;
	return 0;
}

static void finish(struct engine_uring *e, struct block_io *io, int64_t result)
{
	io->result = result;
	io->next = NULL;
	if (e->head)
		e->tail->next = io;
	else
		e->head = io;
	e->tail = io;
}

/* A few ns, as it is no more exact than the timer's tick. */
static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
	return (uint64_t)now.tv_sec * 1000000000U + (uint64_t)now.tv_nsec;
}

/*
 * Reads of what is in the page cache.  What is not there is the ring's, and so are
 * all reads that follow in the batch.
 */
static bool try_read(struct engine_uring *e, struct block_io *io)
{
	struct engine_file *file = &e->files[io->file];
	ssize_t n = preadv2(file->fd, io->iov, (int)io->n_iov, (off_t)io->off, RWF_NOWAIT);

	if (n < 0) {
		file->reads_at_once = errno != EOPNOTSUPP; /* as tmpfs says before 6.6 */
		return false;
	}
	finish(e, io, n);
	return true;
}

static void prepare(struct engine_uring *e, struct io_uring_sqe *sqe, struct block_io *io)
{
	int fd = e->files_registered ? (int)io->file : e->files[io->file].fd;

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

/* The kernel refuses the ring: what it took still completes, the rest never entered it. */
static void die(struct engine_uring *e, int r)
{
	const struct io_uring_sq *sq = &e->ring.sq;

	e->dead = r;
	for (unsigned int n = io_uring_sq_ready(&e->ring); n > 0; n--)
		finish(e,
		       (struct block_io *)(uintptr_t)sq->sqes[(sq->sqe_tail - n) & sq->ring_mask]
			       .user_data,
		       r);
}

/* Hands everything queued to the kernel. */
static void flush_queue(struct engine_uring *e)
{
	while (!e->dead && io_uring_sq_ready(&e->ring) > 0) {
		int r = io_uring_submit(&e->ring);

		if (r >= 0 || r == -EINTR)
			continue;
		if (r == -EAGAIN || r == -EBUSY)
			sched_yield(); /* short of memory: try again, as a page fault would */
		else
			die(e, r);
	}
}

static void queue_io(struct engine_uring *e, struct block_io *io)
{
	struct io_uring_sqe *sqe = e->dead ? NULL : io_uring_get_sqe(&e->ring);

	if (!e->dead && !sqe) {
		flush_queue(e);
		sqe = e->dead ? NULL : io_uring_get_sqe(&e->ring);
	}
	if (e->dead) {
		finish(e, io, e->dead);
		return;
	}
	assert(sqe);
	prepare(e, sqe, io);
}

/* What is durable when it is finished has to wait for the disk. */
static bool is_write_at_once(const struct engine_uring *e, const struct block_io *io)
{
	return io->op == BLOCK_OP_WRITE && !io->dsync && e->files[io->file].writes_at_once;
}

/*
 * Writes to the page cache.  File systems that cannot promise not to wait meanwhile
 * (ext4) have a ring leave them to a worker thread, one after the other for a file: a
 * wakeup and two switches for each, which is more than the copy costs.
 *
 * Here they keep the queue's thread from its other requests.  That matters when the
 * kernel makes writers wait for the disk: too many dirty pages, a full journal, a file
 * system that asks a server.  So they come last, when the ring is at work, and time is
 * kept: no batch holds the thread for longer than SLOW_NS and what one write takes
 * beyond it, and such are a seventeenth of the time at most.  A thread that was
 * preempted looks slow as well; then the ring does no harm.
 */
static void write_at_once(struct engine_uring *e, struct block_io *const *ios, unsigned int n)
{
	uint64_t start = now_ns(), took;

	for (unsigned int i = 0; i < n; i++) {
		struct block_io *io = ios[i];
		ssize_t r;

		if (!is_write_at_once(e, io))
			continue;
		if (start < e->no_writes_until) {
			queue_io(e, io);
			continue;
		}
		r = pwritev(e->files[io->file].fd, io->iov, (int)io->n_iov, (off_t)io->off);
		finish(e, io, r < 0 ? -errno : r);
		took = now_ns() - start;
		if (took > SLOW_NS)
			e->no_writes_until = start + took * (1 + SLOW_FACTOR);
	}
	flush_queue(e);
}

static void uring_submit(struct block_engine *engine, struct block_io *const *ios, unsigned int n)
{
	struct engine_uring *e = engine_uring(engine);
	bool reads_at_once = true;
	unsigned int n_writes = 0;

	e->n_in_flight += n;
	for (unsigned int i = 0; i < n; i++) {
		const struct engine_file *file = &e->files[ios[i]->file];

		if (is_write_at_once(e, ios[i])) {
			n_writes++;
			continue;
		}
		if (ios[i]->op == BLOCK_OP_READ && file->reads_at_once && reads_at_once) {
			reads_at_once = try_read(e, ios[i]);
			if (reads_at_once)
				continue;
		}
		queue_io(e, ios[i]);
	}
	flush_queue(e);
	if (n_writes > 0)
		write_at_once(e, ios, n);
}

static int result_of(const struct engine_uring *e, const struct block_io *io, int res)
{
	if (io->op != BLOCK_OP_DISCARD && io->op != BLOCK_OP_WRITE_ZEROES)
		return res;
	return block_io_after_fallocate(e->files[io->file].fd, io, res);
}

/*
 * Until something is finished, perhaps; true: e->head has something.  What the kernel took
 * still completes in the ring's memory when it refuses to wait for it, and our buffers are
 * its own until then: so we look now and then, and start nothing more.
 */
static bool wait_for_some(struct engine_uring *e)
{
	static const struct timespec pause = { .tv_nsec = 1000000 };
	struct io_uring_cqe *cqe;
	int r = e->dead ? 0 : io_uring_wait_cqe(&e->ring, &cqe);

	if (r < 0 && r != -EINTR && r != -EAGAIN && r != -EBUSY) {
		log_warning("cannot wait for an io_uring: %s; its disk's requests fail from now on",
			    strerrordesc_np(-r));
		die(e, r);
	}
	if (e->dead && !e->head)
		clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, NULL);
	return e->head;
}

static unsigned int take_finished(struct engine_uring *e, struct block_io **ret, unsigned int max)
{
	unsigned int n = 0;

	for (; n < max && e->head; n++) {
		ret[n] = e->head;
		e->head = e->head->next;
	}
	return n;
}

static unsigned int uring_reap(struct block_engine *engine, struct block_io **ret, unsigned int max,
			       bool wait)
{
	struct engine_uring *e = engine_uring(engine);
	unsigned int n = take_finished(e, ret, max);
	struct io_uring_cqe *cqe;

	while (n < max) {
		if (io_uring_peek_cqe(&e->ring, &cqe) != 0) {
			if (n > 0 || !wait || e->n_in_flight == 0)
				break;
			if (wait_for_some(e))
				n = take_finished(e, ret, max);
			continue;
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
