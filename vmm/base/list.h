/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Doubly linked list with the links inside the members.  The head is a node
 * that points at itself when the list is empty.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "vmm/base/cleanup.h"

struct list {
	struct list *prev, *next;
};

static inline void list_init(struct list *l)
{
	l->prev = l->next = l;
}

static inline bool list_empty(const struct list *head)
{
	return head->next == head;
}

static inline void list_append(struct list *head, struct list *node)
{
	node->prev = head->prev;
	node->next = head;
	head->prev->next = node;
	head->prev = node;
}

/* Leaves the node empty, so removing it twice is harmless. */
static inline void list_remove(struct list *node)
{
	node->prev->next = node->next;
	node->next->prev = node->prev;
	list_init(node);
}

#define LIST_FOREACH(pos, head, member)                                                            \
	for ((pos) = container_of((head)->next, __typeof__(*(pos)), member);                       \
	     &(pos)->member != (head);                                                             \
	     (pos) = container_of((pos)->member.next, __typeof__(*(pos)), member))

#define LIST_FOREACH_SAFE(pos, tmp, head, member)                                                  \
	for ((pos) = container_of((head)->next, __typeof__(*(pos)), member),                       \
	    (tmp) = container_of((pos)->member.next, __typeof__(*(pos)), member);                  \
	     &(pos)->member != (head);                                                             \
	     (pos) = (tmp), (tmp) = container_of((tmp)->member.next, __typeof__(*(tmp)), member))
