/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/virtio/rate-limiter.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/math.h"
#include "vmm/config/vm-config.h"

#define NSEC_PER_SEC  1000000000UL
#define NSEC_PER_MSEC 1000000UL
#define NSEC_PER_USEC 1000UL

/* A single request never has to be paid for longer: sums of it stay inside 64 bits. */
#define COST_MAX_NS (365UL * 24 * 3600 * NSEC_PER_SEC)

/* More than is ever spent. */
#define CREDIT_UNLIMITED (INT64_MAX / 2)
#define REQUEST_MAX      (1LL << 40) /* the longest chain is 4 GiB */

__extension__ typedef unsigned __int128 wide;

static uint64_t monotonic_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * NSEC_PER_SEC + (uint64_t)ts.tv_nsec;
}

/* a * b / c, saturating */
static uint64_t mul_div(uint64_t a, uint64_t b, uint64_t c)
{
	wide n = (wide)a * b / c;

	return n > UINT64_MAX ? UINT64_MAX : (uint64_t)n;
}

/* --- buckets; under the limiter's lock --- */

static void bucket_init(struct rate_bucket *bucket, const struct token_bucket_config *config)
{
	*bucket = (struct rate_bucket){ 0 };
	if (!config || config->size == 0 || config->refill_time == 0)
		return;
	bucket->size = config->size;
	bucket->burst = config->one_time_burst;
	if (__builtin_mul_overflow(config->refill_time, NSEC_PER_MSEC, &bucket->refill_ns))
		bucket->refill_ns = UINT64_MAX;
	bucket->lease = mul_div(bucket->size, RATE_LEASE_USEC * NSEC_PER_USEC, bucket->refill_ns);
	bucket->lease = MAX(bucket->lease, 1UL);
	/* paid_ns 0 is long ago: it is full */
}

/* Takes n tokens now; returns when they will be there. */
static uint64_t bucket_take(struct rate_bucket *bucket, uint64_t n, uint64_t now)
{
	uint64_t from_burst = MIN(n, bucket->burst), when;
	uint64_t rested = now - MIN(now, RATE_REST_USEC * NSEC_PER_USEC);
	wide cost;

	bucket->burst -= from_burst;
	n -= from_burst;
	if (n == 0)
		return now;
	if (bucket->paid_ns < rested) {
		bucket->paid_ns = rested;
		bucket->rest = 0;
	}
	/* What was given away before is paid for then: whoever is next may go, into debt. */
	when = MAX(bucket->paid_ns, now);
	cost = (wide)n * bucket->refill_ns + bucket->rest;
	bucket->rest = (uint64_t)(cost % bucket->size);
	cost /= bucket->size;
	bucket->paid_ns += cost > COST_MAX_NS ? COST_MAX_NS : (uint64_t)cost;
	return when;
}

/* --- limiters --- */

static void set_buckets(struct rate_limiter *limiter, const struct rate_limit_config *limit)
{
	struct rate_bucket *buckets = limiter->buckets;
	bool limited;

	bucket_init(&buckets[RATE_BYTES], limit && limit->has_bandwidth ? &limit->bandwidth : NULL);
	bucket_init(&buckets[RATE_OPS], limit && limit->has_ops ? &limit->ops : NULL);
	limited = buckets[RATE_BYTES].size > 0 || buckets[RATE_OPS].size > 0;
	if (limited && ++limiter->last_generation == 0)
		limiter->last_generation = 1;
	atomic_store_explicit(&limiter->generation, limited ? limiter->last_generation : 0,
			      memory_order_relaxed);
}

int rate_limiter_new(const struct rate_limit_config *limit, struct rate_limiter **ret,
		     struct err *err)
{
	struct rate_limiter *limiter = calloc(1, sizeof(*limiter));

	if (!limiter)
		return err_set(err, ENOMEM, "out of memory for a rate limiter");
	pthread_mutex_init(&limiter->lock, NULL);
	list_init(&limiter->gates);
	limiter->now_ns = monotonic_ns;
	set_buckets(limiter, limit);
	*ret = limiter;
	return 0;
}

void rate_limiter_free(struct rate_limiter *limiter)
{
	if (!limiter)
		return;
	assert(list_empty(&limiter->gates));
	pthread_mutex_destroy(&limiter->lock);
	free(limiter);
}

static void arm(struct rate_gate *gate, uint64_t ns)
{
	const struct itimerspec when = {
		.it_value = { .tv_sec = (time_t)(ns / NSEC_PER_SEC),
			      .tv_nsec = (long)(ns % NSEC_PER_SEC) },
	};

	/* Fails for no time that this can be. */
	if (gate->timer.fd >= 0)
		timerfd_settime(gate->timer.fd, TFD_TIMER_ABSTIME, &when, NULL);
}

void rate_limiter_set(struct rate_limiter *limiter, const struct rate_limit_config *limit)
{
	struct rate_gate *gate;

	pthread_mutex_lock(&limiter->lock);
	set_buckets(limiter, limit);
	/* Gates arm their timers under the lock: none of them sleeps by the old limit after this.
	 */
	LIST_FOREACH(gate, &limiter->gates, link)
		arm(gate, 1);
	pthread_mutex_unlock(&limiter->lock);
}

/* --- gates --- */

static void on_timer(struct loop_source *source, uint32_t events _unused_)
{
	struct rate_gate *gate = source->data;
	uint64_t count;

	if (read(source->fd, &count, sizeof(count)) == sizeof(count))
		gate->resume(gate->data);
}

struct attach {
	struct rate_gate *gate;
	int r;
};

static void attach(void *data)
{
	struct attach *a = data;

	a->r = loop_add(a->gate->loop, &a->gate->timer);
}

static void detach(void *data)
{
	struct rate_gate *gate = data;

	loop_remove(gate->loop, &gate->timer);
}

int rate_gate_init(struct rate_gate *gate, struct rate_limiter *limiter, struct loop *loop,
		   void (*resume)(void *data), void *data, struct err *err)
{
	struct attach a = { .gate = gate };
	int fd;

	*gate = (struct rate_gate){ .timer.fd = -EBADF };
	if (!limiter)
		return 0;
	fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (fd < 0)
		return err_errno(err, errno, "cannot make the timer of a rate limit");
	gate->loop = loop;
	gate->resume = resume;
	gate->data = data;
	gate->timer =
		(struct loop_source){ .fd = fd, .events = EPOLLIN, .fn = on_timer, .data = gate };
	loop_call(loop, attach, &a);
	if (a.r < 0) {
		close(fd);
		gate->timer.fd = -EBADF;
		return err_errno(err, -a.r, "cannot watch the timer of a rate limit");
	}
	gate->limiter = limiter;
	pthread_mutex_lock(&limiter->lock);
	list_append(&limiter->gates, &gate->link);
	pthread_mutex_unlock(&limiter->lock);
	return 0;
}

void rate_gate_deinit(struct rate_gate *gate)
{
	if (!gate->limiter)
		return;
	pthread_mutex_lock(&gate->limiter->lock);
	list_remove(&gate->link);
	pthread_mutex_unlock(&gate->limiter->lock);
	loop_call(gate->loop, detach, gate);
	close(gate->timer.fd);
	*gate = (struct rate_gate){ .timer.fd = -EBADF };
}

/* How many more a bucket must give for n to be let through; at least one must be there. */
static uint64_t missing(int64_t credit, uint64_t n)
{
	int64_t wanted = (int64_t)MIN(MAX(n, 1UL), (uint64_t)REQUEST_MAX);

	return credit >= wanted ? 0 : (uint64_t)(wanted - credit);
}

/* Takes from the buckets what the request needs, and some more: the time it is paid for. */
static uint64_t take_lease(struct rate_gate *gate, const uint64_t n[RATE_N_], uint64_t now)
{
	struct rate_limiter *limiter = gate->limiter;
	uint64_t ready = now, when;

	pthread_mutex_lock(&limiter->lock);
	for (unsigned int i = 0; i < RATE_N_; i++) {
		struct rate_bucket *bucket = &limiter->buckets[i];
		uint64_t need = missing(gate->credit[i], n[i]);

		if (bucket->size == 0) {
			gate->credit[i] = CREDIT_UNLIMITED;
		} else if (need > 0) {
			need = MAX(need, bucket->lease);
			/* A lease or a request: far from overflow. */
			gate->credit[i] += (int64_t)need;
			when = bucket_take(bucket, need, now);
			ready = MAX(ready, when);
		}
	}
	if (ready > now)
		arm(gate, ready);
	pthread_mutex_unlock(&limiter->lock);
	return ready;
}

bool rate_gate_take_slow(struct rate_gate *gate, uint64_t bytes, uint64_t ops, uint32_t generation)
{
	const uint64_t n[RATE_N_] = { [RATE_BYTES] = bytes, [RATE_OPS] = ops };
	bool enough = true;
	uint64_t now;

	if (gate->generation != generation) {
		gate->generation = generation;
		gate->credit[RATE_BYTES] = gate->credit[RATE_OPS] = 0;
		gate->ready_ns = 0;
	}
	if (gate->ready_ns > 0) {
		if (gate->limiter->now_ns() < gate->ready_ns)
			return false; /* the timer is set */
		gate->ready_ns = 0;
	}
	for (unsigned int i = 0; i < RATE_N_; i++)
		enough = enough && missing(gate->credit[i], n[i]) == 0;
	if (!enough) {
		now = gate->limiter->now_ns();
		gate->ready_ns = take_lease(gate, n, now);
		if (gate->ready_ns > now)
			return false;
		gate->ready_ns = 0;
	}
	for (unsigned int i = 0; i < RATE_N_; i++)
		gate->credit[i] -= (int64_t)MIN(n[i], (uint64_t)REQUEST_MAX);
	return true;
}
