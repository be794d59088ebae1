/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/autostart.h"

#include "daemon/job.h"
#include "daemon/machine.h"
#include "daemon/manager.h"
#include "daemon/start.h"
#include "daemon/store.h"
#include "vmm/base/cleanup.h"
#include "vmm/base/err.h"
#include "vmm/base/log.h"
#include <errno.h>
#include <glib.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define AT_ONCE 8

struct autostart {
	struct manager *manager;
	char *path;
	bool begun;         /* in this boot */
	GPtrArray *pending; /* names whose turn is not over, in their order */
	unsigned int n_starting;
	sd_event_source *next;
};

static void start_some(struct autostart *autostart);

static int on_next(sd_event_source *source, void *userdata)
{
	(void)source;
	start_some(userdata);
	return 0;
}

static void load(struct autostart *autostart)
{
	_cleanup_free_ char *text = NULL;
	g_auto(GStrv) names = NULL;
	struct err err = { 0 };

	if (access(autostart->path, F_OK) < 0 && errno == ENOENT)
		return;
	autostart->begun = true;
	if (file_read(autostart->path, &text, &err) < 0) {
		log_error("what is left to be started with the host is not started: %s", err.msg);
		return;
	}
	names = g_strsplit(text, "\n", -1);
	for (char **name = names; *name; name++)
		if (**name)
			g_ptr_array_add(autostart->pending, g_strdup(*name));
}

static int save(struct autostart *autostart, struct err *err)
{
	g_autoptr(GString) text = g_string_new(NULL);

	for (guint i = 0; i < autostart->pending->len; i++)
		g_string_append_printf(text, "%s\n", (char *)autostart->pending->pdata[i]);
	/* A boot empties the file system, which is what makes it a mark of this boot. */
	return file_replace(autostart->path, text->str, false, err);
}

int autostart_new(struct manager *manager, struct autostart **ret, struct err *err)
{
	struct autostart *autostart = g_new0(struct autostart, 1);
	int r;

	autostart->manager = manager;
	autostart->path = g_build_filename(manager->runtime_dir, "autostart", NULL);
	autostart->pending = g_ptr_array_new_with_free_func(g_free);
	r = sd_event_add_defer(manager->event, &autostart->next, on_next, autostart);
	if (r >= 0)
		r = sd_event_source_set_enabled(autostart->next, SD_EVENT_OFF);
	if (r < 0) {
		autostart_free(autostart);
		return err_errno(err, -r, "cannot prepare the event loop");
	}
	load(autostart);
	*ret = autostart;
	return 0;
}

void autostart_free(struct autostart *autostart)
{
	if (!autostart)
		return;
	sd_event_source_disable_unref(autostart->next);
	g_ptr_array_unref(autostart->pending);
	g_free(autostart->path);
	g_free(autostart);
}

void autostart_settle(struct autostart *autostart, const char *name)
{
	struct err err = { 0 };
	guint i;

	if (!g_ptr_array_find_with_equal_func(autostart->pending, name, g_str_equal, &i))
		return;
	g_ptr_array_remove_index(autostart->pending, i);
	if (save(autostart, &err) < 0)
		log_error("VM '%s' may be started again when the daemon is restarted: %s", name,
			  err.msg);
}

/* One is up, or has failed (which the log says): the next one's turn comes, but not from here. */
static void on_started(void *data, const struct job *job, const struct err *err)
{
	struct autostart *autostart = data;

	(void)job;
	(void)err;
	autostart->n_starting--;
	sd_event_source_set_enabled(autostart->next, SD_EVENT_ONESHOT);
}

/* The first that nobody starts yet. Those that are not to be started any more are dropped. */
static struct machine *next_machine(struct autostart *autostart)
{
	GPtrArray *pending = autostart->pending;

	for (guint i = 0; i < pending->len;) {
		struct machine *vm = manager_find(autostart->manager, pending->pdata[i]);

		if (!vm || !vm->def.autostart) {
			g_autofree char *name = g_strdup(pending->pdata[i]);

			autostart_settle(autostart, name);
		} else if (machine_is_active(vm)) {
			i++;
		} else {
			return vm;
		}
	}
	return NULL;
}

/*
 * A few at a time, so that each gets the host's disks and processors while it
 * needs them most.  The jobs are the service's own: no limit of a user counts.
 */
static void start_some(struct autostart *autostart)
{
	struct machine *vm;

	while (autostart->n_starting < AT_ONCE && (vm = next_machine(autostart))) {
		struct err err = { 0 };

		if (machine_start(vm, 0, false, &err) < 0) {
			log_error("VM '%s' is not started automatically: %s", vm->def.name,
				  err.msg);
			autostart_settle(autostart, vm->def.name);
		} else if (vm->job && job_add_waiter(vm->job, on_started, autostart) == 0) {
			autostart->n_starting++;
		}
	}
}

static gint compare_names(gconstpointer a, gconstpointer b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

void autostart_run(struct autostart *autostart)
{
	GHashTableIter iter;
	struct err err = { 0 };
	gpointer value;

	if (!autostart->begun) {
		g_hash_table_iter_init(&iter, autostart->manager->machines);
		while (g_hash_table_iter_next(&iter, NULL, &value)) {
			const struct machine *vm = value;

			if (vm->def.autostart && !machine_is_active(vm))
				g_ptr_array_add(autostart->pending, g_strdup(vm->def.name));
		}
		g_ptr_array_sort(autostart->pending, compare_names);
		/* Without the mark every restart of the daemon would start all of them again. */
		if (save(autostart, &err) < 0) {
			log_error("no VM is started automatically: %s", err.msg);
			g_ptr_array_set_size(autostart->pending, 0);
			return;
		}
		autostart->begun = true;
	} else if (autostart->pending->len > 0) {
		log_info("going on with %u VMs that are to be started with the host",
			 autostart->pending->len);
	}
	start_some(autostart);
}
