/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/config/config.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

void config_set_uint(const struct config_field *field, void *base, uint64_t n)
{
	void *at = config_member_mut(field, base);

	switch (field->size) {
	case 1:
		*(uint8_t *)at = (uint8_t)n;
		return;
	case 2:
		*(uint16_t *)at = (uint16_t)n;
		return;
	case 4:
		*(uint32_t *)at = (uint32_t)n;
		return;
	default:
		*(uint64_t *)at = n;
	}
}

uint64_t config_get_uint(const struct config_field *field, const void *base)
{
	const void *at = config_member(field, base);

	switch (field->size) {
	case 1:
		return *(const uint8_t *)at;
	case 2:
		return *(const uint16_t *)at;
	case 4:
		return *(const uint32_t *)at;
	default:
		return *(const uint64_t *)at;
	}
}

size_t config_list_count(const struct config_field *field, const void *base)
{
	return *(const size_t *)(const void *)((const char *)base + field->count);
}

void *config_list_at(const struct config_field *field, const void *base, size_t i)
{
	char *list = *(char *const *)config_member(field, base);

	assert(i < config_list_count(field, base));
	return list + i * field->table->size;
}

bool config_mac_parse(const char *text, struct mac_addr *ret)
{
	struct mac_addr mac;

	if (strlen(text) != 17)
		return false;
	for (size_t i = 0; i < 6; i++) {
		int hi = g_ascii_xdigit_value(text[i * 3]);
		int lo = g_ascii_xdigit_value(text[i * 3 + 1]);

		if (hi < 0 || lo < 0 || (i < 5 && text[i * 3 + 2] != ':'))
			return false;
		mac.bytes[i] = (uint8_t)(hi << 4 | lo);
	}
	*ret = mac;
	return true;
}

void config_mac_format(const struct mac_addr *mac, char buf[18])
{
	const uint8_t *b = mac->bytes;

	snprintf(buf, 18, "%02x:%02x:%02x:%02x:%02x:%02x", b[0], b[1], b[2], b[3], b[4], b[5]);
}

void config_defaults(const struct config_table *table, void *base)
{
	for (size_t i = 0; i < table->n_fields; i++) {
		const struct config_field *field = &table->fields[i];

		switch (field->kind) {
		case CONFIG_BOOL:
			*(bool *)config_member_mut(field, base) = field->def;
			break;
		case CONFIG_UINT:
		case CONFIG_SIZE:
		case CONFIG_ENUM:
			config_set_uint(field, base, field->def);
			break;
		case CONFIG_STRING: {
			char **at = config_member_mut(field, base);

			g_free(*at);
			*at = g_strdup(field->def_text);
			break;
		}
		case CONFIG_STRUCT:
			if (!(field->flags & CONFIG_HAS))
				config_defaults(field->table, config_member_mut(field, base));
			break;
		case CONFIG_MAC:
		case CONFIG_LIST:
		case CONFIG_STRINGS:
		case CONFIG_UINTS:
		case CONFIG_LATER:
			break;
		}
	}
}

static GVariant *serialise_list(const struct config_field *field, const void *base)
{
	GVariantBuilder list;

	g_variant_builder_init(&list, G_VARIANT_TYPE("aa{sv}"));
	for (size_t i = 0; i < config_list_count(field, base); i++)
		g_variant_builder_add_value(&list,
					    config_serialise(field->table,
							     config_list_at(field, base, i)));
	return g_variant_builder_end(&list);
}

/* Of a string that may refer to a descriptor. */
static GVariant *serialise_fd(const char *name)
{
	return g_variant_new_parsed("@a{sv} {'fd': <%s>}", name);
}

static GVariant *serialise_strings(const struct config_field *field, const char *const *list)
{
	GVariantBuilder fds;

	if (!list)
		return NULL;
	if (!(field->flags & CONFIG_RESOURCE))
		return g_variant_new_strv(list, -1);
	g_variant_builder_init(&fds, G_VARIANT_TYPE("aa{sv}"));
	for (; *list; list++)
		g_variant_builder_add_value(&fds, serialise_fd(vm_config_fd_name(*list)));
	return g_variant_builder_end(&fds);
}

static GVariant *serialise_uint(const struct config_field *field, const void *base)
{
	uint64_t n = config_get_uint(field, base);

	if (n == 0 && (field->flags & CONFIG_OPTIONAL))
		return NULL;
	return field->size == 8 ? g_variant_new_uint64(n) : g_variant_new_uint32((uint32_t)n);
}

/* NULL: absent */
static GVariant *serialise_field(const struct config_field *field, const void *base)
{
	const void *at = config_member(field, base);
	char mac[18];

	if (!config_is_present(field, base))
		return NULL;
	switch (field->kind) {
	case CONFIG_BOOL:
		return g_variant_new_boolean(*(const bool *)at);
	case CONFIG_UINT:
	case CONFIG_SIZE:
		return serialise_uint(field, base);
	case CONFIG_STRING: {
		const char *text = *(char *const *)at;
		const char *fd = NULL;

		if (field->flags & CONFIG_RESOURCE)
			fd = vm_config_fd_name(text);
		if (fd)
			return serialise_fd(fd);
		return text ? g_variant_new_string(text) : NULL;
	}
	case CONFIG_ENUM:
		return g_variant_new_string(field->names->names[config_get_uint(field, base)]);
	case CONFIG_MAC:
		config_mac_format(at, mac);
		return g_variant_new_string(mac);
	case CONFIG_STRUCT:
		return config_serialise(field->table, at);
	case CONFIG_LIST:
		return serialise_list(field, base);
	case CONFIG_STRINGS:
		return serialise_strings(field, *(const char *const *const *)at);
	case CONFIG_UINTS:
		return g_variant_new_fixed_array(G_VARIANT_TYPE_UINT32, *(uint32_t *const *)at,
						 config_list_count(field, base), sizeof(uint32_t));
	case CONFIG_LATER:
		return NULL;
	}
	assert(false);
	return NULL;
}

GVariant *config_serialise(const struct config_table *table, const void *base)
{
	GVariantBuilder dict;

	g_variant_builder_init(&dict, G_VARIANT_TYPE_VARDICT);
	for (size_t i = 0; i < table->n_fields; i++) {
		GVariant *v = serialise_field(&table->fields[i], base);

		if (v)
			g_variant_builder_add(&dict, "{sv}", table->fields[i].key, v);
	}
	return g_variant_builder_end(&dict);
}

void config_clear(const struct config_table *table, void *base)
{
	for (size_t i = 0; i < table->n_fields; i++) {
		const struct config_field *field = &table->fields[i];

		switch (field->kind) {
		case CONFIG_STRING:
			g_free(*(char **)config_member_mut(field, base));
			break;
		case CONFIG_STRUCT:
			config_clear(field->table, config_member_mut(field, base));
			break;
		case CONFIG_LIST:
			for (size_t j = 0; j < config_list_count(field, base); j++)
				config_clear(field->table, config_list_at(field, base, j));
			g_free(*(void **)config_member_mut(field, base));
			break;
		case CONFIG_STRINGS:
			g_strfreev(*(char ***)config_member_mut(field, base));
			break;
		case CONFIG_UINTS:
			g_free(*(uint32_t **)config_member_mut(field, base));
			break;
		case CONFIG_BOOL:
		case CONFIG_UINT:
		case CONFIG_SIZE:
		case CONFIG_ENUM:
		case CONFIG_MAC:
		case CONFIG_LATER:
			break;
		}
	}
	if (table->size)
		memset(base, 0, table->size);
}
