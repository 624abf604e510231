/* SPDX-License-Identifier: BSD-2-Clause */
#include "shim/core/lock.h"

#include <signal.h>

#include "shim/core/alive.h"
#include "shim/core/clock.h"
#include "shim/core/sys.h"

#define SPINS 200u
#define YIELDS 100u

void lock_wait(_Atomic uint32_t *lock, uint32_t self)
{
	for (unsigned turn = 1;; turn++) {
		uint32_t holder = 0;
		if (atomic_compare_exchange_weak_explicit(lock, &holder, self, memory_order_acquire, memory_order_relaxed))
			return;
		if (turn < SPINS) {
			cpu_relax();
			continue;
		}
		if (turn < SPINS + YIELDS) {
			sys_call0(SYS_sched_yield);
			continue;
		}
		/* The holder may be of a lesser priority, which no yield helps. */
		struct timespec nap = {0, 20000};
		sys_call2(SYS_nanosleep, &nap, NULL);
		/* A holder that is merely off its core comes back; one that was killed does not. */
		if (turn % 32 == 0 && holder && thread_gone(holder) &&
			atomic_compare_exchange_strong_explicit(lock, &holder, self, memory_order_acquire, memory_order_relaxed))
			return;
	}
}

/* A handler on a stack of its own is neither above nor below anything. */
static bool on_other_stack(void)
{
	stack_t stack = {0};
	return sys_call2(SYS_sigaltstack, NULL, &stack) == 0 && (stack.ss_flags & SS_ONSTACK);
}

enum lock_outcome lock_take_in(_Atomic uint32_t *lock, uint32_t self, uintptr_t *frame)
{
	enum lock_outcome outcome = lock_take(lock, self);
	uintptr_t here = (uintptr_t)__builtin_frame_address(0);
	if (outcome == LOCK_NESTED && *frame && here >= *frame && !on_other_stack()) {
		handlers_keep();
		outcome = LOCK_TAKEN;
	}
	if (outcome != LOCK_NESTED)
		*frame = here;
	atomic_signal_fence(memory_order_seq_cst);
	return outcome;
}

bool lock_try_in(_Atomic uint32_t *lock, uint32_t self, uintptr_t *frame)
{
	if (!lock_try(lock, self))
		return false;
	*frame = (uintptr_t)__builtin_frame_address(0);
	atomic_signal_fence(memory_order_seq_cst);
	return true;
}
