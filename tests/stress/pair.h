/* SPDX-License-Identifier: BSD-2-Clause */
/* What small stress programs begin with: one connection within the process, and a clock. */
#ifndef TESTS_STRESS_PAIR_H
#define TESTS_STRESS_PAIR_H

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static inline double now(void)
{
	struct timespec time;
	clock_gettime(CLOCK_MONOTONIC, &time);
	return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

/* ends[0] connected, ends[1] accepted. */
static inline void connect_both(int ends[2])
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t size = sizeof address;
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (bind(listener, (struct sockaddr *)&address, size) || listen(listener, 1) || getsockname(listener, (struct sockaddr *)&address, &size))
		exit(2);
	ends[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (connect(ends[0], (struct sockaddr *)&address, size))
		exit(2);
	ends[1] = accept(listener, NULL, NULL);
	close(listener);
}

/* Bytes to and fro, until both directions are up. */
static inline void warm_both(const int ends[2])
{
	char byte = 'w';
	for (int i = 0; i < 80; i++)
		if (send(ends[i & 1], &byte, 1, 0) != 1 || recv(ends[~i & 1], &byte, 1, 0) != 1)
			exit(2);
}

#endif
