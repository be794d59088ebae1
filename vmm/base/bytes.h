/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Integers in a stated byte order
 *
 * le16 and friends are one-member structs: using one as a number, or assigning
 * a host number to one, does not compile.  They are the only integer types of
 * `*-abi.h` headers that describe memory shared with a guest or a file.
 */
#pragma once

#include <endian.h>
#include <stdint.h>
#include <string.h>

typedef struct {
	uint16_t raw;
} le16;
typedef struct {
	uint32_t raw;
} le32;
typedef struct {
	uint64_t raw;
} le64;
typedef struct {
	uint32_t raw;
} be32;

static inline le16 le16_make(uint16_t v)
{
	return (le16){ htole16(v) };
}
static inline uint16_t le16_get(le16 v)
{
	return le16toh(v.raw);
}
static inline le32 le32_make(uint32_t v)
{
	return (le32){ htole32(v) };
}
static inline uint32_t le32_get(le32 v)
{
	return le32toh(v.raw);
}
static inline le64 le64_make(uint64_t v)
{
	return (le64){ htole64(v) };
}
static inline uint64_t le64_get(le64 v)
{
	return le64toh(v.raw);
}
static inline be32 be32_make(uint32_t v)
{
	return (be32){ htobe32(v) };
}
static inline uint32_t be32_get(be32 v)
{
	return be32toh(v.raw);
}

/* Unaligned little-endian access to a byte buffer; len is 1, 2, 4 or 8. */
static inline uint64_t bytes_get_le(const void *p, unsigned int len)
{
	uint64_t v = 0;

	memcpy(&v, p, len);
	return le64toh(v);
}

static inline void bytes_put_le(void *p, unsigned int len, uint64_t value)
{
	value = htole64(value);
	memcpy(p, &value, len);
}
