/* SPDX-License-Identifier: BSD-2-Clause */
/* What the wrappers share. */
#ifndef SHIM_PRELOAD_PRELOAD_H
#define SHIM_PRELOAD_PRELOAD_H

#include <errno.h>
#include <linux/aio_abi.h>
#include <pthread.h>
#include <stdbool.h>

#include "shim/core/nn.h"
#include "shim/preload/real.h"

#define EXPORT __attribute__((visibility("default")))

/* A second name of a function of the same file. */
#if __has_attribute(copy)
#define SAME_ATTRIBUTES(name) , copy(name)
#else
#define SAME_ATTRIBUTES(name)
#endif
#define ALIAS(alias_name, name) \
	EXPORT extern __typeof__(name) alias_name __attribute__((alias(#name) SAME_ATTRIBUTES(name)))

/* libaio's: glibc has no header for it. */
int io_submit(aio_context_t context, long count, struct iocb **list);

static inline bool is_stream(int fd)
{
	return __builtin_expect(nn_kind_of(fd) == NN_STREAM, 0);
}

static inline bool is_tracked(int fd)
{
	return __builtin_expect(nn_kind_of(fd) != NN_NONE, 0);
}

/* The core's answer in libc's convention. */
static inline long answer(long result)
{
	if (result >= 0)
		return result;
	errno = (int)-result;
	return -1;
}

/* In guard.c: what is undone when the thread leaves a call by a jump, is cancelled in it, or ends. */
void guard_set(struct nn_guard *guard);
void guard_unset(struct nn_guard *guard);
void guard_left(void *guard); /* by a C++ exception, which takes compiled cleanups alone */

/* The result of a call in libc's convention: the core's, or, where that says NN_RAW, of the real call. `io` is that of the core's. */
#define SERVED(io, core, call) \
	({ \
		long outcome_; \
		struct nn_guard guard_ = {.undo = nn_abandon, .data = &(io)}; \
		(io).stream = NULL; \
		guard_set(&guard_); \
		pthread_cleanup_push(guard_left, &guard_); \
		if ((core) == NN_DONE) { \
			outcome_ = (io).result; \
		} else { \
			outcome_ = (call); \
			outcome_ = nn_raw_done(&(io), outcome_ < 0 ? -errno : outcome_); \
		} \
		pthread_cleanup_pop(0); \
		guard_unset(&guard_); \
		answer(outcome_); \
	})

/* The usual shape of a wrapper's tail: the core serves the call, or says that the kernel shall. */
#define SERVE(io, core, call) return (__typeof__(call))SERVED(io, core, call)

/* Where libc's function is a cancellation point: a thread that was cancelled before ends here, even if there is nothing to wait for. Most
 * programs never cancel any. */
extern _Atomic bool any_cancelled; /* in process.c */

static inline void cancellation_point(void)
{
	if (__builtin_expect(__atomic_load_n((bool *)&any_cancelled, __ATOMIC_RELAXED), 0))
		pthread_testcancel();
}

#define SERVE_OR_END(io, core, call) \
	do { \
		cancellation_point(); \
		SERVE(io, core, call); \
	} while (0)

/* A call has handed out descriptor `fd` (or failed). */
static inline void appeared(int fd)
{
	if (is_tracked(fd) && !nn_in_vfork_child())
		nn_appeared(fd);
}

/* What stdio does with 0, 1 and 2 no wrapper sees: a stream that got there stays on TCP. In descriptor.c. */
void leave_to_stdio(int fd);

/* In process.c: seccomp. */
void filter_begins(bool strict, const void *filter);

/* In signals.c: what stands in front of the program's handlers, and what it has counted on this thread. */
void signals_counting(int number, siginfo_t *info, void *context);
struct nn_ran signals_of_thread(void);
void signals_sleeps(struct timespec *limit);

/* No handler runs on this thread in between. */
void signals_keep(void);
void signals_let(void);

/* The program has made the system call rt_sigaction itself: it changed a handler, or has the old one in *old (or NULL). */
void signals_asked(int number, bool changed, void *old);

/* In start.c: the child of a fork that no handler of libc's has seen. */
void front_forked(void);

#endif
