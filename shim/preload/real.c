/* SPDX-License-Identifier: BSD-2-Clause */
#include "shim/preload/real.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "shim/core/sys.h"

#define KERNEL_SIGSET (_NSIG / 8)

static long outcome_of(long result)
{
	if (result >= 0)
		return result;
	errno = (int)-result;
	return -1;
}

/* ---- system calls that this architecture may not have under the libc function's name ------------------------------- */

static long raw_ppoll(struct pollfd *fds, nfds_t count, const struct timespec *timeout, const sigset_t *mask)
{
	struct timespec copy; /* the kernel writes what is left into it */
	if (timeout)
		copy = *timeout;
	return sys_call5(SYS_ppoll, fds, count, timeout ? &copy : NULL, mask, KERNEL_SIGSET);
}

static long raw_poll(struct pollfd *fds, nfds_t count, int timeout)
{
	struct timespec span = {timeout / 1000, timeout % 1000 * 1000000l};
	return raw_ppoll(fds, count, timeout < 0 ? NULL : &span, NULL);
}

static long raw_pselect(int count, fd_set *in, fd_set *out, fd_set *except, const struct timespec *timeout,
	const sigset_t *mask)
{
	struct timespec copy;
	if (timeout)
		copy = *timeout;
	const struct {
		const sigset_t *mask;
		size_t size;
	} sixth = {mask, KERNEL_SIGSET};
	return sys_call6(SYS_pselect6, count, in, out, except, timeout ? &copy : NULL, &sixth);
}

static long raw_select(int count, fd_set *in, fd_set *out, fd_set *except, struct timeval *timeout)
{
	if (!timeout)
		return raw_pselect(count, in, out, except, NULL, NULL);
	struct timespec span = {timeout->tv_sec, timeout->tv_usec * 1000l};
	const struct {
		const sigset_t *mask;
		size_t size;
	} sixth = {NULL, KERNEL_SIGSET};
	long result = sys_call6(SYS_pselect6, count, in, out, except, &span, &sixth);
	*timeout = (struct timeval){span.tv_sec, span.tv_nsec / 1000};
	return result;
}

static long raw_dup2(int old, int fd)
{
	if (old != fd)
		return sys_call3(SYS_dup3, old, fd, 0);
	long result = sys_call2(SYS_fcntl, old, F_GETFD);
	return result < 0 ? result : fd;
}

/* Not a system call. Its like return what is wrong, not -1. */
static long raw_pidfd_spawn(const int *pidfd, const char *path, const void *actions, const void *attributes,
	char *const argv[], char *const envp[])
{
	(void)pidfd, (void)path, (void)actions, (void)attributes, (void)argv, (void)envp;
	return ENOSYS;
}

/* ---- stand-ins ------------------------------------------------------------------------------------------------------ */

/* Looks a function up for a caller that comes before the constructor. There is nothing to fall back to. */
static void *demand(const char *name)
{
	void *symbol = real_symbol(name);
	if (!symbol)
		abort();
	return symbol;
}

#define CALL(type, name, parameters, arguments, raw) \
	static type early_##name parameters \
	{ \
		return (type)outcome_of(raw); \
	}
#define LIBC(type, name, parameters, arguments) \
	static type early_##name parameters \
	{ \
		real.name = (type(*) parameters)demand(#name); \
		return real.name arguments; \
	}
#define EXPORT_ONLY(name)
#include "shim/preload/calls.x"
#undef CALL
#undef LIBC

struct real real = {
#define CALL(type, name, parameters, arguments, raw) .name = early_##name,
#define LIBC(type, name, parameters, arguments) .name = early_##name,
#include "shim/preload/calls.x"
#undef CALL
#undef LIBC
};

/* ---- loader --------------------------------------------------------------------------------------------------------- */

void *real_symbol(const char *name)
{
	int saved = errno;
	void *symbol = dlsym(RTLD_NEXT, name);
	errno = saved;
	return symbol;
}

/*
 * A name without a version gets libc's default version, which is what every program linked in the last ten years asks
 * for. Each entry is replaced by one aligned store: a signal handler or another library's thread that calls meanwhile
 * finds the stand-in or the real call, never half a pointer.
 */
int real_load(void)
{
	void *symbol;
	if (!real_symbol("gnu_get_libc_version"))
		return -ENOSYS;
#define CALL(type, name, parameters, arguments, raw) \
	symbol = real_symbol(#name); \
	if (symbol) \
		__atomic_store_n(&real.name, (type(*) parameters)symbol, __ATOMIC_RELAXED);
#define LIBC(type, name, parameters, arguments) CALL(type, name, parameters, arguments, 0)
#include "shim/preload/calls.x"
	return 0;
}
