/* SPDX-License-Identifier: Apache-2.0 */
#include "dbus/log-control-bus.h"

#include "dbus/service.h"
#include "vmm/base/log.h"
#include <errno.h>
#include <string.h>

#define LOG_TARGET "console"

/* syslog's names; those we do not use mean the nearest that we do. */
static const struct {
	const char *name;
	enum log_level level;
} levels[] = {
	{ "err", LOG_LEVEL_ERROR },   { "warning", LOG_LEVEL_WARNING },
	{ "info", LOG_LEVEL_INFO },   { "debug", LOG_LEVEL_DEBUG },
	{ "emerg", LOG_LEVEL_ERROR }, { "alert", LOG_LEVEL_ERROR },
	{ "crit", LOG_LEVEL_ERROR },  { "notice", LOG_LEVEL_INFO },
};

static int get_level(sd_bus *bus, const char *path, const char *interface, const char *property,
		     sd_bus_message *reply, void *userdata, sd_bus_error *error)
{
	(void)bus, (void)path, (void)interface, (void)property, (void)userdata, (void)error;
	for (size_t i = 0; i < ARRAY_SIZE(levels); i++)
		if (levels[i].level == log_get_level())
			return sd_bus_message_append(reply, "s", levels[i].name);
	return -EINVAL;
}

static int set_level(sd_bus *bus, const char *path, const char *interface, const char *property,
		     sd_bus_message *value, void *userdata, sd_bus_error *error)
{
	const char *name;
	int r;

	(void)bus, (void)path, (void)interface, (void)property, (void)userdata;
	r = sd_bus_message_read(value, "s", &name);
	if (r < 0)
		return r;
	for (size_t i = 0; i < ARRAY_SIZE(levels); i++) {
		if (strcmp(levels[i].name, name) != 0)
			continue;
		log_set_level(levels[i].level);
		log_info("log level is '%s' now", name);
		return 0;
	}
	return sd_bus_error_setf(error, SD_BUS_ERROR_INVALID_ARGS,
				 "'%s' is not a log level, must be 'err', 'warning', 'info' or "
				 "'debug'",
				 name);
}

static int get_target(sd_bus *bus, const char *path, const char *interface, const char *property,
		      sd_bus_message *reply, void *userdata, sd_bus_error *error)
{
	(void)bus, (void)path, (void)interface, (void)property, (void)userdata, (void)error;
	return sd_bus_message_append(reply, "s", LOG_TARGET);
}

static int set_target(sd_bus *bus, const char *path, const char *interface, const char *property,
		      sd_bus_message *value, void *userdata, sd_bus_error *error)
{
	const char *name;
	int r;

	(void)bus, (void)path, (void)interface, (void)property, (void)userdata;
	r = sd_bus_message_read(value, "s", &name);
	if (r < 0)
		return r;
	if (strcmp(name, LOG_TARGET) == 0)
		return 0;
	return sd_bus_error_setf(error, SD_BUS_ERROR_NOT_SUPPORTED,
				 "the log goes to standard error ('" LOG_TARGET "') and cannot be "
				 "sent to '%s'",
				 name);
}

static int get_identifier(sd_bus *bus, const char *path, const char *interface,
			  const char *property, sd_bus_message *reply, void *userdata,
			  sd_bus_error *error)
{
	(void)bus, (void)path, (void)interface, (void)property, (void)userdata, (void)error;
	return sd_bus_message_append(reply, "s", "brumed");
}

static const sd_bus_vtable log_control_vtable[] = {
	SD_BUS_VTABLE_START(0),
	SD_BUS_WRITABLE_PROPERTY("LogLevel", "s", get_level, set_level, 0, 0),
	SD_BUS_WRITABLE_PROPERTY("LogTarget", "s", get_target, set_target, 0, 0),
	SD_BUS_PROPERTY("SyslogIdentifier", "s", get_identifier, 0, 0),
	SD_BUS_VTABLE_END,
};

int log_control_bus_register(struct service *service)
{
	return sd_bus_add_object_vtable(service->bus, NULL, "/org/freedesktop/LogControl1",
					"org.freedesktop.LogControl1", log_control_vtable, service);
}
