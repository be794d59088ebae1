/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The `a{sv} options` at the end of every method
 *
 * A method lists its keys in a table; an unknown key, a key given twice or a
 * value of another type is InvalidArgs, with a sentence that names the key and
 * what the method knows.  Strings point into the message.
 */
#pragma once

#include "vmm/base/cleanup.h"
#include <stddef.h>
#include <systemd/sd-bus.h>

struct err;

struct bus_option {
	const char *key;
	/*
	 * SD_BUS_TYPE_BOOLEAN (bool), _STRING (const char *), _UINT64; or _ARRAY of
	 * this signature, a GVariant * that the method unrefs, also after a failure.
	 */
	char type;
	size_t offset; /* in the method's struct of options */
	const char *signature;
};

/* Reads the dictionary at the cursor into *ret, which holds the defaults. */
_must_check_ int bus_options_read(sd_bus_message *m, const struct bus_option *options, size_t n,
				  void *ret, struct err *err);
