/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/config/problems.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/err.h"
#include "vmm/base/sort.h"

#define DEPTH_MAX 6 /* keys and indices of a pointer: "/cpus/affinity/0/host_cpus/1" has 5 */

void config_problems_deinit(struct config_problems *problems)
{
	g_clear_pointer(&problems->list, g_array_unref);
	*problems = (struct config_problems){ 0 };
}

size_t config_problems_count(const struct config_problems *problems)
{
	return problems->list ? problems->list->len : 0;
}

bool config_problems_full(const struct config_problems *problems)
{
	return config_problems_count(problems) >= CONFIG_PROBLEMS_MAX;
}

int config_problems_first(const struct config_problems *problems, struct err *err)
{
	const struct err *first;

	if (config_problems_count(problems) == 0)
		return 0;
	first = &g_array_index(problems->list, struct err, 0);
	return err_fault(err, first->fault, first->code, "%s", first->msg);
}

void config_problem_add(struct config_problems *problems, const struct err *err)
{
	if (config_problems_full(problems))
		return;
	if (!problems->list)
		problems->list = g_array_new(FALSE, FALSE, sizeof(struct err));
	g_array_append_vals(problems->list, err, 1);
}

static int add_va(struct config_problems *problems, const struct config_path *path,
		  enum fault fault, int code, const char *fmt, va_list ap) _printf_(5, 0);

static int add_va(struct config_problems *problems, const struct config_path *path,
		  enum fault fault, int code, const char *fmt, va_list ap)
{
	g_autofree char *text = g_strdup_vprintf(fmt, ap);
	char pointer[CONFIG_POINTER_MAX];
	struct err err = { 0 };

	err_fault(&err, fault, code, "%s: %s", config_path_render(path, pointer), text);
	config_problem_add(problems, &err);
	return -code;
}

int config_problem(struct config_problems *problems, const struct config_path *path,
		   const char *fmt, ...)
{
	va_list ap;
	int r;

	va_start(ap, fmt);
	r = add_va(problems, path, FAULT_BAD_CONFIG, EINVAL, fmt, ap);
	va_end(ap);
	return r;
}

int config_problem_unsupported(struct config_problems *problems, const struct config_path *path,
			       const char *fmt, ...)
{
	va_list ap;
	int r;

	va_start(ap, fmt);
	r = add_va(problems, path, FAULT_UNSUPPORTED, EOPNOTSUPP, fmt, ap);
	va_end(ap);
	return r;
}

/* --- the order of the document ------------------------------------------------ */

struct position {
	size_t at[DEPTH_MAX]; /* which child, from 1; 0: the pointer has ended */
	size_t index;         /* of the problem: what is noted first stays first */
};

/* "a~1b" is the key "a/b" (RFC 6901). */
static char *pointer_part(const char **pointer)
{
	const char *start = *pointer + 1;
	g_autoptr(GString) key = g_string_new(NULL);
	const char *p = start;

	for (; *p && *p != '/' && strncmp(p, ": ", 2) != 0; p++) {
		if (p[0] == '~' && (p[1] == '0' || p[1] == '1'))
			g_string_append_c(key, *++p == '0' ? '~' : '/');
		else
			g_string_append_c(key, *p);
	}
	*pointer = p;
	return g_string_free(g_steal_pointer(&key), FALSE);
}

/* From 1, and the child; past the end for a key that is missing. */
static size_t find_child(GVariant *parent, const char *key, GVariant **ret)
{
	size_t n = g_variant_n_children(parent), i;

	*ret = NULL;
	if (config_value_is_list(parent)) {
		i = strtoul(key, NULL, 10);
		if (i < n)
			*ret = g_variant_get_child_value(parent, i);
		return i + 1;
	}
	for (i = 0; i < n; i++) {
		g_autoptr(GVariant) entry = g_variant_get_child_value(parent, i);
		g_autoptr(GVariant) name = g_variant_get_child_value(entry, 0);

		if (strcmp(g_variant_get_string(name, NULL), key) == 0) {
			*ret = g_variant_get_child_value(entry, 1);
			return i + 1;
		}
	}
	return n + 1;
}

static void locate(const char *pointer, GVariant *document, struct position *ret)
{
	g_autoptr(GVariant) at = config_value_unwrap(document);

	for (size_t depth = 0; depth < DEPTH_MAX && *pointer == '/'; depth++) {
		g_autofree char *key = pointer_part(&pointer);
		g_autoptr(GVariant) child = NULL;

		if (!config_value_is_object(at) && !config_value_is_list(at))
			return;
		ret->at[depth] = find_child(at, key, &child);
		if (!child)
			return;
		g_variant_unref(at);
		at = config_value_unwrap(child);
	}
}

static int compare(const void *a, const void *b)
{
	const struct position *x = a, *y = b;

	for (size_t i = 0; i < DEPTH_MAX; i++) {
		if (x->at[i] != y->at[i])
			return x->at[i] < y->at[i] ? -1 : 1;
	}
	return x->index < y->index ? -1 : 1;
}

void config_problems_sort(struct config_problems *problems, GVariant *document)
{
	size_t n = config_problems_count(problems);
	g_autofree struct position *order = g_new0(struct position, n + 1);
	GArray *sorted;

	if (n < 2)
		return;
	for (size_t i = 0; i < n; i++) {
		order[i].index = i;
		locate(g_array_index(problems->list, struct err, i).msg, document, &order[i]);
	}
	sort_rows(order, n, sizeof(*order), compare);
	sorted = g_array_new(FALSE, FALSE, sizeof(struct err));
	for (size_t i = 0; i < n; i++)
		g_array_append_vals(sorted,
				    &g_array_index(problems->list, struct err, order[i].index), 1);
	g_array_unref(problems->list);
	problems->list = sorted;
}
