/* SPDX-License-Identifier: BSD-2-Clause */
/* The table of descriptors: which number names which stream, through dup, close and numbers that change their meaning unseen. */
#include "core_test.h"
#include "shim/core/holders.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <sys/eventfd.h>

#include "shim/core/hidden.h"
#include "shim/core/report.h"

static struct peers peers;
static struct wire wire;
static uint64_t at[2];

static void set_up(void)
{
	core_start(4096, 4096);
	peers_open(&peers);
	wire_open(&wire, &peers);
	at[0] = at[1] = 0;
}

static void both_ways(void)
{
	pass(&wire, 0, &at[0], 3000);
	pass(&wire, 1, &at[1], 100);
}

/* What the other end sees of this end: nothing, and no end. */
static void check_open(void)
{
	char byte = 0;

	CHECK_IS(call_recv(wire.fd[1], &byte, 1, MSG_DONTWAIT), -EAGAIN);
	CHECK(!(atomic_load(&wire.stream[0]->own->tx_flags) & (END_FIN | END_CLOSED)));
}

static void check_closed(void)
{
	char byte = 0;

	CHECK_IS(call_recv(wire.fd[1], &byte, 1, MSG_DONTWAIT), 0);
	CHECK_IS(atomic_load(&wire.stream[0]->phase), STREAM_FREE);
}

static bool socket_is_tcp(int fd)
{
	int protocol = 0;
	socklen_t length = sizeof protocol;

	return getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &length) == 0 && protocol == IPPROTO_TCP;
}

static void numbers_beyond_the_table(void)
{
	set_up();
	CHECK_IS(nn_kind_of(-1), NN_NONE);
	CHECK_IS(nn_kind_of((int)NN_FD_MAX), NN_NONE);
	CHECK_IS(nn_kind_of(INT32_MAX), NN_NONE);
	CHECK(!stream_get(-1) && !stream_get((int)NN_FD_MAX) && !stream_get(INT32_MIN));
	fd_set_entry(-1, NN_STREAM, 0);
	fd_set_entry((int)NN_FD_MAX, NN_STREAM, 0);
	fd_set_entry(INT32_MAX, NN_STREAM, 0);
	fd_set_entry(INT32_MIN, NN_STREAM, 0);
	fd_clear(-1);
	fd_clear((int)NN_FD_MAX);
	nn_appeared(-1);
	nn_let_go(INT32_MAX);
	CHECK_IS(nn_close(-1), -EBADF);
	CHECK_IS(nn_close((int)NN_FD_MAX), -EBADF);
	both_ways();
}

static void another_number(void)
{
	int copy;

	set_up();
	both_ways();
	copy = dup(wire.fd[0]);
	nn_duplicated(wire.fd[0], copy);
	CHECK(stream_of(copy) == wire.stream[0]);
	CHECK_IS(nn_close(wire.fd[0]), 0);
	CHECK_IS(nn_kind_of(wire.fd[0]), NN_NONE);
	CHECK_IS(wire.stream[0]->fd, copy); /* the kernel is asked by a number that is open */
	check_open();
	wire.fd[0] = copy;
	both_ways();
	CHECK_IS(nn_close(copy), 0);
	check_closed();
	CHECK_IS(nn_close(copy), -EBADF);
}

/* dup2 of one stream onto another's only number: that one closes. */
static void onto_a_stream(void)
{
	struct wire other;
	char byte = 0;

	set_up();
	both_ways();
	wire_open(&other, &peers);
	nn_let_go(other.fd[0]);
	CHECK_IS(dup2(wire.fd[0], other.fd[0]), other.fd[0]);
	nn_duplicated(wire.fd[0], other.fd[0]);
	CHECK_IS(call_recv(other.fd[1], &byte, 1, MSG_DONTWAIT), 0);
	CHECK(stream_of(other.fd[0]) == wire.stream[0]);
	CHECK_IS(nn_close(wire.fd[0]), 0);
	check_open();
	wire.fd[0] = other.fd[0];
	both_ways();
}

/* Closed by a call that nobody saw; the number comes back as something else. */
static void closed_unseen(void)
{
	int plain;

	set_up();
	both_ways();
	close(wire.fd[0]);
	plain = eventfd(0, EFD_NONBLOCK);
	if (plain != wire.fd[0])
		CHECK_IS(dup2(plain, wire.fd[0]), wire.fd[0]);
	nn_appeared(wire.fd[0]);
	CHECK_IS(nn_kind_of(wire.fd[0]), NN_NONE);
	CHECK(fcntl(wire.fd[0], F_GETFD) >= 0); /* the newcomer is left alone */
	check_closed();
}

/* A call in another thread holds the stream while its number is closed and given to the next one. */
static void closed_under_a_call(void)
{
	struct nn_stream *held;
	struct wire next;
	uint64_t begun = 0;

	set_up();
	both_ways();
	held = stream_get(wire.fd[0]);
	CHECK_IS(nn_close(wire.fd[0]), 0);
	CHECK_IS(atomic_load(&held->phase), STREAM_PAIRED);
	CHECK(!(atomic_load(&held->own->tx_flags) & END_CLOSED)); /* the last to leave says it */
	wire_open(&next, &peers);
	CHECK(next.stream[0] != held && next.stream[1] != held);
	CHECK_IS(next.fd[0], wire.fd[0]);
	stream_put(held);
	check_closed();
	pass(&next, 0, &begun, 1000);
	CHECK(stream_of(next.fd[0]) == next.stream[0]);
}

/* The same where the call sleeps, and cannot run before the number is another socket's: that one is not touched. */
static int newcomer[2];
static bool shut, sending;

static long sleep_while_the_number_changes(struct pollfd *fds, nfds_t count, const struct timespec *timeout, const sigset_t *mask,
	struct nn_guard *guard)
{
	nn_front.ppoll = front_ppoll;
	if (shut)
		CHECK_IS(nn_shutdown(wire.fd[0], SHUT_RDWR), 0);
	CHECK_IS(socketpair(AF_UNIX, SOCK_STREAM, 0, newcomer), 0);
	CHECK_IS(nn_close(wire.fd[0]), 0);
	CHECK_IS(dup2(newcomer[0], wire.fd[0]), wire.fd[0]);
	CHECK_IS(write(newcomer[1], "theirs", 6), 6);
	if (!shut)
		CHECK_IS(nn_shutdown(wire.fd[1], SHUT_RDWR), 0);
	return front_ppoll(fds, count, timeout, mask, guard);
}

static void number_changes_under_a_call(void)
{
	struct nn_stream *stream;
	char bytes[8192] = {0};
	long outcome;

	set_up();
	both_ways();
	stream = wire.stream[0];
	while (sending && call_send(wire.fd[0], bytes, sizeof bytes, MSG_DONTWAIT) > 0)
		;
	nn_front.ppoll = sleep_while_the_number_changes;
	outcome = sending ? call_send(wire.fd[0], bytes, sizeof bytes, 0) : call_recv(wire.fd[0], bytes, sizeof bytes, 0);
	CHECK(nn_front.ppoll == front_ppoll);
	CHECK_IS(outcome, sending ? -EPIPE : 0);
	CHECK_IS(recv(newcomer[0], bytes, sizeof bytes, MSG_DONTWAIT), 6);
	CHECK_IS(recv(newcomer[1], bytes, sizeof bytes, MSG_DONTWAIT), -1);
	CHECK_IS(errno, EAGAIN); /* nor has it ended */
	CHECK_IS(atomic_load(&stream->phase), STREAM_FREE);
	for (int fd = 0; fd < (int)hidden_top(); fd++)
		CHECK(nn_kind_of(fd) != NN_HIDDEN || !socket_is_tcp(fd));
}

static void number_changes_under_a_recv(void)
{
	number_changes_under_a_call();
}

static void number_changes_under_a_recv_after_shutdown(void)
{
	shut = true;
	number_changes_under_a_call();
}

static void number_changes_under_a_send_after_shutdown(void)
{
	shut = sending = true;
	number_changes_under_a_call();
}

/* A child of fork holds no socket for the sake of a call of its parent's. */
static void fork_under_a_call_on_a_closed_number(void)
{
	struct nn_stream *held;
	char byte;
	int status;

	set_up();
	both_ways();
	held = stream_get(wire.fd[0]);
	CHECK_IS(nn_close(wire.fd[0]), 0);
	CHECK(stream_is_open(held));
	nn_fork_prepare();
	if (!fork()) {
		nn_fork_child();
		CHECK(!stream_is_open(held));
		for (int fd = 3; fd < (int)hidden_top(); fd++)
			CHECK(fd == wire.fd[1] || !socket_is_tcp(fd));
		_exit(0);
	}
	nn_fork_parent(false);
	CHECK(wait(&status) > 0 && status == 0);
	CHECK(stream_is_open(held));
	stream_put(held);
	CHECK_IS(recv(wire.fd[1], &byte, 1, 0), 0); /* the kernel's end came, too */
}

/* The parent closes what it leaves to its child before that has come to its own: the child shows, and reports, its stream. */
static void fork_and_the_parent_closes_first(void)
{
	int closed[2], status;
	char byte;

	set_up();
	both_ways();
	CHECK_IS(pipe(closed), 0);
	nn_fork_prepare();
	if (!fork()) {
		struct report_sums sums;

		CHECK_IS(read(closed[0], &byte, 1), 1);
		nn_fork_child();
		CHECK(stream_of(wire.fd[0]) == wire.stream[0] && atomic_load(&wire.stream[0]->shown->in_use));
		CHECK_IS(call_send(wire.fd[0], "1", 1, 0), 1);
		report_sum(&sums, &nn_state->totals, nn_state->streams, nn_state->stream_top);
		CHECK_IS(sums.connections, 0);
		CHECK_IS(sums.tx_ring, 1);
		_exit(0);
	}
	nn_fork_parent(false);
	CHECK_IS(nn_close(wire.fd[0]), 0);
	CHECK_IS(write(closed[1], "", 1), 1);
	CHECK(wait(&status) > 0 && status == 0);
}

/* One of two numbers is closed unseen and comes back: the other serves. */
static void one_of_two_closed_unseen(void)
{
	int copy;

	set_up();
	both_ways();
	copy = dup(wire.fd[0]);
	nn_duplicated(wire.fd[0], copy);
	close(wire.fd[0]);
	CHECK_IS(eventfd(0, EFD_NONBLOCK), wire.fd[0]);
	nn_appeared(wire.fd[0]);
	CHECK_IS(wire.stream[0]->fd, copy);
	check_open();
	wire.fd[0] = copy;
	both_ways();
}

/* Slots are used again, end blocks and rings with them. */
static void many_end(int count, bool passed)
{
	set_up();
	wire_close(&wire);
	for (int i = 0; i < count; i++) {
		wire_open(&wire, &peers);
		at[0] = at[1] = 0;
		both_ways();
		if (passed)
			nn_passing(wire.fd[i & 1]);
		wire_close(&wire);
	}
	lease_sweep();
	CHECK(stream_top() < 8);
	for (int i = 0; i < 2; i++) {
		struct arena_stats stats;

		arena_get_stats(peers.arena[i], &stats);
		CHECK_IS(stats.rings, 0);
		CHECK_IS(stats.ends, 0);
	}
}

static void many_one_after_another(void)
{
	many_end(2000, false);
}

/* Who has them then has nothing of ours. */
static void many_passed_away(void)
{
	many_end(200, true);
}

static void ranges(void)
{
	struct wire other;
	int hidden, plain;

	set_up();
	both_ways();
	wire_open(&other, &peers);
	hidden = hidden_take(eventfd(0, 0));
	CHECK(hidden >= 0);
	plain = eventfd(0, 0);
	CHECK_IS(nn_close(hidden), -EBADF); /* as if it were not there */
	CHECK_IS(nn_close_range((unsigned)other.fd[0], (unsigned)other.fd[0], 0), 0);
	CHECK_IS(nn_kind_of(other.fd[0]), NN_NONE);
	CHECK_IS(nn_kind_of(other.fd[1]), NN_STREAM);
	CHECK_IS(nn_close_range(5, 4, 0), -EINVAL);
	CHECK_IS(nn_close_range(3, ~0u, CLOSE_RANGE_CLOEXEC), 0);
	CHECK(fcntl(plain, F_GETFD) & FD_CLOEXEC);
	CHECK_IS(nn_kind_of(wire.fd[0]), NN_STREAM);
	both_ways();
	CHECK_IS(nn_close_range(3, ~0u, 0), 0);
	CHECK_IS(fcntl(plain, F_GETFD), -1);
	CHECK_IS(fcntl(wire.fd[0], F_GETFD), -1);
	CHECK_IS(nn_kind_of(wire.fd[0]), NN_NONE);
	CHECK_IS(atomic_load(&wire.stream[0]->phase), STREAM_FREE);
	CHECK(fcntl(hidden, F_GETFD) >= 0); /* ours stay */
	CHECK_IS(nn_kind_of(hidden), NN_HIDDEN);
}

/* The application wants a number that we hide something under. */
static void hidden_makes_room(void)
{
	static int holder;
	int was;

	set_up();
	holder = was = hidden_take(eventfd(7, 0));
	hidden_watch(&holder);
	nn_let_go(was);
	CHECK(holder != was && holder >= 0);
	CHECK_IS(nn_kind_of(was), NN_NONE);
	CHECK_IS(nn_kind_of(holder), NN_HIDDEN);
	CHECK_IS(fcntl(was, F_GETFD), -1);
	eventfd_t value;
	CHECK_IS(eventfd_read(holder, &value), 0);
	CHECK_IS(value, 7);
	hidden_unwatch(&holder);
	hidden_close(holder);
	CHECK_IS(nn_kind_of(holder), NN_NONE);
}

static void listeners(void)
{
	int listener, plain = socket(AF_UNIX, SOCK_STREAM, 0), fd[2];

	core_start(4096, 4096);
	tcp_pair(fd, &listener);
	nn_accepted(listener, fd[1], nn_forks()); /* its listen() was not seen */
	CHECK_IS(nn_kind_of(listener), NN_LISTENER);
	CHECK_IS(nn_kind_of(fd[1]), NN_STREAM);
	nn_duplicated(listener, plain + 100);
	CHECK_IS(nn_kind_of(plain + 100), NN_LISTENER);
	nn_listening(plain);
	CHECK_IS(nn_kind_of(plain), NN_NONE);
	nn_connected(plain, 0);
	CHECK_IS(nn_kind_of(plain), NN_NONE);
	nn_connected(fd[0], -ECONNREFUSED);
	CHECK_IS(nn_kind_of(fd[0]), NN_NONE);
	nn_connected(fd[0], -EINPROGRESS);
	CHECK_IS(nn_kind_of(fd[0]), NN_STREAM);
	CHECK_IS(nn_close(listener), 0);
	CHECK_IS(nn_kind_of(listener), NN_NONE);
}

/* The child of vfork has numbers of its own, and its parent's tables. */
static void numbers_of_a_vfork_child(void)
{
	int listener, fd[2], status;
	pid_t child;

	set_up();
	both_ways();
	tcp_pair(fd, &listener);
	nn_spawning();
	child = vfork();
	if (!child) {
		dup2(listener, wire.fd[1]);
		dup2(fd[1], wire.fd[0]);
		nn_listening(listener);
		nn_accepted(listener, wire.fd[0], nn_forks());
		nn_listening(wire.fd[1]);
		nn_connected(fd[0], 0);
		_exit(0);
	}
	CHECK(waitpid(child, &status, 0) == child && status == 0);
	CHECK_IS(nn_kind_of(listener), NN_NONE);
	CHECK_IS(nn_kind_of(fd[0]), NN_NONE);
	CHECK(stream_of(wire.fd[0]) == wire.stream[0] && stream_of(wire.fd[1]) == wire.stream[1]);
	both_ways();
}

/* connect() goes by what socket() made; when the number means something else since, unseen, that must end at the latest before a peer is sought. */
static void hint_of_another_socket(void)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(9)};
	struct nn_stream *stream;
	int fd, other;

	core_start(4096, 4096);
	inet_pton(AF_INET, "127.0.0.1", &address.sin_addr);
	fd = socket(AF_INET, SOCK_STREAM, 0);
	nn_made_socket(fd, AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0, nn_forks());
	CHECK_IS(nn_kind_of(fd), NN_NONE);
	other = socket(AF_INET, SOCK_DGRAM, 0);
	CHECK_IS(dup2(other, fd), fd); /* behind our back */
	CHECK_IS(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	nn_connected(fd, 0);
	stream = stream_of(fd);
	for (int i = 0; i < 100; i++)
		stream_tick(stream);
	CHECK_IS(atomic_load(&stream->phase), STREAM_YOUNG);
	nn_config.after_calls = 0;
	stream_tick(stream);
	CHECK_IS(atomic_load(&stream->phase), STREAM_ALONE);
	CHECK_IS(atomic_load(&stream->shown->tx.reason), NN_REASON_UNSUPPORTED);
	nn_made_socket(fd, AF_INET, SOCK_DGRAM, 0, nn_forks()); /* a socket() that we saw: the stream is gone, and no hint left */
	nn_connected(fd, 0);
	CHECK_IS(nn_kind_of(fd), NN_NONE);
}

/* Where the kernel does not tell pid namespaces apart, a child is in its parent's. */
static void lock_of_a_child_without_proc(void)
{
	char folder[] = "/tmp/nn-root-XXXXXX";
	_Atomic uint32_t *lock;
	int status;
	pid_t child;

	core_start(4096, 4096);
	lock = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (!mkdtemp(folder) || chdir(folder) || rmdir(folder) || chroot("."))
		return; /* not as root: nothing to see */
	nn_fork_prepare();
	child = fork();
	if (!child) {
		nn_fork_child();
		CHECK_IS(lock_take(lock, nn_self()), LOCK_TAKEN);
		_exit(0);
	}
	nn_fork_parent(false);
	CHECK(waitpid(child, &status, 0) == child && status == 0);
	CHECK(atomic_load(lock));
	CHECK_IS(lock_take(lock, nn_self()), LOCK_TAKEN);
}

/* Another thread forks between the kernel's making of a socket and our note of it: its child has the socket as well. */
static void forked_before_it_was_known(void)
{
	enum { BEFORE, WITHIN, ACROSS, AFTER, CASES };
	struct sockaddr_in address;
	socklen_t length = sizeof(address);

	core_start(4096, 4096);
	for (int when = BEFORE; when < CASES; when++) {
		int listener, fd[2], connector;
		uint32_t forks = nn_forks();

		if (when == BEFORE || when == WITHIN)
			nn_fork_prepare();
		if (when == WITHIN)
			forks = nn_forks();
		if (when == BEFORE) {
			nn_fork_parent(false);
			forks = nn_forks();
		}
		tcp_pair(fd, &listener);
		if (when == ACROSS)
			nn_fork_prepare();
		if (when == WITHIN || when == ACROSS)
			nn_fork_parent(false);
		nn_accepted(listener, fd[1], forks);
		CHECK_IS(stream_is_shared(stream_of(fd[1])), when == WITHIN || when == ACROSS);
		CHECK_IS(holders_others(stream_of(fd[1])), when == WITHIN || when == ACROSS);

		/* The same for one that will connect. */
		forks = nn_forks();
		connector = socket(AF_INET, SOCK_STREAM, 0);
		nn_made_socket(connector, AF_INET, SOCK_STREAM, 0, forks);
		if (when == ACROSS) {
			nn_fork_prepare();
			nn_fork_parent(false);
		}
		CHECK_IS(getsockname(listener, (struct sockaddr *)&address, &length), 0);
		CHECK_IS(connect(connector, (struct sockaddr *)&address, length), 0);
		nn_connected(connector, 0);
		CHECK_IS(stream_is_shared(stream_of(connector)), when == ACROSS);
		nn_close(connector);
		nn_close(fd[0]);
		nn_close(fd[1]);
		nn_close(listener);
	}
}

CORE_TEST(numbers_beyond_the_table, 10)
CORE_TEST(lock_of_a_child_without_proc, 10)
CORE_TEST(forked_before_it_was_known, 10)
CORE_TEST(another_number, 10)
CORE_TEST(onto_a_stream, 10)
CORE_TEST(closed_unseen, 10)
CORE_TEST(closed_under_a_call, 10)
CORE_TEST(number_changes_under_a_recv, 10)
CORE_TEST(number_changes_under_a_recv_after_shutdown, 10)
CORE_TEST(number_changes_under_a_send_after_shutdown, 10)
CORE_TEST(fork_under_a_call_on_a_closed_number, 10)
CORE_TEST(fork_and_the_parent_closes_first, 10)
CORE_TEST(one_of_two_closed_unseen, 10)
CORE_TEST(many_one_after_another, 60)
CORE_TEST(many_passed_away, 10)
CORE_TEST(ranges, 10)
CORE_TEST(hidden_makes_room, 10)
CORE_TEST(listeners, 10)
CORE_TEST(numbers_of_a_vfork_child, 10)
CORE_TEST(hint_of_another_socket, 10)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_numbers_beyond_the_table),
		cmocka_unit_test(test_lock_of_a_child_without_proc),
		cmocka_unit_test(test_forked_before_it_was_known),
		cmocka_unit_test(test_another_number),
		cmocka_unit_test(test_onto_a_stream),
		cmocka_unit_test(test_closed_unseen),
		cmocka_unit_test(test_closed_under_a_call),
		cmocka_unit_test(test_number_changes_under_a_recv),
		cmocka_unit_test(test_number_changes_under_a_recv_after_shutdown),
		cmocka_unit_test(test_number_changes_under_a_send_after_shutdown),
		cmocka_unit_test(test_fork_under_a_call_on_a_closed_number),
		cmocka_unit_test(test_fork_and_the_parent_closes_first),
		cmocka_unit_test(test_one_of_two_closed_unseen),
		cmocka_unit_test(test_many_one_after_another),
		cmocka_unit_test(test_many_passed_away),
		cmocka_unit_test(test_ranges),
		cmocka_unit_test(test_hidden_makes_room),
		cmocka_unit_test(test_listeners),
		cmocka_unit_test(test_numbers_of_a_vfork_child),
		cmocka_unit_test(test_hint_of_another_socket),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
