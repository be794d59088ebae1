/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `watchdog_action`: what happens when the guest has not fed its watchdog
 */
#include <errno.h>
#include <string.h>

#include "vmm/config/tables.h"

static const char *const action_names[WATCHDOG_ACTION_N_] = {
	[WATCHDOG_ACTION_RESET] = "Reset",
	[WATCHDOG_ACTION_POWEROFF] = "Poweroff",
	[WATCHDOG_ACTION_PAUSE] = "Pause",
	[WATCHDOG_ACTION_REPORT] = "Report",
};
const struct config_names watchdog_action_names = { action_names, WATCHDOG_ACTION_N_, NULL };

const char *watchdog_action_to_string(enum watchdog_action action)
{
	return action < WATCHDOG_ACTION_N_ ? action_names[action] : NULL;
}

int watchdog_action_from_string(const char *s, enum watchdog_action *ret)
{
	for (unsigned int i = 0; i < WATCHDOG_ACTION_N_; i++) {
		if (strcmp(s, action_names[i]) == 0) {
			*ret = (enum watchdog_action)i;
			return 0;
		}
	}
	return -EINVAL;
}
