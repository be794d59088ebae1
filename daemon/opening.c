/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/opening.h"

#include "daemon/boot-config.h"
#include "daemon/created-files.h"
#include "daemon/given-fds.h"
#include "daemon/image-users.h"
#include "daemon/machine.h"
#include "daemon/manager.h"
#include "daemon/resources.h"
#include "daemon/task.h"
#include "vmm/base/err.h"
#include "vmm/config/vm-config.h"

struct open_job {
	struct vm_config *config;
	char *pointer; /* NULL: everything */
	struct given_fds fds;
	struct image_users users;
	char *kvm_device;
	uid_t owner;
	struct resource_set set;
	opened_fn fn;
};

static void open_job_free(void *data)
{
	struct open_job *job = data;

	/* Only an abandoned task has any left. */
	created_files_remove(&job->set.created);
	resource_set_deinit(&job->set);
	given_fds_deinit(&job->fds);
	image_users_deinit(&job->users);
	vm_config_free(job->config);
	g_free(job->kvm_device);
	g_free(job->pointer);
	g_free(job);
}

static int open_job_work(void *data, struct err *err)
{
	struct open_job *job = data;

	if (job->pointer)
		return resources_open_device(job->config, job->pointer, &job->fds, &job->users,
					     job->owner, &job->set, err);
	return resources_open(job->config, &job->fds, &job->users, job->kvm_device, job->owner,
			      &job->set, err);
}

static void open_job_done(void *data, int r, const struct err *err, void *owner)
{
	struct open_job *job = data;
	struct resource_set set = job->set;

	job->set = (struct resource_set){ 0 };
	job->fn(owner, r < 0 ? NULL : &set, r < 0 ? err : NULL);
}

static const struct task_ops open_job_ops = {
	.work = open_job_work,
	.done = open_job_done,
	.free_data = open_job_free,
};

int opening_start(struct machine *vm, const struct opening *opening, opened_fn fn, void *data,
		  struct task **ret, struct err *err)
{
	struct open_job *job = g_new0(struct open_job, 1);
	int r;

	job->fn = fn;
	job->pointer = g_strdup(opening->pointer);
	job->kvm_device = g_strdup(vm->manager->kvm_device);
	job->owner = vm->def.owner;
	job->fds = *opening->fds;
	*opening->fds = (struct given_fds){ 0 };
	image_users_collect(vm, &job->users);
	r = machine_parse_config(opening->config, &job->config, NULL, err);
	/* A macvtap is given the guest's address. */
	if (r == 0)
		boot_config_choose_macs(job->config, vm->def.uuid);
	if (r == 0)
		r = task_start(vm->manager->event, &open_job_ops, job, data, ret, err);
	if (r < 0)
		open_job_free(job);
	return r;
}
