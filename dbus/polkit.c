/* SPDX-License-Identifier: Apache-2.0 */
#include "dbus/polkit.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <systemd/sd-event.h>

#include "vmm/base/err.h"
#include "vmm/base/list.h"

#define PK_NAME      "org.freedesktop.PolicyKit1"
#define PK_PATH      "/org/freedesktop/PolicyKit1/Authority"
#define PK_INTERFACE "org.freedesktop.PolicyKit1.Authority"

#define PK_ALLOW_USER_INTERACTION 1u

/* Long enough for a person to find their password, short enough to be noticed when polkitd hangs.
 */
#define ASK_USEC        (30 * UINT64_C(1000000))
#define ASK_PERSON_USEC (180 * UINT64_C(1000000))

/*
 * dbus-daemon lets us wait for 128 replies at once (fact 5), and the daemon has
 * other calls to make; one user, with however many connections, must not use them
 * up for everybody.
 */
#define QUERIES_MAX          64
#define QUERIES_PER_USER_MAX 16

enum query_state {
	QUERY_ASKING,
	QUERY_ALLOWED,
	QUERY_REFUSED,
};

/* One kept method call.  Freed after its second dispatch, or when the caller leaves. */
struct query {
	struct list link;
	struct polkit *polkit;
	sd_bus_message *call;
	uid_t uid;
	char *question; /* action and details, to compare at the second pass */
	char cancellation_id[24];
	enum query_state state;
	struct err refusal;  /* QUERY_REFUSED */
	sd_bus_slot *slot;   /* CheckAuthorization under way */
	sd_bus_track *track; /* the caller */
	sd_event_source *cleanup;
};

struct polkit {
	sd_bus *bus;
	uid_t trusted;
	bool ask;
	uint64_t n_asked;
	struct list queries;
};

static void query_free(struct query *q)
{
	list_remove(&q->link);
	sd_event_source_disable_unref(q->cleanup);
	sd_bus_slot_unref(q->slot);
	sd_bus_track_unref(q->track);
	sd_bus_message_unref(q->call);
	free(q->question);
	free(q);
}
DEFINE_CLEANUP(struct query, query_free);

int polkit_new(sd_bus *bus, uid_t trusted, bool ask, struct polkit **ret)
{
	struct polkit *p = calloc(1, sizeof(*p));

	if (!p)
		return -ENOMEM;
	p->bus = sd_bus_ref(bus);
	p->trusted = trusted;
	p->ask = ask;
	list_init(&p->queries);
	*ret = p;
	return 0;
}

void polkit_free(struct polkit *p)
{
	struct query *q, *next;

	if (!p)
		return;
	LIST_FOREACH_SAFE(q, next, &p->queries, link)
		query_free(q);
	sd_bus_unref(p->bus);
	free(p);
}

int polkit_caller_uid(sd_bus_message *call, uid_t *ret, struct err *err)
{
	_cleanup_(sd_bus_creds_unrefp) sd_bus_creds *creds = NULL;
	int r;

	/* From the bus, which took it from the socket; /proc would be racy (not
	 * SD_BUS_CREDS_AUGMENT). */
	r = sd_bus_query_sender_creds(call, SD_BUS_CREDS_EUID, &creds);
	if (r >= 0)
		r = sd_bus_creds_get_euid(creds, ret);
	if (r < 0)
		return err_errno(err, -r, "cannot find out who the caller is");
	return 0;
}

/* Calls fn for each detail of the question, in a fixed order. */
static int foreach_detail(const struct polkit_request *req,
			  int (*fn)(const char *key, const char *value, void *data), void *data)
{
	const struct {
		const char *key, *value;
	} fixed[] = {
		{ "vm", req->vm },
		{ "uuid", req->uuid },
		{ "owner", req->owner_name },
		{ "verb", req->verb },
	};
	int r;

	for (size_t i = 0; i < ARRAY_SIZE(fixed); i++) {
		if (!fixed[i].value)
			continue;
		r = fn(fixed[i].key, fixed[i].value, data);
		if (r < 0)
			return r;
	}
	for (const char *const *p = req->extra; p && p[0] && p[1]; p += 2) {
		r = fn(p[0], p[1], data);
		if (r < 0)
			return r;
	}
	return 0;
}

static int append_detail(const char *key, const char *value, void *data)
{
	return sd_bus_message_append(data, "{ss}", key, value);
}

/* Lengths in front, so that no two questions have the same text. */
static int print_detail(const char *key, const char *value, void *data)
{
	return fprintf(data, "%zu:%s=%zu:%s;", strlen(key), key, strlen(value), value);
}

/* Allocated text that is equal for equal questions; NULL without memory. */
static char *question_text(const struct polkit_request *req)
{
	char *text = NULL;
	size_t len = 0;
	FILE *f = open_memstream(&text, &len);

	if (!f)
		return NULL;
	fprintf(f, "%s;", req->action);
	foreach_detail(req, print_detail, f);
	if (fclose(f) != 0) {
		free(text);
		return NULL;
	}
	return text;
}

/* "start virtual machine 'web1'": what the sentences of a refusal are about. */
static void describe(const struct polkit_request *req, char *buf, size_t size)
{
	const char *verb = req->verb ? req->verb : "do this";

	if (req->vm)
		snprintf(buf, size, "%s virtual machine '%s'", verb, req->vm);
	else
		snprintf(buf, size, "%s", verb);
}

static struct query *find_query(struct polkit *p, sd_bus_message *call)
{
	struct query *q;

	LIST_FOREACH(q, &p->queries, link)
		if (q->call == call)
			return q;
	return NULL;
}

static int on_cleanup(sd_event_source *s, void *userdata)
{
	(void)s;
	query_free(userdata);
	return 0;
}

/* Nobody waits any more: take the prompt off the screen, forget the call. */
static int on_caller_gone(sd_bus_track *track, void *userdata)
{
	struct query *q = userdata;

	(void)track;
	/* Never 0: sd-bus would call again at once and for ever, before it reads anything else. */
	if (q->state != QUERY_ASKING)
		return 1; /* the call is in the queue again and will find this */
	(void)sd_bus_call_method_async(q->polkit->bus, NULL, PK_NAME, PK_PATH, PK_INTERFACE,
				       "CancelCheckAuthorization", NULL, NULL, "s",
				       q->cancellation_id);
	query_free(q);
	return 1;
}

/* polkitd did not answer the question; the caller learns which of the reasons it was. */
static void refuse_unanswered(struct query *q, const sd_bus_error *e)
{
	if (sd_bus_error_has_names(e, SD_BUS_ERROR_SERVICE_UNKNOWN, SD_BUS_ERROR_NAME_HAS_NO_OWNER,
				   "org.freedesktop.systemd1.NoSuchUnit",
				   "org.freedesktop.systemd1.UnitMasked",
				   "org.freedesktop.DBus.Error.Spawn.ServiceNotFound"))
		err_set(&q->refusal, EACCES,
			"access denied: polkit is not available, so only root may do this");
	else if (sd_bus_error_has_names(e, SD_BUS_ERROR_NO_REPLY, SD_BUS_ERROR_TIMEOUT))
		err_set(&q->refusal, EACCES,
			"access denied: nobody answered polkit's question in time");
	else
		err_set(&q->refusal, EACCES, "access denied: polkit failed: %s",
			e->message ? e->message : e->name);
}

static int read_verdict(struct query *q, sd_bus_message *reply)
{
	int authorized = 0, challenge = 0, dismissed = 0, r;
	const char *key, *value;

	r = sd_bus_message_enter_container(reply, 'r', "bba{ss}");
	if (r > 0)
		r = sd_bus_message_read(reply, "bb", &authorized, &challenge);
	if (r > 0)
		r = sd_bus_message_enter_container(reply, 'a', "{ss}");
	while (r > 0 && (r = sd_bus_message_read(reply, "{ss}", &key, &value)) > 0)
		if (strcmp(key, "polkit.dismissed") == 0 && value[0])
			dismissed = 1;
	if (r < 0)
		return r;

	if (authorized)
		q->state = QUERY_ALLOWED;
	else if (dismissed)
		err_set(&q->refusal, EACCES,
			"access denied: the authentication dialog was dismissed");
	else if (challenge)
		err_set(&q->refusal, ENOKEY, "interactive authentication required");
	else
		err_set(&q->refusal, EACCES, "access denied");
	return 0;
}

static int on_verdict(sd_bus_message *reply, void *userdata, sd_bus_error *ret_error)
{
	struct query *q = userdata;
	const sd_bus_error *e = sd_bus_message_get_error(reply);
	int r;

	(void)ret_error;
	q->slot = sd_bus_slot_unref(q->slot);
	q->state = QUERY_REFUSED;
	if (e)
		refuse_unanswered(q, e);
	else if (read_verdict(q, reply) < 0)
		err_set(&q->refusal, EACCES, "access denied: polkit's answer is malformed");

	/* The same message again, from its start; the handler finds this query by it. */
	r = sd_bus_message_rewind(q->call, true);
	if (r >= 0)
		r = sd_bus_enqueue_for_read(q->polkit->bus, q->call);
	/*
	 * Idle priority comes after the queue is empty, so whether or not the
	 * handler gets as far as polkit_check() this time, the query goes.
	 */
	if (r >= 0)
		r = sd_event_add_defer(sd_bus_get_event(q->polkit->bus), &q->cleanup, on_cleanup,
				       q);
	if (r >= 0)
		r = sd_event_source_set_priority(q->cleanup, SD_EVENT_PRIORITY_IDLE);
	if (r < 0) {
		(void)sd_bus_reply_method_errorf(q->call, SD_BUS_ERROR_FAILED,
						 "the call could not be taken up again");
		query_free(q);
	}
	return 1;
}

/* Second pass: the answer is there. */
static int take_answer(struct query *q, const char *question, const struct polkit_request *req,
		       struct err *err)
{
	char what[256];

	describe(req, what, sizeof(what));
	if (strcmp(q->question, question) != 0)
		return err_set(err, ESTALE,
			       "cannot %s: it changed while its authorization was being asked for",
			       what);
	if (q->state == QUERY_ALLOWED)
		return 1;
	return err_set(err, q->refusal.code, "cannot %s: %s (action %s)", what, q->refusal.msg,
		       req->action);
}

/* How many questions wait, and how many of them for this user. */
static void count_queries(struct polkit *p, uid_t uid, size_t *ret_all, size_t *ret_own)
{
	struct query *q;

	*ret_all = *ret_own = 0;
	LIST_FOREACH(q, &p->queries, link) {
		(*ret_all)++;
		*ret_own += q->uid == uid;
	}
}

static int send_question(struct query *q, const struct polkit_request *req)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
	bool person = sd_bus_message_get_allow_interactive_authorization(q->call) > 0;
	int r;

	r = sd_bus_message_new_method_call(q->polkit->bus, &m, PK_NAME, PK_PATH, PK_INTERFACE,
					   "CheckAuthorization");
	if (r >= 0)
		r = sd_bus_message_append(m, "(sa{sv})s", "system-bus-name", 1, "name", "s",
					  sd_bus_message_get_sender(q->call), req->action);
	if (r >= 0)
		r = sd_bus_message_open_container(m, 'a', "{ss}");
	if (r >= 0)
		r = foreach_detail(req, append_detail, m);
	if (r >= 0)
		r = sd_bus_message_close_container(m);
	if (r >= 0)
		r = sd_bus_message_append(m, "us", person ? PK_ALLOW_USER_INTERACTION : 0,
					  q->cancellation_id);
	if (r >= 0)
		r = sd_bus_call_async(q->polkit->bus, &q->slot, m, on_verdict, q,
				      person ? ASK_PERSON_USEC : ASK_USEC);
	return r;
}

static int ask(struct polkit *p, sd_bus_message *call, uid_t uid, const struct polkit_request *req,
	       char *question, struct err *err)
{
	_cleanup_(query_free_cleanup) struct query *q = NULL;
	size_t n_all, n_own;
	int r;

	if (!sd_bus_message_get_sender(call))
		return err_set(err, EACCES, "the caller has no name on the bus");
	count_queries(p, uid, &n_all, &n_own);
	if (n_all >= QUERIES_MAX || n_own >= QUERIES_PER_USER_MAX)
		return err_set(
			err, ENOBUFS,
			"too many calls wait for their authorization already, try again later");

	q = calloc(1, sizeof(*q));
	if (!q)
		return err_set(err, ENOMEM, "out of memory");
	list_init(&q->link);
	q->polkit = p;
	q->call = sd_bus_message_ref(call);
	q->uid = uid;
	q->question = strdup(question);
	snprintf(q->cancellation_id, sizeof(q->cancellation_id), "q%llu",
		 (unsigned long long)++p->n_asked);
	if (!q->question)
		return err_set(err, ENOMEM, "out of memory");

	r = sd_bus_track_new(p->bus, &q->track, on_caller_gone, q);
	if (r >= 0)
		r = sd_bus_track_add_sender(q->track, call);
	if (r >= 0)
		r = send_question(q, req);
	if (r < 0)
		return err_errno(err, -r, "cannot ask polkit");
	list_append(&p->queries, &q->link);
	q = NULL;
	return 0;
}

int polkit_check(sd_bus_message *call, const struct polkit_request *req, struct polkit *p,
		 struct err *err)
{
	_cleanup_free_ char *question = NULL;
	struct query *q;
	char what[256];
	uid_t uid = (uid_t)-1;
	int r;

	question = question_text(req);
	if (!question)
		return err_set(err, ENOMEM, "out of memory");
	q = find_query(p, call);
	if (q)
		return take_answer(q, question, req, err);

	r = polkit_caller_uid(call, &uid, err);
	if (r < 0)
		return r;
	if (uid == p->trusted || (req->owner_shortcut && uid == req->owner))
		return 1;
	if (!p->ask) {
		describe(req, what, sizeof(what));
		return err_set(err, EACCES, "cannot %s: only uid %u may use this service", what,
			       (unsigned int)p->trusted);
	}
	return ask(p, call, uid, req, question, err);
}
