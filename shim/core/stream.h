/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A stream as this process sees it. Objects are type-stable: they live in one table, are never unmapped, and a stale
 * pointer to one is always safe to look at.
 *
 * Life:  YOUNG      counts calls and bytes; every call is the kernel's
 *        SEEKING    the rendezvous looks for the peer's shim; every call is the kernel's
 *        PAIRED     both end blocks are known; each direction is on TCP or on a ring
 *        ALONE      stays on TCP for good (see the reason)
 *
 * Who may touch what: fields marked [tx] under tx_lock of the end block, [rx] under rx_lock, [rdv] under the
 * rendezvous lock, the others are atomic or set before the stream is visible.
 */
#ifndef SHIM_CORE_STREAM_H
#define SHIM_CORE_STREAM_H

#include <errno.h>
#include <netinet/in.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "arena/arena.h"
#include "shim/core/clock.h"
#include "shim/core/nn.h"
#include "shim/core/state.h"

enum stream_phase { STREAM_FREE, STREAM_YOUNG, STREAM_SEEKING, STREAM_PAIRED, STREAM_ALONE };

/* What this process and one peer process share. Type-stable; made by the rendezvous, see rendezvous.h. */
struct nn_pair {
	struct arena *arena;        /* mine */
	struct region *own;         /* = arena_region(arena) */
	const struct region *peer;  /* the peer's, read-only; NULL until it is known */
	uint64_t peer_length;
	const struct board *peer_board;
	int voice;                  /* the socket that rings the peer's doorbells, hidden; see bell.h */
	_Atomic uint64_t rung[BOARD_SLOTS]; /* last sleep of each of the peer's slots that we rang for */
	uint32_t peer_pid;
	_Atomic uint32_t streams;   /* that use it */
	bool inherited;             /* made before fork by our parent: only its streams go on */
};

struct nn_stream {
	uint32_t index;
	_Atomic uint32_t phase;
	_Atomic uint32_t next_free; /* while this one is: 1 + index of the next, 0 none */
	_Atomic uint32_t stall_next; /* see stall.h: 1 + index of the next, 0 none */
	_Atomic bool stall_listed;
	_Atomic uint32_t users;  /* calls in progress; all that stands above stays when the slot is used again */
	_Atomic uint32_t fds;    /* numbers of this process that name it */
	int fd;                  /* one of them; when there are none: see kept */
	bool kept;               /* fd is a hidden copy, for calls that were in progress at the last close; else -1 then */
	bool connector;
	uint8_t stay_reason;     /* why ALONE or down for good */
	/* Who else holds the socket, see holders.h. */
	_Atomic uint32_t others, looks;
	struct holders *holders;
	uint32_t holders_use;
	_Atomic bool holders_unknown; /* besides those, who got it unseen */
	_Atomic bool heirs; /* programs that were started, or to whom it was passed, may hold the socket, and nobody counts them */
	uint8_t held_off; /* during fork: directions that may not go up meanwhile */
	struct state_stream *shown;

	/* Raw calls in flight on each direction. STREAM_TAKEN: no more of them, the core serves the direction. */
	_Atomic uint32_t raw_tx, raw_rx;
	_Atomic uint32_t calls;     /* until PAIRED */
	_Atomic uint64_t bytes;     /* until PAIRED, both directions */
	uint32_t next_try;          /* [rdv] `calls` at which the rendezvous tries again */
	uint16_t tries;             /* [rdv] */
	struct sockaddr_in6 local, remote; /* known from SEEKING on; IPv4 as v4-mapped */

	/* From PAIRED on. */
	struct nn_pair *pair;
	struct end_block *own;        /* written here */
	const struct end_block *peer; /* read only */
	uint32_t own_end, peer_end;   /* their numbers */
	uint64_t peer_cookie;
	_Atomic uint32_t shared;      /* set at fork: reload what another process may have changed */
	_Atomic uint32_t kernel_hup;  /* HUP_*; 0: the kernel has seen no end of the peer's, as far as we have looked */
	_Atomic uint32_t stay_tx;     /* the sending direction must not go up again */
	_Atomic uint64_t looked;      /* when the kernel was last asked, in ticks */
	_Atomic uint32_t mode;        /* O_NONBLOCK as last seen: 0 not known, 1 blocks, 2 does not */
	_Atomic uint32_t spin_rx, spin_tx; /* how spinning has fared, see spin.h */

	/* [tx] What was sent is own->tail, for all who share the end. */
	uint8_t *tx_ring;    /* NULL: on TCP */
	uint64_t tx_mask;    /* ring bytes - 1 */
	uint64_t tx_offset;  /* of the ring in the region */
	uint64_t tx_start;   /* first byte of the current segment */
	uint64_t tx_head;    /* the peer's head when last looked, never below tx_start */
	uint64_t tx_up_at;   /* where we last went up */
	uint64_t tx_by_ring; /* bytes sent in rings that were left: the kernel's books do not have them */
	uint64_t tx_epoch;   /* the newest segment that we published */
	uint64_t tx_old_offset, tx_old_mask; /* a ring left behind, freed when the peer has entered the newest segment */
	uint64_t tx_replay_from;  /* with tx_replaying: where that began */
	bool tx_replay_final;     /* afterwards it stays on TCP */
	uint64_t tx_replay_split; /* with tx_replaying: what lies before this is sent again from the old ring */
	bool tx_replaying;        /* = own->replaying, when last looked */
	bool ends_by_reset;       /* meanwhile the socket has SO_LINGER with no time, and had this before: */
	struct linger linger;
	uint8_t tx_replay_reason;  /* why the ring is left */
	uintptr_t tx_frame;        /* see lock_take_in */
	_Atomic uint32_t tx_full;  /* the last send found no room */
	uint64_t stall_at, stall_head; /* see stall.h: since when the peer has read nothing, in ns, 0 not known; its head then */
	uint64_t stalled_at;           /* tail at the last stall */
	uint64_t stall_until;          /* ns; no way up before */
	uint32_t stalls;
	_Atomic uint32_t tx_edges; /* times that room came back */

	/* [rx] What was received is own->head. */
	const uint8_t *rx_ring; /* NULL: on TCP */
	uint64_t rx_mask;
	uint64_t rx_start;
	uint64_t rx_epoch;      /* the segment that we are in */
	bool rx_final;          /* it is the last one, and on TCP; calls are raw */
	_Atomic bool rx_spoiled; /* the peer's words made no sense: nothing more is read */
	uintptr_t rx_frame;     /* see lock_take_in */
	_Atomic uint32_t rx_shut;  /* this process has shut it down: see stream_shut_rx */
	_Atomic uint32_t tx_shut;  /* the same of the sending direction, said or to be said by END_FIN */
	bool want_inq;          /* TCP_INQ was asked for */

	/* What the kernel last told an epoll set about the TCP connection; see epoll.h. */
	_Atomic uint32_t kernel_news;                         /* bits */
	_Atomic uint32_t kernel_in, kernel_out, kernel_end; /* edges: bytes, room, an end or an error */
	_Atomic uint32_t behind_ring; /* what the kernel told while bytes came by a ring: edges once that is left */
	_Atomic uint32_t expect_out; /* the kernel is about to report room only because its item was changed */
	_Atomic uint32_t left; /* the peer knows that we closed */
	bool shared_at_close;  /* other processes held the socket when we closed it */
	_Atomic uint32_t regs; /* first registration in an epoll set, 1 + index; 0 none (see epoll.h) */
};

#define STREAM_TAKEN 0x80000000u
#define HUP_END 1u    /* FIN or RST from the peer */
#define HUP_CLOSED 2u /* the connection is no more */

/* Reserves the tables. */
int streams_start(void);

/* A socket that will connect is registered in an epoll set before it does (nginx): it is tracked from here on, so that the
 * registration is known. Of a socket that is connected already nobody knows which end it is. */
void stream_adopt(int fd);

/* The stream that `fd` names, held until stream_put, or NULL. */
struct nn_stream *stream_get(int fd);
void stream_put(struct nn_stream *stream);

/* The stream of this index, which may be free. */
struct nn_stream *stream_at(uint32_t index);

/* The same, held until stream_put; NULL when no descriptor names it. */
struct nn_stream *stream_hold(uint32_t index);
uint32_t stream_top(void); /* no stream in use has this index or a higher one */

/* Goes on with whatever is due on a stream: the rendezvous, getting ready to receive. Called where a call on it ends. */
void stream_tick(struct nn_stream *stream);

/* The rendezvous has succeeded: both end blocks are known. Called under the rendezvous lock, once. The receiving
 * direction becomes ready as soon as no raw call is in flight. */
void stream_paired(struct nn_stream *stream, struct nn_pair *pair, unsigned own_end, unsigned peer_end, uint64_t peer_cookie);

/* Tells the peer that we are gone, unless it knows or others go on with the socket (close.c). */
void stream_farewell(struct nn_stream *stream);

/* The stream stays on TCP for good. */
void stream_alone(struct nn_stream *stream, enum nn_reason reason);

/* After publishing for the peer (tail, head, flags, epoch): counts it, for large epoll sets, and wakes who sleeps. */
void stream_tell(struct nn_stream *stream);


#define STREAM_LOOK_TICKS 500000u /* a fraction of a millisecond */

/* Is it time to ask the kernel whether the peer still lives, though memory has all that is needed? */
static inline bool stream_look_due(const struct nn_stream *stream)
{
	return cpu_ticks() - atomic_load_explicit(&stream->looked, memory_order_relaxed) > STREAM_LOOK_TICKS;
}

/* True when the application wants no waiting: MSG_DONTWAIT or O_NONBLOCK. */
bool stream_nonblocking(struct nn_stream *stream, int flags);

/* Is the kernel to be asked about all of it, for good? */
bool stream_is_kernels(const struct nn_stream *stream);

/* Does `fd` name the stream? */
bool stream_is_at(const struct nn_stream *stream, int fd);

/* Is stream->fd its socket? Not after the last close, when there was no descriptor to be had for the calls in progress. */
bool stream_is_open(const struct nn_stream *stream);

static inline bool stream_is_paired(const struct nn_stream *stream)
{
	return atomic_load_explicit(&stream->phase, memory_order_acquire) == STREAM_PAIRED;
}

/* As far as this process knows, other processes hold the socket. */
static inline bool stream_is_shared(const struct nn_stream *stream)
{
	return atomic_load(&stream->others) > 1;
}

static inline bool tx_taken(const struct nn_stream *stream)
{
	return atomic_load_explicit(&stream->raw_tx, memory_order_acquire) & STREAM_TAKEN;
}

static inline bool rx_taken(const struct nn_stream *stream)
{
	return atomic_load_explicit(&stream->raw_rx, memory_order_acquire) & STREAM_TAKEN;
}

/*
 * Is the peer's end block still about this connection? A peer that gives up, or closes, before it has heard that we are paired hands
 * its block back, and another stream of its own may get it. The cookie goes first; so it is looked at after the words it vouches for.
 * Once both have gone up or down the block stays until we are done with it (lease.c).
 */
static inline bool peer_holds(const struct nn_stream *stream)
{
	return atomic_load(&stream->peer->cookie) == stream->peer_cookie;
}

/* Has the application, in this process or another that shares the end, shut the receiving direction down? Of a paired stream. */
static inline bool stream_shut_rx(const struct nn_stream *stream)
{
	return atomic_load_explicit(&stream->rx_shut, memory_order_relaxed) ||
	       (atomic_load_explicit(&stream->own->rx_flags, memory_order_relaxed) & END_SHUT);
}

void stream_set_shut_rx(struct nn_stream *stream);

/* SO_RCVLOWAT of a paired stream, at least 1. Any process that shares the end may have set it. */
static inline uint32_t stream_lowat(const struct nn_stream *stream)
{
	uint32_t lowat = atomic_load_explicit(&stream->own->lowat, memory_order_relaxed);
	return lowat ? lowat : 1;
}

/* The number of the peer's newest segment. */
static inline uint64_t peer_epoch(const struct nn_stream *stream)
{
	uint64_t epoch = atomic_load(&stream->peer->epoch);
	return epoch == stream->rx_epoch || peer_holds(stream) ? epoch : stream->rx_epoch;
}

/* What the peer is seen to have done with its sending direction: any of END_FIN, END_CLOSED, END_RESET. */
static inline uint64_t peer_tx_flags(const struct nn_stream *stream)
{
	uint64_t flags = atomic_load(&stream->peer->tx_flags);
	if (flags & (END_CLOSED | END_RESET))
		flags |= END_FIN;
	return !flags || peer_holds(stream) ? flags : 0;
}

#endif
