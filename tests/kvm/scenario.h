/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Table-driven runs of the tiny guest: one row, one worker, one result
 *
 * tests/kvm/guest/main.c lists the guest's scenarios and their arguments.
 */
#pragma once

#include <stddef.h>

#include "tests/lib/worker.h"

struct scenario {
	const char *name;    /* path of the test case */
	const char *cmdline; /* "test=..." */
	const char *config;  /* GVariant text of everything but the payload; NULL = defaults */
	/* Optional: hands resources over before the start. */
	void (*prepare)(struct test_worker *w);
	/* Optional: after the guest is done and the worker has ended. */
	void (*check)(struct test_worker *w);
	const char *edge;     /* last state change; NULL = the guest powers off */
	int status;           /* exit status of the worker */
	unsigned int seconds; /* 0 = 20 */
};

#define SCENARIO_POWEROFF "running>shutdown:guest-shutdown"

/* Registers each row as a test. */
void scenarios_add(const struct scenario *scenarios, size_t n);
/* What a row does, for tests that do more: runs to the end and asserts no "not ok". */
void scenario_expect_done(struct test_worker *w);

/* Where the platform devices of a machine with the default configuration are. */
uint64_t scenario_platform_start(void);

/* Resources that rows share. */
void prepare_disk(struct test_worker *w);        /* /disks/0/path, 1 MiB */
void prepare_all_devices(struct test_worker *w); /* a disk, a tap with an echo, rng */
void prepare_net(struct test_worker *w);
#define CONFIG_DISK "{'disks': <[{'path': <'/disks/0/path'>}]>}"
#define CONFIG_NET  "{'net': <[{'tap': <'/net/0/tap'>, 'mac': <'52:54:00:12:34:56'>}]>}"
/* without the braces, for rows that add to it */
#define CONFIG_ALL_DEVICES                                                                         \
	"'disks': <[{'path': <'/disks/0/path'>}]>,"                                                \
	" 'net': <[{'tap': <'/net/0/tap'>, 'mac': <'52:54:00:12:34:56'>}]>,"                       \
	" 'console': <{'mode': <'Tty'>}>, 'rtc': <@a{sv} {}>"
#define CONFIG_ALL "{" CONFIG_ALL_DEVICES "}"
