/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/unit-change.h"

#include "dbus/variant.h"
#include "vmm/base/cleanup.h"
#include "vmm/base/err.h"
#include <errno.h>
#include <stdbool.h>
#include <time.h>

#define SD_NAME     "org.freedesktop.systemd1"
#define ANSWER_USEC (10 * 1000000ULL)
#define RETRY_USEC  (300 * 1000ULL)
#define TRIES_MAX   10

static int change_send(struct unit_change *change, struct err *err);

static void change_done(struct unit_change *change, const struct err *err)
{
	g_clear_pointer(&change->properties, g_variant_unref);
	change->done(change->data, err);
}

static int on_again(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct unit_change *change = userdata;
	struct err err = { 0 };

	(void)source;
	(void)usec;
	change->again = sd_event_source_disable_unref(change->again);
	if (change_send(change, &err) < 0)
		change_done(change, &err);
	return 0;
}

/* No answer is no refusal: it may be done or not. */
static bool retry(struct unit_change *change, const sd_bus_error *e)
{
	if (!sd_bus_error_has_names(e, SD_BUS_ERROR_NO_REPLY, SD_BUS_ERROR_TIMEOUT,
				    SD_BUS_ERROR_DISCONNECTED, SD_BUS_ERROR_SERVICE_UNKNOWN,
				    SD_BUS_ERROR_NAME_HAS_NO_OWNER) ||
	    ++change->n_tries >= TRIES_MAX)
		return false;
	return sd_event_add_time_relative(sd_bus_get_event(change->bus), &change->again,
					  CLOCK_MONOTONIC, RETRY_USEC, 0, on_again, change) >= 0;
}

static int on_answer(sd_bus_message *reply, void *userdata, sd_bus_error *error)
{
	const sd_bus_error *e = sd_bus_message_get_error(reply);
	struct unit_change *change = userdata;
	struct err err = { 0 };

	(void)error;
	change->call = sd_bus_slot_unref(change->call);
	if (!e) {
		change_done(change, NULL);
		return 1;
	}
	if (retry(change, e))
		return 1;
	if (sd_bus_error_has_names(e, SD_BUS_ERROR_INVALID_ARGS, SD_BUS_ERROR_PROPERTY_READ_ONLY))
		err_fault(&err, FAULT_BAD_ARGUMENT, EINVAL, "systemd refuses to change '%s': %s",
			  change->unit, e->message);
	else
		err_set(&err, EREMOTEIO, "systemd does not change '%s': %s", change->unit,
			e->message);
	change_done(change, &err);
	return 1;
}

/* "runtime" is all there is for a transient unit: the change ends with it. */
static int change_send(struct unit_change *change, struct err *err)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
	int r;

	r = sd_bus_message_new_method_call(change->bus, &m, SD_NAME, "/org/freedesktop/systemd1",
					   SD_NAME ".Manager", "SetUnitProperties");
	if (r >= 0)
		r = sd_bus_message_append(m, "sb", change->unit, true);
	if (r >= 0)
		r = variant_append(m, change->properties);
	if (r >= 0)
		r = sd_bus_call_async(change->bus, &change->call, m, on_answer, change,
				      ANSWER_USEC);
	return r < 0 ? err_errno(err, -r, "cannot change '%s'", change->unit) : 0;
}

int unit_change_start(struct unit_change *change, sd_bus *bus, const char *unit,
		      GVariant *properties, struct err *err)
{
	int r;

	if (change->properties)
		return err_set(err, EBUSY, "'%s' is being changed already", unit);
	change->bus = bus;
	change->unit = unit;
	change->properties = g_variant_ref_sink(properties);
	change->n_tries = 0;
	r = change_send(change, err);
	if (r < 0)
		g_clear_pointer(&change->properties, g_variant_unref);
	return r;
}

void unit_change_deinit(struct unit_change *change)
{
	change->call = sd_bus_slot_unref(change->call);
	change->again = sd_event_source_disable_unref(change->again);
	g_clear_pointer(&change->properties, g_variant_unref);
}
