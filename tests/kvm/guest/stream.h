/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-rng as the simplest device to see whether something works
 */
#pragma once

#include <stdbool.h>

struct virtio_device;

/* from reset: one buffer filled with something */
bool rng_works(struct virtio_device *dev);
