/* SPDX-License-Identifier: BSD-2-Clause */
/* Calls that move bytes between a descriptor and the caller's memory. Several messages in one call: messages.c. */
#include "shim/preload/preload.h"

#include <limits.h>
#include <unistd.h>

#include "shim/preload/rights.h"

/* Sizes that the kernel refuses before it looks at the socket, and vectors of them. */
static bool bad_size(size_t size)
{
	return size > SSIZE_MAX;
}

static bool bad_vector(const struct iovec *iov, size_t count)
{
	if (count > IOV_MAX)
		return true;
	for (size_t i = 0; i < count; i++)
		if (bad_size(iov[i].iov_len))
			return true;
	return false;
}

/* A read of no bytes returns at once, whatever the socket has: only recv and its kin wait. */
EXPORT ssize_t read(int fd, void *buffer, size_t size)
{
	if (!is_stream(fd) || !size || bad_size(size))
		return real.read(fd, buffer, size);
	struct nn_io io;
	struct iovec iov = {buffer, size};
	SERVE_OR_END(io, nn_recv(&io, fd, &iov, 1, 0), real.read(fd, buffer, size));
}
ALIAS(__read, read);

EXPORT ssize_t write(int fd, const void *buffer, size_t size)
{
	if (!is_stream(fd) || bad_size(size))
		return real.write(fd, buffer, size);
	struct nn_io io;
	struct iovec iov = {(void *)buffer, size};
	SERVE_OR_END(io, nn_send(&io, fd, &iov, 1, 0), real.write(fd, buffer, size));
}
ALIAS(__write, write);

static bool empty(const struct iovec *iov, int count)
{
	for (int i = 0; i < count; i++)
		if (iov[i].iov_len)
			return false;
	return true;
}

EXPORT ssize_t readv(int fd, const struct iovec *iov, int count)
{
	if (!is_stream(fd) || bad_vector(iov, (size_t)count) || empty(iov, count))
		return real.readv(fd, iov, count);
	struct nn_io io;
	SERVE_OR_END(io, nn_recv(&io, fd, iov, count, 0), real.readv(fd, iov, count));
}

EXPORT ssize_t writev(int fd, const struct iovec *iov, int count)
{
	if (!is_stream(fd) || bad_vector(iov, (size_t)count))
		return real.writev(fd, iov, count);
	struct nn_io io;
	SERVE_OR_END(io, nn_send(&io, fd, iov, count, 0), real.writev(fd, iov, count));
}

#ifndef RWF_NOAPPEND
#define RWF_NOAPPEND 0x20
#endif

/* Whether p*v2 on a stream means recv or send with *msg_flags: at the current position, and with flags that sockets heed or
 * ignore. What is left fails in the kernel without touching the bytes. */
static bool as_message(int fd, const struct iovec *iov, int count, off_t offset, int flags, int *msg_flags)
{
	const int ignored = RWF_HIPRI | RWF_DSYNC | RWF_SYNC | RWF_APPEND | RWF_NOAPPEND, both = RWF_APPEND | RWF_NOAPPEND;
	*msg_flags = flags & RWF_NOWAIT ? MSG_DONTWAIT : 0;
	return is_stream(fd) && offset == -1 && !(flags & ~(RWF_NOWAIT | ignored)) && (flags & both) != both &&
	       !bad_vector(iov, (size_t)count);
}

static bool reads_message(int fd, const struct iovec *iov, int count, off_t offset, int flags, int *msg_flags)
{
	return as_message(fd, iov, count, offset, flags, msg_flags) && !empty(iov, count);
}

static bool writes_message(int fd, const struct iovec *iov, int count, off_t offset, int flags, int *msg_flags)
{
	return as_message(fd, iov, count, offset, flags, msg_flags);
}

#define POSITIONED(name, ours, core, offset_type) \
	EXPORT ssize_t name(int fd, const struct iovec *iov, int count, offset_type offset, int flags) \
	{ \
		int msg_flags; \
		if (!ours(fd, iov, count, offset, flags, &msg_flags)) \
			return real.name(fd, iov, count, offset, flags); \
		struct nn_io io; \
		SERVE_OR_END(io, core(&io, fd, iov, count, msg_flags), real.name(fd, iov, count, offset, flags)); \
	}
POSITIONED(preadv2, reads_message, nn_recv, off_t)
POSITIONED(preadv64v2, reads_message, nn_recv, off64_t)
POSITIONED(pwritev2, writes_message, nn_send, off_t)
POSITIONED(pwritev64v2, writes_message, nn_send, off64_t)

EXPORT ssize_t send(int fd, const void *buffer, size_t size, int flags)
{
	if (!is_stream(fd))
		return real.send(fd, buffer, size, flags);
	struct nn_io io;
	struct iovec iov = {(void *)buffer, size};
	SERVE_OR_END(io, nn_send(&io, fd, &iov, 1, flags), real.send(fd, buffer, size, flags));
}
ALIAS(__send, send);

/* TCP ignores the address on a connected socket. */
EXPORT ssize_t sendto(int fd, const void *buffer, size_t size, int flags, __CONST_SOCKADDR_ARG address, socklen_t length)
{
	if (!is_stream(fd))
		return real.sendto(fd, buffer, size, flags, address, length);
	struct nn_io io;
	struct iovec iov = {(void *)buffer, size};
	SERVE_OR_END(io, nn_send(&io, fd, &iov, 1, flags), real.sendto(fd, buffer, size, flags, address, length));
}

EXPORT ssize_t sendmsg(int fd, const struct msghdr *msg, int flags)
{
	if (!is_stream(fd)) {
		rights_leave(msg);
		return real.sendmsg(fd, msg, flags);
	}
	if (bad_vector(msg->msg_iov, msg->msg_iovlen))
		return real.sendmsg(fd, msg, flags);
	struct nn_io io;
	SERVE_OR_END(io, nn_sendmsg(&io, fd, msg, flags), real.sendmsg(fd, msg, flags));
}

EXPORT ssize_t recv(int fd, void *buffer, size_t size, int flags)
{
	if (!is_stream(fd))
		return real.recv(fd, buffer, size, flags);
	struct nn_io io;
	struct iovec iov = {buffer, size};
	SERVE_OR_END(io, nn_recv(&io, fd, &iov, 1, flags), real.recv(fd, buffer, size, flags));
}
ALIAS(__recv, recv);

/* Like the kernel, which gives no address for a connected TCP socket and says so in *length. */
EXPORT ssize_t recvfrom(int fd, void *buffer, size_t size, int flags, __SOCKADDR_ARG address, socklen_t *length)
{
	if (!is_stream(fd))
		return real.recvfrom(fd, buffer, size, flags, address, length);
	struct nn_io io;
	struct iovec iov = {buffer, size};
	bool served = false;
	cancellation_point();
	ssize_t result = SERVED(io, (served = nn_recv(&io, fd, &iov, 1, flags) == NN_DONE) ? NN_DONE : NN_RAW,
		real.recvfrom(fd, buffer, size, flags, address, length));
	if (served && result >= 0 && address.__sockaddr__ && length) {
		if (*length > INT_MAX)
			return answer(-EINVAL); /* after the bytes were taken */
		*length = 0;
	}
	return result;
}

EXPORT ssize_t recvmsg(int fd, struct msghdr *msg, int flags)
{
	if (!is_stream(fd)) {
		ssize_t result = real.recvmsg(fd, msg, flags);
		if (result >= 0)
			rights_arrive(msg);
		return result;
	}
	if (bad_vector(msg->msg_iov, msg->msg_iovlen))
		return real.recvmsg(fd, msg, flags);
	struct nn_io io;
	SERVE_OR_END(io, nn_recvmsg(&io, fd, msg, flags), real.recvmsg(fd, msg, flags));
}

/* ---- with checks against buffer overflow: libc's own function ends the program ------------------------------------- */

EXPORT ssize_t __read_chk(int fd, void *buffer, size_t size, size_t room);
EXPORT ssize_t __read_chk(int fd, void *buffer, size_t size, size_t room)
{
	if (!is_stream(fd) || size > room)
		return real.__read_chk(fd, buffer, size, room);
	return read(fd, buffer, size);
}

EXPORT ssize_t __recv_chk(int fd, void *buffer, size_t size, size_t room, int flags);
EXPORT ssize_t __recv_chk(int fd, void *buffer, size_t size, size_t room, int flags)
{
	if (!is_stream(fd) || size > room)
		return real.__recv_chk(fd, buffer, size, room, flags);
	return recv(fd, buffer, size, flags);
}

EXPORT ssize_t __recvfrom_chk(int fd, void *buffer, size_t size, size_t room, int flags, __SOCKADDR_ARG address,
	socklen_t *length);
EXPORT ssize_t __recvfrom_chk(int fd, void *buffer, size_t size, size_t room, int flags, __SOCKADDR_ARG address,
	socklen_t *length)
{
	if (!is_stream(fd) || size > room)
		return real.__recvfrom_chk(fd, buffer, size, room, flags, address, length);
	return recvfrom(fd, buffer, size, flags, address, length);
}
