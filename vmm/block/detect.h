/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an image looks like
 *
 * Never used to choose a format: a guest can write any header into a raw disk,
 * and what is then read as qcow2 may name files of the host.  It only finds the
 * mistake of a stated format that is not the image's.  Control thread.
 */
#pragma once

struct err;

/*
 * stated: the format the image is said to have ("qcow2"), NULL = nothing was
 * said, which means raw.  0, or an error that names what was stated and found:
 * stated raw fits everything, as the guest chooses the contents.
 */
int block_check_stated(int fd, const char *stated, struct err *err);
/* The same for a file behind an image, the number-th; what is stated there comes from the image. */
int block_check_backing(int fd, const char *stated, unsigned int number, struct err *err);
/*
 * "qcow2", "vhdx", "vhd", "vmdk"; NULL: none of them, or it cannot be read.  A file may look like
 * two: a fixed VHD has its footer at the end, and before it what the guest has written.  Then it
 * is the one that is stated.
 */
const char *block_looks_like(int fd, const char *stated);
