/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/image-users.h"

#include "daemon/given-fds.h"
#include "daemon/machine.h"
#include "daemon/manager.h"
#include "vmm/base/cleanup.h"
#include "vmm/base/fd.h"
#include "vmm/config/vm-config.h"
#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <string.h>
#include <unistd.h>

static void add_file(const struct machine *vm, const char *path, struct image_users *users)
{
	struct image_user *item = &users->items[users->n++];
	const char *name = vm_config_fd_name(path);

	*item = (struct image_user){ .vm = g_strdup(vm->def.name), .fd = -EBADF };
	if (name)
		item->fd = fd_dup(given_fds_find(&vm->def.fds, name));
	else
		item->path = g_strdup(path);
}

void image_users_collect(const struct machine *vm, struct image_users *ret)
{
	struct image_users users = { 0 };
	const struct machine *other;
	GHashTableIter iter;
	gpointer value;

	g_hash_table_iter_init(&iter, vm->manager->machines);
	while (g_hash_table_iter_next(&iter, NULL, &value)) {
		other = value;
		if (other == vm || !other->boot)
			continue;
		users.items = g_renew(struct image_user, users.items,
				      users.n + other->boot->n_disks + other->boot->n_pmem +
					      other->boot->memory.n_zones);
		for (size_t i = 0; i < other->boot->n_disks; i++)
			add_file(other, other->boot->disks[i].path, &users);
		for (size_t i = 0; i < other->boot->n_pmem; i++)
			add_file(other, other->boot->pmem[i].file, &users);
		for (size_t i = 0; i < other->boot->memory.n_zones; i++)
			if (other->boot->memory.zones[i].file)
				add_file(other, other->boot->memory.zones[i].file, &users);
	}
	*ret = users;
}

void image_users_deinit(struct image_users *users)
{
	for (size_t i = 0; i < users->n; i++) {
		g_free(users->items[i].vm);
		g_free(users->items[i].path);
		if (users->items[i].fd >= 0)
			close(users->items[i].fd);
	}
	g_free(users->items);
	*users = (struct image_users){ 0 };
}

/* A path may lead elsewhere by now: then the sentence says less, no more than that. */
const char *image_users_find(const struct image_users *users, const struct stat *image)
{
	for (size_t i = 0; users && i < users->n; i++) {
		const struct image_user *user = &users->items[i];
		struct stat st;

		if ((user->path ? stat(user->path, &st) : fstat(user->fd, &st)) == 0 &&
		    st.st_dev == image->st_dev && st.st_ino == image->st_ino)
			return user->vm;
	}
	return NULL;
}
