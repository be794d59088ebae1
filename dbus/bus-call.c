/* SPDX-License-Identifier: Apache-2.0 */
#include "dbus/bus-call.h"

#include "daemon/device.h"
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

struct service *bus_call_service(const struct machine *vm)
{
	return vm->manager->observer_data;
}

int bus_call_authorise(sd_bus_message *m, const struct machine *vm, const char *action,
		       const char *verb, bool owner_shortcut, struct err *err)
{
	struct polkit_request request = {
		.action = action,
		.owner_shortcut = owner_shortcut,
		.verb = verb,
	};

	return service_check(bus_call_service(vm), m, vm, &request, err);
}

int bus_call_authorise_device(sd_bus_message *m, const struct machine *vm,
			      const struct machine_device *dev, const char *verb, struct err *err)
{
	const char *const extra[] = {
		"device-type", dev ? dev->type : NULL, "device", dev ? dev->id : NULL, NULL,
	};
	struct polkit_request request = {
		.action = POLKIT_ACTION_MODIFY_VMS,
		.owner_shortcut = true,
		.verb = verb,
		.extra = dev ? extra : NULL,
	};

	return service_check(bus_call_service(vm), m, vm, &request, err);
}

int bus_call_verdict(int r, sd_bus_error *error, const struct err *err)
{
	return r < 0 ? bus_error_from_err(error, err) : 1;
}

int bus_call_no_options(sd_bus_message *m, struct err *err)
{
	return bus_options_read(m, NULL, 0, NULL, err);
}

static void warn_unsent(sd_bus_message *call, int r)
{
	if (r < 0 && r != -ENOTCONN)
		log_warning("cannot reply to %s: %s", sd_bus_message_get_member(call),
			    strerror(-r));
}

void bus_call_done(void *data, sd_bus_message *answer, const struct err *err)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *call = data;

	(void)answer;
	warn_unsent(call, err ? bus_reply_err(call, err) : sd_bus_reply_method_return(call, NULL));
}

void bus_call_done_fd(void *data, sd_bus_message *answer, const struct err *err)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *call = data;
	struct err bad = { 0 };
	int fd, r;

	if (!err) {
		r = sd_bus_message_read(answer, "h", &fd);
		if (r >= 0) {
			warn_unsent(call, sd_bus_reply_method_return(call, "h", fd));
			return;
		}
		err_errno(&bad, -r, "the worker answered without a descriptor");
		err = &bad;
	}
	warn_unsent(call, bus_reply_err(call, err));
}

int bus_call_pending(sd_bus_message *m, int r, sd_bus_error *error, const struct err *err)
{
	if (r >= 0)
		return 1;
	sd_bus_message_unref(m);
	return bus_error_from_err(error, err);
}

struct machine *bus_call_find_vm(struct service *service, const char *path)
{
	_cleanup_free_ char *name = NULL;

	if (bus_path_parse_vm(path, &name) < 0)
		return NULL;
	return manager_find(service->manager, name);
}
