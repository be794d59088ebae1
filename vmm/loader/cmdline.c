/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/loader/cmdline.h"

#include <errno.h>
#include <string.h>

#include "vmm/arch/x86/layout.h"
#include "vmm/base/err.h"
#include "vmm/base/math.h"
#include "vmm/memory/guest-memory.h"

int cmdline_write(struct guest_mem *mem, const char *cmdline, uint64_t max, struct err *err)
{
	size_t len = cmdline ? strlen(cmdline) : 0;
	int r;

	max = MIN(max, (uint64_t)LAYOUT_CMDLINE_MAX - 1);
	if (len > max)
		return err_set(err, E2BIG,
			       "/payload/cmdline: %zu bytes are too many, must be at most %llu for "
			       "this kernel",
			       len, (unsigned long long)max);
	r = guest_write(mem, LAYOUT_CMDLINE, cmdline ? cmdline : "", len + 1);
	if (r < 0)
		return err_set(err, -r, "no guest memory for the command line at 0x%llx",
			       LAYOUT_CMDLINE);
	return 0;
}
