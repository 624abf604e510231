/* SPDX-License-Identifier: BSD-2-Clause */
/* See ends.h. */
#include "ends.h"

#include <errno.h>

int ends_take(struct ends *ends)
{
	for (unsigned i = 0; i < ENDS_WORDS; i++) {
		uint64_t bits = atomic_load_explicit(&ends->bits[i], memory_order_relaxed);

		while (~bits) {
			unsigned bit = (unsigned)__builtin_ctzll(~bits);

			/* Acquire: pairs with the release in ends_give_back; the last user is done with the block. */
			if (atomic_compare_exchange_weak_explicit(&ends->bits[i], &bits, bits | 1ull << bit,
								  memory_order_acquire, memory_order_relaxed)) {
				atomic_fetch_add_explicit(&ends->count, 1, memory_order_relaxed);
				return (int)(i * 64 + bit);
			}
		}
	}
	return -ENOSPC;
}

_Bool ends_give_back(struct ends *ends, unsigned number)
{
	uint64_t bit = 1ull << number % 64;

	if (number >= REGION_ENDS)
		return 0;
	if (!(atomic_fetch_and_explicit(&ends->bits[number / 64], ~bit, memory_order_release) & bit))
		return 0;
	atomic_fetch_sub_explicit(&ends->count, 1, memory_order_relaxed);
	return 1;
}

_Bool ends_in_use(struct ends *ends, unsigned number)
{
	return number < REGION_ENDS &&
	       (atomic_load_explicit(&ends->bits[number / 64], memory_order_relaxed) >> number % 64 & 1);
}
