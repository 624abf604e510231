/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The core's data path without a rendezvous: both ends of a real TCP connection, in one process, are given memory by hand.
 *
 *   peers   two "processes": the memory that each shows the other
 *   wire    one connection between them, both ends tracked and paired
 *
 * What runs is the core's own code; only the front end is ours. A test body runs in a forked child under an alarm: a crash
 * or an endless loop fails that test and no other.
 */
#ifndef CORE_TEST_H
#define CORE_TEST_H

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shim/core/lease.h"
#include "shim/core/lock.h"
#include "shim/core/hidden.h"
#include "shim/core/process.h"
#include "shim/core/raw.h"
#include "shim/core/readiness.h"
#include "shim/core/switch.h"
#include "shim/core/sys.h"
#include "shim/rendezvous/private.h"
#include "shim/rendezvous/rendezvous.h"
#include "tests/unit/arena_test.h"

/* In the child, where cmocka's assertions cannot report. */
#define CHECK(x) \
	do { \
		if (!(x)) { \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #x); \
			_exit(1); \
		} \
	} while (0)

/* The same for two numbers. */
#define CHECK_IS(x, y) \
	do { \
		long long is_ = (long long)(x), wanted_ = (long long)(y); \
		if (is_ != wanted_) { \
			fprintf(stderr, "%s:%d: %s is %lld, not %lld\n", __FILE__, __LINE__, #x, is_, wanted_); \
			_exit(1); \
		} \
	} while (0)

/* ---- front end -------------------------------------------------------------------------------------------------- */

static long front_ppoll(struct pollfd *fds, nfds_t count, const struct timespec *timeout, const sigset_t *mask, struct nn_guard *guard)
{
	struct timespec limit = timeout ? *timeout : (struct timespec){0};

	(void)guard;
	return sys_call5(SYS_ppoll, fds, count, timeout ? &limit : NULL, mask, 8);
}

/* Never cached: a test body runs in a child of its own. */
static uint32_t front_self(void)
{
	return (uint32_t)sys_call0(SYS_gettid);
}

/* Streams are paired by hand only. Without spinning, so that every wait sleeps. */
static inline void core_start(uint64_t ring_min, uint64_t ring_max)
{
	static const struct nn_front front = {.ppoll = front_ppoll, .self = front_self};
	const struct nn_config config = {.backend = {ARENA_MEMFD, NULL}, .ring_min = ring_min, .ring_max = ring_max,
		.after_calls = UINT32_MAX, .after_bytes = UINT64_MAX, .log_fd = -1};

	CHECK_IS(nn_start(&config, &front), 0);
	CHECK_IS(board_need(), 0);
}

/* Runs `body` in a child that has so many seconds. */
static inline void in_child(void (*body)(void), unsigned seconds)
{
	int status;
	pid_t child;

	fflush(NULL);
	child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		/* Whatever cmocka would make of a signal is of no use here. */
		for (int number = 1; number < NSIG; number++)
			signal(number, SIG_DFL);
		signal(SIGPIPE, SIG_IGN);
		alarm(seconds);
		body();
		_exit(0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	if (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM)
		fail_msg("still at it after %u s", seconds);
	if (WIFSIGNALED(status))
		fail_msg("killed by signal %d", WTERMSIG(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

/* test_BODY, for cmocka. */
#define CORE_TEST(body, seconds) \
	static void test_##body(void **state) \
	{ \
		(void)state; \
		in_child(body, seconds); \
	}

/* ---- peers ------------------------------------------------------------------------------------------------------ */

#define TEST_REGION (REGION_RINGS + (64u << 20))

struct peers {
	struct arena *arena[2];
	struct nn_pair pair[2];
	uint64_t cookies;
};

/* What `pair` needs to ring its peer, who lives in this process, too. */
static inline void pair_bells(struct nn_pair *pair)
{
	pair->peer_board = rendezvous_board();
	pair->peer_pid = (uint32_t)nn_pid;
	pair->voice = hidden_take((int)sys_call3(SYS_socket, AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
}

static inline void peers_open(struct peers *peers)
{
	const struct arena_backend backend = {.kind = ARENA_MEMFD};
	struct arena_share share[2];

	memset(peers, 0, sizeof *peers);
	for (int i = 0; i < 2; i++)
		CHECK_IS(arena_create(&backend, TEST_REGION, &peers->arena[i], &share[i]), 0);
	for (int i = 0; i < 2; i++) {
		struct nn_pair *pair = &peers->pair[i];

		pair->arena = peers->arena[i];
		pair->own = arena_region(pair->arena);
		CHECK_IS(region_attach(&share[!i], &pair->peer, &pair->peer_length), 0);
		pair_bells(pair);
	}
	close(share[0].fd);
	close(share[1].fd);
}

static inline uint64_t rings_in_use(const struct peers *peers, int side)
{
	struct arena_stats stats;

	arena_get_stats(peers->arena[side], &stats);
	return stats.rings;
}

/* ---- wires ------------------------------------------------------------------------------------------------------ */

struct wire {
	int fd[2]; /* [0] connected, [1] accepted */
	struct nn_stream *stream[2];
};

/* A loopback connection. */
static inline void tcp_pair(int fd[2], int *listener)
{
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t length = sizeof to;
	int one = 1;

	*listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	CHECK(*listener >= 0);
	CHECK_IS(bind(*listener, (struct sockaddr *)&to, sizeof to), 0);
	CHECK_IS(listen(*listener, 8), 0);
	CHECK_IS(getsockname(*listener, (struct sockaddr *)&to, &length), 0);
	fd[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	CHECK(fd[0] >= 0);
	CHECK_IS(connect(fd[0], (struct sockaddr *)&to, sizeof to), 0);
	fd[1] = accept4(*listener, NULL, NULL, SOCK_CLOEXEC);
	CHECK(fd[1] >= 0);
	for (int i = 0; i < 2; i++)
		setsockopt(fd[i], IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

static inline struct nn_stream *stream_of(int fd)
{
	struct nn_stream *stream = stream_get(fd);

	CHECK(stream);
	stream_put(stream);
	return stream;
}

/* Tracks fd[0] as connector and fd[1] as acceptor, as far as `sides` (bits) says. */
static inline void wire_connect(struct wire *wire, unsigned sides)
{
	int listener;

	memset(wire, 0, sizeof *wire);
	tcp_pair(wire->fd, &listener);
	if (sides & 1)
		nn_connected(wire->fd[0], 0);
	nn_listening(listener);
	if (sides & 2)
		nn_accepted(listener, wire->fd[1], nn_forks());
	nn_close(listener);
	for (int i = 0; i < 2; i++)
		if (sides >> i & 1)
			wire->stream[i] = stream_of(wire->fd[i]);
}

/* As the rendezvous ends. The pair counts one stream more. */
static inline void wire_pair_side(struct nn_stream *stream, struct nn_pair *pair, unsigned own, unsigned peer, uint64_t cookie)
{
	atomic_fetch_add(&pair->streams, 1);
	atomic_store(&stream->phase, STREAM_SEEKING);
	stream_paired(stream, pair, own, peer, cookie);
	CHECK(stream_is_paired(stream));
}

/* A paired wire, both ends ready to receive. */
static inline void wire_open(struct wire *wire, struct peers *peers)
{
	int ends[2];
	uint64_t cookies[2];

	wire_connect(wire, 3);
	for (int i = 0; i < 2; i++) {
		cookies[i] = ++peers->cookies;
		ends[i] = arena_end_alloc(peers->arena[i], cookies[i]);
		CHECK(ends[i] >= 0);
	}
	for (int i = 0; i < 2; i++)
		wire_pair_side(wire->stream[i], &peers->pair[i], (unsigned)ends[i], (unsigned)ends[!i], cookies[!i]);
	for (int i = 0; i < 2; i++) {
		stream_tick(wire->stream[i]);
		CHECK(rx_taken(wire->stream[i]));
	}
}

/* As if `bytes` had come by this direction's rings already. Before anything is sent there. */
static inline void wire_begin_at(struct wire *wire, int sender, uint64_t bytes)
{
	struct nn_stream *to = wire->stream[!sender];

	wire->stream[sender]->tx_by_ring += bytes;
	to->rx_start += bytes;
	atomic_fetch_add(&to->own->head, bytes);
}

static inline void wire_close(struct wire *wire)
{
	for (int i = 0; i < 2; i++)
		if (wire->fd[i] >= 0)
			CHECK_IS(nn_close(wire->fd[i]), 0);
}

/* ---- calls, as a front end makes them --------------------------------------------------------------------------- */

static inline long call_sendv(int fd, const struct iovec *iov, int count, int flags)
{
	struct msghdr message = {.msg_iov = (struct iovec *)iov, .msg_iovlen = (size_t)count};
	struct nn_io io;
	long outcome;

	if (nn_send(&io, fd, iov, count, flags | MSG_NOSIGNAL) == NN_DONE)
		return io.result;
	outcome = sys_call3(SYS_sendmsg, fd, &message, flags | MSG_NOSIGNAL);
	return nn_raw_done(&io, outcome);
}

static inline long call_recvv(int fd, const struct iovec *iov, int count, int flags)
{
	struct msghdr message = {.msg_iov = (struct iovec *)iov, .msg_iovlen = (size_t)count};
	struct nn_io io;
	long outcome;

	if (nn_recv(&io, fd, iov, count, flags) == NN_DONE)
		return io.result;
	outcome = sys_call3(SYS_recvmsg, fd, &message, flags);
	return nn_raw_done(&io, outcome);
}

static inline long call_send(int fd, const void *bytes, size_t size, int flags)
{
	struct iovec iov = {(void *)bytes, size};

	return call_sendv(fd, &iov, 1, flags);
}

static inline long call_recv(int fd, void *bytes, size_t size, int flags)
{
	struct iovec iov = {bytes, size};

	return call_recvv(fd, &iov, 1, flags);
}

static inline long call_inq(int fd)
{
	struct nn_io io;
	int value = -1;

	if (nn_inq(&io, fd, &value) == NN_RAW)
		CHECK_IS(sys_call3(SYS_ioctl, fd, FIONREAD, &value), 0);
	return value;
}

static inline void set_timeout(int fd, int option, long ms)
{
	struct timeval limit = {ms / 1000, ms % 1000 * 1000};

	CHECK_IS(setsockopt(fd, SOL_SOCKET, option, &limit, sizeof limit), 0);
}

/* Down for pleasure, as chaos.c does it. */
static inline void call_down(struct nn_stream *stream)
{
	enum lock_outcome lock = lock_take(&stream->own->tx_lock, nn_self());

	if (tx_taken(stream) && !stream->tx_replaying)
		tx_down(stream, NN_REASON_CHAOS, DOWN_IF_EASY);
	lock_drop(&stream->own->tx_lock, lock);
}

/* ---- bytes ------------------------------------------------------------------------------------------------------ */

/* The byte at an offset of a direction: no two neighbourhoods look alike. */
static inline uint8_t byte_at(uint64_t offset, unsigned direction)
{
	uint64_t x = (offset + direction * 0x51ull) * 0x9e3779b97f4a7c15ull;

	return (uint8_t)(x >> 56);
}

static inline void fill_bytes(uint8_t *bytes, size_t size, uint64_t offset, unsigned direction)
{
	for (size_t i = 0; i < size; i++)
		bytes[i] = byte_at(offset + i, direction);
}

static inline void check_bytes(const uint8_t *bytes, size_t size, uint64_t offset, unsigned direction)
{
	for (size_t i = 0; i < size; i++)
		if (bytes[i] != byte_at(offset + i, direction)) {
			fprintf(stderr, "byte %zu of %zu at offset %#llx is wrong\n", i, size, (unsigned long long)offset);
			_exit(1);
		}
}

/* Sends and receives `size` bytes at `*at`, which moves. */
static inline void pass(struct wire *wire, int sender, uint64_t *at, size_t size)
{
	static uint8_t bytes[1 << 20];

	CHECK(size <= sizeof bytes);
	fill_bytes(bytes, size, *at, (unsigned)sender);
	CHECK_IS(call_send(wire->fd[sender], bytes, size, MSG_DONTWAIT), size);
	memset(bytes, 0, size);
	CHECK_IS(call_recv(wire->fd[!sender], bytes, size, MSG_WAITALL), size);
	check_bytes(bytes, size, *at, (unsigned)sender);
	*at += size;
}

#endif
