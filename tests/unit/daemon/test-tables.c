/* SPDX-License-Identifier: Apache-2.0 */
/* Every enum to text and back; every unit property is what its type says. */
#include "daemon/definition.h"
#include "daemon/job.h"
#include "daemon/machine.h"
#include "daemon/spawner.h"
#include "daemon/task.h"
#include "daemon/unit.h"
#include "vmm/base/cleanup.h"
#include "vmm/base/err.h"
#include "vmm/base/fd.h"
#include <errno.h>
#include <glib.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <systemd/sd-bus.h>
#include <unistd.h>

static void test_enums(void)
{
	for (int i = 0; i < MACHINE_STATE_N_; i++) {
		enum machine_state back = MACHINE_STATE_N_;

		g_assert_cmpint(machine_state_from_string(machine_state_to_string(i), &back), ==,
				0);
		g_assert_cmpint(back, ==, i);
	}
	for (int i = 0; i < JOB_KIND_N_; i++) {
		enum job_kind back = JOB_KIND_N_;

		g_assert_cmpint(job_kind_from_string(job_kind_to_string(i), &back), ==, 0);
		g_assert_cmpint(back, ==, i);
	}
	for (int i = 0; i < JOB_STATE_N_; i++) {
		enum job_state back = JOB_STATE_N_;

		g_assert_cmpint(job_state_from_string(job_state_to_string(i), &back), ==, 0);
		g_assert_cmpint(back, ==, i);
	}
	g_assert_null(machine_state_to_string(MACHINE_STATE_N_));
	g_assert_cmpint(machine_state_from_string("bogus", &(enum machine_state){ 0 }), ==,
			-EINVAL);
	g_assert_cmpint(job_kind_from_string("bogus", &(enum job_kind){ 0 }), ==, -EINVAL);
	g_assert_cmpint(job_state_from_string("", &(enum job_state){ 0 }), ==, -EINVAL);
}

static void test_names(void)
{
	static const char *const good[] = { "a", "1a", "web-1", "a.b.c", "A_b", "x--y" };

	for (size_t i = 0; i < ARRAY_SIZE(good); i++)
		g_assert_cmpint(vm_name_check(good[i], NULL), ==, 0);
}

/* Names of the properties in a message, in order; the types were checked by sd-bus. */
static GPtrArray *unit_names(bool user, GVariant *properties)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
	_cleanup_(sd_bus_close_unrefp) sd_bus *bus = NULL;
	GPtrArray *names = g_ptr_array_new_with_free_func(g_free);
	struct spawn_params params = {
		.name = "web1",
		.uuid = "",
		.control_fd = STDIN_FILENO,
		.slice = "machine.slice",
		.tasks = 100,
		.memory = 1 << 30,
		.properties = properties,
	};
	const char *name, *contents;
	struct err err = { 0 };
	int fds[2];

	g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), ==, 0);
	g_assert_cmpint(sd_bus_new(&bus), >=, 0);
	g_assert_cmpint(sd_bus_set_fd(bus, fds[0], fds[0]), >=, 0);
	g_assert_cmpint(sd_bus_negotiate_fds(bus, true), >=, 0);
	g_assert_cmpint(sd_bus_start(bus), >=, 0);
	g_assert_cmpint(sd_bus_message_new_method_call(bus, &m, "a.b", "/a", "a.b", "C"), >=, 0);
	g_assert_cmpint(unit_append_properties(m, "/usr/libexec/brume-vmm", "/run/brume", user,
					       &params, &err),
			==, 0);
	g_assert_cmpint(sd_bus_message_seal(m, 1, 0), >=, 0);
	g_assert_cmpint(sd_bus_message_enter_container(m, 'a', "(sv)"), >, 0);
	while (sd_bus_message_enter_container(m, 'r', "sv") > 0) {
		g_assert_cmpint(sd_bus_message_read(m, "s", &name), >, 0);
		g_ptr_array_add(names, g_strdup(name));
		g_assert_cmpint(sd_bus_message_peek_type(m, NULL, &contents), >, 0);
		g_assert_cmpint(sd_bus_message_skip(m, "v"), >, 0);
		sd_bus_message_exit_container(m);
	}
	close(fds[1]);
	return names;
}

static bool has(GPtrArray *names, const char *name)
{
	return g_ptr_array_find_with_equal_func(names, name, g_str_equal, NULL);
}

static void test_unit(void)
{
	/* What a user manager of systemd 252 refuses, or cannot do. */
	static const char *const system_only[] = {
		"DynamicUser", "CapabilityBoundingSet", "AmbientCapabilities", "DevicePolicy",
		"DeviceAllow", "IPAddressDeny",         "IOAccounting",        "InaccessiblePaths",
	};
	static const char *const always[] = {
		"PrivateUsers",     "PrivateNetwork", "NoNewPrivileges",
		"SystemCallFilter", "RootDirectory",  "StandardInputFileDescriptor",
		"AddRef",           "ExecStart",      "MemoryDenyWriteExecute",
		"LogExtraFields",
	};
	g_autoptr(GPtrArray) system = unit_names(false, NULL), user = unit_names(true, NULL);

	for (size_t i = 0; i < ARRAY_SIZE(system_only); i++) {
		g_assert_true(has(system, system_only[i]));
		g_assert_false(has(user, system_only[i]));
	}
	for (size_t i = 0; i < ARRAY_SIZE(always); i++) {
		g_assert_true(has(system, always[i]));
		g_assert_true(has(user, always[i]));
	}
}

static unsigned int count(GPtrArray *names, const char *name)
{
	unsigned int n = 0;

	for (unsigned int i = 0; i < names->len; i++)
		n += g_str_equal(names->pdata[i], name);
	return n;
}

/* What a machine was given comes instead of ours, or besides it. */
static void test_unit_properties(void)
{
	g_autoptr(GVariant) properties = g_variant_ref_sink(g_variant_new_parsed(
		"[('CPUWeight', <uint64 5>), ('AllowedCPUs', <[byte 3]>),"
		" ('IOReadIOPSMax', <[('/dev/sda', uint64 9)]>), ('TasksMax', <uint64 999>),"
		" ('Nice', <-5>), ('TimeoutStopUSec', <uint64 5000000>)]"));
	g_autoptr(GPtrArray) plain = unit_names(false, NULL), given = unit_names(false, properties);

	g_assert_cmpuint(given->len, ==, plain->len + 4);
	for (gsize i = 0; i < g_variant_n_children(properties); i++) {
		const char *name;

		g_variant_get_child(properties, i, "(&sv)", &name, NULL);
		g_assert_cmpuint(count(given, name), ==, 1);
	}
	g_assert_cmpuint(count(plain, "TasksMax"), ==, 1);
	g_assert_cmpuint(count(plain, "CPUWeight"), ==, 0);
}

struct slow {
	int gate;  /* work waits for it */
	int freed; /* eventfd of the test */
	int result;
};

static int slow_work(void *data, struct err *err)
{
	struct slow *slow = data;
	uint64_t one;

	g_assert_cmpint(read(slow->gate, &one, sizeof(one)), ==, sizeof(one));
	return slow->result < 0 ? err_set(err, -slow->result, "slow") : 0;
}

static void slow_done(void *data, int r, const struct err *err, void *owner)
{
	int *seen = owner;

	(void)data;
	g_assert_cmpint(r < 0, ==, err->code != 0);
	*seen = r;
}

static void slow_free(void *data)
{
	struct slow *slow = data;
	uint64_t one = 1;

	g_assert_cmpint(write(slow->freed, &one, sizeof(one)), ==, sizeof(one));
}

static const struct task_ops slow_ops = { slow_work, slow_done, slow_free };

static void test_task(void)
{
	int pipe_fds[2], freed[2], seen = 1;
	struct slow slow = { .result = -EIO };
	struct task *task = NULL;
	struct err err = { 0 };
	sd_event *event = NULL;
	uint64_t one = 1;

	g_assert_cmpint(pipe(pipe_fds), ==, 0);
	g_assert_cmpint(pipe(freed), ==, 0);
	slow.gate = pipe_fds[0];
	slow.freed = freed[1];
	g_assert_cmpint(sd_event_new(&event), >=, 0);
	g_assert_cmpint(task_start(event, &slow_ops, &slow, &seen, &task, &err), ==, 0);
	g_assert_cmpint(write(pipe_fds[1], &one, sizeof(one)), ==, sizeof(one));
	while (seen == 1)
		g_assert_cmpint(sd_event_run(event, UINT64_MAX), >=, 0);
	g_assert_cmpint(seen, ==, -EIO);
	g_assert_cmpint(read(freed[0], &one, sizeof(one)), ==, sizeof(one));

	/* Abandoned while it hangs: done() stays silent, the data is freed when it ends. */
	seen = 1;
	g_assert_cmpint(task_start(event, &slow_ops, &slow, &seen, &task, &err), ==, 0);
	task_abandon(task);
	g_assert_cmpint(write(pipe_fds[1], &one, sizeof(one)), ==, sizeof(one));
	g_assert_cmpint(read(freed[0], &one, sizeof(one)), ==, sizeof(one));
	g_assert_cmpint(sd_event_run(event, 0), ==, 0);
	g_assert_cmpint(seen, ==, 1);
	sd_event_unref(event);
	for (int i = 0; i < 2; i++) {
		close(pipe_fds[i]);
		close(freed[i]);
	}
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/daemon/tables/enums", test_enums);
	g_test_add_func("/daemon/tables/names", test_names);
	g_test_add_func("/daemon/unit-properties/scopes", test_unit);
	g_test_add_func("/daemon/tables/unit-properties", test_unit_properties);
	g_test_add_func("/daemon/task/done-and-abandoned", test_task);
	return g_test_run();
}
