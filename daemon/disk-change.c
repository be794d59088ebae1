/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/disk-change.h"

#include "daemon/device.h"
#include "daemon/given-fds.h"
#include "daemon/link.h"
#include "daemon/machine.h"
#include "daemon/manager.h"
#include "daemon/opening.h"
#include "daemon/resources.h"
#include "daemon/worker.h"
#include "dbus/variant.h"
#include "vmm/base/err.h"
#include "vmm/base/log.h"
#include "vmm/config/device-list.h"
#include "vmm/config/edit.h"
#include "vmm/config/vm-config.h"
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define SECTOR  512U
#define FD_NAME "medium" /* of the one that comes with the call */
/* For the worker: what the guest has under way ends first, and storage can be slow. */
#define CHANGE_USEC (60 * 1000000ULL)

/* It names the machine and its job: either may be gone when an answer comes. */
struct change {
	struct manager *manager;
	char *vm, *id;
	const char *verb; /* "resize" */
	uint32_t job;

	/* of another image */
	struct vm_config *boot; /* the configuration with it */
	GVariant *keys;         /* of the disk, that differ */
	char *pointer;
	bool persist;
	struct resource_set resources;
};

static void change_free(struct change *change)
{
	g_free(change->vm);
	g_free(change->id);
	vm_config_free(change->boot);
	g_clear_pointer(&change->keys, g_variant_unref);
	g_free(change->pointer);
	resource_set_deinit(&change->resources);
	g_free(change);
}

static struct machine *machine_of(const struct change *change)
{
	struct machine *vm = manager_find(change->manager, change->vm);

	return vm && vm->boot && vm->job && vm->job->id == change->job ? vm : NULL;
}

static const struct disk_config *disk_of(const struct machine_device *dev)
{
	return &dev->vm->boot->disks[dev->index];
}

static int check(const struct machine_device *dev, const char *verb, struct err *err)
{
	int r = machine_check_state(dev->vm, MACHINE_STATES(RUNNING) | MACHINE_STATES(PAUSED), verb,
				    err);

	return r < 0 ? r : machine_check_idle(dev->vm, err);
}

static int begin(struct machine_device *dev, uid_t owner, enum job_kind kind, const char *verb,
		 const char *phase, struct change **ret, struct err *err)
{
	struct machine *vm = dev->vm;
	struct change *change;
	int r;

	r = machine_check_connection(vm, err);
	if (r == 0)
		r = machine_begin_job(vm, kind, owner, 0, err);
	if (r < 0)
		return r;
	job_set_phase(vm->job, phase);
	change = g_new0(struct change, 1);
	change->manager = vm->manager;
	change->verb = verb;
	change->vm = g_strdup(vm->def.name);
	change->id = g_strdup(dev->id);
	change->job = vm->job->id;
	*ret = change;
	return 0;
}

static void end(struct change *change, struct machine *vm, const struct err *err)
{
	change_free(change);
	machine_end_job(vm, err);
}

static void fail(struct change *change, struct machine *vm, const struct err *cause)
{
	struct err err = *cause;

	/* A text about a key begins with its pointer, as everywhere. */
	if (err.msg[0] == '/' && change->boot)
		resources_name_paths(change->boot, &err);
	else
		err_prefix(&err, -1, "cannot %s disk '%s' of VM '%s'", change->verb, change->id,
			   vm->def.name);
	log_error("VM '%s': %s", vm->def.name, err.msg);
	end(change, vm, &err);
}

/* What the worker says of the disk then; what it does not, Query will. */
static void take_values(struct machine *vm, const struct change *change, sd_bus_message *reply)
{
	g_autoptr(GVariant) values = NULL;

	if (variant_from_message_max(reply, "a{sv}", WORKER_ANSWER_MAX, &values, NULL) == 0)
		machine_device_told(vm, change->id, values);
}

/* --- another size --------------------------------------------------------------- */

int machine_check_resize_disk(const struct machine_device *dev, uint64_t bytes, struct err *err)
{
	const struct disk_config *disk = disk_of(dev);
	const char *vm = dev->vm->def.name;
	int r = check(dev, "resize a disk of", err);

	if (r < 0)
		return r;
	if (bytes == 0 || bytes % SECTOR || bytes > INT64_MAX)
		return err_fault(err, FAULT_BAD_ARGUMENT, EINVAL,
				 "disk '%s' of VM '%s' cannot have %" PRIu64
				 " bytes, must be a multiple of 512, and less than 8 EiB",
				 dev->id, vm, bytes);
	if (disk->readonly)
		return err_fault(err, FAULT_WRONG_STATE, EROFS,
				 "disk '%s' of VM '%s' is read-only and cannot be resized", dev->id,
				 vm);
	if (disk->image_type == IMAGE_TYPE_VHD || disk->image_type == IMAGE_TYPE_VHDX)
		return err_fault(err, FAULT_UNSUPPORTED, EOPNOTSUPP,
				 "disk '%s' of VM '%s' has an image of type %s, which cannot be "
				 "resized, must be Raw or Qcow2",
				 dev->id, vm, image_type_to_string(disk->image_type));
	if (disk->image_type == IMAGE_TYPE_QCOW2 && bytes < machine_device_u64(dev, "size"))
		return err_fault(err, FAULT_UNSUPPORTED, EOPNOTSUPP,
				 "disk '%s' of VM '%s' has %" PRIu64
				 " bytes and cannot shrink to %" PRIu64
				 ": its image is qcow2, which can only grow",
				 dev->id, vm, machine_device_u64(dev, "size"), bytes);
	return 0;
}

static void on_resized(void *data, sd_bus_message *reply, const struct err *err)
{
	struct change *change = data;
	struct machine *vm = machine_of(change);

	if (!vm) {
		change_free(change);
	} else if (err) {
		fail(change, vm, err);
	} else {
		take_values(vm, change, reply);
		end(change, vm, NULL);
	}
}

int machine_resize_disk(struct machine_device *dev, uid_t owner, uint64_t bytes, struct job **ret,
			struct err *err)
{
	struct machine *vm = dev->vm;
	struct change *change = NULL;
	struct err cause = { 0 };
	int r;

	r = machine_check_resize_disk(dev, bytes, err);
	if (r == 0)
		r = begin(dev, owner, JOB_KIND_RESIZE_DISK, "resize", "changing the image", &change,
			  err);
	if (r < 0)
		return r;
	*ret = vm->job;
	/* From here on the job tells what goes wrong. */
	r = worker_call(vm->worker, "ResizeDisk", CHANGE_USEC, on_resized, change, &cause, "st",
			change->id, bytes);
	if (r < 0)
		fail(change, vm, &cause);
	return 0;
}

/* --- another image: the configuration -------------------------------------------- */

static GVariant *medium_keys(const struct medium_params *params)
{
	GVariantDict dict, fd;

	g_variant_dict_init(&dict, NULL);
	if (params->path) {
		g_variant_dict_insert(&dict, "path", "s", params->path);
	} else {
		g_variant_dict_init(&fd, NULL);
		g_variant_dict_insert(&fd, "fd", "s", FD_NAME);
		g_variant_dict_insert_value(&dict, "path", g_variant_dict_end(&fd));
	}
	g_variant_dict_insert(&dict, "image_type", "s", image_type_to_string(params->type));
	g_variant_dict_insert(&dict, "backing_files", "b", (gboolean)params->backing_files);
	return g_variant_ref_sink(g_variant_dict_end(&dict));
}

/* The definition with it. */
static int make_next(const struct machine *vm, const char *id, GVariant *keys,
		     struct vm_config **ret, struct err *err)
{
	const struct vm_config *next = vm->next;

	for (size_t i = 0; i < next->n_disks; i++)
		if (strcmp(next->disks[i].pci.id, id) == 0)
			return vm_config_with_keys(next, "disks", i, keys, ret, err);
	return err_fault(
		err, FAULT_WRONG_STATE, EPROTO,
		"the definition of VM '%s' has no disk '%s', whose image could be replaced",
		vm->def.name, id);
}

static int define(struct machine *vm, const char *id, GVariant *keys, struct err *err)
{
	/* It may be our own job that the machine is busy with. */
	struct job *job = TAKE_PTR(vm->job);
	struct vm_config *next = NULL;
	int r = make_next(vm, id, keys, &next, err);

	if (r == 0)
		r = machine_define(vm, next, err);
	vm->job = job;
	return r == 0 ? 0
		      : err_prefix(err, r, "disk '%s' has another image, but not in the definition",
				   id);
}

/* The disk has it: so the machine's configuration has, and the definition if that was asked for. */
static int take_over(struct machine *vm, const struct runtime_replace *replace, struct err *err)
{
	struct machine_device *dev = machine_find_device(vm, replace->id);
	struct vm_config *boot = NULL;
	int r;

	if (!dev)
		return err_fault(err, FAULT_NO_SUCH_DEVICE, ENXIO, "disk '%s' is gone",
				 replace->id);
	r = vm_config_with_keys(vm->boot, "disks", dev->index, replace->keys, &boot, err);
	if (r < 0)
		return r;
	vm_config_free(vm->boot);
	vm->boot = boot;
	machine_boot_changed(vm, MACHINE_PROPERTY_CONFIG);
	machine_device_refresh(dev);
	log_info("VM '%s': disk '%s' has another image", vm->def.name, dev->id);
	return replace->persist ? define(vm, replace->id, replace->keys, err) : 0;
}

/* The worker's lock would look like a stranger's. */
static int check_not_ours(const struct machine_device *dev, const char *path, struct err *err)
{
	const struct vm_config *boot = dev->vm->boot;

	for (size_t i = 0; i < boot->n_disks; i++)
		if (g_strcmp0(boot->disks[i].path, path) == 0 &&
		    !(boot->disks[i].readonly && disk_of(dev)->readonly))
			return err_fault(err, FAULT_HOST_RESOURCE, EBUSY,
					 "'%s' is the image of disk '%s' of VM '%s' already", path,
					 boot->disks[i].pci.id, dev->vm->def.name);
	return 0;
}

int machine_check_replace_disk(const struct machine_device *dev, const struct medium_params *params,
			       struct vm_config **ret, char pointer[static CONFIG_POINTER_MAX],
			       struct err *err)
{
	_cleanup_(vm_config_free_cleanup) struct vm_config *boot = NULL, *next = NULL;
	_cleanup_(given_fds_deinit) struct given_fds fds = { 0 };
	g_autoptr(GVariant) keys = medium_keys(params);
	const struct machine *vm = dev->vm;
	int r;

	snprintf(pointer, CONFIG_POINTER_MAX, "/disks/%zu", dev->index);
	r = check(dev, "replace the image of a disk of", err);
	if (r == 0 && vm->replace.id)
		r = err_fault(
			err, FAULT_BUSY, EBUSY,
			"VM '%s': its worker has not said yet whether disk '%s' has got another "
			"image",
			vm->def.name, vm->replace.id);
	if (r == 0 && !params->path && params->persist)
		r = err_fault(err, FAULT_BAD_ARGUMENT, EINVAL,
			      "VM '%s': a descriptor is there for a machine that runs, and not for "
			      "its next boots",
			      vm->def.name);
	if (r == 0 && params->path)
		r = check_not_ours(dev, params->path, err);
	if (r == 0)
		r = vm_config_with_keys(vm->boot, "disks", dev->index, keys, &boot, err);
	if (r == 0 && !params->path)
		r = given_fds_add(&fds, FD_NAME, params->fd, err);
	if (r == 0)
		r = given_fds_check(&fds, boot, pointer, true, err);
	if (r == 0 && params->persist)
		r = make_next(vm, dev->id, keys, &next, err);
	if (r == 0)
		*ret = TAKE_PTR(boot);
	return r;
}

/* --- another image: done ------------------------------------------------------------ */

static void on_replaced(void *data, sd_bus_message *reply, const struct err *err)
{
	struct change *change = data;
	struct machine *vm = machine_of(change);
	struct runtime_replace replace;
	struct err cause = { 0 };
	int r;

	if (!vm) {
		change_free(change);
		return;
	}
	/* Whether it has is seen when there is a connection again, or when it answers at all. */
	vm->replace.unheard = err && (err->code == ECONNRESET || err->code == ETIMEDOUT);
	if (vm->replace.unheard) {
		if (err->code == ETIMEDOUT)
			machine_reconnect_later(vm);
		fail(change, vm, err);
		return;
	}
	replace = vm->replace;
	vm->replace = (struct runtime_replace){ 0 };
	if (err) {
		machine_refresh_runtime(vm);
		fail(change, vm, err);
	} else {
		r = take_over(vm, &replace, &cause);
		take_values(vm, change, reply);
		end(change, vm, r < 0 ? &cause : NULL);
	}
	runtime_replace_clear(&replace);
}

void machine_review_replace(struct machine *vm)
{
	struct runtime_replace replace = vm->replace;
	struct machine_device *dev;
	struct err err = { 0 };

	/* While it is being waited for, the answer tells. */
	if (!replace.id || !replace.unheard)
		return;
	vm->replace = (struct runtime_replace){ 0 };
	dev = machine_find_device(vm, replace.id);
	if (dev && machine_device_u64(dev, "images") > replace.images &&
	    take_over(vm, &replace, &err) < 0)
		log_error("VM '%s': %s", vm->def.name, err.msg);
	machine_refresh_runtime(vm);
	runtime_replace_clear(&replace);
}

static void on_resources_added(void *data, sd_bus_message *reply, const struct err *err)
{
	(void)data;
	(void)reply;
	/* Then ReplaceDisk fails for the want of them. */
	if (err)
		log_debug("a worker takes no image: %s", err->msg);
}

/* For the next daemon, should this one not hear the answer. */
static int note(const struct change *change, struct machine *vm, const struct machine_device *dev,
		struct err *err)
{
	vm->replace = (struct runtime_replace){
		.id = g_strdup(change->id),
		.keys = g_variant_ref(change->keys),
		.images = dev ? machine_device_u64(dev, "images") : 0,
		.persist = change->persist,
	};
	return machine_save_runtime(vm, err);
}

static void call_worker(struct change *change, struct machine *vm)
{
	g_autofree char *path = g_strdup_printf("%s/path", change->pointer);
	const struct machine_device *dev = machine_find_device(vm, change->id);
	struct err err = { 0 };
	const char *type = "";
	int r;

	if (dev && change->boot->disks[dev->index].image_type != IMAGE_TYPE_UNKNOWN)
		type = image_type_to_string(change->boot->disks[dev->index].image_type);
	r = machine_check_connection(vm, &err);
	if (r == 0)
		r = note(change, vm, dev, &err);
	if (r == 0)
		r = worker_add_resources(vm->worker, &change->resources, on_resources_added, vm,
					 &err);
	if (r == 0)
		r = worker_call(vm->worker, "ReplaceDisk", CHANGE_USEC, on_replaced, change, &err,
				"sss", change->id, path, type);
	if (r < 0) {
		runtime_replace_clear(&vm->replace);
		machine_refresh_runtime(vm);
		fail(change, vm, &err);
	}
}

static void on_opened(void *data, struct resource_set *set, const struct err *err)
{
	struct change *change = data;
	struct machine *vm = machine_of(change);

	if (set)
		change->resources = *set;
	if (!vm) {
		change_free(change);
	} else if (err) {
		fail(change, vm, err);
	} else {
		job_set_phase(vm->job, "changing images");
		call_worker(change, vm);
	}
}

static int start_opening(struct change *change, struct machine *vm,
			 const struct medium_params *params, struct err *err)
{
	g_autofree char *config = machine_print_config(change->boot);
	struct given_fds fds = { 0 };
	const struct opening opening = { .config = config,
					 .pointer = change->pointer,
					 .fds = &fds };
	struct task *task;
	int r = params->path ? 0 : given_fds_add(&fds, FD_NAME, params->fd, err);

	return r < 0 ? r : opening_start(vm, &opening, on_opened, change, &task, err);
}

int machine_replace_disk(struct machine_device *dev, uid_t owner,
			 const struct medium_params *params, struct job **ret, struct err *err)
{
	_cleanup_(vm_config_free_cleanup) struct vm_config *boot = NULL;
	char pointer[CONFIG_POINTER_MAX];
	struct machine *vm = dev->vm;
	struct change *change = NULL;
	struct err cause = { 0 };
	int r;

	r = machine_check_replace_disk(dev, params, &boot, pointer, err);
	if (r == 0)
		r = begin(dev, owner, JOB_KIND_REPLACE_DISK, "replace the image of",
			  "opening the image", &change, err);
	if (r < 0)
		return r;
	*ret = vm->job;
	change->boot = TAKE_PTR(boot);
	change->keys = medium_keys(params);
	change->pointer = g_strdup(pointer);
	change->persist = params->persist;
	/* From here on the job tells what goes wrong. */
	if (start_opening(change, vm, params, &cause) < 0)
		fail(change, vm, &cause);
	return 0;
}
