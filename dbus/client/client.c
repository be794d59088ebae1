/* SPDX-License-Identifier: Apache-2.0 */
#include "dbus/client/client.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dbus/bus-error.h"
#include "dbus/bus-path.h"
#include "dbus/client/agent.h"
#include "dbus/client/output.h"
#include "dbus/variant.h"
#include "vmm/base/err.h"

/* Longer ones do not even fit into an object path; what the service allows it says itself. */
#define NAME_BYTES_MAX 4096

void client_complain(const char *fmt, ...)
{
	g_autofree char *text = NULL, *clean = NULL;
	va_list ap;

	va_start(ap, fmt);
	text = g_strdup_vprintf(fmt, ap);
	va_end(ap);
	clean = clean_text(text); /* names and services may say anything, also to a terminal */
	fprintf(stderr, "brumectl: %s\n", clean);
}

int client_out_of_memory(void)
{
	client_complain("out of memory");
	return EXIT_FAILED;
}

int client_check_text(const char *what, const char *text)
{
	if (!text || g_utf8_validate(text, -1, NULL))
		return EXIT_OK;
	client_complain("%s '%s' is not text in UTF-8", what, text);
	return EXIT_USAGE;
}

int client_vm_path(const char *vm, char **ret)
{
	char *path;

	if (strlen(vm) > NAME_BYTES_MAX) {
		client_complain("a name of %zu bytes is too long for a virtual machine",
				strlen(vm));
		return EXIT_USAGE;
	}
	path = bus_path_vm(vm);
	if (!path)
		return client_out_of_memory();
	*ret = path;
	return EXIT_OK;
}

static void complain_about_bus(const struct client *c, int r)
{
	if (c->host) {
		/* ssh has said why; what is left for us is that its pipe broke */
		client_complain("cannot reach the system bus of %s", c->host);
		return;
	}
	client_complain("cannot connect to the %s bus: %s", c->user ? "session" : "system",
			r == -ENOMEDIUM ? "there is none" : strerror(-r));
	if (c->user && !c->json)
		fprintf(stderr, "hint: --user needs a session: log in as the user, or keep one "
				"with 'loginctl enable-linger' and set XDG_RUNTIME_DIR\n");
}

int client_connect(struct client *c)
{
	const char *name;
	int r;

	if (c->bus)
		return EXIT_OK;
	if (c->host) {
		r = sd_bus_open_system_remote(&c->bus, c->host);
		if (r >= 0)
			r = sd_bus_get_unique_name(c->bus, &name); /* waits until it stands */
	} else if (c->user) {
		r = sd_bus_open_user_with_description(&c->bus, "brumectl");
	} else {
		r = sd_bus_open_system_with_description(&c->bus, "brumectl");
	}
	if (r < 0) {
		complain_about_bus(c, r);
		return EXIT_NO_SERVICE;
	}
	(void)sd_bus_set_method_call_timeout(c->bus, CLIENT_TIMEOUT_USEC);
	if (c->ask_password && !c->host && !c->user)
		c->agent_pid = agent_start();
	return EXIT_OK;
}

void client_disconnect(struct client *c)
{
	c->bus = sd_bus_flush_close_unref(c->bus);
	agent_stop(c->agent_pid);
	c->agent_pid = 0;
}

/* What each public error means for the person and for the script; the first match counts. */
static const struct {
	const char *name; /* a glob */
	int status;
	const char *hint; /* %s is the machine's name; without one there is no hint with %s */
} outcomes[] = {
	{ BUS_ERROR_NO_SUCH_VM, EXIT_NO_SUCH, "'brumectl list' shows the virtual machines" },
	{ BUS_ERROR_NO_SUCH_DEVICE, EXIT_NO_SUCH,
	  "'brumectl devices %s' lists what it has while it runs" },
	{ BUS_ERROR_NO_SUCH_JOB, EXIT_NO_SUCH, "'brumectl jobs' shows what is going on" },
	{ BUS_ERROR_NO_SUCH_CONSOLE, EXIT_NO_SUCH, "'brumectl show %s' lists its consoles" },
	{ BUS_ERROR_CONSOLE_IN_USE, EXIT_FAILED, "--force takes the console over" },
	{ BUS_ERROR_VM_EXISTS, EXIT_FAILED, "'brumectl set-config %s' changes its definition" },
	{ BUS_ERROR_INVALID_STATE, EXIT_FAILED, "'brumectl show %s' tells its state" },
	{ BUS_ERROR_BUSY, EXIT_FAILED, "'brumectl jobs' shows the job, 'brumectl cancel' ends it" },
	{ BUS_ERROR_INVALID_CONFIG, EXIT_FAILED,
	  "'brumectl help disk' (net, cpus, ...) lists the keys" },
	{ BUS_ERROR_WORKER_FAILED, EXIT_FAILED,
	  "'journalctl BRUME_VM=%s' has its messages, 'journalctl -u brumed' the service's" },
	{ BUS_ERROR_GUEST_TIMEOUT, EXIT_TIMED_OUT,
	  "'brumectl terminate %s' ends it without asking" },
	{ SD_BUS_ERROR_ACCESS_DENIED, EXIT_REFUSED,
	  "polkit decides who may do this: see org.brume.vm1(5), or use sudo" },
	{ SD_BUS_ERROR_INTERACTIVE_AUTHORIZATION_REQUIRED, EXIT_REFUSED,
	  "there is nobody to ask for a password here: see org.brume.vm1(5), or use sudo" },
	{ SD_BUS_ERROR_SERVICE_UNKNOWN, EXIT_NO_SERVICE,
	  "is the service installed? systemctl status brumed" },
	{ SD_BUS_ERROR_NAME_HAS_NO_OWNER, EXIT_NO_SERVICE,
	  "is it running? systemctl status brumed" },
	{ "org.freedesktop.systemd1.NoSuchUnit", EXIT_NO_SERVICE,
	  "is it enabled? systemctl enable --now brumed" },
	/* the rest of what bus activation says; of calls the service has names of its own */
	{ "org.freedesktop.systemd1.*", EXIT_NO_SERVICE,
	  "why does it not start? systemctl status brumed" },
	{ "org.freedesktop.DBus.Error.Spawn.*", EXIT_NO_SERVICE,
	  "why does it not start? systemctl status brumed" },
	{ SD_BUS_ERROR_NO_REPLY, EXIT_NO_SERVICE, "did it stop? journalctl -u brumed" },
	{ SD_BUS_ERROR_DISCONNECTED, EXIT_NO_SERVICE, NULL },
	{ SD_BUS_ERROR_TIMEOUT, EXIT_TIMED_OUT, NULL },
};

/*
 * The hint's commands, as they are typed here: for the session's service systemctl and journalctl
 * want --user, what runs on another host is said to be there.
 */
static void print_hint(const struct client *c, const char *hint, const char *vm)
{
	const char *place = strstr(hint, "%s");
	g_autoptr(GString) text = g_string_new(hint);
	g_autofree char *clean = NULL;

	if (c->json || (place && !vm))
		return;
	if (place)
		g_string_replace(text, "%s", vm, 1);
	if (c->user) {
		g_string_replace(text, "systemctl ", "systemctl --user ", 0);
		g_string_replace(text, "journalctl ", "journalctl --user ", 0);
		g_string_replace(text, "'brumectl ", "'brumectl --user ", 0);
	}
	if (c->host && (strstr(hint, "systemctl") || strstr(hint, "journalctl")))
		g_string_append_printf(text, " (on %s)", c->host);
	clean = clean_text(text->str);
	fprintf(stderr, "hint: %s\n", clean);
}

/* What a user without privileges meets first. */
static void print_user_hint(const struct client *c, const char *message)
{
	if (strstr(message, "'/dev/kvm': Permission denied"))
		print_hint(
			c,
			"the user has to be in the group kvm: adduser USER kvm, then log in anew",
			NULL);
	else if (strstr(message, "interface '") || strstr(message, "the tap '"))
		print_hint(c, "root makes taps: ip tuntap add NAME mode tap user USER", NULL);
}

int client_report_hint(const struct client *c, const char *vm, int r, const sd_bus_error *e,
		       const char *hint)
{
	if (!e || !sd_bus_error_is_set(e)) {
		client_complain("%s", strerror(-r));
		return r == -ECONNRESET || r == -ENOTCONN ? EXIT_NO_SERVICE : EXIT_FAILED;
	}
	if (vm && sd_bus_error_has_name(e, SD_BUS_ERROR_UNKNOWN_OBJECT)) {
		client_complain("no virtual machine '%s'", vm);
		print_hint(c, outcomes[0].hint, vm);
		return EXIT_NO_SUCH;
	}
	client_complain("%s", e->message && e->message[0] ? e->message : e->name);
	for (size_t i = 0; i < ARRAY_SIZE(outcomes); i++) {
		if (!g_pattern_match_simple(outcomes[i].name, e->name))
			continue;
		if (!hint)
			hint = outcomes[i].hint;
		/* a user's own service asks nobody: a file or device said no */
		if (hint && !(c->user && outcomes[i].status == EXIT_REFUSED))
			print_hint(c, hint, vm);
		return outcomes[i].status;
	}
	/* systemd about a unit that it was to start for the bus, under the name of an errno */
	if (e->message && g_str_has_prefix(e->message, "Unit dbus-" BRUME_BUS_NAME ".service ")) {
		print_hint(c, "why does it not start? systemctl status brumed", vm);
		return EXIT_NO_SERVICE;
	}
	if (c->user && e->message)
		print_user_hint(c, e->message);
	return EXIT_FAILED;
}

int client_report(const struct client *c, const char *vm, int r, const sd_bus_error *e)
{
	return client_report_hint(c, vm, r, e, NULL);
}

static int new_call(struct client *c, const char *path, const char *interface, const char *member,
		    sd_bus_message **ret)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
	int r;

	r = client_connect(c);
	if (r != EXIT_OK)
		return r;
	r = sd_bus_message_new_method_call(c->bus, &m, BRUME_BUS_NAME, path, interface, member);
	if (r >= 0)
		r = sd_bus_message_set_allow_interactive_authorization(m, c->ask_password);
	if (r < 0)
		return client_report(c, NULL, r, NULL);
	*ret = TAKE_PTR(m);
	return EXIT_OK;
}

int client_manager_call(struct client *c, const char *member, sd_bus_message **ret)
{
	return new_call(c, BRUME_ROOT_PATH, BRUME_MANAGER_INTERFACE, member, ret);
}

int client_vm_call(struct client *c, const char *vm, const char *member, sd_bus_message **ret)
{
	_cleanup_free_ char *path = NULL;
	int r = client_vm_path(vm, &path);

	if (r != EXIT_OK)
		return r;
	return new_call(c, path, BRUME_VM_INTERFACE, member, ret);
}

int client_append_option(sd_bus_message *m, int r, const char *key, const char *type, ...)
{
	va_list ap;

	if (r >= 0)
		r = sd_bus_message_open_container(m, 'e', "sv");
	if (r >= 0)
		r = sd_bus_message_append_basic(m, 's', key);
	if (r >= 0)
		r = sd_bus_message_open_container(m, 'v', type);
	if (r >= 0) {
		va_start(ap, type);
		r = sd_bus_message_appendv(m, type, ap);
		va_end(ap);
	}
	if (r >= 0)
		r = sd_bus_message_close_container(m);
	if (r >= 0)
		r = sd_bus_message_close_container(m);
	return r;
}

int client_call(struct client *c, const char *vm, sd_bus_message *m, sd_bus_message **ret_reply)
{
	_cleanup_(sd_bus_error_free) sd_bus_error e = SD_BUS_ERROR_NULL;
	int r = sd_bus_call(c->bus, m, CLIENT_TIMEOUT_USEC, &e, ret_reply);

	return r < 0 ? client_report(c, vm, r, &e) : EXIT_OK;
}

static int get_all(struct client *c, const char *vm, const char *path, const char *interface,
		   const char *member, const char *argument, const char *type, GVariant **ret)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
	_cleanup_(sd_bus_error_free) sd_bus_error e = SD_BUS_ERROR_NULL;
	struct err err = { 0 };
	int r = client_connect(c);

	if (r != EXIT_OK)
		return r;
	r = sd_bus_call_method(c->bus, BRUME_BUS_NAME, path, interface, member, &e, &reply,
			       argument ? "s" : NULL, argument);
	if (r < 0)
		return client_report(c, vm, r, &e);
	if (variant_from_message(reply, type, ret, &err) >= 0)
		return EXIT_OK;
	client_complain("the service's answer makes no sense: %s", err.msg);
	return EXIT_FAILED;
}

int client_get_objects(struct client *c, GVariant **ret)
{
	return get_all(c, NULL, BRUME_ROOT_PATH, "org.freedesktop.DBus.ObjectManager",
		       "GetManagedObjects", NULL, "a{oa{sa{sv}}}", ret);
}

int client_get_vm(struct client *c, const char *vm, GVariant **ret)
{
	_cleanup_free_ char *path = NULL;
	int r = client_vm_path(vm, &path);

	return r != EXIT_OK ? r
			    : get_all(c, vm, path, "org.freedesktop.DBus.Properties", "GetAll",
				      BRUME_VM_INTERFACE, "a{sv}", ret);
}

int client_simple_call(struct client *c, const char *vm, const char *member)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
	int r;

	r = client_vm_call(c, vm, member, &m);
	if (r != EXIT_OK)
		return r;
	r = sd_bus_message_append(m, "a{sv}", 0);
	if (r < 0)
		return client_report(c, vm, r, NULL);
	return client_call(c, vm, m, NULL);
}
