/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/config/check.h"

#include <arpa/inet.h>
#include <glib.h>
#include <limits.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define CMDLINE_MAX     65535 /* 64 KiB area, with the NUL (arch/x86/layout.h) */
#define DISK_SERIAL_MAX 20    /* virtio 1.3, 5.2.6.1 */
#define SMBIOS_MAX      255
#define OEM_STRING_MAX  8192
#define ID_MAX          64

union address {
	struct in_addr v4;
	struct in6_addr v6;
	uint8_t bytes[16];
};

static bool has_control_character(const char *s)
{
	for (; *s; s++) {
		if (g_ascii_iscntrl(*s))
			return true;
	}
	return false;
}

const char *check_path(const char *s)
{
	if (s[0] != '/')
		return "is not an absolute path, must start with '/'";
	if (strlen(s) >= PATH_MAX)
		return "is too long, must be shorter than 4096 bytes";
	/* Lists of paths, in questions to polkit among others, have one a line. */
	if (has_control_character(s))
		return "is not usable as a path, must not hold control characters";
	/* And a rule that allows a folder looks at how they begin. */
	for (const char *at = s; (at = strstr(at, "/..")); at += 3)
		if (at[3] == '/' || at[3] == '\0')
			return "goes up by '..', must be the path itself";
	return NULL;
}

#define SOCKET_MAX 95 /* sun_path holds 107; "_4294967295" may be added */

const char *check_socket(const char *s)
{
	const char *wrong = check_path(s);

	if (wrong)
		return wrong;
	if (strlen(s) > SOCKET_MAX)
		return "is too long for a socket, must be at most 95 bytes";
	if (g_str_has_suffix(s, "/"))
		return "is a directory, must be the name of a socket";
	return NULL;
}

const char *check_id(const char *s)
{
	if (g_str_has_prefix(s, "__"))
		return "is reserved, must not start with '__'";
	if (!*s || strlen(s) > ID_MAX)
		return "is not an id, must have 1 to 64 characters";
	if (!g_ascii_isalnum(*s) && *s != '_')
		return "is not an id, must start with a letter, a digit or '_'";
	if (s[strspn(s, G_CSET_A_2_Z G_CSET_a_2_z G_CSET_DIGITS "_.-")])
		return "is not an id, must consist of letters, digits, '_', '.' and '-'";
	return NULL;
}

const char *check_cmdline(const char *s)
{
	return strlen(s) > CMDLINE_MAX ? "is too long, must be at most 65535 bytes" : NULL;
}

const char *check_disk_serial(const char *s)
{
	if (!*s || strlen(s) > DISK_SERIAL_MAX)
		return "is not a disk serial number, must have 1 to 20 bytes";
	/* The guest shows its bytes as they are, and matches them in names of links. */
	for (; *s; s++)
		if (!g_ascii_isprint(*s))
			return "is not a disk serial number, must hold printable ASCII only";
	return NULL;
}

const char *check_uuid(const char *s)
{
	if (!g_uuid_string_is_valid(s))
		return "is not a UUID, must be like 8c1d3a5e-2f60-4b9a-9d57-0e4c6a7b8f12";
	return NULL;
}

const char *check_smbios(const char *s)
{
	/* An empty string would end the structure early (SMBIOS 3.0, 6.1.3). */
	if (!*s || strlen(s) > SMBIOS_MAX)
		return "is not an SMBIOS string, must have 1 to 255 bytes";
	if (has_control_character(s))
		return "is not an SMBIOS string, must not hold control characters";
	return NULL;
}

const char *check_oem_string(const char *s)
{
	if (!*s || strlen(s) > OEM_STRING_MAX)
		return "is not an OEM string, must have 1 to 8192 bytes";
	if (has_control_character(s))
		return "is not an OEM string, must not hold control characters";
	return NULL;
}

static int parse_address(const char *s, union address *ret)
{
	if (inet_pton(AF_INET, s, &ret->v4) == 1)
		return AF_INET;
	if (inet_pton(AF_INET6, s, &ret->v6) == 1)
		return AF_INET6;
	return -1;
}

int address_family(const char *s)
{
	union address a;

	return parse_address(s, &a);
}

const char *check_address(const char *s)
{
	union address a = { 0 };

	switch (parse_address(s, &a)) {
	case AF_INET: {
		uint32_t host = ntohl(a.v4.s_addr);

		if (host == INADDR_ANY || host >= 0xe0000000U)
			break;
		return NULL;
	}
	case AF_INET6:
		if (IN6_IS_ADDR_UNSPECIFIED(&a.v6) || IN6_IS_ADDR_MULTICAST(&a.v6))
			break;
		return NULL;
	default:
		return "is not an IP address, must be like 192.168.249.1 or fd00::1";
	}
	return "is not an address of one host, must be like 192.168.249.1 or fd00::1";
}

const char *check_netmask(const char *s)
{
	const char *wrong = "is not a netmask, must be like 255.255.255.0 or ffff:ffff:ffff:ffff::";
	union address a = { 0 };
	int family = parse_address(s, &a);
	bool ended = false;

	if (family < 0 || a.bytes[0] == 0)
		return wrong;
	for (size_t i = 0; i < (family == AF_INET ? 32u : 128u); i++) {
		bool set = a.bytes[i / 8] & 0x80u >> i % 8;

		if (set && ended)
			return wrong;
		ended = !set;
	}
	return NULL;
}

bool is_interface_name(const char *s)
{
	if (!*s || strlen(s) >= IFNAMSIZ || strcmp(s, ".") == 0 || strcmp(s, "..") == 0)
		return false;
	for (; *s; s++) {
		/* '%' is a template for the kernel: "vmtap%d" would make another name. */
		if (*s == '/' || *s == ':' || *s == '%' || !g_ascii_isgraph(*s))
			return false;
	}
	return true;
}

/* "80" or "8000-8010": how many ports, 0 when it is neither.  Advances *s. */
static unsigned int take_ports(const char **s)
{
	unsigned long limits[2] = { 0, 0 };
	unsigned int n = 0;

	do {
		char *end;

		if (!g_ascii_isdigit(**s) || **s == '0')
			return 0;
		limits[n] = strtoul(*s, &end, 10);
		if (limits[n] > UINT16_MAX)
			return 0;
		*s = end;
		n++;
	} while (n < 2 && **s == '-' && (*s)++);
	if (n == 1)
		return 1;
	return limits[0] <= limits[1] ? (unsigned int)(limits[1] - limits[0] + 1) : 0;
}

const char *check_forward(const char *s)
{
	static const char *const wrong =
		"is not a port to forward, must be like '8080', '2222:22', '8000-8010:80-90' or "
		"'127.0.0.1/2222:22'";
	const char *slash = strchr(s, '/');
	unsigned int host, guest;

	if (slash) {
		g_autofree char *address = g_strndup(s, (gsize)(slash - s));

		if (address_family(address) < 0)
			return wrong;
		s = slash + 1;
	}
	host = guest = take_ports(&s);
	if (host > 0 && *s == ':') {
		s++;
		guest = take_ports(&s);
	}
	if (host == 0 || guest == 0 || *s)
		return wrong;
	return host == guest ? NULL : "names ranges of two sizes, must be of one";
}
