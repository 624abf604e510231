/* SPDX-License-Identifier: BSD-2-Clause */
/* Processes: fork, exec, programs started, descriptors passed. */
#include "tests/conformance/player.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <spawn.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* fork NAME: the child becomes the process NAME, with the same descriptors under the same names */
static void op_fork(struct call *call)
{
	pid_t pid = fork();
	if (pid == 0)
		player_child(arg(call, 1, "C"));
	say(call, pid > 0 ? "ok" : "failed");
}

/* exec NAME [env -]: this program again, as the process NAME, with every descriptor it knows by name */
static void op_exec(struct call *call)
{
	char *argv[CALL_ARGS + 4] = {(char *)player_path(), (char *)player_board(), (char *)arg(call, 1, "C")};
	int n = name_print(argv + 3, CALL_ARGS);
	argv[3 + n] = NULL;
	if (call->argc > 2)
		unsetenv("LD_PRELOAD");
	execv(player_path(), argv);
	say_result(call, -1);
}

/* cloexec FD 0|1: the descriptor's own flag */
static void op_cloexec(struct call *call)
{
	say_result(call, fcntl(arg_fd(call, 1), F_SETFD, arg_number(call, 2, 1) ? FD_CLOEXEC : 0));
}

/* What the child of `spawn` does; in variables, because the child of a raw clone starts without arguments. */
static struct {
	int fd;
	const char *how;
	char **argv;
} heir;

static int become_heir(void *unused)
{
	(void)unused;
	if (strcmp(heir.how, "pass")) {
		dup2(heir.fd, 0);
		dup2(heir.fd, 1);
	} else {
		fcntl(heir.fd, F_SETFD, 0);
	}
	execv("/bin/sh", heir.argv);
	_exit(127);
}

static _Alignas(16) char heir_stack[65536];

/* clone by number, which returns in the child too: on its own stack, to the address that lies there. */
static pid_t raw_clone(void)
{
#if defined(__x86_64__)
	void **top = (void **)(heir_stack + sizeof heir_stack);
	top[-2] = (void *)become_heir;
	return (pid_t)syscall(SYS_clone, CLONE_VM | CLONE_VFORK | SIGCHLD, &top[-2], NULL, NULL, 0);
#else
	return clone(become_heir, heir_stack + sizeof heir_stack, CLONE_VM | CLONE_VFORK | SIGCHLD, NULL);
#endif
}

static pid_t posix_heir(void)
{
	posix_spawn_file_actions_t actions;
	pid_t pid;
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addopen(&actions, 9, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_adddup2(&actions, heir.fd, 0);
	posix_spawn_file_actions_adddup2(&actions, 0, 1);
	int error = posix_spawn(&pid, "/bin/sh", &actions, NULL, heir.argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	return error ? -1 : pid;
}

/* Lets a shell take the descriptor itself. */
static int shell_heir(int fd, const char *how, const char *command)
{
	char line[512];
	snprintf(line, sizeof line, "exec <&%d >&%d; %s", fd, fd, command);
	if (!strcmp(how, "system"))
		return system(line);
	FILE *file = popen(line, "w");
	return file ? pclose(file) : -1;
}

/* spawn FD HOW COMMAND: runs `sh -c COMMAND` with FD as its input and output; HOW: fork, vfork, clone, raw, posix, system or
 * popen. Or `pass`: with vfork, and FD under its own number. */
static void op_spawn(struct call *call)
{
	int fd = arg_fd(call, 1), status = -1;
	const char *how = arg(call, 2, "fork");
	char *command = strdup(arg(call, 3, "''") + 1);
	command[strlen(command) - 1] = '\0';
	if (!strcmp(how, "system") || !strcmp(how, "popen")) {
		say(call, "exit %d", WEXITSTATUS(shell_heir(fd, how, command)));
		free(command);
		return;
	}
	char number[16];
	snprintf(number, sizeof number, "%d", fd);
	char *argv[] = {"sh", "-c", command, "sh", number, NULL};
	heir.fd = fd;
	heir.how = how;
	heir.argv = argv;
	pid_t pid = -1;
	if (!strcmp(how, "posix")) {
		pid = posix_heir();
	} else if (!strcmp(how, "clone")) {
		pid = clone(become_heir, heir_stack + sizeof heir_stack, CLONE_VM | CLONE_VFORK | SIGCHLD, NULL);
	} else if (!strcmp(how, "raw")) {
		pid = raw_clone();
	} else {
		pid = !strcmp(how, "fork") ? fork() : vfork();
		if (pid == 0)
			become_heir(NULL);
	}
	if (pid > 0)
		waitpid(pid, &status, 0);
	say(call, "exit %d", WIFEXITED(status) ? WEXITSTATUS(status) : -1);
	free(command);
}

/* exit STATUS [now]: exit or _exit of the whole process */
static void op_exit(struct call *call)
{
	if (call->argc > 2)
		_exit((int)arg_number(call, 1, 0));
	exit((int)arg_number(call, 1, 0));
}

/* passfd UNIX FD; takefd UNIX NAME */
static void op_passfd(struct call *call)
{
	char byte = 'f', control[CMSG_SPACE(sizeof(int))] = {0};
	struct iovec iov = {&byte, 1};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
	struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
	int fd = arg_fd(call, 2);
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof fd);
	memcpy(CMSG_DATA(c), &fd, sizeof fd);
	say_result(call, sendmsg(arg_fd(call, 1), &msg, 0));
}

static void op_takefd(struct call *call)
{
	char byte, control[CMSG_SPACE(sizeof(int))] = {0};
	struct iovec iov = {&byte, 1};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
	int fd = -1;
	ssize_t n = recvmsg(arg_fd(call, 1), &msg, MSG_CMSG_CLOEXEC);
	struct cmsghdr *c = n == 1 ? CMSG_FIRSTHDR(&msg) : NULL;
	if (c)
		memcpy(&fd, CMSG_DATA(c), sizeof fd);
	name_set(arg(call, 2, "?"), fd);
	say_result(call, n);
	say(call, " fd %d", fd);
}

/* confine [HOW]: from here on a few system calls kill that no operation but `get` makes; HOW `seccomp`: by that call; `sockets`: and
 * one that makes a socket */
static void op_confine(struct call *call)
{
	static const int deadly[] = {SYS_ppoll, SYS_epoll_pwait2, SYS_memfd_create, SYS_pidfd_open, SYS_kcmp, SYS_getsockopt, SYS_prlimit64,
		SYS_sched_yield, SYS_rt_sigpending, SYS_statx, SYS_tkill, SYS_socket};
	enum { ALL = sizeof deadly / sizeof *deadly };
	const unsigned count = !strcmp(arg(call, 1, ""), "sockets") ? ALL : ALL - 1;
	struct sock_filter filter[ALL + 3];
	struct sock_fprog program = {(unsigned short)(count + 3), filter};
	filter[0] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
	for (unsigned i = 0; i < count; i++)
		filter[1 + i] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)deadly[i], count - i, 0);
	filter[count + 1] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	filter[count + 2] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS);
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	if (!strcmp(arg(call, 1, ""), "seccomp"))
		say_result(call, syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program));
	else
		say_result(call, prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program));
}

const struct op ops_process[] = {{"fork", op_fork}, {"exec", op_exec}, {"cloexec", op_cloexec}, {"spawn", op_spawn},
	{"exit", op_exit}, {"passfd", op_passfd}, {"takefd", op_takefd}, {"confine", op_confine}, {NULL, NULL}};
