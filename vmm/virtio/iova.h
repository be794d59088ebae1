/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Address translation for devices behind an IOMMU
 *
 * A unit has endpoints, which are devices.  The guest attaches them to domains; a domain maps I/O
 * virtual addresses (iova) to guest-physical ones, or is a bypass.  An endpoint of no domain
 * bypasses too, as long as the unit's bypass is on, which it is at power-on: firmware knows no
 * IOMMU. A domain is there from the first attach to the last detach.
 *
 * Changes come from the IOMMU's own queue (iommu.c), translations from the I/O
 * threads of all endpoints: one read-write lock, which a translation holds for a
 * few loads.  A change is seen by every translation that begins after it returned,
 * so also by all that follow the answer to the guest.
 *
 * What a guest can make this cost is bounded: no more domains than endpoints, and
 * IOVA_MAPPINGS_MAX mappings of 32 bytes in all of them.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "vmm/base/cleanup.h"

struct err;
struct iova_endpoint;
struct iova_unit;

#define IOVA_PAGE_SIZE    4096ULL /* every larger power of two is a page too */
#define IOVA_MAPPINGS_MAX 65536U
/* Where x86 has its interrupts: never an address of memory (SDM 3A, 11.11.1). */
#define IOVA_MSI_START 0xfee00000ULL
#define IOVA_MSI_END   0xfeefffffULL /* inclusive, as all ends here */

enum iova_access {
	IOVA_READ = 1 << 0, /* by the device; the bits of virtio 1.3, 5.13.6.5 */
	IOVA_WRITE = 1 << 1,
};

struct iova_fault {
	uint32_t endpoint;
	bool mapping; /* the address is not mapped so; else there is no domain */
	enum iova_access access;
	uint64_t iova;
};

/* Control thread. Addresses have width bits, 32 to 64. */
struct iova_unit *iova_unit_new(uint8_t width);
void iova_unit_free(struct iova_unit *unit); /* and its endpoints */
DEFINE_CLEANUP(struct iova_unit, iova_unit_free);
/* -EEXIST, -ENOMEM */
int iova_endpoint_add(struct iova_unit *unit, uint32_t id, struct iova_endpoint **ret);
/* Its device uses it no more. It leaves its domain. */
void iova_endpoint_remove(struct iova_endpoint *endpoint);
/* fn: on the thread that translated, under the lock; NULL: none. */
void iova_on_fault(struct iova_unit *unit, void (*fn)(const struct iova_fault *fault, void *data),
		   void *data);
uint64_t iova_last(const struct iova_unit *unit); /* the highest address */

/* The thread that serves the IOMMU's requests. */

bool iova_has_endpoint(struct iova_unit *unit, uint32_t endpoint);
/* -ENOENT no such endpoint, -EINVAL the domain is of the other kind, -ENOMEM */
int iova_attach(struct iova_unit *unit, uint32_t domain, uint32_t endpoint, bool bypass);
/* -ENOENT no such endpoint, -EINVAL it is not in that domain */
int iova_detach(struct iova_unit *unit, uint32_t domain, uint32_t endpoint);
/*
 * -ENOENT no such domain; -ERANGE not in whole pages, or beyond the addresses there
 * are; -EINVAL part of it is mapped or reserved, or the domain is a bypass; -ENOMEM
 */
int iova_map(struct iova_unit *unit, uint32_t domain, uint64_t start, uint64_t end, uint64_t gpa,
	     unsigned int access);
/* -ENOENT, -EINVAL as above; -ERANGE: would split a mapping, and nothing was unmapped */
int iova_unmap(struct iova_unit *unit, uint32_t domain, uint64_t start, uint64_t end);
/* No endpoint is attached, nothing is mapped; bypass is as it was. */
void iova_detach_all(struct iova_unit *unit);
uint32_t iova_n_mappings(struct iova_unit *unit);

/* For saved state (iova-state.c): control thread, while nobody else changes anything. */

/* What iova_map() would say of these addresses as such: 0, -ERANGE, -EINVAL reserved. */
int iova_check_mapping(const struct iova_unit *unit, uint64_t start, uint64_t end, uint64_t gpa);
uint32_t iova_n_attachments(struct iova_unit *unit);
struct iova_visitor {
	void (*attachment)(void *data, uint32_t endpoint, uint32_t domain, bool bypass);
	void (*mapping)(void *data, uint32_t domain, uint64_t start, uint64_t end, uint64_t gpa,
			unsigned int access);
	void *data;
};
/* All of them, in no order; under the lock. */
void iova_visit(struct iova_unit *unit, const struct iova_visitor *visitor);

/* Any thread: what endpoints of no domain do. */
void iova_set_bypass(struct iova_unit *unit, bool bypass);
bool iova_get_bypass(struct iova_unit *unit);

/*
 * Any thread.  The first of len > 0 bytes at iova are *ret_gpa, and *ret_len of them in
 * a row; 0, or -EFAULT, which is reported.
 */
_must_check_ int iova_translate(struct iova_endpoint *endpoint, uint64_t iova, uint64_t len,
				enum iova_access access, uint64_t *ret_gpa, uint64_t *ret_len);
