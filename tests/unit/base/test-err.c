/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/base/err.h"

#include <errno.h>
#include <glib.h>
#include <string.h>

static void test_set(void)
{
	struct err err = { 0 };

	g_assert_cmpint(err_set(&err, EINVAL, "disk '%s': size %d", "root", 0), ==, -EINVAL);
	g_assert_cmpint(err.code, ==, EINVAL);
	g_assert_cmpint(err.fault, ==, FAULT_NONE);
	g_assert_cmpstr(err.msg, ==, "disk 'root': size 0");
	err_clear(&err);
	g_assert_cmpint(err.code, ==, 0);
	g_assert_cmpstr(err.msg, ==, "");
	err_clear(NULL);
}

static void test_errno(void)
{
	struct err err = { 0 };

	g_assert_cmpint(err_errno(&err, EACCES, "cannot open '%s'", "/x.img"), ==, -EACCES);
	g_assert_cmpstr(err.msg, ==, "cannot open '/x.img': Permission denied");
}

static void test_fault(void)
{
	struct err err = { 0 };

	g_assert_cmpint(err_fault(&err, FAULT_BUSY, EBUSY, "a job is running"), ==, -EBUSY);
	g_assert_cmpint(err.fault, ==, FAULT_BUSY);
}

static void test_chain(void)
{
	struct err err = { 0 };
	int r = err_fault(&err, FAULT_HOST_RESOURCE, EMFILE, "too many");

	r = err_prefix(&err, r, "disk '%s'", "root");
	r = err_prefix(&err, r, "cannot start");
	g_assert_cmpint(r, ==, -EMFILE);
	g_assert_cmpint(err.code, ==, EMFILE);
	g_assert_cmpint(err.fault, ==, FAULT_HOST_RESOURCE);
	g_assert_cmpstr(err.msg, ==, "cannot start: disk 'root': too many");
}

/* When it gets too long, outer context goes, never the root cause. */
static void test_truncation(void)
{
	g_autofree char *longest = g_strnfill(ERR_MSG_MAX - 1, 'c');
	g_autofree char *prefix = g_strnfill(300, 'p');
	struct err err = { 0 };

	err_set(&err, EIO, "the root cause");
	g_assert_cmpint(err_prefix(&err, -EIO, "%s", prefix), ==, -EIO);
	g_assert_true(g_str_has_suffix(err.msg, "p: the root cause"));
	g_assert_cmpint(err_prefix(&err, -EIO, "%s", prefix), ==, -EIO);
	g_assert_true(g_str_has_suffix(err.msg, "p: the root cause"));
	g_assert_cmpuint(strlen(err.msg), <, ERR_MSG_MAX);

	err_clear(&err);
	err_set(&err, EIO, "%s and more", longest);
	g_assert_cmpuint(strlen(err.msg), ==, ERR_MSG_MAX - 1);
	err_prefix(&err, -EIO, "x");
	g_assert_cmpstr(err.msg, ==, longest);
	err_clear(&err);
	err_errno(&err, ENOENT, "%s", longest);
	g_assert_cmpuint(strlen(err.msg), ==, ERR_MSG_MAX - 1);

	/* Exactly full: nothing is cut. */
	err_clear(&err);
	err_set(&err, EIO, "%.*s", ERR_MSG_MAX - 1 - 4, longest);
	err_prefix(&err, -EIO, "ab");
	g_assert_cmpuint(strlen(err.msg), ==, ERR_MSG_MAX - 1);
	g_assert_true(g_str_has_prefix(err.msg, "ab: ccc"));
}

static void test_null(void)
{
	g_assert_cmpint(err_set(NULL, EINVAL, "nobody reads this"), ==, -EINVAL);
	g_assert_cmpint(err_errno(NULL, EIO, "nor this"), ==, -EIO);
	g_assert_cmpint(err_fault(NULL, FAULT_BUSY, EBUSY, "nor this"), ==, -EBUSY);
	g_assert_cmpint(err_prefix(NULL, -EPERM, "nor this"), ==, -EPERM);
}

static void test_set_twice(void)
{
	if (g_test_subprocess()) {
		struct err err = { 0 };

		err_set(&err, EINVAL, "one");
		err_set(&err, EINVAL, "two");
		return;
	}
	g_test_trap_subprocess(NULL, 0, 0);
	g_test_trap_assert_failed();
}

static void test_fault_names(void)
{
	enum fault fault = FAULT_NONE;

	for (unsigned int i = 0; i < FAULT_N_; i++) {
		const char *name = fault_to_string((enum fault)i);

		g_assert_nonnull(name);
		g_assert_cmpint(fault_from_string(name, &fault), ==, 0);
		g_assert_cmpint(fault, ==, i);
	}
	fault = FAULT_BUSY;
	g_assert_cmpint(fault_from_string("no-such-fault", &fault), ==, -EINVAL);
	g_assert_cmpint(fault, ==, FAULT_BUSY);
	g_assert_null(fault_to_string(FAULT_N_));
}

/* What a hostile image calls its backing file is quoted in the log and on the bus. */
static void test_printable(void)
{
	static const struct {
		const char *in, *out;
	} cases[] = {
		{ "/srv/a b", "/srv/a b" },
		{ "\033[2J\nNov 23 brumed[1]: forged", "?[2J?Nov 23 brumed[1]: forged" },
		{ "\xff\xfe.img", "??.img" },
		{ "gr\xc3\xbc\xc3\x9f", "gr\xc3\xbc\xc3\x9f" },
		{ "\xc3", "" }, /* half a character at the end */
		{ "\xc3(", "?(" },
		{ "\xc0\xaf", "??" },                       /* '/' in two bytes */
		{ "\xed\xa0\x80", "???" },                  /* half of a pair */
		{ "\xf0\x9f\x92\xa1", "\xf0\x9f\x92\xa1" }, /* four bytes */
		{ "\xf4\x90\x80\x80", "????" },             /* more than there are */
		{ "a\xc2\x9b"
		  "31m",
		  "a??31m" }, /* CSI in one character */
	};

	for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
		struct err err = { 0 }, prefixed = { 0 };
		g_autofree char *wanted = g_strdup_printf("%s: x", cases[i].out);

		err_set(&err, EINVAL, "%s", cases[i].in);
		g_assert_cmpstr(err.msg, ==, cases[i].out);
		g_assert_true(g_utf8_validate(err.msg, -1, NULL));
		if (i == 4)
			continue; /* not at the end there */
		err_set(&prefixed, EINVAL, "x");
		err_prefix(&prefixed, -EINVAL, "%s", cases[i].in);
		g_assert_cmpstr(prefixed.msg, ==, wanted);
	}
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/base/err/set", test_set);
	g_test_add_func("/base/err/errno", test_errno);
	g_test_add_func("/base/err/fault", test_fault);
	g_test_add_func("/base/err/chain", test_chain);
	g_test_add_func("/base/err/truncation", test_truncation);
	g_test_add_func("/base/err/null", test_null);
	g_test_add_func("/base/err/set-twice", test_set_twice);
	g_test_add_func("/base/err/fault-names", test_fault_names);
	g_test_add_func("/base/err/printable", test_printable);
	return g_test_run();
}
