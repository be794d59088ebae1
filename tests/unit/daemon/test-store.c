/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files of the daemon at the limit: what is written can be read, and what could
 * not be read is not written
 */
#include "daemon/created-files.h"
#include "daemon/definition.h"
#include "daemon/runtime.h"
#include "daemon/store.h"
#include "vmm/base/err.h"
#include "vmm/config/json.h"
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <glib.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define UUID "ba5b7c40-9349-441d-b98b-8c060ac12f7e"

/* Numbers, because pretty-printing makes the most of them; no byte shorter than allowed. */
static char *largest_config(void)
{
	GString *text = g_string_sized_new(CONFIG_JSON_MAX + 1);

	g_string_append(text, "{\"n\":[7");
	/* The object, the array, its first number and the string are values too. */
	for (unsigned int i = 4; i < CONFIG_JSON_VALUES_MAX &&
				 text->len + 2 + strlen("],\"s\":\"\"}") <= CONFIG_JSON_MAX;
	     i++)
		g_string_append(text, ",7");
	g_string_append(text, "],\"s\":\"");
	while (text->len + strlen("\"}") < CONFIG_JSON_MAX)
		g_string_append_c(text, 'x');
	g_string_append(text, "\"}");
	g_assert_cmpuint(text->len, ==, CONFIG_JSON_MAX);
	return g_string_free(text, FALSE);
}

static struct definition largest_definition(void)
{
	struct definition def = {
		.name = g_strnfill(VM_NAME_MAX, 'n'),
		.uuid = g_strdup(UUID),
		.persistent = true,
		.description = g_strnfill(VM_DESCRIPTION_MAX, '\001'),
		.config = largest_config(),
	};

	g_assert_cmpint(vm_description_check(def.description, NULL), ==, 0);
	return def;
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static void remove_dir(const char *dir)
{
	nftw(dir, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

static void take_definition(struct definition *def, void *data)
{
	*(struct definition *)data = *def;
}

static void test_definition(void)
{
	g_autofree char *dir = g_dir_make_tmp("store-XXXXXX", NULL);
	struct definition def = largest_definition(), back = { 0 };
	struct err err = { 0 };

	g_assert_cmpint(store_save(dir, &def, &err), ==, 0);
	g_assert_cmpint(store_load(dir, take_definition, &back, &err), ==, 0);
	g_assert_cmpstr(back.name, ==, def.name);
	g_assert_cmpstr(back.description, ==, def.description);
	g_assert_cmpstr(back.config, ==, def.config);
	definition_deinit(&back);
	definition_deinit(&def);
	remove_dir(dir);
}

static void take_state(struct runtime_state *state, void *data)
{
	*(struct runtime_state *)data = *state;
}

static void test_state(void)
{
	g_autofree char *dir = g_dir_make_tmp("store-XXXXXX", NULL), *vm_dir = NULL;
	struct runtime_state state = { .def = largest_definition() }, back = { 0 };
	struct err err = { 0 };

	state.boot_config = largest_config();
	vm_dir = g_build_filename(dir, "vm", state.def.name, NULL);
	g_assert_cmpint(g_mkdir_with_parents(vm_dir, 0700), ==, 0);
	g_assert_cmpint(runtime_save(dir, &state, &err), ==, 0);
	g_assert_cmpint(runtime_load(dir, take_state, &back, &err), ==, 0);
	g_assert_cmpstr(back.def.config, ==, state.def.config);
	g_assert_cmpstr(back.boot_config, ==, state.boot_config);
	runtime_state_deinit(&back);
	runtime_state_deinit(&state);
	remove_dir(dir);
}

static void test_file(void)
{
	g_autofree char *dir = g_dir_make_tmp("store-XXXXXX", NULL);
	g_autofree char *path = g_build_filename(dir, "f", NULL);
	g_autofree char *text = g_strnfill(STORE_FILE_MAX + 1, 'x');
	g_autofree char *is = NULL, *limit = NULL;
	_cleanup_free_ char *back = NULL;
	struct err err = { 0 };

	g_assert_cmpint(file_replace(path, "old", false, &err), ==, 0);
	g_assert_cmpint(file_replace(path, text, false, &err), ==, -ENOBUFS);
	limit = g_strdup_printf("it would have %u bytes, at most %u are allowed",
				STORE_FILE_MAX + 1, STORE_FILE_MAX);
	g_assert_nonnull(strstr(err.msg, limit));
	g_assert_true(g_file_get_contents(path, &is, NULL, NULL));
	g_assert_cmpstr(is, ==, "old");
	err = (struct err){ 0 };
	text[STORE_FILE_MAX] = '\0';
	g_assert_cmpint(file_replace(path, text, false, &err), ==, 0);
	g_assert_cmpint(file_read(path, &back, &err), ==, 0);
	g_assert_cmpstr(back, ==, text);
	remove_dir(dir);
}

/* A shortage of ours says nothing about the file: it stays, and loading fails. */
static void test_shortage(void)
{
	g_autofree char *dir = g_dir_make_tmp("store-XXXXXX", NULL), *path = NULL;
	struct definition def = largest_definition(), back = { 0 };
	struct rlimit old, none;
	struct err err = { 0 };
	int fd, r;

	g_assert_cmpint(store_save(dir, &def, &err), ==, 0);
	path = g_strdup_printf("%s/%s.json", dir, def.name);
	/* One descriptor is left, for the directory. */
	fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	g_assert_cmpint(fd, >=, 0);
	close(fd);
	g_assert_cmpint(getrlimit(RLIMIT_NOFILE, &old), ==, 0);
	none = (struct rlimit){ .rlim_cur = (rlim_t)fd + 1, .rlim_max = old.rlim_max };
	g_assert_cmpint(setrlimit(RLIMIT_NOFILE, &none), ==, 0);
	r = store_load(dir, take_definition, &back, &err);
	g_assert_cmpint(setrlimit(RLIMIT_NOFILE, &old), ==, 0);
	g_assert_cmpint(r, ==, -EMFILE);
	g_assert_nonnull(strstr(err.msg, "cannot read"));
	g_assert_true(g_file_test(path, G_FILE_TEST_EXISTS));

	err = (struct err){ 0 };
	g_assert_cmpint(store_load(dir, take_definition, &back, &err), ==, 0);
	g_assert_cmpstr(back.name, ==, def.name);
	definition_deinit(&back);
	definition_deinit(&def);
	remove_dir(dir);
}

static void test_lock(void)
{
	g_autofree char *dir = g_dir_make_tmp("store-XXXXXX", NULL);
	struct err err = { 0 };
	int first, second;

	first = runtime_lock(dir, 0, &err);
	g_assert_cmpint(first, >=, 0);
	g_assert_cmpint(runtime_lock(dir, 50000, &err), ==, -EBUSY);
	g_assert_nonnull(strstr(err.msg, "another brumed uses the runtime directory"));
	close(first);
	err = (struct err){ 0 };
	second = runtime_lock(dir, 0, &err);
	g_assert_cmpint(second, >=, 0);
	close(second);
	remove_dir(dir);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/daemon/store/definition", test_definition);
	g_test_add_func("/daemon/store/state", test_state);
	g_test_add_func("/daemon/store/file", test_file);
	g_test_add_func("/daemon/store/shortage", test_shortage);
	g_test_add_func("/daemon/store/lock", test_lock);
	return g_test_run();
}
