/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/tap.h"

#include "vmm/base/err.h"
#include "vmm/config/vm-config.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <linux/if_tun.h>
#include <linux/ipv6.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define TUN_DEVICE   "/dev/net/tun"
#define TAP_TEMPLATE "brume%d" /* the kernel fills in the first free number */

#define UDEV_STEP_USEC 10000
#define UDEV_STEPS     100

static int host_errno(struct err *err, int code, const char *what, const char *name)
{
	err_errno(err, code, "cannot %s of interface '%s'", what, name);
	if (err)
		err->fault = FAULT_HOST_RESOURCE;
	return -code;
}

/*
 * The device that name's queues are opened at: 1 it is a macvtap, 0 a tap or not
 * there yet.  Each macvtap has a device of its own (kernel: drivers/net/macvtap.c).
 */
static int macvtap_path(const char *name, char *buf, size_t size)
{
	char place[64];
	unsigned int index = if_nametoindex(name);

	snprintf(place, sizeof(place), "/sys/class/net/%s/macvtap", name);
	if (index == 0 || strchr(name, '/') || access(place, F_OK) < 0) {
		snprintf(buf, size, TUN_DEVICE);
		return 0;
	}
	snprintf(buf, size, "/dev/tap%u", index);
	return 1;
}

/* One queue. A macvtap's device takes flags the same way, and no name. */
static int tap_attach(const char *path, const char *name, short flags,
		      char ret_name[static IFNAMSIZ])
{
	_cleanup_close_ int fd = -EBADF;
	struct ifreq ifr = { 0 };

	fd = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return -errno;
	memcpy(ifr.ifr_name, name, strnlen(name, IFNAMSIZ - 1));
	ifr.ifr_flags = flags;
	if (ioctl(fd, TUNSETIFF, &ifr) < 0)
		return -errno;
	memcpy(ret_name, ifr.ifr_name, IFNAMSIZ);
	return TAKE_FD(fd);
}

/* Devices of drivers that came after the daemon are unknown to its unit. */
static int macvtap_error(const char *name, const char *path, int code, struct err *err)
{
	err_errno(err, code, "cannot open '%s' of the macvtap '%s'%s", path, name,
		  code == EPERM ? " (was the macvtap module loaded after brumed was started? "
				  "restart brumed.service)"
				: "");
	if (err)
		err->fault = FAULT_HOST_RESOURCE;
	return -code;
}

static int tap_attach_error(const char *name, const char *path, int code, struct err *err)
{
	if (strcmp(path, TUN_DEVICE) != 0)
		return macvtap_error(name, path, code, err);
	switch (code) {
	case EBUSY:
		return err_fault(err, FAULT_HOST_RESOURCE, EBUSY,
				 "interface '%s' is in use by another process", name);
	case EINVAL:
		return err_fault(err, FAULT_HOST_RESOURCE, EINVAL,
				 "interface '%s' is not a tap, or not one with this number of "
				 "queues",
				 name);
	case EPERM:
		return err_fault(err, FAULT_HOST_RESOURCE, EPERM,
				 "cannot use the tap '%s': that needs CAP_NET_ADMIN or a tap that "
				 "belongs to this user",
				 name);
	case ENOENT:
	case ENODEV:
		return err_fault(err, FAULT_HOST_RESOURCE, code,
				 "cannot use the tap '%s': the host has no " TUN_DEVICE, name);
	default:
		return host_errno(err, code, "open a queue", name);
	}
}

static int ifreq_call(int sock, unsigned long request, struct ifreq *ifr, const char *what,
		      struct err *err)
{
	if (ioctl(sock, request, ifr) < 0)
		return host_errno(err, errno, what, ifr->ifr_name);
	return 0;
}

static void ifreq_make(struct ifreq *ifr, const char *name)
{
	memset(ifr, 0, sizeof(*ifr));
	memcpy(ifr->ifr_name, name, strnlen(name, IFNAMSIZ - 1));
}

static int set_mtu(int sock, const char *name, uint16_t mtu, struct err *err)
{
	struct ifreq ifr;
	int r;

	if (mtu == 0)
		return 0;
	ifreq_make(&ifr, name);
	r = ifreq_call(sock, SIOCGIFMTU, &ifr, "read the MTU", err);
	if (r < 0 || ifr.ifr_mtu == mtu)
		return r;
	ifr.ifr_mtu = mtu;
	return ifreq_call(sock, SIOCSIFMTU, &ifr, "set the MTU", err);
}

static int set_mac(int sock, const char *name, const struct mac_addr *mac, struct err *err)
{
	struct ifreq ifr;
	int r;

	ifreq_make(&ifr, name);
	r = ifreq_call(sock, SIOCGIFHWADDR, &ifr, "read the MAC address", err);
	if (r < 0 || memcmp(ifr.ifr_hwaddr.sa_data, mac->bytes, sizeof(mac->bytes)) == 0)
		return r;
	/* the family stays the interface's: ARPHRD_ETHER */
	memcpy(ifr.ifr_hwaddr.sa_data, mac->bytes, sizeof(mac->bytes));
	return ifreq_call(sock, SIOCSIFHWADDR, &ifr, "set the MAC address", err);
}

/* An address or mask in dotted form; get and set are the ioctls that read and write it. */
static int set_inet(int sock, const char *name, unsigned long get, unsigned long set,
		    const char *value, const char *what, struct err *err)
{
	struct sockaddr_in want = { .sin_family = AF_INET }, have;
	struct ifreq ifr;

	if (inet_pton(AF_INET, value, &want.sin_addr) != 1)
		return err_fault(err, FAULT_HOST_RESOURCE, EINVAL,
				 "cannot %s of interface '%s': '%s' is not an IPv4 address", what,
				 name, value);
	ifreq_make(&ifr, name);
	if (ioctl(sock, get, &ifr) == 0) {
		memcpy(&have, &ifr.ifr_addr, sizeof(have));
		if (have.sin_addr.s_addr == want.sin_addr.s_addr)
			return 0;
	}
	ifreq_make(&ifr, name);
	memcpy(&ifr.ifr_addr, &want, sizeof(want));
	return ifreq_call(sock, set, &ifr, what, err);
}

static unsigned int prefix_length(const struct in6_addr *mask)
{
	unsigned int n = 0;

	while (n < 128 && mask->s6_addr[n / 8] & (0x80U >> (n % 8)))
		n++;
	return n;
}

/* Adding an address that is there already needs the privilege, too. */
static bool has_inet6(const char *name, const struct in6_addr *addr, unsigned int prefix)
{
	struct ifaddrs *list = NULL;
	bool found = false;

	if (getifaddrs(&list) < 0)
		return false;
	for (const struct ifaddrs *i = list; i && !found; i = i->ifa_next) {
		struct sockaddr_in6 have, mask;

		if (!i->ifa_addr || !i->ifa_netmask || i->ifa_addr->sa_family != AF_INET6 ||
		    strcmp(i->ifa_name, name) != 0)
			continue;
		memcpy(&have, i->ifa_addr, sizeof(have));
		memcpy(&mask, i->ifa_netmask, sizeof(mask));
		found = memcmp(&have.sin6_addr, addr, sizeof(*addr)) == 0 &&
			prefix_length(&mask.sin6_addr) == prefix;
	}
	freeifaddrs(list);
	return found;
}

static int set_inet6(const char *name, const char *ip, const char *mask, struct err *err)
{
	_cleanup_close_ int sock = -EBADF;
	struct in6_ifreq req = { 0 };
	struct in6_addr mask6;

	if (inet_pton(AF_INET6, ip, &req.ifr6_addr) != 1 || inet_pton(AF_INET6, mask, &mask6) != 1)
		return err_fault(err, FAULT_HOST_RESOURCE, EINVAL,
				 "cannot set the address of interface '%s': '%s' with mask '%s' is "
				 "not an address of one family",
				 name, ip, mask);
	req.ifr6_prefixlen = prefix_length(&mask6);
	if (has_inet6(name, &req.ifr6_addr, req.ifr6_prefixlen))
		return 0;
	req.ifr6_ifindex = (int)if_nametoindex(name);
	sock = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	/* EEXIST: it has that address already. */
	if (sock < 0 || (ioctl(sock, SIOCSIFADDR, &req) < 0 && errno != EEXIST))
		return host_errno(err, errno, "set the address", name);
	return 0;
}

static int set_up(int sock, const char *name, struct err *err)
{
	struct ifreq ifr;
	int r;

	ifreq_make(&ifr, name);
	r = ifreq_call(sock, SIOCGIFFLAGS, &ifr, "read the flags", err);
	if (r < 0 || ifr.ifr_flags & IFF_UP)
		return r;
	ifr.ifr_flags |= IFF_UP;
	return ifreq_call(sock, SIOCSIFFLAGS, &ifr, "set the flags", err);
}

static int set_address(int sock, const char *name, const struct net_config *net, struct err *err)
{
	int r;

	if (!net->ip)
		return 0;
	if (strchr(net->ip, ':'))
		return set_inet6(name, net->ip,
				 net->mask ? net->mask : "ffff:ffff:ffff:ffff::", err);
	r = set_inet(sock, name, SIOCGIFADDR, SIOCSIFADDR, net->ip, "set the address", err);
	if (r < 0 || !net->mask)
		return r;
	return set_inet(sock, name, SIOCGIFNETMASK, SIOCSIFNETMASK, net->mask, "set the netmask",
			err);
}

/* A macvtap's own address is the guest's: the kernel sorts frames by it. */
static int set_addresses(int sock, const char *name, const struct net_config *net, bool macvtap,
			 struct err *err)
{
	int r = 0;

	if (macvtap) {
		if (net->has_mac)
			r = set_mac(sock, name, &net->mac, err);
		return r;
	}
	if (net->has_host_mac)
		r = set_mac(sock, name, &net->host_mac, err);
	return r < 0 ? r : set_address(sock, name, net, err);
}

static int tap_configure(const char *name, const struct net_config *net, bool macvtap,
			 struct err *err)
{
	_cleanup_close_ int sock = -EBADF;
	int r;

	sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (sock < 0)
		return host_errno(err, errno, "read the state", name);
	r = set_mtu(sock, name, net->mtu, err);
	if (r < 0)
		return r;
	r = set_addresses(sock, name, net, macvtap, err);
	if (r < 0)
		return r;
	return set_up(sock, name, err);
}

/*
 * Where systemd-udevd runs it gives an interface that comes an address of its own choice
 * (MACAddressPolicy=persistent, in most 99-default.link), unless it sees that there has been
 * another choice already: without waiting for it ours is lost now and then.  What says
 * that it is done is the interface's file in its database, as with libudev's
 * udev_device_get_is_initialized().  In another network namespace it never comes.
 */
static void wait_for_udev(const char *name)
{
	char file[64];

	if (access("/run/udev/control", F_OK) < 0)
		return;
	snprintf(file, sizeof(file), "/run/udev/data/n%u", if_nametoindex(name));
	for (unsigned int i = 0; i < UDEV_STEPS && access(file, F_OK) < 0; i++)
		usleep(UDEV_STEP_USEC);
}

void tap_close(struct tap *tap)
{
	for (size_t i = 0; i < tap->n_fds; i++)
		if (tap->fds[i] >= 0)
			close(tap->fds[i]);
	free(tap->fds);
	*tap = (struct tap){ 0 };
}

int tap_inspect(int fd, size_t one_of, char ret_name[static IFNAMSIZ], struct err *err)
{
	struct ifreq ifr = { 0 };

	if (ioctl(fd, TUNGETIFF, &ifr) < 0 || !(ifr.ifr_flags & IFF_TAP))
		return err_fault(err, FAULT_BAD_CONFIG, EINVAL,
				 "not a tap, must be " TUN_DEVICE " with an interface attached");
	if (!(ifr.ifr_flags & IFF_NO_PI) || !(ifr.ifr_flags & IFF_VNET_HDR))
		return err_fault(err, FAULT_BAD_CONFIG, EINVAL,
				 "attached to '%.*s' without IFF_NO_PI and IFF_VNET_HDR, must be "
				 "with both",
				 IFNAMSIZ, ifr.ifr_name);
	if (one_of > 1 && !(ifr.ifr_flags & IFF_MULTI_QUEUE))
		return err_fault(
			err, FAULT_BAD_CONFIG, EINVAL,
			"attached to '%.*s' without IFF_MULTI_QUEUE, must be with it, being "
			"one of %zu",
			IFNAMSIZ, ifr.ifr_name, one_of);
	memcpy(ret_name, ifr.ifr_name, IFNAMSIZ);
	return 0;
}

int tap_open(const struct net_config *net, struct tap *ret, struct err *err)
{
	const char *wanted = net->tap ? net->tap : TAP_TEMPLATE;
	size_t pairs = net->num_queues / 2 ? net->num_queues / 2 : 1;
	short flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
	_cleanup_(tap_close) struct tap tap = { 0 };
	bool is_new = if_nametoindex(wanted) == 0;
	char path[32];
	int fd, r;

	if (strlen(wanted) >= IFNAMSIZ)
		return err_fault(err, FAULT_HOST_RESOURCE, EINVAL,
				 "interface name '%s' is too long, at most %d characters", wanted,
				 IFNAMSIZ - 1);
	if (pairs > 1)
		flags |= IFF_MULTI_QUEUE;
	r = macvtap_path(wanted, path, sizeof(path));
	if (r > 0 && (net->ip || net->has_host_mac))
		return err_fault(err, FAULT_HOST_RESOURCE, EINVAL,
				 "interface '%s' is a macvtap, whose host end is another "
				 "interface's: %s has no effect there",
				 wanted, net->ip ? "ip" : "host_mac");
	tap.fds = calloc(pairs, sizeof(*tap.fds));
	if (!tap.fds)
		return err_errno(err, ENOMEM, "cannot open a tap");
	snprintf(tap.name, sizeof(tap.name), "%s", wanted);
	for (size_t i = 0; i < pairs; i++) {
		fd = tap_attach(path, tap.name, flags, tap.name);
		if (fd < 0)
			return tap_attach_error(wanted, path, -fd, err);
		tap.fds[tap.n_fds++] = fd;
	}
	if (is_new && net->has_host_mac)
		wait_for_udev(tap.name);
	r = tap_configure(tap.name, net, strcmp(path, TUN_DEVICE) != 0, err);
	if (r < 0)
		return r;
	*ret = tap;
	tap = (struct tap){ 0 };
	return 0;
}
