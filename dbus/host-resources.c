/* SPDX-License-Identifier: Apache-2.0 */
#include "dbus/host-resources.h"

#include "daemon/resources.h"
#include "vmm/config/value.h"

#include "dbus/resource-properties.h"
#include "vmm/base/err.h"
#include "vmm/config/vm-config.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* An incomplete list would let a rule that looks at it say yes to the rest: say so instead. */
static void add_value(char *list, size_t size, const char *value)
{
	size_t used = strlen(list);

	if (used + strlen(value) + 2 > size)
		snprintf(list, size, "(too many to list)");
	else
		snprintf(list + used, size - used, "%s%s", used ? "\n" : "", value);
}

struct collect {
	const struct vm_config *config;
	const char *pointer; /* of one device; NULL: of all */
	struct host_resource_details *details;
};

static bool is_asked_for(const char *pointer, const char *key, size_t index)
{
	char of[CONFIG_POINTER_MAX];

	snprintf(of, sizeof(of), "/%s/%zu", key, index);
	return !pointer || strcmp(pointer, of) == 0;
}

static int add_resource(const struct resource *res, void *data, struct err *err)
{
	const struct collect *collect = data;
	struct host_resource_details *details = collect->details;
	const char *interface;

	(void)err;
	/* Opened by the caller, with the caller's rights. */
	if (vm_config_fd_name(res->value))
		return 0;
	if (collect->pointer && !resource_is_of(res, collect->pointer))
		return 0;
	/* A new one, which reaches nobody else. */
	if (res->kind == RESOURCE_PTY)
		return 0;
	/* What every guest gets unasked, and nothing to be had of it but random bytes. */
	if (res->kind == RESOURCE_SOURCE && strcmp(res->value, "/dev/urandom") == 0)
		return 0;
	if (res->kind == RESOURCE_TAP) {
		interface = collect->config->nets[res->index].backend == NET_BACKEND_PASST
				    ? "(passt)"
				    : "(new)";
		add_value(details->interfaces, sizeof(details->interfaces),
			  res->value ? res->value : interface);
	} else {
		add_value(details->paths, sizeof(details->paths), res->value);
	}
	return 0;
}

static void add_forwards(const char *protocol, char *const *forwards,
			 struct host_resource_details *details)
{
	for (size_t i = 0; forwards && forwards[i]; i++) {
		g_autofree char *text = g_strdup_printf("%s:%s", protocol, forwards[i]);

		add_value(details->addresses, sizeof(details->addresses), text);
	}
}

/*
 * Addresses that the host's ends are given: "192.0.2.1/255.255.255.0"; and ports that lead to
 * the guest: "tcp:127.0.0.1/2222:22".
 */
static void add_addresses(const struct vm_config *config, const char *pointer,
			  struct host_resource_details *details)
{
	char text[128];

	for (size_t i = 0; i < config->n_nets; i++) {
		const struct net_config *net = &config->nets[i];

		if (!is_asked_for(pointer, "net", i))
			continue;
		add_forwards("tcp", net->forward_tcp, details);
		add_forwards("udp", net->forward_udp, details);
		if (!net->ip)
			continue;
		snprintf(text, sizeof(text), "%s/%s", net->ip, net->mask ? net->mask : "");
		add_value(details->addresses, sizeof(details->addresses), text);
	}
}

bool host_resource_details(const struct vm_config *config, const char *pointer, const char *slice,
			   GVariant *properties, struct host_resource_details *ret)
{
	g_autofree char *names = resource_properties_names(properties);
	struct collect collect = { config, pointer, ret };
	size_t n = 0;

	*ret = (struct host_resource_details){ 0 };
	snprintf(ret->memory, sizeof(ret->memory), "%" PRIu64, memory_config_size(&config->memory));
	snprintf(ret->vcpus, sizeof(ret->vcpus), "%u", config->cpus.max_vcpus);
	(void)vm_config_foreach_resource(config, add_resource, &collect, NULL);
	/* An image says itself which: a rule that knows paths must not say yes to these. */
	for (size_t i = 0; i < config->n_disks; i++) {
		if (config->disks[i].backing_files && is_asked_for(pointer, "disks", i)) {
			add_value(ret->paths, sizeof(ret->paths), "(backing files)");
			break;
		}
	}
	add_addresses(config, pointer, ret);
	ret->list[n++] = "memory";
	ret->list[n++] = ret->memory;
	ret->list[n++] = "vcpus";
	ret->list[n++] = ret->vcpus;
	if (ret->paths[0]) {
		ret->list[n++] = "path";
		ret->list[n++] = ret->paths;
	}
	if (ret->interfaces[0]) {
		ret->list[n++] = "interface";
		ret->list[n++] = ret->interfaces;
	}
	if (ret->addresses[0]) {
		ret->list[n++] = "address";
		ret->list[n++] = ret->addresses;
	}
	if (slice) {
		ret->list[n++] = "slice";
		ret->list[n++] = slice;
	}
	if (names[0]) {
		add_value(ret->properties, sizeof(ret->properties), names);
		ret->list[n++] = "property";
		ret->list[n++] = ret->properties;
	}
	return ret->paths[0] || ret->interfaces[0] || slice || names[0];
}
