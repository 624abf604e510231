/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * stdio. Inside libc a FILE reads, writes and closes by calls that no wrapper sees. So a FILE for a stream is one of
 * fopencookie's, whose functions are our wrappers. It has its descriptor's number besides, for fileno() and all who look
 * there; libc's own functions for cookies never use it. What else tells it from one of fdopen's:
 *
 *   - It has no data for wide characters: it is byte-oriented from the start, and functions of the other kind fail. libc
 *     marks that by an address that must not be used, and freopen uses it; NULL it heeds.
 *   - libc would give it a larger buffer than a socket's, and so read more ahead than programs may expect that use the
 *     descriptor besides the FILE.
 *
 * A TCP socket that is no stream yet has such a FILE too, as it may become one under it. Any other FILE that was there
 * before its descriptor became a stream is libc's: such a stream's descriptor is let go of before libc closes it. For stdin,
 * stdout and stderr, onto which streams are copied, or where connections are made, so that stdio uses them, see descriptor.c.
 */
#include "shim/preload/preload.h"

#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

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

/* ---- FILEs of streams ----------------------------------------------------------------------------------------------- */

#define FILE_BUFFER 4096 /* st_blksize of a socket, which is what fdopen goes by */

/* The cookie is the descriptor's number: freopen takes the FILE from us without a word, so there must be nothing to free. */
static int cookie_fd(void *cookie)
{
	return (int)(intptr_t)cookie;
}

static ssize_t cookie_read(void *cookie, char *buffer, size_t size)
{
	return read(cookie_fd(cookie), buffer, size);
}

/* All of it, as libc does. The count up to the error tells of it; errno says which. */
static ssize_t write_all(int fd, const char *data, size_t size)
{
	size_t done = 0;
	while (done < size) {
		ssize_t outcome = write(fd, data + done, size - done);
		if (outcome < 0)
			break;
		done += (size_t)outcome;
	}
	return (ssize_t)done;
}

static ssize_t cookie_write(void *cookie, const char *data, size_t size)
{
	return write_all(cookie_fd(cookie), data, size);
}

static int cookie_seek(void *cookie, off64_t *offset, int whence)
{
	(void)cookie, (void)offset, (void)whence;
	errno = ESPIPE;
	return -1;
}

static int cookie_close(void *cookie)
{
	/* libc's own makes it no cancellation point. */
	int cancellable;
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancellable);
	int result = close(cookie_fd(cookie));
	pthread_setcancelstate(cancellable, NULL);
	return result;
}

/* As fdopen reads it: one of r, w and a, and a + among the next four. NULL: it refuses. */
static const char *plain_mode(const char *mode)
{
	const char *at = *mode ? strchr("rwa", *mode) : NULL;
	bool both = false;
	for (int i = 1; at && i < 5 && mode[i]; i++)
		both |= mode[i] == '+';
	return !at ? NULL : *at == 'r' ? (both ? "r+" : "r") : *at == 'w' ? (both ? "w+" : "w") : both ? "a+" : "a";
}

static FILE *open_stream(int fd, const char *mode)
{
	static const cookie_io_functions_t functions = {cookie_read, cookie_write, cookie_seek, cookie_close};
	mode = plain_mode(mode);
	if (!mode) {
		errno = EINVAL;
		return NULL;
	}
	int flags = real.fcntl(fd, F_GETFL, 0);
	if (flags < 0 || (*mode == 'a' && !(flags & O_APPEND) && real.fcntl(fd, F_SETFL, flags | O_APPEND) < 0))
		return NULL;
	FILE *file = fopencookie((void *)(intptr_t)fd, mode, functions);
	if (!file)
		return NULL;
	file->_fileno = fd;
	file->_wide_data = NULL;
	/* Placed as libc places the one that it allocates on first use, and freed by it. */
	char *buffer = malloc(FILE_BUFFER);
	if (buffer) {
		file->_IO_buf_base = buffer;
		file->_IO_buf_end = buffer + FILE_BUFFER;
	}
	return file;
}

/* ---- any FILE ------------------------------------------------------------------------------------------------------- */

/* libc closes the descriptor itself: what is still in the FILE's buffer goes out while the core knows it. */
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
	if (nn_fds && file && file->_wide_data) /* else it comes to cookie_close */
		leave(file);
	return real.fclose(file);
}
ALIAS(_IO_fclose, fclose);

static bool is_tcp_socket(int fd)
{
	int saved = errno, domain = 0, protocol = 0;
	socklen_t length = sizeof domain;
	bool known = real.getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &length) == 0 &&
		     real.getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &length) == 0;
	errno = saved;
	return known && (domain == AF_INET || domain == AF_INET6) && protocol == IPPROTO_TCP;
}

EXPORT FILE *fdopen(int fd, const char *mode)
{
	return nn_fds && !nn_confined && (is_stream(fd) || is_tcp_socket(fd)) ? open_stream(fd, mode) : real.fdopen(fd, mode);
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

/* ---- without a FILE ------------------------------------------------------------------------------------------------- */

extern int __vsnprintf_chk(char *text, size_t size, int flag, size_t room, const char *format, va_list list);
extern int __vasprintf_chk(char **text, int flag, const char *format, va_list list);

/* `flag` of the functions with checks, 0: without. */
static int print(int fd, int flag, const char *format, va_list list)
{
	char little[1024]; /* without malloc: handlers of signals print so, though they should not */
	va_list again;
	va_copy(again, list);
	int length = __vsnprintf_chk(little, sizeof little, flag, sizeof little, format, list);
	char *text = little;
	if (length >= (int)sizeof little)
		length = __vasprintf_chk(&text, flag, format, again);
	va_end(again);
	if (length < 0)
		return -1;
	ssize_t done;
	int saved;
	pthread_cleanup_push(free, text == little ? NULL : text);
	done = write_all(fd, text, (size_t)length);
	saved = errno;
	pthread_cleanup_pop(1);
	errno = saved;
	return done == length ? length : -1;
}

EXPORT int vdprintf(int fd, const char *format, va_list list)
{
	return is_stream(fd) ? print(fd, 0, format, list) : real.vdprintf(fd, format, list);
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
	return is_stream(fd) ? print(fd, flag, format, list) : real.__vdprintf_chk(fd, flag, format, list);
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
