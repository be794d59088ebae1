/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzzing of the split queue: rings, descriptors and indirect tables of a
 * hostile driver that goes on writing while the device works
 *
 * The input is a header (features, size, where the rings are, where the
 * indices stand), then a program of operations, then the start of guest RAM.
 * RAM has a hole in it, so that buffers and rings can cross its end.  Whatever
 * the driver does, what the queue hands out must keep its promises (queue.h):
 * they are asserted here, and ASan watches the accesses.
 */
#include <assert.h>
#include <errno.h>
#include <stdint.h>
#include <string.h>

#include "vmm/base/math.h"
#include "vmm/memory/guest-memory.h"
#include "vmm/virtio/device.h"
#include "vmm/virtio/queue.h"

/* Two pages each: RAM, hole, RAM.  16 bits address all of it, and what is behind. */
#define LOW_END    0x2000U
#define HIGH_START 0x4000U
#define HIGH_END   0x6000U
#define SIZE_MAX_  64U

#define IOV_MAX_ (SIZE_MAX_ + 4) /* a buffer that crosses regions has more than one */

struct input {
	const uint8_t *data;
	size_t left;
};

static uint8_t take_u8(struct input *in)
{
	if (in->left == 0)
		return 0;
	in->left--;
	return *in->data++;
}

static uint16_t take_u16(struct input *in)
{
	uint8_t low = take_u8(in);

	return (uint16_t)(low | take_u8(in) << 8);
}

/* What is done to the queue: the device's calls, and the driver's pen. */
enum op {
	OP_POP,
	OP_UNPOP,
	OP_PUSH,
	OP_NOTIFY,
	OP_KICKS_OFF,
	OP_KICKS_ON,
	OP_POKE,
	OP_COPY,
	OP_N_
};

struct run {
	struct virtio_queue q;
	struct guest_mem mem;
	struct virtio_device dev;
	struct virtq_chain chain;
	bool have_chain; /* popped, not given back */
	unsigned int pushed, interrupts;
};

static void count_interrupt(void *transport, struct virtio_queue *q _unused_)
{
	struct run *run = transport;

	run->interrupts++;
	assert(run->interrupts <= run->pushed);
}

static void no_config_interrupt(void *transport _unused_)
{
}

/* Every byte of one part, as iovecs: in RAM, and exactly as many as the chain says. */
static void check_part(const struct run *run, bool writable)
{
	const struct virtq_chain *chain = &run->chain;
	const struct virtq_buf *b = chain->bufs + (writable ? chain->n_readable : 0);
	uint16_t n_bufs = writable ? chain->n_writable : chain->n_readable;
	uint64_t len = writable ? chain->writable_len : chain->readable_len, sum = 0, gpa = 0;
	struct iovec iov[IOV_MAX_];
	size_t n = 0;
	int r;

	for (uint16_t i = 0; i < n_bufs; i++) {
		assert(guest_covers(&run->mem, b[i].gpa, b[i].len));
		sum += b[i].len;
	}
	assert(sum == len && len <= UINT32_MAX);
	r = virtq_chain_iov(&run->q, chain, writable, 0, len, iov, ARRAY_SIZE(iov), &n);
	assert(r == 0);
	sum = 0;
	for (size_t i = 0; i < n; i++) {
		sum += iov[i].iov_len;
		if (iov[i].iov_len > 0) { /* both ends are in RAM, or this faults */
			volatile uint8_t *p = iov[i].iov_base;

			p[iov[i].iov_len - 1] = p[iov[i].iov_len - 1];
			p[0] = p[0];
		}
	}
	assert(sum == len);
	/* The byte behind the end belongs to nobody. */
	r = virtq_chain_gpa(chain, writable, len, &gpa);
	assert(r == -EBADMSG);
	if (len > 0) {
		r = virtq_chain_gpa(chain, writable, len - 1, &gpa);
		assert(r == 0 && guest_covers(&run->mem, gpa, 1));
	}
}

static void pop(struct run *run)
{
	struct virtq_chain chain = { .head = UINT16_MAX };
	struct virtio_queue_state before = run->q.st;
	int r = virtio_queue_pop(&run->q, &chain);

	run->have_chain = false; /* its buffers were valid until now */
	assert(r == 1 || r == 0 || r == -EBADMSG);
	before.next_avail = (uint16_t)(before.next_avail + (r == 1));
	assert(memcmp(&before, &run->q.st, sizeof(before)) == 0);
	if (r != 1) {
		assert(chain.head == UINT16_MAX); /* outputs are untouched */
		return;
	}
	assert(chain.head < run->q.st.size);
	assert(chain.n_readable + chain.n_writable >= 1);
	assert(chain.n_readable + chain.n_writable <= run->q.st.size);
	run->chain = chain;
	run->have_chain = true;
	check_part(run, false);
	check_part(run, true);
}

/* Copies that start and end anywhere: all of it, or -EBADMSG and only past the end. */
static void copy(struct run *run, struct input *in)
{
	uint16_t off = take_u16(in), len = take_u8(in);
	uint8_t buf[UINT8_MAX];
	int r;

	if (!run->have_chain)
		return;
	r = virtq_chain_read(&run->q, &run->chain, off, buf, len);
	assert((r == 0) == range_fits(off, len, run->chain.readable_len));
	memset(buf, 0x5a, len);
	r = virtq_chain_write(&run->q, &run->chain, off, buf, len);
	assert((r == 0) == range_fits(off, len, run->chain.writable_len));
}

static void step(struct run *run, struct input *in)
{
	uint16_t head, n_written;
	uint8_t byte;
	int r;

	switch ((enum op)(take_u8(in) % OP_N_)) {
	case OP_POP:
		pop(run);
		break;
	case OP_UNPOP:
		if (run->have_chain)
			virtio_queue_unpop(&run->q);
		run->have_chain = false;
		break;
	case OP_PUSH:
		head = run->have_chain ? run->chain.head : take_u16(in);
		n_written = take_u16(in);
		virtio_queue_push(&run->q, head, n_written);
		run->have_chain = false;
		run->pushed++;
		break;
	case OP_NOTIFY:
		virtio_queue_notify(&run->q);
		break;
	case OP_KICKS_OFF:
		virtio_queue_kicks_off(&run->q);
		break;
	case OP_KICKS_ON:
		(void)!virtio_queue_kicks_on(&run->q);
		break;
	case OP_POKE: /* outside RAM too: refused */
		byte = take_u8(in);
		r = guest_write(&run->mem, take_u16(in), &byte, 1);
		assert(r == 0 || r == -EFAULT);
		break;
	case OP_COPY:
		copy(run, in);
		break;
	case OP_N_:
		break;
	}
}

static void set_up(struct run *run)
{
	static const struct virtio_transport_ops transport = { count_interrupt,
							       no_config_interrupt };
	static const struct guest_mem_params params = { .size = LOW_END + (HIGH_END - HIGH_START),
							.hole_start = LOW_END,
							.hole_end = HIGH_START };
	int r = guest_mem_init(&run->mem, NULL, &params, NULL);

	assert(r == 0);
	run->dev.mem = &run->mem;
	run->dev.transport = &transport;
	run->dev.transport_data = run;
	r = virtio_queue_init(&run->q, &run->dev, 0, SIZE_MAX_, NULL);
	assert(r == 0);
}

static void fill_ram(struct run *run, struct input *in)
{
	size_t low = MIN(in->left, (size_t)LOW_END);
	size_t high = MIN(in->left - low, (size_t)(HIGH_END - HIGH_START));

	if (guest_fill(&run->mem, 0, 0, LOW_END) < 0 ||
	    guest_fill(&run->mem, HIGH_START, 0, HIGH_END - HIGH_START) < 0 ||
	    guest_write(&run->mem, 0, in->data, low) < 0 ||
	    guest_write(&run->mem, HIGH_START, in->data + low, high) < 0)
		assert(false);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct run run;
	struct input in = { data, size }, program;
	uint64_t features = 0;
	uint8_t flags;
	size_t n;

	if (!run.dev.mem)
		set_up(&run);
	run.have_chain = false;
	run.pushed = run.interrupts = 0;
	flags = take_u8(&in);
	if (flags & 1)
		features |= VIRTIO_FEATURE(VIRTIO_RING_F_INDIRECT_DESC);
	if (flags & 2)
		features |= VIRTIO_FEATURE(VIRTIO_RING_F_EVENT_IDX);
	run.q.st = (struct virtio_queue_state){ .vector = VIRTIO_NO_VECTOR, .enabled = true };
	run.q.st.size = take_u8(&in);
	run.q.st.desc_gpa = take_u16(&in);
	run.q.st.avail_gpa = take_u16(&in);
	run.q.st.used_gpa = take_u16(&in);
	run.q.st.next_avail = take_u16(&in);
	run.q.st.next_used = take_u16(&in);
	n = take_u8(&in);
	program = (struct input){ in.data, MIN(n, in.left) };
	in.data += program.left;
	in.left -= program.left;
	fill_ram(&run, &in);
	if (virtio_queue_start(&run.q, &run.mem, features, NULL) < 0)
		return 0;
	while (program.left > 0)
		step(&run, &program);
	virtio_queue_stop(&run.q);
	return 0;
}
