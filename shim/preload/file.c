/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * stdio. Inside libc a FILE reads and writes by calls that no wrapper sees, so a stream that becomes a FILE stays on TCP;
 * and fclose closes its descriptor the same way, so the core lets go of it before.
 */
#include "shim/preload/preload.h"

#include <stdio.h>

#include "shim/core/state.h"

/* The descriptor of a FILE, or -1; errno stays. */
static int number_of(FILE *file)
{
	int saved = errno;
	int fd = file ? fileno_unlocked(file) : -1;
	errno = saved;
	return fd;
}

static FILE *opened(FILE *file)
{
	if (file)
		appeared(number_of(file));
	return file;
}

/* What is still in the FILE's buffer goes out while the descriptor is known. */
static void leave(FILE *file)
{
	int fd = number_of(file);
	if (!is_tracked(fd) || nn_in_vfork_child())
		return;
	int saved = errno;
	fflush(file);
	errno = saved;
	nn_let_go(fd);
}

EXPORT int fclose(FILE *file)
{
	if (nn_fds)
		leave(file);
	return real.fclose(file);
}
ALIAS(_IO_fclose, fclose);

EXPORT FILE *fdopen(int fd, const char *mode)
{
	if (is_stream(fd))
		nn_stay_tcp(fd, NN_REASON_CALL);
	return real.fdopen(fd, mode);
}
ALIAS(_IO_fdopen, fdopen);

EXPORT FILE *fopen(const char *path, const char *mode)
{
	return opened(real.fopen(path, mode));
}

EXPORT FILE *fopen64(const char *path, const char *mode)
{
	return opened(real.fopen64(path, mode));
}

EXPORT FILE *freopen(const char *path, const char *mode, FILE *file)
{
	if (nn_fds)
		leave(file);
	return opened(real.freopen(path, mode, file));
}

EXPORT FILE *freopen64(const char *path, const char *mode, FILE *file)
{
	if (nn_fds)
		leave(file);
	return opened(real.freopen64(path, mode, file));
}

EXPORT int vdprintf(int fd, const char *format, va_list list)
{
	if (is_stream(fd))
		nn_stay_tcp(fd, NN_REASON_CALL);
	return real.vdprintf(fd, format, list);
}

EXPORT int dprintf(int fd, const char *format, ...)
{
	va_list list;
	va_start(list, format);
	int result = vdprintf(fd, format, list);
	va_end(list);
	return result;
}

EXPORT int __vdprintf_chk(int fd, int flag, const char *format, va_list list);
EXPORT int __vdprintf_chk(int fd, int flag, const char *format, va_list list)
{
	if (is_stream(fd))
		nn_stay_tcp(fd, NN_REASON_CALL);
	return real.__vdprintf_chk(fd, flag, format, list);
}

EXPORT int __dprintf_chk(int fd, int flag, const char *format, ...);
EXPORT int __dprintf_chk(int fd, int flag, const char *format, ...)
{
	va_list list;
	va_start(list, format);
	int result = __vdprintf_chk(fd, flag, format, list);
	va_end(list);
	return result;
}
