/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Checks of single strings in a configuration
 *
 * For the `check` member of a config_field: NULL when the string is good, else
 * the rest of a sentence that begins with the quoted string: "is empty, must
 * be ...".  Pure functions; any thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

const char *check_path(const char *s);        /* absolute, shorter than PATH_MAX */
const char *check_socket(const char *s);      /* of a UNIX socket, with room for a suffix */
const char *check_id(const char *s);          /* a device id */
const char *check_cmdline(const char *s);     /* fits the kernel's command line area */
const char *check_disk_serial(const char *s); /* VIRTIO_BLK_T_GET_ID: 20 bytes */
const char *check_uuid(const char *s);
const char *check_smbios(const char *s);     /* one SMBIOS string */
const char *check_oem_string(const char *s); /* longer: systemd's credentials */
const char *check_address(const char *s);    /* IPv4 or IPv6 of an interface */
const char *check_netmask(const char *s);    /* in address form, IPv4 or IPv6 */
const char *check_forward(const char *s);    /* "[ADDRESS/]PORTS[:PORTS]", passt(1) */

/* Name of a network interface as the kernel takes it (dev_valid_name()). */
bool is_interface_name(const char *s);
/* AF_INET, AF_INET6, or -1 for something else. */
int address_family(const char *s);
