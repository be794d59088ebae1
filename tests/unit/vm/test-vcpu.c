/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Parking and releasing vCPUs that run on the fake hypervisor
 */
#include "vmm/vm/vcpu.h"

#include <errno.h>
#include <glib.h>
#include <poll.h>
#include <string.h>

#include "tests/lib/fake-hypervisor.h"
#include "vmm/base/err.h"
#include "vmm/base/mailbox.h"
#include "vmm/bus/bus.h"

#define N      4U
#define ROUNDS 1000

struct fixture {
	struct fake_hv *hv;
	struct bus pio, mmio;
	struct bus_device port;
	struct mailbox box;
	struct vcpu_set set;
	atomic_uint accesses, calls, exits;
	unsigned int posted; /* control thread */
	struct message message;
	bool stand; /* the port makes the vCPU stand */
	uint8_t data[1];
};

static int on_call(void *data)
{
	struct fixture *f = data;

	g_assert_cmpint(thread_get_role(), !=, THREAD_ROLE_VCPU);
	atomic_fetch_add(&f->calls, 1);
	return 0;
}

static void on_message(struct message *message)
{
	container_of(message, struct fixture, message)->posted++;
}

static void port_read(struct bus_device *dev G_GNUC_UNUSED, uint64_t off G_GNUC_UNUSED, void *data,
		      uint32_t len)
{
	memset(data, 0, len);
}

/* What a device does that hands something to the control thread. */
static void port_write(struct bus_device *dev, uint64_t off G_GNUC_UNUSED,
		       const void *data G_GNUC_UNUSED, uint32_t len G_GNUC_UNUSED)
{
	struct fixture *f = container_of(dev, struct fixture, port);

	if (f->stand) {
		vcpu_stand();
		mailbox_post(&f->box, &f->message);
	} else {
		g_assert_cmpint(mailbox_call(&f->box, on_call, f), ==, 0);
	}
	atomic_fetch_add(&f->accesses, 1);
}

static const struct bus_ops port_ops = { "port", port_read, port_write };

static void on_exit_(struct vcpu *vcpu G_GNUC_UNUSED, const struct hv_exit *exit G_GNUC_UNUSED,
		     void *data)
{
	struct fixture *f = data;

	atomic_fetch_add(&f->exits, 1);
	mailbox_post(&f->box, &f->message);
}

static void setup(struct fixture *f)
{
	struct err err = { 0 };

	*f = (struct fixture){ .hv = fake_hv_new(),
			       .port.ops = &port_ops,
			       .message.fn = on_message };
	bus_init(&f->pio, 65536);
	bus_init(&f->mmio, 0);
	if (mailbox_init(&f->box, &err) < 0 || bus_add(&f->pio, &f->port, 0x10, 1, &err) < 0 ||
	    vcpu_set_init(&f->set, N, &f->pio, &f->mmio, &f->box, &err) < 0)
		g_error("%s", err.msg);
	f->set.on_exit = on_exit_;
	f->set.data = f;
	for (uint32_t i = 0; i < N; i++)
		g_assert_cmpint(fake_hv_vm(f->hv)->ops->vcpu_create(fake_hv_vm(f->hv), i, i,
								    &f->set.vcpus[i].hv, &err),
				==, 0);
	for (uint32_t i = 0; i < N; i++)
		f->set.vcpus[i].present = true;
	if (vcpu_set_start(&f->set, &(struct vcpu_start){ 0 }, &err) < 0)
		g_error("%s", err.msg);
	g_assert_true(f->set.hold);
}

static void teardown(struct fixture *f)
{
	vcpu_set_deinit(&f->set);
	bus_remove(&f->pio, &f->port);
	bus_deinit(&f->pio);
	bus_deinit(&f->mmio);
	mailbox_deinit(&f->box);
	fake_hv_free(f->hv);
}

static void push(struct fixture *f, uint32_t vcpu, enum hv_exit_kind kind)
{
	const struct hv_exit exit = {
		.kind = kind, .write = true, .addr = 0x10, .len = 1, .count = 1, .data = f->data
	};

	fake_vcpu_push_exit(f->set.vcpus[vcpu].hv, &exit);
}

static void drain_until(struct fixture *f, atomic_uint *counter, unsigned int n)
{
	struct pollfd p = { .fd = f->box.fd, .events = POLLIN };

	while (atomic_load(counter) < n) {
		poll(&p, 1, 10); /* the counter moves after the mail */
		mailbox_drain(&f->box);
	}
}

/* Each round every vCPU is, or is about to be, in mailbox_call while it is to park. */
static void test_park_while_calling(void)
{
	struct fixture f;

	setup(&f);
	for (unsigned int round = 1; round <= ROUNDS; round++) {
		for (uint32_t i = 0; i < N; i++)
			push(&f, i, HV_EXIT_PIO);
		vcpu_set_release(&f.set);
		g_assert_false(f.set.hold);
		vcpu_set_park(&f.set);
		g_assert_true(f.set.hold);
		/* None stays in a device: as many calls were answered as were made. */
		g_assert_cmpuint(atomic_load(&f.calls), ==, atomic_load(&f.accesses));
		if (round % 4 == 0) { /* the fake takes a kick before an exit: empty its list */
			vcpu_set_release(&f.set);
			drain_until(&f, &f.accesses, N * round);
			vcpu_set_park(&f.set);
		}
	}
	g_assert_cmpuint(atomic_load(&f.calls), ==, N * ROUNDS);
	teardown(&f);
}

static void test_park_twice(void)
{
	struct fixture f;

	setup(&f);
	vcpu_set_park(&f.set);
	for (int i = 0; i < ROUNDS; i++) {
		vcpu_set_release(&f.set);
		vcpu_set_park(&f.set);
		vcpu_set_park(&f.set);
	}
	vcpu_set_release(&f.set);
	vcpu_set_release(&f.set);
	teardown(&f); /* ends running ones */
}

/* A reset that a guest asks for while the machine is being paused is not lost. */
static void test_requests_are_kept(void)
{
	struct fixture f;

	setup(&f);
	for (unsigned int round = 1; round <= 100; round++) {
		push(&f, round % N, HV_EXIT_SHUTDOWN);
		vcpu_set_release(&f.set);
		vcpu_set_park(&f.set);
		vcpu_set_release(&f.set);
		drain_until(&f, &f.exits, round);
		vcpu_set_park(&f.set);
		mailbox_drain(&f.box);
		g_assert_cmpuint(f.posted, ==, round);
	}
	teardown(&f);
}

/* The one that asked for the end of this run does not run again before a release. */
static void test_stand(void)
{
	struct fixture f;

	setup(&f);
	f.stand = true;
	push(&f, 2, HV_EXIT_PIO);
	push(&f, 2, HV_EXIT_PIO);
	vcpu_set_release(&f.set);
	drain_until(&f, &f.accesses, 1);
	for (uint32_t i = 0; i < 50; i++) { /* the others go on; 2 stands */
		push(&f, 1, HV_EXIT_SHUTDOWN);
		drain_until(&f, &f.exits, i + 1);
	}
	g_assert_cmpuint(atomic_load(&f.accesses), ==, 1);
	vcpu_set_park(&f.set);
	vcpu_set_release(&f.set);
	drain_until(&f, &f.accesses, 2);
	teardown(&f);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/vm/vcpu/park-while-calling", test_park_while_calling);
	g_test_add_func("/vm/vcpu/park-twice", test_park_twice);
	g_test_add_func("/vm/vcpu/requests-are-kept", test_requests_are_kept);
	g_test_add_func("/vm/vcpu/stand", test_stand);
	return g_test_run();
}
