/* SPDX-License-Identifier: BSD-2-Clause */
/* Which signals end a blocking call with EINTR, and which let it go on (SA_RESTART). */
#ifndef SHIM_CORE_SIGNALS_H
#define SHIM_CORE_SIGNALS_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

/* Sets of caught signals; signal n is bit n - 1. Those of libc's own, 32 and 33, are in neither. */
struct signals {
	uint64_t restarting;
	uint64_t interrupting;
};

struct signals signals_caught(void);

/* Of signals that came: does any end a call that never restarts (poll)? */
static inline bool signals_end_poll(struct signals came)
{
	return came.restarting | came.interrupting;
}

/* One sleep of a call that restarts. */
struct signals_sleep {
	uint64_t changes;      /* of handlers, as counted before the sleep */
	struct signals caught; /* then */
	sigset_t mask;         /* for ppoll, when fd >= 0 */
	uint64_t blocked;      /* the thread's own mask, when fd >= 0: until the end of the sleep it blocks all that is caught */
	int fd;                /* to be polled for POLLIN beside the rest; -1: sleep without fd and mask */
	int place;             /* fd is shared and stands there; -1: fd is this sleep's own */
};

void signals_fall_asleep(struct signals_sleep *sleep);

/* Also after a cancelled sleep. `lost`: the poll says that fd is none (POLLNVAL). Handlers run now of what came too late for
 * ppoll to return -EINTR. True: one of them has no SA_RESTART. */
bool signals_wake(struct signals_sleep *sleep, bool lost);

/* After a sleep that returned -EINTR: did a handler run that has no SA_RESTART? */
bool signals_interrupted(const struct signals_sleep *sleep);

#endif
