/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rate_limiter_config and rate_limit_groups: both forms, what is in force, bad ones
 */
#include <string.h>

#include "vmm/base/err.h"
#include "vmm/config/json.h"
#include "vmm/config/option.h"
#include "vmm/config/vm-config.h"

static struct vm_config *parse(const char *text, struct err *err)
{
	g_autofree char *whole =
		g_strdup_printf("{\"payload\":{\"kernel\":\"/k\"}%s%s}", *text ? "," : "", text);
	g_autoptr(GVariant) dict = NULL;
	struct vm_config *config = NULL;

	g_assert_cmpint(config_json_parse(whole, strlen(whole), &dict, err), ==, 0);
	vm_config_parse(dict, &config, err);
	return config;
}

static void assert_limit(const struct rate_limit_config *limit, uint64_t bw_size, uint64_t bw_burst,
			 uint64_t bw_ms, uint64_t ops_size, uint64_t ops_ms)
{
	g_assert_nonnull(limit);
	g_assert_cmpint(limit->has_bandwidth, ==, bw_size > 0);
	g_assert_cmpuint(limit->bandwidth.size, ==, bw_size);
	g_assert_cmpuint(limit->bandwidth.one_time_burst, ==, bw_burst);
	g_assert_cmpuint(limit->bandwidth.refill_time, ==, bw_ms);
	g_assert_cmpint(limit->has_ops, ==, ops_size > 0);
	g_assert_cmpuint(limit->ops.size, ==, ops_size);
	g_assert_cmpuint(limit->ops.refill_time, ==, ops_ms);
}

/* Cloud Hypervisor's JSON, its option keys, and what comes of serialising either. */
static void test_forms(void)
{
	static const char *const texts[] = {
		"\"disks\":[{\"path\":\"/d\",\"rate_limiter_config\":{\"bandwidth\":{\"size\":1000,"
		"\"one_time_burst\":7,\"refill_time\":100},\"ops\":{\"size\":5,\"one_time_burst\":"
		"null,\"refill_time\":50}}}]",
		"\"disks\":[{\"path\":\"/d\",\"bw_size\":1000,\"bw_one_time_burst\":7,"
		"\"bw_refill_time\":100,\"ops_size\":5,\"ops_refill_time\":50}]",
	};

	for (size_t i = 0; i < G_N_ELEMENTS(texts); i++) {
		struct err err = { 0 };
		_cleanup_(vm_config_free_cleanup) struct vm_config *config = parse(texts[i], &err);
		_cleanup_(vm_config_free_cleanup) struct vm_config *again = NULL;
		g_autoptr(GVariant) dict = NULL;

		g_assert_cmpstr(err.msg, ==, "");
		assert_limit(&config->disks[0].limit, 1000, 7, 100, 5, 50);
		dict = g_variant_ref_sink(vm_config_serialise(config));
		g_assert_cmpint(vm_config_parse(dict, &again, &err), ==, 0);
		assert_limit(&again->disks[0].limit, 1000, 7, 100, 5, 50);
	}
}

static void test_option(void)
{
	static const char *const options[][2] = {
		{ "kernel", "/k" },
		{ "disk", "path=/d,rate_limit_group=g" },
		{ "rate-limit-group", "id=g,bw_size=10M,bw_refill_time=1000" },
		{ "net", "tx_ops_size=10,tx_ops_refill_time=1000" },
	};
	g_autoptr(GVariantDict) definition = g_variant_dict_new(NULL);
	_cleanup_(vm_config_free_cleanup) struct vm_config *config = NULL;
	g_autoptr(GVariant) dict = NULL;
	struct err err = { 0 };

	for (size_t i = 0; i < G_N_ELEMENTS(options); i++)
		g_assert_cmpint(config_option_apply(definition, options[i][0], options[i][1], NULL,
						    &err),
				==, 0);
	g_assert_cmpstr(err.msg, ==, "");
	g_assert_cmpint(config_option_apply(definition, "disk", "path=/e,rate_limiter_config=1:0:1",
					    NULL, &err),
			<, 0);
	g_assert_cmpstr(err.msg, ==,
			"--disk: rate_limiter_config: is for JSON, option strings have other keys "
			"for it");
	dict = g_variant_ref_sink(g_variant_dict_end(definition));
	g_assert_cmpint(vm_config_parse(dict, &config, &err), ==, 0);
	assert_limit(&vm_config_find_rate_limit_group(config, "g")->limit, 10 << 20, 0, 1000, 0, 0);
	g_assert_null(net_rate_limit(&config->nets[0], false));
	assert_limit(net_rate_limit(&config->nets[0], true), 0, 0, 0, 10, 1000);
}

static void test_directions(void)
{
	struct err err = { 0 };
	_cleanup_(vm_config_free_cleanup) struct vm_config *config =
		parse("\"net\":[{\"bw_size\":1,\"bw_refill_time\":2,\"rx_bw_size\":3,"
		      "\"rx_bw_refill_time\":4}]",
		      &err);

	g_assert_cmpstr(err.msg, ==, "");
	assert_limit(net_rate_limit(&config->nets[0], false), 3, 0, 4, 0, 0);
	assert_limit(net_rate_limit(&config->nets[0], true), 1, 0, 2, 0, 0);
}

/* Cloud Hypervisor takes a bucket of nothing for no limit. */
static void test_nothing(void)
{
	struct err err = { 0 };
	_cleanup_(vm_config_free_cleanup) struct vm_config *config = parse(
		"\"disks\":[{\"path\":\"/d\",\"rate_limiter_config\":{\"bandwidth\":{\"size\":"
		"0,\"refill_time\":100}}}]",
		&err);

	g_assert_cmpstr(err.msg, ==, "");
	assert_limit(&config->disks[0].limit, 0, 0, 0, 0, 0);
}

static void test_bad(void)
{
	static const struct {
		const char *text, *error;
	} cases[] = {
		{ "\"disks\":[{\"path\":\"/d\",\"bw_size\":1}]",
		  "/disks/0/bw_size: has no effect alone, needs bw_refill_time" },
		{ "\"disks\":[{\"path\":\"/d\",\"ops_refill_time\":1}]",
		  "/disks/0/ops_refill_time: has no effect alone, needs ops_size" },
		{ "\"net\":[{\"rx_ops_one_time_burst\":1}]",
		  "/net/0/rx_ops_one_time_burst: has no effect alone, needs rx_ops_size" },
		{ "\"disks\":[{\"path\":\"/d\",\"rate_limiter_config\":{\"ops\":{\"size\":1}}}]",
		  "/disks/0/rate_limiter_config/ops/refill_time: missing, must be given" },
		{ "\"disks\":[{\"path\":\"/d\",\"bw_size\":1,\"bw_refill_time\":1,"
		  "\"rate_limiter_config\":{\"bandwidth\":{\"size\":1,\"refill_time\":1}}}]",
		  "/disks/0/bw_size: rate_limiter_config/bandwidth is given too, must be one of "
		  "them" },
		{ "\"disks\":[{\"path\":\"/d\",\"rate_limit_group\":\"g\"}]",
		  "/disks/0/rate_limit_group: there is no group 'g', must be the id of one of "
		  "/rate_limit_groups" },
		{ "\"rate_limit_groups\":[{\"id\":\"g\",\"ops_size\":1,\"ops_refill_time\":1}],"
		  "\"disks\":[{\"path\":\"/d\",\"rate_limit_group\":\"g\",\"ops_size\":1,"
		  "\"ops_refill_time\":1}]",
		  "/disks/0/rate_limit_group: the disk has a rate limit of its own, must have one "
		  "of them" },
		{ "\"net\":[{\"vhost\":true,\"rx_ops_size\":1,\"rx_ops_refill_time\":1}]",
		  "/net/0/vhost: the kernel moves the frames, and no rate limit sees them, must be "
		  "false with one" },
		{ "\"rate_limit_groups\":[{\"id\":\"g\"}]",
		  "/rate_limit_groups/0/rate_limiter_config: missing, must be given" },
		{ "\"rate_limit_groups\":[{\"id\":\"g\",\"ops_size\":1,\"ops_refill_time\":1},"
		  "{\"id\":\"g\",\"ops_size\":1,\"ops_refill_time\":1}]",
		  "/rate_limit_groups/1/id: 'g' is /rate_limit_groups/0's too, must be unique" },
		{ "\"rate_limit_groups\":[{\"id\":\"d\",\"ops_size\":1,\"ops_refill_time\":1}],"
		  "\"disks\":[{\"path\":\"/d\",\"id\":\"d\"}]",
		  "/rate_limit_groups/0/id: 'd' is /disks/0's too, must be unique" },
		{ "\"disks\":[{\"path\":\"/d\",\"bw_size\":1125899906842625,\"bw_refill_time\":1}]",
		  "/disks/0/bw_size: 1125899906842625 is out of range, must be 0 to "
		  "1125899906842624" },
	};

	for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
		struct err err = { 0 };

		g_assert_null(parse(cases[i].text, &err));
		g_assert_cmpstr(err.msg, ==, cases[i].error);
	}
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/config/rate-limit/forms", test_forms);
	g_test_add_func("/config/rate-limit/option", test_option);
	g_test_add_func("/config/rate-limit/directions", test_directions);
	g_test_add_func("/config/rate-limit/nothing", test_nothing);
	g_test_add_func("/config/rate-limit/bad", test_bad);
	return g_test_run();
}
