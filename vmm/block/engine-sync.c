/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The engine that works everywhere: each transfer is one blocking system call
 * on the queue's own thread, finished when submit returns.
 */
#include "vmm/block/block.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/base/err.h"

struct engine_sync {
	struct block_engine base;
	struct block_io *head, *tail; /* finished, not reaped */
	unsigned int n_files;
	int files[];
};

static struct engine_sync *engine_sync(struct block_engine *engine)
{
	return container_of(engine, struct engine_sync, base);
}

static int sync_open(const int *files, unsigned int n_files, unsigned int depth _unused_,
		     struct block_engine **ret, struct err *err)
{
	struct engine_sync *e = calloc(1, sizeof(*e) + n_files * sizeof(files[0]));

	if (!e)
		return err_errno(err, ENOMEM, "cannot make a synchronous I/O engine");
	e->base = (struct block_engine){ .ops = &block_engine_sync, .event_fd = -EBADF };
	e->n_files = n_files;
	memcpy(e->files, files, n_files * sizeof(files[0]));
	*ret = &e->base;
	return 0;
}

static int64_t transfer(const struct engine_sync *e, const struct block_io *io)
{
	int fd = e->files[io->file];
	ssize_t n = -1;

	switch (io->op) {
	case BLOCK_OP_READ:
		n = preadv(fd, io->iov, (int)io->n_iov, (off_t)io->off);
		break;
	case BLOCK_OP_WRITE:
		n = pwritev2(fd, io->iov, (int)io->n_iov, (off_t)io->off,
			     io->dsync ? RWF_DSYNC : 0);
		break;
	case BLOCK_OP_FLUSH:
		n = fdatasync(fd);
		break;
	case BLOCK_OP_DISCARD:
	case BLOCK_OP_WRITE_ZEROES:
		return block_io_fallocate(fd, io);
	case BLOCK_OP_N_:
		return -EINVAL;
	}
	return n < 0 ? -errno : n;
}

static void sync_submit(struct block_engine *engine, struct block_io *const *ios, unsigned int n)
{
	struct engine_sync *e = engine_sync(engine);

	for (unsigned int i = 0; i < n; i++) {
		struct block_io *io = ios[i];

		io->result = transfer(e, io);
		io->next = NULL;
		if (e->head)
			e->tail->next = io;
		else
			e->head = io;
		e->tail = io;
	}
}

static unsigned int sync_reap(struct block_engine *engine, struct block_io **ret, unsigned int max,
			      bool wait _unused_)
{
	struct engine_sync *e = engine_sync(engine);
	unsigned int n = 0;

	for (; n < max && e->head; n++) {
		ret[n] = e->head;
		e->head = e->head->next;
	}
	return n;
}

static void sync_free(struct block_engine *engine)
{
	free(engine_sync(engine));
}

const struct block_engine_ops block_engine_sync = {
	.name = "sync",
	.open = sync_open,
	.submit = sync_submit,
	.reap = sync_reap,
	.free = sync_free,
};
