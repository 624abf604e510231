/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The world as our private jemalloc sees it.
 *
 * jemalloc is linked into a single object whose own names are all local and whose calls to libc are renamed after
 * jemalloc.syms to the functions below (`make` refuses the object when a name is missing there). So, whatever the
 * application does to its own malloc, its environment, its descriptors, its threads:
 *   - no MALLOC_CONF, no /etc/malloc.conf, no file of /proc or /sys is read: the configuration is arena_je_conf;
 *   - no thread is ever started, no handler of fork or exit registered, no thread-specific key taken;
 *   - the mutexes do nothing: jemalloc.c lets one thread in at a time, with a lock that survives fork;
 *   - errno is a private word, and system calls are raw.
 * What only its profiler, its background threads or its error messages would need is a trap or a refusal.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "format.h"
#include "sys.h"

/* dirty_decay_ms: how long the pages of freed rings wait to be used again before they go back to extents.c. */
extern const char *arena_je_conf;
const char *arena_je_conf = "narenas:1,percpu_arena:disabled,tcache:false,retain:false,dss:disabled,"
			    "metadata_thp:disabled,thp:default,background_thread:false,"
			    "dirty_decay_ms:1000,muzzy_decay_ms:0,prof:false,stats_print:false";

/* Declared one by one, as the only caller is an object that knows them under other names. */
#define HOST(type, name, ...)          \
	type arena_je_##name(__VA_ARGS__); \
	type arena_je_##name(__VA_ARGS__)

/* Succeeds by doing nothing, whatever the arguments: all ABIs we know let a callee ignore them. */
#define HOST_IDLE(name)    \
	HOST(long, name, void) \
	{                     \
		return 0;          \
	}

#define HOST_REFUSE(name)  \
	HOST(long, name, void) \
	{                     \
		return -1;         \
	}

#define HOST_TRAP(name)     \
	HOST(void, name, void) \
	{                      \
		__builtin_trap();   \
	}

static int host_errno;

HOST(int *, errno_location, void)
{
	return &host_errno;
}

static long host_result(long result)
{
	if (result < 0 && result >= -4095) {
		host_errno = (int)-result;
		return -1;
	}
	return result;
}

HOST(void *, mmap, void *address, size_t length, int prot, int flags, int fd, off_t offset)
{
	return (void *)host_result(arena_sys6(SYS_mmap, address, length, prot, flags, fd, offset));
}

HOST(int, munmap, void *address, size_t length)
{
	return (int)host_result(arena_sys2(SYS_munmap, address, length));
}

HOST(int, mprotect, void *address, size_t length, int prot)
{
	return (int)host_result(arena_sys3(SYS_mprotect, address, length, prot));
}

HOST(int, madvise, void *address, size_t length, int advice)
{
	return (int)host_result(arena_sys3(SYS_madvise, address, length, advice));
}

HOST(int, clock_gettime, clockid_t clock, struct timespec *now)
{
	return (int)host_result(arena_sys2(SYS_clock_gettime, clock, now));
}

HOST(long, sysconf, int name)
{
	return name == _SC_PAGESIZE ? (long)ARENA_PAGE : 1;
}

/* jemalloc uses it to open and read files and to write messages. */
HOST(long, syscall, long number, ...)
{
	(void)number;
	host_errno = ENOSYS;
	return -1;
}

/* One caller at a time: always the same "thread". */
HOST(unsigned long, pthread_self, void)
{
	return 1;
}

HOST(char *, secure_getenv, const char *name)
{
	(void)name;
	return NULL;
}

HOST(void *, dlsym, void *handle, const char *name)
{
	(void)handle;
	(void)name;
	return NULL;
}

HOST(void *, sbrk, long increment)
{
	(void)increment;
	return (void *)-1;
}

/* No character is a space, a digit, ...: only isspace() is asked, of numbers in arena_je_conf. */
HOST(const unsigned short **, ctype_b_loc, void)
{
	static const unsigned short none[384];
	static const unsigned short *table = none + 128;

	return &table;
}

HOST(int, sched_cpucount, void)
{
	return 1;
}

HOST_IDLE(atexit)
HOST_IDLE(pthread_atfork)
HOST_IDLE(pthread_key_create)
HOST_IDLE(pthread_setspecific)
HOST_IDLE(pthread_mutexattr_init)
HOST_IDLE(pthread_mutexattr_settype)
HOST_IDLE(pthread_mutexattr_destroy)
HOST_IDLE(pthread_mutex_init)
HOST_IDLE(pthread_mutex_lock)
HOST_IDLE(pthread_mutex_trylock)
HOST_IDLE(pthread_mutex_unlock)
HOST_IDLE(pthread_cond_init)
HOST_IDLE(pthread_cond_signal)
HOST_IDLE(sched_getaffinity)
HOST_IDLE(sched_getcpu)
HOST_IDLE(sched_yield)
HOST_IDLE(getpid)

HOST_REFUSE(close)
HOST_REFUSE(creat)
HOST_REFUSE(open)
HOST_REFUSE(readlink)
HOST_REFUSE(sched_setaffinity)

HOST_TRAP(Unwind_Backtrace)
HOST_TRAP(Unwind_GetIP)
HOST_TRAP(abort)
HOST_TRAP(exit)
HOST_TRAP(exp)
HOST_TRAP(gettimeofday)
HOST_TRAP(log)
HOST_TRAP(pthread_cond_timedwait)
HOST_TRAP(pthread_cond_wait)
HOST_TRAP(pthread_create)
HOST_TRAP(pthread_getname_np)
HOST_TRAP(pthread_join)
HOST_TRAP(pthread_setname_np)
HOST_TRAP(pthread_sigmask)
HOST_TRAP(round)
HOST_TRAP(sigfillset)
HOST_TRAP(stack_chk_fail)

/* Only for a message about a failure that has been noticed already. */
HOST(char *, strerror_r, int error, char *text, size_t size)
{
	(void)error;
	if (size)
		text[0] = 0;
	return text;
}
