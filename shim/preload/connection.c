/* SPDX-License-Identifier: BSD-2-Clause */
/* The life of a connection. The kernel makes every one of these calls; the core is told. */
#include "shim/preload/preload.h"

EXPORT int listen(int fd, int backlog)
{
	int result = real.listen(fd, backlog);
	if (result == 0 && nn_fds)
		nn_listening(fd);
	return result;
}

/* Also from a listener that we do not know: it may have been inherited or received. */
static int accepted(int listener, int fd, uint32_t forks)
{
	if (fd >= 0 && nn_fds) {
		appeared(fd);
		nn_accepted(listener, fd, forks);
		leave_to_stdio(fd);
	}
	return fd;
}

EXPORT int accept(int fd, __SOCKADDR_ARG address, socklen_t *length)
{
	uint32_t forks = nn_forks();
	return accepted(fd, real.accept(fd, address, length), forks);
}

EXPORT int accept4(int fd, __SOCKADDR_ARG address, socklen_t *length, int flags)
{
	uint32_t forks = nn_forks();
	return accepted(fd, real.accept4(fd, address, length, flags), forks);
}

/* Addresses of other families concern only what is tracked already (AF_UNSPEC dissolves a connection). */
static bool concerns_us(int fd, const struct sockaddr *address, socklen_t length)
{
	if (is_tracked(fd))
		return true;
	return nn_fds && address && length >= sizeof address->sa_family &&
	       (address->sa_family == AF_INET || address->sa_family == AF_INET6);
}

static void connect_cancelled(void *fd)
{
	nn_connected(*(int *)fd, -EINTR);
}

EXPORT int connect(int fd, __CONST_SOCKADDR_ARG address, socklen_t length)
{
	if (!concerns_us(fd, address.__sockaddr__, length))
		return real.connect(fd, address, length);
	int result;
	nn_connecting(fd, address.__sockaddr__, length);
	pthread_cleanup_push(connect_cancelled, &fd);
	result = real.connect(fd, address, length);
	pthread_cleanup_pop(0);
	if (result == 0 && address.__sockaddr__->sa_family == AF_UNSPEC)
		nn_dissolved(fd);
	else
		nn_connected(fd, result < 0 ? -errno : 0);
	leave_to_stdio(fd);
	return result;
}
ALIAS(__connect, connect);

EXPORT int shutdown(int fd, int how)
{
	if (!is_stream(fd))
		return real.shutdown(fd, how);
	return (int)answer(nn_shutdown(fd, how));
}

EXPORT int getsockopt(int fd, int level, int option, void *value, socklen_t *length)
{
	if (!is_stream(fd))
		return real.getsockopt(fd, level, option, value, length);
	struct nn_io io;
	SERVE(io, nn_getsockopt(&io, fd, level, option, value, length),
		real.getsockopt(fd, level, option, value, length));
}

EXPORT int setsockopt(int fd, int level, int option, const void *value, socklen_t length)
{
	int result = real.setsockopt(fd, level, option, value, length);
	if (result == 0 && is_stream(fd))
		nn_setsockopt(fd, level, option, value, length);
	return result;
}
