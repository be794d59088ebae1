/* SPDX-License-Identifier: Apache-2.0 */
/*
 * brume-vmm: one virtual machine
 *
 * Started by brumed in a unit of its own, with a listening control socket as
 * standard input and nothing else; everything it works with arrives over that
 * socket (vmm/api/protocol.h).
 */
#include <errno.h>
#include <getopt.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <systemd/sd-daemon.h>
#include <systemd/sd-event.h>

#include "build-config.h"
#include "vmm/api/control.h"
#include "vmm/api/protocol.h"
#include "vmm/base/err.h"
#include "vmm/base/log.h"
#include "vmm/base/thread.h"
#include "vmm/sandbox/sandbox.h"

struct options {
	enum sandbox_mode sandbox;
};

static void usage(FILE *out)
{
	fputs("usage: brume-vmm [--log-level=error|warning|info|debug] [--seccomp=kill|log|off]\n"
	      "\n"
	      "Runs one virtual machine.  Started by brumed(8): standard input is the listening\n"
	      "control socket.  --seccomp=log and off are for debugging.\n",
	      out);
}

static int parse_level(const char *s)
{
	static const struct {
		const char *name;
		enum log_level level;
	} levels[] = { { "error", LOG_LEVEL_ERROR },
		       { "warning", LOG_LEVEL_WARNING },
		       { "info", LOG_LEVEL_INFO },
		       { "debug", LOG_LEVEL_DEBUG } };

	for (size_t i = 0; i < ARRAY_SIZE(levels); i++) {
		if (strcmp(s, levels[i].name) == 0) {
			log_set_level(levels[i].level);
			return 0;
		}
	}
	fprintf(stderr, "brume-vmm: --log-level: '%s' must be error, warning, info or debug\n", s);
	return -EINVAL;
}

static int parse_sandbox(const char *s, enum sandbox_mode *ret)
{
	if (strcmp(s, "kill") == 0)
		*ret = SANDBOX_KILL;
	else if (strcmp(s, "log") == 0)
		*ret = SANDBOX_LOG;
	else if (strcmp(s, "off") == 0)
		*ret = SANDBOX_OFF;
	else {
		fprintf(stderr, "brume-vmm: --seccomp: '%s' must be kill, log or off\n", s);
		return -EINVAL;
	}
	return 0;
}

/* 1 = go on, 0 = done, -EINVAL */
static int parse(int argc, char **argv, struct options *ret)
{
	static const struct option options[] = {
		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'V' },
		{ "log-level", required_argument, NULL, 'l' },
		{ "seccomp", required_argument, NULL, 's' },
		{ NULL, 0, NULL, 0 },
	};
	int c, r = 0;

	while (r == 0 && (c = getopt_long(argc, argv, "h", options, NULL)) >= 0) {
		switch (c) {
		case 'h':
			usage(stdout);
			return 0;
		case 'V':
			puts("brume-vmm " BRUME_VERSION);
			return 0;
		case 'l':
			r = parse_level(optarg);
			break;
		case 's':
			r = parse_sandbox(optarg, &ret->sandbox);
			break;
		default:
			usage(stderr);
			return -EINVAL;
		}
	}
	if (r == 0 && optind < argc) {
		fprintf(stderr, "brume-vmm: unexpected argument '%s'\n", argv[optind]);
		return -EINVAL;
	}
	return r < 0 ? r : 1;
}

/* SIGTERM and SIGRTMIN+4 (machinectl poweroff) press the button, SIGINT reboots. */
static int on_signal(sd_event_source *source _unused_, const struct signalfd_siginfo *si,
		     void *data)
{
	if (si->ssi_signo == SIGINT)
		control_reboot(data);
	else
		control_power_button(data);
	return 0;
}

/* Signals are read by the event loop; threads set a mask of their own (base/thread.c). */
static int set_up_signals(void)
{
	sigset_t mask;

	sigemptyset(&mask);
	sigaddset(&mask, SIGTERM);
	sigaddset(&mask, SIGINT);
	sigaddset(&mask, SIGRTMIN + 4);
	if (sigprocmask(SIG_BLOCK, &mask, NULL) < 0 || signal(SIGPIPE, SIG_IGN) == SIG_ERR)
		return -errno;
	return 0;
}

static int watch_signals(sd_event *event, struct control *control)
{
	const int signals[] = { SIGTERM, SIGINT, SIGRTMIN + 4 };
	int r = 0;

	for (size_t i = 0; r >= 0 && i < ARRAY_SIZE(signals); i++)
		r = sd_event_add_signal(event, NULL, signals[i], on_signal, control);
	return r;
}

static int run(const struct options *options, struct err *err)
{
	_cleanup_(sd_event_unrefp) sd_event *event = NULL;
	struct control *control = NULL;
	int r;

	thread_set_role(THREAD_ROLE_CONTROL);
	r = set_up_signals();
	if (r >= 0)
		r = sd_event_new(&event);
	if (r < 0)
		return err_errno(err, -r, "cannot set the event loop up");
	r = sandbox_init(options->sandbox, err);
	if (r < 0)
		return r;
	r = control_new(event, STDIN_FILENO, &control, err);
	if (r < 0)
		return r;
	r = watch_signals(event, control);
	if (r >= 0)
		r = sd_event_set_watchdog(event, true);
	if (r < 0) {
		control_free(control);
		return err_errno(err, -r, "cannot set the event loop up");
	}
	r = sandbox_enter(THREAD_ROLE_CONTROL, err);
	if (r >= 0)
		r = sd_event_loop(event);
	control_free(control);
	return r;
}

int main(int argc, char **argv)
{
	struct options options = { .sandbox = SANDBOX_KILL };
	struct err err = { 0 };
	int r = parse(argc, argv, &options);

	if (r <= 0)
		return r < 0 ? WORKER_EXIT_USAGE : WORKER_EXIT_OK;
	/* Nothing is allocated on a data path, so an arena for each thread would only be memory. */
	mallopt(M_ARENA_MAX, 1);
	if (isatty(STDERR_FILENO))
		log_set_plain();
	r = run(&options, &err);
	if (r < 0) {
		log_error("%s", err.code ? err.msg : strerror(-r));
		return WORKER_EXIT_CONTROL;
	}
	return r;
}
