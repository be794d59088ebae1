/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `serial`, `console`, `debug_console`: three devices, one struct
 */
#include <errno.h>
#include <string.h>

#include "vmm/base/err.h"
#include "vmm/config/check.h"
#include "vmm/config/tables.h"

/*
 * Cloud Hypervisor's default is a quiet serial line and a virtio console on the
 * terminal it was started from.  Brume's machines have no such terminal; the
 * serial line works from the first instruction of any firmware on and is kept
 * for OpenConsole, so that is the default, and the virtio console is off.
 */
#define IOBASE_DEFAULT 0xe9

static const char *const mode_names[CONSOLE_MODE_N_] = {
	[CONSOLE_MODE_OFF] = "Off",   [CONSOLE_MODE_NULL] = "Null",     [CONSOLE_MODE_TTY] = "Tty",
	[CONSOLE_MODE_FILE] = "File", [CONSOLE_MODE_SOCKET] = "Socket", [CONSOLE_MODE_PTY] = "Pty",
};
static const struct config_names modes = { mode_names, CONSOLE_MODE_N_, NULL };

#define MODE_DOC                                                                                   \
	"off: no device; null: output is dropped; tty: kept for OpenConsole and "                  \
	"'brumectl console'; file: appended to a file; socket: kept for the client of a socket; "  \
	"pty: as tty, and on a terminal of the host (ConsolePaths)"

#define MODE_FIELD(default_mode)                                                                   \
	{                                                                                          \
		.key = "mode", .kind = CONFIG_ENUM, .flags = CONFIG_BARE,                          \
		CONFIG_AT(struct console_config, mode), .def = default_mode, .names = &modes,      \
		.doc = MODE_DOC                                                                    \
	}
#define FILE_FIELD                                                                                 \
	{                                                                                          \
		.key = "file", .kind = CONFIG_STRING, .flags = CONFIG_OPTIONAL | CONFIG_RESOURCE,  \
		CONFIG_AT(struct console_config, file), .check = check_path,                       \
		.resource = RESOURCE_FILE_APPEND, .implies = "mode=File", .arg = "PATH",           \
		.doc = "file that receives the output; only in mode File"                          \
	}

#define SOCKET_FIELD                                                                               \
	{                                                                                          \
		.key = "socket", .kind = CONFIG_STRING,                                            \
		.flags = CONFIG_OPTIONAL | CONFIG_RESOURCE,                                        \
		CONFIG_AT(struct console_config, socket), .check = check_socket,                   \
		.resource = RESOURCE_LISTEN, .implies = "mode=Socket", .arg = "PATH",              \
		.doc = "socket that is made for one client at a time; only in mode Socket"         \
	}

static const struct config_field serial_fields[] = {
	MODE_FIELD(CONSOLE_MODE_TTY),
	FILE_FIELD,
	SOCKET_FIELD,
	{ .key = "iommu", .kind = CONFIG_LATER, .harmless = "false" },
};
const struct config_table serial_table = {
	.name = "Serial port",
	.doc = "The 16550 at 0x3f8 (ttyS0).",
	.fields = serial_fields,
	.n_fields = ARRAY_SIZE(serial_fields),
	.size = sizeof(struct console_config),
};

static const struct config_field console_fields[] = {
	MODE_FIELD(CONSOLE_MODE_OFF),
	FILE_FIELD,
	SOCKET_FIELD,
	CONFIG_PCI_SINGLE(struct console_config),
};
const struct config_table console_table = {
	.name = "Virtio console",
	.doc = "A virtio console (hvc0).",
	.fields = console_fields,
	.n_fields = ARRAY_SIZE(console_fields),
	.size = sizeof(struct console_config),
};

static const struct config_field debug_console_fields[] = {
	MODE_FIELD(CONSOLE_MODE_OFF),
	FILE_FIELD,
	{ .key = "iobase",
	  .kind = CONFIG_UINT,
	  .flags = CONFIG_HEX,
	  CONFIG_AT(struct console_config, iobase),
	  .def = IOBASE_DEFAULT,
	  .min = 1,
	  .max = UINT16_MAX,
	  .arg = "PORT",
	  .doc = "I/O port that takes the bytes" },
	SOCKET_FIELD,
};
const struct config_table debug_console_table = {
	.name = "Debug console",
	.doc = "An I/O port that firmware writes its messages to.",
	.fields = debug_console_fields,
	.n_fields = ARRAY_SIZE(debug_console_fields),
	.size = sizeof(struct console_config),
};

const char *console_mode_to_string(enum console_mode mode)
{
	return mode < CONSOLE_MODE_N_ ? mode_names[mode] : NULL;
}

int console_mode_from_string(const char *s, enum console_mode *ret)
{
	for (unsigned int i = 0; i < CONSOLE_MODE_N_; i++) {
		if (strcmp(s, mode_names[i]) == 0) {
			*ret = (enum console_mode)i;
			return 0;
		}
	}
	return -EINVAL;
}

static int check_key(const char *key, const struct console_config *console, const char *member,
		     const char *value, enum console_mode mode, struct err *err)
{
	const char *name = console_mode_to_string(mode);

	if (console->mode == mode && !value)
		return config_error(err, "/%s/%s: missing, must be given in mode %s", key, member,
				    name);
	if (console->mode != mode && value)
		return config_error(err, "/%s/%s: has no effect in mode %s, needs mode %s", key,
				    member, console_mode_to_string(console->mode), name);
	return 0;
}

static int check_file(const char *key, const struct console_config *console, struct err *err)
{
	int r = check_key(key, console, "file", console->file, CONSOLE_MODE_FILE, err);

	if (r == 0)
		r = check_key(key, console, "socket", console->socket, CONSOLE_MODE_SOCKET, err);
	return r;
}

static int check_iobase(const struct vm_config *config, size_t index _unused_, struct err *err)
{
	const struct console_config *console = &config->debug_console;
	static const struct {
		uint16_t first, last;
		const char *owner;
	} taken[] = {
		{ 0x60, 0x64, "the keyboard controller" }, { 0x70, 0x71, "the clock" },
		{ 0x80, 0x80, "the debug port" },          { 0x3f8, 0x3ff, "the serial port" },
		{ 0x600, 0x60b, "power management" },      { 0xcf8, 0xcff, "PCI" },
	};

	for (size_t i = 0; console->mode != CONSOLE_MODE_OFF && i < ARRAY_SIZE(taken); i++) {
		if (console->iobase >= taken[i].first && console->iobase <= taken[i].last)
			return config_error(
				err,
				"/debug_console/iobase: %u (%#x) belongs to %s, must be "
				"another port like 233 (0xe9)",
				console->iobase, console->iobase, taken[i].owner);
	}
	return 0;
}

static int check_serial_file(const struct vm_config *config, size_t i _unused_, struct err *err)
{
	return check_file("serial", &config->serial, err);
}

static int check_console_file(const struct vm_config *config, size_t i _unused_, struct err *err)
{
	return check_file("console", &config->console, err);
}

static int check_debug_file(const struct vm_config *config, size_t i _unused_, struct err *err)
{
	return check_file("debug_console", &config->debug_console, err);
}

static const struct config_rule rules[] = {
	{ check_serial_file, { "serial" } },
	{ check_console_file, { "console" } },
	{ check_debug_file, { "debug_console" } },
	{ check_iobase, { "debug_console" } },
};
const struct config_rules console_rules = CONFIG_RULES(rules, NULL);
