/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/manager.h"

#include "build-config.h"
#include "daemon/autostart.h"
#include "daemon/definition.h"
#include "daemon/job.h"
#include "daemon/machine.h"
#include "daemon/runtime.h"
#include "daemon/spawner.h"
#include "daemon/store.h"
#include "vmm/base/err.h"
#include "vmm/base/log.h"
#include "vmm/config/json.h"
#include "vmm/config/vm-config.h"
#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#define BUTTON_INTERVAL_USEC (5 * 1000000ULL)
#define QUIT_GRACE_USEC      (2 * 1000000ULL)
#define RECONNECT_USEC       (1 * 1000000ULL)
#define REQUEST_USEC         (10 * 1000000ULL) /* in good health: many times over */
#define LOST_GRACE_USEC      (5 * 1000000ULL)
#define LOCK_WAIT_USEC       (5 * 1000000ULL) /* a predecessor that is ending */
#define JOBS_PER_USER_MAX    64               /* running ones, so that nobody fills the table */

static int on_flush(sd_event_source *source, void *userdata)
{
	struct manager *manager = userdata;

	(void)source;
	manager_flush(manager);
	return 0;
}

static void table_free_machine(gpointer vm)
{
	machine_free(vm);
}

static void table_free_job(gpointer job)
{
	job_free(job);
}

int manager_new(sd_event *event, const struct manager_options *options, struct spawner *spawner,
		struct manager **ret, struct err *err)
{
	struct manager *manager = g_new0(struct manager, 1);
	struct err last = { 0 };
	int r;

	manager->runtime_lock = -EBADF;
	manager->event = sd_event_ref(event);
	manager->user = options->user;
	manager->state_dir = g_strdup(options->state_dir);
	manager->runtime_dir = g_strdup(options->runtime_dir);
	manager->kvm_device = g_strdup(options->kvm_device);
	manager->default_slice = g_strdup(options->default_slice);
	manager->spawner = spawner;
	manager->machines =
		g_hash_table_new_full(g_str_hash, g_str_equal, NULL, table_free_machine);
	manager->uuids = g_hash_table_new(g_str_hash, g_str_equal);
	manager->jobs = g_hash_table_new_full(g_direct_hash, g_direct_equal, NULL, table_free_job);
	list_init(&manager->dirty);
	manager->job_retention_usec = JOB_RETENTION_USEC;
	manager->button_interval_usec = BUTTON_INTERVAL_USEC;
	manager->quit_grace_usec = QUIT_GRACE_USEC;
	manager->reconnect_usec = RECONNECT_USEC;
	manager->request_usec = REQUEST_USEC;
	manager->lost_grace_usec = LOST_GRACE_USEC;
	host_probe(&manager->host, manager->kvm_device);
	r = sd_event_add_defer(event, &manager->flush, on_flush, manager);
	if (r >= 0)
		r = sd_event_source_set_enabled(manager->flush, SD_EVENT_OFF);
	/* After everything that this turn of the loop has to say. */
	if (r >= 0)
		r = sd_event_source_set_priority(manager->flush, SD_EVENT_PRIORITY_NORMAL + 20);
	if (r < 0) {
		err_errno(err, -r, "cannot prepare the event loop");
		manager_free(manager);
		return r;
	}
	r = store_init(manager->state_dir, err);
	if (r == 0)
		r = runtime_init(manager->runtime_dir, err);
	if (r == 0) {
		r = runtime_lock(manager->runtime_dir, LOCK_WAIT_USEC, err);
		manager->runtime_lock = r;
		r = MIN(r, 0);
	}
	if (r == 0 && runtime_load_last_job(manager->runtime_dir, &manager->last_job_id, &last) < 0)
		log_warning("numbers of jobs may be used again: %s", last.msg);
	if (r == 0)
		r = autostart_new(manager, &manager->autostart, err);
	if (r < 0) {
		manager_free(manager);
		return r;
	}
	*ret = manager;
	return 0;
}

void manager_free(struct manager *manager)
{
	if (!manager)
		return;
	manager->observer = NULL;
	g_hash_table_destroy(manager->jobs);
	g_hash_table_destroy(manager->uuids);
	g_hash_table_destroy(manager->machines);
	sd_event_source_disable_unref(manager->flush);
	autostart_free(manager->autostart);
	manager->spawner->ops->free(manager->spawner);
	sd_event_unref(manager->event);
	if (manager->runtime_lock >= 0)
		close(manager->runtime_lock);
	g_free(manager->state_dir);
	g_free(manager->runtime_dir);
	g_free(manager->kvm_device);
	g_free(manager->default_slice);
	g_free(manager);
}

void manager_set_observer(struct manager *manager, const struct manager_observer *observer,
			  void *data)
{
	manager->observer = observer;
	manager->observer_data = data;
}

static void load_definition(struct definition *def, void *data)
{
	struct manager *manager = data;
	struct machine *vm = NULL;
	struct err err = { 0 };
	int r;

	r = manager_check_new(manager, def->name, def->uuid, &err);
	if (r == 0)
		r = machine_new(manager, def, &vm, &err);
	if (r < 0) {
		g_autofree char *path =
			g_strdup_printf("%s/%s.json", manager->state_dir, def->name);

		store_set_aside(path, path, &err);
		definition_deinit(def);
		return;
	}
	manager_add(manager, vm);
}

int manager_load(struct manager *manager, struct err *err)
{
	return store_load(manager->state_dir, load_definition, manager, err);
}

struct machine *manager_find(struct manager *manager, const char *name)
{
	return g_hash_table_lookup(manager->machines, name);
}

struct machine *manager_find_uuid(struct manager *manager, const char *uuid)
{
	return g_hash_table_lookup(manager->uuids, uuid);
}

struct machine *manager_find_pid(struct manager *manager, uint32_t pid)
{
	GHashTableIter iter;
	gpointer value;

	g_hash_table_iter_init(&iter, manager->machines);
	while (pid && g_hash_table_iter_next(&iter, NULL, &value)) {
		struct machine *vm = value;

		if (vm->spawn.active && vm->spawn.pid == pid)
			return vm;
	}
	return NULL;
}

struct job *manager_find_job(struct manager *manager, uint32_t id)
{
	return g_hash_table_lookup(manager->jobs, GUINT_TO_POINTER(id));
}

int manager_check_new(struct manager *manager, const char *name, const char *uuid, struct err *err)
{
	struct machine *other;
	int r;

	r = vm_name_check(name, err);
	if (r < 0)
		return r;
	if (manager_find(manager, name))
		return err_fault(err, FAULT_VM_EXISTS, EEXIST, "VM '%s' exists already", name);
	other = uuid ? manager_find_uuid(manager, uuid) : NULL;
	if (other)
		return err_fault(err, FAULT_VM_EXISTS, EEXIST, "UUID %s belongs to VM '%s' already",
				 uuid, other->def.name);
	return 0;
}

void manager_add(struct manager *manager, struct machine *vm)
{
	g_hash_table_insert(manager->machines, vm->def.name, vm);
	g_hash_table_insert(manager->uuids, vm->def.uuid, vm);
	manager_tell(manager, vm_added, vm);
	manager->changed |= MANAGER_PROPERTY_N_VMS;
	sd_event_source_set_enabled(manager->flush, SD_EVENT_ONESHOT);
}

int manager_create(struct manager *manager, struct definition *def, struct machine **ret,
		   struct err *err)
{
	struct machine *vm = NULL;
	int r;

	r = manager_check_new(manager, def->name, def->uuid, err);
	if (r < 0)
		return r;
	r = machine_new(manager, def, &vm, err);
	if (r < 0)
		return r;
	if (vm->def.persistent) {
		r = store_save(manager->state_dir, &vm->def, err);
		if (r < 0) {
			machine_free(vm);
			return r;
		}
	}
	manager_add(manager, vm);
	*ret = vm;
	return 0;
}

void manager_remove(struct manager *manager, struct machine *vm)
{
	manager_flush(manager);
	manager_tell(manager, vm_removed, vm);
	autostart_settle(manager->autostart, vm->def.name);
	list_remove(&vm->dirty);
	g_hash_table_remove(manager->uuids, vm->def.uuid);
	g_hash_table_remove(manager->machines, vm->def.name);
	manager->changed |= MANAGER_PROPERTY_N_VMS;
	sd_event_source_set_enabled(manager->flush, SD_EVENT_ONESHOT);
}

void manager_vm_changed(struct manager *manager, struct machine *vm, uint32_t properties)
{
	/* Nothing changed: a machine is in the list once, and has something to announce then. */
	if (!properties)
		return;
	if (!vm->changed)
		list_append(&manager->dirty, &vm->dirty);
	vm->changed |= properties;
	sd_event_source_set_enabled(manager->flush, SD_EVENT_ONESHOT);
}

void manager_flush(struct manager *manager)
{
	while (!list_empty(&manager->dirty)) {
		struct machine *vm = container_of(manager->dirty.next, struct machine, dirty);
		uint32_t changed = vm->changed;

		list_remove(&vm->dirty);
		vm->changed = 0;
		manager_tell(manager, vm_changed, vm, changed);
	}
	if (manager->changed) {
		uint32_t changed = manager->changed;

		manager->changed = 0;
		manager_tell(manager, manager_changed, changed);
	}
}

void manager_probe_host(struct manager *manager)
{
	bool available = manager->host.kvm_available;

	host_probe(&manager->host, manager->kvm_device);
	if (manager->host.kvm_available == available)
		return;
	manager->changed |= MANAGER_PROPERTY_KVM_AVAILABLE;
	sd_event_source_set_enabled(manager->flush, SD_EVENT_ONESHOT);
}

void manager_count_running(struct manager *manager, int delta)
{
	manager->n_running = (unsigned int)((int)manager->n_running + delta);
	manager->changed |= MANAGER_PROPERTY_N_RUNNING;
	sd_event_source_set_enabled(manager->flush, SD_EVENT_ONESHOT);
}

static uint32_t choose_job_id(struct manager *manager, uint32_t wanted)
{
	uint32_t id = manager->last_job_id;
	struct err err = { 0 };

	if (wanted && !manager_find_job(manager, wanted)) {
		if (wanted <= id)
			return wanted;
		id = wanted;
	} else {
		do
			id++;
		while (id == 0 || manager_find_job(manager, id));
	}
	manager->last_job_id = id;
	if (runtime_save_last_job(manager->runtime_dir, id, &err) < 0)
		log_warning("after a restart, numbers of jobs may be used again: %s", err.msg);
	return id;
}

int manager_add_job(struct manager *manager, struct job *job, struct err *err)
{
	unsigned int n_own = 0;
	GHashTableIter iter;
	gpointer value;

	g_hash_table_iter_init(&iter, manager->jobs);
	while (g_hash_table_iter_next(&iter, NULL, &value)) {
		struct job *other = value;

		n_own += other->owner == job->owner && !job_is_over(other);
	}
	/* Root is who would have to clean up: never locked out. */
	if (job->owner != 0 && n_own >= JOBS_PER_USER_MAX)
		return err_set(err, ENOBUFS,
			       "user %u has %u jobs running already, which is the limit",
			       job->owner, n_own);
	job->id = choose_job_id(manager, job->id);
	g_hash_table_insert(manager->jobs, GUINT_TO_POINTER(job->id), job);
	manager_tell(manager, job_added, job);
	return 0;
}

void manager_remove_job(struct manager *manager, struct job *job)
{
	manager_tell(manager, job_removed, job);
	g_hash_table_remove(manager->jobs, GUINT_TO_POINTER(job->id));
}

void manager_job_changed(struct manager *manager, struct job *job, uint32_t properties)
{
	manager_tell(manager, job_changed, job, properties);
}

void manager_job_ended(struct manager *manager, struct job *job)
{
	manager_tell(manager, job_ended, job);
}

char *manager_describe(struct manager *manager)
{
	g_auto(GVariantBuilder) dict = G_VARIANT_BUILDER_INIT(G_VARIANT_TYPE_VARDICT);
	g_autoptr(GVariant) value = NULL;
	GVariantBuilder daemon;

	g_variant_builder_init(&daemon, G_VARIANT_TYPE_VARDICT);
	dict_add(&daemon, "version", "s", BRUME_VERSION);
	dict_add(&daemon, "scope", "s", manager->user ? "user" : "system");
	dict_add(&daemon, "workers", "s", manager->spawner->ops->name);
	dict_add(&daemon, "vms", "t", (guint64)g_hash_table_size(manager->machines));
	dict_add(&daemon, "running", "t", (guint64)manager->n_running);
	dict_add(&daemon, "vcpus-max", "t", (guint64)MIN(manager->host.max_vcpus, VM_VCPUS_MAX));
	dict_add(&daemon, "disks-max", "t", (guint64)VM_DISKS_MAX);
	dict_add(&daemon, "nets-max", "t", (guint64)VM_NETS_MAX);
	dict_add_value(&dict, "daemon", g_variant_builder_end(&daemon));
	dict_add_value(&dict, "host", host_describe(&manager->host, manager->kvm_device));
	value = g_variant_ref_sink(g_variant_builder_end(&dict));
	return config_json_print(value, CONFIG_JSON_PRETTY);
}
