/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-fs (virtio 1.3, 5.11): a directory of the host, served by virtiofsd
 *
 * All queues are the vhost-user back end's from activation to reset; here are only
 * the configuration space and the watch over the back end.  When it goes away the
 * device is broken and stays so: what the guest has open lived in that process.
 *
 * Not offered: NOTIFICATION, and the DAX window.
 */
#pragma once

#include <stdint.h>

struct err;
struct vhost_user_patience;
struct virtio_device;

#define VIRTIO_FS_TAG_MAX    36 /* bytes, 5.11.4 */
#define VIRTIO_FS_QUEUES_MAX 16 /* of requests; one more has priority */

struct virtio_fs_params {
	const char *id;
	int fd; /* a socket connected to the back end */
	const char *tag;
	uint16_t n_queues; /* of requests */
	uint16_t queue_size;
	const struct vhost_user_patience *patience; /* NULL: the usual (vhost-user.h) */
};

/* Control thread; waits for the back end. Takes params->fd over on success. */
int virtio_fs_new(const struct virtio_fs_params *params, struct virtio_device **ret,
		  struct err *err);
