/* SPDX-License-Identifier: Apache-2.0 */
#include "dbus/service.h"

#include "daemon/device.h"
#include "daemon/job.h"
#include "daemon/machine.h"
#include "daemon/manager.h"
#include "dbus/bus-path.h"
#include "dbus/device-bus.h"
#include "dbus/job-bus.h"
#include "dbus/log-control-bus.h"
#include "dbus/manager-bus.h"
#include "dbus/polkit.h"
#include "dbus/vm-bus.h"
#include "vmm/base/err.h"
#include "vmm/base/log.h"
#include <errno.h>
#include <pwd.h>
#include <string.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

static void object_added(struct service *service, char *taken)
{
	_cleanup_free_ char *path = taken;
	int r = path ? sd_bus_emit_object_added(service->bus, path) : -ENOMEM;

	if (r < 0)
		log_warning("cannot announce '%s': %s", path, strerror(-r));
}

static void object_removed(struct service *service, char *taken)
{
	_cleanup_free_ char *path = taken;
	int r = path ? sd_bus_emit_object_removed(service->bus, path) : -ENOMEM;

	if (r < 0)
		log_warning("cannot announce the end of '%s': %s", path, strerror(-r));
}

static void on_vm_added(void *data, struct machine *vm)
{
	object_added(data, bus_path_vm(vm->def.name));
	manager_bus_vm_new(data, vm);
}

static void on_vm_removed(void *data, struct machine *vm)
{
	object_removed(data, bus_path_vm(vm->def.name));
	manager_bus_vm_removed(data, vm);
}

static void on_vm_changed(void *data, struct machine *vm, uint32_t properties)
{
	vm_bus_changed(data, vm, properties);
}

static void on_vm_state_changed(void *data, struct machine *vm, const char *from, const char *to,
				const char *reason)
{
	vm_bus_state_changed(data, vm, from, to, reason);
}

static void on_vm_event(void *data, struct machine *vm, const char *source, const char *name,
			GVariant *details)
{
	vm_bus_event(data, vm, source, name, details);
}

static void on_device_added(void *data, struct machine_device *dev)
{
	object_added(data, bus_path_device(dev->vm->def.name, dev->id));
}

static void on_device_changed(void *data, struct machine_device *dev, uint32_t properties)
{
	device_bus_changed(data, dev, properties);
}

static void on_device_removed(void *data, struct machine_device *dev)
{
	object_removed(data, bus_path_device(dev->vm->def.name, dev->id));
}

static void on_device_plugged(void *data, struct machine_device *dev)
{
	vm_bus_device(data, dev, "DeviceAdded");
}

static void on_device_unplugged(void *data, struct machine_device *dev)
{
	vm_bus_device(data, dev, "DeviceRemoved");
}

static void on_job_added(void *data, struct job *job)
{
	object_added(data, bus_path_job(job->id));
	manager_bus_job_new(data, job);
}

static void on_job_changed(void *data, struct job *job, uint32_t properties)
{
	job_bus_changed(data, job, properties);
}

static void on_job_ended(void *data, struct job *job)
{
	manager_bus_job_removed(data, job);
}

static void on_job_removed(void *data, struct job *job)
{
	object_removed(data, bus_path_job(job->id));
}

static void on_manager_changed(void *data, uint32_t properties)
{
	struct service *service = data;

	manager_bus_changed(service, properties);
	sd_notifyf(false, "STATUS=%u VMs, %u running",
		   g_hash_table_size(service->manager->machines), service->manager->n_running);
}

static const struct manager_observer observer = {
	.vm_added = on_vm_added,
	.vm_removed = on_vm_removed,
	.vm_changed = on_vm_changed,
	.vm_state_changed = on_vm_state_changed,
	.vm_event = on_vm_event,
	.device_added = on_device_added,
	.device_changed = on_device_changed,
	.device_removed = on_device_removed,
	.device_plugged = on_device_plugged,
	.device_unplugged = on_device_unplugged,
	.job_added = on_job_added,
	.job_changed = on_job_changed,
	.job_ended = on_job_ended,
	.job_removed = on_job_removed,
	.manager_changed = on_manager_changed,
};

int service_new(sd_bus *bus, struct manager *manager, bool ask_polkit, struct service **ret,
		struct err *err)
{
	struct service *service = g_new0(struct service, 1);
	int r;

	service->bus = sd_bus_ref(bus);
	service->manager = manager;
	service->user_names = g_hash_table_new_full(g_direct_hash, g_direct_equal, NULL, g_free);
	r = polkit_new(bus, getuid(), ask_polkit, &service->polkit);
	if (r >= 0)
		r = sd_bus_add_object_manager(bus, NULL, BRUME_ROOT_PATH);
	if (r >= 0)
		r = manager_bus_register(service);
	if (r >= 0)
		r = vm_bus_register(service);
	if (r >= 0)
		r = device_bus_register(service);
	if (r >= 0)
		r = job_bus_register(service);
	if (r >= 0)
		r = log_control_bus_register(service);
	if (r < 0) {
		service_free(service);
		return err_errno(err, -r, "cannot publish objects on the bus");
	}
	manager_set_observer(manager, &observer, service);
	*ret = service;
	return 0;
}

void service_free(struct service *service)
{
	if (!service)
		return;
	manager_set_observer(service->manager, NULL, NULL);
	polkit_free(service->polkit);
	g_hash_table_destroy(service->user_names);
	sd_bus_unref(service->bus);
	g_free(service);
}

const char *service_user_name(struct service *service, uid_t uid)
{
	char buf[4096], *name = g_hash_table_lookup(service->user_names, GUINT_TO_POINTER(uid));
	struct passwd pw, *found = NULL;

	if (name)
		return name;
	if (getpwuid_r(uid, &pw, buf, sizeof(buf), &found) == 0 && found)
		name = g_strdup(found->pw_name);
	else
		name = g_strdup_printf("%u", uid);
	g_hash_table_insert(service->user_names, GUINT_TO_POINTER(uid), name);
	return name;
}

int service_check(struct service *service, sd_bus_message *call, const struct machine *vm,
		  struct polkit_request *request, struct err *err)
{
	if (vm) {
		request->vm = vm->def.name;
		request->uuid = vm->def.uuid;
		request->owner = vm->def.owner;
		request->owner_name = service_user_name(service, vm->def.owner);
	}
	return polkit_check(call, request, service->polkit, err);
}
