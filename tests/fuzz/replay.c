/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs a fuzzing harness over its corpus, without libFuzzer: how corpora replay
 * as ordinary tests.  Arguments: folders; the order of files does not matter.
 */
#include <glib.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int main(int argc, char **argv)
{
	unsigned int n = 0;

	for (int i = 1; i < argc; i++) {
		g_autoptr(GDir) dir = g_dir_open(argv[i], 0, NULL);
		const char *name;

		g_assert_nonnull(dir);
		while ((name = g_dir_read_name(dir))) {
			g_autofree char *path = g_build_filename(argv[i], name, NULL);
			g_autofree char *data = NULL;
			gsize size = 0;

			g_assert_true(g_file_get_contents(path, &data, &size, NULL));
			LLVMFuzzerTestOneInput((const uint8_t *)data, size);
			n++;
		}
	}
	g_assert_cmpuint(n, >, 0);
	return 0;
}
