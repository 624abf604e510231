/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A system call that blocks on a socket goes on by itself after a handler with SA_RESTART and returns EINTR after any
 * other. Our sleep is a ppoll, which always returns EINTR and does not say which handler ran. While all caught signals are of one
 * kind the answer follows from that. Where they are mixed, ppoll blocks those that restart, and polls a signalfd of them: one that
 * comes makes it readable, ppoll returns, the kernel restores the mask and runs the handler, and the call sleeps again. So
 * -EINTR from ppoll means a handler of the other kind. What the thread blocks by itself stays blocked, and out of the signalfd.
 *
 * When one of each kind is there at once, ppoll tells of the readable descriptor and not of the signal. So around ppoll the
 * thread blocks both kinds, and looks at what is pending before it lets them in: then it is EINTR. (The kernel would go by
 * whose handler it runs first; but it might have seen the other a moment earlier.)
 *
 * A front end that stands in front of the handlers (nn_front.counting) makes this simple: it counts what runs on a thread, by kind.
 * Then nothing is blocked while a call looks at memory and spins, and no descriptor is needed: what the counts say decides. That
 * matters where there are other threads: the kernel gives a signal of the process to the thread that blocks it not, so one
 * that blocks it for a while makes a gift of it, and sleeps on, where the system call would have ended. A handler that runs
 * between the last look at the counts and the sleep takes the sleep's time away: the front end writes 0 into its limit.
 *
 * What is caught is learnt from the kernel, 62 questions, and kept until the front end has seen a handler change
 * (nn_signals_changed). A handler that changes without its knowledge, by SA_RESETHAND, is caught no more and harms neither set.
 *
 * Signalfds are few and shared by the threads that want the same set. The set of one never changes: a parent or child by fork
 * may sleep on it too. Nothing here waits for a lock, because a signal handler may have interrupted its holder: who finds it
 * taken does without the cache.
 */
#include "shim/core/signals.h"

#include <errno.h>
#include <stdatomic.h>
#include <sys/signalfd.h>

#include "shim/core/hidden.h"
#include "shim/core/nn.h"
#include "shim/core/process.h"
#include "shim/core/sys.h"

#define KERNEL_SIGSET 8
#define BIT(number) (1ull << ((number)-1))
#define LIBC_OWN (BIT(32) | BIT(33)) /* cancellation; setuid in all threads */

_Atomic uint64_t signals_changes = 1;

/* Taken by this number of the process, so that a child of fork does not find it taken for ever. */
static _Atomic uint32_t lock;

static bool try_lock(uint32_t pid)
{
	uint32_t holder = atomic_load(&lock);
	return holder != pid && atomic_compare_exchange_strong(&lock, &holder, pid);
}

static void drop_lock(void)
{
	atomic_store(&lock, 0);
}

/* ---- what is caught ----------------------------------------------------------------------------------------------------- */

static struct {
	_Atomic uint64_t changes; /* for which the sets hold; 0: being written */
	_Atomic uint64_t restarting, interrupting, silent;
} known;

void nn_signals_changed(void)
{
	atomic_fetch_add(&signals_changes, 1);
}

static struct signals ask_kernel(void)
{
	struct signals caught = {0, 0, 0};
	for (int number = 1; number <= 64; number++) {
		struct {
			void (*handler)(int, siginfo_t *, void *);
			unsigned long flags;
			void *more[2]; /* restorer, where there is one, and mask */
		} action = {0};
		if (LIBC_OWN & BIT(number) || sys_call4(SYS_rt_sigaction, number, NULL, &action, KERNEL_SIGSET) < 0)
			continue;
		if (action.handler == (void *)SIG_DFL || action.handler == (void *)SIG_IGN)
			continue;
		if (!nn_front.counting || action.handler != nn_front.counting)
			caught.silent |= BIT(number);
		if (action.flags & SA_RESTART)
			caught.restarting |= BIT(number);
		else
			caught.interrupting |= BIT(number);
	}
	return caught;
}

struct signals signals_caught(void)
{
	uint64_t now = atomic_load(&signals_changes);
	if (atomic_load(&known.changes) == now) {
		struct signals caught = {atomic_load(&known.restarting), atomic_load(&known.interrupting), atomic_load(&known.silent)};
		if (atomic_load(&known.changes) == now) /* else they may be a mixture */
			return caught;
	}
	struct signals caught = ask_kernel();
	uint32_t pid = (uint32_t)sys_call0(SYS_getpid);
	/* A child of vfork has handlers of its own and its parent's memory. */
	if ((!nn_pid || pid == (uint32_t)nn_pid) && try_lock(pid)) {
		atomic_store(&known.changes, 0);
		atomic_store(&known.restarting, caught.restarting);
		atomic_store(&known.interrupting, caught.interrupting);
		atomic_store(&known.silent, caught.silent);
		atomic_store(&known.changes, now);
		drop_lock();
	}
	return caught;
}

struct nn_ran signals_ran(void)
{
	return nn_front.ran ? nn_front.ran() : (struct nn_ran){0, 0};
}

/* ---- shared signalfds --------------------------------------------------------------------------------------------------- */

#define PLACES 4
static struct place {
	uint64_t set; /* 0: unused */
	int fd;
	_Atomic uint32_t users;
	bool watched; /* hidden_watch knows fd */
} places[PLACES]; /* set, fd, watched and the step from no user to one: under the lock */

static int make(uint64_t set)
{
	return hidden_take((int)sys_call4(SYS_signalfd4, -1, &set, KERNEL_SIGSET, SFD_CLOEXEC | SFD_NONBLOCK));
}

/* A place whose signalfd has just this set, with us as one of its users. -1: none. Under the lock. */
static int take_place(uint64_t set)
{
	int unused = -1;
	for (int i = 0; i < PLACES; i++) {
		if (places[i].set == set) {
			atomic_fetch_add(&places[i].users, 1);
			return i;
		}
		if (!atomic_load(&places[i].users) && (unused < 0 || !places[i].set))
			unused = i;
	}
	if (unused < 0)
		return -1;
	struct place *place = &places[unused];
	if (place->set)
		hidden_close(place->fd);
	place->set = 0;
	place->fd = make(set);
	if (place->fd < 0)
		return -1;
	if (!place->watched && hidden_watch(&place->fd) < 0) {
		hidden_close(place->fd);
		return -1;
	}
	place->watched = true;
	place->set = set;
	atomic_fetch_add(&place->users, 1);
	return unused;
}

/* ---- a sleep ------------------------------------------------------------------------------------------------------------ */

static void set_mask(uint64_t blocked)
{
	sys_call4(SYS_rt_sigprocmask, SIG_SETMASK, &blocked, NULL, KERNEL_SIGSET);
}

struct signals_section signals_section_begin(void)
{
	const uint64_t all = ~0ull;
	struct signals_section section = {0};
	if (nn_front.keep_handlers)
		nn_front.keep_handlers();
	else
		sys_call4(SYS_rt_sigprocmask, SIG_SETMASK, &all, &section.mask, KERNEL_SIGSET);
	return section;
}

void signals_section_end(struct signals_section section)
{
	if (nn_front.keep_handlers)
		nn_front.let_handlers();
	else
		set_mask(section.mask);
}

bool signals_block(uint64_t *before)
{
	const uint64_t faults = BIT(SIGSEGV) | BIT(SIGBUS) | BIT(SIGILL) | BIT(SIGFPE) | BIT(SIGTRAP) | BIT(SIGSYS);
	const uint64_t all = ~(faults | LIBC_OWN);
	return sys_call4(SYS_rt_sigprocmask, SIG_BLOCK, &all, before, KERNEL_SIGSET) == 0;
}

void signals_unblock(uint64_t before)
{
	set_mask(before);
}

/* False: nothing is caught, or nothing can be blocked. */
static bool block(struct signals caught, uint64_t *before)
{
	uint64_t all = caught.restarting | caught.interrupting;
	return all && sys_call4(SYS_rt_sigprocmask, SIG_BLOCK, &all, before, KERNEL_SIGSET) == 0;
}

static void fill(sigset_t *mask, uint64_t set)
{
	*mask = (sigset_t){0};
	__builtin_memcpy(mask, &set, sizeof set);
}

/* False: there are handlers that nobody counts. */
static bool tell(struct signals caught, struct timespec *limit)
{
	if (caught.silent || !nn_front.sleeps)
		return false;
	nn_front.sleeps(limit);
	return true;
}

int signals_hold(struct signals_hold *hold, struct nn_ran began, struct timespec *limit)
{
	uint64_t before = 0;
	struct signals caught = signals_caught();
	hold->began = began;
	hold->told = tell(caught, limit);
	hold->held = !hold->told && block(caught, &before);
	fill(&hold->mask, before);
	if (!signals_any_since(began))
		return 0;
	signals_release(hold, 0);
	return -EINTR;
}

long signals_release(struct signals_hold *hold, long outcome)
{
	uint64_t before;
	if (hold->told) {
		hold->told = false;
		nn_front.sleeps(NULL);
		if (outcome == 0 && signals_any_since(hold->began))
			outcome = -EINTR;
	}
	__builtin_memcpy(&before, &hold->mask, sizeof before);
	if (hold->held)
		set_mask(before);
	hold->held = false;
	return outcome;
}

int signals_fall_asleep(struct signals_sleep *sleep, struct timespec *limit)
{
	sleep->fd = -1;
	sleep->place = -1;
	sleep->changes = atomic_load(&signals_changes);
	sleep->caught = signals_caught();
	sleep->told = tell(sleep->caught, limit);
	sleep->held = !sleep->told && block(sleep->caught, &sleep->blocked);
	if (sleep->held)
		fill(&sleep->mask, sleep->blocked);
	if (signals_interrupting_since(sleep->began))
		return -EINTR;
	if (!sleep->held || !sleep->caught.silent || !sleep->caught.restarting || !sleep->caught.interrupting)
		return 0;
	uint64_t set = sleep->caught.restarting & ~sleep->blocked;
	if (set && try_lock((uint32_t)sys_call0(SYS_getpid))) {
		sleep->place = take_place(set);
		if (sleep->place >= 0)
			sleep->fd = places[sleep->place].fd;
		drop_lock();
	}
	if (set && sleep->place < 0) {
		sleep->fd = make(set);
		if (sleep->fd >= 0 && hidden_watch(&sleep->fd) < 0) {
			hidden_close(sleep->fd);
			sleep->fd = -1;
		}
	}
	if (sleep->fd < 0) /* only one kind is let in; or no descriptor to be had: EINTR after either */
		sleep->fd = -1;
	else
		fill(&sleep->mask, sleep->blocked | set);
	return 0;
}

bool signals_wake(struct signals_sleep *sleep, bool lost)
{
	if (sleep->told)
		nn_front.sleeps(NULL);
	sleep->told = false;
	if (!sleep->held)
		return false;
	sleep->held = false;
	if (sleep->fd < 0) {
		set_mask(sleep->blocked);
		return false;
	}
	if (sleep->place >= 0) {
		struct place *place = &places[sleep->place];
		if (lost && try_lock((uint32_t)sys_call0(SYS_getpid))) {
			place->set = 0;
			drop_lock();
		}
		atomic_fetch_sub(&place->users, 1);
	} else {
		hidden_unwatch(&sleep->fd);
		hidden_close(sleep->fd);
	}
	sleep->fd = sleep->place = -1;
	uint64_t pending = 0;
	if (sys_call2(SYS_rt_sigpending, &pending, sizeof pending) < 0)
		pending = 0;
	set_mask(sleep->blocked);
	return pending & sleep->caught.interrupting & ~sleep->blocked;
}

bool signals_interrupted(const struct signals_sleep *sleep)
{
	if (!sleep->caught.silent && signals_interrupting_since(sleep->began))
		return true;
	if (sleep->caught.silent && sleep->caught.interrupting)
		return true;
	/* Another thread may have set the handler that ended the sleep during it. */
	return atomic_load(&signals_changes) != sleep->changes && signals_caught().interrupting;
}
