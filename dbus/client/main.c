/* SPDX-License-Identifier: Apache-2.0 */
/*
 * brumectl: the command line of org.brume.vm1
 *
 * Finds the verb, parses its options, runs it; the exit status is the verb's
 * (client.h).
 */
#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "build-config.h"
#include "dbus/client/arguments.h"
#include "dbus/client/client.h"
#include "dbus/client/verbs.h"

static int run_help(const struct arguments *a)
{
	if (a->n_positional == 0) {
		help_print();
		return EXIT_OK;
	}
	if (a->n_positional > 1) {
		client_complain("'help' takes one topic");
		return EXIT_USAGE;
	}
	return help_print_topic(a->positional[0]);
}

static int run_verb(const struct verb *verb, const struct arguments *a)
{
	struct client c = {
		.host = a->host,
		.user = a->user,
		.json = a->json,
		.ask_password = !a->no_ask_password,
	};
	int r;

	if (a->n_positional < verb->min || a->n_positional > verb->max) {
		client_complain("usage: brumectl %s%s%s", verb->name, verb->synopsis[0] ? " " : "",
				verb->synopsis);
		return EXIT_USAGE;
	}
	if (c.host && c.user) {
		client_complain("--host and --user exclude each other");
		return EXIT_USAGE;
	}
	r = verb->run(&c, a);
	client_disconnect(&c);
	return r;
}

static int dispatch(struct arguments *a, int argc, char **argv)
{
	const struct verb *verb = NULL;
	char program[64];
	int first;

	argv[0] = (char[]){ "brumectl" };
	first = arguments_parse(a, argc, argv, GROUP_GLOBAL, true);
	if (first < 0)
		return EXIT_USAGE;
	if (a->version) {
		printf("brumectl " BRUME_VERSION "\n");
		return EXIT_OK;
	}
	if (first == argc) {
		help_print();
		return a->help ? EXIT_OK : EXIT_USAGE;
	}
	if (strcmp(argv[first], "help") != 0) {
		verb = verb_find(argv[first]);
		if (!verb) {
			const char *meant = verb_suggest(argv[first]);

			client_complain("unknown command '%s', see 'brumectl help'", argv[first]);
			if (meant)
				fprintf(stderr, "hint: did you mean '%s'?\n", meant);
			return EXIT_USAGE;
		}
	}
	/* getopt's complaints begin with argv[0] */
	snprintf(program, sizeof(program), "brumectl %s", argv[first]);
	argv[first] = program;
	if (arguments_parse(a, argc - first, argv + first, GROUP_GLOBAL | (verb ? verb->groups : 0),
			    false) < 0)
		return EXIT_USAGE;
	if (!verb)
		return run_help(a);
	if (a->help)
		return help_print_topic(verb->name);
	return run_verb(verb, a);
}

int main(int argc, char **argv)
{
	struct arguments a;
	int r;

	setlocale(LC_ALL, "");
	signal(SIGPIPE, SIG_IGN); /* write errors are looked at */
	arguments_init(&a);
	r = dispatch(&a, argc, argv);
	arguments_deinit(&a);
	if (fflush(stdout) != 0 && r == EXIT_OK) {
		client_complain("cannot write the output");
		r = EXIT_FAILED;
	}
	return r;
}
