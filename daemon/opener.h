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
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

struct companion;
struct err;
struct given_fds;
struct image_users;
struct resource;
struct resource_set;
struct vm_config;

struct open_run {
	const struct vm_config *config;
	const struct given_fds *fds;
	const struct image_users *users; /* NULL: nobody else is there */
	const char *pointer;             /* of a device: only what is of it; NULL: everything */
	struct resource_set *set;
};

struct opener {
	/* res->value is a path, a name of the host, or (RESOURCE_TAP, RESOURCE_PTY) NULL. */
	int (*open)(struct open_run *run, const struct resource *res, struct err *err);
	/* It is a descriptor of somebody else's, which check_fd has found good; not taken over. */
	int (*take)(struct open_run *run, const struct resource *res, int given, struct err *err);
	/* Is a given descriptor good for this key?  NULL: none is. */
	int (*check_fd)(const struct resource *res, int fd, struct err *err);
};

extern const struct opener file_opener;   /* open-file.c: plain files */
extern const struct opener memory_opener; /* open-file.c: files that are memory */
extern const struct opener disk_opener;   /* open-disk.c: images, with their locks */
extern const struct opener pmem_opener;   /* open-pmem.c */
extern const struct opener fs_socket_opener, fs_source_opener; /* open-fs.c */
extern const struct opener tap_opener;                         /* open-tap.c */
extern const struct opener listen_opener;                      /* open-listen.c */
extern const struct opener pty_opener;                         /* open-pty.c */

#define RESOURCE_SHOWN_PATH_MAX 200 /* the reason, after it, must not be cut off */
#define RESOURCE_SHOWN_MAX      (RESOURCE_SHOWN_PATH_MAX + 4)
/* "'/srv/a.img'" or "descriptor 'a'" */
const char *resource_show(const struct resource *res, char buf[static RESOURCE_SHOWN_MAX]);

/* Takes fd over on success. */
int resource_set_add(struct resource_set *set, const char *pointer, int fd, struct err *err);
/* Has a program run beside the worker; taken over on success. */
int resource_set_add_companion(struct resource_set *set, struct companion *companion,
			       struct err *err);
/* The same, and closes fd on failure. */
int resource_set_take(struct resource_set *set, const char *pointer, int fd, struct err *err);
/* Remembers the name of a network interface in use. */
int resource_set_add_tap(struct resource_set *set, const char *name, struct err *err);

/* --- open-disk.c, open-backing.c --- */

/* file_claim(), and sets storage aside. */
int image_claim(const struct open_run *run, const struct resource *res, int fd, struct err *err);
/* A description of our own for what came as a descriptor, with locks and flags of its own. */
int file_reopen(const struct resource *res, int given, int *ret_fd, struct err *err);
/* Opens what the qcow2 image at fd is based on, and adds it to the set. */
int open_backing_files(struct open_run *run, const struct resource *image, int fd, struct err *err);
/* An image given as a descriptor has no folder in which to look. */
int check_no_backing_file(const struct resource *image, int fd, struct err *err);

/* --- claim.c --- */

/*
 * For files that hold what the guest has: locks it as res asks for, unless it is in use, by
 * this machine or another.
 */
int file_claim(const struct open_run *run, const struct resource *res, int fd, struct stat *ret_st,
	       struct err *err);
/* For what is only appended to: any number of logs may be one file, but no guest's storage. */
int log_claim(const struct open_run *run, const struct resource *res, int fd, struct err *err);
/* 0, or -ENOSPC: the file system has no room for it to have so many bytes. */
int file_has_room(int fd, const struct stat *st, uint64_t bytes);
/* A file that the kernel makes up as it is read (procfs, sysfs) is refused. */
int file_check_storage(const struct resource *res, int fd, struct err *err);

/* --- open-file.c, for openers of files --- */

/* Of open(2), for res->kind, readonly and direct. */
int open_file_flags(const struct resource *res);
/* Opens the path as it may be opened for the machine's owner, and checks its type. */
int open_file(struct open_run *run, const struct resource *res, int *ret_fd, struct err *err);
/* check_fd of plain files: type and access mode. */
int open_file_check_fd(const struct resource *res, int fd, struct err *err);
