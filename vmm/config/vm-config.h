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
#define VM_DISKS_MAX       128  /* more than 31 devices need more PCI segments */
#define VM_NETS_MAX        8
#define VM_NET_PAIRS_MAX   16
#define VM_DISK_QUEUES_MAX 64
#define VM_RATE_GROUPS_MAX 64
#define VM_PMEM_MAX        8
#define VM_DISK_FILES_MAX  8  /* an image and what it is based on */
#define VM_PCI_SLOT_MAX    31 /* of each segment; slot 0 of segment 0 is the host bridge */

#define VM_PCI_SEGMENTS_MAX 96 /* of 256 MiB of ECAM (arch/x86/layout.h), as Cloud Hypervisor */
#define VM_MEMORY_ZONES_MAX 32
#define VM_NUMA_NODES_MAX   64

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

/* How memory comes while the machine runs. */
enum memory_hotplug_method {
	MEMORY_HOTPLUG_ACPI,       /* as DIMMs; it stays */
	MEMORY_HOTPLUG_VIRTIO_MEM, /* by blocks, which can go again */
	MEMORY_HOTPLUG_METHOD_N_,
};

struct memory_config {
	uint64_t size; /* bytes, multiple of 1 MiB here */
	bool mergeable, shared, hugepages, prefault, reserve, thp;
	uint64_t hugepage_size; /* bytes; 0 = the host's default */
	enum memory_hotplug_method hotplug_method;
	uint64_t hotplug_size;            /* bytes that may come; not with zones */
	uint64_t hotplugged_size;         /* of them, there from the start on; virtio-mem */
	struct memory_zone_config *zones; /* if any, size is 0 and they are all of the memory */
	size_t n_zones;
};

struct memory_zone_config {
	char *id;
	uint64_t size; /* bytes, multiple of 2 MiB */
	char *file;    /* resource */
	bool shared, hugepages, prefault, reserve;
	uint64_t hugepage_size;                 /* bytes; 0 = the host's default */
	uint64_t hotplug_size, hotplugged_size; /* as those of memory; virtio-mem only */
	bool has_mergeable, mergeable;
	bool has_host_numa_node;
	uint32_t host_numa_node;
};
/* All of the RAM, in zones or not, without what can come. */
uint64_t memory_config_size(const struct memory_config *memory);
/* What can come, and what of it is there from the start on. */
uint64_t memory_config_hotplug_size(const struct memory_config *memory);
uint64_t memory_config_hotplugged_size(const struct memory_config *memory);
/* Bytes that virtio-mem gives and takes at a time: a power of two. */
uint64_t memory_config_block_size(uint64_t hotplug_size);
/* Index of the zone, or -1. */
int memory_config_find_zone(const struct memory_config *memory, const char *id);
/* Bytes of memory, with what may come, for which so many address bits have room. */
uint64_t memory_config_size_max(uint32_t max_phys_bits);
/* A multiple of 2 MiB above 0. */
bool memory_zone_size_suits(uint64_t size);
bool memory_zone_is_mergeable(const struct memory_config *memory, size_t i);

struct numa_distance_config {
	uint32_t destination;
	uint8_t distance;
};

struct numa_config {
	uint32_t guest_numa_id; /* they are numbered 0, 1, ... in any order */
	uint32_t *cpus;
	size_t n_cpus;
	struct numa_distance_config *distances;
	size_t n_distances;
	char **memory_zones; /* NULL-terminated or NULL */
	uint32_t *pci_segments;
	size_t n_pci_segments;
};

struct pci_segment_config {
	uint16_t pci_segment;
	uint32_t mmio32_aperture_weight, mmio64_aperture_weight;
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

#define VM_FW_CFG_NAME_MAX  55
#define VM_FW_CFG_ITEMS_MAX 64

struct fw_cfg_item_config {
	char *name;
	char *file; /* resource */
	char *string;
};

struct fw_cfg_items_config {
	struct fw_cfg_item_config *list;
	size_t n;
};

struct fw_cfg_config {
	bool e820, kernel, cmdline, initramfs, acpi_tables;
	struct fw_cfg_items_config items;
};

struct payload_config {
	enum boot_protocol boot_protocol;
	char *firmware, *kernel, *initramfs; /* resources */
	char *cmdline;
	bool has_fw_cfg;
	struct fw_cfg_config fw_cfg;
};

/* Where a PCI device is; a member `pci` of the struct of each kind that is one. */
struct pci_placement {
	char *id;   /* of a list's element; filled in by vm_config_parse() */
	bool iommu; /* its memory accesses go through the virtio-iommu */
	bool has_pci_device_id;
	uint8_t pci_device_id; /* slot */
	uint16_t pci_segment;
};

/* `size` tokens, and as many again each refill_time; one_time_burst is there once, at the start. */
struct token_bucket_config {
	uint64_t size, one_time_burst;
	uint64_t refill_time; /* milliseconds */
};

struct rate_limit_config { /* rate_limiter_config */
	bool has_bandwidth, has_ops;
	struct token_bucket_config bandwidth, ops; /* bytes, requests or frames */
	/* bw_size, ops_size ...: moved to the others by vm_config_parse() */
	struct token_bucket_config flat_bandwidth, flat_ops;
};

struct rate_limit_group_config {
	char *id;
	bool has_limit;
	struct rate_limit_config limit;
};

enum image_type {
	IMAGE_TYPE_UNKNOWN, /* nothing was said: raw, unless it looks like something else */
	IMAGE_TYPE_RAW,
	IMAGE_TYPE_QCOW2,
	IMAGE_TYPE_VHD,
	IMAGE_TYPE_VHDX,
	IMAGE_TYPE_N_,
};
const char *image_type_to_string(enum image_type type);          /* "Raw" */
int image_type_from_string(const char *s, enum image_type *ret); /* 0 or -EINVAL */

enum lock_granularity {
	LOCK_GRANULARITY_BYTE_RANGE, /* the image as long as it is when the machine starts */
	LOCK_GRANULARITY_FULL,       /* and what may come behind it */
	LOCK_GRANULARITY_N_,
};
const char *lock_granularity_to_string(enum lock_granularity granularity); /* "ByteRange" */
int lock_granularity_from_string(const char *s, enum lock_granularity *ret);

struct queue_affinity {
	uint16_t queue_index;
	uint32_t *host_cpus;
	size_t n_host_cpus;
};

struct disk_config {
	struct pci_placement pci;
	char *path; /* resource */
	enum image_type image_type;
	bool readonly, direct, sparse, backing_files;
	enum lock_granularity lock_granularity;
	bool disable_io_uring, disable_aio;
	uint16_t num_queues, queue_size;
	struct queue_affinity *queue_affinity;
	size_t n_queue_affinity;
	char *serial; /* at most 20 bytes */
	bool has_limit;
	struct rate_limit_config limit;
	char *rate_limit_group;
};

struct mac_addr {
	uint8_t bytes[6];
};

/* What is at the other end of a network device. */
enum net_backend_kind {
	NET_BACKEND_TAP,
	NET_BACKEND_PASST, /* a process of the daemon's, for who may not make taps */
	NET_BACKEND_N_,
};
const char *net_backend_kind_to_string(enum net_backend_kind kind);          /* "Tap" */
int net_backend_kind_from_string(const char *s, enum net_backend_kind *ret); /* 0 or -EINVAL */

struct net_config {
	struct pci_placement pci;
	enum net_backend_kind backend;
	char *tap;       /* resource: interface name; NULL = created by the daemon, or fds */
	char **fds;      /* resource: of one tap, a descriptor a queue pair; NULL-terminated */
	char *ip, *mask; /* of the host's end; both or neither */
	bool has_mac, has_host_mac;
	struct mac_addr mac, host_mac;
	bool vhost;                        /* the kernel moves the frames; taps */
	char **forward_tcp, **forward_udp; /* passt: ports, NULL-terminated or NULL */
	uint16_t mtu;                      /* 0 = leave alone */
	uint16_t num_queues, queue_size;   /* num_queues counts rings: 2 a pair */
	bool offload_tso, offload_ufo, offload_csum;
	/* limit: of either direction that has none of its own; see net_rate_limit() */
	bool has_limit, has_rx_limit, has_tx_limit;
	struct rate_limit_config limit, rx_limit, tx_limit;
};

struct rng_config {
	struct pci_placement pci;
	char *src; /* resource */
};

struct balloon_config {
	struct pci_placement pci;
	uint64_t size; /* bytes */
	bool deflate_on_oom, free_page_reporting;
	uint32_t statistics_interval; /* seconds */
};

struct rtc_config {
	struct pci_placement pci;
};

struct pvpanic_config { /* a bool in the text */
	bool enabled;
	struct pci_placement pci;
};

/* What is done when the guest has not fed its watchdog; the event is told in any case. */
enum watchdog_action {
	WATCHDOG_ACTION_RESET,
	WATCHDOG_ACTION_POWEROFF,
	WATCHDOG_ACTION_PAUSE,
	WATCHDOG_ACTION_REPORT,
	WATCHDOG_ACTION_N_,
};
const char *watchdog_action_to_string(enum watchdog_action action);        /* "Reset" */
int watchdog_action_from_string(const char *s, enum watchdog_action *ret); /* 0 or -EINVAL */

struct vsock_config {
	struct pci_placement pci;
	uint32_t cid;
	char *socket; /* resource */
};

enum console_mode {
	CONSOLE_MODE_OFF,
	CONSOLE_MODE_NULL,
	CONSOLE_MODE_TTY, /* kept for OpenConsole */
	CONSOLE_MODE_FILE,
	CONSOLE_MODE_SOCKET, /* kept for clients of a listening socket */
	CONSOLE_MODE_PTY,    /* kept for OpenConsole, and for whoever opens a terminal */
	CONSOLE_MODE_N_,
};

const char *console_mode_to_string(enum console_mode mode);          /* "Off" */
int console_mode_from_string(const char *s, enum console_mode *ret); /* 0 or -EINVAL */

/* By OpenConsole; vmm/devices asks too, which links nothing of this. */
static inline bool console_mode_can_open(enum console_mode mode)
{
	return mode == CONSOLE_MODE_TTY || mode == CONSOLE_MODE_PTY;
}

struct console_config {           /* serial, console and debug_console */
	struct pci_placement pci; /* console only */
	enum console_mode mode;
	char *file;      /* resource, mode File only */
	char *socket;    /* resource, mode Socket only */
	uint16_t iobase; /* debug_console only */
};

struct platform_config {
	char *serial_number, *uuid, *manufacturer, *product_name, *version, *family, *sku_number;
	char *chassis_asset_tag;
	char **oem_strings; /* NULL-terminated or NULL */
	uint16_t num_pci_segments;
	uint32_t *iommu_segments; /* whose devices are all behind the virtio-iommu */
	size_t n_iommu_segments;
	uint8_t iommu_address_width_bits;
};

struct iommu_config { /* a bool in the text */
	bool enabled; /* even if no device asks for it */
	struct pci_placement pci;
};

#define VM_FS_MAX        8
#define VM_FS_QUEUES_MAX 16

struct fs_config {
	struct pci_placement pci;
	char *tag;             /* at most 36 bytes */
	char *socket, *source; /* resources: one of them */
	uint16_t num_queues, queue_size;
};

struct pmem_config {
	struct pci_placement pci;
	char *file;    /* resource */
	uint64_t size; /* bytes; 0 = the file's */
	bool discard_writes;
};

struct vm_config {
	struct cpus_config cpus;
	struct memory_config memory;
	struct payload_config payload;
	struct disk_config *disks;
	size_t n_disks;
	struct net_config *nets;
	size_t n_nets;
	struct fs_config *fs;
	size_t n_fs;
	struct pmem_config *pmem;
	size_t n_pmem;
	struct rng_config rng;
	struct console_config serial, console, debug_console;
	struct platform_config platform;
	struct rate_limit_group_config *rate_limit_groups;
	size_t n_rate_limit_groups;
	bool has_balloon;
	struct balloon_config balloon;
	bool has_vsock;
	struct vsock_config vsock;
	bool has_rtc;
	struct rtc_config rtc;
	struct pvpanic_config pvpanic;
	struct iommu_config iommu;
	struct numa_config *numa;
	size_t n_numa;
	struct pci_segment_config *pci_segments;
	size_t n_pci_segments;
	bool watchdog;
	enum watchdog_action watchdog_action;
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

#define RATE_LIMIT_SIZE_MAX (1ULL << 50)

/* The nodes that the guest sees; 0 for what none lists, and where there are none. */
uint32_t numa_of_vcpu(const struct vm_config *config, uint32_t vcpu);
uint32_t numa_of_segment(const struct vm_config *config, uint16_t segment);
uint32_t numa_of_zone(const struct vm_config *config, size_t zone);
uint8_t numa_distance(const struct vm_config *config, uint32_t from, uint32_t to);

/* Is there a virtio-iommu, and is it asked before this device touches memory? */
bool vm_config_has_iommu(const struct vm_config *config);
bool vm_config_is_iommu_segment(const struct vm_config *config, uint16_t segment);

/* The limit in force in one direction; NULL: none. */
const struct rate_limit_config *net_rate_limit(const struct net_config *net, bool tx);
/* NULL: there is none. */
struct rate_limit_group_config *vm_config_find_rate_limit_group(const struct vm_config *config,
								const char *id);

enum resource_kind {
	RESOURCE_FILE_READ,   /* regular file: kernel, initramfs, firmware */
	RESOURCE_SOURCE,      /* file or character device to read: rng.src */
	RESOURCE_DISK,        /* regular file or block device; writable unless readonly */
	RESOURCE_MEMORY,      /* regular file: a memory zone's; writable unless readonly */
	RESOURCE_FS_SOCKET,   /* UNIX socket, connected to: fs.socket */
	RESOURCE_FS_SOURCE,   /* directory; what is handed over is a socket: fs.source */
	RESOURCE_PMEM,        /* regular file, or a directory for one without a name: pmem.file */
	RESOURCE_FILE_APPEND, /* created if missing: serial.file */
	RESOURCE_LISTEN,      /* a socket that is made and listened on: vsock.socket */
	RESOURCE_PTY,         /* a terminal that is made for a console of mode Pty: serial.mode */
	RESOURCE_TAP,         /* one call a net, pointer "/net/0/tap", or one a descriptor of
				 it, "/net/0/fds/1"; its num_queues / 2 descriptors are handed
				 over as "/net/0/tap/0" ... */
};

struct resource {
	const char *pointer; /* "/disks/0/path" */
	enum resource_kind kind;
	/* The path, the interface name, or "fd:NAME"; NULL for what is to be created. */
	const char *value;
	bool readonly; /* disks; true for what is only read */
	bool direct;   /* disks */
	size_t index;  /* which element of its list: config->disks, config->nets */
	size_t queue;  /* net.fds: which pair */
};

/* Calls fn for each resource that the definition names; stops at its first error. */
int vm_config_foreach_resource(const struct vm_config *config,
			       int (*fn)(const struct resource *res, void *data, struct err *err),
			       void *data, struct err *err);
/* NAME of "fd:NAME"; NULL for paths, interfaces and nothing (NULL). */
const char *vm_config_fd_name(const char *value);
/* Replaces each resource value by its pointer: what the worker is sent. */
void vm_config_strip_resources(struct vm_config *config);
