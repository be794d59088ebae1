/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of the control channel share: connections (control.c), signals
 * (control-events.c), methods (control-methods.c) and answers about the machine
 * (control-query.c).  Control thread.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-bus.h>
#include <systemd/sd-event.h>

#include "vmm/base/list.h"
#include "vmm/vm/resources.h"
#include "vmm/vm/vm.h"

struct err;

struct control {
	sd_event *event;
	int listen_fd;
	sd_event_source *listen_source, *mailbox_source;
	sd_bus *bus; /* the daemon, or NULL between two of them */
	/*
	 * Who connected last and has not become the daemon: by its first call of ours it does,
	 * unless it greeted us like a bus before, as busctl does.  Then it is somebody who
	 * debugs; the daemon keeps its connection and the signals.
	 */
	sd_bus *visitor;
	bool visitor_debugs;
	struct resources resources; /* collected until Start */
	struct vm *vm;
	sd_event_source *tell_timer;   /* control-devices.c: values of devices */
	sd_event_source *remind_timer; /* control-hotplug.c: the guest is to look at something */
	unsigned int n_reminders;
	uint64_t next_tell_usec;
	struct list connecting; /* vsock connections the guest has not answered */
};

/* --- control-devices.c --- */

/* A member of Query's answer. */
int control_append_values(sd_bus_message *m, struct vm *vm);
/* The listener's; data: the struct control. */
void control_on_values_changed(struct vm_device *dev, void *data);
int control_on_set_link(sd_bus_message *m, void *data, sd_bus_error *ret_error);
int control_on_set_rate_limit(sd_bus_message *m, void *data, sd_bus_error *ret_error);
int control_on_set_rate_limit_group(sd_bus_message *m, void *data, sd_bus_error *ret_error);
int control_on_resize_disk(sd_bus_message *m, void *data, sd_bus_error *ret_error);
int control_on_replace_disk(sd_bus_message *m, void *data, sd_bus_error *ret_error);
int control_on_set_balloon(sd_bus_message *m, void *data, sd_bus_error *ret_error);
int control_on_set_console_size(sd_bus_message *m, void *data, sd_bus_error *ret_error);
int control_on_connect_vsock(sd_bus_message *m, void *data, sd_bus_error *ret_error);
int control_on_accept_vsock(sd_bus_message *m, void *data, sd_bus_error *ret_error);
int control_on_refuse_vsock(sd_bus_message *m, void *data, sd_bus_error *ret_error);
void control_devices_deinit(struct control *c);

/* a{sv} */
int control_append_values_of(sd_bus_message *m, struct vm_device *dev);

/* --- control-hotplug.c --- */

int control_on_add_device(sd_bus_message *m, void *data, sd_bus_error *ret_error);
int control_on_remove_device(sd_bus_message *m, void *data, sd_bus_error *ret_error);
int control_on_forget_removal(sd_bus_message *m, void *data, sd_bus_error *ret_error);
/* The listener's; data: the struct control. */
void control_on_device_removed(const char *id, void *data);
void control_on_removal_refused(const char *id, void *data);
int control_on_set_vcpus(sd_bus_message *m, void *data, sd_bus_error *ret_error);
int control_on_set_memory(sd_bus_message *m, void *data, sd_bus_error *ret_error);
void control_stop_reminding(struct control *c);
int control_on_set_memory_zone(sd_bus_message *m, void *data, sd_bus_error *ret_error);
int control_on_keep_memory(sd_bus_message *m, void *data, sd_bus_error *ret_error);
void control_on_sizes_changed(void *data);
void control_on_resize_refused(const char *what, void *data);
/* Members of a{sv}. */
int control_append_sizes(sd_bus_message *m, const struct vm *vm);

/* --- control-events.c --- */

/* What the machine tells, as signals; data: the struct control. */
struct vm_listener control_listener(struct control *c);
/* What is queued for the daemon, as far as it takes it: one that hangs does not keep us here. */
void control_flush(struct control *c);
void control_end_process(struct control *c, int status);

/* --- control-methods.c --- */

extern const sd_bus_vtable control_vtable[];

/* A method's failure. */
int control_fail(sd_bus_error *ret_error, const struct err *err);
/*
 * A call that needs the machine: its arguments, as of sd_bus_message_read().  Negative is what the
 * method returns: they cannot be read, or there is no machine yet.
 */
_must_check_ int control_read(struct control *c, sd_bus_message *m, sd_bus_error *ret_error,
			      const char *types, ...);
/* The answer to a call that has none but whether it was done. */
int control_done(sd_bus_message *m, int r, const struct err *err, sd_bus_error *ret_error);

/* --- control-query.c --- */

/* A member of an a{sv} that is an array of these; closed only when it was opened. */
int control_open_list(sd_bus_message *m, const char *name, const char *element);
int control_close_list(sd_bus_message *m);

int control_on_get_counters(sd_bus_message *m, void *data, sd_bus_error *ret_error);
int control_on_query(sd_bus_message *m, void *data, sd_bus_error *ret_error);
