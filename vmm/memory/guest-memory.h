/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest RAM
 *
 * The only place that turns a guest-physical address (gpa) into a pointer.
 * Every access is checked against the whole range and against overflow.
 * Layout (arch/x86/layout.h): RAM from 0 up to the 32-bit hole at 3 GiB, the
 * rest from 4 GiB.
 *
 * Contents of guest memory may change at any time: read each datum once with
 * guest_read(), then validate the copy.  An iovec from guest_iov() goes to the
 * kernel (readv, io_uring) and is never parsed through.
 *
 * The region table grows only, by the control thread, also while vCPUs and I/O threads
 * use it; readers need no lock and never wait.  A region is written before it is counted
 * and not changed afterwards, and so is the order that the first n of them have by
 * address: each n has an order of its own, so one atomic number publishes both, and a
 * reader that has seen an older one goes on with what belongs to it.  What one has found
 * stays: nothing is taken away before guest_mem_deinit().  Where a device's memory was,
 * there are zeros, for whoever still has it in hand, and the place is the next one's.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "vmm/base/cleanup.h"

struct err;
struct hv_vm;

#define GUEST_REGIONS_MAX 64

struct guest_region {
	uint64_t gpa, size; /* bytes */
	uint64_t page_size; /* what the host can give and take back singly */
	uint8_t *hva;
	int fd; /* file behind it that others can map, or -EBADF */
	uint64_t fd_off;
	uint32_t slot;      /* hypervisor memory slot */
	uint16_t zone;      /* of RAM: index of its zone */
	bool keep_pages;    /* reserved, prefaulted or huge: emptying keeps what was set aside */
	bool keep_contents; /* a file of the host: a reset leaves it alone */
	bool device;        /* memory that a device shows (pmem): no RAM */
	bool blocks;        /* given out by virtio-mem: no RAM to the guest's start */
};

struct guest_mem {
	struct guest_region regions[GUEST_REGIONS_MAX]; /* as they came */
	/* rows of 1, 2, 3 ... members: guest_mem_order() */
	uint8_t orders[GUEST_REGIONS_MAX * (GUEST_REGIONS_MAX + 1) / 2];
	_Atomic uint32_t n_regions;
	uint64_t retired; /* control thread: a bit for each region whose device is gone */
	uint32_t next_slot;
	struct hv_vm *hv;
};

/* Of the first n regions: their indices, by ascending gpa; n at least 1. */
static inline const uint8_t *guest_mem_order(const struct guest_mem *mem, uint32_t n)
{
	return mem->orders + n * (n - 1) / 2;
}

struct guest_mem_params {
	uint64_t size;                 /* bytes, multiple of 4 KiB */
	uint64_t hole_start, hole_end; /* nothing between; RAM goes on at hole_end */
	bool shared, hugepages, prefault, reserve, thp, mergeable;
	uint64_t hugepage_size; /* 0 = host default */
};

/* Part of RAM with a backing of its own. */
struct guest_zone_params {
	const char *pointer; /* of the configuration, for errors: "/memory/zones/1" */
	uint64_t size;       /* bytes, multiple of 4 KiB */
	bool shared, hugepages, prefault, reserve, thp, mergeable;
	uint64_t hugepage_size; /* 0 = host default */
	/*
	 * A file with the contents, the caller's, or -EBADF.  Shared it is the memory, and is
	 * made as large as needed; else it is what the memory begins with.
	 */
	int file_fd;
	int host_node; /* of the host, where the pages come from; -1 = any */
	bool blocks;   /* guest_mem_add_ram(): virtio-mem gives it out */
};

/* Zones follow one another from 0 on; one that meets the hole goes on behind it. */
struct guest_layout {
	const struct guest_zone_params *zones;
	size_t n_zones;
	uint64_t hole_start, hole_end;
};

/* Maps RAM and tells the hypervisor (hv NULL: tests). Control thread. */
int guest_mem_init(struct guest_mem *mem, struct hv_vm *hv, const struct guest_mem_params *params,
		   struct err *err);
int guest_mem_init_zones(struct guest_mem *mem, struct hv_vm *hv, const struct guest_layout *layout,
			 struct err *err);
void guest_mem_deinit(struct guest_mem *mem);

/*
 * More RAM at gpa, in one piece and without a file of the caller's; vCPUs and I/O threads
 * may run.  It is the guest's from here on: there is no way back.  Servers of queues in the
 * kernel and in other processes (vhost) have tables of their own: virtio_device_grow_memory().
 */
int guest_mem_add_ram(struct guest_mem *mem, uint64_t gpa, const struct guest_zone_params *params,
		      struct err *err);

/*
 * Memory of a device outside RAM (pmem), in addresses that x86_windows_take() gave: the
 * first size bytes of a file.  flags are of mmap(), MAP_SHARED or MAP_PRIVATE at least.
 * The guest and other devices can use it like RAM, but rings are refused there, it is not
 * emptied by a reset and not given back by guest_mem_discard().  vCPUs and I/O threads
 * may run.
 */
int guest_mem_add_device(struct guest_mem *mem, uint64_t gpa, uint64_t size, int fd, int flags,
			 struct err *err);
/* What is at gpa goes: the guest finds nothing there, and the file is let go of. */
void guest_mem_remove_device(struct guest_mem *mem, uint64_t gpa);
/* Where memory of size bytes was that is gone: false, there is none that another can follow. */
bool guest_mem_find_retired(const struct guest_mem *mem, uint64_t size, uint64_t *ret_gpa);

/*
 * All zeroes again, but for what files and devices hold; the host has its pages back
 * unless they were asked to be there (reserve, prefault, hugepages).  vCPUs and I/O
 * threads parked.  A large machine takes its time, so progress (optional) is called after
 * each GUEST_CLEAR_SLICE.
 */
#define GUEST_CLEAR_SLICE (1ULL << 30)
int guest_mem_clear(struct guest_mem *mem, void (*progress)(void *data), void *data,
		    struct err *err);

/*
 * Any thread: what is in [gpa, gpa+len) is not needed any more.  The host gets the whole
 * pages of it back (pages of the kind the RAM is made of: of huge pages only whole ones),
 * which then read as zeros; parts of pages, and memory that a file holds, keep what they
 * hold.  0, -EFAULT when any byte is outside RAM (then nothing was done), -errno of the
 * host.  *ret_freed grows by the bytes given back.
 */
_must_check_ int guest_mem_discard(struct guest_mem *mem, uint64_t gpa, uint64_t len,
				   uint64_t *ret_freed);

/* Any thread: is every byte of [gpa, gpa+len) RAM, or a device's memory?  True for len 0. */
bool guest_covers(const struct guest_mem *mem, uint64_t gpa, size_t len);
/* Any thread. 0, or -EFAULT when any byte is outside RAM (then nothing was copied). */
_must_check_ int guest_read(const struct guest_mem *mem, uint64_t gpa, void *buf, size_t len);
_must_check_ int guest_write(struct guest_mem *mem, uint64_t gpa, const void *buf, size_t len);
_must_check_ int guest_fill(struct guest_mem *mem, uint64_t gpa, uint8_t byte, size_t len);

/*
 * Appends iovecs for [gpa, gpa+len) to iov[*n..max): at most one a region.
 * 0, -EFAULT outside RAM, -ENOBUFS when max is too small; *n unchanged then.
 */
_must_check_ int guest_iov(const struct guest_mem *mem, uint64_t gpa, size_t len, struct iovec *iov,
			   size_t max, size_t *n);

/*
 * A range inside one region, for virtqueue rings, which are accessed by single
 * loads and stores (vmm/virtio/queue.c), and for loaders before the guest runs.
 * NULL when it is not wholly inside one region, or not aligned to align.
 */
void *guest_range(const struct guest_mem *mem, uint64_t gpa, size_t len, size_t align);
