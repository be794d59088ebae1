/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ResizeMemory of a machine that does not run, and what is refused of one that does
 */
#include "daemon/machine.h"
#include "tests/unit/daemon/fixture.h"
#include "vmm/base/cleanup.h"
#include <stdio.h>
#include <string.h>

#define WAIT    "a{sv}", 1, "Wait", "b", 1
#define INVALID "org.freedesktop.DBus.Error.InvalidArgs"
#define MIB     (1ULL << 20)

static void configure(struct fixture *f, const char *name, const char *memory)
{
	g_autofree char *config =
		g_strdup_printf("{\"payload\":{\"kernel\":\"%s\"},\"memory\":{%s}}", f->kernel,
				memory);

	fixture_vm_ok(f, name, "SetConfig", "sa{sv}", config, 0);
}

static void assert_memory(struct fixture *f, const char *name, uint64_t mib, uint64_t max_mib)
{
	g_autofree char *size = g_strdup_printf("%llu", (unsigned long long)(mib * MIB));
	g_autofree char *max = g_strdup_printf("%llu", (unsigned long long)(max_mib * MIB));

	fixture_assert_property(f, name, "Memory", size);
	fixture_assert_property(f, name, "MemoryTarget", size);
	fixture_assert_property(f, name, "MemoryMax", max);
}

/* The definition changes; what there may be at most stays. */
static void test_stopped(void)
{
	struct fixture *f = fixture_new();

	fixture_create(f, "n", "", true);
	assert_memory(f, "n", 128, 128);
	fixture_vm_ok(f, "n", "ResizeMemory", "ta{sv}", 100 * MIB, 0);
	assert_memory(f, "n", 100, 100);
	configure(f, "n", "\"size\":134217728,\"hotplug_size\":536870912");
	assert_memory(f, "n", 128, 640);
	fixture_vm_ok(f, "n", "ResizeMemory", "ta{sv}", 384 * MIB, 0);
	assert_memory(f, "n", 384, 640);
	fixture_vm_ok(f, "n", "ResizeMemory", "ta{sv}", 256 * MIB, 0);
	assert_memory(f, "n", 256, 640);
	fixture_vm_fails(f, "n", INVALID, "must be a multiple of 134217728 (128 MiB)",
			 "ResizeMemory", "ta{sv}", 257 * MIB, 0);
	fixture_vm_fails(f, "n", INVALID, "must be at most 671088640 (/memory/hotplug_size)",
			 "ResizeMemory", "ta{sv}", 768 * MIB, 0);
	assert_memory(f, "n", 256, 640);
	configure(f, "n", "\"size\":0,\"zones\":[{\"id\":\"a\",\"size\":134217728}]");
	fixture_vm_fails(f, "n", "org.freedesktop.DBus.Error.NotSupported",
			 "is in zones (/memory/zones)", "ResizeMemory", "ta{sv}", 256 * MIB, 0);
	fixture_free(f);
}

static void test_running(void)
{
	struct fixture *f = fixture_new();

	fixture_create(f, "n", "", true);
	fixture_vm_ok(f, "n", "Start", WAIT);
	fixture_vm_fails(f, "n", INVALID, "cannot have 67108864 while it runs", "ResizeMemory",
			 "ta{sv}", 64 * MIB, 0);
	fixture_vm_fails(f, "n", "org.freedesktop.DBus.Error.NotSupported",
			 "cannot have more than its 134217728 bytes", "ResizeMemory", "ta{sv}",
			 256 * MIB, 0);
	assert_memory(f, "n", 128, 128);
	fixture_free(f);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/daemon/resize/stopped", test_stopped);
	g_test_add_func("/daemon/resize/running", test_running);
	return g_test_run();
}
