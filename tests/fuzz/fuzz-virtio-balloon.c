/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzzing of what a balloon driver sends: {u8 what, bytes}; page numbers, statistics, or
 * a request of the clock
 */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/bytes.h"
#include "vmm/base/math.h"
#include "vmm/virtio/balloon.h"
#include "vmm/virtio/rtc.h"

#define PFNS_MAX 1024U

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The ranges ascend, do not touch, and hold every number once. */
static void fuzz_pfns(const uint8_t *data, size_t size)
{
	uint32_t pfns[PFNS_MAX], n = (uint32_t)MIN(size / 4, (size_t)PFNS_MAX), at = 0;
	uint64_t gpa = 0, len = 0, end = 0, pages = 0;
	bool first = true;

	memcpy(pfns, data, n * 4UL);
	virtio_balloon_sort(pfns, n);
	for (uint32_t i = 1; i < n; i++)
		assert(pfns[i - 1] <= pfns[i]);
	while (virtio_balloon_range(pfns, n, &at, &gpa, &len)) {
		assert(len >= 4096 && len % 4096 == 0 && gpa % 4096 == 0);
		assert(first || gpa > end);
		assert(gpa + len <= 1ULL << 44);
		end = gpa + len;
		pages += len / 4096;
		first = false;
	}
	assert(at == n && pages <= n);
}

static void fuzz_stats(const uint8_t *data, size_t size)
{
	struct virtio_balloon_figures figures = { 0 };
	uint8_t *copy = malloc(size ? size : 1);

	if (!copy)
		return;
	/* of the exact size, so that a sanitizer sees a byte too many */
	memcpy(copy, data, size);
	virtio_balloon_parse_stats(copy, (uint32_t)size, &figures);
	assert(!(figures.stats_known >> VIRTIO_BALLOON_STATISTICS));
	free(copy);
}

static void fuzz_rtc(const uint8_t *data, size_t size)
{
	struct virtio_rtc_request req = { 0 };
	struct virtio_rtc_response resp;
	uint32_t len;

	memcpy(&req, data, MIN(size, sizeof(req)));
	len = virtio_rtc_answer(&req, size, 1234567890, &resp);
	assert(len == 8 || len == 16 || len == 24);
	assert(resp.status == VIRTIO_RTC_OK || le64_get(resp.clock_reading) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 1 || size > 1 << 16)
		return 0;
	if (data[0] % 3 == 0)
		fuzz_pfns(data + 1, size - 1);
	else if (data[0] % 3 == 1)
		fuzz_stats(data + 1, size - 1);
	else
		fuzz_rtc(data + 1, size - 1);
	return 0;
}
