/* SPDX-License-Identifier: BSD-2-Clause */
/* Sleeps by the sets of caught signals: which handler ends them, which does not, and what stays blocked. */
#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "shim/core/nn.h"
#include "shim/core/process.h"
#include "shim/core/signals.h"

/* The thread sanitizer takes signals itself and hands them on when it sees fit. */
#if defined(__SANITIZE_THREAD__)
#define needs_own_signals() skip()
#else
#define needs_own_signals() ((void)0)
#endif

#define BIT(number) (1ull << ((number)-1))

static volatile sig_atomic_t ran[65];
static struct timespec none; /* the limit of sleeps that are not slept */

static void handler(int number)
{
	ran[number]++;
}

static void catch(int number, int flags)
{
	const struct sigaction action = {.sa_handler = handler, .sa_flags = flags};
	assert_int_equal(sigaction(number, &action, NULL), 0);
	nn_signals_changed();
}

static int set_up(void **unused)
{
	(void)unused;
	memset((void *)ran, 0, sizeof ran);
	signal(SIGUSR1, SIG_DFL);
	signal(SIGUSR2, SIG_DFL);
	signal(SIGALRM, SIG_DFL);
	nn_front.counting = NULL;
	nn_front.ran = NULL;
	nn_signals_changed();
	return 0;
}

/* One sleep of at most `ms`, with `number` pending as it begins (0: none): as stream_wait sleeps. */
static int sleep_through(int number, int ms)
{
	struct signals_sleep sleep = {.began = signals_ran()};
	sigset_t one, old;
	signals_fall_asleep(&sleep, &none);
	sigemptyset(&one);
	if (number) {
		sigaddset(&one, number);
		pthread_sigmask(SIG_BLOCK, &one, &old);
		raise(number);
	} else {
		pthread_sigmask(SIG_BLOCK, NULL, &old);
	}
	struct pollfd fd = {.fd = sleep.fd, .events = POLLIN};
	const struct timespec limit = {ms / 1000, ms % 1000 * 1000000};
	int outcome = ppoll(&fd, 1, &limit, sleep.held ? &sleep.mask : &old) < 0 ? -errno : fd.revents ? 1 : 0;
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (signals_wake(&sleep, false))
		return -EINTR;
	return outcome == -EINTR && !signals_interrupted(&sleep) ? 2 : outcome;
}

static void sets_follow_the_handlers(void **unused)
{
	(void)unused;
	struct signals before = signals_caught();
	catch(SIGUSR1, SA_RESTART);
	catch(SIGUSR2, 0);
	struct signals now = signals_caught();
	assert_int_equal(now.restarting, before.restarting | BIT(SIGUSR1));
	assert_int_equal(now.interrupting, before.interrupting | BIT(SIGUSR2));
	catch(SIGUSR1, 0);
	now = signals_caught();
	assert_int_equal(now.restarting, before.restarting);
	assert_int_equal(now.interrupting, before.interrupting | BIT(SIGUSR1) | BIT(SIGUSR2));
}

static void one_kind_needs_no_descriptor(void **unused)
{
	struct signals_sleep sleep = {.began = signals_ran()};
	(void)unused;
	if (signals_caught().interrupting)
		skip(); /* a sanitizer has handlers of its own */
	catch(SIGUSR1, SA_RESTART);
	signals_fall_asleep(&sleep, &none);
	assert_int_equal(sleep.fd, -1);
	assert_false(signals_interrupted(&sleep));
	assert_false(signals_wake(&sleep, false));
	assert_int_equal(sleep_through(SIGUSR1, 1000), 2);
	catch(SIGUSR1, 0);
	assert_int_equal(sleep_through(SIGUSR1, 1000), -EINTR);
	assert_int_equal(ran[SIGUSR1], 2);
}

static void mixed_kinds_are_told_apart(void **unused)
{
	(void)unused;
	needs_own_signals();
	catch(SIGUSR1, SA_RESTART);
	catch(SIGUSR2, 0);
	assert_int_equal(sleep_through(SIGUSR1, 1000), 1);
	assert_int_equal(ran[SIGUSR1], 1);
	assert_int_equal(sleep_through(SIGUSR2, 1000), -EINTR);
	assert_int_equal(ran[SIGUSR2], 1);
	assert_int_equal(sleep_through(0, 1), 0);
}

static void blocked_ones_stay_blocked(void **unused)
{
	sigset_t set, pending;
	(void)unused;
	needs_own_signals();
	catch(SIGUSR1, SA_RESTART);
	catch(SIGALRM, SA_RESTART);
	catch(SIGUSR2, 0);
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	raise(SIGUSR1);
	assert_int_equal(sleep_through(0, 1), 0);
	assert_int_equal(sleep_through(SIGALRM, 1000), 1);
	assert_int_equal(ran[SIGALRM], 1);
	assert_int_equal(ran[SIGUSR1], 0);
	sigpending(&pending);
	assert_true(sigismember(&pending, SIGUSR1));
	pthread_sigmask(SIG_UNBLOCK, &set, NULL);
	assert_int_equal(ran[SIGUSR1], 1);
}

/* ppoll tells of the descriptor; the other signal is not lost for it. */
static void both_kinds_at_once_interrupt(void **unused)
{
	struct signals_sleep sleep = {.began = signals_ran()};
	sigset_t mask;
	(void)unused;
	needs_own_signals();
	catch(SIGUSR1, SA_RESTART);
	catch(SIGUSR2, 0);
	for (int late = 0; late < 2; late++) {
		signals_fall_asleep(&sleep, &none);
		raise(SIGUSR1);
		if (!late)
			raise(SIGUSR2);
		struct pollfd fd = {.fd = sleep.fd, .events = POLLIN};
		assert_int_equal(ppoll(&fd, 1, NULL, &sleep.mask), 1);
		if (late)
			raise(SIGUSR2);
		assert_true(signals_wake(&sleep, false));
		assert_int_equal(ran[SIGUSR1], late + 1);
		assert_int_equal(ran[SIGUSR2], late + 1);
	}
	pthread_sigmask(SIG_SETMASK, NULL, &mask);
	assert_true(sigisemptyset(&mask));
}

/* More sets than places, all asleep at once. */
static void many_sleep_at_once(void **unused)
{
	struct signals_sleep sleeps[8] = {0};
	sigset_t set;
	(void)unused;
	needs_own_signals();
	catch(SIGUSR2, 0);
	for (int i = 0; i < 8; i++)
		catch(40 + i, SA_RESTART);
	sigemptyset(&set);
	for (int i = 0; i < 8; i++) { /* as eight threads would */
		pthread_sigmask(SIG_SETMASK, &set, NULL);
		signals_fall_asleep(&sleeps[i], &none);
		assert_true(sleeps[i].fd >= 0);
		for (int k = 0; k < i; k++)
			assert_int_not_equal(sleeps[k].fd, sleeps[i].fd);
		if (i < 7)
			sigaddset(&set, 40 + i);
	}
	raise(40);
	for (int i = 7; i >= 0; i--) {
		struct pollfd fd = {.fd = sleeps[i].fd, .events = POLLIN};
		assert_int_equal(poll(&fd, 1, 0), i == 0);
		assert_false(signals_wake(&sleeps[i], false));
	}
	assert_int_equal(ran[40], 1);
	assert_int_equal(sleep_through(SIGUSR2, 1000), -EINTR);
	for (int i = 0; i < 8; i++)
		signal(40 + i, SIG_DFL);
}

static void a_lost_descriptor_is_replaced(void **unused)
{
	struct signals_sleep sleep = {.began = signals_ran()};
	(void)unused;
	catch(SIGUSR1, SA_RESTART);
	catch(SIGUSR2, 0);
	signals_fall_asleep(&sleep, &none);
	close(sleep.fd);
	signals_wake(&sleep, true);
	assert_int_equal(sleep_through(SIGUSR1, 1000), 1);
}

static void a_handler_set_during_the_sleep_counts(void **unused)
{
	struct signals_sleep sleep = {.began = signals_ran()};
	(void)unused;
	signals_fall_asleep(&sleep, &none);
	catch(SIGUSR1, 0);
	signals_wake(&sleep, false);
	assert_true(signals_interrupted(&sleep));
}

static void a_child_goes_on(void **unused)
{
	(void)unused;
	catch(SIGUSR1, SA_RESTART);
	catch(SIGUSR2, 0);
	assert_int_equal(sleep_through(SIGUSR1, 1000), 1);
	pid_t child = fork();
	if (child == 0) {
		catch(SIGALRM, SA_RESTART);
		_exit(sleep_through(SIGALRM, 1000) != 1 || sleep_through(SIGUSR1, 1000) != 1 ||
		      sleep_through(SIGUSR2, 1000) != -EINTR);
	}
	int status;
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	assert_int_equal(sleep_through(SIGUSR1, 1000), 1);
}

/* What the child listens to is not what its parent sleeps on, though they share the descriptors. */
static void a_child_keeps_off_its_parents_sleeps(void **unused)
{
	(void)unused;
	catch(SIGUSR1, SA_RESTART);
	catch(SIGUSR2, 0);
	assert_int_equal(sleep_through(SIGUSR1, 1000), 1);
	pid_t child = fork();
	if (child == 0) {
		int failed = 0;
		catch(SIGUSR1, 0);
		for (int i = 0; i < 8; i++) {
			catch(40 + i, SA_RESTART);
			failed |= sleep_through(40 + i, 1000) != 1;
		}
		_exit(failed);
	}
	int status;
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	assert_int_equal(sleep_through(SIGUSR1, 1000), 1);
}

/* ---- a front end that counts ---------------------------------------------------------------------------------------------- */

static struct nn_ran counts;

static struct nn_ran count(void)
{
	return counts;
}

/* SIGUSR1 goes on, as below. */
static void counting(int number, siginfo_t *info, void *context)
{
	(void)info, (void)context;
	if (number == SIGUSR1)
		counts.restarting++;
	else
		counts.interrupting++;
	ran[number]++;
}

static bool catch_counting(void)
{
	struct sigaction action = {.sa_sigaction = counting, .sa_flags = SA_SIGINFO | SA_RESTART};
	for (int number = 1; number < 32; number++) /* cmocka's own */
		signal(number, SIG_DFL);
	nn_front.counting = counting;
	nn_front.ran = count;
	sigaction(SIGUSR1, &action, NULL);
	action.sa_flags = SA_SIGINFO;
	sigaction(SIGUSR2, &action, NULL);
	nn_signals_changed();
	return !signals_caught().silent; /* else a sanitizer stands before us */
}

static void counted_handlers_need_no_descriptor(void **unused)
{
	struct signals_sleep sleep;
	(void)unused;
	if (!catch_counting())
		skip();
	sleep = (struct signals_sleep){.began = signals_ran()};
	assert_int_equal(signals_fall_asleep(&sleep, &none), 0);
	assert_int_equal(sleep.fd, -1);
	assert_false(signals_wake(&sleep, false));
	assert_int_equal(sleep_through(SIGUSR1, 1000), 2);
	assert_int_equal(sleep_through(SIGUSR2, 1000), -EINTR);
	assert_int_equal(sleep_through(0, 1), 0);
	assert_int_equal(ran[SIGUSR1], 1);
	assert_int_equal(ran[SIGUSR2], 1);
	catch(SIGALRM, SA_RESTART); /* one that nobody counts */
	assert_int_equal(sleep_through(SIGALRM, 1000), 1);
	assert_int_equal(sleep_through(SIGUSR1, 1000), 1);
	assert_int_equal(sleep_through(SIGUSR2, 1000), -EINTR);
}

static void one_that_ran_before_the_sleep_ends_it(void **unused)
{
	struct signals_hold hold;
	sigset_t mask;
	(void)unused;
	if (!catch_counting())
		skip();
	struct signals_sleep sleep = {.began = signals_ran()};
	raise(SIGUSR1);
	assert_int_equal(signals_fall_asleep(&sleep, &none), 0);
	signals_wake(&sleep, false);
	assert_int_equal(signals_hold(&hold, sleep.began, &none), -EINTR);
	raise(SIGUSR2);
	assert_int_equal(signals_fall_asleep(&sleep, &none), -EINTR);
	signals_wake(&sleep, false);
	assert_int_equal(signals_hold(&hold, sleep.began, &none), -EINTR);
	assert_int_equal(signals_hold(&hold, signals_ran(), &none), 0);
	signals_release(&hold, 0);
	pthread_sigmask(SIG_SETMASK, NULL, &mask);
	assert_true(sigisemptyset(&mask));
}

/* Between the last look and the sleep. */
static void one_that_comes_while_held_ends_the_sleep(void **unused)
{
	struct signals_hold hold;
	const struct timespec limit = {1, 0};
	sigset_t mask;
	(void)unused;
	needs_own_signals();
	catch(SIGUSR1, SA_RESTART);
	assert_int_equal(signals_hold(&hold, signals_ran(), &none), 0);
	raise(SIGUSR1);
	assert_int_equal(ran[SIGUSR1], 0);
	assert_int_equal(ppoll(NULL, 0, &limit, &hold.mask), -1);
	assert_int_equal(ran[SIGUSR1], 1);
	signals_release(&hold, 0);
	pthread_sigmask(SIG_SETMASK, NULL, &mask);
	assert_true(sigisemptyset(&mask));
}

#define TEST(name) cmocka_unit_test_setup(name, set_up)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(sets_follow_the_handlers),
		TEST(one_kind_needs_no_descriptor),
		TEST(mixed_kinds_are_told_apart),
		TEST(both_kinds_at_once_interrupt),
		TEST(blocked_ones_stay_blocked),
		TEST(many_sleep_at_once),
		TEST(a_lost_descriptor_is_replaced),
		TEST(a_handler_set_during_the_sleep_counts),
		TEST(a_child_goes_on),
		TEST(a_child_keeps_off_its_parents_sleeps),
		TEST(counted_handlers_need_no_descriptor),
		TEST(one_that_ran_before_the_sleep_ends_it),
		TEST(one_that_comes_while_held_ends_the_sleep),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
