/* SPDX-License-Identifier: Apache-2.0 */
/*
 * org.brume.vm1.Manager
 */
#include "dbus/manager-bus.h"
#include "build-config.h"
#include "daemon/definition.h"
#include "daemon/job.h"
#include "daemon/machine.h"
#include "daemon/manager.h"
#include "daemon/request.h"
#include "daemon/set-properties.h"
#include "daemon/spawner.h"
#include "daemon/worker.h"
#include "dbus/bus-error.h"
#include "dbus/bus-options.h"
#include "dbus/bus-path.h"
#include "dbus/host-resources.h"
#include "dbus/job-bus.h"
#include "dbus/polkit.h"
#include "dbus/service.h"
#include "dbus/variant.h"
#include "vmm/base/err.h"
#include "vmm/base/log.h"
#include "vmm/config/problems.h"
#include "vmm/config/vm-config.h"
#include <errno.h>
#include <malloc.h>
#include <stdio.h>
#include <string.h>
#include <systemd/sd-id128.h>

#define SLICE_NAME_MAX 255 /* of any unit name */
/* Of all VMs in one reply: half of what the system bus carries in one message. */
#define COUNTERS_MAX (16u << 20)
/* Larger texts, parsed, leave free memory behind that is worth giving back. */
#define TRIM_MIN (64u << 10)

static int reply_vm(sd_bus_message *m, const struct machine *vm)
{
	_cleanup_free_ char *path = bus_path_vm(vm->def.name);

	return path ? sd_bus_reply_method_return(m, "o", path) : -ENOMEM;
}

/* The VM, or else why there is none. */
static int reply_found(sd_bus_message *m, const struct machine *vm, const struct err *missing,
		       sd_bus_error *error)
{
	return vm ? reply_vm(m, vm) : bus_error_from_err(error, missing);
}

static int method_get_vm(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	struct service *service = userdata;
	struct machine *vm;
	struct err err = { 0 };
	const char *name;
	int r;

	r = sd_bus_message_read(m, "s", &name);
	if (r < 0)
		return r;
	vm = manager_find(service->manager, name);
	if (!vm)
		err_fault(&err, FAULT_NO_SUCH_VM, ENXIO, "there is no VM '%s'", name);
	return reply_found(m, vm, &err, error);
}

static int method_get_vm_by_uuid(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	struct service *service = userdata;
	struct machine *vm;
	struct err err = { 0 };
	const char *text;
	char uuid[37];
	int r;

	r = sd_bus_message_read(m, "s", &text);
	if (r < 0)
		return r;
	r = uuid_normalise(text, uuid, &err);
	if (r < 0)
		return bus_error_from_err(error, &err);
	vm = manager_find_uuid(service->manager, uuid);
	if (!vm)
		err_fault(&err, FAULT_NO_SUCH_VM, ENXIO, "there is no VM with UUID %s", uuid);
	return reply_found(m, vm, &err, error);
}

static int method_get_vm_by_pid(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	struct service *service = userdata;
	struct machine *vm;
	struct err err = { 0 };
	uint32_t pid;
	int r;

	r = sd_bus_message_read(m, "u", &pid);
	if (r < 0)
		return r;
	vm = manager_find_pid(service->manager, pid);
	if (!vm)
		err_fault(&err, FAULT_NO_SUCH_VM, ENXIO, "process %u is not the worker of any VM",
			  pid);
	return reply_found(m, vm, &err, error);
}

static int method_list_vms(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
	struct service *service = userdata;
	GHashTableIter iter;
	gpointer value;
	int r;

	(void)error;
	r = sd_bus_message_new_method_return(m, &reply);
	if (r >= 0)
		r = sd_bus_message_open_container(reply, 'a', "(sssuo)");
	g_hash_table_iter_init(&iter, service->manager->machines);
	while (r >= 0 && g_hash_table_iter_next(&iter, NULL, &value)) {
		const struct machine *vm = value;
		_cleanup_free_ char *path = bus_path_vm(vm->def.name);

		r = path ? sd_bus_message_append(reply, "(sssuo)", vm->def.name, vm->def.uuid,
						 machine_state_to_string(vm->state), vm->def.owner,
						 path)
			 : -ENOMEM;
	}
	if (r >= 0)
		r = sd_bus_message_close_container(reply);
	return r < 0 ? r : sd_bus_message_send(reply);
}

struct create_options {
	bool persistent, autostart;
	const char *description, *slice;
	GVariant *worker_properties; /* anything of type a(sv) */
};

static void create_options_deinit(struct create_options *options)
{
	g_clear_pointer(&options->worker_properties, g_variant_unref);
}

static const struct bus_option create_options[] = {
	{ "Persistent", 'b', offsetof(struct create_options, persistent) },
	{ "Autostart", 'b', offsetof(struct create_options, autostart) },
	{ "Description", 's', offsetof(struct create_options, description) },
	{ "Slice", 's', offsetof(struct create_options, slice) },
	{ "WorkerProperties", 'a', offsetof(struct create_options, worker_properties), "a(sv)" },
};

static int check_slice(const char *slice, struct err *err)
{
	size_t len = strlen(slice);

	if (len <= SLICE_NAME_MAX && g_str_has_suffix(slice, ".slice") && slice[0] != '-' &&
	    slice[0] != '.' && !strstr(slice, "--") && slice[len - strlen(".slice") - 1] != '-' &&
	    strspn(slice, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:_.\\-") ==
		    len)
		return 0;
	return err_fault(err, FAULT_BAD_ARGUMENT, EINVAL,
			 "option 'Slice': '%s' is not a slice, must look like 'machine-web.slice'",
			 slice);
}

static int check_create_options(const struct create_options *options, const struct given_fds *fds,
				struct err *err)
{
	/* A definition on disk outlives every descriptor. */
	if (fds->n > 0 && options->persistent)
		return err_fault(err, FAULT_BAD_ARGUMENT, EINVAL,
				 "descriptor '%s': a persistent VM cannot keep it, name a path or "
				 "set option 'Persistent' to false",
				 fds->items[0].name);
	if (options->autostart && !options->persistent)
		return err_fault(err, FAULT_BAD_ARGUMENT, EINVAL,
				 "option 'Autostart' needs a persistent VM");
	if (options->description) {
		int r = vm_description_check(options->description, err);

		if (r < 0)
			return err_prefix(err, r, "option 'Description'");
	}
	return options->slice ? check_slice(options->slice, err) : 0;
}

static int read_create_fds(sd_bus_message *m, struct given_fds *ret, struct err *err)
{
	const char *name;
	int fd, r;

	r = sd_bus_message_enter_container(m, 'a', "{sh}");
	while (r >= 0 && (r = sd_bus_message_read(m, "{sh}", &name, &fd)) > 0) {
		r = given_fds_add(ret, name, fd, err);
		if (r < 0)
			return r;
	}
	if (r >= 0)
		r = sd_bus_message_exit_container(m);
	return r < 0 ? err_errno(err, -r, "cannot read the descriptors") : 0;
}

/* What polkit is asked about a definition: making a VM, or reaching into the host. */
static int authorise_create(struct service *service, sd_bus_message *m, const char *name,
			    const char *uuid, const struct vm_config *config,
			    const struct create_options *options, GVariant *properties,
			    struct err *err)
{
	struct host_resource_details details;
	struct polkit_request request = {
		.action = POLKIT_ACTION_CREATE_VMS,
		.vm = name,
		.uuid = uuid,
		.verb = "create",
	};

	if (host_resource_details(config, NULL, options->slice, properties, &details))
		request.action = POLKIT_ACTION_USE_HOST_RESOURCES;
	request.extra = details.list;
	return service_check(service, m, NULL, &request, err);
}

static int create_vm(struct service *service, sd_bus_message *m, struct machine **ret,
		     struct err *err)
{
	_cleanup_(vm_config_free_cleanup) struct vm_config *config = NULL;
	_cleanup_(definition_deinit) struct definition def = { 0 };
	_cleanup_(create_options_deinit) struct create_options options = { .persistent = true };
	const char *name, *text;
	char uuid[37];
	sd_id128_t id;
	int r;

	r = sd_bus_message_read(m, "ss", &name, &text);
	if (r < 0)
		return err_errno(err, -r, "cannot read the arguments of CreateVM");
	r = read_create_fds(m, &def.fds, err);
	if (r == 0)
		r = bus_options_read(m, create_options, ARRAY_SIZE(create_options), &options, err);
	if (r == 0)
		r = check_create_options(&options, &def.fds, err);
	if (r == 0 && options.worker_properties)
		r = machine_check_properties(service->manager, options.worker_properties,
					     &def.properties, err);
	if (r == 0)
		r = manager_check_new(service->manager, name, NULL, err);
	if (r == 0)
		r = machine_parse_config(text, &config, &def.config, err);
	if (r == 0)
		r = given_fds_check(&def.fds, config, NULL, true, err);
	if (r < 0)
		return r;
	if (config->platform.uuid) {
		r = uuid_normalise(config->platform.uuid, uuid, err);
		if (r == 0)
			r = manager_check_new(service->manager, name, uuid, err);
		if (r < 0)
			return r;
	}
	r = authorise_create(service, m, name, config->platform.uuid ? uuid : NULL, config,
			     &options, def.properties, err);
	if (r <= 0)
		return r;
	if (!config->platform.uuid) {
		r = sd_id128_randomize(&id);
		if (r < 0)
			return err_errno(err, -r, "cannot make a UUID");
		sd_id128_to_uuid_string(id, uuid);
	}
	r = polkit_caller_uid(m, &def.owner, err);
	if (r < 0)
		return r;
	def.name = g_strdup(name);
	def.uuid = g_strdup(uuid);
	def.persistent = options.persistent;
	def.autostart = options.autostart;
	def.description = g_strdup(options.description ? options.description : "");
	def.slice = g_strdup(options.slice);
	r = manager_create(service->manager, &def, ret, err);
	return r < 0 ? r : 1;
}

static int method_create_vm(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	struct machine *vm = NULL;
	struct err err = { 0 };
	int r;

	r = create_vm(userdata, m, &vm, &err);
	if (r < 0)
		return bus_error_from_err(error, &err);
	return r == 0 ? 1 : reply_vm(m, vm);
}

/* "<pointer>: <reason>"; a text without pointer is about the whole document. */
static int append_diagnostic(sd_bus_message *reply, const char *severity, const char *text)
{
	const char *colon = text[0] == '/' ? strstr(text, ": ") : NULL;
	g_autofree char *pointer = colon ? g_strndup(text, (size_t)(colon - text)) : g_strdup("");

	return sd_bus_message_append(reply, "(sss)", severity, pointer, colon ? colon + 2 : text);
}

/* Everything that is wrong with the text, or else what this host has against it. */
static int append_diagnostics(sd_bus_message *reply, const char *text, const struct host *host)
{
	_cleanup_(config_problems_deinit) struct config_problems problems = { 0 };
	_cleanup_(vm_config_free_cleanup) struct vm_config *config = NULL;
	g_autoptr(GVariant) dict = NULL;
	g_autofree char *warning = NULL;
	struct err err = { 0 };
	int r = 0;

	if (json_object_parse(text, &dict, &err) < 0)
		return append_diagnostic(reply, "error", err.msg);
	if (vm_config_parse_all(dict, &config, &problems) < 0) {
		for (size_t i = 0; r >= 0 && i < config_problems_count(&problems); i++)
			r = append_diagnostic(reply, "error",
					      g_array_index(problems.list, struct err, i).msg);
		return r;
	}
	if (!host->kvm_available || config->cpus.max_vcpus <= host->max_vcpus)
		return 0;
	warning = g_strdup_printf("/cpus/max_vcpus: this host allows at most %u", host->max_vcpus);
	return append_diagnostic(reply, "warning", warning);
}

static int method_validate_config(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
	struct service *service = userdata;
	struct err err = { 0 };
	const char *text;
	int r;

	r = sd_bus_message_read(m, "s", &text);
	if (r < 0)
		return r;
	r = bus_options_read(m, NULL, 0, NULL, &err);
	if (r < 0)
		return bus_error_from_err(error, &err);
	r = sd_bus_message_new_method_return(m, &reply);
	if (r >= 0)
		r = sd_bus_message_open_container(reply, 'a', "(sss)");
	if (r < 0)
		return r;
	r = append_diagnostics(reply, text, &service->manager->host);
	if (strlen(text) > TRIM_MIN)
		malloc_trim(0);
	if (r >= 0)
		r = sd_bus_message_close_container(reply);
	return r < 0 ? r : sd_bus_message_send(reply);
}

static int method_describe(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	struct service *service = userdata;
	g_autofree char *json = manager_describe(service->manager);

	(void)error;
	return sd_bus_reply_method_return(m, "s", json);
}

/* One GetAllCounters under way: the answers of all workers are collected in its reply. */
struct counters_call {
	sd_bus_message *reply;
	unsigned int n_pending;
	size_t left; /* of COUNTERS_MAX */
};

struct counters_part {
	struct counters_call *call;
	char *path;
};

static void counters_done(struct counters_call *call)
{
	if (--call->n_pending > 0)
		return;
	if (sd_bus_message_close_container(call->reply) < 0 || sd_bus_message_send(call->reply) < 0)
		log_warning("cannot reply to GetAllCounters");
	sd_bus_message_unref(call->reply);
	g_free(call);
}

/* A worker in hostile hands must not fill a reply that the bus then refuses. */
static int append_counters(struct counters_call *call, const char *path, sd_bus_message *answer,
			   struct err *err)
{
	size_t max = MIN(call->left, WORKER_ANSWER_MAX);
	g_autoptr(GVariant) counters = NULL;
	int r;

	r = variant_from_message_max(answer, "a{sa{st}}", max, &counters, err);
	if (r < 0)
		return r;
	call->left -= MIN(call->left, g_variant_get_size(counters));
	r = sd_bus_message_open_container(call->reply, 'e', "oa{sa{st}}");
	if (r >= 0)
		r = sd_bus_message_append(call->reply, "o", path);
	if (r >= 0)
		r = variant_append(call->reply, counters);
	if (r >= 0)
		r = sd_bus_message_close_container(call->reply);
	return r < 0 ? err_errno(err, -r, "cannot be added") : 0;
}

static void on_counters(void *data, sd_bus_message *answer, const struct err *err)
{
	struct counters_part *part = data;
	struct counters_call *call = part->call;
	struct err bad = { 0 };

	/* A worker that is just going away has no counters: left out. */
	if (!err && append_counters(call, part->path, answer, &bad) < 0)
		log_warning("the counters of '%s' are left out: %s", part->path, bad.msg);
	free(part->path);
	g_free(part);
	counters_done(call);
}

static int method_get_all_counters(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
	struct service *service = userdata;
	struct counters_call *call;
	GHashTableIter iter;
	struct err err = { 0 };
	gpointer value;
	int r;

	r = bus_options_read(m, NULL, 0, NULL, &err);
	if (r < 0)
		return bus_error_from_err(error, &err);
	r = sd_bus_message_new_method_return(m, &reply);
	if (r >= 0)
		r = sd_bus_message_open_container(reply, 'a', "{oa{sa{st}}}");
	if (r < 0)
		return r;
	call = g_new0(struct counters_call, 1);
	call->reply = TAKE_PTR(reply);
	call->n_pending = 1; /* ourselves */
	call->left = COUNTERS_MAX;
	g_hash_table_iter_init(&iter, service->manager->machines);
	while (g_hash_table_iter_next(&iter, NULL, &value)) {
		struct machine *vm = value;
		struct counters_part *part = g_new0(struct counters_part, 1);

		part->call = call;
		part->path = bus_path_vm(vm->def.name);
		call->n_pending++;
		if (!part->path || machine_get_counters(vm, on_counters, part, NULL) < 0) {
			free(part->path);
			g_free(part);
			call->n_pending--;
		}
	}
	counters_done(call);
	return 1;
}

static struct job *find_job(struct service *service, uint32_t id, struct err *err)
{
	struct job *job = manager_find_job(service->manager, id);

	if (!job)
		err_fault(err, FAULT_NO_SUCH_JOB, ENXIO, "there is no job %u", id);
	return job;
}

static int method_get_job(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	struct err err = { 0 };
	struct job *job;
	uint32_t id;
	int r;

	r = sd_bus_message_read(m, "u", &id);
	if (r < 0)
		return r;
	job = find_job(userdata, id, &err);
	return job ? job_bus_reply(m, job, false) : bus_error_from_err(error, &err);
}

static int append_job(sd_bus_message *reply, const struct job *job)
{
	_cleanup_free_ char *vm_path = bus_path_vm(job->vm_name);
	_cleanup_free_ char *job_path = bus_path_job(job->id);

	if (!vm_path || !job_path)
		return -ENOMEM;
	return sd_bus_message_append(reply, "(usssdoo)", job->id, job_kind_to_string(job->kind),
				     job_state_to_string(job->state), job->phase, job->progress,
				     vm_path, job_path);
}

static int method_list_jobs(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
	struct service *service = userdata;
	GHashTableIter iter;
	gpointer job;
	int r;

	(void)error;
	r = sd_bus_message_new_method_return(m, &reply);
	if (r >= 0)
		r = sd_bus_message_open_container(reply, 'a', "(usssdoo)");
	g_hash_table_iter_init(&iter, service->manager->jobs);
	while (r >= 0 && g_hash_table_iter_next(&iter, NULL, &job))
		r = append_job(reply, job);
	if (r >= 0)
		r = sd_bus_message_close_container(reply);
	return r < 0 ? r : sd_bus_message_send(reply);
}

static int method_cancel_job(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	struct err err = { 0 };
	struct job *job;
	uint32_t id;
	int r;

	r = sd_bus_message_read(m, "u", &id);
	if (r < 0)
		return r;
	job = find_job(userdata, id, &err);
	if (job)
		r = job_bus_cancel(userdata, m, job, &err);
	if (!job || r < 0)
		return bus_error_from_err(error, &err);
	return r == 0 ? 1 : sd_bus_reply_method_return(m, NULL);
}

static int get_version(sd_bus *bus, const char *path, const char *interface, const char *property,
		       sd_bus_message *reply, void *userdata, sd_bus_error *error)
{
	(void)bus, (void)path, (void)interface, (void)property, (void)userdata, (void)error;
	return sd_bus_message_append(reply, "s", BRUME_VERSION);
}

static int get_scope(sd_bus *bus, const char *path, const char *interface, const char *property,
		     sd_bus_message *reply, void *userdata, sd_bus_error *error)
{
	const struct service *service = userdata;

	(void)bus, (void)path, (void)interface, (void)property, (void)error;
	return sd_bus_message_append(reply, "s", service->manager->user ? "user" : "system");
}

static int get_architecture(sd_bus *bus, const char *path, const char *interface,
			    const char *property, sd_bus_message *reply, void *userdata,
			    sd_bus_error *error)
{
	const struct service *service = userdata;

	(void)bus, (void)path, (void)interface, (void)property, (void)error;
	return sd_bus_message_append(reply, "s", service->manager->host.architecture);
}

static int get_features(sd_bus *bus, const char *path, const char *interface, const char *property,
			sd_bus_message *reply, void *userdata, sd_bus_error *error)
{
	const struct service *service = userdata;
	bool sandboxed = strcmp(service->manager->spawner->ops->name, "systemd") == 0;

	(void)bus, (void)path, (void)interface, (void)property, (void)error;
	return sd_bus_message_append(reply, "as", 2, "transient-vms",
				     sandboxed ? "sandbox=systemd" : "sandbox=none");
}

static int get_device_types(sd_bus *bus, const char *path, const char *interface,
			    const char *property, sd_bus_message *reply, void *userdata,
			    sd_bus_error *error)
{
	(void)bus, (void)path, (void)interface, (void)property, (void)userdata, (void)error;
	return sd_bus_message_append(reply, "as", 11, "disk", "net", "fs", "pmem", "vsock",
				     "balloon", "rng", "console", "rtc", "pvpanic", "iommu");
}

static int get_max_vcpus(sd_bus *bus, const char *path, const char *interface, const char *property,
			 sd_bus_message *reply, void *userdata, sd_bus_error *error)
{
	const struct service *service = userdata;
	uint32_t max = service->manager->host.max_vcpus;

	(void)bus, (void)path, (void)interface, (void)property, (void)error;
	return sd_bus_message_append(reply, "u", max < VM_VCPUS_MAX ? max : VM_VCPUS_MAX);
}

static int get_kvm_available(sd_bus *bus, const char *path, const char *interface,
			     const char *property, sd_bus_message *reply, void *userdata,
			     sd_bus_error *error)
{
	const struct service *service = userdata;

	(void)bus, (void)path, (void)interface, (void)property, (void)error;
	return sd_bus_message_append(reply, "b", (int)service->manager->host.kvm_available);
}

static int get_default_slice(sd_bus *bus, const char *path, const char *interface,
			     const char *property, sd_bus_message *reply, void *userdata,
			     sd_bus_error *error)
{
	const struct service *service = userdata;

	(void)bus, (void)path, (void)interface, (void)property, (void)error;
	return sd_bus_message_append(reply, "s", service->manager->default_slice);
}

static int get_n_vms(sd_bus *bus, const char *path, const char *interface, const char *property,
		     sd_bus_message *reply, void *userdata, sd_bus_error *error)
{
	const struct service *service = userdata;

	(void)bus, (void)path, (void)interface, (void)property, (void)error;
	return sd_bus_message_append(reply, "u", g_hash_table_size(service->manager->machines));
}

static int get_n_running(sd_bus *bus, const char *path, const char *interface, const char *property,
			 sd_bus_message *reply, void *userdata, sd_bus_error *error)
{
	const struct service *service = userdata;

	(void)bus, (void)path, (void)interface, (void)property, (void)error;
	return sd_bus_message_append(reply, "u", service->manager->n_running);
}

#define ANYBODY SD_BUS_VTABLE_UNPRIVILEGED

static const sd_bus_vtable manager_vtable[] = {
	SD_BUS_VTABLE_START(0),
	SD_BUS_METHOD_WITH_ARGS("GetVM", SD_BUS_ARGS("s", name), SD_BUS_RESULT("o", vm),
				method_get_vm, ANYBODY),
	SD_BUS_METHOD_WITH_ARGS("GetVMByUUID", SD_BUS_ARGS("s", uuid), SD_BUS_RESULT("o", vm),
				method_get_vm_by_uuid, ANYBODY),
	SD_BUS_METHOD_WITH_ARGS("GetVMByPID", SD_BUS_ARGS("u", pid), SD_BUS_RESULT("o", vm),
				method_get_vm_by_pid, ANYBODY),
	SD_BUS_METHOD_WITH_ARGS("ListVMs", SD_BUS_NO_ARGS, SD_BUS_RESULT("a(sssuo)", vms),
				method_list_vms, ANYBODY),
	SD_BUS_METHOD_WITH_ARGS("CreateVM",
				SD_BUS_ARGS("s", name, "s", config, "a{sh}", fds, "a{sv}", options),
				SD_BUS_RESULT("o", vm), method_create_vm,
				ANYBODY | SD_BUS_VTABLE_SENSITIVE),
	SD_BUS_METHOD_WITH_ARGS("ValidateConfig", SD_BUS_ARGS("s", config, "a{sv}", options),
				SD_BUS_RESULT("a(sss)", diagnostics), method_validate_config,
				ANYBODY | SD_BUS_VTABLE_SENSITIVE),
	SD_BUS_METHOD_WITH_ARGS("Describe", SD_BUS_NO_ARGS, SD_BUS_RESULT("s", json),
				method_describe, ANYBODY),
	SD_BUS_METHOD_WITH_ARGS("GetAllCounters", SD_BUS_ARGS("a{sv}", options),
				SD_BUS_RESULT("a{oa{sa{st}}}", counters), method_get_all_counters,
				ANYBODY),
	SD_BUS_METHOD_WITH_ARGS("GetJob", SD_BUS_ARGS("u", id), SD_BUS_RESULT("o", job),
				method_get_job, ANYBODY),
	SD_BUS_METHOD_WITH_ARGS("ListJobs", SD_BUS_NO_ARGS, SD_BUS_RESULT("a(usssdoo)", jobs),
				method_list_jobs, ANYBODY),
	SD_BUS_METHOD_WITH_ARGS("CancelJob", SD_BUS_ARGS("u", id), SD_BUS_NO_RESULT,
				method_cancel_job, ANYBODY),
	SD_BUS_PROPERTY("Version", "s", get_version, 0, SD_BUS_VTABLE_PROPERTY_CONST),
	SD_BUS_PROPERTY("Scope", "s", get_scope, 0, SD_BUS_VTABLE_PROPERTY_CONST),
	SD_BUS_PROPERTY("HostArchitecture", "s", get_architecture, 0, SD_BUS_VTABLE_PROPERTY_CONST),
	SD_BUS_PROPERTY("Features", "as", get_features, 0, SD_BUS_VTABLE_PROPERTY_CONST),
	SD_BUS_PROPERTY("DeviceTypes", "as", get_device_types, 0, SD_BUS_VTABLE_PROPERTY_CONST),
	SD_BUS_PROPERTY("MaxVCPUs", "u", get_max_vcpus, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
	SD_BUS_PROPERTY("KVMAvailable", "b", get_kvm_available, 0,
			SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
	SD_BUS_PROPERTY("DefaultSlice", "s", get_default_slice, 0, SD_BUS_VTABLE_PROPERTY_CONST),
	SD_BUS_PROPERTY("NVMs", "u", get_n_vms, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
	SD_BUS_PROPERTY("NRunning", "u", get_n_running, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
	SD_BUS_SIGNAL_WITH_ARGS("VMNew", SD_BUS_ARGS("s", name, "o", vm), 0),
	SD_BUS_SIGNAL_WITH_ARGS("VMRemoved", SD_BUS_ARGS("s", name, "o", vm), 0),
	SD_BUS_SIGNAL_WITH_ARGS("JobNew", SD_BUS_ARGS("u", id, "o", job, "o", vm, "s", kind), 0),
	SD_BUS_SIGNAL_WITH_ARGS("JobRemoved",
				SD_BUS_ARGS("u", id, "o", job, "o", vm, "s", result, "s",
					    error_name, "s", error_message),
				0),
	SD_BUS_VTABLE_END,
};

int manager_bus_add_vtable(sd_bus *bus, const char *path)
{
	return sd_bus_add_object_vtable(bus, NULL, path, BRUME_MANAGER_INTERFACE, manager_vtable,
					NULL);
}

int manager_bus_register(struct service *service)
{
	return sd_bus_add_object_vtable(service->bus, NULL, BRUME_ROOT_PATH,
					BRUME_MANAGER_INTERFACE, manager_vtable, service);
}

void manager_bus_changed(struct service *service, uint32_t properties)
{
	char *names[5] = { 0 };
	size_t n = 0;

	if (properties & MANAGER_PROPERTY_KVM_AVAILABLE) {
		names[n++] = (char *)"KVMAvailable";
		names[n++] = (char *)"MaxVCPUs"; /* KVM tells it */
	}
	if (properties & MANAGER_PROPERTY_N_VMS)
		names[n++] = (char *)"NVMs";
	if (properties & MANAGER_PROPERTY_N_RUNNING)
		names[n++] = (char *)"NRunning";
	sd_bus_emit_properties_changed_strv(service->bus, BRUME_ROOT_PATH, BRUME_MANAGER_INTERFACE,
					    names);
}

static void emit_vm(struct service *service, const char *signal, const struct machine *vm)
{
	_cleanup_free_ char *path = bus_path_vm(vm->def.name);

	if (path)
		sd_bus_emit_signal(service->bus, BRUME_ROOT_PATH, BRUME_MANAGER_INTERFACE, signal,
				   "so", vm->def.name, path);
}

void manager_bus_vm_new(struct service *service, struct machine *vm)
{
	emit_vm(service, "VMNew", vm);
}

void manager_bus_vm_removed(struct service *service, struct machine *vm)
{
	emit_vm(service, "VMRemoved", vm);
}

void manager_bus_job_new(struct service *service, struct job *job)
{
	_cleanup_free_ char *path = bus_path_job(job->id);
	_cleanup_free_ char *vm_path = bus_path_vm(job->vm_name);

	if (path && vm_path)
		sd_bus_emit_signal(service->bus, BRUME_ROOT_PATH, BRUME_MANAGER_INTERFACE, "JobNew",
				   "uoos", job->id, path, vm_path, job_kind_to_string(job->kind));
}

void manager_bus_job_removed(struct service *service, struct job *job)
{
	_cleanup_free_ char *path = bus_path_job(job->id);
	_cleanup_free_ char *vm_path = bus_path_vm(job->vm_name);

	if (path && vm_path)
		sd_bus_emit_signal(service->bus, BRUME_ROOT_PATH, BRUME_MANAGER_INTERFACE,
				   "JobRemoved", "uoosss", job->id, path, vm_path, job_result(job),
				   job->err.code ? bus_error_name(&job->err) : "", job->err.msg);
}
