/* SPDX-License-Identifier: Apache-2.0 */
#include "dbus/client/verbs.h"

#include <stdio.h>
#include <string.h>

#include "dbus/client/properties.h"
#include "vmm/config/help.h"

const struct verb verbs[] = {
	{ "list", "", "List the virtual machines", 0, 0, 0, verb_list },
	{ "show", "NAME", "Show everything about a virtual machine", 1, 1, 0, verb_show },
	{ "create", "NAME [FILE.json|-]", "Define a virtual machine", 1, 2, GROUP_VM | GROUP_CREATE,
	  verb_create },
	{ "validate", "[FILE.json|-]", "Check a definition without using it", 0, 1, GROUP_VM,
	  verb_validate },
	{ "run", "[FILE.json|-]", "Create, start and attach to a machine that is gone when it ends",
	  0, 1, GROUP_VM | GROUP_RUN, verb_run },
	{ "start", "NAME", "Start a virtual machine and wait until it runs", 1, 1, GROUP_START,
	  verb_start },
	{ "console", "NAME", "Use its console; Ctrl-] leaves", 1, 1, GROUP_CONSOLE, verb_console },
	{ "shutdown", "NAME", "Ask the guest to shut down and wait until it has", 1, 1, GROUP_STOP,
	  verb_shutdown },
	{ "reboot", "NAME", "Ask the guest to reboot and wait until it does", 1, 1, GROUP_STOP,
	  verb_reboot },
	{ "reset", "NAME", "Reset the machine without asking the guest", 1, 1, 0, verb_reset },
	{ "terminate", "NAME", "End the machine without asking the guest", 1, 1, 0,
	  verb_terminate },
	{ "pause", "NAME", "Stop its processors", 1, 1, 0, verb_pause },
	{ "resume", "NAME", "Let them go on", 1, 1, 0, verb_resume },
	{ "power-button", "NAME", "Press the power button once", 1, 1, 0, verb_power_button },
	{ "nmi", "NAME", "Inject a non-maskable interrupt", 1, 1, 0, verb_nmi },
	{ "delete", "NAME", "Delete the definition of a stopped machine", 1, 1, 0, verb_delete },
	{ "config", "NAME", "Print the definition as JSON", 1, 1, GROUP_CONFIG, verb_config },
	{ "set-config", "NAME [FILE.json|-]", "Replace the definition for the next start", 1, 2,
	  GROUP_VM, verb_set_config },
	{ "set-property", "NAME PROPERTY=VALUE...", "Change what its unit may use of the host", 2,
	  G_MAXINT, GROUP_PROPERTY, verb_set_property },
	{ "set-description", "NAME TEXT", "Change what 'list' says about it", 2, 2, 0,
	  verb_set_description },
	{ "autostart", "NAME on|off", "Start it with the host, or not", 2, 2, 0, verb_autostart },
	{ "devices", "NAME", "List the devices it has while it runs", 1, 1, 0, verb_devices },
	{ "device list", "NAME", "List them, as 'devices' does", 1, 1, 0, verb_devices },
	{ "device add", "NAME KIND KEY=VALUE,...", "Add a device, print its ID", 3, 3,
	  GROUP_PERSIST, verb_device_add },
	{ "device remove", "NAME DEVICE", "Have the guest let go of a device, take it away", 2, 2,
	  GROUP_NO_WAIT | GROUP_JOB | GROUP_PERSIST | GROUP_REMOVE, verb_device_remove },
	{ "device resize", "NAME DEVICE SIZE", "Give a disk another size", 3, 3, GROUP_NO_WAIT,
	  verb_device_resize },
	{ "device replace", "NAME DEVICE path=PATH[,...]", "Give a disk another image", 3, 3,
	  GROUP_PERSIST, verb_device_replace },
	{ "cpu", "NAME [NUMBER]", "Show how many vCPUs it has, or change that", 1, 2,
	  GROUP_NO_WAIT | GROUP_JOB | GROUP_PERSIST, verb_cpu },
	{ "memory", "NAME [SIZE]", "Show how much memory it has, or change that", 1, 2,
	  GROUP_NO_WAIT | GROUP_JOB | GROUP_PERSIST | GROUP_ZONE, verb_memory },
	{ "counters", "NAME [DEVICE]", "Show what its devices have counted", 1, 2, 0,
	  verb_counters },
	{ "set-link", "NAME DEVICE up|down", "Plug a network in or out", 3, 3, 0, verb_set_link },
	{ "set-rate-limit", "NAME DEVICE|GROUP bw=BYTES,ops=COUNT|none",
	  "Limit a disk, a network or a group of disks", 3, 3, 0, verb_set_rate_limit },
	{ "balloon", "NAME SIZE", "Have the guest give that much memory back", 2, 2, 0,
	  verb_balloon },
	{ "vsock", "NAME PORT", "Connect to a vsock port of the guest", 2, 2, 0, verb_vsock },
	{ "events", "[NAME]", "Print signals as they come", 0, 1, GROUP_EVENTS, verb_events },
	{ "jobs", "", "List what is going on", 0, 0, 0, verb_jobs },
	{ "cancel", "JOB", "Cancel a job", 1, 1, 0, verb_cancel },
};
const size_t n_verbs = ARRAY_SIZE(verbs);

/* What the help of a verb says about its options; those of GROUP_VM come from the tables. */
static const struct {
	unsigned int group;
	const char *text;
} group_help[] = {
	{ GROUP_START, "      --console       attach to the console before the first instruction\n"
		       "      --paused        leave the processors stopped\n"
		       "      --no-wait       return when the start is under way\n" },
	{ GROUP_STOP,
	  "      --no-wait       return when the guest has been asked\n"
	  "      --wait          return when it has happened, which is the default\n"
	  "      --force         terminate or reset when the guest does not react in time\n"
	  "      --timeout=TIME  how long the guest may take (default 90 s)\n" },
	{ GROUP_REMOVE,
	  "      --force         take it away from a guest that does not let go in time\n" },
	{ GROUP_NO_WAIT, "      --no-wait       return when it has begun\n" },
	{ GROUP_JOB, "      --timeout=TIME  how long the guest may take (default 60 s)\n" },
	{ GROUP_ZONE, "      --zone=ID       of one zone, where the memory is in zones\n" },
	{ GROUP_PERSIST, "      --persist       in the definition too, for the next starts\n" },
	{ GROUP_CREATE, "      --transient     gone when it stops\n"
			"      --autostart     start with the host\n" },
	{ GROUP_CREATE | GROUP_RUN,
	  "      --description=TEXT\n"
	  "      --slice=SLICE   the systemd slice of its unit\n"
	  "  -p, --property=NAME=VALUE\n"
	  "                      of its unit, see 'brumectl help set-property'\n" },
	{ GROUP_PROPERTY,
	  "      --runtime       only until it stops; the next start knows nothing of it\n" },
	{ GROUP_RUN, "      --name=NAME     instead of run- and a random number\n" },
	{ GROUP_CONSOLE,
	  "      --console=NAME  serial, console or debug (default: the first there is)\n"
	  "      --force         take it over from who has it\n"
	  "      --read-only     only listen\n"
	  "      --timeout=TIME  without a terminal: listen that long after the end of input\n"
	  "                      (default: until 2 s of silence)\n" },
	{ GROUP_CONFIG,
	  "      --next          what the next start will use, even if it runs with another\n" },
	{ GROUP_EVENTS, "      --timeout=TIME  end after that long\n" },
	{ GROUP_VM,
	  "      --cpus --memory --kernel --initramfs --cmdline --firmware --boot-protocol\n"
	  "      --disk --net --fs --pmem --vsock --rng --serial --console --debug-console\n"
	  "      --platform --pci-segment --iommu --numa --rate-limit-group --balloon --rtc\n"
	  "      --pvpanic --watchdog --watchdog-action --fw-cfg-config\n"
	  "                      the definition, see 'brumectl help disk' and so on\n" },
};

static const char rate_limit_help[] =
	"\nA limit replaces the one there is, until the machine stops:\n"
	"  bw=BYTES       that many bytes each bw_time\n"
	"  bw_time=TIME   default 1s\n"
	"  bw_burst=BYTES that many more, once\n"
	"  ops=COUNT      that many requests or frames each ops_time\n"
	"  ops_time=TIME  default 1s\n"
	"  ops_burst=COUNT\n"
	"  direction=rx|tx|both  of a network: to the guest, from it (default both)\n"
	"  none           no limit\n";

static const char kinds_help[] =
	"\nKIND is disk, net, fs, pmem or vsock, and the keys are those of the option of that name\n"
	"in a definition, see 'brumectl help disk' and so on.\n";

static const char medium_help[] =
	"\nBesides path there may be image_type and backing_files, see 'brumectl help disk'; fd=NUMBER\n"
	"in place of path is a descriptor that brumectl was started with.\n";

static const char interrupt_help[] = "\nCtrl-C cancels what is waited for.\n";

static const char global_help[] =
	"      --json          machine-readable output\n"
	"      --user          the machines of this session instead of the system's\n"
	"  -H, --host=[USER@]HOST  another host, through ssh\n"
	"      --no-ask-password   fail instead of asking for a password\n"
	"  -h, --help\n"
	"      --version\n";

const struct verb *verb_find(const char *name)
{
	for (size_t i = 0; i < n_verbs; i++)
		if (strcmp(verbs[i].name, name) == 0)
			return &verbs[i];
	return NULL;
}

bool verb_is_family(const char *word)
{
	size_t n = strlen(word);

	for (size_t i = 0; i < n_verbs; i++)
		if (strncmp(verbs[i].name, word, n) == 0 && verbs[i].name[n] == ' ')
			return true;
	return false;
}

const char *verb_suggest(const char *name)
{
	/* virsh, machinectl, docker and the shell */
	static const struct {
		const char *typed, *verb;
	} habits[] = {
		{ "ls", "list" },
		{ "ps", "list" },
		{ "info", "show" },
		{ "status", "show" },
		{ "inspect", "show" },
		{ "dominfo", "show" },
		{ "define", "create" },
		{ "new", "create" },
		{ "boot", "start" },
		{ "stop", "shutdown" },
		{ "halt", "shutdown" },
		{ "poweroff", "shutdown" },
		{ "destroy", "terminate" },
		{ "kill", "terminate" },
		{ "restart", "reboot" },
		{ "suspend", "pause" },
		{ "unpause", "resume" },
		{ "rm", "delete" },
		{ "remove", "delete" },
		{ "undefine", "delete" },
		{ "dumpxml", "config" },
		{ "edit", "set-config" },
		{ "monitor", "events" },
		{ "attach", "console" },
		{ "login", "console" },
		{ "cpus", "cpu" },
		{ "vcpus", "cpu" },
		{ "setvcpus", "cpu" },
		{ "mem", "memory" },
		{ "setmem", "memory" },
		{ "attach-device", "device add" },
		{ "attach-disk", "device add" },
		{ "attach-interface", "device add" },
		{ "detach-device", "device remove" },
		{ "detach-disk", "device remove" },
		{ "detach-interface", "device remove" },
		{ "device attach", "device add" },
		{ "device detach", "device remove" },
		{ "device rm", "device remove" },
		{ "device delete", "device remove" },
		{ "device ls", "device list" },
		{ "blockresize", "device resize" },
		{ "change-media", "device replace" },
	};

	for (size_t i = 0; i < n_verbs; i++)
		if (g_ascii_strcasecmp(verbs[i].name, name) == 0)
			return verbs[i].name;
	for (size_t i = 0; i < ARRAY_SIZE(habits); i++)
		if (g_ascii_strcasecmp(habits[i].typed, name) == 0)
			return habits[i].verb;
	return NULL;
}

void help_print(void)
{
	printf("brumectl [OPTION...] COMMAND ...\n\nControl virtual machines.\n\nCommands:\n");
	for (size_t i = 0; i < n_verbs; i++)
		printf("  %-16s %s\n", verbs[i].name, verbs[i].summary);
	printf("  %-16s %s\n", "help [TOPIC]",
	       "A command, or an option of a definition: disk, net, cpus, ...");
	printf("\nOptions:\n%s\nSee brumectl(1).\n", global_help);
}

static void print_verb(const struct verb *verb)
{
	printf("brumectl %s%s%s%s\n\n%s.\n\nOptions:\n", verb->name,
	       verb->groups ? " [OPTION...]" : "", verb->synopsis[0] ? " " : "", verb->synopsis,
	       verb->summary);
	for (size_t i = 0; i < ARRAY_SIZE(group_help); i++)
		if (group_help[i].group & verb->groups)
			fputs(group_help[i].text, stdout);
	fputs(global_help, stdout);
	if (verb->groups & GROUP_PROPERTY) {
		printf("\nProperties, an empty value for what a unit has by itself:\n");
		properties_print_help();
	}
	if (verb->run == verb_set_rate_limit)
		fputs(rate_limit_help, stdout);
	if (verb->run == verb_device_add)
		fputs(kinds_help, stdout);
	if (verb->run == verb_device_replace)
		fputs(medium_help, stdout);
	if (verb->groups & GROUP_JOB)
		fputs(interrupt_help, stdout);
}

/* "device": each that begins so. */
static void print_family(const char *word)
{
	size_t n = strlen(word);
	bool first = true;

	for (size_t i = 0; i < n_verbs; i++) {
		if (strncmp(verbs[i].name, word, n) != 0 || verbs[i].name[n] != ' ')
			continue;
		printf("%sbrumectl %s%s %s\n    %s.\n", first ? "" : "\n", verbs[i].name,
		       verbs[i].groups ? " [OPTION...]" : "", verbs[i].synopsis, verbs[i].summary);
		first = false;
	}
	printf("\n'brumectl help %s add' and so on say more.\n", word);
}

int help_print_topic(const char *topic)
{
	const struct verb *verb = verb_find(topic);
	g_autofree char *text = NULL;

	if (verb_is_family(topic)) {
		print_family(topic);
		return EXIT_OK;
	}
	text = config_help(topic[0] == '-' ? topic + strspn(topic, "-") : topic);
	if (verb) {
		print_verb(verb);
		if (text) /* console and memory are both */
			printf("\nIn a definition:\n\n%s", text);
		return EXIT_OK;
	}
	if (!text) {
		client_complain("there is no command and no option of a definition called '%s'",
				topic);
		return EXIT_USAGE;
	}
	fputs(text, stdout);
	return EXIT_OK;
}
