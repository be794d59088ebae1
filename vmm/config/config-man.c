/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Prints the part of the man page that documents a definition; run at build
 * time, so that the page cannot differ from what the parser accepts.
 */
#include <glib.h>
#include <stdio.h>

#include "vmm/config/help.h"

int main(void)
{
	g_autofree char *text = config_man();

	return fputs(text, stdout) < 0 || fflush(stdout) != 0;
}
