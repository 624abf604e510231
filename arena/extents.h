/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Which pages of a region are in use: the layer below jemalloc.
 *
 * One bit for each page, in private memory: a peer can neither see nor spoil it. First fit by address, so that what is
 * in use gathers at the low end and pages that were touched once are the first to be used again. Neighbouring free
 * ranges need no merging: they are neighbouring zero bits. Not thread-safe; arena.c calls it with jemalloc's lock
 * held.
 */
#ifndef ARENA_EXTENTS_H
#define ARENA_EXTENTS_H

#include <stdbool.h>
#include <stdint.h>

struct extents {
	uint64_t start;  /* offset of the first page */
	uint64_t pages;
	uint64_t used;   /* pages in use */
	uint64_t lowest; /* no word of `bits` before this one has a zero */
	uint64_t *bits;  /* one for each page, set: in use; borrowed */
};

#define EXTENTS_NONE UINT64_MAX

/* Bytes of bitmap for a range of `length` bytes. */
uint64_t extents_bits_size(uint64_t length);

/* Covers [start, start + length), page-aligned, all of it free. `bits` is zeroed memory of extents_bits_size(length)
 * bytes, which the caller keeps for as long as `extents` is used. */
void extents_init(struct extents *extents, uint64_t start, uint64_t length, uint64_t *bits);

/* Takes `size` bytes (whole pages) at the lowest offset for which skew + offset is a multiple of `align` (a power of
 * two). Returns the offset, EXTENTS_NONE when there is no room. */
uint64_t extents_alloc(struct extents *extents, uint64_t size, uint64_t align, uint64_t skew);

/* True when all of [offset, offset + size) is in use. */
bool extents_in_use(const struct extents *extents, uint64_t offset, uint64_t size);

/* Gives back any part of what was allocated. [*free_start, *free_end) gets the free range it now lies in, as far as
 * `reach` bytes to either side. False, and nothing done, when it was not all in use. */
bool extents_free(struct extents *extents, uint64_t offset, uint64_t size, uint64_t reach, uint64_t *free_start,
		  uint64_t *free_end);

#endif
