/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Our private jemalloc: one *heap* (a jemalloc arena) for each region, fed by extent hooks.
 *
 * All functions may be called by any thread that has a libc thread pointer, in a signal handler too. Memory that
 * heaps hand out is the hooks'; what jemalloc needs for itself is private anonymous memory.
 */
#ifndef ARENA_JEMALLOC_H
#define ARENA_JEMALLOC_H

#include <stddef.h>
#include <stdint.h>

#include <jemalloc/jemalloc.h>

#include "lock.h"

/* Creates a heap over `hooks`, which must stay valid as long as it. Its number, or -errno. */
int heap_create(extent_hooks_t *hooks);

/* Ends a heap with all that was allocated in it; calls hooks->dalloc for every extent. */
void heap_destroy(unsigned heap);

/* `bytes`, page-aligned, not zeroed; NULL when the hooks have no more. *size gets what it really takes. */
void *heap_alloc(unsigned heap, size_t bytes, size_t *size);

/* Returns how many bytes it took. Pages freed a while ago go back to hooks->dalloc on this occasion. */
size_t heap_free(unsigned heap, void *memory);

/* All pages that no allocation uses go back to hooks->dalloc. */
void heap_trim(unsigned heap);

/* The one lock around all of the above, for fork (see arena_fork_prepare) and for what the hooks share. */
void heap_lock(void);
void heap_unlock(void);
void heap_lock_reset(void);

#endif
