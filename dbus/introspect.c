/* SPDX-License-Identifier: Apache-2.0 */
#include "dbus/introspect.h"

#include "dbus/bus-path.h"
#include "dbus/device-bus.h"
#include "dbus/job-bus.h"
#include "dbus/manager-bus.h"
#include "dbus/vm-bus.h"
#include "vmm/base/err.h"
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <systemd/sd-id128.h>

#define XML_HEAD                                                                                   \
	"<!DOCTYPE node PUBLIC \"-//freedesktop//DTD D-BUS Object Introspection 1.0//EN\"\n"       \
	"\"https://www.freedesktop.org/standards/dbus/1.0/introspect.dtd\">\n"

struct interface {
	const char *name;
	/* One of them. */
	int (*add)(sd_bus *bus, const char *path);
	const sd_bus_vtable *vtable;
};

/* n-th; false: there are no more. */
static bool get_interface(size_t n, struct interface *ret)
{
	static const struct interface fixed[] = {
		{ BRUME_MANAGER_INTERFACE, manager_bus_add_vtable, NULL },
		{ BRUME_VM_INTERFACE, vm_bus_add_vtable, NULL },
		{ BRUME_JOB_INTERFACE, job_bus_add_vtable, NULL },
	};
	const struct device_class *class;

	if (n < ARRAY_SIZE(fixed)) {
		*ret = fixed[n];
		return true;
	}
	class = device_bus_class(n - ARRAY_SIZE(fixed));
	if (class)
		*ret = (struct interface){ class->interface, NULL, class->vtable };
	return class;
}

static int add_interface(sd_bus *bus, const struct interface *interface)
{
	if (interface->add)
		return interface->add(bus, BRUME_ROOT_PATH);
	return sd_bus_add_object_vtable(bus, NULL, BRUME_ROOT_PATH, interface->name,
					interface->vtable, NULL);
}

static int open_pair(sd_bus *server, sd_bus *client)
{
	sd_id128_t id;
	int fds[2], r;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) < 0)
		return -errno;
	r = sd_bus_set_fd(server, fds[0], fds[0]);
	if (r < 0) {
		close(fds[0]);
		close(fds[1]);
		return r;
	}
	r = sd_bus_set_fd(client, fds[1], fds[1]);
	if (r < 0) {
		close(fds[1]);
		return r;
	}
	r = sd_id128_randomize(&id);
	if (r >= 0)
		r = sd_bus_set_server(server, true, id);
	if (r >= 0)
		r = sd_bus_start(server);
	return r < 0 ? r : sd_bus_start(client);
}

static int on_xml(sd_bus_message *reply, void *userdata, sd_bus_error *error)
{
	char **ret = userdata;
	const char *xml;

	(void)error;
	if (sd_bus_message_read(reply, "s", &xml) >= 0)
		*ret = strdup(xml);
	return 1;
}

static int introspect(const struct interface *interface, char **ret)
{
	_cleanup_(sd_bus_close_unrefp) sd_bus *server = NULL, *client = NULL;
	_cleanup_free_ char *xml = NULL;
	int r;

	r = sd_bus_new(&server);
	if (r >= 0)
		r = sd_bus_new(&client);
	if (r >= 0)
		r = open_pair(server, client);
	if (r >= 0)
		r = add_interface(server, interface);
	if (r >= 0)
		r = sd_bus_call_method_async(client, NULL, NULL, BRUME_ROOT_PATH,
					     "org.freedesktop.DBus.Introspectable", "Introspect",
					     on_xml, &xml, NULL);
	/* Both ends are in this process: progress is only ever a turn of the other away. */
	for (unsigned int idle = 0; r >= 0 && !xml && idle < 1000; idle++) {
		r = sd_bus_process(server, NULL);
		if (r >= 0)
			r = sd_bus_process(client, NULL);
	}
	if (r < 0)
		return r;
	if (!xml)
		return -ETIMEDOUT;
	*ret = TAKE_PTR(xml);
	return 0;
}

int introspect_print(const char *interface, FILE *out, struct err *err)
{
	_cleanup_free_ char *xml = NULL;
	struct interface found = { 0 };
	const char *begin, *end;
	char open[128];
	int r;

	if (strcmp(interface, "list") == 0) {
		for (size_t i = 0; get_interface(i, &found); i++)
			fprintf(out, "%s\n", found.name);
		return 0;
	}
	for (size_t i = 0; get_interface(i, &found); i++) {
		if (strcmp(found.name, interface) != 0)
			continue;
		r = introspect(&found, &xml);
		if (r < 0)
			return err_errno(err, -r, "cannot introspect '%s'", interface);
		snprintf(open, sizeof(open), " <interface name=\"%s\">", interface);
		begin = strstr(xml, open);
		end = begin ? strstr(begin, "</interface>") : NULL;
		if (!end)
			return err_set(err, EBADMSG, "sd-bus does not describe '%s'", interface);
		fprintf(out, XML_HEAD "<node>\n%.*s</interface>\n</node>\n", (int)(end - begin),
			begin);
		return 0;
	}
	return err_set(err, ENOENT, "there is no interface '%s', see 'list'", interface);
}
