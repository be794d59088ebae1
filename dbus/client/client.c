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

void client_complain(const char *fmt, ...)
{
	va_list ap;

	fputs("brumectl: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
}

int client_out_of_memory(void)
{
	client_complain("out of memory");
	return EXIT_FAILED;
}

int client_connect(struct client *c)
{
	int r;

	if (c->bus)
		return EXIT_OK;
	if (c->host)
		r = sd_bus_open_system_remote(&c->bus, c->host);
	else if (c->user)
		r = sd_bus_open_user_with_description(&c->bus, "brumectl");
	else
		r = sd_bus_open_system_with_description(&c->bus, "brumectl");
	if (r < 0) {
		client_complain("cannot connect to the %s bus%s%s: %s",
				c->user ? "session" : "system", c->host ? " of " : "",
				c->host ? c->host : "", strerror(-r));
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
	const char *name;
	int status;
	const char *hint; /* %s is the machine's name; without one there is no hint with %s */
} outcomes[] = {
	{ BUS_ERROR_NO_SUCH_VM, EXIT_NO_SUCH, "'brumectl list' shows the virtual machines" },
	{ BUS_ERROR_NO_SUCH_JOB, EXIT_NO_SUCH, "'brumectl jobs' shows what is going on" },
	{ BUS_ERROR_NO_SUCH_CONSOLE, EXIT_NO_SUCH, "'brumectl show %s' lists its consoles" },
	{ BUS_ERROR_CONSOLE_IN_USE, EXIT_FAILED, "--force takes the console over" },
	{ BUS_ERROR_VM_EXISTS, EXIT_FAILED, "'brumectl set-config %s' changes its definition" },
	{ BUS_ERROR_INVALID_STATE, EXIT_FAILED, "'brumectl show %s' tells its state" },
	{ BUS_ERROR_BUSY, EXIT_FAILED, "'brumectl jobs' shows the job, 'brumectl cancel' ends it" },
	{ BUS_ERROR_INVALID_CONFIG, EXIT_FAILED,
	  "'brumectl help disk' (net, cpus, ...) lists the keys" },
	{ BUS_ERROR_WORKER_FAILED, EXIT_FAILED, "'journalctl BRUME_VM=%s' has its messages" },
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
	{ SD_BUS_ERROR_NO_REPLY, EXIT_NO_SERVICE, "did it stop? journalctl -u brumed" },
	{ SD_BUS_ERROR_DISCONNECTED, EXIT_NO_SERVICE, NULL },
	{ SD_BUS_ERROR_TIMEOUT, EXIT_TIMED_OUT, NULL },
};

static void print_hint(const struct client *c, const char *hint, const char *vm)
{
	const char *place = strstr(hint, "%s");

	if (c->json || (place && !vm))
		return;
	if (place)
		fprintf(stderr, "hint: %.*s%s%s\n", (int)(place - hint), hint, vm, place + 2);
	else
		fprintf(stderr, "hint: %s\n", hint);
}

int client_report(const struct client *c, const char *vm, int r, const sd_bus_error *e)
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
		if (!sd_bus_error_has_name(e, outcomes[i].name))
			continue;
		if (outcomes[i].hint)
			print_hint(c, outcomes[i].hint, vm);
		return outcomes[i].status;
	}
	return EXIT_FAILED;
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
	_cleanup_free_ char *path = bus_path_vm(vm);

	if (!path)
		return client_out_of_memory();
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
