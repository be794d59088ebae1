/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages of the virtio clock (virtio 1.4, 5.23), which Debian 12's UAPI headers
 * do not have yet.
 */
#pragma once

#include <assert.h>
#include <stddef.h>

#include "vmm/base/bytes.h"

#define VIRTIO_RTC_ID 17 /* 5 */

enum virtio_rtc_type { /* 5.23.6 */
	VIRTIO_RTC_READ = 0x0001,
	VIRTIO_RTC_READ_CROSS = 0x0002,
	VIRTIO_RTC_CFG = 0x1000,
	VIRTIO_RTC_CLOCK_CAP = 0x1001,
	VIRTIO_RTC_CROSS_CAP = 0x1002,
};

enum virtio_rtc_status {
	VIRTIO_RTC_OK = 0,
	VIRTIO_RTC_EOPNOTSUPP = 2,
	VIRTIO_RTC_ENODEV = 3,
	VIRTIO_RTC_EINVAL = 4,
	VIRTIO_RTC_EIO = 5,
};

/* What UTC means between the seconds around a leap second: the host's affair, not known here. */
#define VIRTIO_RTC_CLOCK_UTC_MAYBE_SMEARED 4
#define VIRTIO_RTC_SMEAR_UNSPECIFIED       0

/* The largest request; CFG has only the type, READ and CLOCK_CAP the clock too. */
struct virtio_rtc_request {
	le16 type;
	uint8_t reserved[6];
	le16 clock;
	uint8_t hw_counter; /* READ_CROSS, CROSS_CAP */
	uint8_t reserved2[5];
};
static_assert(sizeof(struct virtio_rtc_request) == 16, "virtio 1.4, 5.23.6");
#define VIRTIO_RTC_HEADER_SIZE 8U

struct virtio_rtc_response {
	uint8_t status;
	uint8_t reserved[7];
	union {
		le64 clock_reading; /* READ: nanoseconds since 1970 */
		struct {
			le16 num_clocks;
			uint8_t reserved[6];
		} cfg;
		struct {
			uint8_t type, smearing, flags, reserved[5];
		} clock_cap;
		struct {
			uint8_t flags, reserved[7];
		} cross_cap;
	};
	le64 counter_cycles; /* READ_CROSS only */
};
static_assert(sizeof(struct virtio_rtc_response) == 24, "virtio 1.4, 5.23.6");
static_assert(offsetof(struct virtio_rtc_response, counter_cycles) == 16, "virtio 1.4, 5.23.6");
