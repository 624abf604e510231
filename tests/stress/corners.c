/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * corners: what programs do seldom, and may.
 *   jumps    a handler leaves recv, send, poll, select or epoll_wait by siglongjmp, the idiom of a time limit by SIGALRM; then the connection
 *            is closed: its peer must see that. After many such jumps a call that waits still sleeps
 *   stacks   a thread and a handler with as little stack as there may be talk over a fresh connection until it is up
 *   masks    what ppoll, pselect and epoll_pwait are given counts for the whole call: what is let in ends it, also where it does not wait, and
 *            what is not comes afterwards
 *   order    of two connections to one peer, what is sent on the second is never told of alone while that on the first is there
 *   queued   real-time signals queued to a thread that is busy with connections come in their order
 */
#include "tests/stress/pair.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/wait.h>

enum { JUMPS = 1500, SIGNALS = 200000, PATIENCE_MS = 3000 };

static int failed;

static void complain(const char *what, int which)
{
	fprintf(stderr, "corners: %s (%d)\n", what, which);
	failed = 1;
}

/* ---- jumps -------------------------------------------------------------------------------------------------------------- */

static sigjmp_buf out;

static void jump(int number)
{
	(void)number;
	siglongjmp(out, 1); /* NOLINT(bugprone-signal-handler) */
}

enum call { RECV, SEND, POLL, SELECT, EPOLL, CALLS };

static void wait_in(enum call call, int fd, int set)
{
	static char buffer[400000];
	struct pollfd entry = {.fd = fd, .events = POLLIN};
	struct epoll_event event;
	fd_set in;
	FD_ZERO(&in);
	FD_SET(fd, &in);
	switch (call) {
	case RECV: recv(fd, buffer, 1, 0); break;
	case SEND: for (;;) send(fd, buffer, sizeof buffer, MSG_NOSIGNAL);
	case POLL: poll(&entry, 1, -1); break;
	case SELECT: select(fd + 1, &in, NULL, NULL, NULL); break;
	default: epoll_wait(set, &event, 1, -1);
	}
}

static void leave_after(useconds_t period, enum call call, int fd, int set)
{
	if (!sigsetjmp(out, 1)) {
		ualarm(period, 0);
		wait_in(call, fd, set);
	}
}

static void end_is_seen(enum call call)
{
	static char buffer[1 << 16];
	int ends[2], set = epoll_create1(EPOLL_CLOEXEC);
	connect_both(ends);
	warm_both(ends);
	epoll_ctl(set, EPOLL_CTL_ADD, ends[1], &(struct epoll_event){.events = EPOLLIN});
	leave_after(30000, call, ends[1], set);
	close(set);
	close(ends[1]);
	struct pollfd entry = {.fd = ends[0], .events = POLLIN};
	while (poll(&entry, 1, PATIENCE_MS) == 1)
		if (recv(ends[0], buffer, sizeof buffer, 0) <= 0) {
			close(ends[0]);
			return;
		}
	complain("after a jump out of a call the peer sees no end", (int)call);
}

static double processor_time(void)
{
	struct rusage usage;
	getrusage(RUSAGE_SELF, &usage);
	return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) + (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static void sleep_is_sleep(enum call call)
{
	int ends[2];
	connect_both(ends);
	warm_both(ends);
	for (volatile int i = 0; i < JUMPS; i++)
		leave_after(1000, call, ends[1], -1);
	double before = processor_time();
	leave_after(500000, call, ends[1], -1);
	if (processor_time() - before > 0.1)
		complain("after many jumps out of a call it does not sleep", (int)call);
	close(ends[0]);
	close(ends[1]);
}

static void jumps(void)
{
	signal(SIGALRM, jump);
	for (int call = 0; call < CALLS; call++)
		end_is_seen((enum call)call);
	sleep_is_sleep(RECV);
	sleep_is_sleep(POLL);
	signal(SIGALRM, SIG_DFL);
}

/* ---- stacks ------------------------------------------------------------------------------------------------------------- */

static int fresh[2];

static void *talk(void *unused)
{
	warm_both(fresh);
	return unused;
}

static void on_small_stack(int number)
{
	int saved = errno; /* NOLINT(bugprone-signal-handler) */
	(void)number;
	warm_both(fresh); /* NOLINT(bugprone-signal-handler) */
	errno = saved; /* NOLINT(bugprone-signal-handler) */
}

/* The first to go up pays for all beginnings: so this comes before anything else. */
static void stacks(void)
{
	pthread_attr_t attributes;
	pthread_t thread;
	connect_both(fresh);
	pthread_attr_init(&attributes);
	pthread_attr_setstacksize(&attributes, (size_t)PTHREAD_STACK_MIN);
	if (pthread_create(&thread, &attributes, talk, NULL) || pthread_join(thread, NULL))
		exit(2);
	connect_both(fresh);
	stack_t small = {.ss_size = 8192};
	small.ss_sp = mmap(NULL, small.ss_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	sigaltstack(&small, NULL);
	sigaction(SIGUSR1, &(struct sigaction){.sa_handler = on_small_stack, .sa_flags = SA_ONSTACK}, NULL);
	raise(SIGUSR1);
}

/* ---- masks -------------------------------------------------------------------------------------------------------------- */

static volatile sig_atomic_t handled;
static pthread_t waiter;

static void count(int number)
{
	(void)number;
	handled++;
}

/* Bytes that the call did not ask for wake it within the library. */
static void *disturb(void *ends)
{
	for (int i = 0; i < 16; i++) {
		usleep(50000);
		if (i == 5)
			pthread_kill(waiter, SIGUSR2);
		send(((int *)ends)[0], "x", 1, 0);
	}
	return NULL;
}

static void masks(void)
{
	struct timespec none = {0, 0}, some = {1, 0};
	struct epoll_event event = {.events = EPOLLPRI};
	int ends[2], set = epoll_create1(EPOLL_CLOEXEC);
	sigset_t open, one;
	pthread_t thread;
	connect_both(ends);
	warm_both(ends);
	signal(SIGUSR2, count);
	sigemptyset(&open);
	sigemptyset(&one);
	sigaddset(&one, SIGUSR2);
	waiter = pthread_self();
	pthread_sigmask(SIG_BLOCK, &one, NULL);
	struct pollfd entry = {.fd = ends[1], .events = POLLIN};
	raise(SIGUSR2);
	handled = 0;
	if (ppoll(&entry, 1, &none, &open) != -1 || errno != EINTR || handled != 1)
		complain("ppoll that does not wait lets nothing in", handled);
	pthread_sigmask(SIG_UNBLOCK, &one, NULL);
	entry.events = POLLPRI;
	epoll_ctl(set, EPOLL_CTL_ADD, ends[1], &event);
	for (int i = 0; i < 2; i++) {
		handled = 0;
		if (pthread_create(&thread, NULL, disturb, ends))
			exit(2);
		int result = i ? epoll_pwait(set, &event, 1, 1000, &one) : ppoll(&entry, 1, &some, &one);
		if (result || handled != 1)
			complain("what a mask blocks ends the call", result);
		pthread_join(thread, NULL);
	}
}

/* ---- order -------------------------------------------------------------------------------------------------------------- */

enum { ROUNDS = 30000 };

static void send_in_order(int ends[2][2])
{
	char byte;
	for (int k = 0; k < 2; k++)
		close(ends[k][1]);
	for (int i = 0; i < ROUNDS; i++) {
		int first = i & 1;
		if (send(ends[first][0], "1", 1, 0) != 1 || send(ends[!first][0], "2", 1, 0) != 1)
			_exit(1);
		for (int k = 0; k < 2; k++)
			if (recv(ends[k][0], &byte, 1, 0) != 1)
				_exit(1);
	}
	_exit(0);
}

/* The bytes that one look finds, in any order. */
static int look(int ends[2][2], int set, int by_poll, char found[2])
{
	struct epoll_event events[2];
	struct pollfd fds[2] = {{ends[0][1], POLLIN, 0}, {ends[1][1], POLLIN, 0}};
	int count = by_poll ? poll(fds, 2, -1) : epoll_wait(set, events, 2, -1), had = 0;
	for (int k = 0; k < 2; k++) {
		int ready = by_poll ? fds[k].revents : (count > 0 && events[0].data.fd == ends[k][1]) || (count > 1 && events[1].data.fd == ends[k][1]);
		if (ready && recv(ends[k][1], &found[had], 1, 0) == 1)
			had++;
	}
	return had;
}

static void order(void)
{
	int ends[2][2], set = epoll_create1(EPOLL_CLOEXEC), inverted = 0;
	char found[2];
	for (int k = 0; k < 2; k++)
		connect_both(ends[k]);
	pid_t child = fork();
	if (!child)
		send_in_order(ends);
	for (int k = 0; k < 2; k++) {
		close(ends[k][0]);
		epoll_ctl(set, EPOLL_CTL_ADD, ends[k][1], &(struct epoll_event){.events = EPOLLIN, .data.fd = ends[k][1]});
	}
	for (int i = 0; i < ROUNDS; i++) {
		int had = look(ends, set, i & 2, found);
		inverted += had == 1 && found[0] == '2';
		while (had < 2)
			had += look(ends, set, 0, found);
		for (int k = 0; k < 2; k++)
			send(ends[k][1], ".", 1, MSG_NOSIGNAL);
	}
	if (inverted)
		complain("told of what was sent second alone", inverted);
	waitpid(child, NULL, 0);
}

/* ---- queued ------------------------------------------------------------------------------------------------------------- */

static volatile sig_atomic_t came, disorder, busy;

static void on_queued(int number, siginfo_t *info, void *context)
{
	(void)number, (void)context;
	disorder += info->si_value.sival_int != came++;
}

static void *exchange(void *data)
{
	const int *ends = data;
	char byte = 'x';
	warm_both(ends);
	while (busy) {
		send(ends[0], &byte, 1, MSG_DONTWAIT);
		recv(ends[1], &byte, 1, MSG_DONTWAIT);
	}
	return NULL;
}

static void queued(void)
{
	int ends[2];
	sigset_t one;
	pthread_t thread;
	connect_both(ends);
	sigaction(SIGRTMIN, &(struct sigaction){.sa_sigaction = on_queued, .sa_flags = SA_SIGINFO | SA_RESTART}, NULL);
	busy = 1;
	if (pthread_create(&thread, NULL, exchange, ends))
		exit(2);
	sigemptyset(&one);
	sigaddset(&one, SIGRTMIN);
	pthread_sigmask(SIG_BLOCK, &one, NULL);
	for (int i = 0; i < SIGNALS;)
		if (pthread_sigqueue(thread, SIGRTMIN, (union sigval){.sival_int = i}) == 0)
			i++;
	while (came < SIGNALS && !disorder)
		usleep(1000);
	busy = 0;
	pthread_join(thread, NULL);
	if (disorder)
		complain("queued signals came out of order", disorder);
}

int main(void)
{
	stacks();
	jumps();
	masks();
	order();
	queued();
	printf("# stacks, jumps, masks, order and queued signals");
	return failed;
}
