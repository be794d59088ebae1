/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vm_config_parse_all(): every problem of a definition at once
 */
#include <errno.h>

#include "definition.h"
#include "vmm/config/problems.h"

/* All problems of a document, one a line, in its order, and none that follows from another. */
static const struct {
	const char *name, *json, *text;
} all_cases[] = {
	{ "good", VM(""), "" },
	{ "sections", VM(",'cpus':{'boot_vcpus':0,'nested':1},'memory':{'size':'x'},'sereal':{}"),
	  "/cpus/boot_vcpus: 0 is out of range, must be 1 to 1024\n"
	  "/cpus/nested: must be true or false, is 1\n"
	  "/memory/size: must be an integer, is the string 'x'\n"
	  "/sereal: unknown key, did you mean 'serial'?\n" },
	{ "lists",
	  VM(",'disks':[{'path':7,'queue_size':2},{},'x'],'platform':{'oem_strings':[1,'a',2]}"),
	  "/disks/0/path: must be a string, is 7\n"
	  "/disks/0/queue_size: 2 is out of range, must be 4 to 1024\n"
	  "/disks/1/path: missing, must be given\n"
	  "/disks/2: must be an object, is the string 'x'\n"
	  "/platform/oem_strings/0: must be a string, is 1\n"
	  "/platform/oem_strings/2: must be a string, is 2\n" },
	/* rules are looked at after the rows, but told in the document's order */
	{ "rules",
	  "{'disks':[{'path':'/a','queue_size':100,'id':'d'},{'path':'/a','id':'d'}],"
	  "'net':[{'num_queues':3,'queue_size':5}],'cpus':{'boot_vcpus':4,'max_vcpus':2,"
	  "'affinity':[{'vcpu':9,'host_cpus':[0]},{'vcpu':1,'host_cpus':[]}]},"
	  "'rng':{'src':'x'},'payload':{}}",
	  "/disks/0/queue_size: 100 is not a power of two, must be like 128\n"
	  "/disks/1/path: '/a' is /disks/0 too, must be read-only in both\n"
	  "/disks/1/id: 'd' is /disks/0's too, must be unique\n"
	  "/net/0/num_queues: 3 is odd, must count receive and send queues\n"
	  "/net/0/queue_size: 5 is not a power of two, must be like 256\n"
	  "/cpus/max_vcpus: 2 is less than /cpus/boot_vcpus, must be at least 4\n"
	  "/cpus/affinity/0/vcpu: 9 does not exist, must be 0 to 3\n"
	  "/cpus/affinity/1/host_cpus: is empty, must name at least one CPU\n"
	  "/rng/src: 'x' is not an absolute path, must start with '/'\n"
	  "/payload: names nothing to start, must have 'kernel' or 'firmware'\n" },
	{ "firmware",
	  "{'payload':{'initramfs':'/i','cmdline':'x','boot_protocol':'BzImage','firmware':'/f'}}",
	  "/payload/initramfs: has no effect with a firmware, needs /payload/kernel\n"
	  "/payload/cmdline: has no effect with a firmware, needs /payload/kernel\n"
	  "/payload/boot_protocol: 'BzImage' is for a kernel, a firmware needs 'Auto' or 'Pvh'\n" },
	/* no "names nothing to start": that is what the first one means */
	{ "follows-key", "{'payload':{'kernal':'/k'}}",
	  "/payload/kernal: unknown key, did you mean 'kernel'?\n" },
	{ "follows-place", "{'kernel':'/k'}",
	  "/kernel: unknown key, did you mean 'kernel' in 'payload'?\n" },
	{ "follows-later", "{'payload':{'igvm':'/k'},'fs':[]}",
	  "/payload/igvm: not supported yet\n" },
	/* the number of vCPUs is not known: nothing about queues */
	{ "follows-cpus",
	  VM(",'cpus':{'boot_vcpus':'x'},'disks':[{'path':'/a','num_queues':4,"
	     "'queue_size':7}]"),
	  "/cpus/boot_vcpus: must be an integer, is the string 'x'\n"
	  "/disks/0/queue_size: 7 is not a power of two, must be like 128\n" },
	{ "strange-keys", VM(",'cpus':{'a/b':1,'m~n':2,'boot_vcpus':0}"),
	  "/cpus/a~1b: unknown key, must be one of boot_vcpus, max_vcpus, topology, max_phys_bits, "
	  "affinity, nested\n"
	  "/cpus/m~0n: unknown key, must be one of boot_vcpus, max_vcpus, topology, max_phys_bits, "
	  "affinity, nested\n"
	  "/cpus/boot_vcpus: 0 is out of range, must be 1 to 1024\n" },
};

static void test_all(gconstpointer data)
{
	size_t i = GPOINTER_TO_SIZE(data);
	g_autoptr(GVariant) dict = definition_from_json(all_cases[i].json);
	_cleanup_(config_problems_deinit) struct config_problems problems = { 0 };
	_cleanup_(vm_config_free_cleanup) struct vm_config *config = NULL;
	g_autoptr(GString) text = g_string_new(NULL);
	int r;

	r = vm_config_parse_all(dict, &config, &problems);
	for (size_t j = 0; j < config_problems_count(&problems); j++)
		g_string_append_printf(text, "%s\n",
				       g_array_index(problems.list, struct err, j).msg);
	g_assert_cmpstr(text->str, ==, all_cases[i].text);
	g_assert_cmpint(r, ==, config_problems_first(&problems, NULL));
	g_assert_true(!config == (r < 0));
}

/* However long a wrong document is, the list of its problems is not. */
static void test_all_bounded(void)
{
	_cleanup_(config_problems_deinit) struct config_problems problems = { 0 };
	struct vm_config *config = NULL;
	GVariantBuilder dict;
	g_autoptr(GVariant) document = NULL;

	g_variant_builder_init(&dict, G_VARIANT_TYPE_VARDICT);
	for (unsigned int i = 0; i < 10000; i++) {
		g_autofree char *key = g_strdup_printf("unknown%u", i);

		g_variant_builder_add_parsed(&dict, "{%s, <1>}", key);
	}
	document = g_variant_ref_sink(g_variant_builder_end(&dict));
	g_assert_cmpint(vm_config_parse_all(document, &config, &problems), ==, -EINVAL);
	g_assert_cmpuint(config_problems_count(&problems), ==, CONFIG_PROBLEMS_MAX);
	g_assert_true(
		g_str_has_prefix(g_array_index(problems.list, struct err, 99).msg, "/unknown99: "));
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	for (size_t i = 0; i < G_N_ELEMENTS(all_cases); i++) {
		g_autofree char *path = g_strdup_printf("/config/parse/all/%s", all_cases[i].name);

		g_test_add_data_func(path, GSIZE_TO_POINTER(i), test_all);
	}
	g_test_add_func("/config/parse/all/bounded", test_all_bounded);
	return g_test_run();
}
