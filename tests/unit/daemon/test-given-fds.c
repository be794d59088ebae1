/* SPDX-License-Identifier: Apache-2.0 */
/* CreateVM with descriptors: what is refused, and that a machine starts from them */
#include "daemon/machine.h"
#include "daemon/manager.h"
#include "dbus/bus-path.h"
#include "dbus/host-resources.h"
#include "tests/unit/daemon/fixture.h"
#include "vmm/base/cleanup.h"
#include "vmm/base/err.h"
#include "vmm/config/vm-config.h"
#include <fcntl.h>
#include <glib/gstdio.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define INVALID_ARGS "org.freedesktop.DBus.Error.InvalidArgs"
#define WAIT         "a{sv}", 1, "Wait", "b", 1

struct files {
	char *dir, *path;
	int rw, ro, wo, path_only, folder, device, append, sealed, proc, pipe[2];
};

static void files_make(struct files *x)
{
	x->dir = g_dir_make_tmp("brumed-XXXXXX", NULL);
	x->path = g_build_filename(x->dir, "file", NULL);
	g_assert_true(g_file_set_contents(x->path, "text", 4, NULL));
	x->rw = open(x->path, O_RDWR | O_CLOEXEC);
	x->ro = open(x->path, O_RDONLY | O_CLOEXEC);
	x->wo = open(x->path, O_WRONLY | O_CLOEXEC);
	x->path_only = open(x->path, O_PATH | O_CLOEXEC);
	x->folder = open(x->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	x->device = open("/dev/null", O_RDWR | O_CLOEXEC);
	x->append = open(x->path, O_RDWR | O_APPEND | O_CLOEXEC);
	x->sealed = memfd_create("sealed", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	g_assert_cmpint(fcntl(x->sealed, F_ADD_SEALS, F_SEAL_WRITE), ==, 0);
	x->proc = open("/proc/self/oom_score_adj", O_RDWR | O_CLOEXEC);
	g_assert_cmpint(pipe2(x->pipe, O_CLOEXEC), ==, 0);
}

static void files_remove(struct files *x)
{
	int fds[] = { x->rw,     x->ro,     x->wo,   x->path_only, x->folder, x->device,
		      x->append, x->sealed, x->proc, x->pipe[0],   x->pipe[1] };

	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		close(fds[i]);
	g_remove(x->path);
	g_remove(x->dir);
	g_free(x->path);
	g_free(x->dir);
}

#define REST(more) "{\"payload\":{\"kernel\":{\"fd\":\"k\"}}" more "}"
#define DISK(more) REST(",\"disks\":[{\"path\":{\"fd\":\"d\"}" more "}]")

static const struct {
	const char *title, *config;
	size_t k, d; /* offset of the descriptor in struct files, SIZE_MAX: not given */
	const char *error, *text;
} bad[] = {
#define FD(member) offsetof(struct files, member)
#define NO         SIZE_MAX
	{ "missing", REST(""), NO, NO, "InvalidConfig",
	  "/payload/kernel: there is no descriptor 'k', must be one that came with CreateVM" },
	{ "unused", "{\"payload\":{\"kernel\":\"/k\"}}", FD(ro), NO, INVALID_ARGS,
	  "descriptor 'k' is not used, the configuration must refer to it with {\"fd\": \"k\"}" },
	{ "twice", REST(",\"disks\":[{\"path\":{\"fd\":\"k\"}}]"), FD(rw), NO, "InvalidConfig",
	  "/disks/0/path: descriptor 'k' is /payload/kernel's already, must be another" },
	{ "o-path", REST(""), FD(path_only), NO, "InvalidConfig",
	  "/payload/kernel: descriptor 'k' was opened with O_PATH, must be open for reading" },
	{ "write-only", REST(""), FD(wo), NO, "InvalidConfig",
	  "/payload/kernel: descriptor 'k' is open for writing only, must be for reading" },
	{ "folder", REST(""), FD(folder), NO, "InvalidConfig",
	  "/payload/kernel: descriptor 'k' is a directory, must be a regular file" },
	{ "pipe", REST(""), FD(pipe[0]), NO, "InvalidConfig",
	  "/payload/kernel: descriptor 'k' is a FIFO, must be a regular file" },
	{ "device", REST(""), FD(device), NO, "InvalidConfig",
	  "/payload/kernel: descriptor 'k' is a character device, must be a regular file" },
	{ "disk-read-only", DISK(""), FD(ro), FD(ro), "InvalidConfig",
	  "/disks/0/path: descriptor 'd' is open for reading only, must be for reading and "
	  "writing" },
	{ "disk-device", DISK(""), FD(ro), FD(device), "InvalidConfig",
	  "/disks/0/path: descriptor 'd' is a character device, must be a regular file or block "
	  "device" },
	{ "disk-append", DISK(""), FD(ro), FD(append), "InvalidConfig",
	  "/disks/0/path: descriptor 'd' was opened with O_APPEND, must be writable at any place "
	  "or the disk read-only" },
	{ "disk-sealed", DISK(""), FD(ro), FD(sealed), "InvalidConfig",
	  "/disks/0/path: descriptor 'd' is sealed against writing, must be writable or the disk "
	  "read-only" },
	{ "disk-proc", DISK(""), FD(ro), FD(proc), "InvalidConfig",
	  "/disks/0/path: descriptor 'd' is a file of procfs, must be a regular file or block "
	  "device" },
	{ "output-read-only", REST(",\"serial\":{\"mode\":\"File\",\"file\":{\"fd\":\"d\"}}"),
	  FD(ro), FD(ro), "InvalidConfig",
	  "/serial/file: descriptor 'd' is open for reading only, must be for writing" },
	{ "tap-file", REST(",\"net\":[{\"tap\":{\"fd\":\"d\"}}]"), FD(ro), FD(rw), "InvalidConfig",
	  "/net/0/tap: descriptor 'd' is a regular file, must be a tap" },
	{ "not-a-resource", REST(",\"platform\":{\"uuid\":{\"fd\":\"d\"}}"), FD(ro), FD(ro),
	  "InvalidConfig", "/platform/uuid: must be a string, is an object" },
#undef FD
#undef NO
};

/* sd-bus waits for the other end to say that it takes descriptors: here, that is us. */
static struct fixture *fixture_ready(void)
{
	struct fixture *f = fixture_new();

	sd_bus_message_unref(
		fixture_call(f, BRUME_ROOT_PATH, BRUME_MANAGER_INTERFACE, "ListVMs", NULL));
	return f;
}

static int fd_at(const struct files *x, size_t offset)
{
	return *(const int *)(const void *)((const char *)x + offset);
}

static void test_bad(void)
{
	struct fixture *f = fixture_ready();
	struct files x;

	files_make(&x);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		unsigned int n_fds = fixture_count_fds();
		sd_bus_message *reply;

		g_test_message("%s", bad[i].title);
#define CREATE(...)                                                                                \
	fixture_call(f, BRUME_ROOT_PATH, BRUME_MANAGER_INTERFACE, "CreateVM", "ssa{sh}a{sv}", "n", \
		     bad[i].config, __VA_ARGS__, 1, "Persistent", "b", 0)
		if (bad[i].k == SIZE_MAX)
			reply = CREATE(0);
		else if (bad[i].d == SIZE_MAX)
			reply = CREATE(1, "k", fd_at(&x, bad[i].k));
		else
			reply = CREATE(2, "k", fd_at(&x, bad[i].k), "d", fd_at(&x, bad[i].d));
#undef CREATE
		g_assert_null(reply);
		fixture_assert_error(f, bad[i].error, bad[i].text);
		g_assert_null(manager_find(f->manager, "n"));
		g_assert_cmpuint(fixture_count_fds(), ==, n_fds);
	}
	files_remove(&x);
	fixture_free(f);
}

static void test_bad_set(void)
{
	struct fixture *f = fixture_ready();
	struct files x;

	files_make(&x);
#define CREATE(...)                                                                                \
	g_assert_null(fixture_call(f, BRUME_ROOT_PATH, BRUME_MANAGER_INTERFACE, "CreateVM",        \
				   "ssa{sh}a{sv}", "n", REST(""), __VA_ARGS__))
	CREATE(1, "k", x.ro, 0);
	fixture_assert_error(f, INVALID_ARGS, "descriptor 'k': a persistent VM cannot keep it");
	CREATE(2, "k", x.ro, "k", x.ro, 1, "Persistent", "b", 0);
	fixture_assert_error(f, INVALID_ARGS, "descriptor 'k' is given twice");
	CREATE(1, "a b", x.ro, 1, "Persistent", "b", 0);
	fixture_assert_error(f, INVALID_ARGS,
			     "name of a descriptor: 'a b' is not an id, must consist of");
	CREATE(17, "a", x.ro, "b", x.ro, "c", x.ro, "d", x.ro, "e", x.ro, "f", x.ro, "g", x.ro, "h",
	       x.ro, "i", x.ro, "j", x.ro, "k", x.ro, "l", x.ro, "m", x.ro, "n", x.ro, "o", x.ro,
	       "p", x.ro, "q", x.ro, 1, "Persistent", "b", 0);
	fixture_assert_error(f, INVALID_ARGS,
			     "descriptor 'q' is one too many, at most 16 are possible");
#undef CREATE
	files_remove(&x);
	fixture_free(f);
}

static char *get_config(struct fixture *f, const char *name, const char *which)
{
	_cleanup_free_ char *path = bus_path_vm(name);
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
	const char *config;

	reply = fixture_call(f, path, BRUME_VM_INTERFACE, "GetConfig", "s", which);
	g_assert_cmpstr(f->error.message, ==, NULL);
	g_assert_cmpint(sd_bus_message_read(reply, "s", &config), >, 0);
	return g_strdup(config);
}

/* It starts, its configuration shows the names, and its end closes everything. */
static void test_start(void)
{
	struct fixture *f = fixture_ready();
	unsigned int n_fds = fixture_count_fds();
	g_autofree char *next = NULL, *boot = NULL;
	struct files x;

	files_make(&x);
	sd_bus_message_unref(fixture_call(f, BRUME_ROOT_PATH, BRUME_MANAGER_INTERFACE, "CreateVM",
					  "ssa{sh}a{sv}", "n", DISK(",\"readonly\":true"), 2, "k",
					  x.ro, "d", x.rw, 1, "Persistent", "b", 0));
	g_assert_cmpstr(f->error.message, ==, NULL);
	next = get_config(f, "n", "next");
	g_assert_nonnull(strstr(next, "\"kernel\":{\"fd\":\"k\"}"));
	files_remove(&x); /* the daemon has its own */
	fixture_vm_ok(f, "n", "Start", WAIT);
	fixture_assert_property(f, "n", "State", "running");
	boot = get_config(f, "n", "boot");
	g_assert_cmpstr(boot, ==, next);
	fixture_vm_ok(f, "n", "Terminate", "a{sv}", 0);
	g_assert_null(manager_find(f->manager, "n"));
	for (int i = 0; i < 100 && fixture_count_fds() != n_fds; i++)
		g_usleep(10000);
	g_assert_cmpuint(fixture_count_fds(), ==, n_fds);
	fixture_free(f);
}

/* A running one lives on; nothing else can be made of its descriptors. */
static void test_restart(void)
{
	struct fixture *f = fixture_ready();
	struct files x;

	files_make(&x);
	for (int i = 0; i < 2; i++) {
		sd_bus_message_unref(fixture_call(f, BRUME_ROOT_PATH, BRUME_MANAGER_INTERFACE,
						  "CreateVM", "ssa{sh}a{sv}", i ? "waits" : "runs",
						  REST(""), 1, "k", x.ro, 1, "Persistent", "b", 0));
		g_assert_cmpstr(f->error.message, ==, NULL);
	}
	fixture_vm_ok(f, "runs", "Start", WAIT);
	fixture_stop_daemon(f);
	fixture_start_daemon(f);
	g_assert_null(manager_find(f->manager, "waits"));
	fixture_assert_property(f, "runs", "State", "running");
	fixture_vm_fails(f, "runs", "InvalidConfig",
			 "/payload/kernel: there is no descriptor 'k', must be one that came with "
			 "CreateVM",
			 "SetConfig", "sa{sv}", REST(""), 0);
	fixture_vm_ok(f, "runs", "Terminate", "a{sv}", 0);
	g_assert_null(manager_find(f->manager, "runs"));
	files_remove(&x);
	fixture_free(f);
}

/* The new configuration is about the same descriptors, or fewer of them. */
static void test_set_config(void)
{
	struct fixture *f = fixture_ready();
	struct files x;

	files_make(&x);
	sd_bus_message_unref(fixture_call(f, BRUME_ROOT_PATH, BRUME_MANAGER_INTERFACE, "CreateVM",
					  "ssa{sh}a{sv}", "n", DISK(""), 2, "k", x.ro, "d", x.rw, 1,
					  "Persistent", "b", 0));
	g_assert_cmpstr(f->error.message, ==, NULL);
	fixture_vm_ok(f, "n", "SetConfig", "sa{sv}", REST(""), 0);
	fixture_vm_fails(f, "n", "InvalidConfig", "/rng/src: there is no descriptor 'r'",
			 "SetConfig", "sa{sv}", REST(",\"rng\":{\"src\":{\"fd\":\"r\"}}"), 0);
	fixture_vm_fails(f, "n", "InvalidConfig",
			 "/serial/file: descriptor 'k' is /payload/kernel's already", "SetConfig",
			 "sa{sv}", REST(",\"serial\":{\"mode\":\"File\",\"file\":{\"fd\":\"k\"}}"),
			 0);
	fixture_vm_ok(f, "n", "Start", WAIT);
	fixture_create(f, "p", "", true);
	fixture_vm_fails(f, "p", "InvalidConfig", "/payload/kernel: there is no descriptor 'k'",
			 "SetConfig", "sa{sv}", REST(""), 0);
	files_remove(&x);
	fixture_free(f);
}

/* The caller opened them: nothing of the host is asked for. */
static void test_details(void)
{
	_cleanup_(vm_config_free_cleanup) struct vm_config *config = NULL;
	struct host_resource_details details;
	struct err err = { 0 };

	g_assert_cmpint(machine_parse_config(REST(",\"net\":[{\"tap\":{\"fd\":\"t\"}}]"), &config,
					     NULL, &err),
			==, 0);
	g_assert_false(host_resource_details(config, NULL, NULL, NULL, &details));
	g_assert_cmpstr(details.paths, ==, "");
	g_assert_cmpstr(details.interfaces, ==, "");
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/daemon/given-fds/bad", test_bad);
	g_test_add_func("/daemon/given-fds/bad-set", test_bad_set);
	g_test_add_func("/daemon/given-fds/start", test_start);
	g_test_add_func("/daemon/given-fds/restart", test_restart);
	g_test_add_func("/daemon/given-fds/set-config", test_set_config);
	g_test_add_func("/daemon/given-fds/details", test_details);
	return g_test_run();
}
