/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/runtime.h"

#include "daemon/created-files.h"
#include "daemon/store.h"
#include "vmm/base/err.h"
#include "vmm/base/log.h"
#include "vmm/config/json.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define CONTROL_BACKLOG 8

void runtime_replace_clear(struct runtime_replace *replace)
{
	g_free(replace->id);
	g_clear_pointer(&replace->keys, g_variant_unref);
	*replace = (struct runtime_replace){ 0 };
}

void runtime_state_deinit(struct runtime_state *state)
{
	definition_deinit(&state->def);
	g_free(state->boot_config);
	g_free(state->invocation_id);
	g_strfreev(state->taps);
	created_files_deinit(&state->created);
	g_free(state->exit_reason);
	g_free(state->removal.id);
	runtime_replace_clear(&state->replace);
	*state = (struct runtime_state){ 0 };
}

/*
 * The workers' root: empty but for the links of a merged /usr, which the loader's
 * path in every executable needs; systemd mounts the rest (unit-properties.c).
 */
static int make_root(const char *root)
{
	static const char *const links[] = { "lib", "lib64" };

	if (mkdir(root, 0755) < 0 && errno != EEXIST)
		return -errno;
	/* Workers come as other users; our umask is for everything else here. */
	if (chmod(root, 0755) < 0)
		return -errno;
	for (size_t i = 0; i < ARRAY_SIZE(links); i++) {
		g_autofree char *link = g_strdup_printf("%s/%s", root, links[i]);
		g_autofree char *target = g_strdup_printf("usr/%s", links[i]);

		if (symlink(target, link) < 0 && errno != EEXIST)
			return -errno;
	}
	return 0;
}

int runtime_init(const char *runtime_dir, struct err *err)
{
	g_autofree char *vms = g_strdup_printf("%s/vm", runtime_dir);
	g_autofree char *root = g_strdup_printf("%s/root", runtime_dir);
	int r;

	if (g_mkdir_with_parents(vms, 0700) < 0)
		return err_errno(err, errno, "cannot make the runtime directory '%s'", vms);
	r = make_root(root);
	if (r < 0)
		return err_errno(err, -r, "cannot make the workers' root '%s'", root);
	return 0;
}

int runtime_lock(const char *runtime_dir, uint64_t wait_usec, struct err *err)
{
	_cleanup_close_ int fd = open(runtime_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	const uint64_t step_usec = 20000;

	if (fd < 0)
		return err_errno(err, errno, "cannot open '%s'", runtime_dir);
	while (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		if (errno != EWOULDBLOCK)
			return err_errno(err, errno, "cannot lock '%s'", runtime_dir);
		if (wait_usec < step_usec)
			return err_set(err, EBUSY,
				       "another brumed uses the runtime directory '%s': it must "
				       "end first",
				       runtime_dir);
		usleep((useconds_t)step_usec);
		wait_usec -= step_usec;
	}
	return TAKE_FD(fd);
}

static char *vm_dir(const char *runtime_dir, const char *name)
{
	return g_strdup_printf("%s/vm/%s", runtime_dir, name);
}

char *runtime_control_path(const char *runtime_dir, const char *name)
{
	return g_strdup_printf("%s/vm/%s/control", runtime_dir, name);
}

static int bind_control(const char *path, struct err *err)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	_cleanup_close_ int fd = -EBADF;

	if (strlen(path) >= sizeof(addr.sun_path))
		return err_set(err, ENAMETOOLONG,
			       "control socket path '%s' is too long, at most %zu characters", path,
			       sizeof(addr.sun_path) - 1);
	strcpy(addr.sun_path, path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 ||
	    listen(fd, CONTROL_BACKLOG) < 0)
		return err_errno(err, errno, "cannot make the control socket '%s'", path);
	return TAKE_FD(fd);
}

/* Somebody listens: a worker, or systemd for one that has just ended. */
static bool control_is_in_use(const char *path)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	_cleanup_close_ int fd = -EBADF;

	if (strlen(path) >= sizeof(addr.sun_path))
		return false;
	strcpy(addr.sun_path, path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return true;
	return connect(fd, (struct sockaddr *)&addr, sizeof(addr)) == 0 || errno == EAGAIN;
}

int runtime_create(const char *runtime_dir, const char *name, struct err *err)
{
	g_autofree char *dir = vm_dir(runtime_dir, name);
	g_autofree char *control = runtime_control_path(runtime_dir, name);
	int fd;

	if (control_is_in_use(control))
		return err_fault(err, FAULT_WORKER_FAILED, EEXIST,
				 "VM '%s' has a worker already that nothing is known about (its "
				 "state file was damaged): end it first, on a host with systemd by "
				 "'systemctl stop brume-vm-%s.service'",
				 name, name);
	runtime_remove(runtime_dir, name);
	if (mkdir(dir, 0700) < 0)
		return err_errno(err, errno, "cannot make '%s'", dir);
	fd = bind_control(control, err);
	if (fd < 0)
		runtime_remove(runtime_dir, name);
	return fd;
}

void runtime_remove(const char *runtime_dir, const char *name)
{
	g_autofree char *dir = vm_dir(runtime_dir, name);
	g_autofree char *control = runtime_control_path(runtime_dir, name);
	g_autofree char *state = g_strdup_printf("%s/state", dir);
	g_autofree char *temporary = g_strdup_printf("%s/state.new", dir);

	unlink(control);
	unlink(state);
	unlink(temporary);
	if (rmdir(dir) < 0 && errno != ENOENT)
		log_warning("cannot remove '%s': %s", dir, g_strerror(errno));
}

/* A directory without a state file: of a start that got no further, or of a damaged file. */
static void remove_stateless(const char *runtime_dir, const char *name)
{
	g_autofree char *control = runtime_control_path(runtime_dir, name);

	if (control_is_in_use(control))
		log_warning("a worker of VM '%s' runs but nothing is known about it: it is left "
			    "alone",
			    name);
	else
		runtime_remove(runtime_dir, name);
}

void runtime_set_aside(const char *runtime_dir, const char *name, const struct err *reason)
{
	g_autofree char *path = g_strdup_printf("%s/vm/%s/state", runtime_dir, name);
	g_autofree char *aside = g_strdup_printf("%s/%s.state", runtime_dir, name);

	store_set_aside(path, aside, reason);
	remove_stateless(runtime_dir, name);
}

static void save_stop(const struct runtime_stop *stop, GVariantBuilder *dict)
{
	GVariantBuilder inner;

	g_variant_builder_init(&inner, G_VARIANT_TYPE_VARDICT);
	dict_add(&inner, "reboot", "b", stop->reboot);
	dict_add(&inner, "force", "b", stop->force);
	dict_add(&inner, "deadline", "t", (guint64)stop->deadline_usec);
	dict_add(&inner, "job", "t", (guint64)stop->job);
	dict_add(&inner, "owner", "t", (guint64)stop->owner);
	dict_add_value(dict, "stop", g_variant_builder_end(&inner));
}

static void load_stop(GVariant *dict, struct runtime_stop *stop)
{
	g_autoptr(GVariant) inner = g_variant_lookup_value(dict, "stop", G_VARIANT_TYPE_VARDICT);

	if (!inner)
		return;
	stop->reboot = dict_get_bool(inner, "reboot", false);
	stop->force = dict_get_bool(inner, "force", false);
	stop->deadline_usec = dict_get_uint(inner, "deadline", 0);
	stop->job = (uint32_t)dict_get_uint(inner, "job", 0);
	stop->owner = (uid_t)dict_get_uint(inner, "owner", 0);
	stop->present = stop->job != 0;
}

static void save_removal(const struct runtime_removal *removal, GVariantBuilder *dict)
{
	GVariantBuilder inner;

	g_variant_builder_init(&inner, G_VARIANT_TYPE_VARDICT);
	dict_add(&inner, "id", "s", removal->id);
	dict_add(&inner, "force", "b", removal->force);
	dict_add(&inner, "deadline", "t", (guint64)removal->deadline_usec);
	dict_add(&inner, "job", "t", (guint64)removal->job);
	dict_add(&inner, "owner", "t", (guint64)removal->owner);
	dict_add_value(dict, "removal", g_variant_builder_end(&inner));
}

static void load_removal(GVariant *dict, struct runtime_removal *removal)
{
	g_autoptr(GVariant) inner = g_variant_lookup_value(dict, "removal", G_VARIANT_TYPE_VARDICT);

	if (!inner)
		return;
	removal->id = dict_dup_string(inner, "id");
	removal->force = dict_get_bool(inner, "force", false);
	removal->deadline_usec = dict_get_uint(inner, "deadline", 0);
	removal->job = (uint32_t)dict_get_uint(inner, "job", 0);
	removal->owner = (uid_t)dict_get_uint(inner, "owner", 0);
}

static void save_replace(const struct runtime_replace *replace, GVariantBuilder *dict)
{
	g_auto(GVariantBuilder) inner = G_VARIANT_BUILDER_INIT(G_VARIANT_TYPE_VARDICT);

	dict_add(&inner, "id", "s", replace->id);
	dict_add_value(&inner, "keys", replace->keys);
	dict_add(&inner, "images", "t", (guint64)replace->images);
	dict_add(&inner, "persist", "b", replace->persist);
	dict_add_value(dict, "replace", g_variant_builder_end(&inner));
}

static void load_replace(GVariant *dict, struct runtime_replace *replace)
{
	g_autoptr(GVariant) inner = g_variant_lookup_value(dict, "replace", G_VARIANT_TYPE_VARDICT);

	if (!inner)
		return;
	replace->id = dict_dup_string(inner, "id");
	replace->keys = g_variant_lookup_value(inner, "keys", G_VARIANT_TYPE_VARDICT);
	replace->images = dict_get_uint(inner, "images", 0);
	replace->persist = dict_get_bool(inner, "persist", false);
	replace->unheard = true;
	if (!replace->id || !replace->keys)
		runtime_replace_clear(replace);
}

static void save_resize(const struct runtime_resize *resize, GVariantBuilder *dict)
{
	GVariantBuilder inner;

	g_variant_builder_init(&inner, G_VARIANT_TYPE_VARDICT);
	dict_add(&inner, "what", "t", (guint64)resize->what);
	if (resize->zone)
		dict_add(&inner, "zone", "s", resize->zone);
	dict_add(&inner, "wanted", "t", (guint64)resize->wanted);
	dict_add(&inner, "deadline", "t", (guint64)resize->deadline_usec);
	dict_add(&inner, "job", "t", (guint64)resize->job);
	dict_add(&inner, "owner", "t", (guint64)resize->owner);
	dict_add_value(dict, "resize", g_variant_builder_end(&inner));
}

static void load_resize(GVariant *dict, struct runtime_resize *resize)
{
	g_autoptr(GVariant) inner = g_variant_lookup_value(dict, "resize", G_VARIANT_TYPE_VARDICT);

	if (!inner)
		return;
	resize->what = (unsigned int)dict_get_uint(inner, "what", 0);
	resize->zone = dict_dup_string(inner, "zone");
	resize->wanted = dict_get_uint(inner, "wanted", 0);
	resize->deadline_usec = dict_get_uint(inner, "deadline", 0);
	resize->job = (uint32_t)dict_get_uint(inner, "job", 0);
	resize->owner = (uid_t)dict_get_uint(inner, "owner", 0);
	resize->present = resize->job != 0;
}

int runtime_save(const char *runtime_dir, const struct runtime_state *state, struct err *err)
{
	g_autofree char *path = g_strdup_printf("%s/vm/%s/state", runtime_dir, state->def.name);
	g_auto(GVariantBuilder) dict = G_VARIANT_BUILDER_INIT(G_VARIANT_TYPE_VARDICT);
	g_autoptr(GVariant) value = NULL, boot = NULL;
	g_autofree char *text = NULL;
	int r;

	r = definition_save(&state->def, &dict, err);
	if (r == 0)
		r = json_object_parse(state->boot_config, &boot, err);
	if (r < 0)
		return r;
	dict_add_value(&dict, "boot-config", boot);
	if (state->invocation_id)
		dict_add(&dict, "invocation-id", "s", state->invocation_id);
	dict_add(&dict, "pid", "t", (guint64)state->pid);
	dict_add(&dict, "pid-start", "t", (guint64)state->pid_start);
	if (state->taps)
		dict_add(&dict, "taps", "^as", state->taps);
	if (state->console_paths.n > 0)
		dict_add_value(&dict, "console-paths", console_paths_save(&state->console_paths));
	if (state->created.n > 0)
		dict_add_value(&dict, "created", created_files_save(&state->created));
	if (state->preparing)
		dict_add(&dict, "preparing", "b", true);
	if (state->exit_reason)
		dict_add(&dict, "exit-reason", "s", state->exit_reason);
	if (state->stop.present)
		save_stop(&state->stop, &dict);
	if (state->removal.id)
		save_removal(&state->removal, &dict);
	if (state->resize.present)
		save_resize(&state->resize, &dict);
	if (state->replace.id)
		save_replace(&state->replace, &dict);
	value = g_variant_ref_sink(g_variant_builder_end(&dict));
	text = config_json_print(value, CONFIG_JSON_COMPACT);
	/* A reboot empties the file system: it needs to be whole, not durable. */
	return file_replace(path, text, false, err);
}

/* JSON arrays come back as av or as, depending on who converts. */
static char **load_taps(GVariant *dict)
{
	g_autoptr(GVariant) list = g_variant_lookup_value(dict, "taps", NULL);
	g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);

	if (!list || !g_variant_is_of_type(list, G_VARIANT_TYPE_ARRAY))
		return NULL;
	for (gsize i = 0; i < g_variant_n_children(list); i++) {
		g_autoptr(GVariant) item = g_variant_get_child_value(list, i);

		if (g_variant_is_of_type(item, G_VARIANT_TYPE_VARIANT)) {
			GVariant *inner = g_variant_get_variant(item);

			g_variant_unref(item);
			item = inner;
		}
		if (g_variant_is_of_type(item, G_VARIANT_TYPE_STRING))
			g_ptr_array_add(names, g_variant_dup_string(item, NULL));
	}
	g_ptr_array_add(names, NULL);
	return (char **)g_ptr_array_free(g_steal_pointer(&names), FALSE);
}

static int load_one(const char *path, struct runtime_state *ret, struct err *err)
{
	_cleanup_(runtime_state_deinit) struct runtime_state state = { 0 };
	g_autoptr(GVariant) dict = NULL, boot = NULL, created = NULL, paths = NULL;
	_cleanup_free_ char *text = NULL;
	int r;

	r = file_read(path, &text, err);
	if (r == 0)
		r = json_object_parse_max(text, STORE_FILE_MAX, &dict, err);
	if (r == 0)
		r = definition_load(dict, &state.def, err);
	if (r < 0)
		return r;
	boot = g_variant_lookup_value(dict, "boot-config", G_VARIANT_TYPE_VARDICT);
	if (!boot)
		return err_set(err, EBADMSG, "'boot-config' is missing or not an object");
	state.boot_config = config_json_print(boot, CONFIG_JSON_COMPACT);
	state.invocation_id = dict_dup_string(dict, "invocation-id");
	state.pid = (uint32_t)dict_get_uint(dict, "pid", 0);
	state.pid_start = dict_get_uint(dict, "pid-start", 0);
	state.taps = load_taps(dict);
	paths = g_variant_lookup_value(dict, "console-paths", G_VARIANT_TYPE_VARDICT);
	console_paths_load(paths, &state.console_paths);
	created = g_variant_lookup_value(dict, "created", NULL);
	if (created)
		created_files_load(created, state.def.owner, &state.created);
	state.preparing = dict_get_bool(dict, "preparing", false);
	state.exit_reason = dict_dup_string(dict, "exit-reason");
	load_stop(dict, &state.stop);
	load_removal(dict, &state.removal);
	load_resize(dict, &state.resize);
	load_replace(dict, &state.replace);
	*ret = state;
	state = (struct runtime_state){ 0 };
	return 0;
}

static char *last_job_path(const char *runtime_dir)
{
	return g_strdup_printf("%s/last-job", runtime_dir);
}

int runtime_save_last_job(const char *runtime_dir, uint32_t id, struct err *err)
{
	g_autofree char *path = last_job_path(runtime_dir);
	g_autofree char *text = g_strdup_printf("%u\n", id);

	return file_replace(path, text, false, err);
}

int runtime_load_last_job(const char *runtime_dir, uint32_t *ret, struct err *err)
{
	g_autofree char *path = last_job_path(runtime_dir);
	_cleanup_free_ char *text = NULL;
	guint64 id;
	int r;

	if (access(path, F_OK) < 0 && errno == ENOENT) {
		*ret = 0;
		return 0;
	}
	r = file_read(path, &text, err);
	if (r < 0)
		return r;
	if (!g_ascii_string_to_unsigned(g_strchomp(text), 10, 0, UINT32_MAX, &id, NULL))
		return err_set(err, EBADMSG, "'%s' holds '%.20s', not the number of a job", path,
			       text);
	*ret = (uint32_t)id;
	return 0;
}

int runtime_load(const char *runtime_dir, void (*fn)(struct runtime_state *state, void *data),
		 void *data, struct err *err)
{
	g_autofree char *vms = g_strdup_printf("%s/vm", runtime_dir);
	struct err trouble = { 0 };
	struct dirent *entry;
	DIR *dir;

	dir = opendir(vms);
	if (!dir)
		return err_errno(err, errno, "cannot read the runtime directory '%s'", vms);
	while (!trouble.code && (entry = readdir(dir))) {
		g_autofree char *path = NULL;
		struct runtime_state state = { 0 };
		struct err reason = { 0 };

		if (entry->d_name[0] == '.')
			continue;
		path = g_strdup_printf("%s/%s/state", vms, entry->d_name);
		if (access(path, F_OK) < 0) {
			remove_stateless(runtime_dir, entry->d_name);
			continue;
		}
		if (load_one(path, &state, &reason) == 0 &&
		    strcmp(state.def.name, entry->d_name) != 0)
			err_set(&reason, EBADMSG, "it describes VM '%s'", state.def.name);
		if (reason.code) {
			runtime_state_deinit(&state);
			if (store_is_damaged(path, &reason, &trouble))
				runtime_set_aside(runtime_dir, entry->d_name, &reason);
		} else {
			fn(&state, data);
		}
	}
	closedir(dir);
	if (trouble.code && err)
		*err = trouble;
	return -trouble.code;
}

uint64_t pid_start_time(uint32_t pid)
{
	g_autofree char *path = g_strdup_printf("/proc/%u/stat", pid);
	g_autofree char *text = NULL;
	uint64_t start;
	const char *p;

	if (pid == 0 || !g_file_get_contents(path, &text, NULL, NULL))
		return 0;
	/* Field 22; the command in field 2 may hold anything but ends at the last ')'. */
	p = strrchr(text, ')');
	if (!p || sscanf(p + 1,
			 " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d "
			 "%*d %*d %*d %" SCNu64,
			 &start) != 1)
		return 0;
	return start;
}
