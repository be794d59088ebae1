/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/net/vhost.h"

#include <errno.h>
#include <linux/vhost.h>
#include <linux/virtio_config.h>
#include <linux/virtio_net.h>
#include <linux/virtio_ring.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "vmm/base/cleanup.h"
#include "vmm/base/err.h"
#include "vmm/memory/guest-memory.h"

static int call_kernel(int fd, unsigned long request, void *arg)
{
	int r = ioctl(fd, request, arg);

	return r < 0 ? -errno : r;
}

int vhost_init(struct vhost *v, int fd, int (*call)(int fd, unsigned long request, void *arg),
	       uint64_t *ret_features, struct err *err)
{
	struct vhost vhost = { fd, call ?: call_kernel };
	uint64_t features = 0;
	int r;

	/* EBUSY: ours already, by a duplicate of the descriptor in an earlier device. */
	r = vhost.call(fd, VHOST_SET_OWNER, NULL);
	if (r < 0 && r != -EBUSY)
		return err_errno(err, -r, "the kernel does not let us use vhost-net");
	r = vhost.call(fd, VHOST_GET_FEATURES, &features);
	if (r < 0)
		return err_errno(err, -r, "the kernel does not say what its vhost-net can do");
	if (!(features & 1ULL << VIRTIO_F_VERSION_1))
		return err_set(err, EOPNOTSUPP, "the kernel's vhost-net does not know virtio 1");
	*v = vhost;
	*ret_features = features & VHOST_NET_RING_FEATURES;
	return 0;
}

void vhost_deinit(struct vhost *v)
{
	if (v->call && v->fd >= 0)
		close(v->fd);
	*v = (struct vhost){ .fd = -EBADF };
}

int vhost_set_memory(struct vhost *v, const struct guest_mem *mem, struct err *err)
{
	/* acquire: the regions themselves (guest-memory.c) */
	uint32_t n = atomic_load_explicit(&mem->n_regions, memory_order_acquire);
	_cleanup_free_ struct vhost_memory *table = NULL;
	int r;

	table = calloc(1, sizeof(*table) + n * sizeof(table->regions[0]));
	if (!table)
		return err_errno(err, ENOMEM, "cannot tell vhost-net where guest memory is");
	table->nregions = n;
	for (uint32_t i = 0; i < n; i++)
		table->regions[i] = (struct vhost_memory_region){
			.guest_phys_addr = mem->regions[i].gpa,
			.memory_size = mem->regions[i].size,
			.userspace_addr = (uintptr_t)mem->regions[i].hva,
		};
	r = v->call(v->fd, VHOST_SET_MEM_TABLE, table);
	return r < 0 ? err_errno(err, -r, "vhost-net does not take guest memory of %u parts", n)
		     : 0;
}

int vhost_set_guest(struct vhost *v, uint64_t features, const struct guest_mem *mem,
		    struct err *err)
{
	uint64_t known = features & VHOST_NET_RING_FEATURES;
	int r;

	/* The tap makes the header: VHOST_NET_F_VIRTIO_NET_HDR stays clear. */
	r = v->call(v->fd, VHOST_SET_FEATURES, &known);
	if (r < 0)
		return err_errno(err, -r, "vhost-net does not take features 0x%llx",
				 (unsigned long long)known);
	return vhost_set_memory(v, mem, err);
}

/* fd below zero: none */
static int set_file(struct vhost *v, unsigned long request, unsigned int i, int fd)
{
	struct vhost_vring_file file = { .index = i, .fd = fd < 0 ? -1 : fd };

	return v->call(v->fd, request, &file);
}

int vhost_set_queue(struct vhost *v, unsigned int i, const struct vhost_queue *q, struct err *err)
{
	struct vhost_vring_state size = { i, q->size }, base = { i, q->next_avail };
	struct vhost_vring_addr addr = {
		.index = i,
		.desc_user_addr = (uintptr_t)q->desc,
		.avail_user_addr = (uintptr_t)q->avail,
		.used_user_addr = (uintptr_t)q->used,
	};
	int r;

	r = v->call(v->fd, VHOST_SET_VRING_NUM, &size);
	if (r >= 0)
		r = v->call(v->fd, VHOST_SET_VRING_BASE, &base);
	if (r >= 0)
		r = v->call(v->fd, VHOST_SET_VRING_ADDR, &addr);
	if (r >= 0)
		r = set_file(v, VHOST_SET_VRING_KICK, i, q->kick_fd);
	if (r >= 0)
		r = set_file(v, VHOST_SET_VRING_CALL, i, q->call_fd);
	if (r >= 0)
		r = set_file(v, VHOST_SET_VRING_ERR, i, q->err_fd);
	return r < 0 ? err_errno(err, -r, "vhost-net does not take queue %u", i) : 0;
}

int vhost_set_call(struct vhost *v, unsigned int i, int call_fd)
{
	return set_file(v, VHOST_SET_VRING_CALL, i, call_fd);
}

int vhost_set_backend(struct vhost *v, unsigned int i, int tap_fd)
{
	return set_file(v, VHOST_NET_SET_BACKEND, i, tap_fd);
}

int vhost_get_base(struct vhost *v, unsigned int i, uint16_t *ret)
{
	struct vhost_vring_state base = { .index = i };
	int r = v->call(v->fd, VHOST_GET_VRING_BASE, &base);

	if (r < 0)
		return r;
	*ret = (uint16_t)base.num;
	return 0;
}
