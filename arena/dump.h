/* SPDX-License-Identifier: BSD-2-Clause */
/* Looking at a region from outside, for tools and tests. Not part of libarena.a: it uses stdio. */
#ifndef ARENA_DUMP_H
#define ARENA_DUMP_H

#include <stdint.h>
#include <stdio.h>

struct region;
struct board;

/* Writes what a region of `length` mapped bytes holds, one line for each end block in use, and after it what is wrong
 * with it. `out` may be NULL. Returns the number of faults: 0 for a sound region. Any content is safe to dump; in a
 * region whose owner runs, words may belong to different moments. */
unsigned region_dump(const struct region *region, uint64_t length, FILE *out);

/* The same for a board: one line for each slot whose owner sleeps. */
unsigned board_dump(const struct board *board, uint64_t length, FILE *out);

#endif
