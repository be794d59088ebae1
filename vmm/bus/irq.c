/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An attached vector always has its route: attaching comes after the route is
 * set, and a route leaves the table only when its GSI is given back, which is
 * after the vector was detached.  A masked vector keeps its route in the table
 * (nobody raises it there), which spares guests that mask around every change
 * of affinity two updates of the whole table.
 */
#include "vmm/bus/irq.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/fd.h"
#include "vmm/base/math.h"

#define BITS_PER_WORD 64

int irq_table_init(struct irq_table *table, struct hv_vm *hv, uint32_t pins, struct err *err)
{
	uint32_t total = hv->caps.gsi_routes;

	*table = (struct irq_table){ .hv = hv, .first_gsi = MAX(pins, 1U) };
	if (total <= table->first_gsi)
		return err_fault(err, FAULT_UNSUPPORTED, ENOSPC,
				 "the host has %u interrupt routes, %u are the IOAPIC's: none is "
				 "left for devices",
				 total, pins);
	table->n_gsis = total - table->first_gsi;
	/* To the full size, as a vCPU must not allocate; pages not used are not resident. */
	table->routes = calloc(total, sizeof(table->routes[0]));
	table->used = calloc((table->n_gsis + BITS_PER_WORD - 1) / BITS_PER_WORD, sizeof(uint64_t));
	if (!table->routes || !table->used) {
		free(table->routes);
		free(table->used);
		*table = (struct irq_table){ 0 };
		return err_errno(err, ENOMEM, "cannot allocate the interrupt table");
	}
	pthread_mutex_init(&table->lock, NULL);
	return 0;
}

void irq_table_deinit(struct irq_table *table)
{
	if (!table->routes)
		return;
	pthread_mutex_destroy(&table->lock);
	free(table->routes);
	free(table->used);
	*table = (struct irq_table){ 0 };
}

/* ---- under table->lock --------------------------------------------------- */

static int gsi_alloc(struct irq_table *table, uint32_t *ret)
{
	for (uint32_t w = 0; w * BITS_PER_WORD < table->n_gsis; w++) {
		uint32_t i;

		if (table->used[w] == UINT64_MAX)
			continue;
		i = w * BITS_PER_WORD + (uint32_t)__builtin_ctzll(~table->used[w]);
		if (i >= table->n_gsis)
			break;
		table->used[w] |= 1ULL << (i % BITS_PER_WORD);
		*ret = table->first_gsi + i;
		return 0;
	}
	return -ENOSPC;
}

static void gsi_free(struct irq_table *table, uint32_t gsi)
{
	uint32_t i = gsi - table->first_gsi;

	table->used[i / BITS_PER_WORD] &= ~(1ULL << (i % BITS_PER_WORD));
}

static struct hv_route *route_find(struct irq_table *table, uint32_t gsi)
{
	for (size_t i = 0; i < table->n_routes; i++)
		if (table->routes[i].gsi == gsi)
			return &table->routes[i];
	return NULL;
}

static int routes_commit(struct irq_table *table)
{
	return table->hv->ops->routes_set(table->hv, table->routes, table->n_routes);
}

/* Sets or changes the route of gsi. On failure our table is again what the hypervisor has. */
static int route_set(struct irq_table *table, uint32_t gsi, const struct hv_msi *msi)
{
	struct hv_route *route = route_find(table, gsi);
	struct hv_msi old;
	int r;

	if (!route) {
		table->routes[table->n_routes++] = (struct hv_route){ .gsi = gsi, .msi = *msi };
		r = routes_commit(table);
		if (r < 0)
			table->n_routes--;
		return r;
	}
	if (route->msi.addr == msi->addr && route->msi.data == msi->data)
		return 0;
	old = route->msi;
	route->msi = *msi;
	r = routes_commit(table);
	if (r < 0)
		route->msi = old;
	return r;
}

static int route_remove(struct irq_table *table, uint32_t gsi)
{
	struct hv_route *route = route_find(table, gsi);
	struct hv_route old, *last;
	int r;

	if (!route)
		return 0;
	old = *route;
	last = &table->routes[table->n_routes - 1];
	*route = *last;
	table->n_routes--;
	r = routes_commit(table);
	if (r < 0) {
		*last = *route;
		*route = old;
		table->n_routes++;
	}
	return r;
}

static void set_masked(struct irq_vector *vector, bool masked)
{
	/* irq_vector_pending() reads it from any thread. */
	__atomic_store_n(&vector->masked, masked, __ATOMIC_RELAXED);
}

static int vector_mask(struct irq_vector *vector)
{
	struct irq_table *table = vector->table;
	int r;

	if (vector->masked)
		return 0;
	r = table->hv->ops->irqfd_set(table->hv, vector->fd, vector->gsi, false);
	if (r < 0)
		return r; /* still attached, still routed */
	set_masked(vector, true);
	return 0;
}

static int vector_unmask(struct irq_vector *vector, const struct hv_msi *msi)
{
	struct irq_table *table = vector->table;
	uint32_t gsi = vector->gsi;
	int r;

	if (!gsi) {
		r = gsi_alloc(table, &gsi);
		if (r < 0)
			return r;
	}
	r = route_set(table, gsi, msi);
	if (r < 0) {
		if (!vector->gsi)
			gsi_free(table, gsi);
		return r;
	}
	vector->gsi = gsi;
	vector->msi = *msi;
	if (!vector->masked)
		return 0; /* was attached all along: the kernel follows the route */
	r = table->hv->ops->irqfd_set(table->hv, vector->fd, gsi, true);
	if (r < 0)
		return r; /* routed but not attached, which harms nobody: stays masked */
	set_masked(vector, false);
	return 0;
}

/* ---- vectors --------------------------------------------------------------- */

int irq_vector_init(struct irq_vector *vector, struct irq_table *table, struct err *err)
{
	*vector = (struct irq_vector){ .table = table, .fd = eventfd_new(), .masked = true };
	if (vector->fd < 0)
		return err_errno(err, -vector->fd, "cannot make an interrupt vector's eventfd");
	return 0;
}

void irq_vector_deinit(struct irq_vector *vector)
{
	struct irq_table *table = vector->table;

	if (!table || vector->fd < 0)
		return;
	pthread_mutex_lock(&table->lock);
	/*
	 * When the hypervisor does not let go of the eventfd, closing it makes
	 * it do so, but later: then the GSI keeps its route and is not used again.
	 */
	if (vector_mask(vector) == 0 && vector->gsi && route_remove(table, vector->gsi) == 0)
		gsi_free(table, vector->gsi);
	pthread_mutex_unlock(&table->lock);
	close(vector->fd);
	*vector = (struct irq_vector){ .fd = -EBADF, .masked = true };
}

int irq_vector_update(struct irq_vector *vector, const struct hv_msi *msi, bool masked)
{
	int r;

	pthread_mutex_lock(&vector->table->lock);
	if (!masked) {
		r = vector_unmask(vector, msi);
	} else {
		r = vector_mask(vector);
		if (r == 0)
			vector->msi = *msi;
	}
	pthread_mutex_unlock(&vector->table->lock);
	return r;
}

bool irq_vector_pending(const struct irq_vector *vector)
{
	struct pollfd p = { .fd = vector->fd, .events = POLLIN };

	/* While it is attached the hypervisor empties it. */
	return __atomic_load_n(&vector->masked, __ATOMIC_RELAXED) && poll(&p, 1, 0) == 1;
}

void irq_vector_raise(struct irq_vector *vector)
{
	eventfd_signal(vector->fd);
}

void irq_vector_clear(struct irq_vector *vector)
{
	eventfd_take(vector->fd);
}

int irq_table_set_pin(struct irq_table *table, uint32_t pin, const struct hv_msi *msi)
{
	int r;

	if (pin >= table->first_gsi)
		return -EINVAL;
	pthread_mutex_lock(&table->lock);
	r = msi ? route_set(table, pin, msi) : route_remove(table, pin);
	pthread_mutex_unlock(&table->lock);
	return r;
}
