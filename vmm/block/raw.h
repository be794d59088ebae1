/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an image's own file is like, for formats that keep a disk in one
 */
#pragma once

struct block_image;
struct block_image_params;
struct err;

/*
 * Checks that the descriptor fits params, sets or clears O_DIRECT, and fills ret in
 * as for a raw image: one file, its size, blocks, alignment, whether it can discard.
 */
int raw_inspect(int fd, const struct block_image_params *params, struct block_image *ret,
		struct err *err);
