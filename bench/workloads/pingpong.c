// SPDX-License-Identifier: BSD-2-Clause
/*
 * The smallest programs that use sockets: a server and a load in one binary, in four ways.
 *
 *   blocking  send a message, recv the echo; one connection
 *   epoll     the same with non-blocking sockets and edge-triggered epoll; one or more connections
 *   stream    one-way: send messages for a while, half-close, wait for one byte that says everything was read
 *   short     connect, one echo, close
 *
 * They are ordinary users of the socket interface and know nothing of what carries the bytes. The load prints one line
 * of JSON (see latency.h). In the echo loops only every SAMPLE-th round trip is timed on its own: a clock read is
 * a fifth of a round trip through shared memory.
 */
#include "bench/workloads/pingpong.h"
#include "bench/workloads/latency.h"

#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

struct options opt = {.mode = "blocking", .connections = 1, .size = 64, .seconds = 1};

volatile sig_atomic_t ended;
char *buffer;

static void on_end(int sig)
{
	(void)sig;
	ended = 1;
}

void die(const char *what)
{
	perror(what);
	exit(1);
}

bool mode_is(const char *name)
{
	return strcmp(opt.mode, name) == 0;
}

int open_socket(bool server)
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons((uint16_t)opt.port)};
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	struct sockaddr *address = opt.path ? (struct sockaddr *)&un : (struct sockaddr *)&in;
	socklen_t length = opt.path ? sizeof(un) : sizeof(in);
	int one = 1, fd = socket(opt.path ? AF_UNIX : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		die("socket");
	in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (opt.path)
		snprintf(un.sun_path, sizeof(un.sun_path), "%s", opt.path);
	else
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (server) {
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
		if (bind(fd, address, length) || listen(fd, 1024))
			die("listen");
	} else if (connect(fd, address, length)) {
		die("connect");
	}
	return fd;
}

ssize_t recv_some(int fd, char *to, size_t size)
{
	ssize_t n;

	do
		n = recv(fd, to, size, 0);
	while (n < 0 && errno == EAGAIN && !ended);
	return n;
}

bool read_all(int fd, size_t size)
{
	for (size_t done = 0; done < size;) {
		ssize_t n = recv_some(fd, buffer + done, size - done);

		if (n <= 0)
			return false;
		done += (size_t)n;
	}
	return true;
}

bool write_all(int fd, size_t size)
{
	for (size_t done = 0; done < size;) {
		ssize_t n = send(fd, buffer + done, size - done, MSG_NOSIGNAL);

		if (n < 0 && errno == EAGAIN) {
			struct pollfd room = {.fd = fd, .events = POLLOUT};

			poll(&room, 1, -1);
		} else if (n < 0) {
			return false;
		} else {
			done += (size_t)n;
		}
	}
	return true;
}

static int usage(FILE *out, int code)
{
	fputs("usage: pingpong serve|load (--port N | --unix PATH) [--mode blocking|epoll|stream|short]\n"
	      "                [--size BYTES] [--seconds S] [--connections N] [--idle N]\n",
		out);
	return code;
}

int main(int argc, char **argv)
{
	static const struct option known[] = {
		{"port", 1, NULL, 'p'},
		{"unix", 1, NULL, 'u'},
		{"mode", 1, NULL, 'm'},
		{"size", 1, NULL, 's'},
		{"seconds", 1, NULL, 't'},
		{"connections", 1, NULL, 'c'},
		{"idle", 1, NULL, 'i'},
		{"help", 0, NULL, 'h'},
		{NULL, 0, NULL, 0},
	};
	/* No SA_RESTART: the end interrupts whatever call the server blocks in, and main returns. */
	struct sigaction action = {.sa_handler = on_end};
	uint64_t start;

	for (int c; (c = getopt_long(argc, argv, "", known, NULL)) != -1;) {
		switch (c) {
		case 'p':
			opt.port = atoi(optarg);
			break;
		case 'u':
			opt.path = optarg;
			break;
		case 'm':
			opt.mode = optarg;
			break;
		case 's':
			opt.size = strtoul(optarg, NULL, 0);
			break;
		case 't':
			opt.seconds = atof(optarg);
			break;
		case 'c':
			opt.connections = atoi(optarg);
			break;
		case 'i':
			opt.idle = atoi(optarg);
			break;
		case 'h':
			return usage(stdout, 0);
		default:
			return usage(stderr, 2);
		}
	}
	if (optind + 1 != argc || (!opt.path && !opt.port) || !opt.size || opt.connections < 1 ||
		opt.connections > MAX_CONNECTIONS ||
		!(mode_is("blocking") || mode_is("epoll") || mode_is("stream") || mode_is("short")))
		return usage(stderr, 2);
	buffer = calloc(1, opt.size);
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGINT, &action, NULL);
	if (strcmp(argv[optind], "serve") == 0) {
		serve(open_socket(true));
		return 0;
	}
	start = now_ns();
	load(start, start + (uint64_t)(opt.seconds * 1e9));
	return 0;
}
