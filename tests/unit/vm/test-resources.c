/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/vm/resources.h"

#include <errno.h>
#include <fcntl.h>
#include <glib.h>

#include "vmm/base/err.h"
#include "vmm/base/fd.h"

static void test_add_get(void)
{
	struct resources res = { 0 };
	struct err err = { 0 };
	int a = eventfd_new(), b = eventfd_new();

	g_assert_cmpint(resources_add(&res, "/disks/0/path", a, &err), ==, 0);
	g_assert_cmpint(resources_get(&res, "/disks/0/path", &err), ==, a);
	g_assert_cmpint(resources_add(&res, "/disks/0/path", b, &err), ==, -EEXIST);
	g_assert_cmpstr(err.msg, ==, "resource '/disks/0/path' was handed over twice");
	g_assert_cmpint(fcntl(b, F_GETFD), ==, -1); /* taken over, also when refused */
	err = (struct err){ 0 };
	g_assert_cmpint(resources_take(&res, "kvm", &err), ==, -ENOENT);
	g_assert_cmpstr(err.msg, ==, "resource 'kvm' was not handed over");
	resources_deinit(&res);
	g_assert_cmpint(fcntl(a, F_GETFD), ==, -1);
	resources_deinit(&res); /* twice is harmless */
}

static void test_take_drop(void)
{
	static const char *const names[] = { "kvm", "/disks/1/path", "/disks/1/path/backing/1/raw",
					     "/disks/10/path" };
	struct resources res = { 0 };
	int fds[G_N_ELEMENTS(names)], taken;

	for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
		fds[i] = eventfd_new();
		g_assert_cmpint(resources_add(&res, names[i], fds[i], NULL), ==, 0);
	}
	taken = resources_take(&res, "/disks/1/path", NULL);
	g_assert_cmpint(taken, ==, fds[1]);
	/* It is there for the next one of this name. */
	g_assert_cmpint(resources_get(&res, "/disks/1/path", NULL), ==, -ENOENT);
	resources_drop(&res, "/disks/1/");
	g_assert_cmpint(fcntl(fds[2], F_GETFD), ==, -1);
	g_assert_cmpint(resources_get(&res, "/disks/10/path", NULL), ==, fds[3]);
	g_assert_cmpint(resources_get(&res, "kvm", NULL), ==, fds[0]);
	resources_deinit(&res);
	g_assert_cmpint(fcntl(taken, F_GETFD), >=, 0);
	close(taken);
}

static void test_blame(void)
{
	static const struct {
		int code;
		enum fault fault;
	} cases[] = {
		{ ENOEXEC, FAULT_BAD_CONFIG },   { ENOSPC, FAULT_BAD_CONFIG },
		{ EBADMSG, FAULT_BAD_CONFIG },   { EINVAL, FAULT_BAD_CONFIG },
		{ EIO, FAULT_HOST_RESOURCE },    { ENOMEM, FAULT_HOST_RESOURCE },
		{ ENOENT, FAULT_HOST_RESOURCE },
	};
	struct err known = { .code = EINVAL, .fault = FAULT_UNSUPPORTED };

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct err err = { .code = cases[i].code, .msg = "/disks/0/path: so" };

		g_assert_cmpint(resources_blame(-cases[i].code, &err), ==, -cases[i].code);
		g_assert_cmpint(err.fault, ==, cases[i].fault);
		g_assert_cmpstr(err.msg, ==, "/disks/0/path: so");
	}
	resources_blame(-EINVAL, &known);
	g_assert_cmpint(known.fault, ==, FAULT_UNSUPPORTED);
	g_assert_cmpint(resources_blame(-EIO, NULL), ==, -EIO);
}

/* What a running machine was handed over for a call that did not come; the rest stays. */
static void test_loose(void)
{
	struct resources res = { 0 };
	int payload = eventfd_new(), taken = eventfd_new(), left = eventfd_new();

	g_assert_cmpint(resources_add(&res, "/payload/kernel", payload, NULL), ==, 0);
	g_assert_cmpint(resources_add_loose(&res, "/disks/1/path", taken, NULL), ==, 0);
	g_assert_cmpint(resources_add_loose(&res, "/disks/2/path", left, NULL), ==, 0);
	g_assert_cmpint(resources_take(&res, "/disks/1/path", NULL), ==, taken);
	resources_drop_loose(&res);
	g_assert_cmpint(fcntl(left, F_GETFD), ==, -1);
	g_assert_cmpint(fcntl(taken, F_GETFD), >=, 0);
	g_assert_cmpint(resources_get(&res, "/payload/kernel", NULL), ==, payload);
	close(taken);
	resources_deinit(&res);
}

/* What is handed over is counted by somebody else. */
static void test_place(void)
{
	struct resources res = { 0 };
	int kept = eventfd_new(), image = eventfd_new(), base = eventfd_new();
	struct err err = { 0 };

	g_assert_cmpint(resources_add(&res, "/disks/3/path", kept, NULL), ==, 0);
	g_assert_cmpint(resources_add_loose(&res, "/disks/7/path", image, NULL), ==, 0);
	g_assert_cmpint(resources_add_loose(&res, "/disks/7/path/backing/1/raw", base, NULL), ==,
			0);
	g_assert_cmpint(resources_place_loose(&res, "net", 1, &err), ==, 0);
	g_assert_cmpint(resources_place_loose(&res, "disks", 3, &err), ==, -EEXIST);
	g_assert_cmpstr(err.msg, ==, "resource '/disks/3/path' was handed over twice");
	g_assert_cmpint(resources_place_loose(&res, "disks", 2, NULL), ==, 0);
	g_assert_cmpint(resources_get(&res, "/disks/2/path", NULL), ==, image);
	g_assert_cmpint(resources_get(&res, "/disks/2/path/backing/1/raw", NULL), ==, base);
	g_assert_cmpint(resources_get(&res, "/disks/3/path", NULL), ==, kept);
	resources_deinit(&res);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/vm/resources/add-get", test_add_get);
	g_test_add_func("/vm/resources/take-drop", test_take_drop);
	g_test_add_func("/vm/resources/loose", test_loose);
	g_test_add_func("/vm/resources/place", test_place);
	g_test_add_func("/vm/resources/blame", test_blame);
	return g_test_run();
}
