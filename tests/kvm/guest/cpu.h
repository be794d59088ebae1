/* SPDX-License-Identifier: Apache-2.0 */
/*
 * interrupts, local APIC, time, other processors
 *
 * Interrupts are off everywhere except inside wait_until(), which halts. So handlers and the code
 * they interrupt never race, and a handler only counts: irq_count[vector] tells what came. Time is
 * the TSC, scaled by what the hypervisor says of it (leaf 0x40000010 or the kvmclock page).
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum vector {
	VECTOR_TIMER = 0x20,
	VECTOR_TO_BSP = 0x21,
	VECTOR_TO_AP = 0x22,
	VECTOR_COM1 = 0x24,
	VECTOR_GED = 0x25,
	VECTOR_SPURIOUS = 0x2f,
	VECTOR_DEVICE = 0x30, /* MSI-X vectors of devices from here on */
	VECTOR_N_ = 0x60,
};

#define VECTOR_NMI 2

struct trap_frame {
	uint64_t r15, r14, r13, r12, r11, r10, r9, r8, rdi, rsi, rbp, rbx, rdx, rcx, rax;
	uint64_t vector, error;
	uint64_t rip, cs, rflags, rsp, ss;
};

extern volatile uint32_t irq_count[VECTOR_N_];
extern void (*irq_handler[VECTOR_N_])(void);

/* BSP, once; also makes the calling processor take interrupts */
void cpu_init(void);

uint32_t apic_id(void);
void apic_send(uint32_t apic, uint32_t icr_low);
/* next timer interrupt in @ns; periodic repeats it */
void timer_arm(uint64_t ns, bool periodic);
void timer_stop(void);

/* INIT-SIPI-SIPI; true when @apic reached ap_main() */
bool ap_start(uint32_t apic);

uint64_t now_ns(void);
const char *time_source(void);

/* halts until @condition holds or @ms passed; false on timeout */
bool wait_until(bool (*condition)(void *arg), void *arg, uint32_t ms);
void sleep_ms(uint32_t ms);

/* routes IOAPIC pin @gsi to @vector on the BSP */
void ioapic_route(uint32_t gsi, uint8_t vector, bool level, bool active_low);

uint32_t pm_timer_read(void);
uint8_t cmos_read(uint8_t index);
void cmos_write(uint8_t index, uint8_t value);
