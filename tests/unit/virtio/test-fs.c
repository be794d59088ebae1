/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-fs and the vhost-user protocol, against a back end of a few lines in a thread
 */
#include <errno.h>
#include <glib.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/lib/mock-queue.h"
#include "vmm/base/cleanup.h"
#include "vmm/base/err.h"
#include "vmm/base/fd.h"
#include "vmm/virtio/fs.h"
#include "vmm/virtio/vhost-user-abi.h"
#include "vmm/virtio/vhost-user.h"

#define N_QUEUES 2U /* one of priority, one of requests */

/* What it is to do wrong. */
enum fault_kind {
	RIGHT,
	SILENT,       /* to the first question */
	WRONG_ANSWER, /* another request's */
	LONG_ANSWER,
	OLD,     /* does not know virtio 1 */
	REFUSES, /* the memory table */
	FEW_QUEUES,
	DIES, /* when it gets a queue */
	DEAF_TO_MEMORY,
	DIES_OF_MEMORY, /* in the middle of its answer */
	RUBBISH_FOR_MEMORY,
	DEAF_TO_STOP,
	NO_PROTOCOL,
};

struct backend {
	pthread_t thread;
	int fd;
	enum fault_kind fault;
	/* what it was told; read after an answer has come, so in order */
	struct vhost_user_memory memory;
	struct vhost_user_vring_addr addr[N_QUEUES];
	uint32_t num[N_QUEUES], base[N_QUEUES], enabled[N_QUEUES];
	int kick[N_QUEUES], call[N_QUEUES];
	uint64_t features;
	unsigned int n_fds; /* of the last message */
};

static bool receive(struct backend *b, struct vhost_user_header *h,
		    union vhost_user_payload *payload, int *fds)
{
	union {
		struct cmsghdr align;
		uint8_t bytes[CMSG_SPACE(8 * sizeof(int))];
	} control;
	struct iovec iov = { h, sizeof(*h) };
	struct msghdr msg = { .msg_iov = &iov,
			      .msg_iovlen = 1,
			      .msg_control = control.bytes,
			      .msg_controllen = sizeof(control.bytes) };
	struct cmsghdr *c;

	b->n_fds = 0;
	if (recvmsg(b->fd, &msg, MSG_CMSG_CLOEXEC) != (ssize_t)sizeof(*h))
		return false;
	for (c = CMSG_FIRSTHDR(&msg); c; c = CMSG_NXTHDR(&msg, c)) {
		b->n_fds = (unsigned int)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
		memcpy(fds, CMSG_DATA(c), b->n_fds * sizeof(int));
	}
	g_assert_cmpuint(h->size, <=, sizeof(*payload));
	return h->size == 0 || recv(b->fd, payload, h->size, MSG_WAITALL) == (ssize_t)h->size;
}

static void answer(struct backend *b, uint32_t request, const void *data, uint32_t size)
{
	struct vhost_user_header h = { request, VHOST_USER_VERSION | VHOST_USER_REPLY, size };
	struct iovec iov[] = { { &h, sizeof(h) }, { (void *)(uintptr_t)data, size } };
	struct msghdr msg = { .msg_iov = iov, .msg_iovlen = 2 };

	if (b->fault == WRONG_ANSWER)
		h.request++;
	if (b->fault == LONG_ANSWER)
		h.size = 0xffffffff;
	g_assert_cmpint(sendmsg(b->fd, &msg, MSG_NOSIGNAL), >, 0);
}

static void answer_u64(struct backend *b, uint32_t request, uint64_t value)
{
	answer(b, request, &value, sizeof(value));
}

static void take_fd(struct backend *b, int *where, const int *fds)
{
	if (*where >= 0)
		close(*where);
	*where = b->n_fds ? fds[0] : -EBADF;
}

/* False: it ends. */
static bool handle(struct backend *b, const struct vhost_user_header *h,
		   const union vhost_user_payload *p, const int *fds)
{
	static const char rubbish[] = "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n";
	struct vhost_user_vring_state state = p->state;
	uint64_t status = 0;

	switch (h->request) {
	case VHOST_USER_GET_FEATURES:
		if (b->fault != SILENT)
			answer_u64(b, h->request,
				   (b->fault == OLD ? 0 : VIRTIO_FEATURE(VIRTIO_F_VERSION_1)) |
					   VIRTIO_FEATURE(VIRTIO_RING_F_EVENT_IDX) |
					   (b->fault == NO_PROTOCOL
						    ? 0
						    : VIRTIO_FEATURE(
							      VHOST_USER_F_PROTOCOL_FEATURES)));
		return true;
	case VHOST_USER_GET_PROTOCOL_FEATURES:
		answer_u64(b, h->request, 0xffffffff);
		return true;
	case VHOST_USER_GET_QUEUE_NUM:
		answer_u64(b, h->request, b->fault == FEW_QUEUES ? 1 : 8);
		return true;
	case VHOST_USER_GET_VRING_BASE:
		if (b->fault == DEAF_TO_STOP)
			return true;
		/* It has served three more. */
		state.num = b->base[state.index] + 3;
		b->enabled[state.index] = 0;
		answer(b, h->request, &state, sizeof(state));
		return true;
	case VHOST_USER_SET_FEATURES:
		b->features = p->u64;
		break;
	case VHOST_USER_SET_MEM_TABLE:
		b->memory = p->memory;
		for (unsigned int i = 0; i < b->n_fds; i++)
			close(fds[i]);
		status = b->fault == REFUSES;
		if (b->fault == DEAF_TO_MEMORY)
			return true;
		if (b->fault == RUBBISH_FOR_MEMORY)
			return send(b->fd, rubbish, sizeof(rubbish), MSG_NOSIGNAL) > 0;
		if (b->fault == DIES_OF_MEMORY) {
			g_assert_cmpint(send(b->fd, h, 7, MSG_NOSIGNAL), ==, 7);
			return false;
		}
		break;
	case VHOST_USER_SET_VRING_NUM:
		if (b->fault == DIES)
			return false;
		b->num[state.index] = state.num;
		break;
	case VHOST_USER_SET_VRING_BASE:
		b->base[state.index] = state.num;
		break;
	case VHOST_USER_SET_VRING_ADDR:
		b->addr[p->addr.index] = p->addr;
		break;
	case VHOST_USER_SET_VRING_KICK:
		take_fd(b, &b->kick[p->u64 & 0xff], fds);
		break;
	case VHOST_USER_SET_VRING_CALL:
		take_fd(b, &b->call[p->u64 & 0xff], fds);
		break;
	case VHOST_USER_SET_VRING_ENABLE:
		b->enabled[state.index] = state.num;
		break;
	default:
		break;
	}
	if (h->flags & VHOST_USER_NEED_REPLY)
		answer_u64(b, h->request, status);
	return true;
}

static void *run(void *data)
{
	struct backend *b = data;
	struct vhost_user_header h;
	union vhost_user_payload p;
	int fds[8];

	while (receive(b, &h, &p, fds) && handle(b, &h, &p, fds))
		;
	close(b->fd);
	return NULL;
}

/* Returns the device's end. */
static int backend_start(struct backend *b, enum fault_kind fault)
{
	int pair[2];

	g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), ==, 0);
	*b = (struct backend){ .fd = pair[1], .fault = fault };
	for (unsigned int i = 0; i < N_QUEUES; i++)
		b->kick[i] = b->call[i] = -EBADF;
	g_assert_cmpint(pthread_create(&b->thread, NULL, run, b), ==, 0);
	return pair[0];
}

/* The device has closed its end. */
static void backend_end(struct backend *b)
{
	pthread_join(b->thread, NULL);
	for (unsigned int i = 0; i < N_QUEUES; i++) {
		if (b->kick[i] >= 0)
			close(b->kick[i]);
		if (b->call[i] >= 0)
			close(b->call[i]);
	}
}

struct fixture {
	struct backend backend;
	struct mock_driver driver;
	struct virtio_device *dev;
};

/* All the time that a busy machine needs, but where silence is what is looked at. */
static struct vhost_user_patience patience_for(enum fault_kind fault)
{
	return (struct vhost_user_patience){
		.greet = fault == SILENT ? 100 : 10000,
		.ask = fault == DEAF_TO_MEMORY ? 1000 : 10000,
		.stop = fault == DEAF_TO_STOP ? 100 : 10000,
	};
}

static int try_new(struct backend *b, enum fault_kind fault, struct virtio_device **ret,
		   struct err *err)
{
	const struct vhost_user_patience patience = patience_for(fault);
	struct virtio_fs_params params = {
		.id = "f0", .tag = "shared", .n_queues = 1, .queue_size = 16, .patience = &patience
	};
	int r;

	params.fd = backend_start(b, fault);
	r = virtio_fs_new(&params, ret, err);
	if (r < 0)
		close(params.fd); /* it stayed ours */
	return r;
}

static void setup(struct fixture *f, enum fault_kind fault)
{
	struct err err = { 0 };

	if (try_new(&f->backend, fault, &f->dev, &err) < 0)
		g_error("%s", err.msg);
	mock_driver_init(&f->driver, f->dev, 1 << 20);
	/* Nobody maps it here: that there is a descriptor is what counts. */
	f->driver.mem.regions[0].fd = memfd_create("ram", MFD_CLOEXEC);
}

static void teardown(struct fixture *f)
{
	mock_driver_deinit(&f->driver);
	backend_end(&f->backend);
}

static void test_config(void)
{
	struct fixture f;
	char wanted[40] = "shared";

	wanted[36] = 1; /* one request queue, little endian */
	setup(&f, RIGHT);
	g_assert_cmpuint(f.dev->config_size, ==, sizeof(wanted));
	g_assert_cmpmem(f.dev->config, sizeof(wanted), wanted, sizeof(wanted));
	g_assert_cmphex(f.dev->features_offered, ==,
			VIRTIO_FEATURE(VIRTIO_F_VERSION_1) |
				VIRTIO_FEATURE(VIRTIO_RING_F_EVENT_IDX));
	teardown(&f);
}

static void check_queue(struct fixture *f, unsigned int i, uint16_t base)
{
	const struct backend *b = &f->backend;
	const struct virtio_queue *q = &f->dev->queues[i];

	g_assert_cmpuint(b->num[i], ==, q->st.size);
	g_assert_cmpuint(b->base[i], ==, base);
	g_assert_cmpuint(b->addr[i].desc, ==, (uintptr_t)q->desc);
	g_assert_cmpuint(b->addr[i].avail, ==, (uintptr_t)q->avail);
	g_assert_cmpuint(b->addr[i].used, ==, (uintptr_t)q->used);
	g_assert_cmpuint(b->enabled[i], ==, 1);
	g_assert_cmpint(b->kick[i], >=, 0);
	g_assert_cmpint(b->call[i], >=, 0);
}

static void test_start_stop(void)
{
	struct fixture f;
	const struct guest_region *ram = &f.driver.mem.regions[0];
	const struct guest_zone_params more = { .pointer = "/memory",
						.size = 1U << 20,
						.shared = true,
						.file_fd = -EBADF,
						.host_node = -1 };
	struct err err = { 0 };

	setup(&f, RIGHT);
	mock_driver_start(&f.driver, VIRTIO_FEATURE(VIRTIO_F_VERSION_1));
	g_assert_cmphex(f.backend.features, ==,
			VIRTIO_FEATURE(VIRTIO_F_VERSION_1) |
				VIRTIO_FEATURE(VHOST_USER_F_PROTOCOL_FEATURES));
	g_assert_cmpuint(f.backend.memory.n, ==, 1);
	g_assert_cmpuint(f.backend.memory.regions[0].gpa, ==, ram->gpa);
	g_assert_cmpuint(f.backend.memory.regions[0].size, ==, ram->size);
	g_assert_cmpuint(f.backend.memory.regions[0].user_addr, ==, (uintptr_t)ram->hva);
	check_queue(&f, 0, 0);
	check_queue(&f, 1, 0);
	/* Its doorbell and its interrupt. */
	g_assert_true(eventfd_take(f.backend.kick[1]));
	mock_queue_kick(&f.driver.queues[1]);
	g_assert_true(eventfd_take(f.backend.kick[1]));

	/* A pause takes the rings back, and a resume goes on where they were. */
	virtio_device_pause(f.dev);
	g_assert_cmpuint(f.backend.enabled[1], ==, 0);
	g_assert_cmpuint(f.dev->queues[1].st.next_avail, ==, 3);
	virtio_device_resume(f.dev);
	check_queue(&f, 1, 3);

	/* More memory: told between stop and start of the queues; of a pause, without them. */
	g_assert_cmpint(guest_mem_add_ram(&f.driver.mem, 1ULL << 40, &more, &err), ==, 0);
	virtio_device_grow_memory(f.dev);
	g_assert_cmpuint(f.backend.memory.n, ==, 2);
	g_assert_cmpuint(f.backend.memory.regions[1].gpa, ==, 1ULL << 40);
	check_queue(&f, 1, 6);
	virtio_device_pause(f.dev);
	g_assert_cmpint(guest_mem_add_ram(&f.driver.mem, 2ULL << 40, &more, &err), ==, 0);
	virtio_device_grow_memory(f.dev);
	g_assert_cmpuint(f.backend.memory.n, ==, 3);
	g_assert_cmpuint(f.backend.enabled[1], ==, 0);
	virtio_device_resume(f.dev);
	check_queue(&f, 1, 9);
	g_assert_false(virtio_device_is_broken(f.dev));

	mock_driver_reset(&f.driver);
	g_assert_cmpuint(f.backend.enabled[0], ==, 0);
	mock_driver_start(&f.driver, VIRTIO_FEATURE(VIRTIO_F_VERSION_1));
	check_queue(&f, 1, 0);
	teardown(&f);
}

/* A back end without protocol features: no enabling, no acknowledgement. */
static void test_no_protocol(void)
{
	struct fixture f;

	setup(&f, NO_PROTOCOL);
	mock_driver_start(&f.driver, VIRTIO_FEATURE(VIRTIO_F_VERSION_1));
	virtio_device_pause(f.dev); /* its answer comes after all else was handled */
	g_assert_cmpuint(f.backend.num[1], ==, f.dev->queues[1].st.size);
	g_assert_cmpuint(f.backend.enabled[1], ==, 0);
	virtio_device_resume(f.dev);
	teardown(&f);
}

static void on_values_changed(void *data)
{
	eventfd_signal(*(int *)data);
}

static void test_dies(void)
{
	_cleanup_close_ int news_fd = eventfd_new();
	struct pollfd news = { .fd = news_fd, .events = POLLIN };
	struct fixture f;

	setup(&f, RIGHT);
	f.dev->values_changed_data = &news_fd;
	f.dev->values_changed = on_values_changed;
	mock_driver_start(&f.driver, VIRTIO_FEATURE(VIRTIO_F_VERSION_1));
	g_assert_false(virtio_device_take_broken_news(f.dev));
	shutdown(f.backend.fd, SHUT_RDWR);
	mock_driver_wait_broken(&f.driver);
	/* It is told, once. */
	g_assert_cmpint(poll(&news, 1, 10000), ==, 1);
	g_assert_true(virtio_device_take_broken_news(f.dev));
	g_assert_false(virtio_device_take_broken_news(f.dev));
	/* And what comes after does not wait for it. */
	virtio_device_pause(f.dev);
	virtio_device_resume(f.dev);
	mock_driver_reset(&f.driver);
	teardown(&f);
}

/* It does not give the queues back: once it is waited for, and not for ever. */
static void test_deaf_to_stop(void)
{
	struct err err = { 0 };
	int64_t begin;
	struct fixture f;

	setup(&f, DEAF_TO_STOP);
	mock_driver_start(&f.driver, VIRTIO_FEATURE(VIRTIO_F_VERSION_1));
	begin = g_get_monotonic_time();
	virtio_device_pause(f.dev);
	g_assert_true(virtio_device_is_broken(f.dev));
	virtio_device_resume(f.dev);
	mock_driver_reset(&f.driver);
	g_assert_cmpint(mock_driver_try_start(&f.driver, VIRTIO_FEATURE(VIRTIO_F_VERSION_1), &err),
			==, -EIO);
	g_assert_cmpint(g_get_monotonic_time() - begin, <, 3 * G_USEC_PER_SEC);
	g_assert_cmpstr(
		err.msg, ==,
		"fs 'f0': the vhost-user back end has failed before; a new one is used when "
		"the virtual machine is started again");
	teardown(&f);
}

static void test_activation_fails(void)
{
	static const struct {
		enum fault_kind fault;
		const char *text;
	} cases[] = {
		{ REFUSES, "fs 'f0': the vhost-user back end does not take guest memory: "
			   "Remote I/O error" },
		{ DEAF_TO_MEMORY, "fs 'f0': the vhost-user back end does not take guest memory: "
				  "Connection timed out" },
		{ DIES_OF_MEMORY, "fs 'f0': the vhost-user back end does not take guest memory: "
				  "Connection reset by peer" },
		{ RUBBISH_FOR_MEMORY, "fs 'f0': the vhost-user back end does not take guest "
				      "memory: Bad message" },
		{ DIES,
		  "fs 'f0': the vhost-user back end does not take queue 0: Connection reset by peer" },
	};

	for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
		struct fixture f;
		struct err err = { 0 };

		setup(&f, cases[i].fault);
		g_assert_cmpint(mock_driver_try_start(&f.driver, VIRTIO_FEATURE(VIRTIO_F_VERSION_1),
						      &err),
				<, 0);
		g_assert_cmpstr(err.msg, ==, cases[i].text);
		g_assert_true(virtio_device_is_broken(f.dev));
		g_assert_true(virtio_device_take_broken_news(f.dev));
		teardown(&f);
	}
}

static void test_private_memory(void)
{
	struct fixture f;
	struct err err = { 0 };

	setup(&f, RIGHT);
	close(f.driver.mem.regions[0].fd);
	f.driver.mem.regions[0].fd = -EBADF;
	g_assert_cmpint(mock_driver_try_start(&f.driver, VIRTIO_FEATURE(VIRTIO_F_VERSION_1), &err),
			==, -EINVAL);
	g_assert_cmpstr(
		err.msg, ==,
		"fs 'f0': guest memory cannot be shared with a vhost-user back end: /memory/shared "
		"must be true");
	teardown(&f);
}

static void test_refused(void)
{
	static const struct {
		enum fault_kind fault;
		const char *text;
	} cases[] = {
		{ WRONG_ANSWER, "fs 'f0': the vhost-user back end does not answer: Bad message" },
		{ LONG_ANSWER, "fs 'f0': the vhost-user back end does not answer: Bad message" },
		{ OLD, "fs 'f0': the vhost-user back end does not know virtio 1, which is needed" },
		{ FEW_QUEUES, "fs 'f0': its virtiofsd serves 0 queues, not 1" },
		{ SILENT,
		  "fs 'f0': the vhost-user back end does not answer: Connection timed out" },
	};

	for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
		struct virtio_device *dev = NULL;
		struct backend b;
		struct err err = { 0 };

		g_assert_cmpint(try_new(&b, cases[i].fault, &dev, &err), <, 0);
		g_assert_cmpstr(err.msg, ==, cases[i].text);
		backend_end(&b);
	}
}

static void test_conformance(void)
{
	struct fixture f;

	setup(&f, RIGHT);
	mock_driver_conformance(&f.driver, VIRTIO_FEATURE(VIRTIO_F_VERSION_1));
	teardown(&f);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/virtio/fs/config", test_config);
	g_test_add_func("/virtio/fs/start-stop", test_start_stop);
	g_test_add_func("/virtio/fs/no-protocol", test_no_protocol);
	g_test_add_func("/virtio/fs/dies", test_dies);
	g_test_add_func("/virtio/fs/deaf-to-stop", test_deaf_to_stop);
	g_test_add_func("/virtio/fs/activation-fails", test_activation_fails);
	g_test_add_func("/virtio/fs/private-memory", test_private_memory);
	g_test_add_func("/virtio/fs/refused", test_refused);
	g_test_add_func("/virtio/fs/conformance", test_conformance);
	return g_test_run();
}
