/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/block/block.h"

#include <assert.h>
#include <errno.h>
#include <linux/falloc.h>
#include <stdatomic.h>
#include <string.h>

#include "vmm/base/err.h"
#include "vmm/base/log.h"
#include "vmm/base/math.h"

/* In the order of preference. */
static const struct block_engine_ops *const engines[] = {
	&block_engine_uring,
	&block_engine_sync,
};

int block_image_open(const struct block_format_ops *format, int fd,
		     const struct block_image_params *params, struct block_image **ret,
		     struct err *err)
{
	struct block_image *img = NULL;
	int r;

	r = format->open(fd, params, &img, err);
	if (r < 0)
		return err_prefix(err, r, "disk '%s'", params->id);
	assert(img->n_files > 0 && is_pow2(img->logical_block) && is_pow2(img->physical_block));
	*ret = img;
	return 0;
}

void block_image_close(struct block_image *img)
{
	if (img)
		img->ops->close(img);
}

static const struct block_engine_ops *engine_by_name(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(engines); i++)
		if (strcmp(engines[i]->name, name) == 0)
			return engines[i];
	return NULL;
}

int block_engine_open(const char *name, const int *files, unsigned int n_files, unsigned int depth,
		      struct block_engine **ret, struct err *err)
{
	/* One line a process is enough: the host either has io_uring or has not. */
	static atomic_flag told = ATOMIC_FLAG_INIT;
	const struct block_engine_ops *ops;
	struct err why = { 0 };
	int r;

	if (name) {
		ops = engine_by_name(name);
		if (!ops)
			return err_set(err, EINVAL,
				       "there is no I/O engine '%s': use 'io_uring' or 'sync'",
				       name);
		return ops->open(files, n_files, depth, ret, err);
	}
	for (size_t i = 0; i < ARRAY_SIZE(engines); i++) {
		ops = engines[i];
		err_clear(&why);
		r = ops->open(files, n_files, depth, ret, &why);
		if (r >= 0)
			return 0;
		/* Not implemented, forbidden by seccomp or sysctl, or no locked memory left. */
		if (r != -ENOSYS && r != -EPERM && r != -ENOMEM)
			break;
		if (i + 1 < ARRAY_SIZE(engines) && !atomic_flag_test_and_set(&told))
			log_warning("%s; disks use the %s engine", why.msg, engines[i + 1]->name);
	}
	if (err)
		*err = why;
	return r;
}

int block_io_falloc_mode(const struct block_io *io)
{
	bool hole = io->op == BLOCK_OP_DISCARD || io->unmap;

	return (hole ? FALLOC_FL_PUNCH_HOLE : FALLOC_FL_ZERO_RANGE) | FALLOC_FL_KEEP_SIZE;
}

void block_engine_free(struct block_engine *engine)
{
	if (engine)
		engine->ops->free(engine);
}
