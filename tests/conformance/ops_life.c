/* SPDX-License-Identifier: BSD-2-Clause */
/* The life of descriptors: connections, dup, close. */
#include "tests/conformance/player.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* ---- connections ------------------------------------------------------------------------------------------------ */

unsigned parse_address(const char *text, long port, struct sockaddr_storage *address)
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

void no_delay(int fd)
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

/* reconnect FD ADDRESS PORT: with a socket that is there */
static void op_reconnect(struct call *call)
{
	struct sockaddr_storage address;
	socklen_t length = parse_address(arg(call, 2, "127.0.0.1"), arg_number(call, 3, 0), &address);
	say_result(call, connect(arg_fd(call, 1), (struct sockaddr *)&address, length));
}

/* dissolve FD */
static void op_dissolve(struct call *call)
{
	struct sockaddr nothing = {.sa_family = AF_UNSPEC};
	say_result(call, connect(arg_fd(call, 1), &nothing, sizeof nothing));
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

/* rawshutdown FD: of the receiving direction, by a call that no library sees */
static void op_rawshutdown(struct call *call)
{
	long result = SYS_shutdown;
#if defined(__x86_64__)
	__asm__ volatile("syscall" : "+a"(result) : "D"((long)arg_fd(call, 1)), "S"((long)SHUT_RD) : "rcx", "r11", "memory");
#elif defined(__aarch64__)
	register long fd __asm__("x0") = arg_fd(call, 1), how __asm__("x1") = SHUT_RD, number __asm__("x8") = result;
	__asm__ volatile("svc #0" : "+r"(fd) : "r"(how), "r"(number) : "memory");
	result = fd;
#endif
	say_result(call, result);
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

/* dup FD NAME; dup2 FD NAME: onto the number NAME has; dupfd FD NAME MIN */
static void op_dup(struct call *call)
{
	int fd = dup(arg_fd(call, 1));
	name_set(arg(call, 2, "?"), fd);
	say_result(call, fd);
}

/* getfd FD NAME: a copy, taken as if from another process */
static void op_getfd(struct call *call)
{
	int self = pidfd_open(getpid(), 0), fd = pidfd_getfd(self, arg_fd(call, 1), 0);
	close(self);
	name_set(arg(call, 2, "?"), fd);
	say_result(call, fd >= 0);
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

const struct op ops_life[] = {{"listen", op_listen}, {"connect", op_connect}, {"reconnect", op_reconnect}, {"dissolve", op_dissolve}, {"accept", op_accept},
	{"names", op_names}, {"shutdown", op_shutdown}, {"rawshutdown", op_rawshutdown}, {"close", op_close}, {"sysclose", op_sysclose},
	{"closerange", op_closerange}, {"dup", op_dup}, {"dup2", op_dup2}, {"getfd", op_getfd}, {"dupfd", op_dupfd}, {"open", op_open},
	{"nonblock", op_nonblock}, {"stat", op_stat}, {NULL, NULL}};
