/* SPDX-License-Identifier: Apache-2.0 */
#include "dbus/vm-plug-bus.h"

#include "daemon/device.h"
#include "daemon/machine.h"
#include "daemon/plug.h"
#include "daemon/resize.h"
#include "daemon/unplug.h"
#include "dbus/bus-call.h"
#include "dbus/bus-error.h"
#include "dbus/bus-options.h"
#include "dbus/bus-path.h"
#include "dbus/host-resources.h"
#include "dbus/job-bus.h"
#include "dbus/polkit.h"
#include "dbus/service.h"
#include "dbus/variant.h"
#include "vmm/base/err.h"
#include "vmm/base/log.h"
#include "vmm/config/vm-config.h"
#include <errno.h>
#include <string.h>

/* Anybody may call: what a device's keys cost (variant.h) before the question is asked. */
#define ELEMENT_MAX (256 * 1024)

#define REMOVE_USEC (60 * 1000000ULL)
#define RESIZE_USEC (60 * 1000000ULL)

/* --- AddDevice ----------------------------------------------------------------- */

struct add_options {
	bool persist;
};

static const struct bus_option add_options[] = {
	{ "Persist", 'b', offsetof(struct add_options, persist) },
};

static int read_fds(sd_bus_message *m, struct given_fds *ret, struct err *err)
{
	const char *name;
	int fd, r;

	r = sd_bus_message_enter_container(m, 'a', "{sh}");
	while (r >= 0 && (r = sd_bus_message_read(m, "{sh}", &name, &fd)) > 0) {
		r = given_fds_add(ret, name, fd, err);
		if (r < 0)
			return r;
	}
	if (r >= 0)
		r = sd_bus_message_exit_container(m);
	return r < 0 ? err_errno(err, -r, "cannot read the descriptors") : 0;
}

static int set_id(GVariant **element, const char *id, struct err *err)
{
	g_autoptr(GVariant) own = g_variant_lookup_value(*element, "id", NULL);
	GVariantDict dict;

	if (id[0] == '\0')
		return 0;
	if (own)
		return err_fault(err, FAULT_BAD_ARGUMENT, EINVAL,
				 "the id is '%s': there must be no 'id' in the configuration too",
				 id);
	g_variant_dict_init(&dict, *element);
	g_variant_dict_insert(&dict, "id", "s", id);
	g_variant_unref(*element);
	*element = g_variant_ref_sink(g_variant_dict_end(&dict));
	return 0;
}

static int read_add(sd_bus_message *m, struct plug_params *ret, struct err *err)
{
	struct add_options options = { 0 };
	const char *type, *id;
	int r;

	r = sd_bus_message_read(m, "ss", &type, &id);
	if (r < 0)
		return err_errno(err, -r, "cannot read the arguments of AddDevice");
	ret->key = machine_device_key(type);
	if (!ret->key)
		return err_fault(err, FAULT_BAD_ARGUMENT, EINVAL,
				 "'%s' is no type of device that can be added, must be disk, net, "
				 "fs, pmem or vsock",
				 type);
	r = variant_from_message_max(m, "a{sv}", ELEMENT_MAX, &ret->element, err);
	if (r < 0)
		return err_prefix(err, r, "config of the device");
	r = set_id(&ret->element, id, err);
	if (r == 0)
		r = read_fds(m, &ret->fds, err);
	if (r == 0)
		r = bus_options_read(m, add_options, ARRAY_SIZE(add_options), &options, err);
	ret->persist = options.persist;
	return r;
}

static int authorise_add(sd_bus_message *m, const struct machine *vm,
			 const struct plug_params *params, struct err *err)
{
	_cleanup_(vm_config_free_cleanup) struct vm_config *config = NULL;
	struct host_resource_details details;
	char pointer[CONFIG_POINTER_MAX];
	struct polkit_request question = {
		.action = POLKIT_ACTION_MODIFY_VMS,
		.owner_shortcut = true,
		.verb = "add a device to",
	};
	int r = machine_check_add_device(vm, params, &config, pointer, err);

	if (r < 0)
		return r;
	if (host_resource_details(config, pointer, NULL, NULL, &details)) {
		question.action = POLKIT_ACTION_USE_HOST_RESOURCES;
		question.owner_shortcut = false;
	}
	question.extra = details.list;
	return service_check(bus_call_service(vm), m, vm, &question, err);
}

static void on_added(void *data, const char *id, const struct err *err)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *call = data;
	_cleanup_free_ char *path = NULL, *name = NULL;
	int r;

	if (err) {
		r = bus_reply_err(call, err);
	} else if (bus_path_parse_vm(sd_bus_message_get_path(call), &name) < 0 ||
		   !(path = bus_path_device(name, id))) {
		r = -ENOMEM;
	} else {
		r = sd_bus_reply_method_return(call, "o", path);
	}
	if (r < 0 && r != -ENOTCONN)
		log_warning("cannot reply to AddDevice: %s", strerror(-r));
}

int vm_plug_bus_add(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	struct machine *vm = userdata;
	struct plug_params params = { 0 };
	struct err err = { 0 };
	int r;

	r = read_add(m, &params, &err);
	if (r == 0)
		r = authorise_add(m, vm, &params, &err);
	if (r > 0) {
		r = machine_add_device(vm, &params, on_added, sd_bus_message_ref(m), &err);
		r = bus_call_pending(m, r, error, &err);
	} else {
		r = bus_call_verdict(r, error, &err);
	}
	given_fds_deinit(&params.fds);
	g_clear_pointer(&params.element, g_variant_unref);
	return r;
}

/* --- RemoveDevice ---------------------------------------------------------------- */

struct remove_options {
	uint64_t timeout_usec;
	bool force, persist, wait;
};

static const struct bus_option remove_options[] = {
	{ "TimeoutUSec", 't', offsetof(struct remove_options, timeout_usec) },
	{ "Force", 'b', offsetof(struct remove_options, force) },
	{ "Persist", 'b', offsetof(struct remove_options, persist) },
	{ "Wait", 'b', offsetof(struct remove_options, wait) },
};

static int remove_device(sd_bus_message *m, struct machine *vm, const char *id, sd_bus_error *error)
{
	struct remove_options options = { .timeout_usec = REMOVE_USEC };
	struct unplug_options unplug;
	struct job *job = NULL;
	struct err err = { 0 };
	uid_t caller;
	int r;

	r = bus_options_read(m, remove_options, ARRAY_SIZE(remove_options), &options, &err);
	if (r == 0)
		r = machine_check_remove_device(vm, id, options.persist, &err);
	if (r == 0)
		r = bus_call_authorise_device(m, vm, machine_find_device(vm, id),
					      "remove a device of", &err);
	if (r <= 0)
		return bus_call_verdict(r, error, &err);
	unplug = (struct unplug_options){ options.timeout_usec, options.force, options.persist };
	r = polkit_caller_uid(m, &caller, &err);
	if (r == 0)
		r = machine_remove_device(vm, caller, id, &unplug, &job, &err);
	if (r < 0)
		return bus_error_from_err(error, &err);
	return job_bus_reply(m, job, options.wait);
}

int vm_plug_bus_remove(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	const char *id;
	int r = sd_bus_message_read(m, "s", &id);

	return r < 0 ? r : remove_device(m, userdata, id, error);
}

int vm_plug_bus_remove_device(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	const struct machine_device *dev = userdata;
	g_autofree char *id = g_strdup(dev->id);

	return remove_device(m, dev->vm, id, error);
}

/* --- ResizeVCPUs ------------------------------------------------------------------- */

struct resize_call_options {
	uint64_t timeout_usec;
	bool persist, wait;
};

static const struct bus_option resize_options[] = {
	{ "TimeoutUSec", 't', offsetof(struct resize_call_options, timeout_usec) },
	{ "Persist", 'b', offsetof(struct resize_call_options, persist) },
	{ "Wait", 'b', offsetof(struct resize_call_options, wait) },
};

static int resize(sd_bus_message *m, struct machine *vm, const struct resize_wish *wanted,
		  const char *verb, sd_bus_error *error)
{
	struct resize_call_options options = { .timeout_usec = RESIZE_USEC };
	struct resize_options wish;
	struct job *job = NULL;
	struct err err = { 0 };
	uid_t caller;
	int r;

	r = bus_options_read(m, resize_options, ARRAY_SIZE(resize_options), &options, &err);
	if (r == 0)
		r = machine_check_resize(vm, wanted, &err);
	if (r == 0)
		r = bus_call_authorise(m, vm, POLKIT_ACTION_MODIFY_VMS, verb, true, &err);
	if (r <= 0)
		return bus_call_verdict(r, error, &err);
	wish = (struct resize_options){ options.timeout_usec, options.persist };
	r = polkit_caller_uid(m, &caller, &err);
	if (r == 0)
		r = machine_resize(vm, caller, wanted, &wish, &job, &err);
	if (r < 0)
		return bus_error_from_err(error, &err);
	return job_bus_reply(m, job, options.wait);
}

int vm_plug_bus_resize_vcpus(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	struct resize_wish wish = { .what = RESIZE_VCPUS };
	uint32_t n;
	int r = sd_bus_message_read(m, "u", &n);

	if (r < 0)
		return r;
	wish.wanted = n;
	return resize(m, userdata, &wish, "change the vCPUs of", error);
}

int vm_plug_bus_resize_memory(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	struct resize_wish wish = { .what = RESIZE_MEMORY };
	int r = sd_bus_message_read(m, "t", &wish.wanted);

	return r < 0 ? r : resize(m, userdata, &wish, "change the memory of", error);
}

int vm_plug_bus_resize_memory_zone(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	struct resize_wish wish = { .what = RESIZE_ZONE };
	int r = sd_bus_message_read(m, "st", &wish.zone, &wish.wanted);

	return r < 0 ? r : resize(m, userdata, &wish, "change the memory of", error);
}

int vm_plug_bus_get_sizes(sd_bus *bus, const char *path, const char *interface,
			  const char *property, sd_bus_message *reply, void *userdata,
			  sd_bus_error *error)
{
	const struct machine_sizes sizes = machine_get_sizes(userdata);

	(void)bus, (void)path, (void)interface, (void)error;
	if (strcmp(property, "VCPUs") == 0)
		return sd_bus_message_append(reply, "u", sizes.vcpus);
	if (strcmp(property, "VCPUsTarget") == 0)
		return sd_bus_message_append(reply, "u", sizes.vcpus_target);
	if (strcmp(property, "MemoryTarget") == 0)
		return sd_bus_message_append(reply, "t", sizes.memory_target);
	if (strcmp(property, "MemoryMax") == 0)
		return sd_bus_message_append(reply, "t", sizes.memory_max);
	return sd_bus_message_append(reply, "t", sizes.memory);
}
