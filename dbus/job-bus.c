/* SPDX-License-Identifier: Apache-2.0 */
/*
 * org.brume.vm1.Job
 */
#include "dbus/job-bus.h"
#include "daemon/job.h"
#include "daemon/machine.h"
#include "daemon/manager.h"
#include "dbus/bus-error.h"
#include "dbus/bus-options.h"
#include "dbus/bus-path.h"
#include "dbus/polkit.h"
#include "dbus/service.h"
#include "vmm/base/err.h"
#include "vmm/base/log.h"
#include <errno.h>
#include <string.h>

/* The table is found in the job's manager; the service is what observes it. */
static struct service *job_service(const struct job *job)
{
	return job->manager->observer_data;
}

static int get_kind(sd_bus *bus, const char *path, const char *interface, const char *property,
		    sd_bus_message *reply, void *userdata, sd_bus_error *error)
{
	const struct job *job = userdata;

	(void)bus, (void)path, (void)interface, (void)property, (void)error;
	return sd_bus_message_append(reply, "s", job_kind_to_string(job->kind));
}

static int get_vm(sd_bus *bus, const char *path, const char *interface, const char *property,
		  sd_bus_message *reply, void *userdata, sd_bus_error *error)
{
	const struct job *job = userdata;
	_cleanup_free_ char *vm_path = bus_path_vm(job->vm_name);

	(void)bus, (void)path, (void)interface, (void)property, (void)error;
	return vm_path ? sd_bus_message_append(reply, "o", vm_path) : -ENOMEM;
}

static int get_state(sd_bus *bus, const char *path, const char *interface, const char *property,
		     sd_bus_message *reply, void *userdata, sd_bus_error *error)
{
	const struct job *job = userdata;

	(void)bus, (void)path, (void)interface, (void)property, (void)error;
	return sd_bus_message_append(reply, "s", job_state_to_string(job->state));
}

static int get_cancelable(sd_bus *bus, const char *path, const char *interface,
			  const char *property, sd_bus_message *reply, void *userdata,
			  sd_bus_error *error)
{
	const struct job *job = userdata;

	(void)bus, (void)path, (void)interface, (void)property, (void)error;
	return sd_bus_message_append(reply, "b", (int)job->cancelable);
}

static int get_error_name(sd_bus *bus, const char *path, const char *interface,
			  const char *property, sd_bus_message *reply, void *userdata,
			  sd_bus_error *error)
{
	const struct job *job = userdata;

	(void)bus, (void)path, (void)interface, (void)property, (void)error;
	return sd_bus_message_append(reply, "s", job->err.code ? bus_error_name(&job->err) : "");
}

static int get_error_message(sd_bus *bus, const char *path, const char *interface,
			     const char *property, sd_bus_message *reply, void *userdata,
			     sd_bus_error *error)
{
	const struct job *job = userdata;

	(void)bus, (void)path, (void)interface, (void)property, (void)error;
	return sd_bus_message_append(reply, "s", job->err.msg);
}

int job_bus_cancel(struct service *service, sd_bus_message *m, struct job *job, struct err *err)
{
	struct machine *vm = manager_find(service->manager, job->vm_name);
	struct polkit_request request = {
		.action = POLKIT_ACTION_MANAGE_VMS,
		.owner_shortcut = true,
		.verb = "cancel a job of",
	};
	int r;

	if (job_is_over(job))
		return err_fault(err, FAULT_WRONG_STATE, EPROTO, "job %u is over already", job->id);
	r = service_check(service, m, vm, &request, err);
	if (r <= 0)
		return r;
	r = job_cancel(job, err);
	return r < 0 ? r : 1;
}

static int method_cancel(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	struct job *job = userdata;
	struct err err = { 0 };
	int r;

	r = bus_options_read(m, NULL, 0, NULL, &err);
	if (r == 0)
		r = job_bus_cancel(job_service(job), m, job, &err);
	if (r < 0)
		return bus_error_from_err(error, &err);
	return r == 0 ? 1 : sd_bus_reply_method_return(m, NULL);
}

static const sd_bus_vtable job_vtable[] = {
	SD_BUS_VTABLE_START(0),
	SD_BUS_METHOD_WITH_ARGS("Cancel", SD_BUS_ARGS("a{sv}", options), SD_BUS_NO_RESULT,
				method_cancel, SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_PROPERTY("Id", "u", NULL, offsetof(struct job, id), SD_BUS_VTABLE_PROPERTY_CONST),
	SD_BUS_PROPERTY("Kind", "s", get_kind, 0, SD_BUS_VTABLE_PROPERTY_CONST),
	SD_BUS_PROPERTY("VM", "o", get_vm, 0, SD_BUS_VTABLE_PROPERTY_CONST),
	SD_BUS_PROPERTY("Owner", "u", NULL, offsetof(struct job, owner),
			SD_BUS_VTABLE_PROPERTY_CONST),
	SD_BUS_PROPERTY("StartTimestamp", "t", NULL, offsetof(struct job, start_usec),
			SD_BUS_VTABLE_PROPERTY_CONST),
	SD_BUS_PROPERTY("State", "s", get_state, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
	SD_BUS_PROPERTY("Phase", "s", NULL, offsetof(struct job, phase),
			SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
	SD_BUS_PROPERTY("Progress", "d", NULL, offsetof(struct job, progress),
			SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
	SD_BUS_PROPERTY("Cancelable", "b", get_cancelable, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
	SD_BUS_PROPERTY("ErrorName", "s", get_error_name, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
	SD_BUS_PROPERTY("ErrorMessage", "s", get_error_message, 0,
			SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
	SD_BUS_VTABLE_END,
};

static int find_job(sd_bus *bus, const char *path, const char *interface, void *userdata,
		    void **ret, sd_bus_error *error)
{
	struct service *service = userdata;
	struct job *job;
	uint32_t id;

	(void)bus, (void)interface, (void)error;
	if (bus_path_parse_job(path, &id) < 0)
		return 0;
	job = manager_find_job(service->manager, id);
	if (!job)
		return 0;
	*ret = job;
	return 1;
}

static int list_jobs(sd_bus *bus, const char *prefix, void *userdata, char ***ret,
		     sd_bus_error *error)
{
	struct service *service = userdata;
	GHashTableIter iter;
	gpointer job;
	char **paths;
	size_t n = 0;

	(void)bus, (void)prefix, (void)error;
	paths = calloc(g_hash_table_size(service->manager->jobs) + 1, sizeof(*paths));
	if (!paths)
		return -ENOMEM;
	g_hash_table_iter_init(&iter, service->manager->jobs);
	while (g_hash_table_iter_next(&iter, NULL, &job)) {
		paths[n] = bus_path_job(((struct job *)job)->id);
		n += paths[n] != NULL;
	}
	*ret = paths;
	return 1;
}

int job_bus_add_vtable(sd_bus *bus, const char *path)
{
	return sd_bus_add_object_vtable(bus, NULL, path, BRUME_JOB_INTERFACE, job_vtable, NULL);
}

int job_bus_register(struct service *service)
{
	int r;

	r = sd_bus_add_fallback_vtable(service->bus, NULL, BRUME_JOB_PATH_PREFIX,
				       BRUME_JOB_INTERFACE, job_vtable, find_job, service);
	if (r >= 0)
		r = sd_bus_add_node_enumerator(service->bus, NULL, BRUME_JOB_PATH_PREFIX, list_jobs,
					       service);
	return r;
}

void job_bus_changed(struct service *service, struct job *job, uint32_t properties)
{
	static const struct {
		enum job_property bit;
		const char *names[3];
	} table[] = {
		{ JOB_PROPERTY_STATE, { "State" } },
		{ JOB_PROPERTY_PHASE, { "Phase" } },
		{ JOB_PROPERTY_PROGRESS, { "Progress" } },
		{ JOB_PROPERTY_CANCELABLE, { "Cancelable" } },
		{ JOB_PROPERTY_ERROR, { "ErrorName", "ErrorMessage" } },
	};
	_cleanup_free_ char *path = bus_path_job(job->id);
	char *names[8] = { 0 };
	size_t n = 0;

	for (size_t i = 0; i < ARRAY_SIZE(table); i++)
		for (size_t j = 0; properties & table[i].bit && table[i].names[j]; j++)
			names[n++] = (char *)table[i].names[j];
	if (path)
		sd_bus_emit_properties_changed_strv(service->bus, path, BRUME_JOB_INTERFACE, names);
}

static void on_job_end(void *data, const struct job *job, const struct err *err)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *call = data;
	_cleanup_free_ char *path = bus_path_job(job->id);
	int r;

	if (err)
		r = bus_reply_err(call, err);
	else
		r = path ? sd_bus_reply_method_return(call, "o", path) : -ENOMEM;
	if (r < 0 && r != -ENOTCONN)
		log_warning("cannot reply to a waiting %s: %s", sd_bus_message_get_member(call),
			    strerror(-r));
}

int job_bus_reply(sd_bus_message *call, struct job *job, bool wait)
{
	_cleanup_free_ char *path = bus_path_job(job->id);
	int r;

	if (!path)
		return -ENOMEM;
	if (!wait)
		return sd_bus_reply_method_return(call, "o", path);
	if (job_is_over(job)) {
		on_job_end(sd_bus_message_ref(call), job, job->err.code ? &job->err : NULL);
		return 1;
	}
	r = job_add_waiter(job, on_job_end, sd_bus_message_ref(call));
	if (r < 0)
		sd_bus_message_unref(call);
	return r < 0 ? r : 1;
}
