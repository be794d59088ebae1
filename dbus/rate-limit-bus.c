/* SPDX-License-Identifier: Apache-2.0 */
#include "dbus/rate-limit-bus.h"

#include "dbus/bus-options.h"
#include "vmm/base/err.h"
#include "vmm/config/vm-config.h"
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stddef.h>

#define USEC_PER_MSEC   1000ULL
#define REFILL_USEC     (1000 * USEC_PER_MSEC)
#define REFILL_USEC_MAX (24ULL * 3600 * 1000 * USEC_PER_MSEC)

struct limits {
	struct bucket {
		uint64_t size, burst, refill_usec;
	} bandwidth, ops;
};

static const struct bus_option limit_options[] = {
	{ "BandwidthSize", 't', offsetof(struct limits, bandwidth.size) },
	{ "BandwidthOneTimeBurst", 't', offsetof(struct limits, bandwidth.burst) },
	{ "BandwidthRefillUSec", 't', offsetof(struct limits, bandwidth.refill_usec) },
	{ "OpsSize", 't', offsetof(struct limits, ops.size) },
	{ "OpsOneTimeBurst", 't', offsetof(struct limits, ops.burst) },
	{ "OpsRefillUSec", 't', offsetof(struct limits, ops.refill_usec) },
};

static int check_size(const char *what, const char *key, uint64_t n, struct err *err)
{
	if (n <= RATE_LIMIT_SIZE_MAX)
		return 0;
	return err_fault(err, FAULT_BAD_ARGUMENT, EINVAL,
			 "limit %s%s: %" PRIu64 " is out of range, must be at most %llu", what, key,
			 n, RATE_LIMIT_SIZE_MAX);
}

static int take_bucket(const char *what, const struct bucket *from, struct token_bucket_config *to,
		       bool *has, struct err *err)
{
	uint64_t usec = from->refill_usec;
	int r;

	r = check_size(what, "Size", from->size, err);
	if (r == 0)
		r = check_size(what, "OneTimeBurst", from->burst, err);
	if (r < 0)
		return r;
	if (usec % USEC_PER_MSEC || usec == 0 || usec > REFILL_USEC_MAX)
		return err_fault(err, FAULT_BAD_ARGUMENT, EINVAL,
				 "limit %sRefillUSec: %" PRIu64 " is not possible, must be whole "
				 "milliseconds, at most a day",
				 what, usec);
	if (from->size == 0 && (from->burst > 0 || usec != REFILL_USEC))
		return err_fault(err, FAULT_BAD_ARGUMENT, EINVAL,
				 "limit %s%s has no effect alone, must come with %sSize", what,
				 from->burst > 0 ? "OneTimeBurst" : "RefillUSec", what);
	*has = from->size > 0;
	if (*has)
		*to = (struct token_bucket_config){ from->size, from->burst, usec / USEC_PER_MSEC };
	return 0;
}

int rate_limit_bus_read(sd_bus_message *m, struct rate_limit_config *ret, struct err *err)
{
	struct limits limits = { .bandwidth.refill_usec = REFILL_USEC,
				 .ops.refill_usec = REFILL_USEC };
	struct rate_limit_config limit = { 0 };
	int r;

	r = bus_options_read(m, limit_options, ARRAY_SIZE(limit_options), &limits, err);
	if (r == 0)
		r = take_bucket("Bandwidth", &limits.bandwidth, &limit.bandwidth,
				&limit.has_bandwidth, err);
	if (r == 0)
		r = take_bucket("Ops", &limits.ops, &limit.ops, &limit.has_ops, err);
	if (r == 0)
		*ret = limit;
	return r;
}

static int append_bucket(sd_bus_message *m, const char *size, const char *burst, const char *refill,
			 const struct token_bucket_config *bucket)
{
	int r = sd_bus_message_append(m, "{st}", size, bucket->size);

	if (r >= 0 && bucket->one_time_burst)
		r = sd_bus_message_append(m, "{st}", burst, bucket->one_time_burst);
	if (r >= 0)
		r = sd_bus_message_append(m, "{st}", refill, bucket->refill_time * USEC_PER_MSEC);
	return r;
}

int rate_limit_bus_append(sd_bus_message *m, const struct rate_limit_config *limit)
{
	int r = sd_bus_message_open_container(m, 'a', "{st}");

	if (r >= 0 && limit && limit->has_bandwidth)
		r = append_bucket(m, "BandwidthSize", "BandwidthOneTimeBurst",
				  "BandwidthRefillUSec", &limit->bandwidth);
	if (r >= 0 && limit && limit->has_ops)
		r = append_bucket(m, "OpsSize", "OpsOneTimeBurst", "OpsRefillUSec", &limit->ops);
	return r < 0 ? r : sd_bus_message_close_container(m);
}
