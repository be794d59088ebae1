/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/machined.h"

#include "vmm/base/cleanup.h"
#include "vmm/base/log.h"
#include <errno.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-id128.h>

#define MACHINED_NAME "org.freedesktop.machine1"

static int call_new(sd_bus *bus, const char *name, const char *uuid, uint32_t leader,
		    char *const *taps, sd_bus_message **ret)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
	sd_id128_t id;
	int r;

	r = sd_id128_from_string(uuid, &id);
	if (r >= 0)
		r = sd_bus_message_new_method_call(bus, &m, MACHINED_NAME,
						   "/org/freedesktop/machine1",
						   MACHINED_NAME ".Manager",
						   "RegisterMachineWithNetwork");
	if (r >= 0)
		r = sd_bus_message_append(m, "s", name);
	if (r >= 0)
		r = sd_bus_message_append_array(m, 'y', id.bytes, sizeof(id.bytes));
	if (r >= 0)
		r = sd_bus_message_append(m, "ssus", "brume", "vm", leader, "");
	if (r >= 0)
		r = sd_bus_message_open_container(m, 'a', "i");
	for (size_t i = 0; r >= 0 && taps && taps[i]; i++) {
		int32_t index = (int32_t)if_nametoindex(taps[i]);

		if (index > 0)
			r = sd_bus_message_append(m, "i", index);
	}
	if (r >= 0)
		r = sd_bus_message_close_container(m);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(m);
	return 0;
}

static int on_registered(sd_bus_message *reply, void *userdata, sd_bus_error *error)
{
	struct machined_registration *reg = userdata;
	const sd_bus_error *e = sd_bus_message_get_error(reply);

	(void)error;
	reg->call = sd_bus_slot_unref(reg->call);
	/* It exists when a former daemon has registered it. */
	if (!e || sd_bus_error_has_name(e, MACHINED_NAME ".MachineExists")) {
		reg->registered(reg->data, reg->name);
		return 1;
	}
	/* Hosts without machined, and user managers, are none the worse for it. */
	if (!sd_bus_error_has_names(e, SD_BUS_ERROR_SERVICE_UNKNOWN, SD_BUS_ERROR_ACCESS_DENIED,
				    SD_BUS_ERROR_NAME_HAS_NO_OWNER))
		log_warning("VM '%s': machined does not register it: %s", reg->name, e->message);
	return 1;
}

void machined_register(struct machined_registration *reg, sd_bus *bus, const char *name,
		       const char *uuid, uint32_t leader, char *const *taps)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
	int r;

	machined_registration_deinit(reg);
	reg->name = strdup(name);
	r = reg->name ? call_new(bus, name, uuid, leader, taps, &m) : -ENOMEM;
	if (r >= 0)
		r = sd_bus_call_async(bus, &reg->call, m, on_registered, reg, 0);
	if (r < 0)
		log_warning("VM '%s': cannot register it with machined: %s", name, strerror(-r));
}

void machined_registration_deinit(struct machined_registration *reg)
{
	reg->call = sd_bus_slot_unref(reg->call);
	free(reg->name);
	reg->name = NULL;
}
