/* SPDX-License-Identifier: BSD-2-Clause */
/* Socket options. */
#include "tests/conformance/player.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>

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
	{"PEEK_OFF", SOL_SOCKET, SO_PEEK_OFF, INT}, {"ZEROCOPY", SOL_SOCKET, SO_ZEROCOPY, INT}, {"TIMESTAMP", SOL_SOCKET, SO_TIMESTAMP, INT}};

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

const struct op ops_option[] = {{"set", op_set}, {"get", op_get}, {"info", op_info}, {NULL, NULL}};
