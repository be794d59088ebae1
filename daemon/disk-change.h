/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A disk of a running machine gets another size, or another image
 *
 * Both are exclusive jobs of the machine that cannot be cancelled.  The worker does it and
 * tells the guest; it either did it or left the disk as it was.  An image is opened
 * and locked by a helper thread as when a disk is added (plug.h), and goes to
 * the worker, which closes the old one: with that the lock is gone.
 *
 * Main loop.
 */
#pragma once

#include "vmm/config/value.h"
#include "vmm/config/vm-config.h"
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct err;
struct job;
struct machine;
struct machine_device;

int machine_check_resize_disk(const struct machine_device *dev, uint64_t bytes, struct err *err);
int machine_resize_disk(struct machine_device *dev, uid_t owner, uint64_t bytes, struct job **ret,
			struct err *err);

struct medium_params {
	const char *path; /* NULL: fd */
	int fd;           /* stays the caller's */
	enum image_type type;
	bool backing_files;
	bool persist; /* in the definition too */
};

/* *ret: what the machine would run with, whose configuration it is to be at `pointer`. */
int machine_check_replace_disk(const struct machine_device *dev, const struct medium_params *params,
			       struct vm_config **ret, char pointer[static CONFIG_POINTER_MAX],
			       struct err *err);
/*
 * The worker has said which devices it has: a change of images that it was asked for, and had no
 * answer to when the connection or the former daemon ended, has taken place or not.
 */
void machine_review_replace(struct machine *vm);
int machine_replace_disk(struct machine_device *dev, uid_t owner,
			 const struct medium_params *params, struct job **ret, struct err *err);
