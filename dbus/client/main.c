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
	g_autofree char *topic = NULL;

	if (a->n_positional == 0) {
		help_print();
		return EXIT_OK;
	}
	topic = g_strdup(a->positional[0]);
	if (a->n_positional == 2 && verb_is_family(a->positional[0])) {
		g_free(topic);
		topic = g_strjoin(" ", a->positional[0], a->positional[1], NULL);
	} else if (a->n_positional > 1) {
		client_complain("'help' takes one topic");
		return EXIT_USAGE;
	}
	return help_print_topic(topic);
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

static int unknown_verb(const char *name, const char *topic)
{
	const char *meant = verb_suggest(name);

	client_complain("unknown command '%s', see 'brumectl help%s%s'", name, topic[0] ? " " : "",
			topic);
	if (meant)
		fprintf(stderr, "hint: did you mean '%s'?\n", meant);
	return EXIT_USAGE;
}

/*
 * "device add": the second word, in front of which there may be options too.  *first becomes where
 * it is; NULL: *ret is the exit status.
 */
static const struct verb *find_second_word(struct arguments *a, int argc, char **argv, int *first,
					   int *ret)
{
	const char *word = argv[*first];
	g_autofree char *name = NULL, *program = g_strdup_printf("brumectl %s", word);
	const struct verb *verb;
	int second;

	argv[*first] = program; /* getopt's complaints begin with it */
	second = arguments_parse(a, argc - *first, argv + *first, GROUP_GLOBAL, true);
	argv[*first] = (char *)word;
	*ret = EXIT_USAGE;
	if (second < 0)
		return NULL;
	if (*first + second == argc) {
		if (a->help)
			*ret = help_print_topic(word);
		else
			client_complain("'%s' is the first of two words, see 'brumectl help %s'",
					word, word);
		return NULL;
	}
	*first += second;
	name = g_strjoin(" ", word, argv[*first], NULL);
	verb = verb_find(name);
	if (!verb)
		*ret = unknown_verb(name, word);
	return verb;
}

static int dispatch(struct arguments *a, int argc, char **argv)
{
	const struct verb *verb = NULL;
	char program[64];
	int first, r;

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
	if (verb_is_family(argv[first])) {
		verb = find_second_word(a, argc, argv, &first, &r);
		if (!verb)
			return r;
	} else if (strcmp(argv[first], "help") != 0) {
		verb = verb_find(argv[first]);
		if (!verb)
			return unknown_verb(argv[first], "");
	}
	/* getopt's complaints begin with argv[0] */
	snprintf(program, sizeof(program), "brumectl %s", verb ? verb->name : argv[first]);
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
