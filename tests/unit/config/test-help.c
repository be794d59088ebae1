/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Help and man page, and the tables themselves: that each row is whole and
 * fits the member it names.
 */
#include <stdbool.h>
#include <string.h>

#include "vmm/config/config.h"
#include "vmm/config/help.h"
#include "vmm/config/tables.h"

static void assert_names(const char *text, const char *key)
{
	g_test_message("%s", key);
	g_assert_nonnull(strstr(text, key));
}

static void test_every_key(void)
{
	g_autofree char *overview = config_help(NULL), *man = config_man();

	for (size_t i = 0; i < vm_table.n_fields; i++) {
		const struct config_field *section = &vm_table.fields[i];
		const char *option = section->option ? section->option : section->key;
		g_autofree char *text = config_help(option), *same = config_help(section->key);

		g_assert_cmpstr(text, ==, same);
		assert_names(man, section->key);
		if (section->kind == CONFIG_LATER) {
			g_assert_nonnull(strstr(text, " is not supported yet.\n"));
			assert_names(overview, section->key);
			continue;
		}
		if (section->table != &payload_table)
			assert_names(overview, option);
		for (size_t j = 0; section->table && j < section->table->n_fields; j++) {
			const struct config_field *field = &section->table->fields[j];

			assert_names(man, field->key);
			if (field->flags & CONFIG_NO_OPTION)
				continue; /* the help is of options */
			assert_names(text, field->key);
			if (field->option && field->kind != CONFIG_LATER)
				assert_names(text, field->option);
			for (size_t k = 0; field->kind != CONFIG_LATER && field->table &&
					   k < field->table->n_fields;
			     k++)
				assert_names(text, field->table->fields[k].key);
		}
	}
}

static void test_payload_options(void)
{
	g_autofree char *kernel = config_help("kernel"), *payload = config_help("payload");

	g_assert_cmpstr(kernel, ==, payload);
	g_assert_nonnull(strstr(kernel, "--kernel PATH"));
	g_assert_null(config_help("frobnicate"));
}

static void test_golden(void)
{
	g_autofree char *text = config_help("rng");

	g_assert_cmpstr(
		text, ==,
		"--rng KEY=VALUE[,KEY=VALUE]...\n"
		"\n"
		"The virtio entropy device, which every machine has.\n"
		"\n"
		"  src=PATH                where the random bytes come from (default\n"
		"                          /dev/urandom)\n"
		"  pci_device_id=SLOT      PCI slot; without it the first free one (0 to 31)\n"
		"  pci_segment=SEGMENT     PCI segment, less than platform's num_pci_segments (0\n"
		"                          to 95; default 0)\n"
		"  iommu=on|off            put the device behind a virtio-iommu (default off)\n"
		"\n"
		"Not supported yet: id\n");
}

static void test_width(void)
{
	for (size_t i = 0; i < vm_table.n_fields; i++) {
		g_autofree char *text = config_help(vm_table.fields[i].key);
		g_auto(GStrv) lines = g_strsplit(text, "\n", -1);

		for (char **line = lines; *line; line++)
			g_assert_cmpuint(g_utf8_strlen(*line, -1), <=, 80);
	}
}

/* --- the tables --------------------------------------------------------------- */

static bool size_fits(const struct config_field *field)
{
	switch (field->kind) {
	case CONFIG_BOOL:
		return field->size == sizeof(bool);
	case CONFIG_UINT:
		return field->size == 1 || field->size == 2 || field->size == 4 || field->size == 8;
	case CONFIG_SIZE:
		return field->size == 8;
	case CONFIG_STRING:
	case CONFIG_LIST:
	case CONFIG_STRINGS:
	case CONFIG_UINTS:
		return field->size == sizeof(void *);
	case CONFIG_ENUM:
		return field->size == sizeof(enum console_mode);
	case CONFIG_MAC:
		return field->size == sizeof(struct mac_addr);
	case CONFIG_STRUCT:
		return field->size == field->table->size;
	case CONFIG_LATER:
		return field->size == 0;
	}
	return false;
}

static void check_table(const struct config_table *table)
{
	g_assert_nonnull(table->name);
	g_assert_cmpuint(table->n_fields, <=, 64);
	for (size_t i = 0; i < table->n_fields; i++) {
		const struct config_field *field = &table->fields[i];
		bool unset = field->flags & (CONFIG_OPTIONAL | CONFIG_REQUIRED);

		g_test_message("%s: %s", table->name, field->key);
		g_assert_true(size_fits(field));
		g_assert_cmpuint(field->offset + field->size, <=,
				 field->kind == CONFIG_LATER ? 0 : table->size);
		for (size_t j = 0; j < i; j++)
			g_assert_cmpstr(field->key, !=, table->fields[j].key);
		if (field->kind == CONFIG_LATER || table == &vm_table) {
			if (field->table)
				check_table(field->table);
			continue;
		}
		g_assert_nonnull(field->doc);
		g_assert_false(g_str_has_suffix(field->doc, "."));
		/* a string either has a default or may be absent */
		if (field->kind == CONFIG_STRING)
			g_assert_true(unset || field->def_text);
		if (field->kind == CONFIG_UINT && !unset) {
			g_assert_cmpuint(field->def, >=, field->min);
			g_assert_cmpuint(field->def, <=, field->max);
		}
		if (field->kind != CONFIG_BOOL && field->kind != CONFIG_ENUM)
			g_assert_nonnull(field->arg);
		if (field->flags & CONFIG_HAS)
			g_assert_cmpuint(field->present, <, table->size);
		if (field->table)
			check_table(field->table);
	}
}

static void test_tables(void)
{
	check_table(&vm_table);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/config/tables/whole", test_tables);
	g_test_add_func("/config/help/every-key", test_every_key);
	g_test_add_func("/config/help/payload-options", test_payload_options);
	g_test_add_func("/config/help/golden", test_golden);
	g_test_add_func("/config/help/width", test_width);
	return g_test_run();
}
