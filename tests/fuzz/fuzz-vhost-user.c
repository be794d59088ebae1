/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzzing of what a vhost-user back end answers: {u8 what}, and then all that it sends, at once
 *
 * It hangs up behind that, so nobody waits; what it says ends a call or is taken, and leaves no
 * descriptor behind.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/base/fd.h"
#include "vmm/base/math.h"
#include "vmm/memory/guest-memory.h"
#include "vmm/virtio/device.h"
#include "vmm/virtio/vhost-user.h"

#define RAM      (64 * KIB)
#define SENT_MAX 4096U /* a socket holds it */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct guest_mem mem;
static struct virtio_device dev;
static struct virtio_queue queue;

static void set_up(void)
{
	static const struct guest_mem_params params = { .size = RAM, .shared = true };
	int r = guest_mem_init(&mem, NULL, &params, NULL);

	assert(r == 0);
	r = virtio_queue_init(&queue, &dev, 0, 16, NULL);
	assert(r == 0);
	queue.st.size = 16;
	queue.st.avail_gpa = 0x400;
	queue.st.used_gpa = 0x800;
	queue.st.enabled = true;
	r = virtio_queue_start(&queue, &mem, 0, NULL);
	assert(r == 0);
}

/* The bytes, and with them sometimes a descriptor that nobody asked for. */
static void send_all(int fd, const uint8_t *data, size_t len, bool with_fd)
{
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(sizeof(int))];
	} control = { 0 };
	struct iovec iov = { (void *)(uintptr_t)data, len };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (len == 0)
		return;
	if (with_fd) {
		m.msg_control = &control;
		m.msg_controllen = sizeof(control);
		control.header = (struct cmsghdr){ .cmsg_len = CMSG_LEN(sizeof(int)),
						   .cmsg_level = SOL_SOCKET,
						   .cmsg_type = SCM_RIGHTS };
		memcpy(CMSG_DATA(&control.header), &queue.kick_fd, sizeof(int));
	}
	if (sendmsg(fd, &m, MSG_NOSIGNAL) < 0)
		assert(errno == EPIPE || errno == ECONNRESET);
}

static void use(struct vhost_user *vu, uint8_t what)
{
	uint16_t next = 0;

	if (vhost_user_set_up(vu, vu->features, &mem, NULL) < 0 && what & 1)
		return;
	if (vhost_user_start_queue(vu, &queue, what & 2 ? queue.kick_fd : -EBADF, NULL) < 0 &&
	    what & 1)
		return;
	(void)vhost_user_set_call(vu, &queue, -EBADF);
	(void)vhost_user_stop_queue(vu, &queue, &next);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct vhost_user_patience patience = { 50, 50, 50 };
	struct vhost_user vu = { 0 };
	int pair[2], before, after, r;

	if (size < 1 || size > SENT_MAX)
		return 0;
	if (!mem.n_regions)
		set_up();
	before = dup(queue.kick_fd);
	close(before);
	r = socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair);
	assert(r == 0);
	send_all(pair[1], data + 1, size - 1, data[0] & 4);
	shutdown(pair[1], SHUT_WR);
	if (vhost_user_init(&vu, pair[0], "fuzz", &patience, NULL) == 0) {
		use(&vu, data[0]);
		vhost_user_deinit(&vu);
	} else {
		close(pair[0]);
	}
	close(pair[1]);
	/* the lowest free number is what it was */
	after = dup(queue.kick_fd);
	close(after);
	assert(after == before);
	return 0;
}
