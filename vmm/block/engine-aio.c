/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Linux AIO: for hosts that forbid io_uring
 *
 * One context per queue, one io_submit(2) for a whole batch.  Transfers that
 * bypass the page cache and flushes are asynchronous; what goes through the page
 * cache is done by the time io_submit returns, as with the sync engine.
 * Discard and write-zeroes have no AIO command and are blocking calls.
 *
 * The system calls are made directly: libaio would be a library for four of
 * them.  Completions are announced by an eventfd; whether there are any is read
 * from the ring that the kernel shares with us (fs/aio.c), which costs no call.
 */
#include "vmm/block/block.h"

#include <assert.h>
#include <errno.h>
#include <linux/aio_abi.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/fd.h"
#include "vmm/base/math.h"

#define SUBMIT_BATCH   64U
#define AIO_RING_MAGIC 0xa10a10a1U

/* The start of what a context is the address of: struct aio_ring of fs/aio.c, layout 1. */
struct aio_ring {
	uint32_t id, nr;
	_Atomic uint32_t head, tail;
	uint32_t magic, compat_features, incompat_features, header_length;
};

struct engine_aio {
	struct block_engine base;
	aio_context_t context;
	unsigned int n_in_flight; /* the kernel's */
	struct block_io *done;    /* finished without it */
	unsigned int n_free;
	struct iocb *iocbs, **free; /* one for each that can be in flight */
	unsigned int n_files;
	int files[];
};

static struct engine_aio *engine_aio(struct block_engine *engine)
{
	return container_of(engine, struct engine_aio, base);
}

static int sys_io_setup(unsigned int n, aio_context_t *context)
{
	return syscall(SYS_io_setup, n, context) < 0 ? -errno : 0;
}

static void sys_io_destroy(aio_context_t context)
{
	syscall(SYS_io_destroy, context);
}

static long sys_io_submit(aio_context_t context, long n, struct iocb **iocbs)
{
	long r = syscall(SYS_io_submit, context, n, iocbs);

	return r < 0 ? -errno : r;
}

static long sys_io_getevents(aio_context_t context, long min, long max, struct io_event *events)
{
	const struct timespec none = { 0 };
	long r = syscall(SYS_io_getevents, context, min, max, events, min > 0 ? NULL : &none);

	return r < 0 ? -errno : r;
}

static void aio_free(struct block_engine *engine)
{
	struct engine_aio *e = engine_aio(engine);

	assert(e->n_in_flight == 0);
	if (e->context)
		sys_io_destroy(e->context);
	if (e->base.event_fd >= 0)
		close(e->base.event_fd);
	free(e->free);
	free(e->iocbs);
	free(e);
}

static int aio_open(const int *files, unsigned int n_files, unsigned int depth,
		    struct block_engine **ret, struct err *err)
{
	struct engine_aio *e = calloc(1, sizeof(*e) + n_files * sizeof(files[0]));
	int r;

	if (!e)
		return err_errno(err, ENOMEM, "cannot make a Linux AIO engine");
	e->base = (struct block_engine){ .ops = &block_engine_aio, .event_fd = -EBADF };
	e->n_files = n_files;
	memcpy(e->files, files, n_files * sizeof(files[0]));
	e->iocbs = calloc(depth, sizeof(*e->iocbs));
	e->free = calloc(depth, sizeof(struct iocb *));
	if (!e->iocbs || !e->free) {
		aio_free(&e->base);
		return err_errno(err, ENOMEM, "cannot make a Linux AIO engine");
	}
	for (; e->n_free < depth; e->n_free++)
		e->free[e->n_free] = &e->iocbs[e->n_free];
	e->base.event_fd = eventfd_new();
	r = e->base.event_fd < 0 ? e->base.event_fd : sys_io_setup(depth, &e->context);
	if (r < 0) {
		aio_free(&e->base);
		/* -EAGAIN: /proc/sys/fs/aio-max-nr is used up */
		return err_errno(err, -r, "cannot set up a Linux AIO context");
	}
	*ret = &e->base;
	return 0;
}

static void finish(struct engine_aio *e, struct block_io *io, int64_t result)
{
	io->result = result;
	io->next = e->done;
	e->done = io;
}

static struct iocb *prepare(struct engine_aio *e, struct block_io *io)
{
	struct iocb *cb;

	assert(e->n_free > 0);
	cb = e->free[--e->n_free];
	*cb = (struct iocb){
		.aio_data = (uintptr_t)io,
		.aio_fildes = (uint32_t)e->files[io->file],
		.aio_flags = IOCB_FLAG_RESFD,
		.aio_resfd = (uint32_t)e->base.event_fd,
	};
	if (io->op == BLOCK_OP_FLUSH) {
		cb->aio_lio_opcode = IOCB_CMD_FDSYNC;
		return cb;
	}
	cb->aio_lio_opcode = io->op == BLOCK_OP_READ ? IOCB_CMD_PREADV : IOCB_CMD_PWRITEV;
	cb->aio_buf = (uintptr_t)io->iov;
	cb->aio_nbytes = io->n_iov;
	cb->aio_offset = (int64_t)io->off;
	if (io->op == BLOCK_OP_WRITE && io->dsync)
		cb->aio_rw_flags = RWF_DSYNC;
	return cb;
}

/* Hands n transfers to the kernel; what it refuses is finished with the reason. */
static void push(struct engine_aio *e, struct iocb **cbs, long n)
{
	long at = 0;

	while (at < n) {
		long r = sys_io_submit(e->context, n - at, cbs + at);

		if (r > 0) {
			e->n_in_flight += (unsigned int)r;
			at += r;
		} else if (r == -EAGAIN) {
			/* Short of memory: try again, as a page fault would. */
			sched_yield();
		} else if (r != -EINTR) {
			/* It is about the first one; the others may be good. */
			finish(e, (struct block_io *)(uintptr_t)cbs[at]->aio_data,
			       r < 0 ? r : -EIO);
			e->free[e->n_free++] = cbs[at++];
		}
	}
}

static void aio_submit(struct block_engine *engine, struct block_io *const *ios, unsigned int n)
{
	struct engine_aio *e = engine_aio(engine);
	struct iocb *batch[SUBMIT_BATCH];
	unsigned int n_batch = 0;

	for (unsigned int i = 0; i < n; i++) {
		if (ios[i]->op == BLOCK_OP_DISCARD || ios[i]->op == BLOCK_OP_WRITE_ZEROES) {
			finish(e, ios[i], block_io_fallocate(e->files[ios[i]->file], ios[i]));
			continue;
		}
		batch[n_batch++] = prepare(e, ios[i]);
		if (n_batch == SUBMIT_BATCH) {
			push(e, batch, n_batch);
			n_batch = 0;
		}
	}
	if (n_batch > 0)
		push(e, batch, n_batch);
}

/* Has the kernel finished something?  Yes, if the ring is not as we know it. */
static bool has_events(const struct engine_aio *e)
{
	struct aio_ring *ring = (struct aio_ring *)(uintptr_t)e->context;

	/* acquire: the kernel writes an event before it moves the tail */
	return ring->magic != AIO_RING_MAGIC || ring->incompat_features != 0 ||
	       atomic_load_explicit(&ring->head, memory_order_relaxed) !=
		       atomic_load_explicit(&ring->tail, memory_order_acquire);
}

static unsigned int fetch(struct engine_aio *e, struct block_io **ret, unsigned int max, bool wait)
{
	struct io_event events[SUBMIT_BATCH];
	long n;

	do {
		n = sys_io_getevents(e->context, wait, (long)MIN(max, SUBMIT_BATCH), events);
	} while (n == -EINTR);
	/* Any other error would be about our arguments. */
	assert(n >= 0);
	for (long i = 0; i < n; i++) {
		ret[i] = (struct block_io *)(uintptr_t)events[i].data;
		ret[i]->result = events[i].res;
		e->free[e->n_free++] = (struct iocb *)(uintptr_t)events[i].obj;
	}
	e->n_in_flight -= (unsigned int)n;
	return (unsigned int)n;
}

static unsigned int aio_reap(struct block_engine *engine, struct block_io **ret, unsigned int max,
			     bool wait)
{
	struct engine_aio *e = engine_aio(engine);
	unsigned int n = 0;

	for (; n < max && e->done; n++) {
		ret[n] = e->done;
		e->done = e->done->next;
	}
	if (n < max && e->n_in_flight > 0 && (has_events(e) || (wait && n == 0)))
		n += fetch(e, ret + n, max - n, wait && n == 0);
	if (n > 0)
		return n;
	/*
	 * The caller goes to sleep until the eventfd wakes it.  The kernel signals
	 * after it has moved the tail: what came since then is seen now or wakes.
	 */
	eventfd_take(e->base.event_fd);
	if (e->n_in_flight > 0 && has_events(e))
		n = fetch(e, ret, max, false);
	return n;
}

const struct block_engine_ops block_engine_aio = {
	.name = "aio",
	.open = aio_open,
	.submit = aio_submit,
	.reap = aio_reap,
	.free = aio_free,
};
