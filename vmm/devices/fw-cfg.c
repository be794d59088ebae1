/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/devices/fw-cfg.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/math.h"
#include "vmm/memory/guest-memory.h"

#define PORT_SELECTOR 0
#define PORT_DATA     1
#define PORT_DMA      4
#define CHUNK         4096U
#define DMA_SIGNATURE "QEMU CFG"

static int fw_cfg_validate(const void *state, struct err *err)
{
	const struct fw_cfg_state *st = state;

	if (st->pad[0] || st->pad[1])
		return err_set(err, EBADMSG, "fw_cfg: padding is not zero");
	return 0;
}

#define F(kind, member) STATE_##kind(struct fw_cfg_state, member)
static const struct state_field fw_cfg_fields[] = {
	F(U64, dma_gpa),
	F(U32, offset),
	F(U16, key),
	F(BYTES, pad),
};
#undef F

const struct state_desc fw_cfg_state_desc = {
	.name = "fw-cfg",
	.version = 1,
	STATE_LAYOUT(struct fw_cfg_state, fw_cfg_fields),
	.validate = fw_cfg_validate,
};

static be32 be32_from(uint32_t v)
{
	return be32_make(v);
}

/* --- entries ----------------------------------------------------------------- */

static const struct fw_cfg_entry *find_entry(const struct fw_cfg *fw, uint16_t key)
{
	for (uint32_t i = 0; i < fw->n_entries; i++)
		if (fw->entries[i].key == key)
			return &fw->entries[i];
	return NULL;
}

static int add_entry(struct fw_cfg *fw, const struct fw_cfg_entry *entry, const char *name,
		     struct err *err)
{
	struct fw_cfg_entry *at = &fw->entries[fw->n_entries];

	if (fw->n_entries == FW_CFG_ENTRIES_MAX)
		return err_set(err, ENOSPC, "fw_cfg: more than %d entries", FW_CFG_ENTRIES_MAX);
	assert(!name || strlen(name) < FW_CFG_NAME_SIZE);
	*at = *entry;
	memset(at->name, 0, sizeof(at->name));
	if (name) {
		memcpy(at->name, name, strlen(name));
		at->key = (uint16_t)(FW_CFG_FILE_FIRST + fw->n_entries);
	}
	fw->n_entries++;
	return 0;
}

static int add_copy(struct fw_cfg *fw, uint16_t key, const char *name, const void *data, size_t len,
		    struct err *err)
{
	struct fw_cfg_entry entry = { .key = key, .fd = -EBADF, .size = (uint32_t)len };
	int r;

	assert(len <= UINT32_MAX);
	entry.data = malloc(len ? len : 1);
	if (!entry.data)
		return err_errno(err, ENOMEM, "fw_cfg");
	memcpy(entry.data, data, len);
	r = add_entry(fw, &entry, name, err);
	if (r < 0)
		free(entry.data);
	return r;
}

int fw_cfg_add(struct fw_cfg *fw, uint16_t key, const void *data, size_t len, struct err *err)
{
	return add_copy(fw, key, NULL, data, len, err);
}

int fw_cfg_add_u32(struct fw_cfg *fw, uint16_t key, uint32_t value, struct err *err)
{
	le32 le = le32_make(value);

	return add_copy(fw, key, NULL, &le, sizeof(le), err);
}

int fw_cfg_add_file(struct fw_cfg *fw, const char *name, const void *data, size_t len,
		    struct err *err)
{
	return add_copy(fw, 0, name, data, len, err);
}

int fw_cfg_add_fd(struct fw_cfg *fw, uint16_t key, const char *name, int fd, uint64_t off,
		  uint64_t len, struct err *err)
{
	const struct fw_cfg_entry entry = {
		.key = key, .size = (uint32_t)len, .fd = fd, .fd_off = off
	};

	if (len > UINT32_MAX)
		return err_set(err, EFBIG, "fw_cfg: a file of %llu bytes, must be below 4 GiB",
			       (unsigned long long)len);
	return add_entry(fw, &entry, name, err);
}

int fw_cfg_seal(struct fw_cfg *fw, struct err *err)
{
	struct fw_cfg_file files[FW_CFG_ENTRIES_MAX] = { 0 };
	_cleanup_free_ uint8_t *dir = NULL;
	be32 count;
	uint32_t n = 0;
	size_t len;

	for (uint32_t i = 0; i < fw->n_entries; i++) {
		const struct fw_cfg_entry *entry = &fw->entries[i];

		if (!entry->name[0])
			continue;
		files[n].size = be32_from(entry->size);
		files[n].key.raw = htobe16(entry->key);
		memcpy(files[n].name, entry->name, sizeof(files[n].name));
		n++;
	}
	count = be32_from(n);
	len = sizeof(count) + n * sizeof(files[0]);
	dir = malloc(len);
	if (!dir)
		return err_errno(err, ENOMEM, "fw_cfg");
	memcpy(dir, &count, sizeof(count));
	memcpy(dir + sizeof(count), files, n * sizeof(files[0]));
	return fw_cfg_add(fw, FW_CFG_FILE_DIR, dir, len, err);
}

/* len bytes at off; behind the end there are zeros. */
static void entry_read(const struct fw_cfg_entry *entry, uint32_t off, uint8_t *buf, uint32_t len)
{
	uint32_t there = entry && off < entry->size ? MIN(len, entry->size - off) : 0, done = 0;

	memset(buf, 0, len);
	if (there && entry->data)
		memcpy(buf, entry->data + off, there);
	while (!(there && entry->data) && done < there) {
		ssize_t n = pread(entry->fd, buf + done, there - done,
				  (off_t)(entry->fd_off + off + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break; /* it has shrunk, or cannot be read: zeros */
		done += (uint32_t)n;
	}
}

static void advance(struct fw_cfg *fw, uint32_t n)
{
	if (__builtin_add_overflow(fw->st.offset, n, &fw->st.offset))
		fw->st.offset = UINT32_MAX;
}

/* --- registers: vCPU threads, lock held ------------------------------------------ */

/* 0, or -errno: the request gets the error bit. */
static int dma_read(struct fw_cfg *fw, uint64_t gpa, uint32_t len)
{
	const struct fw_cfg_entry *entry = find_entry(fw, fw->st.key);
	uint8_t buf[CHUNK];

	if (!guest_covers(fw->mem, gpa, len))
		return -EFAULT;
	while (len > 0) {
		uint32_t n = MIN(len, CHUNK);
		int r;

		/* Behind the end it is zeros all the way. */
		if (!entry || fw->st.offset >= entry->size)
			return guest_fill(fw->mem, gpa, 0, len);
		entry_read(entry, fw->st.offset, buf, n);
		r = guest_write(fw->mem, gpa, buf, n);
		if (r < 0)
			return r;
		advance(fw, n);
		gpa += n;
		len -= n;
	}
	return 0;
}

static void dma(struct fw_cfg *fw)
{
	uint64_t gpa = fw->st.dma_gpa;
	struct fw_cfg_dma request;
	uint32_t control;
	int r = 0;

	fw->st.dma_gpa = 0;
	/* Nowhere to say what is wrong. */
	if (guest_read(fw->mem, gpa, &request, sizeof(request)) < 0)
		return;
	control = be32_get(request.control);
	if (control & FW_CFG_DMA_SELECT) {
		fw->st.key = (uint16_t)(control >> 16);
		fw->st.offset = 0;
	}
	/* As QEMU: read before write before skip. */
	if (control & FW_CFG_DMA_READ)
		r = dma_read(fw, be64toh(request.address.raw), be32_get(request.length));
	else if (control & FW_CFG_DMA_WRITE)
		r = -EACCES;
	else if (control & FW_CFG_DMA_SKIP)
		advance(fw, be32_get(request.length));
	request.control = be32_from(r < 0 ? FW_CFG_DMA_ERROR : 0);
	(void)!guest_write(fw->mem, gpa, &request.control, sizeof(request.control));
}

static void fw_cfg_read(struct bus_device *dev, uint64_t off, void *data, uint32_t len)
{
	struct fw_cfg *fw = container_of(dev, struct fw_cfg, region);
	uint8_t *bytes = data;

	memset(data, 0, len);
	pthread_mutex_lock(&fw->lock);
	if (off == PORT_DATA && len == 1) {
		entry_read(find_entry(fw, fw->st.key), fw->st.offset, bytes, 1);
		advance(fw, 1);
	} else if (off >= PORT_DMA) {
		for (uint32_t i = 0; i < len; i++)
			bytes[i] = (uint8_t)DMA_SIGNATURE[off - PORT_DMA + i];
	}
	pthread_mutex_unlock(&fw->lock);
}

/* Big endian, by halves or whole: writing the low half starts the request. */
static void dma_write(struct fw_cfg *fw, uint64_t off, const void *data, uint32_t len)
{
	uint64_t value = bytes_get_le(data, len);

	if (off == PORT_DMA && len == 4) {
		fw->st.dma_gpa = (uint64_t)be32toh((uint32_t)value) << 32;
	} else if (off == PORT_DMA + 4 && len == 4) {
		fw->st.dma_gpa |= be32toh((uint32_t)value);
		dma(fw);
	} else if (off == PORT_DMA && len == 8) {
		fw->st.dma_gpa = be64toh(value);
		dma(fw);
	}
}

static void fw_cfg_write(struct bus_device *dev, uint64_t off, const void *data, uint32_t len)
{
	struct fw_cfg *fw = container_of(dev, struct fw_cfg, region);

	pthread_mutex_lock(&fw->lock);
	if (off == PORT_SELECTOR && len == 2) {
		fw->st.key = (uint16_t)bytes_get_le(data, 2);
		fw->st.offset = 0;
	} else if (off >= PORT_DMA && (len == 4 || len == 8)) {
		dma_write(fw, off, data, len);
	}
	pthread_mutex_unlock(&fw->lock);
}

static const struct bus_ops region_ops = {
	.name = "fw-cfg",
	.read = fw_cfg_read,
	.write = fw_cfg_write,
};

/* --- control thread ------------------------------------------------------------- */

void fw_cfg_init(struct fw_cfg *fw, struct guest_mem *mem)
{
	*fw = (struct fw_cfg){ .region.ops = &region_ops, .mem = mem };
	pthread_mutex_init(&fw->lock, NULL);
}

static void clear(struct fw_cfg *fw)
{
	for (uint32_t i = 0; i < fw->n_entries; i++)
		free(fw->entries[i].data);
	fw->n_entries = 0;
}

void fw_cfg_deinit(struct fw_cfg *fw)
{
	if (!fw->mem)
		return;
	clear(fw);
	pthread_mutex_destroy(&fw->lock);
	fw->mem = NULL;
}

int fw_cfg_reset(struct fw_cfg *fw, struct err *err)
{
	int r;

	pthread_mutex_lock(&fw->lock);
	clear(fw);
	fw->st = (struct fw_cfg_state){ 0 };
	r = fw_cfg_add(fw, FW_CFG_SIGNATURE, "QEMU", 4, err);
	if (r >= 0)
		r = fw_cfg_add_u32(fw, FW_CFG_ID, FW_CFG_ID_TRADITIONAL | FW_CFG_ID_DMA, err);
	pthread_mutex_unlock(&fw->lock);
	return r;
}
