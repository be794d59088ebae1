/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guest's side of the vsock test, a static program for a guest without a C library
 *
 *   vsock-peer serve TYPE PORT          accepts, and echoes to the end of each connection
 *   vsock-peer connect TYPE PORT        standard input to the host, its answer to standard output
 *   vsock-peer many TYPE PORT COUNT     as many connections at once, each with its own echo
 *   vsock-peer messages PORT COUNT      seqpacket: messages of many lengths, echoed as they are
 *
 * TYPE: stream or seqpacket.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <linux/vm_sockets.h>

#define CHUNK   (60 * 1024)
#define MANY    512
#define MESSAGE 50000U

static char buf[CHUNK], back[CHUNK];

static void die(const char *what)
{
	fprintf(stderr, "vsock-peer: %s: %s\n", what, strerror(errno));
	exit(1);
}

static int type_of(const char *name)
{
	return strcmp(name, "seqpacket") == 0 ? SOCK_SEQPACKET : SOCK_STREAM;
}

static void put(int fd, const char *data, size_t len)
{
	while (len > 0) {
		ssize_t n = write(fd, data, len);

		if (n < 0)
			die("write");
		data += n;
		len -= (size_t)n;
	}
}

static int dial(int type, unsigned int port)
{
	const struct sockaddr_vm addr = { .svm_family = AF_VSOCK,
					  .svm_cid = VMADDR_CID_HOST,
					  .svm_port = port };
	int fd = socket(AF_VSOCK, type, 0);

	if (fd < 0 || connect(fd, (const struct sockaddr *)&addr, sizeof(addr)) < 0)
		die("connect");
	return fd;
}

static void serve(int type, unsigned int port)
{
	const struct sockaddr_vm addr = { .svm_family = AF_VSOCK,
					  .svm_cid = VMADDR_CID_ANY,
					  .svm_port = port };
	int fd = socket(AF_VSOCK, type, 0), conn;
	ssize_t n;

	if (fd < 0 || bind(fd, (const struct sockaddr *)&addr, sizeof(addr)) < 0 ||
	    listen(fd, MANY) < 0)
		die("listen");
	signal(SIGCHLD, SIG_IGN);
	puts("listening");
	fflush(stdout);
	while ((conn = accept(fd, NULL, NULL)) >= 0) {
		if (fork() == 0) {
			close(fd);
			while ((n = read(conn, buf, sizeof(buf))) > 0)
				put(conn, buf, (size_t)n);
			exit(n < 0);
		}
		close(conn);
	}
	die("accept");
}

/* The answer is copied by a second process, so that neither side waits for the other. */
static int converse(int fd)
{
	ssize_t n;

	if (fork() == 0) {
		while ((n = read(0, buf, sizeof(buf))) > 0)
			put(fd, buf, (size_t)n);
		shutdown(fd, SHUT_WR);
		exit(0);
	}
	while ((n = read(fd, buf, sizeof(buf))) > 0)
		put(1, buf, (size_t)n);
	if (n < 0)
		die("read");
	return 0;
}

static int many(int type, unsigned int port, int count)
{
	int fds[MANY], len;
	char text[32];

	if (count > MANY)
		count = MANY;
	for (int i = 0; i < count; i++)
		fds[i] = dial(type, port);
	for (int i = 0; i < count; i++) {
		len = snprintf(text, sizeof(text), "connection %d", i);
		put(fds[i], text, (size_t)len);
	}
	for (int i = count - 1; i >= 0; i--) {
		len = snprintf(text, sizeof(text), "connection %d", i);
		if (read(fds[i], back, sizeof(back)) != len || memcmp(back, text, (size_t)len) != 0)
			die(text);
		close(fds[i]);
	}
	printf("%d echoes\n", count);
	return 0;
}

static int messages(unsigned int port, unsigned int count)
{
	int fd = dial(SOCK_SEQPACKET, port);

	for (unsigned int i = 0; i < count; i++) {
		size_t len = 1 + i * 7919U % MESSAGE;

		memset(buf, (int)('a' + i % 26), len);
		if (send(fd, buf, len, MSG_EOR) != (ssize_t)len)
			die("send");
		if (recv(fd, back, sizeof(back), 0) != (ssize_t)len || memcmp(buf, back, len) != 0)
			die("another message came back");
	}
	printf("%u messages\n", count);
	return 0;
}

int main(int argc, char **argv)
{
	const char *verb = argc > 1 ? argv[1] : "";

	signal(SIGPIPE, SIG_IGN);
	if (argc == 4 && strcmp(verb, "serve") == 0)
		serve(type_of(argv[2]), (unsigned int)atoi(argv[3]));
	if (argc == 4 && strcmp(verb, "connect") == 0)
		return converse(dial(type_of(argv[2]), (unsigned int)atoi(argv[3])));
	if (argc == 5 && strcmp(verb, "many") == 0)
		return many(type_of(argv[2]), (unsigned int)atoi(argv[3]), atoi(argv[4]));
	if (argc == 4 && strcmp(verb, "messages") == 0)
		return messages((unsigned int)atoi(argv[2]), (unsigned int)atoi(argv[3]));
	fprintf(stderr, "usage: vsock-peer serve|connect|many|messages ...\n");
	return 2;
}
