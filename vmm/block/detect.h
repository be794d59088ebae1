/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an image looks like
 *
 * Never used to choose a format: a guest can write any header into a raw disk,
 * and what is then read as qcow2 may name files of the host.  It only finds the
 * mistake of a stated format that is not the image's.  Control thread.
 */
#pragma once

#include <stdbool.h>

struct err;

/*
 * stated: the format the image is said to have ("qcow2"), NULL = nothing was
 * said, which means raw.  0, or an error that names what was stated and found:
 * stated raw fits everything, as the guest chooses the contents.
 */
int block_check_stated(int fd, const char *stated, struct err *err);
/* "qcow2", "vhdx", "vhd", "vmdk"; NULL: none of them, or it cannot be read. */
const char *block_looks_like(int fd);
