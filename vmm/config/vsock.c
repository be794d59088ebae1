/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `vsock`: sockets between the guest and the host
 */
#include "vmm/config/check.h"
#include "vmm/config/tables.h"

static const struct config_field vsock_fields[] = {
	{ .key = "cid",
	  .kind = CONFIG_UINT,
	  .flags = CONFIG_REQUIRED,
	  CONFIG_AT(struct vsock_config, cid),
	  .min = 3, /* virtio 1.3, 5.10.4: 0, 1, 2 and 2^32 - 1 are reserved */
	  .max = 0xfffffffe,
	  .arg = "CID",
	  .doc = "the guest's address" },
	{ .key = "socket",
	  .kind = CONFIG_STRING,
	  .flags = CONFIG_REQUIRED | CONFIG_RESOURCE,
	  CONFIG_AT(struct vsock_config, socket),
	  .check = check_socket,
	  .resource = RESOURCE_LISTEN,
	  .arg = "PATH",
	  .doc = "socket that is made for clients of the host, which send \"CONNECT PORT\" and a "
		 "newline to it; one for SOCK_SEQPACKET has \"_seqpacket\" after the name. What "
		 "the guest connects to is the socket that has \"_\" and the port after the name" },
	CONFIG_PCI_SINGLE(struct vsock_config),
};
const struct config_table vsock_table = {
	.name = "Sockets",
	.doc = "A virtio-vsock device: stream and seqpacket sockets between the guest and UNIX "
	       "sockets of the host, as Firecracker and Cloud Hypervisor have them.",
	.fields = vsock_fields,
	.n_fields = ARRAY_SIZE(vsock_fields),
	.size = sizeof(struct vsock_config),
};
