/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ACPI machine language, appended to a growing buffer
 *
 * Each function appends one term of the grammar (ACPI 6.5, chapter 20).  What
 * carries a package length is opened, filled and closed; aml_close() puts the
 * length in.  Arguments are given as further terms right after the operator
 * that takes them, as in the encoding:
 *
 *	aml_open_if(a);  aml_op(a, AML_AND); aml_local(a, 0); aml_integer(a, 8); aml_op(a,
 *AML_NULL);
 *		...
 *	aml_close(a);
 *
 * Names are paths of ASL ("\\_SB_.PC00", "^GDAT") with four-character segments,
 * written out.  A failed allocation is remembered and reported by aml_finish().
 * Resource descriptors (chapter 6.4) are appended to a struct aml of their own
 * which then becomes a buffer.
 *
 * Control thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/base/cleanup.h"

#define AML_DEPTH_MAX 16

struct aml {
	uint8_t *data;
	size_t len, capacity;
	size_t open[AML_DEPTH_MAX]; /* where the package lengths belong */
	uint32_t depth;
	bool failed;
};

/* Operators without a package length of their own. */
enum aml_op {
	AML_NULL = 0x00,       /* no target */
	AML_STORE = 0x70,      /* value, target */
	AML_ADD = 0x72,        /* value, value, target */
	AML_SUBTRACT = 0x74,   /* value, value, target */
	AML_INCREMENT = 0x75,  /* target */
	AML_SHIFT_LEFT = 0x79, /* value, count, target */
	AML_SHIFT_RIGHT = 0x7a,
	AML_AND = 0x7b, /* value, value, target */
	AML_OR = 0x7d,
	AML_NOTIFY = 0x86,      /* object, value */
	AML_QWORD_FIELD = 0x8f, /* buffer, offset, new name */
	AML_LAND = 0x90,        /* value, value */
	AML_LNOT = 0x92,        /* value */
	AML_LEQUAL = 0x93,      /* value, value */
	AML_LLESS = 0x95,
	AML_RETURN = 0xa4, /* value */
};

/* How wide the accesses to a field are. */
enum aml_access {
	AML_ACCESS_BYTE = 1,
	AML_ACCESS_DWORD = 3,
};

enum aml_space {
	AML_SYSTEM_MEMORY = 0,
	AML_SYSTEM_IO = 1,
};

void aml_deinit(struct aml *a);
/* -ENOMEM if any allocation failed; asserts that everything was closed. */
int aml_finish(struct aml *a);

void aml_bytes(struct aml *a, const void *data, size_t len);
void aml_path(struct aml *a, const char *path);
/* Store (ArgN, to) */
void aml_store_arg(struct aml *a, unsigned int arg, const char *to);
void aml_store_integer(struct aml *a, uint64_t value, const char *to);
void aml_op(struct aml *a, enum aml_op op);
void aml_integer(struct aml *a, uint64_t value);
void aml_string(struct aml *a, const char *s);
/* "PNP0A08" as the 32-bit integer that _HID and _CID take. */
void aml_eisa_id(struct aml *a, const char *id);
void aml_buffer(struct aml *a, const void *data, size_t len);
/* ToUUID(): the 16 bytes in GUID order. */
void aml_uuid(struct aml *a, const char *uuid);
void aml_local(struct aml *a, unsigned int n);
void aml_arg(struct aml *a, unsigned int n);
/* Name (path, ...): the value follows. */
void aml_name(struct aml *a, const char *path);
void aml_name_integer(struct aml *a, const char *path, uint64_t value);

void aml_open_scope(struct aml *a, const char *path);
void aml_open_device(struct aml *a, const char *path);
void aml_open_method(struct aml *a, const char *path, unsigned int n_args, bool serialized);
void aml_open_package(struct aml *a, uint8_t n_elements);
void aml_open_if(struct aml *a);    /* the condition follows */
void aml_open_while(struct aml *a); /* the condition follows */
/* Right after the close of an if. */
void aml_open_else(struct aml *a);
void aml_close(struct aml *a);

void aml_region(struct aml *a, const char *path, enum aml_space space, uint64_t start,
		uint64_t len);
/* No lock; bits that are not written become zero. */
void aml_open_field(struct aml *a, const char *region, enum aml_access access);
/* name NULL: bits that have none. */
void aml_field_member(struct aml *a, const char *name, unsigned int bits);
/* A call of a method is its path, the arguments follow. */
void aml_mutex(struct aml *a, const char *path);
void aml_acquire(struct aml *a, const char *path); /* waits for ever */
void aml_release(struct aml *a, const char *path);

/* Resource descriptors. */
void aml_res_bus(struct aml *a, uint16_t min, uint16_t max);
void aml_res_io(struct aml *a, uint16_t start, uint8_t len);
/* A window that a bridge hands on; min to max inclusive. */
void aml_res_io_window(struct aml *a, uint16_t min, uint16_t max);
void aml_res_mem32_window(struct aml *a, uint32_t start, uint32_t len);
void aml_res_mem64_window(struct aml *a, uint64_t start, uint64_t len);
void aml_res_mem32_fixed(struct aml *a, uint32_t start, uint32_t len);
/* Consumed by a device, anywhere in 64 bits. */
void aml_res_mem64(struct aml *a, uint64_t start, uint64_t len);
/* The same for memory; where it says so in the descriptor (6.4.3.5.1). */
void aml_res_ram64(struct aml *a, uint64_t start, uint64_t len);
#define AML_RES64_MIN 14
#define AML_RES64_MAX 22
#define AML_RES64_LEN 38
/* Ends the template res and appends it to a as a buffer; frees res. */
void aml_res_buffer(struct aml *a, struct aml *res);
/* Edge, active high, not shared. */
void aml_res_irq_edge(struct aml *a, uint32_t gsi);
/* Ends the template res and appends it to a as Name (_CRS, Buffer); frees res. */
void aml_name_crs(struct aml *a, struct aml *res);
