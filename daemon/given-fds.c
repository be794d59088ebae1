/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/given-fds.h"

#include "daemon/resources.h"
#include "vmm/base/err.h"
#include "vmm/base/fd.h"
#include "vmm/config/check.h"
#include "vmm/config/value.h"
#include "vmm/config/vm-config.h"
#include <errno.h>
#include <glib.h>
#include <string.h>
#include <unistd.h>

void given_fds_deinit(struct given_fds *fds)
{
	for (size_t i = 0; i < fds->n; i++) {
		g_free(fds->items[i].name);
		close(fds->items[i].fd);
	}
	*fds = (struct given_fds){ 0 };
}

int given_fds_find(const struct given_fds *fds, const char *name)
{
	for (size_t i = 0; i < fds->n; i++) {
		if (strcmp(fds->items[i].name, name) == 0)
			return fds->items[i].fd;
	}
	return -ENOENT;
}

int given_fds_add(struct given_fds *fds, const char *name, int fd, struct err *err)
{
	const char *wrong = check_id(name);
	char quoted[CONFIG_QUOTE_MAX];
	int copy;

	config_quote(name, quoted);
	if (wrong)
		return err_fault(err, FAULT_BAD_ARGUMENT, EINVAL, "name of a descriptor: %s %s",
				 quoted, wrong);
	if (given_fds_find(fds, name) >= 0)
		return err_fault(err, FAULT_BAD_ARGUMENT, EINVAL, "descriptor %s is given twice",
				 quoted);
	if (fds->n == GIVEN_FDS_MAX)
		return err_fault(err, FAULT_BAD_ARGUMENT, EINVAL,
				 "descriptor %s is one too many, at most %d are possible", quoted,
				 GIVEN_FDS_MAX);
	copy = fd_dup(fd);
	if (copy < 0)
		return err_errno(err, -copy, "cannot keep descriptor %s", quoted);
	fds->items[fds->n++] = (struct given_fd){ g_strdup(name), copy };
	return 0;
}

int given_fds_dup(const struct given_fds *fds, struct given_fds *ret, struct err *err)
{
	_cleanup_(given_fds_deinit) struct given_fds copy = { 0 };
	int r;

	for (size_t i = 0; i < fds->n; i++) {
		r = given_fds_add(&copy, fds->items[i].name, fds->items[i].fd, err);
		if (r < 0)
			return r;
	}
	*ret = copy;
	copy = (struct given_fds){ 0 };
	return 0;
}

struct check {
	const struct given_fds *fds;
	const char *pointer;        /* NULL: all */
	char *users[GIVEN_FDS_MAX]; /* pointer of the key that refers to it */
};

static int check_one(const struct resource *res, void *data, struct err *err)
{
	const char *name = vm_config_fd_name(res->value);
	struct check *check = data;
	size_t i = 0;
	int r;

	if (!name || (check->pointer && !resource_is_of(res, check->pointer)))
		return 0;
	while (i < check->fds->n && strcmp(check->fds->items[i].name, name) != 0)
		i++;
	if (i == check->fds->n)
		return err_fault(err, FAULT_BAD_CONFIG, ENOENT,
				 "%s: there is no descriptor '%s', must be one that came with "
				 "%s",
				 res->pointer, name, check->pointer ? "AddDevice" : "CreateVM");
	if (check->users[i])
		return err_fault(err, FAULT_BAD_CONFIG, EINVAL,
				 "%s: descriptor '%s' is %s's already, must be another",
				 res->pointer, name, check->users[i]);
	check->users[i] = g_strdup(res->pointer);
	r = resource_check_fd(res, check->fds->items[i].fd, err);
	return r < 0 ? err_prefix(err, r, "%s", res->pointer) : 0;
}

int given_fds_check(const struct given_fds *fds, const struct vm_config *config,
		    const char *pointer, bool all, struct err *err)
{
	struct check check = { .fds = fds, .pointer = pointer };
	int r = vm_config_foreach_resource(config, check_one, &check, err);

	for (size_t i = 0; i < fds->n; i++) {
		if (r == 0 && all && !check.users[i])
			r = err_fault(err, FAULT_BAD_ARGUMENT, EINVAL,
				      "descriptor '%s' is not used, the configuration must refer "
				      "to it with {\"fd\": \"%s\"}",
				      fds->items[i].name, fds->items[i].name);
		g_free(check.users[i]);
	}
	return r;
}
