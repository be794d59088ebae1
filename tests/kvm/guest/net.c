/* SPDX-License-Identifier: Apache-2.0 */
/*
 * scenarios of virtio-net (virtio 1.3, 5.1): frames that come back, questions that are answered,
 * control queue
 */
#include <stddef.h>

#include "tests/kvm/guest/cpu.h"
#include "tests/kvm/guest/io.h"
#include "tests/kvm/guest/platform.h"
#include "tests/kvm/guest/report.h"
#include "tests/kvm/guest/scenario.h"
#include "tests/kvm/guest/virtio.h"

#define NET_F_MAC      (1ULL << 5)
#define NET_F_CTRL_VQ  (1ULL << 17)
#define NET_F_MQ       (1ULL << 22)
#define NET_F_STATUS   (1ULL << 16)
#define NET_CFG_STATUS 6
#define NET_CFG_PAIRS  8
#define CTRL_MQ        4
#define CTRL_MQ_SET    0
#define CTRL_NO_SUCH   0xee
#define CTRL_OK        0
#define CTRL_ERR       1
#define QUEUE_SIZE     16
#define RX_BUFFERS     8
#define RX_LEN         2048
#define VNET_HEADER    12
#define FRAME_MIN      60
#define FRAME_MAX      1514
#define ETHERTYPE_HIGH 0x88
#define ETHERTYPE_LOW  0xb5
#define NET_MS         5000

struct net {
	struct virtio_device dev;
	struct virtqueue rx, tx, ctrl;
	uint8_t *rx_buffer[RX_BUFFERS];
	uint8_t *tx_buffer;
	uint8_t mac[6];
};

static struct net net;

static bool net_open(uint64_t features)
{
	if (!virtio_find(VIRTIO_NET, (unsigned int)arg_u64("nth", 0), &net.dev)) {
		skip("no virtio-net device");
		return false;
	}
	if (!virtio_negotiate(&net.dev, features | NET_F_MAC))
		return check(false, "net device accepts features 0x%lx", net.dev.features);
	if (!virtqueue_setup(&net.dev, &net.rx, 0, QUEUE_SIZE) ||
	    !virtqueue_setup(&net.dev, &net.tx, 1, QUEUE_SIZE))
		return check(false, "net queues exist");
	for (unsigned int i = 0; i < 6; i++)
		net.mac[i] = mmio_read8(net.dev.region[REGION_CONFIG] + i);
	net.tx_buffer = alloc_pages(1);
	for (unsigned int i = 0; i < RX_BUFFERS; i += 2) {
		net.rx_buffer[i] = alloc_pages(1);
		net.rx_buffer[i + 1] = net.rx_buffer[i] + RX_LEN;
	}
	return true;
}

static void post_rx(unsigned int i)
{
	const struct segment segment = { net.rx_buffer[i], RX_LEN, true };

	virtqueue_add(&net.rx, &segment, 1);
}

/* broadcast from our address, then a sequence number and bytes that depend on it */
static void build_frame(uint8_t *frame, uint32_t len, uint32_t sequence)
{
	for (unsigned int i = 0; i < 6; i++) {
		frame[i] = 0xff;
		frame[6 + i] = net.mac[i];
	}
	frame[12] = ETHERTYPE_HIGH;
	frame[13] = ETHERTYPE_LOW;
	for (uint32_t i = 14; i < len; i++)
		frame[i] = (uint8_t)(sequence + i);
}

static bool send_frame(uint32_t len)
{
	const struct segment segment = { net.tx_buffer, VNET_HEADER + len, false };
	struct virtq_used_elem used;

	if (virtqueue_add(&net.tx, &segment, 1) < 0)
		return false;
	virtqueue_kick(&net.tx);
	return virtio_wait(&net.dev, &net.tx, NET_MS) == OUTCOME_USED &&
	       virtqueue_take(&net.tx, &used);
}

/* buffer @i went out last as descriptor @id: with equal single-descriptor chains id tells which */
static unsigned int buffer_of(uint32_t id)
{
	for (unsigned int i = 0; i < RX_BUFFERS; i++)
		if (net.rx.desc[id].addr == (uint64_t)net.rx_buffer[i])
			return i;
	return 0;
}

/* true when the frame just sent comes back; what others sent is put aside */
static bool expect_echo(uint32_t len)
{
	struct virtq_used_elem used;

	while (virtio_wait(&net.dev, &net.rx, NET_MS) == OUTCOME_USED &&
	       virtqueue_take(&net.rx, &used)) {
		const uint8_t *buffer;
		unsigned int i;
		bool same;

		if (used.id >= net.rx.size)
			return false;
		i = buffer_of(used.id);
		buffer = net.rx_buffer[i];
		/* short frames may come back padded to the Ethernet minimum */
		same = used.len >= VNET_HEADER + len &&
		       memcmp(buffer + VNET_HEADER, net.tx_buffer + VNET_HEADER, len) == 0;
		post_rx(i);
		virtqueue_kick(&net.rx);
		if (same)
			return true;
	}
	return false;
}

static void run_net_loop(void)
{
	uint32_t count = (uint32_t)arg_u64("count", 16), sent = 0, back = 0;

	if (!net_open(0))
		return;
	for (unsigned int i = 0; i < RX_BUFFERS; i++)
		post_rx(i);
	virtio_driver_ok(&net.dev);
	virtqueue_kick(&net.rx);
	info("mac %02x:%02x:%02x:%02x:%02x:%02x features 0x%lx", net.mac[0], net.mac[1], net.mac[2],
	     net.mac[3], net.mac[4], net.mac[5], net.dev.offered);
	for (uint32_t i = 0; i < count; i++) {
		uint32_t len = i & 1 ? FRAME_MIN + i : FRAME_MIN + i * 97 % (FRAME_MAX - FRAME_MIN);

		if (len > FRAME_MAX)
			len = FRAME_MAX;
		memset(net.tx_buffer, 0, VNET_HEADER);
		build_frame(net.tx_buffer + VNET_HEADER, len, i);
		if (!send_frame(len))
			break;
		sent++;
		if (!expect_echo(len))
			break;
		back++;
	}
	check_eq(sent, count, "frames sent");
	check_eq(back, count, "frames that came back the same");
}

#define ARP_LEN   42
#define ARP_ASK   1
#define ARP_REPLY 2
#define ARP_MS    100

/* who has ip?  RFC 826; we are 0.0.0.0, as a probe is (RFC 5227) */
static void build_arp(uint8_t *frame, uint32_t ip)
{
	static const uint8_t head[] = { 0x08, 0x06, 0, 1, 0x08, 0, 6, 4, 0, ARP_ASK };

	memset(frame, 0, ARP_LEN);
	memset(frame, 0xff, 6);
	for (unsigned int i = 0; i < sizeof(head); i++)
		frame[12 + i] = head[i];
	for (unsigned int i = 0; i < 6; i++)
		frame[6 + i] = frame[22 + i] = net.mac[i];
	frame[28] = 10; /* our own address: any but the one that is asked for */
	frame[31] = 77;
	for (unsigned int i = 0; i < 4; i++)
		frame[38 + i] = (uint8_t)(ip >> (24 - 8 * i));
}

/* What came in within some time: true when an answer was among it. */
static bool take_answer(void)
{
	struct virtq_used_elem used;
	bool answer = false;

	while (virtio_wait(&net.dev, &net.rx, ARP_MS) == OUTCOME_USED &&
	       virtqueue_take(&net.rx, &used)) {
		const uint8_t *frame;
		unsigned int i;

		if (used.id >= net.rx.size)
			return false;
		i = buffer_of(used.id);
		frame = net.rx_buffer[i] + VNET_HEADER;
		answer |= used.len >= VNET_HEADER + ARP_LEN && frame[12] == 0x08 &&
			  frame[13] == 0x06 && frame[21] == ARP_REPLY;
		post_rx(i);
		virtqueue_kick(&net.rx);
	}
	return answer;
}

static void run_net_arp(void)
{
	uint32_t count = (uint32_t)arg_u64("count", 1), ip = (uint32_t)arg_u64("ip", 0);
	uint32_t tries = (uint32_t)arg_u64("tries", 100), answers = 0;
	uint16_t status = 0xffff, now;

	if (!net_open(NET_F_STATUS))
		return;
	for (unsigned int i = 0; i < RX_BUFFERS; i++)
		post_rx(i);
	virtio_driver_ok(&net.dev);
	virtqueue_kick(&net.rx);
	for (uint32_t i = 0; count == 0 || (answers < count && i < tries); i++) {
		now = mmio_read16(net.dev.region[REGION_CONFIG] + NET_CFG_STATUS);
		if (now != status)
			info("link %s", now & 1 ? "up" : "down");
		status = now;
		memset(net.tx_buffer, 0, VNET_HEADER);
		build_arp(net.tx_buffer + VNET_HEADER, ip);
		if (!send_frame(ARP_LEN))
			break;
		if (take_answer() && answers++ == 0)
			info("answered");
	}
	check_eq(answers, count, "questions answered");
}

/* one command on the control queue; the ack byte or -1 */
static int command(uint8_t class, uint8_t code, uint16_t value)
{
	static struct {
		uint8_t class, code;
		uint16_t value;
	} __attribute__((packed)) request;
	static volatile uint8_t ack;
	const struct segment chain[] = {
		{ &request, 2, false },
		{ (uint8_t *)&request + 2, 2, false },
		{ (const void *)&ack, 1, true },
	};
	struct virtq_used_elem used;

	request.class = class;
	request.code = code;
	request.value = value;
	ack = 0xee;
	if (virtqueue_add(&net.ctrl, chain, 3) < 0)
		return -1;
	virtqueue_kick(&net.ctrl);
	if (virtio_wait(&net.dev, &net.ctrl, NET_MS) != OUTCOME_USED ||
	    !virtqueue_take(&net.ctrl, &used))
		return -1;
	return ack;
}

static void run_net_ctrl(void)
{
	uint16_t pairs = 1;

	if (!net_open(NET_F_CTRL_VQ | NET_F_MQ))
		return;
	if (!(net.dev.features & NET_F_CTRL_VQ)) {
		skip("VIRTIO_NET_F_CTRL_VQ not offered");
		return;
	}
	if (net.dev.features & NET_F_MQ)
		pairs = mmio_read16(net.dev.region[REGION_CONFIG] + NET_CFG_PAIRS);
	info("%u queue pairs, %u queues", pairs, net.dev.n_queues);
	if (!check(virtqueue_setup(&net.dev, &net.ctrl, (uint16_t)(2 * pairs), QUEUE_SIZE),
		   "control queue exists"))
		return;
	virtio_driver_ok(&net.dev);
	check_eq((uint64_t)command(CTRL_NO_SUCH, 0, 0), CTRL_ERR, "unknown class refused");
	if (!(net.dev.features & NET_F_MQ)) {
		skip("VIRTIO_NET_F_MQ not offered");
		return;
	}
	check_eq((uint64_t)command(CTRL_MQ, CTRL_MQ_SET, 1), CTRL_OK, "one pair");
	check_eq((uint64_t)command(CTRL_MQ, CTRL_MQ_SET, 0), CTRL_ERR, "no pair refused");
	check_eq((uint64_t)command(CTRL_MQ, CTRL_MQ_SET, (uint16_t)(pairs + 1)), CTRL_ERR,
		 "one pair too many refused");
	check_eq((uint64_t)command(CTRL_MQ, 0x77, 1), CTRL_ERR, "unknown command refused");
}

const struct scenario net_scenarios[] = {
	{ "net-loop", run_net_loop },
	{ "net-arp", run_net_arp },
	{ "net-ctrl", run_net_ctrl },
	{ 0 },
};
