/* SPDX-License-Identifier: BSD-2-Clause */
#include "shim/wait/waiter.h"

#include <errno.h>
#include <stdatomic.h>

#include "shim/core/alive.h"
#include "shim/core/process.h"
#include "shim/core/stream.h"
#include "shim/core/sys.h"
#include "shim/rendezvous/rendezvous.h"
#include "shim/wait/bell.h"

/* False also in a child of fork, for what its parent held. */
static bool has_slot(const struct waiter *waiter)
{
	return waiter->slot >= 0 && waiter->process == nn_own();
}

void waiter_take(struct waiter *waiter, uint32_t self)
{
	waiter->slot = -1;
	waiter->process = nn_own();
	struct board *board = rendezvous_board();
	if (!board)
		return;
	for (int pass = 0; pass < 2; pass++)
		for (unsigned i = 0; i < BOARD_SLOTS; i++) {
			struct board_slot *slot = &board->slots[i];
			uint64_t holder = atomic_load_explicit(&slot->holder, memory_order_relaxed);
			/* Second time round: slots of threads that are gone. */
			if (holder && (pass == 0 || !thread_gone((uint32_t)holder)))
				continue;
			if (!atomic_compare_exchange_strong(&slot->holder, &holder, self))
				continue;
			uint64_t used = atomic_load(&board->slots_used);
			while (used <= i && !atomic_compare_exchange_weak(&board->slots_used, &used, i + 1))
				;
			atomic_store(&slot->asleep, 0);
			waiter->slot = (int)i;
			return;
		}
}

void waiter_drop(struct waiter *waiter)
{
	if (has_slot(waiter)) {
		struct board_slot *slot = &rendezvous_board()->slots[waiter->slot];
		atomic_store_explicit(&slot->spinning, 0, memory_order_relaxed);
		atomic_store_explicit(&slot->asleep, 0, memory_order_relaxed);
		atomic_store_explicit(&slot->holder, 0, memory_order_release);
	}
	waiter->slot = -1;
}

int waiter_bell(const struct waiter *waiter)
{
	int bell = has_slot(waiter) ? bell_of((unsigned)waiter->slot) : -1;
	return bell < 0 ? -1 : bell;
}

void waiter_spins(const struct waiter *waiter, uint64_t now)
{
	if (has_slot(waiter))
		atomic_store_explicit(&rendezvous_board()->slots[waiter->slot].spinning, now, memory_order_relaxed);
}

bool waiter_attach(const struct waiter *waiter, struct end_block *own)
{
	if (!has_slot(waiter))
		return false;
	for (unsigned word = 0; word < 2; word++) {
		uint64_t places = atomic_load(&own->attach[word]);
		for (unsigned shift = 0; shift < 64;) {
			if (places >> shift & 0xffff) {
				shift += 16;
				continue;
			}
			uint64_t taken = places | (uint64_t)(waiter->slot + 1) << shift;
			if (atomic_compare_exchange_strong(&own->attach[word], &places, taken))
				return true;
			/* `places` is fresh now: look at the same place again. */
		}
	}
	return false;
}

void waiter_detach(const struct waiter *waiter, struct end_block *own)
{
	if (!has_slot(waiter))
		return;
	const uint64_t place = (unsigned)waiter->slot + 1u;
	for (unsigned word = 0; word < 2; word++) {
		uint64_t places = atomic_load(&own->attach[word]);
		for (unsigned shift = 0; shift < 64;) {
			if ((places >> shift & 0xffff) != place) {
				shift += 16;
				continue;
			}
			if (atomic_compare_exchange_strong(&own->attach[word], &places, places & ~(0xffffull << shift)))
				return;
		}
	}
}

bool waiter_falls_asleep(const struct waiter *waiter)
{
	if (!has_slot(waiter))
		return false;
	bool emptied = bell_settle((unsigned)waiter->slot); /* before W1: a ring for this sleep must stay */
	struct board_slot *slot = &rendezvous_board()->slots[waiter->slot];
	atomic_store_explicit(&slot->spinning, 0, memory_order_relaxed);
	/* Threads that share an epoll set share its slot: each sleep of each has a number of its own. */
	atomic_store(&slot->asleep, atomic_fetch_add_explicit(&slot->sleeps, 1, memory_order_relaxed) + 1); /* W1 */
	COUNT_SHARED(nn_state->totals.sleeps, 1);
	return emptied;
}

void waiter_wakes(const struct waiter *waiter)
{
	if (has_slot(waiter))
		atomic_store_explicit(&rendezvous_board()->slots[waiter->slot].asleep, 0, memory_order_relaxed);
}

uint64_t waiter_mark(const struct waiter *waiter)
{
	return has_slot(waiter) ? atomic_load(&rendezvous_board()->slots[waiter->slot].asleep) : 0;
}

void waiter_unmark(const struct waiter *waiter, uint64_t mark)
{
	if (has_slot(waiter))
		atomic_compare_exchange_strong(&rendezvous_board()->slots[waiter->slot].asleep, &mark, 0);
}

void waiter_hush(const struct waiter *waiter)
{
	if (has_slot(waiter))
		bell_hush((unsigned)waiter->slot);
}

void waiter_heard(const struct waiter *waiter)
{
	if (!has_slot(waiter))
		return;
	COUNT_SHARED(nn_state->totals.doorbells_heard, 1);
	bell_heard((unsigned)waiter->slot);
}

void waiter_settle(const struct waiter *waiter)
{
	if (has_slot(waiter))
		bell_settle((unsigned)waiter->slot);
}

void waiter_ring_own(const struct waiter *waiter)
{
	if (has_slot(waiter))
		bell_ring_own((unsigned)waiter->slot);
}

void waiters_ring_own(const struct nn_pair *pair, const struct end_block *own)
{
	for (unsigned word = 0; word < 2; word++)
		for (uint64_t places = atomic_load(&own->attach[word]); places; places >>= 16)
			if (places & 0xffff && (places & 0xffff) <= BOARD_SLOTS)
				bell_ring_shared(pair, (unsigned)(places & 0xffff) - 1);
}

static void ring_slot(struct nn_pair *pair, unsigned slot)
{
	if (slot >= BOARD_SLOTS)
		return;
	uint64_t asleep = atomic_load(&pair->peer_board->slots[slot].asleep); /* P2 */
	if (!asleep || atomic_exchange_explicit(&pair->rung[slot], asleep, memory_order_relaxed) == asleep)
		return;
	COUNT_SHARED(nn_state->totals.doorbells_rung, 1);
	if (!bell_ring(pair, slot))
		atomic_store_explicit(&pair->rung[slot], 0, memory_order_relaxed);
}

void doorbell_ring(struct nn_pair *pair, const struct end_block *peer)
{
	for (unsigned word = 0; word < 2; word++)
		for (uint64_t places = atomic_load(&peer->attach[word]); places; places >>= 16)
			if (places & 0xffff)
				ring_slot(pair, (unsigned)(places & 0xffff) - 1);
}
