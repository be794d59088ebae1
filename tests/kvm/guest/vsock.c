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
	uint32_t room;  /* what we say we have */
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
	s.room = BUFFERS * BUFFER;
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
		.buf_alloc = s.room,
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

/* misuse of connections that the host makes: each is ended by RST, and the next one works */

#define PORT     1024
#define QUIET_MS 100
#define FLOOD    400 /* packets, of which no more than the host's buffers are to be taken */
#define PAYLOAD  4000

static struct header host; /* the REQUEST of the connection that is misused */
static bool reset;         /* and whether it has ended */

static bool await_request(void)
{
	const struct header *h;

	do {
		h = receive();
	} while (h && h->op != REQUEST);
	if (!check(h, "a connection of the host's comes"))
		return false;
	host = *h;
	s.taken = 0;
	reset = false;
	return true;
}

static void answer(enum op op, uint32_t flags)
{
	send(op, PORT, host.src_port, NULL, 0, flags);
}

/* takes the next packet, which may be it; false: none came */
static bool look_for_reset(void)
{
	const struct header *h = receive();

	reset = reset || (h && h->op == RST && h->src_port == host.src_port);
	return h;
}

/* whatever else comes first */
static bool await_reset(void)
{
	while (!reset && look_for_reset())
		;
	return reset;
}

static void data_before_response(void)
{
	send(RW, PORT, host.src_port, "early", 5, 0);
}

static void request_back(void)
{
	answer(REQUEST, 0);
}

static void response_twice(void)
{
	answer(RESPONSE, 0);
	answer(RESPONSE, 0);
}

static void request_when_open(void)
{
	answer(RESPONSE, 0);
	answer(REQUEST, 0);
}

static void data_after_shutdown(void)
{
	answer(RESPONSE, 0);
	answer(SHUTDOWN, 2);
	send(RW, PORT, host.src_port, "late", 4, 0);
}

static void unknown_shutdown(void)
{
	answer(RESPONSE, 0);
	answer(SHUTDOWN, 0xfffffff8);
	answer(SHUTDOWN, 3);
}

/* the host does not read, and its buffers have an end */
static void more_than_credit(void)
{
	static uint8_t payload[PAYLOAD];

	answer(RESPONSE, 0);
	for (unsigned int i = 0; i < FLOOD && !reset; i++) {
		send(RW, PORT, host.src_port, payload, PAYLOAD, 0);
		while (!reset && virtqueue_has_used(&s.rx))
			look_for_reset();
	}
}

/* no room, then room for less than nothing: no byte may come */
static void forged_credit(void)
{
	const struct header *h;
	uint32_t taken = s.taken;

	s.room = 0;
	answer(RESPONSE, 0);
	expect(CREDIT_REQUEST, &h);
	s.room = 4096;
	s.taken = 0x80000000; /* as if more had been taken than was ever sent */
	answer(CREDIT_UPDATE, 0);
	check_eq(virtio_wait(&s.dev, &s.rx, QUIET_MS), OUTCOME_NOTHING,
		 "credit that cannot be is none");
	s.taken = taken;
	s.room = 0xffffffff;
	answer(CREDIT_UPDATE, 0);
	check(expect(RW, &h) && h->len == 4, "credit of 4 GiB: what there is comes");
	s.room = BUFFERS * BUFFER;
	answer(SHUTDOWN, 3);
}

static void run_vsock_misuse(void)
{
	static const struct {
		const char *name;
		void (*misuse)(void);
	} cases[] = {
		{ "data before the answer", data_before_response },
		{ "a request in answer to one", request_back },
		{ "two answers", response_twice },
		{ "a request on an open connection", request_when_open },
		{ "data after the end", data_after_shutdown },
		{ "unknown flags of an end", unknown_shutdown },
		{ "more data than there is credit for", more_than_credit },
		{ "forged credit", forged_credit },
	};
	const struct header *h;

	if (!set_up())
		return;
	for (unsigned int i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		if (!await_request())
			return;
		cases[i].misuse();
		check(await_reset(), "%s: RST", cases[i].name);
		check(!(virtio_status(&s.dev) & VIRTIO_NEEDS_RESET), "%s: the device goes on",
		      cases[i].name);
	}
	if (!await_request())
		return;
	answer(RESPONSE, 0);
	check(expect(RW, &h) && h->len == 4, "a good connection works");
	answer(SHUTDOWN, 3);
	check(await_reset(), "and ends");
}

const struct scenario vsock_scenarios[] = {
	{ "vsock", run_vsock },
	{ "vsock-echo", run_vsock_echo },
	{ "vsock-misuse", run_vsock_misuse },
	{ 0 },
};
