/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a guest can ask of the whole machine through a register: whoever
 * composes the machine gives each such device this callback.  It is called on
 * the vCPU thread that made the access, holding no lock.
 */
#pragma once

enum machine_request {
	MACHINE_REQUEST_RESET,
	MACHINE_REQUEST_SHUTDOWN,
};

typedef void (*machine_request_fn)(void *data, enum machine_request request);
