/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A hypervisor that records what it is asked
 *
 * Implements the ops of vmm/hypervisor/hypervisor.h without KVM.  Each call
 * becomes one line of fake_hv_log(), so that a test can assert what was done
 * and in which order:
 *
 *   memory slot=0 gpa=0x0 size=0x100000
 *   routes 24=0xfee00000:0x4041 25=...
 *   irqfd attach gsi=24
 *   irqfd detach gsi=24
 *   deliver gsi=24 0xfee00000:0x4041     (an attached eventfd had a count)
 *   msi 0xfee00000:0x4041
 *   ioeventfd attach mmio 0xd0006000 len=4 match=1
 *   vcpu 1 apic=1 | vcpu 1 kick | vcpu 1 nmi | vcpu 1 cpuid n=5
 *   vcpu 1 state parts=0x3f | vcpu 1 free
 *   clock 123
 *
 * It also watches the one rule that crashes real hosts: an attached irqfd whose
 * GSI has no route makes fake_hv_violation() say so.
 *
 * Any thread; its lock is a leaf.
 */
#pragma once

#include <stdbool.h>

#include "vmm/hypervisor/hypervisor.h"

struct fake_hv;

/* Freed by hv_vm_free() of its VM or, the same, by fake_hv_free(). */
struct fake_hv *fake_hv_new(void);
void fake_hv_free(struct fake_hv *fake);
DEFINE_CLEANUP(struct fake_hv, fake_hv_free);
struct hv_vm *fake_hv_vm(struct fake_hv *fake);

/* Every line since the last clear; "" when nothing was called. Valid until the next call. */
const char *fake_hv_log(struct fake_hv *fake);
void fake_hv_log_clear(struct fake_hv *fake);

/*
 * The nth call (1 = the next one) of op from now returns -code and does nothing.
 * op: "memory", "vcpu", "irqfd-attach", "irqfd-detach", "routes", "msi", "ioeventfd-attach",
 * "ioeventfd-detach", "clock-get", "clock-set", "nmi", "cpuid", "state-get", "state-set".
 */
void fake_hv_fail(struct fake_hv *fake, const char *op, unsigned int nth, int code);

/* NULL, or the first thing that would have crashed a host. */
const char *fake_hv_violation(struct fake_hv *fake);
/* Reads the attached eventfds and delivers what was raised. */
void fake_hv_poll(struct fake_hv *fake);
/* How many interrupts were delivered (irqfd and msi) since the start. */
unsigned int fake_hv_delivered(struct fake_hv *fake);
unsigned int fake_hv_n_routes(struct fake_hv *fake);
unsigned int fake_hv_n_attached(struct fake_hv *fake);
/* The eventfd attached to gsi was closed, upon which a kernel detaches it by itself. */
void fake_hv_forget_gsi(struct fake_hv *fake, uint32_t gsi);

/*
 * What the vCPU's next run() reports, in order; none left: run() waits for a
 * kick, then reports HV_EXIT_INTERRUPTED.  exit->data must outlive it.
 */
void fake_vcpu_push_exit(struct hv_vcpu *vcpu, const struct hv_exit *exit);
