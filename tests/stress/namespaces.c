/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * namespaces [SECONDS]: two processes send on the stream that they inherited, each the first of a pid namespace of its own, where both have
 * the same ids. The bytes of each must come whole and in their order.
 */
#include "tests/stress/pair.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>

enum { CHUNK = 30000, CHILDREN = 2, STACK = 1 << 20 };

static int ends[2];
static double seconds;

/* The n-th byte of a child, whose number stands in the high bit. */
static uint8_t byte_of(int child, uint64_t n)
{
	return (uint8_t)((n * 2654435761u >> 11 & 0x7f) | (unsigned)child << 7);
}

static void warm(int fd, bool first)
{
	char byte = 'w';
	for (int i = 0; i < 40; i++)
		if ((first && send(fd, &byte, 1, 0) != 1) || recv(fd, &byte, 1, 0) != 1 || (!first && send(fd, &byte, 1, 0) != 1))
			exit(2);
}

static int child(void *argument)
{
	const int number = *(int *)argument;
	static uint8_t chunk[CHUNK];
	uint32_t dice = 12345u + (uint32_t)number;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	uint64_t sent = 0;
	for (double end = now() + seconds; now() < end;) {
		dice = dice * 1103515245u + 12345;
		size_t length = 1 + dice % CHUNK;
		for (size_t i = 0; i < length; i++)
			chunk[i] = byte_of(number, sent + i);
		ssize_t went = send(ends[0], chunk, length, MSG_NOSIGNAL);
		if (went <= 0) {
			fprintf(stderr, "child %d: send: %s\n", number, strerror(errno));
			_exit(1);
		}
		sent += (uint64_t)went;
	}
	_exit(0);
}

static int receive(void)
{
	static uint8_t bytes[1 << 17];
	uint64_t got[CHILDREN] = {0};
	ssize_t n;
	warm(ends[1], false);
	while ((n = recv(ends[1], bytes, sizeof bytes, 0)) > 0)
		for (ssize_t i = 0; i < n; i++) {
			int from = bytes[i] >> 7;
			if (bytes[i] != byte_of(from, got[from]++)) {
				fprintf(stderr, "byte %llu of child %d is not its own\n", (unsigned long long)got[from] - 1, from);
				return 1;
			}
		}
	printf("# %llu and %llu bytes", (unsigned long long)got[0], (unsigned long long)got[1]);
	return n < 0 || !got[0] || !got[1];
}

static int begin(int *number)
{
	static char stacks[CHILDREN][STACK];
	char *top = stacks[*number] + STACK;
	int pid = clone(child, top, CLONE_NEWPID | SIGCHLD, number);
	if (pid < 0 && errno == EPERM)
		pid = clone(child, top, CLONE_NEWUSER | CLONE_NEWPID | SIGCHLD, number);
	return pid;
}

int main(int argc, char **argv)
{
	int numbers[CHILDREN] = {0, 1}, failed = 0, status;
	seconds = argc > 1 ? atof(argv[1]) : 3;
	connect_both(ends);
	int receiver = fork();
	if (receiver == 0) {
		close(ends[0]);
		exit(receive());
	}
	close(ends[1]);
	warm(ends[0], true);
	for (int i = 0; i < CHILDREN; i++)
		if (begin(&numbers[i]) < 0) {
			perror("clone");
			failed = 1;
		}
	close(ends[0]);
	while (wait(&status) > 0)
		failed |= !WIFEXITED(status) || WEXITSTATUS(status);
	return failed;
}
