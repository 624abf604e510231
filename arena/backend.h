/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Where shared memory comes from: one small file for each kind, all with the same product, a struct backing.
 *
 * kind      peers are kept from writing and shrinking by  freed pages go back   memory is there
 * memfd     seals                                         with the region       when touched
 * hugetlb   seals                                         with the region       from the start
 * directory a descriptor that only reads; trust           at once               before it is handed out
 * device    a descriptor that only reads; trust           with the region       from the start
 *
 * F_SEAL_FUTURE_WRITE, which keeps a peer from writing, also forbids punching holes, even to us. So the pages of a
 * sealed region that were once used stay until the region goes; extents.c takes the lowest free pages first to keep
 * them few.
 *
 * A file in a directory cannot be sealed. The peer gets a descriptor that cannot write, but we could shrink the file
 * and so have the peer die of SIGBUS. Only a process that was itself told to use the same directory or device attaches
 * to such memory: who configures one for several processes says that they trust each other that far.
 */
#ifndef ARENA_BACKEND_H
#define ARENA_BACKEND_H

#include "arena.h"

#define HUGE_PAGE 0x200000ull

struct backing {
	void *base;      /* mapped to read and write */
	uint64_t length; /* whole grains */
	uint64_t offset; /* where in fd */
	uint64_t grain;  /* page size of the backing */
	int fd;          /* what a peer gets */
	bool populate;   /* pages must be asked for before use: touching them could be SIGBUS */
	bool punch;      /* freed pages can be given back */
	int device_slot; /* kind ARENA_DEVICE, else -1 */
};

/* Creates `length` bytes (0: the kind's default) of zeroed shared memory, mapped, sealed if its kind can. */
int backing_create(const struct arena_backend *backend, uint64_t length, struct backing *backing);

/* Unmaps; does not close fd. */
void backing_destroy(const struct arena_backend *backend, struct backing *backing);

/* A sealed memfd, for any purpose. `huge`: of 2 MiB pages, all of them allocated. */
int backing_memfd(const char *name, bool huge, uint64_t length, struct backing *backing);

int backing_dir(const char *path, uint64_t length, struct backing *backing);
int backing_device(const char *path, uint64_t length, struct backing *backing);
void backing_device_release(const char *path, struct backing *backing);

/* Makes sure that [at, at + length) of the mapping can be touched. 0 or -errno. */
int backing_populate(const struct backing *backing, uint64_t at, uint64_t length);

/* Gives the pages of [at, at + length) back, whole grains. True when they now read as zero. */
bool backing_punch(const struct backing *backing, uint64_t at, uint64_t length);

/* -EFBIG when the process may not have files of that length; asking before ftruncate spares it SIGXFSZ. */
int backing_check_limit(uint64_t length);

#endif
