// SPDX-License-Identifier: BSD-2-Clause
/*
 * One end of a connection that is busy in both directions, every byte checked; in its midst one thing happens that no ring survives.
 *
 *     busy serve [OPTION...]            prints "PORT n", serves one connection
 *     busy connect PORT [OPTION...]
 *     busy go-on FD SENT RECEIVED TOTAL what another program does with a connection that it was given
 *     busy deny CALL COMMAND...         the command, without that system call (EPERM)
 *
 *     --bytes N        so many each way (default 24 MiB)
 *     --event NAME     exec, exec-shim, spawn, pass, pass-shim, splice, sendfile, option, shared (see events[]), once a third is sent
 *     --chunk N        at most so many with one call (default and most: 64 KiB)
 *     --pace N         microseconds of rest after each 64 KiB
 *
 * Ends with 0 when all was sent, all came, and nothing else. The loop is one of poll and non-blocking calls, so that at the event
 * it is known to the byte what was sent and received.
 */
#include "tests/down/busy.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct busy busy = {.total = 24u << 20, .chunk = CHUNK};

void die(const char *what)
{
	fprintf(stderr, "busy %d: %s: %s\n", (int)getpid(), what, strerror(errno));
	exit(1);
}

/* The byte at an offset: no two neighbourhoods are alike, so that what is lost, doubled or moved shows. */
static unsigned char byte_at(uint64_t offset)
{
	uint64_t x = offset * 0x9e3779b97f4a7c15u;

	return (unsigned char)(x >> 56 ^ x >> 29);
}

void fill(unsigned char *to, uint64_t offset, size_t size)
{
	for (size_t i = 0; i < size; i++)
		to[i] = byte_at(offset + i);
}

static void check(const unsigned char *bytes, size_t size)
{
	for (size_t i = 0; i < size; i++)
		if (bytes[i] != byte_at(busy.received + i)) {
			const uint64_t at = busy.received + i;

			fprintf(stderr, "busy %d: byte %llu is wrong\n", (int)getpid(), (unsigned long long)at);
			exit(3);
		}
	busy.received += size;
}

static void send_some(void)
{
	static unsigned char buffer[CHUNK];
	size_t size = 1 + (busy.sent * 7919) % busy.chunk;
	ssize_t n;

	if (size > busy.total - busy.sent)
		size = busy.total - busy.sent;
	fill(buffer, busy.sent, size);
	n = send(busy.fd, buffer, size, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (n < 0 && errno != EAGAIN && errno != EINTR)
		die("send");
	if (n > 0)
		busy.sent += (uint64_t)n;
	if (busy.sent == busy.total && shutdown(busy.fd, SHUT_WR))
		die("shutdown");
}

/* False at the end. */
static bool receive_some(void)
{
	static unsigned char buffer[CHUNK];
	ssize_t n = recv(busy.fd, buffer, 1 + (busy.received * 104729) % busy.chunk, MSG_DONTWAIT);

	if (n < 0 && errno != EAGAIN && errno != EINTR)
		die("recv");
	if (n > 0)
		check(buffer, (size_t)n);
	return n != 0;
}

/* Neither end gets far ahead of the other: whatever happens, happens in the midst of both directions. */
static bool may_send(void)
{
	return busy.sent < busy.total && busy.sent < busy.received + AHEAD;
}

void go_on(void)
{
	bool open = true;

	while (open || busy.sent < busy.total) {
		struct pollfd fd = {.fd = busy.fd, .events = (short)((open ? POLLIN : 0) | (may_send() ? POLLOUT : 0))};

		if (poll(&fd, 1, 20000) != 1)
			die("nothing happens");
		if (busy.event && busy.sent > busy.total / 3) {
			void (*event)(void) = busy.event;

			busy.event = NULL;
			event();
			if (busy.fd < 0)
				return;
			continue;
		}
		if (fd.revents & (POLLIN | POLLHUP | POLLERR) && open)
			open = receive_some();
		if (fd.revents & POLLOUT && may_send())
			send_some();
		if (busy.pace && busy.sent % CHUNK < 4096)
			usleep(busy.pace);
	}
	if (busy.received != busy.total) {
		fprintf(stderr, "busy %d: %llu of %llu bytes came\n", (int)getpid(), (unsigned long long)busy.received,
			(unsigned long long)busy.total);
		exit(3);
	}
	printf("{\"sent\": %llu, \"received\": %llu}\n", (unsigned long long)busy.sent, (unsigned long long)busy.received);
}

static void options(int argc, char **argv)
{
	static const struct option known[] = {{"bytes", required_argument, NULL, 'b'}, {"event", required_argument, NULL, 'e'},
		{"pace", required_argument, NULL, 'p'}, {"chunk", required_argument, NULL, 'c'}, {0}};
	int option;

	while ((option = getopt_long(argc, argv, "", known, NULL)) != -1)
		if (option == 'b')
			busy.total = strtoull(optarg, NULL, 10);
		else if (option == 'c')
			busy.chunk = strtoull(optarg, NULL, 10) % (CHUNK + 1);
		else if (option == 'p')
			busy.pace = (unsigned)atoi(optarg);
		else if (option != 'e' || !(busy.event = event_named(optarg)))
			exit(2);
}

static void serve(void)
{
	struct sockaddr_in address = {.sin_family = AF_INET};
	socklen_t length = sizeof(address);
	int listener = socket(AF_INET, SOCK_STREAM, 0);

	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (bind(listener, (struct sockaddr *)&address, length) || listen(listener, 8) ||
	    getsockname(listener, (struct sockaddr *)&address, &length))
		die("listen");
	printf("PORT %u\n", ntohs(address.sin_port));
	fflush(stdout);
	busy.fd = accept(listener, NULL, NULL);
	if (busy.fd < 0)
		die("accept");
	close(listener);
}

static void connect_to(const char *port)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};

	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	busy.fd = socket(AF_INET, SOCK_STREAM, 0);
	if (busy.fd < 0 || connect(busy.fd, (struct sockaddr *)&address, sizeof(address)))
		die("connect");
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";

	busy.program = argv[0];
	if (strcmp(what, "deny") == 0 && argc > 3) {
		deny(argv[2]);
		execv(argv[3], argv + 3);
		die(argv[3]);
	}
	if (strcmp(what, "take") == 0) { /* from the event `pass` */
		take_over(atoi(argv[2]));
		return 0;
	}
	if (strcmp(what, "go-on") == 0 && argc == 6) {
		busy.fd = atoi(argv[2]);
		busy.sent = strtoull(argv[3], NULL, 10);
		busy.received = strtoull(argv[4], NULL, 10);
		busy.total = strtoull(argv[5], NULL, 10);
		go_on();
		return 0;
	}
	if (strcmp(what, "serve") == 0) {
		options(argc - 1, argv + 1);
		serve();
	} else if (strcmp(what, "connect") == 0 && argc > 2) {
		options(argc - 2, argv + 2);
		connect_to(argv[2]);
	} else {
		fprintf(stderr, "usage: busy serve|connect PORT|deny CALL COMMAND... [--bytes N] [--event NAME] [--pace US]\n");
		return 2;
	}
	go_on();
	return 0;
}
