/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/resources.h"

#include "daemon/companion.h"
#include "daemon/created-files.h"
#include "daemon/given-fds.h"
#include "daemon/opener.h"
#include "vmm/api/protocol.h"
#include "vmm/base/err.h"
#include "vmm/base/fd.h"
#include "vmm/config/value.h"
#include "vmm/config/vm-config.h"
#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const struct opener *const openers[] = {
	[RESOURCE_FILE_READ] = &file_opener,
	[RESOURCE_SOURCE] = &file_opener,
	[RESOURCE_FILE_APPEND] = &file_opener,
	[RESOURCE_DISK] = &disk_opener,
	[RESOURCE_TAP] = &tap_opener,
	[RESOURCE_MEMORY] = &memory_opener,
	[RESOURCE_FS_SOCKET] = &fs_socket_opener,
	[RESOURCE_FS_SOURCE] = &fs_source_opener,
	[RESOURCE_PMEM] = &pmem_opener,
	[RESOURCE_LISTEN] = &listen_opener,
	[RESOURCE_PTY] = &pty_opener,
};

/* "disk '_disk0' (/disks/0/path)" */
static void resource_label(const struct vm_config *config, const struct resource *res, char *buf,
			   size_t size)
{
	if (res->kind == RESOURCE_DISK)
		snprintf(buf, size, "disk '%s' (%s)", config->disks[res->index].pci.id,
			 res->pointer);
	else if (res->kind == RESOURCE_TAP)
		snprintf(buf, size, "network device '%s' (%s)", config->nets[res->index].pci.id,
			 res->pointer);
	else
		snprintf(buf, size, "%s", res->pointer);
}

int resource_set_add(struct resource_set *set, const char *pointer, int fd, struct err *err)
{
	struct resource_fd *fds;
	char *copy;

	fds = realloc(set->fds, (set->n_fds + 1) * sizeof(*fds));
	if (!fds)
		return err_errno(err, ENOMEM, "cannot keep a descriptor");
	set->fds = fds;
	copy = strdup(pointer);
	if (!copy)
		return err_errno(err, ENOMEM, "cannot keep a descriptor");
	set->fds[set->n_fds++] = (struct resource_fd){ copy, fd };
	return 0;
}

int resource_set_take(struct resource_set *set, const char *pointer, int fd, struct err *err)
{
	int r = resource_set_add(set, pointer, fd, err);

	if (r < 0)
		close(fd);
	return r;
}

int resource_set_add_tap(struct resource_set *set, const char *name, struct err *err)
{
	char **taps;

	taps = realloc(set->taps, (set->n_taps + 1) * sizeof(*taps));
	if (!taps)
		return err_errno(err, ENOMEM, "cannot keep a tap");
	set->taps = taps;
	taps[set->n_taps] = strdup(name);
	if (!taps[set->n_taps])
		return err_errno(err, ENOMEM, "cannot keep a tap");
	set->n_taps++;
	return 0;
}

int resource_set_add_companion(struct resource_set *set, struct companion *companion,
			       struct err *err)
{
	struct companion *companions;

	companions = realloc(set->companions, (set->n_companions + 1) * sizeof(*companions));
	if (!companions)
		return err_errno(err, ENOMEM, "cannot keep a companion");
	set->companions = companions;
	companions[set->n_companions++] = *companion;
	*companion = (struct companion){ .fd = -EBADF };
	return 0;
}

const char *resource_show(const struct resource *res, char buf[static RESOURCE_SHOWN_MAX])
{
	const char *name = vm_config_fd_name(res->value);

	if (name)
		snprintf(buf, RESOURCE_SHOWN_MAX, "descriptor '%s'", name);
	else if (strlen(res->value) <= RESOURCE_SHOWN_PATH_MAX)
		snprintf(buf, RESOURCE_SHOWN_MAX, "'%s'", res->value);
	else
		config_quote(res->value, buf);
	return buf;
}

int resource_check_fd(const struct resource *res, int fd, struct err *err)
{
	return openers[res->kind]->check_fd(res, fd, err);
}

/* What was right when the VM was made is looked at again: the configuration may be another. */
static int open_given(struct open_run *run, const struct resource *res, const char *name,
		      struct err *err)
{
	int given = run->fds ? given_fds_find(run->fds, name) : -ENOENT, r;
	char shown[RESOURCE_SHOWN_MAX];

	if (given < 0)
		return err_fault(err, FAULT_HOST_RESOURCE, ENOENT, "%s is not there (any more)",
				 resource_show(res, shown));
	r = resource_check_fd(res, given, err);
	return r < 0 ? r : openers[res->kind]->take(run, res, given, err);
}

bool resource_is_of(const struct resource *res, const char *pointer)
{
	size_t len = strlen(pointer);

	return strncmp(res->pointer, pointer, len) == 0 && res->pointer[len] == '/';
}

static int open_one(const struct resource *res, void *data, struct err *err)
{
	const char *name = vm_config_fd_name(res->value);
	struct open_run *run = data;
	char label[160];
	int r;

	if (run->pointer && !resource_is_of(res, run->pointer))
		return 0;
	r = name ? open_given(run, res, name, err) : openers[res->kind]->open(run, res, err);
	if (r < 0) {
		if (err && err->fault == FAULT_BAD_CONFIG)
			snprintf(label, sizeof(label), "%s", res->pointer);
		else
			resource_label(run->config, res, label, sizeof(label));
		return err_prefix(err, r, "%s", label);
	}
	return 0;
}

static int open_kvm(struct resource_set *set, const char *kvm_device, struct err *err)
{
	_cleanup_close_ int fd = -EBADF;
	int r;

	fd = open(kvm_device, O_RDWR | O_CLOEXEC);
	if (fd < 0) {
		r = err_errno(err, errno, "cannot open '%s'", kvm_device);
		if (err)
			err->fault = FAULT_HOST_RESOURCE;
		return r;
	}
	r = resource_set_add(set, PROTOCOL_RESOURCE_KVM, fd, err);
	if (r == 0)
		(void)TAKE_FD(fd);
	return r;
}

struct naming {
	char text[ERR_MSG_MAX + 256];
	const struct err *err;
};

static int name_one(const struct resource *res, void *data, struct err *err _unused_)
{
	struct naming *naming = data;
	size_t len = strlen(res->pointer);
	const char *msg = naming->err->msg;
	char shown[RESOURCE_SHOWN_MAX];

	if (!res->value || strncmp(msg, res->pointer, len) != 0 || strncmp(msg + len, ": ", 2) != 0)
		return 0;
	resource_show(res, shown);
	if (g_str_has_prefix(msg + len + 2, shown))
		return 0; /* by whoever opened it */
	snprintf(naming->text, sizeof(naming->text), "%s: %s%s", res->pointer, shown, msg + len);
	return 1;
}

void resources_name_paths(const struct vm_config *config, struct err *err)
{
	struct naming naming = { .err = err };
	enum fault fault = err->fault;
	int code = err->code;

	if (vm_config_foreach_resource(config, name_one, &naming, NULL) != 1)
		return;
	err_clear(err);
	err_fault(err, fault, code, "%s", naming.text);
}

void resource_set_deinit(struct resource_set *set)
{
	for (size_t i = 0; i < set->n_fds; i++) {
		free(set->fds[i].pointer);
		close(set->fds[i].fd);
	}
	for (size_t i = 0; i < set->n_taps; i++)
		free(set->taps[i]);
	free(set->fds);
	free(set->taps);
	for (size_t i = 0; i < set->n_companions; i++)
		companion_deinit(&set->companions[i]);
	free(set->companions);
	created_files_deinit(&set->created);
	*set = (struct resource_set){ 0 };
}

static int open_all(struct open_run *run, struct resource_set *ret, struct err *err)
{
	int r = vm_config_foreach_resource(run->config, open_one, run, err);

	if (r < 0) {
		created_files_remove(&run->set->created);
		return r;
	}
	*ret = *run->set;
	*run->set = (struct resource_set){ 0 };
	return 0;
}

int resources_open(const struct vm_config *config, const struct given_fds *fds,
		   const struct image_users *users, const char *kvm_device, uid_t owner,
		   struct resource_set *ret, struct err *err)
{
	_cleanup_(resource_set_deinit) struct resource_set set = { .created.owner = owner };
	struct open_run run = { .config = config, .fds = fds, .users = users, .set = &set };
	int r = open_kvm(&set, kvm_device, err);

	return r < 0 ? r : open_all(&run, ret, err);
}

int resources_open_device(const struct vm_config *config, const char *pointer,
			  const struct given_fds *fds, const struct image_users *users, uid_t owner,
			  struct resource_set *ret, struct err *err)
{
	_cleanup_(resource_set_deinit) struct resource_set set = { .created.owner = owner };
	struct open_run run = {
		.config = config, .fds = fds, .users = users, .set = &set, .pointer = pointer
	};

	return open_all(&run, ret, err);
}
