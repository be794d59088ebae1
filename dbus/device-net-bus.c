/* SPDX-License-Identifier: Apache-2.0 */
/*
 * org.brume.vm1.Device.Net
 */
#include "daemon/boot-config.h"
#include "daemon/device.h"
#include "dbus/bus-call.h"
#include "dbus/bus-error.h"
#include "dbus/bus-options.h"
#include "dbus/bus-path.h"
#include "dbus/device-bus.h"
#include "dbus/rate-limit-bus.h"
#include "vmm/base/err.h"
#include "vmm/config/config.h"
#include "vmm/config/vm-config.h"
#include <errno.h>
#include <stddef.h>
#include <string.h>

static const struct net_config *net_of(const struct machine_device *dev)
{
	return &dev->vm->boot->nets[dev->index];
}

static int method_set_link(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	struct machine_device *dev = userdata;
	struct err err = { 0 };
	int up, r;

	r = sd_bus_message_read(m, "b", &up);
	if (r < 0)
		return r;
	r = bus_call_no_options(m, &err);
	if (r == 0)
		r = machine_check_device_request(dev->vm, "set a link of", &err);
	if (r == 0)
		r = bus_call_authorise_device(m, dev->vm, dev, "set a link of", &err);
	if (r <= 0)
		return bus_call_verdict(r, error, &err);
	r = machine_set_link(dev, up, bus_call_done, sd_bus_message_ref(m), &err);
	return bus_call_pending(m, r, error, &err);
}

struct rate_limit_options {
	const char *direction;
};

static const struct bus_option rate_limit_options[] = {
	{ "Direction", 's', offsetof(struct rate_limit_options, direction) },
};

static int check_limit(const struct machine_device *dev, const char *direction, struct err *err)
{
	if (strcmp(direction, "rx") != 0 && strcmp(direction, "tx") != 0 &&
	    strcmp(direction, "both") != 0)
		return err_fault(err, FAULT_BAD_ARGUMENT, EINVAL,
				 "option Direction: '%s' is unknown, must be 'rx', 'tx' or 'both'",
				 direction);
	if (!net_of(dev)->vhost)
		return 0;
	return err_fault(err, FAULT_UNSUPPORTED, EOPNOTSUPP,
			 "network '%s' of VM '%s' cannot be limited: with vhost its frames do not "
			 "pass through the worker",
			 dev->id, dev->vm->def.name);
}

static int method_set_rate_limit(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	struct rate_limit_options options = { .direction = "both" };
	struct rate_limit_config limit = { 0 };
	struct machine_device *dev = userdata;
	struct err err = { 0 };
	int r;

	r = rate_limit_bus_read(m, &limit, &err);
	if (r == 0)
		r = bus_options_read(m, rate_limit_options, ARRAY_SIZE(rate_limit_options),
				     &options, &err);
	if (r == 0)
		r = check_limit(dev, options.direction, &err);
	if (r == 0)
		r = machine_check_device_request(dev->vm, "set a rate limit of", &err);
	if (r == 0)
		r = bus_call_authorise_device(m, dev->vm, dev, "limit a network of", &err);
	if (r <= 0)
		return bus_call_verdict(r, error, &err);
	r = machine_set_rate_limit(dev, options.direction, &limit, bus_call_done,
				   sd_bus_message_ref(m), &err);
	return bus_call_pending(m, r, error, &err);
}

static const struct device_property properties[] = {
	{ "MTU", "mtu" },
	{ "LinkUp", "link_up" },
	{ "Queues", "num_queues" },
};

static int get_mac(sd_bus *bus, const char *path, const char *interface, const char *property,
		   sd_bus_message *reply, void *userdata, sd_bus_error *error)
{
	const struct machine_device *dev = userdata;
	struct mac_addr mac;
	char text[18];

	(void)bus, (void)path, (void)interface, (void)property, (void)error;
	boot_config_mac(net_of(dev), dev->vm->def.uuid, &mac);
	config_mac_format(&mac, text);
	return sd_bus_message_append(reply, "s", text);
}

static int get_host_interface(sd_bus *bus, const char *path, const char *interface,
			      const char *property, sd_bus_message *reply, void *userdata,
			      sd_bus_error *error)
{
	const struct machine_device *dev = userdata;

	(void)bus, (void)path, (void)interface, (void)property, (void)error;
	return sd_bus_message_append(reply, "s", dev->host_interface ? dev->host_interface : "");
}

static int get_host_ifindex(sd_bus *bus, const char *path, const char *interface,
			    const char *property, sd_bus_message *reply, void *userdata,
			    sd_bus_error *error)
{
	const struct machine_device *dev = userdata;

	(void)bus, (void)path, (void)interface, (void)property, (void)error;
	return sd_bus_message_append(reply, "i", dev->host_ifindex);
}

static int get_vhost(sd_bus *bus, const char *path, const char *interface, const char *property,
		     sd_bus_message *reply, void *userdata, sd_bus_error *error)
{
	(void)bus, (void)path, (void)interface, (void)property, (void)error;
	return sd_bus_message_append(reply, "s", net_of(userdata)->vhost ? "vhost-net" : "");
}

static int get_rate_limit(sd_bus *bus, const char *path, const char *interface,
			  const char *property, sd_bus_message *reply, void *userdata,
			  sd_bus_error *error)
{
	bool tx = strcmp(property, "TransmitRateLimit") == 0;

	(void)bus, (void)path, (void)interface, (void)error;
	return rate_limit_bus_append(reply, net_rate_limit(net_of(userdata), tx));
}

static const sd_bus_vtable net_vtable[] = {
	SD_BUS_VTABLE_START(0),
	SD_BUS_METHOD_WITH_ARGS("SetLink", SD_BUS_ARGS("b", up, "a{sv}", options), SD_BUS_NO_RESULT,
				method_set_link, DEVICE_ANYBODY),
	SD_BUS_METHOD_WITH_ARGS("SetRateLimit", SD_BUS_ARGS("a{sv}", limits, "a{sv}", options),
				SD_BUS_NO_RESULT, method_set_rate_limit, DEVICE_ANYBODY),
	SD_BUS_PROPERTY("MAC", "s", get_mac, 0, DEVICE_CONST),
	SD_BUS_PROPERTY("MTU", "q", device_bus_get_q, 0, DEVICE_CONST),
	SD_BUS_PROPERTY("HostInterface", "s", get_host_interface, 0, DEVICE_CONST),
	SD_BUS_PROPERTY("HostIfIndex", "i", get_host_ifindex, 0, DEVICE_CONST),
	SD_BUS_PROPERTY("LinkUp", "b", device_bus_get_b, 0, DEVICE_EMITS),
	SD_BUS_PROPERTY("Queues", "q", device_bus_get_q, 0, DEVICE_CONST),
	SD_BUS_PROPERTY("VHost", "s", get_vhost, 0, DEVICE_CONST),
	SD_BUS_PROPERTY("ReceiveRateLimit", "a{st}", get_rate_limit, 0, DEVICE_EMITS),
	SD_BUS_PROPERTY("TransmitRateLimit", "a{st}", get_rate_limit, 0, DEVICE_EMITS),
	SD_BUS_VTABLE_END,
};

static const char *const values[] = { "LinkUp", NULL };
static const char *const limits[] = { "ReceiveRateLimit", "TransmitRateLimit", NULL };
const struct device_class device_net_class = {
	.interface = BRUME_DEVICE_INTERFACE ".Net",
	.type = "net",
	.vtable = net_vtable,
	.properties = properties,
	.n_properties = ARRAY_SIZE(properties),
	.values = values,
	.limits = limits,
};
