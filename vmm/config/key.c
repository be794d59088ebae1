/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Finding the row of a key, and what was meant by one that has none
 */
#include <string.h>

#include "vmm/config/config.h"
#include "vmm/config/problems.h"

const struct config_field *config_find(const struct config_table *table, const char *key,
				       bool option)
{
	for (size_t i = 0; i < table->n_fields; i++) {
		const struct config_field *field = &table->fields[i];

		if (strcmp(key, field->key) == 0 ||
		    (field->alias && strcmp(key, field->alias) == 0) ||
		    (option && field->option && strcmp(key, field->option) == 0))
			return field;
	}
	return NULL;
}

/* Levenshtein; only keys of up to 31 bytes are worth a guess. */
static size_t distance(const char *a, const char *b)
{
	size_t row[32], la = strlen(a), lb = strlen(b);

	if (la > 31 || lb > 31)
		return SIZE_MAX;
	for (size_t j = 0; j <= lb; j++)
		row[j] = j;
	for (size_t i = 1; i <= la; i++) {
		size_t diagonal = row[0];

		row[0] = i;
		for (size_t j = 1; j <= lb; j++) {
			size_t change = diagonal + (a[i - 1] != b[j - 1]);

			diagonal = row[j];
			row[j] = MIN(change, MIN(row[j], row[j - 1]) + 1);
		}
	}
	return row[lb];
}

static const char *shown_key(const struct config_field *field, bool option)
{
	return option && field->option ? field->option : field->key;
}

static const struct config_field *closest(const struct config_table *table, const char *key,
					  bool option)
{
	const struct config_field *best = NULL;
	size_t best_distance = MAX(1, strlen(key) / 3) + 1;

	for (size_t i = 0; i < table->n_fields; i++) {
		const struct config_field *field = &table->fields[i];
		const char *names[] = { field->key, field->option, field->alias };

		for (size_t j = 0; j < G_N_ELEMENTS(names); j++) {
			size_t d = names[j] ? distance(key, names[j]) : SIZE_MAX;

			if (d < best_distance) {
				best = field;
				best_distance = d;
			}
		}
	}
	if (best || option)
		return best;
	/* A JSON key that starts or ends like a real one: "vcpus" for "boot_vcpus". */
	for (size_t i = 0; i < table->n_fields && strlen(key) >= 4; i++) {
		const struct config_field *field = &table->fields[i];

		if (field->kind != CONFIG_LATER && strstr(field->key, key))
			return field;
	}
	return NULL;
}

const struct config_field *config_unknown_key(const struct config_table *table,
					      const struct config_path *path,
					      struct config_problems *problems)
{
	const struct config_path *root = path;
	const struct config_field *guess;
	g_autoptr(GString) keys = NULL;
	bool option;

	while (root->parent)
		root = root->parent;
	option = root->option != NULL;

	guess = closest(table, path->key, option);
	if (guess) {
		config_problem(problems, path, "unknown key, did you mean '%s'?",
			       shown_key(guess, option));
		return guess;
	}
	/* Right key, wrong place: {"kernel": ...} for {"payload": {"kernel": ...}} */
	for (size_t i = 0; i < table->n_fields; i++) {
		const struct config_field *field = &table->fields[i];

		if (field->kind == CONFIG_STRUCT && config_find(field->table, path->key, false)) {
			config_problem(problems, path, "unknown key, did you mean '%s' in '%s'?",
				       path->key, field->key);
			return field;
		}
	}
	keys = g_string_new(NULL);
	for (size_t i = 0; i < table->n_fields; i++) {
		const struct config_field *field = &table->fields[i];

		if (field->kind != CONFIG_LATER)
			g_string_append_printf(keys, "%s%s", keys->len ? ", " : "",
					       shown_key(field, option));
	}
	if (keys->len == 0)
		config_problem(problems, path, "unknown key");
	else
		config_problem(problems, path, "unknown key, must be one of %s", keys->str);
	return NULL;
}
