/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Which end blocks of a region are in use: one bit each, in private memory. Without locks: a bit is taken and given
 * back by one atomic operation, so a signal handler may interrupt anywhere. Lowest first, so that few pages of end
 * blocks and few activity words are touched.
 */
#ifndef ARENA_ENDS_H
#define ARENA_ENDS_H

#include "format.h"

#define ENDS_WORDS (REGION_ENDS / 64)

struct ends {
	_Atomic uint64_t bits[ENDS_WORDS]; /* set: in use */
	_Atomic uint64_t count;
};

/* The number of a block that is now ours, or -ENOSPC. */
int ends_take(struct ends *ends);

/* False when the block was not in use. */
_Bool ends_give_back(struct ends *ends, unsigned number);

/* True when the block is in use. */
_Bool ends_in_use(struct ends *ends, unsigned number);

#endif
