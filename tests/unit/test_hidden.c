/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Hidden descriptors where they are hard to keep: taken by a signal handler that interrupts the same, by a child forked while
 * another thread takes one, by a copy that nobody announced; moved when there are very many; under a limit that changes.
 * What hangs is killed by an alarm.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "shim/core/hidden.h"
#include "shim/core/process.h"
#include "shim/core/sys.h"

/* The thread sanitizer hands signals on late, and its locks do not survive a fork by system call. */
#if defined(__SANITIZE_THREAD__)
#define needs_plain_threads() skip()
#else
#define needs_plain_threads() ((void)0)
#endif

static bool later(const struct timespec *since, double seconds)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)(now.tv_sec - since->tv_sec) + (double)(now.tv_nsec - since->tv_nsec) / 1e9 > seconds;
}

static int take_one(void)
{
	return hidden_take((int)sys_call3(SYS_fcntl, STDIN_FILENO, F_DUPFD_CLOEXEC, 3));
}

static void take_and_close(void)
{
	static int holder;
	int fd = take_one();
	if (fd < 0 || hidden_watch(&holder) < 0)
		abort();
	hidden_unwatch(&holder);
	hidden_close(fd);
}

static volatile sig_atomic_t handled;

static void handler(int number)
{
	(void)number;
	take_and_close();
	handled++;
}

static void in_a_signal_handler(void **unused)
{
	(void)unused;
	needs_plain_threads();
	const struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART};
	const struct itimerval often = {{0, 50}, {0, 50}}, never = {{0, 0}, {0, 0}};
	struct timespec start;
	assert_int_equal(sigaction(SIGUSR1, &action, NULL), 0);
	assert_int_equal(sigaction(SIGVTALRM, &action, NULL), 0);
	assert_int_equal(sigaction(SIGPROF, &action, NULL), 0);
	setitimer(ITIMER_PROF, &often, NULL);
	timer_t timer;
	struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
	const struct itimerspec soon = {{0, 50000}, {0, 50000}};
	assert_int_equal(timer_create(CLOCK_MONOTONIC, &event, &timer), 0);
	assert_int_equal(timer_settime(timer, 0, &soon, NULL), 0);
	clock_gettime(CLOCK_MONOTONIC, &start);
	while (!later(&start, 0.5))
		take_and_close();
	timer_delete(timer);
	setitimer(ITIMER_PROF, &never, NULL);
	assert_true(handled > 100);
}

static _Atomic bool stop;

static void *take_on(void *unused)
{
	(void)unused;
	while (!atomic_load(&stop))
		take_and_close();
	return NULL;
}

/* Forks again and again while a thread takes and closes. 0: no child hung. */
static int fork_beside_a_thread(pid_t (*copy)(void))
{
	enum { COPIES = 300 };
	pthread_t thread;
	int status = 0;
	atomic_store(&stop, false);
	if (pthread_create(&thread, NULL, take_on, NULL))
		return -1;
	for (int i = 0; i < COPIES && status == 0; i++) {
		pid_t child = copy();
		if (child == 0) {
			alarm(5);
			take_and_close();
			sys_call1(SYS_exit_group, 0);
		}
		if (child < 0 || waitpid(child, &status, 0) != child)
			status = -1;
	}
	atomic_store(&stop, true);
	pthread_join(thread, NULL);
	return status;
}

static pid_t announced(void)
{
	nn_fork_prepare();
	pid_t pid = (pid_t)sys_call2(SYS_clone, SIGCHLD, 0);
	if (pid == 0)
		nn_fork_child();
	else
		nn_fork_parent(pid < 0);
	return pid;
}

static pid_t unseen(void)
{
	return (pid_t)sys_call2(SYS_clone, SIGCHLD, 0);
}

static void across_fork(void **unused)
{
	(void)unused;
	needs_plain_threads();
	sigset_t before, after;
	sigprocmask(SIG_SETMASK, NULL, &before);
	assert_int_equal(fork_beside_a_thread(announced), 0);
	sigprocmask(SIG_SETMASK, NULL, &after);
	for (int number = 1; number < 32; number++)
		assert_int_equal(sigismember(&before, number), sigismember(&after, number));
}

static void in_an_unseen_copy(void **unused)
{
	(void)unused;
	needs_plain_threads();
	/* Without kcmp (seccomp) there is no telling. */
	if (sys_call5(SYS_kcmp, getpid(), getppid(), 1 /* KCMP_VM */, 0, 0) < 0)
		skip();
	assert_int_equal(fork_beside_a_thread(unseen), 0);
}

static void very_many_holders(void **unused)
{
	enum { MANY = 40000 };
	static int many[MANY], last;
	(void)unused;
	for (int i = 0; i < MANY; i++) {
		many[i] = -1;
		assert_int_equal(hidden_watch(&many[i]), 0);
	}
	int fd = last = take_one();
	assert_true(fd >= 0);
	assert_int_equal(hidden_watch(&last), 0);
	hidden_evict(fd);
	assert_true(last >= 0);
	assert_int_not_equal(last, fd);
	assert_int_equal(fcntl(last, F_GETFD), FD_CLOEXEC);
	assert_int_equal(fcntl(fd, F_GETFD), -1);
	hidden_unwatch(&last);
	hidden_close(last);
	for (int i = MANY - 1; i >= 0; i--)
		hidden_unwatch(&many[i]);
}

/* A limit that the program sets while another thread hides descriptors stays what it set. */
static void a_limit_set_meanwhile(void **unused)
{
	(void)unused;
	struct rlimit saved, limit, found;
	pthread_t thread;
	getrlimit(RLIMIT_NOFILE, &saved);
	if (saved.rlim_max < 512)
		skip();
	struct timespec start;
	atomic_store(&stop, false);
	assert_int_equal(pthread_create(&thread, NULL, take_on, NULL), 0);
	clock_gettime(CLOCK_MONOTONIC, &start);
	bool lost = false;
	/* No value twice: what was set and set back in between looks like nothing. */
	for (unsigned i = 0; !lost && 256 + i < saved.rlim_max && !later(&start, 0.5); i++) {
		limit = (struct rlimit){256 + i, saved.rlim_max};
		setrlimit(RLIMIT_NOFILE, &limit);
		/* It may look raised for a moment; lost, it would be so for ever. */
		struct timespec set;
		clock_gettime(CLOCK_MONOTONIC, &set);
		do
			getrlimit(RLIMIT_NOFILE, &found);
		while (found.rlim_cur != limit.rlim_cur && !later(&set, 2));
		lost = found.rlim_cur != limit.rlim_cur;
	}
	atomic_store(&stop, true);
	pthread_join(thread, NULL);
	setrlimit(RLIMIT_NOFILE, &saved);
	assert_false(lost);
}

static uint32_t self(void)
{
	return (uint32_t)sys_call0(SYS_gettid);
}

static int start_core(void **unused)
{
	(void)unused;
	const struct nn_config config = {.log_fd = -1};
	const struct nn_front front = {.self = self};
	return nn_start(&config, &front);
}

int main(int count, char **arguments)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(in_a_signal_handler),
		cmocka_unit_test(across_fork),
		cmocka_unit_test(in_an_unseen_copy),
		cmocka_unit_test(very_many_holders),
		cmocka_unit_test(a_limit_set_meanwhile),
	};
	if (count > 1)
		cmocka_set_test_filter(arguments[1]);
	alarm(60);
	return cmocka_run_group_tests(tests, start_core, NULL);
}
