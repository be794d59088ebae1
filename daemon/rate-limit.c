/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/rate-limit.h"

bool rate_limit_pass(struct rate_limit *limit, uint64_t now_usec, uint32_t *ret_dropped)
{
	uint64_t earned = (now_usec - limit->since) / limit->interval_usec;

	if (earned >= limit->used) {
		/* Full again: the next interval begins with what is used now. */
		limit->used = 0;
		limit->since = now_usec;
	} else {
		limit->used -= (unsigned int)earned;
		limit->since += earned * limit->interval_usec;
	}
	*ret_dropped = 0;
	if (limit->used >= limit->burst) {
		limit->dropped += limit->dropped < UINT32_MAX;
		return false;
	}
	limit->used++;
	*ret_dropped = limit->dropped;
	limit->dropped = 0;
	return true;
}
