/* SPDX-License-Identifier: Apache-2.0 */
/*
 * passt(1) as a network device's other end: a companion of the worker
 *
 * Helper thread.
 */
#pragma once

struct companion;
struct err;
struct net_config;

/* *ret_fd: the worker's end; ret: what is to be run with the other. */
int passt_open(const struct net_config *net, int *ret_fd, struct companion *ret, struct err *err);
/* NULL-terminated, g_strfreev(). */
char **passt_arguments(const char *program, const struct net_config *net);
