/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/store.h"

#include "daemon/definition.h"
#include "vmm/base/err.h"
#include "vmm/base/fd.h"
#include "vmm/base/log.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <glib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define SUFFIX ".json"
#define STATE  "state" /* no definition has this name */

static int dir_sync(const char *path)
{
	g_autofree char *dir = g_path_get_dirname(path);
	_cleanup_close_ int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0 || fsync(fd) < 0)
		return -errno;
	return 0;
}

static int write_new(const char *path, const char *text, bool durable)
{
	_cleanup_close_ int fd = -EBADF;
	int r;

	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return -errno;
	r = fd_write_all(fd, text, strlen(text));
	if (r == 0 && durable && fsync(fd) < 0)
		r = -errno;
	return r;
}

int file_replace(const char *path, const char *text, bool durable, struct err *err)
{
	g_autofree char *temporary = g_strdup_printf("%s.new", path);
	size_t len = strlen(text);
	int r;

	/* What cannot be read back is lost: better now, when somebody hears of it. */
	if (len > STORE_FILE_MAX)
		return err_set(err, ENOBUFS,
			       "cannot write '%s': it would have %zu bytes, at most %u are allowed",
			       path, len, STORE_FILE_MAX);
	r = write_new(temporary, text, durable);
	if (r == 0 && rename(temporary, path) < 0)
		r = -errno;
	if (r < 0)
		unlink(temporary);
	if (r == 0 && durable)
		r = dir_sync(path);
	if (r < 0)
		return err_errno(err, -r, "cannot write '%s'", path);
	return 0;
}

int file_read(const char *path, char **ret, struct err *err)
{
	_cleanup_close_ int fd = -EBADF;
	_cleanup_free_ char *text = NULL;
	struct stat st;
	int r;

	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW);
	if (fd < 0 || fstat(fd, &st) < 0)
		return err_errno(err, errno, "cannot read '%s'", path);
	if (!S_ISREG(st.st_mode) || st.st_size > STORE_FILE_MAX)
		return err_set(err, EBADMSG, "'%s' is not a regular file of at most %u bytes", path,
			       STORE_FILE_MAX);
	text = malloc((size_t)st.st_size + 1);
	if (!text)
		return err_errno(err, ENOMEM, "cannot read '%s'", path);
	r = fd_pread_all(fd, text, (size_t)st.st_size, 0);
	if (r < 0)
		return err_errno(err, -r, "cannot read '%s'", path);
	text[st.st_size] = '\0';
	*ret = TAKE_PTR(text);
	return 0;
}

int store_init(const char *state_dir, struct err *err)
{
	if (g_mkdir_with_parents(state_dir, 0700) < 0)
		return err_errno(err, errno, "cannot make the state directory '%s'", state_dir);
	return 0;
}

static char *definition_path(const char *state_dir, const char *name)
{
	return g_strdup_printf("%s/%s" SUFFIX, state_dir, name);
}

int store_save(const char *state_dir, const struct definition *def, struct err *err)
{
	g_autofree char *path = definition_path(state_dir, def->name);
	g_auto(GVariantBuilder) dict = G_VARIANT_BUILDER_INIT(G_VARIANT_TYPE_VARDICT);
	g_autoptr(GVariant) value = NULL;
	g_autofree char *text = NULL;
	int r;

	r = definition_save(def, &dict, err);
	if (r < 0)
		return r;
	value = g_variant_ref_sink(g_variant_builder_end(&dict));
	text = config_json_print(value, CONFIG_JSON_COMPACT);
	return file_replace(path, text, true, err);
}

int store_remove(const char *state_dir, const char *name, struct err *err)
{
	g_autofree char *path = definition_path(state_dir, name);
	int r = 0;

	if (unlink(path) < 0 && errno != ENOENT)
		r = -errno;
	if (r == 0)
		r = dir_sync(path);
	if (r < 0)
		return err_errno(err, -r, "cannot remove '%s'", path);
	return 0;
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path) < 0 ? -errno : 0;
}

int store_remove_state(const char *state_dir, const char *name, struct err *err)
{
	g_autofree char *path = g_strdup_printf("%s/" STATE "/%s", state_dir, name);
	struct stat st;
	int r;

	if (lstat(path, &st) < 0)
		return errno == ENOENT ? 0 : err_errno(err, errno, "cannot remove '%s'", path);
	r = nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
	if (r != 0)
		return err_errno(err, r == -1 ? errno : -r, "cannot remove '%s'", path);
	return 0;
}

void store_set_aside(const char *path, const char *base, const struct err *reason)
{
	g_autofree char *aside = g_strdup_printf("%s.damaged", base);

	for (unsigned int i = 1; access(aside, F_OK) == 0 && i < 1000; i++) {
		g_free(aside);
		aside = g_strdup_printf("%s.damaged-%u", base, i);
	}
	if (rename(path, aside) < 0)
		log_error("'%s' is damaged (%s) and cannot be renamed: %s", path, reason->msg,
			  g_strerror(errno));
	else
		log_error("'%s' is damaged and was set aside as '%s': %s", path, aside,
			  reason->msg);
}

bool store_is_damaged(const char *path, const struct err *reason, struct err *err)
{
	switch (reason->code) {
	case EMFILE:
	case ENFILE:
	case ENOMEM:
		*err = *reason;
		return false;
	case EIO:
	case ESTALE:
	case EACCES:
	case EPERM:
	case ETIMEDOUT:
	case ENODEV:
	case ENXIO:
		log_error("'%s' is left alone: %s", path, reason->msg);
		return false;
	default:
		return true;
	}
}

static int load_one(const char *path, const char *name, struct definition *ret, struct err *err)
{
	_cleanup_(definition_deinit) struct definition def = { 0 };
	g_autoptr(GVariant) dict = NULL;
	_cleanup_free_ char *text = NULL;
	int r;

	r = file_read(path, &text, err);
	if (r < 0)
		return r;
	r = json_object_parse_max(text, STORE_FILE_MAX, &dict, err);
	if (r < 0)
		return r;
	r = definition_load(dict, &def, err);
	if (r < 0)
		return r;
	if (strcmp(def.name, name) != 0)
		return err_set(err, EBADMSG, "it defines VM '%s', not '%s'", def.name, name);
	*ret = def;
	def = (struct definition){ 0 };
	return 0;
}

int store_load(const char *state_dir, void (*fn)(struct definition *def, void *data), void *data,
	       struct err *err)
{
	struct err trouble = { 0 };
	struct dirent *entry;
	DIR *dir;

	dir = opendir(state_dir);
	if (!dir)
		return err_errno(err, errno, "cannot read the state directory '%s'", state_dir);
	while (!trouble.code && (entry = readdir(dir))) {
		g_autofree char *path = NULL, *name = NULL;
		struct definition def = { 0 };
		struct err reason = { 0 };

		if (!g_str_has_suffix(entry->d_name, SUFFIX))
			continue;
		path = g_strdup_printf("%s/%s", state_dir, entry->d_name);
		name = g_strndup(entry->d_name, strlen(entry->d_name) - strlen(SUFFIX));
		if (load_one(path, name, &def, &reason) == 0)
			fn(&def, data);
		else if (store_is_damaged(path, &reason, &trouble))
			store_set_aside(path, path, &reason);
	}
	closedir(dir);
	if (trouble.code && err)
		*err = trouble;
	return -trouble.code;
}
