/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/config/help.h"

#include <inttypes.h>
#include <stdbool.h>
#include <string.h>

#include "vmm/config/config.h"
#include "vmm/config/tables.h"

#define COLUMN 26
#define WIDTH  79

static const char *option_name(const struct config_field *field)
{
	return field->option ? field->option : field->key;
}

/* "on|off", "off|null|tty|file", "PATH" */
static char *value_syntax(const struct config_field *field)
{
	g_autoptr(GString) out = g_string_new(NULL);

	if (field->kind == CONFIG_BOOL)
		return g_strdup("on|off");
	if (field->kind != CONFIG_ENUM)
		return g_strdup(field->arg);
	for (size_t i = 0; i < field->names->n; i++) {
		g_autofree char *lower = g_ascii_strdown(field->names->names[i], -1);

		g_string_append_printf(out, "%s%s", i ? "|" : "", lower);
	}
	return g_string_free(g_steal_pointer(&out), FALSE);
}

/* NULL: nothing to say */
static char *default_text(const struct config_field *field)
{
	if (field->flags & CONFIG_REQUIRED)
		return g_strdup("required");
	if (field->def_text)
		return g_strdup_printf("default %s", field->def_text);
	if (field->kind == CONFIG_BOOL)
		return g_strdup_printf("default %s", field->def ? "on" : "off");
	if (field->kind == CONFIG_ENUM) {
		g_autofree char *lower = g_ascii_strdown(field->names->names[field->def], -1);

		return g_strdup_printf("default %s", lower);
	}
	if (field->kind != CONFIG_UINT || (field->flags & CONFIG_OPTIONAL))
		return NULL;
	if (field->flags & CONFIG_HEX)
		return g_strdup_printf("default %#" PRIx64, field->def);
	return g_strdup_printf("default %" PRIu64, field->def);
}

/* What a JSON text must have where an option string has something shorter; or NULL. */
static char *json_form(const struct config_field *field)
{
	bool renamed = field->option && strcmp(field->option, field->key) != 0;
	g_autoptr(GString) out = NULL;

	if (!field->table)
		return renamed ? g_strdup_printf("in JSON %s", field->key) : NULL;
	out = g_string_new("in JSON ");
	if (renamed)
		g_string_append_printf(out, "%s, ", field->key);
	g_string_append(out,
			field->kind == CONFIG_LIST ? "a list of objects with" : "an object with");
	for (size_t i = 0; i < field->table->n_fields; i++)
		g_string_append_printf(out, "%s %s", i ? "," : "", field->table->fields[i].key);
	return g_string_free(g_steal_pointer(&out), FALSE);
}

static void append_note(GString *notes, const char *text)
{
	if (text)
		g_string_append_printf(notes, "%s%s", notes->len ? "; " : "", text);
}

/* The fragment of the table, and in brackets what the other columns say. */
static char *describe(const struct config_field *field)
{
	g_autoptr(GString) notes = g_string_new(NULL);
	g_autofree char *json = json_form(field), *def = default_text(field), *range = NULL,
			*since = NULL;

	if (field->kind == CONFIG_UINT && field->max && !(field->flags & CONFIG_HEX))
		range = g_strdup_printf("%" PRIu64 " to %" PRIu64, field->min, field->max);
	if (field->since)
		since = g_strdup_printf("since %s", field->since);
	append_note(notes, json);
	append_note(notes, range);
	append_note(notes, since);
	append_note(notes, def);
	if (notes->len)
		return g_strdup_printf("%s (%s)", field->doc, notes->str);
	return g_strdup(field->doc);
}

/* Appends words with line breaks; every line but the first starts at `indent`. */
static void append_wrapped(GString *out, const char *text, size_t indent, size_t column)
{
	g_auto(GStrv) words = g_strsplit(text, " ", -1);
	bool first = true;

	for (char **word = words; *word; word++) {
		size_t len = (size_t)g_utf8_strlen(*word, -1);

		if (!**word)
			continue;
		if (!first && column + 1 + len > WIDTH) {
			g_string_append_printf(out, "\n%*s", (int)indent, "");
			column = indent;
		} else if (!first) {
			g_string_append_c(out, ' ');
			column++;
		}
		g_string_append(out, *word);
		column += len;
		first = false;
	}
	g_string_append_c(out, '\n');
}

static void append_row(GString *out, const char *left, const char *right)
{
	size_t len = strlen(left) + 2;

	g_string_append_printf(out, "  %s", left);
	if (len + 2 > COLUMN)
		g_string_append_printf(out, "\n%*s", COLUMN, "");
	else
		g_string_append_printf(out, "%*s", (int)(COLUMN - len), "");
	append_wrapped(out, right, COLUMN, COLUMN);
}

static void append_later(GString *out, const struct config_table *table)
{
	g_autoptr(GString) keys = g_string_new("Not supported yet:");
	bool any = false;

	for (size_t i = 0; i < table->n_fields; i++) {
		const struct config_field *field = &table->fields[i];

		if (field->kind != CONFIG_LATER)
			continue;
		g_string_append_printf(keys, "%s %s", any ? "," : "", field->key);
		any = true;
	}
	if (any) {
		g_string_append_c(out, '\n');
		append_wrapped(out, keys->str, 0, 0);
	}
}

/* A key of the definition itself. */
static void help_scalar(GString *out, const struct config_field *field)
{
	g_autofree char *syntax = value_syntax(field), *text = describe(field);

	g_string_append_printf(out, "--%s %s\n\n", option_name(field), syntax);
	append_wrapped(out, text, 0, 0);
}

static void help_section(GString *out, const struct config_field *section)
{
	const struct config_table *table = section->table;
	bool own_options = table == &payload_table;

	if (!table) {
		help_scalar(out, section);
		return;
	}
	if (own_options)
		g_string_append_printf(out, "%s\n\n", table->name);
	else
		g_string_append_printf(out, "--%s KEY=VALUE[,KEY=VALUE]...\n\n",
				       option_name(section));
	append_wrapped(out, table->doc, 0, 0);
	g_string_append_c(out, '\n');
	for (size_t i = 0; i < table->n_fields; i++) {
		const struct config_field *field = &table->fields[i];
		g_autofree char *syntax = NULL, *left = NULL, *right = NULL;

		if (field->kind == CONFIG_LATER || (field->flags & CONFIG_NO_OPTION))
			continue;
		syntax = value_syntax(field);
		left = own_options ? g_strdup_printf("--%s %s", option_name(field), syntax)
		       : field->flags & CONFIG_BARE
			       ? g_strdup(syntax)
			       : g_strdup_printf("%s=%s", option_name(field), syntax);
		right = describe(field);
		append_row(out, left, right);
	}
	append_later(out, table);
}

static char *help_overview(void)
{
	g_autoptr(GString) out = g_string_new(NULL);

	for (size_t i = 0; i < vm_table.n_fields; i++) {
		const struct config_field *section = &vm_table.fields[i];
		g_autofree char *left = NULL;

		if (section->kind == CONFIG_LATER)
			continue;
		if (section->table == &payload_table) {
			for (size_t j = 0; j < payload_table.n_fields; j++) {
				const struct config_field *field = &payload_table.fields[j];
				g_autofree char *own = NULL, *syntax = NULL;

				if (field->kind == CONFIG_LATER)
					continue;
				syntax = field->table ? g_strdup("...") : value_syntax(field);
				own = g_strdup_printf("--%s %s", option_name(field), syntax);
				append_row(out, own, field->doc);
			}
			continue;
		}
		if (!section->table) {
			g_autofree char *syntax = value_syntax(section);

			left = g_strdup_printf("--%s %s", option_name(section), syntax);
			append_row(out, left, section->doc);
			continue;
		}
		left = g_strdup_printf("--%s ...", option_name(section));
		append_row(out, left, section->table->doc);
	}
	append_later(out, &vm_table);
	return g_string_free(g_steal_pointer(&out), FALSE);
}

char *config_help(const char *option)
{
	const struct config_field *section = NULL, *own;
	g_autoptr(GString) out = NULL;

	if (!option)
		return help_overview();
	section = config_find(&vm_table, option, true);
	own = section ? NULL : config_find(&payload_table, option, true);
	if (own)
		section = own->table ? own : config_find(&vm_table, "payload", false);
	if (!section)
		return NULL;
	out = g_string_new(NULL);
	if (section->kind == CONFIG_LATER)
		g_string_append_printf(out, "--%s is not supported yet.\n", option_name(section));
	else
		help_section(out, section);
	return g_string_free(g_steal_pointer(&out), FALSE);
}

/* --- man page -------------------------------------------------------------------- */

static void roff(GString *out, const char *text)
{
	if (*text == '.' || *text == '\'')
		g_string_append(out, "\\&");
	for (; *text; text++) {
		if (*text == '\\')
			g_string_append(out, "\\e");
		else if (*text == '-')
			g_string_append(out, "\\-");
		else
			g_string_append_c(out, *text);
	}
}

static void man_row(GString *out, const struct config_field *field, const char *lead)
{
	g_autofree char *syntax = value_syntax(field), *text = describe(field);

	g_string_append(out, ".TP\n\\fB");
	roff(out, lead);
	roff(out, option_name(field));
	g_string_append(out, *lead ? "\\fR " : "=\\fR");
	g_string_append(out, "\\fI");
	roff(out, syntax);
	g_string_append(out, "\\fR\n");
	/* A sentence here, a fragment on the terminal. */
	g_string_append_unichar(out, g_unichar_toupper(g_utf8_get_char(text)));
	roff(out, g_utf8_next_char(text));
	g_string_append(out, ".\n");
}

static void man_later(GString *out, const struct config_table *table)
{
	bool any = false;

	for (size_t i = 0; i < table->n_fields; i++) {
		if (table->fields[i].kind != CONFIG_LATER)
			continue;
		g_string_append(out, any ? ",\n"
					 : ".PP\nNot supported yet, and refused unless the "
					   "value asks for what happens anyway:\n");
		g_string_append_printf(out, "\\fB%s\\fR", table->fields[i].key);
		any = true;
	}
	if (any)
		g_string_append(out, ".\n");
}

static void man_section(GString *out, const struct config_field *section)
{
	const struct config_table *table = section->table;
	bool own_options = table == &payload_table;

	g_string_append_printf(out, ".SS \"%s: ", table->name);
	roff(out, section->key);
	g_string_append(out, "\"\n");
	roff(out, table->doc);
	g_string_append_c(out, '\n');
	if (!own_options) {
		g_string_append(out, "Option: \\fB\\-\\-");
		roff(out, option_name(section));
		g_string_append(out, "\\fR.\n");
	}
	for (size_t i = 0; i < table->n_fields; i++) {
		if (table->fields[i].kind != CONFIG_LATER)
			man_row(out, &table->fields[i], own_options ? "--" : "");
	}
	man_later(out, table);
	for (size_t i = 0; own_options && i < table->n_fields; i++) {
		if (table->fields[i].table)
			man_section(out, &table->fields[i]);
	}
}

char *config_man(void)
{
	g_autoptr(GString) out = g_string_new(NULL);

	for (size_t i = 0; i < vm_table.n_fields; i++) {
		if (vm_table.fields[i].kind != CONFIG_LATER && vm_table.fields[i].table)
			man_section(out, &vm_table.fields[i]);
	}
	g_string_append(out, ".SS \"Keys of their own\"\nOptions of the same names.\n");
	for (size_t i = 0; i < vm_table.n_fields; i++) {
		if (vm_table.fields[i].kind != CONFIG_LATER && !vm_table.fields[i].table)
			man_row(out, &vm_table.fields[i], "--");
	}
	g_string_append(out, ".SS \"Later\"\nSections of Cloud Hypervisor's definition that this "
			     "version refuses.\n");
	man_later(out, &vm_table);
	return g_string_free(g_steal_pointer(&out), FALSE);
}
