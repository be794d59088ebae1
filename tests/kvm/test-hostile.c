/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guests that misuse their devices: the device breaks or refuses, the worker
 * lives, and after a reset the device works again (the guest checks that).
 */
#include "tests/kvm/scenario.h"

#define HOSTILE(test, args) \
	{ "/hostile/" test, "test=" test " dev=all" args, CONFIG_ALL, prepare_all_devices, .seconds = 60 }

static const struct scenario scenarios[] = {
	HOSTILE("bad-loop", ""),
	HOSTILE("bad-next", ""),
	HOSTILE("bad-index", ""),
	HOSTILE("bad-addr", ""),
	HOSTILE("bad-len", ""),
	HOSTILE("bad-avail-jump", ""),
	HOSTILE("bad-indirect-nested", ""),
	HOSTILE("bad-indirect-size", ""),
	HOSTILE("bad-rw-order", ""),
	HOSTILE("bad-queue-addr", ""),
	HOSTILE("bad-queue-size", ""),
	HOSTILE("bad-notify", ""),
	HOSTILE("bad-config", ""),
	HOSTILE("bad-status", ""),
	HOSTILE("bad-header", ""),
	HOSTILE("bad-storm", " seed=1"),
	{ "/hostile/bad-storm-2", "test=bad-storm dev=all seed=2 count=96", CONFIG_ALL,
	  prepare_all_devices, .seconds = 60 },
};

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	scenarios_add(scenarios, G_N_ELEMENTS(scenarios));
	return g_test_run();
}
