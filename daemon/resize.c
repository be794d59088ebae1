/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/resize.h"

#include "daemon/link.h"
#include "daemon/machine.h"
#include "daemon/manager.h"
#include "daemon/request.h"
#include "daemon/resize-wish.h"
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

struct resize {
	struct machine *vm;
	enum resize_what what;
	uint64_t wanted; /* vCPUs, or bytes of all of the memory */
	char *zone;
	uint64_t in_zone;       /* bytes of them */
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
	[RESIZE_ZONE] = { "memory", JOB_KIND_RESIZE_MEMORY, "change the memory of",
			  "bytes of memory", "it does not take the rest" },
};

void resize_free(struct resize *resize)
{
	if (!resize)
		return;
	sd_event_source_disable_unref(resize->timeout);
	g_free(resize->zone);
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
	uint64_t memory;

	if (is_live(vm) && vm->sizes.vcpus > 0)
		return vm->sizes;
	memory = memory_config_size(&config->memory) +
		 memory_config_hotplugged_size(&config->memory);
	return (struct machine_sizes){
		.vcpus = config->cpus.boot_vcpus,
		.vcpus_target = config->cpus.boot_vcpus,
		.memory = memory,
		.memory_target = memory,
		.memory_max = memory_config_size(&config->memory) +
			      memory_config_hotplug_size(&config->memory),
	};
}

static uint64_t actual(const struct machine *vm, enum resize_what what)
{
	return what == RESIZE_VCPUS ? vm->sizes.vcpus : vm->sizes.memory;
}

static void on_set(void *data, sd_bus_message *reply, const struct err *err);

static int call_worker(struct machine *vm, struct err *err)
{
	const struct resize *resize = vm->resize;
	uint64_t usec = vm->manager->request_usec;
	int r = machine_check_connection(vm, err);

	if (r < 0)
		return r;
	if (resize->what == RESIZE_VCPUS)
		return worker_call(vm->worker, "SetVCPUs", usec, on_set, vm, err, "u",
				   (uint32_t)resize->wanted);
	if (resize->what == RESIZE_ZONE)
		return worker_call(vm->worker, "SetMemoryZone", usec, on_set, vm, err, "st",
				   resize->zone, resize->in_zone);
	return worker_call(vm->worker, "SetMemory", usec, on_set, vm, err, "t", resize->wanted);
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
	if (vm->worker && vm->resize->what == RESIZE_VCPUS)
		(void)worker_call(vm->worker, "SetVCPUs", BACK_USEC, ignore_answer, vm, NULL, "u",
				  vm->sizes.vcpus);
	else if (vm->worker) /* DIMMs that came are there, whoever waits for them */
		(void)worker_call(vm->worker, "KeepMemory", BACK_USEC, ignore_answer, vm, NULL,
				  NULL);
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

static int begin(struct machine *vm, uid_t owner, uint32_t job, const struct resize_wish *wish,
		 uint64_t deadline_usec, struct err *err)
{
	struct resize *resize = g_new0(struct resize, 1);
	uint64_t now = now_usec();
	int r = 0;

	resize->vm = vm;
	resize->what = wish->what;
	resize->wanted = resize_wish_total(vm, wish);
	resize->zone = g_strdup(wish->zone);
	resize->in_zone = wish->wanted;
	resize->deadline_usec = deadline_usec;
	if (deadline_usec)
		r = sd_event_add_time_relative(vm->manager->event, &resize->timeout,
					       CLOCK_MONOTONIC,
					       deadline_usec > now ? deadline_usec - now : 1, 0,
					       on_timeout, resize);
	if (r < 0)
		err_errno(err, -r, "cannot set a timer");
	else
		r = machine_begin_job(vm, whats[wish->what].job, owner, job, err);
	if (r < 0) {
		resize_free(resize);
		return r;
	}
	vm->resize = resize;
	job_allow_cancel(vm->job, on_cancel, vm);
	job_set_phase(vm->job, "waiting for the guest");
	machine_refresh_runtime(vm);
	return 0;
}

int machine_check_resize(const struct machine *vm, const struct resize_wish *wish, struct err *err)
{
	int r = machine_check_state(vm,
				    MACHINE_STATES(RUNNING) | MACHINE_STATES(PAUSED) |
					    MACHINE_STATES_ENDED,
				    whats[wish->what].verb, err);

	if (r == 0)
		r = machine_check_idle(vm, err);
	return r < 0 ? r : resize_wish_check(vm, wish, is_live(vm), err);
}

static int resize_cold(struct machine *vm, uid_t owner, const struct resize_wish *wish,
		       struct job **ret, struct err *err)
{
	int r = resize_wish_define(vm, wish, err);

	if (r == 0)
		r = machine_begin_job(vm, whats[wish->what].job, owner, 0, err);
	if (r < 0)
		return r;
	*ret = vm->job;
	machine_end_job(vm, NULL);
	return 0;
}

int machine_resize(struct machine *vm, uid_t owner, const struct resize_wish *wish,
		   const struct resize_options *options, struct job **ret, struct err *err)
{
	uint64_t deadline_usec = 0, now = now_usec();
	struct err cause = { 0 };
	int r;

	r = machine_check_resize(vm, wish, err);
	if (r < 0)
		return r;
	if (!is_live(vm))
		return resize_cold(vm, owner, wish, ret, err);
	r = machine_check_connection(vm, err);
	if (r == 0 && options->persist)
		r = resize_wish_define(vm, wish, err);
	if (r < 0)
		return r;
	if (options->timeout_usec && options->timeout_usec < UINT64_MAX - now)
		deadline_usec = now + options->timeout_usec;
	r = begin(vm, owner, 0, wish, deadline_usec, err);
	if (r < 0)
		return r;
	*ret = vm->job;
	/* From here on the job tells what goes wrong. */
	if (call_worker(vm, &cause) < 0)
		resize_end(vm, &cause);
	return 0;
}

/* --- what the worker says --------------------------------------------------------------- */

/* What each zone is to have, which a worker in hostile hands may say anything of. */
static bool take_zones(struct memory_config *memory, GVariant *answer)
{
	g_autoptr(GVariant) targets =
		g_variant_lookup_value(answer, "memory_zones", G_VARIANT_TYPE("at"));
	bool changed = false;
	const uint64_t *n;
	gsize len = 0;

	if (!targets)
		return false;
	n = g_variant_get_fixed_array(targets, &len, sizeof(*n));
	for (size_t i = 0; i < MIN(len, memory->n_zones); i++) {
		struct memory_zone_config *zone = &memory->zones[i];
		uint64_t size = CLAMP(n[i], zone->size, zone->size + zone->hotplug_size);

		changed |= zone->hotplugged_size != size - zone->size;
		zone->hotplugged_size = size - zone->size;
	}
	return changed;
}

/* True: it is not what it was. */
static bool take_memory(struct memory_config *memory, const struct machine_sizes *now,
			GVariant *answer)
{
	uint64_t was = memory_config_size(memory) + memory_config_hotplugged_size(memory);

	if (memory->n_zones)
		return take_zones(memory, answer);
	if (was == now->memory_target)
		return false;
	if (memory->hotplug_method == MEMORY_HOTPLUG_VIRTIO_MEM) {
		memory->hotplugged_size = now->memory_target - memory->size;
	} else {
		memory->size = now->memory_target;
		memory->hotplug_size = now->memory_max - now->memory_target;
	}
	return true;
}

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
	now.memory_max = memory_config_size(memory) + memory_config_hotplug_size(memory);
	now.memory_target = CLAMP(now.memory_target, memory_config_size(memory), now.memory_max);
	now.memory = MIN(now.memory, now.memory_max);
	if (memcmp(&vm->sizes, &now, sizeof(now)) == 0)
		return;
	vm->sizes = now;
	machine_changed(vm, MACHINE_PROPERTY_CONFIG);
	/* What a reboot finds. */
	if (vm->boot->cpus.boot_vcpus != now.vcpus_target) {
		vm->boot->cpus.boot_vcpus = now.vcpus_target;
		machine_boot_changed(vm, 0);
	}
	if (take_memory(memory, &now, answer))
		machine_boot_changed(vm, 0);
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
		.wanted = vm->resize->in_zone,
		.zone = vm->resize->zone,
		.deadline_usec = vm->resize->deadline_usec,
		.job = vm->job ? vm->job->id : 0,
		.owner = vm->job ? vm->job->owner : 0,
	};
}

void machine_resume_resize(struct machine *vm)
{
	struct runtime_resize was = vm->resize_to_resume;
	g_autofree char *zone = was.zone;
	const struct resize_wish wish = { (enum resize_what)was.what, was.wanted, zone };
	struct err err = { 0 };

	vm->resize_to_resume = (struct runtime_resize){ 0 };
	if (was.what < RESIZE_N_ && (was.what == RESIZE_ZONE) == (zone != NULL) &&
	    begin(vm, was.owner, was.job, &wish, was.deadline_usec, &err) == 0 &&
	    call_worker(vm, &err) < 0)
		resize_end(vm, &err);
	if (err.code)
		log_error("VM '%s': what was begun is not continued: %s", vm->def.name, err.msg);
}
