/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The daemon's side of polkit against a polkitd of our own, on a private bus
 *
 * One process, one event loop, three connections: the service under test, the
 * authority, and the caller.
 */
#include <errno.h>
#include <glib.h>
#include <string.h>
#include <systemd/sd-bus.h>
#include <systemd/sd-event.h>
#include <unistd.h>

#include "dbus/bus-error.h"
#include "dbus/polkit.h"
#include "tests/lib/private-bus.h"
#include "vmm/base/err.h"

enum verdict {
	VERDICT_ALLOW,
	VERDICT_DENY,
	VERDICT_CHALLENGE,
	VERDICT_DISMISSED,
	VERDICT_ERROR,
	VERDICT_LATER, /* kept in `kept` */
};

struct fixture {
	struct private_bus daemon;
	sd_event *event;
	sd_bus *service, *authority, *caller;
	struct polkit *polkit;

	enum verdict verdict;
	unsigned int n_asked, n_cancelled;
	char subject[64], action[64], details[256];
	uint32_t flags;
	sd_bus_message *kept;

	const char *vm;        /* what the request names */
	const char *vm_second; /* the same, from the second pass on; NULL = unchanged */
	bool owner_shortcut;
	uid_t owner;
	bool skip_second; /* the handler fails before it gets to the check */
	unsigned int n_handled, n_allowed;

	unsigned int n_replies;
	char error[128], text[256];
};

static int reply_verdict(struct fixture *f, sd_bus_message *m)
{
	switch (f->verdict) {
	case VERDICT_ALLOW:
		return sd_bus_reply_method_return(m, "(bba{ss})", 1, 0, 0);
	case VERDICT_DENY:
		return sd_bus_reply_method_return(m, "(bba{ss})", 0, 0, 0);
	case VERDICT_CHALLENGE:
		return sd_bus_reply_method_return(m, "(bba{ss})", 0, 1, 1, "k", "v");
	case VERDICT_DISMISSED:
		return sd_bus_reply_method_return(m, "(bba{ss})", 0, 1, 1, "polkit.dismissed",
						  "true");
	case VERDICT_ERROR:
		return sd_bus_reply_method_errorf(m, "org.freedesktop.PolicyKit1.Error.Failed",
						  "Action is not registered");
	case VERDICT_LATER:
		break;
	}
	f->kept = sd_bus_message_ref(m);
	return 1;
}

static int on_check(sd_bus_message *m, void *userdata, sd_bus_error *e)
{
	struct fixture *f = userdata;
	const char *kind, *name, *action, *key, *value, *cancellation_id;

	(void)e;
	f->n_asked++;
	f->details[0] = '\0';
	g_assert_cmpint(sd_bus_message_read(m, "(sa{sv})s", &kind, 1, &key, "s", &name, &action), >,
			0);
	g_assert_cmpstr(kind, ==, "system-bus-name");
	g_assert_cmpstr(key, ==, "name");
	g_strlcpy(f->subject, name, sizeof(f->subject));
	g_strlcpy(f->action, action, sizeof(f->action));
	g_assert_cmpint(sd_bus_message_enter_container(m, 'a', "{ss}"), >, 0);
	while (sd_bus_message_read(m, "{ss}", &key, &value) > 0) {
		g_strlcat(f->details, key, sizeof(f->details));
		g_strlcat(f->details, "=", sizeof(f->details));
		g_strlcat(f->details, value, sizeof(f->details));
		g_strlcat(f->details, " ", sizeof(f->details));
	}
	g_assert_cmpint(sd_bus_message_exit_container(m), >, 0);
	g_assert_cmpint(sd_bus_message_read(m, "us", &f->flags, &cancellation_id), >, 0);
	g_assert_cmpstr(cancellation_id, !=, "");
	return reply_verdict(f, m);
}

static int on_cancel(sd_bus_message *m, void *userdata, sd_bus_error *e)
{
	struct fixture *f = userdata;

	(void)e;
	f->n_cancelled++;
	return sd_bus_reply_method_return(m, "");
}

static const sd_bus_vtable authority_vtable[] = {
	SD_BUS_VTABLE_START(0),
	SD_BUS_METHOD("CheckAuthorization", "(sa{sv})sa{ss}us", "(bba{ss})", on_check,
		      SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD("CancelCheckAuthorization", "s", "", on_cancel, SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_VTABLE_END,
};

static int on_start(sd_bus_message *m, void *userdata, sd_bus_error *e)
{
	static const char *const extra[] = { "console", "serial", NULL };
	struct fixture *f = userdata;
	struct err err = { 0 };
	bool second = f->n_handled++ > 0;
	struct polkit_request req = {
		.action = POLKIT_ACTION_MANAGE_VMS,
		.vm = second && f->vm_second ? f->vm_second : f->vm,
		.uuid = "u-u",
		.owner_name = "anna",
		.owner = f->owner,
		.owner_shortcut = f->owner_shortcut,
		.verb = "start",
		.extra = extra,
	};
	int r;

	(void)e;
	if (second && f->skip_second)
		return sd_bus_reply_method_errorf(m, BUS_ERROR_NO_SUCH_VM, "gone meanwhile");
	r = polkit_check(m, &req, f->polkit, &err);
	if (r < 0)
		return bus_reply_err(m, &err);
	if (r == 0)
		return 1;
	f->n_allowed++;
	return sd_bus_reply_method_return(m, "");
}

static const sd_bus_vtable service_vtable[] = {
	SD_BUS_VTABLE_START(0),
	SD_BUS_METHOD("Start", "", "", on_start, SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_VTABLE_END,
};

static void fixture_init(struct fixture *f, uid_t trusted, bool ask, bool with_authority)
{
	*f = (struct fixture){ .vm = "web1", .owner = getuid() + 7 };
	private_bus_start(&f->daemon);
	g_assert_cmpint(sd_event_new(&f->event), >=, 0);
	f->service = private_bus_connect(&f->daemon);
	f->authority = private_bus_connect(&f->daemon);
	f->caller = private_bus_connect(&f->daemon);
	if (with_authority) {
		g_assert_cmpint(sd_bus_request_name(f->authority, "org.freedesktop.PolicyKit1", 0),
				>=, 0);
		g_assert_cmpint(sd_bus_add_object_vtable(f->authority, NULL,
							 "/org/freedesktop/PolicyKit1/Authority",
							 "org.freedesktop.PolicyKit1.Authority",
							 authority_vtable, f),
				>=, 0);
	}
	g_assert_cmpint(sd_bus_request_name(f->service, "test.Service", 0), >=, 0);
	g_assert_cmpint(sd_bus_add_object_vtable(f->service, NULL, "/vm", "test.VM", service_vtable,
						 f),
			>=, 0);
	g_assert_cmpint(sd_bus_attach_event(f->service, f->event, 0), >=, 0);
	g_assert_cmpint(sd_bus_attach_event(f->authority, f->event, 0), >=, 0);
	g_assert_cmpint(sd_bus_attach_event(f->caller, f->event, 0), >=, 0);
	g_assert_cmpint(polkit_new(f->service, trusted, ask, &f->polkit), ==, 0);
}

static void fixture_deinit(struct fixture *f)
{
	polkit_free(f->polkit);
	sd_bus_message_unref(f->kept);
	sd_bus_flush_close_unref(f->caller);
	sd_bus_flush_close_unref(f->authority);
	sd_bus_flush_close_unref(f->service);
	sd_event_unref(f->event);
	private_bus_stop(&f->daemon);
}

static int on_reply(sd_bus_message *m, void *userdata, sd_bus_error *ret)
{
	struct fixture *f = userdata;
	const sd_bus_error *e = sd_bus_message_get_error(m);

	(void)ret;
	f->n_replies++;
	g_strlcpy(f->error, e ? e->name : "", sizeof(f->error));
	g_strlcpy(f->text, e ? e->message : "", sizeof(f->text));
	return 1;
}

static void send_call(struct fixture *f, bool interactive)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;

	g_assert_cmpint(sd_bus_message_new_method_call(f->caller, &m, "test.Service", "/vm",
						       "test.VM", "Start"),
			>=, 0);
	g_assert_cmpint(sd_bus_message_set_allow_interactive_authorization(m, interactive), >=, 0);
	g_assert_cmpint(sd_bus_call_async(f->caller, NULL, m, on_reply, f, 0), >=, 0);
}

static void run_until(struct fixture *f, const unsigned int *counter, unsigned int value)
{
	while (*counter < value)
		g_assert_cmpint(sd_event_run(f->event, 5 * G_USEC_PER_SEC), >, 0);
}

/* Idle work too: nothing may be left for the loop. */
static void run_until_quiet(struct fixture *f)
{
	while (sd_event_run(f->event, 50 * 1000) > 0)
		;
}

static void call(struct fixture *f, const char *error, const char *text)
{
	send_call(f, false);
	run_until(f, &f->n_replies, f->n_replies + 1);
	g_assert_cmpstr(f->error, ==, error);
	g_assert_cmpstr(f->text, ==, text);
}

static uid_t somebody_else(void)
{
	return getuid() + 1;
}

static void test_allow(void)
{
	struct fixture f;
	const char *name = NULL;

	fixture_init(&f, somebody_else(), true, true);
	call(&f, "", "");
	g_assert_cmpuint(f.n_asked, ==, 1);
	g_assert_cmpuint(f.n_handled, ==, 2);
	g_assert_cmpuint(f.n_allowed, ==, 1);
	g_assert_cmpint(sd_bus_get_unique_name(f.caller, &name), >=, 0);
	g_assert_cmpstr(f.subject, ==, name);
	g_assert_cmpstr(f.action, ==, "org.brume.vm1.manage-vms");
	g_assert_cmpstr(f.details, ==, "vm=web1 uuid=u-u owner=anna verb=start console=serial ");
	g_assert_cmpuint(f.flags, ==, 0);
	run_until_quiet(&f);
	/* an answer is good for one call */
	call(&f, "", "");
	g_assert_cmpuint(f.n_asked, ==, 2);
	fixture_deinit(&f);
}

static void test_interactive_flag(void)
{
	struct fixture f;

	fixture_init(&f, somebody_else(), true, true);
	send_call(&f, true);
	run_until(&f, &f.n_replies, 1);
	g_assert_cmpuint(f.flags, ==, 1);
	fixture_deinit(&f);
}

static const struct {
	const char *name;
	enum verdict verdict;
	const char *error, *text;
} refusals[] = {
	{ "deny", VERDICT_DENY, SD_BUS_ERROR_ACCESS_DENIED,
	  "cannot start virtual machine 'web1': access denied (action org.brume.vm1.manage-vms)" },
	{ "challenge", VERDICT_CHALLENGE, SD_BUS_ERROR_INTERACTIVE_AUTHORIZATION_REQUIRED,
	  "cannot start virtual machine 'web1': interactive authentication required (action "
	  "org.brume.vm1.manage-vms)" },
	{ "dismissed", VERDICT_DISMISSED, SD_BUS_ERROR_ACCESS_DENIED,
	  "cannot start virtual machine 'web1': access denied: the authentication dialog was dismissed "
	  "(action org.brume.vm1.manage-vms)" },
	{ "error", VERDICT_ERROR, SD_BUS_ERROR_ACCESS_DENIED,
	  "cannot start virtual machine 'web1': access denied: polkit failed: Action is not registered "
	  "(action org.brume.vm1.manage-vms)" },
};

static void test_refusals(void)
{
	struct fixture f;

	fixture_init(&f, somebody_else(), true, true);
	for (size_t i = 0; i < G_N_ELEMENTS(refusals); i++) {
		f.verdict = refusals[i].verdict;
		f.n_handled = 0;
		call(&f, refusals[i].error, refusals[i].text);
		g_assert_cmpuint(f.n_handled, ==, 2);
		run_until_quiet(&f);
	}
	g_assert_cmpuint(f.n_allowed, ==, 0);
	fixture_deinit(&f);
}

static void test_authority_absent(void)
{
	struct fixture f;

	fixture_init(&f, somebody_else(), true, false);
	call(&f, SD_BUS_ERROR_ACCESS_DENIED,
	     "cannot start virtual machine 'web1': access denied: polkit is not available, so only root "
	     "may do this (action org.brume.vm1.manage-vms)");
	fixture_deinit(&f);
}

static void test_trusted(void)
{
	struct fixture f;

	fixture_init(&f, getuid(), true, true);
	call(&f, "", "");
	g_assert_cmpuint(f.n_asked, ==, 0);
	g_assert_cmpuint(f.n_handled, ==, 1);
	fixture_deinit(&f);
}

static void test_owner(void)
{
	struct fixture f;

	fixture_init(&f, somebody_else(), true, true);
	f.verdict = VERDICT_DENY;
	f.owner = getuid();
	f.owner_shortcut = true;
	call(&f, "", "");
	g_assert_cmpuint(f.n_asked, ==, 0);
	f.owner_shortcut = false;
	f.n_handled = 0;
	send_call(&f, false);
	run_until(&f, &f.n_replies, 2);
	g_assert_cmpstr(f.error, ==, SD_BUS_ERROR_ACCESS_DENIED);
	fixture_deinit(&f);
}

static void test_user_bus(void)
{
	struct fixture f;
	g_autofree char *text = NULL;

	fixture_init(&f, somebody_else(), false, true);
	text = g_strdup_printf(
		"cannot start virtual machine 'web1': only uid %u may use this service",
		(unsigned int)somebody_else());
	call(&f, SD_BUS_ERROR_ACCESS_DENIED, text);
	g_assert_cmpuint(f.n_asked, ==, 0);
	fixture_deinit(&f);
}

/* Asked about one VM, carried out on another: CVE-2020-1712's relatives. */
static void test_stale(void)
{
	struct fixture f;

	fixture_init(&f, somebody_else(), true, true);
	f.vm_second = "db-1";
	call(&f, SD_BUS_ERROR_ACCESS_DENIED,
	     "cannot start virtual machine 'db-1': it changed while its "
	     "authorization was being asked for");
	g_assert_cmpuint(f.n_allowed, ==, 0);
	fixture_deinit(&f);
}

/* The second pass ends before polkit_check(): the kept query must go all the same (LeakSanitizer).
 */
static void test_second_pass_fails_early(void)
{
	struct fixture f;

	fixture_init(&f, somebody_else(), true, true);
	f.skip_second = true;
	call(&f, BUS_ERROR_NO_SUCH_VM, "gone meanwhile");
	run_until_quiet(&f);
	fixture_deinit(&f);
}

static void test_caller_vanishes(void)
{
	struct fixture f;

	fixture_init(&f, somebody_else(), true, true);
	f.verdict = VERDICT_LATER;
	send_call(&f, true);
	run_until(&f, &f.n_asked, 1);
	sd_bus_close(f.caller);
	run_until(&f, &f.n_cancelled, 1);

	/* the verdict comes too late: nothing happens */
	f.verdict = VERDICT_ALLOW;
	g_assert_cmpint(reply_verdict(&f, f.kept), >=, 0);
	run_until_quiet(&f);
	g_assert_cmpuint(f.n_handled, ==, 1);
	g_assert_cmpuint(f.n_allowed, ==, 0);
	fixture_deinit(&f);
}

static void test_freed_while_asking(void)
{
	struct fixture f;

	fixture_init(&f, somebody_else(), true, true);
	f.verdict = VERDICT_LATER;
	send_call(&f, true);
	run_until(&f, &f.n_asked, 1);
	fixture_deinit(&f);
}

static void test_too_many(void)
{
	struct fixture f;

	fixture_init(&f, somebody_else(), true, true);
	f.verdict = VERDICT_LATER;
	for (int i = 0; i < 17; i++) {
		send_call(&f, true);
		sd_bus_message_unref(f.kept);
		f.kept = NULL;
		if (i < 16)
			run_until(&f, &f.n_asked, (unsigned int)i + 1);
	}
	run_until(&f, &f.n_replies, 1);
	g_assert_cmpstr(f.error, ==, SD_BUS_ERROR_LIMITS_EXCEEDED);
	g_assert_cmpstr(f.text, ==,
			"too many calls wait for their authorization already, try again later");
	g_assert_cmpuint(f.n_asked, ==, 16);
	fixture_deinit(&f);
}

/* One user's connections share what one user may have. */
static void test_too_many_connections(void)
{
	sd_bus *callers[17] = { NULL };
	struct fixture f;

	fixture_init(&f, somebody_else(), true, true);
	f.verdict = VERDICT_LATER;
	for (unsigned int i = 0; i < G_N_ELEMENTS(callers); i++) {
		sd_bus *first = f.caller;

		callers[i] = private_bus_connect(&f.daemon);
		g_assert_cmpint(sd_bus_attach_event(callers[i], f.event, 0), >=, 0);
		f.caller = callers[i];
		send_call(&f, true);
		f.caller = first;
		if (i < 16)
			run_until(&f, &f.n_asked, i + 1);
		g_clear_pointer(&f.kept, sd_bus_message_unref);
	}
	run_until(&f, &f.n_replies, 1);
	g_assert_cmpstr(f.error, ==, SD_BUS_ERROR_LIMITS_EXCEEDED);
	g_assert_cmpuint(f.n_asked, ==, 16);
	for (unsigned int i = 0; i < G_N_ELEMENTS(callers); i++) {
		sd_bus_detach_event(callers[i]);
		sd_bus_flush_close_unref(callers[i]);
	}
	fixture_deinit(&f);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/dbus/polkit/allow", test_allow);
	g_test_add_func("/dbus/polkit/interactive-flag", test_interactive_flag);
	g_test_add_func("/dbus/polkit/refusals", test_refusals);
	g_test_add_func("/dbus/polkit/authority-absent", test_authority_absent);
	g_test_add_func("/dbus/polkit/trusted", test_trusted);
	g_test_add_func("/dbus/polkit/owner", test_owner);
	g_test_add_func("/dbus/polkit/user-bus", test_user_bus);
	g_test_add_func("/dbus/polkit/stale", test_stale);
	g_test_add_func("/dbus/polkit/second-pass-fails-early", test_second_pass_fails_early);
	g_test_add_func("/dbus/polkit/caller-vanishes", test_caller_vanishes);
	g_test_add_func("/dbus/polkit/freed-while-asking", test_freed_while_asking);
	g_test_add_func("/dbus/polkit/too-many", test_too_many);
	g_test_add_func("/dbus/polkit/too-many-connections", test_too_many_connections);
	return g_test_run();
}
