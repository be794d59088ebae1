/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/machined.h"

#include "vmm/base/cleanup.h"
#include <net/if.h>
#include <systemd/sd-id128.h>

int machined_registration_new(sd_bus *bus, const char *name, const char *uuid, uint32_t leader,
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
