/* SPDX-License-Identifier: Apache-2.0 */
/*
 * brumectl run: one machine for as long as it runs
 *
 * A transient machine, this terminal as its console, and its end as the exit
 * status: 0 when the guest shut down by itself or was ended from here, 1 when it
 * crashed.  Detached, it runs on and is an ordinary transient machine.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "dbus/bus-path.h"
#include "dbus/client/console.h"
#include "dbus/client/create.h"
#include "dbus/client/output.h"
#include "dbus/client/power.h"
#include "dbus/client/verbs.h"
#include "dbus/variant.h"

/* After the state says it is over, LastExitReason and VMRemoved may still be on their way. */
#define LAST_WORDS_USEC UINT64_C(2000000)
/* After Terminate, for the state to follow. */
#define TERMINATE_USEC UINT64_C(15000000)

struct run {
	struct client *client;
	const char *vm, *path;
	bool ended; /* stopped, crashed, failed, or removed */
	bool removed;
	char state[32], reason[64], exit_reason[64];
	bool detach;    /* by a key: leave it running */
	bool terminate; /* by a key or a signal */
	bool asked;     /* its end was wanted here: no failure */
};

static int on_state_changed(sd_bus_message *m, void *userdata, sd_bus_error *ret)
{
	const char *old_state, *new_state, *reason;
	struct run *run = userdata;

	(void)ret;
	if (sd_bus_message_read(m, "sss", &old_state, &new_state, &reason) <= 0)
		return 0;
	g_strlcpy(run->state, new_state, sizeof(run->state));
	g_strlcpy(run->reason, reason, sizeof(run->reason));
	if (strcmp(new_state, "stopped") == 0 || strcmp(new_state, "crashed") == 0 ||
	    strcmp(new_state, "failed") == 0)
		run->ended = true;
	return 0;
}

static int on_properties_changed(sd_bus_message *m, void *userdata, sd_bus_error *ret)
{
	g_autoptr(GVariant) changed = NULL;
	struct run *run = userdata;
	const char *reason;

	(void)ret;
	if (sd_bus_message_skip(m, "s") < 0 || variant_from_message(m, "a{sv}", &changed, NULL) < 0)
		return 0;
	if (g_variant_lookup(changed, "LastExitReason", "&s", &reason))
		g_strlcpy(run->exit_reason, reason, sizeof(run->exit_reason));
	return 0;
}

static int on_vm_removed(sd_bus_message *m, void *userdata, sd_bus_error *ret)
{
	struct run *run = userdata;
	const char *name;

	(void)ret;
	if (sd_bus_message_read(m, "s", &name) > 0 && strcmp(name, run->vm) == 0)
		run->ended = run->removed = true;
	return 0;
}

static int watch(struct run *run)
{
	sd_bus *bus = run->client->bus;
	int r;

	r = sd_bus_match_signal(bus, NULL, BRUME_BUS_NAME, run->path, BRUME_VM_INTERFACE,
				"StateChanged", on_state_changed, run);
	if (r >= 0)
		r = sd_bus_match_signal(bus, NULL, BRUME_BUS_NAME, run->path,
					"org.freedesktop.DBus.Properties", "PropertiesChanged",
					on_properties_changed, run);
	if (r >= 0)
		r = sd_bus_match_signal(bus, NULL, BRUME_BUS_NAME, BRUME_ROOT_PATH,
					BRUME_MANAGER_INTERFACE, "VMRemoved", on_vm_removed, run);
	return r < 0 ? client_report(run->client, NULL, r, NULL) : EXIT_OK;
}

/* Processes the bus until *flag or for that long; false when the connection is gone. */
static bool process_until(struct run *run, const bool *flag, uint64_t usec)
{
	uint64_t end = usec == UINT64_MAX ? usec : (uint64_t)g_get_monotonic_time() + usec, now;
	int r = 0;

	while (!*flag && r >= 0) {
		r = sd_bus_process(run->client->bus, NULL);
		if (r != 0)
			continue;
		now = (uint64_t)g_get_monotonic_time();
		if (now >= end)
			return true;
		r = sd_bus_wait(run->client->bus, end == UINT64_MAX ? UINT64_MAX : end - now);
		if (r == -EINTR)
			r = 0;
	}
	return r >= 0;
}

/* The key after Ctrl-] */
static bool on_key(char key, void *data)
{
	struct run *run = data;

	switch (key) {
	case 'd':
		run->detach = true;
		return true;
	case 't':
		run->asked = run->terminate = true;
		return true;
	case 's':
		run->asked = true;
		(void)client_simple_call(run->client, run->vm, "PowerButton");
		return false;
	default:
		fprintf(stderr,
			"\r\nCtrl-] d: detach, s: shut down, t: terminate, Ctrl-] again: send Ctrl-]\r\n");
		return false;
	}
}

static int verdict(struct run *run)
{
	const char *why = run->exit_reason[0] ? run->exit_reason : run->reason;
	bool good = strcmp(run->state, "crashed") != 0 && strcmp(run->state, "failed") != 0 &&
		    (run->asked || strcmp(why, "guest-shutdown") == 0);

	if (run->client->json)
		print_json(g_variant_new_parsed("{'vm': <%s>, 'state': <%s>, 'reason': <%s>}",
						run->vm, run->state, why),
			   false);
	else if (!good || isatty(STDIN_FILENO))
		fprintf(stderr, "'%s' has ended: %s%s%s\n", run->vm,
			run->state[0] ? run->state : "removed", why[0] ? ", " : "", why);
	return good ? EXIT_OK : EXIT_FAILED;
}

/* The exit status when it was left running, -1 to wait for its end. */
static int attach(struct run *run, int fd)
{
	struct console_params params = {
		.fd = fd,
		.bus = run->client->bus,
		.stop = &run->ended,
		.stay = true,
		.on_key = on_key,
		.data = run,
	};

	if (isatty(STDIN_FILENO))
		fprintf(stderr,
			"'%s' is running. Ctrl-] then d detaches, s shuts down, t terminates.\n",
			run->vm);
	switch (console_pump(&params)) {
	case CONSOLE_END_CLOSED: /* the machine's end follows */
	case CONSOLE_END_STOPPED:
	case CONSOLE_END_DRAINED:
		break;
	case CONSOLE_END_LEFT:
		if (run->detach) {
			fprintf(stderr, "\nDetached; 'brumectl console %s' comes back.\n", run->vm);
			return EXIT_OK;
		}
		break;
	case CONSOLE_END_SIGNAL:
		run->asked = run->terminate = true;
		break;
	case CONSOLE_END_FAILED:
		run->terminate = true;
		break;
	}
	return -1;
}

/* What never came up is taken away again; the failure itself has been reported already. */
static void clean_up(struct run *run, const char *member)
{
	(void)sd_bus_call_method(run->client->bus, BRUME_BUS_NAME, run->path, BRUME_VM_INTERFACE,
				 member, NULL, NULL, "a{sv}", 0);
}

/* Paused until the console is here, so that its first line is not lost. */
static int start_attached(struct run *run, int *ret_fd)
{
	int r;

	r = power_start(run->client, run->vm, true, true, true);
	if (r != EXIT_OK) {
		clean_up(run, "Delete");
		return r;
	}
	r = console_open(run->client, run->vm, "", false, false, ret_fd);
	if (r == EXIT_OK)
		r = client_simple_call(run->client, run->vm, "Resume");
	if (r != EXIT_OK)
		clean_up(run, "Terminate");
	return r;
}

static int run_to_end(struct run *run)
{
	_cleanup_close_ int fd = -EBADF;
	int r;

	r = start_attached(run, &fd);
	if (r != EXIT_OK)
		return r;
	r = attach(run, fd);
	if (r >= 0)
		return r;

	if (run->terminate && !run->ended) {
		r = client_simple_call(run->client, run->vm, "Terminate");
		if (r != EXIT_OK)
			return r;
	}
	if (!process_until(run, &run->ended, run->terminate ? TERMINATE_USEC : UINT64_MAX)) {
		client_complain("the connection to the bus broke; '%s' may still be running",
				run->vm);
		return EXIT_NO_SERVICE;
	}
	if (!run->ended) {
		client_complain("'%s' has not ended after Terminate", run->vm);
		return EXIT_TIMED_OUT;
	}
	(void)process_until(run, &run->removed, LAST_WORDS_USEC);
	return verdict(run);
}

int verb_run(struct client *c, const struct arguments *a)
{
	g_autofree char *config = NULL, *name = NULL;
	_cleanup_free_ char *path = NULL;
	struct run run = { .client = c };
	int r;

	if (c->host) {
		client_complain(
			"'run' needs the console, which cannot come through ssh's bus connection; "
			"use: ssh -t %s brumectl run ...",
			c->host);
		return EXIT_USAGE;
	}
	r = definition_read(c, a, a->n_positional > 0 ? a->positional[0] : NULL, &config);
	if (r != EXIT_OK)
		return r;
	name = a->name ? g_strdup(a->name) : g_strdup_printf("run-%08x", g_random_int());
	r = client_check_text("the name", name);
	if (r == EXIT_OK)
		r = client_vm_path(name, &path);
	run.vm = name;
	run.path = path;

	if (r == EXIT_OK)
		r = client_connect(c);
	if (r == EXIT_OK)
		r = watch(&run);
	if (r == EXIT_OK)
		r = create_vm(c, a, name, config, false);
	if (r == EXIT_OK)
		r = run_to_end(&run);
	return r;
}
