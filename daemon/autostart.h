/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Starting machines with the host
 *
 * The first daemon after a boot writes down who is to be started, in
 * <runtime>/autostart, one name a line, and strikes a name out when that
 * machine's start has ended: it is up, it failed, or somebody called it off.  A
 * daemon that comes later goes on with what is left.  So an interrupted round is
 * completed, and no machine is started by this twice in a boot: one that an
 * administrator has stopped stays stopped.
 *
 * Turning Autostart on is for the next boot, turning it off counts at once.
 *
 * Main loop.
 */
#pragma once

struct autostart;
struct err;
struct manager;

/* Reads what a former daemon of this boot has left to do. */
int autostart_new(struct manager *manager, struct autostart **ret, struct err *err);
void autostart_free(struct autostart *autostart);

/* Starts what is left or, right after a boot, everything that is to be. */
void autostart_run(struct autostart *autostart);
/* This machine's turn is over in this boot, whatever came of it. */
void autostart_settle(struct autostart *autostart, const char *name);
