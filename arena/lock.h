/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A mutual exclusion for short sections within one process, on a futex.
 *
 * No handler of a signal runs while it is held: a handler of the application may itself end up in here, and would wait for the
 * thread that it interrupted. Either who uses us holds handlers back (arena_handlers), or signals are blocked. It lives in
 * private memory, so no peer and no dead process can hold it.
 */
#ifndef ARENA_LOCK_H
#define ARENA_LOCK_H

#include <linux/futex.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "arena.h"
#include "sys.h"

/* A stretch of a thread's work that no handler may interrupt. */
struct arena_section {
	uint64_t signals; /* the mask before, when they are blocked */
};

static inline struct arena_section arena_section_begin(void)
{
	const uint64_t all = ~0ull;
	struct arena_section section = {0};

	if (arena_handlers.keep)
		arena_handlers.keep();
	else
		arena_sys4(SYS_rt_sigprocmask, SIG_SETMASK, &all, &section.signals, sizeof all);
	return section;
}

static inline void arena_section_end(struct arena_section section)
{
	if (arena_handlers.keep)
		arena_handlers.let();
	else
		arena_sys4(SYS_rt_sigprocmask, SIG_SETMASK, &section.signals, 0, sizeof section.signals);
}

struct arena_lock {
	_Atomic uint32_t state;      /* 0 free, 1 held, 2 held and somebody may sleep */
	struct arena_section holder; /* the holder's */
};

static inline void arena_lock_take(struct arena_lock *lock)
{
	struct arena_section section = arena_section_begin();
	uint32_t seen = 0;

	/* Acquire: pairs with the release in arena_lock_drop. */
	if (!atomic_compare_exchange_strong_explicit(&lock->state, &seen, 1, memory_order_acquire, memory_order_relaxed))
		while (atomic_exchange_explicit(&lock->state, 2, memory_order_acquire) != 0)
			arena_sys4(SYS_futex, &lock->state, FUTEX_WAIT_PRIVATE, 2, 0);
	lock->holder = section;
}

static inline void arena_lock_drop(struct arena_lock *lock)
{
	struct arena_section section = lock->holder;

	if (atomic_exchange_explicit(&lock->state, 0, memory_order_release) == 2)
		arena_sys3(SYS_futex, &lock->state, FUTEX_WAKE_PRIVATE, 1);
	arena_section_end(section);
}

#endif
