/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/memory/guest-memory.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/fd.h"
#include "vmm/base/math.h"
#include "vmm/base/thread.h"
#include "vmm/hypervisor/hypervisor.h"

#define PAGE_SIZE_MIN 4096ULL
#define THP_SIZE      (2 * MIB)

#define PREFAULT_THREADS_MAX 16
#define PREFAULT_PER_THREAD  (64 * MIB)

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23 /* Linux 5.14 */
#endif
#ifndef MFD_HUGE_SHIFT
#define MFD_HUGE_SHIFT 26
#endif

static unsigned long long mib(uint64_t bytes)
{
	return bytes / MIB;
}

/* ---- set-up -------------------------------------------------------------- */

/* " (the host has N of them free)", or nothing where /sys is out of sight. */
static const char *hugepages_free(uint64_t page_size, char *text, size_t size)
{
	char path[96], number[24];
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/sys/kernel/mm/hugepages/hugepages-%llukB/free_hugepages",
		 (unsigned long long)(page_size / KIB));
	text[0] = '\0';
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return text;
	n = read(fd, number, sizeof(number) - 1);
	close(fd);
	if (n <= 0)
		return text;
	number[n] = '\0';
	number[strcspn(number, "\n")] = '\0';
	snprintf(text, size, " (the host has %s of them free)", number);
	return text;
}

static int hugetlb_error(int code, uint64_t size, uint64_t page_size, struct err *err)
{
	char available[64];

	return err_fault(err, FAULT_HOST_RESOURCE, code,
			 "cannot reserve %llu MiB of %llu KiB hugepages: %s%s", mib(size),
			 (unsigned long long)(page_size / KIB), strerror(code),
			 hugepages_free(page_size, available, sizeof(available)));
}

/* A memfd of the region's size, or -EBADF for anonymous memory. *page_size: what it is made of. */
static int open_backing(const struct guest_mem_params *p, uint64_t size, uint64_t *page_size,
			int *ret_fd, struct err *err)
{
	_cleanup_close_ int fd = -EBADF;
	unsigned int flags = MFD_CLOEXEC;
	struct stat st;

	*page_size = PAGE_SIZE_MIN;
	*ret_fd = -EBADF;
	if (!p->shared && !p->hugepages)
		return 0;
	if (p->hugepages) {
		flags |= MFD_HUGETLB;
		if (p->hugepage_size)
			flags |= (unsigned int)__builtin_ctzll(p->hugepage_size) << MFD_HUGE_SHIFT;
	}
	fd = memfd_create("guest-ram", flags);
	if (fd < 0 && p->hugepages && p->hugepage_size)
		return err_fault(err, FAULT_HOST_RESOURCE, errno,
				 "the host has no hugepages of %llu KiB: %s",
				 (unsigned long long)(p->hugepage_size / KIB), strerror(errno));
	if (fd < 0)
		return err_errno(err, errno, "cannot make a memory file for guest RAM%s",
				 p->hugepages ? " of hugepages" : "");
	if (p->hugepages) {
		if (fstat(fd, &st) < 0)
			return err_errno(err, errno, "cannot learn the hugepage size");
		*page_size = (uint64_t)st.st_blksize;
		if (size % *page_size)
			return err_fault(err, FAULT_BAD_CONFIG, EINVAL,
					 "/memory/size: %llu MiB of RAM in one piece is not a "
					 "multiple of the hugepage size, %llu KiB",
					 mib(size), (unsigned long long)(*page_size / KIB));
	}
	if (ftruncate(fd, (off_t)size) < 0)
		return p->hugepages ? hugetlb_error(errno, size, *page_size, err)
				    : err_errno(err, errno, "cannot size a memory file to %llu MiB",
						mib(size));
	/* A plain memfd reserves nothing by being mapped: set its pages aside now. */
	if (p->reserve && !p->hugepages && fallocate(fd, 0, 0, (off_t)size) < 0)
		return err_fault(err, FAULT_HOST_RESOURCE, errno,
				 "cannot reserve %llu MiB of shared guest memory: %s", mib(size),
				 strerror(errno));
	*ret_fd = TAKE_FD(fd);
	return 0;
}

/*
 * Maps at an address aligned like the guest-physical one, so that a huge page
 * of the guest can be one of the host.
 */
static int map_aligned(uint64_t size, uint64_t align, int fd, int flags, uint8_t **ret)
{
	uint64_t room, at;
	uint8_t *area;
	void *p;

	if (__builtin_add_overflow(size, align, &room))
		return -ENOMEM;
	area = mmap(NULL, room, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (area == MAP_FAILED)
		return -errno;
	at = align_up((uintptr_t)area, align) - (uintptr_t)area;
	p = mmap(area + at, size, PROT_READ | PROT_WRITE, flags | MAP_FIXED, fd, 0);
	if (p == MAP_FAILED) {
		int r = -errno;

		munmap(area, room);
		return r;
	}
	if (at)
		munmap(area, at);
	if (room - at - size)
		munmap(area + at + size, room - at - size);
	*ret = p;
	return 0;
}

/*
 * The first 2 MiB of the machine hold a few pages of tables and what PCs keep
 * below 1 MiB: a huge page for them would be zeroed (and looked for, by moving
 * other pages) before the first instruction, for nothing.
 */
static void advise_thp(const struct guest_region *region, bool thp)
{
	uint64_t skip = thp && region->gpa == 0 ? MIN(THP_SIZE, region->size) : 0;

	/* A kernel without transparent huge pages says EINVAL, which then is what was asked for. */
	madvise(region->hva + skip, region->size - skip, thp ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
}

static int region_map(struct guest_region *region, const struct guest_mem_params *p,
		      struct err *err)
{
	uint64_t page_size, align;
	int flags, r;

	r = open_backing(p, region->size, &page_size, &region->fd, err);
	if (r < 0)
		return r;
	align = region->size >= THP_SIZE ? MAX(page_size, THP_SIZE) : page_size;
	flags = region->fd >= 0 ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS;
	/* Hugepages are always reserved: running out of them later kills the process. */
	if (!p->reserve && !p->hugepages)
		flags |= MAP_NORESERVE;
	r = map_aligned(region->size, align, region->fd, flags, &region->hva);
	if (r < 0) {
		if (region->fd >= 0)
			close(region->fd);
		region->fd = -EBADF;
		if (p->hugepages)
			return hugetlb_error(-r, region->size, page_size, err);
		return err_fault(err, FAULT_HOST_RESOURCE, -r,
				 "cannot %s %llu MiB of guest memory: %s",
				 p->reserve ? "reserve" : "map", mib(region->size), strerror(-r));
	}

	/* Guest memory in a core dump of the worker would be a leak and a nuisance. */
	madvise(region->hva, region->size, MADV_DONTDUMP);
	if (!p->hugepages)
		advise_thp(region, p->thp);
	if (p->mergeable && madvise(region->hva, region->size, MADV_MERGEABLE) < 0)
		return err_fault(err, FAULT_UNSUPPORTED, errno,
				 "/memory/mergeable: the host kernel cannot merge pages: %s",
				 strerror(errno));
	return 0;
}

static void region_unmap(struct guest_region *region)
{
	if (region->hva)
		munmap(region->hva, region->size);
	if (region->fd >= 0)
		close(region->fd);
	*region = (struct guest_region){ .fd = -EBADF };
}

struct prefault {
	struct thread thread;
	uint8_t *start;
	uint64_t len;
	int r;
};

static void prefault_run(void *data)
{
	struct prefault *job = data;

	while (madvise(job->start, job->len, MADV_POPULATE_WRITE) < 0) {
		if (errno == EINTR || errno == EAGAIN)
			continue;
		job->r = -errno;
		return;
	}
}

/* The kernel zeroes about 10 GB/s a thread: worth several for a big region. */
static int region_prefault(const struct guest_region *region, struct err *err)
{
	struct prefault jobs[PREFAULT_THREADS_MAX] = { 0 };
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	uint64_t n = MIN(region->size / PREFAULT_PER_THREAD + 1, (uint64_t)PREFAULT_THREADS_MAX);
	uint64_t share, done = 0;
	int r = 0;

	n = MIN(n, cpus > 0 ? (uint64_t)cpus : 1);
	share = align_up(region->size / n, THP_SIZE);
	for (unsigned int i = 0; i < n && done < region->size; i++) {
		struct prefault *job = &jobs[i];

		job->start = region->hva + done;
		job->len = MIN(share, region->size - done);
		done += job->len;
		job->thread =
			(struct thread){ .role = THREAD_ROLE_IO, .run = prefault_run, .data = job };
		snprintf(job->thread.name, sizeof(job->thread.name), "prefault%u", i);
		/* The last share, or one that gets no thread, is done here. */
		if (done == region->size || thread_start(&job->thread, NULL) < 0)
			prefault_run(job);
	}
	for (unsigned int i = 0; i < n; i++) {
		thread_join(&jobs[i].thread);
		if (jobs[i].r < 0)
			r = jobs[i].r;
	}
	if (r == -EINVAL)
		return err_fault(err, FAULT_UNSUPPORTED, EINVAL,
				 "/memory/prefault: needs Linux 5.14 (MADV_POPULATE_WRITE)");
	if (r < 0)
		return err_fault(err, FAULT_HOST_RESOURCE, -r,
				 "cannot prefault %llu MiB of guest memory: %s", mib(region->size),
				 strerror(-r));
	return 0;
}

static int check_params(const struct guest_mem_params *p, struct err *err)
{
	if (!p->size || p->size % PAGE_SIZE_MIN)
		return err_fault(err, FAULT_BAD_CONFIG, EINVAL,
				 "/memory/size: %llu is not a multiple of 4096 bytes above 0",
				 (unsigned long long)p->size);
	if (p->hole_start % PAGE_SIZE_MIN || p->hole_end % PAGE_SIZE_MIN ||
	    p->hole_start > p->hole_end || p->size > INT64_MAX - p->hole_end)
		return err_set(err, EINVAL, "guest RAM of %llu MiB does not fit around its hole",
			       mib(p->size));
	if (p->hugepage_size && !p->hugepages)
		return err_fault(err, FAULT_BAD_CONFIG, EINVAL,
				 "/memory/hugepage_size: needs hugepages=on");
	if (p->hugepage_size && !is_pow2(p->hugepage_size))
		return err_fault(err, FAULT_BAD_CONFIG, EINVAL,
				 "/memory/hugepage_size: %llu is not a power of two",
				 (unsigned long long)p->hugepage_size);
	/* KSM merges private anonymous pages only. */
	if (p->mergeable && (p->shared || p->hugepages))
		return err_fault(err, FAULT_BAD_CONFIG, EINVAL,
				 "/memory/mergeable: cannot be combined with shared or hugepages");
	return 0;
}

static int add_region(struct guest_mem *mem, const struct guest_mem_params *p, uint64_t gpa,
		      uint64_t size, struct err *err)
{
	uint32_t n = atomic_load_explicit(&mem->n_regions, memory_order_relaxed);
	struct guest_region *region = &mem->regions[n];
	int r;

	*region = (struct guest_region){ .gpa = gpa, .size = size, .fd = -EBADF, .slot = n };
	r = region_map(region, p, err);
	if (r < 0)
		goto fail;
	if (p->prefault) {
		r = region_prefault(region, err);
		if (r < 0)
			goto fail;
	}
	if (mem->hv) {
		struct hv_memory_slot slot = {
			.slot = region->slot, .gpa = gpa, .size = size, .hva = region->hva
		};

		r = mem->hv->ops->memory_set(mem->hv, &slot, err);
		if (r < 0)
			goto fail;
	}
	/* Published whole: readers see it together with what it describes. */
	atomic_store_explicit(&mem->n_regions, n + 1, memory_order_release);
	return 0;

fail:
	region_unmap(region);
	return r;
}

int guest_mem_init(struct guest_mem *mem, struct hv_vm *hv, const struct guest_mem_params *params,
		   struct err *err)
{
	uint64_t low = params->size;
	int r;

	*mem = (struct guest_mem){
		.hv = hv, .keep_pages = params->reserve || params->prefault || params->hugepages
	};
	r = check_params(params, err);
	if (r < 0)
		return r;
	if (params->hole_end > params->hole_start)
		low = MIN(params->size, params->hole_start);
	if (low) {
		r = add_region(mem, params, 0, low, err);
		if (r < 0)
			return r;
	}
	if (params->size > low) {
		r = add_region(mem, params, params->hole_end, params->size - low, err);
		if (r < 0) {
			guest_mem_deinit(mem);
			return r;
		}
	}
	return 0;
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
		region_unmap(&mem->regions[i]);
	}
}

static int region_clear(const struct guest_region *r, uint64_t off, uint64_t len, bool keep_pages)
{
	/* Given back, nobody would promise that they can be had again. */
	if (keep_pages)
		memset(r->hva + off, 0, len);
	else if (r->fd >= 0)
		return fallocate(r->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				 (off_t)(r->fd_off + off), (off_t)len);
	else
		return madvise(r->hva + off, len, MADV_DONTNEED);
	return 0;
}

int guest_mem_clear(struct guest_mem *mem, void (*progress)(void *data), void *data,
		    struct err *err)
{
	for (uint32_t i = 0; i < mem->n_regions; i++) {
		const struct guest_region *r = &mem->regions[i];

		for (uint64_t off = 0; off < r->size; off += GUEST_CLEAR_SLICE) {
			uint64_t len = MIN(r->size - off, GUEST_CLEAR_SLICE);

			if (region_clear(r, off, len, mem->keep_pages))
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
	uint32_t low = 0;

	/* Most addresses are in the first region; the others by halving. */
	while (low < n) {
		uint32_t at = low == 0 ? 0 : low + (n - low) / 2;
		const struct guest_region *region = &mem->regions[at];

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
	uint8_t *p = NULL;

	if (align > 1 && gpa % align)
		return NULL;
	if (!find(mem, gpa) || locate(mem, gpa, len, &p) != len)
		return NULL;
	return p;
}
