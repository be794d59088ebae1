/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a qcow2 file is based on, for the daemon
 *
 * The daemon opens all files of a chain before the worker sees any of them, so
 * it has to read this much of files that others wrote.  Needs vmm/base only, and
 * allocates the same small buffer whatever the file says.
 *
 * Any thread; it blocks as reading a file does.
 */
#pragma once

#include "vmm/block/qcow2/header.h"

struct err;

struct qcow2_backing {
	char name[QCOW2_BACKING_NAME_MAX + 1];  /* empty: no backing file */
	char format[QCOW2_FORMAT_NAME_MAX + 1]; /* as the file has it; empty: not stated */
};

/* 0; -EINVAL, -ENOTSUP: no qcow2 file that would work; other -errno: it cannot be read. */
int qcow2_read_backing(int fd, struct qcow2_backing *ret, struct err *err);
