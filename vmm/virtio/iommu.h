/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-iommu (virtio 1.3, 5.13)
 *
 * By its request queue the guest says which addresses devices may use (iova.h); in
 * its event queue it is told of those that they used without.  Requests are served
 * one after another on the shared I/O thread, each answered when it is in force.
 * The bypass field keeps its value over a reset by the driver, as 5.13.4 asks; a
 * reset of the machine sets it again, for the firmware.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "vmm/base/cleanup.h"

struct err;
struct iova_unit;
struct virtio_device;

#define VIRTIO_IOMMU_PROBE_SIZE 512U /* bytes of properties that one answer has room for */

struct virtio_iommu_params {
	const char *id;
	struct iova_unit *unit; /* outlives the device */
};

int virtio_iommu_new(const struct virtio_iommu_params *params, struct virtio_device **ret,
		     struct err *err);
/* Control thread, device inactive: as at power-on. */
void virtio_iommu_power_on(struct virtio_device *dev);

/* One request, from copied bytes: pure, for tests and the fuzzer. */

#define VIRTIO_IOMMU_REQUEST_MAX 80U /* a probe's, without what is written */

struct virtio_iommu_request {
	uint8_t type; /* VIRTIO_IOMMU_T_*; any other: not known */
	uint32_t domain, endpoint, flags;
	uint64_t virt_start, virt_end, phys_start;
	uint32_t tail; /* where in the writable part the status goes */
};

/*
 * len bytes of the readable part (at most VIRTIO_IOMMU_REQUEST_MAX are looked at), and how
 * long the writable part is.  0, or -EBADMSG: no status can be written.
 */
int virtio_iommu_parse(const uint8_t *bytes, size_t len, uint64_t writable_len,
		       struct virtio_iommu_request *ret, uint8_t *ret_status);
/* Does what a good request asks for; the status. */
uint8_t virtio_iommu_execute(struct iova_unit *unit, const struct virtio_iommu_request *req);
