/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Scope-bound resources
 *
 * A local that owns something is declared with one of these attributes and is
 * released on every path out of its scope; TAKE_PTR and TAKE_FD hand ownership
 * on.  The spelling is sd-bus's documented one and does not clash with GLib's
 * g_autoptr.
 */
#pragma once

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <unistd.h>

#define _cleanup_(fn)    __attribute__((cleanup(fn)))
#define _must_check_     __attribute__((warn_unused_result))
#define _printf_(fmt, a) __attribute__((format(printf, fmt, a)))
#define _unused_         __attribute__((unused))
#define _noreturn_       __attribute__((noreturn))

/* Defines NAME_cleanup(TYPE *p), which calls FN(*p) unless *p is NULL. */
#define DEFINE_CLEANUP(type, fn)                                                                   \
	static inline void fn##_cleanup(type **p)                                                  \
	{                                                                                          \
		if (*p)                                                                            \
			fn(*p);                                                                    \
	}                                                                                          \
	struct cleanup_semicolon_

static inline void cleanup_free_(void *p)
{
	free(*(void **)p);
}

static inline void cleanup_close_(int *fd)
{
	if (*fd >= 0)
		close(*fd);
}

#define _cleanup_free_  _cleanup_(cleanup_free_)
#define _cleanup_close_ _cleanup_(cleanup_close_)

#define TAKE_PTR(p)                                                                                \
	({                                                                                         \
		__typeof__(p) *take_p_ = &(p);                                                     \
		__typeof__(p) take_v_ = *take_p_;                                                  \
		*take_p_ = NULL;                                                                   \
		take_v_;                                                                           \
	})

#define TAKE_FD(fd)                                                                                \
	({                                                                                         \
		int *take_f_ = &(fd);                                                              \
		int take_n_ = *take_f_;                                                            \
		*take_f_ = -EBADF;                                                                 \
		take_n_;                                                                           \
	})

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

/* Through void *: the compiler cannot know that the whole object is aligned. */
#define container_of(ptr, type, member)                                                            \
	((type *)(void *)((char *)(1 ? (ptr) : &((type *)0)->member) - offsetof(type, member)))
