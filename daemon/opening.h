/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a machine needs of the host, opened on a helper thread
 *
 * A start opens everything (start.c); a device that is plugged in (plug.c) and another
 * image for a disk (disk-change.c) open what is theirs.  What the thread works on
 * is made here of the machine as it is at the beginning, and is shared with nobody:
 * the configuration, parsed anew; the descriptors that it refers to; and who has which
 * image.
 *
 * Main loop.
 */
#pragma once

struct err;
struct given_fds;
struct machine;
struct resource_set;
struct task;

struct opening {
	const char *config;    /* JSON text, of all the machine */
	const char *pointer;   /* of the only device to be opened, "/disks/2"; NULL: everything */
	struct given_fds *fds; /* what references mean; taken over, also on failure */
};

/* set: to be moved away; NULL when err is set, and then nothing is open or left behind. */
typedef void (*opened_fn)(void *data, struct resource_set *set, const struct err *err);

/*
 * fn is called once, unless an error is returned or *ret is abandoned, and never before this
 * returns.  What an abandoned task has made is removed again.
 */
int opening_start(struct machine *vm, const struct opening *opening, opened_fn fn, void *data,
		  struct task **ret, struct err *err);
