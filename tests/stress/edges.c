/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * edges [SECONDS]: a set has a connection, a pipe that is always readable, and an eventfd, edge-triggered. Another thread writes to
 * that at random moments, and each time waits until the set has reported it: the kernel tells of an edge once, so one that is
 * taken from it must not be dropped.
 */
#include "tests/stress/pair.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

enum { CONNECTION, PIPE, EDGES, PATIENCE_S = 2 };

static int ends[2], edges;
static double seconds;
static _Atomic uint64_t reported;

static void *writer(void *unused)
{
	const uint64_t one = 1;
	uint64_t written = 0;
	uint32_t dice = 12345;
	(void)unused;
	for (double end = now() + seconds; now() < end;) {
		if (write(edges, &one, sizeof one) != sizeof one)
			exit(2);
		written++;
		for (double since = now(); atomic_load(&reported) < written;)
			if (now() - since > PATIENCE_S) {
				fprintf(stderr, "edge %llu was not reported\n", (unsigned long long)written);
				exit(1);
			}
		dice = dice * 1103515245u + 12345;
		for (volatile uint32_t i = 0; i < dice % 3000; i++)
			;
	}
	printf("# %llu edges", (unsigned long long)written);
	exit(0);
}

int main(int argc, char **argv)
{
	int set = epoll_create1(EPOLL_CLOEXEC), pipes[2];
	pthread_t thread;
	seconds = argc > 1 ? atof(argv[1]) : 3;
	connect_both(ends);
	warm_both(ends);
	edges = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (pipe(pipes) || write(pipes[1], "x", 1) != 1)
		return 2;
	struct epoll_event item = {.events = EPOLLIN, .data.u64 = CONNECTION}, events[4];
	epoll_ctl(set, EPOLL_CTL_ADD, ends[1], &item);
	item.data.u64 = PIPE;
	epoll_ctl(set, EPOLL_CTL_ADD, pipes[0], &item);
	item = (struct epoll_event){.events = EPOLLIN | EPOLLET, .data.u64 = EDGES};
	epoll_ctl(set, EPOLL_CTL_ADD, edges, &item);
	if (pthread_create(&thread, NULL, writer, NULL))
		return 2;
	for (;;)
		for (int i = epoll_wait(set, events, 4, -1) - 1; i >= 0; i--)
			if (events[i].data.u64 == EDGES)
				atomic_fetch_add(&reported, 1);
}
