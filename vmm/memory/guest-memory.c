/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/memory/guest-memory.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>

#include "vmm/base/err.h"
#include "vmm/base/math.h"
#include "vmm/base/thread.h"
#include "vmm/hypervisor/hypervisor.h"
#include "vmm/memory/backing.h"

#define PAGE_SIZE_MIN 4096ULL

static unsigned long long mib(uint64_t bytes)
{
	return bytes / MIB;
}

/* ---- set-up -------------------------------------------------------------- */

static int check_zone(const struct guest_zone_params *p, struct err *err)
{
	if (!p->size || p->size % PAGE_SIZE_MIN)
		return err_fault(err, FAULT_BAD_CONFIG, EINVAL,
				 "%s/size: %llu is not a multiple of 4096 bytes above 0",
				 p->pointer, (unsigned long long)p->size);
	if (p->hugepage_size && !p->hugepages)
		return err_fault(err, FAULT_BAD_CONFIG, EINVAL,
				 "%s/hugepage_size: needs hugepages=on", p->pointer);
	if (p->hugepage_size && !is_pow2(p->hugepage_size))
		return err_fault(err, FAULT_BAD_CONFIG, EINVAL,
				 "%s/hugepage_size: %llu is not a power of two", p->pointer,
				 (unsigned long long)p->hugepage_size);
	/* KSM merges private anonymous pages only. */
	if (p->mergeable && (p->shared || p->hugepages))
		return err_fault(err, FAULT_BAD_CONFIG, EINVAL,
				 "%s/mergeable: cannot be combined with shared or hugepages",
				 p->pointer);
	if (p->hugepages && p->file_fd >= 0)
		return err_fault(err, FAULT_BAD_CONFIG, EINVAL,
				 "%s/hugepages: cannot be combined with a file", p->pointer);
	return 0;
}

static int check_layout(const struct guest_layout *layout, struct err *err)
{
	uint64_t total = 0;

	for (size_t i = 0; i < layout->n_zones; i++) {
		int r = check_zone(&layout->zones[i], err);

		if (r < 0)
			return r;
		if (__builtin_add_overflow(total, layout->zones[i].size, &total))
			total = UINT64_MAX;
	}
	if (layout->n_zones == 0 || layout->n_zones >= GUEST_REGIONS_MAX)
		return err_set(err, EINVAL, "guest RAM of %zu zones", layout->n_zones);
	if (layout->hole_start % PAGE_SIZE_MIN || layout->hole_end % PAGE_SIZE_MIN ||
	    layout->hole_start > layout->hole_end || layout->hole_end > INT64_MAX ||
	    total > INT64_MAX - layout->hole_end)
		return err_set(err, EINVAL, "guest RAM of %llu MiB does not fit around its hole",
			       mib(total));
	return 0;
}

/* The order of regions by address with a further one, the n-th, at gpa. */
static void put_in_order(struct guest_mem *mem, uint32_t n, uint64_t gpa)
{
	const uint8_t *before = n ? guest_mem_order(mem, n) : NULL;
	uint8_t *order = mem->orders + (guest_mem_order(mem, n + 1) - mem->orders);
	uint32_t at = 0;

	while (at < n && mem->regions[before[at]].gpa < gpa) {
		order[at] = before[at];
		at++;
	}
	order[at] = (uint8_t)n;
	for (; at < n; at++)
		order[at + 1] = before[at];
}

static int set_slot(struct guest_mem *mem, const struct guest_region *region, struct err *err)
{
	const struct hv_memory_slot slot = {
		.slot = region->slot,
		.gpa = region->gpa,
		.size = region->size,
		.hva = region->hva,
	};

	return mem->hv ? mem->hv->ops->memory_set(mem->hv, &slot, err) : 0;
}

/* Slots are numbered in the order of coming; none is used twice. */
static int publish(struct guest_mem *mem, struct guest_region *region, struct err *err)
{
	uint32_t n = atomic_load_explicit(&mem->n_regions, memory_order_relaxed);
	int r;

	static_assert(GUEST_REGIONS_MAX <= UINT8_MAX, "an index is a byte");
	assert(n < GUEST_REGIONS_MAX); /* who calls has looked */
	region->slot = mem->next_slot;
	r = set_slot(mem, region, err);
	if (r < 0)
		return r;
	mem->regions[n] = *region;
	put_in_order(mem, n, region->gpa);
	mem->next_slot++;
	/* Published whole: readers see it together with what it describes. */
	atomic_store_explicit(&mem->n_regions, n + 1, memory_order_release);
	return 0;
}

/* size bytes, off bytes into the zone. */
static int add_ram(struct guest_mem *mem, const struct guest_layout *layout, size_t zone,
		   uint64_t gpa, uint64_t off, uint64_t size, struct err *err)
{
	struct guest_region region = {
		.gpa = gpa, .size = size, .fd = -EBADF, .zone = (uint16_t)zone
	};
	int r;

	r = guest_region_map(&region, &layout->zones[zone], off, err);
	if (r >= 0)
		r = publish(mem, &region, err);
	if (r < 0)
		guest_region_unmap(&region);
	return r;
}

/* The zone's memory from *gpa on, around the hole; *gpa is then where the next one begins. */
static int add_zone(struct guest_mem *mem, const struct guest_layout *layout, size_t zone,
		    uint64_t *gpa, struct err *err)
{
	uint64_t size = layout->zones[zone].size, low = size;
	int r = 0;

	if (*gpa <= layout->hole_start && layout->hole_end > layout->hole_start)
		low = MIN(size, layout->hole_start - *gpa);
	if (low)
		r = add_ram(mem, layout, zone, *gpa, 0, low, err);
	*gpa += low;
	if (r < 0 || low == size)
		return r;
	*gpa = layout->hole_end;
	r = add_ram(mem, layout, zone, *gpa, low, size - low, err);
	*gpa += size - low;
	return r;
}

int guest_mem_init_zones(struct guest_mem *mem, struct hv_vm *hv, const struct guest_layout *layout,
			 struct err *err)
{
	uint64_t gpa = 0;
	int r;

	*mem = (struct guest_mem){ .hv = hv };
	r = check_layout(layout, err);
	for (size_t i = 0; r >= 0 && i < layout->n_zones; i++)
		r = add_zone(mem, layout, i, &gpa, err);
	if (r < 0)
		guest_mem_deinit(mem);
	return r;
}

int guest_mem_init(struct guest_mem *mem, struct hv_vm *hv, const struct guest_mem_params *params,
		   struct err *err)
{
	const struct guest_zone_params zone = {
		.pointer = "/memory",
		.size = params->size,
		.shared = params->shared,
		.hugepages = params->hugepages,
		.prefault = params->prefault,
		.reserve = params->reserve,
		.thp = params->thp,
		.mergeable = params->mergeable,
		.hugepage_size = params->hugepage_size,
		.file_fd = -EBADF,
		.host_node = -1,
	};
	const struct guest_layout layout = {
		.zones = &zone,
		.n_zones = 1,
		.hole_start = params->hole_start,
		.hole_end = params->hole_end,
	};

	return guest_mem_init_zones(mem, hv, &layout, err);
}

/* A region that comes later: is there room for it? */
static int check_place(const struct guest_mem *mem, uint64_t gpa, uint64_t size, struct err *err)
{
	uint32_t n = atomic_load_explicit(&mem->n_regions, memory_order_relaxed);

	if (!size || gpa % PAGE_SIZE_MIN || size % PAGE_SIZE_MIN || gpa > INT64_MAX ||
	    size > INT64_MAX - gpa)
		return err_set(err, EINVAL, "0x%llx bytes at 0x%llx are not whole pages",
			       (unsigned long long)size, (unsigned long long)gpa);
	if (n == GUEST_REGIONS_MAX)
		return err_set(err, ENOSPC, "there are more than %u pieces of guest memory",
			       GUEST_REGIONS_MAX);
	for (uint32_t i = 0; i < n; i++)
		if (ranges_overlap(gpa, size, mem->regions[i].gpa, mem->regions[i].size))
			return err_set(err, EBUSY, "0x%llx bytes at 0x%llx: guest memory is there",
				       (unsigned long long)size, (unsigned long long)gpa);
	return 0;
}

/* The region that a device left at gpa, with these bytes: its index, or -1. */
static int find_retired(const struct guest_mem *mem, uint64_t gpa, uint64_t size)
{
	static_assert(GUEST_REGIONS_MAX <= 64, "a region is a bit");
	for (int i = 0; i < GUEST_REGIONS_MAX; i++)
		if (mem->retired & (1ULL << i) && mem->regions[i].gpa == gpa &&
		    mem->regions[i].size == size)
			return i;
	return -1;
}

/* Readers have found it all the time. */
static int revive(struct guest_mem *mem, int i, int fd, int flags, struct err *err)
{
	struct guest_region *region = &mem->regions[i];
	int r = guest_region_map_file(region, fd, flags, err);

	if (r < 0)
		return r;
	r = set_slot(mem, region, err);
	if (r < 0)
		guest_region_map_nothing(region);
	else
		mem->retired &= ~(1ULL << i);
	return r;
}

int guest_mem_add_device(struct guest_mem *mem, uint64_t gpa, uint64_t size, int fd, int flags,
			 struct err *err)
{
	struct guest_region region = {
		.gpa = gpa,
		.size = size,
		.page_size = PAGE_SIZE_MIN,
		.fd = -EBADF,
		.device = true,
	};
	int r, retired;

	assert_on_control();
	retired = find_retired(mem, gpa, size);
	if (retired >= 0)
		return revive(mem, retired, fd, flags, err);
	r = check_place(mem, gpa, size, err);
	if (r >= 0)
		r = guest_region_map_file(&region, fd, flags, err);
	if (r < 0)
		return r;
	r = publish(mem, &region, err);
	if (r < 0)
		guest_region_unmap(&region);
	return r;
}

void guest_mem_remove_device(struct guest_mem *mem, uint64_t gpa)
{
	uint32_t n = atomic_load_explicit(&mem->n_regions, memory_order_relaxed);

	assert_on_control();
	for (uint32_t i = 0; i < n; i++) {
		const struct guest_region *region = &mem->regions[i];
		struct hv_memory_slot slot = { .slot = region->slot, .gpa = region->gpa };

		if (region->gpa != gpa || !region->device)
			continue;
		if (mem->hv)
			mem->hv->ops->memory_set(mem->hv, &slot, NULL);
		guest_region_map_nothing(region);
		mem->retired |= 1ULL << i;
	}
}

bool guest_mem_find_retired(const struct guest_mem *mem, uint64_t size, uint64_t *ret_gpa)
{
	for (int i = 0; i < GUEST_REGIONS_MAX; i++)
		if (mem->retired & (1ULL << i) && mem->regions[i].size == size) {
			*ret_gpa = mem->regions[i].gpa;
			return true;
		}
	return false;
}

int guest_mem_add_ram(struct guest_mem *mem, uint64_t gpa, const struct guest_zone_params *params,
		      struct err *err)
{
	struct guest_region region = {
		.gpa = gpa, .size = params->size, .fd = -EBADF, .blocks = params->blocks
	};
	int r;

	assert_on_control();
	r = check_zone(params, err);
	if (r >= 0)
		r = check_place(mem, gpa, params->size, err);
	if (r < 0)
		return r;
	r = guest_region_map(&region, params, 0, err);
	if (r >= 0)
		r = publish(mem, &region, err);
	if (r < 0)
		guest_region_unmap(&region);
	return r;
}

void guest_mem_deinit(struct guest_mem *mem)
{
	uint32_t n = atomic_exchange_explicit(&mem->n_regions, 0, memory_order_acq_rel);

	for (uint32_t i = 0; i < n; i++) {
		struct hv_memory_slot slot = { .slot = mem->regions[i].slot,
					       .gpa = mem->regions[i].gpa };

		/* The hypervisor lets go first, else it would keep using the pages. */
		if (mem->hv)
			mem->hv->ops->memory_set(mem->hv, &slot, NULL);
		guest_region_unmap(&mem->regions[i]);
	}
}

/* Whole pages of the region: 0, or -1 with errno. */
static int region_discard(const struct guest_region *r, uint64_t off, uint64_t len)
{
	if (r->fd >= 0)
		return fallocate(r->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				 (off_t)(r->fd_off + off), (off_t)len);
	return madvise(r->hva + off, len, MADV_DONTNEED);
}

static int region_clear(const struct guest_region *r, uint64_t off, uint64_t len)
{
	/* Given back, nobody would promise that they can be had again. */
	if (!r->keep_pages)
		return region_discard(r, off, len);
	memset(r->hva + off, 0, len);
	return 0;
}

int guest_mem_clear(struct guest_mem *mem, void (*progress)(void *data), void *data,
		    struct err *err)
{
	for (uint32_t i = 0; i < mem->n_regions; i++) {
		const struct guest_region *r = &mem->regions[i];

		/* What a file or a device holds is not the machine's to forget. */
		for (uint64_t off = 0; off < r->size && !r->device && !r->keep_contents;
		     off += GUEST_CLEAR_SLICE) {
			uint64_t len = MIN(r->size - off, GUEST_CLEAR_SLICE);

			if (region_clear(r, off, len))
				return err_errno(err, errno, "cannot empty the memory at 0x%llx",
						 (unsigned long long)(r->gpa + off));
			if (progress)
				progress(data);
		}
	}
	return 0;
}

/* ---- access -------------------------------------------------------------- */

/* The region gpa is in, or NULL. */
static const struct guest_region *find(const struct guest_mem *mem, uint64_t gpa)
{
	uint32_t n = atomic_load_explicit(&mem->n_regions, memory_order_acquire);
	const uint8_t *order = n ? guest_mem_order(mem, n) : NULL;
	uint32_t low = 0;

	/* Most addresses are in the first region; the others by halving. */
	while (low < n) {
		uint32_t at = low == 0 ? 0 : low + (n - low) / 2;
		const struct guest_region *region = &mem->regions[order[at]];

		if (gpa < region->gpa)
			n = at;
		else if (gpa - region->gpa < region->size)
			return region;
		else
			low = at + 1;
	}
	return NULL;
}

/* Where gpa is, and how many of len bytes follow it in the same region: 0 = outside RAM. */
static size_t locate(const struct guest_mem *mem, uint64_t gpa, size_t len, uint8_t **ret)
{
	const struct guest_region *region = find(mem, gpa);

	*ret = NULL;
	if (!region)
		return 0;
	*ret = region->hva + (gpa - region->gpa);
	return (size_t)MIN((uint64_t)len, region->size - (gpa - region->gpa));
}

/* Whether all of it is RAM: regions that touch count as one. Regions end below 2^63: no wrap. */
bool guest_covers(const struct guest_mem *mem, uint64_t gpa, size_t len)
{
	uint8_t *p = NULL;

	while (len) {
		size_t n = locate(mem, gpa, len, &p);

		if (!n)
			return false;
		gpa += n;
		len -= n;
	}
	return true;
}

/* Whether all of it is RAM of the machine, and no device's memory. */
static bool is_ram(const struct guest_mem *mem, uint64_t gpa, uint64_t len)
{
	const struct guest_region *region;

	while (len && (region = find(mem, gpa)) && !region->device) {
		uint64_t n = MIN(len, region->size - (gpa - region->gpa));

		gpa += n;
		len -= n;
	}
	return len == 0;
}

int guest_mem_discard(struct guest_mem *mem, uint64_t gpa, uint64_t len, uint64_t *ret_freed)
{
	if (!is_ram(mem, gpa, len))
		return -EFAULT;
	while (len) {
		const struct guest_region *r = find(mem, gpa);
		uint64_t off = gpa - r->gpa, n = MIN(len, r->size - off);
		uint64_t first = align_up(off, r->page_size);
		uint64_t end = align_down(off + n, r->page_size);

		if (first < end && !r->keep_contents) {
			if (region_discard(r, first, end - first) < 0)
				return -errno;
			*ret_freed += end - first;
		}
		gpa += n;
		len -= n;
	}
	return 0;
}

int guest_read(const struct guest_mem *mem, uint64_t gpa, void *buf, size_t len)
{
	uint8_t *to = buf, *from = NULL;

	if (!guest_covers(mem, gpa, len))
		return -EFAULT;
	while (len) {
		size_t n = locate(mem, gpa, len, &from);

		memcpy(to, from, n);
		to += n;
		gpa += n;
		len -= n;
	}
	return 0;
}

int guest_write(struct guest_mem *mem, uint64_t gpa, const void *buf, size_t len)
{
	const uint8_t *from = buf;
	uint8_t *to = NULL;

	if (!guest_covers(mem, gpa, len))
		return -EFAULT;
	while (len) {
		size_t n = locate(mem, gpa, len, &to);

		memcpy(to, from, n);
		from += n;
		gpa += n;
		len -= n;
	}
	return 0;
}

int guest_fill(struct guest_mem *mem, uint64_t gpa, uint8_t byte, size_t len)
{
	uint8_t *to = NULL;

	if (!guest_covers(mem, gpa, len))
		return -EFAULT;
	while (len) {
		size_t n = locate(mem, gpa, len, &to);

		memset(to, byte, n);
		gpa += n;
		len -= n;
	}
	return 0;
}

int guest_iov(const struct guest_mem *mem, uint64_t gpa, size_t len, struct iovec *iov, size_t max,
	      size_t *n)
{
	size_t at = *n;
	uint8_t *p = NULL;

	while (len) {
		size_t part = locate(mem, gpa, len, &p);

		if (!part)
			return -EFAULT;
		if (at >= max)
			/* Outside RAM is the guest's mistake and counts first. */
			return guest_covers(mem, gpa, len) ? -ENOBUFS : -EFAULT;
		iov[at++] = (struct iovec){ .iov_base = p, .iov_len = part };
		gpa += part;
		len -= part;
	}
	*n = at;
	return 0;
}

void *guest_range(const struct guest_mem *mem, uint64_t gpa, size_t len, size_t align)
{
	const struct guest_region *region = find(mem, gpa);
	uint8_t *p = NULL;

	if (align > 1 && gpa % align)
		return NULL;
	/* Rings are looked at all the time: no place for what may be slow, or shrink. */
	if (!region || region->device || locate(mem, gpa, len, &p) != len)
		return NULL;
	return p;
}
