/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/net/tap.h"

#include <errno.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/fd.h"

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

int tap_init(struct tap *tap, int fd, bool allow_socket, struct err *err)
{
	struct ifreq ifr = { 0 };
	int size = TAP_HEADER_SIZE;
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
	*tap = (struct tap){
		.fd = fd,
		.is_tap = is_tap,
		.attached = !(ifr.ifr_flags & IFF_DETACH_QUEUE),
	};
	return 0;
}

void tap_deinit(struct tap *tap)
{
	if (tap->fd >= 0)
		close(tap->fd);
	tap->fd = -EBADF;
}

int tap_set_offloads(const struct tap *tap, unsigned int bits)
{
	if (!tap->is_tap)
		return 0;
	return ioctl(tap->fd, TUNSETOFFLOAD, (unsigned long)bits) < 0 ? -errno : 0;
}

int tap_set_attached(struct tap *tap, bool attached)
{
	struct ifreq ifr = { .ifr_flags = attached ? IFF_ATTACH_QUEUE : IFF_DETACH_QUEUE };

	if (tap->attached == attached)
		return 0;
	if (tap->is_tap && ioctl(tap->fd, TUNSETQUEUE, &ifr) < 0)
		return -errno;
	tap->attached = attached;
	return 0;
}
