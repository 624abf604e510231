/* SPDX-License-Identifier: BSD-2-Clause */
/* Two shims of one connection find each other: between processes, within one, across fork, again and again. */
#include "tests/unit/test_rendezvous.h"

#include <sys/prctl.h>

/* Two processes play ping-pong; both must be paired within a few calls and see each other's memory and boards. */
static void pair_up(int version, uid_t uid)
{
	struct sockaddr_in6 to;
	socklen_t length;
	int listener = host_listen(version, &to, &length);
	struct nn_stream *stream;
	pid_t child = host_fork();

	if (child == 0) {
		if (uid) {
			CHILD_CHECK(setgid(uid) == 0 && setuid(uid) == 0);
			prctl(PR_SET_DUMPABLE, 0);
		}
		stream = host_stream(host_connect(&to, length), true);
		host_ping(stream, 5);
		CHILD_CHECK(stream->phase == STREAM_PAIRED);
		CHILD_CHECK(uid || stream->pair->peer_pid == (uint32_t)getppid());
		CHILD_CHECK(stream->peer_cookie == atomic_load(&stream->peer->cookie));
		atomic_store(&stream->own->tail, 4711);
		CHILD_CHECK(stream->pair->voice >= 0);
		host_ping(stream, 1);
		CHILD_CHECK(atomic_load(&stream->peer->tail) == 815);
		_exit(0);
	}
	stream = host_stream(host_accept(listener), false);
	host_call(stream); /* too early, perhaps */
	for (char byte; read(stream->fd, &byte, 1) == 1;) {
		host_call(stream);
		if (stream->phase == STREAM_PAIRED)
			atomic_store(&stream->own->tail, 815);
		assert_int_equal(write(stream->fd, &byte, 1), 1);
		host_call(stream);
	}
	assert_int_equal(stream->phase, STREAM_PAIRED);
	assert_int_equal(atomic_load(&stream->peer->tail), 4711);
	assert_int_equal(stream->pair->peer_pid, child);
	assert_true(stream->pair->voice >= 0);
	assert_int_equal(host_join(child), 0);
	host_close(stream);
	close(listener);
}

static void test_ipv4(void **state)
{
	(void)state;
	pair_up(4, 0);
}

static void test_ipv6(void **state)
{
	(void)state;
	pair_up(6, 0);
}

static void test_ipv4_at_ipv6_listener(void **state)
{
	(void)state;
	pair_up(64, 0);
}

static void test_other_user(void **state)
{
	(void)state;
	if (getuid() != 0)
		skip();
	pair_up(4, 65534);
}

/* Further streams use the same pair; the memory's descriptors are let go of. */
static void test_many_streams(void **state)
{
	enum { STREAMS = 40 };
	struct nn_stream *streams[STREAMS];
	struct sockaddr_in6 to;
	socklen_t length;
	unsigned before = 0, after;
	int listener = host_listen(4, &to, &length);
	pid_t child = host_fork();

	(void)state;
	if (child == 0) {
		for (unsigned i = 0; i < STREAMS; i++) {
			streams[i] = host_stream(host_connect(&to, length), true);
			host_ping(streams[i], 5);
			CHILD_CHECK(streams[i]->phase == STREAM_PAIRED);
			CHILD_CHECK(streams[i]->pair == streams[0]->pair);
			CHILD_CHECK(((struct pair *)streams[i]->pair)->share.fd == -1);
		}
		CHILD_CHECK(streams[0]->pair->streams == STREAMS);
		_exit(0);
	}
	for (unsigned i = 0; i < STREAMS; i++) {
		char byte;

		streams[i] = host_stream(host_accept(listener), false);
		for (unsigned round = 0; round < 5; round++) {
			assert_int_equal(read(streams[i]->fd, &byte, 1), 1);
			host_call(streams[i]);
			assert_int_equal(write(streams[i]->fd, &byte, 1), 1);
			host_call(streams[i]);
		}
		assert_int_equal(streams[i]->phase, STREAM_PAIRED);
		assert_ptr_equal(streams[i]->pair, streams[0]->pair);
		assert_int_equal(((struct pair *)streams[i]->pair)->share.fd == -1, i > 0);
		if (i == 1)
			before = host_fd_count();
	}
	after = host_fd_count();
	assert_int_equal(after - before, STREAMS - 2); /* the connections themselves */
	assert_int_equal(host_join(child), 0);
	for (unsigned i = 0; i < STREAMS; i++)
		host_close(streams[i]);
	close(listener);
}

/* One stream only: that the peer has our memory shows in its end block. */
static void test_memory_let_go(void **state)
{
	struct sockaddr_in6 to;
	socklen_t length;
	int listener = host_listen(4, &to, &length);
	struct nn_stream *streams[2];

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		pid_t child = host_fork();

		if (child == 0) {
			streams[i] = host_stream(host_connect(&to, length), true);
			host_ping(streams[i], 6);
			_exit(streams[i]->phase != STREAM_PAIRED);
		}
		streams[i] = host_stream(host_accept(listener), false);
		host_pong(streams[i]);
		assert_int_equal(streams[i]->phase, STREAM_PAIRED);
		assert_true(((struct pair *)streams[i]->pair)->share.fd >= 0);
		assert_int_equal(host_join(child), 0);
	}
	assert_int_equal(((struct pair *)streams[0]->pair)->share.fd, -1);
	host_close(streams[0]);
	host_close(streams[1]);
	close(listener);
}

/* Opened at once and used in turn: the mailbox overflows (ten datagrams), nobody is lost. */
static void test_many_at_once(void **state)
{
	enum { STREAMS = 60 };
	struct nn_stream *streams[STREAMS];
	struct sockaddr_in6 to;
	socklen_t length;
	int listener = host_listen(4, &to, &length);
	pid_t child = host_fork();

	(void)state;
	if (child == 0) {
		for (unsigned i = 0; i < STREAMS; i++)
			streams[i] = host_stream(host_connect(&to, length), true);
		for (unsigned round = 0; round < 200; round++) {
			char byte;

			for (unsigned i = 0; i < STREAMS; i++) {
				CHILD_CHECK(write(streams[i]->fd, "x", 1) == 1);
				host_call(streams[i]);
			}
			for (unsigned i = 0; i < STREAMS; i++) {
				CHILD_CHECK(read(streams[i]->fd, &byte, 1) == 1);
				host_call(streams[i]);
			}
		}
		for (unsigned i = 0; i < STREAMS; i++)
			CHILD_CHECK(streams[i]->phase == STREAM_PAIRED);
		_exit(0);
	}
	for (unsigned i = 0; i < STREAMS; i++)
		streams[i] = host_stream(host_accept(listener), false);
	for (unsigned round = 0; round < 200; round++) {
		char byte;

		for (unsigned i = 0; i < STREAMS; i++) {
			assert_int_equal(read(streams[i]->fd, &byte, 1), 1);
			host_call(streams[i]);
		}
		for (unsigned i = 0; i < STREAMS; i++) {
			assert_int_equal(write(streams[i]->fd, &byte, 1), 1);
			host_call(streams[i]);
		}
	}
	assert_int_equal(host_join(child), 0);
	for (unsigned i = 0; i < STREAMS; i++) {
		assert_int_equal(streams[i]->phase, STREAM_PAIRED);
		host_close(streams[i]);
	}
	close(listener);
}

/* Both ends in one thread. */
static void test_one_process(void **state)
{
	struct sockaddr_in6 to;
	socklen_t length;
	int listener = host_listen(4, &to, &length);
	int fd = host_connect(&to, length);
	struct nn_stream *connector = host_stream(fd, true), *acceptor = host_stream(host_accept(listener), false);

	(void)state;
	for (unsigned i = 0; i < 6; i++) {
		host_call(connector);
		host_call(acceptor);
	}
	assert_int_equal(connector->phase, STREAM_PAIRED);
	assert_int_equal(acceptor->phase, STREAM_PAIRED);
	assert_ptr_not_equal(connector->pair, acceptor->pair);
	atomic_store(&connector->own->tail, 77);
	assert_int_equal(atomic_load(&acceptor->peer->tail), 77);
	atomic_store(&acceptor->own->tail, 78);
	assert_int_equal(atomic_load(&connector->peer->tail), 78);
	host_close(connector);
	host_close(acceptor);
	close(listener);
}

/* `notnets stat` tells which connection it is that stays on TCP. */
static void assert_addresses_shown(const struct nn_stream *stream, const struct sockaddr_in6 *listener, bool connector)
{
	const struct sockaddr_in6 *server = connector ? &stream->shown->remote : &stream->shown->local;
	const struct sockaddr_in6 *client = connector ? &stream->shown->local : &stream->shown->remote;

	assert_int_equal(server->sin6_family, AF_INET6);
	assert_int_equal(server->sin6_port, listener->sin6_port);
	assert_int_equal(client->sin6_family, AF_INET6);
	assert_int_not_equal(client->sin6_port, listener->sin6_port);
}

static void test_acceptor_without_peer(void **state)
{
	struct sockaddr_in6 to;
	socklen_t length;
	int listener = host_listen(4, &to, &length);
	int other = host_connect(&to, length);
	struct nn_stream *stream = host_stream(host_accept(listener), false);
	unsigned steps = 0;

	(void)state;
	/* Out of calls, but not yet out of time: goes on seldom. */
	while (stream->phase == STREAM_SEEKING && stream->calls < 5000) {
		steps += stream->calls + 1 >= stream->next_try;
		host_call(stream);
	}
	assert_int_equal(stream->phase, STREAM_SEEKING);
	assert_in_range(steps, 12, 11 + 5000 / 256);
	assert_addresses_shown(stream, &to, false);
	host_later_ns = 4000000000ull;
	while (stream->phase == STREAM_SEEKING && stream->calls < 6000)
		host_call(stream);
	host_later_ns = 0;
	assert_int_equal(stream->phase, STREAM_ALONE);
	assert_int_equal(stream->stay_reason, NN_REASON_NO_PEER);
	assert_true(stream->calls <= 5000 + 256);
	close(other);
	host_close(stream);
	close(listener);
}

static void test_connector_without_peer(void **state)
{
	struct sockaddr_in6 to;
	socklen_t length;
	int listener = host_listen(4, &to, &length);
	struct nn_stream *stream = host_stream(host_connect(&to, length), true);
	int other = host_accept(listener);
	unsigned fds = host_fd_count();

	(void)state;
	while (stream->phase == STREAM_SEEKING && stream->calls < 5000)
		host_call(stream);
	assert_int_equal(stream->phase, STREAM_SEEKING);
	assert_addresses_shown(stream, &to, true);
	host_later_ns = 4000000000ull;
	while (stream->phase == STREAM_SEEKING && stream->calls < 6000)
		host_call(stream);
	host_later_ns = 0;
	assert_int_equal(stream->phase, STREAM_ALONE);
	assert_int_equal(stream->stay_reason, NN_REASON_NO_PEER);
	assert_int_equal(host_fd_count(), fds);
	close(other);
	host_close(stream);
	close(listener);
}

static void test_self_connected(void **state)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t length = sizeof(address);
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	struct nn_stream *stream;

	(void)state;
	assert_int_equal(bind(fd, (struct sockaddr *)&address, length), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &length), 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&address, length), 0);
	stream = host_stream(fd, true);
	host_call(stream);
	assert_int_equal(stream->phase, STREAM_ALONE);
	assert_int_equal(stream->stay_reason, NN_REASON_SELF);
	host_close(stream);
}

/* A connect() that is not through yet. */
static void test_not_connected_yet(void **state)
{
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	struct nn_stream *stream = host_stream(fd, true);

	(void)state;
	host_call(stream);
	assert_int_equal(stream->phase, STREAM_SEEKING);
	assert_int_equal(stream->next_try, stream->calls + 1);
	host_close(stream);
}

/* Its last descriptor is being closed while a call still ends on it: nothing is begun. */
static void test_closing(void **state)
{
	struct sockaddr_in6 to;
	socklen_t length;
	int listener = host_listen(4, &to, &length);
	struct nn_stream *stream = host_stream(host_connect(&to, length), true);

	(void)state;
	stream->fds = 0;
	rendezvous_abandon(stream);
	host_call(stream);
	assert_null(seek_of(stream));
	assert_int_equal(stream->phase, STREAM_SEEKING);
	host_close(stream);
	close(listener);
}

/* Abandoned after every possible number of calls: nothing is left over. */
static void test_abandon(void **state)
{
	struct sockaddr_in6 to;
	socklen_t length;
	int listener = host_listen(4, &to, &length);
	unsigned fds = 0;

	(void)state;
	for (unsigned calls = 0; calls < 10; calls++) {
		int fd = host_connect(&to, length);
		struct nn_stream *connector = host_stream(fd, true), *acceptor = host_stream(host_accept(listener), false);

		for (unsigned i = 0; i < calls; i++)
			host_call(i % 2 ? acceptor : connector);
		if (calls % 3)
			host_close(connector);
		for (unsigned i = 0; i < 5; i++)
			if (acceptor->phase == STREAM_SEEKING)
				host_call(acceptor);
		host_close(acceptor);
		if (connector->phase != STREAM_FREE) {
			host_call(connector);
			host_close(connector);
		}
	}
	/* What is left (mailbox, board, pairs) is left once. */
	for (unsigned i = 0; i < 2; i++) {
		int fd = host_connect(&to, length);
		struct nn_stream *connector = host_stream(fd, true), *acceptor = host_stream(host_accept(listener), false);

		for (unsigned j = 0; j < 6; j++) {
			host_call(connector);
			host_call(acceptor);
		}
		assert_int_equal(connector->phase, STREAM_PAIRED);
		assert_int_equal(connector->pair->streams, 1);
		assert_int_equal(acceptor->pair->streams, 1);
		host_close(connector);
		host_close(acceptor);
		if (i == 1)
			assert_int_equal(host_fd_count(), fds);
		fds = host_fd_count();
	}
	close(listener);
}

/* A child forked from a process with pairs has a mailbox of its own; the parent's pairs are not for its streams. */
static void test_fork(void **state)
{
	struct sockaddr_in6 to;
	socklen_t length;
	int listener = host_listen(4, &to, &length);
	int fd = host_connect(&to, length);
	struct nn_stream *connector = host_stream(fd, true), *acceptor = host_stream(host_accept(listener), false);
	struct nn_stream *pending = host_stream(host_connect(&to, length), true), *late;
	struct board *board;
	pid_t child;

	(void)state;
	for (unsigned i = 0; i < 6; i++) {
		host_call(connector);
		host_call(acceptor);
	}
	assert_int_equal(connector->phase, STREAM_PAIRED);
	host_call(pending); /* holds its name */
	board = rendezvous_board();
	child = host_fork();
	if (child == 0) {
		CHILD_CHECK(connector->pair->inherited);
		CHILD_CHECK(rendezvous_board() == board);
		late = host_stream(host_connect(&to, length), true);
		host_ping(late, 6);
		CHILD_CHECK(late->phase == STREAM_PAIRED);
		CHILD_CHECK(late->pair != connector->pair && !late->pair->inherited);
		_exit(0);
	}
	close(host_accept(listener)); /* of `pending` */
	late = host_stream(host_accept(listener), false);
	host_pong(late);
	assert_int_equal(late->phase, STREAM_PAIRED);
	assert_ptr_not_equal(late->pair, connector->pair);
	assert_ptr_not_equal(late->pair, acceptor->pair);
	assert_int_equal(host_join(child), 0);
	assert_false(connector->pair->inherited);
	host_close(late);
	host_close(pending);
	host_close(connector);
	host_close(acceptor);
	close(listener);
}

/* Peers come and die: their pairs are freed. */
static void test_dead_peers(void **state)
{
	struct sockaddr_in6 to;
	socklen_t length;
	int listener = host_listen(4, &to, &length);
	unsigned fds[20];

	(void)state;
	for (unsigned i = 0; i < 20; i++) {
		struct nn_stream *stream;
		pid_t child = host_fork();

		if (child == 0) {
			stream = host_stream(host_connect(&to, length), true);
			host_ping(stream, 6);
			_exit(stream->phase != STREAM_PAIRED);
		}
		stream = host_stream(host_accept(listener), false);
		host_pong(stream);
		assert_int_equal(host_join(child), 0);
		assert_int_equal(stream->phase, STREAM_PAIRED);
		host_close(stream);
		fds[i] = host_fd_count();
	}
	assert_int_equal(fds[19], fds[10]);
	close(listener);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ipv4),
		cmocka_unit_test(test_ipv6),
		cmocka_unit_test(test_ipv4_at_ipv6_listener),
		cmocka_unit_test(test_other_user),
		cmocka_unit_test(test_many_streams),
		cmocka_unit_test(test_memory_let_go),
		cmocka_unit_test(test_many_at_once),
		cmocka_unit_test(test_one_process),
		cmocka_unit_test(test_acceptor_without_peer),
		cmocka_unit_test(test_connector_without_peer),
		cmocka_unit_test(test_self_connected),
		cmocka_unit_test(test_not_connected_yet),
		cmocka_unit_test(test_closing),
		cmocka_unit_test(test_abandon),
		cmocka_unit_test(test_fork),
		cmocka_unit_test(test_dead_peers),
	};

	alarm(120);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
