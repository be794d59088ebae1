/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/base/mailbox.h"

#include <errno.h>
#include <glib.h>
#include <poll.h>

#include "vmm/base/fd.h"
#include "vmm/base/thread.h"

#define CALLS 500

static void wait_for_mail(struct mailbox *box)
{
	struct pollfd p = { .fd = box->fd, .events = POLLIN };

	g_assert_cmpint(poll(&p, 1, 5000), ==, 1);
}

struct caller {
	struct thread thread;
	struct mailbox *box;
	unsigned int *shared; /* control thread's; no lock needed */
	int r, wanted;
	unsigned int n_ok, n_closed;
};

static int count_up(void *data)
{
	struct caller *c = data;

	g_assert_cmpint(thread_get_role(), !=, THREAD_ROLE_VCPU);
	(*c->shared)++;
	return c->wanted;
}

static void call_often(void *data)
{
	struct caller *c = data;

	for (int i = 0; i < CALLS; i++) {
		c->wanted = i;
		c->r = mailbox_call(c->box, count_up, c);
		if (c->r == i)
			c->n_ok++;
		else if (c->r == -ESHUTDOWN)
			c->n_closed++;
	}
}

static void start(struct caller *c, struct mailbox *box, unsigned int *shared)
{
	*c = (struct caller){ .box = box, .shared = shared };
	c->thread = (struct thread){
		.name = "vcpu", .role = THREAD_ROLE_VCPU, .run = call_often, .data = c
	};
	g_assert_cmpint(thread_start(&c->thread, NULL), ==, 0);
}

static void test_call(void)
{
	struct caller callers[3];
	struct mailbox box;
	unsigned int n = 0;

	g_assert_cmpint(mailbox_init(&box, NULL), ==, 0);
	for (size_t i = 0; i < G_N_ELEMENTS(callers); i++)
		start(&callers[i], &box, &n);
	while (n < G_N_ELEMENTS(callers) * CALLS) {
		wait_for_mail(&box);
		mailbox_drain(&box);
	}
	for (size_t i = 0; i < G_N_ELEMENTS(callers); i++) {
		thread_join(&callers[i].thread);
		g_assert_cmpuint(callers[i].n_ok, ==, CALLS);
	}
	mailbox_deinit(&box);
}

/* Closing it frees whoever waits; a call that is running is finished. */
static void test_close(void)
{
	struct caller callers[3];
	struct mailbox box;
	unsigned int n = 0, served = 0;

	g_assert_cmpint(mailbox_init(&box, NULL), ==, 0);
	for (size_t i = 0; i < G_N_ELEMENTS(callers); i++)
		start(&callers[i], &box, &n);
	while (n < 50) {
		wait_for_mail(&box);
		mailbox_drain(&box);
	}
	mailbox_close(&box);
	for (size_t i = 0; i < G_N_ELEMENTS(callers); i++) {
		thread_join(&callers[i].thread);
		served += callers[i].n_ok;
		g_assert_cmpuint(callers[i].n_ok + callers[i].n_closed, ==, CALLS);
		g_assert_cmpuint(callers[i].n_closed, >, 0);
	}
	g_assert_cmpuint(n, ==, served);
	mailbox_drain(&box); /* nothing dangling is left */
	mailbox_deinit(&box);
	mailbox_deinit(&box);
}

static void test_on_control(void)
{
	struct mailbox box;
	unsigned int n = 0;
	struct caller c = { .box = &box, .shared = &n, .wanted = 7 };

	g_assert_cmpint(mailbox_init(&box, NULL), ==, 0);
	g_assert_cmpint(mailbox_call(&box, count_up, &c), ==, 7);
	g_assert_cmpuint(n, ==, 1);
	mailbox_deinit(&box);
}

struct note {
	struct message message;
	struct mailbox *box;
	unsigned int n;
	bool again;
};

static void on_note(struct message *message)
{
	struct note *note = container_of(message, struct note, message);

	note->n++;
	if (note->again) {
		note->again = false;
		mailbox_post(note->box, message);
	}
}

static void test_post(void)
{
	struct mailbox box;
	struct note a = { .message.fn = on_note, .box = &box },
		    b = { .message.fn = on_note, .box = &box };

	g_assert_cmpint(mailbox_init(&box, NULL), ==, 0);
	mailbox_post(&box, &a.message);
	mailbox_post(&box, &a.message); /* still queued: nothing */
	mailbox_post(&box, &b.message);
	wait_for_mail(&box);
	mailbox_drain(&box);
	g_assert_cmpuint(a.n, ==, 1);
	g_assert_cmpuint(b.n, ==, 1);
	/* Posted again from its own callback. */
	a.again = true;
	mailbox_post(&box, &a.message);
	mailbox_drain(&box);
	g_assert_cmpuint(a.n, ==, 3);
	mailbox_drain(&box);
	g_assert_cmpuint(a.n, ==, 3);
	mailbox_deinit(&box);
}

struct poster {
	struct thread thread;
	struct note *note;
};

static void post_often(void *data)
{
	struct poster *p = data;

	for (int i = 0; i < 1000; i++)
		mailbox_post(p->note->box, &p->note->message);
}

static void test_post_from_threads(void)
{
	struct mailbox box;
	struct note note = { .message.fn = on_note, .box = &box };
	struct poster posters[2];

	g_assert_cmpint(mailbox_init(&box, NULL), ==, 0);
	for (size_t i = 0; i < G_N_ELEMENTS(posters); i++) {
		posters[i].note = &note;
		posters[i].thread = (struct thread){
			.name = "io", .role = THREAD_ROLE_IO, .run = post_often, .data = &posters[i]
		};
		g_assert_cmpint(thread_start(&posters[i].thread, NULL), ==, 0);
	}
	for (int i = 0; i < 100; i++)
		mailbox_drain(&box);
	for (size_t i = 0; i < G_N_ELEMENTS(posters); i++)
		thread_join(&posters[i].thread);
	mailbox_drain(&box);
	g_assert_cmpuint(note.n, >, 0);
	g_assert_false(note.message.queued);
	mailbox_deinit(&box);
}

/* Owners of messages go one by one when a machine ends, and the last may still post. */
static void test_post_after_close(void)
{
	struct message *gone = g_new0(struct message, 1), last = { 0 };
	struct mailbox box;

	g_assert_cmpint(mailbox_init(&box, NULL), ==, 0);
	mailbox_post(&box, gone);
	mailbox_close(&box);
	g_free(gone);
	mailbox_post(&box, &last);
	g_assert_false(last.queued);
	mailbox_deinit(&box);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/base/mailbox/call", test_call);
	g_test_add_func("/base/mailbox/close", test_close);
	g_test_add_func("/base/mailbox/on-control", test_on_control);
	g_test_add_func("/base/mailbox/post", test_post);
	g_test_add_func("/base/mailbox/post-from-threads", test_post_from_threads);
	g_test_add_func("/base/mailbox/post-after-close", test_post_after_close);
	return g_test_run();
}
