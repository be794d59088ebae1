/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/virtio/vhost-user.h"

#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/log.h"
#include "vmm/memory/guest-memory.h"
#include "vmm/virtio/device.h"
#include "vmm/virtio/vhost-user-abi.h"

static int64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* A call begins. */
static void begin(struct vhost_user *vu, int patience)
{
	vu->deadline = now_ms() + patience;
}

static int wait_for(const struct vhost_user *vu, short events)
{
	struct pollfd pfd = { .fd = vu->fd, .events = events };
	int64_t left = vu->deadline - now_ms();
	int r = poll(&pfd, 1, left > 0 ? (int)left : 0);

	if (r < 0)
		return errno == EINTR ? 0 : -errno;
	return r == 0 ? -ETIMEDOUT : 0;
}

/* --- messages --- */

static int send_message(const struct vhost_user *vu, enum vhost_user_request request, bool reply,
			const void *payload, uint32_t size, const int *fds, unsigned int n_fds)
{
	struct vhost_user_header header = {
		.request = request,
		.flags = VHOST_USER_VERSION | (reply ? VHOST_USER_NEED_REPLY : 0),
		.size = size,
	};
	union {
		struct cmsghdr align;
		uint8_t bytes[CMSG_SPACE(VHOST_USER_REGIONS_MAX * sizeof(int))];
	} control = { 0 };
	struct iovec iov[] = { { &header, sizeof(header) }, { (void *)(uintptr_t)payload, size } };
	struct msghdr msg = { .msg_iov = iov, .msg_iovlen = 2 };

	if (n_fds > 0) {
		msg.msg_control = control.bytes;
		msg.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
		CMSG_FIRSTHDR(&msg)->cmsg_level = SOL_SOCKET;
		CMSG_FIRSTHDR(&msg)->cmsg_type = SCM_RIGHTS;
		CMSG_FIRSTHDR(&msg)->cmsg_len = CMSG_LEN(n_fds * sizeof(int));
		memcpy(CMSG_DATA(CMSG_FIRSTHDR(&msg)), fds, n_fds * sizeof(int));
	}
	for (;;) {
		ssize_t n = sendmsg(vu->fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
		int r;

		/* A message is far smaller than the socket's buffer: it goes in one. */
		if (n >= 0)
			return n == (ssize_t)(sizeof(header) + size) ? 0 : -EIO;
		if (errno != EAGAIN && errno != EINTR)
			return -errno;
		r = wait_for(vu, POLLOUT);
		if (r < 0)
			return r;
	}
}

static int receive(const struct vhost_user *vu, void *buf, size_t len)
{
	uint8_t *to = buf;

	while (len > 0) {
		/* Descriptors that nobody asked for find no room and are closed by the kernel. */
		ssize_t n = recv(vu->fd, to, len, MSG_DONTWAIT);
		int r;

		if (n == 0)
			return -ECONNRESET;
		if (n > 0) {
			to += n;
			len -= (size_t)n;
			continue;
		}
		if (errno != EAGAIN && errno != EINTR)
			return -errno;
		r = wait_for(vu, POLLIN);
		if (r < 0)
			return r;
	}
	return 0;
}

static int receive_reply(const struct vhost_user *vu, enum vhost_user_request request, void *reply,
			 uint32_t size)
{
	struct vhost_user_header header;
	int r;

	r = receive(vu, &header, sizeof(header));
	if (r < 0)
		return r;
	if (header.request != (uint32_t)request || header.size != size ||
	    (header.flags & (3U | VHOST_USER_REPLY)) != (VHOST_USER_VERSION | VHOST_USER_REPLY))
		return -EBADMSG;
	return receive(vu, reply, size);
}

/* After a failure nobody knows whose answer would come next. */
static int give_up(struct vhost_user *vu, int r)
{
	if (!vu->dead)
		log_warning("device '%s': its vhost-user back end does not answer: %s", vu->id,
			    strerrordesc_np(-r));
	vu->dead = true;
	/* It may have guest memory: without a connection a back end lets go of it. */
	shutdown(vu->fd, SHUT_RDWR);
	return r;
}

/* Sends; and waits until it has been done, where the back end tells that. */
static int tell(struct vhost_user *vu, enum vhost_user_request request, const void *payload,
		uint32_t size, const int *fds, unsigned int n_fds)
{
	bool ack = vu->protocol & 1U << VHOST_USER_PROTOCOL_F_REPLY_ACK;
	uint64_t failed = 0;
	int r;

	if (vu->dead)
		return -EIO;
	r = send_message(vu, request, ack, payload, size, fds, n_fds);
	if (r >= 0 && ack)
		r = receive_reply(vu, request, &failed, sizeof(failed));
	if (r < 0)
		return give_up(vu, r);
	return failed ? -EREMOTEIO : 0;
}

static int tell_u64(struct vhost_user *vu, enum vhost_user_request request, uint64_t value)
{
	return tell(vu, request, &value, sizeof(value), NULL, 0);
}

static int tell_state(struct vhost_user *vu, enum vhost_user_request request, uint32_t index,
		      uint32_t num)
{
	const struct vhost_user_vring_state state = { index, num };

	return tell(vu, request, &state, sizeof(state), NULL, 0);
}

static int tell_fd(struct vhost_user *vu, enum vhost_user_request request, uint32_t index, int fd)
{
	uint64_t value = index | (fd < 0 ? VHOST_USER_VRING_NO_FD : 0);

	return tell(vu, request, &value, sizeof(value), &fd, fd < 0 ? 0 : 1);
}

static int ask(struct vhost_user *vu, enum vhost_user_request request, const void *payload,
	       uint32_t size, void *reply, uint32_t reply_size)
{
	int r;

	if (vu->dead)
		return -EIO;
	r = send_message(vu, request, false, payload, size, NULL, 0);
	if (r >= 0)
		r = receive_reply(vu, request, reply, reply_size);
	return r < 0 ? give_up(vu, r) : 0;
}

static int ask_u64(struct vhost_user *vu, enum vhost_user_request request, uint64_t *ret)
{
	return ask(vu, request, NULL, 0, ret, sizeof(*ret));
}

/* --- the connection --- */

static int learn_protocol(struct vhost_user *vu)
{
	const uint64_t wanted =
		1U << VHOST_USER_PROTOCOL_F_MQ | 1U << VHOST_USER_PROTOCOL_F_REPLY_ACK;
	uint64_t offered = 0, n = 0;
	int r;

	r = ask_u64(vu, VHOST_USER_GET_PROTOCOL_FEATURES, &offered);
	if (r >= 0)
		r = tell_u64(vu, VHOST_USER_SET_PROTOCOL_FEATURES, offered & wanted);
	if (r < 0)
		return r;
	vu->protocol = offered & wanted;
	vu->has_protocol = true;
	if (!(vu->protocol & 1U << VHOST_USER_PROTOCOL_F_MQ))
		return 0;
	r = ask_u64(vu, VHOST_USER_GET_QUEUE_NUM, &n);
	vu->n_queues_max = n > UINT16_MAX ? UINT16_MAX : (uint16_t)n;
	return r;
}

int vhost_user_init(struct vhost_user *vu, int fd, const char *id,
		    const struct vhost_user_patience *patience, struct err *err)
{
	uint64_t features = 0;
	int r;

	*vu = (struct vhost_user){ .fd = fd, .id = id, .n_queues_max = UINT16_MAX };
	vu->patience = patience ? *patience : VHOST_USER_PATIENCE;
	begin(vu, vu->patience.greet);
	r = ask_u64(vu, VHOST_USER_GET_FEATURES, &features);
	if (r >= 0)
		r = tell(vu, VHOST_USER_SET_OWNER, NULL, 0, NULL, 0);
	if (r >= 0 && (features & VIRTIO_FEATURE(VHOST_USER_F_PROTOCOL_FEATURES)))
		r = learn_protocol(vu);
	if (r < 0) {
		*vu = (struct vhost_user){ 0 };
		return err_errno(err, -r, "the vhost-user back end does not answer");
	}
	if (!(features & VIRTIO_FEATURE(VIRTIO_F_VERSION_1))) {
		*vu = (struct vhost_user){ 0 };
		return err_set(err, ENOTSUP,
			       "the vhost-user back end does not know virtio 1, which is needed");
	}
	vu->features = features & ~VIRTIO_FEATURE(VHOST_USER_F_PROTOCOL_FEATURES);
	return 0;
}

void vhost_user_deinit(struct vhost_user *vu)
{
	if (vu->id)
		close(vu->fd);
	*vu = (struct vhost_user){ 0 };
}

int vhost_user_set_memory(struct vhost_user *vu, const struct guest_mem *mem, struct err *err)
{
	/* acquire: the regions themselves (guest-memory.c) */
	uint32_t n = atomic_load_explicit(&mem->n_regions, memory_order_acquire);
	struct vhost_user_memory table = { 0 };
	int fds[VHOST_USER_REGIONS_MAX], r;

	for (uint32_t i = 0; i < n; i++) {
		const struct guest_region *region = &mem->regions[i];

		if (region->device)
			continue; /* pmem: no ring is there, and requests to it fail */
		if (region->fd < 0)
			return err_fault(
				err, FAULT_BAD_CONFIG, EINVAL,
				"guest memory cannot be shared with a vhost-user back end: "
				"/memory/shared must be true");
		if (table.n == VHOST_USER_REGIONS_MAX)
			return err_fault(
				err, FAULT_BAD_CONFIG, E2BIG,
				"guest memory has more parts than the %u that a vhost-user "
				"back end takes",
				VHOST_USER_REGIONS_MAX);
		fds[table.n] = region->fd;
		table.regions[table.n++] =
			(struct vhost_user_region){ region->gpa, region->size,
						    (uintptr_t)region->hva, region->fd_off };
	}
	r = tell(vu, VHOST_USER_SET_MEM_TABLE, &table,
		 (uint32_t)(offsetof(struct vhost_user_memory, regions) +
			    table.n * sizeof(table.regions[0])),
		 fds, table.n);
	return r < 0 ? err_errno(err, -r, "the vhost-user back end does not take guest memory") : 0;
}

int vhost_user_set_up(struct vhost_user *vu, uint64_t features, const struct guest_mem *mem,
		      struct err *err)
{
	int r;

	/* Its descriptor stays open: the guest may reset the device as often as it likes. */
	if (vu->dead)
		return err_set(err, EIO,
			       "the vhost-user back end has failed before; a new one is used when "
			       "the virtual machine is started again");
	begin(vu, vu->patience.ask);
	if (vu->has_protocol)
		features |= VIRTIO_FEATURE(VHOST_USER_F_PROTOCOL_FEATURES);
	r = tell_u64(vu, VHOST_USER_SET_FEATURES, features);
	if (r < 0)
		return err_errno(err, -r, "the vhost-user back end does not take the features");
	return vhost_user_set_memory(vu, mem, err);
}

int vhost_user_start_queue(struct vhost_user *vu, struct virtio_queue *q, int call_fd,
			   struct err *err)
{
	const struct vhost_user_vring_addr addr = {
		.index = q->index,
		.desc = (uintptr_t)q->desc,
		.avail = (uintptr_t)q->avail,
		.used = (uintptr_t)q->used,
	};
	uint16_t ignored;
	int r;

	begin(vu, vu->patience.ask);
	r = tell_state(vu, VHOST_USER_SET_VRING_NUM, q->index, q->st.size);
	if (r >= 0)
		r = tell_state(vu, VHOST_USER_SET_VRING_BASE, q->index, q->st.next_avail);
	if (r >= 0)
		r = tell(vu, VHOST_USER_SET_VRING_ADDR, &addr, sizeof(addr), NULL, 0);
	if (r >= 0)
		r = tell_fd(vu, VHOST_USER_SET_VRING_CALL, q->index, call_fd);
	if (r >= 0)
		r = tell_fd(vu, VHOST_USER_SET_VRING_KICK, q->index, q->kick_fd);
	/* Without protocol features a ring begins enabled. */
	if (r >= 0 && vu->has_protocol)
		r = tell_state(vu, VHOST_USER_SET_VRING_ENABLE, q->index, 1);
	if (r >= 0)
		return 0;
	/* What it took of it. */
	(void)vhost_user_stop_queue(vu, q, &ignored);
	return err_errno(err, -r, "the vhost-user back end does not take queue %u", q->index);
}

int vhost_user_stop_queue(struct vhost_user *vu, struct virtio_queue *q, uint16_t *ret_next_avail)
{
	const struct vhost_user_vring_state state = { .index = q->index };
	struct vhost_user_vring_state answer = { 0 };
	int r;

	begin(vu, vu->patience.stop);
	r = ask(vu, VHOST_USER_GET_VRING_BASE, &state, sizeof(state), &answer, sizeof(answer));
	if (r < 0)
		return r;
	*ret_next_avail = (uint16_t)answer.num;
	return 0;
}

int vhost_user_set_call(struct vhost_user *vu, const struct virtio_queue *q, int call_fd)
{
	begin(vu, vu->patience.ask);
	return tell_fd(vu, VHOST_USER_SET_VRING_CALL, q->index, call_fd);
}
