/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/api/control.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <systemd/sd-bus.h>
#include <systemd/sd-daemon.h>
#include <systemd/sd-id128.h>

#include "dbus/variant.h"
#include "dbus/worker-error.h"
#include "vmm/api/protocol.h"
#include "vmm/base/err.h"
#include "vmm/base/fd.h"
#include "vmm/base/log.h"
#include "vmm/pci/segment.h"
#include "vmm/virtio/transport-pci.h"
#include "vmm/vm/vm.h"

#define START_USEC              (90 * 1000000UL) /* what the unit allows anyway */
#define PREFAULT_BYTES_PER_USEC 128              /* one slow thread of a host under load */

#define EVENTS_QUEUED_MAX 256

#define FLUSH_TRIES   10
#define FLUSH_STEP_MS 100

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
	uint32_t boot_vcpus;
	uint64_t memory_size;
};

/* --- signals to the daemon --- */

/* A daemon that is away asks with Query when it comes back. */
static void emit(struct control *c, sd_bus_message *m)
{
	int r = sd_bus_send(c->bus, m, NULL);

	if (r < 0)
		log_warning("cannot send a signal to the daemon: %s", strerror(-r));
}

/* What is queued for the daemon, as far as it takes it: one that hangs does not keep us here. */
static void flush_bus(struct control *c)
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

static void end_process(struct control *c, int status)
{
	flush_bus(c);
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
		end_process(c, strcmp(reason, WORKER_REASON_TRIPLE_FAULT) == 0
				       ? WORKER_EXIT_TRIPLE_FAULT
				       : WORKER_EXIT_OK);
	else if (to == VM_STATE_FAILED)
		end_process(c, WORKER_EXIT_VM);
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

/* The event loop answers the watchdog, but not while a large machine's memory is emptied. */
static void on_getting_on(void *data _unused_)
{
	sd_notify(0, "WATCHDOG=1");
}

/* --- methods --- */

static int fail(sd_bus_error *ret_error, const struct err *err)
{
	return worker_error_from_err(ret_error, err);
}

static int no_vm(sd_bus_error *ret_error)
{
	struct err err = { 0 };

	err_fault(&err, FAULT_WRONG_STATE, EPROTO, "the machine has not been started");
	return fail(ret_error, &err);
}

static int on_hello(sd_bus_message *m, void *data, sd_bus_error *ret_error _unused_)
{
	struct control *c = data;
	const char *state = vm_state_to_string(c->vm ? c->vm->state : VM_STATE_CREATED);

	return sd_bus_reply_method_return(m, "uus", PROTOCOL_VERSION, (uint32_t)getpid(), state);
}

static int on_add_resources(sd_bus_message *m, void *data, sd_bus_error *ret_error)
{
	struct control *c = data;
	struct err err = { 0 };
	const char *name;
	int fd, copy, r;

	r = sd_bus_message_enter_container(m, 'a', "{sh}");
	if (r < 0)
		return r;
	while ((r = sd_bus_message_read(m, "{sh}", &name, &fd)) > 0) {
		copy = fd_dup(fd);
		if (copy < 0)
			return copy;
		r = resources_add(&c->resources, name, copy, &err);
		if (r < 0)
			return fail(ret_error, &err);
	}
	return r < 0 ? r : sd_bus_reply_method_return(m, NULL);
}

static int on_mail(sd_event_source *source _unused_, int fd _unused_, uint32_t events _unused_,
		   void *data)
{
	struct control *c = data;

	vm_dispatch(c->vm);
	return 0;
}

static int read_start(sd_bus_message *m, struct vm_config **ret, bool *ret_paused, struct err *err)
{
	_cleanup_(g_variant_unref_cleanup) GVariant *dict = NULL, *options = NULL;
	gboolean paused = FALSE;
	int r;

	r = variant_from_message(m, "a{sv}", &dict, err);
	if (r < 0)
		return r;
	r = variant_from_message(m, "a{sv}", &options, err);
	if (r < 0)
		return r;
	g_variant_lookup(options, "paused", "b", &paused);
	r = vm_config_parse(dict, ret, err);
	if (r < 0)
		return r;
	*ret_paused = paused;
	return 0;
}

/* Takes the configuration over. */
static int build_and_boot(struct control *c, struct vm_config *config, bool paused, struct err *err)
{
	const struct vm_listener listener = {
		.state_changed = on_state_changed,
		.debug_code = on_debug_code,
		.device_changed = on_device_changed,
		.getting_on = on_getting_on,
		.data = c,
	};
	int r;

	r = vm_new(config, &c->resources, &listener, &c->vm, err);
	if (r < 0)
		return r;
	r = sd_event_add_io(c->event, &c->mailbox_source, c->vm->mailbox.fd, EPOLLIN, on_mail, c);
	if (r < 0) {
		err_errno(err, -r, "cannot watch the machine's mailbox");
	} else {
		r = vm_boot(c->vm, paused, err);
	}
	if (r < 0) {
		c->mailbox_source = sd_event_source_disable_unref(c->mailbox_source);
		vm_free(TAKE_PTR(c->vm));
	}
	return r;
}

static int start(struct control *c, sd_bus_message *m, struct err *err)
{
	struct vm_config *config = NULL;
	bool paused = false;
	int r;

	if (c->vm)
		return err_fault(err, FAULT_WRONG_STATE, EPROTO,
				 "the machine has been started before");
	r = read_start(m, &config, &paused, err);
	if (r < 0)
		return r;
	/* READY comes when the vCPUs run; touching every page of a large machine takes its time. */
	if (config->memory.prefault)
		sd_notifyf(0, "EXTEND_TIMEOUT_USEC=%lu",
			   START_USEC + config->memory.size / PREFAULT_BYTES_PER_USEC);
	c->boot_vcpus = config->cpus.boot_vcpus;
	c->memory_size = config->memory.size;
	r = build_and_boot(c, config, paused, err);
	/* Wrong definitions say so themselves; the rest is memory, KVM, threads of the host. */
	if (r < 0 && err->fault == FAULT_NONE)
		err->fault = FAULT_HOST_RESOURCE;
	return r;
}

static int on_start(sd_bus_message *m, void *data, sd_bus_error *ret_error)
{
	struct control *c = data;
	struct err err = { 0 };
	int r = start(c, m, &err);

	if (r < 0) {
		log_error("cannot start the machine: %s", err.msg);
		return fail(ret_error, &err);
	}
	sd_notify(0, "READY=1\nSTATUS=running");
	return sd_bus_reply_method_return(m, NULL);
}

/* The methods that only have the machine do something. */
static int simple(sd_bus_message *m, struct control *c, int (*fn)(struct vm *vm, struct err *err),
		  sd_bus_error *ret_error)
{
	struct err err = { 0 };

	if (!c->vm)
		return no_vm(ret_error);
	if (fn(c->vm, &err) < 0)
		return fail(ret_error, &err);
	return sd_bus_reply_method_return(m, NULL);
}

static int on_pause(sd_bus_message *m, void *data, sd_bus_error *ret_error)
{
	return simple(m, data, vm_pause, ret_error);
}

static int on_resume(sd_bus_message *m, void *data, sd_bus_error *ret_error)
{
	return simple(m, data, vm_resume, ret_error);
}

static int on_reset(sd_bus_message *m, void *data, sd_bus_error *ret_error)
{
	return simple(m, data, vm_reset, ret_error);
}

static int on_power_button(sd_bus_message *m, void *data, sd_bus_error *ret_error)
{
	return simple(m, data, vm_power_button, ret_error);
}

static int on_reboot(sd_bus_message *m, void *data, sd_bus_error *ret_error)
{
	return simple(m, data, vm_reboot, ret_error);
}

static int on_inject_nmi(sd_bus_message *m, void *data, sd_bus_error *ret_error)
{
	return simple(m, data, vm_inject_nmi, ret_error);
}

static int on_quit(sd_bus_message *m, void *data, sd_bus_error *ret_error _unused_)
{
	struct control *c = data;
	int r = sd_bus_reply_method_return(m, NULL);

	if (c->vm && (c->vm->state == VM_STATE_RUNNING || c->vm->state == VM_STATE_PAUSED))
		vm_stop(c->vm, WORKER_REASON_REQUEST);
	else
		end_process(c, WORKER_EXIT_OK);
	return r;
}

static int on_open_console(sd_bus_message *m, void *data, sd_bus_error *ret_error)
{
	struct control *c = data;
	_cleanup_close_ int fd = -EBADF;
	struct err err = { 0 };
	int force, readonly, r;
	const char *name;

	r = sd_bus_message_read(m, "sbb", &name, &force, &readonly);
	if (r < 0)
		return r;
	if (!c->vm)
		return no_vm(ret_error);
	if (vm_open_console(c->vm, name, force, readonly, &fd, &err) < 0)
		return fail(ret_error, &err);
	return sd_bus_reply_method_return(m, "h", fd);
}

static int append_counters(sd_bus_message *reply, struct virtio_device *dev)
{
	const struct virtio_counter *counter;
	int r;

	if (!dev->ops->counters)
		return 0;
	r = sd_bus_message_open_container(reply, 'e', "sa{st}");
	if (r >= 0)
		r = sd_bus_message_append(reply, "s", dev->id);
	if (r >= 0)
		r = sd_bus_message_open_container(reply, 'a', "{st}");
	if (r < 0)
		return r;
	for (counter = dev->ops->counters(dev); counter->name; counter++) {
		/* relaxed: a figure, not a synchronisation */
		r = sd_bus_message_append(reply, "{st}", counter->name,
					  atomic_load_explicit(counter->value,
							       memory_order_relaxed));
		if (r < 0)
			return r;
	}
	r = sd_bus_message_close_container(reply);
	return r < 0 ? r : sd_bus_message_close_container(reply);
}

static int on_get_counters(sd_bus_message *m, void *data, sd_bus_error *ret_error _unused_)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
	struct control *c = data;
	int r;

	r = sd_bus_message_new_method_return(m, &reply);
	if (r >= 0)
		r = sd_bus_message_open_container(reply, 'a', "{sa{st}}");
	for (size_t i = 0; r >= 0 && c->vm && i < c->vm->n_devices; i++)
		r = append_counters(reply, c->vm->devices[i]->dev);
	if (r >= 0)
		r = sd_bus_message_close_container(reply);
	return r < 0 ? r : sd_bus_send(NULL, reply, NULL);
}

static const char *driver_state(const struct virtio_device *dev)
{
	return virtio_device_is_broken(dev) ? "broken" : dev->active ? "ok" : "inactive";
}

static int append_devices(sd_bus_message *reply, const struct vm *vm)
{
	char bdf[16];
	int r;

	r = sd_bus_message_open_container(reply, 'e', "sv");
	if (r >= 0)
		r = sd_bus_message_append(reply, "s", "devices");
	if (r >= 0)
		r = sd_bus_message_open_container(reply, 'v', "a(ssss)");
	if (r >= 0)
		r = sd_bus_message_open_container(reply, 'a', "(ssss)");
	for (size_t i = 0; r >= 0 && vm && i < vm->n_devices; i++) {
		const struct virtio_device *dev = vm->devices[i]->dev;

		pci_format_bdf(&vm->devices[i]->pci, bdf);
		r = sd_bus_message_append(reply, "(ssss)", dev->id, dev->ops->name, bdf,
					  driver_state(dev));
	}
	for (int depth = 0; r >= 0 && depth < 3; depth++)
		r = sd_bus_message_close_container(reply);
	return r;
}

static int append_consoles(sd_bus_message *reply, const char *const *consoles)
{
	int r;

	r = sd_bus_message_open_container(reply, 'e', "sv");
	if (r >= 0)
		r = sd_bus_message_append(reply, "s", "consoles");
	if (r >= 0)
		r = sd_bus_message_open_container(reply, 'v', "as");
	if (r >= 0)
		r = sd_bus_message_append_strv(reply, (char **)(uintptr_t)consoles);
	for (int depth = 0; r >= 0 && depth < 2; depth++)
		r = sd_bus_message_close_container(reply);
	return r;
}

static int on_query(sd_bus_message *m, void *data, sd_bus_error *ret_error _unused_)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
	struct control *c = data;
	const char *consoles[PLATFORM_CONSOLES_MAX + 1] = { NULL };
	int r;

	if (c->vm)
		platform_list_consoles(&c->vm->platform, consoles);
	r = sd_bus_message_new_method_return(m, &reply);
	if (r >= 0)
		r = sd_bus_message_open_container(reply, 'a', "{sv}");
	if (r >= 0)
		r = sd_bus_message_append(reply, "{sv}{sv}{sv}{sv}", "state", "s",
					  vm_state_to_string(c->vm ? c->vm->state
								   : VM_STATE_CREATED),
					  "vcpus", "u", c->vm ? c->boot_vcpus : 0, "memory", "t",
					  c->vm ? c->memory_size : 0, "boots", "u",
					  c->vm ? c->vm->boots : 0);
	if (r >= 0)
		r = append_consoles(reply, consoles);
	if (r >= 0)
		r = append_devices(reply, c->vm);
	if (r >= 0)
		r = sd_bus_message_close_container(reply);
	return r < 0 ? r : sd_bus_send(NULL, reply, NULL);
}

static const sd_bus_vtable control_vtable[] = {
	SD_BUS_VTABLE_START(0),
	SD_BUS_METHOD("Hello", NULL, "uus", on_hello, 0),
	SD_BUS_METHOD("AddResources", "a{sh}", NULL, on_add_resources, 0),
	SD_BUS_METHOD("Start", "a{sv}a{sv}", NULL, on_start, 0),
	SD_BUS_METHOD("Pause", NULL, NULL, on_pause, 0),
	SD_BUS_METHOD("Resume", NULL, NULL, on_resume, 0),
	SD_BUS_METHOD("Reset", NULL, NULL, on_reset, 0),
	SD_BUS_METHOD("Reboot", NULL, NULL, on_reboot, 0),
	SD_BUS_METHOD("PowerButton", NULL, NULL, on_power_button, 0),
	SD_BUS_METHOD("InjectNMI", NULL, NULL, on_inject_nmi, 0),
	SD_BUS_METHOD("Quit", NULL, NULL, on_quit, 0),
	SD_BUS_METHOD("OpenConsole", "sbb", "h", on_open_console, 0),
	SD_BUS_METHOD("GetCounters", NULL, "a{sa{st}}", on_get_counters, 0),
	SD_BUS_METHOD("Query", NULL, "a{sv}", on_query, 0),
	SD_BUS_SIGNAL("StateChanged", "sss", 0),
	SD_BUS_SIGNAL("Event", "ssa{sv}", 0),
	SD_BUS_VTABLE_END
};

/* --- the connections --- */

/* busctl --address=... takes any address for a bus and begins like this. */
static int on_bus_hello(sd_bus_message *m, void *data, sd_bus_error *ret_error _unused_)
{
	struct control *c = data;

	if (sd_bus_message_get_bus(m) == c->visitor)
		c->visitor_debugs = true;
	return sd_bus_reply_method_return(m, "s", ":1.1");
}

static const sd_bus_vtable greeting_vtable[] = { SD_BUS_VTABLE_START(0),
						 SD_BUS_METHOD("Hello", NULL, "s", on_bus_hello, 0),
						 SD_BUS_VTABLE_END };

/* Sees every message before the methods do. */
static int on_message(sd_bus_message *m, void *data, sd_bus_error *ret_error _unused_)
{
	struct control *c = data;

	if (sd_bus_message_get_bus(m) == c->visitor && !c->visitor_debugs &&
	    sd_bus_message_is_method_call(m, PROTOCOL_INTERFACE, NULL) > 0) {
		sd_bus_close_unref(c->bus); /* the newer connection replaces the older */
		c->bus = TAKE_PTR(c->visitor);
	}
	return 0;
}

static int on_disconnected(sd_bus_message *m, void *data, sd_bus_error *ret_error _unused_)
{
	struct control *c = data;

	/* Machines outlive the daemon: the next connection finds everything as it is. */
	if (sd_bus_message_get_bus(m) == c->bus) {
		log_info("the daemon has gone; waiting for the next one");
		c->bus = sd_bus_close_unref(c->bus);
	} else if (sd_bus_message_get_bus(m) == c->visitor) {
		c->visitor = sd_bus_close_unref(c->visitor);
	}
	return 0;
}

static int check_peer(int fd, struct err *err)
{
	struct ucred peer;
	socklen_t len = sizeof(peer);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0)
		return err_errno(err, errno, "cannot tell who connected");
	if (peer.uid != 0 && peer.uid != getuid())
		return err_set(err, EPERM, "a connection from uid %u was refused", peer.uid);
	return 0;
}

static int serve(struct control *c, int fd, struct err *err)
{
	_cleanup_close_ int owned = fd;
	_cleanup_(sd_bus_close_unrefp) sd_bus *bus = NULL;
	sd_id128_t id;
	int r;

	r = check_peer(fd, err);
	if (r < 0)
		return r;
	r = sd_id128_randomize(&id);
	if (r >= 0)
		r = sd_bus_new(&bus);
	if (r >= 0)
		r = sd_bus_set_fd(bus, fd, fd);
	if (r < 0)
		return err_errno(err, -r, "cannot set the control channel up");
	TAKE_FD(owned);
	r = sd_bus_set_server(bus, 1, id);
	if (r >= 0)
		r = sd_bus_negotiate_fds(bus, 1);
	/* Who may connect was decided above; there is no other check inside. */
	if (r >= 0)
		r = sd_bus_set_trusted(bus, 1);
	if (r >= 0)
		r = sd_bus_add_filter(bus, NULL, on_message, c);
	if (r >= 0)
		r = sd_bus_add_object_vtable(bus, NULL, PROTOCOL_OBJECT, PROTOCOL_INTERFACE,
					     control_vtable, c);
	if (r >= 0)
		r = sd_bus_add_object_vtable(bus, NULL, "/org/freedesktop/DBus",
					     "org.freedesktop.DBus", greeting_vtable, c);
	if (r >= 0)
		r = sd_bus_match_signal(bus, NULL, NULL, "/org/freedesktop/DBus/Local",
					"org.freedesktop.DBus.Local", "Disconnected",
					on_disconnected, c);
	if (r >= 0)
		r = sd_bus_start(bus);
	if (r >= 0)
		r = sd_bus_attach_event(bus, c->event, SD_EVENT_PRIORITY_NORMAL);
	if (r < 0)
		return err_errno(err, -r, "cannot set the control channel up");
	sd_bus_close_unref(c->visitor);
	c->visitor = TAKE_PTR(bus);
	c->visitor_debugs = false;
	return 0;
}

static int on_connect(sd_event_source *source _unused_, int fd, uint32_t events _unused_,
		      void *data)
{
	struct control *c = data;
	struct err err = { 0 };
	int peer = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (peer < 0)
		log_warning("control channel: cannot accept a connection: %s", strerror(errno));
	else if (serve(c, peer, &err) < 0)
		log_warning("control channel: %s", err.msg);
	return 0;
}

void control_power_button(struct control *c)
{
	struct err err = { 0 };

	if (!c->vm)
		end_process(c, WORKER_EXIT_OK);
	else if (vm_power_button(c->vm, &err) < 0)
		log_warning("%s", err.msg);
}

void control_reboot(struct control *c)
{
	struct err err = { 0 };

	if (!c->vm)
		end_process(c, WORKER_EXIT_OK);
	else if (vm_reboot(c->vm, &err) < 0)
		log_warning("%s", err.msg);
}

int control_new(sd_event *event, int listen_fd, struct control **ret, struct err *err)
{
	_cleanup_close_ int owned = listen_fd;
	struct control *c;
	int listening = 0, r;
	socklen_t len = sizeof(listening);

	if (getsockopt(listen_fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &len) < 0 || !listening)
		return err_set(err, EINVAL,
			       "standard input must be a listening AF_UNIX stream socket");
	c = calloc(1, sizeof(*c));
	if (!c)
		return err_set(err, ENOMEM, "out of memory");
	c->event = sd_event_ref(event);
	c->listen_fd = TAKE_FD(owned);
	r = fd_set_nonblock(c->listen_fd, true);
	if (r >= 0)
		r = sd_event_add_io(event, &c->listen_source, c->listen_fd, EPOLLIN, on_connect, c);
	if (r < 0) {
		control_free(c);
		return err_errno(err, -r, "cannot watch the control socket");
	}
	*ret = c;
	return 0;
}

void control_free(struct control *c)
{
	if (!c)
		return;
	sd_event_source_disable_unref(c->mailbox_source);
	vm_free(c->vm);
	c->vm = NULL;
	resources_deinit(&c->resources);
	flush_bus(c);
	sd_bus_close_unref(c->visitor);
	sd_bus_close_unref(c->bus);
	sd_event_source_disable_unref(c->listen_source);
	close(c->listen_fd);
	sd_event_unref(c->event);
	free(c);
}
