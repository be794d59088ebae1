/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-pmem: where the memory is, whose writes it takes, and its one request
 */
#include "vmm/virtio/pmem.h"

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <linux/virtio_pmem.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tests/lib/mock-queue.h"
#include "vmm/base/err.h"
#include "vmm/base/math.h"

#define RAM      (16ULL << 20)
#define GPA      (4ULL << 30)
#define SIZE     (4ULL << 20)
#define FEATURES VIRTIO_FEATURE(VIRTIO_F_VERSION_1)

struct fixture {
	struct guest_mem mem;
	struct mock_driver driver;
	int file; /* a second descriptor */
};

/* The storage: fsync(2), which stands still while held. */
static atomic_bool held;
static atomic_uint n_fsyncs;

int fsync(int fd)
{
	atomic_fetch_add(&n_fsyncs, 1);
	while (atomic_load(&held))
		g_usleep(1000);
	return (int)syscall(SYS_fsync, fd);
}

static int temp_file(uint64_t size, int flags)
{
	char path[] = "/tmp/brume-test-pmem-XXXXXX";
	int fd = mkostemp(path, O_CLOEXEC), again;

	g_assert_cmpint(fd, >=, 0);
	g_assert_cmpint(ftruncate(fd, (off_t)size), ==, 0);
	again = open(path, flags | O_CLOEXEC);
	g_assert_cmpint(again, >=, 0);
	unlink(path);
	close(fd);
	return again;
}

static void init_mem(struct guest_mem *mem)
{
	const struct guest_mem_params params = { .size = RAM };
	struct err err = { 0 };

	if (guest_mem_init(mem, NULL, &params, &err) < 0)
		g_error("%s", err.msg);
}

static void setup(struct fixture *f, bool discard_writes)
{
	struct virtio_pmem_params params = {
		.id = "_pmem0", .discard_writes = discard_writes, .mem = &f->mem, .gpa = GPA
	};
	struct virtio_device *dev = NULL;
	struct err err = { 0 };

	memset(f, 0, sizeof(*f));
	init_mem(&f->mem);
	params.fd = temp_file(SIZE, discard_writes ? O_RDONLY : O_RDWR);
	f->file = dup(params.fd);
	if (virtio_pmem_new(&params, &dev, &err) < 0)
		g_error("%s", err.msg);
	mock_driver_init(&f->driver, dev, RAM);
}

static void teardown(struct fixture *f)
{
	mock_driver_deinit(&f->driver);
	guest_mem_deinit(&f->mem);
	close(f->file);
}

static uint32_t request(struct fixture *f, uint32_t type)
{
	const le32 req = le32_make(type);
	const uint8_t unset[4] = { 0xff, 0xff, 0xff, 0xff };
	const struct mock_buf bufs[] = {
		{ mock_put(&f->driver, &req, sizeof(req)), sizeof(req), false },
		{ mock_put(&f->driver, unset, sizeof(unset)), sizeof(unset), true },
	};
	uint8_t resp[4];

	g_assert_cmpuint(mock_queue_do(&f->driver.queues[0], bufs, 2), ==, 4);
	mock_read(&f->driver, bufs[1].gpa, resp, 4);
	return (uint32_t)bytes_get_le(resp, 4);
}

static void test_config(void)
{
	static struct fixture f;

	setup(&f, false);
	g_assert_cmpuint(f.driver.dev->config_size, ==, 16);
	g_assert_cmpuint(bytes_get_le(f.driver.dev->config, 8), ==, GPA);
	g_assert_cmpuint(bytes_get_le(f.driver.dev->config + 8, 8), ==, SIZE);
	g_assert_true(guest_covers(&f.mem, GPA, SIZE));
	g_assert_false(guest_covers(&f.mem, GPA, SIZE + 1));
	teardown(&f);
}

/* What is written through the guest's addresses is the file's, unless it is discarded. */
static void test_contents(void)
{
	for (int discard = 0; discard < 2; discard++) {
		static struct fixture f;
		char seen[6] = "";

		setup(&f, discard);
		mock_driver_start(&f.driver, FEATURES);
		g_assert_cmpint(guest_write(&f.mem, GPA + 8192, "hello", 6), ==, 0);
		g_assert_cmpuint(request(&f, VIRTIO_PMEM_REQ_TYPE_FLUSH), ==, 0);
		g_assert_cmpint(guest_read(&f.mem, GPA + 8192, seen, 6), ==, 0);
		g_assert_cmpstr(seen, ==, "hello");
		g_assert_cmpint(pread(f.file, seen, 6, 8192), ==, 6);
		g_assert_cmpstr(seen, ==, discard ? "" : "hello");
		/* A reset of the machine empties RAM only. */
		g_assert_cmpint(guest_mem_clear(&f.mem, NULL, NULL, NULL), ==, 0);
		g_assert_cmpint(guest_read(&f.mem, GPA + 8192, seen, 6), ==, 0);
		g_assert_cmpstr(seen, ==, "hello");
		teardown(&f);
	}
}

static void test_requests(void)
{
	static struct fixture f;

	setup(&f, false);
	mock_driver_start(&f.driver, FEATURES);
	g_assert_cmpuint(request(&f, VIRTIO_PMEM_REQ_TYPE_FLUSH), ==, 0);
	g_assert_cmpuint(request(&f, 7), ==, 1); /* unknown */
	g_assert_cmpuint(request(&f, VIRTIO_PMEM_REQ_TYPE_FLUSH), ==, 0);
	g_assert_cmpuint(mock_driver_counter(&f.driver, "flush_ops"), ==, 2);
	g_assert_cmpuint(mock_driver_counter(&f.driver, "errors"), ==, 1);
	g_assert_false(virtio_device_is_broken(f.driver.dev));
	teardown(&f);
}

/* Chains that cannot carry a request or its answer break the device, and a reset mends it. */
static void test_malformed(void)
{
	static const struct {
		uint32_t readable, writable;
	} cases[] = { { 3, 4 }, { 4, 3 }, { 0, 4 }, { 4, 0 } };
	static struct fixture f;

	setup(&f, false);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		uint64_t gpa;
		struct mock_buf bufs[2];

		mock_driver_start(&f.driver, FEATURES);
		gpa = mock_alloc(&f.driver, 64, 8);
		bufs[0] = (struct mock_buf){ gpa, cases[i].readable, false };
		bufs[1] = (struct mock_buf){ gpa + 8, cases[i].writable, true };
		mock_queue_add(&f.driver.queues[0], bufs, 2);
		mock_queue_kick(&f.driver.queues[0]);
		mock_driver_wait_broken(&f.driver);
		mock_driver_reset(&f.driver);
	}
	mock_driver_start(&f.driver, FEATURES);
	g_assert_cmpuint(request(&f, VIRTIO_PMEM_REQ_TYPE_FLUSH), ==, 0);
	teardown(&f);
}

static void note(void *data)
{
	*(bool *)data = true;
}

static void add_flush(struct fixture *f)
{
	const le32 req = le32_make(VIRTIO_PMEM_REQ_TYPE_FLUSH);
	const struct mock_buf bufs[] = {
		{ mock_put(&f->driver, &req, sizeof(req)), sizeof(req), false },
		{ mock_alloc(&f->driver, 4, 4), 4, true },
	};

	mock_queue_add(&f->driver.queues[0], bufs, 2);
}

/* While storage stands still other devices' thread does not, nor does what control asks of it. */
static void test_slow_flush(void)
{
	static struct fixture f;
	bool called = false;

	setup(&f, false);
	mock_driver_start(&f.driver, FEATURES);
	atomic_store(&n_fsyncs, 0);
	atomic_store(&held, true);
	add_flush(&f);
	mock_queue_kick(&f.driver.queues[0]);
	while (atomic_load(&n_fsyncs) == 0)
		g_usleep(100);
	/* Were it the shared thread, this would be the end of the test, and of a machine. */
	loop_call(&f.driver.shared_loop, note, &called);
	g_assert_true(called);
	g_assert_true(mock_queue_idle(&f.driver.queues[0]));
	atomic_store(&held, false);
	mock_queue_wait(&f.driver.queues[0], NULL);
	teardown(&f);
}

static gpointer release(gpointer data)
{
	const unsigned int *before = data;

	while (atomic_load(&n_fsyncs) == *before)
		g_usleep(100);
	g_usleep(20000);
	atomic_store(&held, false);
	return NULL;
}

/* A pause waits for the flush under way, not for all that the driver has asked for. */
static void test_pause_between_flushes(void)
{
	enum {
		REQUESTS = 32
	};
	static struct fixture f;
	unsigned int before;
	GThread *thread;

	setup(&f, false);
	mock_driver_start(&f.driver, FEATURES);
	before = atomic_load(&n_fsyncs);
	atomic_store(&held, true);
	for (unsigned int i = 0; i < REQUESTS; i++)
		add_flush(&f);
	mock_queue_kick(&f.driver.queues[0]);
	thread = g_thread_new("release", release, &before);
	while (atomic_load(&n_fsyncs) == before)
		g_usleep(100);
	virtio_device_pause(f.driver.dev);
	/* the call may have come one turn late, not thirty */
	g_assert_cmpuint(atomic_load(&n_fsyncs) - before, <=, 3);
	g_thread_join(thread);
	virtio_device_resume(f.driver.dev);
	for (unsigned int i = 0; i < REQUESTS; i++)
		mock_queue_wait(&f.driver.queues[0], NULL);
	g_assert_cmpuint(mock_driver_counter(&f.driver, "flush_ops"), ==, REQUESTS);
	teardown(&f);
}

static void test_size(void)
{
	static const struct {
		uint64_t file, size, want;
		const char *text;
	} cases[] = {
		{ SIZE, 0, SIZE, NULL },
		{ SIZE, 2 << 20, 2 << 20, NULL },
		{ SIZE + 4096, 0, 0,
		  "the file has 4198400 bytes, must have a multiple of 2 MiB, or give size" },
		{ SIZE + 4096, SIZE, SIZE, NULL },
		{ 0, 0, 0, "the file has 0 bytes, must have a multiple of 2 MiB, or give size" },
		{ SIZE, 6 << 20, 0, "the file has 4194304 bytes, less than size, 6291456" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		int fd = temp_file(cases[i].file, O_RDWR);
		struct err err = { 0 };
		uint64_t size = 0;

		g_assert_cmpint(virtio_pmem_size(fd, cases[i].size, &size, &err), ==,
				cases[i].text ? -EINVAL : 0);
		g_assert_cmpuint(size, ==, cases[i].want);
		g_assert_cmpstr(err.msg, ==, cases[i].text ?: "");
		close(fd);
	}
}

/* A descriptor that cannot be written to is refused, and stays the caller's. */
static void test_readonly_file(void)
{
	static struct guest_mem mem;
	struct virtio_pmem_params params = { .id = "p", .mem = &mem, .gpa = GPA };
	struct virtio_device *dev = NULL;
	struct err err = { 0 };

	init_mem(&mem);
	params.fd = temp_file(SIZE, O_RDONLY);
	g_assert_cmpint(virtio_pmem_new(&params, &dev, &err), ==, -EACCES);
	g_assert_cmpstr(err.msg, ==, "cannot map 4 MiB of a file: Permission denied");
	g_assert_null(dev);
	g_assert_cmpint(close(params.fd), ==, 0);
	guest_mem_deinit(&mem);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/virtio/pmem/config", test_config);
	g_test_add_func("/virtio/pmem/contents", test_contents);
	g_test_add_func("/virtio/pmem/requests", test_requests);
	g_test_add_func("/virtio/pmem/malformed", test_malformed);
	g_test_add_func("/virtio/pmem/slow-flush", test_slow_flush);
	g_test_add_func("/virtio/pmem/pause-between-flushes", test_pause_between_flushes);
	g_test_add_func("/virtio/pmem/size", test_size);
	g_test_add_func("/virtio/pmem/readonly-file", test_readonly_file);
	return g_test_run();
}
