/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Which socket has these addresses? The kernel answers any user: by netlink (sock_diag(7)) in microseconds, else, where a
 * sandbox has no netlink, by /proc/net/tcp{,6}, of which only the first megabyte is read.
 *
 * A socket in TIME_WAIT or one that its process has closed has inode 0. The lookup matches a socket bound to a device only
 * when that device is named; link-local addresses imply one.
 */
#include "shim/rendezvous/private.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <string.h>

#include "shim/core/sys.h"

static bool mapped(const struct in6_addr *address)
{
	return IN6_IS_ADDR_V4MAPPED(address);
}

struct request {
	struct nlmsghdr header;
	struct inet_diag_req_v2 body;
};

/* Open only within a step: several questions are asked then. */
static int netlink_fd = -1;
static uint32_t sequence;

void diag_close(void)
{
	if (netlink_fd >= 0)
		sys_call1(SYS_close, netlink_fd);
	netlink_fd = -1;
}

static int answer(const uint8_t *from, size_t length, const struct request *asked, struct socket_facts *facts)
{
	struct nlmsghdr header;
	struct inet_diag_msg body;

	if (length < sizeof(header))
		return -EPROTO;
	memcpy(&header, from, sizeof(header));
	if (header.nlmsg_seq != asked->header.nlmsg_seq)
		return -EPROTO;
	if (header.nlmsg_type == NLMSG_ERROR) {
		int error;

		if (length < NLMSG_HDRLEN + sizeof(error))
			return -EPROTO;
		memcpy(&error, from + NLMSG_HDRLEN, sizeof(error));
		return error < 0 ? error : -EPROTO;
	}
	if (header.nlmsg_type != SOCK_DIAG_BY_FAMILY || length < NLMSG_HDRLEN + sizeof(body))
		return -EPROTO;
	memcpy(&body, from + NLMSG_HDRLEN, sizeof(body));
	/* The kernel falls back to listening sockets: those do not count. */
	if (body.id.idiag_dport != asked->body.id.idiag_dport || body.id.idiag_sport != asked->body.id.idiag_sport)
		return -ENOENT;
	facts->inode = body.idiag_inode;
	facts->uid = body.idiag_uid;
	facts->state = body.idiag_state;
	return 0;
}

int diag_netlink(const struct sockaddr_in6 *local, const struct sockaddr_in6 *remote, uint32_t device, struct socket_facts *facts)
{
	static _Alignas(struct nlmsghdr) uint8_t buffer[4096];
	bool v4 = mapped(&local->sin6_addr) && mapped(&remote->sin6_addr);
	struct sockaddr_nl kernel = { .nl_family = AF_NETLINK }, from;
	struct request request;
	struct iovec iov = { buffer, sizeof(buffer) };
	struct msghdr reply = { .msg_name = &from, .msg_namelen = sizeof(from), .msg_iov = &iov, .msg_iovlen = 1 };
	long got;

	if (netlink_fd < 0)
		netlink_fd = (int)sys_call3(SYS_socket, AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_SOCK_DIAG);
	if (netlink_fd < 0)
		return netlink_fd;
	memset(&request, 0, sizeof(request));
	request.header.nlmsg_len = sizeof(request);
	request.header.nlmsg_type = SOCK_DIAG_BY_FAMILY;
	request.header.nlmsg_flags = NLM_F_REQUEST;
	request.header.nlmsg_seq = ++sequence;
	request.body.sdiag_family = v4 ? AF_INET : AF_INET6;
	request.body.sdiag_protocol = IPPROTO_TCP;
	request.body.idiag_states = ~0u;
	request.body.id.idiag_sport = local->sin6_port;
	request.body.id.idiag_dport = remote->sin6_port;
	memcpy(request.body.id.idiag_src, local->sin6_addr.s6_addr + (v4 ? 12 : 0), v4 ? 4 : 16);
	memcpy(request.body.id.idiag_dst, remote->sin6_addr.s6_addr + (v4 ? 12 : 0), v4 ? 4 : 16);
	request.body.id.idiag_if = device;
	request.body.id.idiag_cookie[0] = request.body.id.idiag_cookie[1] = INET_DIAG_NOCOOKIE;

	got = sys_call6(SYS_sendto, netlink_fd, &request, sizeof(request), MSG_NOSIGNAL, &kernel, sizeof(kernel));
	if (got >= 0)
		got = sys_call3(SYS_recvmsg, netlink_fd, &reply, 0); /* the answer is there: the kernel wrote it during the send */
	if (got >= 0)
		got = from.nl_pid == 0 ? answer(buffer, (size_t)got, &request, facts) : -EPROTO; /* 0: the kernel */
	if (got < 0 && got != -ENOENT)
		diag_close();
	return (int)got;
}

/* ---- /proc/net/tcp{,6} ------------------------------------------------------------------------------------------ */

#define PROC_LIMIT (1u << 20)
#define ADDRESS_TEXT (32 + 1 + 4)

static char *put_hex(char *to, uint32_t value, unsigned digits)
{
	for (unsigned i = 0; i < digits; i++)
		to[i] = "0123456789ABCDEF"[value >> 4 * (digits - 1 - i) & 15];
	return to + digits;
}

static char *put_address(char *to, const struct sockaddr_in6 *address, bool v4)
{
	for (unsigned i = v4 ? 3 : 0; i < 4; i++) {
		uint32_t word;

		memcpy(&word, address->sin6_addr.s6_addr + 4 * i, 4);
		to = put_hex(to, word, 8);
	}
	*to++ = ':';
	return put_hex(to, ntohs(address->sin6_port), 4);
}

/* Number `field` (from 0, split at blanks) of a line, as a number of that base. */
static uint64_t number_at(const char *line, const char *end, unsigned field, unsigned base)
{
	uint64_t value = 0;

	for (;;) {
		while (line < end && *line == ' ')
			line++;
		if (field-- == 0)
			break;
		while (line < end && *line != ' ')
			line++;
	}
	for (; line < end; line++) {
		unsigned d = *line >= '0' && *line <= '9' ? (unsigned)(*line - '0') :
			     *line >= 'A' && *line <= 'F' ? (unsigned)(*line - 'A' + 10) : 99;

		if (d >= base)
			break;
		value = value * base + d;
	}
	return value;
}

static int scan(const char *path, const char *wanted, size_t wanted_length, struct socket_facts *facts)
{
	static char buffer[8192];
	size_t have = 0, total = 0;
	int result = -ENOENT;
	int fd = (int)sys_call4(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);

	if (fd < 0)
		return fd;
	while (result == -ENOENT && total < PROC_LIMIT) {
		long got = sys_call3(SYS_read, fd, buffer + have, sizeof(buffer) - have);
		char *line = buffer, *end;

		if (got <= 0) {
			if (got < 0)
				result = (int)got;
			break;
		}
		total += (size_t)got;
		have += (size_t)got;
		while ((end = memchr(line, '\n', have - (size_t)(line - buffer)))) {
			char *colon = memchr(line, ':', (size_t)(end - line)); /* "  12: LOCAL REMOTE STATE ..." */

			if (colon && (size_t)(end - colon) > wanted_length + 2 && memcmp(colon + 2, wanted, wanted_length) == 0) {
				const char *rest = colon + 2 + wanted_length;

				facts->state = (uint8_t)number_at(rest, end, 0, 16);
				facts->uid = (uint32_t)number_at(rest, end, 4, 10);
				facts->inode = number_at(rest, end, 6, 10);
				result = 0;
				break;
			}
			line = end + 1;
		}
		have -= (size_t)(line - buffer);
		if (have == sizeof(buffer)) /* no such line exists */
			break;
		memmove(buffer, line, have);
	}
	sys_call1(SYS_close, fd);
	return result;
}

int diag_proc(const struct sockaddr_in6 *local, const struct sockaddr_in6 *remote, struct socket_facts *facts)
{
	char wanted[2 * ADDRESS_TEXT + 2], *at;

	if (mapped(&local->sin6_addr) && mapped(&remote->sin6_addr)) {
		int error;

		at = put_address(wanted, local, true);
		*at++ = ' ';
		at = put_address(at, remote, true);
		*at++ = ' ';
		error = scan("/proc/thread-self/net/tcp", wanted, (size_t)(at - wanted), facts);
		if (error != -ENOENT)
			return error;
	}
	at = put_address(wanted, local, false);
	*at++ = ' ';
	at = put_address(at, remote, false);
	*at++ = ' ';
	return scan("/proc/thread-self/net/tcp6", wanted, (size_t)(at - wanted), facts);
}
