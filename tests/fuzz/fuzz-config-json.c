/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzzing of JSON text to a machine
 *
 * Whatever is accepted must survive the ways it goes: serialise, print and read
 * again to the same value, and be parsed by the worker after stripping.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/err.h"
#include "vmm/config/json.h"
#include "vmm/config/vm-config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_error(const struct err *err)
{
	assert(err->code > 0 && err->msg[0] && g_utf8_validate(err->msg, -1, NULL));
}

static void check_accepted(struct vm_config *config)
{
	g_autoptr(GVariant) once = g_variant_ref_sink(vm_config_serialise(config));
	g_autofree char *text = config_json_print(once, CONFIG_JSON_PRETTY);
	g_autoptr(GVariant) read = NULL, again = NULL, sent = NULL;
	_cleanup_(vm_config_free_cleanup) struct vm_config *second = NULL;
	_cleanup_(vm_config_free_cleanup) struct vm_config *worker = NULL;

	if (config_json_parse(text, strlen(text), &read, NULL) < 0 ||
	    vm_config_parse(read, &second, NULL) < 0)
		abort();
	again = g_variant_ref_sink(vm_config_serialise(second));
	if (!g_variant_equal(once, again))
		abort();

	vm_config_strip_resources(second);
	sent = g_variant_ref_sink(vm_config_serialise(second));
	if (vm_config_parse(sent, &worker, NULL) < 0)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	g_autoptr(GVariant) value = NULL;
	_cleanup_(vm_config_free_cleanup) struct vm_config *config = NULL;
	struct err err = { 0 };

	if (config_json_parse((const char *)data, size, &value, &err) < 0) {
		check_error(&err);
		return 0;
	}
	if (vm_config_parse(value, &config, &err) < 0)
		check_error(&err);
	else
		check_accepted(config);
	return 0;
}
