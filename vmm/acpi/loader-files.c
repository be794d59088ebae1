/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/acpi/loader-files.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/acpi/acpi-abi.h"
#include "vmm/arch/x86/layout.h"
#include "vmm/base/err.h"
#include "vmm/base/math.h"
#include "vmm/devices/fw-cfg-abi.h"
#include "vmm/memory/guest-memory.h"

#define POINTER_SIZE 8

struct maker {
	const struct guest_mem *mem;
	uint64_t start_gpa, end_gpa; /* of all tables but the RSDP */
	struct acpi_loader_files *files;
};

void acpi_loader_files_deinit(struct acpi_loader_files *files)
{
	free(files->tables);
	free(files->rsdp);
	free(files->script);
	*files = (struct acpi_loader_files){ 0 };
}

static struct fw_cfg_loader *command(struct maker *m, enum fw_cfg_loader_command kind,
				     const char *file)
{
	struct fw_cfg_loader *at = (void *)(m->files->script + m->files->script_len);

	*at = (struct fw_cfg_loader){ .command = le32_make(kind) };
	memcpy(at->file, file, strlen(file));
	m->files->script_len += sizeof(*at);
	return at;
}

static void allocate(struct maker *m, const char *file, uint32_t align, uint8_t zone)
{
	struct fw_cfg_loader *c = command(m, FW_CFG_ALLOCATE, file);

	c->allocate.align = le32_make(align);
	c->allocate.zone = zone;
}

/* The pointer at off of file is to the tables: from there on it is an offset in their file. */
static void point(struct maker *m, const char *file, uint8_t *data, uint64_t off)
{
	struct fw_cfg_loader *c = command(m, FW_CFG_ADD_POINTER, file);

	memcpy(c->pointer.target, ACPI_LOADER_TABLES, sizeof(ACPI_LOADER_TABLES));
	c->pointer.offset = le32_make((uint32_t)off);
	c->pointer.size = POINTER_SIZE;
	bytes_put_le(data + off, POINTER_SIZE,
		     bytes_get_le(data + off, POINTER_SIZE) - m->start_gpa);
}

/* The firmware puts the sum in when it has put the pointers in. */
static void sum(struct maker *m, const char *file, uint8_t *data, uint64_t off, uint64_t start,
		uint64_t len)
{
	struct fw_cfg_loader *c = command(m, FW_CFG_ADD_CHECKSUM, file);

	c->checksum.offset = le32_make((uint32_t)off);
	c->checksum.start = le32_make((uint32_t)start);
	c->checksum.length = le32_make((uint32_t)len);
	data[off] = 0;
}

static int header_at(const struct maker *m, uint64_t gpa, struct acpi_header *ret)
{
	return guest_read(m->mem, gpa, ret, sizeof(*ret));
}

/* Widens [start_gpa, end_gpa) by the table at gpa. */
static int include(struct maker *m, uint64_t gpa)
{
	struct acpi_header header;
	int r = header_at(m, gpa, &header);

	if (r < 0)
		return r;
	m->start_gpa = MIN(m->start_gpa, gpa);
	m->end_gpa = MAX(m->end_gpa, gpa + le32_get(header.length));
	return 0;
}

/* The addresses in the XSDT, and behind them that of the DSDT. */
static int list_tables(struct maker *m, uint64_t xsdt_gpa, uint64_t *gpas, size_t *n,
		       uint64_t *ret_fadt_gpa)
{
	struct acpi_header xsdt, header;
	struct acpi_fadt fadt;
	int r = header_at(m, xsdt_gpa, &xsdt);

	if (r < 0)
		return r;
	*n = (le32_get(xsdt.length) - sizeof(xsdt)) / POINTER_SIZE;
	assert(*n < ACPI_LOADER_MAX_XSDT);
	r = guest_read(m->mem, xsdt_gpa + sizeof(xsdt), gpas, *n * POINTER_SIZE);
	for (size_t i = 0; r >= 0 && i < *n; i++) {
		gpas[i] = le64toh(gpas[i]);
		r = header_at(m, gpas[i], &header);
		if (r >= 0 && memcmp(header.signature, "FACP", 4) == 0)
			*ret_fadt_gpa = gpas[i];
	}
	if (r >= 0)
		r = guest_read(m->mem, *ret_fadt_gpa, &fadt, sizeof(fadt));
	if (r >= 0)
		gpas[(*n)++] = le64_get(fadt.x_dsdt);
	return r;
}

static int make(struct maker *m, const struct acpi_rsdp *rsdp)
{
	uint64_t gpas[ACPI_LOADER_MAX_XSDT], xsdt = le64_get(rsdp->xsdt_address), fadt = 0;
	struct acpi_loader_files *f = m->files;
	size_t n = 0;
	int r = list_tables(m, xsdt, gpas, &n, &fadt);

	if (r >= 0)
		r = include(m, xsdt);
	for (size_t i = 0; r >= 0 && i < n; i++)
		r = include(m, gpas[i]);
	if (r < 0)
		return r;
	f->tables_len = m->end_gpa - m->start_gpa;
	f->rsdp_len = sizeof(*rsdp);
	f->tables = malloc(f->tables_len);
	f->rsdp = malloc(f->rsdp_len);
	/* two files, n pointers of the XSDT and FADT and one of the RSDP, four sums */
	f->script = calloc(n + 7, sizeof(struct fw_cfg_loader));
	if (!f->tables || !f->rsdp || !f->script)
		return -ENOMEM;
	r = guest_read(m->mem, m->start_gpa, f->tables, f->tables_len);
	if (r < 0)
		return r;
	memcpy(f->rsdp, rsdp, sizeof(*rsdp));

	allocate(m, ACPI_LOADER_RSDP, 16, FW_CFG_ZONE_FSEG);
	allocate(m, ACPI_LOADER_TABLES, 64, FW_CFG_ZONE_HIGH);
	point(m, ACPI_LOADER_TABLES, f->tables,
	      fadt - m->start_gpa + offsetof(struct acpi_fadt, x_dsdt));
	for (size_t i = 0; i < n - 1; i++)
		point(m, ACPI_LOADER_TABLES, f->tables,
		      xsdt - m->start_gpa + sizeof(struct acpi_header) + i * POINTER_SIZE);
	point(m, ACPI_LOADER_RSDP, f->rsdp, offsetof(struct acpi_rsdp, xsdt_address));
	sum(m, ACPI_LOADER_TABLES, f->tables,
	    fadt - m->start_gpa + offsetof(struct acpi_header, checksum), fadt - m->start_gpa,
	    sizeof(struct acpi_fadt));
	sum(m, ACPI_LOADER_TABLES, f->tables,
	    xsdt - m->start_gpa + offsetof(struct acpi_header, checksum), xsdt - m->start_gpa,
	    sizeof(struct acpi_header) + (n - 1) * POINTER_SIZE);
	sum(m, ACPI_LOADER_RSDP, f->rsdp, offsetof(struct acpi_rsdp, checksum), 0,
	    offsetof(struct acpi_rsdp, length));
	sum(m, ACPI_LOADER_RSDP, f->rsdp, offsetof(struct acpi_rsdp, extended_checksum), 0,
	    sizeof(struct acpi_rsdp));
	return 0;
}

int acpi_loader_files_make(const struct guest_mem *mem, uint64_t rsdp_gpa,
			   struct acpi_loader_files *ret, struct err *err)
{
	struct acpi_loader_files files = { 0 };
	struct maker m = { .mem = mem, .start_gpa = UINT64_MAX, .files = &files };
	struct acpi_rsdp rsdp;
	int r = guest_read(mem, rsdp_gpa, &rsdp, sizeof(rsdp));

	if (r >= 0)
		r = make(&m, &rsdp);
	if (r < 0) {
		acpi_loader_files_deinit(&files);
		return err_errno(err, -r, "cannot prepare the ACPI tables for fw_cfg");
	}
	*ret = files;
	return 0;
}
