/* SPDX-License-Identifier: BSD-2-Clause */
/* What the files of this folder share. Everything here is called under the rendezvous lock (step.c). */
#ifndef SHIM_RENDEZVOUS_PRIVATE_H
#define SHIM_RENDEZVOUS_PRIVATE_H

#include <netinet/in.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "shim/core/config.h"
#include "shim/core/stream.h"

extern struct nn_config nn_config;

/* ---- hidden descriptors in holders (mailbox.c) ------------------------------------------------------------------ */

/* Hides `fd` and keeps its number in *holder, right even when it moves. 0, or -errno (fd is closed then, or was
 * negative: an error passed on) with *holder -1. */
int hold(int *holder, int fd);
void let_go(int *holder);

/* ---- sha256.c --------------------------------------------------------------------------------------------------- */

#define SHA256_SIZE 32
void sha256(const void *data, size_t length, uint8_t digest[SHA256_SIZE]);

/* ---- tuple.c: who talks to whom --------------------------------------------------------------------------------- */

/* A connection as its connector sees it; ports in network order. */
struct tuple {
	uint8_t local[16], remote[16];
	uint16_t local_port, remote_port;
};
_Static_assert(sizeof(struct tuple) == 36, "part of the wire format");

/* Asks the kernel for the stream's addresses. 0; -ENOTCONN: not connected (yet or any more); -EAFNOSUPPORT. */
int tuple_learn(struct nn_stream *stream);
void tuple_of(const struct nn_stream *stream, struct tuple *tuple);
bool tuple_same(const struct tuple *a, const struct tuple *b);

/* ---- mailbox.c: names and messages ------------------------------------------------------------------------------ */

#define MAILBOX_ID 16
struct mailbox_id {
	uint8_t bytes[MAILBOX_ID];
};

enum message_type { MESSAGE_KNOCK = 1, MESSAGE_HELLO, MESSAGE_OPEN, MESSAGE_ACCEPT };

#define MESSAGE_MAGIC 0x315a5652544f4e4eull /* "NNOTRVZ1" */
#ifndef MESSAGE_MAJOR /* a test builds a library with another */
#define MESSAGE_MAJOR 3u
#endif

#define MESSAGE_HAS_MEMORY 1u /* region and board are attached */
#define MESSAGE_HAVE_YOURS 2u /* the sender has mapped the recipient's memory */

/* One datagram. Everything up to the tuple means the same in all versions. */
struct message {
	uint64_t magic;
	uint16_t major;
	uint16_t type;
	uint32_t flags;
	uint64_t token;         /* into a mailbox: its token */
	uint64_t reply;         /* HELLO, OPEN: that of the sender's, for the answer */
	struct tuple tuple;
	uint32_t end;           /* OPEN, ACCEPT: the sender's end block ... */
	uint64_t cookie;        /* ... and what it is marked with */
	uint64_t memory;        /* OPEN, ACCEPT: which memory of the sender's holds it, random */
	uint64_t region_offset; /* MESSAGE_HAS_MEMORY: see struct arena_share */
	uint64_t region_length;
	uint64_t answers;       /* ACCEPT: cookie of the OPEN */
};
_Static_assert(sizeof(struct message) == 112, "wire format");

/* Order of attached descriptors: with MESSAGE_HAS_MEMORY these, then the proof if the message has one. */
enum { FD_REGION, FD_BOARD, FD_MEMORY_END, FDS_MAX };

struct incoming {
	struct message message;
	struct mailbox_id from;
	uint32_t pid; /* 0 unknown */
	uint32_t uid;
	int fds[FDS_MAX]; /* owned; -1 where none */
	unsigned fd_count;
};

/* Makes the mailbox when there is none. 0 or -errno. */
int mailbox_need(void);
bool mailbox_exists(void);
int mailbox_socket(void); /* -1: none */
const struct mailbox_id *mailbox_own(void);
uint64_t mailbox_token(void);     /* what the kernel lets through into it carries this */
void mailbox_forget(void); /* in a fork child */

/* A socket bound to the connection's name. The hidden descriptor goes to *holder. -EADDRINUSE... */
int mailbox_name_take(int *holder, const struct tuple *tuple);

/* Sends from the mailbox; never blocks. `to` NULL: to the connection's name. 0; -EAGAIN: full; -ECONNREFUSED: nobody. */
int mailbox_send(const struct message *message, const struct mailbox_id *to, const int *fds, unsigned count, uint32_t uid);

/* Takes the next datagram from `fd` (the mailbox when -1). `wanted` looks at it and says whether its descriptors are to be
 * received. 1: *in is filled, release with incoming_release; 0: a datagram was dropped; -EAGAIN: empty; -errno. */
int mailbox_receive(int fd, bool (*wanted)(const struct message *message), struct incoming *in);
void incoming_release(struct incoming *in);

/* 1 somebody holds that mailbox, 0 nobody, -errno unknown. */
int mailbox_alive(const struct mailbox_id *id);

int random_bytes(void *to, size_t length); /* 0 or -errno */

/* ---- diag.c: what the kernel says of sockets -------------------------------------------------------------------- */

struct socket_facts {
	uint64_t inode; /* 0: none any more */
	uint32_t uid;
	uint8_t state; /* TCP_ESTABLISHED... */
};

/* The TCP socket of this network namespace with these addresses. 0; -ENOENT: none; -errno: cannot tell. */
int diag_netlink(const struct sockaddr_in6 *local, const struct sockaddr_in6 *remote, uint32_t device, struct socket_facts *facts);
int diag_proc(const struct sockaddr_in6 *local, const struct sockaddr_in6 *remote, struct socket_facts *facts);
void diag_close(void); /* no more questions in this step */

/* ---- proof.c ---------------------------------------------------------------------------------------------------- */

enum proof_role { PROOF_HELLO = 1, PROOF_OPEN = 2 };

uint64_t proof_hash(enum proof_role role, const struct mailbox_id *from, const struct mailbox_id *to, const struct tuple *tuple);

/* The proof for `stream`: an epoll descriptor, the caller's to close; *uid is whom its socket belongs to. -errno. */
int proof_make(const struct nn_stream *stream, enum proof_role role, const struct mailbox_id *to, uint32_t *uid);

/* 0: the sender of *in, of the kernel-given name in->from, holds the socket that mirrors the stream's; *inode is that
 * socket's. -EACCES: proven wrong. Other -errno: cannot tell. */
int proof_check(const struct nn_stream *stream, enum proof_role role, const struct mailbox_id *to, const struct incoming *in,
	uint64_t *inode);

/* 0: the stream's own socket and a socket of that inode still mirror each other. */
int proof_still(const struct nn_stream *stream, uint64_t inode);

/* True when `fd` is an anonymous inode of that kind, such as "eventpoll". */
bool proof_is_anonymous(int fd, const char *kind);

/* ---- pair.c ----------------------------------------------------------------------------------------------------- */

struct pair {
	struct nn_pair shown; /* first: the core's view */
	bool used;
	uint8_t role;          /* both ends in this process: 0 the connectors', 1 the acceptors'; else 0 */
	bool peer_has_mine;
	struct mailbox_id peer_id;
	uint64_t memory;       /* names my memory */
	uint64_t peer_memory;  /* names the peer's, once mapped */
	struct arena_share share; /* fd hidden; -1 once the peer has it */
	/* A stream's end at the peer that becomes ready only when the peer has mapped mine. */
	uint32_t witness_end;
	uint64_t witness_cookie;
};

/* The pair with that peer, made when there is none. Held (streams + 1): rendezvous_pair_put. 0 or -errno. */
int pair_take(const struct mailbox_id *peer, bool connector, struct pair **pair);

/* Maps the memory a message brings, when it is not mapped yet. 0; -EPROTO; -errno. Takes the descriptors it keeps out of
 * in->fds. */
int pair_attach(struct pair *pair, struct incoming *in);

/* Fills in what the message says of my memory, and fds[] with that memory if the peer may not have it. Returns the number
 * of fds. */
unsigned pair_fill(struct pair *pair, struct message *message, int fds[FDS_MAX]);

/* True when the peer's end block is there and marked with `cookie`. */
bool pair_end_valid(const struct pair *pair, uint32_t end, uint64_t cookie);

void pair_confirmed(struct pair *pair);                                   /* the peer has mapped my memory */
void pair_witness(struct pair *pair, uint32_t end, uint64_t cookie);      /* it has when this end is ready */
void pairs_forked(void);
unsigned pairs_count(unsigned (*count)(const struct board *board, uint64_t now), uint64_t now);

/* ---- board.c ---------------------------------------------------------------------------------------------------- */

int board_need(void); /* makes the board when there is none: 0 or -errno */
int board_fd(void);

/* ---- seek.c: streams that seek their peer ----------------------------------------------------------------------- */

enum seek_state {
	SEEK_FREE,
	/* Connector. */
	SEEK_NAMELESS,      /* waits for its turn to take the connection's name */
	SEEK_NAMED,         /* holds it, waits for HELLO */
	SEEK_OPEN_UNSENT,   /* knows the peer, holds pair and end; the peer's mailbox was full */
	SEEK_OPEN_SENT,     /* waits for ACCEPT */
	/* Acceptor. Both take OPEN. */
	SEEK_KNOCKING,      /* nobody has taken our HELLO yet */
	SEEK_HELLO_SENT,    /* waits for OPEN */
	SEEK_ACCEPT_UNSENT, /* has verified the peer, holds pair and end; the peer's mailbox was full */
};

/* One such stream. Type-stable; number 0 is none. */
struct seek {
	uint32_t number;
	uint32_t next;     /* in the bucket or the free list */
	uint32_t next_gone;
	_Atomic uint32_t gone; /* the stream is: touch it no more */
	uint8_t state;
	bool connector;
	uint8_t refusals;  /* messages that failed the proof */
	uint32_t patience; /* steps left in this state */
	struct tuple tuple;
	struct nn_stream *stream;
	uint32_t stream_index;
	int name_fd;       /* the connection's name, hidden */
	uint64_t named_ns;
	struct mailbox_id peer;
	uint64_t peer_token; /* of its mailbox; 0: not known yet */
	uint64_t peer_inode;
	struct pair *pair; /* held; NULL */
	uint32_t own_end;
	uint64_t own_cookie;
	uint32_t peer_end;
	uint64_t peer_cookie;
	uint64_t since_ns; /* when it began to seek */
};

#define NAMES_MAX 512u

struct seek *seek_of(const struct nn_stream *stream); /* NULL: none yet */
struct seek *seek_add(struct nn_stream *stream);      /* addresses known; NULL: no memory */
struct seek *seek_find(const struct tuple *tuple, bool connector);
bool seek_free(struct seek *seek); /* gives back name, end and pair. False: the stream has been abandoned meanwhile */
void seek_detach(const struct nn_stream *stream); /* for use by rendezvous_abandon, without the lock */
void seek_reap(void);
bool seek_gone_pending(void);
void seeks_forked(void);
int seek_name_take(struct seek *seek); /* 0; -EAGAIN: too many names; -errno */
void seek_name_drop(struct seek *seek);
void seek_set(struct seek *seek, enum seek_state state);
unsigned seeks_waiting(void); /* how many wait for something in the mailbox */

/* ---- protocol.c: what we send, and when -------------------------------------------------------------------------- */

#define SEND_TRIES 100u /* at a mailbox that is full */
#define NAME_POLLS 300u /* looks for HELLO: 64 calls, then 236 * 8, about 2000 */

void protocol_step(struct seek *seek); /* the turn of one stream */

/* Both may end the stream's search. */
void protocol_send_open(struct seek *seek);
void protocol_send_accept(struct seek *seek);

/* Counts seek->patience down from `polls` and says when to come back; false at its end. */
bool protocol_wait(struct seek *seek, unsigned polls);

/* The end of a search: seek is free afterwards, and the stream ALONE or PAIRED. */
/* True: the patience counted in calls is at its end, but not yet that in time; the next try comes after many more calls. */
bool protocol_linger(struct seek *seek);
void protocol_give_up(struct seek *seek, enum nn_reason reason);
void protocol_paired(struct seek *seek);
enum nn_reason protocol_reason(int error);

/* ---- hear.c: what comes in -------------------------------------------------------------------------------------- */

void hear_name(struct seek *seek); /* SEEK_NAMED: looks for HELLO */
void hear_mailbox(void);           /* for all streams */

/* Streams that hear_mailbox holds: to be put after the lock is released. */
#define MAILBOX_BATCH 16u
unsigned hear_take_held(struct nn_stream *held[MAILBOX_BATCH]);

#endif
