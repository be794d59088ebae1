/* SPDX-License-Identifier: Apache-2.0 */
/*
 * scenarios of virtio-vsock (virtio 1.3, 5.10): a connection to the host, and an echo for the host
 */
#include <stddef.h>

#include "tests/kvm/guest/cpu.h"
#include "tests/kvm/guest/platform.h"
#include "tests/kvm/guest/report.h"
#include "tests/kvm/guest/scenario.h"
#include "tests/kvm/guest/virtio.h"

#define QUEUE_SIZE 16
#define BUFFERS    8
#define BUFFER     4096
#define HEADER     44
#define WAIT_MS    10000

enum op {
	REQUEST = 1,
	RESPONSE,
	RST,
	SHUTDOWN,
	RW,
	CREDIT_UPDATE,
	CREDIT_REQUEST
};

struct header {
	uint64_t src_cid, dst_cid;
	uint32_t src_port, dst_port, len;
	uint16_t type, op;
	uint32_t flags, buf_alloc, fwd_cnt;
} __attribute__((packed));

struct socket {
	struct virtio_device dev;
	struct virtqueue rx, tx;
	uint8_t *buffers, *out;
	uint64_t cid;
	uint32_t taken; /* bytes that came */
};

static struct socket s;

static bool set_up(void)
{
	if (!virtio_find(VIRTIO_VSOCK, 0, &s.dev)) {
		skip("no virtio-vsock device");
		return false;
	}
	s.buffers = alloc_pages(BUFFERS);
	s.out = alloc_pages(1);
	if (!check(virtio_negotiate(&s.dev, 0) && virtqueue_setup(&s.dev, &s.rx, 0, QUEUE_SIZE) &&
			   virtqueue_setup(&s.dev, &s.tx, 1, QUEUE_SIZE),
		   "set up"))
		return false;
	s.cid = *(volatile uint64_t *)s.dev.region[REGION_CONFIG];
	for (unsigned int i = 0; i < BUFFERS; i++) {
		const struct segment segment = { s.buffers + i * BUFFER, BUFFER, true };

		virtqueue_add(&s.rx, &segment, 1);
	}
	virtio_driver_ok(&s.dev);
	virtqueue_kick(&s.rx);
	return true;
}

static void send(enum op op, uint32_t port, uint32_t host, const void *data, uint32_t len,
		 uint32_t flags)
{
	struct header *h = (struct header *)s.out;
	const struct segment segment = { s.out, HEADER + len, false };
	const uint8_t *from = data;
	struct virtq_used_elem used;

	*h = (struct header){
		.src_cid = s.cid,
		.dst_cid = 2,
		.src_port = port,
		.dst_port = host,
		.len = len,
		.type = 1,
		.op = (uint16_t)op,
		.flags = flags,
		.buf_alloc = BUFFERS * BUFFER,
		.fwd_cnt = s.taken,
	};
	for (uint32_t i = 0; i < len; i++)
		s.out[HEADER + i] = from[i];
	virtqueue_add(&s.tx, &segment, 1);
	virtqueue_kick(&s.tx);
	if (virtio_wait(&s.dev, &s.tx, WAIT_MS) == OUTCOME_USED)
		virtqueue_take(&s.tx, &used);
}

/* the next packet, in memory of ours; NULL: none came */
static const struct header *receive(void)
{
	static uint8_t copy[BUFFER];
	struct virtq_used_elem used;
	const uint8_t *from;
	struct segment segment = { NULL, BUFFER, true };

	if (virtio_wait(&s.dev, &s.rx, WAIT_MS) != OUTCOME_USED || !virtqueue_take(&s.rx, &used))
		return NULL;
	from = (const uint8_t *)s.rx.desc[used.id].addr;
	for (uint32_t i = 0; i < used.len && i < BUFFER; i++)
		copy[i] = from[i];
	segment.buffer = from;
	virtqueue_add(&s.rx, &segment, 1);
	virtqueue_kick(&s.rx);
	s.taken += ((struct header *)copy)->len;
	return (const struct header *)copy;
}

static bool expect(enum op op, const struct header **ret)
{
	const struct header *h;

	do {
		h = receive();
	} while (h && h->op == CREDIT_UPDATE && op != CREDIT_UPDATE);
	*ret = h;
	return check(h && h->op == op, "packet %u comes (%u)", op, h ? h->op : 0);
}

/* connects to port=N (80) of the host, which is to echo */
static void run_vsock(void)
{
	uint32_t host = (uint32_t)arg_u64("port", 80);
	const struct header *h;
	const char *data;

	if (!set_up())
		return;
	info("cid %lu", s.cid);
	send(REQUEST, 1024, host, NULL, 0, 0);
	if (arg_u64("refused", 0)) {
		expect(RST, &h);
		return;
	}
	if (!expect(RESPONSE, &h))
		return;
	send(RW, 1024, host, "ping", 4, 0);
	if (!expect(RW, &h))
		return;
	data = (const char *)h + HEADER;
	check(h->len == 4 && data[0] == 'p' && data[3] == 'g', "the echo");
	send(SHUTDOWN, 1024, host, NULL, 0, 3);
	expect(RST, &h);
}

/* accepts count=N (1) connections from the host, one after the other, and echoes */
static void run_vsock_echo(void)
{
	uint32_t count = (uint32_t)arg_u64("count", 1);
	const struct header *h;

	if (!set_up())
		return;
	info("listening");
	while (count > 0 && (h = receive())) {
		uint32_t host = h->src_port, port = h->dst_port, flags = h->flags;

		if (h->op == REQUEST) {
			s.taken = 0;
			send(RESPONSE, port, host, NULL, 0, 0);
		} else if (h->op == RW) {
			send(RW, port, host, (const uint8_t *)h + HEADER, h->len, 0);
		} else if (h->op == SHUTDOWN) {
			send(flags == 3 ? RST : SHUTDOWN, port, host, NULL, 0, 3);
			count -= flags == 3;
			if (flags != 3)
				count -= expect(RST, &h);
		}
	}
	check_eq(count, 0, "all connections came and went");
}

const struct scenario vsock_scenarios[] = {
	{ "vsock", run_vsock },
	{ "vsock-echo", run_vsock_echo },
	{ 0 },
};
