/* SPDX-License-Identifier: Apache-2.0 */
/*
 * org.brume.vm1.Job, one object a job; and jobs as the answer of a call
 *
 * Main loop.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-bus.h>

struct err;
struct job;
struct service;

int job_bus_register(struct service *service);
/* For its introspection: nothing behind it. */
int job_bus_add_vtable(sd_bus *bus, const char *path);

/* properties: enum job_property */
void job_bus_changed(struct service *service, struct job *job, uint32_t properties);
/* 1: canceling. 0: being authorised, as polkit_check(). */
int job_bus_cancel(struct service *service, sd_bus_message *m, struct job *job, struct err *err);
/* "o" path now, or, with wait, the same or the job's error when it ends. */
int job_bus_reply(sd_bus_message *call, struct job *job, bool wait);
