/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The shared-memory format: types and constants, no code.
 *
 * Two kinds of memory are shared between processes, both as sealed memfds (or files of the chosen backend) that
 * only their owner can write:
 *
 *   board   one for each process, shown to every peer. It holds nothing secret: which of the owner's waiters spin and
 *           which sleep.
 *   region  one for each ordered pair of processes, shown to that one peer. It holds the end blocks of the owner's
 *           ends and the rings the owner writes.
 *
 *   owner's region                                   peer's region
 *   +--------+----------+------------+-------+       +--------+----------+------------+-------+
 *   | header | activity | end blocks | rings |       | header | activity | end blocks | rings |
 *   +--------+----------+------------+-------+       +--------+----------+------------+-------+
 *                          |  tail, path, head  ...  one end of a conversation has one end block on each side:
 *                          each side writes its own block and reads the other's.
 *
 * Every cache line has one writer, the owner of the memory it lies in. All words are 8 bytes, aligned, stored and
 * loaded whole. Offsets count bytes from the start of the region; there are no pointers. Byte offsets of a
 * conversation are absolute: they count from its first byte and never wrap in practice (64 bit).
 *
 * A conversation's bytes in one direction lie in consecutive *segments*. Each segment starts at a byte offset and is
 * either a ring in the sender's region or *outside* (the bytes travel by another way, which the arena does not
 * know). The sender publishes the next segment as {start, where} in slot `epoch % END_SEGMENTS` and then the epoch.
 */
#ifndef ARENA_FORMAT_H
#define ARENA_FORMAT_H

#include <stdalign.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#define ARENA_LINE 64u
#define ARENA_PAGE 4096u

#define REGION_MAGIC 0x314e474552544e4eull /* "NNTREGN1" */
#define BOARD_MAGIC 0x3144524f42544e4eull  /* "NNTBORD1" */
#define ARENA_MAJOR 2u
#define ARENA_WORD_MARK 0x0102030405060708ull

/* Immutable once the magic is published; the checksum covers everything before it. Writer: owner. */
struct arena_header {
	_Atomic uint64_t magic; /* published last, with release */
	uint64_t word_mark;     /* ARENA_WORD_MARK in the writer's byte order */
	uint64_t major;
	uint64_t compat;    /* features a reader may ignore */
	uint64_t incompat;  /* features a reader must know */
	uint64_t ro_compat; /* features a writer must know */
	uint64_t length;    /* bytes in the whole region or board */
	uint64_t end_count; /* region: end blocks; board: slots */
	uint64_t reserved[7]; /* zero */
	uint64_t checksum;    /* FNV-1a over the words from word_mark up to here */
};

/* ---- board ---------------------------------------------------------------------------------------------------- */

#define BOARD_SLOTS 1024u

/* One waiter: a thread that waits, or an epoll set. Writer: owner. `asleep` is 0 while awake, else the number of this
 * sleep, never reused: a peer rings a doorbell once a sleep. `bell` says which one, as the holder has it. `spinning` is when it was last seen spinning
 * (CLOCK_MONOTONIC, ns), 0 when it does not: a spinner that was killed ages out. */
struct board_slot {
	alignas(ARENA_LINE) _Atomic uint64_t asleep;
	_Atomic uint64_t spinning;
	_Atomic uint64_t holder; /* thread id that holds the slot, 0 free; of no interest to peers */
	_Atomic uint64_t sleeps; /* number of the last sleep; the holder's */
	_Atomic uint64_t bell;   /* random; with the board's name it makes the doorbell's. 0: none, the holder's sleeps are short */
	uint64_t reserved[3];
};

/* A board serves the process that made it and the children it forks. */
struct board {
	struct arena_header header;
	/* Writer: owner. */
	alignas(ARENA_LINE) uint64_t name[2]; /* random; the first part of its doorbells' names */
	_Atomic uint64_t slots_used;          /* slots[] ever used so far */
	alignas(ARENA_LINE) uint64_t guard0[8];
	struct board_slot slots[BOARD_SLOTS];
};

/* ---- region --------------------------------------------------------------------------------------------------- */

/* Bytes; few regions of a peer's cannot use up our address space. */
#define REGION_LENGTH_MOST (4ull << 30)

#define END_SEGMENTS 4u
#define END_ATTACH 8u
#define REGION_ENDS 16384u
#define ACTIVITY_GROUP 8u /* ends counted by one activity word */
#define ACTIVITY_FAN 64u  /* activity words counted by one of the top */

/* Where a segment lies: 0 = outside; else ring offset | log2(ring bytes). Rings are page-aligned powers of two. */
#define SEGMENT_OUTSIDE 0ull
#define SEGMENT_LOG2_MASK 0xfffull

/* tx_flags */
#define END_FIN 1ull    /* no byte follows the tail: the sender has shut this direction down */
#define END_CLOSED 2ull /* the sender has let go of the whole conversation (implies END_FIN) */
#define END_RESET 4ull  /* it let go with unread bytes: the conversation was reset */
#define END_FINAL 8ull  /* the current segment, or the one about to be published, is outside and the last one */
#define END_RESET_LATE 16ull /* END_RESET came after END_FIN had been said alone */

/* rx_flags */
#define END_READY 1ull         /* the receiver obeys segments: a ring may follow */
#define END_WANT_OUTSIDE 2ull  /* the receiver will not read on from rings: send again outside from `frozen` on */
#define END_WANT_ACTIVITY 4ull /* count activity for this end */
#define END_DONE 8ull          /* the receiver will read no more: its rings may be freed */
#define END_TOLD 16ull         /* the application has heard of a reset; for all processes that share the end */
#define END_SHUT 32ull         /* the application has shut this direction down; for the same */

struct end_segment {
	_Atomic uint64_t start; /* byte offset at which the segment begins */
	_Atomic uint64_t where;
};

/* One end of a conversation. Writer of every line: owner of the region. */
struct end_block {
	/* Line 0, sending: the peer polls it. */
	alignas(ARENA_LINE) _Atomic uint64_t tail; /* bytes published in rings end here */
	_Atomic uint64_t tx_flags;
	_Atomic uint64_t epoch; /* number of the newest segment; 0: none yet, everything outside */
	_Atomic uint64_t cookie; /* random; 0: block not in use */
	_Atomic uint64_t space_at; /* the sender waits for room: wake it once the peer's head is here or beyond; 0: it does not */
	uint64_t reserved0[3];
	/* Line 1, sending: slot e % END_SEGMENTS describes segment e. Valid for the two newest. */
	alignas(ARENA_LINE) struct end_segment segments[END_SEGMENTS];
	/* Line 2, receiving: the peer looks here when its ring seems full. */
	alignas(ARENA_LINE) _Atomic uint64_t head; /* bytes received, by whatever way */
	uint64_t reserved2[7];
	/* Line 3, receiving: changes seldom. */
	alignas(ARENA_LINE) _Atomic uint64_t acked; /* newest segment the receiver has entered */
	_Atomic uint64_t rx_flags;
	_Atomic uint64_t frozen;    /* with END_WANT_OUTSIDE: bytes received */
	_Atomic uint64_t attach[2]; /* 8 x 16 bits: 1 + board slot to wake for anything here, 0 = none */
	uint64_t reserved3[3];
	/* Line 4: of no interest to the peer, but to all processes and threads that share this end. */
	alignas(ARENA_LINE) _Atomic uint32_t tx_lock;
	_Atomic uint32_t rx_lock;
	_Atomic uint32_t error; /* that the application has not heard of, 0: none */
	_Atomic uint32_t replaying; /* 1: the newest segment is outside, and what lies in the rings before it from ... */
	_Atomic uint64_t replay;    /* ... here up to the tail is still to be sent there again */
	_Atomic uint64_t skip;      /* receiving: so many bytes come outside that were read from a ring before */
	_Atomic uint32_t lowat;     /* receiving: bytes that readiness and calls wait for, 0 as 1 */
	uint32_t reserved4[7];
	/* Lines 5 to 7: guard. */
	alignas(ARENA_LINE) uint64_t guard[24];
};

#define ACTIVITY_WORDS (REGION_ENDS / ACTIVITY_GROUP)
#define ACTIVITY_TOP_WORDS ((ACTIVITY_WORDS + ACTIVITY_FAN - 1) / ACTIVITY_FAN)

/* The fixed part of a region; rings follow at REGION_RINGS. */
struct region {
	struct arena_header header;
	/* Writer: owner. Counts what the owner published for ends of which the peer asked END_WANT_ACTIVITY: for every group
	 * of ACTIVITY_GROUP ends one word, for every ACTIVITY_FAN of those a word of `activity_top`. A reader that finds a word unchanged knows
	 * that none of its ends has news. */
	alignas(ARENA_LINE) _Atomic uint64_t activity_top[ACTIVITY_TOP_WORDS];
	alignas(ARENA_PAGE) _Atomic uint64_t activity[ACTIVITY_WORDS];
	alignas(ARENA_PAGE) struct end_block ends[REGION_ENDS];
};

#define REGION_RINGS (sizeof(struct region))

#define ARENA_ASSERT_AT(type, field, at) \
	_Static_assert(offsetof(type, field) == (at), #type "." #field " has moved: the format's major version must change")

ARENA_ASSERT_AT(struct arena_header, length, 48);
ARENA_ASSERT_AT(struct arena_header, checksum, 120);
ARENA_ASSERT_AT(struct board, name, 128);
ARENA_ASSERT_AT(struct board, slots_used, 144);
ARENA_ASSERT_AT(struct board, slots, 256);
ARENA_ASSERT_AT(struct board_slot, asleep, 0);
ARENA_ASSERT_AT(struct board_slot, spinning, 8);
ARENA_ASSERT_AT(struct board_slot, holder, 16);
ARENA_ASSERT_AT(struct board_slot, sleeps, 24);
ARENA_ASSERT_AT(struct board_slot, bell, 32);
ARENA_ASSERT_AT(struct end_block, tail, 0);
ARENA_ASSERT_AT(struct end_block, tx_flags, 8);
ARENA_ASSERT_AT(struct end_block, epoch, 16);
ARENA_ASSERT_AT(struct end_block, cookie, 24);
ARENA_ASSERT_AT(struct end_block, space_at, 32);
ARENA_ASSERT_AT(struct end_block, segments, 64);
ARENA_ASSERT_AT(struct end_block, head, 128);
ARENA_ASSERT_AT(struct end_block, acked, 192);
ARENA_ASSERT_AT(struct end_block, rx_flags, 200);
ARENA_ASSERT_AT(struct end_block, frozen, 208);
ARENA_ASSERT_AT(struct end_block, attach, 216);
ARENA_ASSERT_AT(struct end_block, tx_lock, 256);
ARENA_ASSERT_AT(struct end_block, error, 264);
ARENA_ASSERT_AT(struct end_block, replay, 272);
ARENA_ASSERT_AT(struct region, activity_top, 128);
ARENA_ASSERT_AT(struct region, activity, 4096);
ARENA_ASSERT_AT(struct region, ends, 20480);
_Static_assert(sizeof(struct arena_header) == 128, "header");
_Static_assert(sizeof(struct board_slot) == 64, "slot");
_Static_assert(sizeof(struct end_block) == 512, "end block");
_Static_assert(REGION_RINGS % ARENA_PAGE == 0, "rings are page-aligned");

#endif
