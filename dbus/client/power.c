/* SPDX-License-Identifier: Apache-2.0 */
/* Starting, stopping and what lies between: thin calls, and waiting for their jobs. */
#include "dbus/client/power.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "dbus/client/console.h"
#include "dbus/client/job.h"
#include "dbus/client/verbs.h"

int power_start(struct client *c, const char *vm, bool paused, bool wait, bool quiet)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
	int r;

	r = client_vm_call(c, vm, "Start", &m);
	if (r != EXIT_OK)
		return r;
	r = sd_bus_message_open_container(m, 'a', "{sv}");
	if (paused)
		r = client_append_option(m, r, "Paused", "b", 1);
	if (r >= 0)
		r = sd_bus_message_close_container(m);
	if (r < 0)
		return client_report(c, vm, r, NULL);
	return job_run(c, vm, m,
		       &(struct job_wish){ .what = "starting", .wait = wait, .quiet = quiet });
}

int verb_start(struct client *c, const struct arguments *a)
{
	const char *vm = a->positional[0];
	int fd = -EBADF, r;

	if (a->attach && a->no_wait) {
		client_complain("--console and --no-wait exclude each other");
		return EXIT_USAGE;
	}
	if (!a->attach)
		return power_start(c, vm, a->paused, !a->no_wait, false);

	/* Attached before the first instruction runs, so that nothing is missed. */
	r = console_check(c, vm);
	if (r == EXIT_OK)
		r = power_start(c, vm, true, true, true);
	if (r != EXIT_OK)
		return r;
	r = console_open(c, vm, "", false, false, &fd);
	if (r != EXIT_OK) {
		/* It was to be started: it does not stay behind half-started. */
		if (!a->paused)
			(void)client_simple_call(c, vm, "Resume");
		return r;
	}
	if (!a->paused)
		r = client_simple_call(c, vm, "Resume");
	if (r == EXIT_OK)
		r = console_attach(c, vm, fd, a);
	close(fd);
	return r;
}

static int stop(struct client *c, const struct arguments *a, const char *member, const char *what)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
	const char *vm = a->positional[0];
	int r;

	if (a->wait && a->no_wait) {
		client_complain("--wait and --no-wait exclude each other");
		return EXIT_USAGE;
	}
	r = client_vm_call(c, vm, member, &m);
	if (r != EXIT_OK)
		return r;
	r = sd_bus_message_open_container(m, 'a', "{sv}");
	if (a->force)
		r = client_append_option(m, r, "Force", "b", 1);
	if (a->has_timeout)
		r = client_append_option(m, r, "TimeoutUSec", "t", a->timeout_usec);
	if (r >= 0)
		r = sd_bus_message_close_container(m);
	if (r < 0)
		return client_report(c, vm, r, NULL);
	return job_run(c, vm, m, &(struct job_wish){ .what = what, .wait = !a->no_wait });
}

int verb_shutdown(struct client *c, const struct arguments *a)
{
	return stop(c, a, "Shutdown", "shutting down");
}

int verb_reboot(struct client *c, const struct arguments *a)
{
	return stop(c, a, "Reboot", "rebooting");
}

int verb_reset(struct client *c, const struct arguments *a)
{
	return client_simple_call(c, a->positional[0], "Reset");
}

int verb_terminate(struct client *c, const struct arguments *a)
{
	return client_simple_call(c, a->positional[0], "Terminate");
}

int verb_pause(struct client *c, const struct arguments *a)
{
	return client_simple_call(c, a->positional[0], "Pause");
}

int verb_resume(struct client *c, const struct arguments *a)
{
	return client_simple_call(c, a->positional[0], "Resume");
}

int verb_power_button(struct client *c, const struct arguments *a)
{
	return client_simple_call(c, a->positional[0], "PowerButton");
}

int verb_nmi(struct client *c, const struct arguments *a)
{
	return client_simple_call(c, a->positional[0], "InjectNMI");
}

int verb_autostart(struct client *c, const struct arguments *a)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
	const char *vm = a->positional[0], *value = a->positional[1];
	int enable, r;

	if (strcmp(value, "on") == 0)
		enable = 1;
	else if (strcmp(value, "off") == 0)
		enable = 0;
	else {
		client_complain("'%s' is neither 'on' nor 'off'", value);
		return EXIT_USAGE;
	}
	r = client_vm_call(c, vm, "SetAutostart", &m);
	if (r != EXIT_OK)
		return r;
	r = sd_bus_message_append(m, "ba{sv}", enable, 0);
	if (r < 0)
		return client_report(c, vm, r, NULL);
	return client_call(c, vm, m, NULL);
}

int verb_cancel(struct client *c, const struct arguments *a)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
	const char *text = a->positional[0];
	char *end = NULL;
	unsigned long id;
	int r;

	errno = 0;
	id = strtoul(text, &end, 10);
	if (errno || text[0] < '0' || text[0] > '9' || *end || id > UINT32_MAX) {
		client_complain("'%s' is not the number of a job, see 'brumectl jobs'", text);
		return EXIT_USAGE;
	}
	r = client_manager_call(c, "CancelJob", &m);
	if (r != EXIT_OK)
		return r;
	r = sd_bus_message_append(m, "u", (uint32_t)id);
	if (r < 0)
		return client_report(c, NULL, r, NULL);
	return client_call(c, NULL, m, NULL);
}
