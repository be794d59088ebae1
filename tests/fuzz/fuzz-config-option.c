/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzzing of option strings: "disk path=/x,readonly=on", one a line
 */
#include <assert.h>
#include <string.h>

#include "vmm/base/err.h"
#include "vmm/config/option.h"
#include "vmm/config/vm-config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_error(const struct err *err)
{
	assert(err->code > 0 && err->msg[0] && g_utf8_validate(err->msg, -1, NULL));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	g_autofree char *text = g_strndup((const char *)data, size);
	g_auto(GStrv) lines = g_strsplit(text, "\n", 64);
	g_autoptr(GVariantDict) dict = g_variant_dict_new(NULL);
	g_autoptr(GVariant) definition = NULL;
	_cleanup_(vm_config_free_cleanup) struct vm_config *config = NULL;
	struct err err = { 0 };

	for (char **line = lines; *line; line++) {
		char *space = strchr(*line, ' ');

		if (space)
			*space = '\0';
		if (config_option_apply(dict, *line, space ? space + 1 : "", "/home/me", &err) <
		    0) {
			check_error(&err);
			err_clear(&err);
		}
	}
	definition = g_variant_ref_sink(g_variant_dict_end(dict));
	if (vm_config_parse(definition, &config, &err) < 0)
		check_error(&err);
	return 0;
}
