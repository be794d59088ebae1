/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/acpi/aml.h"

#include <assert.h>
#include <string.h>

#include "vmm/base/bytes.h"
#include "vmm/base/math.h"

#define EXT_OP_PREFIX  0x5b
#define OP_NAME        0x08
#define OP_BYTE        0x0a
#define OP_WORD        0x0b
#define OP_DWORD       0x0c
#define OP_STRING      0x0d
#define OP_QWORD       0x0e
#define OP_SCOPE       0x10
#define OP_BUFFER      0x11
#define OP_PACKAGE     0x12
#define OP_METHOD      0x14
#define OP_DUAL_NAME   0x2e
#define OP_MULTI_NAME  0x2f
#define OP_LOCAL0      0x60
#define OP_ARG0        0x68
#define OP_IF          0xa0
#define OP_ELSE        0xa1
#define OP_WHILE       0xa2
#define EXT_OP_MUTEX   0x01
#define EXT_OP_ACQUIRE 0x23
#define EXT_OP_RELEASE 0x27
#define EXT_OP_REGION  0x80
#define EXT_OP_FIELD   0x81
#define EXT_OP_DEVICE  0x82
#define FIELD_ZEROS    0x40 /* WriteAsZeros */
#define WAIT_FOREVER   0xffff

#define NAME_SEGMENT 4
#define PKG_LEN_MAX  ((1u << 28) - 1)

/* ACPI 6.5, tables 6.33 and 6.44: the resource types and flags we use */
#define RES_IRQ_LARGE     0x89
#define RES_IO            0x47
#define RES_MEM32_FIXED   0x86
#define RES_DWORD         0x87
#define RES_WORD          0x88
#define RES_QWORD         0x8a
#define RES_END           0x79
#define RES_TYPE_MEMORY   0
#define RES_TYPE_IO       1
#define RES_TYPE_BUS      2
#define RES_CONSUMER      0x01
#define RES_FIXED         0x0c /* minimum and maximum are fixed */
#define RES_MEM_RW        0x01
#define RES_MEM_CACHEABLE 0x02
#define RES_IO_ENTIRE     0x03
#define RES_IRQ_EDGE      0x02

void aml_deinit(struct aml *a)
{
	free(a->data);
	*a = (struct aml){ 0 };
}

int aml_finish(struct aml *a)
{
	assert(a->depth == 0);
	return a->failed ? -ENOMEM : 0;
}

void aml_bytes(struct aml *a, const void *data, size_t len)
{
	if (a->failed)
		return;
	if (len > a->capacity - a->len) {
		size_t capacity = MAX(a->capacity * 2, a->len + len + 256);
		uint8_t *p = realloc(a->data, capacity);

		if (!p) {
			a->failed = true;
			return;
		}
		a->data = p;
		a->capacity = capacity;
	}
	if (len > 0)
		memcpy(a->data + a->len, data, len);
	a->len += len;
}

static void put_le(struct aml *a, uint64_t value, unsigned int len)
{
	uint8_t bytes[8];

	bytes_put_le(bytes, len, 0); /* keeps the compiler sure that they are set */
	for (unsigned int i = 0; i < len; i++)
		bytes[i] = (uint8_t)(value >> (8 * i));
	aml_bytes(a, bytes, len);
}

static void put_byte(struct aml *a, uint8_t value)
{
	aml_bytes(a, &value, 1);
}

static void open_pkg(struct aml *a)
{
	assert(a->depth < AML_DEPTH_MAX);
	a->open[a->depth++] = a->len;
}

/*
 * PkgLength counts its own bytes: one up to 63, else the low four bits in the
 * first byte (whose top two bits count the bytes that follow) and eight bits in
 * each other (20.2.4).
 */
void aml_close(struct aml *a)
{
	uint8_t enc[4];
	size_t start, body, n, total;

	assert(a->depth > 0);
	start = a->open[--a->depth];
	if (a->failed)
		return;
	body = a->len - start;
	n = body + 1 <= 0x3f ? 1 : body + 2 <= 0xfff ? 2 : body + 3 <= 0xfffff ? 3 : 4;
	total = body + n;
	assert(total <= PKG_LEN_MAX);
	if (n == 1) {
		enc[0] = (uint8_t)total;
	} else {
		enc[0] = (uint8_t)((n - 1) << 6 | (total & 0xf));
		for (size_t i = 1; i < n; i++)
			enc[i] = (uint8_t)(total >> (8 * i - 4));
	}
	aml_bytes(a, enc, n); /* makes room */
	if (a->failed)
		return;
	memmove(a->data + start + n, a->data + start, body);
	memcpy(a->data + start, enc, n);
}

void aml_path(struct aml *a, const char *path)
{
	size_t n;

	while (*path == '\\' || *path == '^')
		put_byte(a, (uint8_t)*path++);
	n = (strlen(path) + 1) / (NAME_SEGMENT + 1);
	assert(n < 256 && (n ? n * (NAME_SEGMENT + 1) - 1 : 0) == strlen(path));
	if (n == 0)
		put_byte(a, AML_NULL);
	else if (n == 2)
		put_byte(a, OP_DUAL_NAME);
	else if (n > 2) {
		put_byte(a, OP_MULTI_NAME);
		put_byte(a, (uint8_t)n);
	}
	for (size_t i = 0; i < n; i++)
		aml_bytes(a, path + i * (NAME_SEGMENT + 1), NAME_SEGMENT);
}

void aml_op(struct aml *a, enum aml_op op)
{
	put_byte(a, (uint8_t)op);
}

void aml_integer(struct aml *a, uint64_t value)
{
	if (value <= 1) {
		put_byte(a, (uint8_t)value); /* ZeroOp, OneOp */
	} else if (value <= UINT8_MAX) {
		put_byte(a, OP_BYTE);
		put_le(a, value, 1);
	} else if (value <= UINT16_MAX) {
		put_byte(a, OP_WORD);
		put_le(a, value, 2);
	} else if (value <= UINT32_MAX) {
		put_byte(a, OP_DWORD);
		put_le(a, value, 4);
	} else {
		put_byte(a, OP_QWORD);
		put_le(a, value, 8);
	}
}

void aml_string(struct aml *a, const char *s)
{
	put_byte(a, OP_STRING);
	aml_bytes(a, s, strlen(s) + 1);
}

static unsigned int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return (unsigned int)(c - '0');
	if (c >= 'a' && c <= 'f')
		return (unsigned int)(c - 'a') + 10;
	assert(c >= 'A' && c <= 'F');
	return (unsigned int)(c - 'A') + 10;
}

void aml_eisa_id(struct aml *a, const char *id)
{
	uint32_t v = 0;

	/* Three letters of five bits and four hexadecimal digits, most significant byte first. */
	assert(strlen(id) == 7);
	for (int i = 0; i < 3; i++)
		v = v << 5 | ((uint32_t)id[i] - 0x40);
	for (int i = 3; i < 7; i++)
		v = v << 4 | hex_digit(id[i]);
	put_byte(a, OP_DWORD);
	put_le(a, __builtin_bswap32(v), 4);
}

void aml_buffer(struct aml *a, const void *data, size_t len)
{
	put_byte(a, OP_BUFFER);
	open_pkg(a);
	aml_integer(a, len);
	aml_bytes(a, data, len);
	aml_close(a);
}

void aml_uuid(struct aml *a, const char *uuid)
{
	/* Where byte i of the buffer is in "aabbccdd-eeff-gghh-iijj-kkllmmnnoopp" (table 19.36). */
	static const uint8_t order[16] = {
		6, 4, 2, 0, 11, 9, 16, 14, 19, 21, 24, 26, 28, 30, 32, 34
	};
	uint8_t bytes[16];

	assert(strlen(uuid) == 36);
	for (int i = 0; i < 16; i++)
		bytes[i] =
			(uint8_t)(hex_digit(uuid[order[i]]) << 4 | hex_digit(uuid[order[i] + 1]));
	aml_buffer(a, bytes, sizeof(bytes));
}

void aml_local(struct aml *a, unsigned int n)
{
	assert(n < 8);
	put_byte(a, (uint8_t)(OP_LOCAL0 + n));
}

void aml_arg(struct aml *a, unsigned int n)
{
	assert(n < 7);
	put_byte(a, (uint8_t)(OP_ARG0 + n));
}

void aml_name(struct aml *a, const char *path)
{
	put_byte(a, OP_NAME);
	aml_path(a, path);
}

void aml_name_integer(struct aml *a, const char *path, uint64_t value)
{
	aml_name(a, path);
	aml_integer(a, value);
}

void aml_open_scope(struct aml *a, const char *path)
{
	put_byte(a, OP_SCOPE);
	open_pkg(a);
	aml_path(a, path);
}

void aml_open_device(struct aml *a, const char *path)
{
	put_byte(a, EXT_OP_PREFIX);
	put_byte(a, EXT_OP_DEVICE);
	open_pkg(a);
	aml_path(a, path);
}

void aml_open_method(struct aml *a, const char *path, unsigned int n_args, bool serialized)
{
	put_byte(a, OP_METHOD);
	open_pkg(a);
	aml_path(a, path);
	put_byte(a, (uint8_t)(n_args | (serialized ? 8 : 0)));
}

void aml_open_package(struct aml *a, uint8_t n_elements)
{
	put_byte(a, OP_PACKAGE);
	open_pkg(a);
	put_byte(a, n_elements);
}

void aml_open_if(struct aml *a)
{
	put_byte(a, OP_IF);
	open_pkg(a);
}

void aml_open_else(struct aml *a)
{
	put_byte(a, OP_ELSE);
	open_pkg(a);
}

void aml_open_while(struct aml *a)
{
	put_byte(a, OP_WHILE);
	open_pkg(a);
}

void aml_mutex(struct aml *a, const char *path)
{
	put_byte(a, EXT_OP_PREFIX);
	put_byte(a, EXT_OP_MUTEX);
	aml_path(a, path);
	put_byte(a, 0); /* sync level: no method here holds two */
}

void aml_acquire(struct aml *a, const char *path)
{
	put_byte(a, EXT_OP_PREFIX);
	put_byte(a, EXT_OP_ACQUIRE);
	aml_path(a, path);
	put_le(a, WAIT_FOREVER, 2);
}

void aml_release(struct aml *a, const char *path)
{
	put_byte(a, EXT_OP_PREFIX);
	put_byte(a, EXT_OP_RELEASE);
	aml_path(a, path);
}

void aml_region(struct aml *a, const char *path, enum aml_space space, uint64_t start, uint64_t len)
{
	put_byte(a, EXT_OP_PREFIX);
	put_byte(a, EXT_OP_REGION);
	aml_path(a, path);
	put_byte(a, (uint8_t)space);
	aml_integer(a, start);
	aml_integer(a, len);
}

void aml_open_field(struct aml *a, const char *region, enum aml_access access)
{
	put_byte(a, EXT_OP_PREFIX);
	put_byte(a, EXT_OP_FIELD);
	open_pkg(a);
	aml_path(a, region);
	put_byte(a, (uint8_t)(FIELD_ZEROS | access));
}

void aml_field_member(struct aml *a, const char *name, unsigned int bits)
{
	/* A field's width is encoded like a package length, but does not count itself. */
	assert(bits <= 0xfff && (!name || strlen(name) == NAME_SEGMENT));
	if (name)
		aml_bytes(a, name, NAME_SEGMENT);
	else
		put_byte(a, AML_NULL);
	if (bits <= 0x3f) {
		put_byte(a, (uint8_t)bits);
		return;
	}
	put_byte(a, (uint8_t)(0x40 | (bits & 0xf))); /* one more byte (20.2.4) */
	put_byte(a, (uint8_t)(bits >> 4));
}

/* Address space descriptors: fields of size bytes each (6.4.3.5). */
static void address_space(struct aml *a, uint8_t tag, unsigned int size, uint8_t type,
			  uint8_t flags, uint8_t type_flags, uint64_t min, uint64_t max)
{
	put_byte(a, tag);
	put_le(a, 3 + 5ULL * size, 2);
	put_byte(a, type);
	put_byte(a, flags);
	put_byte(a, type_flags);
	put_le(a, 0, size); /* granularity */
	put_le(a, min, size);
	put_le(a, max, size);
	put_le(a, 0, size); /* translation */
	put_le(a, max - min + 1, size);
}

void aml_res_bus(struct aml *a, uint16_t min, uint16_t max)
{
	address_space(a, RES_WORD, 2, RES_TYPE_BUS, RES_FIXED, 0, min, max);
}

void aml_res_io(struct aml *a, uint16_t start, uint8_t len)
{
	put_byte(a, RES_IO);
	put_byte(a, 1); /* decodes 16 bits */
	put_le(a, start, 2);
	put_le(a, start, 2);
	put_byte(a, 1); /* alignment */
	put_byte(a, len);
}

void aml_res_io_window(struct aml *a, uint16_t min, uint16_t max)
{
	address_space(a, RES_WORD, 2, RES_TYPE_IO, RES_FIXED, RES_IO_ENTIRE, min, max);
}

void aml_res_mem32_window(struct aml *a, uint32_t start, uint32_t len)
{
	address_space(a, RES_DWORD, 4, RES_TYPE_MEMORY, RES_FIXED, RES_MEM_RW, start,
		      start + (uint64_t)len - 1);
}

void aml_res_mem64_window(struct aml *a, uint64_t start, uint64_t len)
{
	address_space(a, RES_QWORD, 8, RES_TYPE_MEMORY, RES_FIXED, RES_MEM_RW | RES_MEM_CACHEABLE,
		      start, start + len - 1);
}

void aml_res_mem64(struct aml *a, uint64_t start, uint64_t len)
{
	address_space(a, RES_QWORD, 8, RES_TYPE_MEMORY, RES_FIXED | RES_CONSUMER, RES_MEM_RW, start,
		      start + len - 1);
}

void aml_res_mem32_fixed(struct aml *a, uint32_t start, uint32_t len)
{
	put_byte(a, RES_MEM32_FIXED);
	put_le(a, 9, 2);
	put_byte(a, RES_MEM_RW);
	put_le(a, start, 4);
	put_le(a, len, 4);
}

void aml_res_irq_edge(struct aml *a, uint32_t gsi)
{
	put_byte(a, RES_IRQ_LARGE);
	put_le(a, 6, 2);
	put_byte(a, RES_CONSUMER | RES_IRQ_EDGE);
	put_byte(a, 1);
	put_le(a, gsi, 4);
}

void aml_res_ram64(struct aml *a, uint64_t start, uint64_t len)
{
	address_space(a, RES_QWORD, 8, RES_TYPE_MEMORY, RES_FIXED | RES_CONSUMER,
		      RES_MEM_RW | RES_MEM_CACHEABLE, start, start + len - 1);
}

void aml_name_crs(struct aml *a, struct aml *res)
{
	aml_name(a, "_CRS");
	aml_res_buffer(a, res);
}

void aml_res_buffer(struct aml *a, struct aml *res)
{
	put_byte(res, RES_END);
	put_byte(res, 0); /* checksum 0: not checked (6.4.2.9) */
	if (aml_finish(res) < 0)
		a->failed = true;
	aml_buffer(a, res->data, res->failed ? 0 : res->len);
	aml_deinit(res);
}

void aml_store_arg(struct aml *a, unsigned int arg, const char *to)
{
	aml_op(a, AML_STORE);
	aml_arg(a, arg);
	aml_path(a, to);
}

void aml_store_integer(struct aml *a, uint64_t value, const char *to)
{
	aml_op(a, AML_STORE);
	aml_integer(a, value);
	aml_path(a, to);
}
