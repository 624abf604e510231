/* SPDX-License-Identifier: BSD-2-Clause */
/* The life of descriptors and processes: connections, options, dup, fork, exec, passing, signals. */
#include "tests/conformance/player.h"

#include <arpa/inet.h>
#include <errno.h>
#include <sys/prctl.h>
#include <stddef.h>
#include <linux/seccomp.h>
#include <linux/filter.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* ---- connections ------------------------------------------------------------------------------------------------ */

static socklen_t parse_address(const char *text, long port, struct sockaddr_storage *address)
{
	memset(address, 0, sizeof *address);
	if (strchr(text, ':')) {
		struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)address;
		in6->sin6_family = AF_INET6;
		in6->sin6_port = htons((uint16_t)port);
		inet_pton(AF_INET6, text, &in6->sin6_addr);
		return sizeof *in6;
	}
	struct sockaddr_in *in = (struct sockaddr_in *)address;
	in->sin_family = AF_INET;
	in->sin_port = htons((uint16_t)port);
	inet_pton(AF_INET, text, &in->sin_addr);
	return sizeof *in;
}

/* Nagle's algorithm would make it a matter of 40 ms which bytes a receiver finds. */
static void no_delay(int fd)
{
	int error = errno, one = 1;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	errno = error;
}

static long port_of(const struct sockaddr_storage *address)
{
	return ntohs(((const struct sockaddr_in *)address)->sin_port); /* the same place in both families */
}

/* listen NAME ADDRESS [reuseport PORT]; answers #PORT */
static void op_listen(struct call *call)
{
	struct sockaddr_storage address;
	socklen_t length = parse_address(arg(call, 2, "127.0.0.1"), arg_number(call, 4, 0), &address);
	int fd = socket(address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	if (call->argc > 3)
		setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof one);
	int result = bind(fd, (struct sockaddr *)&address, length);
	if (!result)
		result = listen(fd, 16);
	getsockname(fd, (struct sockaddr *)&address, &length);
	name_set(arg(call, 1, "?"), fd);
	say_result(call, result);
	say(call, " #%ld", port_of(&address));
}

/* connect NAME ADDRESS PORT [nonblock]; with v4-mapped, write ::ffff:127.0.0.1 */
static void op_connect(struct call *call)
{
	struct sockaddr_storage address;
	socklen_t length = parse_address(arg(call, 2, "127.0.0.1"), arg_number(call, 3, 0), &address);
	int flags = call->argc > 4 ? SOCK_NONBLOCK : 0;
	int fd = socket(address.ss_family, SOCK_STREAM | flags, 0);
	no_delay(fd);
	name_set(arg(call, 1, "?"), fd);
	int result = connect(fd, (struct sockaddr *)&address, length);
	say(call, "fd %d ", fd);
	say_result(call, result);
}

/* accept LISTENER NAME [nonblock] */
static void op_accept(struct call *call)
{
	struct sockaddr_storage address;
	socklen_t length = sizeof address;
	int fd = accept4(arg_fd(call, 1), (struct sockaddr *)&address, &length, call->argc > 3 ? SOCK_NONBLOCK : 0);
	no_delay(fd);
	name_set(arg(call, 2, "?"), fd);
	say_result(call, fd);
}

/* names FD: whether both names are there, and the families; ports differ from run to run */
static void op_names(struct call *call)
{
	struct sockaddr_storage local = {0}, remote = {0};
	socklen_t local_length = sizeof local, remote_length = sizeof remote;
	char text[64] = "";
	int fd = arg_fd(call, 1);
	say_result(call, getsockname(fd, (struct sockaddr *)&local, &local_length));
	say(call, " ");
	int result = getpeername(fd, (struct sockaddr *)&remote, &remote_length);
	say_result(call, result);
	if (result)
		return;
	const void *ip = remote.ss_family == AF_INET ? (void *)&((struct sockaddr_in *)&remote)->sin_addr
						     : (void *)&((struct sockaddr_in6 *)&remote)->sin6_addr;
	say(call, " %d %s", remote.ss_family, inet_ntop(remote.ss_family, ip, text, sizeof text));
}

/* shutdown FD RD|WR|RDWR */
static void op_shutdown(struct call *call)
{
	const char *word = arg(call, 2, "");
	int how = !strcmp(word, "RD") ? SHUT_RD : !strcmp(word, "WR") ? SHUT_WR : !strcmp(word, "RDWR") ? SHUT_RDWR : 7;
	say_result(call, shutdown(arg_fd(call, 1), how));
}

/* close FD; sysclose FD: through syscall(2) */
static void op_close(struct call *call)
{
	say_result(call, close(arg_fd(call, 1)));
}

static void op_sysclose(struct call *call)
{
	say_result(call, syscall(SYS_close, arg_fd(call, 1)));
}

/* closerange FIRST LAST */
static void op_closerange(struct call *call)
{
	say_result(call, close_range((unsigned)arg_fd(call, 1), (unsigned)arg_fd(call, 2), 0));
}

/* fclose FD [DATA]: fdopen, fputs, fclose, which closes without a call one could hook */
static void op_fclose(struct call *call)
{
	FILE *file = fdopen(arg_fd(call, 1), "r+");
	if (!file) {
		say_result(call, -1);
		return;
	}
	if (call->argc > 2) {
		size_t length;
		uint8_t *data = arg_data(call, 2, &length);
		say(call, "%zu ", fwrite(data, 1, length, file));
		free(data);
	}
	say_result(call, fclose(file));
}

/* fgets FD: one line through a stream on a dup */
static void op_fgets(struct call *call)
{
	char line[256] = "";
	int fd = dup(arg_fd(call, 1));
	FILE *file = fdopen(fd, "r");
	char *got = file ? fgets(line, sizeof line, file) : NULL;
	say(call, "%s", got ? "line" : "nothing");
	say_data(call, line, strlen(line));
	if (file)
		fclose(file);
}

/* file FD MODE: a stream for later steps, one for each process; gets [SIZE]; puts DATA; flush; unget CHAR; fstate; fend.
 * They tell what stdio says, and what the descriptor has to do with it. */
static FILE *kept;

static void op_file(struct call *call)
{
	errno = 0;
	kept = fdopen(arg_fd(call, 1), arg(call, 2, "r+"));
	if (kept)
		say(call, "fileno %s", fileno(kept) == arg_fd(call, 1) ? "same" : "different");
	else
		say_result(call, -1);
}

/* fconnect NAME ADDRESS PORT MODE: as file, of a socket that connects only afterwards */
static void op_fconnect(struct call *call)
{
	struct sockaddr_storage address;
	socklen_t length = parse_address(arg(call, 2, "127.0.0.1"), arg_number(call, 3, 0), &address);
	int fd = socket(address.ss_family, SOCK_STREAM, 0);
	no_delay(fd);
	name_set(arg(call, 1, "?"), fd);
	kept = fdopen(fd, arg(call, 4, "r+"));
	say_result(call, connect(fd, (struct sockaddr *)&address, length));
}

/* confine [HOW]: from here on a few system calls kill that no operation but `get` makes; HOW `seccomp`: by that call */
static void op_confine(struct call *call)
{
	static const int deadly[] = {SYS_ppoll, SYS_epoll_pwait2, SYS_memfd_create, SYS_pidfd_open, SYS_kcmp, SYS_getsockopt, SYS_prlimit64,
		SYS_sched_yield, SYS_rt_sigpending, SYS_statx, SYS_tkill};
	enum { DEADLY = sizeof deadly / sizeof *deadly };
	struct sock_filter filter[DEADLY + 3];
	struct sock_fprog program = {DEADLY + 3, filter};
	filter[0] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
	for (unsigned i = 0; i < DEADLY; i++)
		filter[1 + i] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)deadly[i], DEADLY - i, 0);
	filter[DEADLY + 1] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	filter[DEADLY + 2] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS);
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	if (!strcmp(arg(call, 1, ""), "seccomp"))
		say_result(call, syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program));
	else
		say_result(call, prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program));
}

/* fstderr FD: as file, with what exists for the copy of FD at number 2, or for FD itself; freestderr: that number is free */
static void op_freestderr(struct call *call)
{
	say_result(call, close(STDERR_FILENO));
}

static void op_fstderr(struct call *call)
{
	say_result(call, dup2(arg_fd(call, 1), STDERR_FILENO));
	kept = stderr;
}

static void op_gets(struct call *call)
{
	char line[8192];
	errno = 0;
	if (fgets(line, (int)arg_number(call, 1, sizeof line), kept)) {
		say(call, "line");
		say_data(call, line, strlen(line));
	} else {
		say(call, "nothing %s%s %s", feof(kept) ? "eof" : "", ferror(kept) ? "error" : "", strerrorname_np(errno));
		clearerr(kept);
	}
}

static void op_puts(struct call *call)
{
	size_t length;
	uint8_t *data = arg_data(call, 1, &length);
	say(call, "%d", fprintf(kept, "%.*s\n", (int)length, (char *)data));
	free(data);
}

static void op_flush(struct call *call)
{
	say_result(call, fflush(kept));
}

static void op_unget(struct call *call)
{
	say(call, "%d", ungetc(*arg(call, 1, "x"), kept));
}

/* buffer none|line|full */
static void op_buffer(struct call *call)
{
	const char *how = arg(call, 1, "none");
	say_result(call, setvbuf(kept, NULL, *how == 'n' ? _IONBF : *how == 'l' ? _IOLBF : _IOFBF, 0));
}

static void op_fstate(struct call *call)
{
	errno = 0;
	say(call, "tell %ld %s eof %d error %d", ftell(kept), strerrorname_np(errno), feof(kept), ferror(kept));
}

/* fend [PATH]: fclose, or freopen to PATH and then fclose */
static void op_fend(struct call *call)
{
	if (call->argc > 1)
		say(call, "%s ", freopen(arg(call, 1, ""), "r", kept) ? "reopened" : "not");
	say_result(call, fclose(kept));
}

/* dprintf FD DATA */
static void op_dprintf(struct call *call)
{
	size_t length;
	uint8_t *data = arg_data(call, 2, &length);
	say_result(call, dprintf(arg_fd(call, 1), "<%.*s>", (int)length, (char *)data));
	free(data);
}

/* dup FD NAME; dup2 FD NAME: onto the number NAME has; dupfd FD NAME MIN */
static void op_dup(struct call *call)
{
	int fd = dup(arg_fd(call, 1));
	name_set(arg(call, 2, "?"), fd);
	say_result(call, fd);
}

static void op_dup2(struct call *call)
{
	say_result(call, dup2(arg_fd(call, 1), arg_fd(call, 2)));
}

static void op_dupfd(struct call *call)
{
	int fd = fcntl(arg_fd(call, 1), F_DUPFD_CLOEXEC, (int)arg_number(call, 3, 0));
	name_set(arg(call, 2, "?"), fd);
	say_result(call, fd);
}

/* open NAME: /dev/null, to see which number it gets and that nothing sticks to it */
static void op_open(struct call *call)
{
	int fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	name_set(arg(call, 1, "?"), fd);
	say_result(call, fd);
}

/* nonblock FD 0|1 [ioctl] */
static void op_nonblock(struct call *call)
{
	int fd = arg_fd(call, 1), on = (int)arg_number(call, 2, 1);
	if (call->argc > 3) {
		say_result(call, ioctl(fd, FIONBIO, &on));
		return;
	}
	int flags = fcntl(fd, F_GETFL);
	say_result(call, fcntl(fd, F_SETFL, on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK));
}

/* stat FD: is it a socket still? */
static void op_stat(struct call *call)
{
	struct stat st;
	int result = fstat(arg_fd(call, 1), &st);
	say_result(call, result);
	if (!result)
		say(call, " %s flags %x", S_ISSOCK(st.st_mode) ? "socket" : "other", fcntl(arg_fd(call, 1), F_GETFL));
}

/* ---- options ---------------------------------------------------------------------------------------------------- */

static const struct option {
	const char *name;
	int level, option;
	enum { INT, TIME, LINGER } kind;
} options[] = {{"RCVTIMEO", SOL_SOCKET, SO_RCVTIMEO, TIME}, {"SNDTIMEO", SOL_SOCKET, SO_SNDTIMEO, TIME},
	{"RCVLOWAT", SOL_SOCKET, SO_RCVLOWAT, INT}, {"ERROR", SOL_SOCKET, SO_ERROR, INT},
	{"LINGER", SOL_SOCKET, SO_LINGER, LINGER}, {"TYPE", SOL_SOCKET, SO_TYPE, INT},
	{"SNDBUF", SOL_SOCKET, SO_SNDBUF, INT}, {"RCVBUF", SOL_SOCKET, SO_RCVBUF, INT},
	{"KEEPALIVE", SOL_SOCKET, SO_KEEPALIVE, INT}, {"OOBINLINE", SOL_SOCKET, SO_OOBINLINE, INT},
	{"NODELAY", IPPROTO_TCP, TCP_NODELAY, INT}, {"CORK", IPPROTO_TCP, TCP_CORK, INT},
	{"INQ", IPPROTO_TCP, TCP_INQ, INT}, {"NOTSENT_LOWAT", IPPROTO_TCP, TCP_NOTSENT_LOWAT, INT},
	{"ZEROCOPY", SOL_SOCKET, SO_ZEROCOPY, INT}, {"TIMESTAMP", SOL_SOCKET, SO_TIMESTAMP, INT}};

static const struct option *option_named(struct call *call, const char *name)
{
	for (size_t i = 0; i < sizeof options / sizeof *options; i++)
		if (!strcmp(options[i].name, name))
			return &options[i];
	say_error(call, name);
	return NULL;
}

/* set FD OPTION VALUE; times in milliseconds, LINGER: seconds or -1 */
static void op_set(struct call *call)
{
	const struct option *o = option_named(call, arg(call, 2, ""));
	int fd = arg_fd(call, 1), value = (int)arg_number(call, 3, 0);
	if (!o)
		return;
	struct timeval time = {value / 1000, value % 1000 * 1000};
	struct linger linger = {value >= 0, value >= 0 ? value : 0};
	say_result(call, o->kind == TIME     ? setsockopt(fd, o->level, o->option, &time, sizeof time)
			 : o->kind == LINGER ? setsockopt(fd, o->level, o->option, &linger, sizeof linger)
					     : setsockopt(fd, o->level, o->option, &value, sizeof value));
}

/* get FD OPTION */
static void op_get(struct call *call)
{
	const struct option *o = option_named(call, arg(call, 2, ""));
	int value = -7;
	socklen_t length = sizeof value;
	struct timeval time;
	if (!o)
		return;
	if (o->kind == TIME) {
		length = sizeof time;
		int result = getsockopt(arg_fd(call, 1), o->level, o->option, &time, &length);
		say_result(call, result);
		say(call, " %ld.%06ld", (long)time.tv_sec, (long)time.tv_usec);
		return;
	}
	int result = getsockopt(arg_fd(call, 1), o->level, o->option, &value, &length);
	say_result(call, result);
	if (!result && o->option == SO_ERROR && o->level == SOL_SOCKET)
		say(call, " %s", value ? strerrorname_np(value) : "none");
	else if (!result)
		say(call, " %d length %u", value, length);
}

/* info FD: TCP_INFO, as far as both transports must agree on it: the state */
static void op_info(struct call *call)
{
	struct tcp_info info = {0};
	socklen_t length = sizeof info;
	int result = getsockopt(arg_fd(call, 1), IPPROTO_TCP, TCP_INFO, &info, &length);
	say_result(call, result);
	if (!result)
		say(call, " state %u", info.tcpi_state);
}

/* ---- processes -------------------------------------------------------------------------------------------------- */

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
	char *argv[CALL_ARGS + 4] = {(char *)player_path(), (char *)player_socket(), (char *)arg(call, 1, "C")};
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

/* ---- signals and time ------------------------------------------------------------------------------------------- */

static volatile sig_atomic_t seen[65];

static void on_signal(int number)
{
	seen[number]++;
}

static int signal_named(const char *name)
{
	return !strcmp(name, "PIPE") ? SIGPIPE : !strcmp(name, "ALRM") ? SIGALRM : !strcmp(name, "URG") ? SIGURG
		: !strcmp(name, "IO")						      ? SIGIO
		: !strcmp(name, "USR2")						      ? SIGUSR2
											      : SIGUSR1;
}

/* sigaction SIGNAL [restart|default|ignore] */
static void op_sigaction(struct call *call)
{
	const char *how = arg(call, 2, "");
	struct sigaction action = {.sa_handler = on_signal, .sa_flags = strcmp(how, "restart") ? 0 : SA_RESTART};
	if (!strcmp(how, "default"))
		action.sa_handler = SIG_DFL;
	if (!strcmp(how, "ignore"))
		action.sa_handler = SIG_IGN;
	say_result(call, sigaction(signal_named(arg(call, 1, "USR1")), &action, NULL));
}

/* signals: which have come since last asked */
static void op_signals(struct call *call)
{
	say(call, "seen");
	for (int i = 1; i < 65; i++) {
		if (seen[i])
			say(call, " SIG%s*%d", sigabbrev_np(i), (int)seen[i]);
		seen[i] = 0;
	}
}

/* alarm MS: SIGALRM to this process after so long */
static void op_alarm(struct call *call)
{
	long ms = arg_number(call, 1, 10);
	struct itimerval when = {.it_value = {ms / 1000, ms % 1000 * 1000}};
	say_result(call, setitimer(ITIMER_REAL, &when, NULL));
}

/* own FD: signals for urgent data */
static void op_own(struct call *call)
{
	say_result(call, fcntl(arg_fd(call, 1), F_SETOWN, getpid()));
}

/* sleep MS */
static void op_sleep(struct call *call)
{
	usleep((useconds_t)arg_number(call, 1, 1) * 1000u);
	say(call, "ok");
}

static void shift(struct call *call, int by)
{
	call->argc -= by;
	memmove(call->argv, call->argv + by, (size_t)call->argc * sizeof *call->argv);
}

/* timed MS OP...: says whether OP took about so long */
static void op_timed(struct call *call)
{
	uint64_t wanted = (uint64_t)arg_number(call, 1, 0) * 1000u, start = now_us();
	shift(call, 2);
	op_run(call);
	uint64_t took = now_us() - start;
	say(call, took + 2000 < wanted ? " too early" : took > wanted + 150000 ? " too late" : " in time");
}

/* lazy OP...: did it sleep while it waited? */
static void op_lazy(struct call *call)
{
	struct timespec before, after;
	shift(call, 1);
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &before);
	op_run(call);
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &after);
	long spent = (after.tv_sec - before.tv_sec) * 1000 + (after.tv_nsec - before.tv_nsec) / 1000000;
	say(call, spent < 60 ? " lazily" : " busily");
}

/* until OUTCOME OP...: repeats OP until its outcome is OUTCOME ('quoted'), for two seconds */
static void op_until(struct call *call)
{
	char wanted[256];
	snprintf(wanted, sizeof wanted, "%s", arg(call, 1, "''") + 1);
	if (*wanted)
		wanted[strlen(wanted) - 1] = '\0';
	shift(call, 2);
	char *words[CALL_ARGS];
	int count = call->argc;
	for (int i = 0; i < count; i++)
		words[i] = strdup(call->argv[i]);
	for (uint64_t start = now_us(); now_us() - start < 2000000;) {
		call->used = 0;
		call->argc = count;
		for (int i = 0; i < count; i++)
			strcpy(call->argv[i], words[i]);
		op_run(call);
		call->out[call->used] = '\0';
		if (!strcmp(call->out, wanted))
			break;
		usleep(1000);
	}
	for (int i = 0; i < count; i++)
		free(words[i]);
}

const struct op ops_life[] = {{"listen", op_listen}, {"connect", op_connect}, {"accept", op_accept}, {"names", op_names},
	{"shutdown", op_shutdown}, {"close", op_close}, {"sysclose", op_sysclose}, {"closerange", op_closerange},
	{"fclose", op_fclose}, {"fgets", op_fgets}, {"file", op_file}, {"fconnect", op_fconnect},
	{"confine", op_confine}, {"fstderr", op_fstderr}, {"freestderr", op_freestderr}, {"gets", op_gets}, {"puts", op_puts}, {"flush", op_flush},
	{"unget", op_unget}, {"buffer", op_buffer}, {"fstate", op_fstate}, {"fend", op_fend}, {"dprintf", op_dprintf},
	{"dup", op_dup}, {"dup2", op_dup2}, {"dupfd", op_dupfd},
	{"open", op_open}, {"nonblock", op_nonblock}, {"stat", op_stat}, {"set", op_set}, {"get", op_get},
	{"info", op_info}, {"fork", op_fork}, {"exec", op_exec}, {"cloexec", op_cloexec}, {"spawn", op_spawn}, {"exit", op_exit},
	{"passfd", op_passfd}, {"takefd", op_takefd}, {"sigaction", op_sigaction}, {"signals", op_signals},
	{"alarm", op_alarm}, {"own", op_own}, {"sleep", op_sleep}, {"timed", op_timed}, {"lazy", op_lazy}, {"until", op_until},
	{NULL, NULL}};
