/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fw_cfg from the guest's side: selector, data port, DMA, and requests that are wrong
 */
#include "vmm/devices/fw-cfg.h"

#include <errno.h>
#include <glib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/math.h"
#include "vmm/memory/guest-memory.h"

#define RAM       (4 * MIB)
#define DMA_GPA   0x1000ULL
#define HERE_GPA  0x2000ULL
#define FILE_SIZE 10000U

struct fixture {
	struct guest_mem mem;
	struct fw_cfg fw;
	int fd;
};

static void setup(struct fixture *f)
{
	const struct guest_mem_params params = { .size = RAM };
	struct err err = { 0 };
	uint8_t byte;

	g_assert_cmpint(guest_mem_init(&f->mem, NULL, &params, &err), ==, 0);
	f->fd = memfd_create("file", MFD_CLOEXEC);
	for (unsigned int i = 0; i < FILE_SIZE; i++) {
		byte = (uint8_t)(i * 7);
		g_assert_cmpint(pwrite(f->fd, &byte, 1, i), ==, 1);
	}
	fw_cfg_init(&f->fw, &f->mem);
	g_assert_cmpint(fw_cfg_reset(&f->fw, &err), ==, 0);
	g_assert_cmpint(fw_cfg_add_file(&f->fw, "opt/text", "hello", 5, &err), ==, 0);
	g_assert_cmpint(fw_cfg_add_fd(&f->fw, 0, "opt/file", f->fd, 100, FILE_SIZE - 100, &err), ==,
			0);
	g_assert_cmpint(fw_cfg_add_u32(&f->fw, FW_CFG_CMDLINE_SIZE, 77, &err), ==, 0);
	g_assert_cmpint(fw_cfg_seal(&f->fw, &err), ==, 0);
}

static void teardown(struct fixture *f)
{
	fw_cfg_deinit(&f->fw);
	guest_mem_deinit(&f->mem);
	close(f->fd);
}

static void select_key(struct fixture *f, uint16_t key)
{
	f->fw.region.ops->write(&f->fw.region, 0, &key, 2);
}

static void read_port(struct fixture *f, void *buf, size_t len)
{
	for (size_t i = 0; i < len; i++)
		f->fw.region.ops->read(&f->fw.region, 1, (uint8_t *)buf + i, 1);
}

static void put32(struct fixture *f, uint64_t off, uint32_t value)
{
	value = htobe32(value);
	f->fw.region.ops->write(&f->fw.region, off, &value, 4);
}

/* Returns what the control word is afterwards. */
static uint32_t dma(struct fixture *f, uint64_t at, uint32_t control, uint32_t len, uint64_t gpa)
{
	struct fw_cfg_dma request = { be32_make(control), be32_make(len), { htobe64(gpa) } };

	if (guest_write(&f->mem, at, &request, sizeof(request)) < 0)
		request.control = be32_make(0);
	put32(f, 4, (uint32_t)(at >> 32));
	put32(f, 8, (uint32_t)at);
	(void)!guest_read(&f->mem, at, &request, sizeof(request));
	return be32_get(request.control);
}

/* The key of a file, from the directory. */
static uint16_t find(struct fixture *f, const char *name, uint32_t *ret_size)
{
	struct fw_cfg_file file;
	be32 count;

	select_key(f, FW_CFG_FILE_DIR);
	read_port(f, &count, sizeof(count));
	for (uint32_t i = 0; i < be32_get(count); i++) {
		read_port(f, &file, sizeof(file));
		*ret_size = be32_get(file.size);
		if (strcmp(file.name, name) == 0)
			return be16toh(file.key.raw);
	}
	g_error("no file '%s'", name);
}

static void test_port(void)
{
	struct fixture f;
	uint8_t buf[16];
	uint32_t size;
	uint16_t key;
	char sig[4];
	uint64_t dma_signature = 0;

	setup(&f);
	select_key(&f, FW_CFG_SIGNATURE);
	read_port(&f, sig, 4);
	g_assert_cmpmem(sig, 4, "QEMU", 4);
	select_key(&f, FW_CFG_ID);
	read_port(&f, buf, 4);
	g_assert_cmpuint(bytes_get_le(buf, 4), ==, 3);
	f.fw.region.ops->read(&f.fw.region, 4, &dma_signature, 8);
	g_assert_cmpmem(&dma_signature, 8, "QEMU CFG", 8);
	select_key(&f, FW_CFG_CMDLINE_SIZE);
	read_port(&f, buf, 8);
	g_assert_cmpuint(bytes_get_le(buf, 8), ==, 77); /* behind the end: zeros */
	key = find(&f, "opt/text", &size);
	g_assert_cmpuint(size, ==, 5);
	select_key(&f, key);
	read_port(&f, buf, 6);
	g_assert_cmpmem(buf, 6, "hello", 6);
	key = find(&f, "opt/file", &size);
	g_assert_cmpuint(size, ==, FILE_SIZE - 100);
	select_key(&f, key);
	read_port(&f, buf, 2);
	g_assert_cmpuint(buf[0], ==, (uint8_t)(100 * 7));
	select_key(&f, 0x7777); /* nothing there */
	read_port(&f, buf, 2);
	g_assert_cmpuint(buf[0], ==, 0);
	teardown(&f);
}

static void test_dma(void)
{
	struct fixture f;
	g_autofree uint8_t *got = g_malloc(FILE_SIZE);
	uint32_t size;
	uint16_t key;

	setup(&f);
	key = find(&f, "opt/file", &size);
	g_assert_cmpint(guest_fill(&f.mem, HERE_GPA, 0xee, FILE_SIZE), ==, 0);
	g_assert_cmphex(dma(&f, DMA_GPA, (uint32_t)key << 16 | FW_CFG_DMA_SELECT | FW_CFG_DMA_READ,
			    FILE_SIZE, HERE_GPA),
			==, 0);
	g_assert_cmpint(guest_read(&f.mem, HERE_GPA, got, FILE_SIZE), ==, 0);
	for (unsigned int i = 0; i < FILE_SIZE; i++)
		g_assert_cmpuint(got[i], ==, i < FILE_SIZE - 100 ? (uint8_t)((i + 100) * 7) : 0);
	/* skip, then go on reading */
	g_assert_cmphex(dma(&f, DMA_GPA, (uint32_t)key << 16 | FW_CFG_DMA_SELECT | FW_CFG_DMA_SKIP,
			    5000, 0),
			==, 0);
	g_assert_cmphex(dma(&f, DMA_GPA, FW_CFG_DMA_READ, 1, HERE_GPA), ==, 0);
	g_assert_cmpint(guest_read(&f.mem, HERE_GPA, got, 1), ==, 0);
	g_assert_cmpuint(got[0], ==, (uint8_t)(5100 * 7));
	/* the file shrinks: zeros */
	g_assert_cmpint(ftruncate(f.fd, 200), ==, 0);
	g_assert_cmphex(dma(&f, DMA_GPA, (uint32_t)key << 16 | FW_CFG_DMA_SELECT | FW_CFG_DMA_READ,
			    200, HERE_GPA),
			==, 0);
	g_assert_cmpint(guest_read(&f.mem, HERE_GPA, got, 200), ==, 0);
	g_assert_cmpuint(got[99], ==, (uint8_t)(199 * 7));
	g_assert_cmpuint(got[100], ==, 0);
	teardown(&f);
}

static void test_hostile(void)
{
	static const struct {
		uint64_t at;
		uint32_t control, len;
		uint64_t gpa;
		uint32_t want;
	} cases[] = {
		{ DMA_GPA, FW_CFG_DMA_READ, 4096, RAM - 1, FW_CFG_DMA_ERROR },
		{ DMA_GPA, FW_CFG_DMA_READ, UINT32_MAX, 0, FW_CFG_DMA_ERROR },
		{ DMA_GPA, FW_CFG_DMA_READ, 16, UINT64_MAX - 3, FW_CFG_DMA_ERROR },
		{ DMA_GPA, FW_CFG_DMA_READ, 0, UINT64_MAX, 0 },
		{ DMA_GPA, FW_CFG_DMA_WRITE, 4, HERE_GPA, FW_CFG_DMA_ERROR },
		{ DMA_GPA, FW_CFG_DMA_SKIP, UINT32_MAX, 0, 0 },
		{ DMA_GPA, FW_CFG_DMA_SKIP, UINT32_MAX, 0, 0 },
		{ DMA_GPA, FW_CFG_DMA_READ, 64, HERE_GPA, 0 },
		{ DMA_GPA, 0xffffffe0, 64, HERE_GPA, 0 },
		{ DMA_GPA, FW_CFG_DMA_READ, 64, DMA_GPA - 8, 0 }, /* over the request itself */
		{ RAM - 8, FW_CFG_DMA_READ, 64, HERE_GPA, 0 },    /* not there: nothing happens */
		{ 1ULL << 40, FW_CFG_DMA_READ, 64, HERE_GPA, 0 },
	};
	struct fixture f;
	uint64_t all = UINT64_MAX;
	uint8_t byte = 1;

	setup(&f);
	for (size_t i = 0; i < G_N_ELEMENTS(cases); i++)
		g_assert_cmphex(dma(&f, cases[i].at, cases[i].control, cases[i].len, cases[i].gpa),
				==, cases[i].want);
	/* widths that mean nothing */
	for (uint32_t off = 0; off < FW_CFG_PORTS; off++)
		for (uint32_t len = 1; len <= 8 && off + len <= FW_CFG_PORTS; len *= 2) {
			f.fw.region.ops->write(&f.fw.region, off, &all, len);
			f.fw.region.ops->read(&f.fw.region, off, &all, len);
		}
	select_key(&f, FW_CFG_SIGNATURE);
	read_port(&f, &byte, 1);
	g_assert_cmpuint(byte, ==, 'Q');
	teardown(&f);
}

static void test_limits(void)
{
	struct fixture f;
	struct err err = { 0 };
	int r = 0;

	setup(&f);
	g_assert_cmpint(fw_cfg_add_fd(&f.fw, 0, "opt/big", f.fd, 0, 1ULL << 32, &err), ==, -EFBIG);
	err_clear(&err);
	for (unsigned int i = 0; r == 0 && i < 2 * FW_CFG_ENTRIES_MAX; i++)
		r = fw_cfg_add_u32(&f.fw, (uint16_t)(0x1000 + i), i, &err);
	g_assert_cmpint(r, ==, -ENOSPC);
	g_assert_cmpstr(err.msg, ==, "fw_cfg: more than 96 entries");
	teardown(&f);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/devices/fw-cfg/port", test_port);
	g_test_add_func("/devices/fw-cfg/dma", test_dma);
	g_test_add_func("/devices/fw-cfg/hostile", test_hostile);
	g_test_add_func("/devices/fw-cfg/limits", test_limits);
	return g_test_run();
}
