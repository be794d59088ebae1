/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A start that fails where there is no memory for an event source
 *
 * The linker puts this file's sd_event_add_defer() in front of the library's.
 */
#include "daemon/machine.h"
#include "daemon/manager.h"
#include "tests/unit/daemon/fixture.h"
#include "vmm/base/log.h"
#include <errno.h>

#define NONE "a{sv}", 0

int __real_sd_event_add_defer(sd_event *event, sd_event_source **ret, sd_event_handler_t fn,
			      void *data);
int __wrap_sd_event_add_defer(sd_event *event, sd_event_source **ret, sd_event_handler_t fn,
			      void *data);

static unsigned int until_failure; /* 0: all succeed; 1: the next one fails, and all after it */

int __wrap_sd_event_add_defer(sd_event *event, sd_event_source **ret, sd_event_handler_t fn,
			      void *data)
{
	if (until_failure == 1)
		return -ENOMEM;
	if (until_failure > 0)
		until_failure--;
	return __real_sd_event_add_defer(event, ret, fn, data);
}

/* The worker cannot be watched, and the start fails before its method has answered. */
static void test_fails(gconstpointer data)
{
	struct fixture *f = fixture_new();

	fixture_create(f, "m", "", true);
	log_set_level(0);
	until_failure = GPOINTER_TO_UINT(data);
	if (until_failure == 1) {
		fixture_vm_fails(f, "m", "org.freedesktop.DBus.Error.NoMemory",
				 "cannot start VM 'm'", "Start", NONE);
		fixture_assert_property(f, "m", "State", "stopped");
	} else {
		fixture_vm_ok(f, "m", "Start", NONE);
		fixture_wait_state(f, "m", MACHINE_STATE_FAILED);
	}
	until_failure = 0;
	log_set_level(LOG_LEVEL_ERROR);
	fixture_assert_nothing_left(f, "m");
	fixture_vm_ok(f, "m", "Start", "a{sv}", 1, "Wait", "b", 1);
	fixture_assert_property(f, "m", "State", "running");
	fixture_free(f);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_data_func("/daemon/start-no-memory/start", GUINT_TO_POINTER(1), test_fails);
	g_test_add_data_func("/daemon/start-no-memory/worker", GUINT_TO_POINTER(2), test_fails);
	return g_test_run();
}
