/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Names and datagrams.
 *
 *   mailbox            abstract "notnets1/m/" and 32 hex digits: random, one for each process
 *   connection's name  abstract "notnets1/c/" and 72 hex digits: the 4-tuple; held by the connector while it seeks
 *
 * Another major version uses another prefix: the two never meet.
 *
 * All sends leave from the mailbox, so that the recipient learns from the kernel (msg_name) where to answer, and that nobody
 * else can pretend to have sent from there. Anybody may send anything to us: a datagram is first looked at without its
 * descriptors; they are received only when somebody waits for just this message, at most FDS_MAX of them. The
 * kernel drops what is not received.
 *
 * Dropping a descriptor may take its time (a socket that lingers), and is done by whoever receives. So the kernel itself lets
 * nothing into a mailbox that does not carry its token, and drops it while the sender still waits. The token is told to whom
 * HELLO or OPEN goes. A connection's name takes what comes: its holder takes four messages a step at most.
 */
#include "shim/rendezvous/private.h"

#include <endian.h>
#include <errno.h>
#include <linux/filter.h>
#include <string.h>
#include <sys/random.h>

#include "shim/core/hidden.h"
#include "shim/core/sys.h"

#define PREFIX_LENGTH 12 /* with the leading zero byte */
static const char mailbox_prefix[PREFIX_LENGTH] = "\0notnets1/m/";
static const char connection_prefix[PREFIX_LENGTH] = "\0notnets1/c/";

static int mailbox_fd = -1;
static struct mailbox_id own_id;
static uint64_t own_token;

int hold(int *holder, int fd)
{
	int error;

	*holder = -1;
	if (fd < 0)
		return fd;
	fd = hidden_take(fd);
	if (fd < 0)
		return fd;
	*holder = fd;
	error = hidden_watch(holder);
	if (error) {
		hidden_close(fd);
		*holder = -1;
	}
	return error;
}

void let_go(int *holder)
{
	if (*holder < 0)
		return;
	hidden_unwatch(holder);
	hidden_close(*holder);
	*holder = -1;
}

int random_bytes(void *to, size_t length)
{
	long got = sys_call3(SYS_getrandom, to, length, GRND_NONBLOCK);

	if (got < 0)
		return (int)got;
	return (size_t)got == length ? 0 : -EAGAIN;
}

static socklen_t make_name(struct sockaddr_un *name, const char *prefix, const void *data, unsigned length)
{
	static const char digits[] = "0123456789abcdef";
	const uint8_t *bytes = data;

	memset(name, 0, sizeof(*name));
	name->sun_family = AF_UNIX;
	memcpy(name->sun_path, prefix, PREFIX_LENGTH);
	for (unsigned i = 0; i < length; i++) {
		name->sun_path[PREFIX_LENGTH + 2 * i] = digits[bytes[i] >> 4];
		name->sun_path[PREFIX_LENGTH + 2 * i + 1] = digits[bytes[i] & 15];
	}
	return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + PREFIX_LENGTH + 2 * length);
}

static int digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool parse_mailbox(const struct sockaddr_un *name, socklen_t length, struct mailbox_id *id)
{
	if (length != offsetof(struct sockaddr_un, sun_path) + PREFIX_LENGTH + 2 * MAILBOX_ID || name->sun_family != AF_UNIX ||
	    memcmp(name->sun_path, mailbox_prefix, PREFIX_LENGTH) != 0)
		return false;
	for (unsigned i = 0; i < MAILBOX_ID; i++) {
		int high = digit(name->sun_path[PREFIX_LENGTH + 2 * i]), low = digit(name->sun_path[PREFIX_LENGTH + 2 * i + 1]);

		if (high < 0 || low < 0)
			return false;
		id->bytes[i] = (uint8_t)(high << 4 | low);
	}
	return true;
}

/* Where the kernel or a policy refuses it, what is not wanted is dropped by us. The filter reads words as the network orders them. */
static void let_only_token_in(int fd)
{
	enum { AT = offsetof(struct message, token) };
	uint32_t halves[2];
	int one = 1;

	memcpy(halves, &own_token, sizeof(halves));
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, AT), /* out of bounds: dropped */
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, be32toh(halves[0]), 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, AT + 4),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, be32toh(halves[1]), 0, 1),
		BPF_STMT(BPF_RET | BPF_K, UINT32_MAX),
		BPF_STMT(BPF_RET | BPF_K, 0),
	};
	struct sock_fprog program = { sizeof(filter) / sizeof(*filter), filter };

	sys_call5(SYS_setsockopt, fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program));
	sys_call5(SYS_setsockopt, fd, SOL_SOCKET, SO_LOCK_FILTER, &one, sizeof(one));
}

static int bound_socket(int *holder, const struct sockaddr_un *name, socklen_t length, bool guarded)
{
	int one = 1;
	int fd = (int)sys_call3(SYS_socket, AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd >= 0 && guarded)
		let_only_token_in(fd); /* before it has a name */
	if (fd >= 0) {
		long error = sys_call3(SYS_bind, fd, name, length);

		if (!error)
			error = sys_call5(SYS_setsockopt, fd, SOL_SOCKET, SO_PASSCRED, &one, sizeof(one));
		if (error) {
			sys_call1(SYS_close, fd);
			fd = (int)error;
		}
	}
	return hold(holder, fd);
}

int mailbox_need(void)
{
	struct sockaddr_un name;
	int error;

	if (mailbox_fd >= 0)
		return 0;
	error = random_bytes(&own_id, sizeof(own_id));
	if (!error)
		error = random_bytes(&own_token, sizeof(own_token));
	if (error)
		return error;
	return bound_socket(&mailbox_fd, &name, make_name(&name, mailbox_prefix, &own_id, sizeof(own_id)), true);
}

uint64_t mailbox_token(void)
{
	return own_token;
}

bool mailbox_exists(void)
{
	return mailbox_fd >= 0;
}

int mailbox_socket(void)
{
	return mailbox_fd;
}

const struct mailbox_id *mailbox_own(void)
{
	return &own_id;
}

void mailbox_forget(void)
{
	let_go(&mailbox_fd);
}

int mailbox_name_take(int *holder, const struct tuple *tuple)
{
	struct sockaddr_un name;

	return bound_socket(holder, &name, make_name(&name, connection_prefix, tuple, sizeof(*tuple)), false);
}

int mailbox_send(const struct message *message, const struct mailbox_id *to, const int *fds, unsigned count, uint32_t uid)
{
	static _Alignas(struct cmsghdr) uint8_t control[CMSG_SPACE(sizeof(struct ucred)) + CMSG_SPACE(FDS_MAX * sizeof(int))];
	struct sockaddr_un name;
	struct iovec iov = { (void *)(uintptr_t)message, sizeof(*message) };
	struct msghdr header = { .msg_name = &name, .msg_iov = &iov, .msg_iovlen = 1 };
	long sent;

	header.msg_namelen = to ? make_name(&name, mailbox_prefix, to, sizeof(*to)) :
				  make_name(&name, connection_prefix, &message->tuple, sizeof(message->tuple));
	if (count) {
		struct ucred me = { .pid = (pid_t)sys_call0(SYS_getpid), .uid = uid, .gid = (gid_t)sys_call0(SYS_getegid) };
		struct cmsghdr *rights = (struct cmsghdr *)control, *creds;

		memset(control, 0, sizeof(control));
		rights->cmsg_level = SOL_SOCKET;
		rights->cmsg_type = SCM_RIGHTS;
		rights->cmsg_len = CMSG_LEN(count * sizeof(int));
		memcpy(CMSG_DATA(rights), fds, count * sizeof(int));
		creds = (struct cmsghdr *)(control + CMSG_SPACE(count * sizeof(int)));
		creds->cmsg_level = SOL_SOCKET;
		creds->cmsg_type = SCM_CREDENTIALS;
		creds->cmsg_len = CMSG_LEN(sizeof(me));
		memcpy(CMSG_DATA(creds), &me, sizeof(me));
		header.msg_control = control;
		header.msg_controllen = CMSG_SPACE(count * sizeof(int)) + CMSG_SPACE(sizeof(me));
	}
	sent = sys_call3(SYS_sendmsg, mailbox_fd, &header, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (sent == -EPERM && count) { /* not a user we may speak for: the kernel fills in our own */
		header.msg_controllen = CMSG_SPACE(count * sizeof(int));
		sent = sys_call3(SYS_sendmsg, mailbox_fd, &header, MSG_DONTWAIT | MSG_NOSIGNAL);
	}
	return sent < 0 ? (int)sent : 0;
}

static void collect(struct msghdr *header, struct incoming *in)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(header); c; c = CMSG_NXTHDR(header, c)) {
		if (c->cmsg_level != SOL_SOCKET)
			continue;
		if (c->cmsg_type == SCM_CREDENTIALS && c->cmsg_len >= CMSG_LEN(sizeof(struct ucred))) {
			struct ucred from;

			memcpy(&from, CMSG_DATA(c), sizeof(from));
			in->pid = (uint32_t)from.pid;
			in->uid = from.uid;
		} else if (c->cmsg_type == SCM_RIGHTS) {
			size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);

			for (size_t i = 0; i < count; i++) {
				int fd;

				memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
				if (in->fd_count < FDS_MAX)
					in->fds[in->fd_count++] = fd;
				else /* alignment leaves room for one more */
					sys_call1(SYS_close, fd);
			}
		}
	}
}

int mailbox_receive(int fd, bool (*wanted)(const struct message *message), struct incoming *in)
{
	static _Alignas(struct cmsghdr) uint8_t control[CMSG_SPACE(sizeof(struct ucred)) + CMSG_SPACE(FDS_MAX * sizeof(int))];
	struct sockaddr_un name;
	struct iovec iov = { &in->message, sizeof(in->message) };
	struct msghdr header = { .msg_iov = &iov, .msg_iovlen = 1 };
	long got;
	bool good;

	if (fd < 0)
		fd = mailbox_fd;
	memset(in, 0, sizeof(*in));
	for (unsigned i = 0; i < FDS_MAX; i++)
		in->fds[i] = -1;
	got = sys_call3(SYS_recvmsg, fd, &header, MSG_DONTWAIT | MSG_PEEK | MSG_TRUNC);
	if (got < 0)
		return (int)got;
	good = got >= (long)sizeof(in->message) && in->message.magic == MESSAGE_MAGIC && wanted(&in->message);

	memset(&header, 0, sizeof(header));
	header.msg_iov = &iov;
	header.msg_iovlen = 1;
	if (good) {
		header.msg_name = &name;
		header.msg_namelen = sizeof(name);
		header.msg_control = control;
		header.msg_controllen = sizeof(control);
	}
	got = sys_call3(SYS_recvmsg, fd, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	if (got < 0)
		return (int)got;
	if (!good)
		return 0;
	collect(&header, in);
	/* Looked at twice, used as it came the second time. */
	if (got == sizeof(in->message) && in->message.magic == MESSAGE_MAGIC && parse_mailbox(&name, header.msg_namelen, &in->from))
		return 1;
	incoming_release(in);
	return 0;
}

void incoming_release(struct incoming *in)
{
	for (unsigned i = 0; i < FDS_MAX; i++) {
		if (in->fds[i] >= 0)
			sys_call1(SYS_close, in->fds[i]);
		in->fds[i] = -1;
	}
}

int mailbox_alive(const struct mailbox_id *id)
{
	struct sockaddr_un name;
	socklen_t length = make_name(&name, mailbox_prefix, id, sizeof(*id));
	int fd = (int)sys_call3(SYS_socket, AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	long error;

	if (fd < 0)
		return fd;
	error = sys_call3(SYS_connect, fd, &name, length);
	sys_call1(SYS_close, fd);
	if (error == -ECONNREFUSED)
		return 0;
	return error ? (int)error : 1;
}
