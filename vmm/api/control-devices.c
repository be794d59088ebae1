/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is asked of devices, and what they tell (vmm/vm/devices.h)
 *
 * Values are told when they changed, at most ten times a second: a guest can
 * change them much faster, and the daemon announces each change to everybody.
 * While the daemon does not read, they wait.
 */
#include "vmm/api/control-internal.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "vmm/api/protocol.h"
#include "vmm/base/err.h"
#include "vmm/base/fd.h"
#include "vmm/base/log.h"
#include "vmm/config/vm-config.h"
#include "vmm/virtio/transport-pci.h"
#include "vmm/vm/devices.h"
#include "vmm/vm/limits.h"

#define TELL_USEC       (100 * 1000UL)
#define TELL_QUEUED_MAX 256

#define CONNECT_USEC (5 * 1000000UL) /* for the guest to accept a vsock connection */
#define CONNECTS_MAX 64
#define ANSWER_MAX   32 /* "OK 4294967295\n" */

/* --- values --- */

static int append_value(sd_bus_message *m, const struct vm_device_value *value)
{
	switch (value->type) {
	case VM_VALUE_BOOL:
		return sd_bus_message_append(m, "{sv}", value->name, "b", (int)value->b);
	case VM_VALUE_U64:
		return sd_bus_message_append(m, "{sv}", value->name, "t", value->u);
	case VM_VALUE_STRING:
		return sd_bus_message_append(m, "{sv}", value->name, "s", value->s);
	}
	return -EINVAL;
}

/* a{sv} */
int control_append_values_of(sd_bus_message *m, struct vm_device *dev)
{
	struct vm_device_value values[VM_DEVICE_VALUES_MAX];
	size_t n = dev->kind->values ? dev->kind->values(dev, values) : 0;
	int r = sd_bus_message_open_container(m, 'a', "{sv}");

	for (size_t i = 0; r >= 0 && i < n; i++)
		r = append_value(m, &values[i]);
	return r < 0 ? r : sd_bus_message_close_container(m);
}

int control_append_values(sd_bus_message *m, struct vm *vm)
{
	int r = control_open_list(m, "values", "{sa{sv}}");

	for (size_t i = 0; r >= 0 && vm && i < vm->n_devices; i++) {
		if (!vm->devices[i]->kind->values)
			continue;
		r = sd_bus_message_open_container(m, 'e', "sa{sv}");
		if (r >= 0)
			r = sd_bus_message_append(m, "s", vm->devices[i]->id);
		if (r >= 0)
			r = control_append_values_of(m, vm->devices[i]);
		if (r >= 0)
			r = sd_bus_message_close_container(m);
	}
	return r < 0 ? r : control_close_list(m);
}

static int tell(struct control *c, struct vm_device *dev)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
	int r;

	r = sd_bus_message_new_signal(c->bus, &m, PROTOCOL_OBJECT, PROTOCOL_INTERFACE,
				      "DeviceChanged");
	if (r >= 0)
		r = sd_bus_message_append(m, "s", dev->id);
	if (r >= 0)
		r = control_append_values_of(m, dev);
	return r < 0 ? r : sd_bus_send(c->bus, m, NULL);
}

static int on_tell_time(sd_event_source *source _unused_, uint64_t usec _unused_, void *data);

static void tell_at(struct control *c, uint64_t usec)
{
	int r;

	if (c->tell_timer) {
		r = sd_event_source_set_time(c->tell_timer, usec);
		if (r >= 0)
			r = sd_event_source_set_enabled(c->tell_timer, SD_EVENT_ONESHOT);
	} else {
		r = sd_event_add_time(c->event, &c->tell_timer, CLOCK_MONOTONIC, usec, 1,
				      on_tell_time, c);
	}
	if (r < 0)
		log_warning("cannot set a timer to tell of devices: %s", strerror(-r));
}

static int on_tell_time(sd_event_source *source _unused_, uint64_t usec _unused_, void *data)
{
	struct control *c = data;
	uint64_t now = 0, queued = 0;
	int r;

	sd_event_now(c->event, CLOCK_MONOTONIC, &now);
	c->next_tell_usec = now + TELL_USEC;
	/* One that connects later asks with Query. */
	if (!c->bus || !c->vm)
		return 0;
	if (sd_bus_get_n_queued_write(c->bus, &queued) < 0 || queued > TELL_QUEUED_MAX) {
		tell_at(c, c->next_tell_usec);
		return 0;
	}
	for (size_t i = 0; i < c->vm->n_devices; i++) {
		struct vm_device *dev = c->vm->devices[i];

		if (!dev->to_be_told)
			continue;
		dev->to_be_told = false;
		r = tell(c, dev);
		if (r < 0)
			log_warning("cannot tell the daemon of device '%s': %s", dev->id,
				    strerror(-r));
	}
	return 0;
}

void control_on_values_changed(struct vm_device *dev, void *data)
{
	struct control *c = data;
	uint64_t now = 0;
	int enabled = SD_EVENT_OFF;

	/* At once; the daemon bounds how many of these are told. */
	if (dev->vp && virtio_device_take_broken_news(dev->vp->dev))
		dev->vm->listener.event("virtio-device", "broken", dev->id, dev->vm->listener.data);
	dev->to_be_told = true;
	if (c->tell_timer && sd_event_source_get_enabled(c->tell_timer, &enabled) > 0)
		return;
	sd_event_now(c->event, CLOCK_MONOTONIC, &now);
	tell_at(c, MAX(now, c->next_tell_usec));
}

/* --- requests --- */

int control_on_set_link(sd_bus_message *m, void *data, sd_bus_error *ret_error)
{
	struct control *c = data;
	struct err err = { 0 };
	const char *id;
	int up, r;

	r = control_read(c, m, ret_error, "sb", &id, &up);
	if (r < 0)
		return r;
	return control_done(m, vm_set_link(c->vm, id, up, &err), &err, ret_error);
}

static int read_limit(sd_bus_message *m, struct rate_limit_config *ret)
{
	struct token_bucket_config *bandwidth = &ret->bandwidth, *ops = &ret->ops;
	int r;

	r = sd_bus_message_read(m, "tttttt", &bandwidth->size, &bandwidth->one_time_burst,
				&bandwidth->refill_time, &ops->size, &ops->one_time_burst,
				&ops->refill_time);
	ret->has_bandwidth = bandwidth->size > 0;
	ret->has_ops = ops->size > 0;
	return r;
}

int control_on_set_rate_limit(sd_bus_message *m, void *data, sd_bus_error *ret_error)
{
	struct rate_limit_config limit = { 0 };
	const char *id, *direction;
	struct control *c = data;
	struct err err = { 0 };
	int r;

	r = control_read(c, m, ret_error, "ss", &id, &direction);
	if (r >= 0)
		r = read_limit(m, &limit);
	if (r < 0)
		return r;
	r = vm_set_rate_limit(c->vm, id, direction, &limit, &err);
	return control_done(m, r, &err, ret_error);
}

int control_on_set_rate_limit_group(sd_bus_message *m, void *data, sd_bus_error *ret_error)
{
	struct rate_limit_config limit = { 0 };
	struct control *c = data;
	struct err err = { 0 };
	const char *group;
	int r;

	r = control_read(c, m, ret_error, "s", &group);
	if (r >= 0)
		r = read_limit(m, &limit);
	if (r < 0)
		return r;
	return control_done(m, vm_set_rate_limit_group(c->vm, group, &limit, &err), &err,
			    ret_error);
}

static int reply_values(sd_bus_message *m, struct vm_device *dev)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
	int r;

	r = sd_bus_message_new_method_return(m, &reply);
	if (r >= 0)
		r = control_append_values_of(reply, dev);
	return r < 0 ? r : sd_bus_send(NULL, reply, NULL);
}

int control_on_resize_disk(sd_bus_message *m, void *data, sd_bus_error *ret_error)
{
	struct control *c = data;
	struct err err = { 0 };
	const char *id;
	uint64_t bytes;
	int r;

	r = control_read(c, m, ret_error, "st", &id, &bytes);
	if (r < 0)
		return r;
	if (vm_resize_disk(c->vm, id, bytes, &err) < 0)
		return control_fail(ret_error, &err);
	return reply_values(m, vm_device_find(c->vm, id));
}

int control_on_replace_disk(sd_bus_message *m, void *data, sd_bus_error *ret_error)
{
	const char *id, *pointer, *type;
	struct control *c = data;
	struct err err = { 0 };
	int r;

	r = control_read(c, m, ret_error, "sss", &id, &pointer, &type);
	if (r < 0)
		return r;
	if (vm_replace_disk(c->vm, id, pointer, type, &err) < 0)
		return control_fail(ret_error, &err);
	return reply_values(m, vm_device_find(c->vm, id));
}

int control_on_set_balloon(sd_bus_message *m, void *data, sd_bus_error *ret_error)
{
	struct control *c = data;
	struct err err = { 0 };
	uint64_t bytes;
	int r;

	r = control_read(c, m, ret_error, "t", &bytes);
	if (r < 0)
		return r;
	return control_done(m, vm_set_balloon(c->vm, bytes, &err), &err, ret_error);
}

int control_on_set_console_size(sd_bus_message *m, void *data, sd_bus_error *ret_error)
{
	struct control *c = data;
	struct err err = { 0 };
	uint16_t columns, rows;
	const char *name;
	int r;

	r = control_read(c, m, ret_error, "sqq", &name, &columns, &rows);
	if (r < 0)
		return r;
	return control_done(m, vm_set_console_size(c->vm, name, columns, rows, &err), &err,
			    ret_error);
}

/* --- vsock: the answer is the guest's --- */

struct connecting {
	struct list link;
	sd_bus_message *call;
	int fd;
	uint32_t port;
	sd_event_source *io, *timer;
};

static void connecting_free(struct connecting *k)
{
	list_remove(&k->link);
	sd_event_source_disable_unref(k->io);
	sd_event_source_disable_unref(k->timer);
	sd_bus_message_unref(k->call);
	if (k->fd >= 0)
		close(k->fd);
	free(k);
}

static void connecting_fail(struct connecting *k, const struct err *err)
{
	sd_bus_error e = SD_BUS_ERROR_NULL;

	control_fail(&e, err);
	sd_bus_reply_method_error(k->call, &e);
	sd_bus_error_free(&e);
	connecting_free(k);
}

/* 1 when the line is whole and taken, 0 not yet, -errno. What follows it is the client's. */
static int take_answer(int fd)
{
	char line[ANSWER_MAX];
	const char *end;
	ssize_t n = recv(fd, line, sizeof(line), MSG_PEEK | MSG_DONTWAIT);

	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	if (n == 0)
		return -ECONNREFUSED;
	end = memchr(line, '\n', (size_t)n);
	if (!end)
		return n < (ssize_t)sizeof(line) ? 0 : -EPROTO;
	if (n < 3 || memcmp(line, "OK ", 3) != 0)
		return -EPROTO;
	n = recv(fd, line, (size_t)(end + 1 - line), MSG_DONTWAIT);
	return n < 0 ? -errno : 1;
}

static int on_connecting(sd_event_source *source _unused_, int fd _unused_,
			 uint32_t events _unused_, void *data)
{
	struct connecting *k = data;
	struct err err = { 0 };
	int r = take_answer(k->fd);

	if (r == 0)
		return 0;
	if (r < 0) {
		if (r == -ECONNREFUSED || r == -ECONNRESET)
			err_set(&err, ECONNREFUSED, "nobody listens on vsock port %u of the guest",
				k->port);
		else
			err_errno(&err, -r, "cannot connect to vsock port %u of the guest",
				  k->port);
		connecting_fail(k, &err);
		return 0;
	}
	r = sd_bus_reply_method_return(k->call, "h", k->fd);
	if (r < 0 && r != -ENOTCONN)
		log_warning("cannot reply to ConnectVSock: %s", strerror(-r));
	connecting_free(k);
	return 0;
}

static int on_connect_timeout(sd_event_source *source _unused_, uint64_t usec _unused_, void *data)
{
	struct connecting *k = data;
	struct err err = { 0 };

	err_fault(&err, FAULT_GUEST_TIMEOUT, ETIMEDOUT,
		  "the guest did not answer on vsock port %u within %lu s", k->port,
		  CONNECT_USEC / 1000000UL);
	connecting_fail(k, &err);
	return 0;
}

static int connect_start(struct control *c, sd_bus_message *m, uint32_t port, struct err *err)
{
	struct connecting *k, *other;
	unsigned int n = 0;
	int r;

	LIST_FOREACH(other, &c->connecting, link)
		n++;
	if (n >= CONNECTS_MAX)
		return err_fault(err, FAULT_BUSY, EBUSY,
				 "%u vsock connections wait for the guest already", n);
	k = calloc(1, sizeof(*k));
	if (!k)
		return err_set(err, ENOMEM, "out of memory for a vsock connection");
	list_append(&c->connecting, &k->link);
	k->call = sd_bus_message_ref(m);
	k->port = port;
	k->fd = -EBADF;
	r = vm_connect_vsock(c->vm, port, &k->fd, err);
	if (r >= 0) {
		r = sd_event_add_io(c->event, &k->io, k->fd, EPOLLIN, on_connecting, k);
		if (r >= 0)
			r = sd_event_add_time_relative(c->event, &k->timer, CLOCK_MONOTONIC,
						       CONNECT_USEC, 0, on_connect_timeout, k);
		if (r < 0)
			err_errno(err, -r, "cannot wait for the guest");
	}
	if (r < 0)
		connecting_free(k);
	return r;
}

int control_on_connect_vsock(sd_bus_message *m, void *data, sd_bus_error *ret_error)
{
	struct control *c = data;
	struct err err = { 0 };
	uint32_t port;
	int r;

	r = control_read(c, m, ret_error, "u", &port);
	if (r < 0)
		return r;
	return connect_start(c, m, port, &err) < 0 ? control_fail(ret_error, &err) : 1;
}

int control_on_accept_vsock(sd_bus_message *m, void *data, sd_bus_error *ret_error)
{
	struct control *c = data;
	struct err err = { 0 };
	uint32_t cookie;
	int fd, r;

	r = control_read(c, m, ret_error, "uh", &cookie, &fd);
	if (r < 0)
		return r;
	/* the message's own goes with it */
	return control_done(m, vm_answer_vsock(c->vm, cookie, fd_dup(fd), &err), &err, ret_error);
}

int control_on_refuse_vsock(sd_bus_message *m, void *data, sd_bus_error *ret_error)
{
	struct control *c = data;
	struct err err = { 0 };
	uint32_t cookie;
	int r;

	r = control_read(c, m, ret_error, "u", &cookie);
	if (r < 0)
		return r;
	r = vm_answer_vsock(c->vm, cookie, -ECONNREFUSED, &err);
	return control_done(m, r, &err, ret_error);
}

void control_devices_deinit(struct control *c)
{
	control_stop_reminding(c);
	sd_event_source_disable_unref(c->tell_timer);
	while (!list_empty(&c->connecting))
		connecting_free(container_of(c->connecting.next, struct connecting, link));
}
