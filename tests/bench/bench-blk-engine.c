/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a disk request costs the host below virtio
 *
 * bench-blk-engine FILE [SECONDS [BYTES [write]]]: random reads of so many bytes
 * (4096) through a block_queue on FILE, with each engine, at depths 1 and 32, out of
 * the page cache and with direct I/O; or writes, which destroy what FILE has.  One JSON
 * object a line: requests a second, and microseconds of processor time, of the process,
 * per request.  The sync engine at depth 1 is what the system call costs.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/math.h"
#include "vmm/block/block-queue.h"

#define DEPTH_MAX   32U
#define ALIGN       4096U
#define REQUEST_MAX (4UL << 20)

struct run {
	const char *engine;
	unsigned int depth;
	bool direct, write;
	size_t bytes; /* of a request */
	double seconds;
};

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static double cpu_seconds(void)
{
	struct rusage u;

	getrusage(RUSAGE_SELF, &u);
	return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
	       (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

/* xorshift: the same offsets in every run */
static uint64_t next_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

static void start_one(struct block_queue *bq, const struct run *run, struct block_request *req,
		      struct iovec *iov, void *buf, uint64_t n_blocks, uint64_t *state)
{
	*iov = (struct iovec){ buf, run->bytes };
	*req = (struct block_request){
		.op = run->write ? BLOCK_OP_WRITE : BLOCK_OP_READ,
		.off = next_random(state) % n_blocks * run->bytes,
		.len = run->bytes,
		.iov = iov,
		.n_iov = 1,
	};
	block_queue_add(bq, req);
}

/* Completed requests, or -errno. */
static int64_t measure(struct block_queue *bq, const struct run *run, uint64_t n_blocks,
		       uint8_t *bufs)
{
	static struct block_request reqs[DEPTH_MAX];
	static struct iovec iovs[DEPTH_MAX];
	double end = now() + run->seconds;
	uint64_t state = 88172645463325252ULL;
	struct pollfd p = { .fd = block_queue_event_fd(bq), .events = POLLIN };
	struct block_request *req;
	int64_t n = 0;

	for (unsigned int i = 0; i < run->depth; i++)
		start_one(bq, run, &reqs[i], &iovs[i], bufs + i * run->bytes, n_blocks, &state);
	for (unsigned int n_out = run->depth; n_out > 0;) {
		bool stop = now() > end, idle = true;

		block_queue_submit(bq);
		/* No more than a round: what reap starts may be finished at once, for ever. */
		for (unsigned int k = 0; k < run->depth && (req = block_queue_reap(bq)); k++) {
			size_t i = (size_t)(req - reqs);

			if (req->result < 0) {
				n = req->result;
				block_queue_drain(bq);
				return n;
			}
			idle = false;
			n++;
			if (stop)
				n_out--;
			else
				start_one(bq, run, req, &iovs[i], bufs + i * run->bytes, n_blocks,
					  &state);
		}
		if (idle)
			poll(&p, 1, 1000);
	}
	return n;
}

static int bench(const char *path, const struct run *run)
{
	const struct block_image_params params = { .id = path,
						   .readonly = !run->write,
						   .direct = run->direct };
	_cleanup_(block_image_close_cleanup) struct block_image *img = NULL;
	_cleanup_(block_queue_free_cleanup) struct block_queue *bq = NULL;
	_cleanup_free_ uint8_t *bufs = aligned_alloc(ALIGN, DEPTH_MAX * run->bytes);
	struct err err = { 0 };
	double start, cpu;
	int64_t n;
	int fd;

	fd = open(path, (run->write ? O_RDWR : O_RDONLY) | O_CLOEXEC);
	if (fd < 0) {
		fprintf(stderr, "cannot open '%s': %s\n", path, strerror(errno));
		return -1;
	}
	if (block_image_open(&block_format_raw, fd, &params, &img, &err) < 0) {
		close(fd);
		fprintf(stderr, "%s\n", err.msg);
		return -1;
	}
	if (img->size < run->bytes || !bufs) {
		fprintf(stderr, "'%s' is too small\n", path);
		return -1;
	}
	memset(bufs, 1, DEPTH_MAX * run->bytes);
	if (block_queue_new(img, run->engine, run->depth, &bq, &err) < 0) {
		fprintf(stderr, "%s\n", err.msg);
		return -1;
	}
	start = now();
	cpu = cpu_seconds();
	n = measure(bq, run, img->size / run->bytes, bufs);
	if (n <= 0) {
		fprintf(stderr, "'%s' failed: %s\n", path, strerror((int)-n));
		return -1;
	}
	printf("{\"bench\": \"blk-engine\", \"op\": \"%s\", \"bytes\": %zu, \"engine\": \"%s\", "
	       "\"depth\": %u, \"direct\": %s, \"iops\": %.0f, \"cpu_us_per_request\": %.2f}\n",
	       run->write ? "write" : "read", run->bytes, run->engine, run->depth,
	       run->direct ? "true" : "false", (double)n / (now() - start),
	       (cpu_seconds() - cpu) * 1e6 / (double)n);
	return 0;
}

int main(int argc, char **argv)
{
	static const char *const engines[] = { "sync", "io_uring" };
	static const unsigned int depths[] = { 1, DEPTH_MAX };
	double seconds = argc > 2 ? atof(argv[2]) : 1;
	size_t bytes = argc > 3 ? strtoul(argv[3], NULL, 0) : 4096;
	bool write = argc > 4 && strcmp(argv[4], "write") == 0;

	if (argc < 2 || argc > 5 || seconds <= 0 || bytes == 0 || bytes % ALIGN ||
	    bytes > REQUEST_MAX || (argc > 4 && !write)) {
		fprintf(stderr, "usage: bench-blk-engine FILE [SECONDS [BYTES [write]]]\n");
		return 2;
	}
	for (size_t e = 0; e < ARRAY_SIZE(engines); e++)
		for (size_t d = 0; d < ARRAY_SIZE(depths); d++)
			for (unsigned int direct = 0; direct < 2; direct++) {
				const struct run run = { .engine = engines[e],
							 .depth = depths[d],
							 .direct = direct,
							 .write = write,
							 .bytes = bytes,
							 .seconds = seconds };

				if (bench(argv[1], &run) < 0)
					return 1;
			}
	return 0;
}
