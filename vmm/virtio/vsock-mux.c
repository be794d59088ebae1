/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/virtio/vsock-mux.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/fd.h"

#define ACCEPTS_PER_TURN 16
#define LISTEN_AGAIN_NS  1000000000ULL
/* Ports of the host's side for its own connections: Firecracker's, above all that are well known.
 */
#define HOST_PORT_FIRST (1U << 30)
#define HOST_PORT_LAST  ((1U << 31) - 1)

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000ULL + (uint64_t)ts.tv_nsec;
}

/* --- the table --- */

static struct list *bucket(struct vsock_mux *mux, uint32_t host_port, uint32_t guest_port)
{
	return &mux->table[(host_port * 31 + guest_port) % VSOCK_BUCKETS];
}

static struct vsock_conn *find(struct vsock_mux *mux, uint32_t host_port, uint32_t guest_port)
{
	struct vsock_conn *conn;

	LIST_FOREACH(conn, bucket(mux, host_port, guest_port), table_link)
		if (conn->host_port == host_port && conn->guest_port == guest_port)
			return conn;
	return NULL;
}

static void enter(struct vsock_conn *conn, uint32_t host_port, uint32_t guest_port)
{
	conn->host_port = host_port;
	conn->guest_port = guest_port;
	list_append(bucket(conn->mux, host_port, guest_port), &conn->table_link);
}

void vsock_mux_enter(struct vsock_mux *mux, struct vsock_conn *conn, uint32_t guest_port)
{
	uint32_t port;

	do {
		port = mux->next_port;
		mux->next_port = port == HOST_PORT_LAST ? HOST_PORT_FIRST : port + 1;
	} while (find(mux, port, guest_port));
	enter(conn, port, guest_port);
}

void vsock_mux_leave(struct vsock_conn *conn)
{
	list_remove(&conn->table_link);
}

void vsock_mux_set_ready(struct vsock_conn *conn, bool ready)
{
	bool is_ready = !list_empty(&conn->ready_link);

	if (ready && !is_ready)
		list_append(&conn->mux->ready, &conn->ready_link);
	else if (!ready && is_ready)
		list_remove(&conn->ready_link);
}

/* --- timers --- */

static void set_timer(struct vsock_mux *mux, uint64_t ns)
{
	const struct itimerspec when = { .it_value = { .tv_sec = (time_t)(ns / 1000000000ULL),
						       .tv_nsec = (long)(ns % 1000000000ULL) } };

	mux->timer_ns = ns;
	timerfd_settime(mux->timer.fd, TFD_TIMER_ABSTIME, &when, NULL);
}

static void wake_at(struct vsock_mux *mux, uint64_t ns)
{
	if (mux->timer_ns == 0 || ns < mux->timer_ns)
		set_timer(mux, ns);
}

void vsock_mux_set_deadline(struct vsock_conn *conn, uint64_t usec)
{
	conn->deadline_ns = usec ? now_ns() + usec * 1000 : 0;
	if (usec)
		wake_at(conn->mux, conn->deadline_ns);
}

static void listen_again(struct vsock_mux *mux);

static void on_timer(struct loop_source *source, uint32_t events _unused_)
{
	struct vsock_mux *mux = source->data;
	struct vsock_conn *conn, *tmp;
	uint64_t ticks, now = now_ns(), next = 0;

	(void)!read(source->fd, &ticks, sizeof(ticks));
	mux->timer_ns = 0;
	listen_again(mux);
	LIST_FOREACH_SAFE(conn, tmp, &mux->conns, link) {
		if (conn->deadline_ns && conn->deadline_ns <= now)
			vsock_conn_on_deadline(conn);
		else if (conn->deadline_ns && (!next || conn->deadline_ns < next))
			next = conn->deadline_ns;
	}
	if (next)
		wake_at(mux, next);
	mux->ops->work(mux->data);
}

/* --- births and deaths --- */

static struct vsock_conn *conn_new(struct vsock_mux *mux, enum vsock_conn_state state, int fd,
				   bool seqpacket)
{
	struct vsock_conn *conn = NULL;

	if (mux->n_conns < VSOCK_CONNS_MAX)
		conn = malloc(sizeof(*conn));
	if (!conn)
		return NULL;
	vsock_conn_init(conn, mux, state, fd, seqpacket);
	list_append(&mux->conns, &conn->link);
	mux->n_conns++;
	return conn;
}

/*
 * The loop may still look at its source: in this batch of events an event of it can
 * come later.  It is freed two turns on.
 */
void vsock_mux_drop(struct vsock_conn *conn)
{
	struct vsock_mux *mux = conn->mux;

	vsock_conn_deinit(conn);
	vsock_mux_leave(conn);
	vsock_mux_set_ready(conn, false);
	conn->deadline_ns = 0;
	list_remove(&conn->link);
	list_append(&mux->dead[0], &conn->link);
	mux->n_conns--;
	eventfd_signal(mux->reaper.fd);
}

static void free_dead(struct list *dead)
{
	while (!list_empty(dead)) {
		struct vsock_conn *conn = container_of(dead->next, struct vsock_conn, link);

		list_remove(&conn->link);
		free(conn);
	}
}

static void on_reaper(struct loop_source *source, uint32_t events _unused_)
{
	struct vsock_mux *mux = source->data;

	eventfd_take(source->fd);
	free_dead(&mux->dead[1]);
	while (!list_empty(&mux->dead[0])) {
		struct list *link = mux->dead[0].next;

		list_remove(link);
		list_append(&mux->dead[1], link);
	}
	if (!list_empty(&mux->dead[1]))
		eventfd_signal(source->fd);
	listen_again(mux);
}

/* --- clients of the host --- */

static void on_listener(struct loop_source *source, uint32_t events _unused_)
{
	struct vsock_mux *mux = source->data;
	bool seqpacket = source == &mux->listeners[1];

	for (unsigned int i = 0; i < ACCEPTS_PER_TURN && mux->n_conns < VSOCK_CONNS_MAX; i++) {
		int fd = accept4(source->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		struct vsock_conn *conn;

		if (fd < 0 && (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED))
			return;
		if (fd < 0)
			break;
		conn = conn_new(mux, VSOCK_CONN_HELLO, fd, seqpacket);
		if (!conn) {
			close(fd);
			break;
		}
		vsock_conn_watch(conn);
		if (i + 1 == ACCEPTS_PER_TURN)
			return;
	}
	/* Too many, or out of descriptors or memory: the others wait in the socket. */
	loop_remove(mux->loop, source);
	wake_at(mux, now_ns() + LISTEN_AGAIN_NS);
}

static void listen_again(struct vsock_mux *mux)
{
	for (unsigned int i = 0; mux->loop && i < VSOCK_LISTENERS; i++) {
		struct loop_source *listener = &mux->listeners[i];

		if (listener->fd >= 0 && !listener->armed && mux->n_conns < VSOCK_CONNS_MAX &&
		    loop_add(mux->loop, listener) < 0)
			wake_at(mux, now_ns() + LISTEN_AGAIN_NS);
	}
}

int vsock_mux_add_client(struct vsock_mux *mux, int fd)
{
	struct vsock_conn *conn = conn_new(mux, VSOCK_CONN_HELLO, fd, false);

	if (!conn) {
		close(fd);
		return -EBUSY;
	}
	vsock_conn_watch(conn);
	return 0;
}

/* --- connections of the guest --- */

static void wish(struct vsock_mux *mux, const struct vsock_packet *packet)
{
	struct vsock_conn *conn = NULL;

	if (mux->ops->wish)
		conn = conn_new(mux, VSOCK_CONN_ASKING, -EBADF,
				packet->type == VIRTIO_VSOCK_TYPE_SEQPACKET);
	if (!conn) {
		atomic_fetch_add_explicit(&mux->refused, 1, memory_order_relaxed);
		vsock_mux_refuse(mux, packet);
		return;
	}
	conn->cookie = mux->next_cookie++;
	conn->peer_buf_alloc = packet->buf_alloc;
	conn->peer_fwd_cnt = packet->fwd_cnt;
	enter(conn, packet->dst_port, packet->src_port);
	mux->ops->wish(mux->data);
}

bool vsock_mux_next_wish(struct vsock_mux *mux, struct vsock_wish *ret)
{
	struct vsock_conn *conn;

	LIST_FOREACH(conn, &mux->conns, link) {
		if (conn->state != VSOCK_CONN_ASKING || conn->asked)
			continue;
		conn->asked = true;
		*ret = (struct vsock_wish){ conn->cookie, conn->host_port, conn->seqpacket };
		return true;
	}
	return false;
}

void vsock_mux_answer(struct vsock_mux *mux, uint32_t cookie, int fd)
{
	struct vsock_conn *conn;

	LIST_FOREACH(conn, &mux->conns, link) {
		if (conn->state != VSOCK_CONN_ASKING || conn->cookie != cookie)
			continue;
		vsock_conn_answer(conn, fd);
		return;
	}
	if (fd >= 0) /* too late */
		close(fd);
}

/* --- packets --- */

bool vsock_mux_is_full(const struct vsock_mux *mux)
{
	return mux->n_resets == VSOCK_RESETS_MAX;
}

void vsock_mux_refuse(struct vsock_mux *mux, const struct vsock_packet *packet)
{
	uint32_t at = (mux->resets_head + mux->n_resets) % VSOCK_RESETS_MAX;

	assert(!vsock_mux_is_full(mux));
	if (!mux->resets)
		mux->resets = calloc(VSOCK_RESETS_MAX, sizeof(*mux->resets));
	if (!mux->resets)
		return; /* the guest has to wait for its own timeout */
	mux->resets[at] = (struct vsock_reset){ packet->dst_port, packet->src_port, packet->type };
	mux->n_resets++;
}

void vsock_mux_receive(struct vsock_mux *mux, const struct vsock_packet *packet,
		       const struct iovec *iov, size_t n_iov)
{
	struct vsock_conn *conn = find(mux, packet->dst_port, packet->src_port);
	bool seqpacket = packet->type == VIRTIO_VSOCK_TYPE_SEQPACKET;

	if (conn && conn->seqpacket == seqpacket)
		vsock_conn_receive(conn, packet, iov, n_iov);
	else if (!conn && packet->op == VIRTIO_VSOCK_OP_REQUEST)
		wish(mux, packet);
	else if (packet->op != VIRTIO_VSOCK_OP_RST)
		vsock_mux_refuse(mux, packet);
}

bool vsock_mux_has_output(const struct vsock_mux *mux)
{
	return mux->n_resets > 0 || !list_empty(&mux->ready);
}

static void take_reset(struct vsock_mux *mux, struct vsock_packet *ret)
{
	const struct vsock_reset *reset = &mux->resets[mux->resets_head];

	*ret = (struct vsock_packet){
		.src_port = reset->src_port,
		.dst_port = reset->dst_port,
		.type = reset->type,
		.op = VIRTIO_VSOCK_OP_RST,
	};
	mux->resets_head = (mux->resets_head + 1) % VSOCK_RESETS_MAX;
	mux->n_resets--;
	if (mux->n_resets == 0) {
		free(mux->resets);
		mux->resets = NULL;
	}
}

int vsock_mux_fill(struct vsock_mux *mux, struct vsock_packet *ret, const struct iovec *iov,
		   size_t n_iov)
{
	assert(n_iov > 0 && n_iov <= VSOCK_IOV_MAX);
	if (mux->n_resets > 0) {
		take_reset(mux, ret);
		return 1;
	}
	while (!list_empty(&mux->ready)) {
		struct vsock_conn *conn =
			container_of(mux->ready.next, struct vsock_conn, ready_link);
		bool rests;

		/* to the end of the line, so that one does not keep the others waiting */
		list_remove(&conn->ready_link);
		list_append(&mux->ready, &conn->ready_link);
		rests = vsock_conn_fill(conn, ret, iov, n_iov) == 0;
		if (!rests)
			return 1;
	}
	return 0;
}

/* --- life --- */

int vsock_mux_init(struct vsock_mux *mux, const struct vsock_mux_ops *ops, void *data,
		   const int listen_fds[static VSOCK_LISTENERS], struct err *err)
{
	int timer, reaper, r;

	*mux = (struct vsock_mux){ .ops = ops, .data = data, .next_port = HOST_PORT_FIRST };
	list_init(&mux->conns);
	list_init(&mux->ready);
	for (unsigned int i = 0; i < VSOCK_BUCKETS; i++)
		list_init(&mux->table[i]);
	list_init(&mux->dead[0]);
	list_init(&mux->dead[1]);
	timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
	if (timer < 0)
		return err_errno(err, errno, "cannot make a timer");
	reaper = eventfd_new();
	if (reaper < 0) {
		r = err_errno(err, -reaper, "cannot make an eventfd");
		close(timer);
		return r;
	}
	mux->timer =
		(struct loop_source){ .fd = timer, .events = EPOLLIN, .fn = on_timer, .data = mux };
	mux->reaper = (struct loop_source){
		.fd = reaper, .events = EPOLLIN, .fn = on_reaper, .data = mux
	};
	for (unsigned int i = 0; i < VSOCK_LISTENERS; i++)
		mux->listeners[i] = (struct loop_source){
			.fd = listen_fds[i], .events = EPOLLIN, .fn = on_listener, .data = mux
		};
	return 0;
}

void vsock_mux_clear(struct vsock_mux *mux)
{
	while (!list_empty(&mux->conns))
		vsock_mux_drop(container_of(mux->conns.next, struct vsock_conn, link));
	free(mux->resets);
	mux->resets = NULL;
	mux->n_resets = mux->resets_head = 0;
}

void vsock_mux_deinit(struct vsock_mux *mux)
{
	assert(!mux->loop);
	vsock_mux_clear(mux);
	free_dead(&mux->dead[0]);
	free_dead(&mux->dead[1]);
	close(mux->timer.fd);
	close(mux->reaper.fd);
	for (unsigned int i = 0; i < VSOCK_LISTENERS; i++)
		if (mux->listeners[i].fd >= 0)
			close(mux->listeners[i].fd);
}

int vsock_mux_start(struct vsock_mux *mux, struct loop *loop)
{
	struct vsock_conn *conn;
	int r;

	if (mux->loop)
		return 0;
	r = loop_add(loop, &mux->timer);
	if (r >= 0)
		r = loop_add(loop, &mux->reaper);
	mux->loop = loop;
	if (r < 0) {
		vsock_mux_stop(mux);
		return r;
	}
	listen_again(mux);
	LIST_FOREACH(conn, &mux->conns, link)
		vsock_conn_watch(conn);
	return 0;
}

void vsock_mux_stop(struct vsock_mux *mux)
{
	struct vsock_conn *conn;

	if (!mux->loop)
		return;
	for (unsigned int i = 0; i < VSOCK_LISTENERS; i++)
		loop_remove(mux->loop, &mux->listeners[i]);
	loop_remove(mux->loop, &mux->timer);
	loop_remove(mux->loop, &mux->reaper);
	LIST_FOREACH(conn, &mux->conns, link)
		if (conn->source.armed)
			loop_remove(mux->loop, &conn->source);
	mux->loop = NULL;
}
