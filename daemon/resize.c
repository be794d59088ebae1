/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/resize.h"

#include "daemon/link.h"
#include "daemon/machine.h"
#include "daemon/manager.h"
#include "daemon/request.h"
#include "daemon/worker.h"
#include "vmm/base/err.h"
#include "vmm/base/log.h"
#include "vmm/config/json.h"
#include "vmm/config/vm-config.h"
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define BACK_USEC (10 * 1000000ULL)
/* What memory grows by (vmm/acpi/memory-hotplug.h). */
#define HOTPLUG_UNIT (128ULL << 20)

struct resize {
	struct machine *vm;
	enum resize_what what;
	uint64_t wanted;
	uint64_t deadline_usec; /* CLOCK_REALTIME: survives the daemon; 0 = never */
	sd_event_source *timeout;
};

static const struct {
	const char *word; /* of the worker's ResizeRefused */
	enum job_kind job;
	const char *verb, *unit, *refusal;
} whats[RESIZE_N_] = {
	[RESIZE_VCPUS] = { "vcpus", JOB_KIND_RESIZE_VCPUS, "change the vCPUs of", "vCPUs",
			   "it does not let go of the rest" },
	[RESIZE_MEMORY] = { "memory", JOB_KIND_RESIZE_MEMORY, "change the memory of",
			    "bytes of memory", "it does not take the rest" },
};

void resize_free(struct resize *resize)
{
	if (!resize)
		return;
	sd_event_source_disable_unref(resize->timeout);
	g_free(resize);
}

static uint64_t now_usec(void)
{
	return (uint64_t)g_get_real_time();
}

static bool is_live(const struct machine *vm)
{
	return vm->boot && (MACHINE_STATES_GUEST & (1U << vm->state));
}

/* --- what there is ---------------------------------------------------------------- */

struct machine_sizes machine_get_sizes(const struct machine *vm)
{
	const struct vm_config *config = machine_config(vm);

	if (is_live(vm) && vm->sizes.vcpus > 0)
		return vm->sizes;
	return (struct machine_sizes){
		.vcpus = config->cpus.boot_vcpus,
		.vcpus_target = config->cpus.boot_vcpus,
		.memory = memory_config_size(&config->memory),
		.memory_target = memory_config_size(&config->memory),
		.memory_max = memory_config_size(&config->memory) + config->memory.hotplug_size,
	};
}

static uint64_t actual(const struct machine *vm, enum resize_what what)
{
	return what == RESIZE_VCPUS ? vm->sizes.vcpus : vm->sizes.memory;
}

static int call_worker(struct machine *vm, enum resize_what what, uint64_t n, uint64_t usec,
		       worker_reply_fn fn, struct err *err)
{
	int r = machine_check_connection(vm, err);

	if (r < 0)
		return r;
	if (what == RESIZE_VCPUS)
		return worker_call(vm->worker, "SetVCPUs", usec, fn, vm, err, "u", (uint32_t)n);
	return worker_call(vm->worker, "SetMemory", usec, fn, vm, err, "t", n);
}

/* --- the job ------------------------------------------------------------------------ */

static void resize_end(struct machine *vm, const struct err *err)
{
	resize_free(TAKE_PTR(vm->resize));
	machine_refresh_runtime(vm);
	machine_end_job(vm, err);
}

static void ignore_answer(void *data, sd_bus_message *reply, const struct err *err)
{
	struct machine *vm = data;

	(void)reply;
	if (err)
		log_debug("VM '%s': %s", vm->def.name, err->msg);
}

/* The guest keeps what it has. */
static void give_up(struct machine *vm, const struct err *err)
{
	enum resize_what what = vm->resize->what;

	if (vm->worker)
		(void)call_worker(vm, what, actual(vm, what), BACK_USEC, ignore_answer, NULL);
	resize_end(vm, err);
}

static void reached(const struct resize *resize, struct err *err, enum fault fault, int code,
		    const char *why)
{
	const struct machine *vm = resize->vm;

	err_fault(err, fault, code,
		  "the guest of VM '%s' has %" PRIu64 " %s, not the %" PRIu64
		  " that were asked for: %s",
		  vm->def.name, actual(vm, resize->what), whats[resize->what].unit, resize->wanted,
		  why);
}

static int on_timeout(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct resize *resize = userdata;
	struct err err = { 0 };

	(void)source;
	(void)usec;
	reached(resize, &err, FAULT_GUEST_TIMEOUT, ETIMEDOUT, "it did not get there in time");
	give_up(resize->vm, &err);
	return 0;
}

static void on_cancel(struct job *job, void *data)
{
	struct machine *vm = data;
	struct err err = { 0 };

	(void)job;
	reached(vm->resize, &err, FAULT_CANCELLED, ECANCELED, "the job was canceled");
	give_up(vm, &err);
}

static void check_reached(struct machine *vm)
{
	if (vm->resize && actual(vm, vm->resize->what) == vm->resize->wanted)
		resize_end(vm, NULL);
}

static void on_set(void *data, sd_bus_message *reply, const struct err *err)
{
	struct machine *vm = data;
	struct err cause = { 0 };

	(void)reply;
	if (!vm->resize)
		return;
	if (!err) {
		check_reached(vm); /* the guest had it, or was quicker than the answer */
		return;
	}
	cause = *err;
	err_prefix(&cause, -1, "cannot %s VM '%s'", whats[vm->resize->what].verb, vm->def.name);
	resize_end(vm, &cause);
}

static int begin(struct machine *vm, uid_t owner, uint32_t job, enum resize_what what,
		 uint64_t wanted, uint64_t deadline_usec, struct err *err)
{
	struct resize *resize = g_new0(struct resize, 1);
	uint64_t now = now_usec();
	int r = 0;

	resize->vm = vm;
	resize->what = what;
	resize->wanted = wanted;
	resize->deadline_usec = deadline_usec;
	if (deadline_usec)
		r = sd_event_add_time_relative(vm->manager->event, &resize->timeout,
					       CLOCK_MONOTONIC,
					       deadline_usec > now ? deadline_usec - now : 1, 0,
					       on_timeout, resize);
	if (r < 0)
		err_errno(err, -r, "cannot set a timer");
	else
		r = machine_begin_job(vm, whats[what].job, owner, job, err);
	if (r < 0) {
		resize_free(resize);
		return r;
	}
	vm->resize = resize;
	vm->job->cancel = on_cancel;
	vm->job->cancel_data = vm;
	vm->job->cancelable = true;
	job_set_phase(vm->job, "waiting for the guest");
	machine_refresh_runtime(vm);
	return 0;
}

/* Bytes; what the definition is to have of it, and, of a running machine, what can be plugged in.
 */
static int check_memory(const struct machine *vm, uint64_t wanted, struct err *err)
{
	const struct memory_config *memory = &machine_config(vm)->memory;
	const struct machine_sizes sizes = machine_get_sizes(vm);
	uint64_t step = wanted > sizes.memory_target ? wanted - sizes.memory_target
						     : sizes.memory_target - wanted;

	if (memory->n_zones)
		return err_fault(err, FAULT_UNSUPPORTED, EOPNOTSUPP,
				 "the memory of VM '%s' is in zones (/memory/zones), which have "
				 "sizes of their own",
				 vm->def.name);
	if (is_live(vm) && wanted < sizes.memory_target)
		return err_fault(err, FAULT_BAD_ARGUMENT, EINVAL,
				 "VM '%s' has %" PRIu64 " bytes of memory and cannot have %" PRIu64
				 " while it runs, must be at least what it has; SetConfig changes "
				 "what its next start has",
				 vm->def.name, sizes.memory_target, wanted);
	if (is_live(vm) && wanted > sizes.memory_target && !memory->hotplug_size)
		return err_fault(err, FAULT_UNSUPPORTED, EOPNOTSUPP,
				 "VM '%s' cannot have more than its %" PRIu64
				 " bytes of memory while it runs: for more, /memory/hotplug_size "
				 "must have been set as it was started",
				 vm->def.name, sizes.memory_target);
	if (wanted > sizes.memory_max && (is_live(vm) || memory->hotplug_size))
		return err_fault(err, FAULT_BAD_ARGUMENT, EINVAL,
				 "VM '%s' cannot have %" PRIu64
				 " bytes of memory, must be at most %" PRIu64
				 " (/memory/hotplug_size)",
				 vm->def.name, wanted, sizes.memory_max);
	if (memory->hotplug_size && step % HOTPLUG_UNIT)
		return err_fault(err, FAULT_BAD_ARGUMENT, EINVAL,
				 "VM '%s' has %" PRIu64 " bytes of memory; %" PRIu64
				 " differ from it by %" PRIu64
				 ", which must be a multiple of 134217728 (128 MiB)",
				 vm->def.name, sizes.memory_target, wanted, step);
	return 0;
}

static int check_range(const struct machine *vm, enum resize_what what, uint64_t wanted,
		       struct err *err)
{
	const struct vm_config *config = machine_config(vm);

	if (what == RESIZE_VCPUS && (wanted < 1 || wanted > config->cpus.max_vcpus))
		return err_fault(err, FAULT_BAD_ARGUMENT, EINVAL,
				 "VM '%s' cannot have %" PRIu64
				 " vCPUs, must be 1 to %u (/cpus/max_vcpus)",
				 vm->def.name, wanted, config->cpus.max_vcpus);
	return what == RESIZE_MEMORY ? check_memory(vm, wanted, err) : 0;
}

int machine_check_resize(const struct machine *vm, enum resize_what what, uint64_t wanted,
			 struct err *err)
{
	int r = machine_check_state(vm,
				    MACHINE_STATES(RUNNING) | MACHINE_STATES(PAUSED) |
					    MACHINE_STATES_ENDED,
				    whats[what].verb, err);

	if (r == 0)
		r = machine_check_idle(vm, err);
	return r < 0 ? r : check_range(vm, what, wanted, err);
}

/* The most that there may be stays the same. */
static void define_memory(const struct memory_config *memory, GVariantDict *dict, uint64_t wanted)
{
	uint64_t max = memory->size + memory->hotplug_size;

	g_variant_dict_insert(dict, "size", "t", (guint64)wanted);
	if (memory->hotplug_size)
		g_variant_dict_insert(dict, "hotplug_size", "t",
				      (guint64)(max > wanted ? max - wanted : 0));
}

/* The definition with another number; checked as a whole. */
static int define(struct machine *vm, enum resize_what what, uint64_t wanted, struct err *err)
{
	g_autoptr(GVariant) all = g_variant_ref_sink(vm_config_serialise(vm->next));
	const char *section = what == RESIZE_VCPUS ? "cpus" : "memory";
	g_autoptr(GVariant) old = g_variant_lookup_value(all, section, G_VARIANT_TYPE_VARDICT);
	g_autoptr(GVariant) edited = NULL, dict = NULL;
	struct vm_config *next = NULL;
	GVariantDict inner, outer;
	char *text;
	int r;

	g_variant_dict_init(&inner, old);
	if (what == RESIZE_VCPUS)
		g_variant_dict_insert(&inner, "boot_vcpus", "u", (guint32)wanted);
	else
		define_memory(&vm->next->memory, &inner, wanted);
	g_variant_dict_init(&outer, all);
	g_variant_dict_insert_value(&outer, section, g_variant_dict_end(&inner));
	edited = g_variant_ref_sink(g_variant_dict_end(&outer));
	r = vm_config_parse(edited, &next, err);
	if (r < 0)
		return r;
	dict = g_variant_ref_sink(vm_config_serialise(next));
	text = config_json_print(dict, CONFIG_JSON_COMPACT);
	r = machine_set_config(vm, next, text, err);
	if (r < 0) {
		vm_config_free(next);
		g_free(text);
	}
	return r;
}

static int resize_cold(struct machine *vm, uid_t owner, enum resize_what what, uint64_t wanted,
		       struct job **ret, struct err *err)
{
	int r = define(vm, what, wanted, err);

	if (r == 0)
		r = machine_begin_job(vm, whats[what].job, owner, 0, err);
	if (r < 0)
		return r;
	*ret = vm->job;
	machine_end_job(vm, NULL);
	return 0;
}

int machine_resize(struct machine *vm, uid_t owner, enum resize_what what, uint64_t wanted,
		   const struct resize_options *options, struct job **ret, struct err *err)
{
	uint64_t deadline_usec = 0, now = now_usec();
	struct err cause = { 0 };
	int r;

	r = machine_check_resize(vm, what, wanted, err);
	if (r < 0)
		return r;
	if (!is_live(vm))
		return resize_cold(vm, owner, what, wanted, ret, err);
	r = machine_check_connection(vm, err);
	if (r == 0 && options->persist)
		r = define(vm, what, wanted, err);
	if (r < 0)
		return r;
	if (options->timeout_usec && options->timeout_usec < UINT64_MAX - now)
		deadline_usec = now + options->timeout_usec;
	r = begin(vm, owner, 0, what, wanted, deadline_usec, err);
	if (r < 0)
		return r;
	*ret = vm->job;
	/* From here on the job tells what goes wrong. */
	if (call_worker(vm, what, wanted, vm->manager->request_usec, on_set, &cause) < 0)
		resize_end(vm, &cause);
	return 0;
}

/* --- what the worker says --------------------------------------------------------------- */

void machine_take_sizes(struct machine *vm, GVariant *answer)
{
	struct memory_config *memory = vm->boot ? &vm->boot->memory : NULL;
	struct machine_sizes now = { 0 };

	if (!memory || !g_variant_lookup(answer, "vcpus", "u", &now.vcpus) ||
	    !g_variant_lookup(answer, "vcpus_target", "u", &now.vcpus_target) ||
	    !g_variant_lookup(answer, "memory", "t", &now.memory) ||
	    !g_variant_lookup(answer, "memory_target", "t", &now.memory_target))
		return;
	/* A worker may be in hostile hands: no more than the configuration has room for. */
	now.vcpus = MIN(now.vcpus, vm->boot->cpus.max_vcpus);
	now.vcpus_target = CLAMP(now.vcpus_target, 1, vm->boot->cpus.max_vcpus);
	now.memory_max = memory_config_size(memory) + memory->hotplug_size;
	now.memory_target = CLAMP(now.memory_target, memory_config_size(memory), now.memory_max);
	now.memory = MIN(now.memory, now.memory_target);
	if (memcmp(&vm->sizes, &now, sizeof(now)) == 0)
		return;
	vm->sizes = now;
	machine_changed(vm, MACHINE_PROPERTY_CONFIG);
	/* What a reboot finds. */
	if (vm->boot->cpus.boot_vcpus != now.vcpus_target) {
		vm->boot->cpus.boot_vcpus = now.vcpus_target;
		machine_boot_changed(vm, 0);
	}
	if (memory_config_size(memory) != now.memory_target) {
		memory->size = now.memory_target;
		memory->hotplug_size = now.memory_max - now.memory_target;
		machine_boot_changed(vm, 0);
	}
	check_reached(vm);
}

void machine_on_resize_refused(struct machine *vm, const char *what)
{
	struct err err = { 0 };

	if (!vm->resize || strcmp(whats[vm->resize->what].word, what) != 0)
		return;
	reached(vm->resize, &err, FAULT_BUSY, EBUSY, whats[vm->resize->what].refusal);
	give_up(vm, &err);
}

void machine_describe_resize(const struct machine *vm, struct runtime_resize *ret)
{
	*ret = (struct runtime_resize){
		.present = true,
		.what = vm->resize->what,
		.wanted = vm->resize->wanted,
		.deadline_usec = vm->resize->deadline_usec,
		.job = vm->job ? vm->job->id : 0,
		.owner = vm->job ? vm->job->owner : 0,
	};
}

void machine_resume_resize(struct machine *vm)
{
	struct runtime_resize was = vm->resize_to_resume;
	struct err err = { 0 };

	vm->resize_to_resume = (struct runtime_resize){ 0 };
	if (was.what >= RESIZE_N_)
		return;
	if (begin(vm, was.owner, was.job, was.what, was.wanted, was.deadline_usec, &err) == 0 &&
	    call_worker(vm, was.what, was.wanted, vm->manager->request_usec, on_set, &err) < 0)
		resize_end(vm, &err);
	if (err.code)
		log_error("VM '%s': what was begun is not continued: %s", vm->def.name, err.msg);
}
