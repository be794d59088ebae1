/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/api/control-internal.h"

#include <poll.h>
#include <string.h>
#include <systemd/sd-daemon.h>

#include "vmm/api/protocol.h"
#include "vmm/base/log.h"

#define EVENTS_QUEUED_MAX 256

#define FLUSH_TRIES   10
#define FLUSH_STEP_MS 100

/* A daemon that is away asks with Query when it comes back. */
static void emit(struct control *c, sd_bus_message *m)
{
	int r = sd_bus_send(c->bus, m, NULL);

	if (r < 0)
		log_warning("cannot send a signal to the daemon: %s", strerror(-r));
}

void control_flush(struct control *c)
{
	struct pollfd pfd = { .events = POLLOUT };
	uint64_t queued = 0;

	if (!c->bus)
		return;
	pfd.fd = sd_bus_get_fd(c->bus);
	for (unsigned int i = 0; i < FLUSH_TRIES; i++) {
		if (sd_bus_get_n_queued_write(c->bus, &queued) < 0 || queued == 0)
			return;
		if (poll(&pfd, 1, FLUSH_STEP_MS) < 0 || sd_bus_process(c->bus, NULL) < 0)
			return;
	}
	log_warning("the daemon does not read: its last %lu messages are lost", queued);
}

void control_end_process(struct control *c, int status)
{
	control_flush(c);
	sd_notify(0, "STOPPING=1");
	sd_event_exit(c->event, status);
}

static void on_state_changed(enum vm_state from, enum vm_state to, const char *reason, void *data)
{
	struct control *c = data;

	if (c->bus) {
		_cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;

		if (sd_bus_message_new_signal(c->bus, &m, PROTOCOL_OBJECT, PROTOCOL_INTERFACE,
					      "StateChanged") >= 0 &&
		    sd_bus_message_append(m, "sss", vm_state_to_string(from),
					  vm_state_to_string(to), reason) >= 0)
			emit(c, m);
	}
	if (to == VM_STATE_SHUTDOWN)
		control_end_process(c, strcmp(reason, WORKER_REASON_TRIPLE_FAULT) == 0
					       ? WORKER_EXIT_TRIPLE_FAULT
					       : WORKER_EXIT_OK);
	else if (to == VM_STATE_FAILED)
		control_end_process(c, WORKER_EXIT_VM);
}

static sd_bus_message *event_new(struct control *c, const char *source, const char *name)
{
	sd_bus_message *m = NULL;
	uint64_t queued = 0;

	/* The guest causes them: while the daemon does not read, none are kept for it. */
	if (!c->bus || sd_bus_get_n_queued_write(c->bus, &queued) < 0 ||
	    queued > EVENTS_QUEUED_MAX ||
	    sd_bus_message_new_signal(c->bus, &m, PROTOCOL_OBJECT, PROTOCOL_INTERFACE, "Event") < 0)
		return NULL;
	if (sd_bus_message_append(m, "ss", source, name) < 0)
		return sd_bus_message_unref(m);
	return m;
}

static void on_debug_code(uint8_t code, uint64_t usec, void *data)
{
	struct control *c = data;
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *m = event_new(c, "guest", "debug-code");

	if (m && sd_bus_message_append(m, "a{sv}", 2, "code", "y", code, "usec", "t", usec) >= 0)
		emit(c, m);
}

static void on_device_changed(const char *id, bool active, void *data)
{
	struct control *c = data;
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *m =
		event_new(c, "virtio-device", active ? "activated" : "reset");

	if (m && sd_bus_message_append(m, "a{sv}", 1, "id", "s", id) >= 0)
		emit(c, m);
}

static void on_event(const char *source, const char *name, const char *id, void *data)
{
	struct control *c = data;
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *m = event_new(c, source, name);
	int r = -ENOMEM;

	if (m)
		r = id ? sd_bus_message_append(m, "a{sv}", 1, "id", "s", id)
		       : sd_bus_message_append(m, "a{sv}", 0);
	if (r >= 0)
		emit(c, m);
}

/* The guest causes them: while the daemon does not read, it is as if there were none. */
static bool on_vsock_wanted(uint32_t cookie, uint32_t port, bool seqpacket, void *data)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
	struct control *c = data;
	uint64_t queued = 0;

	if (!c->bus || sd_bus_get_n_queued_write(c->bus, &queued) < 0 ||
	    queued > EVENTS_QUEUED_MAX ||
	    sd_bus_message_new_signal(c->bus, &m, PROTOCOL_OBJECT, PROTOCOL_INTERFACE,
				      "VSockWanted") < 0 ||
	    sd_bus_message_append(m, "uub", cookie, port, (int)seqpacket) < 0)
		return false;
	emit(c, m);
	return true;
}

/* The event loop answers the watchdog, but not while a large machine's memory is emptied. */
static void on_getting_on(void *data _unused_)
{
	sd_notify(0, "WATCHDOG=1");
}

struct vm_listener control_listener(struct control *c)
{
	return (struct vm_listener){
		.state_changed = on_state_changed,
		.debug_code = on_debug_code,
		.device_changed = on_device_changed,
		.event = on_event,
		.values_changed = control_on_values_changed,
		.device_removed = control_on_device_removed,
		.removal_refused = control_on_removal_refused,
		.sizes_changed = control_on_sizes_changed,
		.resize_refused = control_on_resize_refused,
		.vsock_wanted = on_vsock_wanted,
		.getting_on = on_getting_on,
		.data = c,
	};
}
