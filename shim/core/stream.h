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

#include <netinet/in.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "arena/arena.h"
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
	int bells[BOARD_BELLS];     /* the peer's doorbells (eventfds), hidden */
	_Atomic uint64_t rung[BOARD_SLOTS]; /* last sleep of each of the peer's slots that we rang for */
	uint32_t peer_pid;
	_Atomic uint32_t streams;   /* that use it */
	bool inherited;             /* made before fork by our parent: only its streams go on */
};

struct nn_stream {
	uint32_t index;
	_Atomic uint32_t phase;
	_Atomic uint32_t users;  /* calls in progress */
	_Atomic uint32_t fds;    /* numbers of this process that name it */
	int fd;                  /* one of them */
	bool connector;
	uint8_t stay_reason;     /* why ALONE or down for good */
	_Atomic uint32_t *sharers; /* processes that hold the socket, when it was inherited by fork; else NULL */
	struct state_stream *shown;

	/* Raw calls in flight on each direction. STREAM_TAKEN: no more of them, the core serves the direction. */
	_Atomic uint32_t raw_tx, raw_rx;
	_Atomic uint32_t calls;     /* until PAIRED */
	_Atomic uint64_t bytes;     /* until PAIRED, both directions */
	uint32_t next_try;          /* [rdv] `calls` at which the rendezvous tries again */
	uint16_t tries;             /* [rdv] */
	uint8_t rdv_state;          /* [rdv] */
	int rdv_fd;                 /* [rdv] socket bound to the connection's name, hidden; -1 */
	struct sockaddr_in6 local, remote; /* known from SEEKING on; IPv4 as v4-mapped */

	/* From PAIRED on. */
	struct nn_pair *pair;
	struct end_block *own;        /* written here */
	const struct end_block *peer; /* read only */
	uint32_t own_end, peer_end;   /* their numbers */
	uint64_t peer_cookie;
	_Atomic uint32_t shared;      /* set at fork: reload what another process may have changed */
	_Atomic int32_t error;        /* errno to report once, after the bytes: the reset the kernel did not see */
	_Atomic uint32_t kernel_hup;  /* the kernel has seen FIN or RST from the peer */
	_Atomic uint32_t stay_tx;     /* the sending direction must not go up again */
	_Atomic uint64_t looked_ns;   /* when the kernel was last asked */

	/* [tx] */
	uint8_t *tx_ring;    /* NULL: on TCP */
	uint64_t tx_mask;    /* ring bytes - 1 */
	uint64_t tx_start;   /* first byte of the current segment */
	uint64_t tx_tail;
	uint64_t tx_head;    /* last seen, never below tx_start */
	uint64_t tx_epoch;
	uint64_t tx_old_offset, tx_old_epoch; /* a ring left behind, freed when the peer has entered the epoch */
	uint64_t tx_offset;  /* of the current ring in the region */
	uint64_t tx_replay, tx_replay_end; /* bytes to be sent again through TCP (END_WANT_OUTSIDE) */
	_Atomic uint32_t tx_full; /* the last send found no room */
	_Atomic uint32_t tx_edges; /* times that room came back */

	/* [rx] */
	const uint8_t *rx_ring; /* NULL: on TCP */
	uint64_t rx_mask;
	uint64_t rx_start;
	uint64_t rx_off;
	uint64_t rx_epoch;
	bool rx_final, rx_eof;
	_Atomic int32_t lowat; /* SO_RCVLOWAT */
	bool want_inq;         /* TCP_INQ was asked for */

	_Atomic uint32_t regs; /* first registration in an epoll set, 1 + index; 0 none (see epoll.h) */
};

#define STREAM_TAKEN 0x80000000u

/* The stream that `fd` names, held until stream_put, or NULL. */
struct nn_stream *stream_get(int fd);
void stream_put(struct nn_stream *stream);

/* The rendezvous has succeeded: both end blocks are known. Called under the rendezvous lock, once. The receiving
 * direction becomes ready as soon as no raw call is in flight. */
void stream_paired(struct nn_stream *stream, struct nn_pair *pair, unsigned own_end, unsigned peer_end, uint64_t peer_cookie);

/* The stream stays on TCP for good. */
void stream_alone(struct nn_stream *stream, enum nn_reason reason);

#endif
