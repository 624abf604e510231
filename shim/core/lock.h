/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Locks of one end, shared by the threads and (after fork) processes that hold it, and of tables. They hold the
 * holder's thread id, are held for a bounded copy (and, for up to half a second, where a stream must be back on TCP before a call
 * returns), and die with their holder: whoever finds the holder gone takes the lock over. What they guard is committed by one store
 * or compare-and-swap, so there is nothing to repair.
 *
 * No handler of a signal runs on the thread meanwhile: it could wait for a lock whose holder was interrupted by one that waits for
 * ours. But for faults, as of the application's memory in a copy: such a handler, when it asks for the lock that its thread has, gets
 * LOCK_NESTED, and must leave alone what it guards; when it never returns (siglongjmp) the lock is left behind: see lock_take_in.
 */
#ifndef SHIM_CORE_LOCK_H
#define SHIM_CORE_LOCK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "shim/core/signals.h"

enum lock_outcome { LOCK_TAKEN, LOCK_NESTED };

/* lock_take of one that another has. */
void lock_wait(_Atomic uint32_t *lock, uint32_t self);

static inline enum lock_outcome lock_take(_Atomic uint32_t *lock, uint32_t self)
{
	uint32_t holder = 0;
	handlers_keep();
	if (atomic_compare_exchange_strong_explicit(lock, &holder, self, memory_order_acquire, memory_order_relaxed))
		return LOCK_TAKEN;
	if (holder == self) {
		handlers_let();
		return LOCK_NESTED;
	}
	lock_wait(lock, self);
	return LOCK_TAKEN;
}

/* As lock_take, and remembers in *frame where on the stack the holder is, 0 while there is none. The same thread, asking again from no
 * deeper, has left that call by a jump: then the lock is simply its own. For locks that all take so; lock_drop_in ends it. */
enum lock_outcome lock_take_in(_Atomic uint32_t *lock, uint32_t self, uintptr_t *frame);
bool lock_try_in(_Atomic uint32_t *lock, uint32_t self, uintptr_t *frame);

/* Only if it is free. */
static inline bool lock_try(_Atomic uint32_t *lock, uint32_t self)
{
	uint32_t holder = 0;
	handlers_keep();
	if (atomic_compare_exchange_strong_explicit(lock, &holder, self, memory_order_acquire, memory_order_relaxed))
		return true;
	handlers_let();
	return false;
}

static inline void lock_drop(_Atomic uint32_t *lock, enum lock_outcome outcome)
{
	if (outcome == LOCK_NESTED)
		return;
	atomic_store_explicit(lock, 0, memory_order_release);
	handlers_let();
}

static inline void lock_drop_in(_Atomic uint32_t *lock, enum lock_outcome outcome, uintptr_t *frame)
{
	if (outcome != LOCK_NESTED)
		*frame = 0;
	atomic_signal_fence(memory_order_seq_cst);
	lock_drop(lock, outcome);
}

#endif
