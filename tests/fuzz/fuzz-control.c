/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzzing of the worker's end of the control channel (vmm/api/control.c)
 *
 * Each input is a connection with a few calls in it, each a record: the number of
 * a method, how many descriptors go along, the lengths of signature (one byte) and
 * body (two), and these.  The message around them is made here, as sd-bus, not we,
 * parses it; what a caller puts into the arguments is ours: dictionaries,
 * configuration, resources.
 *
 * The "kvm" that a caller can hand over is /dev/null, so no machine ever comes up:
 * Start goes as far as asking it for a VM.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <systemd/sd-event.h>
#include <unistd.h>

#include "vmm/api/control.h"
#include "vmm/api/protocol.h"
#include "vmm/base/bytes.h"
#include "vmm/base/cleanup.h"
#include "vmm/base/err.h"
#include "vmm/base/math.h"
#include "vmm/base/thread.h"

#define CALLS_MAX 8
#define FDS_MAX   3
#define FD_LIMIT  64  /* more are never open at a time */
#define TURNS_MAX 64U /* of the event loop after one write: a few would do */

static const char *const methods[] = {
	"Hello",       "AddResources", "Start", "Pause",       "Resume",      "Reset", "Reboot",
	"PowerButton", "InjectNMI",    "Quit",  "OpenConsole", "GetCounters", "Query", "Nothing",
};

/* One message, in the little-endian wire format of the D-Bus specification. */
struct message_buf {
	uint8_t bytes[4096];
	size_t n;
};

static void put(struct message_buf *m, const void *data, size_t len)
{
	assert(range_fits(m->n, len, sizeof(m->bytes)));
	memcpy(m->bytes + m->n, data, len);
	m->n += len;
}

static void put_u32(struct message_buf *m, uint32_t v)
{
	uint8_t raw[4];

	bytes_put_le(raw, 4, v);
	put(m, raw, 4);
}

static void pad(struct message_buf *m, size_t align)
{
	static const uint8_t zeroes[8];

	put(m, zeroes, align_up(m->n, align) - m->n);
}

/* A header field: (y code, v value); type 'g' has a length byte, 's' and 'o' four. */
static void put_field(struct message_buf *m, uint8_t code, char type, const void *value, uint8_t n)
{
	const uint8_t head[] = { code, 1, (uint8_t)type, 0 };

	pad(m, 8);
	put(m, head, sizeof(head));
	if (type == 'g')
		put(m, &n, 1);
	else
		put_u32(m, n);
	put(m, value, n);
	put(m, "", 1);
}

static void make_call(struct message_buf *m, uint32_t serial, const char *method,
		      const uint8_t *signature, uint8_t n_signature, uint32_t n_fds,
		      uint32_t n_body)
{
	static const uint8_t start[] = { 'l', 1 /* method call */, 0, 1 };
	size_t fields;

	m->n = 0;
	put(m, start, sizeof(start));
	put_u32(m, n_body);
	put_u32(m, serial);
	put_u32(m, 0); /* bytes of fields, filled in below */
	fields = m->n;
	put_field(m, 1, 'o', PROTOCOL_OBJECT, sizeof(PROTOCOL_OBJECT) - 1);
	put_field(m, 2, 's', PROTOCOL_INTERFACE, sizeof(PROTOCOL_INTERFACE) - 1);
	put_field(m, 3, 's', method, (uint8_t)strlen(method));
	if (n_signature)
		put_field(m, 8, 'g', signature, n_signature);
	if (n_fds) {
		pad(m, 8);
		put(m, "\x09\x01u", 4);
		put_u32(m, n_fds);
	}
	bytes_put_le(m->bytes + fields - 4, 4, m->n - fields);
	pad(m, 8);
}

static bool send_all(int fd, const void *head, size_t n_head, const void *body, size_t n_body,
		     uint32_t n_fds)
{
	struct iovec iov[2] = { { .iov_base = (void *)(uintptr_t)head, .iov_len = n_head },
				{ .iov_base = (void *)(uintptr_t)body, .iov_len = n_body } };
	union {
		struct cmsghdr header;
		uint8_t room[CMSG_SPACE(FDS_MAX * sizeof(int))];
	} control = { 0 };
	struct msghdr msg = { .msg_iov = iov, .msg_iovlen = 2 };
	int fds[FDS_MAX];
	bool sent;

	assert(n_fds <= FDS_MAX);
	for (uint32_t i = 0; i < n_fds; i++)
		fds[i] = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (n_fds) {
		msg.msg_control = &control;
		msg.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
		control.header = (struct cmsghdr){ .cmsg_len = CMSG_LEN(n_fds * sizeof(int)),
						   .cmsg_level = SOL_SOCKET,
						   .cmsg_type = SCM_RIGHTS };
		memcpy(CMSG_DATA(&control.header), fds, n_fds * sizeof(int));
	}
	sent = sendmsg(fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)(n_head + n_body);
	for (uint32_t i = 0; i < n_fds; i++)
		close(fds[i]);
	return sent;
}

/* False when the process would end: Quit. */
static bool turn(sd_event *event)
{
	for (unsigned int i = 0; i < TURNS_MAX; i++) {
		int r = sd_event_run(event, 0);

		assert(r >= 0);
		if (sd_event_get_state(event) == SD_EVENT_FINISHED)
			return false;
		if (r == 0)
			return true;
	}
	assert(false); /* it never comes to rest */
	return false;
}

/* The answers, which nobody looks at: a full socket would stop the server. */
static void swallow(int fd)
{
	uint8_t buf[4096];

	while (recv(fd, buf, sizeof(buf), MSG_DONTWAIT) > 0)
		;
}

static size_t take(const uint8_t **data, size_t *size, size_t want, const uint8_t **ret)
{
	size_t n = MIN(want, *size);

	*ret = *data;
	*data += n;
	*size -= n;
	return n;
}

/*
 * libsystemd 252 drops a message whose header it refuses, and forgets to close
 * the descriptors that came with it.  Not ours to mend, and only the daemon could do it.
 */
static bool is_signature(const uint8_t *data, size_t n)
{
	g_autofree char *text = g_strndup((const char *)data, n);

	return n > 0 && strlen(text) == n && g_variant_is_signature(text);
}

static void calls(sd_event *event, int fd, const uint8_t *data, size_t size)
{
	struct message_buf m;

	for (uint32_t serial = 1; size >= 5 && serial <= CALLS_MAX; serial++) {
		const char *method = methods[data[0] % ARRAY_SIZE(methods)];
		uint32_t n_fds = data[1] % (FDS_MAX + 1U);
		size_t n_signature = data[2] & 63, n_body = bytes_get_le(data + 3, 2);
		const uint8_t *signature, *body;

		data += 5;
		size -= 5;
		n_signature = take(&data, &size, n_signature, &signature);
		n_body = take(&data, &size, n_body, &body);
		if (!is_signature(signature, n_signature))
			n_fds = 0;
		make_call(&m, serial, method, signature, (uint8_t)n_signature, n_fds,
			  (uint32_t)n_body);
		if (!send_all(fd, m.bytes, m.n, body, n_body, n_fds) || !turn(event))
			return;
		swallow(fd);
	}
}

static int listen_somewhere(struct sockaddr_un *ret, socklen_t *ret_len)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int r;

	assert(fd >= 0);
	*ret = (struct sockaddr_un){ .sun_family = AF_UNIX };
	/* no name given: the kernel finds an abstract one */
	r = bind(fd, (struct sockaddr *)ret, sizeof(sa_family_t));
	assert(r == 0);
	*ret_len = sizeof(*ret);
	r = getsockname(fd, (struct sockaddr *)ret, ret_len);
	assert(r == 0);
	r = listen(fd, 1);
	assert(r == 0);
	return fd;
}

static unsigned int count_fds(void)
{
	unsigned int n = 0;

	for (int fd = 0; fd < FD_LIMIT; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char hello[] = "\0AUTH EXTERNAL\r\nDATA\r\nNEGOTIATE_UNIX_FD\r\nBEGIN\r\n";
	struct control *control = NULL;
	struct err err = { 0 };
	sd_event *event = NULL;
	struct sockaddr_un addr;
	socklen_t len;
	unsigned int fds_before;
	int listener, fd, r;

	thread_set_role(THREAD_ROLE_CONTROL);
	fds_before = count_fds();
	listener = listen_somewhere(&addr, &len);
	r = sd_event_new(&event);
	assert(r >= 0);
	r = control_new(event, listener, &control, &err);
	assert(r >= 0 && !err.code);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	r = connect(fd, (struct sockaddr *)&addr, len);
	assert(r == 0);
	if (send_all(fd, hello, sizeof(hello) - 1, NULL, 0, 0) && turn(event)) {
		swallow(fd);
		calls(event, fd, data, size);
	}
	close(fd);
	if (sd_event_get_state(event) != SD_EVENT_FINISHED)
		turn(event); /* it sees that the caller has gone */
	control_free(control);
	sd_event_unref(event);
	/* Whatever was handed over is closed again. */
	assert(count_fds() == fds_before);
	return 0;
}
