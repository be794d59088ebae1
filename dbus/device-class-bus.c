/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Classes of devices that have properties only: org.brume.vm1.Device.Balloon,
 * VSock, FileSystem and Pmem
 */
#include "daemon/device.h"
#include "dbus/bus-path.h"
#include "dbus/device-bus.h"
#include "vmm/base/cleanup.h"
#include <string.h>

static const struct device_property properties[] = {
	{ "Target", "target" },
	{ "Actual", "actual" },
	{ "DeflateOnOOM", "deflate_on_oom" },
	{ "FreePageReporting", "free_page_reporting" },
	{ "CID", "cid" },
	{ "Tag", "tag" },
	{ "Socket", "socket" },
	{ "Source", "source" },
	{ "Path", "file" },
	{ "Size", "size" },
	{ "DiscardWrites", "discard_writes" },
};

/* What the guest said through the statistics queue so far. */
static int get_statistics(sd_bus *bus, const char *path, const char *interface,
			  const char *property, sd_bus_message *reply, void *userdata,
			  sd_bus_error *error)
{
	static const char prefix[] = "statistics.";
	const struct machine_device *dev = userdata;
	GVariantIter iter;
	const char *name;
	GVariant *value;
	int r;

	(void)bus, (void)path, (void)interface, (void)property, (void)error;
	r = sd_bus_message_open_container(reply, 'a', "{st}");
	g_variant_iter_init(&iter, dev->values);
	while (g_variant_iter_next(&iter, "{&sv}", &name, &value)) {
		if (r >= 0 && g_str_has_prefix(name, prefix) &&
		    g_variant_is_of_type(value, G_VARIANT_TYPE_UINT64))
			r = sd_bus_message_append(reply, "{st}", name + strlen(prefix),
						  g_variant_get_uint64(value));
		g_variant_unref(value);
	}
	return r < 0 ? r : sd_bus_message_close_container(reply);
}

static const sd_bus_vtable balloon_vtable[] = {
	SD_BUS_VTABLE_START(0),
	SD_BUS_PROPERTY("Target", "t", device_bus_get_t, 0, DEVICE_EMITS),
	SD_BUS_PROPERTY("Actual", "t", device_bus_get_t, 0, DEVICE_EMITS),
	SD_BUS_PROPERTY("Statistics", "a{st}", get_statistics, 0, DEVICE_EMITS),
	SD_BUS_PROPERTY("DeflateOnOOM", "b", device_bus_get_b, 0, DEVICE_CONST),
	SD_BUS_PROPERTY("FreePageReporting", "b", device_bus_get_b, 0, DEVICE_CONST),
	SD_BUS_VTABLE_END,
};
static const char *const balloon_values[] = { "Target", "Actual", "Statistics", NULL };
const struct device_class device_balloon_class = {
	.interface = BRUME_DEVICE_INTERFACE ".Balloon",
	.type = "balloon",
	.vtable = balloon_vtable,
	.properties = properties,
	.n_properties = ARRAY_SIZE(properties),
	.values = balloon_values,
};

static const sd_bus_vtable vsock_vtable[] = {
	SD_BUS_VTABLE_START(0),
	SD_BUS_PROPERTY("CID", "u", device_bus_get_u, 0, DEVICE_CONST),
	SD_BUS_VTABLE_END,
};
const struct device_class device_vsock_class = {
	.interface = BRUME_DEVICE_INTERFACE ".VSock",
	.type = "vsock",
	.vtable = vsock_vtable,
	.properties = properties,
	.n_properties = ARRAY_SIZE(properties),
};

static const sd_bus_vtable fs_vtable[] = {
	SD_BUS_VTABLE_START(0),
	SD_BUS_PROPERTY("Tag", "s", device_bus_get_s, 0, DEVICE_CONST),
	SD_BUS_PROPERTY("Socket", "s", device_bus_get_s, 0, DEVICE_CONST),
	SD_BUS_PROPERTY("Source", "s", device_bus_get_s, 0, DEVICE_CONST),
	SD_BUS_VTABLE_END,
};
const struct device_class device_fs_class = {
	.interface = BRUME_DEVICE_INTERFACE ".FileSystem",
	.type = "fs",
	.vtable = fs_vtable,
	.properties = properties,
	.n_properties = ARRAY_SIZE(properties),
};

static const sd_bus_vtable pmem_vtable[] = {
	SD_BUS_VTABLE_START(0),
	SD_BUS_PROPERTY("Path", "s", device_bus_get_s, 0, DEVICE_CONST),
	SD_BUS_PROPERTY("Size", "t", device_bus_get_t, 0, DEVICE_CONST),
	SD_BUS_PROPERTY("DiscardWrites", "b", device_bus_get_b, 0, DEVICE_CONST),
	SD_BUS_VTABLE_END,
};
const struct device_class device_pmem_class = {
	.interface = BRUME_DEVICE_INTERFACE ".Pmem",
	.type = "pmem",
	.vtable = pmem_vtable,
	.properties = properties,
	.n_properties = ARRAY_SIZE(properties),
};
