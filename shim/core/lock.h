/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Locks of one end, shared by the threads and (after fork) processes that hold it. They lie in the end block, hold the
 * holder's thread id, are held for a bounded copy (and, for up to half a second, where a stream must be back on TCP before a call
 * returns), and die with their holder: whoever finds the holder gone takes the lock over. What they guard is committed by one store
 * or compare-and-swap, so there is nothing to repair.
 *
 * A signal handler may interrupt the holder and ask again: it gets LOCK_NESTED and must not unlock. What it may do meanwhile is told
 * where it asks. A handler that never returns to the holder (siglongjmp) leaves the lock behind: see lock_take_in.
 */
#ifndef SHIM_CORE_LOCK_H
#define SHIM_CORE_LOCK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* BORROWED: by a handler that interrupted the holder at the edge of its hold, before it did anything or after all was done; to be used as
 * if taken, and left to the holder. */
enum lock_outcome { LOCK_TAKEN, LOCK_NESTED, LOCK_BORROWED };

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

/* As lock_take, and remembers in *frame where on the stack the holder is, 0 while there is none. The same thread, asking again from no
 * deeper, has left that call by a jump: then the lock is simply its own. For locks that all take so; lock_drop_in ends it. */
enum lock_outcome lock_take_in(_Atomic uint32_t *lock, uint32_t self, uintptr_t *frame);
bool lock_try_in(_Atomic uint32_t *lock, uint32_t self, uintptr_t *frame);

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

static inline void lock_drop_in(_Atomic uint32_t *lock, enum lock_outcome outcome, uintptr_t *frame)
{
	if (outcome != LOCK_NESTED)
		*frame = 0;
	atomic_signal_fence(memory_order_seq_cst);
	lock_drop(lock, outcome);
}

#endif
