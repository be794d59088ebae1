/* SPDX-License-Identifier: Apache-2.0 */
/*
 * CRC-32C (Castagnoli), as of [MS-VHDX] 2.2.2: reflected polynomial 0x82f63b78
 */
#include "vmm/block/vhdx/internal.h"

uint32_t vhdx_crc32c(uint32_t crc, const void *data, size_t len)
{
	/* Of four bits: what is checked is at most a few hundred KiB, when an image is opened. */
	static const uint32_t table[16] = {
		0x00000000, 0x105ec76f, 0x20bd8ede, 0x30e349b1, 0x417b1dbc, 0x5125dad3,
		0x61c69362, 0x7198540d, 0x82f63b78, 0x92a8fc17, 0xa24bb5a6, 0xb21572c9,
		0xc38d26c4, 0xd3d3e1ab, 0xe330a81a, 0xf36e6f75,
	};
	const uint8_t *bytes = data;

	crc = ~crc;
	for (size_t i = 0; i < len; i++) {
		crc = table[(crc ^ bytes[i]) & 15] ^ (crc >> 4);
		crc = table[(crc ^ (bytes[i] >> 4)) & 15] ^ (crc >> 4);
	}
	return ~crc;
}

uint32_t vhdx_checksum(const void *data, size_t len, size_t off)
{
	static const uint8_t zero[4];
	const uint8_t *bytes = data;
	uint32_t crc = vhdx_crc32c(0, bytes, off);

	crc = vhdx_crc32c(crc, zero, sizeof(zero));
	return vhdx_crc32c(crc, bytes + off + sizeof(zero), len - off - sizeof(zero));
}
