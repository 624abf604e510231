/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Raw system calls: -errno on failure, no libc state touched, no symbol that an interposer could take over.
 */
#ifndef ARENA_SYS_H
#define ARENA_SYS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/syscall.h>

static inline long arena_sys(long nr, long a, long b, long c, long d, long e, long f)
{
#if defined(__x86_64__)
	long result;
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;
	__asm__ volatile("syscall"
			 : "=a"(result)
			 : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return result;
#elif defined(__aarch64__)
	register long x8 __asm__("x8") = nr;
	register long x0 __asm__("x0") = a;
	register long x1 __asm__("x1") = b;
	register long x2 __asm__("x2") = c;
	register long x3 __asm__("x3") = d;
	register long x4 __asm__("x4") = e;
	register long x5 __asm__("x5") = f;
	__asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory");
	return x0;
#else
#error "system calls of this architecture are not known here"
#endif
}

#define arena_sys1(nr, a) arena_sys(nr, (long)(a), 0, 0, 0, 0, 0)
#define arena_sys2(nr, a, b) arena_sys(nr, (long)(a), (long)(b), 0, 0, 0, 0)
#define arena_sys3(nr, a, b, c) arena_sys(nr, (long)(a), (long)(b), (long)(c), 0, 0, 0)
#define arena_sys4(nr, a, b, c, d) arena_sys(nr, (long)(a), (long)(b), (long)(c), (long)(d), 0, 0)
#define arena_sys6(nr, a, b, c, d, e, f) \
	arena_sys(nr, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f))

/* Maps memory: *address, or -errno. */
static inline int arena_sys_mmap(void **address, uint64_t length, int prot, int flags, int fd, uint64_t offset)
{
	long result = arena_sys6(SYS_mmap, 0, length, prot, flags, fd, offset);

	if (result < 0 && result >= -4095)
		return (int)result;
	*address = (void *)result;
	return 0;
}

static inline void arena_sys_munmap(const void *address, uint64_t length)
{
	arena_sys2(SYS_munmap, address, length);
}

static inline void arena_sys_close(int fd)
{
	arena_sys1(SYS_close, fd);
}

#endif
