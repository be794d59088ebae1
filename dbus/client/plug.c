/* SPDX-License-Identifier: Apache-2.0 */
/*
 * brumectl's verbs that change what a machine has while it runs: device add, device remove, cpu,
 * memory
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "dbus/bus-path.h"
#include "dbus/client/descriptors.h"
#include "dbus/client/job.h"
#include "dbus/client/output.h"
#include "dbus/client/verbs.h"
#include "dbus/variant.h"
#include "vmm/base/err.h"
#include "vmm/config/json.h"
#include "vmm/config/option.h"

/* --- device add -------------------------------------------------------------------- */

/* Paths are as in a definition (create.c). */
static int parse_device(const struct client *c, const char *kind, const char *text, GVariant **ret)
{
	g_autofree char *dir = c->host ? NULL : g_get_current_dir();
	struct err err = { 0 };

	if (config_option_device(kind, text, dir, ret, &err) >= 0)
		return EXIT_OK;
	client_complain("%s", err.msg);
	if (err.fault != FAULT_BAD_ARGUMENT)
		fprintf(stderr, "hint: 'brumectl help %s' lists the keys\n", kind);
	return EXIT_USAGE;
}

static int append_device(const struct client *c, const struct arguments *a, sd_bus_message *m,
			 GVariant *device)
{
	g_autofree char *json = config_json_print(device, CONFIG_JSON_COMPACT);
	const char *vm = a->positional[0];
	int r;

	/* The id is among the keys, or is chosen by the service. */
	r = sd_bus_message_append(m, "ss", a->positional[1], "");
	if (r >= 0)
		r = variant_append(m, device);
	if (r < 0)
		return client_report(c, vm, r, NULL);
	r = client_append_descriptors(c, m, json);
	if (r != EXIT_OK)
		return r;
	r = sd_bus_message_open_container(m, 'a', "{sv}");
	if (a->persist)
		r = client_append_option(m, r, "Persist", "b", 1);
	if (r >= 0)
		r = sd_bus_message_close_container(m);
	return r < 0 ? client_report(c, vm, r, NULL) : EXIT_OK;
}

/* The id, which the service may have chosen: what else would "device remove" be told? */
static int print_device(const struct client *c, const char *vm, sd_bus_message *reply)
{
	_cleanup_free_ char *of = NULL, *id = NULL;
	g_autofree char *shown = NULL;
	const char *path;
	int r;

	r = sd_bus_message_read(reply, "o", &path);
	if (r >= 0)
		r = bus_path_parse_device(path, &of, &id);
	if (r < 0)
		return client_report(c, vm, r, NULL);
	if (c->json) {
		print_json(g_variant_new_parsed("{'vm': <%s>, 'device': <%s>, 'path': <%s>}", vm,
						id, path),
			   false);
		return EXIT_OK;
	}
	shown = clean_text(id);
	printf("%s\n", shown);
	return EXIT_OK;
}

int verb_device_add(struct client *c, const struct arguments *a)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL, *reply = NULL;
	g_autoptr(GVariant) device = NULL;
	const char *vm = a->positional[0];
	int r;

	r = parse_device(c, a->positional[1], a->positional[2], &device);
	if (r == EXIT_OK)
		r = client_vm_call(c, vm, "AddDevice", &m);
	if (r == EXIT_OK)
		r = append_device(c, a, m, device);
	if (r == EXIT_OK)
		r = client_call(c, vm, m, &reply);
	return r == EXIT_OK ? print_device(c, vm, reply) : r;
}

/* --- jobs ---------------------------------------------------------------------------- */

/* The options of a call whose other arguments are in it, then the job. */
static int change(struct client *c, const struct arguments *a, sd_bus_message *m, int r,
		  const struct job_wish *wish)
{
	const char *vm = a->positional[0];

	if (r >= 0)
		r = sd_bus_message_open_container(m, 'a', "{sv}");
	if (a->force)
		r = client_append_option(m, r, "Force", "b", 1);
	if (a->has_timeout)
		r = client_append_option(m, r, "TimeoutUSec", "t", a->timeout_usec);
	if (a->persist)
		r = client_append_option(m, r, "Persist", "b", 1);
	if (r >= 0)
		r = sd_bus_message_close_container(m);
	return r < 0 ? client_report(c, vm, r, NULL) : job_run(c, vm, m, wish);
}

int verb_device_remove(struct client *c, const struct arguments *a)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
	const char *vm = a->positional[0], *id = a->positional[1];
	g_autofree char *what = NULL;
	struct job_wish wish;
	int r;

	r = client_check_text("the device", id);
	if (r == EXIT_OK)
		r = client_vm_call(c, vm, "RemoveDevice", &m);
	if (r != EXIT_OK)
		return r;
	what = g_strdup_printf("removing %s", id);
	wish = (struct job_wish){
		.what = what,
		.wait = !a->no_wait,
		.cancel = true,
		.hint = "it can be tried again, or with --force taken away from the guest",
	};
	return change(c, a, m, sd_bus_message_append(m, "s", id), &wish);
}

/* --- cpu, memory ----------------------------------------------------------------------- */

/* One thing that a machine has a number of. */
struct amount {
	const char *now, *target, *max; /* properties */
	char type;                      /* of them: 'u' or 't' */
};

static const struct amount vcpus = { "VCPUs", "VCPUsTarget", "VCPUsMax", 'u' };
static const struct amount memory = { "Memory", "MemoryTarget", "MemoryMax", 't' };

static uint64_t get_number(GVariant *properties, const char *name, char type)
{
	uint32_t small = 0;
	uint64_t n = 0;

	if (type == 'u' && g_variant_lookup(properties, name, "u", &small))
		return small;
	g_variant_lookup(properties, name, "t", &n);
	return n;
}

static void print_amount(const char *name, const struct amount *amount, uint64_t n)
{
	char buf[24];

	if (amount->type == 'u')
		snprintf(buf, sizeof(buf), "%" PRIu64, n);
	else
		format_size(n, buf);
	printf("%16s: %s\n", name, buf);
}

static int show_amount(struct client *c, const struct arguments *a, const struct amount *amount)
{
	g_autoptr(GVariant) properties = NULL;
	const char *vm = a->positional[0];
	uint64_t now, target, max;
	int r;

	if (a->no_wait || a->has_timeout || a->persist || a->zone) {
		client_complain(
			"--no-wait, --timeout, --persist%s are for a change, and there is no "
			"%s to change it to",
			amount == &memory ? " and --zone" : "",
			amount == &memory ? "size" : "number");
		return EXIT_USAGE;
	}
	r = client_get_vm(c, vm, &properties);
	if (r != EXIT_OK)
		return r;
	now = get_number(properties, amount->now, amount->type);
	target = get_number(properties, amount->target, amount->type);
	max = get_number(properties, amount->max, amount->type);
	if (c->json) {
		print_json(g_variant_new_parsed("{'vm': <%s>, 'actual': <%t>, 'target': <%t>, "
						"'maximum': <%t>}",
						vm, now, target, max),
			   false);
		return EXIT_OK;
	}
	print_amount("Actual", amount, now);
	print_amount("Target", amount, target);
	print_amount("Maximum", amount, max);
	return EXIT_OK;
}

int verb_cpu(struct client *c, const struct arguments *a)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
	const char *vm = a->positional[0];
	g_autofree char *what = NULL;
	struct job_wish wish;
	guint64 n;
	int r;

	if (a->n_positional == 1)
		return show_amount(c, a, &vcpus);
	if (!g_ascii_string_to_unsigned(a->positional[1], 10, 0, UINT32_MAX, &n, NULL)) {
		client_complain("'%s' is not a number of vCPUs, must be like 4", a->positional[1]);
		return EXIT_USAGE;
	}
	r = client_vm_call(c, vm, "ResizeVCPUs", &m);
	if (r != EXIT_OK)
		return r;
	what = g_strdup_printf("resizing to %" G_GUINT64_FORMAT " vCPUs", n);
	wish = (struct job_wish){
		.what = what,
		.wait = !a->no_wait,
		.cancel = true,
		.hint = "'brumectl cpu %s' tells what it has; Linux starts a new vCPU when told to, by "
			"a rule of udev or /sys/devices/system/cpu/cpuN/online",
	};
	return change(c, a, m, sd_bus_message_append(m, "u", (uint32_t)n), &wish);
}

int verb_memory(struct client *c, const struct arguments *a)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
	const char *vm = a->positional[0];
	g_autofree char *what = NULL;
	struct job_wish wish;
	uint64_t bytes;
	char buf[24];
	int r;

	if (a->n_positional == 1)
		return show_amount(c, a, &memory);
	if (!parse_count(a->positional[1], &bytes)) {
		client_complain("'%s' is not a size, must be like 2G", a->positional[1]);
		return EXIT_USAGE;
	}
	r = client_check_text("the zone", a->zone);
	if (r == EXIT_OK)
		r = client_vm_call(c, vm, a->zone ? "ResizeMemoryZone" : "ResizeMemory", &m);
	if (r != EXIT_OK)
		return r;
	what = g_strdup_printf("resizing %s%sto %s", a->zone ? a->zone : "", a->zone ? " " : "",
			       format_size(bytes, buf));
	wish = (struct job_wish){
		.what = what,
		.wait = !a->no_wait,
		.cancel = true,
		.hint = "'brumectl memory %s' tells what it has",
	};
	r = a->zone ? sd_bus_message_append(m, "st", a->zone, bytes)
		    : sd_bus_message_append(m, "t", bytes);
	return change(c, a, m, r, &wish);
}
