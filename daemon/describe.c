/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/describe.h"

#include "daemon/definition.h"
#include "daemon/machine.h"
#include "dbus/resource-properties.h"
#include "vmm/config/json.h"
#include "vmm/config/vm-config.h"

/* The worker's device list, a(ssss), as objects with named members. */
static GVariant *describe_devices(GVariant *list)
{
	const char *id, *type, *bdf, *state;
	GVariantBuilder builder;
	GVariantIter iter;

	g_variant_builder_init(&builder, G_VARIANT_TYPE("aa{sv}"));
	g_variant_iter_init(&iter, list);
	while (g_variant_iter_next(&iter, "(&s&s&s&s)", &id, &type, &bdf, &state)) {
		GVariantBuilder dict;

		g_variant_builder_init(&dict, G_VARIANT_TYPE_VARDICT);
		dict_add(&dict, "id", "s", id);
		dict_add(&dict, "type", "s", type);
		dict_add(&dict, "bdf", "s", bdf);
		dict_add(&dict, "state", "s", state);
		g_variant_builder_add_value(&builder, g_variant_builder_end(&dict));
	}
	return g_variant_builder_end(&builder);
}

char *machine_describe(const struct machine *vm, GVariant *answer)
{
	const struct vm_config *config = machine_config(vm);
	g_autoptr(GVariant) value = NULL, devices = NULL;
	GVariantBuilder dict;

	g_variant_builder_init(&dict, G_VARIANT_TYPE_VARDICT);
	dict_add(&dict, "name", "s", vm->def.name);
	dict_add(&dict, "uuid", "s", vm->def.uuid);
	dict_add(&dict, "owner", "t", (guint64)vm->def.owner);
	dict_add(&dict, "description", "s", vm->def.description ? vm->def.description : "");
	dict_add(&dict, "persistent", "b", vm->def.persistent);
	dict_add(&dict, "autostart", "b", vm->def.autostart);
	if (vm->def.slice)
		dict_add(&dict, "slice", "s", vm->def.slice);
	if (vm->def.properties)
		dict_add_value(&dict, "resource-properties",
			       resource_properties_to_json(vm->def.properties));
	dict_add(&dict, "state", "s", machine_state_to_string(vm->state));
	dict_add(&dict, "state-reason", "s", vm->state_reason);
	dict_add(&dict, "boots", "t", (guint64)vm->n_boots);
	if (vm->spawn.unit)
		dict_add(&dict, "unit", "s", vm->spawn.unit);
	if (vm->spawn.pid)
		dict_add(&dict, "pid", "t", (guint64)vm->spawn.pid);
	if (vm->taps)
		dict_add(&dict, "host-interfaces", "^as", vm->taps);
	if (vm->console_paths.n > 0)
		dict_add_value(&dict, "console-paths", console_paths_save(&vm->console_paths));
	dict_add_value(&dict, "config", vm_config_serialise(config));
	if (answer)
		devices = g_variant_lookup_value(answer, "devices", G_VARIANT_TYPE("a(ssss)"));
	if (devices)
		dict_add_value(&dict, "devices", describe_devices(devices));
	value = g_variant_ref_sink(g_variant_builder_end(&dict));
	return config_json_print(value, CONFIG_JSON_PRETTY);
}
