/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * An arena: a region that we write, and who has which part of it.
 *
 *   rings       jemalloc (one heap for each region: memory of one peer never turns up before another)
 *      extents  extents.c, called by jemalloc through the hooks below
 *         pages backend: asked for before use and given back, where its kind needs and can
 *   end blocks  ends.c
 *
 * struct arena and all bookkeeping lie in one private mapping. After fork the child's copy of it is a snapshot of an
 * allocator that goes on without it: arena_disown makes it refuse everything.
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "backend.h"
#include "ends.h"
#include "extents.h"
#include "header.h"
#include "jemalloc.h"

struct arena {
	extent_hooks_t hooks; /* first: the hooks get its address */
	struct arena_backend backend;
	struct backing backing;
	struct extents extents; /* under jemalloc's lock */
	struct ends ends;
	uint64_t private_length;
	unsigned heap;
	_Atomic bool disowned;
	_Atomic uint64_t rings;
	_Atomic uint64_t ring_bytes;
};

/* ---- hooks: called by jemalloc, under its lock ---------------------------------------------------------------- */

static uint64_t offset_of(const struct arena *arena, const void *address)
{
	return (uint64_t)((const char *)address - (const char *)arena->backing.base);
}

/* Gives pages back of which no part is in use any more; `offset` and `size` were just freed. */
static void give_back(struct arena *arena, uint64_t offset, uint64_t size)
{
	uint64_t grain = arena->backing.grain;
	uint64_t free_start, free_end;
	uint64_t low, high;

	if (!extents_free(&arena->extents, offset, size, grain, &free_start, &free_end))
		return;
	low = (free_start + grain - 1) & ~(grain - 1);
	high = free_end & ~(grain - 1);
	if (low < (offset & ~(grain - 1)))
		low = offset & ~(grain - 1);
	if (high > ((offset + size + grain - 1) & ~(grain - 1)))
		high = (offset + size + grain - 1) & ~(grain - 1);
	if (low < high)
		backing_punch(&arena->backing, low, high - low);
}

static void *hook_alloc(extent_hooks_t *hooks, void *new_address, size_t size, size_t alignment, bool *zero, bool *commit,
			unsigned heap)
{
	struct arena *arena = (struct arena *)hooks;
	uint64_t offset;

	(void)heap;
	if (new_address) /* an extent to be grown in place: never asked for with retain:false */
		return NULL;
	offset = extents_alloc(&arena->extents, size, alignment, (uintptr_t)arena->backing.base);
	if (offset == EXTENTS_NONE)
		return NULL;
	if (backing_populate(&arena->backing, offset, size)) {
		give_back(arena, offset, size);
		return NULL;
	}
	if (*zero)
		memset((char *)arena->backing.base + offset, 0, size);
	*commit = true;
	return (char *)arena->backing.base + offset;
}

static bool hook_dalloc(extent_hooks_t *hooks, void *address, size_t size, bool committed, unsigned heap)
{
	struct arena *arena = (struct arena *)hooks;

	(void)committed;
	(void)heap;
	give_back(arena, offset_of(arena, address), size);
	return false;
}

static void hook_destroy(extent_hooks_t *hooks, void *address, size_t size, bool committed, unsigned heap)
{
	hook_dalloc(hooks, address, size, committed, heap);
}

static bool hook_split(extent_hooks_t *hooks, void *address, size_t size, size_t size_a, size_t size_b, bool committed,
		       unsigned heap)
{
	(void)hooks, (void)address, (void)size, (void)size_a, (void)size_b, (void)committed, (void)heap;
	return false;
}

static bool hook_merge(extent_hooks_t *hooks, void *address_a, size_t size_a, void *address_b, size_t size_b,
		       bool committed, unsigned heap)
{
	(void)hooks, (void)address_a, (void)size_a, (void)address_b, (void)size_b, (void)committed, (void)heap;
	return false;
}

/* No commit, decommit or purge: with muzzy_decay_ms:0 what decays goes straight to dalloc. */
static const extent_hooks_t hooks_template = {
	.alloc = hook_alloc,
	.dalloc = hook_dalloc,
	.destroy = hook_destroy,
	.split = hook_split,
	.merge = hook_merge,
};

/* ---- life ----------------------------------------------------------------------------------------------------- */

/* The private part, with its extents; the bitmap follows the struct. */
static int create_private(const struct backing *backing, struct arena **result)
{
	uint64_t rings = backing->length - REGION_RINGS;
	uint64_t length = sizeof(struct arena) + extents_bits_size(rings);
	struct arena *arena;
	void *memory;
	int error = arena_sys_mmap(&memory, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (error)
		return error;
	arena = memory;
	arena->hooks = hooks_template;
	arena->backing = *backing;
	arena->private_length = length;
	extents_init(&arena->extents, REGION_RINGS, rings, (uint64_t *)(arena + 1));
	*result = arena;
	return 0;
}

int arena_create(const struct arena_backend *backend, uint64_t length, struct arena **result, struct arena_share *share)
{
	struct backing backing;
	struct arena *arena = NULL;
	int error;
	int heap;

	if (length && length <= REGION_RINGS)
		return -EINVAL;
	error = backing_create(backend, length, &backing);
	if (error)
		return error;
	error = create_private(&backing, &arena);
	if (error)
		goto no_private;
	arena->backend = *backend;
	heap = heap_create(&arena->hooks);
	if (heap < 0) {
		error = heap;
		goto no_heap;
	}
	arena->heap = (unsigned)heap;
	header_publish(&arena_region(arena)->header, REGION_MAGIC, backing.length, REGION_ENDS);
	*share = (struct arena_share){.fd = backing.fd, .offset = backing.offset, .length = backing.length};
	*result = arena;
	return 0;

no_heap:
	arena_sys_munmap(arena, arena->private_length);
no_private:
	arena_sys_close(backing.fd);
	backing_destroy(backend, &backing);
	return error;
}

void arena_destroy(struct arena *arena)
{
	if (arena->disowned) {
		/* The heap is the parent's; its number is lost to us. */
		arena_sparse_unmap(arena->backing.base, arena->backing.length);
	} else {
		heap_destroy(arena->heap);
		backing_destroy(&arena->backend, &arena->backing);
	}
	arena_sys_munmap(arena, arena->private_length);
}

void arena_disown(struct arena *arena)
{
	arena->disowned = true;
}

struct region *arena_region(struct arena *arena)
{
	return arena->backing.base;
}

void arena_fork_prepare(void)
{
	heap_lock();
}

void arena_fork_parent(void)
{
	heap_unlock();
}

void arena_fork_child(void)
{
	heap_lock_reset();
}

/* ---- end blocks ------------------------------------------------------------------------------------------------ */

int arena_end_alloc(struct arena *arena, uint64_t cookie)
{
	struct end_block *block;
	int number;

	if (cookie == 0)
		return -EINVAL;
	if (arena->disowned)
		return -ENOSPC;
	number = ends_take(&arena->ends);
	if (number < 0)
		return number;
	block = &arena_region(arena)->ends[number];
	for (unsigned i = 0; i < sizeof *block / sizeof(uint64_t); i++)
		atomic_store_explicit((_Atomic uint64_t *)block + i, 0, memory_order_relaxed);
	/* Release: pairs with the reader's acquire of the cookie; who sees it sees no word of the block's last use. */
	atomic_store_explicit(&block->cookie, cookie, memory_order_release);
	return number;
}

void arena_end_free(struct arena *arena, unsigned number)
{
	if (arena->disowned || !ends_in_use(&arena->ends, number))
		return;
	atomic_store_explicit(&arena_region(arena)->ends[number].cookie, 0, memory_order_release);
	ends_give_back(&arena->ends, number);
}

/* ---- rings ----------------------------------------------------------------------------------------------------- */

uint64_t arena_ring_alloc(struct arena *arena, uint64_t bytes)
{
	size_t size;
	void *ring;

	if (arena->disowned || bytes < ARENA_PAGE || (bytes & (bytes - 1)) || bytes > arena->backing.length)
		return 0;
	ring = heap_alloc(arena->heap, bytes, &size);
	if (!ring)
		return 0;
	atomic_fetch_add_explicit(&arena->rings, 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&arena->ring_bytes, size, memory_order_relaxed);
	return offset_of(arena, ring);
}

void arena_ring_free(struct arena *arena, uint64_t offset)
{
	size_t size;

	if (arena->disowned || offset == 0)
		return;
	size = heap_free(arena->heap, (char *)arena->backing.base + offset);
	atomic_fetch_sub_explicit(&arena->rings, 1, memory_order_relaxed);
	atomic_fetch_sub_explicit(&arena->ring_bytes, size, memory_order_relaxed);
}

void arena_trim(struct arena *arena)
{
	if (!arena->disowned)
		heap_trim(arena->heap);
}

void arena_get_stats(struct arena *arena, struct arena_stats *stats)
{
	*stats = (struct arena_stats){
		.mapped = arena->backing.length,
		.ring_bytes = atomic_load_explicit(&arena->ring_bytes, memory_order_relaxed),
		.rings = atomic_load_explicit(&arena->rings, memory_order_relaxed),
		.ends = atomic_load_explicit(&arena->ends.count, memory_order_relaxed),
	};
}
