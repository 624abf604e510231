// SPDX-License-Identifier: BSD-2-Clause
/*
 * What a program pays for the library where it has nothing to gain: calls on descriptors that are no streams, and the start of a
 * program. Prints one line of JSON; `each` is the time of one call (of `start`: of one program) in nanoseconds, the least mean of
 * many short batches, since whatever disturbs only adds.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static int ends[2];

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void open_null(void)
{
	ends[0] = open("/dev/null", O_RDWR);
}

static void open_pipe(void)
{
	if (pipe(ends))
		die("pipe");
}

static void open_unix(void)
{
	if (socketpair(AF_UNIX, SOCK_DGRAM, 0, ends))
		die("socketpair");
}

static void open_nothing(void)
{
}

static bool write_null(void)
{
	return write(ends[0], "x", 1) == 1;
}

static bool read_null(void)
{
	char byte;

	return read(ends[0], &byte, 1) == 0;
}

static bool through_pipe(void)
{
	char byte;

	return write(ends[1], "x", 1) == 1 && read(ends[0], &byte, 1) == 1;
}

static bool through_unix(void)
{
	char byte;

	return send(ends[1], "x", 1, 0) == 1 && recv(ends[0], &byte, 1, 0) == 1;
}

static bool poll_pipe(void)
{
	struct pollfd fd = {.fd = ends[1], .events = POLLOUT};

	return poll(&fd, 1, 0) == 1;
}

static bool start(void)
{
	char *argv[] = {(char *)"true", NULL};
	int status;
	pid_t pid;

	return posix_spawn(&pid, "/bin/true", NULL, NULL, argv, environ) == 0 && waitpid(pid, &status, 0) == pid && status == 0;
}

static const struct kind {
	const char *name;
	void (*prepare)(void);
	bool (*once)(void);
	unsigned calls, batch; /* calls in one `once`; how often it is made between two looks at the clock */
} kinds[] = {
	{"write", open_null, write_null, 1, 1000},
	{"read", open_null, read_null, 1, 1000},
	{"pipe", open_pipe, through_pipe, 2, 300},
	{"unix", open_unix, through_unix, 2, 300},
	{"poll", open_pipe, poll_pipe, 1, 1000},
	{"start", open_nothing, start, 1, 1},
};

int main(int argc, char **argv)
{
	const struct kind *kind = NULL;
	uint64_t begun, end, now, done = 0;
	double least = 1e18;

	for (size_t i = 0; argc == 3 && i < sizeof(kinds) / sizeof(*kinds); i++)
		if (strcmp(argv[1], kinds[i].name) == 0)
			kind = &kinds[i];
	if (!kind)
		return fprintf(stderr, "usage: calls write|read|pipe|unix|poll|start SECONDS\n"), 2;
	kind->prepare();
	now = begun = now_ns();
	end = begun + (uint64_t)(strtod(argv[2], NULL) * 1e9);
	while (now < end) {
		uint64_t before = now;

		for (unsigned i = 0; i < kind->batch; i++)
			if (!kind->once())
				die(kind->name);
		now = now_ns();
		done += (uint64_t)kind->batch * kind->calls;
		if ((double)(now - before) / (kind->batch * kind->calls) < least)
			least = (double)(now - before) / (kind->batch * kind->calls);
	}
	printf("{\"rate\": %.1f, \"each\": %.2f}\n", (double)done * 1e9 / (double)(now - begun), least);
	return 0;
}
