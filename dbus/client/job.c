/* SPDX-License-Identifier: Apache-2.0 */
#include "dbus/client/job.h"

#include <errno.h>
#include <glib.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "dbus/bus-error.h"
#include "dbus/bus-path.h"
#include "dbus/client/output.h"
#include "dbus/variant.h"

#define POLL_USEC UINT64_C(1000000)

/*
 * JobRemoved may arrive before the reply that names the job, so there is a watch before the call:
 *
 *   watch_begin(&w, c);  call;  watch_wait(&w, ..., job);  watch_end(&w);
 */
struct job_watch {
	struct client *client;
	sd_bus_slot *slot;
	GHashTable *results; /* job path -> struct job_result */
};

struct job_result {
	char *result, *error_name, *error_message;
};

static void job_result_free(void *data)
{
	struct job_result *result = data;

	g_free(result->result);
	g_free(result->error_name);
	g_free(result->error_message);
	g_free(result);
}

static void add_result(struct job_watch *w, const char *job, const char *result,
		       const char *error_name, const char *error_message)
{
	struct job_result *r = g_new0(struct job_result, 1);

	r->result = g_strdup(result);
	r->error_name = g_strdup(error_name);
	r->error_message = g_strdup(error_message);
	g_hash_table_insert(w->results, g_strdup(job), r);
}

static int on_job_removed(sd_bus_message *m, void *userdata, sd_bus_error *ret)
{
	const char *job, *vm, *result, *error_name, *error_message;
	struct job_watch *w = userdata;
	uint32_t id;

	(void)ret;
	if (sd_bus_message_read(m, "uoosss", &id, &job, &vm, &result, &error_name, &error_message) >
	    0)
		add_result(w, job, result, error_name, error_message);
	return 0;
}

static void watch_end(struct job_watch *w)
{
	w->slot = sd_bus_slot_unref(w->slot);
	g_clear_pointer(&w->results, g_hash_table_unref);
}

static int watch_begin(struct job_watch *w, struct client *c)
{
	int r;

	*w = (struct job_watch){ .client = c };
	r = client_connect(c);
	if (r != EXIT_OK)
		return r;
	w->results = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, job_result_free);
	r = sd_bus_match_signal(c->bus, &w->slot, BRUME_BUS_NAME, BRUME_ROOT_PATH,
				BRUME_MANAGER_INTERFACE, "JobRemoved", on_job_removed, w);
	if (r < 0) {
		watch_end(w);
		return client_report(c, NULL, r, NULL);
	}
	return EXIT_OK;
}

struct progress {
	uint64_t start;
	char *phase; /* last one printed, not on a terminal */
	bool line;   /* there is one to wipe */
};

static void progress_clear(struct progress *p)
{
	if (p->line)
		fputs("\r\033[K", stderr);
	p->line = false;
	g_free(p->phase);
	p->phase = NULL;
}

static void progress_print(struct progress *p, const char *vm, const char *what, const char *phase,
			   double done)
{
	uint64_t seconds = ((uint64_t)g_get_monotonic_time() - p->start) / 1000000;
	char percent[16] = "";

	if (done >= 0)
		snprintf(percent, sizeof(percent), " %d%%", (int)(done * 100));
	if (isatty(STDERR_FILENO)) {
		fprintf(stderr, "\r\033[K%s: %s%s%s%s %us", vm, what, phase[0] ? ": " : "", phase,
			percent, (unsigned int)seconds);
		fflush(stderr);
		p->line = true;
	} else if (g_strcmp0(p->phase, phase) != 0) {
		fprintf(stderr, "%s: %s%s%s%s\n", vm, what, phase[0] ? ": " : "", phase, percent);
		g_free(p->phase);
		p->phase = g_strdup(phase);
	}
}

/* Reads the job's properties. A job that ended without our hearing it becomes a result. */
static void look_at_job(struct job_watch *w, const char *job, struct progress *p, const char *vm,
			const char *what)
{
	_cleanup_(sd_bus_error_free) sd_bus_error e = SD_BUS_ERROR_NULL;
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
	const char *state = "", *phase = "", *error_name = "", *error_message = "";
	g_autoptr(GVariant) properties = NULL;
	double done = -1;
	int r;

	r = sd_bus_call_method(w->client->bus, BRUME_BUS_NAME, job,
			       "org.freedesktop.DBus.Properties", "GetAll", &e, &reply, "s",
			       BRUME_JOB_INTERFACE);
	if (r < 0) {
		/* JobRemoved may be in the queue, in front of this answer: it wins. */
		if (sd_bus_error_has_name(&e, SD_BUS_ERROR_UNKNOWN_OBJECT))
			while (sd_bus_process(w->client->bus, NULL) > 0)
				;
		if (sd_bus_error_has_name(&e, SD_BUS_ERROR_UNKNOWN_OBJECT) &&
		    !g_hash_table_contains(w->results, job))
			add_result(
				w, job, "failed", SD_BUS_ERROR_FAILED,
				"the service lost the job; 'brumectl show' tells the machine's state");
		return;
	}
	if (variant_from_message(reply, "a{sv}", &properties, NULL) < 0)
		return;
	g_variant_lookup(properties, "State", "&s", &state);
	g_variant_lookup(properties, "Phase", "&s", &phase);
	g_variant_lookup(properties, "Progress", "d", &done);
	g_variant_lookup(properties, "ErrorName", "&s", &error_name);
	g_variant_lookup(properties, "ErrorMessage", "&s", &error_message);
	if (strcmp(state, "done") == 0 || strcmp(state, "failed") == 0 ||
	    strcmp(state, "canceled") == 0)
		add_result(w, job, state, error_name, error_message);
	else
		progress_print(p, vm, what, phase, done);
}

/* --- Ctrl-C ---------------------------------------------------------------------- */

static volatile sig_atomic_t interrupted;

static void on_interrupt(int signal _unused_)
{
	interrupted = 1;
}

/* Once: the next one ends brumectl, as ever.  Who was started without Ctrl-C stays so. */
static void catch_interrupt(struct sigaction *ret_before)
{
	const struct sigaction action = { .sa_handler = on_interrupt, .sa_flags = SA_RESETHAND };

	interrupted = 0;
	sigaction(SIGINT, NULL, ret_before);
	if (ret_before->sa_handler != SIG_IGN)
		sigaction(SIGINT, &action, NULL);
}

static void cancel(struct job_watch *w, const char *vm, const char *what, const char *job)
{
	_cleanup_(sd_bus_error_free) sd_bus_error e = SD_BUS_ERROR_NULL;
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
	int r;

	fprintf(stderr, "%s: %s: canceling; Ctrl-C again leaves it to itself\n", vm, what);
	r = sd_bus_message_new_method_call(w->client->bus, &m, BRUME_BUS_NAME, job,
					   BRUME_JOB_INTERFACE, "Cancel");
	if (r >= 0)
		r = sd_bus_message_set_allow_interactive_authorization(m, w->client->ask_password);
	if (r >= 0)
		r = sd_bus_message_append(m, "a{sv}", 0);
	if (r >= 0)
		r = sd_bus_call(w->client->bus, m, CLIENT_TIMEOUT_USEC, &e, NULL);
	/* It may just have ended: how is about to be told. */
	if (r < 0 && !sd_bus_error_has_name(&e, BUS_ERROR_INVALID_STATE) &&
	    !sd_bus_error_has_name(&e, SD_BUS_ERROR_UNKNOWN_OBJECT))
		(void)client_report(w->client, NULL, r, &e);
}

/* --- the end ---------------------------------------------------------------------- */

static bool is_guests_fault(const struct job_result *result)
{
	return strcmp(result->error_name, BUS_ERROR_GUEST_TIMEOUT) == 0 ||
	       strcmp(result->error_name, BUS_ERROR_BUSY) == 0;
}

static int report_result(struct job_watch *w, const char *vm, const struct job_wish *wish,
			 const struct job_result *result)
{
	sd_bus_error e;

	if (strcmp(result->result, "done") == 0)
		return EXIT_OK;
	if (strcmp(result->result, "vm-gone") == 0) {
		client_complain("the virtual machine '%s' is gone", vm);
		return EXIT_NO_SUCH;
	}
	e = SD_BUS_ERROR_MAKE_CONST(result->error_name[0] ? result->error_name
							  : SD_BUS_ERROR_FAILED,
				    result->error_message[0] ? result->error_message
							     : result->result);
	return client_report_hint(w->client, vm, -EIO, &e,
				  is_guests_fault(result) ? wish->hint : NULL);
}

static int watch_wait(struct job_watch *w, const char *vm, const struct job_wish *wish,
		      const char *job)
{
	struct progress p = { .start = (uint64_t)g_get_monotonic_time() };
	uint64_t next = p.start + POLL_USEC;
	struct job_result *result;
	struct sigaction before;
	int r = 0;

	if (wish->cancel)
		catch_interrupt(&before);
	while (!(result = g_hash_table_lookup(w->results, job))) {
		uint64_t now = (uint64_t)g_get_monotonic_time();

		if (interrupted) {
			interrupted = 0;
			progress_clear(&p);
			cancel(w, vm, wish->what, job);
			continue;
		}
		if (now >= next) {
			look_at_job(w, job, &p, vm, wish->what);
			next = now + POLL_USEC;
			continue;
		}
		/* A signal between the look at `interrupted` and this is seen a second later. */
		r = sd_bus_process(w->client->bus, NULL);
		if (r == 0)
			r = sd_bus_wait(w->client->bus, next - now);
		if (r == -EINTR)
			r = 0;
		if (r < 0)
			break;
	}
	progress_clear(&p);
	if (wish->cancel)
		sigaction(SIGINT, &before, NULL);
	return result ? report_result(w, vm, wish, result) : client_report(w->client, vm, r, NULL);
}

/* For programs: which job it was, and whether it has ended well. */
static void print_job(const struct client *c, const char *vm, const char *job, bool waited)
{
	uint32_t id = 0;

	if (!c->json || bus_path_parse_job(job, &id) < 0)
		return;
	print_json(g_variant_new_parsed("{'vm': <%s>, 'job': <%u>, 'result': <%s>}", vm, id,
					waited ? "done" : "running"),
		   false);
}

int job_run(struct client *c, const char *vm, sd_bus_message *call, const struct job_wish *wish)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
	_cleanup_(watch_end) struct job_watch watch = { 0 };
	const char *job = NULL;
	int r;

	r = watch_begin(&watch, c);
	if (r == EXIT_OK)
		r = client_call(c, vm, call, &reply);
	if (r != EXIT_OK)
		return r;
	r = sd_bus_message_read(reply, "o", &job);
	if (r < 0)
		return client_report(c, vm, r, NULL);
	if (wish->wait) {
		r = watch_wait(&watch, vm, wish, job);
		if (r != EXIT_OK)
			return r;
	}
	if (!wish->quiet)
		print_job(c, vm, job, wish->wait);
	return EXIT_OK;
}
