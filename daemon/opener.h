/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How each kind of host resource becomes descriptors of a resource_set
 *
 * resources_open() walks the resources of a configuration; the opener of a
 * resource's kind does the work and adds what it has opened to run->set, under
 * res->pointer or names below it.  An opener that fails leaves the rest to
 * resources_open(), which closes the whole set.
 *
 * Helper thread (opens can hang), but check_fd, which does not wait.
 */
#pragma once

#include <stddef.h>
#include <sys/types.h>

struct err;
struct given_fds;
struct resource;
struct resource_set;
struct vm_config;

struct open_run {
	const struct vm_config *config;
	const struct given_fds *fds;
	struct resource_set *set;
};

struct opener {
	/* res->value is a path, a name of the host, or (RESOURCE_TAP) NULL. */
	int (*open)(struct open_run *run, const struct resource *res, struct err *err);
	/* It is a descriptor of somebody else's, which check_fd has found good; not taken over. */
	int (*take)(struct open_run *run, const struct resource *res, int given, struct err *err);
	/* Is a given descriptor good for this key?  NULL: none is. */
	int (*check_fd)(const struct resource *res, int fd, struct err *err);
};

extern const struct opener file_opener; /* open-file.c: plain files */
extern const struct opener disk_opener; /* open-disk.c: images, with their locks */
extern const struct opener tap_opener;  /* open-tap.c */

#define RESOURCE_SHOWN_PATH_MAX 200 /* the reason, after it, must not be cut off */
#define RESOURCE_SHOWN_MAX      (RESOURCE_SHOWN_PATH_MAX + 4)
/* "'/srv/a.img'" or "descriptor 'a'" */
const char *resource_show(const struct resource *res, char buf[static RESOURCE_SHOWN_MAX]);

/* Takes fd over on success. */
int resource_set_add(struct resource_set *set, const char *pointer, int fd, struct err *err);
/* Remembers the name of a network interface in use. */
int resource_set_add_tap(struct resource_set *set, const char *name, struct err *err);

/* --- open-file.c, for openers of files --- */

/* Of open(2), for res->kind, readonly and direct. */
int open_file_flags(const struct resource *res);
/* Opens the path as it may be opened for the machine's owner, and checks its type. */
int open_file(struct open_run *run, const struct resource *res, int *ret_fd, struct err *err);
/* check_fd of plain files: type and access mode. */
int open_file_check_fd(const struct resource *res, int fd, struct err *err);
