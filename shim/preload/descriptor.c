/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Calls on descriptor numbers: close, copy, control. The child of a vfork shares our memory but not our descriptors: its
 * calls go to the kernel and change nothing here. But a socket that it copies, or that it takes close-on-exec from, is meant for
 * the program that it becomes, and goes back to TCP.
 */
#include "shim/preload/preload.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <asm/ioctls.h>
#include <linux/sockios.h>

#include "shim/core/state.h"

EXPORT int close(int fd)
{
	if (!is_tracked(fd) || nn_in_vfork_child())
		return real.close(fd);
	cancellation_point();
	return (int)answer(nn_close(fd));
}
ALIAS(__close, close);

/* Always the core's: what is hidden may lie anywhere in the range. */
EXPORT int close_range(unsigned first, unsigned last, int flags)
{
	if (!nn_fds || first > last || nn_in_vfork_child())
		return real.close_range(first, last, flags);
	return (int)answer(nn_close_range(first, last, (unsigned)flags));
}

EXPORT void closefrom(int first)
{
	int saved = errno;
	if (!nn_fds || nn_in_vfork_child() || nn_close_range(first < 0 ? 0 : (unsigned)first, ~0u, 0) < 0)
		real.closefrom(first);
	errno = saved;
}

/* The child of vfork will be a program that has what `fd` names. */
static void survives_exec(int fd)
{
	if (is_tracked(fd) && nn_in_vfork_child())
		nn_inheriting(fd);
}

void leave_to_stdio(int fd)
{
	if (fd > STDERR_FILENO || !is_stream(fd))
		return;
	int saved = errno;
	nn_stay_tcp(fd, NN_REASON_CALL);
	errno = saved;
}

/* A copy was made: `fd` now names what `old` names. */
static int duplicated(int old, int fd)
{
	if (fd < 0 || fd == old || (!is_tracked(old) && !is_tracked(fd)))
		return fd;
	survives_exec(old);
	if (nn_in_vfork_child())
		return fd;
	nn_duplicated(old, fd);
	leave_to_stdio(fd);
	return fd;
}

EXPORT int dup(int fd)
{
	return duplicated(fd, real.dup(fd));
}

/* Makes room for a copy of `old` at `fd`, if the copy is going to succeed. */
static void make_room(int old, int fd)
{
	int saved = errno;
	if (is_tracked(fd) && old != fd && real.fcntl(old, F_GETFD, 0) >= 0 && !nn_in_vfork_child())
		nn_let_go(fd);
	errno = saved;
}

EXPORT int dup2(int old, int fd)
{
	make_room(old, fd);
	return duplicated(old, real.dup2(old, fd));
}
ALIAS(__dup2, dup2);

EXPORT int dup3(int old, int fd, int flags)
{
	if (!(flags & ~O_CLOEXEC))
		make_room(old, fd);
	return duplicated(old, real.dup3(old, fd, flags));
}

/* Signals on readiness (SIGIO) come from the kernel's socket only. */
static void wants_signals(int fd)
{
	if (is_stream(fd) && !nn_in_vfork_child())
		nn_stay_tcp(fd, NN_REASON_OPTION);
}

static int control(int (*call)(int, int, long), int fd, int command, long argument)
{
	if (command == F_DUPFD || command == F_DUPFD_CLOEXEC)
		return duplicated(fd, call(fd, command, argument));
	if (command == F_SETFL && (argument & O_ASYNC))
		wants_signals(fd);
	if (command == F_SETFD && !(argument & FD_CLOEXEC))
		survives_exec(fd);
	int outcome = call(fd, command, argument);
	if (command == F_SETFL && is_stream(fd))
		nn_flags_changed(fd);
	return outcome;
}

EXPORT int fcntl(int fd, int command, ...)
{
	va_list list;
	va_start(list, command);
	long argument = va_arg(list, long);
	va_end(list);
	return control(real.fcntl, fd, command, argument);
}
ALIAS(__fcntl, fcntl);

EXPORT int fcntl64(int fd, int command, ...)
{
	va_list list;
	va_start(list, command);
	long argument = va_arg(list, long);
	va_end(list);
	return control(real.fcntl64, fd, command, argument);
}

EXPORT int ioctl(int fd, unsigned long request, ...)
{
	va_list list;
	va_start(list, request);
	void *argument = va_arg(list, void *);
	va_end(list);
	if (!is_stream(fd))
		return real.ioctl(fd, request, argument);
	struct nn_io io;
	switch ((unsigned)request) {
	case FIONREAD:
		SERVE(io, nn_inq(&io, fd, argument), real.ioctl(fd, request, argument));
	case SIOCOUTQ:
	case SIOCOUTQNSD:
		SERVE(io, nn_outq(&io, fd, argument), real.ioctl(fd, request, argument));
	case FIONBIO: {
		int outcome = real.ioctl(fd, request, argument);
		nn_flags_changed(fd);
		return outcome;
	}
	case FIONCLEX:
		survives_exec(fd);
		break;
	case FIOASYNC:
		if (*(const int *)argument)
			wants_signals(fd);
		break;
	default:
		break;
	}
	return real.ioctl(fd, request, argument);
}
