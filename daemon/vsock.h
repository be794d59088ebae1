/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Connections that a guest makes to its host
 *
 * A worker reaches nothing by itself: for each it asks (VSockWanted of
 * protocol.h), the daemon connects to "<vsock.socket>_<port>" on a helper thread
 * and hands the socket over.  A guest can cause these as often as it likes, so
 * there are only so many at a time; the others are refused, and after
 * 512, then 200 a second, get no answer, which the worker takes for a refusal.
 *
 * Main loop.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct machine;

void machine_vsock_wanted(struct machine *vm, uint32_t cookie, uint32_t port, bool seqpacket);
