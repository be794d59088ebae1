/* SPDX-License-Identifier: Apache-2.0 */
/*
 * org.brume.vm1.Device and the interfaces of its classes
 *
 * An object of each device that a running machine has; a stopped one has none.
 * A class of devices has a file for its interface (device-disk-bus.c ...), or,
 * where it has properties only, a part of device-class-bus.c.  All are rows of
 * one table here.
 *
 * Main loop.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <systemd/sd-bus.h>

struct machine_device;
struct service;

int device_bus_register(struct service *service);

/* properties: enum machine_device_property */
void device_bus_changed(struct service *service, struct machine_device *dev, uint32_t properties);

struct device_property {
	const char *name, *key;
};

struct device_class {
	const char *interface; /* "org.brume.vm1.Device.Disk" */
	const char *type;      /* of the devices that have it; NULL: all */
	const sd_bus_vtable *vtable;
	/* What device_bus_get_s() and the like answer. */
	const struct device_property *properties;
	size_t n_properties;
	/* Properties to announce, NULL-terminated; NULL: none */
	const char *const *values, *const *limits, *const *config;
};
extern const struct device_class device_disk_class;
extern const struct device_class device_net_class;
extern const struct device_class device_balloon_class;
extern const struct device_class device_vsock_class;
extern const struct device_class device_fs_class;
extern const struct device_class device_pmem_class;

/* n-th class, Device itself first; NULL: there are no more. For introspection. */
const struct device_class *device_bus_class(size_t n);

/*
 * Getters of the types s, b, q, u, t for properties that are a value of the device or,
 * without one, a key of its configuration: rows of the class's table.
 */
#define DEVICE_BUS_GETTER(type)                                                                    \
	int device_bus_get_##type(sd_bus *bus, const char *path, const char *interface,            \
				  const char *property, sd_bus_message *reply, void *userdata,     \
				  sd_bus_error *error)
DEVICE_BUS_GETTER(s);
DEVICE_BUS_GETTER(b);
DEVICE_BUS_GETTER(q);
DEVICE_BUS_GETTER(u);
DEVICE_BUS_GETTER(t);

#define DEVICE_ANYBODY SD_BUS_VTABLE_UNPRIVILEGED
#define DEVICE_CONST   SD_BUS_VTABLE_PROPERTY_CONST
#define DEVICE_EMITS   SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE
