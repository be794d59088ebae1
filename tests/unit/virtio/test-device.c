/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is common to all devices: activation and its failures, resets in every
 * state, pauses, breaking, configuration changes.  The device is a toy of three
 * queues that counts; registers are the transport's (test-transport-pci.c).
 */
#include "vmm/virtio/device.h"

#include <errno.h>
#include <glib.h>
#include <poll.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/lib/mock-queue.h"
#include "vmm/base/err.h"
#include "vmm/base/fd.h"

#define QUEUES   3
#define SIZE     16
#define FEATURES VIRTIO_FEATURE(VIRTIO_F_VERSION_1)

#define DOORBELLS 5000U

struct toy {
	struct virtio_device_ops ops;
	struct virtio_device dev;
	bool refuse;
	unsigned int activations, resets, pauses, resumes;
	int kicked_fd[QUEUES];
	atomic_uint asked, seen; /* of queue 0 */
	struct mock_driver driver;
};

static struct toy *to_toy(struct virtio_device *dev)
{
	return container_of(dev, struct toy, dev);
}

static int toy_activate(struct virtio_device *dev, struct err *err)
{
	if (to_toy(dev)->refuse)
		return err_set(err, EIO, "the toy is out of order");
	to_toy(dev)->activations++;
	return 0;
}

static void toy_kick(struct virtio_device *dev, struct virtio_queue *q)
{
	if (q->index == 0)
		atomic_store(&to_toy(dev)->seen, atomic_load(&to_toy(dev)->asked));
	eventfd_signal(to_toy(dev)->kicked_fd[q->index]);
}

static void toy_reset(struct virtio_device *dev)
{
	to_toy(dev)->resets++;
}

static void toy_pause(struct virtio_device *dev)
{
	to_toy(dev)->pauses++;
}

static void toy_resume(struct virtio_device *dev)
{
	to_toy(dev)->resumes++;
}

static void toy_free(struct virtio_device *dev)
{
	virtio_device_deinit(dev);
}

static const struct virtio_device_ops toy_ops = {
	.name = "toy",
	.device_id = 42,
	.activate = toy_activate,
	.kick = toy_kick,
	.reset = toy_reset,
	.pause = toy_pause,
	.resume = toy_resume,
	.free = toy_free,
};

static void setup(struct toy *t, enum virtio_threads threads)
{
	static const uint16_t sizes[QUEUES] = { SIZE, SIZE, SIZE };
	struct err err = { 0 };

	*t = (struct toy){ .ops = toy_ops, .dev.features_offered = FEATURES };
	t->ops.threads = threads;
	for (int i = 0; i < QUEUES; i++)
		t->kicked_fd[i] = eventfd_new();
	if (virtio_device_init(&t->dev, &t->ops, "toy0", sizes, QUEUES, &err) < 0)
		g_error("%s", err.msg);
	mock_driver_init(&t->driver, &t->dev, 1 << 20);
}

static void teardown(struct toy *t)
{
	mock_driver_deinit(&t->driver);
	for (int i = 0; i < QUEUES; i++)
		close(t->kicked_fd[i]);
}

/* As mock_driver_try_start() does, but it leaves the rings as they are. */
static void program(struct toy *t, uint16_t q)
{
	const struct mock_queue *mq = &t->driver.queues[q];

	t->dev.queues[q].st = (struct virtio_queue_state){
		.desc_gpa = mq->desc_gpa,
		.avail_gpa = mq->avail_gpa,
		.used_gpa = mq->used_gpa,
		.size = SIZE,
		.vector = VIRTIO_NO_VECTOR,
		.enabled = true,
	};
}

static bool kicked(struct toy *t, int q, int timeout_ms)
{
	struct pollfd p = { .fd = t->kicked_fd[q], .events = POLLIN };

	return poll(&p, 1, timeout_ms) == 1 && eventfd_take(t->kicked_fd[q]);
}

static void noop(void *data G_GNUC_UNUSED)
{
}

/* What doorbells are to cause has happened when this returns. */
static void settle(struct toy *t)
{
	for (int i = 0; i < QUEUES; i++)
		if (t->dev.queues[i].loop)
			loop_call(t->dev.queues[i].loop, noop, NULL);
}

/* Every queue answers to its doorbell. */
static void check_serving(struct toy *t)
{
	g_assert_true(t->dev.active);
	g_assert_false(virtio_device_is_broken(&t->dev));
	for (int i = 0; i < QUEUES; i++) {
		if (!t->dev.queues[i].loop)
			continue;
		settle(t);
		kicked(t, i, 0); /* from before */
		eventfd_signal(t->dev.queues[i].kick_fd);
		g_assert_true(kicked(t, i, 10000));
	}
}

static void check_power_on(const struct toy *t)
{
	g_assert_false(t->dev.active);
	g_assert_false(virtio_device_is_broken(&t->dev));
	g_assert_cmphex(t->dev.features, ==, 0);
	g_assert_cmpuint(t->dev.n_loops, ==, 0);
	for (int i = 0; i < QUEUES; i++) {
		const struct virtio_queue *q = &t->dev.queues[i];

		g_assert_false(q->st.enabled);
		g_assert_cmpuint(q->st.size, ==, SIZE);
		g_assert_cmphex(q->st.vector, ==, VIRTIO_NO_VECTOR);
		g_assert_cmphex(q->st.desc_gpa, ==, 0);
		g_assert_null(q->loop);
		g_assert_null(q->desc);
	}
}

/* Which thread serves which queue; only those with an enabled queue are started. */
static void test_threads(void)
{
	static const struct {
		const char *name;
		enum virtio_threads threads;
		uint16_t n_loops;
		int loop_of[QUEUES]; /* -1: the shared one */
	} cases[] = {
		{ "shared", VIRTIO_THREADS_SHARED, 0, { -1, -1, -1 } },
		{ "per queue", VIRTIO_THREADS_PER_QUEUE, 3, { 0, 1, 2 } },
		{ "per pair", VIRTIO_THREADS_PER_PAIR, 1, { 0, 0, -1 } },
	};

	for (size_t c = 0; c < G_N_ELEMENTS(cases); c++) {
		struct toy t;

		g_test_message("%s", cases[c].name);
		setup(&t, cases[c].threads);
		mock_driver_start(&t.driver, FEATURES);
		g_assert_cmpuint(t.dev.n_loops, ==, cases[c].n_loops);
		for (int i = 0; i < QUEUES; i++) {
			int own = cases[c].loop_of[i];

			g_assert_true(t.dev.queues[i].loop ==
				      (own < 0 ? &t.driver.shared_loop : &t.dev.loops[own]));
		}
		check_serving(&t);
		teardown(&t);
	}
}

static void test_unused_queue(void)
{
	struct err err = { 0 };
	struct toy t;

	setup(&t, VIRTIO_THREADS_PER_QUEUE);
	program(&t, 0);
	program(&t, 2);
	g_assert_cmpint(virtio_device_activate(&t.dev, &err), ==, 0);
	g_assert_true(t.dev.loops[0].thread.started);
	g_assert_false(t.dev.loops[1].thread.started);
	g_assert_true(t.dev.loops[2].thread.started);
	g_assert_null(t.dev.queues[1].loop);
	virtio_device_pause(&t.dev);
	virtio_device_resume(&t.dev);
	check_serving(&t);
	eventfd_signal(t.dev.queues[1].kick_fd); /* nobody listens */
	g_assert_false(kicked(&t, 1, 10));
	teardown(&t);
}

/* Each way in which activation can fail leaves nothing running, and a reset mends it. */
static void test_activation_fails(void)
{
	enum {
		RING,
		DEVICE,
		DOORBELL,
		N
	};
	static const char *const texts[N] = {
		[RING] = ("toy 'toy0': queue 2: the used ring at 0x100000 (134 bytes) is not in "
			  "RAM or not aligned to 4"),
		[DEVICE] = "toy 'toy0': the toy is out of order",
		[DOORBELL] = "toy 'toy0': cannot watch the doorbells: Operation not permitted",
	};
	static const int codes[N] = { EBADMSG, EIO, EPERM };

	for (int i = 0; i < N; i++) {
		struct err err = { 0 };
		struct toy t;
		int kick_fd, file;
		uint64_t gpa;

		setup(&t, VIRTIO_THREADS_PER_QUEUE);
		file = memfd_create("no doorbell", MFD_CLOEXEC); /* which epoll refuses */
		gpa = t.driver.queues[2].used_gpa;
		kick_fd = t.dev.queues[1].kick_fd;
		if (i == RING)
			t.driver.queues[2].used_gpa = 1 << 20;
		else if (i == DEVICE)
			t.refuse = true;
		else
			t.dev.queues[1].kick_fd = file;
		for (uint16_t q = 0; q < QUEUES; q++)
			program(&t, q);
		g_assert_cmpint(virtio_device_activate(&t.dev, &err), ==, -codes[i]);
		g_assert_cmpstr(err.msg, ==, texts[i]);
		g_assert_false(t.dev.active);
		g_assert_true(virtio_device_is_broken(&t.dev));
		g_assert_cmpuint(t.dev.n_loops, ==, 0);
		g_assert_cmpuint(t.activations, ==, i == DOORBELL);
		g_assert_cmpuint(t.resets, ==, i == DOORBELL);
		for (int q = 0; q < QUEUES; q++) {
			g_assert_null(t.dev.queues[q].loop);
			g_assert_null(t.dev.queues[q].desc);
			g_assert_false(t.dev.queues[q].kick_source.armed);
		}
		t.driver.queues[2].used_gpa = gpa;
		t.dev.queues[1].kick_fd = kick_fd;
		t.refuse = false;
		mock_driver_reset(&t.driver);
		check_power_on(&t);
		g_assert_cmpuint(t.resets, ==, i == DOORBELL); /* it was not active */
		mock_driver_start(&t.driver, FEATURES);
		check_serving(&t);
		close(file);
		teardown(&t);
	}
}

static void into_new(struct toy *t G_GNUC_UNUSED)
{
}

static void into_active(struct toy *t)
{
	mock_driver_start(&t->driver, FEATURES);
}

static void into_paused(struct toy *t)
{
	into_active(t);
	virtio_device_pause(&t->dev);
}

static void into_resumed(struct toy *t)
{
	into_paused(t);
	virtio_device_resume(&t->dev);
}

static void into_broken(struct toy *t)
{
	into_active(t);
	virtio_device_broken(&t->dev, "a test");
}

static void into_broken_and_paused(struct toy *t)
{
	into_broken(t);
	virtio_device_pause(&t->dev);
}

static void into_refused(struct toy *t)
{
	t->refuse = true;
	g_assert_cmpint(mock_driver_try_start(&t->driver, FEATURES, NULL), ==, -EIO);
	t->refuse = false;
}

static void into_half_programmed(struct toy *t)
{
	t->dev.features = FEATURES;
	t->dev.queues[0].st.size = 4;
	t->dev.queues[0].st.desc_gpa = 0x123456789abcdef0;
	t->dev.queues[0].st.enabled = true;
}

static void test_reset_in_each_state(void)
{
	static const struct {
		const char *name;
		void (*into)(struct toy *t);
		bool active;
	} states[] = {
		{ "new", into_new, false },
		{ "half programmed", into_half_programmed, false },
		{ "active", into_active, true },
		{ "paused", into_paused, true },
		{ "resumed", into_resumed, true },
		{ "broken", into_broken, true },
		{ "broken and paused", into_broken_and_paused, true },
		{ "refused", into_refused, false },
	};
	static const enum virtio_threads kinds[] = { VIRTIO_THREADS_SHARED,
						     VIRTIO_THREADS_PER_QUEUE,
						     VIRTIO_THREADS_PER_PAIR };

	for (size_t o = 0; o < G_N_ELEMENTS(kinds); o++) {
		struct toy t;
		unsigned int resets = 0;

		setup(&t, kinds[o]);
		for (size_t i = 0; i < G_N_ELEMENTS(states); i++) {
			g_test_message("%s", states[i].name);
			states[i].into(&t);
			mock_driver_reset(&t.driver);
			resets += states[i].active;
			g_assert_cmpuint(t.resets, ==, resets);
			check_power_on(&t);
			mock_driver_reset(&t.driver); /* twice is harmless */
			g_assert_cmpuint(t.resets, ==, resets);
			check_power_on(&t);
			/* and it works again */
			mock_driver_start(&t.driver, FEATURES);
			g_assert_cmphex(t.dev.features, ==, FEATURES);
			check_serving(&t);
			mock_driver_reset(&t.driver);
			resets++;
		}
		teardown(&t);
	}
}

/* What the driver made available before activation or in a pause needs no second doorbell. */
static void test_waiting_requests(void)
{
	struct toy t;

	setup(&t, VIRTIO_THREADS_PER_PAIR);
	mock_driver_start(&t.driver, FEATURES);
	for (int i = 0; i < QUEUES; i++)
		g_assert_true(kicked(&t, i, 10000));
	virtio_device_pause(&t.dev);
	for (int i = 0; i < QUEUES; i++) {
		eventfd_signal(t.dev.queues[i].kick_fd);
		g_assert_false(kicked(&t, i, 5));
	}
	virtio_device_resume(&t.dev);
	for (int i = 0; i < QUEUES; i++)
		g_assert_true(kicked(&t, i, 10000));
	g_assert_cmpuint(t.pauses, ==, 1);
	g_assert_cmpuint(t.resumes, ==, 1);
	teardown(&t);
}

static gpointer ring_often(gpointer data)
{
	struct toy *t = data;

	for (unsigned int i = 1; i <= DOORBELLS; i++) {
		atomic_store(&t->asked, i);
		eventfd_signal(t->dev.queues[0].kick_fd);
		/* Now and then wait for it: a doorbell that is lost is not made good by the next.
		 */
		for (int ms = 0; i % 5 == 0 && atomic_load(&t->seen) < i; ms++) {
			g_assert_cmpint(ms, <, 100000);
			g_usleep(100);
		}
	}
	return NULL;
}

/* No doorbell is lost, whatever it meets: the device at work, its thread parked, resumed. */
static void test_doorbells(void)
{
	struct toy t;
	GThread *thread;

	setup(&t, VIRTIO_THREADS_PER_QUEUE);
	mock_driver_start(&t.driver, FEATURES);
	thread = g_thread_new("driver", ring_often, &t);
	while (atomic_load(&t.seen) < DOORBELLS) {
		virtio_device_pause(&t.dev);
		virtio_device_resume(&t.dev);
		g_usleep(50);
	}
	g_thread_join(thread);
	/* One that came while nobody watched is told at the next start, though never read. */
	mock_driver_reset(&t.driver);
	mock_driver_start(&t.driver, FEATURES);
	check_serving(&t);
	teardown(&t);
}

static bool config_interrupt(struct toy *t)
{
	struct pollfd p = { .fd = t->driver.config_fd, .events = POLLIN };

	return poll(&p, 1, 0) == 1 && eventfd_take(t->driver.config_fd);
}

static void test_broken(void)
{
	struct toy t;

	setup(&t, VIRTIO_THREADS_PER_PAIR);
	mock_driver_start(&t.driver, FEATURES);
	check_serving(&t);
	virtio_device_broken(&t.dev, "it is %s", "a test");
	g_assert_true(virtio_device_is_broken(&t.dev));
	g_assert_true(t.dev.active); /* until the driver resets it */
	g_assert_true(config_interrupt(&t));
	virtio_device_broken(&t.dev, "again");
	g_assert_false(config_interrupt(&t)); /* said once */
	settle(&t);
	for (int i = 0; i < QUEUES; i++) {
		kicked(&t, i, 0);
		eventfd_signal(t.dev.queues[i].kick_fd);
		g_assert_false(kicked(&t, i, 5));
	}
	/* A pause does not mend it. */
	virtio_device_pause(&t.dev);
	virtio_device_resume(&t.dev);
	settle(&t);
	g_assert_true(virtio_device_is_broken(&t.dev));
	g_assert_false(kicked(&t, 0, 5));
	mock_driver_reset(&t.driver);
	check_power_on(&t);
	mock_driver_start(&t.driver, FEATURES);
	check_serving(&t);
	teardown(&t);
}

static void test_config_generation(void)
{
	struct toy t;

	setup(&t, VIRTIO_THREADS_SHARED);
	g_assert_cmpuint(t.dev.config_generation, ==, 0);
	virtio_device_config_changed(&t.dev); /* inactive: drivers read it before DRIVER_OK */
	g_assert_cmpuint(t.dev.config_generation, ==, 1);
	g_assert_true(config_interrupt(&t));
	mock_driver_start(&t.driver, FEATURES);
	g_assert_cmpuint(t.dev.config_generation, ==, 1);
	for (int i = 2; i <= 256; i++) {
		virtio_device_config_changed(&t.dev);
		g_assert_cmpuint(t.dev.config_generation, ==, i % 256);
		g_assert_true(config_interrupt(&t));
	}
	/* A driver that reads on both sides of a reset must not see the same number by chance. */
	virtio_device_config_changed(&t.dev);
	mock_driver_reset(&t.driver);
	g_assert_cmpuint(t.dev.config_generation, ==, 1);
	teardown(&t);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/virtio/device/threads", test_threads);
	g_test_add_func("/virtio/device/unused-queue", test_unused_queue);
	g_test_add_func("/virtio/device/activation-fails", test_activation_fails);
	g_test_add_func("/virtio/device/reset-in-each-state", test_reset_in_each_state);
	g_test_add_func("/virtio/device/waiting-requests", test_waiting_requests);
	g_test_add_func("/virtio/device/doorbells", test_doorbells);
	g_test_add_func("/virtio/device/broken", test_broken);
	g_test_add_func("/virtio/device/config-generation", test_config_generation);
	return g_test_run();
}
