/* SPDX-License-Identifier: Apache-2.0 */
/*
 * org.brume.vm1.VirtualMachine; what is about its definition, its devices, and what comes and
 * goes is in vm-definition-bus.c, vm-devices-bus.c and vm-plug-bus.c
 */
#include "dbus/vm-bus.h"
#include "daemon/describe.h"
#include "daemon/device.h"
#include "daemon/end.h"
#include "daemon/job.h"
#include "daemon/machine.h"
#include "daemon/manager.h"
#include "daemon/request.h"
#include "daemon/start.h"
#include "daemon/stop.h"
#include "daemon/worker.h"
#include "dbus/bus-call.h"
#include "dbus/bus-error.h"
#include "dbus/bus-options.h"
#include "dbus/bus-path.h"
#include "dbus/job-bus.h"
#include "dbus/polkit.h"
#include "dbus/service.h"
#include "dbus/variant.h"
#include "dbus/vm-definition-bus.h"
#include "dbus/vm-devices-bus.h"
#include "dbus/vm-plug-bus.h"
#include "vmm/base/err.h"
#include "vmm/base/log.h"
#include "vmm/config/vm-config.h"
#include <errno.h>
#include <stddef.h>
#include <string.h>

#define SHUTDOWN_USEC (90 * 1000000ULL)

struct start_options {
	bool paused, wait;
};

static const struct bus_option start_options[] = {
	{ "Paused", 'b', offsetof(struct start_options, paused) },
	{ "Wait", 'b', offsetof(struct start_options, wait) },
};

static int method_start(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	struct start_options options = { 0 };
	struct machine *vm = userdata;
	struct err err = { 0 };
	uid_t caller;
	int r;

	r = bus_options_read(m, start_options, ARRAY_SIZE(start_options), &options, &err);
	if (r == 0)
		r = machine_check_start(vm, &err);
	if (r == 0)
		r = bus_call_authorise(m, vm, POLKIT_ACTION_MANAGE_VMS, "start", true, &err);
	if (r <= 0)
		return bus_call_verdict(r, error, &err);
	r = polkit_caller_uid(m, &caller, &err);
	if (r == 0)
		r = machine_start(vm, caller, options.paused, &err);
	if (r < 0)
		return bus_error_from_err(error, &err);
	return job_bus_reply(m, vm->job, options.wait);
}

struct shutdown_options {
	uint64_t timeout_usec;
	bool force, wait;
};

static const struct bus_option shutdown_options[] = {
	{ "TimeoutUSec", 't', offsetof(struct shutdown_options, timeout_usec) },
	{ "Force", 'b', offsetof(struct shutdown_options, force) },
	{ "Wait", 'b', offsetof(struct shutdown_options, wait) },
};

static int stop_guest(sd_bus_message *m, struct machine *vm, bool reboot, sd_bus_error *error)
{
	struct shutdown_options options = { .timeout_usec = SHUTDOWN_USEC };
	const char *verb = reboot ? "reboot" : "shut down";
	struct stop_options stop;
	struct err err = { 0 };
	uid_t caller;
	int r;

	r = bus_options_read(m, shutdown_options, ARRAY_SIZE(shutdown_options), &options, &err);
	if (r == 0)
		r = machine_check_shutdown(vm, verb, &err);
	if (r == 0)
		r = bus_call_authorise(m, vm, POLKIT_ACTION_MANAGE_VMS, verb, true, &err);
	if (r <= 0)
		return bus_call_verdict(r, error, &err);
	stop = (struct stop_options){ options.timeout_usec, options.force };
	r = polkit_caller_uid(m, &caller, &err);
	if (r == 0)
		r = reboot ? machine_reboot(vm, caller, &stop, &err)
			   : machine_shutdown(vm, caller, &stop, &err);
	if (r < 0)
		return bus_error_from_err(error, &err);
	return job_bus_reply(m, vm->job, options.wait);
}

static int method_shutdown(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	return stop_guest(m, userdata, false, error);
}

static int method_reboot(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	return stop_guest(m, userdata, true, error);
}

static int method_terminate(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	struct machine *vm = userdata;
	struct err err = { 0 };
	int r;

	r = bus_call_no_options(m, &err);
	if (r == 0)
		r = machine_check_terminate(vm, &err);
	if (r == 0)
		r = bus_call_authorise(m, vm, POLKIT_ACTION_MANAGE_VMS, "terminate", true, &err);
	if (r <= 0)
		return bus_call_verdict(r, error, &err);
	r = machine_terminate(vm, bus_call_done, sd_bus_message_ref(m), &err);
	return bus_call_pending(m, r, error, &err);
}

static int request(sd_bus_message *m, struct machine *vm, enum request what, const char *verb,
		   sd_bus_error *error)
{
	struct err err = { 0 };
	int r;

	r = bus_call_no_options(m, &err);
	if (r == 0)
		r = machine_check_request(vm, what, &err);
	if (r == 0)
		r = bus_call_authorise(m, vm, POLKIT_ACTION_MANAGE_VMS, verb, true, &err);
	if (r <= 0)
		return bus_call_verdict(r, error, &err);
	r = machine_request(vm, what, bus_call_done, sd_bus_message_ref(m), &err);
	return bus_call_pending(m, r, error, &err);
}

static int method_reset(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	return request(m, userdata, REQUEST_RESET, "reset", error);
}

static int method_pause(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	return request(m, userdata, REQUEST_PAUSE, "pause", error);
}

static int method_resume(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	return request(m, userdata, REQUEST_RESUME, "resume", error);
}

static int method_power_button(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	return request(m, userdata, REQUEST_POWER_BUTTON, "press the power button of", error);
}

static int method_inject_nmi(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	return request(m, userdata, REQUEST_INJECT_NMI, "inject an NMI into", error);
}

struct delete_options {
	bool remove_state;
};

static const struct bus_option delete_options[] = {
	{ "RemoveState", 'b', offsetof(struct delete_options, remove_state) },
};

static int method_delete(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	struct delete_options options = { 0 };
	struct machine *vm = userdata;
	struct err err = { 0 };
	int r;

	r = bus_options_read(m, delete_options, ARRAY_SIZE(delete_options), &options, &err);
	if (r == 0)
		r = machine_check_delete(vm, &err);
	if (r == 0)
		r = bus_call_authorise(m, vm, POLKIT_ACTION_CREATE_VMS, "delete", false, &err);
	if (r <= 0)
		return bus_call_verdict(r, error, &err);
	r = machine_delete(vm, options.remove_state, &err);
	if (r < 0)
		return bus_error_from_err(error, &err);
	return sd_bus_reply_method_return(m, NULL);
}

struct console_options {
	bool force, read_only;
};

static const struct bus_option console_options[] = {
	{ "Force", 'b', offsetof(struct console_options, force) },
	{ "ReadOnly", 'b', offsetof(struct console_options, read_only) },
};

struct console_call {
	sd_bus_message *message;
	char tty[sizeof(((struct console_path *)0)->path)];
};

static void console_call_free(struct console_call *call)
{
	sd_bus_message_unref(call->message);
	g_free(call);
}
DEFINE_CLEANUP(struct console_call, console_call_free);

static void on_console(void *data, sd_bus_message *answer, const struct err *err)
{
	_cleanup_(console_call_free_cleanup) struct console_call *call = data;
	struct err bad = { 0 };
	int fd, r;

	if (!err) {
		r = sd_bus_message_read(answer, "h", &fd);
		if (r >= 0) {
			r = sd_bus_reply_method_return(call->message, "hs", fd, call->tty);
			if (r < 0 && r != -ENOTCONN)
				log_warning("cannot reply to OpenConsole: %s", strerror(-r));
			return;
		}
		err_errno(&bad, -r, "the worker answered without a console");
		err = &bad;
	}
	bus_reply_err(call->message, err);
}

/* console: "" is the first one. */
static struct console_call *console_call_new(sd_bus_message *m, const struct machine *vm,
					     const char *console)
{
	struct console_call *call = g_new0(struct console_call, 1);
	g_autofree char **names = machine_consoles(vm);

	call->message = sd_bus_message_ref(m);
	g_strlcpy(call->tty, console_paths_find(&vm->console_paths, *console ? console : names[0]),
		  sizeof(call->tty));
	return call;
}

static int method_open_console(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	struct console_options options = { 0 };
	const char *console, *extra[3] = { 0 };
	struct machine *vm = userdata;
	struct console_call *call;
	struct polkit_request question = {
		.action = POLKIT_ACTION_OPEN_CONSOLE,
		.owner_shortcut = true,
		.verb = "open a console of",
		.extra = extra,
	};
	struct err err = { 0 };
	int r;

	r = sd_bus_message_read(m, "s", &console);
	if (r < 0)
		return r;
	r = bus_options_read(m, console_options, ARRAY_SIZE(console_options), &options, &err);
	if (r == 0)
		r = machine_check_console(vm, console, &err);
	if (r < 0)
		return bus_error_from_err(error, &err);
	extra[0] = "console";
	extra[1] = console;
	r = service_check(bus_call_service(vm), m, vm, &question, &err);
	if (r <= 0)
		return bus_call_verdict(r, error, &err);
	call = console_call_new(m, vm, console);
	r = machine_open_console(vm, console, options.force, options.read_only, on_console, call,
				 &err);
	if (r >= 0)
		return 1;
	console_call_free(call);
	return bus_error_from_err(error, &err);
}

struct describe_call {
	struct service *service;
	sd_bus_message *message;
};

static void on_query(void *data, sd_bus_message *answer, const struct err *err)
{
	struct describe_call *call = data;
	struct machine *vm =
		bus_call_find_vm(call->service, sd_bus_message_get_path(call->message));
	g_autoptr(GVariant) dict = NULL;
	g_autofree char *json = NULL;
	struct err gone = { 0 };

	/* A worker that does not answer is described without its part. */
	if (!err && variant_from_message_max(answer, "a{sv}", WORKER_ANSWER_MAX, &dict, NULL) < 0)
		dict = NULL;
	if (vm) {
		json = machine_describe(vm, dict);
		sd_bus_reply_method_return(call->message, "s", json);
	} else {
		err_fault(&gone, FAULT_NO_SUCH_VM, ENXIO, "the VM is gone");
		bus_reply_err(call->message, &gone);
	}
	sd_bus_message_unref(call->message);
	g_free(call);
}

static int method_describe(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	g_autofree char *json = NULL;
	struct machine *vm = userdata;
	struct describe_call *call;
	struct err err = { 0 };
	int r;

	r = bus_call_authorise(m, vm, POLKIT_ACTION_INSPECT_VMS, "inspect", true, &err);
	if (r <= 0)
		return bus_call_verdict(r, error, &err);
	call = g_new0(struct describe_call, 1);
	call->service = bus_call_service(vm);
	call->message = sd_bus_message_ref(m);
	if (machine_query(vm, on_query, call, NULL) == 0)
		return 1;
	sd_bus_message_unref(call->message);
	g_free(call);
	json = machine_describe(vm, NULL);
	return sd_bus_reply_method_return(m, "s", json);
}

static void on_counters(void *data, sd_bus_message *answer, const struct err *err)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *call = data;
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
	_cleanup_free_ char *name = NULL;
	g_autoptr(GVariant) counters = NULL;
	struct err bad = { 0 };
	int r;

	if (err) {
		bus_reply_err(call, err);
		return;
	}
	/* What the bus refuses to carry costs us our connection to it. */
	r = variant_from_message_max(answer, "a{sa{st}}", WORKER_ANSWER_MAX, &counters, &bad);
	if (r < 0) {
		bad.fault = FAULT_WORKER_FAILED;
		bus_path_parse_vm(sd_bus_message_get_path(call), &name);
		err_prefix(&bad, r, "the counters of VM '%s' cannot be passed on",
			   name ? name : "");
		bus_reply_err(call, &bad);
		return;
	}
	r = sd_bus_message_new_method_return(call, &reply);
	if (r >= 0)
		r = variant_append(reply, counters);
	if (r >= 0)
		r = sd_bus_message_send(reply);
	if (r < 0) {
		err_errno(&bad, -r, "the worker's counters cannot be passed on");
		bus_reply_err(call, &bad);
	}
}

static int method_get_counters(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	struct machine *vm = userdata;
	struct err err = { 0 };
	int r;

	r = bus_call_no_options(m, &err);
	if (r < 0)
		return bus_error_from_err(error, &err);
	r = machine_get_counters(vm, on_counters, sd_bus_message_ref(m), &err);
	return bus_call_pending(m, r, error, &err);
}

static int get_bool(sd_bus *bus, const char *path, const char *interface, const char *property,
		    sd_bus_message *reply, void *userdata, sd_bus_error *error)
{
	const bool *value = userdata;

	(void)bus, (void)path, (void)interface, (void)property, (void)error;
	return sd_bus_message_append(reply, "b", (int)*value);
}

static int get_chars(sd_bus *bus, const char *path, const char *interface, const char *property,
		     sd_bus_message *reply, void *userdata, sd_bus_error *error)
{
	(void)bus, (void)path, (void)interface, (void)property, (void)error;
	return sd_bus_message_append(reply, "s", (const char *)userdata);
}

static int get_state(sd_bus *bus, const char *path, const char *interface, const char *property,
		     sd_bus_message *reply, void *userdata, sd_bus_error *error)
{
	const struct machine *vm = userdata;

	(void)bus, (void)path, (void)interface, (void)property, (void)error;
	return sd_bus_message_append(reply, "s", machine_state_to_string(vm->state));
}

static int get_current_job(sd_bus *bus, const char *path, const char *interface,
			   const char *property, sd_bus_message *reply, void *userdata,
			   sd_bus_error *error)
{
	const struct machine *vm = userdata;
	_cleanup_free_ char *job = vm->job ? bus_path_job(vm->job->id) : strdup("/");

	(void)bus, (void)path, (void)interface, (void)property, (void)error;
	return job ? sd_bus_message_append(reply, "o", job) : -ENOMEM;
}

static int get_features(sd_bus *bus, const char *path, const char *interface, const char *property,
			sd_bus_message *reply, void *userdata, sd_bus_error *error)
{
	(void)bus, (void)path, (void)interface, (void)property, (void)userdata, (void)error;
	return sd_bus_message_append(reply, "as", 4, "pause", "reset", "nmi", "console");
}

static int get_vcpus_max(sd_bus *bus, const char *path, const char *interface, const char *property,
			 sd_bus_message *reply, void *userdata, sd_bus_error *error)
{
	(void)bus, (void)path, (void)interface, (void)property, (void)error;
	return sd_bus_message_append(reply, "u",
				     machine_config((struct machine *)userdata)->cpus.max_vcpus);
}

static int get_consoles(sd_bus *bus, const char *path, const char *interface, const char *property,
			sd_bus_message *reply, void *userdata, sd_bus_error *error)
{
	g_autofree char **names = machine_consoles(userdata);

	(void)bus, (void)path, (void)interface, (void)property, (void)error;
	return sd_bus_message_append_strv(reply, names);
}

static int get_console_paths(sd_bus *bus, const char *path, const char *interface,
			     const char *property, sd_bus_message *reply, void *userdata,
			     sd_bus_error *error)
{
	const struct console_paths *paths = &((const struct machine *)userdata)->console_paths;
	int r;

	(void)bus, (void)path, (void)interface, (void)property, (void)error;
	r = sd_bus_message_open_container(reply, 'a', "{ss}");
	for (size_t i = 0; r >= 0 && i < paths->n; i++)
		r = sd_bus_message_append(reply, "{ss}", paths->items[i].console,
					  paths->items[i].path);
	return r < 0 ? r : sd_bus_message_close_container(reply);
}

#define ANYBODY   SD_BUS_VTABLE_UNPRIVILEGED
#define CONST     SD_BUS_VTABLE_PROPERTY_CONST
#define EMITS     SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE
#define OPTIONS   SD_BUS_ARGS("a{sv}", options)
#define MEMBER(m) offsetof(struct machine, m)

static const sd_bus_vtable vm_vtable[] = {
	SD_BUS_VTABLE_START(0),
	SD_BUS_METHOD_WITH_ARGS("Start", OPTIONS, SD_BUS_RESULT("o", job), method_start, ANYBODY),
	SD_BUS_METHOD_WITH_ARGS("Shutdown", OPTIONS, SD_BUS_RESULT("o", job), method_shutdown,
				ANYBODY),
	SD_BUS_METHOD_WITH_ARGS("Reboot", OPTIONS, SD_BUS_RESULT("o", job), method_reboot, ANYBODY),
	SD_BUS_METHOD_WITH_ARGS("Reset", OPTIONS, SD_BUS_NO_RESULT, method_reset, ANYBODY),
	SD_BUS_METHOD_WITH_ARGS("Terminate", OPTIONS, SD_BUS_NO_RESULT, method_terminate, ANYBODY),
	SD_BUS_METHOD_WITH_ARGS("Pause", OPTIONS, SD_BUS_NO_RESULT, method_pause, ANYBODY),
	SD_BUS_METHOD_WITH_ARGS("Resume", OPTIONS, SD_BUS_NO_RESULT, method_resume, ANYBODY),
	SD_BUS_METHOD_WITH_ARGS("PowerButton", OPTIONS, SD_BUS_NO_RESULT, method_power_button,
				ANYBODY),
	SD_BUS_METHOD_WITH_ARGS("InjectNMI", OPTIONS, SD_BUS_NO_RESULT, method_inject_nmi, ANYBODY),
	SD_BUS_METHOD_WITH_ARGS("Delete", OPTIONS, SD_BUS_NO_RESULT, method_delete, ANYBODY),
	SD_BUS_METHOD_WITH_ARGS("OpenConsole", SD_BUS_ARGS("s", console, "a{sv}", options),
				SD_BUS_RESULT("h", fd, "s", tty), method_open_console, ANYBODY),
	SD_BUS_METHOD_WITH_ARGS("SetConsoleSize",
				SD_BUS_ARGS("s", console, "q", columns, "q", rows, "a{sv}",
					    options),
				SD_BUS_NO_RESULT, vm_devices_bus_set_console_size, ANYBODY),
	SD_BUS_METHOD_WITH_ARGS("ConnectVSock", SD_BUS_ARGS("u", port, "a{sv}", options),
				SD_BUS_RESULT("h", fd), vm_devices_bus_connect_vsock, ANYBODY),
	SD_BUS_METHOD_WITH_ARGS("ListDevices", SD_BUS_NO_ARGS, SD_BUS_RESULT("a(ssso)", devices),
				vm_devices_bus_list, ANYBODY),
	SD_BUS_METHOD_WITH_ARGS("AddDevice",
				SD_BUS_ARGS("s", type, "s", id, "a{sv}", config, "a{sh}", fds,
					    "a{sv}", options),
				SD_BUS_RESULT("o", device), vm_plug_bus_add, ANYBODY),
	SD_BUS_METHOD_WITH_ARGS("RemoveDevice", SD_BUS_ARGS("s", id, "a{sv}", options),
				SD_BUS_RESULT("o", job), vm_plug_bus_remove, ANYBODY),
	SD_BUS_METHOD_WITH_ARGS("ResizeVCPUs", SD_BUS_ARGS("u", vcpus, "a{sv}", options),
				SD_BUS_RESULT("o", job), vm_plug_bus_resize_vcpus, ANYBODY),
	SD_BUS_METHOD_WITH_ARGS("ResizeMemory", SD_BUS_ARGS("t", bytes, "a{sv}", options),
				SD_BUS_RESULT("o", job), vm_plug_bus_resize_memory, ANYBODY),
	SD_BUS_METHOD_WITH_ARGS("ResizeMemoryZone",
				SD_BUS_ARGS("s", zone, "t", bytes, "a{sv}", options),
				SD_BUS_RESULT("o", job), vm_plug_bus_resize_memory_zone, ANYBODY),
	SD_BUS_METHOD_WITH_ARGS("GetDevice", SD_BUS_ARGS("s", id), SD_BUS_RESULT("o", device),
				vm_devices_bus_get, ANYBODY),
	SD_BUS_METHOD_WITH_ARGS("SetBalloon", SD_BUS_ARGS("t", bytes, "a{sv}", options),
				SD_BUS_NO_RESULT, vm_devices_bus_set_balloon, ANYBODY),
	SD_BUS_METHOD_WITH_ARGS("SetRateLimitGroup",
				SD_BUS_ARGS("s", group, "a{sv}", limits, "a{sv}", options),
				SD_BUS_NO_RESULT, vm_devices_bus_set_rate_limit_group, ANYBODY),
	SD_BUS_METHOD_WITH_ARGS("GetConfig", SD_BUS_ARGS("s", which), SD_BUS_RESULT("s", config),
				vm_definition_bus_get_config, ANYBODY | SD_BUS_VTABLE_SENSITIVE),
	SD_BUS_METHOD_WITH_ARGS("SetConfig", SD_BUS_ARGS("s", config, "a{sv}", options),
				SD_BUS_NO_RESULT, vm_definition_bus_set_config,
				ANYBODY | SD_BUS_VTABLE_SENSITIVE),
	SD_BUS_METHOD_WITH_ARGS("SetAutostart", SD_BUS_ARGS("b", enable, "a{sv}", options),
				SD_BUS_NO_RESULT, vm_definition_bus_set_autostart, ANYBODY),
	SD_BUS_METHOD_WITH_ARGS("SetDescription", SD_BUS_ARGS("s", description, "a{sv}", options),
				SD_BUS_NO_RESULT, vm_definition_bus_set_description, ANYBODY),
	SD_BUS_METHOD_WITH_ARGS("SetResourceProperties",
				SD_BUS_ARGS("b", runtime, "a(sv)", properties, "a{sv}", options),
				SD_BUS_NO_RESULT, vm_definition_bus_set_resource_properties,
				ANYBODY),
	SD_BUS_METHOD_WITH_ARGS("Describe", SD_BUS_NO_ARGS, SD_BUS_RESULT("s", json),
				method_describe, ANYBODY),
	SD_BUS_METHOD_WITH_ARGS("GetCounters", OPTIONS, SD_BUS_RESULT("a{sa{st}}", counters),
				method_get_counters, ANYBODY),
	SD_BUS_PROPERTY("Name", "s", NULL, MEMBER(def.name), CONST),
	SD_BUS_PROPERTY("UUID", "s", NULL, MEMBER(def.uuid), CONST),
	SD_BUS_PROPERTY("Owner", "u", NULL, MEMBER(def.owner), CONST),
	SD_BUS_PROPERTY("Description", "s", NULL, MEMBER(def.description), EMITS),
	SD_BUS_PROPERTY("Persistent", "b", get_bool, MEMBER(def.persistent), EMITS),
	SD_BUS_PROPERTY("Autostart", "b", get_bool, MEMBER(def.autostart), EMITS),
	SD_BUS_PROPERTY("State", "s", get_state, 0, EMITS),
	SD_BUS_PROPERTY("StateReason", "s", get_chars, MEMBER(state_reason), EMITS),
	SD_BUS_PROPERTY("StateTimestamp", "t", NULL, MEMBER(state_usec), EMITS),
	SD_BUS_PROPERTY("CurrentJob", "o", get_current_job, 0, EMITS),
	SD_BUS_PROPERTY("Features", "as", get_features, 0, EMITS),
	SD_BUS_PROPERTY("RestartRequired", "b", get_bool, MEMBER(restart_required), EMITS),
	SD_BUS_PROPERTY("VCPUs", "u", vm_plug_bus_get_sizes, 0, EMITS),
	SD_BUS_PROPERTY("VCPUsTarget", "u", vm_plug_bus_get_sizes, 0, EMITS),
	SD_BUS_PROPERTY("VCPUsMax", "u", get_vcpus_max, 0, EMITS),
	SD_BUS_PROPERTY("Memory", "t", vm_plug_bus_get_sizes, 0, EMITS),
	SD_BUS_PROPERTY("MemoryTarget", "t", vm_plug_bus_get_sizes, 0, EMITS),
	SD_BUS_PROPERTY("MemoryMax", "t", vm_plug_bus_get_sizes, 0, EMITS),
	SD_BUS_PROPERTY("Consoles", "as", get_consoles, 0, EMITS),
	SD_BUS_PROPERTY("ConsolePaths", "a{ss}", get_console_paths, 0, EMITS),
	SD_BUS_PROPERTY("Balloon", "t", vm_devices_bus_get_balloon, 0, EMITS),
	SD_BUS_PROPERTY("BalloonTarget", "t", vm_devices_bus_get_balloon, 0, EMITS),
	SD_BUS_PROPERTY("VSockCID", "u", vm_devices_bus_get_cid, 0, EMITS),
	SD_BUS_PROPERTY("RateLimitGroups", "a{sa{st}}", vm_devices_bus_get_rate_limit_groups, 0,
			EMITS),
	SD_BUS_PROPERTY("Unit", "s", NULL, MEMBER(spawn.unit), EMITS),
	SD_BUS_PROPERTY("MainPID", "u", NULL, MEMBER(spawn.pid), EMITS),
	SD_BUS_PROPERTY("InvocationID", "s", get_chars, MEMBER(spawn.invocation_id), EMITS),
	SD_BUS_PROPERTY("MachineName", "s", NULL, MEMBER(machine_name), EMITS),
	SD_BUS_PROPERTY("LastExitReason", "s", get_chars, MEMBER(last_exit_reason), EMITS),
	SD_BUS_PROPERTY("LastExitStatus", "i", NULL, MEMBER(last_exit_status), EMITS),
	SD_BUS_SIGNAL_WITH_ARGS("StateChanged",
				SD_BUS_ARGS("s", old_state, "s", new_state, "s", reason), 0),
	SD_BUS_SIGNAL_WITH_ARGS("DeviceAdded", SD_BUS_ARGS("s", id, "o", device), 0),
	SD_BUS_SIGNAL_WITH_ARGS("DeviceRemoved", SD_BUS_ARGS("s", id, "o", device), 0),
	SD_BUS_SIGNAL_WITH_ARGS("GuestPanicked", SD_BUS_ARGS("a{sv}", details), 0),
	SD_BUS_SIGNAL_WITH_ARGS("Event", SD_BUS_ARGS("s", source, "s", name, "a{sv}", details), 0),
	SD_BUS_VTABLE_END,
};

static int find_vm(sd_bus *bus, const char *path, const char *interface, void *userdata, void **ret,
		   sd_bus_error *error)
{
	struct machine *vm = bus_call_find_vm(userdata, path);

	(void)bus, (void)interface, (void)error;
	if (!vm)
		return 0;
	*ret = vm;
	return 1;
}

static int list_vms(sd_bus *bus, const char *prefix, void *userdata, char ***ret,
		    sd_bus_error *error)
{
	struct service *service = userdata;
	GHashTableIter iter;
	gpointer name;
	char **paths;
	size_t n = 0;

	(void)bus, (void)prefix, (void)error;
	paths = calloc(g_hash_table_size(service->manager->machines) + 1, sizeof(*paths));
	if (!paths)
		return -ENOMEM;
	g_hash_table_iter_init(&iter, service->manager->machines);
	while (g_hash_table_iter_next(&iter, &name, NULL)) {
		paths[n] = bus_path_vm(name);
		n += paths[n] != NULL;
	}
	*ret = paths;
	return 1;
}

int vm_bus_add_vtable(sd_bus *bus, const char *path)
{
	return sd_bus_add_object_vtable(bus, NULL, path, BRUME_VM_INTERFACE, vm_vtable, NULL);
}

int vm_bus_register(struct service *service)
{
	int r;

	r = sd_bus_add_fallback_vtable(service->bus, NULL, BRUME_VM_PATH_PREFIX, BRUME_VM_INTERFACE,
				       vm_vtable, find_vm, service);
	if (r >= 0)
		r = sd_bus_add_node_enumerator(service->bus, NULL, BRUME_VM_PATH_PREFIX, list_vms,
					       service);
	return r;
}

void vm_bus_changed(struct service *service, struct machine *vm, uint32_t properties)
{
	static const struct {
		enum machine_property bit;
		const char *names[8]; /* NULL behind the last */
	} table[] = {
		{ MACHINE_PROPERTY_DESCRIPTION, { "Description" } },
		{ MACHINE_PROPERTY_AUTOSTART, { "Autostart" } },
		{ MACHINE_PROPERTY_STATE, { "State", "StateReason", "StateTimestamp" } },
		{ MACHINE_PROPERTY_CURRENT_JOB, { "CurrentJob" } },
		{ MACHINE_PROPERTY_RESTART_REQUIRED, { "RestartRequired" } },
		{ MACHINE_PROPERTY_CONFIG,
		  { "VCPUs", "VCPUsTarget", "VCPUsMax", "Memory", "MemoryTarget", "MemoryMax",
		    "Consoles" } },
		{ MACHINE_PROPERTY_CONSOLE_PATHS, { "ConsolePaths" } },
		{ MACHINE_PROPERTY_BALLOON, { "Balloon", "BalloonTarget", "VSockCID" } },
		{ MACHINE_PROPERTY_RATE_LIMITS, { "RateLimitGroups" } },
		{ MACHINE_PROPERTY_PROCESS, { "Unit", "MainPID", "InvocationID" } },
		{ MACHINE_PROPERTY_MACHINE_NAME, { "MachineName" } },
		{ MACHINE_PROPERTY_LAST_EXIT, { "LastExitReason", "LastExitStatus" } },
	};
	_cleanup_free_ char *path = bus_path_vm(vm->def.name);
	char *names[32] = { 0 };
	size_t n = 0;

	for (size_t i = 0; i < ARRAY_SIZE(table); i++)
		for (size_t j = 0; properties & table[i].bit && table[i].names[j]; j++)
			names[n++] = (char *)table[i].names[j];
	if (path && n)
		sd_bus_emit_properties_changed_strv(service->bus, path, BRUME_VM_INTERFACE, names);
}

void vm_bus_state_changed(struct service *service, struct machine *vm, const char *from,
			  const char *to, const char *reason)
{
	_cleanup_free_ char *path = bus_path_vm(vm->def.name);

	if (path)
		sd_bus_emit_signal(service->bus, path, BRUME_VM_INTERFACE, "StateChanged", "sss",
				   from, to, reason);
}

void vm_bus_device(struct service *service, struct machine_device *dev, const char *signal)
{
	_cleanup_free_ char *path = bus_path_vm(dev->vm->def.name);
	_cleanup_free_ char *device = bus_path_device(dev->vm->def.name, dev->id);

	if (path && device)
		sd_bus_emit_signal(service->bus, path, BRUME_VM_INTERFACE, signal, "so", dev->id,
				   device);
}

/* What the panic device (pvpanic) tells has a signal of its own, besides Event. */
static void tell_panic(struct service *service, const char *path, const char *name)
{
	bool handled = strcmp(name, "crash-loaded") == 0;

	if (handled || strcmp(name, "panic") == 0)
		sd_bus_emit_signal(service->bus, path, BRUME_VM_INTERFACE, "GuestPanicked", "a{sv}",
				   1, "CrashKernelLoaded", "b", handled);
}

void vm_bus_event(struct service *service, struct machine *vm, const char *source, const char *name,
		  GVariant *details)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
	_cleanup_free_ char *path = bus_path_vm(vm->def.name);
	int r;

	if (!path)
		return;
	if (strcmp(source, "guest") == 0)
		tell_panic(service, path, name);
	r = sd_bus_message_new_signal(service->bus, &m, path, BRUME_VM_INTERFACE, "Event");
	if (r >= 0)
		r = sd_bus_message_append(m, "ss", source, name);
	if (r >= 0)
		r = variant_append(m, details);
	if (r >= 0)
		r = sd_bus_message_send(m);
	if (r < 0)
		log_warning("VM '%s': an event cannot be passed on: %s", vm->def.name,
			    strerror(-r));
}
