/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-balloon (virtio 1.3, 5.5): memory that the guest lends to the host
 *
 * Inflate: the driver names pages it will not touch, and the host gets them
 * back at once.  Deflate needs nothing: a page that is touched again is there,
 * filled with zeros.  Free page reporting is the same for pages that are just
 * free, without a target.  A driver that has filled its free pages with a
 * pattern (PAGE_POISON) wants to find that again, so then nothing reported is
 * given back.
 *
 * Of huge pages only whole ones can be given back: a balloon of 4 KiB pages
 * takes little from a machine on huge pages, reporting of 2 MiB blocks does.  The
 * host's reservation goes with them: when the pool is empty as the guest uses them
 * again, that ends the worker.
 *
 * Statistics: the driver leaves a buffer that the device keeps and returns when
 * it wants fresh figures: at the first one, when the target changes, and every
 * statistics_interval.
 *
 * Queues: the specification numbers them 0 to 4 whatever was negotiated; Linux
 * leaves out those of features that were not.  Since the hinting queue is never
 * there, both ways of counting can be told apart (balloon.c).
 *
 * Served by the shared thread.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "vmm/base/state.h"

struct err;
struct virtio_device;

struct virtio_balloon_params {
	const char *id;
	uint64_t size; /* bytes the guest is to give up from the start, multiple of 4096 */
	bool deflate_on_oom, free_page_reporting;
	unsigned int statistics_interval; /* seconds, 0 = none but those of changes */
};

struct virtio_balloon_state {
	uint32_t num_pages, actual; /* target, and what the driver says it has given; 4 KiB pages */
	uint32_t poison;
	uint16_t stats_head; /* the buffer kept, if stats_kept */
	bool stats_kept;
	uint8_t pad;
};
extern const struct state_desc virtio_balloon_state_desc;

/* Control thread. */
int virtio_balloon_new(const struct virtio_balloon_params *params, struct virtio_device **ret,
		       struct err *err);
/* bytes: multiple of 4096, less than 2^44. */
void virtio_balloon_set_target(struct virtio_device *dev, uint64_t bytes);

enum virtio_balloon_statistic {
	VIRTIO_BALLOON_STATISTICS = 10, /* VIRTIO_BALLOON_S_NR of the kernel that named ours */
};

struct virtio_balloon_figures {
	uint64_t target, actual; /* bytes */
	uint64_t stats_usec;     /* CLOCK_REALTIME of the statistics; 0 = none yet */
	uint32_t stats_known;    /* bit per entry of stats[] */
	uint64_t stats[VIRTIO_BALLOON_STATISTICS];
};
/* By the tag: "statistics.swap_in"; those that are memory are bytes. */
extern const char *const virtio_balloon_statistic_names[VIRTIO_BALLOON_STATISTICS];
/* Any thread but under dev->lock. */
void virtio_balloon_get(struct virtio_device *dev, struct virtio_balloon_figures *ret);

/*
 * Pure parsers of what the driver sends, for the fuzzer too.
 *
 * n page numbers (in place, sorted) become ranges: *ret_gpa, *ret_len from pfns[*at] on;
 * false = no more.
 */
void virtio_balloon_sort(uint32_t *pfns, uint32_t n);
bool virtio_balloon_range(const uint32_t *pfns, uint32_t n, uint32_t *at, uint64_t *ret_gpa,
			  uint64_t *ret_len);
/* buf: a statistics buffer; entries with unknown tags are skipped. */
void virtio_balloon_parse_stats(const void *buf, uint32_t len, struct virtio_balloon_figures *ret);
