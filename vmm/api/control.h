/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The worker's end of the control channel (protocol.h)
 *
 * Listens on the socket the daemon bound, serves one connection at a time, and
 * turns its calls into vm_*().  Owns the machine.  Control thread.
 */
#pragma once

#include <systemd/sd-event.h>

struct control;
struct err;

/* listen_fd: a listening AF_UNIX stream socket; taken over. */
int control_new(sd_event *event, int listen_fd, struct control **ret, struct err *err);
void control_free(struct control *control);

/* Signals from outside: the guest is asked; before Start, the process just ends. */
void control_power_button(struct control *control);
void control_reboot(struct control *control);
