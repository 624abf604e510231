/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Calls that set handlers of signals.
 *
 * The kernel is given a function of ours in place of the program's. It counts, on its thread, and goes on to the program's:
 * so the core knows when a handler has run while a call looked at memory, and ends the call as the kernel would have
 * (shim/core/signals.h). Flags (but SA_SIGINFO, without which the kernel tells nothing of a signal), mask and arguments are the program's;
 * what the program has set is what is answered when it asks. A handler that comes by a way that we do not see stays in the kernel as it is, and the core makes do without counts.
 *
 * The core has stretches that no handler may interrupt. Signals are not blocked in them, because the kernel would give those of the
 * process to other threads, and the program's main thread might never learn of them. Instead our function, when it finds the
 * thread in such a stretch, sends the signal to the thread once more and blocks all of them, in the context to which it
 * returns; the end of the stretch lets them in. Only where there are handlers that are not behind our function, or of real-time
 * signals, which queue, signals are blocked.
 * A fault is no such signal: it is the stretch's own, as of the program's memory that is copied. Its handler runs at once, and outside of the
 * stretch, as it may never return to it.
 *
 * handlers[] changes before the kernel's entry does: one that finds ours finds a function to call. Two threads, or a handler in
 * the middle of its own change, must not mix what they write there: so changes are made one at a time, with signals blocked.
 * In the child of vfork, whose memory is its parent's, nothing is written.
 */
#include "shim/preload/preload.h"

#include <signal.h>
#include <stdatomic.h>
#include <ucontext.h>

#include "shim/core/signals.h"
#include "shim/core/sys.h"

#define KERNEL_SIGSET 8
#define LAST 64

typedef void (*handler_t)(int number, siginfo_t *info, void *context);

/* As the kernel's struct sigaction. */
struct kernel_action {
	handler_t handler;
	unsigned long flags;
	void *more[2]; /* restorer, where there is one, and mask */
};

static struct {
	_Atomic(handler_t) handler;
	_Atomic bool restarts;
	_Atomic bool informed; /* the program's own action has SA_SIGINFO */
	struct kernel_action once; /* with SA_RESETHAND: what the kernel has until it runs */
} handlers[LAST + 1];

static __thread struct nn_ran ran __attribute__((tls_model("initial-exec")));

struct nn_ran signals_of_thread(void)
{
	return ran;
}

static __thread struct timespec *limit_of_sleep __attribute__((tls_model("initial-exec")));

void signals_sleeps(struct timespec *limit)
{
	limit_of_sleep = limit;
	atomic_signal_fence(memory_order_seq_cst);
}

/* ---- stretches without handlers ------------------------------------------------------------------------------------------- */

#define BIT(number) (1ull << ((number)-1))
#define REAL_TIME (~0ull << 33) /* 34 and up: sent again, they would lose their place in the queue, or find none */
#define FAULTS (BIT(SIGSEGV) | BIT(SIGBUS) | BIT(SIGILL) | BIT(SIGFPE) | BIT(SIGTRAP) | BIT(SIGSYS))

static __thread struct {
	uint32_t depth;
	bool blocked;  /* signals are, as one has come, or could come unseen; */
	uint64_t mask; /* before it was */
	uint64_t seen; /* signals_changes, when no handler could come unseen */
} stretch __attribute__((tls_model("initial-exec")));

static void block_unseen(uint64_t changes)
{
	struct signals caught = signals_caught();
	if (!((caught.silent & ~FAULTS) | ((caught.restarting | caught.interrupting) & REAL_TIME))) {
		stretch.seen = changes;
		return;
	}
	const uint64_t all = ~FAULTS;
	sys_call4(SYS_rt_sigprocmask, SIG_SETMASK, &all, &stretch.mask, KERNEL_SIGSET);
	stretch.blocked = true;
}

void signals_keep(void)
{
	uint64_t changes = atomic_load_explicit(&signals_changes, memory_order_relaxed);
	if (__builtin_expect(stretch.seen != changes, 0) && !stretch.depth)
		block_unseen(changes);
	stretch.depth++;
	atomic_signal_fence(memory_order_seq_cst);
}

void signals_let(void)
{
	atomic_signal_fence(memory_order_seq_cst);
	if (--stretch.depth || !stretch.blocked)
		return; /* one that comes in between runs at once */
	stretch.blocked = false;
	sys_call4(SYS_rt_sigprocmask, SIG_SETMASK, &stretch.mask, NULL, KERNEL_SIGSET);
}

static bool is_fault(int number, const siginfo_t *info)
{
	return info->si_code > 0 && (FAULTS & BIT(number));
}

static void send_again(int number, siginfo_t *info, ucontext_t *context)
{
	const uint64_t all = ~FAULTS | BIT(number);
	bool blocked = stretch.blocked; /* by one before; this is a fault's number, which somebody has sent */
	uint64_t mask;
	/* One that interrupts us here does the same, with our mask as its own; then there are no more, and ours is the outer one. */
	sys_call4(SYS_rt_sigprocmask, SIG_SETMASK, &all, NULL, KERNEL_SIGSET);
	__builtin_memcpy(&mask, &context->uc_sigmask, sizeof mask);
	if (!blocked)
		stretch.mask = mask;
	mask |= all;
	__builtin_memcpy(&context->uc_sigmask, &mask, sizeof mask);
	stretch.blocked = true;
	if (handlers[number].once.flags & SA_RESETHAND)
		sys_call4(SYS_rt_sigaction, number, &handlers[number].once, NULL, KERNEL_SIGSET);
	long process = sys_call0(SYS_getpid), thread = sys_call0(SYS_gettid);
	if (sys_call4(SYS_rt_tgsigqueueinfo, process, thread, number, info) < 0)
		sys_call3(SYS_tgkill, process, thread, number);
}

/* A fault in a stretch. */
static void leave_stretch(int number, ucontext_t *context)
{
	uint64_t mask = stretch.mask | BIT(number);
	stretch.depth = 0;
	if (!stretch.blocked)
		return;
	__builtin_memcpy(&context->uc_sigmask, &stretch.mask, sizeof stretch.mask);
	stretch.blocked = false;
	sys_call4(SYS_rt_sigprocmask, SIG_SETMASK, &mask, NULL, KERNEL_SIGSET);
}

void signals_counting(int number, siginfo_t *info, void *context)
{
	uint32_t depth = stretch.depth;
	if (__builtin_expect(depth, 0)) {
		if (!is_fault(number, info)) {
			send_again(number, info, context);
			return;
		}
		leave_stretch(number, context);
		atomic_load_explicit(&handlers[number].handler, memory_order_relaxed)(number, info, context);
		stretch.depth = depth;
		return;
	}
	if (atomic_load_explicit(&handlers[number].restarts, memory_order_relaxed))
		ran.restarting++;
	else
		ran.interrupting++;
	struct timespec *limit = limit_of_sleep;
	limit_of_sleep = NULL; /* the handler may never return */
	if (limit)
		*(volatile struct timespec *)limit = (struct timespec){0, 0};
	/* The last thing: no frame of ours is left on the stack. */
	atomic_load_explicit(&handlers[number].handler, memory_order_relaxed)(number, info, context);
}

/* ---- a change -------------------------------------------------------------------------------------------------------- */

/* By process, so that a child of fork does not find it taken for ever. */
static _Atomic uint32_t changing;

static __thread bool inside __attribute__((tls_model("initial-exec"))); /* what is behind us (a sanitizer) makes signal() of sigaction() */

struct change {
	int number;       /* 0: none of our business */
	handler_t before; /* the program's, when the kernel had ours */
	uint64_t mask;
	bool informed;    /* then */
	bool ours;        /* the program's new handler is in handlers[] */
};

/* Of a number in the kernel's range, once the shim runs. */
static bool counts(int number)
{
	return nn_fds && number >= 1 && number <= LAST;
}

/* SIG_HOLD, the largest of the words that are no functions, is 2. */
static bool is_function(handler_t handler)
{
	return (uintptr_t)handler > 2 && (uintptr_t)handler != (uintptr_t)SIG_ERR;
}

/* Returns what is to be set in place of `handler`. */
static handler_t begin(struct change *change, int number, handler_t handler)
{
	const uint64_t all = ~0ull;
	*change = (struct change){.number = 0};
	if (!counts(number) || inside)
		return handler;
	change->number = number;
	sys_call4(SYS_rt_sigprocmask, SIG_SETMASK, &all, &change->mask, KERNEL_SIGSET);
	if (nn_in_vfork_child()) {
		change->before = atomic_load(&handlers[number].handler);
		change->informed = atomic_load(&handlers[number].informed);
		return handler;
	}
	const uint32_t pid = (uint32_t)sys_call0(SYS_getpid);
	for (uint32_t holder = 0; !atomic_compare_exchange_weak(&changing, &holder, pid);)
		if (holder == pid) {
			sys_call0(SYS_sched_yield);
			holder = 0;
		}
	inside = true;
	change->before = atomic_load(&handlers[number].handler);
	change->informed = atomic_load(&handlers[number].informed);
	change->ours = is_function(handler) && handler != signals_counting;
	if (!change->ours)
		return handler;
	atomic_store(&handlers[number].handler, handler);
	return signals_counting;
}

/* What the program is told it had, when the kernel says `old`. */
static handler_t had(const struct change *change, handler_t old)
{
	return change->number && old == signals_counting ? change->before : old;
}

/* Safe in a signal handler, as these calls are. */
static void end(const struct change *change, bool done)
{
	if (!change->number)
		return;
	inside = false;
	if (!nn_in_vfork_child()) {
		struct kernel_action now = {0};
		if (!done && change->ours)
			atomic_store(&handlers[change->number].handler, change->before);
		else if (sys_call4(SYS_rt_sigaction, change->number, NULL, &now, KERNEL_SIGSET) == 0) {
			if (change->ours) {
				atomic_store(&handlers[change->number].informed, now.flags & SA_SIGINFO);
				now.flags |= SA_SIGINFO;
				sys_call4(SYS_rt_sigaction, change->number, &now, NULL, KERNEL_SIGSET);
			}
			atomic_store(&handlers[change->number].restarts, now.flags & SA_RESTART);
			handlers[change->number].once = now;
		}
		atomic_store(&changing, 0);
	}
	if (done)
		nn_signals_changed();
	sys_call4(SYS_rt_sigprocmask, SIG_SETMASK, &change->mask, NULL, KERNEL_SIGSET);
}

void signals_asked(int number, bool changed, void *old)
{
	struct kernel_action *action = old;
	if (action && action->handler == signals_counting) {
		action->handler = atomic_load(&handlers[number].handler);
		if (!atomic_load(&handlers[number].informed))
			action->flags &= ~(unsigned long)SA_SIGINFO;
	}
	if (changed)
		nn_signals_changed();
}

/* ---- the calls ------------------------------------------------------------------------------------------------------- */

EXPORT int sigaction(int number, const struct sigaction *action, struct sigaction *old)
{
	struct sigaction ours, before;
	struct change change;
	if (!action && !old)
		return real.sigaction(number, action, old);
	handler_t handler = begin(&change, number, action ? action->sa_sigaction : NULL);
	if (action) {
		ours = *action;
		ours.sa_sigaction = handler;
	}
	int result = real.sigaction(number, action ? &ours : NULL, old ? &before : NULL);
	end(&change, result == 0 && action);
	if (result == 0 && old) {
		if (change.number && before.sa_sigaction == signals_counting && !change.informed)
			before.sa_flags &= ~SA_SIGINFO;
		before.sa_sigaction = had(&change, before.sa_sigaction);
		*old = before;
	}
	return result;
}
ALIAS(__sigaction, sigaction);

#define SETS_HANDLER(name) \
	EXPORT sighandler_t name(int number, sighandler_t handler) \
	{ \
		struct change change; \
		handler_t ours = begin(&change, number, (handler_t)(void *)handler); \
		sighandler_t old = real.name(number, (sighandler_t)(void *)ours); \
		end(&change, old != SIG_ERR); \
		return (sighandler_t)(void *)had(&change, (handler_t)(void *)old); \
	}
SETS_HANDLER(signal)
SETS_HANDLER(sysv_signal)
SETS_HANDLER(sigset)
ALIAS(bsd_signal, signal);
ALIAS(ssignal, signal);
ALIAS(__sysv_signal, sysv_signal);

/* Deprecated, not gone. */
EXPORT int siginterrupt(int number, int interrupt)
{
	struct change change;
	begin(&change, number, NULL);
	int result = real.siginterrupt(number, interrupt);
	end(&change, result == 0);
	return result;
}
