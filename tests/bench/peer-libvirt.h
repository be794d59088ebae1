/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A domain of libvirt-dbus, to be measured beside Start of our service
 *
 * It is defined from XML and started by Domain.Create, and then, under the same
 * name, as a transient one by DomainCreateXML.  What counts is until the first byte
 * in a FIFO, to which the XML connects the port that the guest writes to first.
 * Reading a FIFO is less work than a signal on the bus: the difference is in the
 * peer's favour.
 */
#pragma once

#include <systemd/sd-bus.h>

#include "tests/bench/bench.h"

struct libvirt_domain {
	char *peer, *transient_peer, *xml;
	char path[256]; /* of the defined one */
	struct bench_samples create, create_xml;
};

/* From "PEER=XML", a name and a file.  What fails, also later, ends the program with a sentence. */
void libvirt_domain_init(struct libvirt_domain *d, const char *argument);
/* Both starts once, each until the guest runs, and their ends. */
void libvirt_domain_run(struct libvirt_domain *d, sd_bus *bus, int fifo);
