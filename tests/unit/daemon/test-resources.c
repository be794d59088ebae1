/* SPDX-License-Identifier: Apache-2.0 */
/* What a definition names, opened: links, and files that a failed start made */
#include "daemon/image-users.h"
#include "daemon/machine.h"
#include "daemon/resources.h"
#include "dbus/host-resources.h"
#include "tests/unit/daemon/fixture.h"
#include "vmm/base/cleanup.h"
#include "vmm/base/err.h"
#include "vmm/base/fd.h"
#include "vmm/config/vm-config.h"
#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define WAIT     "a{sv}", 1, "Wait", "b", 1
#define STRANGER 54321 /* a uid that is not ours */

static char *in_dir(const char *dir, const char *name)
{
	return g_build_filename(dir, name, NULL);
}

static int open_disk(const char *path, uid_t owner, struct err *err)
{
	_cleanup_(resource_set_deinit) struct resource_set set = { 0 };
	_cleanup_(vm_config_free_cleanup) struct vm_config *config = NULL;
	g_autofree char *text =
		g_strdup_printf("{\"payload\":{\"kernel\":\"%s\"},\"disks\":[{\"path\":\"%s\"}]}",
				"/proc/version", path);

	*err = (struct err){ 0 };
	g_assert_cmpint(machine_parse_config(text, &config, NULL, err), ==, 0);
	return resources_open(config, NULL, NULL, "/dev/null", owner, &set, err);
}

/* A link is the owner's to change after the file was authorised. */
static void test_symlink(void)
{
	g_autofree char *dir = g_dir_make_tmp("brumed-XXXXXX", NULL);
	g_autofree char *file = in_dir(dir, "disk"), *link = in_dir(dir, "link");
	g_autofree char *folder = in_dir(dir, "folder"), *through = in_dir(dir, "folder/disk");
	g_autofree char *sentence = g_strdup_printf(
		"'%s' goes through a symbolic link, which is not followed for a machine owned by "
		"user '%d'; give the real path",
		link, STRANGER);
	g_autofree char *zeros = g_strnfill(4096, '0');
	struct err err = { 0 };

	g_assert_true(g_file_set_contents(file, zeros, 4096, NULL));
	g_assert_cmpint(symlink(file, link), ==, 0);
	g_assert_cmpint(symlink(dir, folder), ==, 0);

	g_assert_cmpint(open_disk(link, STRANGER, &err), ==, -ELOOP);
	g_assert_cmpint(err.fault, ==, FAULT_HOST_RESOURCE);
	if (!strstr(err.msg, sentence))
		g_error("%s", err.msg);
	g_assert_cmpint(open_disk(through, STRANGER, &err), ==, -ELOOP);
	g_assert_cmpint(open_disk("/proc/self/fd/0", STRANGER, &err), ==, -ELOOP);
	g_remove(folder);
	g_remove(link);
	g_remove(file);
	g_remove(dir);
}

static void test_real_path(void)
{
	g_autofree char *dir = g_dir_make_tmp("brumed-XXXXXX", NULL);
	g_autofree char *file = in_dir(dir, "disk"), *link = in_dir(dir, "link");
	g_autofree char *zeros = g_strnfill(4096, '0');
	struct err err = { 0 };

	g_assert_true(g_file_set_contents(file, zeros, 4096, NULL));
	g_assert_cmpint(symlink(file, link), ==, 0);
	g_assert_cmpint(open_disk(file, STRANGER, &err), ==, 0);
	g_assert_cmpint(open_disk(link, 0, &err), ==, 0);
	g_assert_cmpint(open_disk(link, geteuid(), &err), ==, 0);
	g_remove(link);
	g_remove(file);
	g_remove(dir);
}

static int open_config(const char *disks, const struct image_users *users, struct resource_set *ret,
		       struct err *err)
{
	_cleanup_(vm_config_free_cleanup) struct vm_config *config = NULL;
	g_autofree char *text =
		g_strdup_printf("{\"payload\":{\"kernel\":\"/proc/version\"},\"disks\":[%s]}",
				disks);

	*err = (struct err){ 0 };
	if (machine_parse_config(text, &config, NULL, err) < 0)
		g_error("%s", err->msg);
	return resources_open(config, NULL, users, "/dev/null", geteuid(), ret, err);
}

/* What somebody else may still lock while the image is ours. */
static void test_lock_granularity(void)
{
	static const struct {
		const char *more;
		short type;
		off_t start;
		bool free;
	} cases[] = {
		{ "", F_RDLCK, 0, false },
		{ "", F_WRLCK, 4095, false },
		{ "", F_WRLCK, 4096, true },
		{ ",\"lock_granularity\":\"Full\"", F_WRLCK, 4096, false },
		{ ",\"lock_granularity\":\"Full\"", F_RDLCK, 1 << 30, false },
		{ ",\"readonly\":true", F_RDLCK, 0, true },
		{ ",\"readonly\":true", F_WRLCK, 0, false },
		{ ",\"readonly\":true", F_WRLCK, 4096, true },
		{ ",\"readonly\":true,\"lock_granularity\":\"Full\"", F_WRLCK, 4096, false },
		{ ",\"readonly\":true,\"lock_granularity\":\"Full\"", F_RDLCK, 4096, true },
	};
	g_autofree char *dir = g_dir_make_tmp("brumed-XXXXXX", NULL);
	g_autofree char *file = in_dir(dir, "disk");
	g_autofree char *zeros = g_strnfill(4096, '0');

	g_assert_true(g_file_set_contents(file, zeros, 4096, NULL));
	for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
		_cleanup_(resource_set_deinit) struct resource_set set = { 0 };
		g_autofree char *disk = g_strdup_printf("{\"path\":\"%s\"%s}", file, cases[i].more);
		struct flock lock = { .l_type = cases[i].type,
				      .l_whence = SEEK_SET,
				      .l_start = cases[i].start,
				      .l_len = 1 };
		struct err err = { 0 };
		int fd = open(file, O_RDWR | O_CLOEXEC);

		g_test_message("case %zu", i);
		if (open_config(disk, NULL, &set, &err) < 0)
			g_error("%s", err.msg);
		g_assert_cmpint(fcntl(fd, F_OFD_SETLK, &lock), ==, cases[i].free ? 0 : -1);
		close(fd);
	}
	g_remove(file);
	g_remove(dir);
}

/* The sentence names who has the image, when it is a machine of ours. */
static void test_in_use(void)
{
	g_autofree char *dir = g_dir_make_tmp("brumed-XXXXXX", NULL);
	g_autofree char *file = in_dir(dir, "disk"), *link = in_dir(dir, "link");
	g_autofree char *zeros = g_strnfill(4096, '0');
	g_autofree char *disk = g_strdup_printf("{\"path\":\"%s\"}", file);
	g_autofree char *reads = g_strdup_printf("{\"path\":\"%s\",\"readonly\":true}", file);
	g_autofree char *both = g_strdup_printf("%s,%s", reads, reads);
	g_autofree char *text =
		g_strdup_printf("disk '_disk0' (/disks/0/path): image '%s' is in use by VM 'web1'",
				file);
	g_autofree char *read_text = g_strdup_printf("%s, which writes to it", text);
	g_autofree char *nobody = g_strdup_printf(
		"disk '_disk0' (/disks/0/path): image '%s' is in use by another process", file);
	struct image_user items[] = { { (char *)"web0", (char *)"/nonexistent", -EBADF },
				      { (char *)"web1", link, -EBADF } };
	const struct image_users users = { items, 2 };
	_cleanup_(resource_set_deinit) struct resource_set first = { 0 };
	struct resource_set second = { 0 };
	struct err err = { 0 };

	g_assert_true(g_file_set_contents(file, zeros, 4096, NULL));
	g_assert_cmpint(symlink(file, link), ==, 0);
	if (open_config(disk, NULL, &first, &err) < 0)
		g_error("%s", err.msg);
	g_assert_cmpint(open_config(disk, &users, &second, &err), ==, -EBUSY);
	g_assert_cmpstr(err.msg, ==, text);
	g_assert_cmpint(err.fault, ==, FAULT_HOST_RESOURCE);
	g_assert_cmpint(open_config(reads, &users, &second, &err), ==, -EBUSY);
	g_assert_cmpstr(err.msg, ==, read_text);
	items[1].path = NULL;
	items[1].fd = open(file, O_RDONLY | O_CLOEXEC);
	g_assert_cmpint(open_config(disk, &users, &second, &err), ==, -EBUSY);
	g_assert_cmpstr(err.msg, ==, text);
	close(items[1].fd);
	items[1].fd = -EBADF;
	g_assert_cmpint(open_config(disk, &users, &second, &err), ==, -EBUSY);
	g_assert_cmpstr(err.msg, ==, nobody);
	resource_set_deinit(&first);
	/* Readers do not mind each other, also in one machine. */
	if (open_config(reads, &users, &first, &err) < 0 ||
	    open_config(both, &users, &second, &err) < 0)
		g_error("%s", err.msg);
	resource_set_deinit(&second);
	g_remove(link);
	g_remove(file);
	g_remove(dir);
}

/* `sparse` off sets the image's storage aside; what is in it stays. */
static void test_not_sparse(void)
{
	g_autofree char *dir = g_dir_make_tmp("brumed-XXXXXX", NULL);
	g_autofree char *file = in_dir(dir, "disk"), *contents = NULL;
	g_autofree char *sparse = g_strdup_printf("{\"path\":\"%s\"}", file);
	g_autofree char *full = g_strdup_printf("{\"path\":\"%s\",\"sparse\":false}", file);
	g_autofree char *reads =
		g_strdup_printf("{\"path\":\"%s\",\"sparse\":false,\"readonly\":true}", file);
	const char *const all[] = { sparse, reads, full };
	const blkcnt_t wanted = (1 << 20) / 512;

	g_assert_true(g_file_set_contents(file, "abc", 3, NULL));
	g_assert_cmpint(truncate(file, 1 << 20), ==, 0);
	for (size_t i = 0; i < G_N_ELEMENTS(all); i++) {
		_cleanup_(resource_set_deinit) struct resource_set set = { 0 };
		struct err err = { 0 };
		struct stat st = { 0 };

		if (open_config(all[i], NULL, &set, &err) < 0)
			g_error("%s", err.msg);
		g_assert_cmpint(stat(file, &st), ==, 0);
		g_assert_cmpint(st.st_size, ==, 1 << 20);
		if (all[i] == full)
			g_assert_cmpint(st.st_blocks, >=, wanted);
		else
			g_assert_cmpint(st.st_blocks, <, wanted);
	}
	g_assert_true(g_file_get_contents(file, &contents, NULL, NULL));
	g_assert_cmpstr(contents, ==, "abc");
	g_remove(file);
	g_remove(dir);
}

/* More than the file system has is refused before it is full. */
static void test_no_room(void)
{
	_cleanup_(resource_set_deinit) struct resource_set set = { 0 };
	g_autofree char *dir = g_dir_make_tmp("brumed-XXXXXX", NULL);
	g_autofree char *file = in_dir(dir, "disk"), *text = NULL;
	struct err err = { 0 };
	struct statvfs fs;
	struct stat st;

	g_assert_true(g_file_set_contents(file, "abc", 3, NULL));
	g_assert_cmpint(statvfs(file, &fs), ==, 0);
	if (truncate(file, (off_t)((fs.f_blocks + 1) * fs.f_frsize)) < 0) {
		g_test_skip("no file can be larger than this file system");
	} else {
		text = g_strdup_printf("{\"path\":\"%s\",\"sparse\":false}", file);
		g_assert_cmpint(open_config(text, NULL, &set, &err), <, 0);
		g_assert_nonnull(strstr(err.msg, "aside for image"));
		g_assert_nonnull(strstr(err.msg, g_strerror(ENOSPC)));
		g_assert_cmpint(stat(file, &st), ==, 0);
		g_assert_cmpint(st.st_blocks, <, 1024);
	}
	g_remove(file);
	g_remove(dir);
}

static bool has_fd(const struct resource_set *set, const char *pointer, const char *path)
{
	struct stat st, file;

	g_assert_cmpint(stat(path, &file), ==, 0);
	for (size_t i = 0; i < set->n_fds; i++)
		if (strcmp(set->fds[i].pointer, pointer) == 0)
			return fstat(set->fds[i].fd, &st) == 0 && st.st_ino == file.st_ino;
	return false;
}

/* Storage is for one purpose at a time: what else would write to it is refused, by its pointer. */
static void test_one_purpose(void)
{
	static const struct {
		const char *config; /* %s: the file */
		const char *text;   /* the same; NULL: all is well */
	} cases[] = {
		{ "'memory':{'size':0,'zones':[{'id':'a','size':33554432,'file':'%s','shared':true}]},"
		  "'disks':[{'path':'%s'}]",
		  "is the file of memory zone 'a' of this VM already" },
		{ "'memory':{'size':0,'zones':[{'id':'a','size':33554432,'file':'%s','shared':true},"
		  "{'id':'b','size':33554432,'file':'%s','shared':true}]}",
		  "/memory/zones/1/file: '%s' is the file of memory zone 'a' of this VM already" },
		{ "'memory':{'size':0,'zones':[{'id':'a','size':33554432,'file':'%s'},"
		  "{'id':'b','size':33554432,'file':'%s'}]}",
		  NULL },
		{ "'cpus':{'max_phys_bits':52},'memory':{'size':0,'zones':[{'id':'a',"
		  "'size':1125899906842624,'file':'%s','shared':true}]}",
		  "/memory/zones/0/file: file '%s' is on a file system without room for the "
		  "1073741824 MiB of the zone" },
		{ "'serial':{'mode':'File','file':'%s'},'disks':[{'path':'%s'}]",
		  "of this VM already" },
		{ "'serial':{'mode':'File','file':'%s'},'console':{'mode':'File','file':'%s'}",
		  NULL },
		{ "'rng':{'src':'/proc/version'},'disks':[{'path':'%s'}]",
		  "/rng/src: '/proc/version' is a file of procfs, must be a regular file" },
	};
	g_autofree char *dir = g_dir_make_tmp("brumed-XXXXXX", NULL);
	g_autofree char *file = in_dir(dir, "file"), *zeros = g_strnfill(4096, '0');
	struct image_user items[] = { { (char *)"web1", file, -EBADF } };
	const struct image_users users = { items, 1 };

	g_assert_true(g_file_set_contents(file, zeros, 4096, NULL));
	for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
		_cleanup_(vm_config_free_cleanup) struct vm_config *config = NULL;
		_cleanup_(resource_set_deinit) struct resource_set set = { 0 };
		g_autofree char *all = g_strdup_printf("{'payload':{'kernel':'/proc/self/exe'},%s}",
						       cases[i].config);
		g_auto(GStrv) of_file = g_strsplit(all, "%s", -1);
		g_autofree char *quoted = g_strjoinv(file, of_file);
		g_autofree char *text = g_strdelimit(g_strdup(quoted), "'", '"');
		struct err err = { 0 };
		int r;

		g_test_message("%s", text);
		if (machine_parse_config(text, &config, NULL, &err) < 0)
			g_error("%s", err.msg);
		r = resources_open(config, NULL, NULL, "/dev/null", geteuid(), &set, &err);
		if (cases[i].text) {
			g_auto(GStrv) parts = g_strsplit(cases[i].text, "%s", -1);
			g_autofree char *wanted = g_strjoinv(file, parts);

			g_assert_cmpint(r, <, 0);
			if (!strstr(err.msg, wanted))
				g_error("%s\ninstead of: %s", err.msg, wanted);
		} else if (r < 0) {
			g_error("%s", err.msg);
		}
	}
	/* Another machine's disk as a log, and as memory. */
	for (unsigned int i = 0; i < 2; i++) {
		_cleanup_(vm_config_free_cleanup) struct vm_config *config = NULL;
		_cleanup_(resource_set_deinit) struct resource_set set = { 0 }, first = { 0 };
		g_autofree char *disk = g_strdup_printf("{\"path\":\"%s\"}", file);
		g_autofree char *text = g_strdup_printf(
			i ? "{\"payload\":{\"kernel\":\"/proc/self/exe\"},\"serial\":{\"mode\":\"File\","
			    "\"file\":\"%s\"}}"
			  : "{\"payload\":{\"kernel\":\"/proc/self/exe\"},\"memory\":{\"size\":0,"
			    "\"zones\":[{\"id\":\"a\",\"size\":33554432,\"file\":\"%s\","
			    "\"shared\":true}]}}",
			file);
		struct err err = { 0 };

		if (open_config(disk, NULL, &first, &err) < 0 ||
		    machine_parse_config(text, &config, NULL, &err) < 0)
			g_error("%s", err.msg);
		g_assert_cmpint(resources_open(config, NULL, &users, "/dev/null", geteuid(), &set,
					       &err),
				==, -EBUSY);
		g_assert_nonnull(strstr(err.msg, "is in use by VM 'web1'"));
	}
	g_remove(file);
	g_remove(dir);
}

static void *close_later(void *data)
{
	g_usleep(200 * 1000);
	close(*(int *)data);
	return NULL;
}

/* Somebody who has it for a moment more, as the kernel has the files of a process that ended. */
static void test_free_soon(void)
{
	_cleanup_(resource_set_deinit) struct resource_set set = { 0 };
	g_autofree char *dir = g_dir_make_tmp("brumed-XXXXXX", NULL);
	g_autofree char *file = in_dir(dir, "disk"), *zeros = g_strnfill(4096, '0');
	g_autofree char *disk = g_strdup_printf("{\"path\":\"%s\"}", file);
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	struct err err = { 0 };
	GThread *thread;
	int fd;

	g_assert_true(g_file_set_contents(file, zeros, 4096, NULL));
	fd = open(file, O_RDWR | O_CLOEXEC);
	g_assert_cmpint(fcntl(fd, F_OFD_SETLK, &lock), ==, 0);
	thread = g_thread_new("close", close_later, &fd);
	if (open_config(disk, NULL, &set, &err) < 0)
		g_error("%s", err.msg);
	g_thread_join(thread);
	g_remove(file);
	g_remove(dir);
}

static int open_pmem(const char *pmem, struct resource_set *ret, struct err *err)
{
	_cleanup_(vm_config_free_cleanup) struct vm_config *config = NULL;
	g_autofree char *text =
		g_strdup_printf("{\"payload\":{\"kernel\":\"/proc/version\"},\"pmem\":[%s]}", pmem);

	*err = (struct err){ 0 };
	if (machine_parse_config(text, &config, NULL, err) < 0)
		g_error("%s", err->msg);
	return resources_open(config, NULL, NULL, "/dev/null", geteuid(), ret, err);
}

/* A file, which nobody else may have meanwhile, or one without a name in a directory. */
static void test_pmem(void)
{
	g_autofree char *dir = g_dir_make_tmp("brumed-XXXXXX", NULL);
	g_autofree char *file = in_dir(dir, "pmem");
	g_autofree char *plain = g_strdup_printf("{\"file\":\"%s\"}", file);
	g_autofree char *reads = g_strdup_printf("{\"file\":\"%s\",\"discard_writes\":true}", file);
	g_autofree char *nameless = g_strdup_printf("{\"file\":\"%s\",\"size\":4194304}", dir);
	g_autofree char *no_size = g_strdup_printf("{\"file\":\"%s\"}", dir);
	g_autofree char *in_use =
		g_strdup_printf("/pmem/0/file: file '%s' is in use by another process", file);
	g_autofree char *needs_size = g_strdup_printf(
		"/pmem/0/file: '%s' is a directory, which needs a size, must be a file or have one",
		dir);
	g_autofree char *as_disk = NULL, *already = NULL;
	struct resource_set set = { 0 }, second = { 0 };
	struct err err = { 0 };
	struct stat st;

	g_assert_true(g_file_set_contents(file, "", 0, NULL));
	g_assert_cmpint(truncate(file, 4 << 20), ==, 0);
	as_disk = g_strdup_printf("{\"file\":\"%s\"}],\"disks\":[{\"path\":\"%s\"}", file, file);
	already = g_strdup_printf(
		"/pmem/0/file: '%s' is the image of disk '_disk0' of this VM already", file);
	g_assert_cmpint(open_pmem(as_disk, &set, &err), ==, -EBUSY);
	g_assert_cmpstr(err.msg, ==, already);
	if (open_pmem(plain, &set, &err) < 0)
		g_error("%s", err.msg);
	g_assert_true(has_fd(&set, "/pmem/0/file", file));
	g_assert_cmpint(open_pmem(reads, &second, &err), ==, -EBUSY);
	g_assert_cmpstr(err.msg, ==, in_use);
	resource_set_deinit(&set);

	if (open_pmem(reads, &set, &err) < 0)
		g_error("%s", err.msg);
	g_assert_cmpint(fcntl(set.fds[set.n_fds - 1].fd, F_GETFL) & O_ACCMODE, ==, O_RDONLY);
	resource_set_deinit(&set);

	if (open_pmem(nameless, &set, &err) < 0)
		g_error("%s", err.msg);
	g_assert_cmpint(fstat(set.fds[set.n_fds - 1].fd, &st), ==, 0);
	g_assert_cmpint(st.st_size, ==, 4 << 20);
	g_assert_cmpuint(st.st_nlink, ==, 0);
	resource_set_deinit(&set);
	g_assert_cmpint(open_pmem(no_size, &set, &err), ==, -EISDIR);
	g_assert_cmpstr(err.msg, ==, needs_size);
	g_remove(file);
	g_assert_cmpint(g_remove(dir), ==, 0);
}

static void put_be(uint8_t *at, unsigned int n, uint64_t value)
{
	for (unsigned int i = 0; i < n; i++)
		at[i] = (uint8_t)(value >> (8 * (n - 1 - i)));
}

/* The head of a qcow2 image (version 3); format and backing NULL: none. */
static void make_qcow2(const char *path, const char *backing, const char *format)
{
	g_autofree char *image = g_malloc0(0x40000);
	uint8_t *head = (uint8_t *)image;
	size_t at = 104;

	memcpy(head, "QFI\xfb", 4);
	put_be(head + 4, 4, 3);
	put_be(head + 20, 4, 16);      /* cluster_bits */
	put_be(head + 24, 8, 1 << 20); /* size */
	put_be(head + 36, 4, 1);       /* L1 entries */
	put_be(head + 40, 8, 0x30000); /* L1 table */
	put_be(head + 48, 8, 0x10000); /* refcount table */
	put_be(head + 56, 4, 1);       /* its clusters */
	put_be(head + 96, 4, 4);       /* refcount_order */
	put_be(head + 100, 4, 104);    /* header_length */
	if (format) {
		put_be(head + at, 4, 0xe2792aca);
		put_be(head + at + 4, 4, strlen(format));
		memcpy(head + at + 8, format, strlen(format));
		at += 8 + ((strlen(format) + 7) & ~7UL);
	}
	at += 8; /* end of extensions */
	if (backing) {
		put_be(head + 8, 8, at);
		put_be(head + 16, 4, strlen(backing));
		memcpy(head + at, backing, strlen(backing));
	}
	g_assert_true(g_file_set_contents(path, image, 0x40000, NULL));
}

static void test_backing_chain(void)
{
	g_autofree char *dir = g_dir_make_tmp("brumed-XXXXXX", NULL);
	g_autofree char *top = in_dir(dir, "top"), *middle = in_dir(dir, "middle");
	g_autofree char *base = in_dir(dir, "base");
	g_autofree char *disk =
		g_strdup_printf("{\"path\":\"%s\",\"image_type\":\"Qcow2\",\"backing_files\":true}",
				top);
	g_autofree char *two =
		g_strdup_printf("{\"path\":\"%s\",\"readonly\":true},%s", base, disk);
	g_autofree char *writes = g_strdup_printf("{\"path\":\"%s\"},%s", base, disk);
	g_autofree char *sentence =
		g_strdup_printf("'%s' is the image of disk '_disk0' of this VM already", base);
	g_autofree char *zeros = g_strnfill(4096, '0');
	struct resource_set set = { 0 };
	struct err err = { 0 };

	make_qcow2(top, "middle", "qcow2");
	make_qcow2(middle, base, "raw");
	g_assert_true(g_file_set_contents(base, zeros, 4096, NULL));
	if (open_config(disk, NULL, &set, &err) < 0)
		g_error("%s", err.msg);
	g_assert_true(has_fd(&set, "/disks/0/path", top));
	g_assert_true(has_fd(&set, "/disks/0/path/backing/1/qcow2", middle));
	g_assert_true(has_fd(&set, "/disks/0/path/backing/2/raw", base));
	g_assert_cmpint(fcntl(set.fds[set.n_fds - 1].fd, F_GETFL) & O_ACCMODE, ==, O_RDONLY);
	resource_set_deinit(&set);
	/* What is only read may be a disk of its own, what is written to not. */
	if (open_config(two, NULL, &set, &err) < 0)
		g_error("%s", err.msg);
	resource_set_deinit(&set);
	g_assert_cmpint(open_config(writes, NULL, &set, &err), ==, -EBUSY);
	if (!strstr(err.msg, sentence))
		g_error("%s", err.msg);
	g_remove(top);
	g_remove(middle);
	g_remove(base);
	g_remove(dir);
}

static const struct {
	const char *title, *backing, *format, *more;
	const char *text; /* %s: the image, or its folder */
	int r;
} backing_cases[] = {
	{ "not-allowed", "base", "raw", "",
	  "image '%s/top' has the backing file 'base', which backing_files does not allow",
	  -EPERM },
	{ "no-format", "base", NULL, ",\"backing_files\":true",
	  "'%s/top' does not say which format its backing file 'base' has", -EINVAL },
	{ "other-format", "base", "vmdk", ",\"backing_files\":true",
	  "the backing file 'base' of '%s/top' is a vmdk image, must be raw or qcow2",
	  -EOPNOTSUPP },
	{ "protocol", "nbd:localhost:1", "raw", ",\"backing_files\":true",
	  "the backing file 'nbd:localhost:1' of '%s/top' is no file but a protocol", -EOPNOTSUPP },
	{ "json", "json:{\"file.filename\":\"/etc/passwd\"}", "raw", ",\"backing_files\":true",
	  "of '%s/top' is no file but a protocol", -EOPNOTSUPP },
	{ "missing", "nonesuch", "raw", ",\"backing_files\":true",
	  "backing file of '%s/top': cannot open '", -ENOENT },
	{ "itself", "top", "qcow2", ",\"backing_files\":true",
	  "'%s/top' is a backing file of itself", -ELOOP },
	{ "directory", ".", "raw", ",\"backing_files\":true",
	  "backing file of '%s/top': ", -EISDIR },
};

static void test_backing_refused(gconstpointer data)
{
	size_t i = GPOINTER_TO_SIZE(data);
	g_autofree char *dir = g_dir_make_tmp("brumed-XXXXXX", NULL);
	g_autofree char *top = in_dir(dir, "top");
	g_autofree char *disk = g_strdup_printf("{\"path\":\"%s\",\"image_type\":\"Qcow2\"%s}", top,
						backing_cases[i].more);
	g_auto(GStrv) halves = g_strsplit(backing_cases[i].text, "%s", 2);
	g_autofree char *text = g_strjoinv(dir, halves);
	struct resource_set set = { 0 };
	struct err err = { 0 };

	make_qcow2(top, backing_cases[i].backing, backing_cases[i].format);
	g_assert_cmpint(open_config(disk, NULL, &set, &err), ==, backing_cases[i].r);
	if (!strstr(err.msg, text))
		g_error("%s", err.msg);
	g_remove(top);
	g_remove(dir);
}

/* What the kernel makes up is no image: a worker never gets a descriptor of the daemon's memory. */
static void test_no_storage(void)
{
	static const char *const paths[] = { "/proc/self/mem", "/proc/kcore",
					     "/sys/kernel/uevent_helper" };

	for (size_t i = 0; i < G_N_ELEMENTS(paths); i++) {
		g_autofree char *disk = g_strdup_printf("{\"path\":\"%s\"}", paths[i]);
		struct resource_set set = { 0 };
		struct err err = { 0 };

		if (access(paths[i], R_OK | W_OK) < 0)
			continue; /* not of every kernel */
		g_assert_cmpint(open_config(disk, NULL, &set, &err), <, 0);
		if (!strstr(err.msg, "must be a regular file or block device"))
			g_error("%s", err.msg);
		g_assert_cmpuint(set.n_fds, ==, 0);
	}
}

/* A file that everybody may read, in a folder that is closed to the machine's owner. */
static void test_backing_behind_closed_folder(void)
{
	const uid_t nobody = 65534;
	g_autofree char *dir = g_dir_make_tmp("brumed-XXXXXX", NULL);
	g_autofree char *closed = in_dir(dir, "closed"), *secret = in_dir(closed, "secret");
	g_autofree char *top = in_dir(dir, "top");
	g_autofree char *json = g_strdup_printf(
		"{\"payload\":{\"kernel\":\"/proc/version\"},\"disks\":[{\"path\":\"%s\","
		"\"image_type\":\"Qcow2\",\"backing_files\":true}]}",
		top);
	_cleanup_(vm_config_free_cleanup) struct vm_config *config = NULL;
	struct resource_set set = { 0 };
	struct err err = { 0 };

	if (geteuid() != 0) {
		g_test_skip("needs root, who may read everything");
		return;
	}
	g_assert_cmpint(chmod(dir, 0755), ==, 0);
	g_assert_cmpint(g_mkdir(closed, 0700), ==, 0);
	g_assert_true(g_file_set_contents(secret, "secret", -1, NULL));
	g_assert_cmpint(chmod(secret, 0644), ==, 0);
	make_qcow2(top, secret, "raw");
	g_assert_cmpint(chown(top, nobody, nobody), ==, 0);
	g_assert_cmpint(machine_parse_config(json, &config, NULL, &err), ==, 0);
	g_assert_cmpint(resources_open(config, NULL, NULL, "/dev/null", nobody, &set, &err), <, 0);
	if (!strstr(err.msg, "the machine's owner may not read"))
		g_error("%s", err.msg);
	err = (struct err){ 0 };
	g_assert_cmpint(chmod(closed, 0711), ==, 0);
	if (resources_open(config, NULL, NULL, "/dev/null", nobody, &set, &err) < 0)
		g_error("%s", err.msg);
	resource_set_deinit(&set);
	g_remove(secret);
	g_remove(closed);
	g_remove(top);
	g_remove(dir);
}

static void test_backing_too_deep(void)
{
	g_autofree char *dir = g_dir_make_tmp("brumed-XXXXXX", NULL);
	struct resource_set set = { 0 };
	struct err err = { 0 };
	g_autofree char *first = in_dir(dir, "0");
	g_autofree char *disk =
		g_strdup_printf("{\"path\":\"%s\",\"image_type\":\"Qcow2\",\"backing_files\":true}",
				first);

	for (int i = 0; i <= VM_DISK_FILES_MAX; i++) {
		g_autofree char *name = g_strdup_printf("%d", i);
		g_autofree char *next = g_strdup_printf("%d", i + 1);
		g_autofree char *path = in_dir(dir, name);

		make_qcow2(path, i < VM_DISK_FILES_MAX ? next : NULL, "qcow2");
	}
	g_assert_cmpint(open_config(disk, NULL, &set, &err), ==, -E2BIG);
	g_assert_nonnull(strstr(err.msg, "a chain must have at most 8 files"));
	for (int i = 0; i <= VM_DISK_FILES_MAX; i++) {
		g_autofree char *name = g_strdup_printf("%d", i);
		g_autofree char *path = in_dir(dir, name);

		/* Without the last one it is as long as it may be. */
		if (i == VM_DISK_FILES_MAX - 1) {
			make_qcow2(path, NULL, NULL);
			if (open_config(disk, NULL, &set, &err) < 0)
				g_error("%s", err.msg);
			g_assert_cmpuint(set.n_fds, >=, VM_DISK_FILES_MAX);
			resource_set_deinit(&set);
			break;
		}
	}
	for (int i = 0; i <= VM_DISK_FILES_MAX; i++) {
		g_autofree char *name = g_strdup_printf("%d", i);
		g_autofree char *path = in_dir(dir, name);

		g_remove(path);
	}
	g_remove(dir);
}

static const struct {
	const char *title, *words;
	bool made; /* the file was there before */
} outputs[] = {
	{ "new", "fake-start-fails", false },
	{ "there-before", "fake-start-fails", true },
	{ "start-works", "", false },
};

static void test_output(gconstpointer data)
{
	size_t i = GPOINTER_TO_SIZE(data);
	struct fixture *f = fixture_new();
	g_autofree char *file = in_dir(f->dir, "serial.log");
	g_autofree char *more =
		g_strdup_printf("\"serial\":{\"mode\":\"File\",\"file\":\"%s\"}", file);
	g_autofree char *config = fixture_config(f, outputs[i].words, more);
	bool fails = outputs[i].words[0];

	if (outputs[i].made)
		g_assert_true(g_file_set_contents(file, "", 0, NULL));
	fixture_create(f, "o", "", true);
	fixture_vm_ok(f, "o", "SetConfig", "sa{sv}", config, 0);
	if (!fails) {
		fixture_vm_ok(f, "o", "Start", WAIT);
		g_assert_cmpint(access(file, F_OK), ==, 0);
	} else {
		fixture_vm_fails(f, "o", "ResourceUnavailable", "no memory for the fake's guest",
				 "Start", WAIT);
		/* On a helper thread, which nobody waits for. */
		for (int n = 0; n < 500 && !outputs[i].made && access(file, F_OK) == 0; n++)
			g_usleep(10000);
		g_assert_cmpint(access(file, F_OK), ==, outputs[i].made ? 0 : -1);
	}
	fixture_free(f);
}

/* Made, and then another resource of the same start is missing. */
static void test_output_half(gconstpointer owner)
{
	g_autofree char *dir = g_dir_make_tmp("brumed-XXXXXX", NULL);
	g_autofree char *file = in_dir(dir, "serial.log");
	_cleanup_(resource_set_deinit) struct resource_set set = { 0 };
	_cleanup_(vm_config_free_cleanup) struct vm_config *config = NULL;
	g_autofree char *text =
		g_strdup_printf("{\"payload\":{\"kernel\":\"/proc/version\"},"
				"\"serial\":{\"mode\":\"File\",\"file\":\"%s\"},"
				"\"console\":{\"mode\":\"File\",\"file\":\"/nonexistent/x\"}}",
				file);
	struct err err = { 0 };

	g_assert_cmpint(machine_parse_config(text, &config, NULL, &err), ==, 0);
	g_assert_cmpint(resources_open(config, NULL, NULL, "/dev/null", GPOINTER_TO_UINT(owner),
				       &set, &err),
			==, -ENOENT);
	g_assert_cmpint(access(file, F_OK), ==, -1);
	g_assert_cmpint(g_remove(dir), ==, 0);
}

/* Somebody has written to it, or put another file in its place: not ours to remove. */
static void test_output_used(void)
{
	g_autofree char *dir = g_dir_make_tmp("brumed-XXXXXX", NULL);
	g_autofree char *used = in_dir(dir, "used"), *other = in_dir(dir, "other");
	struct created_file items[2] = { { .path = used }, { .path = other } };
	struct created_files created = { .items = items, .n = 2 };
	struct stat st;

	g_assert_true(g_file_set_contents(used, "x", 1, NULL));
	g_assert_true(g_file_set_contents(other, "", 0, NULL));
	g_assert_cmpint(stat(used, &st), ==, 0);
	items[0].dev = items[1].dev = st.st_dev;
	items[0].ino = items[1].ino = st.st_ino;
	created_files_remove(&created);
	g_assert_cmpint(g_remove(used), ==, 0);
	g_assert_cmpint(g_remove(other), ==, 0);
	g_remove(dir);
}

static const char *detail(const struct host_resource_details *details, const char *key)
{
	for (size_t i = 0; details->list[i]; i += 2)
		if (g_str_equal(details->list[i], key))
			return details->list[i + 1];
	return NULL;
}

/* What a rule of polkit sees: everything that is the host's, and each on its own line. */
static void test_details(void)
{
	_cleanup_(vm_config_free_cleanup) struct vm_config *config = NULL;
	struct host_resource_details details;
	g_autoptr(GVariant) properties = g_variant_ref_sink(g_variant_new_parsed(
		"@a(sv) [('CPUWeight', <uint64 10>), ('TasksMax', <uint64 900>)]"));

	g_assert_cmpint(
		machine_parse_config(
			"{\"payload\":{\"kernel\":\"/a:b\"},\"disks\":[{\"path\":\"/c\"},{\"path\":\"/d\","
			"\"image_type\":\"Qcow2\",\"backing_files\":true}],"
			"\"net\":[{\"tap\":\"t0\",\"ip\":\"192.0.2.1\",\"mask\":\"255.255.255.0\"},"
			"{\"tap\":\"t1\"}]}",
			&config, NULL, NULL),
		==, 0);
	g_assert_true(host_resource_details(config, NULL, "x.slice", properties, &details));
	g_assert_cmpstr(detail(&details, "path"), ==, "/a:b\n/c\n/d\n(backing files)");
	g_assert_cmpstr(detail(&details, "interface"), ==, "t0\nt1");
	g_assert_cmpstr(detail(&details, "address"), ==, "192.0.2.1/255.255.255.0");
	g_assert_cmpstr(detail(&details, "slice"), ==, "x.slice");
	g_assert_cmpstr(detail(&details, "property"), ==, "CPUWeight\nTasksMax");
}

static void test_details_source(void)
{
	_cleanup_(vm_config_free_cleanup) struct vm_config *config = NULL;
	struct host_resource_details details;

	g_assert_cmpint(machine_parse_config("{\"payload\":{\"kernel\":\"/k\"},"
					     "\"rng\":{\"src\":\"/dev/hwrng\"},"
					     "\"serial\":{\"mode\":\"Pty\"}}", /* a new one */
					     &config, NULL, NULL),
			==, 0);
	g_assert_true(host_resource_details(config, NULL, NULL, NULL, &details));
	g_assert_cmpstr(detail(&details, "path"), ==, "/k\n/dev/hwrng");
	g_assert_null(detail(&details, "address"));
}

/* What a worker says, with the path that it does not know. */
static void test_name_paths(void)
{
	g_autofree char *dirs = g_strnfill(300, 'd');
	g_autofree char *text =
		g_strdup_printf("{\"payload\":{\"kernel\":\"/srv/k\",\"initramfs\":{\"fd\":\"i\"}},"
				"\"disks\":[{\"path\":\"/%s\"}]}",
				dirs);
	_cleanup_(vm_config_free_cleanup) struct vm_config *config = NULL;
	static const struct {
		const char *said, *told;
	} cases[] = {
		{ "/payload/kernel: no kernel", "/payload/kernel: '/srv/k': no kernel" },
		{ "/payload/initramfs: empty", "/payload/initramfs: descriptor 'i': empty" },
		{ "/payload/firmware: none there", "/payload/firmware: none there" },
		{ "/payload/kernels: no such key", "/payload/kernels: no such key" },
		{ "/cpus/max_vcpus: 9 is too many", "/cpus/max_vcpus: 9 is too many" },
		{ "no memory", "no memory" },
	};
	struct err long_path = { 0 };

	g_assert_cmpint(machine_parse_config(text, &config, NULL, NULL), ==, 0);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct err err = { 0 };

		err_fault(&err, FAULT_BAD_CONFIG, ENOEXEC, "%s", cases[i].said);
		resources_name_paths(config, &err);
		g_assert_cmpstr(err.msg, ==, cases[i].told);
		g_assert_cmpint(err.fault, ==, FAULT_BAD_CONFIG);
		g_assert_cmpint(err.code, ==, ENOEXEC);
	}
	/* The reason is what must not be lost. */
	err_fault(&long_path, FAULT_BAD_CONFIG, EINVAL, "/disks/0/path: the image is too small");
	resources_name_paths(config, &long_path);
	g_assert_true(g_str_has_prefix(long_path.msg, "/disks/0/path: '/ddddd"));
	g_assert_true(g_str_has_suffix(long_path.msg, "...': the image is too small"));
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/daemon/resources/symlink", test_symlink);
	g_test_add_func("/daemon/resources/real-path", test_real_path);
	g_test_add_func("/daemon/resources/lock-granularity", test_lock_granularity);
	g_test_add_func("/daemon/resources/in-use", test_in_use);
	g_test_add_func("/daemon/resources/not-sparse", test_not_sparse);
	g_test_add_func("/daemon/resources/no-room", test_no_room);
	g_test_add_func("/daemon/resources/free-soon", test_free_soon);
	g_test_add_func("/daemon/resources/one-purpose", test_one_purpose);
	g_test_add_func("/daemon/resources/pmem", test_pmem);
	g_test_add_func("/daemon/resources/backing/chain", test_backing_chain);
	g_test_add_func("/daemon/resources/no-storage", test_no_storage);
	g_test_add_func("/daemon/resources/backing-closed-folder",
			test_backing_behind_closed_folder);
	g_test_add_func("/daemon/resources/backing/too-deep", test_backing_too_deep);
	for (size_t i = 0; i < ARRAY_SIZE(backing_cases); i++) {
		g_autofree char *path =
			g_strdup_printf("/daemon/resources/backing/%s", backing_cases[i].title);

		g_test_add_data_func(path, GSIZE_TO_POINTER(i), test_backing_refused);
	}
	for (size_t i = 0; i < ARRAY_SIZE(outputs); i++) {
		g_autofree char *path =
			g_strdup_printf("/daemon/resources/output/%s", outputs[i].title);

		g_test_add_data_func(path, GSIZE_TO_POINTER(i), test_output);
	}
	g_test_add_data_func("/daemon/resources/output-half/root", GUINT_TO_POINTER(0),
			     test_output_half);
	g_test_add_data_func("/daemon/resources/output-half/stranger", GUINT_TO_POINTER(STRANGER),
			     test_output_half);
	g_test_add_func("/daemon/resources/output-used", test_output_used);
	g_test_add_func("/daemon/resources/name-paths", test_name_paths);
	g_test_add_func("/daemon/resources/details", test_details);
	g_test_add_func("/daemon/resources/details-source", test_details_source);
	return g_test_run();
}
