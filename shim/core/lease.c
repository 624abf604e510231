/* SPDX-License-Identifier: BSD-2-Clause */
#include "shim/core/lease.h"

#include "arena/arena.h"
#include "shim/core/holders.h"
#include "shim/core/lock.h"
#include "shim/core/process.h"
#include "shim/core/sys.h"

struct lease {
	struct nn_pair *pair; /* NULL: free */
	const struct end_block *peer;
	uint64_t cookie;
	uint32_t own_end;
	bool shared; /* other processes go on with our end: until they have closed it, too */
	const struct holders *holders;
	uint32_t use;
	uint64_t rings[2];
};

#define LEASES 65536u
#define LOOKS 64u

static struct lease *leases;
static _Atomic uint32_t used; /* of leases[]; changes under the lock */
static uint32_t cursor;
static _Atomic uint32_t lock;

/*
 * A signal handler may close streams in the middle of our work, and cannot wait for the thread that it interrupted. (To hold signals
 * back meanwhile would do harm: the kernel may then give this thread one that was on its way to another.) What it closes is put
 * down here, and taken in by the thread when it goes on.
 */
#define LATE 64u
static struct lease late[LATE];
static _Atomic uint32_t late_count; /* beyond LATE: leaked until the pair goes */

static void take_in(const struct lease *fresh)
{
	if (!leases)
		leases = process_table(LEASES * sizeof *leases);
	for (uint32_t i = 0; leases && i < LEASES; i++)
		if (!leases[i].pair) {
			leases[i] = *fresh;
			if (used <= i)
				used = i + 1;
			return;
		}
}

static void take_in_late(void)
{
	uint32_t done = 0, count;
	do {
		count = atomic_load(&late_count);
		for (; done < count && done < LATE; done++)
			take_in(&late[done]);
	} while (!atomic_compare_exchange_strong(&late_count, &count, 0));
}

static void drop_lock(void)
{
	do {
		take_in_late();
		lock_drop(&lock, LOCK_TAKEN);
		/* A handler that came between the two. */
	} while (atomic_load(&late_count) && lock_take(&lock, nn_self()) == LOCK_TAKEN);
}

static bool peer_is_done(const struct lease *lease)
{
	if (atomic_load(&lease->peer->cookie) == lease->cookie && !(atomic_load(&lease->peer->rx_flags) & END_DONE))
		return false;
	/* Others who hold our end may have closed it, or be gone without a word. */
	return !lease->shared || (atomic_load(&lease->pair->own->ends[lease->own_end].tx_flags) & END_CLOSED) ||
	       !holders_live(lease->holders, lease->use);
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
		.holders = stream->holders,
		.use = stream->holders_use,
		.rings = {stream->tx_offset, stream->tx_old_offset}};
	if (stream->pair->inherited)
		return; /* the process that made it frees it */
	if (peer_is_done(&fresh)) {
		end(&fresh);
		return;
	}
	if (lock_take(&lock, nn_self()) == LOCK_NESTED) {
		uint32_t place = atomic_fetch_add(&late_count, 1);
		if (place < LATE)
			late[place] = fresh;
		return;
	}
	take_in(&fresh);
	drop_lock();
}

void lease_sweep(void)
{
	if (!used || lock_take(&lock, nn_self()) == LOCK_NESTED)
		return;
	for (uint32_t i = 0; i < LOOKS && i < used; i++) {
		struct lease *lease = &leases[cursor++ % used];
		if (lease->pair && peer_is_done(lease))
			end(lease);
	}
	while (used && !leases[used - 1].pair)
		used--;
	drop_lock();
}

bool lease_forget(struct nn_pair *pair)
{
	if (lock_take(&lock, nn_self()) == LOCK_NESTED)
		return false;
	take_in_late();
	for (uint32_t i = 0; i < used; i++)
		if (leases[i].pair == pair)
			leases[i].pair = NULL;
	drop_lock();
	return true;
}

void lease_fork_child(void)
{
	/* Another thread may have been in the middle of a change. */
	if (leases)
		arena_sparse_unmap(leases, LEASES * sizeof *leases);
	leases = NULL;
	used = cursor = 0;
	atomic_store(&late_count, 0);
	atomic_store(&lock, 0);
}
