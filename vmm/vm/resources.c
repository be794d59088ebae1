/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/vm/resources.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/err.h"
#include "vmm/base/fd.h"

void resources_deinit(struct resources *res)
{
	for (size_t i = 0; i < res->n; i++) {
		free(res->entries[i].name);
		close(res->entries[i].fd);
	}
	free(res->entries);
	*res = (struct resources){ 0 };
}

static int find(const struct resources *res, const char *name)
{
	for (size_t i = 0; i < res->n; i++)
		if (strcmp(res->entries[i].name, name) == 0)
			return res->entries[i].fd;
	return -ENOENT;
}

int resources_add(struct resources *res, const char *name, int fd, struct err *err)
{
	_cleanup_close_ int owned = fd;
	struct resource_entry *entries;
	_cleanup_free_ char *copy = NULL;

	if (find(res, name) >= 0)
		return err_set(err, EEXIST, "resource '%s' was handed over twice", name);
	entries = reallocarray(res->entries, res->n + 1, sizeof(*entries));
	if (!entries)
		return err_set(err, ENOMEM, "out of memory for resource '%s'", name);
	res->entries = entries;
	copy = strdup(name);
	if (!copy)
		return err_set(err, ENOMEM, "out of memory for resource '%s'", name);
	entries[res->n++] = (struct resource_entry){ .name = TAKE_PTR(copy), .fd = TAKE_FD(owned) };
	return 0;
}

int resources_add_loose(struct resources *res, const char *name, int fd, struct err *err)
{
	int r = resources_add(res, name, fd, err);

	if (r == 0)
		res->entries[res->n - 1].loose = true;
	return r;
}

int resources_get(const struct resources *res, const char *name, struct err *err)
{
	int fd = find(res, name);

	if (fd < 0)
		return err_set(err, ENOENT, "resource '%s' was not handed over", name);
	return fd;
}

static int leave(struct resources *res, size_t i)
{
	int fd = res->entries[i].fd;

	free(res->entries[i].name);
	res->entries[i] = res->entries[--res->n];
	return fd;
}

int resources_take(struct resources *res, const char *name, struct err *err)
{
	for (size_t i = 0; i < res->n; i++)
		if (strcmp(res->entries[i].name, name) == 0)
			return leave(res, i);
	return resources_get(res, name, err);
}

void resources_drop(struct resources *res, const char *prefix)
{
	for (size_t i = res->n; i-- > 0;)
		if (strncmp(res->entries[i].name, prefix, strlen(prefix)) == 0)
			close(leave(res, i));
}

void resources_drop_loose(struct resources *res)
{
	for (size_t i = res->n; i-- > 0;)
		if (res->entries[i].loose)
			close(leave(res, i));
}

/* "/disks/3/path": "path", or NULL */
static const char *in_element(const char *name, const char *key)
{
	size_t len = strlen(key), digits;

	if (name[0] != '/' || strncmp(name + 1, key, len) != 0 || name[len + 1] != '/')
		return NULL;
	name += len + 2;
	digits = strspn(name, "0123456789");
	return digits > 0 && name[digits] == '/' ? name + digits + 1 : NULL;
}

int resources_place_loose(struct resources *res, const char *key, size_t index, struct err *err)
{
	for (size_t i = 0; i < res->n; i++) {
		struct resource_entry *entry = &res->entries[i];
		const char *rest = entry->loose ? in_element(entry->name, key) : NULL;
		_cleanup_free_ char *name = NULL;

		if (!rest)
			continue;
		if (asprintf(&name, "/%s/%zu/%s", key, index, rest) < 0) {
			name = NULL;
			return err_set(err, ENOMEM, "out of memory for resource '%s'", entry->name);
		}
		if (strcmp(name, entry->name) == 0)
			continue;
		if (find(res, name) >= 0)
			return err_set(err, EEXIST, "resource '%s' was handed over twice", name);
		free(entry->name);
		entry->name = TAKE_PTR(name);
	}
	return 0;
}

int resources_blame(int r, struct err *err)
{
	if (!err || err->fault != FAULT_NONE)
		return r;
	switch (-r) {
	case EINVAL:
	case ENOEXEC: /* not a kernel */
	case EBADMSG: /* damaged */
	case ENOSPC:  /* too large for the guest */
	case E2BIG:
	case EACCES: /* a descriptor for reading alone */
		err->fault = FAULT_BAD_CONFIG;
		break;
	default:
		err->fault = FAULT_HOST_RESOURCE;
	}
	return r;
}
