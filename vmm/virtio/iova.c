/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/virtio/iova.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/math.h"

struct mapping {
	uint64_t start, end; /* inclusive: 2^64 - 1 is an address */
	uint64_t gpa;
	unsigned int access;
};

struct domain {
	struct domain *next;
	uint32_t id;
	uint32_t n_endpoints;
	bool bypass;
	struct mapping *mappings; /* ascending, disjoint */
	uint32_t n, capacity;
};

struct iova_endpoint {
	struct iova_endpoint *next;
	struct iova_unit *unit;
	uint32_t id;
	struct domain *domain; /* NULL: attached to none */
};

struct iova_unit {
	pthread_rwlock_t lock; /* of domains and of what endpoints are attached to; leaf */
	struct iova_endpoint *endpoints;
	struct domain *domains;
	uint32_t n_mappings;
	uint64_t last;
	atomic_bool bypass;
	void (*on_fault)(const struct iova_fault *fault, void *data);
	void *data;
};

/* --- set-up --------------------------------------------------------------------- */

struct iova_unit *iova_unit_new(uint8_t width)
{
	struct iova_unit *unit = calloc(1, sizeof(*unit));

	if (!unit)
		return NULL;
	pthread_rwlock_init(&unit->lock, NULL);
	unit->last = width >= 64 ? UINT64_MAX : (1ULL << width) - 1;
	atomic_store_explicit(&unit->bypass, true, memory_order_relaxed);
	return unit;
}

static void domain_free(struct domain *domain)
{
	free(domain->mappings);
	free(domain);
}

void iova_unit_free(struct iova_unit *unit)
{
	if (!unit)
		return;
	while (unit->endpoints) {
		struct iova_endpoint *endpoint = unit->endpoints;

		unit->endpoints = endpoint->next;
		free(endpoint);
	}
	while (unit->domains) {
		struct domain *domain = unit->domains;

		unit->domains = domain->next;
		domain_free(domain);
	}
	pthread_rwlock_destroy(&unit->lock);
	free(unit);
}

/* lock held */
static struct iova_endpoint *find_endpoint(struct iova_unit *unit, uint32_t id)
{
	struct iova_endpoint *endpoint = unit->endpoints;

	while (endpoint && endpoint->id != id)
		endpoint = endpoint->next;
	return endpoint;
}

int iova_endpoint_add(struct iova_unit *unit, uint32_t id, struct iova_endpoint **ret)
{
	struct iova_endpoint *endpoint;

	if (iova_has_endpoint(unit, id))
		return -EEXIST;
	endpoint = calloc(1, sizeof(*endpoint));
	if (!endpoint)
		return -ENOMEM;
	*endpoint = (struct iova_endpoint){ .unit = unit, .id = id };
	pthread_rwlock_wrlock(&unit->lock);
	endpoint->next = unit->endpoints;
	unit->endpoints = endpoint;
	pthread_rwlock_unlock(&unit->lock);
	*ret = endpoint;
	return 0;
}

void iova_on_fault(struct iova_unit *unit, void (*fn)(const struct iova_fault *fault, void *data),
		   void *data)
{
	pthread_rwlock_wrlock(&unit->lock);
	unit->on_fault = fn;
	unit->data = data;
	pthread_rwlock_unlock(&unit->lock);
}

uint64_t iova_last(const struct iova_unit *unit)
{
	return unit->last;
}

bool iova_has_endpoint(struct iova_unit *unit, uint32_t endpoint)
{
	bool has;

	pthread_rwlock_rdlock(&unit->lock);
	has = find_endpoint(unit, endpoint);
	pthread_rwlock_unlock(&unit->lock);
	return has;
}

/* --- domains; lock held for writing ------------------------------------------------ */

static struct domain *find_domain(struct iova_unit *unit, uint32_t id)
{
	struct domain *domain = unit->domains;

	while (domain && domain->id != id)
		domain = domain->next;
	return domain;
}

static void leave(struct iova_unit *unit, struct iova_endpoint *endpoint)
{
	struct domain *domain = endpoint->domain, **at = &unit->domains;

	endpoint->domain = NULL;
	if (!domain || --domain->n_endpoints > 0)
		return;
	while (*at != domain)
		at = &(*at)->next;
	*at = domain->next;
	unit->n_mappings -= domain->n;
	domain_free(domain);
}

static int attach(struct iova_unit *unit, uint32_t id, struct iova_endpoint *endpoint, bool bypass)
{
	struct domain *domain = find_domain(unit, id);

	if (domain && domain->bypass != bypass)
		return -EINVAL;
	if (domain && domain == endpoint->domain)
		return 0;
	if (!domain) {
		domain = calloc(1, sizeof(*domain));
		if (!domain)
			return -ENOMEM;
		*domain = (struct domain){ .next = unit->domains, .id = id, .bypass = bypass };
		unit->domains = domain;
	}
	domain->n_endpoints++;
	/* 5.13.6.3: from one domain straight into another */
	leave(unit, endpoint);
	endpoint->domain = domain;
	return 0;
}

int iova_attach(struct iova_unit *unit, uint32_t domain, uint32_t id, bool bypass)
{
	struct iova_endpoint *endpoint;
	int r;

	pthread_rwlock_wrlock(&unit->lock);
	endpoint = find_endpoint(unit, id);
	r = endpoint ? attach(unit, domain, endpoint, bypass) : -ENOENT;
	pthread_rwlock_unlock(&unit->lock);
	return r;
}

int iova_detach(struct iova_unit *unit, uint32_t domain, uint32_t id)
{
	struct iova_endpoint *endpoint;
	int r = 0;

	pthread_rwlock_wrlock(&unit->lock);
	endpoint = find_endpoint(unit, id);
	if (!endpoint)
		r = -ENOENT;
	else if (!endpoint->domain || endpoint->domain->id != domain)
		r = -EINVAL;
	else
		leave(unit, endpoint);
	pthread_rwlock_unlock(&unit->lock);
	return r;
}

void iova_endpoint_remove(struct iova_endpoint *endpoint)
{
	struct iova_unit *unit = endpoint->unit;
	struct iova_endpoint **at = &unit->endpoints;

	pthread_rwlock_wrlock(&unit->lock);
	leave(unit, endpoint);
	while (*at != endpoint)
		at = &(*at)->next;
	*at = endpoint->next;
	pthread_rwlock_unlock(&unit->lock);
	free(endpoint);
}

void iova_detach_all(struct iova_unit *unit)
{
	pthread_rwlock_wrlock(&unit->lock);
	for (struct iova_endpoint *e = unit->endpoints; e; e = e->next)
		leave(unit, e);
	pthread_rwlock_unlock(&unit->lock);
}

/* --- mappings ------------------------------------------------------------------------ */

/* Index of the first mapping that ends at or after iova. */
static uint32_t find_mapping(const struct domain *domain, uint64_t iova)
{
	uint32_t low = 0, high = domain->n;

	while (low < high) {
		uint32_t at = low + (high - low) / 2;

		if (domain->mappings[at].end < iova)
			low = at + 1;
		else
			high = at;
	}
	return low;
}

static int grow(struct domain *domain)
{
	uint32_t capacity = domain->capacity ? 2 * domain->capacity : 16;
	struct mapping *mappings;

	if (domain->n < domain->capacity)
		return 0;
	mappings = reallocarray(domain->mappings, capacity, sizeof(*mappings));
	if (!mappings)
		return -ENOMEM;
	domain->mappings = mappings;
	domain->capacity = capacity;
	return 0;
}

static int map(struct iova_unit *unit, struct domain *domain, const struct mapping *new)
{
	uint32_t at;
	int r;

	if (!domain)
		return -ENOENT;
	if (domain->bypass)
		return -EINVAL;
	at = find_mapping(domain, new->start);
	if (at < domain->n && domain->mappings[at].start <= new->end)
		return -EINVAL;
	if (unit->n_mappings == IOVA_MAPPINGS_MAX)
		return -ENOMEM;
	r = grow(domain);
	if (r < 0)
		return r;
	memmove(&domain->mappings[at + 1], &domain->mappings[at],
		(domain->n - at) * sizeof(*domain->mappings));
	domain->mappings[at] = *new;
	domain->n++;
	unit->n_mappings++;
	return 0;
}

int iova_check_mapping(const struct iova_unit *unit, uint64_t start, uint64_t end, uint64_t gpa)
{
	if (start > end || end > unit->last || start % IOVA_PAGE_SIZE ||
	    end % IOVA_PAGE_SIZE != IOVA_PAGE_SIZE - 1 || gpa % IOVA_PAGE_SIZE ||
	    gpa > UINT64_MAX - (end - start))
		return -ERANGE;
	return start <= IOVA_MSI_END && end >= IOVA_MSI_START ? -EINVAL : 0;
}

int iova_map(struct iova_unit *unit, uint32_t domain, uint64_t start, uint64_t end, uint64_t gpa,
	     unsigned int access)
{
	const struct mapping new = { start, end, gpa, access };
	int r;

	r = iova_check_mapping(unit, start, end, gpa);
	if (r < 0)
		return r;
	pthread_rwlock_wrlock(&unit->lock);
	r = map(unit, find_domain(unit, domain), &new);
	pthread_rwlock_unlock(&unit->lock);
	return r;
}

static int unmap(struct iova_unit *unit, struct domain *domain, uint64_t start, uint64_t end)
{
	uint32_t first, last;

	if (!domain)
		return -ENOENT;
	if (domain->bypass)
		return -EINVAL;
	first = last = find_mapping(domain, start);
	while (last < domain->n && domain->mappings[last].start <= end)
		last++;
	if (first == last)
		return 0;
	if (domain->mappings[first].start < start || domain->mappings[last - 1].end > end)
		return -ERANGE;
	memmove(&domain->mappings[first], &domain->mappings[last],
		(domain->n - last) * sizeof(*domain->mappings));
	domain->n -= last - first;
	unit->n_mappings -= last - first;
	return 0;
}

int iova_unmap(struct iova_unit *unit, uint32_t domain, uint64_t start, uint64_t end)
{
	int r;

	if (start > end)
		return -ERANGE;
	pthread_rwlock_wrlock(&unit->lock);
	r = unmap(unit, find_domain(unit, domain), start, end);
	pthread_rwlock_unlock(&unit->lock);
	return r;
}

uint32_t iova_n_mappings(struct iova_unit *unit)
{
	uint32_t n;

	pthread_rwlock_rdlock(&unit->lock);
	n = unit->n_mappings;
	pthread_rwlock_unlock(&unit->lock);
	return n;
}

uint32_t iova_n_attachments(struct iova_unit *unit)
{
	uint32_t n = 0;

	pthread_rwlock_rdlock(&unit->lock);
	for (const struct iova_endpoint *e = unit->endpoints; e; e = e->next)
		n += e->domain ? 1 : 0;
	pthread_rwlock_unlock(&unit->lock);
	return n;
}

void iova_visit(struct iova_unit *unit, const struct iova_visitor *visitor)
{
	pthread_rwlock_rdlock(&unit->lock);
	for (const struct iova_endpoint *e = unit->endpoints; e; e = e->next)
		if (e->domain)
			visitor->attachment(visitor->data, e->id, e->domain->id, e->domain->bypass);
	for (const struct domain *d = unit->domains; d; d = d->next)
		for (uint32_t i = 0; i < d->n; i++)
			visitor->mapping(visitor->data, d->id, d->mappings[i].start,
					 d->mappings[i].end, d->mappings[i].gpa,
					 d->mappings[i].access);
	pthread_rwlock_unlock(&unit->lock);
}

/* --- translation --------------------------------------------------------------------- */

void iova_set_bypass(struct iova_unit *unit, bool bypass)
{
	/* Like a mapping: what is translated after this returned sees it. */
	pthread_rwlock_wrlock(&unit->lock);
	atomic_store_explicit(&unit->bypass, bypass, memory_order_relaxed);
	pthread_rwlock_unlock(&unit->lock);
}

bool iova_get_bypass(struct iova_unit *unit)
{
	return atomic_load_explicit(&unit->bypass, memory_order_relaxed);
}

static int fault(const struct iova_endpoint *endpoint, uint64_t iova, enum iova_access access)
{
	const struct iova_fault f = {
		.endpoint = endpoint->id,
		.mapping = endpoint->domain,
		.access = access,
		.iova = iova,
	};

	if (endpoint->unit->on_fault)
		endpoint->unit->on_fault(&f, endpoint->unit->data);
	return -EFAULT;
}

/* Lock held. */
static int translate(const struct iova_endpoint *endpoint, uint64_t iova, uint64_t len,
		     enum iova_access access, uint64_t *ret_gpa, uint64_t *ret_len)
{
	const struct domain *domain = endpoint->domain;
	const struct mapping *m;
	uint32_t at;

	if (domain ? domain->bypass : iova_get_bypass(endpoint->unit)) {
		*ret_gpa = iova;
		*ret_len = len;
		return 0;
	}
	if (!domain)
		return fault(endpoint, iova, access);
	at = find_mapping(domain, iova);
	m = &domain->mappings[at];
	if (at == domain->n || m->start > iova || !(m->access & access))
		return fault(endpoint, iova, access);
	*ret_gpa = m->gpa + (iova - m->start);
	/* end - iova + 1 is 0 for all of 2^64 */
	*ret_len = MIN(m->end - iova, len - 1) + 1;
	return 0;
}

int iova_translate(struct iova_endpoint *endpoint, uint64_t iova, uint64_t len,
		   enum iova_access access, uint64_t *ret_gpa, uint64_t *ret_len)
{
	int r;

	pthread_rwlock_rdlock(&endpoint->unit->lock);
	r = translate(endpoint, iova, len, access, ret_gpa, ret_len);
	pthread_rwlock_unlock(&endpoint->unit->lock);
	return r;
}
