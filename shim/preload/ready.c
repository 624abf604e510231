/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Calls that wait for readiness. Each first looks whether any of its descriptors is tracked: a program that polls pipes
 * pays one look-up for each of them.
 */
#include "shim/preload/preload.h"

static bool any_polled(const struct pollfd *fds, nfds_t count)
{
	if (!nn_fds)
		return false;
	for (nfds_t i = 0; i < count; i++)
		if (is_tracked(fds[i].fd))
			return true;
	return false;
}

EXPORT int poll(struct pollfd *fds, nfds_t count, int timeout)
{
	if (!any_polled(fds, count))
		return real.poll(fds, count, timeout);
	struct nn_io io;
	struct timespec span = {timeout / 1000, timeout % 1000 * 1000000l};
	SERVE_OR_END(io, nn_poll(&io, fds, count, timeout < 0 ? NULL : &span, NULL), real.poll(fds, count, timeout));
}
ALIAS(__poll, poll);

EXPORT int ppoll(struct pollfd *fds, nfds_t count, const struct timespec *timeout, const sigset_t *mask)
{
	if (!any_polled(fds, count))
		return real.ppoll(fds, count, timeout, mask);
	struct nn_io io;
	SERVE_OR_END(io, nn_poll(&io, fds, count, timeout, mask), real.ppoll(fds, count, timeout, mask));
}

EXPORT int __poll_chk(struct pollfd *fds, nfds_t count, int timeout, size_t room);
EXPORT int __poll_chk(struct pollfd *fds, nfds_t count, int timeout, size_t room)
{
	if (room / sizeof *fds < count)
		return real.__poll_chk(fds, count, timeout, room);
	return poll(fds, count, timeout);
}

EXPORT int __ppoll_chk(struct pollfd *fds, nfds_t count, const struct timespec *timeout, const sigset_t *mask,
	size_t room);
EXPORT int __ppoll_chk(struct pollfd *fds, nfds_t count, const struct timespec *timeout, const sigset_t *mask,
	size_t room)
{
	if (room / sizeof *fds < count)
		return real.__ppoll_chk(fds, count, timeout, mask, room);
	return ppoll(fds, count, timeout, mask);
}

/* Whole words at a time, as the kernel reads them; sets may be longer than FD_SETSIZE. */
static bool any_selected(int count, const fd_set *in, const fd_set *out, const fd_set *except)
{
	const fd_mask *const sets[] = {(const fd_mask *)in, (const fd_mask *)out, (const fd_mask *)except};
	if (!nn_fds)
		return false;
	for (int base = 0; base < count; base += NFDBITS) {
		unsigned long word = 0;
		for (int i = 0; i < 3; i++)
			if (sets[i])
				word |= (unsigned long)sets[i][base / NFDBITS];
		for (; word; word &= word - 1) {
			int fd = base + __builtin_ctzl(word);
			if (fd < count && is_tracked(fd))
				return true;
		}
	}
	return false;
}

static uint64_t now_us(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000u + (uint64_t)now.tv_nsec / 1000u;
}

/* Linux leaves in *timeout what was not waited. */
static void take_off(struct timeval *timeout, uint64_t waited_us)
{
	uint64_t all = (uint64_t)timeout->tv_sec * 1000000u + (uint64_t)timeout->tv_usec;
	uint64_t left = all > waited_us ? all - waited_us : 0;
	timeout->tv_sec = (time_t)(left / 1000000u);
	timeout->tv_usec = (suseconds_t)(left % 1000000u);
}

EXPORT int select(int count, fd_set *in, fd_set *out, fd_set *except, struct timeval *timeout)
{
	if (!any_selected(count, in, out, except) ||
		(timeout && (timeout->tv_sec < 0 || timeout->tv_usec < 0 || timeout->tv_sec > INT32_MAX)))
		return real.select(count, in, out, except, timeout);
	struct nn_io io;
	struct timespec span = {0, 0};
	uint64_t begun = 0;
	cancellation_point();
	if (timeout) {
		span.tv_sec = timeout->tv_sec + timeout->tv_usec / 1000000;
		span.tv_nsec = timeout->tv_usec % 1000000 * 1000l;
		begun = now_us();
	}
	bool served = false;
	int result = (int)SERVED(io, (served = nn_select(&io, count, in, out, except, timeout ? &span : NULL, NULL) == NN_DONE) ? NN_DONE : NN_RAW,
		real.select(count, in, out, except, timeout));
	if (served && timeout)
		take_off(timeout, now_us() - begun);
	return result;
}
ALIAS(__select, select);

EXPORT int pselect(int count, fd_set *in, fd_set *out, fd_set *except, const struct timespec *timeout,
	const sigset_t *mask)
{
	if (!any_selected(count, in, out, except))
		return real.pselect(count, in, out, except, timeout, mask);
	struct nn_io io;
	SERVE_OR_END(io, nn_select(&io, count, in, out, except, timeout, mask),
		real.pselect(count, in, out, except, timeout, mask));
}

/* ---- epoll ---------------------------------------------------------------------------------------------------------- */

static int created(int epfd)
{
	if (epfd >= 0 && nn_fds && !nn_in_vfork_child()) {
		appeared(epfd);
		nn_epoll_created(epfd);
	}
	return epfd;
}

EXPORT int epoll_create(int size)
{
	return created(real.epoll_create(size));
}

EXPORT int epoll_create1(int flags)
{
	return created(real.epoll_create1(flags));
}

/* A set remembers descriptors that are no streams yet: a socket is often added before it is connected. */
EXPORT int epoll_ctl(int epfd, int op, int fd, struct epoll_event *event)
{
	if (!is_tracked(epfd) && !is_tracked(fd))
		return real.epoll_ctl(epfd, op, fd, event);
	return (int)answer(nn_epoll_ctl(epfd, op, fd, event));
}

EXPORT int epoll_wait(int epfd, struct epoll_event *events, int max, int timeout)
{
	if (nn_kind_of(epfd) != NN_SET)
		return real.epoll_wait(epfd, events, max, timeout);
	struct nn_io io;
	struct timespec span = {timeout / 1000, timeout % 1000 * 1000000l};
	SERVE_OR_END(io, nn_epoll_wait(&io, epfd, events, max, timeout < 0 ? NULL : &span, NULL),
		real.epoll_wait(epfd, events, max, timeout));
}

EXPORT int epoll_pwait(int epfd, struct epoll_event *events, int max, int timeout, const sigset_t *mask)
{
	if (nn_kind_of(epfd) != NN_SET)
		return real.epoll_pwait(epfd, events, max, timeout, mask);
	struct nn_io io;
	struct timespec span = {timeout / 1000, timeout % 1000 * 1000000l};
	SERVE_OR_END(io, nn_epoll_wait(&io, epfd, events, max, timeout < 0 ? NULL : &span, mask),
		real.epoll_pwait(epfd, events, max, timeout, mask));
}

EXPORT int epoll_pwait2(int epfd, struct epoll_event *events, int max, const struct timespec *timeout,
	const sigset_t *mask)
{
	if (nn_kind_of(epfd) != NN_SET)
		return real.epoll_pwait2(epfd, events, max, timeout, mask);
	struct nn_io io;
	SERVE_OR_END(io, nn_epoll_wait(&io, epfd, events, max, timeout, mask),
		real.epoll_pwait2(epfd, events, max, timeout, mask));
}
