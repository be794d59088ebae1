/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/base/loop.h"

#include <errno.h>
#include <glib.h>
#include <poll.h>
#include <string.h>
#include <sys/epoll.h>

#include "vmm/base/err.h"
#include "vmm/base/fd.h"

/* Counts what its eventfd tells, and answers on another one. */
struct counter {
	struct loop *loop;
	struct loop_source source;
	struct loop_source *remove; /* removed in the callback, when set */
	int answer_fd;
	unsigned int n; /* loop's thread */
	int r;
};

static void on_event(struct loop_source *source, uint32_t events)
{
	struct counter *c = source->data;

	g_assert_cmphex(events, ==, EPOLLIN);
	g_assert_cmpint(thread_get_role(), ==, THREAD_ROLE_IO);
	g_assert_true(eventfd_take(source->fd));
	c->n++;
	if (c->remove)
		loop_remove(c->loop, c->remove);
	eventfd_signal(c->answer_fd);
}

static void add(void *data)
{
	struct counter *c = data;

	c->r = loop_add(c->loop, &c->source);
}

static void remove_it(void *data)
{
	struct counter *c = data;

	loop_remove(c->loop, &c->source);
	loop_remove(c->loop, &c->source); /* twice is harmless */
}

static void counter_init(struct counter *c, struct loop *loop)
{
	*c = (struct counter){ .loop = loop, .answer_fd = eventfd_new() };
	c->source = (struct loop_source){
		.fd = eventfd_new(), .events = EPOLLIN, .fn = on_event, .data = c
	};
	loop_call(loop, add, c);
	g_assert_cmpint(c->r, ==, 0);
}

static void counter_deinit(struct counter *c)
{
	loop_call(c->loop, remove_it, c);
	close(c->source.fd);
	close(c->answer_fd);
}

static bool answered(struct counter *c, int timeout_ms)
{
	struct pollfd p = { .fd = c->answer_fd, .events = POLLIN };

	return poll(&p, 1, timeout_ms) == 1 && eventfd_take(c->answer_fd);
}

static void test_events(void)
{
	struct counter a, b;
	struct loop loop;

	g_assert_cmpint(loop_start(&loop, "io", NULL, NULL), ==, 0);
	counter_init(&a, &loop);
	counter_init(&b, &loop);
	for (unsigned int i = 1; i <= 100; i++) {
		eventfd_signal(a.source.fd);
		g_assert_true(answered(&a, 5000));
	}
	eventfd_signal(b.source.fd);
	g_assert_true(answered(&b, 5000));
	loop_call(&loop, remove_it, &b);
	eventfd_signal(b.source.fd);
	g_assert_false(answered(&b, 10));
	counter_deinit(&a);
	counter_deinit(&b);
	g_assert_cmpuint(a.n, ==, 100);
	g_assert_cmpuint(b.n, ==, 1);
	loop_stop(&loop);
	loop_stop(&loop); /* twice is harmless */
}

/* Of two sources that are ready in one batch, the first removes the second. */
static void test_remove_in_callback(void)
{
	struct counter a, b;
	struct loop loop;

	g_assert_cmpint(loop_start(&loop, "io", NULL, NULL), ==, 0);
	counter_init(&a, &loop);
	counter_init(&b, &loop);
	a.remove = &b.source;
	b.remove = &a.source;
	loop_park(&loop);
	eventfd_signal(a.source.fd);
	eventfd_signal(b.source.fd);
	loop_unpark(&loop);
	g_assert_true(answered(&a, 100) || answered(&b, 5000));
	loop_park(&loop);
	g_assert_cmpuint(a.n + b.n, ==, 1);
	loop_unpark(&loop);
	counter_deinit(&a);
	counter_deinit(&b);
	loop_stop(&loop);
}

struct batch {
	struct counter first, second;
	struct thread helper;
	int go_fd;
	unsigned int stale; /* loop's thread */
};

static void hold_up(struct loop_source *source, uint32_t events G_GNUC_UNUSED)
{
	struct batch *b = source->data;
	struct pollfd p = { .fd = b->go_fd, .events = POLLIN };

	eventfd_take(source->fd);
	eventfd_signal(b->first.answer_fd);
	g_assert_cmpint(poll(&p, 1, 5000), ==, 1);
}

static void make_holder(void *data)
{
	struct batch *b = data;

	b->first.source.fn = hold_up;
	b->first.source.data = b;
}

static void on_stale(struct loop_source *source, uint32_t events G_GNUC_UNUSED)
{
	((struct batch *)source->data)->stale++;
}

/* What the caller of loop_call() does with a source that it has removed: uses its memory again. */
static void remove_and_reuse(void *data)
{
	struct batch *b = data;

	loop_remove(b->second.loop, &b->second.source);
	b->second.source.fn = on_stale;
	b->second.source.data = b;
	b->second.source.armed = true;
}

static void helper_run(void *data)
{
	struct batch *b = data;
	struct pollfd p = { .fd = b->first.loop->wake_fd, .events = POLLIN };

	g_assert_cmpint(poll(&p, 1, 5000), ==, 1); /* the call is waiting */
	eventfd_signal(b->second.source.fd);
	eventfd_signal(b->go_fd);
}

/*
 * The loop is held up while first a call and then an event arrive, so that both
 * are in the next batch.  The call removes the source of the event, which has been
 * served before: were it an edge, it would not be told again.
 */
static void test_call_removes_source_of_batch(void)
{
	struct batch b = { .go_fd = eventfd_new() };
	struct loop loop;

	g_assert_cmpint(loop_start(&loop, "io", NULL, NULL), ==, 0);
	counter_init(&b.first, &loop);
	counter_init(&b.second, &loop);
	loop_call(&loop, make_holder, &b);
	eventfd_signal(b.first.source.fd);
	g_assert_true(answered(&b.first, 5000));
	b.helper = (struct thread){
		.name = "helper", .role = THREAD_ROLE_IO, .run = helper_run, .data = &b
	};
	g_assert_cmpint(thread_start(&b.helper, NULL), ==, 0);
	loop_call(&loop, remove_and_reuse, &b);
	thread_join(&b.helper);
	loop_park(&loop); /* the batch is over */
	g_assert_cmpuint(b.stale, ==, 0);
	g_assert_cmpuint(b.second.n, ==, 1);
	loop_unpark(&loop);
	b.second.source.armed = false;
	counter_deinit(&b.first);
	counter_deinit(&b.second);
	close(b.go_fd);
	loop_stop(&loop);
}

static void modify(void *data)
{
	struct counter *c = data;

	c->r = loop_modify(c->loop, &c->source, c->source.events ? 0 : EPOLLIN);
}

static void test_modify(void)
{
	struct counter a;
	struct loop loop;

	g_assert_cmpint(loop_start(&loop, "io", NULL, NULL), ==, 0);
	counter_init(&a, &loop);
	loop_call(&loop, modify, &a);
	g_assert_cmpint(a.r, ==, 0);
	eventfd_signal(a.source.fd);
	g_assert_false(answered(&a, 10));
	loop_call(&loop, modify, &a);
	g_assert_true(answered(&a, 5000));
	counter_deinit(&a);
	loop_stop(&loop);
}

static void test_add_fails(void)
{
	struct counter a;
	struct loop loop;

	g_assert_cmpint(loop_start(&loop, "io", NULL, NULL), ==, 0);
	a = (struct counter){ .loop = &loop, .source.fd = -1 };
	loop_call(&loop, add, &a);
	g_assert_cmpint(a.r, ==, -EBADF);
	g_assert_false(a.source.armed);
	loop_stop(&loop);
}

static void test_park(void)
{
	struct counter a;
	struct loop loop;

	g_assert_cmpint(loop_start(&loop, "io", NULL, NULL), ==, 0);
	counter_init(&a, &loop);
	for (unsigned int i = 0; i < 50; i++) {
		unsigned int before;

		loop_park(&loop);
		before = a.n; /* nothing runs: no race */
		eventfd_signal(a.source.fd);
		if (i % 10 == 0)
			g_assert_false(answered(&a, 5));
		/* Calls are served while parked. */
		loop_call(&loop, modify, &a);
		loop_call(&loop, modify, &a);
		g_assert_cmpuint(a.n, ==, before);
		loop_unpark(&loop);
		g_assert_true(answered(&a, 5000));
	}
	/* Stopping a parked loop. */
	loop_park(&loop);
	counter_deinit(&a);
	loop_stop(&loop);
}

struct nested {
	struct loop *loop;
	int depth;
};

static void nested_call(void *data)
{
	struct nested *n = data;

	if (++n->depth < 3)
		loop_call(n->loop, nested_call, n);
}

/* On its own thread a call just runs. */
static void test_call_on_own_thread(void)
{
	struct nested n = { 0 };
	struct loop loop;

	g_assert_cmpint(loop_start(&loop, "io", NULL, NULL), ==, 0);
	n.loop = &loop;
	loop_call(&loop, nested_call, &n);
	g_assert_cmpint(n.depth, ==, 3);
	loop_stop(&loop);
}

static int enter_fails(enum thread_role role G_GNUC_UNUSED, struct err *err)
{
	return err_set(err, EPERM, "no");
}

static void test_start_fails(void)
{
	struct err err = { 0 };
	struct loop loop;

	g_assert_cmpint(loop_start(&loop, "io", enter_fails, &err), ==, -EPERM);
	g_assert_cmpstr(err.msg, ==, "thread 'io': no");
	loop_stop(&loop);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/base/loop/events", test_events);
	g_test_add_func("/base/loop/remove-in-callback", test_remove_in_callback);
	g_test_add_func("/base/loop/call-removes-source-of-batch",
			test_call_removes_source_of_batch);
	g_test_add_func("/base/loop/modify", test_modify);
	g_test_add_func("/base/loop/add-fails", test_add_fails);
	g_test_add_func("/base/loop/park", test_park);
	g_test_add_func("/base/loop/call-on-own-thread", test_call_on_own_thread);
	g_test_add_func("/base/loop/start-fails", test_start_fails);
	return g_test_run();
}
