/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * crosswise [SECONDS]: handlers that want what other threads have, while what they interrupt has what those want. All these calls may be
 * made in a handler; none may wait for ever.
 *   sends    two threads send, each on its own stream; a handler on either sends on both
 *   sets     a thread changes and asks an epoll set, with a handler that sends on the stream in it; another thread sends there too, and
 *            the stream moves (NOTNETS_CHAOS)
 *   forks    a thread changes a set, with a handler that forks; another thread forks
 */
#include "tests/stress/pair.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/wait.h>

enum { PATIENCE_S = 20, PERIOD_US = 100 };

static int streams[2], set;
static _Atomic int stop;
static _Atomic unsigned long calls, handled;

static void *drain(void *data)
{
	static __thread char buffer[1 << 16];
	while (recv((int)(intptr_t)data, buffer, sizeof buffer, 0) > 0)
		;
	return NULL;
}

static void *send_on(void *data)
{
	static const char bytes[1 << 16];
	for (unsigned i = 0; !stop; i++)
		calls += send(streams[(intptr_t)data], bytes, i % 4 ? 1 + i % 100 : sizeof bytes, MSG_NOSIGNAL) > 0;
	return NULL;
}

static void *change_set(void *unused)
{
	(void)unused;
	while (!stop) {
		struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLET};
		calls += epoll_ctl(set, EPOLL_CTL_ADD, streams[0], &event) == 0;
		epoll_ctl(set, EPOLL_CTL_MOD, streams[0], &event);
		epoll_wait(set, &event, 1, 0);
		epoll_ctl(set, EPOLL_CTL_DEL, streams[0], &event);
	}
	return NULL;
}

static void on_signal_send(int number)
{
	int saved = errno; /* NOLINT(bugprone-signal-handler) */
	(void)number;
	for (int i = 0; i < 2; i++)
		handled += send(streams[i], "h", 1, MSG_DONTWAIT | MSG_NOSIGNAL) == 1;
	errno = saved; /* NOLINT(bugprone-signal-handler) */
}

static void fork_once(void)
{
	pid_t pid = _Fork();
	if (!pid)
		_exit(0);
	while (pid > 0 && waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
}

static void on_signal_fork(int number)
{
	int saved = errno; /* NOLINT(bugprone-signal-handler) */
	(void)number;
	fork_once();
	handled++;
	errno = saved; /* NOLINT(bugprone-signal-handler) */
}

/* The first of the threads, or both, get signals; this thread does `beside` meanwhile. Returns whether all of it has happened. */
static int play(const char *name, double seconds, void (*handler)(int), void *(*bodies[2])(void *), int signalled, void (*beside)(void))
{
	pthread_t threads[2];
	sigset_t one;
	stop = 0;
	calls = handled = 0;
	sigemptyset(&one);
	sigaddset(&one, SIGUSR1);
	sigaction(SIGUSR1, &(struct sigaction){.sa_handler = handler, .sa_flags = SA_RESTART}, NULL);
	pthread_sigmask(SIG_UNBLOCK, &one, NULL);
	for (int i = 0; i < 2; i++)
		if (bodies[i] && pthread_create(&threads[i], NULL, bodies[i], (void *)(intptr_t)i))
			exit(2);
	pthread_sigmask(SIG_BLOCK, &one, NULL);
	alarm((unsigned)seconds + PATIENCE_S); /* who hangs is ended by it */
	for (double end = now() + seconds; now() < end;) {
		for (int i = 0; i < signalled; i++)
			pthread_kill(threads[i], SIGUSR1);
		beside();
	}
	stop = 1;
	for (int i = 0; i < 2; i++)
		if (bodies[i])
			pthread_join(threads[i], NULL);
	alarm(0);
	printf("%s: %lu calls, %lu by handlers; ", name, calls, handled);
	fflush(stdout);
	return calls && handled;
}

static void nap(void)
{
	usleep(PERIOD_US);
}

int main(int argc, char **argv)
{
	double third = (argc > 1 ? atof(argv[1]) : 3) / 3;
	pthread_t drains[2];
	int done = 1;
	printf("# ");
	for (int i = 0; i < 2; i++) {
		int ends[2];
		connect_both(ends);
		warm_both(ends);
		streams[i] = ends[0];
		if (pthread_create(&drains[i], NULL, drain, (void *)(intptr_t)ends[1]))
			return 2;
	}
	set = epoll_create1(EPOLL_CLOEXEC);
	done &= play("sends", third, on_signal_send, (void *(*[2])(void *)){send_on, send_on}, 2, nap);
	done &= play("sets", third, on_signal_send, (void *(*[2])(void *)){change_set, send_on}, 1, nap);
	done &= play("forks", third, on_signal_fork, (void *(*[2])(void *)){change_set, NULL}, 1, fork_once);
	for (int i = 0; i < 2; i++) {
		shutdown(streams[i], SHUT_WR);
		pthread_join(drains[i], NULL);
	}
	return !done;
}
