/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * When to spin, and for how long.
 *
 *   for (bool turn = spin_begin(&spin, &waiter, &history); !ready(); )
 *           if (!turn || !(turn = spin_turn(&spin)))
 *                   sleep
 *   spin_end(&spin, hit);
 *
 * A waiter spins up to NOTNETS_SPIN (a tenth of that where fewer than a quarter of the last waits ended so) and offers its core to others (sched_yield) every microsecond. It does not begin while
 *   - more threads are runnable in the machine than it has cores and two, spinners known to us not counted, or
 *   - a quiet time runs: a yield that took 2.5 ms means that somebody computes on this core; then nobody of this process
 *     spins for 10 ms, twice as long each time it happens again, up to 400 ms.
 * A handler that runs while we spin must end the wait, as it ends the system call's sleep: the front end counts those that do. Where
 * there are others (raw system calls have set them), signals are blocked from the third microsecond on, and looked for at the
 * end; before that the wait is no longer than the moment that every program leaves between looking at its flag and calling the
 * kernel.
 *
 * Measured on two cores against fixed spinning and none, see bench/.
 */
#ifndef SHIM_SPIN_H
#define SHIM_SPIN_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "shim/core/signals.h"
#include "shim/wait/waiter.h"

struct spin {
	const struct waiter *waiter;
	_Atomic uint32_t *history;
	uint64_t budget;
	uint64_t started, yielded;
	uint64_t mask; /* the thread's signal mask before */
	struct nn_ran began;
	bool spinning, checked, blocked;
};

/* `history` belongs to what is waited for: a bit for each of the last 32 waits, 1 = worth it. Where spinning has not paid it is short.
 * `began`: signals_ran() as the application's call began. */
bool spin_begin(struct spin *spin, const struct waiter *waiter, _Atomic uint32_t *history, struct nn_ran began);
bool spin_turn(struct spin *spin);

/* Handlers that have run since the call began, now that it is over: the system call that the wait stands for would have been
 * interrupted by them. None after a hit. */
struct nn_ran spin_end(struct spin *spin, bool hit);

#endif
