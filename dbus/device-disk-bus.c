/* SPDX-License-Identifier: Apache-2.0 */
/*
 * org.brume.vm1.Device.Disk
 */
#include "daemon/device.h"
#include "dbus/bus-call.h"
#include "dbus/bus-error.h"
#include "dbus/bus-path.h"
#include "dbus/device-bus.h"
#include "dbus/rate-limit-bus.h"
#include "vmm/base/err.h"
#include "vmm/config/vm-config.h"
#include <errno.h>
#include <string.h>

static const struct disk_config *disk_of(const struct machine_device *dev)
{
	return &dev->vm->boot->disks[dev->index];
}

static int check_own_limit(const struct machine_device *dev, struct err *err)
{
	const char *group = disk_of(dev)->rate_limit_group;

	if (!group)
		return 0;
	return err_fault(err, FAULT_WRONG_STATE, EPROTO,
			 "disk '%s' of VM '%s' shares the limit of group '%s', which is what must "
			 "be changed",
			 dev->id, dev->vm->def.name, group);
}

static int method_set_rate_limit(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	struct rate_limit_config limit = { 0 };
	struct machine_device *dev = userdata;
	struct err err = { 0 };
	int r;

	r = rate_limit_bus_read(m, &limit, &err);
	if (r == 0)
		r = bus_call_no_options(m, &err);
	if (r == 0)
		r = check_own_limit(dev, &err);
	if (r == 0)
		r = machine_check_device_request(dev->vm, "set a rate limit of", &err);
	if (r == 0)
		r = bus_call_authorise_device(m, dev->vm, dev, "limit a disk of", &err);
	if (r <= 0)
		return bus_call_verdict(r, error, &err);
	r = machine_set_rate_limit(dev, "", &limit, bus_call_done, sd_bus_message_ref(m), &err);
	return bus_call_pending(m, r, error, &err);
}

static const struct device_property properties[] = {
	{ "Path", "path" },
	{ "ReadOnly", "readonly" },
	{ "Size", "size" },
	{ "Engine", "engine" },
	{ "Serial", "serial" },
	{ "Queues", "num_queues" },
	{ "QueueSize", "queue_size" },
	{ "RateLimitGroup", "rate_limit_group" },
};

static int get_format(sd_bus *bus, const char *path, const char *interface, const char *property,
		      sd_bus_message *reply, void *userdata, sd_bus_error *error)
{
	const struct disk_config *disk = disk_of(userdata);
	/* What runs with none stated is raw: anything else is refused. */
	enum image_type type =
		disk->image_type == IMAGE_TYPE_UNKNOWN ? IMAGE_TYPE_RAW : disk->image_type;
	g_autofree char *lower = g_ascii_strdown(image_type_to_string(type), -1);

	(void)bus, (void)path, (void)interface, (void)property, (void)error;
	return sd_bus_message_append(reply, "s", lower);
}

static int get_rate_limit(sd_bus *bus, const char *path, const char *interface,
			  const char *property, sd_bus_message *reply, void *userdata,
			  sd_bus_error *error)
{
	(void)bus, (void)path, (void)interface, (void)property, (void)error;
	return rate_limit_bus_append(reply, &disk_of(userdata)->limit);
}

static const sd_bus_vtable disk_vtable[] = {
	SD_BUS_VTABLE_START(0),
	SD_BUS_METHOD_WITH_ARGS("SetRateLimit", SD_BUS_ARGS("a{sv}", limits, "a{sv}", options),
				SD_BUS_NO_RESULT, method_set_rate_limit, DEVICE_ANYBODY),
	SD_BUS_PROPERTY("Path", "s", device_bus_get_s, 0, DEVICE_EMITS),
	SD_BUS_PROPERTY("Format", "s", get_format, 0, DEVICE_CONST),
	SD_BUS_PROPERTY("ReadOnly", "b", device_bus_get_b, 0, DEVICE_EMITS),
	SD_BUS_PROPERTY("Size", "t", device_bus_get_t, 0, DEVICE_EMITS),
	SD_BUS_PROPERTY("Engine", "s", device_bus_get_s, 0, DEVICE_EMITS),
	SD_BUS_PROPERTY("Serial", "s", device_bus_get_s, 0, DEVICE_CONST),
	SD_BUS_PROPERTY("Queues", "q", device_bus_get_q, 0, DEVICE_CONST),
	SD_BUS_PROPERTY("QueueSize", "q", device_bus_get_q, 0, DEVICE_CONST),
	SD_BUS_PROPERTY("RateLimit", "a{st}", get_rate_limit, 0, DEVICE_EMITS),
	SD_BUS_PROPERTY("RateLimitGroup", "s", device_bus_get_s, 0, DEVICE_CONST),
	SD_BUS_VTABLE_END,
};

static const char *const values[] = { "Size", "Engine", NULL };
static const char *const limits[] = { "RateLimit", NULL };
const struct device_class device_disk_class = {
	.interface = BRUME_DEVICE_INTERFACE ".Disk",
	.type = "disk",
	.vtable = disk_vtable,
	.properties = properties,
	.n_properties = ARRAY_SIZE(properties),
	.values = values,
	.limits = limits,
};
