/* SPDX-License-Identifier: BSD-2-Clause */
/* Which signals end a blocking call with EINTR, and which let it go on (SA_RESTART). */
#ifndef SHIM_CORE_SIGNALS_H
#define SHIM_CORE_SIGNALS_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

#include "shim/core/process.h"

#include "shim/core/nn.h"

/* Sets of caught signals; signal n is bit n - 1. Those of libc's own, 32 and 33, are in neither. */
struct signals {
	uint64_t restarting;
	uint64_t interrupting;
	uint64_t silent; /* of both: nobody counts the runs of these handlers */
};

struct signals signals_caught(void);

/* Counts changes of handlers. What holds for signals_caught() holds until the next. */
extern _Atomic uint64_t signals_changes;

/* Handlers that have run on this thread so far. A call that may wait asks as it begins. */
struct nn_ran signals_ran(void);

/* One that ends a call of any kind has run since `began`; one that ends a call which goes on after SA_RESTART. */
static inline bool signals_any_since(struct nn_ran began)
{
	struct nn_ran now = signals_ran();
	return now.restarting != began.restarting || now.interrupting != began.interrupting;
}

static inline bool signals_interrupting_since(struct nn_ran began)
{
	return signals_ran().interrupting != began.interrupting;
}

/* The last moment before a sleep that no handler lets go on. One that comes now makes its time limit 0; or, where that cannot be
 * had, caught signals are blocked until the sleep lets them in. */
struct signals_hold {
	struct nn_ran began;
	sigset_t mask; /* for the sleep, when held */
	bool held, told;
};

/* What a limit is for a sleep without one. */
#define SIGNALS_NO_LIMIT ((struct timespec){INT64_MAX / 2000000000, 0})

/* `limit`: that of the sleep, and what it must be given. -EINTR: a handler has run since `began`; there is nothing to release. */
int signals_hold(struct signals_hold *hold, struct nn_ran began, struct timespec *limit);

/* Returns the outcome of the sleep: a limit of 0 counts as -EINTR. */
long signals_release(struct signals_hold *hold, long outcome);

/* Of handlers that ran: does any end a call that never restarts (poll)? */
static inline bool signals_end_poll(struct nn_ran came)
{
	return came.restarting | came.interrupting;
}

/* Between the two, which may nest, no handler runs on this thread, where the front end sees to that. */
static inline void handlers_keep(void)
{
	if (nn_front.keep_handlers)
		nn_front.keep_handlers();
}

static inline void handlers_let(void)
{
	if (nn_front.let_handlers)
		nn_front.let_handlers();
}

/* The same, and where it does not, signals are blocked. */
struct signals_section {
	uint64_t mask; /* before, when they are blocked */
};

struct signals_section signals_section_begin(void);
void signals_section_end(struct signals_section section);

/* Blocks what can be handled; but for faults. *before: for signals_unblock. False: not to be had. */
bool signals_block(uint64_t *before);
void signals_unblock(uint64_t before);

/* One sleep of a call that restarts. */
struct signals_sleep {
	struct nn_ran began;   /* as the call began; filled in by the caller */
	uint64_t changes;      /* of handlers, as counted before the sleep */
	struct signals caught; /* then */
	sigset_t mask;         /* for ppoll, when held */
	uint64_t blocked;      /* the thread's own mask, when held: until the end of the sleep it blocks all that is caught */
	int fd;                /* to be polled for POLLIN beside the rest; -1: none */
	int place;             /* fd is shared and stands there; -1: fd is this sleep's own */
	bool held, told;
};

/* `limit`: as above. -EINTR: a handler without SA_RESTART has run since the call began; signals_wake is due all the same. */
int signals_fall_asleep(struct signals_sleep *sleep, struct timespec *limit);

/* Also after a cancelled sleep. `lost`: the poll says that fd is none (POLLNVAL). Handlers run now of what came too late for
 * ppoll to return -EINTR. True: one of them has no SA_RESTART. */
bool signals_wake(struct signals_sleep *sleep, bool lost);

/* After a sleep that returned -EINTR: did a handler run that has no SA_RESTART? */
bool signals_interrupted(const struct signals_sleep *sleep);

#endif
