/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * sendmmsg and recvmmsg. On a stream they are loops over single messages with the kernel's rules: a count once anything
 * has moved, an error only when nothing has; a message sent in part ends the call; MSG_WAITFORONE stops waiting after
 * the first; the timeout is looked at after each message, never while one is awaited.
 */
#include "shim/preload/preload.h"

#include <limits.h>

#include "shim/preload/rights.h"

/* Number of bytes a message asks to move. */
static size_t bytes_of(const struct msghdr *msg)
{
	size_t sum = 0;
	for (size_t i = 0; i < msg->msg_iovlen; i++)
		sum += msg->msg_iov[i].iov_len;
	return sum;
}

EXPORT int sendmmsg(int fd, struct mmsghdr *msgs, unsigned count, int flags)
{
	if (!is_stream(fd)) {
		for (unsigned i = 0; i < count && i < IOV_MAX; i++)
			rights_leave(&msgs[i].msg_hdr);
		return real.sendmmsg(fd, msgs, count, flags);
	}
	int saved = errno;
	unsigned done = 0;
	while (done < count && done < IOV_MAX) {
		ssize_t sent = sendmsg(fd, &msgs[done].msg_hdr, flags);
		if (sent < 0 && !done)
			return -1;
		if (sent < 0) {
			errno = saved;
			break;
		}
		msgs[done].msg_len = (unsigned)sent;
		if ((size_t)sent < bytes_of(&msgs[done++].msg_hdr))
			break;
	}
	return (int)done;
}
ALIAS(__sendmmsg, sendmmsg);

/* What is left of a time span that ends at `end`; never negative. */
static struct timespec left_until(const struct timespec *end)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	struct timespec left = {end->tv_sec - now.tv_sec, end->tv_nsec - now.tv_nsec};
	if (left.tv_nsec < 0) {
		left.tv_nsec += 1000000000l;
		left.tv_sec--;
	}
	return left.tv_sec < 0 ? (struct timespec){0, 0} : left;
}

static bool bad_timeout(const struct timespec *timeout)
{
	return timeout && (timeout->tv_sec < 0 || timeout->tv_nsec < 0 || timeout->tv_nsec >= 1000000000l);
}

static int receive_each(int fd, struct mmsghdr *msgs, unsigned count, int flags, struct timespec *timeout)
{
	struct timespec end = {0, 0};
	if (timeout) {
		clock_gettime(CLOCK_MONOTONIC, &end);
		end.tv_sec += timeout->tv_sec;
		end.tv_nsec += timeout->tv_nsec;
		end.tv_sec += end.tv_nsec / 1000000000l;
		end.tv_nsec %= 1000000000l;
	}
	unsigned done = 0;
	while (done < count && done < IOV_MAX) {
		struct msghdr *msg = &msgs[done].msg_hdr;
		ssize_t got = recvmsg(fd, msg, flags & ~MSG_WAITFORONE);
		if (got < 0)
			return done ? (int)done : -1;
		msgs[done++].msg_len = (unsigned)got;
		if (flags & MSG_WAITFORONE)
			flags |= MSG_DONTWAIT;
		if (timeout) {
			*timeout = left_until(&end);
			if (timeout->tv_sec == 0 && timeout->tv_nsec == 0)
				break;
		}
		if (msg->msg_flags & MSG_OOB)
			break;
	}
	return (int)done;
}

EXPORT int recvmmsg(int fd, struct mmsghdr *msgs, unsigned count, int flags, struct timespec *timeout)
{
	if (is_stream(fd) && !bad_timeout(timeout)) {
		int saved = errno;
		int done = receive_each(fd, msgs, count, flags, timeout);
		if (done >= 0)
			errno = saved;
		return done;
	}
	int done = real.recvmmsg(fd, msgs, count, flags, timeout);
	for (int i = 0; i < done; i++)
		rights_arrive(&msgs[i].msg_hdr);
	return done;
}
