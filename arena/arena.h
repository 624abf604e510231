/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The arena: memory that two processes share, carved into end blocks and rings. See format.h for what lies in it.
 *
 * An arena knows memory, indices and bytes; it has never heard of sockets. All functions are thread-safe unless told
 * otherwise, touch no libc state (no errno, no malloc of the application) and return 0 or a positive count on
 * success, -errno on failure.
 */
#ifndef ARENA_H
#define ARENA_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "format.h"

/* Where memory comes from. */
enum arena_kind {
	ARENA_MEMFD,   /* sealed memfd, the default */
	ARENA_HUGETLB, /* sealed memfd of 2 MiB pages */
	ARENA_DEVICE,  /* DAX character device: one device holds all regions; carved by offset */
	ARENA_DIR,     /* directory on tmpfs, hugetlbfs or a DAX file system: an unlinked file for each region */
};

struct arena_backend {
	enum arena_kind kind;
	const char *path; /* ARENA_DEVICE, ARENA_DIR; borrowed for the life of the process */
};

/* Parses "memfd", "hugetlb" or an absolute path. 0; -EINVAL: not one of them; -ENOENT, -EACCES, ...: the path cannot
 * serve; -ENOTSUP: it is a directory on a disk. */
int arena_backend_parse(const char *text, struct arena_backend *backend);

/* Memory of mine that a peer may map. */
struct arena_share {
	int fd;          /* to pass to the peer; the receiver closes its copy once mapped */
	uint64_t offset; /* where in the fd the memory starts (device), else 0 */
	uint64_t length;
};

/* ---- board: one for each process --------------------------------------------------------------------------- */

/* Creates the calling process's board. *board stays mapped for the life of the process; share->fd is owned by the
 * caller. */
int board_create(struct board **board, struct arena_share *share);

/* Maps a peer's board to read, checking seals, size and header. The fd stays the caller's.
 * -EPROTO: not a board, not sealed, or of another version. */
int board_attach(int fd, const struct board **board);
void board_detach(const struct board *board);

/* ---- region: one for each ordered pair of processes --------------------------------------------------------- */

struct arena; /* a region of mine with its allocator; private memory */

/* Creates a region of `length` bytes (0: the default) and the allocator over it. *share is filled; its fd is the
 * caller's. -ENOMEM, -EFBIG (RLIMIT_FSIZE), -EMFILE, -ENOSPC... */
int arena_create(const struct arena_backend *backend, uint64_t length, struct arena **arena, struct arena_share *share);

/* Unmaps and frees. The peer's mapping lives on. Nothing of the arena may be in use. */
void arena_destroy(struct arena *arena);

/* After fork, in the child: the region stays mapped and its blocks usable, but the child allocates and frees nothing. */
void arena_disown(struct arena *arena);

struct region *arena_region(struct arena *arena);

/* How to keep handlers of signals from running on this thread, from `keep` to `let`; they nest. Set before anything else is called.
 * Where they are NULL, signals are blocked instead. */
extern struct arena_handlers {
	void (*keep)(void);
	void (*let)(void);
} arena_handlers;

/* Around fork(), in this order: prepare before it, then parent or child after it in the thread that called prepare.
 * Nothing else of the arena may be called in between. The child can then create arenas of its own; those that it
 * inherited it disowns. A child of vfork, or one that only goes on to exec, needs none of it. */
void arena_fork_prepare(void);
void arena_fork_parent(void);
void arena_fork_child(void);

/* Maps a peer's region to read, checking that it cannot be shrunk or written by a third party (seals), its size and
 * header. *length gets the mapped length. -EPROTO as above. */
int region_attach(const struct arena_share *share, const struct region **region, uint64_t *length);

/* The same for a process that is itself configured to use `mine`: also takes unsealed memory, if it lies in the same
 * directory's file system or on the same device. The owner of such memory can make its readers die of SIGBUS. */
int region_attach_from(const struct arena_backend *mine, const struct arena_share *share, const struct region **region,
		       uint64_t *length);
void region_detach(const struct region *region, uint64_t length);

/* Takes a free end block: zeroed, cookie set last (never 0). Returns its number (0..REGION_ENDS-1) or -ENOSPC. */
int arena_end_alloc(struct arena *arena, uint64_t cookie);
void arena_end_free(struct arena *arena, unsigned number);

/* Allocates a ring of `bytes` (a power of two, at least a page) and returns its offset in the region, page-aligned;
 * 0 when there is no room. arena_ring_free takes what alloc returned. */
uint64_t arena_ring_alloc(struct arena *arena, uint64_t bytes);
void arena_ring_free(struct arena *arena, uint64_t offset);

/* Gives freed memory back to the system now, as far as the backing can, instead of a second or more later. */
void arena_trim(struct arena *arena);

/* True when a ring of 2^log2 bytes at `offset` lies wholly in the ring part of a region of `length` bytes. */
static inline bool region_ring_valid(uint64_t length, uint64_t offset, unsigned log2)
{
	return log2 >= 12 && log2 <= 40 && (offset & (ARENA_PAGE - 1)) == 0 && offset >= REGION_RINGS &&
	       offset <= length && (1ull << log2) <= length - offset;
}

/* Totals for reports. */
struct arena_stats {
	uint64_t mapped;   /* bytes of address space */
	uint64_t ring_bytes; /* bytes in live rings */
	uint64_t rings;
	uint64_t ends;
};
void arena_get_stats(struct arena *arena, struct arena_stats *stats);

/* ---- address space of which little is ever used ------------------------------------------------------------------------ */

/*
 * Regions, ours and our peers', and tables: mlockall(2) would make memory of all of it. So it is known here, for whoever stands
 * in front of that call, and mapped in a way that leaves it out of what is locked "in future".
 */

/* As mmap without an address. 0 or -errno. */
int arena_sparse_map(void **base, uint64_t length, int prot, int flags, int fd, uint64_t offset);
void arena_sparse_unmap(void *base, uint64_t length);

/* The first such range that ends beyond `address`: its bounds; false: there is none. */
bool arena_sparse_next(uintptr_t address, uintptr_t *begin, uintptr_t *end);

/* The process has asked for MCL_FUTURE. */
extern _Atomic bool arena_sparse_locking;

#endif
