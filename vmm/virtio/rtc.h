/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-rtc (virtio 1.4, 5.23): a clock that the guest reads
 *
 * One clock, UTC as the host has it: it may be smeared around leap seconds, so it
 * is called that.  Cross timestamps with a counter of the processor are not
 * offered (the guest has kvmclock for those), alarms neither.  No state: each
 * request stands for itself.  Served by the shared thread.
 */
#pragma once

#include <stdint.h>

#include "vmm/virtio/rtc-abi.h"

struct err;
struct virtio_device;

struct virtio_rtc_params {
	const char *id;
};

/* Control thread. */
int virtio_rtc_new(const struct virtio_rtc_params *params, struct virtio_device **ret,
		   struct err *err);

/*
 * Pure, for the fuzzer too: what answers a request of len bytes (at most those of the
 * struct are in *req) when the clock says now_ns.  Returns the response's length.
 */
uint32_t virtio_rtc_answer(const struct virtio_rtc_request *req, uint64_t len, uint64_t now_ns,
			   struct virtio_rtc_response *ret);
