/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Address space of which little is ever used: regions, ours and our peers', and tables. mlockall(2) would make memory of all of it. So it is
 * known here, for whoever stands in front of that call, and mapped in a way that leaves it out of what is locked "in future".
 */
#ifndef ARENA_SPARSE_H
#define ARENA_SPARSE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* As mmap without an address. 0 or -errno. */
int arena_sparse_map(void **base, uint64_t length, int prot, int flags, int fd, uint64_t offset);
void arena_sparse_unmap(void *base, uint64_t length);

/* What was mapped otherwise. */
void arena_sparse_note(void *base, uint64_t length);

/* The first such range that ends beyond `address`: its bounds; false: there is none. */
bool arena_sparse_next(uintptr_t address, uintptr_t *begin, uintptr_t *end);

/* The process has asked for MCL_FUTURE. */
extern _Atomic bool arena_sparse_locking;

#endif
