/* SPDX-License-Identifier: Apache-2.0 */
/*
 * brumed: options, event loop, bus
 *
 * Order of start: definitions, adoption of running workers, bus name, READY=1,
 * autostart.  Workers are ordered after this service, so READY comes before
 * the first of them is started.  SIGTERM and SIGINT end the
 * daemon; the VMs go on.
 */
#include "build-config.h"
#include "daemon/adopt.h"
#include "daemon/autostart.h"
#include "daemon/bus-name.h"
#include "daemon/child.h"
#include "daemon/manager.h"
#include "daemon/unit.h"
#include "dbus/bus-path.h"
#include "dbus/introspect.h"
#include "dbus/service.h"
#include "vmm/base/cleanup.h"
#include "vmm/base/err.h"
#include "vmm/base/log.h"
#include <errno.h>
#include <getopt.h>
#include <glib.h>
#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <systemd/sd-bus.h>
#include <systemd/sd-daemon.h>
#include <systemd/sd-event.h>
#include <unistd.h>

#define NAME_WAIT_USEC (5 * 1000000ULL) /* for a killed predecessor to be noticed */

struct options {
	bool user, worker_direct;
	const char *introspect, *state_dir, *runtime_dir, *worker, *kvm_device, *address;
};

struct daemon {
	struct options options;
	char *state_dir, *runtime_dir;
	sd_event *event;
	sd_bus *bus;
	struct manager *manager;
	struct service *service;
	struct bus_name *name;
};

enum {
	OPTION_USER = 256,
	OPTION_INTROSPECT,
	OPTION_STATE_DIR,
	OPTION_RUNTIME_DIR,
	OPTION_WORKER,
	OPTION_WORKER_DIRECT,
	OPTION_KVM_DEVICE,
	OPTION_ADDRESS,
	OPTION_DEBUG,
};

static void print_help(void)
{
	printf("brumed [OPTION...]\n"
	       "\n"
	       "Virtual machine manager: serves " BRUME_BUS_NAME " on the system bus.\n"
	       "\n"
	       "  --user                  serve this user, on the user bus\n"
	       "  --bus-introspect=list   print the names of the interfaces\n"
	       "  --bus-introspect=IFACE  print the XML of an interface\n"
	       "  --debug                 log more\n"
	       "  --version, --help\n"
	       "\n"
	       "For tests:\n"
	       "  --address=ADDRESS       use this bus instead\n"
	       "  --state-dir=DIR         definitions\n"
	       "  --runtime-dir=DIR       sockets and state of running VMs\n"
	       "  --worker=PATH           the worker's executable\n"
	       "  --worker-direct         run workers as plain children WITHOUT A SANDBOX\n"
	       "  --kvm-device=PATH       what workers get as /dev/kvm\n");
}

/* 1: go on; 0: done, successfully; < 0: usage. */
static int parse_options(int argc, char **argv, struct options *options)
{
	static const struct option table[] = {
		{ "user", no_argument, NULL, OPTION_USER },
		{ "bus-introspect", required_argument, NULL, OPTION_INTROSPECT },
		{ "state-dir", required_argument, NULL, OPTION_STATE_DIR },
		{ "runtime-dir", required_argument, NULL, OPTION_RUNTIME_DIR },
		{ "worker", required_argument, NULL, OPTION_WORKER },
		{ "worker-direct", no_argument, NULL, OPTION_WORKER_DIRECT },
		{ "kvm-device", required_argument, NULL, OPTION_KVM_DEVICE },
		{ "address", required_argument, NULL, OPTION_ADDRESS },
		{ "debug", no_argument, NULL, OPTION_DEBUG },
		{ "version", no_argument, NULL, 'v' },
		{ "help", no_argument, NULL, 'h' },
		{ 0 },
	};
	int c;

	while ((c = getopt_long(argc, argv, "hv", table, NULL)) >= 0) {
		switch (c) {
		case OPTION_USER:
			options->user = true;
			break;
		case OPTION_INTROSPECT:
			options->introspect = optarg;
			break;
		case OPTION_STATE_DIR:
			options->state_dir = optarg;
			break;
		case OPTION_RUNTIME_DIR:
			options->runtime_dir = optarg;
			break;
		case OPTION_WORKER:
			options->worker = optarg;
			break;
		case OPTION_WORKER_DIRECT:
			options->worker_direct = true;
			break;
		case OPTION_KVM_DEVICE:
			options->kvm_device = optarg;
			break;
		case OPTION_ADDRESS:
			options->address = optarg;
			break;
		case OPTION_DEBUG:
			log_set_level(LOG_LEVEL_DEBUG);
			break;
		case 'v':
			printf("brumed " BRUME_VERSION "\n");
			return 0;
		case 'h':
			print_help();
			return 0;
		default:
			return -EINVAL;
		}
	}
	if (optind < argc) {
		fprintf(stderr, "brumed: unexpected argument '%s', see --help\n", argv[optind]);
		return -EINVAL;
	}
	return 1;
}

/* systemd gives a list when a unit has several; ours has one. */
static char *directory(const char *option, const char *variable, const char *user_variable,
		       const char *user_fallback, const char *system, bool user)
{
	const char *value = option ? option : getenv(variable);

	if (value)
		return g_strdup(value);
	if (!user)
		return g_strdup(system);
	value = getenv(user_variable);
	if (value)
		return g_build_filename(value, "brume", NULL);
	return g_build_filename(g_get_home_dir(), user_fallback, "brume", NULL);
}

static int open_bus(struct daemon *d, struct err *err)
{
	sd_bus *bus = NULL;
	int r;

	if (d->options.address) {
		r = sd_bus_new(&bus);
		if (r >= 0)
			r = sd_bus_set_address(bus, d->options.address);
		if (r >= 0)
			r = sd_bus_set_bus_client(bus, true);
		if (r >= 0)
			r = sd_bus_start(bus);
	} else {
		r = d->options.user ? sd_bus_open_user(&bus) : sd_bus_open_system(&bus);
	}
	d->bus = bus;
	if (r >= 0)
		r = sd_bus_attach_event(bus, d->event, SD_EVENT_PRIORITY_NORMAL);
	/* A lost bus is a reason to be restarted: the VMs do not notice. */
	if (r >= 0)
		r = sd_bus_set_exit_on_disconnect(bus, true);
	return r < 0 ? err_errno(err, -r, "cannot connect to the bus") : 0;
}

static int make_spawner(struct daemon *d, struct spawner **ret, struct err *err)
{
	const char *worker = d->options.worker ? d->options.worker : BRUME_WORKER_PATH;

	if (d->options.worker_direct)
		return child_spawner_new(d->event, worker, ret, err);
	return unit_spawner_new(d->bus, worker, d->runtime_dir, d->options.user, ret, err);
}

static void on_name(void *data, const struct err *err)
{
	struct daemon *d = data;

	if (err) {
		log_error("%s", err->msg);
		sd_event_exit(d->event, EXIT_FAILURE);
		return;
	}
	log_info("brumed " BRUME_VERSION " serves " BRUME_BUS_NAME ", %u VMs, %u running",
		 g_hash_table_size(d->manager->machines), d->manager->n_running);
	sd_notifyf(false, "READY=1\nSTATUS=%u VMs, %u running",
		   g_hash_table_size(d->manager->machines), d->manager->n_running);
	autostart_run(d->manager->autostart);
}

static void on_adopted(void *data)
{
	struct daemon *d = data;
	struct err err = { 0 };

	if (bus_name_request(d->bus, BRUME_BUS_NAME, NAME_WAIT_USEC, on_name, d, &d->name, &err) <
	    0)
		on_name(d, &err);
}

static int block_signals(sd_event *event)
{
	sigset_t mask;
	int r;

	sigemptyset(&mask);
	sigaddset(&mask, SIGTERM);
	sigaddset(&mask, SIGINT);
	if (sigprocmask(SIG_BLOCK, &mask, NULL) < 0)
		return -errno;
	r = sd_event_add_signal(event, NULL, SIGTERM, NULL, NULL);
	if (r >= 0)
		r = sd_event_add_signal(event, NULL, SIGINT, NULL, NULL);
	return r;
}

static int daemon_start(struct daemon *d, struct err *err)
{
	const struct options *o = &d->options;
	struct manager_options manager_options = { 0 };
	struct spawner *spawner = NULL;
	int r;

	d->state_dir = directory(o->state_dir, "STATE_DIRECTORY", "XDG_STATE_HOME", ".local/state",
				 "/var/lib/brume", o->user);
	d->runtime_dir = directory(o->runtime_dir, "RUNTIME_DIRECTORY", "XDG_RUNTIME_DIR",
				   ".cache/run", "/run/brume", o->user);
	r = sd_event_default(&d->event);
	if (r >= 0)
		r = block_signals(d->event);
	if (r >= 0)
		r = sd_event_set_watchdog(d->event, true);
	if (r < 0)
		return err_errno(err, -r, "cannot make the event loop");
	r = open_bus(d, err);
	if (r == 0)
		r = make_spawner(d, &spawner, err);
	if (r < 0)
		return r;
	manager_options = (struct manager_options){
		.user = o->user,
		.state_dir = d->state_dir,
		.runtime_dir = d->runtime_dir,
		.kvm_device = o->kvm_device ? o->kvm_device : "/dev/kvm",
		.default_slice = "machine.slice",
	};
	r = manager_new(d->event, &manager_options, spawner, &d->manager, err);
	if (r == 0)
		r = service_new(d->bus, d->manager, !o->user, &d->service, err);
	if (r == 0)
		r = manager_load(d->manager, err);
	if (r == 0)
		r = manager_adopt(d->manager, on_adopted, d, err);
	return r;
}

static void daemon_stop(struct daemon *d)
{
	bus_name_free(d->name);
	service_free(d->service);
	manager_free(d->manager);
	sd_bus_flush_close_unref(d->bus);
	sd_event_unref(d->event);
	g_free(d->state_dir);
	g_free(d->runtime_dir);
}

static int run(struct daemon *d)
{
	int r = sd_event_loop(d->event);

	if (r != 0 && sd_bus_is_open(d->bus) <= 0)
		log_error("lost the connection to the bus");
	return r;
}

int main(int argc, char **argv)
{
	struct daemon d = { 0 };
	struct err err = { 0 };
	int r;

	setlocale(LC_CTYPE, "C.UTF-8");
	r = parse_options(argc, argv, &d.options);
	if (r <= 0)
		return r < 0 ? 2 : EXIT_SUCCESS;
	if (isatty(STDERR_FILENO) || d.options.introspect)
		log_set_plain();
	if (d.options.introspect) {
		r = introspect_print(d.options.introspect, stdout, &err);
		if (r < 0)
			log_error("%s", err.msg);
		return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
	}
	umask(0077);
	r = daemon_start(&d, &err);
	if (r < 0)
		log_error("%s", err.msg);
	else
		r = run(&d);
	sd_notify(false, "STOPPING=1");
	daemon_stop(&d);
	return r == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
