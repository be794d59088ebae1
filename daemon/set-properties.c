/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/set-properties.h"

#include "daemon/manager.h"
#include "daemon/spawner.h"
#include "dbus/resource-properties.h"
#include "vmm/base/err.h"
#include "vmm/base/log.h"
#include <errno.h>

/* Sent to systemd, which has not answered yet. */
struct property_change {
	machine_done_fn fn;
	void *data;
	bool runtime;
	GVariant *before; /* of the definition */
};

int machine_check_properties(const struct manager *manager, GVariant *list, GVariant **ret,
			     struct err *err)
{
	g_autoptr(GVariant) set = NULL;
	int r;

	r = resource_properties_check(list, manager->user, &set, err);
	if (r < 0)
		return r;
	if (set && !manager->spawner->ops->set_properties)
		return err_fault(err, FAULT_UNSUPPORTED, EOPNOTSUPP,
				 "resource properties need workers in units of systemd, and this "
				 "service runs them as plain children");
	*ret = g_steal_pointer(&set);
	return 0;
}

static int check_runtime(const struct machine *vm, GVariant *set, struct err *err)
{
	const struct resource_property *fixed = resource_properties_first_at_start(set);

	if (fixed)
		return err_fault(
			err, FAULT_BAD_ARGUMENT, EINVAL,
			"property '%s' belongs to the process and cannot be changed at run "
			"time, only for the next start",
			fixed->name);
	return machine_check_state(vm,
				   MACHINE_STATES(RUNNING) | MACHINE_STATES(PAUSED) |
					   MACHINE_STATES(SHUTTING_DOWN) |
					   MACHINE_STATES(REBOOTING),
				   "set resource properties at run time of", err);
}

int machine_check_set_properties(const struct machine *vm, bool runtime, GVariant *list,
				 GVariant **ret, struct err *err)
{
	g_autoptr(GVariant) set = NULL;
	int r;

	r = machine_check_properties(vm->manager, list, &set, err);
	if (r == 0 && !set)
		r = err_fault(err, FAULT_BAD_ARGUMENT, EINVAL, "no resource property is given");
	if (r == 0 && runtime)
		r = check_runtime(vm, set, err);
	if (r == 0)
		r = machine_check_idle(vm, err);
	if (r == 0 && vm->property_change)
		r = err_fault(
			err, FAULT_BUSY, EBUSY,
			"VM '%s' is busy: systemd has not answered to an earlier change of its "
			"resource properties",
			vm->def.name);
	if (r < 0)
		return r;
	*ret = g_steal_pointer(&set);
	return 0;
}

static void put_back(struct machine *vm, GVariant *before)
{
	struct err err = { 0 };

	if (machine_store_properties(vm, before, &err) < 0)
		log_error("VM '%s': its definition keeps resource properties that its unit was "
			  "refused: %s",
			  vm->def.name, err.msg);
}

static int change_unit(struct machine *vm, struct property_change *change, GVariant *live,
		       struct err *err)
{
	int r;

	r = vm->spawn.spawner->ops->set_properties(&vm->spawn, live, err);
	if (r == 0)
		vm->property_change = change;
	return r;
}

static void change_free(struct property_change *change)
{
	g_clear_pointer(&change->before, g_variant_unref);
	g_free(change);
}

int machine_set_properties(struct machine *vm, bool runtime, GVariant *set, machine_done_fn fn,
			   void *data, struct err *err)
{
	g_autoptr(GVariant) live = machine_is_active(vm) ? resource_properties_live(set) : NULL;
	struct property_change *change = g_new0(struct property_change, 1);
	int r = 0;

	change->fn = fn;
	change->data = data;
	change->runtime = runtime;
	change->before = vm->def.properties ? g_variant_ref(vm->def.properties) : NULL;
	if (!runtime) {
		g_autoptr(GVariant) after = resource_properties_merge(change->before, set);

		r = machine_store_properties(vm, after, err);
	}
	if (r == 0 && live) {
		r = change_unit(vm, change, live, err);
		if (r == 0)
			return 1;
		if (!runtime)
			put_back(vm, change->before);
	}
	change_free(change);
	return r;
}

static void change_end(struct machine *vm, const struct err *err, bool undo)
{
	struct property_change *change = vm->property_change;

	if (!change)
		return;
	vm->property_change = NULL;
	if (undo && !change->runtime)
		put_back(vm, change->before);
	change->fn(change->data, NULL, err);
	change_free(change);
}

void machine_on_properties_set(struct machine *vm, const struct err *err)
{
	change_end(vm, err, err != NULL);
}

/* Nothing runs any more: the definition alone counts, and that has them. */
void machine_end_property_change(struct machine *vm)
{
	struct err err = { 0 };

	if (vm->property_change && vm->property_change->runtime)
		err_fault(&err, FAULT_WRONG_STATE, EPROTO,
			  "VM '%s' has ended before systemd changed its unit", vm->def.name);
	change_end(vm, err.code ? &err : NULL, false);
}

void machine_drop_property_change(struct machine *vm)
{
	struct err err = { 0 };

	err_set(&err, ECANCELED,
		"the service ends before systemd has said whether the unit of VM '%s' was changed",
		vm->def.name);
	change_end(vm, &err, false);
}
