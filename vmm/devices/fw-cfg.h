/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fw_cfg (QEMU docs/specs/fw_cfg): files for firmware and guest
 *
 * Ports 0x510: a selector of 16 bits, a data byte, and the address of a DMA
 * request in guest memory.  Entries are bytes in memory, or a part of a file that
 * is read as the guest asks; a file that shrinks meanwhile reads as zeros.
 *
 * The DMA request is the guest's: read once, then checked.  What it cannot mean is
 * answered with the error bit, and nothing can be written into an entry.
 *
 * Entries are made by the control thread before vCPUs run, at each start and
 * reset; registers are under fw->lock.
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "vmm/base/state.h"
#include "vmm/bus/bus.h"
#include "vmm/devices/fw-cfg-abi.h"

struct err;
struct guest_mem;

#define FW_CFG_PORTS       12
#define FW_CFG_ENTRIES_MAX 96

struct fw_cfg_state {
	uint64_t dma_gpa; /* the high half counts until the low one is written */
	uint32_t offset;  /* in the entry selected */
	uint16_t key;
	uint8_t pad[2];
};
extern const struct state_desc fw_cfg_state_desc;

struct fw_cfg_entry {
	uint16_t key;
	char name[FW_CFG_NAME_SIZE]; /* "": known by its key alone */
	uint32_t size;
	uint8_t *data; /* owned; NULL: in fd */
	int fd;        /* borrowed */
	uint64_t fd_off;
};

struct fw_cfg {
	struct bus_device region;
	struct guest_mem *mem;
	pthread_mutex_t lock;
	struct fw_cfg_state st; /* under lock */
	struct fw_cfg_entry entries[FW_CFG_ENTRIES_MAX];
	uint32_t n_entries;
};

/* Control thread. */
void fw_cfg_init(struct fw_cfg *fw, struct guest_mem *mem);
void fw_cfg_deinit(struct fw_cfg *fw);
/* Power-on state, and no entries but those of the device itself. */
int fw_cfg_reset(struct fw_cfg *fw, struct err *err);

/* A copy of data; by its key, or as a file by its name. */
int fw_cfg_add(struct fw_cfg *fw, uint16_t key, const void *data, size_t len, struct err *err);
int fw_cfg_add_u32(struct fw_cfg *fw, uint16_t key, uint32_t value, struct err *err);
int fw_cfg_add_file(struct fw_cfg *fw, const char *name, const void *data, size_t len,
		    struct err *err);
/* [off, off+len) of a file, which stays open as long as the device; name NULL: by its key. */
int fw_cfg_add_fd(struct fw_cfg *fw, uint16_t key, const char *name, int fd, uint64_t off,
		  uint64_t len, struct err *err);
/* The directory of the files added so far: after the last of them. */
int fw_cfg_seal(struct fw_cfg *fw, struct err *err);
