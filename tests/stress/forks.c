/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * forks [SECONDS]: a timer's handler forks, also while the thread that it interrupts does. Afterwards another thread must still be able to
 * fork, a connection to talk, and one that has only begun to go up.
 */
#include "tests/stress/pair.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/time.h>
#include <sys/wait.h>

enum { PERIOD_US = 3100, PATIENCE_S = 10 };

static volatile sig_atomic_t nested;

static void child(void)
{
	int pid = fork();
	if (pid == 0)
		_exit(0);
	int status = 0;
	while (pid > 0 && waitpid(pid, &status, 0) < 0) /* interrupted: nobody else waits for it */
		;
	if (status) /* it crashed */
		_exit(3);
}

static void on_timer(int number)
{
	int saved = errno; /* NOLINT(bugprone-signal-handler) */
	(void)number;
	child();
	nested++;
	errno = saved; /* NOLINT(bugprone-signal-handler) */
}

static void *another(void *unused)
{
	(void)unused;
	child();
	return NULL;
}

int main(int argc, char **argv)
{
	const struct itimerval period = {{0, PERIOD_US}, {0, PERIOD_US}}, never = {{0, 0}, {0, 0}};
	int ends[2], later[2], forks = 0;
	pthread_t thread;
	connect_both(ends);
	warm_both(ends);
	connect_both(later);
	signal(SIGALRM, on_timer);
	setitimer(ITIMER_REAL, &period, NULL);
	for (double end = now() + (argc > 1 ? atof(argv[1]) : 3); now() < end; forks++)
		child();
	setitimer(ITIMER_REAL, &never, NULL);
	signal(SIGALRM, SIG_DFL);
	alarm(PATIENCE_S); /* who hangs from here on is ended by it */
	if (pthread_create(&thread, NULL, another, NULL) || pthread_join(thread, NULL))
		return 2;
	warm_both(ends);
	warm_both(later);
	printf("# %d forks, and %d in handlers", forks, (int)nested);
	return !nested;
}
