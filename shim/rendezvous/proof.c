/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The proof that the sender of a message holds the very socket that mirrors mine, without giving it that socket away.
 *
 * The prover makes an epoll set that watches its TCP socket alone, with a hash as user data, and passes the set. Only who
 * holds a socket can have it watched; the hash binds the set to one sender, one recipient, one step and one connection. The
 * verifier reads in /proc/thread-self/fdinfo what is watched (inode and user data), and asks the kernel which inode the
 * socket with the mirrored addresses has.
 *
 * Why this is enough. A set passed on by somebody else has the wrong sender in its hash (SHA-256 cut to 64 bits: the names
 * are chosen before the socket is known, so a forger needs a second preimage, and the name is what the kernel says). A
 * socket of another network namespace has another inode. When the peer closes its socket, the kernel forgets the watch; a
 * socket in TIME_WAIT has inode 0. If my own socket died and its addresses were used again, the kernel names an inode that
 * is not my socket's: so that is checked too. A mirrored socket that is not established (SYN_SENT against a half-open
 * connection) does not count. Socket inode numbers have 32 bits and come round after four thousand million sockets, so a
 * forger would need an hour of making sockets while one connection seeks its peer, and luck.
 *
 * Reading fdinfo takes a lock of the epoll set, which its other holders could keep busy. So before that: the set must
 * be an epoll set, and the sender must be of the user to whom the mirrored socket belongs, who has better ways to
 * delay its peer.
 */
#include "shim/rendezvous/private.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "shim/core/sys.h"

#define DEVICE_LOOPBACK 1u /* in every network namespace */

/* The hash over everything a proof is bound to. `to` NULL: whoever holds the connection's name. */
uint64_t proof_hash(enum proof_role role, const struct mailbox_id *from, const struct mailbox_id *to, const struct tuple *tuple)
{
	struct {
		char label[12];
		uint32_t role;
		struct mailbox_id from, to;
		struct tuple tuple;
	} input;
	uint8_t digest[SHA256_SIZE];
	uint64_t hash;

	memset(&input, 0, sizeof(input));
	memcpy(input.label, "notnets1 rdv", 12);
	input.role = role;
	input.from = *from;
	if (to)
		input.to = *to;
	input.tuple = *tuple;
	sha256(&input, sizeof(input), digest);
	memcpy(&hash, digest, sizeof(hash));
	return hash;
}

/* ---- what the kernel says of the two sockets -------------------------------------------------------------------- */

static int find_netlink(const struct nn_stream *stream, bool mirror, struct socket_facts *facts)
{
	const struct sockaddr_in6 *local = mirror ? &stream->remote : &stream->local;
	const struct sockaddr_in6 *remote = mirror ? &stream->local : &stream->remote;
	int bound = 0;
	socklen_t length = sizeof(bound);
	int error = diag_netlink(local, remote, stream->local.sin6_scope_id, facts);

	if (error != -ENOENT)
		return error;
	/* A socket bound to a device is found only by that. */
	if (sys_call5(SYS_getsockopt, stream->fd, SOL_SOCKET, SO_BINDTOIFINDEX, &bound, &length) == 0 && bound > 0)
		error = diag_netlink(local, remote, (uint32_t)bound, facts);
	if (error == -ENOENT)
		error = diag_netlink(local, remote, DEVICE_LOOPBACK, facts);
	return error;
}

static bool alive(const struct socket_facts *facts)
{
	return facts->inode != 0 && (facts->state == TCP_ESTABLISHED || facts->state == TCP_CLOSE_WAIT ||
				     facts->state == TCP_FIN_WAIT1 || facts->state == TCP_FIN_WAIT2);
}

/* The facts of the stream's own socket, alive and the very one its descriptor names; *by_proc tells how they were found. */
static int own_facts(const struct nn_stream *stream, struct socket_facts *facts, bool *by_proc)
{
	struct stat status;
	int error = find_netlink(stream, false, facts);
	long failed;

	*by_proc = error != 0;
	if (error)
		error = diag_proc(&stream->local, &stream->remote, facts);
	if (error)
		return error;
	failed = sys_call2(SYS_fstat, stream->fd, &status);
	if (failed)
		return (int)failed;
	return alive(facts) && S_ISSOCK(status.st_mode) && status.st_ino == facts->inode ? 0 : -EACCES;
}

/* The facts of the mirrored socket, if both are alive. */
static int mirror_facts(const struct nn_stream *stream, struct socket_facts *facts)
{
	struct socket_facts own;
	bool by_proc;
	int error = own_facts(stream, &own, &by_proc);

	if (error)
		return error;
	error = by_proc ? diag_proc(&stream->remote, &stream->local, facts) : find_netlink(stream, true, facts);
	if (error)
		return error == -ENOENT ? -EACCES : error;
	return alive(facts) ? 0 : -EACCES;
}

/* ---- what an epoll set watches ---------------------------------------------------------------------------------- */

static char *put_text(char *to, const char *text)
{
	while (*text)
		*to++ = *text++;
	return to;
}

static char *put_number(char *to, unsigned number)
{
	if (number >= 10)
		to = put_number(to, number / 10);
	*to = (char)('0' + number % 10);
	return to + 1;
}

/* thread-self, not self: a thread may have a descriptor table of its own. */
static void proc_path(char *to, const char *folder, int fd)
{
	to = put_text(to, "/proc/thread-self/");
	to = put_text(to, folder);
	to = put_number(to, (unsigned)fd);
	*to = 0;
}

bool proof_is_anonymous(int fd, const char *kind)
{
	char path[64], wanted[40], found[48];
	char *end = put_text(wanted, "anon_inode:[");
	long length;

	end = put_text(end, kind);
	*end++ = ']';
	proc_path(path, "fd/", fd);
	length = sys_call4(SYS_readlinkat, AT_FDCWD, path, found, sizeof(found));
	return length == end - wanted && memcmp(found, wanted, (size_t)length) == 0;
}

static const char *find_text(const char *in, const char *text)
{
	size_t length = 0;

	while (text[length])
		length++;
	for (; *in; in++) {
		size_t i = 0;

		while (i < length && in[i] == text[i])
			i++;
		if (i == length)
			return in + length;
	}
	return NULL;
}

static bool hex_after(const char *in, const char *label, uint64_t *value)
{
	bool any = false;

	in = find_text(in, label);
	if (!in)
		return false;
	while (*in == ' ')
		in++;
	for (*value = 0;; in++, any = true) {
		if (*in >= '0' && *in <= '9')
			*value = *value << 4 | (unsigned)(*in - '0');
		else if (*in >= 'a' && *in <= 'f')
			*value = *value << 4 | (unsigned)(*in - 'a' + 10);
		else
			return any;
	}
}

struct watch {
	uint64_t data, inode, device;
};

/* The one socket that epoll set `fd` watches. -EACCES: not an epoll set, or not exactly one. */
static int watched(int fd, struct watch *watch)
{
	static char text[1024]; /* four lines, and one for each socket */
	char path[64];
	const char *line;
	long length;
	int info;

	if (!proof_is_anonymous(fd, "eventpoll"))
		return -EACCES;
	proc_path(path, "fdinfo/", fd);
	info = (int)sys_call4(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);
	if (info < 0)
		return info;
	length = sys_call3(SYS_read, info, text, sizeof(text) - 1);
	sys_call1(SYS_close, info);
	if (length < 0)
		return (int)length;
	if (length == sizeof(text) - 1)
		return -EACCES;
	text[length] = 0;
	line = find_text(text, "tfd:");
	if (!line || find_text(line, "tfd:"))
		return -EACCES;
	return hex_after(line, "data:", &watch->data) && hex_after(line, "ino:", &watch->inode) &&
		       hex_after(line, "sdev:", &watch->device) ? 0 : -EACCES;
}

/* ---- proofs ----------------------------------------------------------------------------------------------------- */

int proof_make(const struct nn_stream *stream, enum proof_role role, const struct mailbox_id *to, uint32_t *uid)
{
	struct socket_facts own;
	struct epoll_event event;
	struct tuple tuple;
	bool by_proc;
	long failed;
	int fd, error = own_facts(stream, &own, &by_proc);

	if (error)
		return error;
	*uid = own.uid;
	tuple_of(stream, &tuple);
	memset(&event, 0, sizeof(event));
	event.events = EPOLLET; /* nobody waits for it */
	event.data.u64 = proof_hash(role, mailbox_own(), to, &tuple);
	fd = (int)sys_call1(SYS_epoll_create1, EPOLL_CLOEXEC);
	if (fd < 0)
		return fd;
	failed = sys_call4(SYS_epoll_ctl, fd, EPOLL_CTL_ADD, stream->fd, &event);
	if (failed) {
		sys_call1(SYS_close, fd);
		return (int)failed;
	}
	return fd;
}

int proof_check(const struct nn_stream *stream, enum proof_role role, const struct mailbox_id *to, const struct incoming *in,
	uint64_t *inode)
{
	struct socket_facts mirror;
	struct tuple tuple;
	struct watch watch;
	struct stat status;
	unsigned proof_at = in->message.flags & MESSAGE_HAS_MEMORY ? FD_MEMORY_END : 0;
	int error;

	if (in->fd_count <= proof_at)
		return -EACCES;
	error = mirror_facts(stream, &mirror);
	if (error)
		return error;
	if (mirror.uid != in->uid)
		return -EACCES;
	error = watched(in->fds[proof_at], &watch);
	if (error)
		return error;
	error = (int)sys_call2(SYS_fstat, stream->fd, &status);
	if (error)
		return error;
	tuple_of(stream, &tuple);
	if (watch.inode != mirror.inode || watch.device != ((uint64_t)major(status.st_dev) << 20 | minor(status.st_dev)) ||
	    watch.data != proof_hash(role, &in->from, to, &tuple))
		return -EACCES;
	*inode = mirror.inode;
	return 0;
}

int proof_still(const struct nn_stream *stream, uint64_t inode)
{
	struct socket_facts mirror;
	int error = mirror_facts(stream, &mirror);

	if (error)
		return error;
	return mirror.inode == inode ? 0 : -EACCES;
}
