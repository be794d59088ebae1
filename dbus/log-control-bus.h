/* SPDX-License-Identifier: Apache-2.0 */
/*
 * org.freedesktop.LogControl1: `systemctl service-log-level brumed debug`
 *
 * The one interface with a writable property: it is a standard, and sd-bus
 * refuses the write to anybody but root.  We log to stderr, whatever that is.
 *
 * Main loop.
 */
#pragma once

struct service;

int log_control_bus_register(struct service *service);
