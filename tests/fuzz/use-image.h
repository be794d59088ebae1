/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A disk image in a descriptor, opened and used in a fixed way: for the harnesses of formats
 */
#pragma once

#include <stdbool.h>

struct block_format_ops;

/*
 * Every operation here and there, a flush, when writing a larger disk as well, closing.
 * The descriptor stays the caller's.  An image that is refused is refused with a text.
 */
void use_image(const struct block_format_ops *format, int fd, bool write);
