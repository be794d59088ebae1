/* SPDX-License-Identifier: Apache-2.0 */
/* What there is: virtual machines, one of them in full, jobs, counters. */
#include <glib.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>

#include "dbus/bus-path.h"
#include "dbus/client/output.h"
#include "dbus/client/verbs.h"
#include "dbus/variant.h"
#include "vmm/base/err.h"

/* The reply's value of the given type, or NULL after complaining. */
static GVariant *read_reply(sd_bus_message *reply, const char *type)
{
	GVariant *value = NULL;
	struct err err = { 0 };

	if (variant_from_message(reply, type, &value, &err) < 0)
		client_complain("the service's answer makes no sense: %s", err.msg);
	return value;
}

static const char *owner_name(uint32_t uid, char buf[static 32])
{
	struct passwd *pw = getpwuid(uid);

	if (pw)
		g_strlcpy(buf, pw->pw_name, 32);
	else
		snprintf(buf, 32, "%u", uid);
	return buf;
}

static uint32_t get_u32(GVariant *dict, const char *key)
{
	uint32_t value = 0;

	g_variant_lookup(dict, key, "u", &value);
	return value;
}

static uint64_t get_u64(GVariant *dict, const char *key)
{
	uint64_t value = 0;

	g_variant_lookup(dict, key, "t", &value);
	return value;
}

static const char *get_string(GVariant *dict, const char *key)
{
	const char *value = "";

	g_variant_lookup(dict, key, "&s", &value);
	return value;
}

static int by_name(const void *a, const void *b)
{
	GVariant *const *x = a, *const *y = b;

	return strcmp(get_string(*x, "Name"), get_string(*y, "Name"));
}

/* The property dictionaries of all VMs, sorted by name, from one round trip. */
static int fetch_vms(struct client *c, GPtrArray **ret)
{
	g_autoptr(GVariant) objects = NULL;
	GVariant *interfaces;
	GVariantIter iter;
	const char *path;
	int r;

	r = client_get_objects(c, &objects);
	if (r != EXIT_OK)
		return r;
	*ret = g_ptr_array_new_with_free_func((GDestroyNotify)g_variant_unref);
	g_variant_iter_init(&iter, objects);
	while (g_variant_iter_loop(&iter, "{&o@a{sa{sv}}}", &path, &interfaces)) {
		GVariant *vm = g_variant_lookup_value(interfaces, BRUME_VM_INTERFACE,
						      G_VARIANT_TYPE_VARDICT);

		if (vm)
			g_ptr_array_add(*ret, vm);
	}
	g_ptr_array_sort(*ret, by_name);
	return EXIT_OK;
}

int verb_list(struct client *c, const struct arguments *a)
{
	static const char *const headings[] = { "NAME",  "STATE", "VCPUS",       "MEMORY",
						"OWNER", "PID",   "DESCRIPTION", NULL };
	g_autoptr(GPtrArray) vms = NULL;
	struct table table;
	int r;

	(void)a;
	r = fetch_vms(c, &vms);
	if (r != EXIT_OK)
		return r;
	if (c->json) {
		print_json(g_variant_new_array(G_VARIANT_TYPE_VARDICT,
					       (GVariant *const *)vms->pdata, vms->len),
			   false);
		return EXIT_OK;
	}
	table_init(&table, headings);
	for (unsigned int i = 0; i < vms->len; i++) {
		GVariant *vm = vms->pdata[i];
		char vcpus[16], pid[16] = "-", memory[24], owner[32];

		snprintf(vcpus, sizeof(vcpus), "%u", get_u32(vm, "VCPUs"));
		if (get_u32(vm, "MainPID"))
			snprintf(pid, sizeof(pid), "%u", get_u32(vm, "MainPID"));
		table_add(&table, get_string(vm, "Name"), get_string(vm, "State"), vcpus,
			  format_size(get_u64(vm, "Memory"), memory),
			  owner_name(get_u32(vm, "Owner"), owner), pid,
			  get_string(vm, "Description"));
	}
	table_print(&table);
	table_deinit(&table);
	if (vms->len == 0)
		fprintf(stderr, "No virtual machines.\n");
	return EXIT_OK;
}

static void show_property(const char *key, GVariant *value)
{
	g_autofree char *text = NULL;
	char buf[40];

	if (g_str_has_prefix(key, "Memory") && g_variant_is_of_type(value, G_VARIANT_TYPE_UINT64))
		text = g_strdup(format_size(g_variant_get_uint64(value), buf));
	else if (strcmp(key, "StateTimestamp") == 0)
		text = g_strdup(format_time(g_variant_get_uint64(value), buf));
	else if (strcmp(key, "Owner") == 0)
		text = g_strdup(owner_name(g_variant_get_uint32(value), buf));
	else
		text = format_value(value);
	printf("%16s: %s\n", key, text);
}

/* In the order a person asks; whatever else the service has follows. */
static const char *const show_order[] = {
	"Name",           "Description",
	"State",          "StateReason",
	"StateTimestamp", "CurrentJob",
	"VCPUs",          "VCPUsTarget",
	"VCPUsMax",       "Memory",
	"MemoryTarget",   "MemoryMax",
	"Consoles",       "ConsolePaths",
	"Balloon",        "BalloonTarget",
	"VSockCID",       "RateLimitGroups",
	"Owner",          "Persistent",
	"Autostart",      "UUID",
	"Unit",           "MainPID",
	"InvocationID",   "MachineName",
	"Features",       "RestartRequired",
	"LastExitReason", "LastExitStatus",
};

static bool in_show_order(const char *key)
{
	for (size_t i = 0; i < ARRAY_SIZE(show_order); i++)
		if (strcmp(show_order[i], key) == 0)
			return true;
	return false;
}

int verb_show(struct client *c, const struct arguments *a)
{
	g_autoptr(GVariant) properties = NULL;
	const char *key;
	GVariant *value;
	GVariantIter iter;
	int r;

	r = client_get_vm(c, a->positional[0], &properties);
	if (r != EXIT_OK)
		return r;
	if (c->json) {
		print_json(g_variant_ref(properties), false);
		return EXIT_OK;
	}
	for (size_t i = 0; i < ARRAY_SIZE(show_order); i++) {
		g_autoptr(GVariant) known = g_variant_lookup_value(properties, show_order[i], NULL);

		if (known)
			show_property(show_order[i], known);
	}
	g_variant_iter_init(&iter, properties);
	while (g_variant_iter_loop(&iter, "{&sv}", &key, &value))
		if (!in_show_order(key))
			show_property(key, value);
	return EXIT_OK;
}

/* ListJobs: id, kind, state, phase, progress, VM, job */
int verb_jobs(struct client *c, const struct arguments *a)
{
	static const char *const headings[] = { "JOB",      "MACHINE", "KIND", "STATE",
						"PROGRESS", "PHASE",   NULL };
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL, *reply = NULL;
	const char *kind, *state, *phase, *vm_path, *job_path;
	g_autoptr(GVariant) jobs = NULL;
	GVariantBuilder list;
	struct table table;
	GVariantIter iter;
	double progress;
	uint32_t id;
	int r;

	(void)a;
	r = client_manager_call(c, "ListJobs", &m);
	if (r == EXIT_OK)
		r = client_call(c, NULL, m, &reply);
	if (r != EXIT_OK)
		return r;
	jobs = read_reply(reply, "a(usssdoo)");
	if (!jobs)
		return EXIT_FAILED;

	table_init(&table, headings);
	g_variant_builder_init(&list, G_VARIANT_TYPE("aa{sv}"));
	g_variant_iter_init(&iter, jobs);
	while (g_variant_iter_loop(&iter, "(u&s&s&sd&o&o)", &id, &kind, &state, &phase, &progress,
				   &vm_path, &job_path)) {
		_cleanup_free_ char *vm = NULL;
		char number[16], percent[16] = "-";

		if (bus_path_parse_vm(vm_path, &vm) < 0)
			vm = strdup("-");
		snprintf(number, sizeof(number), "%u", id);
		if (progress >= 0)
			snprintf(percent, sizeof(percent), "%d%%", (int)(progress * 100));
		table_add(&table, number, vm, kind, state, percent, phase);
		g_variant_builder_add_parsed(
			&list,
			"{'id': <%u>, 'vm': <%s>, 'kind': <%s>, 'state': <%s>, 'phase': <%s>, "
			"'progress': <%d>}",
			id, vm, kind, state, phase, progress);
	}
	if (c->json) {
		print_json(g_variant_builder_end(&list), false);
	} else {
		g_variant_builder_clear(&list);
		table_print(&table);
		if (g_variant_n_children(jobs) == 0)
			fprintf(stderr, "No jobs.\n");
	}
	table_deinit(&table);
	return EXIT_OK;
}

int verb_counters(struct client *c, const struct arguments *a)
{
	static const char *const headings[] = { "DEVICE", "COUNTER", "VALUE", NULL };
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL, *reply = NULL;
	const char *vm = a->positional[0], *only = a->positional[1], *device, *counter;
	g_autoptr(GVariant) counters = NULL, one = NULL;
	GVariant *values;
	GVariantIter iter;
	struct table table;
	int r;

	r = client_vm_call(c, vm, "GetCounters", &m);
	if (r != EXIT_OK)
		return r;
	r = sd_bus_message_append(m, "a{sv}", 0);
	r = r < 0 ? client_report(c, vm, r, NULL) : client_call(c, vm, m, &reply);
	if (r != EXIT_OK)
		return r;
	counters = read_reply(reply, "a{sa{st}}");
	if (!counters)
		return EXIT_FAILED;
	if (only && !(one = g_variant_lookup_value(counters, only, NULL))) {
		client_complain("'%s' has no device '%s' that counts", vm, only);
		return EXIT_NO_SUCH;
	}
	if (c->json) {
		print_json(g_variant_ref(one ? one : counters), false);
		return EXIT_OK;
	}
	table_init(&table, headings);
	g_variant_iter_init(&iter, counters);
	while (g_variant_iter_loop(&iter, "{&s@a{st}}", &device, &values)) {
		GVariantIter inner;
		uint64_t value;

		if (only && strcmp(only, device) != 0)
			continue;
		g_variant_iter_init(&inner, values);
		while (g_variant_iter_loop(&inner, "{&st}", &counter, &value)) {
			char number[24];

			snprintf(number, sizeof(number), "%llu", (unsigned long long)value);
			table_add(&table, device, counter, number);
		}
	}
	table_print(&table);
	table_deinit(&table);
	return EXIT_OK;
}
