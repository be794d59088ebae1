/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzzing of fw_cfg's registers: accesses of any width, {u8 op, u8 offset, u64 value} each, and
 * behind an op of DMA a request {le32 control, le32 length, le64 address, le64 place}
 */
#include <assert.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vmm/base/math.h"
#include "vmm/devices/fw-cfg.h"
#include "vmm/memory/guest-memory.h"

#define RAM (256 * KIB)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct guest_mem mem;
static struct fw_cfg fw;
static int fd;

static void set_up(void)
{
	static const struct guest_mem_params params = { .size = RAM };
	int r = guest_mem_init(&mem, NULL, &params, NULL);

	assert(r == 0);
	fd = memfd_create("item", MFD_CLOEXEC);
	r = ftruncate(fd, 10000);
	assert(r == 0);
	fw_cfg_init(&fw, &mem);
}

static void access_port(const uint8_t *data)
{
	uint32_t len = 1U << (data[0] >> 4 & 3);
	uint64_t off = data[1] % FW_CFG_PORTS;
	uint8_t buf[8];

	memcpy(buf, data + 2, sizeof(buf));
	if (off + len > FW_CFG_PORTS)
		return;
	if (data[0] & 1)
		fw.region.ops->write(&fw.region, off, buf, len);
	else
		fw.region.ops->read(&fw.region, off, buf, len);
}

static void request(const uint8_t *data)
{
	const struct fw_cfg_dma dma = {
		be32_make((uint32_t)bytes_get_le(data, 4)),
		be32_make((uint32_t)bytes_get_le(data + 4, 4)),
		{ htobe64(bytes_get_le(data + 8, 8)) },
	};
	uint64_t at = htobe64(bytes_get_le(data + 16, 8));
	struct fw_cfg_dma after;

	if (guest_write(&mem, be64toh(at), &dma, sizeof(dma)) < 0)
		memset(&after, 0, sizeof(after));
	fw.region.ops->write(&fw.region, 4, &at, sizeof(at));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (!mem.n_regions)
		set_up();
	if (fw_cfg_reset(&fw, NULL) < 0 || fw_cfg_add_file(&fw, "opt/a", "hello", 5, NULL) < 0 ||
	    fw_cfg_add_fd(&fw, 0, "opt/b", fd, 10, 9990, NULL) < 0 || fw_cfg_seal(&fw, NULL) < 0)
		assert(0);
	for (unsigned int i = 0; i < 64 && size >= 10; i++) {
		bool dma = data[0] & 0x80 && size >= 25;

		if (dma)
			request(data + 1);
		else
			access_port(data);
		data += dma ? 25 : 10;
		size -= dma ? 25 : 10;
	}
	return 0;
}
