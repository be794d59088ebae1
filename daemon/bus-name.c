/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/bus-name.h"

#include "vmm/base/err.h"
#include <errno.h>
#include <glib.h>
#include <inttypes.h>
#include <stdbool.h>
#include <string.h>

/* Answers of RequestName, D-Bus specification, "Message Bus Messages". */
#define REPLY_PRIMARY_OWNER 1
#define REPLY_ALREADY_OWNER 4

struct bus_name {
	sd_bus *bus;
	char *name;
	uint64_t wait_usec;
	bus_name_fn fn;
	void *data;
	sd_bus_slot *request, *acquired, *owner;
	sd_event_source *timeout;
	bool told;
};

void bus_name_free(struct bus_name *name)
{
	if (!name)
		return;
	sd_bus_slot_unref(name->request);
	sd_bus_slot_unref(name->acquired);
	sd_bus_slot_unref(name->owner);
	sd_event_source_disable_unref(name->timeout);
	sd_bus_unref(name->bus);
	g_free(name->name);
	g_free(name);
}

static void tell(struct bus_name *name, const struct err *err)
{
	if (name->told)
		return;
	name->told = true;
	name->timeout = sd_event_source_disable_unref(name->timeout);
	name->fn(name->data, err); /* may free us: nothing after this */
}

/* NameAcquired goes to the one connection that it is about. */
static int on_acquired(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	struct bus_name *name = userdata;
	const char *which;

	(void)error;
	if (sd_bus_message_read(m, "s", &which) >= 0 && strcmp(which, name->name) == 0)
		tell(name, NULL);
	return 0;
}

static int on_owner(sd_bus_message *reply, void *userdata, sd_bus_error *error)
{
	struct bus_name *name = userdata;
	g_autofree char *who = NULL;
	struct err err = { 0 };
	uint32_t pid;

	(void)error;
	name->owner = sd_bus_slot_unref(name->owner);
	if (!sd_bus_message_is_method_error(reply, NULL) &&
	    sd_bus_message_read(reply, "u", &pid) >= 0)
		who = g_strdup_printf("process %u", pid);
	err_set(&err, EBUSY,
		"%s has the bus name %s and did not give it up within %" PRIu64
		" ms: is it another brumed?",
		who ? who : "another process", name->name, name->wait_usec / 1000);
	tell(name, &err);
	return 1;
}

static int on_timeout(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct bus_name *name = userdata;
	struct err err = { 0 };
	int r;

	(void)source;
	(void)usec;
	name->timeout = sd_event_source_disable_unref(name->timeout);
	r = sd_bus_call_method_async(name->bus, &name->owner, "org.freedesktop.DBus",
				     "/org/freedesktop/DBus", "org.freedesktop.DBus",
				     "GetConnectionUnixProcessID", on_owner, name, "s", name->name);
	if (r < 0) {
		err_errno(&err, -r, "cannot ask the bus who has the name %s", name->name);
		tell(name, &err);
	}
	return 0;
}

static int on_request(sd_bus_message *reply, void *userdata, sd_bus_error *error)
{
	struct bus_name *name = userdata;
	const sd_bus_error *e = sd_bus_message_get_error(reply);
	struct err err = { 0 };
	uint32_t result = 0;
	int r;

	(void)error;
	name->request = sd_bus_slot_unref(name->request);
	if (e || sd_bus_message_read(reply, "u", &result) < 0) {
		err_set(&err, EPERM, "cannot get the bus name %s: %s", name->name,
			e ? e->message : "malformed reply");
		tell(name, &err);
		return 1;
	}
	if (result == REPLY_PRIMARY_OWNER || result == REPLY_ALREADY_OWNER) {
		tell(name, NULL);
		return 1;
	}
	/* We are in the queue: on_acquired() or on_timeout() goes on. */
	r = sd_event_add_time_relative(sd_bus_get_event(name->bus), &name->timeout, CLOCK_MONOTONIC,
				       name->wait_usec, 0, on_timeout, name);
	if (r < 0) {
		err_errno(&err, -r, "cannot set a timer");
		tell(name, &err);
	}
	return 1;
}

int bus_name_request(sd_bus *bus, const char *wanted, uint64_t wait_usec, bus_name_fn fn,
		     void *data, struct bus_name **ret, struct err *err)
{
	struct bus_name *name = g_new0(struct bus_name, 1);
	int r;

	name->bus = sd_bus_ref(bus);
	name->name = g_strdup(wanted);
	name->wait_usec = wait_usec;
	name->fn = fn;
	name->data = data;
	/* Before the request: the signal may come right after its answer. */
	r = sd_bus_match_signal_async(bus, &name->acquired, "org.freedesktop.DBus",
				      "/org/freedesktop/DBus", "org.freedesktop.DBus",
				      "NameAcquired", on_acquired, NULL, name);
	if (r >= 0)
		r = sd_bus_request_name_async(bus, &name->request, wanted, SD_BUS_NAME_QUEUE,
					      on_request, name);
	if (r < 0) {
		bus_name_free(name);
		return err_errno(err, -r, "cannot ask for the bus name %s", wanted);
	}
	*ret = name;
	return 0;
}
