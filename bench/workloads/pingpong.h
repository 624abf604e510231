/* SPDX-License-Identifier: BSD-2-Clause */
/* What the parts of pingpong share; see pingpong.c. */
#ifndef BENCH_PINGPONG_H
#define BENCH_PINGPONG_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum { SAMPLE = 16, MAX_CONNECTIONS = 1024 };

struct options {
	const char *mode;
	const char *path; /* of an AF_UNIX socket, or NULL for TCP */
	int port;
	int connections;
	int idle; /* epoll: connections beside those, which have talked and are silent now */
	size_t size;
	double seconds;
};

extern struct options opt;
extern char *buffer;                /* of opt.size bytes */
extern volatile sig_atomic_t ended; /* told to end */

/** Print what errno says and exit. */
void die(const char *what);
bool mode_is(const char *name);

/** A listening socket for the server, a connected one for the load. */
int open_socket(bool server);

/** recv, but EAGAIN on a blocking socket is no answer: one in a sockmap is sometimes woken with nothing to read. */
ssize_t recv_some(int fd, char *to, size_t size);

/** All of @size bytes, or false at the end of the stream, on an error or when told to end. */
bool read_all(int fd, size_t size);

/** All of @size bytes, waiting for room if need be; false if the peer is gone. */
bool write_all(int fd, size_t size);

/** Serve until told to end. */
void serve(int listener);

/** Run the load of the chosen mode from @start to @end (nanoseconds) and print the result. */
void load(uint64_t start, uint64_t end);

#endif
