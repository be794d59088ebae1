/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/created-files.h"

#include "daemon/definition.h"
#include "daemon/path-open.h"
#include "daemon/task.h"
#include "vmm/base/err.h"
#include "vmm/base/fd.h"
#include "vmm/base/log.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

void created_files_deinit(struct created_files *created)
{
	for (size_t i = 0; i < created->n; i++)
		free(created->items[i].path);
	free(created->items);
	*created = (struct created_files){ 0 };
}

int created_files_add(struct created_files *created, const char *path, const struct stat *st)
{
	struct created_file *items;
	char *copy = strdup(path);

	items = copy ? realloc(created->items, (created->n + 1) * sizeof(*items)) : NULL;
	if (!items) {
		free(copy);
		return -ENOMEM;
	}
	created->items = items;
	items[created->n++] = (struct created_file){ copy, st->st_dev, st->st_ino };
	return 0;
}

static void remove_created(const struct created_file *file, uid_t owner)
{
	g_autofree char *dir = g_path_get_dirname(file->path);
	g_autofree char *base = g_path_get_basename(file->path);
	_cleanup_close_ int fd = path_open_for(owner, dir, O_PATH | O_DIRECTORY | O_CLOEXEC, 0);
	struct stat st;

	if (fd < 0 || fstatat(fd, base, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return;
	if ((S_ISSOCK(st.st_mode) || (S_ISREG(st.st_mode) && st.st_size == 0)) &&
	    st.st_dev == file->dev && st.st_ino == file->ino)
		unlinkat(fd, base, 0);
}

void created_files_remove(const struct created_files *created)
{
	for (size_t i = 0; i < created->n; i++)
		remove_created(&created->items[i], created->owner);
}

static int remove_work(void *data, struct err *err)
{
	(void)err;
	created_files_remove(data);
	return 0;
}

static void remove_done(void *data, int r, const struct err *err, void *owner)
{
	(void)data;
	(void)r;
	(void)err;
	(void)owner;
}

static void remove_free(void *data)
{
	created_files_deinit(data);
	g_free(data);
}

static const struct task_ops remove_ops = {
	.work = remove_work,
	.done = remove_done,
	.free_data = remove_free,
};

void created_files_remove_later(struct created_files *created, sd_event *event, const char *vm_name)
{
	struct created_files *taken;
	struct task *task = NULL;
	struct err err = { 0 };

	if (created->n == 0)
		return;
	taken = g_new(struct created_files, 1);
	*taken = *created;
	*created = (struct created_files){ 0 };
	if (task_start(event, &remove_ops, taken, NULL, &task, &err) < 0) {
		log_warning("VM '%s': empty output files are left: %s", vm_name, err.msg);
		remove_free(taken);
		return;
	}
	task_abandon(task);
}

GVariant *created_files_save(const struct created_files *created)
{
	GVariantBuilder list;

	g_variant_builder_init(&list, G_VARIANT_TYPE("aa{sv}"));
	for (size_t i = 0; i < created->n; i++) {
		const struct created_file *file = &created->items[i];
		GVariantBuilder item;

		g_variant_builder_init(&item, G_VARIANT_TYPE_VARDICT);
		dict_add(&item, "path", "s", file->path);
		dict_add(&item, "device", "t", (guint64)file->dev);
		dict_add(&item, "inode", "t", (guint64)file->ino);
		g_variant_builder_add_value(&list, g_variant_builder_end(&item));
	}
	return g_variant_builder_end(&list);
}

void created_files_load(GVariant *value, uid_t owner, struct created_files *ret)
{
	gsize n =
		g_variant_is_of_type(value, G_VARIANT_TYPE_ARRAY) ? g_variant_n_children(value) : 0;

	*ret = (struct created_files){ .owner = owner };
	ret->items = n > 0 ? calloc(n, sizeof(*ret->items)) : NULL;
	for (gsize i = 0; ret->items && i < n; i++) {
		g_autoptr(GVariant) item = g_variant_get_child_value(value, i);
		const char *path;

		/* JSON's arrays come back as av. */
		if (g_variant_is_of_type(item, G_VARIANT_TYPE_VARIANT)) {
			GVariant *inner = g_variant_get_variant(item);

			g_variant_unref(item);
			item = inner;
		}
		if (!g_variant_is_of_type(item, G_VARIANT_TYPE_VARDICT) ||
		    !g_variant_lookup(item, "path", "&s", &path))
			continue;
		ret->items[ret->n].path = strdup(path);
		ret->items[ret->n].dev = dict_get_uint(item, "device", 0);
		ret->items[ret->n].ino = dict_get_uint(item, "inode", 0);
		ret->n += ret->items[ret->n].path != NULL;
	}
}
