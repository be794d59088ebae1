/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `rate_limiter_config` of disks and nets, `rate_limit_groups`
 *
 * Cloud Hypervisor has two forms: in JSON an object with two buckets, in option
 * strings the keys bw_size ... ops_refill_time.  Both are rows here, so each may
 * stand in either text; vm_config_parse() turns the second into the first
 * (config_rate_limits_settle()), which is the only one that is seen outside.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "vmm/base/err.h"
#include "vmm/config/check.h"
#include "vmm/config/device-list.h"
#include "vmm/config/tables.h"

#define REFILL_MAX_MS (24UL * 3600 * 1000)

static const struct config_field bucket_fields[] = {
	{ .key = "size",
	  .kind = CONFIG_SIZE,
	  .flags = CONFIG_REQUIRED,
	  CONFIG_AT(struct token_bucket_config, size),
	  .max = RATE_LIMIT_SIZE_MAX,
	  .arg = "COUNT",
	  .doc = "bytes or operations that may pass each refill_time; 0: no limit" },
	{ .key = "one_time_burst",
	  .kind = CONFIG_SIZE,
	  .flags = CONFIG_OPTIONAL,
	  CONFIG_AT(struct token_bucket_config, one_time_burst),
	  .max = RATE_LIMIT_SIZE_MAX,
	  .arg = "COUNT",
	  .doc = "so many more, once" },
	{ .key = "refill_time",
	  .kind = CONFIG_UINT,
	  .flags = CONFIG_REQUIRED,
	  CONFIG_AT(struct token_bucket_config, refill_time),
	  .max = REFILL_MAX_MS,
	  .arg = "MS",
	  .doc = "milliseconds; 0: no limit" },
};
static const struct config_table bucket_table = {
	.name = "Token bucket",
	.doc = "So many bytes or operations in so much time.",
	.fields = bucket_fields,
	.n_fields = ARRAY_SIZE(bucket_fields),
	.size = sizeof(struct token_bucket_config),
};

static const struct config_field limiter_fields[] = {
	{ .key = "bandwidth",
	  .kind = CONFIG_STRUCT,
	  .flags = CONFIG_OPTIONAL | CONFIG_HAS,
	  CONFIG_AT(struct rate_limit_config, bandwidth),
	  .present = offsetof(struct rate_limit_config, has_bandwidth),
	  .table = &bucket_table,
	  .arg = "SIZE:BURST:MS",
	  .doc = "bytes" },
	{ .key = "ops",
	  .kind = CONFIG_STRUCT,
	  .flags = CONFIG_OPTIONAL | CONFIG_HAS,
	  CONFIG_AT(struct rate_limit_config, ops),
	  .present = offsetof(struct rate_limit_config, has_ops),
	  .table = &bucket_table,
	  .arg = "SIZE:BURST:MS",
	  .doc = "requests of a disk, frames of a network device" },
};
const struct config_table rate_limiter_table = {
	.name = "Rate limit",
	.doc = "Limits of bytes and of operations.",
	.fields = limiter_fields,
	.n_fields = ARRAY_SIZE(limiter_fields),
	.size = sizeof(struct rate_limit_config),
};

static const struct config_field group_fields[] = {
	{ .key = "id",
	  .kind = CONFIG_STRING,
	  .flags = CONFIG_REQUIRED,
	  CONFIG_AT(struct rate_limit_group_config, id),
	  .check = check_id,
	  .arg = "ID",
	  .doc = "name of the group, for a disk's rate_limit_group" },
	CONFIG_RATE_FIELDS(struct rate_limit_group_config, "", limit, has_limit, "together"),
};
const struct config_table rate_limit_group_table = {
	.name = "Rate limit group",
	.doc = "A rate limit that several disks share; may be given several times.",
	.fields = group_fields,
	.n_fields = ARRAY_SIZE(group_fields),
	.size = sizeof(struct rate_limit_group_config),
};

/* --- what is in force ------------------------------------------------------- */

const struct rate_limit_config *net_rate_limit(const struct net_config *net, bool tx)
{
	if (tx ? net->has_tx_limit : net->has_rx_limit)
		return tx ? &net->tx_limit : &net->rx_limit;
	return net->has_limit ? &net->limit : NULL;
}

struct rate_limit_group_config *vm_config_find_rate_limit_group(const struct vm_config *config,
								const char *id)
{
	for (size_t i = 0; i < config->n_rate_limit_groups; i++)
		if (g_strcmp0(config->rate_limit_groups[i].id, id) == 0)
			return &config->rate_limit_groups[i];
	return NULL;
}

static void settle_bucket(struct token_bucket_config *flat, struct token_bucket_config *bucket,
			  bool *has)
{
	if (flat->size > 0) {
		*bucket = *flat;
		*has = true;
	}
	*flat = (struct token_bucket_config){ 0 };
	if (bucket->size == 0 || bucket->refill_time == 0) {
		*bucket = (struct token_bucket_config){ 0 };
		*has = false;
	}
}

void rate_limit_settle(struct rate_limit_config *limit, bool *has)
{
	bool flat = limit->flat_bandwidth.size > 0 || limit->flat_ops.size > 0;

	settle_bucket(&limit->flat_bandwidth, &limit->bandwidth, &limit->has_bandwidth);
	settle_bucket(&limit->flat_ops, &limit->ops, &limit->has_ops);
	if (flat)
		*has = true;
}

void config_rate_limits_settle(struct vm_config *config)
{
	for (size_t i = 0; i < config->n_disks; i++)
		rate_limit_settle(&config->disks[i].limit, &config->disks[i].has_limit);
	for (size_t i = 0; i < config->n_nets; i++) {
		struct net_config *net = &config->nets[i];

		rate_limit_settle(&net->limit, &net->has_limit);
		rate_limit_settle(&net->rx_limit, &net->has_rx_limit);
		rate_limit_settle(&net->tx_limit, &net->has_tx_limit);
	}
	for (size_t i = 0; i < config->n_rate_limit_groups; i++)
		rate_limit_settle(&config->rate_limit_groups[i].limit,
				  &config->rate_limit_groups[i].has_limit);
}

/* --- the rules --------------------------------------------------------------- */

/* Both forms of one bucket, and a form that is not whole. */
static int check_bucket(const char *pointer, const char *prefix, const char *name,
			const char *object, const struct token_bucket_config *flat, bool has,
			struct err *err)
{
	if (flat->size == 0 && flat->one_time_burst == 0 && flat->refill_time == 0)
		return 0;
	if (has)
		return config_error(err,
				    "%s/%s%s_size: %srate_limiter_config/%s is given too, must be "
				    "one of them",
				    pointer, prefix, name, prefix, object);
	if (flat->size > 0 && flat->refill_time > 0)
		return 0;
	return config_error(err, "%s/%s%s_%s: has no effect alone, needs %s%s_%s", pointer, prefix,
			    name,
			    flat->size > 0          ? "size"
			    : flat->refill_time > 0 ? "refill_time"
						    : "one_time_burst",
			    prefix, name, flat->size > 0 ? "refill_time" : "size");
}

static int check_limit(const char *pointer, const char *prefix,
		       const struct rate_limit_config *limit, struct err *err)
{
	int r;

	r = check_bucket(pointer, prefix, "bw", "bandwidth", &limit->flat_bandwidth,
			 limit->has_bandwidth, err);
	if (r == 0)
		r = check_bucket(pointer, prefix, "ops", "ops", &limit->flat_ops, limit->has_ops,
				 err);
	return r;
}

static bool is_limited(const struct rate_limit_config *limit)
{
	return limit->has_bandwidth || limit->has_ops || limit->flat_bandwidth.size ||
	       limit->flat_ops.size;
}

int check_disk_rate_limit(const struct vm_config *config, size_t i, struct err *err)
{
	const struct disk_config *disk = &config->disks[i];
	char pointer[CONFIG_POINTER_MAX];

	snprintf(pointer, sizeof(pointer), "/disks/%zu", i);
	if (disk->rate_limit_group && is_limited(&disk->limit))
		return config_error(err,
				    "%s/rate_limit_group: the disk has a rate limit of its own, "
				    "must have one of them",
				    pointer);
	return check_limit(pointer, "", &disk->limit, err);
}

int check_disk_rate_limit_group(const struct vm_config *config, size_t i, struct err *err)
{
	const char *group = config->disks[i].rate_limit_group;
	char quoted[CONFIG_QUOTE_MAX];

	if (!group || vm_config_find_rate_limit_group(config, group))
		return 0;
	return config_error(err,
			    "/disks/%zu/rate_limit_group: there is no group %s, must be the id of "
			    "one of /rate_limit_groups",
			    i, config_quote(group, quoted));
}

int check_net_rate_limit(const struct vm_config *config, size_t i, struct err *err)
{
	const struct net_config *net = &config->nets[i];
	char pointer[CONFIG_POINTER_MAX];
	int r;

	snprintf(pointer, sizeof(pointer), "/net/%zu", i);
	r = check_limit(pointer, "", &net->limit, err);
	if (r == 0)
		r = check_limit(pointer, "rx_", &net->rx_limit, err);
	if (r == 0)
		r = check_limit(pointer, "tx_", &net->tx_limit, err);
	if (r == 0 && net->vhost &&
	    (is_limited(&net->limit) || is_limited(&net->rx_limit) || is_limited(&net->tx_limit)))
		r = config_error(err,
				 "%s/vhost: the kernel moves the frames, and no rate limit sees "
				 "them, must be false with one",
				 pointer);
	return r;
}

static int check_group_limit(const struct vm_config *config, size_t i, struct err *err)
{
	const struct rate_limit_group_config *group = &config->rate_limit_groups[i];
	char pointer[CONFIG_POINTER_MAX];
	int r;

	snprintf(pointer, sizeof(pointer), "/rate_limit_groups/%zu", i);
	r = check_limit(pointer, "", &group->limit, err);
	/* A running one may have had its limit taken away: an empty object says so. */
	if (r == 0 && !group->has_limit && !is_limited(&group->limit))
		r = config_error(err, "%s/rate_limiter_config: missing, must be given", pointer);
	return r;
}

static int check_group_id(const struct vm_config *config, size_t i, struct err *err)
{
	const char *id = config->rate_limit_groups[i].id;
	struct config_device devices[CONFIG_DEVICES_MAX];
	size_t n = config_devices(config, devices);
	char there[CONFIG_POINTER_MAX];

	for (size_t j = 0; id && j < i; j++)
		if (g_strcmp0(id, config->rate_limit_groups[j].id) == 0)
			return config_error(err,
					    "/rate_limit_groups/%zu/id: '%s' is "
					    "/rate_limit_groups/%zu's too, must be unique",
					    i, id, j);
	for (size_t j = 0; id && j < n; j++)
		if (g_strcmp0(id, devices[j].id) == 0)
			return config_error(err,
					    "/rate_limit_groups/%zu/id: '%s' is %s's too, must be "
					    "unique",
					    i, id, config_device_pointer(&devices[j], there));
	return 0;
}

static size_t count_groups(const struct vm_config *config)
{
	return config->n_rate_limit_groups;
}

static const struct config_rule rules[] = {
	{ check_group_limit, { "rate_limit_groups" } },
	{ check_group_id, { "rate_limit_groups" } },
};
const struct config_rules rate_limit_group_rules = CONFIG_RULES(rules, count_groups);
