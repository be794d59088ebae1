/* SPDX-License-Identifier: Apache-2.0 */
#include "dbus/client/create.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "dbus/bus-error.h"
#include "dbus/bus-path.h"
#include "dbus/client/descriptors.h"
#include "dbus/client/output.h"
#include "dbus/client/properties.h"
#include "dbus/client/verbs.h"
#include "dbus/variant.h"
#include "vmm/base/err.h"
#include "vmm/config/json.h"
#include "vmm/config/option.h"

static int read_file(const char *file, char **ret)
{
	g_autoptr(GString) text = g_string_new(NULL);
	FILE *f = strcmp(file, "-") == 0 ? stdin : fopen(file, "re");
	char buf[8192];
	size_t n;
	int r = 0;

	if (!f) {
		client_complain("cannot open '%s': %s", file, strerror(errno));
		return EXIT_FAILED;
	}
	while (text->len <= CONFIG_JSON_MAX && (n = fread(buf, 1, sizeof(buf), f)) > 0)
		g_string_append_len(text, buf, (gssize)n);
	if (ferror(f)) {
		client_complain("cannot read '%s': %s", file, strerror(errno));
		r = EXIT_FAILED;
	} else if (text->len > CONFIG_JSON_MAX) {
		client_complain("'%s' is larger than %u bytes, that is no definition", file,
				CONFIG_JSON_MAX);
		r = EXIT_FAILED;
	} else if (memchr(text->str, '\0', text->len) || !g_utf8_validate(text->str, -1, NULL)) {
		/* the bus carries UTF-8 only; anything else about it is the service's to judge */
		client_complain("'%s' is not a text file in UTF-8; a definition is JSON, a kernel "
				"goes to --kernel",
				file);
		r = EXIT_FAILED;
	}
	if (f != stdin)
		fclose(f);
	if (r == 0)
		*ret = g_string_free(g_steal_pointer(&text), FALSE);
	return r;
}

static int from_options(const struct client *c, const struct arguments *a, char **ret)
{
	/* Relative paths are relative to where the person is; on another host that says nothing. */
	g_autofree char *dir = c->host ? NULL : g_get_current_dir();
	g_autoptr(GVariantDict) dict = g_variant_dict_new(NULL);
	g_autoptr(GVariant) definition = NULL;

	for (unsigned int i = 0; i < a->vm_options->len; i++) {
		const struct vm_option *option = &g_array_index(a->vm_options, struct vm_option, i);
		struct err err = { 0 };

		if (config_option_apply(dict, option->section, option->text, dir, &err) < 0) {
			client_complain("%s", err.msg);
			fprintf(stderr, "hint: 'brumectl help %s' lists the keys\n",
				option->section);
			return EXIT_USAGE;
		}
	}
	definition = g_variant_ref_sink(g_variant_dict_end(dict));
	*ret = config_json_print(definition, CONFIG_JSON_COMPACT);
	return EXIT_OK;
}

int definition_read(const struct client *c, const struct arguments *a, const char *file, char **ret)
{
	if (file && a->vm_options->len) {
		client_complain("a definition comes from a file or from options, not from both");
		return EXIT_USAGE;
	}
	if (file)
		return read_file(file, ret);
	if (a->vm_options->len)
		return from_options(c, a, ret);
	client_complain(
		"no definition: give a JSON file, '-', or options such as --kernel and --disk");
	return EXIT_USAGE;
}

static int append_properties(sd_bus_message *m, int r, GVariant *properties)
{
	if (r >= 0)
		r = sd_bus_message_open_container(m, 'e', "sv");
	if (r >= 0)
		r = sd_bus_message_append(m, "s", "WorkerProperties");
	if (r >= 0)
		r = sd_bus_message_open_container(m, 'v', "a(sv)");
	if (r >= 0)
		r = variant_append(m, properties);
	for (int i = 0; r >= 0 && i < 2; i++)
		r = sd_bus_message_close_container(m);
	return r;
}

int create_vm(struct client *c, const struct arguments *a, const char *name, const char *config,
	      bool persistent)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL, *reply = NULL;
	g_autoptr(GVariant) properties = NULL;
	int r;

	r = client_check_text("the name", name);
	if (r == EXIT_OK)
		r = client_check_text("the description", a->description);
	if (r == EXIT_OK)
		r = client_check_text("the slice", a->slice);
	if (r == EXIT_OK && a->properties->len)
		r = properties_parse((const char *const *)a->properties->pdata, a->properties->len,
				     &properties);
	if (r == EXIT_OK)
		r = client_manager_call(c, "CreateVM", &m);
	if (r != EXIT_OK)
		return r;
	r = sd_bus_message_append(m, "ss", name, config);
	if (r < 0)
		return client_report(c, name, r, NULL);
	r = client_append_descriptors(c, m, config);
	if (r != EXIT_OK)
		return r;
	r = sd_bus_message_open_container(m, 'a', "{sv}");
	if (!persistent)
		r = client_append_option(m, r, "Persistent", "b", 0);
	if (a->autostart)
		r = client_append_option(m, r, "Autostart", "b", 1);
	if (a->description)
		r = client_append_option(m, r, "Description", "s", a->description);
	if (a->slice)
		r = client_append_option(m, r, "Slice", "s", a->slice);
	if (properties)
		r = append_properties(m, r, properties);
	if (r >= 0)
		r = sd_bus_message_close_container(m);
	if (r < 0)
		return client_report(c, name, r, NULL);
	return client_call(c, name, m, &reply);
}

int verb_create(struct client *c, const struct arguments *a)
{
	const char *name = a->positional[0];
	g_autofree char *config = NULL;
	int r;

	r = definition_read(c, a, a->n_positional > 1 ? a->positional[1] : NULL, &config);
	if (r == EXIT_OK)
		r = create_vm(c, a, name, config, !a->transient);
	if (r == EXIT_OK && c->json) {
		_cleanup_free_ char *path = bus_path_vm(name);

		print_json(g_variant_new_parsed("{'vm': <%s>, 'path': <%s>}", name,
						path ? path : ""),
			   false);
	}
	return r;
}

/* (severity, JSON pointer, text) for each finding; none is good news. */
static int print_diagnostics(const struct client *c, sd_bus_message *reply)
{
	const char *severity, *pointer, *text;
	GVariantBuilder list;
	int r, status = EXIT_OK;

	g_variant_builder_init(&list, G_VARIANT_TYPE("aa{sv}"));
	r = sd_bus_message_enter_container(reply, 'a', "(sss)");
	while (r >= 0 &&
	       (r = sd_bus_message_read(reply, "(sss)", &severity, &pointer, &text)) > 0) {
		if (strcmp(severity, "error") == 0)
			status = EXIT_FAILED;
		if (!c->json)
			printf("%s: %s%s%s\n", severity, pointer, pointer[0] ? ": " : "", text);
		g_variant_builder_add_parsed(&list,
					     "{'severity': <%s>, 'pointer': <%s>, 'text': <%s>}",
					     severity, pointer, text);
	}
	if (r >= 0 && c->json)
		print_json(g_variant_builder_end(&list), false);
	else
		g_variant_builder_clear(&list);
	return r < 0 ? client_report(c, NULL, r, NULL) : status;
}

int verb_validate(struct client *c, const struct arguments *a)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL, *reply = NULL;
	g_autofree char *config = NULL;
	int r;

	r = definition_read(c, a, a->n_positional > 0 ? a->positional[0] : NULL, &config);
	if (r == EXIT_OK)
		r = client_manager_call(c, "ValidateConfig", &m);
	if (r != EXIT_OK)
		return r;
	r = sd_bus_message_append(m, "sa{sv}", config, 0);
	r = r < 0 ? client_report(c, NULL, r, NULL) : client_call(c, NULL, m, &reply);
	return r == EXIT_OK ? print_diagnostics(c, reply) : r;
}

/* One of "boot" and "next"; *ret_stopped when there is no "boot" because the machine does not run.
 */
static int get_config(struct client *c, const char *vm, const char *which, char **ret,
		      bool *ret_stopped)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL, *reply = NULL;
	_cleanup_(sd_bus_error_free) sd_bus_error e = SD_BUS_ERROR_NULL;
	const char *config;
	int r;

	r = client_vm_call(c, vm, "GetConfig", &m);
	if (r != EXIT_OK)
		return r;
	r = sd_bus_message_append(m, "s", which);
	if (r >= 0)
		r = sd_bus_call(c->bus, m, CLIENT_TIMEOUT_USEC, &e, &reply);
	if (r < 0 && ret_stopped && sd_bus_error_has_name(&e, BUS_ERROR_INVALID_STATE)) {
		*ret_stopped = true;
		return EXIT_OK;
	}
	if (r >= 0)
		r = sd_bus_message_read(reply, "s", &config);
	if (r < 0)
		return client_report(c, vm, r, &e);
	*ret = g_strdup(config);
	return EXIT_OK;
}

int verb_config(struct client *c, const struct arguments *a)
{
	const char *vm = a->positional[0];
	g_autofree char *config = NULL;
	bool stopped = a->next;
	int r = EXIT_OK;

	if (!a->next)
		r = get_config(c, vm, "boot", &config, &stopped);
	if (r == EXIT_OK && stopped)
		r = get_config(c, vm, "next", &config, NULL);
	if (r == EXIT_OK)
		print_json_text(config, !c->json);
	return r;
}

int verb_set_config(struct client *c, const struct arguments *a)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
	const char *vm = a->positional[0];
	g_autofree char *config = NULL;
	int r;

	r = definition_read(c, a, a->n_positional > 1 ? a->positional[1] : NULL, &config);
	if (r == EXIT_OK)
		r = client_vm_call(c, vm, "SetConfig", &m);
	if (r != EXIT_OK)
		return r;
	r = sd_bus_message_append(m, "sa{sv}", config, 0);
	return r < 0 ? client_report(c, vm, r, NULL) : client_call(c, vm, m, NULL);
}

int verb_set_description(struct client *c, const struct arguments *a)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
	const char *vm = a->positional[0], *text = a->positional[1];
	int r;

	r = client_check_text("the description", text);
	if (r == EXIT_OK)
		r = client_vm_call(c, vm, "SetDescription", &m);
	if (r != EXIT_OK)
		return r;
	r = sd_bus_message_append(m, "sa{sv}", text, 0);
	return r < 0 ? client_report(c, vm, r, NULL) : client_call(c, vm, m, NULL);
}

int verb_delete(struct client *c, const struct arguments *a)
{
	return client_simple_call(c, a->positional[0], "Delete");
}
