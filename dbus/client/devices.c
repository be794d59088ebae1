/* SPDX-License-Identifier: Apache-2.0 */
/*
 * brumectl's verbs about devices that there are: devices, set-link, set-rate-limit, device resize,
 * device replace, balloon, vsock
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "dbus/bus-path.h"
#include "dbus/client/descriptors.h"
#include "dbus/client/job.h"
#include "dbus/client/output.h"
#include "dbus/client/verbs.h"
#include "dbus/variant.h"
#include "vmm/base/err.h"
#include "vmm/config/option.h"

static int read_variant(sd_bus_message *reply, const char *type, GVariant **ret)
{
	struct err err = { 0 };

	if (variant_from_message(reply, type, ret, &err) >= 0)
		return EXIT_OK;
	client_complain("%s", err.msg);
	return EXIT_FAILED;
}

/* a(ssso): id, type, bdf, path */
static int list_devices(struct client *c, const char *vm, GVariant **ret)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL, *reply = NULL;
	int r;

	r = client_vm_call(c, vm, "ListDevices", &m);
	if (r == EXIT_OK)
		r = client_call(c, vm, m, &reply);
	return r == EXIT_OK ? read_variant(reply, "a(ssso)", ret) : r;
}

/* What the object at `path` says of itself; NULL when it has gone since it was listed. */
static GVariant *device_properties(GVariant *objects, const char *path)
{
	g_autoptr(GVariant) interfaces =
		g_variant_lookup_value(objects, path, G_VARIANT_TYPE("a{sa{sv}}"));

	return interfaces ? g_variant_lookup_value(interfaces, BRUME_DEVICE_INTERFACE,
						   G_VARIANT_TYPE_VARDICT)
			  : NULL;
}

static void add_device(struct table *table, GVariantBuilder *list, const char *const row[static 4],
		       GVariant *properties)
{
	gboolean removable = FALSE, persistent = FALSE, hotplugged = FALSE;
	const char *state = "";

	g_variant_lookup(properties, "Removable", "b", &removable);
	g_variant_lookup(properties, "Persistent", "b", &persistent);
	g_variant_lookup(properties, "HotPlugged", "b", &hotplugged);
	g_variant_lookup(properties, "State", "&s", &state);
	table_add(table, row[0], row[1], row[2][0] ? row[2] : "-", removable ? "yes" : "no", state);
	g_variant_builder_add_parsed(
		list,
		"{'id': <%s>, 'type': <%s>, 'bdf': <%s>, 'path': <%s>, 'removable': <%b>, "
		"'persistent': <%b>, 'hotplugged': <%b>, 'state': <%s>}",
		row[0], row[1], row[2], row[3], removable, persistent, hotplugged, state);
}

int verb_devices(struct client *c, const struct arguments *a)
{
	static const char *const headings[] = {
		"ID", "TYPE", "ADDRESS", "REMOVABLE", "STATE", NULL
	};
	g_autoptr(GVariant) devices = NULL, objects = NULL;
	const char *row[4], *vm = a->positional[0];
	GVariantBuilder list;
	struct table table;
	GVariantIter iter;
	int r;

	r = list_devices(c, vm, &devices);
	if (r == EXIT_OK)
		r = client_get_objects(c, &objects);
	if (r != EXIT_OK)
		return r;
	table_init(&table, headings);
	g_variant_builder_init(&list, G_VARIANT_TYPE("aa{sv}"));
	g_variant_iter_init(&iter, devices);
	while (g_variant_iter_loop(&iter, "(&s&s&s&o)", &row[0], &row[1], &row[2], &row[3])) {
		g_autoptr(GVariant) properties = device_properties(objects, row[3]);

		if (properties)
			add_device(&table, &list, row, properties);
	}
	if (c->json) {
		print_json(g_variant_builder_end(&list), false);
	} else {
		g_variant_builder_clear(&list);
		table_print(&table);
		if (g_variant_n_children(devices) == 0)
			fprintf(stderr, "'%s' has no devices: it does not run.\n", vm);
	}
	table_deinit(&table);
	return EXIT_OK;
}

/* Its type; "" when there is no device of this name. *ret: g_free(). */
static int device_type(struct client *c, const char *vm, const char *wanted, char **ret)
{
	const char *id, *type, *bdf, *path;
	g_autoptr(GVariant) devices = NULL;
	GVariantIter iter;
	int r;

	r = client_check_text("the device", wanted);
	if (r == EXIT_OK)
		r = list_devices(c, vm, &devices);
	if (r != EXIT_OK)
		return r;
	*ret = NULL;
	g_variant_iter_init(&iter, devices);
	while (g_variant_iter_loop(&iter, "(&s&s&s&o)", &id, &type, &bdf, &path))
		if (strcmp(id, wanted) == 0) {
			g_free(*ret);
			*ret = g_strdup(type);
		}
	if (!*ret)
		*ret = g_strdup("");
	return EXIT_OK;
}

static int device_call(struct client *c, const char *vm, const char *id, const char *class,
		       const char *member, sd_bus_message **ret)
{
	_cleanup_free_ char *path = bus_path_device(vm, id);
	g_autofree char *interface = g_strconcat(BRUME_DEVICE_INTERFACE, ".", class, NULL);
	int r;

	if (!path)
		return client_out_of_memory();
	r = sd_bus_message_new_method_call(c->bus, ret, BRUME_BUS_NAME, path, interface, member);
	if (r >= 0 && c->ask_password)
		r = sd_bus_message_set_allow_interactive_authorization(*ret, 1);
	return r < 0 ? client_report(c, vm, r, NULL) : EXIT_OK;
}

static int no_such_device(const char *vm, const char *id, const char *what)
{
	client_complain(
		"'%s' has no %s '%s'; 'brumectl devices %s' lists what it has while it runs", vm,
		what, id, vm);
	return EXIT_NO_SUCH;
}

static int wrong_type(const char *vm, const char *id, const char *type, const char *what)
{
	client_complain("device '%s' of '%s' is a %s, which has no %s", id, vm, type, what);
	return EXIT_USAGE;
}

int verb_set_link(struct client *c, const struct arguments *a)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
	const char *vm = a->positional[0], *id = a->positional[1], *state = a->positional[2];
	bool up = strcmp(state, "up") == 0;
	g_autofree char *type = NULL;
	int r;

	if (!up && strcmp(state, "down") != 0) {
		client_complain("'%s' is neither 'up' nor 'down'", state);
		return EXIT_USAGE;
	}
	r = device_type(c, vm, id, &type);
	if (r != EXIT_OK)
		return r;
	if (!type[0])
		return no_such_device(vm, id, "device");
	if (strcmp(type, "net") != 0)
		return wrong_type(vm, id, type, "link");
	r = device_call(c, vm, id, "Net", "SetLink", &m);
	if (r != EXIT_OK)
		return r;
	r = sd_bus_message_append(m, "ba{sv}", (int)up, 0);
	return r < 0 ? client_report(c, vm, r, NULL) : client_call(c, vm, m, NULL);
}

/* --- rate limits ------------------------------------------------------------------ */

struct limit {
	struct {
		bool given;
		uint64_t value;
	} keys[6];
	char *direction; /* NULL = not given */
};

static const struct {
	const char *key, *option;
	bool is_time;
} limit_keys[] = {
	{ "bw", "BandwidthSize", false },           { "bw_burst", "BandwidthOneTimeBurst", false },
	{ "bw_time", "BandwidthRefillUSec", true }, { "ops", "OpsSize", false },
	{ "ops_burst", "OpsOneTimeBurst", false },  { "ops_time", "OpsRefillUSec", true },
};

static int parse_limit_key(const char *piece, const char *key, const char *value,
			   struct limit *limit)
{
	if (strcmp(key, "direction") == 0) {
		g_free(limit->direction);
		limit->direction = g_strdup(value);
		return client_check_text("the direction", value);
	}
	for (size_t i = 0; i < ARRAY_SIZE(limit_keys); i++) {
		uint64_t *to = &limit->keys[i].value;

		if (strcmp(limit_keys[i].key, key) != 0)
			continue;
		if (limit->keys[i].given) {
			client_complain("'%s' is given twice", key);
			return EXIT_USAGE;
		}
		limit->keys[i].given = true;
		if (limit_keys[i].is_time ? parse_duration(value, to) : parse_count(value, to))
			return EXIT_OK;
		client_complain("'%s' is not a %s", piece,
				limit_keys[i].is_time ? "time, must be like bw_time=100ms"
						      : "number, must be like bw=10M or ops=500");
		return EXIT_USAGE;
	}
	client_complain(
		"'%s' is no key of a rate limit, must be one of bw, bw_burst, bw_time, ops, "
		"ops_burst, ops_time, direction",
		key);
	return EXIT_USAGE;
}

static int parse_limit(const char *text, struct limit *limit)
{
	g_auto(GStrv) pieces = g_strsplit(text, ",", -1);
	int r = EXIT_OK;

	for (size_t i = 0; r == EXIT_OK && pieces[i]; i++) {
		char *equals = strchr(pieces[i], '=');
		g_autofree char *key = NULL;

		if (strcmp(pieces[i], "none") == 0)
			continue;
		if (!equals) {
			client_complain(
				"'%s' is no rate limit, must be like bw=10M,ops=500, or none",
				pieces[i]);
			return EXIT_USAGE;
		}
		key = g_strndup(pieces[i], (size_t)(equals - pieces[i]));
		r = parse_limit_key(pieces[i], key, equals + 1, limit);
	}
	return r;
}

static int append_limit(sd_bus_message *m, const struct limit *limit)
{
	int r = sd_bus_message_open_container(m, 'a', "{sv}");

	for (size_t i = 0; i < ARRAY_SIZE(limit_keys); i++)
		if (limit->keys[i].given)
			r = client_append_option(m, r, limit_keys[i].option, "t",
						 limit->keys[i].value);
	if (r >= 0)
		r = sd_bus_message_close_container(m);
	if (r >= 0)
		r = sd_bus_message_open_container(m, 'a', "{sv}");
	if (limit->direction)
		r = client_append_option(m, r, "Direction", "s", limit->direction);
	return r < 0 ? r : sd_bus_message_close_container(m);
}

static int limit_call(struct client *c, const char *vm, const char *id, const char *type,
		      sd_bus_message **ret)
{
	int r;

	if (strcmp(type, "disk") == 0)
		return device_call(c, vm, id, "Disk", "SetRateLimit", ret);
	if (strcmp(type, "net") == 0)
		return device_call(c, vm, id, "Net", "SetRateLimit", ret);
	if (type[0])
		return wrong_type(vm, id, type, "rate limit");
	/* No device: a group of disks. */
	r = client_vm_call(c, vm, "SetRateLimitGroup", ret);
	if (r != EXIT_OK)
		return r;
	r = sd_bus_message_append(*ret, "s", id);
	return r < 0 ? client_report(c, vm, r, NULL) : EXIT_OK;
}

int verb_set_rate_limit(struct client *c, const struct arguments *a)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
	const char *vm = a->positional[0], *id = a->positional[1];
	g_autofree char *type = NULL, *direction = NULL;
	struct limit limit = { 0 };
	int r;

	r = parse_limit(a->positional[2], &limit);
	direction = limit.direction;
	if (r == EXIT_OK)
		r = device_type(c, vm, id, &type);
	if (r != EXIT_OK)
		return r;
	if (direction && strcmp(type, "net") != 0) {
		client_complain("'%s' of '%s' is no network device and has no direction", id, vm);
		return EXIT_USAGE;
	}
	r = limit_call(c, vm, id, type, &m);
	if (r != EXIT_OK)
		return r;
	r = append_limit(m, &limit);
	return r < 0 ? client_report(c, vm, r, NULL) : client_call(c, vm, m, NULL);
}

/* --- disks ------------------------------------------------------------------------ */

static int disk_call(struct client *c, const char *vm, const char *id, const char *member,
		     sd_bus_message **ret)
{
	g_autofree char *type = NULL;
	int r = device_type(c, vm, id, &type);

	if (r != EXIT_OK)
		return r;
	if (!type[0])
		return no_such_device(vm, id, "device");
	if (strcmp(type, "disk") != 0)
		return wrong_type(vm, id, type, "image");
	return device_call(c, vm, id, "Disk", member, ret);
}

int verb_device_resize(struct client *c, const struct arguments *a)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
	const char *vm = a->positional[0], *id = a->positional[1];
	g_autofree char *what = NULL;
	uint64_t bytes;
	char buf[24];
	int r;

	if (!parse_count(a->positional[2], &bytes)) {
		client_complain("'%s' is not a size, must be like 20G", a->positional[2]);
		return EXIT_USAGE;
	}
	r = disk_call(c, vm, id, "Resize", &m);
	if (r != EXIT_OK)
		return r;
	r = sd_bus_message_append(m, "ta{sv}", bytes, 0);
	if (r < 0)
		return client_report(c, vm, r, NULL);
	what = g_strdup_printf("resizing %s to %s", id, format_size(bytes, buf));
	return job_run(c, vm, m, &(struct job_wish){ .what = what, .wait = !a->no_wait });
}

/* What a disk gets another image by: some of a disk's keys, or a descriptor in place of the path.
 */
struct medium {
	const char *path, *format;
	int fd; /* -1: path */
	gboolean backing_files;
};

static int check_medium_keys(GVariant *disk)
{
	GVariantIter iter;
	const char *key;

	g_variant_iter_init(&iter, disk);
	while (g_variant_iter_next(&iter, "{&sv}", &key, NULL)) {
		if (strcmp(key, "path") == 0 || strcmp(key, "image_type") == 0 ||
		    strcmp(key, "backing_files") == 0)
			continue;
		client_complain("%s: stays what it was when the disk was added, keys of another "
				"image are path or fd, image_type, backing_files",
				key);
		return EXIT_USAGE;
	}
	return EXIT_OK;
}

/* "fd=3,image_type=qcow2": *ret_rest is ",image_type=qcow2" */
static int parse_medium_fd(const struct client *c, const char *text, int *ret,
			   const char **ret_rest)
{
	g_autofree char *number = NULL;
	guint64 n;

	*ret = -1;
	*ret_rest = text;
	if (!g_str_has_prefix(text, "fd="))
		return EXIT_OK;
	text += strlen("fd=");
	*ret_rest = text + strcspn(text, ",");
	number = g_strndup(text, (size_t)(*ret_rest - text));
	if (!g_ascii_string_to_unsigned(number, 10, 0, INT_MAX, &n, NULL)) {
		client_complain("fd: '%s' is not the number of a descriptor", number);
		return EXIT_USAGE;
	}
	*ret = (int)n;
	return client_check_descriptor(c, *ret);
}

/* *ret refers to *ret_disk. */
static int parse_medium(const struct client *c, const char *text, struct medium *ret,
			GVariant **ret_disk)
{
	g_autofree char *dir = c->host ? NULL : g_get_current_dir(), *keys = NULL;
	struct err err = { 0 };
	const char *rest;
	int fd, r;

	r = parse_medium_fd(c, text, &fd, &rest);
	if (r != EXIT_OK)
		return r;
	/* A disk has a path; that of a descriptor is not looked at. */
	keys = fd < 0 ? g_strdup(text) : g_strconcat("path=/", rest, NULL);
	if (config_option_device("disk", keys, dir, ret_disk, &err) < 0) {
		client_complain("%s", err.msg);
		return EXIT_USAGE;
	}
	*ret = (struct medium){ .fd = fd };
	g_variant_lookup(*ret_disk, "path", "&s", &ret->path);
	g_variant_lookup(*ret_disk, "image_type", "&s", &ret->format);
	g_variant_lookup(*ret_disk, "backing_files", "b", &ret->backing_files);
	return check_medium_keys(*ret_disk);
}

int verb_device_replace(struct client *c, const struct arguments *a)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
	const char *vm = a->positional[0];
	g_autoptr(GVariant) disk = NULL;
	struct medium medium;
	int r;

	r = parse_medium(c, a->positional[2], &medium, &disk);
	if (r == EXIT_OK)
		r = disk_call(c, vm, a->positional[1], "Replace", &m);
	if (r != EXIT_OK)
		return r;
	r = sd_bus_message_open_container(m, 'a', "{sv}");
	if (medium.fd >= 0)
		r = client_append_option(m, r, "FD", "h", medium.fd);
	else
		r = client_append_option(m, r, "Path", "s", medium.path);
	if (medium.format)
		r = client_append_option(m, r, "Format", "s", medium.format);
	if (medium.backing_files)
		r = client_append_option(m, r, "BackingFiles", "b", 1);
	if (r >= 0)
		r = sd_bus_message_close_container(m);
	if (r >= 0)
		r = sd_bus_message_open_container(m, 'a', "{sv}");
	if (a->persist)
		r = client_append_option(m, r, "Persist", "b", 1);
	if (r >= 0)
		r = sd_bus_message_close_container(m);
	return r < 0 ? client_report(c, vm, r, NULL) : client_call(c, vm, m, NULL);
}

/* --- balloon ------------------------------------------------------------------------ */

int verb_balloon(struct client *c, const struct arguments *a)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
	const char *vm = a->positional[0];
	uint64_t bytes;
	int r;

	if (!parse_count(a->positional[1], &bytes)) {
		client_complain("'%s' is not a size, must be like 512M or 0", a->positional[1]);
		return EXIT_USAGE;
	}
	r = client_vm_call(c, vm, "SetBalloon", &m);
	if (r != EXIT_OK)
		return r;
	r = sd_bus_message_append(m, "ta{sv}", bytes, 0);
	return r < 0 ? client_report(c, vm, r, NULL) : client_call(c, vm, m, NULL);
}

/* --- vsock ---------------------------------------------------------------------------- */

/* One way: bytes read, not written yet. */
struct flow {
	int from, to;
	char buf[4096];
	size_t n;
	bool ended; /* nothing more to read */
	bool shut;  /* and the other end has been told */
};

static int fill(struct flow *f)
{
	ssize_t n = read(f->from, f->buf, sizeof(f->buf));

	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return 0;
	if (n < 0 && errno != ECONNRESET && errno != EIO)
		return -errno;
	f->ended = n <= 0;
	f->n = n > 0 ? (size_t)n : 0;
	return 0;
}

static int drain(struct flow *f)
{
	ssize_t n = write(f->to, f->buf, f->n);

	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return 0;
	if (n < 0)
		return -errno;
	memmove(f->buf, f->buf + n, f->n - (size_t)n);
	f->n -= (size_t)n;
	return 0;
}

static int bridge_once(struct flow *in, struct flow *out)
{
	struct pollfd fds[] = {
		{ .fd = in->ended || in->n ? -1 : in->from, .events = POLLIN },
		{ .fd = in->n ? in->to : -1, .events = POLLOUT },
		{ .fd = out->ended || out->n ? -1 : out->from, .events = POLLIN },
		{ .fd = out->n ? out->to : -1, .events = POLLOUT },
	};
	int r = poll(fds, ARRAY_SIZE(fds), -1);

	if (r < 0)
		return errno == EINTR ? 0 : -errno;
	if (fds[0].revents)
		r = fill(in);
	if (r >= 0 && fds[1].revents)
		r = drain(in);
	/* The guest has hung up: what comes from here goes nowhere, and the rest is shown. */
	if (r == -EPIPE || r == -ECONNRESET) {
		in->n = 0;
		in->ended = in->shut = true;
		r = 0;
	}
	if (r >= 0 && fds[2].revents)
		r = fill(out);
	if (r >= 0 && fds[3].revents)
		r = drain(out);
	return r;
}

/* Until the guest has closed; the end of our input is passed on. */
static int bridge(int fd)
{
	struct flow in = { .from = STDIN_FILENO, .to = fd };
	struct flow out = { .from = fd, .to = STDOUT_FILENO };
	int r = 0;

	while (r >= 0 && !(out.ended && out.n == 0)) {
		r = bridge_once(&in, &out);
		if (in.ended && in.n == 0 && !in.shut) {
			in.shut = true;
			shutdown(fd, SHUT_WR);
		}
	}
	return r;
}

static int parse_port(const char *text, uint32_t *ret)
{
	guint64 n;

	if (!g_ascii_string_to_unsigned(text, 10, 0, UINT32_MAX, &n, NULL)) {
		client_complain("'%s' is not a vsock port, must be a number", text);
		return EXIT_USAGE;
	}
	*ret = (uint32_t)n;
	return EXIT_OK;
}

int verb_vsock(struct client *c, const struct arguments *a)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL, *reply = NULL;
	const char *vm = a->positional[0];
	_cleanup_close_ int own = -EBADF;
	uint32_t port = 0;
	int fd = -1, r;

	r = parse_port(a->positional[1], &port);
	if (r == EXIT_OK && c->host) {
		client_complain("a connection cannot come through ssh's bus connection; "
				"use: ssh %s brumectl vsock %s %u",
				c->host, vm, port);
		r = EXIT_USAGE;
	}
	if (r == EXIT_OK)
		r = client_vm_call(c, vm, "ConnectVSock", &m);
	if (r != EXIT_OK)
		return r;
	r = sd_bus_message_append(m, "ua{sv}", port, 0);
	r = r < 0 ? client_report(c, vm, r, NULL) : client_call(c, vm, m, &reply);
	if (r != EXIT_OK)
		return r;
	r = sd_bus_message_read(reply, "h", &fd);
	if (r >= 0)
		own = fcntl(fd, F_DUPFD_CLOEXEC, 3); /* the message owns the original */
	if (r < 0 || own < 0)
		return client_report(c, vm, r < 0 ? r : -errno, NULL);
	/* A half-closed socket must not end us. */
	r = bridge(own);
	if (r >= 0)
		return EXIT_OK;
	client_complain("the connection to port %u of '%s' broke: %s", port, vm, strerror(-r));
	return EXIT_FAILED;
}
