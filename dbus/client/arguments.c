/* SPDX-License-Identifier: Apache-2.0 */
#include "dbus/client/arguments.h"

#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#include "dbus/client/client.h"

enum option_id {
	OPTION_HELP = 256,
	OPTION_VERSION,
	OPTION_JSON,
	OPTION_USER,
	OPTION_HOST,
	OPTION_NO_ASK_PASSWORD,
	OPTION_WAIT,
	OPTION_NO_WAIT,
	OPTION_FORCE,
	OPTION_TIMEOUT,
	OPTION_PAUSED,
	OPTION_ATTACH,
	OPTION_NEXT,
	OPTION_TRANSIENT,
	OPTION_AUTOSTART,
	OPTION_DESCRIPTION,
	OPTION_SLICE,
	OPTION_NAME,
	OPTION_READ_ONLY,
	OPTION_CONSOLE_NAME,
	OPTION_PROPERTY,
	OPTION_RUNTIME,
	OPTION_PERSIST,
	OPTION_ZONE,
	OPTION_VM, /* + the row's index: a section of the definition */
};

/* The same name may mean different things in different groups; no verb takes both. */
static const struct {
	const char *name;
	int argument;
	enum option_id id;
	unsigned int groups;
} rows[] = {
	{ "help", no_argument, OPTION_HELP, GROUP_GLOBAL },
	{ "version", no_argument, OPTION_VERSION, GROUP_GLOBAL },
	{ "json", no_argument, OPTION_JSON, GROUP_GLOBAL },
	{ "user", no_argument, OPTION_USER, GROUP_GLOBAL },
	{ "host", required_argument, OPTION_HOST, GROUP_GLOBAL },
	{ "no-ask-password", no_argument, OPTION_NO_ASK_PASSWORD, GROUP_GLOBAL },
	{ "wait", no_argument, OPTION_WAIT, GROUP_STOP },
	{ "no-wait", no_argument, OPTION_NO_WAIT, GROUP_START | GROUP_STOP | GROUP_NO_WAIT },
	{ "force", no_argument, OPTION_FORCE, GROUP_STOP | GROUP_CONSOLE | GROUP_REMOVE },
	{ "timeout", required_argument, OPTION_TIMEOUT,
	  GROUP_STOP | GROUP_CONSOLE | GROUP_EVENTS | GROUP_JOB },
	{ "paused", no_argument, OPTION_PAUSED, GROUP_START },
	{ "console", no_argument, OPTION_ATTACH, GROUP_START },
	{ "console", required_argument, OPTION_CONSOLE_NAME, GROUP_CONSOLE },
	{ "read-only", no_argument, OPTION_READ_ONLY, GROUP_CONSOLE },
	{ "next", no_argument, OPTION_NEXT, GROUP_CONFIG },
	{ "transient", no_argument, OPTION_TRANSIENT, GROUP_CREATE },
	{ "autostart", no_argument, OPTION_AUTOSTART, GROUP_CREATE },
	{ "description", required_argument, OPTION_DESCRIPTION, GROUP_CREATE | GROUP_RUN },
	{ "slice", required_argument, OPTION_SLICE, GROUP_CREATE | GROUP_RUN },
	{ "property", required_argument, OPTION_PROPERTY, GROUP_CREATE | GROUP_RUN },
	{ "runtime", no_argument, OPTION_RUNTIME, GROUP_PROPERTY },
	{ "persist", no_argument, OPTION_PERSIST, GROUP_PERSIST },
	{ "zone", required_argument, OPTION_ZONE, GROUP_ZONE },
	{ "name", required_argument, OPTION_NAME, GROUP_RUN },
	{ "cpus", required_argument, OPTION_VM, GROUP_VM },
	{ "memory", required_argument, OPTION_VM, GROUP_VM },
	{ "kernel", required_argument, OPTION_VM, GROUP_VM },
	{ "initramfs", required_argument, OPTION_VM, GROUP_VM },
	{ "cmdline", required_argument, OPTION_VM, GROUP_VM },
	{ "firmware", required_argument, OPTION_VM, GROUP_VM },
	{ "boot-protocol", required_argument, OPTION_VM, GROUP_VM },
	{ "disk", required_argument, OPTION_VM, GROUP_VM },
	{ "net", required_argument, OPTION_VM, GROUP_VM },
	{ "rng", required_argument, OPTION_VM, GROUP_VM },
	{ "serial", required_argument, OPTION_VM, GROUP_VM },
	{ "console", required_argument, OPTION_VM, GROUP_VM },
	{ "debug-console", required_argument, OPTION_VM, GROUP_VM },
	{ "fs", required_argument, OPTION_VM, GROUP_VM },
	{ "pmem", required_argument, OPTION_VM, GROUP_VM },
	{ "vsock", required_argument, OPTION_VM, GROUP_VM },
	{ "iommu", required_argument, OPTION_VM, GROUP_VM },
	{ "numa", required_argument, OPTION_VM, GROUP_VM },
	{ "pci-segment", required_argument, OPTION_VM, GROUP_VM },
	{ "rate-limit-group", required_argument, OPTION_VM, GROUP_VM },
	{ "balloon", required_argument, OPTION_VM, GROUP_VM },
	{ "rtc", required_argument, OPTION_VM, GROUP_VM },
	{ "pvpanic", required_argument, OPTION_VM, GROUP_VM },
	{ "watchdog", required_argument, OPTION_VM, GROUP_VM },
	{ "watchdog-action", required_argument, OPTION_VM, GROUP_VM },
	{ "fw-cfg-config", required_argument, OPTION_VM, GROUP_VM },
	{ "platform", required_argument, OPTION_VM, GROUP_VM },
};

void arguments_init(struct arguments *a)
{
	*a = (struct arguments){
		.vm_options = g_array_new(FALSE, TRUE, sizeof(struct vm_option)),
		.properties = g_ptr_array_new(),
	};
}

void arguments_deinit(struct arguments *a)
{
	g_array_unref(a->vm_options);
	g_ptr_array_unref(a->properties);
}

bool parse_duration(const char *text, uint64_t *ret_usec)
{
	static const struct {
		const char *suffix;
		double usec;
	} units[] = {
		{ "", 1e6 }, { "s", 1e6 },    { "sec", 1e6 }, { "ms", 1e3 },
		{ "us", 1 }, { "min", 60e6 }, { "m", 60e6 },  { "h", 3600e6 },
	};
	char *end = NULL;
	double value;

	if (strcmp(text, "infinity") == 0) {
		*ret_usec = UINT64_MAX;
		return true;
	}
	value = g_ascii_strtod(text, &end);
	if (end == text || !(value >= 0))
		return false;
	for (size_t i = 0; i < ARRAY_SIZE(units); i++) {
		if (strcmp(end, units[i].suffix) != 0)
			continue;
		if (value * units[i].usec > 1e18)
			return false;
		*ret_usec = (uint64_t)(value * units[i].usec);
		return true;
	}
	return false;
}

bool parse_count(const char *text, uint64_t *ret)
{
	static const char suffixes[] = "KMGT";
	const char *suffix = NULL;
	char *end;

	if (!g_ascii_isdigit(*text))
		return false;
	errno = 0;
	*ret = g_ascii_strtoull(text, &end, 10);
	if (errno)
		return false;
	if (*end)
		suffix = strchr(suffixes, g_ascii_toupper(*end));
	if (*end && (!suffix || end[1]))
		return false;
	return !suffix || !__builtin_mul_overflow(*ret, 1024ULL << (10 * (suffix - suffixes)), ret);
}

static int apply_timeout(struct arguments *a, const char *text)
{
	if (!parse_duration(text, &a->timeout_usec)) {
		client_complain("'%s' is not a duration, use seconds, or 500ms, 2min, 1h, infinity",
				text);
		return -1;
	}
	a->has_timeout = true;
	return 0;
}

static int apply(struct arguments *a, enum option_id id, const char *value)
{
	switch (id) {
	case OPTION_HELP:
		a->help = true;
		break;
	case OPTION_VERSION:
		a->version = true;
		break;
	case OPTION_JSON:
		a->json = true;
		break;
	case OPTION_USER:
		a->user = true;
		break;
	case OPTION_HOST:
		a->host = value;
		break;
	case OPTION_NO_ASK_PASSWORD:
		a->no_ask_password = true;
		break;
	case OPTION_WAIT:
		a->wait = true;
		break;
	case OPTION_NO_WAIT:
		a->no_wait = true;
		break;
	case OPTION_FORCE:
		a->force = true;
		break;
	case OPTION_TIMEOUT:
		return apply_timeout(a, value);
	case OPTION_PAUSED:
		a->paused = true;
		break;
	case OPTION_ATTACH:
		a->attach = true;
		break;
	case OPTION_NEXT:
		a->next = true;
		break;
	case OPTION_TRANSIENT:
		a->transient = true;
		break;
	case OPTION_AUTOSTART:
		a->autostart = true;
		break;
	case OPTION_DESCRIPTION:
		a->description = value;
		break;
	case OPTION_SLICE:
		a->slice = value;
		break;
	case OPTION_NAME:
		a->name = value;
		break;
	case OPTION_READ_ONLY:
		a->read_only = true;
		break;
	case OPTION_CONSOLE_NAME:
		a->console_name = value;
		break;
	case OPTION_PROPERTY:
		g_ptr_array_add(a->properties, (gpointer)value);
		break;
	case OPTION_RUNTIME:
		a->runtime = true;
		break;
	case OPTION_PERSIST:
		a->persist = true;
		break;
	case OPTION_ZONE:
		a->zone = value;
		break;
	case OPTION_VM:
		break;
	}
	return 0;
}

/* Cloud Hypervisor's habit: "--disk path=a path=b" is two disks. */
static void take_followers(struct arguments *a, const char *section, int argc, char **argv)
{
	while (optind < argc && argv[optind][0] != '-' && strchr(argv[optind], '=')) {
		struct vm_option option = { section, argv[optind++] };

		g_array_append_val(a->vm_options, option);
	}
}

static void add_vm_option(struct arguments *a, const char *section, int argc, char **argv)
{
	static const char *const lists[] = {
		"disk", "net", "fs", "pmem", "numa", "pci-segment", "rate-limit-group"
	};
	struct vm_option option = { section, optarg };

	g_array_append_val(a->vm_options, option);
	for (size_t i = 0; i < ARRAY_SIZE(lists); i++)
		if (strcmp(section, lists[i]) == 0)
			take_followers(a, section, argc, argv);
}

int arguments_parse(struct arguments *a, int argc, char **argv, unsigned int groups,
		    bool stop_at_verb)
{
	struct option options[ARRAY_SIZE(rows) + 1] = { 0 };
	const char *letters = stop_at_verb                          ? "+hH:"
			      : groups & (GROUP_CREATE | GROUP_RUN) ? "hH:p:"
								    : "hH:";
	bool good = true;
	size_t n = 0;
	int c;

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		if (rows[i].groups & groups)
			options[n++] = (struct option){ rows[i].name, rows[i].argument, NULL,
							OPTION_VM + (int)i };

	optind = 0; /* glibc: start over, also with the order of "+" */
	while (good && (c = getopt_long(argc, argv, letters, options, NULL)) != -1) {
		size_t row = (size_t)(c - OPTION_VM);

		if (c == 'h')
			a->help = true;
		else if (c == 'H')
			a->host = optarg;
		else if (c == 'p')
			g_ptr_array_add(a->properties, optarg);
		else if (c < OPTION_VM)
			good = false; /* getopt complained */
		else if (rows[row].id == OPTION_VM)
			add_vm_option(a, rows[row].name, argc, argv);
		else
			good = apply(a, rows[row].id, optarg) == 0;
	}
	if (!good)
		return -1;
	a->positional = argv + optind;
	a->n_positional = argc - optind;
	return optind;
}
