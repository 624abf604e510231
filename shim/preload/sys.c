/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The function `syscall`: programs use it for what their libc lacks, and some (libuv) to go around libc's cancellation
 * points. Calls that may concern a tracked descriptor take the same way as their libc functions, with cancellation
 * switched off, because `syscall` is no cancellation point; all others go on to libc.
 *
 * io_uring would move bytes where nobody sees them. Programs that offer it take ENOSYS for "this kernel has none".
 */
#include "shim/preload/preload.h"

#include <linux/seccomp.h>
#include <sched.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/sendfile.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "shim/core/sys.h"

/* The kernel's signal masks are shorter than libc's. NULL stays NULL. */
static const sigset_t *long_mask(sigset_t *copy, const void *mask)
{
	if (!mask)
		return NULL;
	memset(copy, 0, sizeof *copy);
	memcpy(copy, mask, _NSIG / 8);
	return copy;
}

/* clone, clone3, fork and vfork with memory of the child's own. (A vfork that comes this way would return on a stack
 * frame of ours, so it gets a copy of the memory, which POSIX lets it have.) */
static long fork_by_number(long number, long a, long b, long c, long d, long e)
{
#ifdef SYS_vfork
	if (number == SYS_vfork)
		number = SYS_fork;
#endif
	nn_fork_prepare();
	long result = sys_call5(number, a, b, c, d, e);
	if (result == 0) {
		front_forked();
		nn_fork_child();
	} else {
		nn_fork_parent(result < 0);
	}
	return answer(result);
}

struct masked { /* the sixth argument of pselect6 */
	const void *mask;
	size_t size;
};

#define IF(condition, call) \
	if (condition) { \
		int cancellable_; \
		pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancellable_); \
		*result = (long)(call); \
		pthread_setcancelstate(cancellable_, NULL); \
		return true; \
	} \
	return false

/* True: served, *result is what `syscall` returns. */
static bool route(long *result, long number, long a, long b, long c, long d, long e, long f)
{
	const int fd = (int)a;
	sigset_t mask;
	switch (number) {
	case SYS_read: IF(is_tracked(fd), read(fd, (void *)b, (size_t)c));
	case SYS_write: IF(is_tracked(fd), write(fd, (void *)b, (size_t)c));
	case SYS_readv: IF(is_tracked(fd), readv(fd, (void *)b, (int)c));
	case SYS_writev: IF(is_tracked(fd), writev(fd, (void *)b, (int)c));
	case SYS_preadv2: IF(is_tracked(fd), preadv2(fd, (void *)b, (int)c, d, (int)f));
	case SYS_pwritev2: IF(is_tracked(fd), pwritev2(fd, (void *)b, (int)c, d, (int)f));
	case SYS_sendto: IF(is_tracked(fd), sendto(fd, (void *)b, (size_t)c, (int)d, (struct sockaddr *)e, (socklen_t)f));
	case SYS_recvfrom: IF(is_tracked(fd), recvfrom(fd, (void *)b, (size_t)c, (int)d, (struct sockaddr *)e, (void *)f));
	case SYS_sendmsg: IF(true, sendmsg(fd, (void *)b, (int)c));
	case SYS_recvmsg: IF(true, recvmsg(fd, (void *)b, (int)c));
	case SYS_sendmmsg: IF(true, sendmmsg(fd, (void *)b, (unsigned)c, (int)d));
	case SYS_recvmmsg: IF(true, recvmmsg(fd, (void *)b, (unsigned)c, (int)d, (void *)e));
	case SYS_sendfile: IF(is_tracked(fd), sendfile(fd, (int)b, (void *)c, (size_t)d));
	case SYS_splice:
		IF(is_tracked(fd) || is_tracked((int)c), splice(fd, (void *)b, (int)c, (void *)d, (size_t)e, (unsigned)f));
	case SYS_ppoll: IF(true, ppoll((void *)a, (nfds_t)b, (void *)c, long_mask(&mask, (void *)d)));
	case SYS_pselect6:
		IF(true, pselect((int)a, (void *)b, (void *)c, (void *)d, (void *)e,
				 long_mask(&mask, f ? ((const struct masked *)f)->mask : NULL)));
	case SYS_epoll_create1: IF(true, epoll_create1((int)a));
	case SYS_epoll_ctl: IF(true, epoll_ctl(fd, (int)b, (int)c, (void *)d));
	case SYS_epoll_pwait: IF(is_tracked(fd), epoll_pwait(fd, (void *)b, (int)c, (int)d, long_mask(&mask, (void *)e)));
	case SYS_epoll_pwait2: IF(is_tracked(fd), epoll_pwait2(fd, (void *)b, (int)c, (void *)d, long_mask(&mask, (void *)e)));
	case SYS_close: IF(is_tracked(fd), close(fd));
	case SYS_close_range: IF(true, close_range((unsigned)a, (unsigned)b, (int)c));
	case SYS_dup: IF(true, dup(fd));
	case SYS_dup3: IF(true, dup3(fd, (int)b, (int)c));
	case SYS_fcntl: IF(true, fcntl(fd, (int)b, c));
	case SYS_ioctl: IF(is_tracked(fd), ioctl(fd, (unsigned long)b, (void *)c));
	case SYS_listen: IF(true, listen(fd, (int)b));
	case SYS_accept: IF(true, accept(fd, (struct sockaddr *)b, (void *)c));
	case SYS_accept4: IF(true, accept4(fd, (struct sockaddr *)b, (void *)c, (int)d));
	case SYS_connect: IF(true, connect(fd, (struct sockaddr *)b, (socklen_t)c));
	case SYS_shutdown: IF(is_tracked(fd), shutdown(fd, (int)b));
	case SYS_getsockopt: IF(is_tracked(fd), getsockopt(fd, (int)b, (int)c, (void *)d, (void *)e));
	case SYS_setsockopt: IF(is_tracked(fd), setsockopt(fd, (int)b, (int)c, (void *)d, (socklen_t)e));
	case SYS_execve: IF(true, execve((void *)a, (void *)b, (void *)c));
	case SYS_execveat: IF(true, execveat((int)a, (void *)b, (void *)c, (void *)d, (int)e));
	case SYS_clone:
	case SYS_clone3: IF(true, fork_by_number(number, a, b, c, d, e));
	case SYS_pidfd_getfd: IF(true, pidfd_getfd(fd, (int)b, (unsigned)c));
	case SYS_io_submit: IF(true, answer(io_submit((aio_context_t)a, b, (void *)c)));
	case SYS_io_uring_setup: IF(true, answer(-ENOSYS));
#ifdef SYS_poll /* calls that newer architectures do without */
	case SYS_poll: IF(true, poll((void *)a, (nfds_t)b, (int)c));
	case SYS_select: IF(true, select((int)a, (void *)b, (void *)c, (void *)d, (void *)e));
	case SYS_epoll_create: IF(true, epoll_create((int)a));
	case SYS_epoll_wait: IF(is_tracked(fd), epoll_wait(fd, (void *)b, (int)c, (int)d));
	case SYS_dup2: IF(true, dup2(fd, (int)b));
	case SYS_fork:
	case SYS_vfork: IF(true, fork_by_number(number, a, b, c, d, e));
#endif
	default: return false;
	}
}

/* Calls that hand out a descriptor. */
static bool makes_descriptor(long number)
{
	switch (number) {
	case SYS_openat:
	case SYS_openat2:
	case SYS_socket:
	case SYS_eventfd2:
	case SYS_memfd_create:
	case SYS_timerfd_create:
	case SYS_inotify_init1:
	case SYS_pidfd_open:
#ifdef SYS_open
	case SYS_open:
	case SYS_creat:
	case SYS_eventfd:
#endif
		return true;
	default:
		return false;
	}
}

__attribute__((used)) long syscall_routed(long number, long a, long b, long c, long d, long e, long f);
long syscall_routed(long number, long a, long b, long c, long d, long e, long f)
{
	if (!nn_fds)
		return real.syscall(number, a, b, c, d, e, f);
	if (number == SYS_exit_group && !nn_in_vfork_child())
		nn_finish();
	if (number == SYS_seccomp && (a == SECCOMP_SET_MODE_STRICT || a == SECCOMP_SET_MODE_FILTER))
		filter_begins(a == SECCOMP_SET_MODE_STRICT, (void *)c);
	if (number == SYS_prctl && a == PR_SET_SECCOMP)
		filter_begins(b == SECCOMP_MODE_STRICT, (void *)c);
	long result;
	if (route(&result, number, a, b, c, d, e, f))
		return result;
	result = real.syscall(number, a, b, c, d, e, f);
	if (makes_descriptor(number))
		appeared((int)result);
	else if (number == SYS_rt_sigaction && result == 0)
		signals_asked((int)a, b, (void *)c);
	return result;
}

/* clone and clone3 with memory shared: a thread, or a child that becomes another program. */
__attribute__((used)) void syscall_shares(unsigned long flags);
void syscall_shares(unsigned long flags)
{
	if (nn_fds && !(flags & CLONE_THREAD) && !nn_in_vfork_child())
		nn_spawning();
}

/* Makes a call whose child returns on another stack, or on the parent's frame: none of ours may be on either. */
__attribute__((used)) long syscall_failed(long result);
long syscall_failed(long result)
{
	return answer(result);
}

_Static_assert(CLONE_VM == 0x100, "the code below tests bit 8");
#if defined(__x86_64__)
_Static_assert(SYS_clone == 56 && SYS_clone3 == 435, "the code below compares with these");
#elif defined(__aarch64__)
_Static_assert(SYS_clone == 220 && SYS_clone3 == 435, "the code below compares with these");
#endif

__asm__(".pushsection .text\n"
	".globl syscall\n"
	".type syscall, @function\n"
	"syscall:\n"
	".cfi_startproc\n"
#if defined(__x86_64__)
	"endbr64\n"
	"cmp $56, %rdi\n"
	"je 1f\n"
	"cmp $435, %rdi\n"
	"je 2f\n"
	"jmp syscall_routed\n"
	"1: mov %rsi, %rax\n"
	"jmp 3f\n"
	"2: mov (%rsi), %rax\n"
	"3: test $0x100, %eax\n"
	"jz syscall_routed\n"
	"sub $56, %rsp\n"
	".cfi_adjust_cfa_offset 56\n"
	"mov %rdi, (%rsp)\n"
	"mov %rsi, 8(%rsp)\n"
	"mov %rdx, 16(%rsp)\n"
	"mov %rcx, 24(%rsp)\n"
	"mov %r8, 32(%rsp)\n"
	"mov %r9, 40(%rsp)\n"
	"mov %rax, %rdi\n"
	"call syscall_shares\n"
	"mov (%rsp), %rdi\n"
	"mov 8(%rsp), %rsi\n"
	"mov 16(%rsp), %rdx\n"
	"mov 24(%rsp), %rcx\n"
	"mov 32(%rsp), %r8\n"
	"mov 40(%rsp), %r9\n"
	"add $56, %rsp\n"
	".cfi_adjust_cfa_offset -56\n"
	"mov %rdi, %rax\n"
	"mov %rsi, %rdi\n"
	"mov %rdx, %rsi\n"
	"mov %rcx, %rdx\n"
	"mov %r8, %r10\n"
	"mov %r9, %r8\n"
	"mov 8(%rsp), %r9\n"
	"syscall\n"
	"cmp $-4095, %rax\n"
	"jae 4f\n"
	"ret\n"
	"4: mov %rax, %rdi\n"
	"jmp syscall_failed\n"
#elif defined(__aarch64__)
	"hint #34\n" /* bti c */
	"cmp x0, #220\n"
	"b.eq 1f\n"
	"cmp x0, #435\n"
	"b.eq 2f\n"
	"b syscall_routed\n"
	"1: mov x9, x1\n"
	"b 3f\n"
	"2: ldr x9, [x1]\n"
	"3: tbnz x9, #8, 4f\n"
	"b syscall_routed\n"
	"4:\n"
	"stp x29, x30, [sp, #-80]!\n"
	".cfi_adjust_cfa_offset 80\n"
	"stp x0, x1, [sp, #16]\n"
	"stp x2, x3, [sp, #32]\n"
	"stp x4, x5, [sp, #48]\n"
	"str x6, [sp, #64]\n"
	"mov x0, x9\n"
	"bl syscall_shares\n"
	"ldp x0, x1, [sp, #16]\n"
	"ldp x2, x3, [sp, #32]\n"
	"ldp x4, x5, [sp, #48]\n"
	"ldr x6, [sp, #64]\n"
	"ldp x29, x30, [sp], #80\n"
	".cfi_adjust_cfa_offset -80\n"
	"mov x8, x0\n"
	"mov x0, x1\n"
	"mov x1, x2\n"
	"mov x2, x3\n"
	"mov x3, x4\n"
	"mov x4, x5\n"
	"mov x5, x6\n"
	"svc #0\n"
	"cmn x0, #4095\n"
	"b.cs syscall_failed\n"
	"ret\n"
#endif
	".cfi_endproc\n"
	".size syscall, . - syscall\n"
	".popsection\n");
