/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/memory/backing.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/mempolicy.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/fd.h"
#include "vmm/base/log.h"
#include "vmm/base/math.h"
#include "vmm/base/thread.h"
#include "vmm/memory/guest-memory.h"

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

/*
 * The part of the caller's file that begins at off.  A shared one grows to what is needed; a
 * private one cannot, and pages that are not there would kill the process later.
 */
static int open_file(const struct guest_zone_params *p, uint64_t off, uint64_t size,
		     uint64_t *page_size, int *ret_fd, struct err *err)
{
	_cleanup_close_ int fd = -EBADF;
	struct stat st;

	if (fstat(p->file_fd, &st) < 0)
		return err_errno(err, errno, "%s/file: cannot inspect it", p->pointer);
	if ((uint64_t)st.st_size < off + size) {
		if (!p->shared)
			return err_fault(err, FAULT_BAD_CONFIG, EINVAL,
					 "%s/file: has %llu bytes, must have at least %llu, or be "
					 "shared to be made larger",
					 p->pointer, (unsigned long long)st.st_size,
					 (unsigned long long)(off + size));
		if (ftruncate(p->file_fd, (off_t)(off + size)) < 0)
			return err_fault(err, FAULT_HOST_RESOURCE, errno,
					 "%s/file: cannot be made %llu MiB large: %s", p->pointer,
					 mib(off + size), strerror(errno));
	}
	/* On hugetlbfs the block is the huge page; what other file systems say is no page size. */
	if (is_pow2((uint64_t)st.st_blksize) && (uint64_t)st.st_blksize >= THP_SIZE &&
	    size % (uint64_t)st.st_blksize == 0)
		*page_size = (uint64_t)st.st_blksize;
	fd = fd_dup(p->file_fd);
	if (fd < 0)
		return err_errno(err, -fd, "%s/file: cannot duplicate its descriptor", p->pointer);
	if (p->reserve && p->shared && fallocate(fd, 0, (off_t)off, (off_t)size) < 0)
		return err_fault(err, FAULT_HOST_RESOURCE, errno,
				 "%s/file: cannot reserve %llu MiB: %s", p->pointer, mib(size),
				 strerror(errno));
	*ret_fd = TAKE_FD(fd);
	return 0;
}

/* A memfd of the region's size, or -EBADF for anonymous memory. *page_size: what it is made of. */
static int open_backing(const struct guest_zone_params *p, uint64_t off, uint64_t size,
			uint64_t *page_size, int *ret_fd, struct err *err)
{
	_cleanup_close_ int fd = -EBADF;
	unsigned int flags = MFD_CLOEXEC;
	struct stat st;

	*page_size = PAGE_SIZE_MIN;
	*ret_fd = -EBADF;
	if (p->file_fd >= 0)
		return open_file(p, off, size, page_size, ret_fd, err);
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
					 "%s/size: %llu MiB of RAM in one piece is not a "
					 "multiple of the hugepage size, %llu KiB",
					 p->pointer, mib(size),
					 (unsigned long long)(*page_size / KIB));
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
static int map_aligned(uint64_t size, uint64_t align, int fd, uint64_t fd_off, int flags,
		       uint8_t **ret)
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
	p = mmap(area + at, size, PROT_READ | PROT_WRITE, flags | MAP_FIXED, fd, (off_t)fd_off);
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

int guest_region_map_file(struct guest_region *region, int fd, int flags, struct err *err)
{
	uint64_t align = region->size >= THP_SIZE ? THP_SIZE : PAGE_SIZE_MIN;
	int r = 0;

	if (!region->hva)
		r = map_aligned(region->size, align, fd, 0, flags, &region->hva);
	else if (mmap(region->hva, region->size, PROT_READ | PROT_WRITE, flags | MAP_FIXED, fd,
		      0) == MAP_FAILED)
		r = -errno;
	if (r < 0)
		return err_errno(err, -r, "cannot map %llu MiB of a file", mib(region->size));
	madvise(region->hva, region->size, MADV_DONTDUMP);
	return 0;
}

void guest_region_map_nothing(const struct guest_region *region)
{
	const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED;

	/* One mapping in place of one: there is nothing that it can lack. */
	if (mmap(region->hva, region->size, PROT_READ | PROT_WRITE, flags, -1, 0) == MAP_FAILED)
		log_error("cannot let go of %llu MiB of a file: %s", mib(region->size),
			  strerrordesc_np(errno));
	else
		madvise(region->hva, region->size, MADV_DONTDUMP);
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
static int region_prefault(const struct guest_region *region, const struct guest_zone_params *p,
			   struct err *err)
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
				 "%s/prefault: needs Linux 5.14 (MADV_POPULATE_WRITE)", p->pointer);
	if (r < 0)
		return err_fault(err, FAULT_HOST_RESOURCE, -r,
				 "cannot prefault %llu MiB of guest memory: %s", mib(region->size),
				 strerror(-r));
	return 0;
}

/* Before the first page is there: the pages of the region come from one node of the host. */
static int bind_to_node(const struct guest_region *region, const struct guest_zone_params *p,
			struct err *err)
{
	const unsigned int bits = 8 * sizeof(unsigned long);
	unsigned long nodes[GUEST_HOST_NODES_MAX / (8 * sizeof(unsigned long))] = { 0 };

	if (p->host_node < 0)
		return 0;
	if (p->host_node >= GUEST_HOST_NODES_MAX)
		return err_fault(err, FAULT_BAD_CONFIG, EINVAL,
				 "%s/host_numa_node: %d is not below %d", p->pointer, p->host_node,
				 GUEST_HOST_NODES_MAX);
	nodes[(unsigned int)p->host_node / bits] = 1UL << ((unsigned int)p->host_node % bits);
	/* maxnode counts one more than there are bits: mbind(2), and get_nodes() of the kernel */
	if (syscall(SYS_mbind, region->hva, region->size, MPOL_BIND, nodes,
		    GUEST_HOST_NODES_MAX + 1UL, MPOL_MF_STRICT | MPOL_MF_MOVE) == 0)
		return 0;
	if (errno == EINVAL)
		return err_fault(err, FAULT_BAD_CONFIG, EINVAL,
				 "%s/host_numa_node: %d is no node with memory of this host that "
				 "the machine may use",
				 p->pointer, p->host_node);
	return err_fault(err, FAULT_HOST_RESOURCE, errno,
			 "%s/host_numa_node: memory cannot be taken from node %d: %s", p->pointer,
			 p->host_node, strerror(errno));
}

static int map_it(struct guest_region *region, const struct guest_zone_params *p,
		  uint64_t page_size, struct err *err)
{
	uint64_t align = region->size >= THP_SIZE ? MAX(page_size, THP_SIZE) : page_size;
	bool private_file = p->file_fd >= 0 && !p->shared;
	int flags, r;

	if (region->fd < 0)
		flags = MAP_PRIVATE | MAP_ANONYMOUS;
	else
		flags = private_file ? MAP_PRIVATE : MAP_SHARED;
	/* Hugepages are always reserved: running out of them later kills the process. */
	if (!p->reserve && !p->hugepages)
		flags |= MAP_NORESERVE;
	r = map_aligned(region->size, align, region->fd, region->fd_off, flags, &region->hva);
	/* Of a private mapping the file is only the first contents: nothing is to reach it. */
	if (private_file) {
		close(region->fd);
		region->fd = -EBADF;
	}
	if (r < 0 && p->hugepages)
		return hugetlb_error(-r, region->size, page_size, err);
	if (r < 0)
		return err_fault(err, FAULT_HOST_RESOURCE, -r,
				 "cannot %s %llu MiB of guest memory: %s",
				 p->reserve ? "reserve" : "map", mib(region->size), strerror(-r));
	return 0;
}

int guest_region_map(struct guest_region *region, const struct guest_zone_params *p, uint64_t off,
		     struct err *err)
{
	uint64_t page_size;
	int r;

	r = open_backing(p, off, region->size, &page_size, &region->fd, err);
	if (r < 0)
		return r;
	region->page_size = page_size;
	region->fd_off = p->file_fd >= 0 ? off : 0;
	region->keep_pages = p->reserve || p->prefault || p->hugepages;
	region->keep_contents = p->file_fd >= 0;
	r = map_it(region, p, page_size, err);
	if (r < 0)
		return r;
	r = bind_to_node(region, p, err);
	if (r < 0)
		return r;

	/* Guest memory in a core dump of the worker would be a leak and a nuisance. */
	madvise(region->hva, region->size, MADV_DONTDUMP);
	if (!p->hugepages)
		advise_thp(region, p->thp);
	if (p->mergeable && madvise(region->hva, region->size, MADV_MERGEABLE) < 0)
		return err_fault(err, FAULT_UNSUPPORTED, errno,
				 "%s/mergeable: the host kernel cannot merge pages: %s", p->pointer,
				 strerror(errno));
	return p->prefault ? region_prefault(region, p, err) : 0;
}

void guest_region_unmap(struct guest_region *region)
{
	if (region->hva)
		munmap(region->hva, region->size);
	if (region->fd >= 0)
		close(region->fd);
	*region = (struct guest_region){ .fd = -EBADF };
}
