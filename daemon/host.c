/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/host.h"

#include "daemon/definition.h"
#include "vmm/base/cleanup.h"
#include <dirent.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/utsname.h>
#include <unistd.h>

static const struct {
	const char *name;
	int extension;
} kvm_extensions[] = {
	{ "max-vcpus", KVM_CAP_MAX_VCPUS },
	{ "recommended-vcpus", KVM_CAP_NR_VCPUS },
	{ "memory-slots", KVM_CAP_NR_MEMSLOTS },
	{ "split-irqchip", KVM_CAP_SPLIT_IRQCHIP },
	{ "irqfd", KVM_CAP_IRQFD },
	{ "ioeventfd", KVM_CAP_IOEVENTFD },
	{ "irq-routes", KVM_CAP_IRQ_ROUTING },
	{ "xsave2", KVM_CAP_XSAVE2 },
	{ "tsc-deadline-timer", KVM_CAP_TSC_DEADLINE_TIMER },
	{ "immediate-exit", KVM_CAP_IMMEDIATE_EXIT },
	{ "dirty-log-ring", KVM_CAP_DIRTY_LOG_RING },
	{ "readonly-memory", KVM_CAP_READONLY_MEM },
};

static int kvm_open(const char *device)
{
	int fd = open(device, O_RDWR | O_CLOEXEC | O_NONBLOCK);

	if (fd >= 0 && ioctl(fd, KVM_GET_API_VERSION, 0) != KVM_API_VERSION) {
		close(fd);
		return -1;
	}
	return fd;
}

void host_probe(struct host *host, const char *kvm_device)
{
	_cleanup_close_ int kvm = kvm_open(kvm_device);
	struct utsname uts = { 0 };
	long pages = sysconf(_SC_PHYS_PAGES), page_size = sysconf(_SC_PAGESIZE);
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	int max;

	*host = (struct host){ 0 };
	uname(&uts);
	memcpy(host->architecture, uts.machine, sizeof(host->architecture) - 1);
	memcpy(host->kernel_release, uts.release, sizeof(host->kernel_release) - 1);
	host->n_cpus = cpus > 0 ? (uint32_t)cpus : 1;
	host->memory = pages > 0 && page_size > 0 ? (uint64_t)pages * (uint64_t)page_size : 0;
	host->kvm_available = kvm >= 0;
	if (kvm >= 0) {
		max = ioctl(kvm, KVM_CHECK_EXTENSION, KVM_CAP_MAX_VCPUS);
		if (max <= 0)
			max = ioctl(kvm, KVM_CHECK_EXTENSION, KVM_CAP_NR_VCPUS);
		host->max_vcpus = max > 0 ? (uint32_t)max : 4; /* KVM's documented default */
	}
}

static uint64_t read_number(const char *path)
{
	g_autofree char *text = NULL;

	if (!g_file_get_contents(path, &text, NULL, NULL))
		return 0;
	return g_ascii_strtoull(text, NULL, 10);
}

static GVariant *describe_hugepages(void)
{
	const char *base = "/sys/kernel/mm/hugepages";
	struct dirent *entry;
	GVariantBuilder sizes;
	DIR *dir;

	g_variant_builder_init(&sizes, G_VARIANT_TYPE_VARDICT);
	dir = opendir(base);
	while (dir && (entry = readdir(dir))) {
		unsigned long long kib;
		char total[320], unused[320], key[32];
		GVariantBuilder one;

		if (sscanf(entry->d_name, "hugepages-%llukB", &kib) != 1)
			continue;
		snprintf(total, sizeof(total), "%s/%s/nr_hugepages", base, entry->d_name);
		snprintf(unused, sizeof(unused), "%s/%s/free_hugepages", base, entry->d_name);
		snprintf(key, sizeof(key), "%llu", kib * 1024);
		g_variant_builder_init(&one, G_VARIANT_TYPE_VARDICT);
		dict_add(&one, "total", "t", (guint64)read_number(total));
		dict_add(&one, "free", "t", (guint64)read_number(unused));
		dict_add_value(&sizes, key, g_variant_builder_end(&one));
	}
	if (dir)
		closedir(dir);
	return g_variant_builder_end(&sizes);
}

static unsigned int count_numa_nodes(void)
{
	struct dirent *entry;
	unsigned int n = 0, node;
	DIR *dir = opendir("/sys/devices/system/node");

	while (dir && (entry = readdir(dir)))
		n += sscanf(entry->d_name, "node%u", &node) == 1;
	if (dir)
		closedir(dir);
	return n ? n : 1;
}

static GVariant *describe_kvm(const char *kvm_device)
{
	_cleanup_close_ int kvm = kvm_open(kvm_device);
	GVariantBuilder dict;

	g_variant_builder_init(&dict, G_VARIANT_TYPE_VARDICT);
	dict_add(&dict, "available", "b", kvm >= 0);
	for (size_t i = 0; kvm >= 0 && i < ARRAY_SIZE(kvm_extensions); i++) {
		int value = ioctl(kvm, KVM_CHECK_EXTENSION, kvm_extensions[i].extension);

		dict_add(&dict, kvm_extensions[i].name, "t", (guint64)(value > 0 ? value : 0));
	}
	return g_variant_builder_end(&dict);
}

GVariant *host_describe(const struct host *host, const char *kvm_device)
{
	GVariantBuilder dict;

	g_variant_builder_init(&dict, G_VARIANT_TYPE_VARDICT);
	dict_add(&dict, "architecture", "s", host->architecture);
	dict_add(&dict, "kernel", "s", host->kernel_release);
	dict_add(&dict, "cpus", "t", (guint64)host->n_cpus);
	dict_add(&dict, "memory", "t", (guint64)host->memory);
	dict_add(&dict, "numa-nodes", "t", (guint64)count_numa_nodes());
	dict_add_value(&dict, "hugepages", describe_hugepages());
	dict_add_value(&dict, "kvm", describe_kvm(kvm_device));
	return g_variant_builder_end(&dict);
}
