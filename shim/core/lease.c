/* SPDX-License-Identifier: BSD-2-Clause */
#include "shim/core/lease.h"

#include "shim/core/process.h"
#include "shim/core/sys.h"

struct lease {
	struct nn_pair *pair; /* NULL: free */
	const struct end_block *peer;
	uint64_t cookie;
	uint32_t own_end;
	bool shared; /* another process goes on with our end: until it has closed, too */
	uint64_t rings[2];
};

#define LEASES 65536u
#define LOOKS 64u

static struct lease *leases;
static uint32_t used, cursor;
static _Atomic uint32_t lock;

static bool try_lock(void)
{
	uint32_t nobody = 0;
	return atomic_compare_exchange_strong_explicit(&lock, &nobody, 1, memory_order_acquire, memory_order_relaxed);
}

static void unlock(void)
{
	atomic_store_explicit(&lock, 0, memory_order_release);
}

static bool peer_is_done(const struct lease *lease)
{
	if (lease->shared && !(atomic_load(&lease->pair->own->ends[lease->own_end].tx_flags) & END_CLOSED))
		return false;
	return atomic_load(&lease->peer->cookie) != lease->cookie || (atomic_load(&lease->peer->rx_flags) & END_DONE);
}

static void end(struct lease *lease)
{
	for (int i = 0; i < 2; i++)
		if (lease->rings[i])
			arena_ring_free(lease->pair->arena, lease->rings[i]);
	arena_end_free(lease->pair->arena, lease->own_end);
	lease->pair = NULL;
}

void lease_begin(struct nn_stream *stream)
{
	struct lease fresh = {.pair = stream->pair,
		.peer = stream->peer,
		.cookie = stream->peer_cookie,
		.own_end = stream->own_end,
		.shared = stream->shared_at_close,
		.rings = {stream->tx_offset, stream->tx_old_offset}};
	if (stream->pair->inherited)
		return; /* the process that made it frees it */
	if (peer_is_done(&fresh)) {
		end(&fresh);
		return;
	}
	if (!try_lock())
		return; /* leaks one end until the pair goes: a signal handler closes while we sweep */
	if (!leases)
		leases = process_memory(LEASES * sizeof *leases);
	for (uint32_t i = 0; leases && i < LEASES; i++)
		if (!leases[i].pair) {
			leases[i] = fresh;
			if (used <= i)
				used = i + 1;
			break;
		}
	unlock();
}

void lease_sweep(void)
{
	if (!used || !try_lock())
		return;
	for (uint32_t i = 0; i < LOOKS && i < used; i++) {
		struct lease *lease = &leases[cursor++ % used];
		if (lease->pair && peer_is_done(lease))
			end(lease);
	}
	while (used && !leases[used - 1].pair)
		used--;
	unlock();
}

void lease_forget(struct nn_pair *pair)
{
	while (!try_lock())
		sys_call0(SYS_sched_yield);
	for (uint32_t i = 0; i < used; i++)
		if (leases[i].pair == pair)
			leases[i].pair = NULL;
	unlock();
}

void lease_fork_child(void)
{
	atomic_store(&lock, 0);
	for (uint32_t i = 0; i < used; i++)
		leases[i].pair = NULL;
	used = 0;
}
