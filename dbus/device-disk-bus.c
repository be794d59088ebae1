/* SPDX-License-Identifier: Apache-2.0 */
/*
 * org.brume.vm1.Device.Disk
 */
#include "daemon/device.h"
#include "daemon/disk-change.h"
#include "daemon/job.h"
#include "dbus/bus-call.h"
#include "dbus/bus-error.h"
#include "dbus/bus-options.h"
#include "dbus/bus-path.h"
#include "dbus/device-bus.h"
#include "dbus/host-resources.h"
#include "dbus/job-bus.h"
#include "dbus/polkit.h"
#include "dbus/rate-limit-bus.h"
#include "dbus/service.h"
#include "vmm/base/err.h"
#include "vmm/config/vm-config.h"
#include <errno.h>
#include <string.h>

static const struct disk_config *disk_of(const struct machine_device *dev)
{
	return &dev->vm->boot->disks[dev->index];
}

static int check_own_limit(const struct machine_device *dev, struct err *err)
{
	const char *group = disk_of(dev)->rate_limit_group;

	if (!group)
		return 0;
	return err_fault(err, FAULT_WRONG_STATE, EPROTO,
			 "disk '%s' of VM '%s' shares the limit of group '%s', which is what must "
			 "be changed",
			 dev->id, dev->vm->def.name, group);
}

static int method_set_rate_limit(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	struct rate_limit_config limit = { 0 };
	struct machine_device *dev = userdata;
	struct err err = { 0 };
	int r;

	r = rate_limit_bus_read(m, &limit, &err);
	if (r == 0)
		r = bus_call_no_options(m, &err);
	if (r == 0)
		r = check_own_limit(dev, &err);
	if (r == 0)
		r = machine_check_device_request(dev->vm, "set a rate limit of", &err);
	if (r == 0)
		r = bus_call_authorise_device(m, dev->vm, dev, "limit a disk of", &err);
	if (r <= 0)
		return bus_call_verdict(r, error, &err);
	r = machine_set_rate_limit(dev, "", &limit, bus_call_done, sd_bus_message_ref(m), &err);
	return bus_call_pending(m, r, error, &err);
}

/* --- Resize --------------------------------------------------------------------- */

struct wait_options {
	bool wait;
};

static const struct bus_option wait_options[] = {
	{ "Wait", 'b', offsetof(struct wait_options, wait) },
};

static int method_resize(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	struct machine_device *dev = userdata;
	struct wait_options options = { 0 };
	struct job *job = NULL;
	struct err err = { 0 };
	uint64_t bytes;
	uid_t caller;
	int r;

	r = sd_bus_message_read(m, "t", &bytes);
	if (r < 0)
		return r;
	r = bus_options_read(m, wait_options, ARRAY_SIZE(wait_options), &options, &err);
	if (r == 0)
		r = machine_check_resize_disk(dev, bytes, &err);
	if (r == 0)
		r = bus_call_authorise_device(m, dev->vm, dev, "resize a disk of", &err);
	if (r <= 0)
		return bus_call_verdict(r, error, &err);
	r = polkit_caller_uid(m, &caller, &err);
	if (r == 0)
		r = machine_resize_disk(dev, caller, bytes, &job, &err);
	if (r < 0)
		return bus_error_from_err(error, &err);
	return job_bus_reply(m, job, options.wait);
}

/* --- Replace -------------------------------------------------------------------- */

struct replace_options {
	bool persist;
};

static const struct bus_option replace_options[] = {
	{ "Persist", 'b', offsetof(struct replace_options, persist) },
};

static int find_type(const char *format, enum image_type *ret, struct err *err)
{
	for (unsigned int i = IMAGE_TYPE_UNKNOWN + 1; i < IMAGE_TYPE_N_; i++) {
		if (g_ascii_strcasecmp(image_type_to_string(i), format) == 0) {
			*ret = (enum image_type)i;
			return 0;
		}
	}
	return err_fault(err, FAULT_BAD_ARGUMENT, EINVAL,
			 "Format '%s' is unknown, must be raw, qcow2, vhd or vhdx", format);
}

/* Of a variant at the cursor. */
static int read_key(sd_bus_message *m, const char *key, struct medium_params *ret, struct err *err)
{
	const char *format = NULL;
	int backing_files = 0, r;

	if (strcmp(key, "Path") == 0) {
		r = sd_bus_message_read(m, "v", "s", &ret->path);
	} else if (strcmp(key, "FD") == 0) {
		r = sd_bus_message_read(m, "v", "h", &ret->fd);
	} else if (strcmp(key, "Format") == 0) {
		r = sd_bus_message_read(m, "v", "s", &format);
	} else if (strcmp(key, "BackingFiles") == 0) {
		r = sd_bus_message_read(m, "v", "b", &backing_files);
		ret->backing_files = backing_files;
	} else {
		return err_fault(err, FAULT_BAD_ARGUMENT, EINVAL,
				 "source '%s' is unknown, must be one of Path, FD, Format, "
				 "BackingFiles",
				 key);
	}
	if (r < 0)
		return err_fault(err, FAULT_BAD_ARGUMENT, EINVAL,
				 "source '%s' has the wrong type, must be s (Path, Format), h (FD) "
				 "or b (BackingFiles)",
				 key);
	return format ? find_type(format, &ret->type, err) : 0;
}

static int read_source(sd_bus_message *m, struct medium_params *ret, struct err *err)
{
	const char *key;
	int r;

	r = sd_bus_message_enter_container(m, 'a', "{sv}");
	while (r >= 0 && (r = sd_bus_message_enter_container(m, 'e', "sv")) > 0) {
		r = sd_bus_message_read(m, "s", &key);
		if (r >= 0) {
			r = read_key(m, key, ret, err);
			if (r < 0)
				return r;
			r = sd_bus_message_exit_container(m);
		}
	}
	if (r >= 0)
		r = sd_bus_message_exit_container(m);
	if (r < 0)
		return err_errno(err, -r, "cannot read the source");
	if (!ret->path == (ret->fd < 0))
		return err_fault(err, FAULT_BAD_ARGUMENT, EINVAL,
				 "the source has %s, must have either Path or FD",
				 ret->path ? "both Path and FD" : "no image");
	return 0;
}

static int read_replace(sd_bus_message *m, struct medium_params *ret, struct err *err)
{
	struct replace_options options = { 0 };
	int r;

	*ret = (struct medium_params){ .fd = -EBADF };
	r = read_source(m, ret, err);
	if (r == 0)
		r = bus_options_read(m, replace_options, ARRAY_SIZE(replace_options), &options,
				     err);
	ret->persist = options.persist;
	return r;
}

/* A file that root opens for the caller is a resource of the host, as with AddDevice. */
static int authorise_replace(sd_bus_message *m, const struct machine_device *dev,
			     const struct medium_params *params, struct err *err)
{
	static const char verb[] = "replace the image of a disk of";
	_cleanup_(vm_config_free_cleanup) struct vm_config *config = NULL;
	struct host_resource_details details;
	char pointer[CONFIG_POINTER_MAX];
	struct polkit_request question = {
		.action = POLKIT_ACTION_USE_HOST_RESOURCES,
		.verb = verb,
	};
	int r = machine_check_replace_disk(dev, params, &config, pointer, err);

	if (r < 0)
		return r;
	if (!host_resource_details(config, pointer, NULL, NULL, &details))
		return bus_call_authorise_device(m, dev->vm, dev, verb, err);
	question.extra = details.list;
	return service_check(bus_call_service(dev->vm), m, dev->vm, &question, err);
}

static void on_job_over(void *data, const struct job *job, const struct err *err)
{
	(void)job;
	bus_call_done(data, NULL, err);
}

static int method_replace(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	struct machine_device *dev = userdata;
	struct medium_params params;
	struct job *job = NULL;
	struct err err = { 0 };
	uid_t caller;
	int r;

	r = read_replace(m, &params, &err);
	if (r == 0)
		r = authorise_replace(m, dev, &params, &err);
	if (r <= 0)
		return bus_call_verdict(r, error, &err);
	r = polkit_caller_uid(m, &caller, &err);
	if (r == 0)
		r = machine_replace_disk(dev, caller, &params, &job, &err);
	if (r < 0)
		return bus_error_from_err(error, &err);
	if (job_is_over(job)) {
		on_job_over(sd_bus_message_ref(m), job, job->err.code ? &job->err : NULL);
		return 1;
	}
	r = job_add_waiter(job, on_job_over, sd_bus_message_ref(m));
	return bus_call_pending(m, r, error, &err);
}

/* --- properties ----------------------------------------------------------------- */

static const struct device_property properties[] = {
	{ "Path", "path" },
	{ "ReadOnly", "readonly" },
	{ "Size", "size" },
	{ "Engine", "engine" },
	{ "Serial", "serial" },
	{ "Queues", "num_queues" },
	{ "QueueSize", "queue_size" },
	{ "RateLimitGroup", "rate_limit_group" },
};

static int get_format(sd_bus *bus, const char *path, const char *interface, const char *property,
		      sd_bus_message *reply, void *userdata, sd_bus_error *error)
{
	const struct disk_config *disk = disk_of(userdata);
	/* What runs with none stated is raw: anything else is refused. */
	enum image_type type =
		disk->image_type == IMAGE_TYPE_UNKNOWN ? IMAGE_TYPE_RAW : disk->image_type;
	g_autofree char *lower = g_ascii_strdown(image_type_to_string(type), -1);

	(void)bus, (void)path, (void)interface, (void)property, (void)error;
	return sd_bus_message_append(reply, "s", lower);
}

static int get_rate_limit(sd_bus *bus, const char *path, const char *interface,
			  const char *property, sd_bus_message *reply, void *userdata,
			  sd_bus_error *error)
{
	(void)bus, (void)path, (void)interface, (void)property, (void)error;
	return rate_limit_bus_append(reply, &disk_of(userdata)->limit);
}

static const sd_bus_vtable disk_vtable[] = {
	SD_BUS_VTABLE_START(0),
	SD_BUS_METHOD_WITH_ARGS("Resize", SD_BUS_ARGS("t", bytes, "a{sv}", options),
				SD_BUS_RESULT("o", job), method_resize, DEVICE_ANYBODY),
	SD_BUS_METHOD_WITH_ARGS("Replace", SD_BUS_ARGS("a{sv}", source, "a{sv}", options),
				SD_BUS_NO_RESULT, method_replace, DEVICE_ANYBODY),
	SD_BUS_METHOD_WITH_ARGS("SetRateLimit", SD_BUS_ARGS("a{sv}", limits, "a{sv}", options),
				SD_BUS_NO_RESULT, method_set_rate_limit, DEVICE_ANYBODY),
	SD_BUS_PROPERTY("Path", "s", device_bus_get_s, 0, DEVICE_EMITS),
	SD_BUS_PROPERTY("Format", "s", get_format, 0, DEVICE_EMITS),
	SD_BUS_PROPERTY("ReadOnly", "b", device_bus_get_b, 0, DEVICE_EMITS),
	SD_BUS_PROPERTY("Size", "t", device_bus_get_t, 0, DEVICE_EMITS),
	SD_BUS_PROPERTY("Engine", "s", device_bus_get_s, 0, DEVICE_EMITS),
	SD_BUS_PROPERTY("Serial", "s", device_bus_get_s, 0, DEVICE_CONST),
	SD_BUS_PROPERTY("Queues", "q", device_bus_get_q, 0, DEVICE_CONST),
	SD_BUS_PROPERTY("QueueSize", "q", device_bus_get_q, 0, DEVICE_CONST),
	SD_BUS_PROPERTY("RateLimit", "a{st}", get_rate_limit, 0, DEVICE_EMITS),
	SD_BUS_PROPERTY("RateLimitGroup", "s", device_bus_get_s, 0, DEVICE_CONST),
	SD_BUS_VTABLE_END,
};

static const char *const values[] = { "Size", "Engine", NULL };
static const char *const limits[] = { "RateLimit", NULL };
static const char *const config[] = { "Path", "Format", NULL };
const struct device_class device_disk_class = {
	.interface = BRUME_DEVICE_INTERFACE ".Disk",
	.type = "disk",
	.vtable = disk_vtable,
	.properties = properties,
	.n_properties = ARRAY_SIZE(properties),
	.values = values,
	.limits = limits,
	.config = config,
};
