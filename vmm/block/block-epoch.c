/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/block/block-epoch.h"

#include <assert.h>

void block_epoch_init(struct block_epoch *epoch)
{
	atomic_init(&epoch->now, 0);
	pthread_mutex_init(&epoch->lock, NULL);
	list_init(&epoch->readers);
}

void block_epoch_deinit(struct block_epoch *epoch)
{
	assert(list_empty(&epoch->readers));
	pthread_mutex_destroy(&epoch->lock);
}

void block_epoch_add(struct block_epoch *epoch, struct block_reader *reader)
{
	atomic_init(&reader->n[0], 0);
	atomic_init(&reader->n[1], 0);
	pthread_mutex_lock(&epoch->lock);
	list_append(&epoch->readers, &reader->link);
	pthread_mutex_unlock(&epoch->lock);
}

void block_epoch_remove(struct block_epoch *epoch, struct block_reader *reader)
{
	assert(atomic_load(&reader->n[0]) == 0 && atomic_load(&reader->n[1]) == 0);
	pthread_mutex_lock(&epoch->lock);
	list_remove(&reader->link);
	pthread_mutex_unlock(&epoch->lock);
}

void block_epoch_flip(struct block_epoch *epoch)
{
	atomic_fetch_add(&epoch->now, 1);
}

bool block_epoch_is_over(struct block_epoch *epoch)
{
	unsigned int before = (atomic_load(&epoch->now) & 1) ^ 1;
	const struct block_reader *reader;
	bool over = true;

	pthread_mutex_lock(&epoch->lock);
	LIST_FOREACH(reader, &epoch->readers, link)
		over = over && atomic_load(&reader->n[before]) == 0;
	pthread_mutex_unlock(&epoch->lock);
	return over;
}
