/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/base/log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#define GUEST_BURST       10
#define GUEST_INTERVAL_NS (30ULL * 1000000000ULL)

/* The one file-scope state the style allows: level, form, and per-thread context. */
static _Atomic(enum log_level) max_level = LOG_LEVEL_INFO;
static atomic_bool plain;
static _Thread_local const char *thread_context;

void log_set_level(enum log_level max)
{
	atomic_store_explicit(&max_level, max, memory_order_relaxed);
}

enum log_level log_get_level(void)
{
	return atomic_load_explicit(&max_level, memory_order_relaxed);
}

void log_set_plain(void)
{
	atomic_store_explicit(&plain, true, memory_order_relaxed);
}

void log_set_thread_context(const char *context)
{
	thread_context = context;
}

static void log_va(enum log_level level, const char *fmt, va_list ap) _printf_(2, 0);

static void log_va(enum log_level level, const char *fmt, va_list ap)
{
	char line[1024];
	size_t max = sizeof(line) - 1; /* room for the newline */
	int n, used = 0;

	if (!atomic_load_explicit(&plain, memory_order_relaxed))
		used = snprintf(line, max, "<%d>", (int)level);
	if (thread_context)
		used += snprintf(line + used, max - (size_t)used, "%s: ", thread_context);
	n = vsnprintf(line + used, max - (size_t)used, fmt, ap);
	if (n < 0)
		return;
	used += n;
	if ((size_t)used > max - 1)
		used = (int)max - 1;
	line[used++] = '\n';
	/* Nobody can be told when stderr is gone. */
	if (write(STDERR_FILENO, line, (size_t)used) < 0)
		return;
}

void log_at(enum log_level level, const char *fmt, ...)
{
	va_list ap;

	if (level > log_get_level())
		return;
	va_start(ap, fmt);
	log_va(level, fmt, ap);
	va_end(ap);
}

void log_guest(const char *fmt, ...)
{
	/* Relaxed everywhere: a race costs at most a few lines more or less. */
	static _Atomic uint64_t window_start;
	static _Atomic unsigned int in_window, dropped;
	struct timespec ts;
	unsigned int lost;
	uint64_t now;
	va_list ap;

	if (log_get_level() < LOG_LEVEL_WARNING)
		return;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	now = (uint64_t)ts.tv_sec * 1000000000ULL + (uint64_t)ts.tv_nsec;
	if (now - atomic_load_explicit(&window_start, memory_order_relaxed) > GUEST_INTERVAL_NS) {
		atomic_store_explicit(&window_start, now, memory_order_relaxed);
		atomic_store_explicit(&in_window, 0, memory_order_relaxed);
		lost = atomic_exchange_explicit(&dropped, 0, memory_order_relaxed);
		if (lost)
			log_warning("%u guest-triggered messages were dropped", lost);
	}
	if (atomic_fetch_add_explicit(&in_window, 1, memory_order_relaxed) >= GUEST_BURST) {
		atomic_fetch_add_explicit(&dropped, 1, memory_order_relaxed);
		return;
	}
	va_start(ap, fmt);
	log_va(LOG_LEVEL_WARNING, fmt, ap);
	va_end(ap);
}
