/* SPDX-License-Identifier: BSD-2-Clause */
/* Who holds a socket after forks, exits and kills; and the leases that depend on it, under contention. */
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "arena/arena.h"
#include "shim/core/holders.h"
#include "shim/core/lease.h"
#include "shim/core/process.h"

static uint32_t self(void)
{
	return (uint32_t)gettid();
}

/* A process with `stream`, until it is killed, or one that ends at once. */
static pid_t fork_holder(struct nn_stream *stream, bool stays)
{
	holders_fork_begin();
	holders_fork_stream(stream);
	int born[2];
	char byte = 0;
	assert_int_equal(pipe(born), 0);
	pid_t pid = fork();
	if (pid == 0) {
		nn_pid = getpid();
		holders_fork_child();
		if (!stays)
			_exit(0);
		if (write(born[1], &byte, 1) == 1)
			pause();
		_exit(0);
	}
	holders_fork_end(pid < 0);
	close(born[1]);
	if (stays)
		assert_int_equal(read(born[0], &byte, 1), 1);
	close(born[0]);
	return pid;
}

/* Killed, and not reaped. */
static void kill_only(pid_t pid)
{
	kill(pid, SIGKILL);
	siginfo_t end;
	assert_int_equal(waitid(P_PID, (id_t)pid, &end, WEXITED | WNOWAIT), 0);
}

static void one_who_was_killed_holds_nothing(void **unused)
{
	struct nn_stream stream = {0};
	(void)unused;
	assert_false(holders_others(&stream));
	pid_t first = fork_holder(&stream, true), second = fork_holder(&stream, true);
	assert_true(holders_others(&stream));
	kill_only(first);
	assert_true(holders_others(&stream));
	kill_only(second);
	assert_true(stream_is_shared(&stream)); /* not asked yet */
	assert_false(holders_others(&stream));
	assert_false(stream_is_shared(&stream));
	assert_false(holders_leave(&stream));
	waitpid(first, NULL, 0);
	waitpid(second, NULL, 0);
}

static void a_look_costs_ever_less(void **unused)
{
	struct nn_stream stream = {0};
	(void)unused;
	pid_t pid = fork_holder(&stream, true);
	for (int i = 0; i < 300; i++)
		holders_look(&stream);
	kill_only(pid);
	int looks = 0;
	for (; stream_is_shared(&stream); looks++)
		holders_look(&stream);
	assert_in_range(looks, 2, 256);
	waitpid(pid, NULL, 0);
}

static void the_last_to_leave_is_told(void **unused)
{
	struct nn_stream stream = {0};
	(void)unused;
	pid_t pid = fork_holder(&stream, true);
	assert_true(holders_leave(&stream));
	holders_return(&stream); /* an exec that failed */
	assert_true(holders_others(&stream));
	kill_only(pid);
	assert_false(holders_leave(&stream));
	waitpid(pid, NULL, 0);
}

static void a_fork_that_failed_leaves_nobody(void **unused)
{
	struct nn_stream stream = {0};
	(void)unused;
	holders_fork_begin();
	holders_fork_stream(&stream);
	holders_fork_end(true);
	assert_false(holders_others(&stream));
	assert_false(holders_leave(&stream));
}

static void places_are_used_again(void **unused)
{
	struct nn_stream stream = {0}, other = {0};
	(void)unused;
	pid_t pid = fork_holder(&other, true);
	for (int i = 0; i < 1200; i++)
		assert_int_equal(waitpid(fork_holder(&stream, false), NULL, 0) > 0, 1);
	assert_false(holders_others(&stream));
	assert_true(holders_others(&other));
	kill_only(pid);
	assert_false(holders_others(&other));
	waitpid(pid, NULL, 0);
}

/* ---- leases ------------------------------------------------------------------------------------------------------------ */

static struct nn_pair pair;
static struct end_block peer; /* as if in the peer's memory */
#define COOKIE 4711

static void make_pair(void)
{
	const struct arena_backend backend = {ARENA_MEMFD, NULL};
	struct arena_share share;
	memset(&pair, 0, sizeof pair);
	memset(&peer, 0, sizeof peer);
	assert_int_equal(arena_create(&backend, 0, &pair.arena, &share), 0);
	close(share.fd);
	pair.own = arena_region(pair.arena);
	peer.cookie = COOKIE;
}

static unsigned ends(void)
{
	struct arena_stats stats;
	arena_get_stats(pair.arena, &stats);
	return (unsigned)stats.ends;
}

static void close_one(struct nn_stream *stream)
{
	int end = arena_end_alloc(pair.arena, COOKIE);
	if (end < 0)
		return;
	stream->pair = &pair;
	stream->peer = &peer;
	stream->peer_cookie = COOKIE;
	stream->own_end = (uint32_t)end;
	lease_begin(stream);
}

static void sweep_all(void)
{
	for (int i = 0; i < 1000; i++)
		lease_sweep();
}

static void a_lease_ends_with_the_last_holder(void **unused)
{
	struct nn_stream stream = {0};
	(void)unused;
	make_pair();
	pid_t pid = fork_holder(&stream, true);
	stream.shared_at_close = holders_leave(&stream);
	assert_true(stream.shared_at_close);
	close_one(&stream);
	peer.rx_flags = END_DONE;
	sweep_all();
	assert_int_equal(ends(), 1);
	kill_only(pid);
	sweep_all();
	assert_int_equal(ends(), 0);
	waitpid(pid, NULL, 0);
}

static void *close_many(void *unused)
{
	for (int i = 0; i < 3000; i++) {
		struct nn_stream stream = {0};
		close_one(&stream);
		lease_sweep();
	}
	return unused;
}

static void no_lease_is_lost_to_another_thread(void **unused)
{
	pthread_t threads[4];
	(void)unused;
	make_pair();
	for (int i = 0; i < 4; i++)
		pthread_create(&threads[i], NULL, close_many, NULL);
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(ends(), 12000);
	peer.rx_flags = END_DONE;
	sweep_all();
	assert_int_equal(ends(), 0);
}

static volatile sig_atomic_t handled, nested;

static void close_in_handler(int number)
{
	(void)number;
	struct nn_stream stream = {0};
	struct nn_pair another = {0};
	close_one(&stream);
	if (!lease_forget(&another))
		nested++;
	handled++;
}

static void a_handler_closes_while_its_thread_does(void **unused)
{
	const struct sigaction action = {.sa_handler = close_in_handler};
	const struct itimerval often = {{0, 1000}, {0, 1000}}, never = {0};
	(void)unused;
	make_pair();
	sigaction(SIGALRM, &action, NULL);
	setitimer(ITIMER_REAL, &often, NULL);
	struct nn_stream stream = {0};
	close_one(&stream);
	for (time_t end = time(NULL) + 5; (handled < 500 || !nested) && time(NULL) < end;)
		lease_sweep();
	setitimer(ITIMER_REAL, &never, NULL);
	assert_true(handled > 10);
#if !defined(__SANITIZE_THREAD__) /* it hands signals on when it sees fit */
	assert_true(nested > 0);
#endif
	assert_int_equal(ends(), handled + 1);
	peer.rx_flags = END_DONE;
	sweep_all();
	assert_int_equal(ends(), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_who_was_killed_holds_nothing),
		cmocka_unit_test(a_look_costs_ever_less),
		cmocka_unit_test(the_last_to_leave_is_told),
		cmocka_unit_test(a_fork_that_failed_leaves_nobody),
		cmocka_unit_test(places_are_used_again),
		cmocka_unit_test(a_lease_ends_with_the_last_holder),
		cmocka_unit_test(no_lease_is_lost_to_another_thread),
		cmocka_unit_test(a_handler_closes_while_its_thread_does),
	};
	nn_front.self = self;
	nn_pid = getpid();
	return cmocka_run_group_tests_name("holders", tests, NULL, NULL);
}
