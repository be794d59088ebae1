/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/net/tap.h"

#include <assert.h>
#include <errno.h>
#include <linux/if_tun.h>
#include <linux/virtio_net.h>
#include <net/if.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/fd.h"

static_assert(sizeof(struct virtio_net_hdr_v1) == NET_HEADER_SIZE, "virtio 1.3, 5.1.6");

static struct tap *tap_of(struct net_backend *b)
{
	return container_of(b, struct tap, base);
}

static int check_socket(int fd, struct err *err)
{
	socklen_t len = sizeof(int);
	int type = 0;

	if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) < 0)
		return err_errno(err, errno,
				 "the network descriptor is neither a tap nor a socket");
	if (type != SOCK_DGRAM && type != SOCK_SEQPACKET)
		return err_set(err, EINVAL,
			       "the network socket does not keep frames apart: "
			       "it must be SOCK_SEQPACKET or SOCK_DGRAM");
	return 0;
}

static int check_tap(const struct ifreq *ifr, struct err *err)
{
	if (!(ifr->ifr_flags & IFF_TAP))
		return err_set(err, EINVAL, "'%.*s' is a tun interface: a tap is needed",
			       (int)sizeof(ifr->ifr_name), ifr->ifr_name);
	if (!(ifr->ifr_flags & IFF_NO_PI) || !(ifr->ifr_flags & IFF_VNET_HDR))
		return err_set(err, EINVAL,
			       "tap '%.*s' was opened without IFF_NO_PI and IFF_VNET_HDR",
			       (int)sizeof(ifr->ifr_name), ifr->ifr_name);
	return 0;
}

static ssize_t tap_receive(struct net_backend *b, const struct iovec *iov, int n_iov)
{
	ssize_t n = readv(b->fd, iov, n_iov);

	if (n < 0)
		return -errno;
	return n == 0 ? -EPIPE : n; /* the other end of a socket has closed it */
}

/* A frame a call: the tap's own interface takes no more. */
static int tap_send(struct net_backend *b, const struct iovec *iov, int n_iov)
{
	ssize_t n;

	do {
		n = writev(b->fd, iov, n_iov);
	} while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : 0;
}

static int tap_set_offloads(struct net_backend *b, unsigned int bits)
{
	struct tap *tap = tap_of(b);

	if (!tap->is_tap || (tap->offloads_known && tap->offloads == bits))
		return 0;
	if (ioctl(b->fd, TUNSETOFFLOAD, (unsigned long)bits) < 0)
		return -errno;
	tap->offloads = bits;
	tap->offloads_known = true;
	return 0;
}

static int tap_set_attached(struct net_backend *b, bool attached)
{
	struct ifreq ifr = { .ifr_flags = attached ? IFF_ATTACH_QUEUE : IFF_DETACH_QUEUE };
	struct tap *tap = tap_of(b);

	if (tap->attached == attached)
		return 0;
	if (tap->is_tap && ioctl(b->fd, TUNSETQUEUE, &ifr) < 0)
		return -errno;
	tap->attached = attached;
	return 0;
}

static void tap_free(struct net_backend *b)
{
	if (b->fd >= 0)
		close(b->fd);
	free(tap_of(b));
}

static const struct net_backend_ops tap_ops = {
	.name = "tap",
	.offloads = true,
	.receive = tap_receive,
	.send = tap_send,
	.set_offloads = tap_set_offloads,
	.set_attached = tap_set_attached,
	.free = tap_free,
};

int tap_new(int fd, bool allow_socket, struct net_backend **ret, struct err *err)
{
	struct ifreq ifr = { 0 };
	int size = TAP_HEADER_SIZE;
	struct tap *tap;
	bool is_tap;
	int r;

	is_tap = ioctl(fd, TUNGETIFF, &ifr) == 0;
	if (!is_tap && !allow_socket)
		return err_errno(err, errno, "the network descriptor is not a tap");
	r = is_tap ? check_tap(&ifr, err) : check_socket(fd, err);
	if (r < 0)
		return r;
	if (is_tap && ioctl(fd, TUNSETVNETHDRSZ, &size) < 0)
		return err_errno(err, errno, "tap '%.*s': cannot set the size of its header",
				 (int)sizeof(ifr.ifr_name), ifr.ifr_name);
	r = fd_set_nonblock(fd, true);
	if (r < 0)
		return err_errno(err, -r, "cannot make the network descriptor non-blocking");
	tap = calloc(1, sizeof(*tap));
	if (!tap)
		return err_errno(err, ENOMEM, "cannot keep a tap");
	*tap = (struct tap){
		.base = { &tap_ops, fd, false },
		.is_tap = is_tap,
		.attached = !(ifr.ifr_flags & IFF_DETACH_QUEUE),
	};
	*ret = &tap->base;
	return 0;
}
