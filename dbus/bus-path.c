/* SPDX-License-Identifier: Apache-2.0 */
#include "dbus/bus-path.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-bus.h>

#include "vmm/base/cleanup.h"

char *bus_path_vm(const char *name)
{
	char *path = NULL;

	return sd_bus_path_encode(BRUME_VM_PATH_PREFIX, name, &path) < 0 ? NULL : path;
}

char *bus_path_device(const char *vm, const char *id)
{
	_cleanup_free_ char *prefix = NULL, *of_vm = bus_path_vm(vm);
	char *path = NULL;

	if (!of_vm || asprintf(&prefix, "%s/device", of_vm) < 0)
		return NULL;
	return sd_bus_path_encode(prefix, id, &path) < 0 ? NULL : path;
}

char *bus_path_job(uint32_t id)
{
	char *path = NULL;

	return asprintf(&path, BRUME_JOB_PATH_PREFIX "/%u", id) < 0 ? NULL : path;
}

/*
 * Both check by encoding again: "/vm/web_31" decodes to "web1" too, but one
 * object has one path.
 */
int bus_path_parse_vm(const char *path, char **ret_name)
{
	_cleanup_free_ char *name = NULL, *again = NULL;
	int r;

	r = sd_bus_path_decode(path, BRUME_VM_PATH_PREFIX, &name);
	if (r < 0)
		return r == -ENOMEM ? r : -EINVAL;
	if (r == 0 || name[0] == '\0')
		return -EINVAL;
	again = bus_path_vm(name);
	if (!again)
		return -ENOMEM;
	if (strcmp(again, path) != 0)
		return -EINVAL;
	*ret_name = TAKE_PTR(name);
	return 0;
}

int bus_path_parse_device(const char *path, char **ret_vm, char **ret_id)
{
	_cleanup_free_ char *prefix = NULL, *vm = NULL, *id = NULL, *again = NULL;
	const char *end = strstr(path, "/device/");
	int r;

	if (!end)
		return -EINVAL;
	prefix = strndup(path, (size_t)(end - path));
	if (!prefix)
		return -ENOMEM;
	r = bus_path_parse_vm(prefix, &vm);
	if (r < 0)
		return r;
	free(prefix);
	prefix = strndup(path, (size_t)(end - path) + strlen("/device"));
	if (!prefix)
		return -ENOMEM;
	r = sd_bus_path_decode(path, prefix, &id);
	if (r < 0)
		return r == -ENOMEM ? r : -EINVAL;
	if (r == 0 || id[0] == '\0')
		return -EINVAL;
	again = bus_path_device(vm, id);
	if (!again)
		return -ENOMEM;
	if (strcmp(again, path) != 0)
		return -EINVAL;
	*ret_vm = TAKE_PTR(vm);
	*ret_id = TAKE_PTR(id);
	return 0;
}

int bus_path_parse_job(const char *path, uint32_t *ret_id)
{
	static const char prefix[] = BRUME_JOB_PATH_PREFIX "/";
	_cleanup_free_ char *again = NULL;
	unsigned long long id;

	if (strncmp(path, prefix, strlen(prefix)) != 0)
		return -EINVAL;
	id = strtoull(path + strlen(prefix), NULL, 10);
	if (id > UINT32_MAX)
		return -EINVAL;
	again = bus_path_job((uint32_t)id);
	if (!again)
		return -ENOMEM;
	if (strcmp(again, path) != 0)
		return -EINVAL;
	*ret_id = (uint32_t)id;
	return 0;
}
