/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What stands in for a device that was taken from a driver which still uses it
 *
 * A driver that lost its device in the middle waits for ever: for requests it has made, for
 * its reset to be read back.  So the registers stay until it has let go of them, and
 * behind them is a husk: it has the queues as the driver programmed them and nothing of the
 * host's.  What the driver waits for is answered, with an error:
 *
 *   blk    VIRTIO_BLK_S_IOERR to each request      (virtio 1.3, 5.2.6)
 *   net    frames go nowhere, none come; VIRTIO_NET_ERR to control commands  (5.1.6)
 *   pmem   EIO to each flush                        (5.19.7)
 *   fs     -ENOTCONN to each request               (5.11.6, FUSE)
 *   vsock  packets go nowhere, none come            (5.10.6)
 *
 * Its counters are nobody's, and it has none.  It needs no pause: it does nothing unless
 * the shared thread runs.
 */
#pragma once

struct err;
struct virtio_device;

/*
 * Control thread.  One that is to take dev's place: id, queues, features and configuration
 * space are like its, so that dev's driver sees no other device.
 */
int virtio_husk_new(struct virtio_device *dev, struct virtio_device **ret, struct err *err);
/* dev is stopped (virtio_device_stop()); its queues go on in the husk, once that is activated. */
void virtio_husk_take_queues(struct virtio_device *husk, const struct virtio_device *dev);
