/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The watchdog action table: see wdat.c.  Control thread.
 */
#pragma once

struct acpi_header;
struct aml;

/* The whole table but length and checksum. */
void acpi_emit_wdat(struct aml *a, const struct acpi_header *header);
