/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A worker without a VM: speaks vmm/api/protocol.h, for tests of the daemon
 *
 * How it behaves is chosen by words in the kernel command line of the VM's
 * configuration ("fake-start-fails"), and, for what happens before that is
 * known, by the environment variable FAKE_WORKER.
 */
#include "dbus/variant.h"
#include "dbus/worker-error.h"
#include "vmm/api/protocol.h"
#include "vmm/base/err.h"
#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <systemd/sd-bus.h>
#include <systemd/sd-event.h>
#include <unistd.h>

struct fake {
	sd_event *event;
	sd_bus *bus;
	const char *state;
	char *words; /* the command line */
	GVariant *config;
	GPtrArray *added; /* ids of disks and nets that came */
	GPtrArray *gone;  /* ids of devices that went */
	char *asked_for;  /* the device the guest was asked to let go of last */
	uint32_t n_asked;
	uint64_t memory; /* 0: says nothing of its size */
	GArray *offered; /* descriptors that came with devices while it runs */
	bool link_down;
	uint32_t boots, n_resources, n_buttons;
	bool rebooting;
	uint64_t n_images; /* that the disk d0 has had */
};

static bool has_word(const struct fake *fake, const char *word)
{
	return fake->words && strstr(fake->words, word);
}

static void set_state(struct fake *fake, const char *to, const char *reason)
{
	const char *from = fake->state;

	fake->state = to;
	if (fake->bus)
		sd_bus_emit_signal(fake->bus, PROTOCOL_OBJECT, PROTOCOL_INTERFACE, "StateChanged",
				   "sss", from, to, reason);
}

static void quit(struct fake *fake, const char *reason, int status)
{
	set_state(fake,
		  strcmp(reason, WORKER_REASON_INTERNAL_ERROR) ? WORKER_STATE_SHUTDOWN
							       : WORKER_STATE_FAILED,
		  reason);
	if (fake->bus)
		sd_bus_flush(fake->bus);
	exit(status);
}

static int method_hello(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	struct fake *fake = userdata;
	const char *mode = getenv("FAKE_WORKER");

	(void)error;
	if (mode && strcmp(mode, "silent") == 0)
		return 1;
	return sd_bus_reply_method_return(m, "uus",
					  mode && strcmp(mode, "old") == 0 ? 0U : PROTOCOL_VERSION,
					  (uint32_t)getpid(), fake->state);
}

static int method_add_resources(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	struct fake *fake = userdata;
	const char *pointer, *mode = getenv("FAKE_WORKER");
	struct err err = { 0 };
	int fd, r;

	if (mode && strcmp(mode, "no-resources") == 0) {
		err_fault(&err, FAULT_HOST_RESOURCE, EBADF, "the fake takes no resources");
		return worker_error_from_err(error, &err);
	}
	r = sd_bus_message_enter_container(m, 'a', "{sh}");
	/* Kept as long as it lives, as by a worker: what is at the other end of a socket sees it.
	 */
	while (r >= 0 && (r = sd_bus_message_read(m, "{sh}", &pointer, &fd)) > 0) {
		fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
		if (fd < 0)
			return -errno;
		fake->n_resources++;
		if (fake->boots > 0)
			g_array_append_val(fake->offered, fd);
	}
	return r < 0 ? r : sd_bus_reply_method_return(m, NULL);
}

static bool has_id(const GPtrArray *ids, const char *id)
{
	for (guint i = 0; i < ids->len; i++)
		if (strcmp(ids->pdata[i], id) == 0)
			return true;
	return false;
}

/* Disks and nets of its configuration, at addresses of their own. */
static int append_devices(struct fake *fake, sd_bus_message *reply)
{
	static const char *const keys[] = { "disks", "net" };
	unsigned int slot = 2;
	int r;

	r = sd_bus_message_open_container(reply, 'a', "(ssss)");
	if (r >= 0)
		r = sd_bus_message_append(reply, "(ssss)", "_fake0", "fake", "0000:00:01.0", "ok");
	for (size_t i = 0; r >= 0 && fake->config && i < G_N_ELEMENTS(keys); i++) {
		g_autoptr(GVariant) list = g_variant_lookup_value(fake->config, keys[i], NULL);

		for (size_t j = 0; r >= 0 && list && j < g_variant_n_children(list); j++) {
			g_autoptr(GVariant) item = g_variant_get_child_value(list, j);
			g_autofree char *bdf = g_strdup_printf("0000:00:%02x.0", slot++);
			const char *id = "";

			g_variant_lookup(item, "id", "&s", &id);
			if (has_id(fake->gone, id))
				continue;
			if (has_word(fake, "fake-bad-bdf"))
				strcpy(bdf, "<script>");
			r = sd_bus_message_append(reply, "(ssss)", id, keys[i], bdf, "ok");
		}
	}
	for (guint i = 0; r >= 0 && i < fake->added->len; i++)
		r = sd_bus_message_append(reply, "(ssss)", fake->added->pdata[i], "disks",
					  "0000:00:1f.0", "ok");
	return r < 0 ? r : sd_bus_message_close_container(reply);
}

static int append_sizes(struct fake *fake, sd_bus_message *m)
{
	return sd_bus_message_append(m, "{sv}{sv}{sv}{sv}", "vcpus", "u", 1U, "vcpus_target", "u",
				     1U, "memory", "t", fake->memory, "memory_target", "t",
				     (uint64_t)134217728);
}

/* Of the memory it is to have, the guest takes other parts without end. */
static void toggle_sizes(struct fake *fake)
{
	for (uint64_t i = 0; i < 501; i++) {
		_cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;

		fake->memory = (i + 1) << 16;
		if (sd_bus_message_new_signal(fake->bus, &m, PROTOCOL_OBJECT, PROTOCOL_INTERFACE,
					      "SizesChanged") < 0 ||
		    sd_bus_message_open_container(m, 'a', "{sv}") < 0 ||
		    append_sizes(fake, m) < 0 || sd_bus_message_close_container(m) < 0)
			_exit(3);
		sd_bus_send(fake->bus, m, NULL);
	}
}

static int append_hotplugged(struct fake *fake, sd_bus_message *reply)
{
	int r = sd_bus_message_open_container(reply, 'e', "sv");

	if (r >= 0)
		r = sd_bus_message_append(reply, "s", "hotplugged");
	if (r >= 0)
		r = sd_bus_message_open_container(reply, 'v', "as");
	if (r >= 0)
		r = sd_bus_message_open_container(reply, 'a', "s");
	for (guint i = 0; r >= 0 && i < fake->added->len; i++)
		r = sd_bus_message_append(reply, "s", fake->added->pdata[i]);
	for (int depth = 0; r >= 0 && depth < 3; depth++)
		r = sd_bus_message_close_container(reply);
	return r;
}

static int append_net_values(struct fake *fake, sd_bus_message *m)
{
	if (has_word(fake, "fake-bad-values"))
		return sd_bus_message_append(m, "a{sv}", 3, "link_up", "s", "maybe", "secret", "s",
					     "x", "statistics.BAD", "t", (uint64_t)1);
	return sd_bus_message_append(m, "a{sv}", 1, "link_up", "b", (int)!fake->link_down);
}

static int reply_query(struct fake *fake, sd_bus_message *m)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
	int r;

	r = sd_bus_message_new_method_return(m, &reply);
	if (r >= 0)
		r = sd_bus_message_open_container(reply, 'a', "{sv}");
	if (r >= 0)
		r = sd_bus_message_append(reply, "{sv}{sv}", "state", "s", fake->state, "boots",
					  "u", fake->boots);
	if (r >= 0)
		r = append_hotplugged(fake, reply);
	if (r >= 0 && fake->memory)
		r = append_sizes(fake, reply);
	if (r >= 0)
		r = sd_bus_message_open_container(reply, 'e', "sv");
	if (r >= 0)
		r = sd_bus_message_append(reply, "s", "devices");
	if (r >= 0)
		r = sd_bus_message_open_container(reply, 'v', "a(ssss)");
	if (r >= 0)
		r = append_devices(fake, reply);
	for (int depth = 0; r >= 0 && depth < 2; depth++)
		r = sd_bus_message_close_container(reply);
	if (r >= 0)
		r = sd_bus_message_open_container(reply, 'e', "sv");
	if (r >= 0)
		r = sd_bus_message_append(reply, "s", "values");
	if (r >= 0)
		r = sd_bus_message_open_container(reply, 'v', "a{sa{sv}}");
	if (r >= 0)
		r = sd_bus_message_open_container(reply, 'a', "{sa{sv}}");
	if (r >= 0)
		r = sd_bus_message_open_container(reply, 'e', "sa{sv}");
	if (r >= 0)
		r = sd_bus_message_append(reply, "s", "n0");
	if (r >= 0)
		r = append_net_values(fake, reply);
	if (r >= 0)
		r = sd_bus_message_close_container(reply);
	if (r >= 0)
		r = sd_bus_message_append(reply, "{sa{sv}}", "d0", 1, "images", "t",
					  fake->n_images);
	for (int depth = 0; r >= 0 && depth < 4; depth++)
		r = sd_bus_message_close_container(reply);
	return r < 0 ? r : sd_bus_send(NULL, reply, NULL);
}

static int tell_values(struct fake *fake)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
	int r;

	r = sd_bus_message_new_signal(fake->bus, &m, PROTOCOL_OBJECT, PROTOCOL_INTERFACE,
				      "DeviceChanged");
	if (r >= 0)
		r = sd_bus_message_append(m, "s", "n0");
	if (r >= 0)
		r = append_net_values(fake, m);
	return r < 0 ? r : sd_bus_send(fake->bus, m, NULL);
}

static int method_set_link(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	struct fake *fake = userdata;
	const char *id;
	int up, r;

	(void)error;
	r = sd_bus_message_read(m, "sb", &id, &up);
	if (r < 0)
		return r;
	fake->link_down = !up;
	tell_values(fake);
	return sd_bus_reply_method_return(m, NULL);
}

static int method_set_rate_limit(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	struct err err = { 0 };

	if (has_word(userdata, "fake-no-limits")) {
		err_fault(&err, FAULT_UNSUPPORTED, EOPNOTSUPP, "the fake limits nothing");
		return worker_error_from_err(error, &err);
	}
	return sd_bus_reply_method_return(m, NULL);
}

static void drop_offered(struct fake *fake)
{
	for (guint i = 0; i < fake->offered->len; i++)
		close(g_array_index(fake->offered, int, i));
	g_array_set_size(fake->offered, 0);
}

/*
 * "fake-no-plug": it has no place for it; "fake-plug-dies"; "fake-plug-late": after a while;
 * "fake-plug-closes" hangs up with it, "fake-plug-loses" without it.
 */
static int method_add_device(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	g_autoptr(GVariant) element = NULL;
	struct fake *fake = userdata;
	const char *key, *id = "";
	struct err err = { 0 };
	int r;

	r = sd_bus_message_read(m, "s", &key);
	if (r < 0 || variant_from_message(m, "a{sv}", &element, &err) < 0)
		return worker_error_from_err(error, &err);
	if (has_word(fake, "fake-plug-dies"))
		_exit(3);
	if (has_word(fake, "fake-plug-late"))
		usleep(300000);
	if (has_word(fake, "fake-no-plug") || has_word(fake, "fake-plug-loses"))
		drop_offered(fake);
	if (has_word(fake, "fake-no-plug")) {
		err_fault(&err, FAULT_HOST_RESOURCE, ENOSPC, "the fake has no slot");
		return worker_error_from_err(error, &err);
	}
	g_variant_lookup(element, "id", "&s", &id);
	if (!has_word(fake, "fake-plug-loses"))
		g_ptr_array_add(fake->added, g_strdup(id));
	if (has_word(fake, "fake-plug-loses") || has_word(fake, "fake-plug-closes")) {
		sd_bus_close(fake->bus);
		return 1;
	}
	return sd_bus_reply_method_return(m, "ssa{sv}", id, "0000:00:1f.0", 0);
}

static void tell_of(struct fake *fake, const char *signal, const char *id)
{
	if (fake->bus)
		sd_bus_emit_signal(fake->bus, PROTOCOL_OBJECT, PROTOCOL_INTERFACE, signal, "s", id);
}

static void let_go(struct fake *fake, const char *id)
{
	guint at;

	if (g_ptr_array_find_with_equal_func(fake->added, id, g_str_equal, &at)) {
		g_ptr_array_remove_index(fake->added, at);
		drop_offered(fake);
	} else {
		g_ptr_array_add(fake->gone, g_strdup(id));
	}
	tell_of(fake, "DeviceRemoved", id);
}

/*
 * The guest does not react, but to "fake-lets-go", or "fake-lets-go-later" when asked again;
 * "fake-says-no".  "fake-no-unplug": the worker fails; "fake-unplug-hangs": no answer.  The
 * first time only: "fake-unplug-late" fails after a while, "fake-unplug-closes" hangs up.
 */
static int method_remove_device(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	struct fake *fake = userdata;
	struct err err = { 0 };
	const char *id;
	int force, r;

	r = sd_bus_message_read(m, "sb", &id, &force);
	if (r < 0)
		return r;
	fake->n_asked++;
	g_free(fake->asked_for);
	fake->asked_for = g_strdup(id);
	if (has_word(fake, "fake-unplug-late") && fake->n_asked == 1)
		usleep(200000);
	if (has_word(fake, "fake-no-unplug") ||
	    (has_word(fake, "fake-unplug-late") && fake->n_asked == 1)) {
		err_fault(&err, FAULT_HOST_RESOURCE, EIO, "the fake cannot eject");
		return worker_error_from_err(error, &err);
	}
	if (has_word(fake, "fake-unplug-closes") && fake->n_asked == 1) {
		sd_bus_close(fake->bus);
		return 1;
	}
	if (has_word(fake, "fake-unplug-hangs"))
		return 1;
	if (force || has_word(fake, "fake-lets-go ") ||
	    (has_word(fake, "fake-lets-go-later") && fake->n_asked > 1))
		let_go(fake, id);
	else if (has_word(fake, "fake-says-no"))
		tell_of(fake, "RemovalRefused", id);
	return sd_bus_reply_method_return(m, NULL);
}

static int method_forget_removal(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	(void)userdata;
	(void)error;
	return sd_bus_reply_method_return(m, NULL);
}

/* The reply has the size, as asked for or as that of another image. */
static int reply_size(sd_bus_message *m, uint64_t bytes)
{
	return sd_bus_reply_method_return(m, "a{sv}", 1, "size", "t", bytes);
}

static int method_resize_disk(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	struct err err = { 0 };
	const char *id;
	uint64_t bytes;
	int r;

	r = sd_bus_message_read(m, "st", &id, &bytes);
	if (r < 0)
		return r;
	if (has_word(userdata, "fake-dies-of-disks"))
		_exit(3);
	if (has_word(userdata, "fake-no-disks")) {
		err_fault(&err, FAULT_HOST_RESOURCE, ENOSPC, "the fake is full");
		return worker_error_from_err(error, &err);
	}
	return reply_size(m, bytes);
}

static int method_replace_disk(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	const char *id, *pointer, *type;
	struct err err = { 0 };
	int r;

	r = sd_bus_message_read(m, "sss", &id, &pointer, &type);
	if (r < 0)
		return r;
	if (has_word(userdata, "fake-no-disks")) {
		err_fault(&err, FAULT_BAD_CONFIG, EINVAL, "%s: the fake does not like type '%s'",
			  pointer, type);
		return worker_error_from_err(error, &err);
	}
	/* "fake-mute-replace": has done it, or not, and does not say. */
	if (has_word(userdata, "fake-mute-replace-lost"))
		return 1;
	((struct fake *)userdata)->n_images++;
	return has_word(userdata, "fake-mute-replace") ? 1 : reply_size(m, 7 << 20);
}

static int method_connect_vsock(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	struct err err = { 0 };
	uint32_t port;
	int fds[2], r;

	(void)userdata;
	r = sd_bus_message_read(m, "u", &port);
	if (r < 0)
		return r;
	if (port != 22) {
		err_set(&err, ECONNREFUSED, "nobody listens on vsock port %u of the guest", port);
		return worker_error_from_err(error, &err);
	}
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
		return -errno;
	r = write(fds[0], "SSH-2.0\n", 8) == 8 ? sd_bus_reply_method_return(m, "h", fds[1]) : -EIO;
	close(fds[1]);
	close(fds[0]);
	return r;
}

static int method_start(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	g_autoptr(GVariant) config = NULL, payload = NULL, options = NULL;
	struct fake *fake = userdata;
	struct err err = { 0 };
	gboolean paused = FALSE;

	if (variant_from_message(m, "a{sv}", &config, &err) < 0 ||
	    variant_from_message(m, "a{sv}", &options, &err) < 0)
		return worker_error_from_err(error, &err);
	fake->config = g_variant_ref(config);
	payload = g_variant_lookup_value(config, "payload", G_VARIANT_TYPE_VARDICT);
	if (payload)
		g_variant_lookup(payload, "cmdline", "s", &fake->words);
	g_variant_lookup(options, "paused", "b", &paused);
	if (has_word(fake, "fake-start-fails")) {
		err_fault(&err, FAULT_HOST_RESOURCE, ENOMEM, "no memory for the fake's guest");
		return worker_error_from_err(error, &err);
	}
	if (has_word(fake, "fake-bad-kernel")) {
		err_fault(&err, FAULT_BAD_CONFIG, ENOEXEC, "/payload/kernel: the fake boots none");
		return worker_error_from_err(error, &err);
	}
	/* Held until the test lets it go on: then its words and its end are there at once. */
	if (has_word(fake, "fake-start-refuses")) {
		raise(SIGSTOP);
		err_fault(&err, FAULT_HOST_RESOURCE, ENOMEM, "the fake's last words");
		worker_error_from_err(error, &err);
		sd_bus_reply_method_error(m, error);
		sd_bus_flush(fake->bus);
		_exit(WORKER_EXIT_VM);
	}
	if (has_word(fake, "fake-start-dies"))
		_exit(WORKER_EXIT_VM);
	if (has_word(fake, "fake-start-hangs"))
		return 1;
	if (has_word(fake, "fake-start-closes")) {
		sd_bus_close(fake->bus);
		return 1;
	}
	fake->boots = 1;
	set_state(fake, paused ? WORKER_STATE_PAUSED : WORKER_STATE_RUNNING, WORKER_REASON_REQUEST);
	if (has_word(fake, "fake-start-says-nothing"))
		return sd_bus_reply_method_return(m, "a{sv}", 0);
	return reply_query(fake, m);
}

/* "fake-pause-late": as a worker whose disk is on storage that hangs for a while. */
static int method_pause(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	(void)error;
	if (has_word(userdata, "fake-pause-late"))
		usleep(300000);
	set_state(userdata, WORKER_STATE_PAUSED, WORKER_REASON_REQUEST);
	return sd_bus_reply_method_return(m, NULL);
}

static int method_resume(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	(void)error;
	set_state(userdata, WORKER_STATE_RUNNING, WORKER_REASON_REQUEST);
	return sd_bus_reply_method_return(m, NULL);
}

static int method_reset(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	struct fake *fake = userdata;

	(void)error;
	fake->boots++;
	set_state(fake, WORKER_STATE_RUNNING, WORKER_REASON_RESET);
	return sd_bus_reply_method_return(m, NULL);
}

/* "fake-deaf": the guest ignores the button; "fake-second-button": it reacts to the second. */
static int press(sd_bus_message *m, struct fake *fake, bool reboot)
{
	int r = sd_bus_reply_method_return(m, NULL);

	fake->n_buttons++;
	if (has_word(fake, "fake-deaf") ||
	    (has_word(fake, "fake-second-button") && fake->n_buttons < 2))
		return r;
	if (!reboot)
		quit(fake, WORKER_REASON_GUEST_SHUTDOWN, WORKER_EXIT_OK);
	fake->boots++;
	set_state(fake, WORKER_STATE_RUNNING, WORKER_REASON_GUEST_REBOOT);
	return r;
}

static int method_power_button(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	(void)error;
	return press(m, userdata, false);
}

static int method_reboot(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	(void)error;
	return press(m, userdata, true);
}

/* Stands for what a guest does of its own accord. */
static int method_inject_nmi(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	struct fake *fake = userdata;
	int r = sd_bus_reply_method_return(m, NULL);

	(void)error;
	/* More than the guest's share. */
	for (uint32_t i = 0; has_word(fake, "fake-nmi-flood") && i < 1000; i++)
		sd_bus_emit_signal(fake->bus, PROTOCOL_OBJECT, PROTOCOL_INTERFACE, "Event",
				   "ssa{sv}", "guest", "flood", 1, "count", "u", i);
	for (int i = 0; has_word(fake, "fake-nmi-toggles") && i < 501; i++)
		set_state(fake, i % 2 ? WORKER_STATE_RUNNING : WORKER_STATE_PAUSED,
			  WORKER_REASON_REQUEST);
	if (has_word(fake, "fake-nmi-large")) {
		g_autofree char *text = g_strnfill(1 << 20, 'x');

		sd_bus_emit_signal(fake->bus, PROTOCOL_OBJECT, PROTOCOL_INTERFACE, "Event",
				   "ssa{sv}", "guest", "large", 1, "text", "s", text);
		sd_bus_emit_signal(fake->bus, PROTOCOL_OBJECT, PROTOCOL_INTERFACE, "Event",
				   "ssa{sv}", "guest", text, 0);
	}
	if (has_word(fake, "fake-nmi-sizes"))
		toggle_sizes(fake);
	if (has_word(fake, "fake-nmi-lets-go") && fake->asked_for)
		let_go(fake, fake->asked_for);
	if (has_word(fake, "fake-nmi-large") || has_word(fake, "fake-nmi-event"))
		sd_bus_emit_signal(fake->bus, PROTOCOL_OBJECT, PROTOCOL_INTERFACE, "Event",
				   "ssa{sv}", "guest", "nmi", 1, "count", "u", 1U);
	else if (has_word(fake, "fake-nmi-triple-fault"))
		quit(fake, WORKER_REASON_TRIPLE_FAULT, WORKER_EXIT_TRIPLE_FAULT);
	else if (has_word(fake, "fake-nmi-held-fault")) {
		raise(SIGSTOP);
		quit(fake, WORKER_REASON_TRIPLE_FAULT, WORKER_EXIT_TRIPLE_FAULT);
	} else if (has_word(fake, "fake-nmi-kills"))
		raise(SIGKILL);
	else if (has_word(fake, "fake-nmi-shutdown"))
		quit(fake, WORKER_REASON_GUEST_SHUTDOWN, WORKER_EXIT_OK);
	return r;
}

static int method_quit(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	struct fake *fake = userdata;

	(void)error;
	if (has_word(fake, "fake-no-quit"))
		return 1;
	sd_bus_reply_method_return(m, NULL);
	quit(fake, WORKER_REASON_REQUEST, WORKER_EXIT_OK);
	return 1;
}

static int method_open_console(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	static int peer = -1;
	const char *name;
	int force, read_only, fds[2], r;
	struct err err = { 0 };

	(void)userdata;
	r = sd_bus_message_read(m, "sbb", &name, &force, &read_only);
	if (r < 0)
		return r;
	if (peer >= 0 && !force) {
		err_fault(&err, FAULT_CONSOLE_IN_USE, EBUSY, "the console is in use");
		return worker_error_from_err(error, &err);
	}
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
		return -errno;
	if (write(fds[0], "login: ", 7) != 7)
		return -EIO;
	peer = fds[0];
	r = sd_bus_reply_method_return(m, "h", fds[1]);
	close(fds[1]);
	return r;
}

static int method_get_counters(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	struct fake *fake = userdata;
	g_autofree char *name = NULL;

	(void)error;
	if (has_word(fake, "fake-counters-large")) {
		name = g_strnfill(1 << 20, 'x');
		return sd_bus_reply_method_return(m, "a{sa{st}}", 1, name, 0);
	}
	return sd_bus_reply_method_return(m, "a{sa{st}}", 2, "fake", 2, "resources",
					  (uint64_t)fake->n_resources, "buttons",
					  (uint64_t)fake->n_buttons, "n0", 1, "rx_packets",
					  (uint64_t)7);
}

static int method_query(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	struct fake *fake = userdata;

	(void)error;
	if (has_word(fake, "fake-query-closes")) {
		sd_bus_close(fake->bus);
		return 1;
	}
	return reply_query(fake, m);
}

static const sd_bus_vtable worker_vtable[] = {
	SD_BUS_VTABLE_START(0),
	SD_BUS_METHOD("Hello", "", "uus", method_hello, SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD("AddResources", "a{sh}", "", method_add_resources,
		      SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD("Start", "a{sv}a{sv}", "a{sv}", method_start, SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD("SetLink", "sb", "", method_set_link, SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD("SetRateLimit", "sstttttt", "", method_set_rate_limit,
		      SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD("SetRateLimitGroup", "stttttt", "", method_set_rate_limit,
		      SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD("AddDevice", "sa{sv}", "ssa{sv}", method_add_device,
		      SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD("RemoveDevice", "sb", "", method_remove_device, SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD("ForgetRemoval", "s", "", method_forget_removal, SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD("ResizeDisk", "st", "a{sv}", method_resize_disk, SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD("ReplaceDisk", "sss", "a{sv}", method_replace_disk,
		      SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD("ConnectVSock", "u", "h", method_connect_vsock, SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD("Pause", "", "", method_pause, SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD("Resume", "", "", method_resume, SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD("Reset", "", "", method_reset, SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD("PowerButton", "", "", method_power_button, SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD("Reboot", "", "", method_reboot, SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD("InjectNMI", "", "", method_inject_nmi, SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD("Quit", "", "", method_quit, SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD("OpenConsole", "sbb", "h", method_open_console, SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD("GetCounters", "", "a{sa{st}}", method_get_counters,
		      SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD("Query", "", "a{sv}", method_query, SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_SIGNAL("StateChanged", "sss", 0),
	SD_BUS_SIGNAL("Event", "ssa{sv}", 0),
	SD_BUS_SIGNAL("DeviceChanged", "sa{sv}", 0),
	SD_BUS_SIGNAL("DeviceRemoved", "s", 0),
	SD_BUS_SIGNAL("SizesChanged", "a{sv}", 0),
	SD_BUS_SIGNAL("RemovalRefused", "s", 0),
	SD_BUS_VTABLE_END,
};

static int on_connection(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
	struct fake *fake = userdata;
	sd_id128_t id;
	int peer, r;

	(void)source;
	(void)revents;
	peer = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (peer < 0)
		return 0;
	if (fake->bus) {
		sd_bus_detach_event(fake->bus);
		fake->bus = sd_bus_close_unref(fake->bus);
	}
	r = sd_bus_new(&fake->bus);
	if (r >= 0)
		r = sd_bus_set_fd(fake->bus, peer, peer);
	if (r >= 0)
		r = sd_id128_randomize(&id);
	if (r >= 0)
		r = sd_bus_set_server(fake->bus, true, id);
	if (r >= 0)
		r = sd_bus_negotiate_fds(fake->bus, true);
	if (r >= 0)
		r = sd_bus_add_object_vtable(fake->bus, NULL, PROTOCOL_OBJECT, PROTOCOL_INTERFACE,
					     worker_vtable, fake);
	if (r >= 0)
		r = sd_bus_start(fake->bus);
	if (r >= 0)
		r = sd_bus_attach_event(fake->bus, fake->event, 0);
	/* Whoever it was has gone again. */
	if (r < 0)
		fake->bus = sd_bus_close_unref(fake->bus);
	return 0;
}

static int on_usr1(sd_event_source *source, const struct signalfd_siginfo *info, void *userdata)
{
	struct fake *fake = userdata;

	(void)source;
	(void)info;
	if (fake->asked_for)
		let_go(fake, fake->asked_for);
	return 0;
}

int main(void)
{
	struct fake fake = { .state = WORKER_STATE_IDLE };
	const char *mode = getenv("FAKE_WORKER");
	sigset_t usr1;

	if (mode && strcmp(mode, "exit") == 0)
		return WORKER_EXIT_USAGE;
	/* SIGUSR1: the guest lets go of what it was asked for, whoever listens. */
	sigemptyset(&usr1);
	sigaddset(&usr1, SIGUSR1);
	sigprocmask(SIG_BLOCK, &usr1, NULL);
	fake.added = g_ptr_array_new_with_free_func(g_free);
	fake.offered = g_array_new(FALSE, FALSE, sizeof(int));
	fake.gone = g_ptr_array_new_with_free_func(g_free);
	/* Nothing of a test run outlives it by much, whatever goes wrong. */
	alarm(60);
	if (sd_event_new(&fake.event) < 0 ||
	    sd_event_add_io(fake.event, NULL, STDIN_FILENO, EPOLLIN, on_connection, &fake) < 0 ||
	    sd_event_add_signal(fake.event, NULL, SIGUSR1, on_usr1, &fake) < 0)
		return WORKER_EXIT_CONTROL;
	return sd_event_loop(fake.event);
}
