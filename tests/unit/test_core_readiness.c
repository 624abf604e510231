/* SPDX-License-Identifier: BSD-2-Clause */
/* What poll and select say of a stream: as of a plain TCP connection that has seen the same, and by the ring's own room. */
#include "core_test.h"

#include <pthread.h>
#include <sys/resource.h>

#define RING 4096u

static struct peers peers;
static struct wire wire;
static uint8_t bytes[8 * RING];

static void set_up(uint64_t most)
{
	core_start(RING, most);
	peers_open(&peers);
	wire_open(&wire, &peers);
}

static short polled_for(int fd, short events)
{
	static const struct timespec now;
	struct pollfd asked = {.fd = fd, .events = events};
	struct nn_io io;

	if (nn_poll(&io, &asked, 1, &now, NULL) == NN_RAW)
		CHECK(poll(&asked, 1, 0) >= 0);
	return asked.revents;
}

static short polled(int fd)
{
	return polled_for(fd, POLLIN | POLLOUT | POLLRDHUP | POLLPRI);
}

/* The same of select: 1 readable, 2 writable, 4 exceptional. */
static unsigned selected(int fd)
{
	static const struct timespec now;
	fd_set sets[3];
	struct nn_io io;
	struct timeval none = {0, 0};
	unsigned bits = 0;

	for (int i = 0; i < 3; i++) {
		FD_ZERO(&sets[i]);
		FD_SET(fd, &sets[i]);
	}
	if (nn_select(&io, fd + 1, &sets[0], &sets[1], &sets[2], &now, NULL) == NN_RAW)
		CHECK(select(fd + 1, &sets[0], &sets[1], &sets[2], &none) >= 0);
	for (int i = 0; i < 3; i++)
		bits |= FD_ISSET(fd, &sets[i]) ? 1u << i : 0;
	return bits;
}

/* Both directions on rings, all read. */
static void warm_up(void)
{
	uint64_t at[2] = {0, 0};

	pass(&wire, 0, &at[0], 10);
	pass(&wire, 1, &at[1], 10);
	CHECK(wire.stream[0]->tx_ring && wire.stream[1]->tx_ring);
}

/* ---- against TCP */

/* The same call on the stream and on a plain connection: the same outcome. */
static long both(int (*stream_call)(int, int), int (*plain_call)(int, int), const int plain[2], int end, int argument)
{
	int outcome = stream_call(wire.fd[end], argument), wanted = plain_call(plain[end], argument);

	CHECK_IS(outcome, wanted);
	return outcome;
}

static int stream_sends(int fd, int size)
{
	return (int)call_send(fd, bytes, (size_t)size, MSG_DONTWAIT);
}

static int plain_sends(int fd, int size)
{
	return (int)sys_call6(SYS_sendto, fd, bytes, size, MSG_DONTWAIT | MSG_NOSIGNAL, NULL, 0);
}

static int stream_takes(int fd, int size)
{
	return (int)call_recv(fd, bytes, (size_t)size, MSG_DONTWAIT);
}

static int plain_takes(int fd, int size)
{
	return (int)sys_call6(SYS_recvfrom, fd, bytes, size, MSG_DONTWAIT, NULL, NULL);
}

static int stream_shuts(int fd, int how)
{
	return (int)nn_shutdown(fd, how);
}

static int plain_shuts(int fd, int how)
{
	return (int)sys_call2(SYS_shutdown, fd, how);
}

/* What poll says is what poll says of plain TCP, after every step of a conversation that leaves room everywhere. */
static void as_tcp(void)
{
	uint64_t seed = test_seed();

	core_start(65536, 65536);
	peers_open(&peers);
	for (int run = 0; run < 200; run++) {
		int plain[2], listener, unread[2] = {0, 0};

		wire_open(&wire, &peers);
		tcp_pair(plain, &listener);
		close(listener);
		warm_up();
		for (int step = 0; step < 60; step++) {
			int end = (int)(test_random(&seed) % 2);
			uint64_t what = test_random(&seed) % 100;

			if (what < 45 && unread[!end] < 30000) {
				long count = both(stream_sends, plain_sends, plain, end, (int)(test_random(&seed) % 2000) + 1);

				unread[!end] += count > 0 ? (int)count : 0;
			} else if (what < 90) {
				long count = both(stream_takes, plain_takes, plain, end, (int)(test_random(&seed) % 4000) + 1);

				unread[end] -= count > 0 ? (int)count : 0;
			} else if (what < 96) {
				call_down(wire.stream[end]);
			} else if (what < 98) {
				both(stream_shuts, plain_shuts, plain, end, SHUT_WR);
			}
			for (int i = 0; i < 2; i++) {
				struct pollfd asked = {.fd = plain[i], .events = POLLIN | POLLOUT | POLLRDHUP | POLLPRI};

				CHECK(poll(&asked, 1, 0) >= 0);
				CHECK_IS(polled(wire.fd[i]), asked.revents);
			}
		}
		wire_close(&wire);
		close(plain[0]);
		close(plain[1]);
	}
}

/* ---- room */

static void room(void)
{
	uint32_t edges;

	set_up(RING);
	warm_up();
	CHECK_IS(polled(wire.fd[0]), POLLOUT);
	CHECK_IS(selected(wire.fd[0]), 2);
	CHECK_IS(call_send(wire.fd[0], bytes, sizeof bytes, MSG_DONTWAIT), RING);
	edges = atomic_load(&wire.stream[0]->tx_edges);
	CHECK_IS(polled(wire.fd[0]), 0);
	CHECK_IS(selected(wire.fd[0]), 0);
	/* Room counts once half the ring is free, not byte by byte. */
	CHECK_IS(call_recv(wire.fd[1], bytes, RING / 2 - 1, 0), RING / 2 - 1);
	CHECK_IS(polled(wire.fd[0]), 0);
	CHECK_IS(call_recv(wire.fd[1], bytes, 1, 0), 1);
	CHECK_IS(polled(wire.fd[0]), POLLOUT);
	CHECK_IS(polled(wire.fd[0]), POLLOUT);
	CHECK_IS(atomic_load(&wire.stream[0]->tx_edges), edges + 1);
	CHECK_IS(call_send(wire.fd[0], bytes, RING, MSG_DONTWAIT), RING / 2);
	CHECK_IS(polled(wire.fd[0]), 0);
}

static void bytes_and_watermark(void)
{
	int few = 100;

	set_up(RING);
	warm_up();
	CHECK_IS(polled(wire.fd[1]), POLLOUT);
	CHECK_IS(call_send(wire.fd[0], bytes, 1, 0), 1);
	CHECK_IS(polled(wire.fd[1]), POLLIN | POLLOUT);
	CHECK_IS(selected(wire.fd[1]), 3);
	CHECK_IS(polled_for(wire.fd[1], POLLOUT), POLLOUT);
	CHECK_IS(polled_for(wire.fd[1], 0), 0);
	CHECK_IS(call_recv(wire.fd[1], bytes, 1, MSG_PEEK), 1);
	CHECK_IS(polled(wire.fd[1]), POLLIN | POLLOUT);
	CHECK_IS(setsockopt(wire.fd[1], SOL_SOCKET, SO_RCVLOWAT, &few, sizeof few), 0);
	nn_setsockopt(wire.fd[1], SOL_SOCKET, SO_RCVLOWAT, &few, sizeof few);
	CHECK_IS(polled(wire.fd[1]), POLLOUT);
	CHECK_IS(call_send(wire.fd[0], bytes, 98, 0), 98);
	CHECK_IS(polled(wire.fd[1]), POLLOUT);
	CHECK_IS(call_send(wire.fd[0], bytes, 1, 0), 1);
	CHECK_IS(polled(wire.fd[1]), POLLIN | POLLOUT);
}

/* While a direction is on TCP memory knows nothing, and says so. */
static void asks_the_kernel(void)
{
	struct readiness state;

	set_up(RING);
	state = stream_readiness(wire.stream[1]);
	CHECK_IS(state.ready, 0);
	CHECK((state.ask & POLLIN) && (state.ask & POLLOUT) && (state.ask & POLLRDHUP));
	warm_up();
	state = stream_readiness(wire.stream[1]);
	CHECK(!(state.ask & (POLLIN | POLLOUT)) && (state.ask & POLLPRI));
	CHECK(state.ready & POLLOUT);
	call_down(wire.stream[0]);
	atomic_store(&wire.stream[0]->stay_tx, 1);
	CHECK_IS(call_recv(wire.fd[1], bytes, 1, MSG_DONTWAIT), -EAGAIN);
	CHECK(stream_readiness(wire.stream[1]).ask & POLLIN);
	CHECK_IS(call_send(wire.fd[0], bytes, 5, 0), 5);
	CHECK_IS(polled(wire.fd[1]), POLLIN | POLLOUT);
	CHECK_IS(call_recv(wire.fd[1], bytes, 10, 0), 5);
	CHECK_IS(polled(wire.fd[1]), POLLOUT);
}

/* Ends are known from memory, before the kernel is asked. */
static void ends(void)
{
	set_up(RING);
	warm_up();
	CHECK_IS(nn_shutdown(wire.fd[0], SHUT_WR), 0);
	CHECK_IS(stream_readiness(wire.stream[1]).ready & (POLLIN | POLLRDHUP | POLLHUP), POLLIN | POLLRDHUP);
	CHECK_IS(nn_shutdown(wire.fd[1], SHUT_WR), 0);
	for (int i = 0; i < 2; i++)
		CHECK_IS(stream_readiness(wire.stream[i]).ready & (POLLIN | POLLRDHUP | POLLHUP), POLLIN | POLLRDHUP | POLLHUP);
}

/* A reset that only memory knows of yet. */
static void a_reset(void)
{
	set_up(RING);
	warm_up();
	CHECK_IS(call_send(wire.fd[0], bytes, 5, 0), 5);
	CHECK_IS(nn_close(wire.fd[1]), 0);
	CHECK(peer_tx_flags(wire.stream[0]) & END_RESET);
	short events = polled(wire.fd[0]);
	CHECK((events & (POLLIN | POLLERR | POLLHUP)) == (POLLIN | POLLERR | POLLHUP));
	CHECK_IS(call_recv(wire.fd[0], bytes, 1, MSG_DONTWAIT), -ECONNRESET);
	CHECK_IS(call_recv(wire.fd[0], bytes, 1, MSG_DONTWAIT), 0);
}

/* Many in one list, longer than what lives on the stack, with others between. */
static void long_lists(void)
{
	enum { WIRES = 40 };
	static struct wire wires[WIRES];
	struct pollfd fds[WIRES * 3];
	static const struct timespec now;
	struct nn_io io;
	int plain = socket(AF_INET, SOCK_DGRAM, 0);

	core_start(RING, RING);
	peers_open(&peers);
	for (int i = 0; i < WIRES; i++) {
		wire_open(&wires[i], &peers);
		CHECK_IS(call_send(wires[i].fd[0], bytes, 10, 0), 10);
		if (i % 2)
			CHECK_IS(call_recv(wires[i].fd[1], bytes, 10, 0), 10);
		fds[3 * i] = (struct pollfd){.fd = wires[i].fd[1], .events = POLLIN};
		fds[3 * i + 1] = (struct pollfd){.fd = -1, .events = POLLIN, .revents = -1};
		fds[3 * i + 2] = (struct pollfd){.fd = plain, .events = POLLIN | POLLOUT};
	}
	CHECK_IS(nn_poll(&io, fds, WIRES * 3, &now, NULL), NN_DONE);
	CHECK_IS(io.result, WIRES / 2 + WIRES);
	for (int i = 0; i < WIRES; i++) {
		CHECK_IS(fds[3 * i].revents, i % 2 ? 0 : POLLIN);
		CHECK_IS(fds[3 * i + 1].revents, 0);
		CHECK_IS(fds[3 * i + 2].revents, POLLOUT);
	}
}

/* As many entries as the kernel takes: for the bell there is none, or one that is not used. */
#define ENTRIES 64

static void *send_late(void *data)
{
	(void)data;
	usleep(20000);
	CHECK_IS(call_send(wire.fd[1], "x", 1, 0), 1);
	return NULL;
}

static void poll_at_the_limit(void)
{
	static const struct timespec brief = {0, 5000000}, forever = {1000, 0};
	struct rlimit limit = {ENTRIES, ENTRIES + 64};
	struct pollfd fds[ENTRIES + 1];

	set_up(RING);
	warm_up();
	CHECK_IS(setrlimit(RLIMIT_NOFILE, &limit), 0);
	for (int used = 1; used <= ENTRIES; used += ENTRIES - 1) {
		struct nn_io io;
		pthread_t thread;
		char byte;

		for (int i = 0; i <= ENTRIES; i++)
			fds[i] = (struct pollfd){.fd = i < used ? wire.fd[0] : -1, .events = POLLIN};
		CHECK_IS(nn_poll(&io, fds, ENTRIES, &brief, NULL), NN_DONE);
		CHECK_IS(io.result, 0);
		CHECK_IS(nn_poll(&io, fds, ENTRIES + 1, &brief, NULL), NN_DONE);
		CHECK_IS(io.result, -EINVAL);
		CHECK_IS(call_send(wire.fd[1], "x", 1, 0), 1);
		CHECK_IS(nn_poll(&io, fds, ENTRIES + 1, &brief, NULL), NN_DONE);
		CHECK_IS(io.result, -EINVAL); /* ready or not */
		CHECK_IS(call_recv(wire.fd[0], &byte, 1, 0), 1);
		CHECK_IS(pthread_create(&thread, NULL, send_late, NULL), 0);
		CHECK_IS(nn_poll(&io, fds, ENTRIES, &forever, NULL), NN_DONE);
		CHECK_IS(io.result, used);
		pthread_join(thread, NULL);
		CHECK_IS(call_recv(wire.fd[0], &byte, 1, 0), 1);
	}
}

CORE_TEST(as_tcp, 60)
CORE_TEST(room, 10)
CORE_TEST(bytes_and_watermark, 10)
CORE_TEST(asks_the_kernel, 10)
CORE_TEST(ends, 10)
CORE_TEST(a_reset, 10)
CORE_TEST(long_lists, 10)
CORE_TEST(poll_at_the_limit, 10)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_as_tcp),
		cmocka_unit_test(test_room),
		cmocka_unit_test(test_bytes_and_watermark),
		cmocka_unit_test(test_asks_the_kernel),
		cmocka_unit_test(test_ends),
		cmocka_unit_test(test_a_reset),
		cmocka_unit_test(test_long_lists),
		cmocka_unit_test(test_poll_at_the_limit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
