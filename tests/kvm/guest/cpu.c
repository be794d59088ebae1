/* SPDX-License-Identifier: Apache-2.0 */
/*
 * interrupts, local APIC, time, other processors
 */
#include "tests/kvm/guest/cpu.h"

#include "tests/kvm/guest/io.h"
#include "tests/kvm/guest/platform.h"
#include "tests/kvm/guest/report.h"

#define MSR_APIC_BASE      0x1b
#define APIC_BASE_X2       (3 << 10)
#define MSR_X2APIC_ID      0x802
#define MSR_X2APIC_EOI     0x80b
#define MSR_X2APIC_SVR     0x80f
#define MSR_X2APIC_ICR     0x830
#define MSR_X2APIC_TIMER   0x832
#define MSR_X2APIC_INITIAL 0x838
#define MSR_X2APIC_DIVIDE  0x83e
#define TIMER_PERIODIC     (1 << 17)
#define DIVIDE_BY_1        0xb
#define ICR_INIT           0x4500
#define ICR_SIPI           0x4600
#define MSR_KVM_CLOCK      0x4b564d01
#define TRAMPOLINE         0x10000
#define IOAPIC             0xfec00000ULL
#define AP_STACK_PAGES     2
#define PORT_PIC_MASK      0x21

struct gate {
	uint16_t offset_low, selector;
	uint8_t ist, type;
	uint16_t offset_mid;
	uint32_t offset_high, reserved;
};

/* pvclock_vcpu_time_info of the KVM clock ABI */
struct pvclock {
	uint32_t version, pad0;
	uint64_t tsc_timestamp, system_time;
	uint32_t tsc_to_system_mul;
	int8_t tsc_shift;
	uint8_t flags, pad[2];
};

extern const uint8_t trap_stubs[VECTOR_N_][16];
extern const uint8_t ap_trampoline[], ap_trampoline_end[];

uint64_t ap_stack_top;
volatile uint32_t irq_count[VECTOR_N_];
void (*irq_handler[VECTOR_N_])(void);

static struct gate idt[VECTOR_N_] __attribute__((aligned(16)));
static struct pvclock pvclock __attribute__((aligned(64)));
static volatile uint32_t ap_online;
static uint64_t ns_per_tick_32; /* nanoseconds per TSC tick, 32 fractional bits */
static uint64_t tsc_start;
static const char *time_source_name;

void trap_handle(struct trap_frame *frame);
_Noreturn void ap_main(void);

void trap_handle(struct trap_frame *frame)
{
	uint64_t cr2;

	if (frame->vector >= 32) {
		irq_count[frame->vector]++;
		if (irq_handler[frame->vector])
			irq_handler[frame->vector]();
		if (frame->vector != VECTOR_SPURIOUS)
			wrmsr(MSR_X2APIC_EOI, 0);
		return;
	}
	if (frame->vector == VECTOR_NMI) {
		irq_count[VECTOR_NMI]++;
		return;
	}
	__asm__ volatile("movq %%cr2, %0" : "=r"(cr2));
	check(false, "exception vector %lu error 0x%lx rip 0x%lx cr2 0x%lx", frame->vector,
	      frame->error, frame->rip, cr2);
	report_done();
	power_off();
}

static void apic_enable(void)
{
	const struct {
		uint16_t pad[3];
		uint16_t limit;
		uint64_t base;
	} pointer __attribute__((aligned(8))) = { .limit = sizeof(idt) - 1, .base = (uint64_t)idt };

	__asm__ volatile("lidt %0" : : "m"(pointer.limit), "m"(pointer));
	wrmsr(MSR_APIC_BASE, rdmsr(MSR_APIC_BASE) | APIC_BASE_X2);
	wrmsr(MSR_X2APIC_SVR, 0x100 | VECTOR_SPURIOUS);
	wrmsr(MSR_X2APIC_DIVIDE, DIVIDE_BY_1);
}

static void time_init(void)
{
	uint32_t last = cpuid(0x40000000, 0).eax;
	uint32_t khz = 0;

	tsc_start = rdtsc();
	if (last >= 0x40000010 && last < 0x40000100)
		khz = cpuid(0x40000010, 0).eax;
	if (khz) {
		time_source_name = "leaf 0x40000010";
		ns_per_tick_32 = (1000000ULL << 32) / khz;
		return;
	}
	if (last >= 0x40000001 && last < 0x40000100 && (cpuid(0x40000001, 0).eax & 1 << 3)) {
		/* read once and switched off again: nothing may write to guest memory behind our
		 * back */
		wrmsr(MSR_KVM_CLOCK, (uint64_t)&pvclock | 1);
		ns_per_tick_32 = *(volatile uint32_t *)&pvclock.tsc_to_system_mul;
		if (pvclock.tsc_shift >= 0)
			ns_per_tick_32 <<= pvclock.tsc_shift;
		else
			ns_per_tick_32 >>= -pvclock.tsc_shift;
		wrmsr(MSR_KVM_CLOCK, 0);
		time_source_name = "kvmclock";
	}
	if (!ns_per_tick_32) {
		ns_per_tick_32 = 1ULL << 31;
		time_source_name = "none, TSC taken for 2 GHz";
	}
}

void cpu_init(void)
{
	for (unsigned int i = 0; i < VECTOR_N_; i++) {
		uint64_t stub = (uint64_t)trap_stubs[i];

		idt[i] = (struct gate){
			.offset_low = (uint16_t)stub,
			.selector = 0x08,
			.type = 0x8e,
			.offset_mid = (uint16_t)(stub >> 16),
		};
	}
	/* a machine with a PIC (not ours) lets its firmware's timer through as vector 8 */
	outb(PORT_PIC_MASK, 0xff);
	apic_enable();
	time_init();
}

uint32_t apic_id(void)
{
	return (uint32_t)rdmsr(MSR_X2APIC_ID);
}

void apic_send(uint32_t apic, uint32_t icr_low)
{
	wrmsr(MSR_X2APIC_ICR, (uint64_t)apic << 32 | icr_low);
}

void timer_arm(uint64_t ns, bool periodic)
{
	/* KVM's APIC bus runs at 1 GHz unless user space says otherwise: one count is a nanosecond
	 */
	wrmsr(MSR_X2APIC_TIMER, VECTOR_TIMER | (periodic ? TIMER_PERIODIC : 0));
	wrmsr(MSR_X2APIC_INITIAL, ns > 0xffffffff ? 0xffffffff : ns);
}

void timer_stop(void)
{
	wrmsr(MSR_X2APIC_INITIAL, 0);
}

uint64_t now_ns(void)
{
	return (uint64_t)(((unsigned __int128)(rdtsc() - tsc_start) * ns_per_tick_32) >> 32);
}

const char *time_source(void)
{
	return time_source_name;
}

bool wait_until(bool (*condition)(void *arg), void *arg, uint32_t ms)
{
	uint64_t end = now_ns() + (uint64_t)ms * 1000000;
	uint64_t step = 100000;

	for (;;) {
		if (condition(arg))
			return true;
		if (now_ns() >= end)
			return false;
		timer_arm(step, false);
		cpu_wait_interrupt();
		if (step < 5000000)
			step *= 2;
	}
}

static bool never(void *arg)
{
	(void)arg;
	return false;
}

void sleep_ms(uint32_t ms)
{
	wait_until(never, NULL, ms);
}

static bool ap_is_online(void *arg)
{
	(void)arg;
	return ap_online != 0;
}

bool ap_start(uint32_t apic)
{
	ap_online = 0;
	memcpy((void *)TRAMPOLINE, ap_trampoline, (size_t)(ap_trampoline_end - ap_trampoline));
	ap_stack_top = (uint64_t)alloc_pages(AP_STACK_PAGES) + (uint64_t)AP_STACK_PAGES * 4096;
	apic_send(apic, ICR_INIT);
	apic_send(apic, ICR_SIPI | TRAMPOLINE >> 12);
	apic_send(apic, ICR_SIPI | TRAMPOLINE >> 12);
	return wait_until(ap_is_online, NULL, 2000);
}

void ap_main(void)
{
	apic_enable();
	ap_online = apic_id() + 1;
	for (;;)
		cpu_wait_interrupt();
}

void ioapic_route(uint32_t gsi, uint8_t vector, bool level, bool active_low)
{
	uint32_t low = vector | (active_low ? 1U << 13 : 0) | (level ? 1U << 15 : 0);

	mmio_write32(IOAPIC, 0x10 + gsi * 2 + 1);
	mmio_write32(IOAPIC + 0x10, apic_id() << 24);
	mmio_write32(IOAPIC, 0x10 + gsi * 2);
	mmio_write32(IOAPIC + 0x10, low);
}

uint32_t pm_timer_read(void)
{
	return inl(PORT_PM_TIMER);
}

uint8_t cmos_read(uint8_t index)
{
	outb(PORT_CMOS_INDEX, index);
	return inb(PORT_CMOS_DATA);
}

void cmos_write(uint8_t index, uint8_t value)
{
	outb(PORT_CMOS_INDEX, index);
	outb(PORT_CMOS_DATA, value);
}
