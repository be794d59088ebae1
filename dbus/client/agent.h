/* SPDX-License-Identifier: Apache-2.0 */
/*
 * polkit's password prompt for people without a desktop
 *
 * Runs pkttyagent(1) for the time of the program, as systemctl does.  It is a
 * fallback agent: a session that has one of its own keeps it.
 */
#pragma once

/* Its pid, or 0 when there is nobody to ask: no terminal, root, not installed. */
int agent_start(void);
void agent_stop(int pid);
