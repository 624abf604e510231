// SPDX-License-Identifier: BSD-2-Clause
/* What may happen to a busy connection. */
#include "tests/down/busy.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static char words[4][32];

/* The command that goes on from here. */
static char **command(void)
{
	static char *argv[] = {NULL, (char *)"go-on", words[0], words[1], words[2], words[3], NULL};

	argv[0] = (char *)busy.program;
	snprintf(words[0], sizeof(*words), "%d", busy.fd);
	snprintf(words[1], sizeof(*words), "%llu", (unsigned long long)busy.sent);
	snprintf(words[2], sizeof(*words), "%llu", (unsigned long long)busy.received);
	snprintf(words[3], sizeof(*words), "%llu", (unsigned long long)busy.total);
	return argv;
}

static void end_of(pid_t pid)
{
	int status;

	if (waitpid(pid, &status, 0) != pid || status != 0) {
		fprintf(stderr, "busy %d: who went on ended with status %d\n", (int)getpid(), status);
		exit(3);
	}
	busy.fd = -1;
}

static void event_exec(void)
{
	unsetenv("LD_PRELOAD");
	execv(busy.program, command());
	die("exec");
}

static void event_exec_shim(void)
{
	execv(busy.program, command());
	die("exec");
}

static void event_spawn(void)
{
	pid_t pid;

	unsetenv("LD_PRELOAD");
	if (posix_spawn(&pid, busy.program, NULL, NULL, command(), environ))
		die("posix_spawn");
	close(busy.fd);
	end_of(pid);
}

static void pass(bool shim)
{
	union {
		char room[CMSG_SPACE(sizeof(int))];
		struct cmsghdr header;
	} control = {.header = {CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS}};
	struct iovec iov = {&busy, sizeof(busy)};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)};
	char number[16];
	char *argv[] = {(char *)busy.program, (char *)"take", number, NULL};
	int ends[2];
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends) || fcntl(busy.fd, F_SETFD, FD_CLOEXEC) || fcntl(ends[0], F_SETFD, FD_CLOEXEC))
		die("socketpair");
	snprintf(number, sizeof(number), "%d", ends[1]);
	if (!shim)
		unsetenv("LD_PRELOAD");
	if (posix_spawn(&pid, busy.program, NULL, NULL, argv, environ))
		die("posix_spawn");
	memcpy(CMSG_DATA(&control.header), &busy.fd, sizeof(int));
	if (sendmsg(ends[0], &msg, 0) != sizeof(busy))
		die("sendmsg");
	close(busy.fd);
	close(ends[1]);
	end_of(pid);
}

static void event_pass(void)
{
	pass(false);
}

static void event_pass_shim(void)
{
	pass(true);
}

void take_over(int unix_fd)
{
	union {
		char room[CMSG_SPACE(sizeof(int))];
		struct cmsghdr header;
	} control;
	struct busy given;
	struct iovec iov = {&given, sizeof(given)};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)};

	if (recvmsg(unix_fd, &msg, 0) != sizeof(given) || !CMSG_FIRSTHDR(&msg))
		die("recvmsg");
	memcpy(&busy.fd, CMSG_DATA(&control.header), sizeof(int));
	busy.total = given.total;
	busy.sent = given.sent;
	busy.received = given.received;
	go_on();
}

/* Through a pipe into the stream, without a copy. */
static void event_splice(void)
{
	static unsigned char bytes[4096];
	int ends[2];

	if (pipe(ends))
		die("pipe");
	for (int i = 0; i < 200; i++) {
		size_t left = sizeof(bytes);

		fill(bytes, busy.sent, left);
		if (write(ends[1], bytes, left) != (ssize_t)left)
			die("write");
		while (left) {
			ssize_t n = splice(ends[0], NULL, busy.fd, NULL, left, SPLICE_F_NONBLOCK | SPLICE_F_MOVE);

			if (n < 0 && errno != EAGAIN)
				die("splice");
			if (n > 0) {
				left -= (size_t)n;
				busy.sent += (uint64_t)n;
			} else if (n < 0) {
				usleep(100);
			}
		}
	}
	close(ends[0]);
	close(ends[1]);
}

static void event_sendfile(void)
{
	static unsigned char bytes[CHUNK];
	int file = memfd_create("busy", MFD_CLOEXEC);
	off_t at = 0;

	/* What the kernel has taken of a file it reads later: nothing is written twice. */
	for (int i = 0; i < 20; i++) {
		off_t end = at + (off_t)sizeof(bytes);

		fill(bytes, busy.sent, sizeof(bytes));
		if (pwrite(file, bytes, sizeof(bytes), at) != sizeof(bytes))
			die("pwrite");
		while (at < end) {
			ssize_t n = sendfile(busy.fd, file, &at, (size_t)(end - at));

			if (n < 0 && errno != EAGAIN)
				die("sendfile");
			if (n > 0)
				busy.sent += (uint64_t)n;
		}
	}
	close(file);
}

/* What the kernel alone can do: stamp what arrives. */
static void event_option(void)
{
	int one = 1;

	if (setsockopt(busy.fd, SOL_SOCKET, SO_TIMESTAMP, &one, sizeof(one)))
		die("setsockopt");
}

/* A child goes on, its parent looks on. */
static void event_shared(void)
{
	pid_t pid = fork();

	if (pid < 0)
		die("fork");
	if (pid)
		end_of(pid);
}

static const struct {
	const char *name;
	void (*event)(void);
} events[] = {
	{"exec", event_exec},          /* of a program without the shim */
	{"exec-shim", event_exec_shim},
	{"spawn", event_spawn},        /* posix_spawn of a program without the shim, which inherits it */
	{"pass", event_pass},          /* by SCM_RIGHTS to a process without the shim */
	{"pass-shim", event_pass_shim},
	{"splice", event_splice},
	{"sendfile", event_sendfile},
	{"option", event_option},
	{"shared", event_shared},
};

void (*event_named(const char *name))(void)
{
	for (size_t i = 0; i < sizeof(events) / sizeof(*events); i++)
		if (strcmp(name, events[i].name) == 0)
			return events[i].event;
	fprintf(stderr, "busy: there is no event %s\n", name);
	return NULL;
}

void deny(const char *call)
{
	static const struct {
		const char *name;
		unsigned number;
	} known[] = {{"memfd_create", SYS_memfd_create}, {"eventfd", SYS_eventfd2}, {"pidfd_open", SYS_pidfd_open},
		{"sched_yield", SYS_sched_yield}, {"socketpair", SYS_socketpair}, {"getrandom", SYS_getrandom}, {"prlimit", SYS_prlimit64},
		{"madvise", SYS_madvise}, {"epoll_pwait2", SYS_epoll_pwait2}, {"close_range", SYS_close_range}};
	unsigned number = 0;

	for (size_t i = 0; i < sizeof(known) / sizeof(*known); i++)
		if (strcmp(call, known[i].name) == 0)
			number = known[i].number;
	if (!number) {
		fprintf(stderr, "busy: no call %s is known\n", call);
		exit(2);
	}
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {.len = sizeof(filter) / sizeof(*filter), .filter = filter};

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program))
		die("seccomp");
}
