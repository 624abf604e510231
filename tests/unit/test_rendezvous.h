/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A host for the rendezvous, in place of the core: streams without bytes on the ring, descriptors that are not hidden.
 * Peers are forked processes, connected by real loopback TCP.
 */
#ifndef TEST_RENDEZVOUS_H
#define TEST_RENDEZVOUS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "shim/core/lease.h"
#include "shim/core/hidden.h"
#include "shim/core/log.h"
#include "shim/core/process.h"
#include "shim/rendezvous/private.h"
#include "shim/rendezvous/rendezvous.h"

/* ---- what the core gives ---------------------------------------------------------------------------------------- */

struct nn_config nn_config = { .backend = { ARENA_MEMFD, NULL } };

static uint64_t host_later_ns; /* how much later than it is a test wants it to be */

static inline uint64_t host_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec + host_later_ns;
}
static inline uint32_t host_self(void)
{
	return (uint32_t)gettid();
}
struct nn_front nn_front = { .now = host_now, .self = host_self };

#define HOST_STREAMS 256
static struct nn_stream host_streams[HOST_STREAMS];
static struct state_stream host_shown[HOST_STREAMS];
static unsigned host_stream_top;

int hidden_take(int fd)
{
	int high;

	if (fd < 0)
		return fd;
	high = fcntl(fd, F_DUPFD_CLOEXEC, 500);
	close(fd);
	return high < 0 ? -EMFILE : high;
}

void hidden_close(int fd)
{
	close(fd);
}

int hidden_watch(int *holder)
{
	(void)holder;
	return 0;
}

void hidden_unwatch(int *holder)
{
	(void)holder;
}

uint64_t process_allowance(void)
{
	return UINT64_MAX;
}

void *process_table(size_t bytes)
{
	return calloc(1, bytes);
}

bool lease_forget(struct nn_pair *pair)
{
	(void)pair; /* the host leases nothing */
	return true;
}

void nn_log(enum log_level level, const char *message, long number)
{
	if (getenv("NOISY"))
		fprintf(stderr, "[%d] %d %s %ld\n", (int)getpid(), level, message, number);
}

struct nn_stream *stream_get(int fd)
{
	for (unsigned i = 0; i < host_stream_top; i++)
		if (host_streams[i].fd == fd && host_streams[i].phase != STREAM_FREE) {
			host_streams[i].users++;
			return &host_streams[i];
		}
	return NULL;
}

void stream_put(struct nn_stream *stream)
{
	stream->users--;
}

void stream_paired(struct nn_stream *stream, struct nn_pair *pair, unsigned own_end, unsigned peer_end, uint64_t peer_cookie)
{
	assert_int_equal(stream->phase, STREAM_SEEKING);
	stream->pair = pair;
	stream->own = &pair->own->ends[own_end];
	stream->peer = &pair->peer->ends[peer_end];
	stream->own_end = own_end;
	stream->peer_end = peer_end;
	stream->peer_cookie = peer_cookie;
	atomic_store(&stream->own->rx_flags, END_READY);
	stream->phase = STREAM_PAIRED;
}

void stream_alone(struct nn_stream *stream, enum nn_reason reason)
{
	assert_int_equal(stream->phase, STREAM_SEEKING);
	stream->stay_reason = (uint8_t)reason;
	stream->phase = STREAM_ALONE;
}

/* ---- streams and calls ------------------------------------------------------------------------------------------ */

static inline struct nn_stream *host_stream(int fd, bool connector)
{
	struct nn_stream *stream;

	assert_true(host_stream_top < HOST_STREAMS);
	stream = &host_streams[host_stream_top];
	memset(stream, 0, sizeof(*stream));
	memset(&host_shown[host_stream_top], 0, sizeof(host_shown[0]));
	stream->shown = &host_shown[host_stream_top];
	stream->index = host_stream_top++;
	stream->fd = fd;
	stream->fds = stream->users = 1;
	stream->connector = connector;
	stream->phase = STREAM_SEEKING;
	return stream;
}

static inline void host_call(struct nn_stream *stream)
{
	stream->calls++;
	if (stream->phase == STREAM_SEEKING && stream->calls >= stream->next_try)
		rendezvous_step(stream);
}

static inline void host_close(struct nn_stream *stream)
{
	if (stream->phase == STREAM_SEEKING)
		rendezvous_abandon(stream);
	if (stream->phase == STREAM_PAIRED) {
		arena_end_free(stream->pair->arena, stream->own_end);
		rendezvous_pair_put(stream->pair);
	}
	stream->phase = STREAM_FREE;
	close(stream->fd);
	stream->fd = -1;
}

/* One message there and back, as often as told or until this end's stream has found its peer. */
static inline void host_ping(struct nn_stream *stream, unsigned rounds)
{
	char byte;

	for (unsigned i = 0; i < rounds; i++) {
		if (write(stream->fd, "x", 1) != 1)
			return;
		host_call(stream);
		if (read(stream->fd, &byte, 1) != 1)
			return;
		host_call(stream);
	}
}

static inline void host_pong(struct nn_stream *stream)
{
	char byte;

	while (read(stream->fd, &byte, 1) == 1) {
		host_call(stream);
		if (write(stream->fd, &byte, 1) != 1)
			return;
		host_call(stream);
	}
}

/* ---- sockets and processes -------------------------------------------------------------------------------------- */

/* 4: IPv4 at both ends; 6: IPv6; 64: the listener is IPv6 and takes IPv4. */
static inline int host_listen(int version, struct sockaddr_in6 *to, socklen_t *length)
{
	struct sockaddr_in v4 = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct sockaddr_in6 v6 = { .sin6_family = AF_INET6 };
	int fd = socket(version == 4 ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);

	memset(to, 0, sizeof(*to));
	assert_true(fd >= 0);
	if (version == 6)
		v6.sin6_addr = in6addr_loopback;
	assert_int_equal(bind(fd, version == 4 ? (void *)&v4 : (void *)&v6, version == 4 ? sizeof(v4) : sizeof(v6)), 0);
	assert_int_equal(listen(fd, 64), 0);
	*length = sizeof(*to);
	assert_int_equal(getsockname(fd, (struct sockaddr *)to, length), 0);
	if (version == 64) {
		v4.sin_port = to->sin6_port;
		memcpy(to, &v4, sizeof(v4));
		*length = sizeof(v4);
	}
	return fd;
}

static inline int host_connect(const struct sockaddr_in6 *to, socklen_t length)
{
	int one = 1, fd = socket(to->sin6_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || connect(fd, (const struct sockaddr *)to, length) < 0)
		_exit(99);
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	return fd;
}

static inline int host_accept(int listener)
{
	int one = 1, fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);

	assert_true(fd >= 0);
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	return fd;
}

/* The exit status of a child that must not have been killed. */
static inline int host_join(pid_t child)
{
	int status;

	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static inline unsigned host_fd_count(void)
{
	DIR *folder = opendir("/proc/self/fd");
	unsigned count = 0;

	assert_non_null(folder);
	while (readdir(folder))
		count++;
	closedir(folder);
	return count;
}

/* A child in which to be another process. It ends by _exit. */
static inline pid_t host_fork(void)
{
	pid_t child;

	fflush(NULL);
	child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		alarm(20);
		rendezvous_fork_child();
	}
	return child;
}

/* In children, where cmocka's assertions cannot report: exit with the line's number, which is not 0. */
#define CHILD_CHECK(x) \
	do { \
		if (!(x)) { \
			fprintf(stderr, "%s:%d: %s (errno %d)\n", __FILE__, __LINE__, #x, errno); \
			_exit(1); \
		} \
	} while (0)

#endif
