/* SPDX-License-Identifier: BSD-2-Clause */
#include "shim/wait/spin.h"

#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>

#include "shim/core/clock.h"
#include "shim/core/hidden.h"
#include "shim/core/process.h"
#include "shim/core/sys.h"
#include "shim/rendezvous/rendezvous.h"

#define US 1000ull
#define MS 1000000ull
#define SAMPLE_EVERY (200 * US)
#define YIELD_EVERY (1 * US)
#define BLOCK_AFTER (2 * US)
#define LONG_YIELD (2500 * US)
#define QUIET_MIN (10 * MS)
#define QUIET_MAX (400 * MS)
#define STAMP_OLD (1 * MS)

static _Atomic uint64_t sampled;      /* when */
static _Atomic uint32_t crowded;      /* what the last sample said */
static _Atomic uint64_t quiet_until, quiet_length;
static _Atomic int cores;
static int loadavg = -1;

static int usable_cores(void)
{
	int known = atomic_load_explicit(&cores, memory_order_relaxed);
	if (known)
		return known;
	unsigned long mask[128];
	long bytes = sys_call3(SYS_sched_getaffinity, 0, sizeof mask, mask);
	for (long i = 0; i < bytes / (long)sizeof *mask; i++)
		known += __builtin_popcountl(mask[i]);
	if (known < 1)
		known = 1;
	atomic_store_explicit(&cores, known, memory_order_relaxed);
	return known;
}

/* Spinners on one board whose stamp is fresh. */
static unsigned spinners_on(const struct board *board, uint64_t now)
{
	unsigned count = 0;
	uint64_t used = atomic_load_explicit(&board->slots_used, memory_order_relaxed);
	for (unsigned i = 0; i < used && i < BOARD_SLOTS; i++) {
		uint64_t stamp = atomic_load_explicit(&board->slots[i].spinning, memory_order_relaxed);
		if (stamp && now - stamp < STAMP_OLD)
			count++;
	}
	return count;
}

/* Runnable threads of the machine, or -1 where that is not to be known. */
static int runnable_threads(void)
{
	if (loadavg == -1 || (loadavg >= 0 && nn_kind_of(loadavg) != NN_HIDDEN))
		loadavg = hidden_take((int)sys_call4(SYS_openat, AT_FDCWD, "/proc/loadavg", O_RDONLY | O_CLOEXEC, 0));
	if (loadavg < 0) {
		loadavg = -2;
		return -1;
	}
	char text[64]; /* "0.00 0.01 0.05 2/345 6789" */
	long length = sys_call4(SYS_pread64, loadavg, text, sizeof text, 0);
	int blanks = 0, count = 0;
	for (long i = 0; i < length && text[i] != '/'; i++)
		if (text[i] == ' ')
			blanks++;
		else if (blanks == 3 && text[i] >= '0' && text[i] <= '9')
			count = count * 10 + text[i] - '0';
	return length > 0 ? count : -1;
}

static void sample(uint64_t now)
{
	uint64_t last = atomic_load_explicit(&sampled, memory_order_relaxed);
	if (now - last < SAMPLE_EVERY || !atomic_compare_exchange_strong(&sampled, &last, now))
		return;
	int runnable = runnable_threads();
	if (runnable < 0)
		return;
	unsigned spinners = spinners_on(rendezvous_board(), now) + rendezvous_count_on_peers(spinners_on, now);
	int busy = runnable - (int)spinners;
	atomic_store_explicit(&crowded, busy > usable_cores() + 2, memory_order_relaxed);
}

/* The longest this wait may spin. Every sixteenth gets all there is, or nothing could ever be learnt anew. */
static uint64_t budget_of(_Atomic uint32_t *history)
{
	uint32_t bits = atomic_load_explicit(history, memory_order_relaxed);
	static _Atomic uint32_t turn;
	if (__builtin_popcount(bits) >= 8 || atomic_fetch_add_explicit(&turn, 1, memory_order_relaxed) % 16 == 0)
		return nn_config.spin_ns;
	return nn_config.spin_ns / 10;
}

bool spin_begin(struct spin *spin, const struct waiter *waiter, _Atomic uint32_t *history, struct nn_ran began)
{
	spin->history = history;
	spin->waiter = waiter;
	spin->began = began;
	spin->spinning = spin->checked = spin->blocked = false;
	if (waiter->slot < 0 || !nn_config.spin_ns)
		return false;
	uint64_t now = nn_now_ns();
	if (now < atomic_load_explicit(&quiet_until, memory_order_relaxed))
		return false;
	waiter_spins(waiter, now);
	sample(now);
	if (atomic_load_explicit(&crowded, memory_order_relaxed)) {
		waiter_spins(waiter, 0);
		return false;
	}
	spin->started = spin->yielded = now;
	spin->budget = budget_of(history);
	spin->spinning = true;
	COUNT_SHARED(nn_state->totals.spins, 1);
	return true;
}

/* A yield took long: somebody else computes here. */
static void begin_quiet(uint64_t now)
{
	uint64_t length = atomic_load(&quiet_length);
	uint64_t ended = atomic_load(&quiet_until);
	if (!length || now - ended > 4 * QUIET_MAX)
		length = QUIET_MIN;
	else if (length < QUIET_MAX)
		length *= 2;
	if (length > QUIET_MAX)
		length = QUIET_MAX;
	atomic_store(&quiet_length, length);
	atomic_store(&quiet_until, now + length);
}

bool spin_turn(struct spin *spin)
{
	for (int i = 0; i < 4; i++)
		cpu_relax();
	uint64_t now = nn_now_ns();
	if (signals_any_since(spin->began))
		return false;
	if (!spin->checked && now - spin->started > BLOCK_AFTER) {
		const uint64_t all = ~0ull;
		spin->checked = true;
		spin->blocked = signals_caught().silent && sys_call4(SYS_rt_sigprocmask, SIG_SETMASK, &all, &spin->mask, sizeof all) == 0;
	}
	if (now - spin->yielded >= YIELD_EVERY) {
		sys_call0(SYS_sched_yield);
		uint64_t after = nn_now_ns();
		spin->yielded = after;
		if (after - now > LONG_YIELD) {
			begin_quiet(after);
			return false;
		}
		waiter_spins(spin->waiter, after);
		now = after;
	}
	return now - spin->started < spin->budget;
}

struct nn_ran spin_end(struct spin *spin, bool hit)
{
	struct nn_ran came = {0, 0};
	if (!spin->spinning)
		return came;
	if (spin->blocked) {
		uint64_t pending = 0;
		if (!hit && sys_call2(SYS_rt_sigpending, &pending, sizeof pending) < 0)
			pending = 0;
		pending &= ~spin->mask;
		if (pending) {
			struct signals caught = signals_caught();
			came.restarting = (caught.silent & caught.restarting & pending) != 0;
			came.interrupting = (caught.silent & caught.interrupting & pending) != 0;
		}
		sys_call4(SYS_rt_sigprocmask, SIG_SETMASK, &spin->mask, NULL, sizeof spin->mask);
	}
	spin->spinning = false;
	waiter_spins(spin->waiter, 0);
	if (!hit) {
		struct nn_ran now = signals_ran();
		came.restarting |= now.restarting != spin->began.restarting;
		came.interrupting |= now.interrupting != spin->began.interrupting;
	}
	/* A short spin that failed says nothing of a long one. */
	uint32_t bits = atomic_load_explicit(spin->history, memory_order_relaxed);
	if (hit || spin->budget == nn_config.spin_ns)
		atomic_store_explicit(spin->history, bits << 1 | hit, memory_order_relaxed);
	if (hit)
		COUNT_SHARED(nn_state->totals.spin_hits, 1);
	return came;
}
