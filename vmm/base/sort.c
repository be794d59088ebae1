/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/base/sort.h"

#include <stdint.h>

struct heap {
	uint8_t *rows;
	size_t size;
	int (*compare)(const void *a, const void *b);
};

static uint8_t *row(const struct heap *heap, size_t i)
{
	return heap->rows + i * heap->size;
}

static void swap(const struct heap *heap, size_t i, size_t j)
{
	uint8_t *a = row(heap, i), *b = row(heap, j);

	for (size_t at = 0; at < heap->size; at++) {
		uint8_t kept = a[at];

		a[at] = b[at];
		b[at] = kept;
	}
}

static void sift_down(const struct heap *heap, size_t at, size_t n)
{
	for (size_t child; (child = 2 * at + 1) < n; at = child) {
		if (child + 1 < n && heap->compare(row(heap, child), row(heap, child + 1)) < 0)
			child++;
		if (heap->compare(row(heap, at), row(heap, child)) >= 0)
			return;
		swap(heap, at, child);
	}
}

void sort_rows(void *rows, size_t n, size_t size, int (*compare)(const void *a, const void *b))
{
	const struct heap heap = { rows, size, compare };

	for (size_t i = n / 2; i > 0; i--)
		sift_down(&heap, i - 1, n);
	for (size_t i = n; i > 1; i--) {
		swap(&heap, 0, i - 1);
		sift_down(&heap, 0, i - 1);
	}
}
