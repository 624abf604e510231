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
#include "bench/workloads/latency.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { SAMPLE = 16, MAX_CONNECTIONS = 1024 };

static struct options {
	const char *mode;
	const char *path;
	int port;
	int connections;
	size_t size;
	double seconds;
} opt = { .mode = "blocking", .connections = 1, .size = 64, .seconds = 1 };

static volatile sig_atomic_t ended;
static struct latency latency;
static char *buffer;

static void on_end(int sig)
{
	(void)sig;
	ended = 1;
}

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static bool mode_is(const char *name)
{
	return strcmp(opt.mode, name) == 0;
}

static int open_socket(bool server)
{
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons((uint16_t)opt.port) };
	struct sockaddr_un un = { .sun_family = AF_UNIX };
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

/* A blocking socket that is in a sockmap is sometimes woken with nothing to read, and recv then returns EAGAIN. */
static ssize_t recv_some(int fd, char *to, size_t size)
{
	ssize_t n;

	do
		n = recv(fd, to, size, 0);
	while (n < 0 && errno == EAGAIN && !ended);
	return n;
}

/* All of @size bytes, or false at the end of the stream, on an error or when told to end. */
static bool read_all(int fd, size_t size)
{
	for (size_t done = 0; done < size;) {
		ssize_t n = recv_some(fd, buffer + done, size - done);

		if (n <= 0)
			return false;
		done += (size_t)n;
	}
	return true;
}

static bool write_all(int fd, size_t size)
{
	for (size_t done = 0; done < size;) {
		ssize_t n = send(fd, buffer + done, size - done, MSG_NOSIGNAL);

		if (n < 0 && errno == EAGAIN) {
			struct pollfd room = { .fd = fd, .events = POLLOUT };

			poll(&room, 1, -1);
		} else if (n < 0) {
			return false;
		} else {
			done += (size_t)n;
		}
	}
	return true;
}

static void serve_blocking(int listener)
{
	while (!ended) {
		int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);

		if (fd < 0)
			continue;
		if (mode_is("stream")) {
			while (recv_some(fd, buffer, opt.size) > 0)
				continue;
			write_all(fd, 1);
		} else {
			while (read_all(fd, opt.size) && write_all(fd, opt.size))
				continue;
		}
		close(fd);
	}
}

static void serve_epoll(int listener)
{
	int set = epoll_create1(EPOLL_CLOEXEC);
	struct epoll_event event = { .events = EPOLLIN, .data.fd = listener }, events[64];

	epoll_ctl(set, EPOLL_CTL_ADD, listener, &event);
	while (!ended) {
		int count = epoll_wait(set, events, 64, -1);

		for (int i = 0; i < count; i++) {
			int fd = events[i].data.fd;
			ssize_t n;

			if (fd == listener) {
				fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
				event = (struct epoll_event){ .events = EPOLLIN | EPOLLET, .data.fd = fd };
				epoll_ctl(set, EPOLL_CTL_ADD, fd, &event);
				continue;
			}
			while ((n = recv(fd, buffer, opt.size, 0)) > 0)
				write_all(fd, (size_t)n);
			if (n == 0)
				close(fd);
		}
	}
}

static void load_blocking(uint64_t start, uint64_t end)
{
	uint64_t done = 0, now = start;
	int fd = open_socket(false);

	while (now < end) {
		uint64_t before = now;

		for (int i = 0; i < SAMPLE; i++) {
			if (!write_all(fd, opt.size) || !read_all(fd, opt.size))
				die("echo");
			if (i == 0)
				latency_note(&latency, now_ns() - before);
		}
		done += SAMPLE;
		now = now_ns();
	}
	latency_print(&latency, done, done * opt.size, now - start);
}

static void load_epoll(uint64_t start, uint64_t end)
{
	static uint64_t sent[MAX_CONNECTIONS];
	static size_t got[MAX_CONNECTIONS];
	static int fds[MAX_CONNECTIONS];
	int set = epoll_create1(EPOLL_CLOEXEC);
	struct epoll_event event, events[64];
	uint64_t done = 0, now = start;

	for (int i = 0; i < opt.connections; i++) {
		fds[i] = open_socket(false);
		fcntl(fds[i], F_SETFL, O_NONBLOCK);
		event = (struct epoll_event){ .events = EPOLLIN | EPOLLET, .data.u32 = (uint32_t)i };
		epoll_ctl(set, EPOLL_CTL_ADD, fds[i], &event);
		sent[i] = now_ns();
		write_all(fds[i], opt.size);
	}
	while (now < end) {
		int count = epoll_wait(set, events, 64, 1000);

		for (int i = 0; i < count; i++) {
			uint32_t c = events[i].data.u32;
			ssize_t n;

			while ((n = recv(fds[c], buffer, opt.size - got[c], 0)) > 0) {
				got[c] += (size_t)n;
				if (got[c] < opt.size)
					continue;
				got[c] = 0;
				if (sent[c])
					latency_note(&latency, now_ns() - sent[c]);
				sent[c] = ++done % SAMPLE == 0 ? now_ns() : 0;
				write_all(fds[c], opt.size);
			}
			if (n == 0)
				die("server closed");
		}
		if (done % SAMPLE == 0 || count <= 0)
			now = now_ns();
	}
	latency_print(&latency, done, done * opt.size, now - start);
}

static void load_stream(uint64_t start, uint64_t end)
{
	/* A clock read per 64 B message would be a good part of its cost, one per 64 MiB would overrun the end. */
	int batch = opt.size >= 65536 ? 1 : 64;
	uint64_t done = 0;
	int fd = open_socket(false);

	while (now_ns() < end) {
		for (int i = 0; i < batch; i++)
			if (!write_all(fd, opt.size))
				die("send");
		done += (uint64_t)batch;
	}
	shutdown(fd, SHUT_WR);
	if (!read_all(fd, 1))
		die("recv");
	latency_print(NULL, done, done * opt.size, now_ns() - start);
}

static void load_short(uint64_t start, uint64_t end)
{
	uint64_t done = 0, now = start;

	while (now < end) {
		uint64_t before = now;
		int fd = open_socket(false);

		if (!write_all(fd, opt.size) || !read_all(fd, opt.size))
			die("echo");
		close(fd);
		now = now_ns();
		latency_note(&latency, now - before);
		done++;
	}
	latency_print(&latency, done, done * opt.size, now - start);
}

static int usage(FILE *out, int code)
{
	fputs("usage: pingpong serve|load (--port N | --unix PATH) [--mode blocking|epoll|stream|short]\n"
	      "                [--size BYTES] [--seconds S] [--connections N]\n", out);
	return code;
}

int main(int argc, char **argv)
{
	static const struct option known[] = {
		{ "port", 1, NULL, 'p' },    { "unix", 1, NULL, 'u' },	      { "mode", 1, NULL, 'm' },
		{ "size", 1, NULL, 's' },    { "seconds", 1, NULL, 't' },     { "connections", 1, NULL, 'c' },
		{ "help", 0, NULL, 'h' },    { NULL, 0, NULL, 0 },
	};
	/* No SA_RESTART: the end interrupts whatever call the server blocks in, and main returns. */
	struct sigaction action = { .sa_handler = on_end };
	uint64_t start;

	for (int c; (c = getopt_long(argc, argv, "", known, NULL)) != -1;) {
		switch (c) {
		case 'p': opt.port = atoi(optarg); break;
		case 'u': opt.path = optarg; break;
		case 'm': opt.mode = optarg; break;
		case 's': opt.size = strtoul(optarg, NULL, 0); break;
		case 't': opt.seconds = atof(optarg); break;
		case 'c': opt.connections = atoi(optarg); break;
		case 'h': return usage(stdout, 0);
		default: return usage(stderr, 2);
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
		(mode_is("epoll") ? serve_epoll : serve_blocking)(open_socket(true));
		return 0;
	}
	start = now_ns();
	(mode_is("epoll")   ? load_epoll :
	 mode_is("stream")  ? load_stream :
	 mode_is("short")   ? load_short :
			      load_blocking)(start, start + (uint64_t)(opt.seconds * 1e9));
	return 0;
}
