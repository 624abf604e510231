/* SPDX-License-Identifier: BSD-2-Clause */
/* epoll_wait: collect from memory (collect.c), spin, sleep in the kernel. Theory in set.h. */
#include <errno.h>

#include "shim/core/clock.h"
#include "shim/core/collect.h"
#include "shim/core/epoll.h"
#include "shim/core/process.h"
#include "shim/core/signals.h"
#include "shim/core/set.h"
#include "shim/core/stall.h"
#include "shim/core/sys.h"
#include "shim/core/wait.h"
#include "shim/wait/spin.h"

#define LOOK_TICKS 150000u   /* at most so long without a look into the kernel while memory keeps us busy ... */
#define LOOK_COLLECTIONS 64u /* ... or so many collections */
#define SPIN_LOOK_NS 5000u   /* while spinning */
#define LOOKS 8              /* at most, at once */

#define QUICK_LOOKS 24       /* before spinning with all its bookkeeping */

struct set_sleep {
	struct nn_guard guard;
	struct nn_set *set;
	bool asleep; /* counted among the set's sleepers */
	uint64_t outside; /* of a call with a mask: the thread's own, */
	bool blocked;     /* while all signals are blocked */
	struct waiter spinner; /* marks the thread as spinning */
	struct nn_ran began;   /* as the call began */
	struct signals_hold hold;
};

/* A look into the kernel without waiting. When it takes the bell's edge while others sleep, nobody would ring for them again before they have
 * slept anew: so they are marked as in a sleep of its own, in an empty bell. Until then the news is in memory: *ours, the caller looks. */
static long kernel_look(struct nn_set *set, struct epoll_event *events, int max, bool *ours)
{
	set->looked = cpu_ticks();
	set->hurried = 0;
	bool taken = false, full;
	long count;
	int looks = 0;
	/* Once more where edges of ours took all the places. */
	do {
		struct timespec limit = {0, 0};
		count = sys_call6(SYS_epoll_pwait2, set->epfd, events, max, &limit, NULL, 8);
		if (count == -ENOSYS)
			count = sys_call6(SYS_epoll_pwait, set->epfd, events, max, 0, NULL, 8);
		full = count == max;
		if (count > 0)
			count = set_sift(set, events, (int)count, &taken);
	} while (full && !count && ++looks < LOOKS);
	if (taken && !set->exposed && atomic_load(&set->sleepers))
		waiter_falls_asleep(&set->waiter);
	*ours |= taken;
	return count;
}

/* A thread leaves the set's sleepers. The last one out takes the set's mark away, but no mark that another has made since; else the next
 * news must ring again, in an empty bell, for those who sleep on. */
static void leave_sleepers(struct nn_set *set, bool *ours)
{
	uint64_t mark = waiter_mark(&set->waiter);
	if (atomic_fetch_sub(&set->sleepers, 1) > 1)
		*ours |= waiter_falls_asleep(&set->waiter);
	else if (!set->exposed)
		waiter_unmark(&set->waiter, mark);
}

static void undo(void *data)
{
	struct set_sleep *whole = data;
	struct nn_set *set = whole->set;
	bool ours = false;
	signals_release(&whole->hold, 0);
	if (whole->blocked)
		signals_unblock(whole->outside);
	whole->blocked = false;
	if (whole->asleep)
		leave_sleepers(set, &ours);
	whole->asleep = false;
	if (atomic_load(&set->sleepers))
		waiter_ring_own(&set->waiter); /* we may have taken an edge */
	waiter_drop(&whole->spinner);
}

static long sleep_in_kernel(struct set_sleep *whole, struct epoll_event *events, int max, uint64_t left, const sigset_t *mask,
	bool *unsure, bool *ours, bool *looked)
{
	struct nn_set *set = whole->set;
	atomic_fetch_add(&set->sleepers, 1);
	whole->asleep = true;
	/* Also where nothing is managed any more: who registers something rings, and a bell that is never emptied is refused in the end. */
	*ours |= waiter_falls_asleep(&set->waiter);
	left = stall_sweep(left);
	long count = set_collect(set, events, max, unsure); /* W2 */
	*ours &= count > 0 || *unsure;
	*looked = count;
	if (!count && !*unsure) {
		if (set->blind && set->managed_count && left > BLIND_NS)
			left = BLIND_NS;
		struct timespec limit = left == UINT64_MAX ? SIGNALS_NO_LIMIT : (struct timespec){(time_t)(left / NS_IN_S), (long)(left % NS_IN_S)};
		/* A caller with a mask has blocked, until now, what may interrupt. */
		struct signals_hold *hold = &whole->hold;
		if (!mask)
			count = signals_hold(hold, whole->began, &limit);
		if (!count)
			count = nn_front.epoll_pwait2(set->epfd, events, max, &limit,
				hold->held ? &hold->mask : mask, &whole->guard);
		count = signals_release(hold, count);
		set->looked = cpu_ticks();
		if (count > 0)
			count = set_sift(set, events, (int)count, ours);
	}
	whole->asleep = false;
	leave_sleepers(set, ours);
	return count;
}

static uint64_t deadline_of(const struct timespec *timeout)
{
	if (!timeout || timeout->tv_sec < 0 || (uint64_t)timeout->tv_sec > 1000000000u)
		return UINT64_MAX;
	if (!timeout->tv_sec && !timeout->tv_nsec)
		return 0;
	return nn_now_ns() + (uint64_t)timeout->tv_sec * NS_IN_S + (uint64_t)timeout->tv_nsec;
}

/* Spins. Returns events found, or -EINTR. *looked: they are memory's. */
static long spin_in(struct set_sleep *whole, struct epoll_event *events, int max, bool *unsure, bool *ours, bool *looked)
{
	struct nn_set *set = whole->set;
	struct spin spin;
	long count = 0;
	if (!set->managed_count)
		return 0;
	for (unsigned i = 0; i < QUICK_LOOKS && nn_config.spin_ns && !count; i++) {
		cpu_relax();
		count = set_collect(set, events, max, unsure);
	}
	*ours &= count > 0 || *unsure;
	*looked = true;
	if (count)
		return count;
	waiter_take(&whole->spinner, nn_self());
	if (spin_begin(&spin, &whole->spinner, &set->spin_history, whole->began)) {
		uint64_t looked_at = nn_now_ns();
		while (!count && spin_turn(&spin)) {
			count = set_collect(set, events, max, unsure);
			*ours &= count > 0 || *unsure;
			if (!count && set->items && nn_now_ns() - looked_at > SPIN_LOOK_NS) {
				count = kernel_look(set, events, max, ours);
				looked_at = nn_now_ns();
				*looked = !count;
			}
		}
		if (signals_end_poll(spin_end(&spin, count > 0)))
			count = -EINTR;
	}
	waiter_drop(&whole->spinner);
	return count;
}

/*
 * The end of a wait that has `count` events, or failed. `ours`: it took an edge of ours from the kernel since memory last had nothing, perhaps
 * that of news for which nobody will ring a second time. So it looks now, unless events from memory are among the `count` already
 * (`looked`: the same would come twice); and where there are some, wakes another sleeper, for what it had no place for, and for what
 * stays ready by level: the kernel does the same.
 */
static long done(struct nn_set *set, struct epoll_event *events, int max, long count, bool ours, bool looked)
{
	bool unsure, more = looked || count < 0;
	if (ours && !set->exposed && atomic_load(&set->sleepers))
		waiter_settle(&set->waiter); /* they sleep on it now */
	if ((ours || count > 0) && !looked && count >= 0 && count < max) { /* also what came before what the kernel tells of */
		int found = set_collect(set, events + count, max - (int)count, &unsure);
		count += found;
		more |= found > 0;
	}
	set_settle_bell(set);
	if (ours && (more || count == max) && atomic_load(&set->sleepers))
		waiter_ring_own(&set->waiter);
	return count;
}

static long wait_in(struct set_sleep *whole, struct epoll_event *events, int max, uint64_t deadline, const sigset_t *mask)
{
	struct nn_set *set = whole->set;
	/* Sets in this one may look readable for what has been read since. */
	for (uint32_t i = 0; i < set->nested_count; i++)
		if (set_at(set->nested[i])->in_use)
			set_settle_bell(set_at(set->nested[i]));
	bool ours = false, slept = false;
	stall_sweep(UINT64_MAX);
	for (;;) {
		bool unsure = false;
		/* The kernel's items get their turn now and then, and some of the places; first, as what it says of a stream counts below. */
		bool turn = set->managed_count && (++set->hurried > LOOK_COLLECTIONS || cpu_ticks() - set->looked > LOOK_TICKS);
		long count = turn ? kernel_look(set, events, (max + 3) / 4, &ours) : 0;
		if (count < 0)
			count = 0;
		int places = max - (int)count;
		int found = places ? set_collect(set, events + count, places, &unsure) : 0;
		ours = found == places || (ours && (found || unsure));
		count += found;
		if (count)
			return done(set, events, max, count, ours, true);
		if (deadline == 0 && !unsure) {
			set_settle_bell(set);
			count = kernel_look(set, events, max, &ours);
			if (count == -EBADF && slept)
				count = 0; /* closed meanwhile: a call that has begun does not notice */
			/* Only our own news: it may have made a stream ready. */
			return done(set, events, max, count, ours || set->exposed, false);
		}
		bool looked = false;
		count = spin_in(whole, events, max, &unsure, &ours, &looked);
		if (count)
			return done(set, events, max, count, ours, looked);
		uint64_t now = deadline == UINT64_MAX ? 0 : nn_now_ns();
		bool late = deadline <= now;
		uint64_t left = deadline == UINT64_MAX ? UINT64_MAX : late ? 0 : deadline - now;
		set_settle_bell(set);
		slept = true;
		count = sleep_in_kernel(whole, events, max, left, mask, &unsure, &ours, &looked);
		if (count)
			return done(set, events, max, count, ours, looked);
		if (deadline != UINT64_MAX && nn_now_ns() >= deadline)
			deadline = 0; /* one last look, at all there is */
	}
}

int nn_epoll_wait(struct nn_io *io, int epfd, struct epoll_event *events, int max, const struct timespec *timeout,
	const sigset_t *mask)
{
	struct nn_ran began = signals_ran();
	io->stream = NULL;
	io->counted = false;
	uint32_t entry = fd_entry(epfd);
	if (entry >> NN_KIND_SHIFT != NN_SET || max <= 0 || max > 0x7fffffff / (int)sizeof *events || !events)
		return NN_RAW;
	struct nn_set *set = set_at(entry & ((1u << NN_KIND_SHIFT) - 1));
	if (set->epfd != epfd && fd_entry(set->epfd) != entry)
		set->epfd = epfd;
	struct set_sleep whole = {.set = set, .spinner = {.slot = -1}, .began = began};
	uint64_t deadline = deadline_of(timeout);
	guard_begin(&whole.guard, undo, &whole);
	if (mask && deadline) /* it counts for all of the call: outside of the sleep none gets through */
		whole.blocked = signals_block(&whole.outside);
	io->result = wait_in(&whole, events, max, deadline, mask);
	bool blocked = whole.blocked;
	whole.blocked = false;
	if (blocked)
		signals_unblock(whole.outside);
	guard_end(&whole.guard);
	return NN_DONE;
}
