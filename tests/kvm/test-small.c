/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The small devices, driven and misused by a tiny guest: balloon, clock, panic device, watchdog,
 * fw_cfg, generation ID. For the clock this is the proof there is: Debian 12's kernel has no
 * driver.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/kvm/scenario.h"

#define BALLOON          "{'balloon': <{'size': <uint64 1048576>, 'free_page_reporting': <true>}>}"
#define PVPANIC          "{'pvpanic': <true>}"
#define WATCHDOG(action) "{'watchdog': <true>, 'watchdog_action': <'" action "'>}"
#define FW_CFG                                                                                     \
	"{'payload': <{'fw_cfg_config': <{'items': <{'item_list': <["                              \
	"{'name': <'opt/test'>, 'string': <'hello'>},"                                             \
	"{'name': <'opt/file'>, 'file': "                                                          \
	"<'/payload/fw_cfg_config/items/item_list/1/file'>}]>}>}>}>}"

static unsigned int count_events(struct test_worker *w, const char *event)
{
	unsigned int n = 0;

	for (guint i = 0; i < w->events->len; i++)
		n += strcmp(w->events->pdata[i], event) == 0;
	return n;
}

static void check_panic(struct test_worker *w)
{
	g_assert_cmpuint(count_events(w, "guest/panic"), ==, 1);
	g_assert_cmpuint(count_events(w, "guest/crash-loaded"), ==, 0);
}

static void check_crash_loaded(struct test_worker *w)
{
	g_assert_cmpuint(count_events(w, "guest/panic"), ==, 0);
	g_assert_cmpuint(count_events(w, "guest/crash-loaded"), ==, 1);
}

static void check_expired(struct test_worker *w)
{
	g_assert_cmpuint(count_events(w, "watchdog/expired"), ==, 1);
}

static void check_reset(struct test_worker *w)
{
	check_expired(w);
	g_assert_cmpuint(test_worker_count(w, "# watchdog is new"), ==, 1);
	g_assert_cmpuint(test_worker_count(w, "# watchdog has expired"), ==, 1);
	g_assert_cmpstr(w->states->pdata[w->states->len - 2], ==, "running>running:guest-watchdog");
}

static void prepare_fw_cfg(struct test_worker *w)
{
	int fd = memfd_create("item", MFD_CLOEXEC);

	g_assert_cmpint(write(fd, "from-a-file", 11), ==, 11);
	test_worker_resource(w, "/payload/fw_cfg_config/items/item_list/1/file", fd);
}

static void check_text(struct test_worker *w)
{
	g_assert_cmpuint(test_worker_count(w, "# opt/test 5 hello"), ==, 1);
}

static void check_file(struct test_worker *w)
{
	g_assert_cmpuint(test_worker_count(w, "# opt/file 11 from-a-file"), ==, 1);
}

static const struct scenario scenarios[] = {
	{ "/small/balloon", "test=balloon", BALLOON, NULL },
	{ "/small/balloon/shared", "test=balloon",
	  "{'memory': <{'shared': <true>}>,"
	  " 'balloon': <{'size': <uint64 1048576>, 'free_page_reporting': <true>}>}",
	  NULL },
	{ "/small/balloon/bad", "test=balloon-bad", BALLOON, NULL },
	{ "/small/rtc", "test=virtio-rtc", "{'rtc': <@a{sv} {}>}", NULL },
	{ "/small/pvpanic/panic", "test=pvpanic", PVPANIC, NULL, check_panic },
	{ "/small/pvpanic/crash-loaded", "test=pvpanic event=2", PVPANIC, NULL,
	  check_crash_loaded },
	{ "/small/pvpanic/flood", "test=pvpanic flood=2000", PVPANIC, NULL },
	{ "/small/watchdog/reset", "test=watchdog", WATCHDOG("Reset"), NULL, check_reset },
	{ "/small/watchdog/report", "test=watchdog", WATCHDOG("Report"), NULL, check_expired },
	{ "/small/fw-cfg/text", "test=fw-cfg", FW_CFG, prepare_fw_cfg, check_text },
	{ "/small/fw-cfg/file", "test=fw-cfg file=opt/file", FW_CFG, prepare_fw_cfg, check_file },
};

static bool skip_without_kvm(void)
{
	if (access("/dev/kvm", R_OK | W_OK) == 0)
		return false;
	g_test_skip("no access to /dev/kvm");
	return true;
}

static void start(struct test_worker *w, const char *cmdline, const char *config)
{
	struct err err = { 0 };

	test_worker_spawn(w, NULL);
	test_worker_resource(w, "/rng/src", open("/dev/urandom", O_RDONLY | O_CLOEXEC));
	if (test_worker_start(w, cmdline, config, false, &err) < 0)
		g_error("Start: %s", err.msg);
}

/* Stands until somebody has looked at it; a pause before that is no time to the watchdog. */
static void test_watchdog_pause(void)
{
	struct err err = { 0 };
	struct test_worker w;

	if (skip_without_kvm())
		return;
	start(&w, "test=watchdog", WATCHDOG("Pause"));
	test_worker_wait_output(&w, "# starving", 20);
	g_assert_cmpint(test_worker_call(&w, "Pause", &err), ==, 0);
	test_worker_run_for(&w, 1500);
	g_assert_cmpuint(count_events(&w, "watchdog/expired"), ==, 0);
	g_assert_cmpint(test_worker_call(&w, "Resume", &err), ==, 0);
	test_worker_wait_state(&w, "running>paused:guest-watchdog", 10);
	g_assert_cmpuint(count_events(&w, "watchdog/expired"), ==, 1);
	g_assert_cmpint(test_worker_call(&w, "Resume", &err), ==, 0);
	test_worker_wait_exit(&w, 20);
	scenario_expect_done(&w);
	test_worker_end(&w);
}

static void test_watchdog_poweroff(void)
{
	struct test_worker w;

	if (skip_without_kvm())
		return;
	start(&w, "test=watchdog", WATCHDOG("Poweroff"));
	test_worker_wait_exit(&w, 20);
	check_expired(&w);
	g_assert_cmpstr(w.states->pdata[w.states->len - 1], ==, "running>shutdown:guest-watchdog");
	g_assert_cmpuint(test_worker_count(&w, "# starving"), ==, 1);
	g_assert_cmpuint(test_worker_count(&w, "not ok"), ==, 0);
	test_worker_end(&w);
}

static char *generation_of(struct test_worker *w, unsigned int nth)
{
	_cleanup_free_ char *out = test_worker_output(w);
	const char *at = out;

	for (unsigned int i = 0; at && i <= nth; i++) {
		at = strstr(at, "# generation ");
		at = at ? at + strlen("# generation ") : NULL;
	}
	g_assert_nonnull(at);
	return g_strndup(at, 32);
}

/* The same over a reset, whatever the guest wrote there, another in the next machine. */
static void test_vmgenid(void)
{
	g_autofree char *first = NULL, *again = NULL, *other = NULL;
	struct err err = { 0 };
	struct test_worker w;

	if (skip_without_kvm())
		return;
	start(&w, "test=vmgenid overwrite=1 then=hlt", NULL);
	test_worker_wait_output(&w, "done ", 10);
	first = generation_of(&w, 0);
	g_assert_cmpint(test_worker_call(&w, "Reset", &err), ==, 0);
	for (unsigned int i = 0; i < 100 && test_worker_count(&w, "done ") < 2; i++)
		test_worker_run_for(&w, 50);
	again = generation_of(&w, 1);
	g_assert_cmpstr(first, ==, again);
	test_worker_end(&w);
	start(&w, "test=vmgenid", NULL);
	test_worker_wait_exit(&w, 20);
	scenario_expect_done(&w);
	other = generation_of(&w, 0);
	g_assert_cmpstr(first, !=, other);
	test_worker_end(&w);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	scenarios_add(scenarios, G_N_ELEMENTS(scenarios));
	g_test_add_func("/small/watchdog/poweroff", test_watchdog_poweroff);
	g_test_add_func("/small/watchdog/pause", test_watchdog_pause);
	g_test_add_func("/small/vmgenid", test_vmgenid);
	return g_test_run();
}
