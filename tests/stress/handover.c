/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * handover [SECONDS]: one thread waits in an epoll set, takes out what is ready and hands it to another, which answers and puts it back
 * while the first sleeps: mostly in a set without a connection. Some servers work so (Apache's event MPM). No answer may stay away.
 */
#include "tests/stress/pair.h"

#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/epoll.h>

enum { CONNECTIONS = 6, WORKERS = 4, PATIENCE_MS = 5000, ASKED = 112, ANSWERED = 3300 };

static int set, ready[2];
static char bytes[ANSWERED];

static void put_in(int fd)
{
	struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
	if (epoll_ctl(set, EPOLL_CTL_ADD, fd, &event))
		exit(2);
}

static void *work(void *unused)
{
	char asked[ASKED];
	int fd;
	while (read(ready[0], &fd, sizeof fd) == sizeof fd) {
		for (ssize_t got = 0, more; got < ASKED; got += more)
			if ((more = recv(fd, asked, (size_t)(ASKED - got), 0)) <= 0)
				return unused;
		if (send(fd, bytes, ANSWERED, MSG_NOSIGNAL) != ANSWERED)
			return unused;
		put_in(fd);
	}
	return unused;
}

static void *hand_over(void *unused)
{
	struct epoll_event events[CONNECTIONS];
	for (;;)
		for (int i = 0, count = epoll_wait(set, events, CONNECTIONS, -1); i < count; i++)
			if (epoll_ctl(set, EPOLL_CTL_DEL, events[i].data.fd, NULL) ||
				write(ready[1], &events[i].data.fd, sizeof(int)) != sizeof(int))
				return unused;
}

static int ask(int fd)
{
	return send(fd, bytes, ASKED, 0) != ASKED;
}

int main(int argc, char **argv)
{
	struct pollfd clients[CONNECTIONS];
	int missing[CONNECTIONS];
	long answers = 0;
	pthread_t thread;
	set = epoll_create1(EPOLL_CLOEXEC);
	if (set < 0 || pipe(ready) || pthread_create(&thread, NULL, hand_over, NULL))
		return 2;
	for (int i = 0; i < WORKERS; i++)
		if (pthread_create(&thread, NULL, work, NULL))
			return 2;
	for (int i = 0; i < CONNECTIONS; i++) {
		int ends[2];
		connect_both(ends);
		clients[i] = (struct pollfd){.fd = ends[0], .events = POLLIN};
		missing[i] = ANSWERED;
		put_in(ends[1]);
		if (ask(ends[0]))
			return 2;
	}
	for (double end = now() + (argc > 1 ? atof(argv[1]) : 3); now() < end;) {
		if (poll(clients, CONNECTIONS, PATIENCE_MS) <= 0) {
			printf("# no answer after %ld\n", answers);
			return 1;
		}
		for (int i = 0; i < CONNECTIONS; i++) {
			if (!clients[i].revents)
				continue;
			ssize_t got = recv(clients[i].fd, bytes, (size_t)missing[i], 0);
			if (got <= 0)
				return 2;
			missing[i] -= (int)got;
			if (missing[i])
				continue;
			missing[i] = ANSWERED;
			answers++;
			if (ask(clients[i].fd))
				return 2;
		}
	}
	printf("# %ld answers", answers);
	return 0;
}
