/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/acpi/hotplug-aml.h"

#include <stdio.h>

#include "vmm/acpi/aml.h"

/* ACPI 6.5, 6.3.7 */
#define STA_ALL    0x0f
#define STA_HIDDEN 0x0b /* there, decoding, working; not for the user's eyes */

void hotplug_aml_controller(struct aml *a, const char *title, const char *lock, const char *region,
			    uint64_t gpa, uint64_t len)
{
	struct aml res = { 0 };

	aml_name(a, "_HID");
	aml_eisa_id(a, "PNP0A06");
	aml_name(a, "_UID");
	aml_string(a, title);
	aml_name_integer(a, "_STA", STA_HIDDEN);
	aml_mutex(a, lock);
	aml_res_mem64(&res, gpa, len);
	aml_name_crs(a, &res);
	aml_region(a, region, AML_SYSTEM_MEMORY, gpa, len);
}

const char *hotplug_aml_unit(const struct hotplug_units *units, uint32_t unit, char buf[static 5])
{
	snprintf(buf, 5, "%c%03X", units->letter, unit % HOTPLUG_UNITS_MAX);
	return buf;
}

void hotplug_aml_open(struct aml *a, const struct hotplug_units *units, const char *method,
		      unsigned int n_args)
{
	aml_open_method(a, method, n_args, true);
	aml_acquire(a, units->lock);
	aml_store_arg(a, 0, units->select);
}

void hotplug_aml_close(struct aml *a, const struct hotplug_units *units)
{
	aml_release(a, units->lock);
	aml_close(a);
}

void hotplug_aml_status(struct aml *a, const struct hotplug_units *units, const char *method,
			unsigned int present)
{
	hotplug_aml_open(a, units, method, 1);
	aml_op(a, AML_STORE);
	aml_path(a, units->flags);
	aml_local(a, 0);
	aml_release(a, units->lock);
	aml_open_if(a);
	aml_op(a, AML_AND);
	aml_local(a, 0);
	aml_integer(a, present);
	aml_op(a, AML_NULL);
	aml_op(a, AML_RETURN);
	aml_integer(a, STA_ALL);
	aml_close(a);
	aml_op(a, AML_RETURN);
	aml_integer(a, 0);
	aml_close(a);
}

void hotplug_aml_answer(struct aml *a, const struct hotplug_units *units, const char *method)
{
	hotplug_aml_open(a, units, method, 3);
	aml_store_arg(a, 1, units->ost_event);
	aml_store_arg(a, 2, units->ost_status);
	hotplug_aml_close(a, units);
}

void hotplug_aml_notify(struct aml *a, const struct hotplug_units *units)
{
	char name[5];

	aml_open_method(a, units->notify, 2, true);
	for (uint32_t i = 0; i < units->n; i++) {
		aml_open_if(a);
		aml_op(a, AML_LEQUAL);
		aml_arg(a, 0);
		aml_integer(a, i);
		aml_op(a, AML_NOTIFY);
		aml_path(a, hotplug_aml_unit(units, i, name));
		aml_arg(a, 1);
		aml_close(a);
	}
	aml_close(a);
}

/* Of the chosen unit, whose number is in local 0; with more than one, its flags are in local 1. */
static void emit_news(struct aml *a, const struct hotplug_units *units,
		      const struct hotplug_news *news, bool flags_in_local)
{
	aml_open_if(a);
	aml_op(a, AML_AND);
	if (flags_in_local)
		aml_local(a, 1);
	else
		aml_path(a, units->flags);
	aml_integer(a, news->flag);
	aml_op(a, AML_NULL);
	aml_path(a, units->notify);
	aml_local(a, 0);
	aml_integer(a, news->code);
	aml_store_integer(a, news->flag, units->flags);
	aml_close(a);
}

void hotplug_aml_scan(struct aml *a, const struct hotplug_units *units, const char *method,
		      const struct hotplug_news *news, size_t n_news)
{
	aml_open_method(a, method, 0, true);
	aml_acquire(a, units->lock);
	aml_op(a, AML_STORE);
	aml_integer(a, 0);
	aml_local(a, 0);
	aml_open_while(a);
	aml_op(a, AML_LLESS);
	aml_local(a, 0);
	aml_integer(a, units->n);
	aml_op(a, AML_STORE);
	aml_local(a, 0);
	aml_path(a, units->select);
	if (n_news > 1) {
		aml_op(a, AML_STORE);
		aml_path(a, units->flags);
		aml_local(a, 1);
	}
	for (size_t i = 0; i < n_news; i++)
		emit_news(a, units, &news[i], n_news > 1);
	aml_op(a, AML_INCREMENT);
	aml_local(a, 0);
	aml_close(a);
	hotplug_aml_close(a, units);
}

void hotplug_aml_forward(struct aml *a, const char *name, unsigned int n_args, const char *method,
			 uint32_t unit)
{
	aml_open_method(a, name, n_args, true);
	if (n_args == 0)
		aml_op(a, AML_RETURN);
	aml_path(a, method);
	aml_integer(a, unit);
	for (unsigned int i = 0; n_args == 3 && i < 2; i++)
		aml_arg(a, i);
	aml_close(a);
}
