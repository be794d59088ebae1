/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzzing of a virtio-iommu driver's requests: each record of the input is a
 * request, parsed and done as the device does it, or an address that an endpoint
 * uses.  What is translated lies in a row, and a refusal has a status of its own.
 */
#include <assert.h>
#include <errno.h>
#include <stdint.h>
#include <string.h>

#include "vmm/base/bytes.h"
#include "vmm/base/math.h"
#include "vmm/virtio/iommu.h"
#include "vmm/virtio/iova.h"

#define ENDPOINTS 3U
#define RECORD    48U

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Few values, so that requests meet: the input's bytes are indexes of domains and pages. */
static void tame(uint8_t *request)
{
	for (size_t i = 4; i < 8; i++)
		request[i] &= i == 4 ? 3 : 0;
	if (request[0] == 1 || request[0] == 2 || request[0] == 5)
		bytes_put_le(request + 8, 4, request[8] & 3);
	if (request[0] == 3 || request[0] == 4) {
		bytes_put_le(request + 8, 8, (uint64_t)(request[8] & 15) * IOVA_PAGE_SIZE);
		bytes_put_le(request + 16, 8,
			     (uint64_t)(request[16] & 15) * IOVA_PAGE_SIZE + IOVA_PAGE_SIZE - 1);
	}
}

static void use(struct iova_endpoint *endpoint, const uint8_t *data)
{
	uint64_t iova = data[1] & 1 ? bytes_get_le(data + 8, 8) : bytes_get_le(data + 8, 2);
	uint64_t len = bytes_get_le(data + 16, 4), gpa = 0, n = 0, again = 0, m = 0;
	enum iova_access access = data[1] & 2 ? IOVA_WRITE : IOVA_READ;

	if (!len || iova > UINT64_MAX - len)
		return;
	if (iova_translate(endpoint, iova, len, access, &gpa, &n) < 0)
		return;
	assert(n > 0 && n <= len);
	/* the last byte of the piece is where the piece says */
	assert(iova_translate(endpoint, iova + n - 1, 1, access, &again, &m) == 0);
	assert(again == gpa + n - 1 && m == 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct iova_unit *unit = iova_unit_new(size ? (uint8_t)(32 + data[0] % 33) : 64);
	struct iova_endpoint *endpoints[ENDPOINTS] = { 0 };

	assert(unit);
	for (uint32_t i = 0; i < ENDPOINTS; i++) {
		int r = iova_endpoint_add(unit, i, &endpoints[i]);

		assert(r == 0);
	}
	for (size_t at = 1; at + RECORD <= size; at += RECORD) {
		uint8_t bytes[VIRTIO_IOMMU_REQUEST_MAX] = { 0 }, status = 0;
		struct virtio_iommu_request req;
		const uint8_t *record = data + at;

		if (record[0] & 0x80) {
			use(endpoints[record[0] % ENDPOINTS], record);
			continue;
		}
		if (record[0] == 0x7f) {
			iova_set_bypass(unit, record[1] & 1);
			continue;
		}
		memcpy(bytes, record + 2, RECORD - 2);
		if (record[1] & 1)
			tame(bytes);
		if (virtio_iommu_parse(bytes, record[0], record[1] & 2 ? 516 : record[1] >> 2, &req,
				       &status) < 0)
			continue;
		if (status == 0)
			status = virtio_iommu_execute(unit, &req);
		assert(status <= 8 && status != 3);
		assert(iova_n_mappings(unit) <= IOVA_MAPPINGS_MAX);
	}
	iova_detach_all(unit);
	assert(iova_n_mappings(unit) == 0);
	iova_unit_free(unit);
	return 0;
}
