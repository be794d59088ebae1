/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/fake-hypervisor.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/err.h"
#include "vmm/base/fd.h"
#include "vmm/hypervisor/x86-state.h"

#define ROUTES_MAX   256
#define FAILURES_MAX 16
#define EXITS_MAX    32

struct attached {
	int fd;
	uint32_t gsi;
};

struct failure {
	const char *op;
	unsigned int left; /* calls until it strikes */
	int code;
};

struct fake_hv {
	struct hv_vm vm;
	pthread_mutex_t lock;
	char *log;
	size_t log_len, log_room;
	char violation[160];
	struct failure failures[FAILURES_MAX];
	size_t n_failures;
	struct hv_route routes[ROUTES_MAX];
	size_t n_routes;
	struct attached attached[ROUTES_MAX];
	size_t n_attached;
	unsigned int delivered;
	uint64_t clock;
};

struct fake_vcpu {
	struct hv_vcpu vcpu;
	struct fake_hv *fake;
	pthread_cond_t kicked_cond;
	bool kicked;
	struct hv_exit exits[EXITS_MAX];
	unsigned int first_exit, n_exits;
	struct x86_vcpu_state state;
};

static struct fake_hv *to_fake(struct hv_vm *vm)
{
	return container_of(vm, struct fake_hv, vm);
}

static struct fake_vcpu *to_fake_vcpu(struct hv_vcpu *vcpu)
{
	return container_of(vcpu, struct fake_vcpu, vcpu);
}

/* ---- under the lock -------------------------------------------------------- */

static void record(struct fake_hv *fake, const char *fmt, ...) _printf_(2, 3);

static void record(struct fake_hv *fake, const char *fmt, ...)
{
	char line[4096];
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	assert(n >= 0 && (size_t)n < sizeof(line));
	if (fake->log_len + (size_t)n + 2 > fake->log_room) {
		fake->log_room = 2 * fake->log_room + (size_t)n + 2;
		fake->log = realloc(fake->log, fake->log_room);
		assert(fake->log);
	}
	memcpy(fake->log + fake->log_len, line, (size_t)n);
	fake->log_len += (size_t)n;
	memcpy(fake->log + fake->log_len++, "\n", 2);
}

/* 0, or the -errno a test has ordered for this call. */
static int ordered_failure(struct fake_hv *fake, const char *op)
{
	for (size_t i = 0; i < fake->n_failures; i++) {
		struct failure *f = &fake->failures[i];
		int code = f->code;

		if (strcmp(f->op, op) != 0 || --f->left > 0)
			continue;
		*f = fake->failures[--fake->n_failures];
		record(fake, "%s fails", op);
		return -code;
	}
	return 0;
}

static const struct hv_route *route_of(const struct fake_hv *fake, uint32_t gsi)
{
	for (size_t i = 0; i < fake->n_routes; i++)
		if (fake->routes[i].gsi == gsi)
			return &fake->routes[i];
	return NULL;
}

static void check_rule(struct fake_hv *fake, const char *during)
{
	for (size_t i = 0; i < fake->n_attached && !fake->violation[0]; i++)
		if (!route_of(fake, fake->attached[i].gsi))
			snprintf(fake->violation, sizeof(fake->violation),
				 "%s: the irqfd of GSI %u is attached and has no route", during,
				 fake->attached[i].gsi);
}

static void deliver_pending(struct fake_hv *fake)
{
	for (size_t i = 0; i < fake->n_attached; i++) {
		const struct hv_route *route = route_of(fake, fake->attached[i].gsi);

		if (!eventfd_take(fake->attached[i].fd) || !route)
			continue;
		fake->delivered++;
		record(fake, "deliver gsi=%u 0x%llx:0x%x", route->gsi,
		       (unsigned long long)route->msi.addr, route->msi.data);
	}
}

/* ---- VM -------------------------------------------------------------------- */

static int fake_memory_set(struct hv_vm *vm, const struct hv_memory_slot *slot, struct err *err)
{
	struct fake_hv *fake = to_fake(vm);
	int r;

	pthread_mutex_lock(&fake->lock);
	r = ordered_failure(fake, "memory");
	if (r < 0)
		err_errno(err, -r, "the fake refused memory slot %u", slot->slot);
	else
		record(fake, "memory slot=%u gpa=0x%llx size=0x%llx%s%s", slot->slot,
		       (unsigned long long)slot->gpa, (unsigned long long)slot->size,
		       slot->readonly ? " readonly" : "", slot->log_dirty ? " log" : "");
	pthread_mutex_unlock(&fake->lock);
	return r;
}

static int fake_irqfd_set(struct hv_vm *vm, int fd, uint32_t gsi, bool attach)
{
	struct fake_hv *fake = to_fake(vm);
	size_t i;
	int r;

	pthread_mutex_lock(&fake->lock);
	r = ordered_failure(fake, attach ? "irqfd-attach" : "irqfd-detach");
	if (r < 0)
		goto out;
	record(fake, "irqfd %s gsi=%u", attach ? "attach" : "detach", gsi);
	for (i = 0; i < fake->n_attached; i++)
		if (fake->attached[i].fd == fd && fake->attached[i].gsi == gsi)
			break;
	if (attach) {
		if (i < fake->n_attached) {
			r = -EBUSY;
			goto out;
		}
		assert(fake->n_attached < ROUTES_MAX);
		fake->attached[fake->n_attached++] = (struct attached){ .fd = fd, .gsi = gsi };
		check_rule(fake, "attach");
		deliver_pending(fake);
	} else if (i < fake->n_attached) {
		fake->attached[i] = fake->attached[--fake->n_attached];
	}
out:
	pthread_mutex_unlock(&fake->lock);
	return r;
}

static int fake_routes_set(struct hv_vm *vm, const struct hv_route *routes, size_t n)
{
	struct fake_hv *fake = to_fake(vm);
	char text[4000] = "";
	size_t len = 0;
	int r;

	assert(n <= ROUTES_MAX);
	pthread_mutex_lock(&fake->lock);
	r = ordered_failure(fake, "routes");
	if (r == 0) {
		for (size_t i = 0; i < n && len < sizeof(text) - 64; i++)
			len += (size_t)snprintf(text + len, sizeof(text) - len, " %u=0x%llx:0x%x",
						routes[i].gsi,
						(unsigned long long)routes[i].msi.addr,
						routes[i].msi.data);
		record(fake, "routes%s", text);
		if (n)
			memcpy(fake->routes, routes, n * sizeof(*routes));
		fake->n_routes = n;
		check_rule(fake, "routes");
	}
	pthread_mutex_unlock(&fake->lock);
	return r;
}

static int fake_msi_send(struct hv_vm *vm, const struct hv_msi *msi)
{
	struct fake_hv *fake = to_fake(vm);
	int r;

	pthread_mutex_lock(&fake->lock);
	r = ordered_failure(fake, "msi");
	if (r == 0) {
		fake->delivered++;
		record(fake, "msi 0x%llx:0x%x", (unsigned long long)msi->addr, msi->data);
	}
	pthread_mutex_unlock(&fake->lock);
	return r;
}

static int fake_ioeventfd_set(struct hv_vm *vm, const struct hv_ioeventfd *io, int fd _unused_,
			      bool attach)
{
	struct fake_hv *fake = to_fake(vm);
	char match[40] = "";
	int r;

	pthread_mutex_lock(&fake->lock);
	r = ordered_failure(fake, attach ? "ioeventfd-attach" : "ioeventfd-detach");
	if (r == 0) {
		if (io->match)
			snprintf(match, sizeof(match), " match=%llu",
				 (unsigned long long)io->value);
		record(fake, "ioeventfd %s %s 0x%llx len=%u%s", attach ? "attach" : "detach",
		       io->pio ? "pio" : "mmio", (unsigned long long)io->addr, io->len, match);
	}
	pthread_mutex_unlock(&fake->lock);
	return r;
}

static int fake_clock_get(struct hv_vm *vm, uint64_t *ret_ns)
{
	struct fake_hv *fake = to_fake(vm);
	int r;

	pthread_mutex_lock(&fake->lock);
	r = ordered_failure(fake, "clock-get");
	if (r == 0)
		*ret_ns = fake->clock;
	pthread_mutex_unlock(&fake->lock);
	return r;
}

static int fake_clock_set(struct hv_vm *vm, uint64_t ns)
{
	struct fake_hv *fake = to_fake(vm);
	int r;

	pthread_mutex_lock(&fake->lock);
	r = ordered_failure(fake, "clock-set");
	if (r == 0) {
		fake->clock = ns;
		record(fake, "clock %llu", (unsigned long long)ns);
	}
	pthread_mutex_unlock(&fake->lock);
	return r;
}

static void fake_vm_free(struct hv_vm *vm)
{
	struct fake_hv *fake = to_fake(vm);

	pthread_mutex_destroy(&fake->lock);
	free(vm->cpuid);
	free(fake->log);
	free(fake);
}

/* ---- vCPU ------------------------------------------------------------------ */

static int fake_run(struct hv_vcpu *hv, struct hv_exit *ret_exit)
{
	struct fake_vcpu *vcpu = to_fake_vcpu(hv);

	pthread_mutex_lock(&vcpu->fake->lock);
	while (!vcpu->kicked && !vcpu->n_exits)
		pthread_cond_wait(&vcpu->kicked_cond, &vcpu->fake->lock);
	if (vcpu->kicked) {
		vcpu->kicked = false;
		ret_exit->kind = HV_EXIT_INTERRUPTED;
	} else {
		*ret_exit = vcpu->exits[vcpu->first_exit];
		vcpu->first_exit = (vcpu->first_exit + 1) % EXITS_MAX;
		vcpu->n_exits--;
	}
	pthread_mutex_unlock(&vcpu->fake->lock);
	return 0;
}

static void fake_kick(struct hv_vcpu *hv)
{
	struct fake_vcpu *vcpu = to_fake_vcpu(hv);

	pthread_mutex_lock(&vcpu->fake->lock);
	record(vcpu->fake, "vcpu %u kick", hv->index);
	vcpu->kicked = true;
	pthread_cond_broadcast(&vcpu->kicked_cond);
	pthread_mutex_unlock(&vcpu->fake->lock);
}

static int fake_nmi(struct hv_vcpu *hv)
{
	struct fake_hv *fake = to_fake_vcpu(hv)->fake;
	int r;

	pthread_mutex_lock(&fake->lock);
	r = ordered_failure(fake, "nmi");
	if (r == 0)
		record(fake, "vcpu %u nmi", hv->index);
	pthread_mutex_unlock(&fake->lock);
	return r;
}

static int fake_cpuid_set(struct hv_vcpu *hv, const struct x86_cpuid_entry *entries _unused_,
			  size_t n, struct err *err)
{
	struct fake_hv *fake = to_fake_vcpu(hv)->fake;
	int r;

	pthread_mutex_lock(&fake->lock);
	r = ordered_failure(fake, "cpuid");
	if (r < 0)
		err_errno(err, -r, "vCPU %u: the fake refused its CPUID", hv->index);
	else
		record(fake, "vcpu %u cpuid n=%zu", hv->index, n);
	pthread_mutex_unlock(&fake->lock);
	return r;
}

static int fake_state_get(struct hv_vcpu *hv, struct x86_vcpu_state *ret, struct err *err)
{
	struct fake_vcpu *vcpu = to_fake_vcpu(hv);
	int r;

	pthread_mutex_lock(&vcpu->fake->lock);
	r = ordered_failure(vcpu->fake, "state-get");
	if (r < 0) {
		err_errno(err, -r, "vCPU %u: the fake cannot read its state", hv->index);
	} else {
		*ret = vcpu->state;
		ret->parts = X86_STATE_ALL;
	}
	pthread_mutex_unlock(&vcpu->fake->lock);
	return r;
}

static int fake_state_set(struct hv_vcpu *hv, const struct x86_vcpu_state *state, struct err *err)
{
	struct fake_vcpu *vcpu = to_fake_vcpu(hv);
	int r;

	pthread_mutex_lock(&vcpu->fake->lock);
	r = ordered_failure(vcpu->fake, "state-set");
	if (r < 0) {
		err_errno(err, -r, "vCPU %u: the fake refused its state", hv->index);
	} else {
		record(vcpu->fake, "vcpu %u state parts=0x%x", hv->index, state->parts);
		vcpu->state = *state;
	}
	pthread_mutex_unlock(&vcpu->fake->lock);
	return r;
}

static void fake_forget(struct hv_vcpu *hv)
{
	struct fake_hv *fake = to_fake_vcpu(hv)->fake;

	pthread_mutex_lock(&fake->lock);
	record(fake, "vcpu %u forget", hv->index);
	pthread_mutex_unlock(&fake->lock);
}

/* They run as soon as they may. */
static enum hv_start fake_start_state(struct hv_vcpu *hv)
{
	(void)hv;
	return HV_START_DONE;
}

static void fake_was_paused(struct hv_vcpu *hv)
{
	struct fake_hv *fake = to_fake_vcpu(hv)->fake;

	pthread_mutex_lock(&fake->lock);
	record(fake, "vcpu %u was-paused", hv->index);
	pthread_mutex_unlock(&fake->lock);
}

static void fake_vcpu_free(struct hv_vcpu *hv)
{
	struct fake_vcpu *vcpu = to_fake_vcpu(hv);

	pthread_mutex_lock(&vcpu->fake->lock);
	record(vcpu->fake, "vcpu %u free", hv->index);
	pthread_mutex_unlock(&vcpu->fake->lock);
	pthread_cond_destroy(&vcpu->kicked_cond);
	free(vcpu);
}

static const struct hv_vcpu_ops fake_vcpu_ops = {
	.run = fake_run,
	.kick = fake_kick,
	.nmi = fake_nmi,
	.cpuid_set = fake_cpuid_set,
	.state_get = fake_state_get,
	.state_set = fake_state_set,
	.was_paused = fake_was_paused,
	.start_state = fake_start_state,
	.forget = fake_forget,
	.free = fake_vcpu_free,
};

static int fake_vcpu_create(struct hv_vm *vm, uint32_t index, uint32_t apic_id,
			    struct hv_vcpu **ret, struct err *err)
{
	struct fake_hv *fake = to_fake(vm);
	struct fake_vcpu *vcpu;
	int r;

	pthread_mutex_lock(&fake->lock);
	r = ordered_failure(fake, "vcpu");
	if (r < 0)
		err_errno(err, -r, "the fake cannot create vCPU %u", index);
	else
		record(fake, "vcpu %u apic=%u", index, apic_id);
	pthread_mutex_unlock(&fake->lock);
	if (r < 0)
		return r;
	vcpu = calloc(1, sizeof(*vcpu));
	assert(vcpu);
	vcpu->vcpu = (struct hv_vcpu){ .ops = &fake_vcpu_ops, .index = index };
	vcpu->fake = fake;
	pthread_cond_init(&vcpu->kicked_cond, NULL);
	*ret = &vcpu->vcpu;
	return 0;
}

static const struct hv_vm_ops fake_vm_ops = {
	.memory_set = fake_memory_set,
	.vcpu_create = fake_vcpu_create,
	.irqfd_set = fake_irqfd_set,
	.routes_set = fake_routes_set,
	.msi_send = fake_msi_send,
	.ioeventfd_set = fake_ioeventfd_set,
	.clock_get = fake_clock_get,
	.clock_set = fake_clock_set,
	.free = fake_vm_free,
};

/* ---- for tests --------------------------------------------------------------- */

struct fake_hv *fake_hv_new(void)
{
	struct fake_hv *fake = calloc(1, sizeof(*fake));

	assert(fake);
	fake->vm.ops = &fake_vm_ops;
	fake->vm.caps = (struct hv_caps){
		.max_vcpus = 1024,
		.max_vcpu_id = 4096,
		.memory_slots = 509,
		.gsi_routes = ROUTES_MAX,
		.xsave_size = 4096,
		.phys_bits = 46,
		.x2apic_32bit_ids = true,
		.tsc_deadline = true,
		.user_nmi = true,
		.adjust_clock = true,
		.tsc_khz = 2000000,
	};
	pthread_mutex_init(&fake->lock, NULL);
	return fake;
}

void fake_hv_free(struct fake_hv *fake)
{
	if (fake)
		fake_vm_free(&fake->vm);
}

struct hv_vm *fake_hv_vm(struct fake_hv *fake)
{
	return &fake->vm;
}

const char *fake_hv_log(struct fake_hv *fake)
{
	return fake->log ? fake->log : "";
}

void fake_hv_log_clear(struct fake_hv *fake)
{
	pthread_mutex_lock(&fake->lock);
	fake->log_len = 0;
	if (fake->log)
		fake->log[0] = '\0';
	pthread_mutex_unlock(&fake->lock);
}

void fake_hv_fail(struct fake_hv *fake, const char *op, unsigned int nth, int code)
{
	assert(nth > 0 && code > 0 && fake->n_failures < FAILURES_MAX);
	pthread_mutex_lock(&fake->lock);
	fake->failures[fake->n_failures++] =
		(struct failure){ .op = op, .left = nth, .code = code };
	pthread_mutex_unlock(&fake->lock);
}

const char *fake_hv_violation(struct fake_hv *fake)
{
	return fake->violation[0] ? fake->violation : NULL;
}

void fake_hv_poll(struct fake_hv *fake)
{
	pthread_mutex_lock(&fake->lock);
	deliver_pending(fake);
	pthread_mutex_unlock(&fake->lock);
}

unsigned int fake_hv_delivered(struct fake_hv *fake)
{
	unsigned int n;

	pthread_mutex_lock(&fake->lock);
	n = fake->delivered;
	pthread_mutex_unlock(&fake->lock);
	return n;
}

unsigned int fake_hv_n_routes(struct fake_hv *fake)
{
	return (unsigned int)fake->n_routes;
}

unsigned int fake_hv_n_attached(struct fake_hv *fake)
{
	return (unsigned int)fake->n_attached;
}

void fake_hv_forget_gsi(struct fake_hv *fake, uint32_t gsi)
{
	pthread_mutex_lock(&fake->lock);
	for (size_t i = 0; i < fake->n_attached; i++)
		if (fake->attached[i].gsi == gsi)
			fake->attached[i] = fake->attached[--fake->n_attached];
	pthread_mutex_unlock(&fake->lock);
}

void fake_vcpu_push_exit(struct hv_vcpu *hv, const struct hv_exit *exit)
{
	struct fake_vcpu *vcpu = to_fake_vcpu(hv);

	pthread_mutex_lock(&vcpu->fake->lock);
	assert(vcpu->n_exits < EXITS_MAX);
	vcpu->exits[(vcpu->first_exit + vcpu->n_exits++) % EXITS_MAX] = *exit;
	pthread_cond_broadcast(&vcpu->kicked_cond);
	pthread_mutex_unlock(&vcpu->fake->lock);
}
