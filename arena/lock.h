/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A mutual exclusion for short sections within one process, on a futex.
 *
 * Signals stay blocked while it is held: a signal handler of the application may itself end up in here, and would
 * wait for the thread that it interrupted. It lives in private memory, so no peer and no dead process can hold it.
 */
#ifndef ARENA_LOCK_H
#define ARENA_LOCK_H

#include <linux/futex.h>
#include <signal.h>
#include <stdatomic.h>

#include "sys.h"

struct arena_lock {
	_Atomic uint32_t state; /* 0 free, 1 held, 2 held and somebody may sleep */
	uint64_t signals;       /* the holder's signal mask, as it was before */
};

static inline void arena_lock_take(struct arena_lock *lock)
{
	uint64_t all = ~0ull;
	uint64_t before = 0;
	uint32_t seen = 0;

	arena_sys4(SYS_rt_sigprocmask, SIG_SETMASK, &all, &before, sizeof all);
	/* Acquire: pairs with the release in arena_lock_drop. */
	if (!atomic_compare_exchange_strong_explicit(&lock->state, &seen, 1, memory_order_acquire, memory_order_relaxed))
		while (atomic_exchange_explicit(&lock->state, 2, memory_order_acquire) != 0)
			arena_sys4(SYS_futex, &lock->state, FUTEX_WAIT_PRIVATE, 2, 0);
	lock->signals = before;
}

static inline void arena_lock_drop(struct arena_lock *lock)
{
	uint64_t before = lock->signals;

	if (atomic_exchange_explicit(&lock->state, 0, memory_order_release) == 2)
		arena_sys3(SYS_futex, &lock->state, FUTEX_WAKE_PRIVATE, 1);
	arena_sys4(SYS_rt_sigprocmask, SIG_SETMASK, &before, 0, sizeof before);
}

#endif
