/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Log lines on stderr, with the <n> priority prefix that journald understands
 * (sd-daemon(3)).  Each line carries the thread's name and, when set, its
 * device.  Log only at the top: a method reply, main, a thread's entry, a
 * detached job; everything below returns its error instead.
 *
 * error: a requested action failed.  warning: abnormal, survived.
 * info: state edges only.  Whatever a guest can trigger goes through
 * log_guest(), which is rate-limited and at most a warning.
 *
 * Any thread.  No locks: one write(2) a line.
 */
#pragma once

#include "vmm/base/cleanup.h"

enum log_level { /* the numbers are syslog's */
	LOG_LEVEL_ERROR = 3,
	LOG_LEVEL_WARNING = 4,
	LOG_LEVEL_INFO = 6,
	LOG_LEVEL_DEBUG = 7,
};

void log_set_level(enum log_level max);
enum log_level log_get_level(void);
/* Lines without the <n> prefix, for programs a person started in a terminal. */
void log_set_plain(void);
/* The word put in front of this thread's lines; kept by reference, NULL = none. */
void log_set_thread_context(const char *context);

void log_at(enum log_level level, const char *fmt, ...) _printf_(2, 3);
/* At most 10 lines in 30 s for the whole process; says how many were dropped. */
void log_guest(const char *fmt, ...) _printf_(1, 2);

#define log_error(...)   log_at(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warning(...) log_at(LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_info(...)    log_at(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...)   log_at(LOG_LEVEL_DEBUG, __VA_ARGS__)
