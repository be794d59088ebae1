/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Option strings: --disk path=/x.img,readonly=on
 *
 * Cloud Hypervisor's syntax, driven by the config tables:
 *   key=value,key=value          commas inside "..." or [...] do not separate
 *   on off true false            toggles
 *   512M                         sizes: K, M, G, T are powers of 1024
 *   0xe9                         numbers may be hexadecimal
 *   [1,3-5]                      lists of numbers, with ranges
 *   [0@[1,2],1@3]                lists of tuples (cpus.affinity)
 *   2:4:1:1                      cpus.topology
 *   tty   file=/x.log            consoles: the mode alone, or the file alone
 * The result has the JSON keys, so it can be sent or parsed like a JSON text.
 *
 * Pure functions; any thread.
 */
#pragma once

#include <glib.h>

#include "vmm/base/cleanup.h"

struct err;
struct config_table;

/*
 * One option of a machine: "disk" and "path=/x.img".  Adds to the definition:
 * lists grow, a second "cpus" is refused.  `option` is the name without dashes:
 * cpus memory disk net rng serial console debug-console platform, and payload's
 * kernel initramfs cmdline firmware, which take their text as it is.  Paths of
 * host files that are relative are completed with `dir` (absolute; NULL: they
 * are refused).
 *
 * Errors: "--disk: readonly: 'maybe' is not a toggle, must be on or off",
 * FAULT_BAD_CONFIG; FAULT_UNSUPPORTED for options that come later;
 * FAULT_BAD_ARGUMENT for an option that does not exist.
 */
_must_check_ int config_option_apply(GVariantDict *definition, const char *option, const char *text,
				     const char *dir, struct err *err);

/*
 * A device for a machine that there is already: `kind` is the name of the option, "disk", and text
 * and dir are as above; *ret is a full reference to what would be in its list.  Errors begin with
 * the kind, "disk: readonly: ..."; FAULT_BAD_ARGUMENT: no device, or none that comes and goes.
 */
_must_check_ int config_option_device(const char *kind, const char *text, const char *dir,
				      GVariant **ret, struct err *err);

/*
 * Only the syntax and the types of one section ("--disk" is what errors begin
 * with); *ret is a full reference to an a{sv}.
 */
_must_check_ int config_option_parse(const struct config_table *table, const char *shown,
				     const char *text, const char *dir, GVariant **ret,
				     struct err *err);
