/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A definition on its way to the worker: nothing is lost, and what names something of the host
 * is found and taken out
 */
#include <errno.h>

#include "definition.h"
#include "vmm/config/tables.h"

#define EVERYTHING                                                                                          \
	"{'cpus':{'boot_vcpus':4,'max_vcpus':8,'max_phys_bits':40,'nested':false,"                          \
	"'topology':{'threads_per_core':2,'cores_per_die':2,'dies_per_package':1,'packages':2},"            \
	"'affinity':[{'vcpu':0,'host_cpus':[0,2]},{'vcpu':7,'host_cpus':[8191]}]},"                         \
	"'memory':{'size':4294967296,'shared':true,'hugepages':true,'hugepage_size':2097152,"               \
	"'prefault':true,'reserve':true,'thp':false},"                                                      \
	"'payload':{'kernel':'/boot/vmlinuz','initramfs':'/boot/initrd','cmdline':'quiet \\\\',"            \
	"'fw_cfg_config':{'e820':false,'items':{'item_list':[{'name':'opt/x','file':'/i'},"                 \
	"{'name':'opt/y','string':'z'}]}}},"                                                                \
	"'disks':[{'path':'/a','readonly':true,'direct':true,'num_queues':4,'queue_size':1024,"             \
	"'serial':'S','id':'root','pci_device_id':31,'queue_affinity':[{'queue_index':1,'host_cpus':[0]}]," \
	"'rate_limiter_config':{'ops':{'size':9,'refill_time':100}}},"                                      \
	"{'path':'/a','readonly':true,'rate_limit_group':'g'}],"                                            \
	"'rate_limit_groups':[{'id':'g','rate_limiter_config':{'bandwidth':{'size':1,"                      \
	"'refill_time':1}}}],'fs':[{'tag':'t','source':'/d'}],'pmem':[{'file':'/p'}],"                      \
	"'net':[{'tap':'t0','ip':'10.0.0.1','mask':'255.255.255.0','mac':'52:54:00:ab:cd:ef',"              \
	"'mtu':9000,'num_queues':8,'queue_size':512,'offload_tso':false,'offload_ufo':false,"               \
	"'offload_csum':false,'id':'lan','pci_device_id':4},"                                               \
	"{'ip':'fd00::1','mask':'ffff:ffff:ffff:ffff::','host_mac':'02:00:00:00:00:01',"                    \
	"'rate_limiter_config':{'ops':{'size':9,'refill_time':100}},"                                       \
	"'rx_rate_limiter_config':{'ops':{'size':9,'refill_time':100}},"                                    \
	"'tx_rate_limiter_config':{'ops':{'size':9,'refill_time':100}}},"                                   \
	"{'backend':'Passt','forward_tcp':['80'],'forward_udp':['53']},"                                    \
	"{'fds':[{'fd':'n0'},{'fd':'n1'}]}],"                                                               \
	"'rng':{'src':'/dev/hwrng'},'serial':{'mode':'File','file':'/s.log'},"                              \
	"'console':{'mode':'Tty'},'debug_console':{'mode':'File','file':'/d.log','iobase':1026},"           \
	"'balloon':{'size':1073741824,'deflate_on_oom':true,'free_page_reporting':true,"                    \
	"'statistics_interval':0,'pci_device_id':9},'rtc':{},'pvpanic':true,'watchdog':true,"               \
	"'watchdog_action':'Pause','vsock':{'cid':3,'socket':'/v'},"                                        \
	"'iommu':true,'numa':[{'guest_numa_id':0,'cpus':[1,2],"                                             \
	"'distances':[{'destination':0,'distance':10}],'pci_segments':[0]}],"                               \
	"'pci_segments':[{'pci_segment':1,'mmio32_aperture_weight':2}],"                                    \
	"'platform':{'num_pci_segments':2,'iommu_segments':[1],'iommu_address_width_bits':48,"              \
	"'system_serial_number':'a','system_uuid':"                                                         \
	"'8c1d3a5e-2f60-4b9a-9d57-0e4c6a7b8f12','system_manufacturer':'b',"                                 \
	"'system_product_name':'c','system_version':'d','system_family':'e',"                               \
	"'system_sku_number':'f','chassis_asset_tag':'g','oem_strings':['h','i']}}"

static void assert_round_trip(const char *json)
{
	_cleanup_(vm_config_free_cleanup) struct vm_config *first = config_from_json(json);
	g_autoptr(GVariant) once = g_variant_ref_sink(vm_config_serialise(first));
	g_autofree char *text = config_json_print(once, CONFIG_JSON_PRETTY);
	_cleanup_(vm_config_free_cleanup) struct vm_config *second = config_from_json(text);
	g_autoptr(GVariant) again = g_variant_ref_sink(vm_config_serialise(second));
	g_autofree char *first_print = g_variant_print(once, TRUE);
	g_autofree char *second_print = g_variant_print(again, TRUE);

	g_assert_cmpstr(first_print, ==, second_print);
}

static void test_round_trip(void)
{
	_cleanup_(vm_config_free_cleanup) struct vm_config *config = config_from_json(EVERYTHING);

	g_assert_cmpuint(config->cpus.affinity[1].host_cpus[0], ==, 8191);
	g_assert_cmpuint(config->disks[0].pci.pci_device_id, ==, 31);
	g_assert_cmpstr(config->payload.cmdline, ==, "quiet \\");
	g_assert_cmpstr(config->platform.sku_number, ==, "f");
	assert_round_trip(EVERYTHING);
	assert_round_trip(VM());
	assert_round_trip(VM(",'memory':{'size':0,'zones':[{'id':'a','file':'/x','shared':true},"
			     "{'id':'b','size':2097152,'host_numa_node':3,'mergeable':true}]},"
			     "'numa':[{'guest_numa_id':0,'memory_zones':['a','b']}]"));
	assert_round_trip("{'payload':{'firmware':'/f'},'serial':{'mode':'Off'}}");
}

/* Does an element of the list have the key? */
static bool list_has(GVariant *all, const char *list, const char *key)
{
	g_autoptr(GVariant) items = g_variant_lookup_value(all, list, G_VARIANT_TYPE("aa{sv}"));

	for (gsize i = 0; items && i < g_variant_n_children(items); i++) {
		g_autoptr(GVariant) item = g_variant_get_child_value(items, i);
		g_autoptr(GVariant) v = g_variant_lookup_value(item, key, NULL);

		if (v)
			return true;
	}
	return false;
}

/* Another form of rate_limiter_config, which is the one that is written. */
static bool is_flat_limit(const char *key)
{
	return strstr(key, "bw_") || strstr(key, "ops_");
}

/* No member that the serialiser forgets: what cannot be combined is in several elements. */
static void test_serialise_is_complete(void)
{
	_cleanup_(vm_config_free_cleanup) struct vm_config *config = config_from_json(EVERYTHING);
	g_autoptr(GVariant) all = g_variant_ref_sink(vm_config_serialise(config));
	const struct {
		const struct config_table *table;
		const char *list;
	} whole[] = { { &vm_table, NULL }, { &disk_table, "disks" }, { &net_table, "net" } };

	for (size_t i = 0; i < G_N_ELEMENTS(whole); i++) {
		for (size_t j = 0; j < whole[i].table->n_fields; j++) {
			const struct config_field *field = &whole[i].table->fields[j];
			g_autoptr(GVariant) v = g_variant_lookup_value(all, field->key, NULL);
			bool has = whole[i].list ? list_has(all, whole[i].list, field->key)
						 : v != NULL;

			g_test_message("%s", field->key);
			g_assert_cmpint(has, ==,
					field->kind != CONFIG_LATER && !is_flat_limit(field->key));
		}
	}
}

static int print_resource(const struct resource *res, void *data, struct err *err _unused_)
{
	g_string_append_printf(data, "%s=%s%s%s index %zu\n", res->pointer,
			       res->value ? res->value : "-", res->readonly ? " ro" : "",
			       res->direct ? " direct" : "", res->index);
	return 0;
}

static int refuse_second(const struct resource *res, void *data, struct err *err)
{
	unsigned int *count = data;

	if (++*count < 2)
		return 0;
	return err_set(err, ENOENT, "%s", res->pointer);
}

static void test_resources(void)
{
	_cleanup_(vm_config_free_cleanup) struct vm_config *config = config_from_json(EVERYTHING);
	g_autoptr(GString) out = g_string_new(NULL);
	unsigned int count = 0;
	struct err err = { 0 };

	g_assert_cmpint(vm_config_foreach_resource(config, print_resource, out, NULL), ==, 0);
	g_assert_cmpstr(out->str, ==,
			"/payload/kernel=/boot/vmlinuz ro index 0\n"
			"/payload/initramfs=/boot/initrd ro index 0\n"
			"/payload/fw_cfg_config/items/item_list/0/file=/i ro index 0\n"
			"/disks/0/path=/a ro direct index 0\n"
			"/disks/1/path=/a ro index 1\n"
			"/net/0/tap=t0 index 0\n"
			"/net/1/tap=- index 1\n"
			"/net/2/tap=- index 2\n"
			"/net/3/fds/0=fd:n0 index 3\n"
			"/net/3/fds/1=fd:n1 index 3\n"
			"/rng/src=/dev/hwrng ro index 0\n"
			"/serial/file=/s.log index 0\n"
			"/debug_console/file=/d.log index 0\n"
			"/fs/0/source=/d index 0\n"
			"/pmem/0/file=/p index 0\n"
			"/vsock/socket=/v index 0\n");

	g_assert_cmpint(vm_config_foreach_resource(config, refuse_second, &count, &err), ==,
			-ENOENT);
	g_assert_cmpstr(err.msg, ==, "/payload/initramfs");
	g_assert_cmpuint(count, ==, 2);
}

/* The mode asks for a terminal; nothing names one, and the worker's configuration is the same. */
static void test_pty(void)
{
	_cleanup_(vm_config_free_cleanup) struct vm_config *config =
		config_from_json(VM(",'serial':{'mode':'Pty'},'console':{'mode':'Tty'},"
				    "'debug_console':{'mode':'Pty'}"));
	g_autoptr(GString) out = g_string_new(NULL);

	g_assert_cmpint(vm_config_foreach_resource(config, print_resource, out, NULL), ==, 0);
	g_assert_nonnull(strstr(out->str, "/serial/mode=- index 0\n"));
	g_assert_nonnull(strstr(out->str, "/debug_console/mode=- index 0\n"));
	g_assert_null(strstr(out->str, "/console/mode"));
	vm_config_strip_resources(config);
	g_assert_cmpint(config->serial.mode, ==, CONSOLE_MODE_PTY);
	g_assert_null(config->serial.file);
	g_assert_null(config->serial.socket);
}

/* The daemon strips, the worker parses what it is sent: no path, same machine. */
static void test_strip(void)
{
	_cleanup_(vm_config_free_cleanup) struct vm_config *config = config_from_json(EVERYTHING);
	_cleanup_(vm_config_free_cleanup) struct vm_config *worker = NULL;
	g_autoptr(GVariant) sent = NULL;
	g_autofree char *text = NULL;
	struct err err = { 0 };

	vm_config_strip_resources(config);
	sent = g_variant_ref_sink(vm_config_serialise(config));
	text = g_variant_print(sent, FALSE);
	g_assert_null(strstr(text, "/boot/"));
	g_assert_null(strstr(text, ".log"));
	g_assert_null(strstr(text, "'t0'"));

	g_assert_cmpint(vm_config_parse(sent, &worker, &err), ==, 0);
	g_assert_cmpstr(err.msg, ==, "");
	g_assert_cmpstr(worker->payload.kernel, ==, "/payload/kernel");
	g_assert_cmpstr(worker->payload.cmdline, ==, "quiet \\");
	g_assert_cmpstr(worker->disks[1].path, ==, "/disks/1/path");
	g_assert_cmpstr(worker->disks[1].pci.id, ==, config->disks[1].pci.id);
	g_assert_cmpstr(worker->nets[0].tap, ==, "/net/0/tap");
	g_assert_cmpstr(worker->nets[1].tap, ==, "/net/1/tap");
	g_assert_cmpstr(worker->rng.src, ==, "/rng/src");
	g_assert_cmpstr(worker->debug_console.file, ==, "/debug_console/file");
}

/* {"fd": NAME} in place of whatever names something of the host. */
static void test_fds(void)
{
	static const char *const text =
		"{'payload':{'kernel':{'fd':'k'},'initramfs':{'fd':'i'}},"
		"'disks':[{'path':{'fd':'d'}}],'net':[{'tap':{'fd':'t'}}],'rng':{'src':{'fd':'r'}},"
		"'serial':{'mode':'File','file':{'fd':'s'}}}";
	_cleanup_(vm_config_free_cleanup) struct vm_config *config = config_from_json(text);
	_cleanup_(vm_config_free_cleanup) struct vm_config *again = NULL;
	g_autoptr(GVariant) dict = g_variant_ref_sink(vm_config_serialise(config));
	g_autofree char *json = config_json_print(dict, CONFIG_JSON_COMPACT);

	g_assert_cmpstr(config->payload.kernel, ==, "fd:k");
	g_assert_cmpstr(vm_config_fd_name(config->disks[0].path), ==, "d");
	g_assert_cmpstr(vm_config_fd_name(config->nets[0].tap), ==, "t");
	g_assert_null(vm_config_fd_name("/fd:k"));
	g_assert_null(vm_config_fd_name(NULL));
	g_assert_nonnull(strstr(json, "\"kernel\":{\"fd\":\"k\"}"));
	g_assert_nonnull(strstr(json, "\"file\":{\"fd\":\"s\"}"));
	g_assert_cmpint(vm_config_parse(dict, &again, NULL), ==, 0);
	g_assert_cmpstr(again->rng.src, ==, "fd:r");
	vm_config_strip_resources(again);
	g_assert_cmpstr(again->rng.src, ==, "/rng/src");
}

/* Several of one tap: their number is that of the pairs, and the worker sees a tap. */
static void test_net_fds(void)
{
	static const char *const text = VM(",'cpus':{'boot_vcpus':3},'net':[{'tap':'t0'},"
					   "{'fds':[{'fd':'a'},{'fd':'b'},{'fd':'3'}]},"
					   "{'fds':[],'num_queues':4},{'fds':[{'fd':'c'}]}]");
	_cleanup_(vm_config_free_cleanup) struct vm_config *config = config_from_json(text);
	_cleanup_(vm_config_free_cleanup) struct vm_config *again = NULL, *worker = NULL;
	g_autoptr(GVariant) dict = g_variant_ref_sink(vm_config_serialise(config));
	g_autoptr(GVariant) sent = NULL;
	g_autofree char *json = config_json_print(dict, CONFIG_JSON_COMPACT);
	g_autoptr(GString) out = g_string_new(NULL);

	g_assert_cmpuint(config->nets[0].num_queues, ==, 2);
	g_assert_cmpuint(config->nets[1].num_queues, ==, 6);
	g_assert_cmpuint(config->nets[2].num_queues, ==, 4);
	g_assert_cmpuint(config->nets[3].num_queues, ==, 2);
	g_assert_null(config->nets[2].fds);
	g_assert_nonnull(strstr(json, "\"fds\":[{\"fd\":\"a\"},{\"fd\":\"b\"},{\"fd\":\"3\"}]"));
	g_assert_cmpint(vm_config_parse(dict, &again, NULL), ==, 0);
	g_assert_cmpint(vm_config_foreach_resource(again, print_resource, out, NULL), ==, 0);
	g_assert_nonnull(strstr(out->str, "/net/0/tap=t0 index 0\n"
					  "/net/1/fds/0=fd:a index 1\n"
					  "/net/1/fds/1=fd:b index 1\n"
					  "/net/1/fds/2=fd:3 index 1\n"
					  "/net/2/tap=- index 2\n"
					  "/net/3/fds/0=fd:c index 3\n"));

	vm_config_strip_resources(again);
	sent = g_variant_ref_sink(vm_config_serialise(again));
	g_assert_cmpint(vm_config_parse(sent, &worker, NULL), ==, 0);
	g_assert_null(worker->nets[1].fds);
	g_assert_cmpstr(worker->nets[1].tap, ==, "/net/1/tap");
	g_assert_cmpuint(worker->nets[1].num_queues, ==, 6);
}

static void test_console_mode(void)
{
	enum console_mode mode;

	for (unsigned int i = 0; i < CONSOLE_MODE_N_; i++) {
		const char *s = console_mode_to_string((enum console_mode)i);

		g_assert_nonnull(s);
		g_assert_cmpint(console_mode_from_string(s, &mode), ==, 0);
		g_assert_cmpuint(mode, ==, i);
	}
	g_assert_cmpint(console_mode_from_string("pty", &mode), ==, -EINVAL);
	g_assert_null(console_mode_to_string(CONSOLE_MODE_N_));
	for (unsigned int i = 0; i < NET_BACKEND_N_; i++) {
		enum net_backend_kind kind = NET_BACKEND_N_;

		g_assert_cmpint(net_backend_kind_from_string(net_backend_kind_to_string(i), &kind),
				==, 0);
		g_assert_cmpuint(kind, ==, i);
	}
	g_assert_null(net_backend_kind_to_string(NET_BACKEND_N_));
	for (unsigned int i = 0; i < IMAGE_TYPE_N_; i++) {
		enum image_type type = IMAGE_TYPE_N_;

		g_assert_cmpint(image_type_from_string(image_type_to_string(i), &type), ==, 0);
		g_assert_cmpuint(type, ==, i);
	}
	g_assert_null(image_type_to_string(IMAGE_TYPE_N_));
	for (unsigned int i = 0; i < LOCK_GRANULARITY_N_; i++) {
		enum lock_granularity g = LOCK_GRANULARITY_N_;

		g_assert_cmpint(lock_granularity_from_string(lock_granularity_to_string(i), &g), ==,
				0);
		g_assert_cmpuint(g, ==, i);
	}
	g_assert_null(lock_granularity_to_string(LOCK_GRANULARITY_N_));
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/config/serialise/round-trip", test_round_trip);
	g_test_add_func("/config/serialise/complete", test_serialise_is_complete);
	g_test_add_func("/config/resources/walk", test_resources);
	g_test_add_func("/config/resources/pty", test_pty);
	g_test_add_func("/config/resources/strip", test_strip);
	g_test_add_func("/config/resources/fds", test_fds);
	g_test_add_func("/config/resources/net-fds", test_net_fds);
	g_test_add_func("/config/console-mode/round-trip", test_console_mode);
	return g_test_run();
}
