/* SPDX-License-Identifier: Apache-2.0 */
#include "dbus/bus-options.h"

#include "dbus/variant.h"
#include "vmm/base/err.h"
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define OPTIONS_MAX 32 /* of one method: they are remembered in one word */

static const struct bus_option *find_option(const struct bus_option *options, size_t n,
					    const char *key)
{
	for (size_t i = 0; i < n; i++)
		if (strcmp(options[i].key, key) == 0)
			return &options[i];
	return NULL;
}

static int unknown_option(const struct bus_option *options, size_t n, const char *method,
			  const char *key, struct err *err)
{
	char known[256] = "";
	size_t used = 0;

	for (size_t i = 0; i < n && used < sizeof(known); i++)
		used += (size_t)snprintf(known + used, sizeof(known) - used, "%s'%s'",
					 i ? ", " : "", options[i].key);
	if (n == 0)
		return err_fault(err, FAULT_BAD_ARGUMENT, EINVAL,
				 "unknown option '%s': %s has no options", key, method);
	return err_fault(err, FAULT_BAD_ARGUMENT, EINVAL, "unknown option '%s': %s knows %s", key,
			 method, known);
}

/* Read before anybody is authorised; the largest there is, a set of resource properties, is small.
 */
#define CONTAINER_MAX (64 * 1024)

static int read_container(sd_bus_message *m, const struct bus_option *option, GVariant **ret,
			  struct err *err)
{
	int r;

	r = sd_bus_message_enter_container(m, SD_BUS_TYPE_VARIANT, option->signature);
	if (r < 0)
		return err_errno(err, -r, "cannot be read");
	r = variant_from_message_max(m, option->signature, CONTAINER_MAX, ret, err);
	if (r < 0)
		return r;
	r = sd_bus_message_exit_container(m);
	return r < 0 ? err_errno(err, -r, "cannot be read") : 0;
}

static int read_value(sd_bus_message *m, const struct bus_option *option, void *ret,
		      struct err *err)
{
	char basic[2] = { option->type, '\0' };
	const char *type = option->signature ? option->signature : basic;
	void *member = (char *)ret + option->offset;
	const char *contents = NULL;
	char container;
	int b, r;

	r = sd_bus_message_peek_type(m, &container, &contents);
	if (r < 0)
		return err_errno(err, -r, "cannot read option '%s'", option->key);
	if (strcmp(contents, type) != 0)
		return err_fault(err, FAULT_BAD_ARGUMENT, EINVAL,
				 "option '%s' has type '%s', must be '%s'", option->key, contents,
				 type);
	if (option->signature) {
		r = read_container(m, option, member, err);
		return r < 0 ? err_prefix(err, r, "option '%s'", option->key) : 0;
	}
	if (option->type == SD_BUS_TYPE_BOOLEAN) {
		r = sd_bus_message_read(m, "v", type, &b);
		if (r >= 0)
			*(bool *)member = b;
	} else {
		r = sd_bus_message_read(m, "v", type, member);
	}
	return r < 0 ? err_errno(err, -r, "cannot read option '%s'", option->key) : 0;
}

int bus_options_read(sd_bus_message *m, const struct bus_option *options, size_t n, void *ret,
		     struct err *err)
{
	const char *method = sd_bus_message_get_member(m);
	const struct bus_option *option;
	uint32_t seen = 0;
	const char *key;
	int r;

	r = sd_bus_message_enter_container(m, SD_BUS_TYPE_ARRAY, "{sv}");
	if (r < 0)
		return err_errno(err, -r, "cannot read the options of %s", method);
	while ((r = sd_bus_message_enter_container(m, SD_BUS_TYPE_DICT_ENTRY, "sv")) > 0) {
		r = sd_bus_message_read(m, "s", &key);
		if (r < 0)
			break;
		option = find_option(options, n, key);
		if (!option)
			return unknown_option(options, n, method, key, err);
		if (seen & (1U << (option - options)))
			return err_fault(err, FAULT_BAD_ARGUMENT, EINVAL,
					 "option '%s' is given twice", key);
		seen |= 1U << (option - options);
		r = read_value(m, option, ret, err);
		if (r < 0)
			return r;
		r = sd_bus_message_exit_container(m);
		if (r < 0)
			break;
	}
	if (r >= 0)
		r = sd_bus_message_exit_container(m);
	return r < 0 ? err_errno(err, -r, "cannot read the options of %s", method) : 0;
}
