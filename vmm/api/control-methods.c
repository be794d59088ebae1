/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/api/control-internal.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "dbus/variant.h"
#include "dbus/worker-error.h"
#include "vmm/api/protocol.h"
#include "vmm/base/err.h"
#include "vmm/base/fd.h"
#include "vmm/base/log.h"

#define START_USEC              (90 * 1000000UL) /* what the unit allows anyway */
#define PREFAULT_BYTES_PER_USEC 128              /* one slow thread of a host under load */

int control_fail(sd_bus_error *ret_error, const struct err *err)
{
	return worker_error_from_err(ret_error, err);
}

int control_read(struct control *c, sd_bus_message *m, sd_bus_error *ret_error, const char *types,
		 ...)
{
	struct err err = { 0 };
	va_list ap;
	int r;

	va_start(ap, types);
	r = sd_bus_message_readv(m, types, ap);
	va_end(ap);
	if (r < 0)
		return r;
	if (c->vm)
		return 0;
	err_fault(&err, FAULT_WRONG_STATE, EPROTO, "the machine has not been started");
	return control_fail(ret_error, &err);
}

int control_done(sd_bus_message *m, int r, const struct err *err, sd_bus_error *ret_error)
{
	return r < 0 ? control_fail(ret_error, err) : sd_bus_reply_method_return(m, NULL);
}

static int on_hello(sd_bus_message *m, void *data, sd_bus_error *ret_error _unused_)
{
	struct control *c = data;
	const char *state = vm_state_to_string(c->vm ? c->vm->state : VM_STATE_CREATED);

	return sd_bus_reply_method_return(m, "uus", PROTOCOL_VERSION, (uint32_t)getpid(), state);
}

static int on_add_resources(sd_bus_message *m, void *data, sd_bus_error *ret_error)
{
	struct control *c = data;
	struct err err = { 0 };
	const char *name;
	int fd, copy, r;

	r = sd_bus_message_enter_container(m, 'a', "{sh}");
	if (r < 0)
		return r;
	while ((r = sd_bus_message_read(m, "{sh}", &name, &fd)) > 0) {
		copy = fd_dup(fd);
		if (copy < 0)
			return copy;
		r = c->vm ? resources_add_loose(&c->vm->resources, name, copy, &err)
			  : resources_add(&c->resources, name, copy, &err);
		if (r >= 0)
			continue;
		/* What follows is not to be done with half of them. */
		if (c->vm)
			resources_drop_loose(&c->vm->resources);
		return control_fail(ret_error, &err);
	}
	return r < 0 ? r : sd_bus_reply_method_return(m, NULL);
}

static int on_mail(sd_event_source *source _unused_, int fd _unused_, uint32_t events _unused_,
		   void *data)
{
	struct control *c = data;

	vm_dispatch(c->vm);
	return 0;
}

static int read_start(sd_bus_message *m, struct vm_config **ret, bool *ret_paused, struct err *err)
{
	_cleanup_(g_variant_unref_cleanup) GVariant *dict = NULL, *options = NULL;
	gboolean paused = FALSE;
	int r;

	r = variant_from_message(m, "a{sv}", &dict, err);
	if (r < 0)
		return r;
	r = variant_from_message(m, "a{sv}", &options, err);
	if (r < 0)
		return r;
	g_variant_lookup(options, "paused", "b", &paused);
	r = vm_config_parse(dict, ret, err);
	if (r < 0)
		return r;
	*ret_paused = paused;
	return 0;
}

/* Takes the configuration over. */
static int build_and_boot(struct control *c, struct vm_config *config, bool paused, struct err *err)
{
	const struct vm_listener listener = control_listener(c);
	int r;

	r = vm_new(config, &c->resources, &listener, &c->vm, err);
	if (r < 0)
		return r;
	r = sd_event_add_io(c->event, &c->mailbox_source, c->vm->mailbox.fd, EPOLLIN, on_mail, c);
	if (r < 0) {
		err_errno(err, -r, "cannot watch the machine's mailbox");
	} else {
		r = vm_boot(c->vm, paused, err);
	}
	if (r < 0) {
		c->mailbox_source = sd_event_source_disable_unref(c->mailbox_source);
		vm_free(TAKE_PTR(c->vm));
	}
	return r;
}

static int start(struct control *c, sd_bus_message *m, struct err *err)
{
	struct vm_config *config = NULL;
	bool paused = false;
	int r;

	if (c->vm)
		return err_fault(err, FAULT_WRONG_STATE, EPROTO,
				 "the machine has been started before");
	r = read_start(m, &config, &paused, err);
	if (r < 0)
		return r;
	/* READY comes when the vCPUs run; touching every page of a large machine takes its time. */
	if (config->memory.prefault)
		sd_notifyf(0, "EXTEND_TIMEOUT_USEC=%lu",
			   START_USEC +
				   memory_config_size(&config->memory) / PREFAULT_BYTES_PER_USEC);
	r = build_and_boot(c, config, paused, err);
	/* Wrong definitions say so themselves; the rest is memory, KVM, threads of the host. */
	if (r < 0 && err->fault == FAULT_NONE)
		err->fault = FAULT_HOST_RESOURCE;
	return r;
}

static int on_start(sd_bus_message *m, void *data, sd_bus_error *ret_error)
{
	struct control *c = data;
	struct err err = { 0 };
	int r = start(c, m, &err);

	if (r < 0) {
		log_error("cannot start the machine: %s", err.msg);
		return control_fail(ret_error, &err);
	}
	sd_notify(0, "READY=1\nSTATUS=running");
	return control_on_query(m, data, ret_error);
}

/* The methods that only have the machine do something. */
static int simple(sd_bus_message *m, struct control *c, int (*fn)(struct vm *vm, struct err *err),
		  sd_bus_error *ret_error)
{
	struct err err = { 0 };
	int r = control_read(c, m, ret_error, "");

	return r < 0 ? r : control_done(m, fn(c->vm, &err), &err, ret_error);
}

static int on_pause(sd_bus_message *m, void *data, sd_bus_error *ret_error)
{
	return simple(m, data, vm_pause, ret_error);
}

static int on_resume(sd_bus_message *m, void *data, sd_bus_error *ret_error)
{
	return simple(m, data, vm_resume, ret_error);
}

static int on_reset(sd_bus_message *m, void *data, sd_bus_error *ret_error)
{
	return simple(m, data, vm_reset, ret_error);
}

static int on_power_button(sd_bus_message *m, void *data, sd_bus_error *ret_error)
{
	return simple(m, data, vm_power_button, ret_error);
}

static int on_reboot(sd_bus_message *m, void *data, sd_bus_error *ret_error)
{
	return simple(m, data, vm_reboot, ret_error);
}

static int on_inject_nmi(sd_bus_message *m, void *data, sd_bus_error *ret_error)
{
	return simple(m, data, vm_inject_nmi, ret_error);
}

static int on_quit(sd_bus_message *m, void *data, sd_bus_error *ret_error _unused_)
{
	struct control *c = data;
	int r = sd_bus_reply_method_return(m, NULL);

	if (c->vm && (c->vm->state == VM_STATE_RUNNING || c->vm->state == VM_STATE_PAUSED))
		vm_stop(c->vm, WORKER_REASON_REQUEST);
	else
		control_end_process(c, WORKER_EXIT_OK);
	return r;
}

static int on_open_console(sd_bus_message *m, void *data, sd_bus_error *ret_error)
{
	struct control *c = data;
	_cleanup_close_ int fd = -EBADF;
	struct err err = { 0 };
	int force, readonly, r;
	const char *name;

	r = control_read(c, m, ret_error, "sbb", &name, &force, &readonly);
	if (r < 0)
		return r;
	if (vm_open_console(c->vm, name, force, readonly, &fd, &err) < 0)
		return control_fail(ret_error, &err);
	return sd_bus_reply_method_return(m, "h", fd);
}

const sd_bus_vtable control_vtable[] = {
	SD_BUS_VTABLE_START(0),
	SD_BUS_METHOD("Hello", NULL, "uus", on_hello, 0),
	SD_BUS_METHOD("AddResources", "a{sh}", NULL, on_add_resources, 0),
	SD_BUS_METHOD("Start", "a{sv}a{sv}", "a{sv}", on_start, 0),
	SD_BUS_METHOD("Pause", NULL, NULL, on_pause, 0),
	SD_BUS_METHOD("Resume", NULL, NULL, on_resume, 0),
	SD_BUS_METHOD("Reset", NULL, NULL, on_reset, 0),
	SD_BUS_METHOD("Reboot", NULL, NULL, on_reboot, 0),
	SD_BUS_METHOD("PowerButton", NULL, NULL, on_power_button, 0),
	SD_BUS_METHOD("InjectNMI", NULL, NULL, on_inject_nmi, 0),
	SD_BUS_METHOD("Quit", NULL, NULL, on_quit, 0),
	SD_BUS_METHOD("OpenConsole", "sbb", "h", on_open_console, 0),
	SD_BUS_METHOD("SetConsoleSize", "sqq", NULL, control_on_set_console_size, 0),
	SD_BUS_METHOD("SetLink", "sb", NULL, control_on_set_link, 0),
	SD_BUS_METHOD("SetRateLimit", "sstttttt", NULL, control_on_set_rate_limit, 0),
	SD_BUS_METHOD("SetRateLimitGroup", "stttttt", NULL, control_on_set_rate_limit_group, 0),
	SD_BUS_METHOD("ResizeDisk", "st", "a{sv}", control_on_resize_disk, 0),
	SD_BUS_METHOD("ReplaceDisk", "sss", "a{sv}", control_on_replace_disk, 0),
	SD_BUS_METHOD("SetBalloon", "t", NULL, control_on_set_balloon, 0),
	SD_BUS_METHOD("AddDevice", "sa{sv}", "ssa{sv}", control_on_add_device, 0),
	SD_BUS_METHOD("RemoveDevice", "sb", NULL, control_on_remove_device, 0),
	SD_BUS_METHOD("ForgetRemoval", "s", NULL, control_on_forget_removal, 0),
	SD_BUS_METHOD("SetVCPUs", "u", NULL, control_on_set_vcpus, 0),
	SD_BUS_METHOD("SetMemory", "t", NULL, control_on_set_memory, 0),
	SD_BUS_METHOD("SetMemoryZone", "st", NULL, control_on_set_memory_zone, 0),
	SD_BUS_METHOD("KeepMemory", NULL, NULL, control_on_keep_memory, 0),
	SD_BUS_METHOD("ConnectVSock", "u", "h", control_on_connect_vsock, 0),
	SD_BUS_METHOD("AcceptVSock", "uh", NULL, control_on_accept_vsock, 0),
	SD_BUS_METHOD("RefuseVSock", "u", NULL, control_on_refuse_vsock, 0),
	SD_BUS_METHOD("GetCounters", NULL, "a{sa{st}}", control_on_get_counters, 0),
	SD_BUS_METHOD("Query", NULL, "a{sv}", control_on_query, 0),
	SD_BUS_SIGNAL("StateChanged", "sss", 0),
	SD_BUS_SIGNAL("Event", "ssa{sv}", 0),
	SD_BUS_SIGNAL("DeviceChanged", "sa{sv}", 0),
	SD_BUS_SIGNAL("DeviceRemoved", "s", 0),
	SD_BUS_SIGNAL("RemovalRefused", "s", 0),
	SD_BUS_SIGNAL("SizesChanged", "a{sv}", 0),
	SD_BUS_SIGNAL("ResizeRefused", "s", 0),
	SD_BUS_SIGNAL("VSockWanted", "uub", 0),
	SD_BUS_VTABLE_END
};
