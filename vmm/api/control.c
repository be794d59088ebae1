/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/api/control.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <systemd/sd-bus.h>
#include <systemd/sd-id128.h>
#include <unistd.h>

#include "vmm/api/control-internal.h"
#include "vmm/api/protocol.h"
#include "vmm/base/err.h"
#include "vmm/base/fd.h"
#include "vmm/base/log.h"

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

/* Of a call that did not come behind what was handed over for it. */
static void close_bus(struct control *c)
{
	c->bus = sd_bus_close_unref(c->bus);
	if (c->vm)
		resources_drop_loose(&c->vm->resources);
}

/* Sees every message before the methods do. */
static int on_message(sd_bus_message *m, void *data, sd_bus_error *ret_error _unused_)
{
	struct control *c = data;

	if (sd_bus_message_get_bus(m) == c->visitor && !c->visitor_debugs &&
	    sd_bus_message_is_method_call(m, PROTOCOL_INTERFACE, NULL) > 0) {
		close_bus(c); /* the newer connection replaces the older */
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
		close_bus(c);
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
		control_end_process(c, WORKER_EXIT_OK);
	else if (vm_power_button(c->vm, &err) < 0)
		log_warning("%s", err.msg);
}

void control_reboot(struct control *c)
{
	struct err err = { 0 };

	if (!c->vm)
		control_end_process(c, WORKER_EXIT_OK);
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
	list_init(&c->connecting);
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
	control_devices_deinit(c);
	vm_free(c->vm);
	c->vm = NULL;
	resources_deinit(&c->resources);
	control_flush(c);
	sd_bus_close_unref(c->visitor);
	sd_bus_close_unref(c->bus);
	sd_event_source_disable_unref(c->listen_source);
	close(c->listen_fd);
	sd_event_unref(c->event);
	free(c);
}
