/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Locks of one end, shared by the threads and (after fork) processes that hold it. They lie in the end block, hold the
 * holder's thread id, are held only for a bounded copy, never while waiting, and die with their holder: whoever finds
 * the holder gone takes the lock over. What they guard is committed by one compare-and-swap, so there is nothing to repair.
 *
 * A signal handler may interrupt the holder and ask again: it gets LOCK_NESTED, may do a whole call of its own, and must not
 * unlock; the interrupted call finds that its compare-and-swap fails and starts over.
 */
#ifndef SHIM_CORE_LOCK_H
#define SHIM_CORE_LOCK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum lock_outcome { LOCK_TAKEN, LOCK_NESTED };

enum lock_outcome lock_wait(_Atomic uint32_t *lock, uint32_t self);

static inline enum lock_outcome lock_take(_Atomic uint32_t *lock, uint32_t self)
{
	uint32_t holder = 0;
	if (atomic_compare_exchange_strong_explicit(lock, &holder, self, memory_order_acquire, memory_order_relaxed))
		return LOCK_TAKEN;
	if (holder == self)
		return LOCK_NESTED;
	return lock_wait(lock, self);
}

/* Only if it is free. */
static inline bool lock_try(_Atomic uint32_t *lock, uint32_t self)
{
	uint32_t holder = 0;
	return atomic_compare_exchange_strong_explicit(lock, &holder, self, memory_order_acquire, memory_order_relaxed);
}

static inline void lock_drop(_Atomic uint32_t *lock, enum lock_outcome outcome)
{
	if (outcome == LOCK_TAKEN)
		atomic_store_explicit(lock, 0, memory_order_release);
}

#endif
