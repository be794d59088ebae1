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
	int a = eventfd_new(), b = eventfd_new(), copy;

	g_assert_cmpint(resources_add(&res, "/disks/0/path", a, &err), ==, 0);
	g_assert_cmpint(resources_get(&res, "/disks/0/path", &err), ==, a);
	g_assert_cmpint(resources_add(&res, "/disks/0/path", b, &err), ==, -EEXIST);
	g_assert_cmpstr(err.msg, ==, "resource '/disks/0/path' was handed over twice");
	g_assert_cmpint(fcntl(b, F_GETFD), ==, -1); /* taken over, also when refused */
	err = (struct err){ 0 };
	g_assert_cmpint(resources_dup(&res, "kvm", &err), ==, -ENOENT);
	g_assert_cmpstr(err.msg, ==, "resource 'kvm' was not handed over");
	copy = resources_dup(&res, "/disks/0/path", NULL);
	g_assert_cmpint(copy, >=, 0);
	g_assert_cmpint(copy, !=, a);
	g_assert_cmpint(fcntl(copy, F_GETFD), ==, FD_CLOEXEC);
	resources_deinit(&res);
	g_assert_cmpint(fcntl(a, F_GETFD), ==, -1);
	g_assert_cmpint(fcntl(copy, F_GETFD), >=, 0);
	close(copy);
	resources_deinit(&res); /* twice is harmless */
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/vm/resources/add-get", test_add_get);
	return g_test_run();
}
