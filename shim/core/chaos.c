/* SPDX-License-Identifier: BSD-2-Clause */
#include "shim/core/chaos.h"

#include "shim/core/clock.h"
#include "shim/core/lock.h"
#include "shim/core/switch.h"

void chaos_roll(struct nn_stream *stream)
{
	static _Atomic uint64_t seed;
	uint64_t x = atomic_fetch_add(&seed, 0x9e3779b97f4a7c15ull) + cpu_ticks();
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
	x = (x ^ x >> 27) * 0x94d049bb133111ebull;
	x ^= x >> 31;
	if (x % nn_config.chaos || !tx_taken(stream))
		return; /* up happens by itself, at the next call */
	enum lock_outcome lock = tx_lock(stream);
	if (lock == LOCK_TAKEN && tx_taken(stream) && !stream->tx_replaying)
		tx_down(stream, NN_REASON_CHAOS, DOWN_IF_EASY);
	tx_unlock(stream, lock);
}
