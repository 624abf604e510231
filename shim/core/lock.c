/* SPDX-License-Identifier: BSD-2-Clause */
#include "shim/core/lock.h"

#include "shim/core/alive.h"
#include "shim/core/clock.h"
#include "shim/core/sys.h"

enum lock_outcome lock_wait(_Atomic uint32_t *lock, uint32_t self)
{
	for (unsigned turn = 1;; turn++) {
		uint32_t holder = 0;
		if (atomic_compare_exchange_weak_explicit(lock, &holder, self, memory_order_acquire, memory_order_relaxed))
			return LOCK_TAKEN;
		if (turn < 200) {
			cpu_relax();
			continue;
		}
		sys_call0(SYS_sched_yield);
		/* A holder that is merely off its core comes back; one that was killed does not. */
		if (turn % 256 == 0 && holder && thread_gone(holder) &&
			atomic_compare_exchange_strong_explicit(lock, &holder, self, memory_order_acquire, memory_order_relaxed))
			return LOCK_TAKEN;
	}
}
