/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sorting in place
 *
 * glibc's qsort() allocates when there is much to sort, and asks sysinfo(2) how much memory
 * there is before: the worker's sandbox knows no such call, and the process would end.
 */
#pragma once

#include <stddef.h>

/*
 * Any thread.  n rows of size bytes, ascending by compare (below, at or above 0 as in qsort());
 * equal ones in any order.  No allocation, no system call, O(n log n) in every case.
 */
void sort_rows(void *rows, size_t n, size_t size, int (*compare)(const void *a, const void *b));
