/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/base/thread.h"

#include <errno.h>
#include <glib.h>
#include <signal.h>
#include <string.h>

#include "vmm/base/err.h"

struct seen {
	enum thread_role role;
	char name[16];
	bool kick_blocked, term_blocked;
};

static void look(void *data)
{
	struct seen *seen = data;
	sigset_t set;

	seen->role = thread_get_role();
	pthread_getname_np(pthread_self(), seen->name, sizeof(seen->name));
	pthread_sigmask(SIG_BLOCK, NULL, &set);
	seen->kick_blocked = sigismember(&set, thread_kick_signal());
	seen->term_blocked = sigismember(&set, SIGTERM);
}

static int enter_ok(enum thread_role role, struct err *err G_GNUC_UNUSED)
{
	g_assert_cmpint(role, ==, THREAD_ROLE_VCPU);
	return 0;
}

static int enter_fails(enum thread_role role G_GNUC_UNUSED, struct err *err)
{
	return err_set(err, EPERM, "the filter was refused");
}

static void test_start(void)
{
	struct seen seen = { 0 };
	struct thread t = { .name = "vcpu0",
			    .role = THREAD_ROLE_VCPU,
			    .enter = enter_ok,
			    .run = look,
			    .data = &seen };
	sigset_t set;

	g_assert_cmpint(thread_start(&t, NULL), ==, 0);
	thread_join(&t);
	g_assert_cmpint(seen.role, ==, THREAD_ROLE_VCPU);
	g_assert_cmpstr(seen.name, ==, "vcpu0");
	g_assert_false(seen.kick_blocked);
	g_assert_true(seen.term_blocked);
	thread_join(&t); /* twice is harmless */

	t.role = THREAD_ROLE_IO;
	t.enter = NULL;
	g_assert_cmpint(thread_start(&t, NULL), ==, 0);
	thread_join(&t);
	g_assert_true(seen.kick_blocked);
	/* The creator's own mask is as it was. */
	pthread_sigmask(SIG_BLOCK, NULL, &set);
	g_assert_false(sigismember(&set, SIGTERM));
}

/* A creator that has the kick blocked (sd-event's signalfd) must not pass that on to a vCPU. */
static void test_kick_not_inherited(void)
{
	struct seen seen = { .kick_blocked = true };
	struct thread t = { .name = "vcpu0", .role = THREAD_ROLE_VCPU, .run = look, .data = &seen };
	sigset_t kick, old;

	sigemptyset(&kick);
	sigaddset(&kick, thread_kick_signal());
	pthread_sigmask(SIG_BLOCK, &kick, &old);
	g_assert_cmpint(thread_start(&t, NULL), ==, 0);
	thread_join(&t);
	g_assert_false(seen.kick_blocked);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
}

static void test_enter_fails(void)
{
	struct thread t = {
		.name = "io", .role = THREAD_ROLE_IO, .enter = enter_fails, .run = look
	};
	struct err err = { 0 };

	g_assert_cmpint(thread_start(&t, &err), ==, -EPERM);
	g_assert_cmpstr(err.msg, ==, "thread 'io': the filter was refused");
	g_assert_false(t.started);
	g_assert_cmpint(thread_start(&t, NULL), ==, -EPERM);
}

static void test_roles(void)
{
	for (unsigned int i = 0; i < THREAD_ROLE_N_; i++)
		g_assert_nonnull(thread_role_to_string((enum thread_role)i));
	g_assert_null(thread_role_to_string(THREAD_ROLE_N_));
	g_assert_cmpint(thread_get_role(), ==, THREAD_ROLE_NONE);
	assert_on_control();
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/base/thread/start", test_start);
	g_test_add_func("/base/thread/kick-not-inherited", test_kick_not_inherited);
	g_test_add_func("/base/thread/enter-fails", test_enter_fails);
	g_test_add_func("/base/thread/roles", test_roles);
	return g_test_run();
}
