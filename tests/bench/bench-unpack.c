/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How long the host takes to put a kernel into guest RAM
 *
 * bench-unpack VMLINUZ [MIB [RUNS]]: loads it in each mode that it allows into
 * fresh RAM of MIB MiB and prints one JSON object a line with the median in
 * milliseconds.  The guest's side of the comparison is in tests/linux.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "vmm/arch/x86/layout.h"
#include "vmm/base/err.h"
#include "vmm/base/math.h"
#include "vmm/loader/loader.h"
#include "vmm/memory/guest-memory.h"

#define RUNS_MAX 1000

static double now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec * 1e3 + (double)ts.tv_nsec / 1e6;
}

static int compare(const void *a, const void *b)
{
	const double *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

/* One load into new RAM; the mapping itself is not counted. */
static int load_once(int fd, uint64_t size, enum loader_mode mode, double *ret_ms,
		     const char **ret_format, struct err *err)
{
	static struct guest_mem mem;
	const struct guest_mem_params mp = {
		.size = size,
		.hole_start = LAYOUT_HOLE_START,
		.hole_end = LAYOUT_HOLE_END,
		.thp = true,
	};
	struct loader_result result;
	struct x86_memmap map;
	double start;
	int r;

	r = guest_mem_init(&mem, NULL, &mp, err);
	if (r < 0)
		return r;
	x86_memmap_init(&map, size);
	start = now_ms();
	r = loader_load(&mem,
			&(struct loader_params){ .what = "kernel",
						 .kernel_fd = fd,
						 .initramfs_fd = -EBADF,
						 .memmap = &map,
						 .mode = mode,
						 .fresh_ram = true },
			&result, err);
	*ret_ms = now_ms() - start;
	*ret_format = result.format;
	guest_mem_deinit(&mem);
	return r;
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		enum loader_mode mode;
	} modes[] = { { "pvh", LOADER_PVH }, { "bzimage", LOADER_BZIMAGE } };
	uint64_t mib = argc > 2 ? strtoull(argv[2], NULL, 10) : 512;
	int runs = argc > 3 ? atoi(argv[3]) : 20;
	static double ms[RUNS_MAX];
	int fd;

	if (argc < 2 || runs < 1 || runs > RUNS_MAX || mib < 1) {
		fprintf(stderr, "usage: %s VMLINUZ [MIB [RUNS]]\n", argv[0]);
		return 2;
	}
	fd = open(argv[1], O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		perror(argv[1]);
		return 1;
	}
	for (size_t m = 0; m < ARRAY_SIZE(modes); m++) {
		const char *format = "";

		for (int i = 0; i < runs; i++) {
			struct err err = { 0 };

			if (load_once(fd, mib * MIB, modes[m].mode, &ms[i], &format, &err) < 0) {
				fprintf(stderr, "%s\n", err.msg);
				return 1;
			}
		}
		qsort(ms, (size_t)runs, sizeof(ms[0]), compare);
		printf("{\"bench\": \"unpack\", \"mode\": \"%s\", \"format\": \"%s\", "
		       "\"mib\": %llu, "
		       "\"runs\": %d, \"median_ms\": %.2f, \"min_ms\": %.2f, \"max_ms\": %.2f}\n",
		       modes[m].name, format, (unsigned long long)mib, runs, ms[runs / 2], ms[0],
		       ms[runs - 1]);
	}
	close(fd);
	return 0;
}
