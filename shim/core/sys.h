/* SPDX-License-Identifier: BSD-2-Clause */
/* Raw system calls: -errno on failure, no libc state touched. */
#ifndef SHIM_CORE_SYS_H
#define SHIM_CORE_SYS_H

#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>

static inline long sys6(long nr, long a, long b, long c, long d, long e, long f)
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

#define SYS_ARG(x) ((long)(x))
#define sys_call0(nr) sys6(nr, 0, 0, 0, 0, 0, 0)
#define sys_call1(nr, a) sys6(nr, SYS_ARG(a), 0, 0, 0, 0, 0)
#define sys_call2(nr, a, b) sys6(nr, SYS_ARG(a), SYS_ARG(b), 0, 0, 0, 0)
#define sys_call3(nr, a, b, c) sys6(nr, SYS_ARG(a), SYS_ARG(b), SYS_ARG(c), 0, 0, 0)
#define sys_call4(nr, a, b, c, d) sys6(nr, SYS_ARG(a), SYS_ARG(b), SYS_ARG(c), SYS_ARG(d), 0, 0)
#define sys_call5(nr, a, b, c, d, e) sys6(nr, SYS_ARG(a), SYS_ARG(b), SYS_ARG(c), SYS_ARG(d), SYS_ARG(e), 0)
#define sys_call6(nr, a, b, c, d, e, f) \
	sys6(nr, SYS_ARG(a), SYS_ARG(b), SYS_ARG(c), SYS_ARG(d), SYS_ARG(e), SYS_ARG(f))

/* True for what mmap returned when it failed. */
static inline int sys_failed(const void *address)
{
	return (uintptr_t)address >= (uintptr_t)-4095l;
}

#endif
