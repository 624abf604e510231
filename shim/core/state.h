/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a process shows of itself: a memfd named "notnets-state", kept open on a high descriptor as long as the process
 * has connections, which `notnets stat` finds in /proc/PID/fd and maps. Written by the process's threads with relaxed
 * stores; a reader may see counters of slightly different moments, never a torn word. Not shared with peers.
 */
#ifndef SHIM_CORE_STATE_H
#define SHIM_CORE_STATE_H

#include <netinet/in.h>
#include <stdatomic.h>
#include <stdint.h>

#define STATE_MAGIC 0x31415453544e4eull /* "NNTSTA1" */
#define STATE_VERSION 2u
#define STATE_STREAMS (1u << 18)
#define STATE_NAME "notnets-state"

/* Why a direction is where it is. The words are in state_reason_text(). */
enum nn_reason {
	NN_REASON_NONE,        /* up */
	NN_REASON_SHORT,       /* too short so far */
	NN_REASON_SEARCHING,   /* looking for the peer's shim */
	NN_REASON_NO_PEER,     /* peer has no shim */
	NN_REASON_VERSION,     /* peer has another version */
	NN_REASON_UNPROVEN,    /* peer could not be proven */
	NN_REASON_NO_MEMORY,   /* no shared memory */
	NN_REASON_NO_FDS,      /* no descriptors left */
	NN_REASON_SHARED,      /* socket shared with another process */
	NN_REASON_OPTION,      /* socket option needs TCP */
	NN_REASON_OOB,         /* urgent data needs TCP */
	NN_REASON_PASSED,      /* down: fd passed away */
	NN_REASON_EXEC,        /* down: fd inherited by another program */
	NN_REASON_CALL,        /* down: call needs TCP */
	NN_REASON_PEER,        /* down: peer asked for it */
	NN_REASON_PEER_CLOSED, /* down: peer has closed */
	NN_REASON_SELF,        /* connected to itself */
	NN_REASON_NOT_READY,   /* peer not ready yet */
	NN_REASON_UNSUPPORTED, /* not plain TCP */
	NN_REASON_CHAOS,       /* down: by chance, for tests */
	NN_REASON_STALLED,     /* down: ring full, peer does not read */
	NN_REASONS
};
const char *state_reason_text(unsigned reason); /* English, no capitals; "unknown" when out of range */

struct state_direction {
	_Atomic uint64_t ring_bytes;
	_Atomic uint64_t tcp_bytes;
	_Atomic uint64_t calls;
	_Atomic uint32_t up;       /* 1: on the ring now */
	_Atomic uint32_t reason;   /* enum nn_reason, when not up */
	_Atomic uint32_t ups;      /* switches up and down so far */
	_Atomic uint32_t downs;
	_Atomic uint64_t ring_size; /* bytes, 0 when none */
};

/* One connection. in_use is published last and cleared first. */
struct state_stream {
	_Atomic uint32_t in_use;
	int32_t fd; /* the number it was opened as */
	_Atomic uint32_t peer_pid; /* 0 unknown */
	uint32_t connector; /* 1: this end connected, 0: it accepted */
	struct sockaddr_in6 local, remote; /* IPv4 as v4-mapped; family 0 when not known yet */
	struct state_direction tx, rx;
};

struct state_totals {
	_Atomic uint64_t connections; /* TCP connections seen */
	_Atomic uint64_t streams;     /* of these, with a shim at both ends */
	_Atomic uint64_t ups, downs;  /* directions switched */
	_Atomic uint64_t tx_ring, rx_ring, tx_tcp, rx_tcp; /* bytes; of closed connections only: add the live ones */
	_Atomic uint64_t doorbells_rung, doorbells_heard;
	_Atomic uint64_t spins, spin_hits, sleeps;
	_Atomic uint64_t reasons[NN_REASONS]; /* closed connections by the last reason of their sending direction */
};

struct state {
	_Atomic uint64_t magic; /* published last */
	uint32_t version;
	_Atomic uint32_t pid;
	char program[64];
	uint32_t stream_size;        /* sizeof(struct state_stream) */
	_Atomic uint32_t stream_top; /* streams[] used so far; look no further */
	struct state_totals totals;
	struct state_stream streams[STATE_STREAMS];
};

#endif
