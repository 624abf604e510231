/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Processes: copies, other programs, the end.
 *
 * A copy of the process runs prepare, parent and child exactly once: for fork, forkpty and daemon by the handlers that
 * start.c registers with libc, as the first (which therefore run after all other libraries' prepare handlers and before their child
 * handlers: those may use streams), for _Fork and clone, which run no handlers, here. The child of vfork has its parent's
 * memory: what it would inherit goes back to TCP before, and what it copies for the program that it becomes, when it does
 * (descriptor.c). For posix_spawn and its kin see spawn.c.
 */
#include "shim/preload/preload.h"

#include <alloca.h>
#include <pty.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>

/* ---- copies --------------------------------------------------------------------------------------------------------- */

EXPORT pid_t _Fork(void)
{
	nn_fork_prepare();
	pid_t pid = real._Fork();
	if (pid == 0) {
		front_forked();
		nn_fork_child();
	} else {
		nn_fork_parent(pid < 0);
	}
	return pid;
}

/* libc puts /dev/null at 0, 1 and 2 by itself. */
EXPORT int daemon(int nochdir, int noclose)
{
	int result = real.daemon(nochdir, noclose);
	if (result == 0 && !noclose)
		for (int fd = 0; fd <= 2; fd++)
			appeared(fd);
	return result;
}

/* In the child the terminal is at 0, 1 and 2. */
EXPORT int forkpty(int *controller, char *name, const struct termios *termios, const struct winsize *size)
{
	int pid = real.forkpty(controller, name, termios, size);
	if (pid == 0)
		for (int fd = 0; fd <= 2; fd++)
			appeared(fd);
	if (pid > 0)
		appeared(*controller);
	return pid;
}

struct task {
	int (*run)(void *);
	void *argument;
};

static int run_copy(void *argument)
{
	const struct task *task = argument;
	front_forked();
	nn_fork_child();
	return task->run(task->argument);
}

/* A child with memory of its own is a fork; one that borrows ours is a spawn; a thread is neither. */
EXPORT int clone(int (*run)(void *), void *stack, int flags, void *argument, ...)
{
	va_list list;
	va_start(list, argument);
	pid_t *parent_tid = va_arg(list, pid_t *);
	void *tls = va_arg(list, void *);
	pid_t *child_tid = va_arg(list, pid_t *);
	va_end(list);
	if (flags & CLONE_VM) {
		if (!(flags & CLONE_THREAD) && nn_fds)
			nn_spawning();
		return real.clone(run, stack, flags, argument, parent_tid, tls, child_tid);
	}
	struct task task = {run, argument};
	nn_fork_prepare();
	int pid = real.clone(run_copy, stack, flags, &task, parent_tid, tls, child_tid);
	nn_fork_parent(pid < 0);
	return pid;
}
ALIAS(__clone, clone);

/* The child returns on its parent's stack frame, so no frame of ours may be on it: a jump to libc's function, after the
 * core was told. */
__attribute__((used)) void *vfork_target(void);
void *vfork_target(void)
{
	static void *target;
	if (!target)
		target = real_symbol("vfork");
	if (nn_fds && !nn_in_vfork_child())
		nn_spawning();
	return target;
}

__asm__(".pushsection .text\n"
	".globl vfork\n"
	".type vfork, @function\n"
	".globl __vfork\n"
	".type __vfork, @function\n"
	"vfork:\n"
	"__vfork:\n"
	".cfi_startproc\n"
#if defined(__x86_64__)
	"endbr64\n"
	"sub $8, %rsp\n"
	".cfi_adjust_cfa_offset 8\n"
	"call vfork_target\n"
	"add $8, %rsp\n"
	".cfi_adjust_cfa_offset -8\n"
	"jmp *%rax\n"
#elif defined(__aarch64__)
	"hint #34\n" /* bti c */
	"stp x29, x30, [sp, #-16]!\n"
	"bl vfork_target\n"
	"mov x16, x0\n"
	"ldp x29, x30, [sp], #16\n"
	"br x16\n"
#endif
	".cfi_endproc\n"
	".size vfork, . - vfork\n"
	".size __vfork, . - __vfork\n"
	".popsection\n");

/* ---- other programs ------------------------------------------------------------------------------------------------- */

/* Whether the core was told: the child of vfork leaves its parent's streams alone, nn_spawning has seen to them. */
static bool exec_begins(void)
{
	if (!nn_fds || nn_in_vfork_child())
		return false;
	nn_exec();
	return true;
}

static int exec_failed(bool told, int result)
{
	if (told) {
		int saved = errno;
		nn_exec_failed();
		errno = saved;
	}
	return result;
}

EXPORT int execv(const char *path, char *const argv[])
{
	bool told = exec_begins();
	return exec_failed(told, real.execv(path, argv));
}

EXPORT int execve(const char *path, char *const argv[], char *const envp[])
{
	bool told = exec_begins();
	return exec_failed(told, real.execve(path, argv, envp));
}

EXPORT int execvp(const char *file, char *const argv[])
{
	bool told = exec_begins();
	return exec_failed(told, real.execvp(file, argv));
}

EXPORT int execvpe(const char *file, char *const argv[], char *const envp[])
{
	bool told = exec_begins();
	return exec_failed(told, real.execvpe(file, argv, envp));
}

EXPORT int fexecve(int fd, char *const argv[], char *const envp[])
{
	bool told = exec_begins();
	return exec_failed(told, real.fexecve(fd, argv, envp));
}

EXPORT int execveat(int at, const char *path, char *const argv[], char *const envp[], int flags)
{
	bool told = exec_begins();
	return exec_failed(told, real.execveat(at, path, argv, envp, flags));
}

/* The list forms: gather the arguments on the stack (these functions may be called in the child of vfork or in a signal
 * handler). `list` is left behind the terminating NULL. */
#define GATHER(argv, first, list) \
	do { \
		va_list count_; \
		size_t n_ = 1; \
		va_copy(count_, list); \
		while (va_arg(count_, char *)) \
			n_++; \
		va_end(count_); \
		argv = alloca((n_ + 1) * sizeof *argv); \
		argv[0] = (char *)(first); \
		for (size_t i_ = 1; i_ <= n_; i_++) \
			argv[i_] = va_arg(list, char *); \
	} while (0)

EXPORT int execl(const char *path, const char *argument, ...)
{
	va_list list;
	char **argv;
	va_start(list, argument);
	GATHER(argv, argument, list);
	va_end(list);
	return execv(path, argv);
}

EXPORT int execlp(const char *file, const char *argument, ...)
{
	va_list list;
	char **argv;
	va_start(list, argument);
	GATHER(argv, argument, list);
	va_end(list);
	return execvp(file, argv);
}

EXPORT int execle(const char *path, const char *argument, ...)
{
	va_list list;
	char **argv;
	va_start(list, argument);
	GATHER(argv, argument, list);
	char *const *envp = va_arg(list, char *const *);
	va_end(list);
	return execve(path, argv, envp);
}

/* ---- threads -------------------------------------------------------------------------------------------------------- */

_Atomic bool any_cancelled;

EXPORT int pthread_cancel(pthread_t thread)
{
	any_cancelled = true;
	return real.pthread_cancel(thread);
}

/* ---- seccomp -------------------------------------------------------------------------------------------------------- */

/* A filter is there (libseccomp and others ask with none what the kernel knows), or there is to be none. */
void filter_begins(bool strict, const void *filter)
{
	int saved = errno;
	if (nn_fds && (strict || filter) && !nn_in_vfork_child())
		nn_confine();
	errno = saved;
}

EXPORT int prctl(int option, ...)
{
	va_list list;
	va_start(list, option);
	unsigned long a = va_arg(list, unsigned long);
	unsigned long b = va_arg(list, unsigned long);
	unsigned long c = va_arg(list, unsigned long);
	unsigned long d = va_arg(list, unsigned long);
	va_end(list);
	if (option == PR_SET_SECCOMP)
		filter_begins(a == SECCOMP_MODE_STRICT, (void *)b);
	return real.prctl(option, a, b, c, d);
}

/* ---- the end -------------------------------------------------------------------------------------------------------- */

static void end_begins(void)
{
	if (nn_fds && !nn_in_vfork_child())
		nn_finish();
}

EXPORT void _exit(int status)
{
	end_begins();
	real._exit(status);
	__builtin_unreachable();
}

EXPORT void _Exit(int status)
{
	end_begins();
	real._Exit(status);
	__builtin_unreachable();
}

EXPORT void quick_exit(int status)
{
	end_begins();
	real.quick_exit(status);
	__builtin_unreachable();
}
