/* SPDX-License-Identifier: Apache-2.0 */
/*
 * boot information, command line, page arena, page tables, ways to end
 */
#include "tests/kvm/guest/platform.h"

#include "tests/kvm/guest/acpi.h"
#include "tests/kvm/guest/io.h"
#include "tests/kvm/guest/report.h"

#define ARENA_PAGES       512
#define PAGE_SIZE         4096
#define PTE_TABLE         0x23
#define PTE_LARGE         0xe3
#define BOOT_MAP_END      GIB(8)
#define LARGE_PAGE        MIB(2)
#define TABLE_ENTRY(a, s) (((a) >> (s)) & 511)

const struct hvm_start_info *start_info;

extern uint64_t pml4[512];

/* behind the image and the boot stack (tiny.lds) */
extern uint8_t arena_start[][PAGE_SIZE];

static unsigned int arena_used;

void *memcpy(void *to, const void *from, size_t n)
{
	void *ret = to;

	__asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(n) : : "memory");
	return ret;
}

void *memset(void *to, int c, size_t n)
{
	uint64_t pattern = 0x0101010101010101ULL * (uint8_t)c;
	size_t words = n / 8, rest = n % 8;
	void *ret = to;

	/* one emulated iteration per word instead of per byte */
	__asm__ volatile("rep stosq" : "+D"(to), "+c"(words) : "a"(pattern) : "memory");
	__asm__ volatile("rep stosb" : "+D"(to), "+c"(rest) : "a"(pattern) : "memory");
	return ret;
}

int memcmp(const void *a, const void *b, size_t n)
{
	const uint8_t *x = a, *y = b;

	for (size_t i = 0; i < n; i++)
		if (x[i] != y[i])
			return x[i] < y[i] ? -1 : 1;
	return 0;
}

bool string_equal(const char *a, const char *b)
{
	for (; *a && *a == *b; a++, b++)
		;
	return *a == *b;
}

void *alloc_pages(unsigned int n)
{
	void *pages = arena_start[arena_used];

	if (arena_used + n > ARENA_PAGES) {
		check(false, "page arena exhausted");
		report_done();
		power_off();
	}
	arena_used += n;
	return pages;
}

static uint64_t *table_step(uint64_t *entry)
{
	uint64_t *table;

	if (*entry)
		return (uint64_t *)(*entry & ~0xfffULL); /* NOLINT: page tables are integers */
	table = alloc_pages(1);
	memset(table, 0, PAGE_SIZE);
	*entry = (uint64_t)table | PTE_TABLE;
	return table;
}

void map_range(uint64_t address, uint64_t len)
{
	uint64_t last = address + (len ? len - 1 : 0);

	if (last < BOOT_MAP_END)
		return;
	if (last < address || last >> 47) {
		check(false, "cannot map 0x%lx+0x%lx", address, len);
		report_done();
		power_off();
	}
	for (uint64_t page = address & ~(LARGE_PAGE - 1); page <= last; page += LARGE_PAGE) {
		uint64_t *pdpt = table_step(&pml4[TABLE_ENTRY(page, 39)]);
		uint64_t *pd = table_step(&pdpt[TABLE_ENTRY(page, 30)]);

		/* absent to present needs no TLB flush */
		pd[TABLE_ENTRY(page, 21)] = page | PTE_LARGE;
	}
}

static const char *arg_find(const char *key)
{
	const char *s = start_info->cmdline_paddr ? (const char *)start_info->cmdline_paddr : "";

	while (*s) {
		const char *k = key;

		while (*s == ' ')
			s++;
		for (; *k && *s == *k; s++, k++)
			;
		if (!*k && *s == '=')
			return s + 1;
		while (*s && *s != ' ')
			s++;
	}
	return NULL;
}

bool arg_get(const char *key, char *ret, size_t size)
{
	const char *value = arg_find(key);
	size_t n = 0;

	if (!value)
		return false;
	for (; value[n] && value[n] != ' ' && n + 1 < size; n++)
		ret[n] = value[n];
	ret[n] = '\0';
	return true;
}

uint64_t arg_u64(const char *key, uint64_t fallback)
{
	const char *s = arg_find(key);
	unsigned int base = 10;
	uint64_t value = 0;

	if (!s)
		return fallback;
	if (s[0] == '0' && s[1] == 'x') {
		base = 16;
		s += 2;
	}
	for (; *s && *s != ' '; s++) {
		unsigned int digit;

		if (*s >= '0' && *s <= '9')
			digit = (unsigned int)(*s - '0');
		else if (base == 16 && *s >= 'a' && *s <= 'f')
			digit = (unsigned int)(*s - 'a') + 10;
		else
			break;
		value = value * base + digit;
	}
	return value;
}

uint64_t platform_ram_end(void)
{
	const struct hvm_memmap_entry *map = (const void *)start_info->memmap_paddr;
	uint64_t end = 0;

	for (uint32_t i = 0; map && i < start_info->memmap_entries; i++)
		if (map[i].type == HVM_MEMMAP_TYPE_RAM && map[i].addr + map[i].size > end)
			end = map[i].addr + map[i].size;
	return end;
}

void platform_init(const struct hvm_start_info *hvm)
{
	start_info = hvm;
}

void power_off(void)
{
	uint16_t pm1a;

	cpu_cli();
	/* ours: SLEEP_CONTROL_REG, SLP_TYP 5 | SLP_EN (ACPI 6.5, 4.8.3.7) */
	outb(PORT_ACPI_RESET, 5 << 2 | 1 << 5);
	/* other machines, for developing the guest itself: PM1a control block, then isa-debug-exit
	 */
	pm1a = acpi_pm1a_control();
	if (pm1a)
		outw(pm1a, 1 << 13);
	outb(0xf4, report_failed() ? 1 : 0);
	for (;;)
		__asm__ volatile("cli; hlt");
}

void triple_fault(void)
{
	static const struct {
		uint16_t pad[3];
		uint16_t limit;
		uint64_t base;
	} no_idt __attribute__((aligned(8)));

	__asm__ volatile("lidt %0; ud2" : : "m"(no_idt.limit));
	for (;;)
		__asm__ volatile("cli; hlt");
}
