/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/block/qcow2/backing.h"

#include <errno.h>

#include "vmm/base/err.h"

#define ALIGN 4096U /* for descriptors with O_DIRECT */

int qcow2_read_backing(int fd, struct qcow2_backing *ret, struct err *err)
{
	_cleanup_free_ uint8_t *head = aligned_alloc(ALIGN, QCOW2_HEAD_BYTES);
	_cleanup_free_ struct qcow2_header *h = calloc(1, sizeof(*h));
	ssize_t n;
	int r;

	if (!head || !h)
		return err_errno(err, ENOMEM, "cannot read the qcow2 header");
	do {
		n = pread(fd, head, QCOW2_HEAD_BYTES, 0);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return err_errno(err, errno, "cannot read the qcow2 header");
	r = qcow2_header_parse(head, (size_t)n, h, err);
	if (r < 0)
		return r;
	memcpy(ret->name, h->backing_name, sizeof(ret->name));
	memcpy(ret->format, h->backing_format, sizeof(ret->format));
	return 0;
}
