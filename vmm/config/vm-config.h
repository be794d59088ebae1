/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The configuration of one virtual machine, as C structs
 *
 * Keys are those of Cloud Hypervisor's VmConfig, so its users' files work
 * unchanged.  Each struct has one table (cpus.c, disk.c, ...) that binds keys,
 * types, defaults, ranges and documentation to its members; parsing,
 * validation, serialising, option strings, help and man page come from it.
 *
 * Strings are owned by the struct (g_free), NULL when absent.  A member marked
 * "resource" names something of the host: a path in the daemon; in the worker
 * the JSON pointer of the key ("/disks/0/path"), under which the descriptor was
 * handed over.  The worker never sees a path.  In the daemon a resource may also be
 * a descriptor that came with the call that made the machine: {"fd": NAME} in the
 * text is "fd:NAME" here, which is no path and no name of an interface.
 *
 * Plain data: whoever parsed it owns it, vm_config_free() releases it.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/base/cleanup.h"

struct config_problems;
struct err;

#define VM_VCPUS_MAX       1024 /* what one VM may ask for; KVM may allow fewer */
#define VM_DISKS_MAX       24   /* one PCI segment, minus bridge, nets, rng, console */
#define VM_NETS_MAX        8
#define VM_NET_PAIRS_MAX   16
#define VM_DISK_QUEUES_MAX 64
#define VM_PCI_SLOT_MAX    31 /* slot 0 is the host bridge; all devices share 1 to 31 */

struct cpu_topology {
	uint16_t threads_per_core, cores_per_die, dies_per_package, packages;
};

struct cpu_affinity {
	uint32_t vcpu;
	uint32_t *host_cpus;
	size_t n_host_cpus;
};

struct cpus_config {
	uint32_t boot_vcpus;
	uint32_t max_vcpus; /* 0 in the text = boot_vcpus; filled in by vm_config_parse() */
	bool has_topology;
	struct cpu_topology topology;
	uint8_t max_phys_bits;
	struct cpu_affinity *affinity;
	size_t n_affinity;
	bool nested;
};

struct memory_config {
	uint64_t size; /* bytes, multiple of 1 MiB here */
	bool mergeable, shared, hugepages, prefault, reserve, thp;
	uint64_t hugepage_size; /* bytes; 0 = the host's default */
};

/* How a kernel is entered (vmm/loader/loader.h). */
enum boot_protocol {
	BOOT_PROTOCOL_AUTO,    /* PVH if it can be, unpacking a bzImage for it */
	BOOT_PROTOCOL_PVH,     /* or an error */
	BOOT_PROTOCOL_BZIMAGE, /* a bzImage unpacks itself in the guest: slower, with KASLR */
	BOOT_PROTOCOL_N_,
};
const char *boot_protocol_to_string(enum boot_protocol protocol);      /* "Auto" */
int boot_protocol_from_string(const char *s, enum boot_protocol *ret); /* 0 or -EINVAL */

struct payload_config {
	enum boot_protocol boot_protocol;
	char *firmware, *kernel, *initramfs; /* resources */
	char *cmdline;
};

/* Where a PCI device is; a member `pci` of the struct of each kind that is one. */
struct pci_placement {
	char *id; /* of a list's element; filled in by vm_config_parse() */
	bool has_pci_device_id;
	uint8_t pci_device_id; /* slot */
};

struct disk_config {
	struct pci_placement pci;
	char *path; /* resource */
	bool readonly, direct;
	uint16_t num_queues, queue_size;
	char *serial; /* at most 20 bytes */
};

struct mac_addr {
	uint8_t bytes[6];
};

struct net_config {
	struct pci_placement pci;
	char *tap;       /* resource: interface name; NULL = created by the daemon */
	char *ip, *mask; /* of the host's end; both or neither */
	bool has_mac;
	struct mac_addr mac;
	uint16_t mtu;                    /* 0 = leave alone */
	uint16_t num_queues, queue_size; /* num_queues counts rings: 2 a pair */
	bool offload_tso, offload_ufo, offload_csum;
};

struct rng_config {
	struct pci_placement pci;
	char *src; /* resource */
};

enum console_mode {
	CONSOLE_MODE_OFF,
	CONSOLE_MODE_NULL,
	CONSOLE_MODE_TTY, /* kept for OpenConsole */
	CONSOLE_MODE_FILE,
	CONSOLE_MODE_N_,
};

const char *console_mode_to_string(enum console_mode mode);          /* "Off" */
int console_mode_from_string(const char *s, enum console_mode *ret); /* 0 or -EINVAL */

struct console_config {           /* serial, console and debug_console */
	struct pci_placement pci; /* console only */
	enum console_mode mode;
	char *file;      /* resource, mode File only */
	uint16_t iobase; /* debug_console only */
};

struct platform_config {
	char *serial_number, *uuid, *manufacturer, *product_name, *version, *family, *sku_number;
	char *chassis_asset_tag;
	char **oem_strings; /* NULL-terminated or NULL */
};

struct vm_config {
	struct cpus_config cpus;
	struct memory_config memory;
	struct payload_config payload;
	struct disk_config *disks;
	size_t n_disks;
	struct net_config *nets;
	size_t n_nets;
	struct rng_config rng;
	struct console_config serial, console, debug_console;
	struct platform_config platform;
};

/*
 * Parses and validates a whole definition (a{sv}, keys as in JSON).  On failure
 * the text is that of the first problem in the document: "<JSON pointer>: <reason>",
 * FAULT_BAD_CONFIG (FAULT_UNSUPPORTED, -EOPNOTSUPP for what Cloud Hypervisor has and Brume not
 * yet), and nothing is returned.  Missing ids are filled in ("_disk0", "_net1"), max_vcpus too.
 * Does not sink a floating `dict`.  Accepts what vm_config_serialise() returns, also after
 * vm_config_strip_resources().
 */
int vm_config_parse(GVariant *dict, struct vm_config **ret, struct err *err);
/*
 * The same, with every problem that does not follow from another, in the order
 * of the document (problems.h).  Returns what the first one is.
 */
int vm_config_parse_all(GVariant *dict, struct vm_config **ret,
			struct config_problems *ret_problems);
/*
 * The inverse: keys are present with their defaults too; left out are optional
 * ones that have no value (D-Bus knows no null).  Floating reference.
 */
GVariant *vm_config_serialise(const struct vm_config *config);
void vm_config_free(struct vm_config *config);
DEFINE_CLEANUP(struct vm_config, vm_config_free);

enum resource_kind {
	RESOURCE_FILE_READ,   /* regular file: kernel, initramfs, firmware */
	RESOURCE_SOURCE,      /* file or character device to read: rng.src */
	RESOURCE_DISK,        /* regular file or block device; writable unless readonly */
	RESOURCE_FILE_APPEND, /* created if missing: serial.file */
	RESOURCE_TAP,         /* one call a net, pointer "/net/0/tap"; its num_queues / 2
				 descriptors are handed over as "/net/0/tap/0" ... */
};

struct resource {
	const char *pointer; /* "/disks/0/path" */
	enum resource_kind kind;
	/* The path, the interface name, or "fd:NAME"; NULL for a tap to be created. */
	const char *value;
	bool readonly; /* disks; true for what is only read */
	bool direct;   /* disks */
	size_t index;  /* which element of its list: config->disks, config->nets */
};

/* Calls fn for each resource that the definition names; stops at its first error. */
int vm_config_foreach_resource(const struct vm_config *config,
			       int (*fn)(const struct resource *res, void *data, struct err *err),
			       void *data, struct err *err);
/* NAME of "fd:NAME"; NULL for paths, interfaces and nothing (NULL). */
const char *vm_config_fd_name(const char *value);
/* Replaces each resource value by its pointer: what the worker is sent. */
void vm_config_strip_resources(struct vm_config *config);
