/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Calls that hand out descriptors. A number that comes back while we still know it was closed behind our back (inline
 * system calls, code inside libc): what we knew under it is gone.
 */
#include "shim/preload/preload.h"

#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

static int one(int fd)
{
	appeared(fd);
	return fd;
}

static int two(int result, const int fds[2])
{
	if (result == 0) {
		appeared(fds[0]);
		appeared(fds[1]);
	}
	return result;
}

/* Reads the mode where there is one. */
#define MODE(flags) \
	({ \
		mode_t mode_ = 0; \
		if ((flags) & (O_CREAT | O_TMPFILE)) { \
			va_list list_; \
			va_start(list_, flags); \
			mode_ = va_arg(list_, mode_t); \
			va_end(list_); \
		} \
		mode_; \
	})

EXPORT int open(const char *path, int flags, ...)
{
	return one(real.open(path, flags, MODE(flags)));
}
ALIAS(__open, open);

EXPORT int open64(const char *path, int flags, ...)
{
	return one(real.open64(path, flags, MODE(flags)));
}
ALIAS(__open64, open64);

EXPORT int openat(int at, const char *path, int flags, ...)
{
	return one(real.openat(at, path, flags, MODE(flags)));
}

EXPORT int openat64(int at, const char *path, int flags, ...)
{
	return one(real.openat64(at, path, flags, MODE(flags)));
}

EXPORT int creat(const char *path, mode_t mode)
{
	return one(real.creat(path, mode));
}

EXPORT int creat64(const char *path, mode_t mode)
{
	return one(real.creat64(path, mode));
}

EXPORT int __open_2(const char *path, int flags);
EXPORT int __open_2(const char *path, int flags)
{
	return one(real.__open_2(path, flags));
}

EXPORT int __open64_2(const char *path, int flags);
EXPORT int __open64_2(const char *path, int flags)
{
	return one(real.__open64_2(path, flags));
}

EXPORT int __openat_2(int at, const char *path, int flags);
EXPORT int __openat_2(int at, const char *path, int flags)
{
	return one(real.__openat_2(at, path, flags));
}

EXPORT int __openat64_2(int at, const char *path, int flags);
EXPORT int __openat64_2(int at, const char *path, int flags)
{
	return one(real.__openat64_2(at, path, flags));
}

EXPORT int socket(int domain, int type, int protocol)
{
	uint32_t forks = nn_forks();
	int fd = real.socket(domain, type, protocol);
	nn_made_socket(fd, domain, type, protocol, forks);
	return fd;
}
ALIAS(__socket, socket);

EXPORT int socketpair(int domain, int type, int protocol, int fds[2])
{
	return two(real.socketpair(domain, type, protocol, fds), fds);
}

EXPORT int pipe(int fds[2])
{
	return two(real.pipe(fds), fds);
}
ALIAS(__pipe, pipe);

EXPORT int pipe2(int fds[2], int flags)
{
	return two(real.pipe2(fds, flags), fds);
}

EXPORT int eventfd(unsigned value, int flags)
{
	return one(real.eventfd(value, flags));
}

EXPORT int memfd_create(const char *name, unsigned flags)
{
	return one(real.memfd_create(name, flags));
}

EXPORT int timerfd_create(clockid_t clock_id, int flags)
{
	return one(real.timerfd_create(clock_id, flags));
}

/* With fd != -1 it changes an existing descriptor. */
EXPORT int signalfd(int fd, const sigset_t *mask, int flags)
{
	int result = real.signalfd(fd, mask, flags);
	return fd == -1 ? one(result) : result;
}

EXPORT int inotify_init(void)
{
	return one(real.inotify_init());
}

EXPORT int inotify_init1(int flags)
{
	return one(real.inotify_init1(flags));
}

EXPORT int pidfd_getfd(int pidfd, int fd, unsigned flags)
{
	int result = real.pidfd_getfd(pidfd, fd, flags);
	if (result >= 0 && nn_fds)
		nn_taken(result);
	return result;
}
