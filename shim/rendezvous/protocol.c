/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The messages, and what each end does when it is its turn.
 *
 *   connector                                acceptor
 *   NAMELESS, NAMED      <- KNOCK, HELLO     KNOCKING, HELLO_SENT
 *   OPEN_UNSENT, OPEN_SENT     OPEN ->
 *                              <- ACCEPT     ACCEPT_UNSENT
 *
 * KNOCK says nothing: it finds out for one system call whether anybody holds the connection's name. HELLO and OPEN carry a
 * proof, so neither end builds anything for a stranger. ACCEPT comes from the mailbox that HELLO has proven, and the
 * connector asks the kernel once more whether the same two sockets still mirror each other.
 *
 * Both ends count their own calls and get here at about the same count, in a ping-pong one call apart. The acceptor comes
 * back after 1, 2, 4 ... calls, the connector looks at every call for a while and then at every eighth.
 *
 * Anything unexpected (duplicates, unknown connections, messages for another state) is dropped, and its descriptors
 * are not even received.
 */
#include "shim/rendezvous/private.h"

#include <errno.h>
#include <string.h>

#include "shim/core/clock.h"
#include "shim/core/sys.h"

/* Calls alone say little of a peer that only listens, or is not let to run: who has run out of them goes on for a while, seldom. */
#define LINGER_NS 3000000000ull
#define LINGER_CALLS 256u
#define KNOCKS 10u        /* 1 + 2 + 4 ... = 1023 calls */
#define ANSWER_POLLS 180u /* 64 calls, then 116 * 8: about 1000 */
#define CLOSE_POLLS 64u   /* how many polls are at each call */

static void next_try(struct seek *seek, uint32_t calls)
{
	seek->stream->next_try = atomic_load_explicit(&seek->stream->calls, memory_order_relaxed) + calls;
}

bool protocol_linger(struct seek *seek)
{
	if (nn_now_ns() - seek->since_ns > LINGER_NS)
		return false;
	next_try(seek, LINGER_CALLS);
	return true;
}

void protocol_give_up(struct seek *seek, enum nn_reason reason)
{
	struct nn_stream *stream = seek->stream;

	if (seek->refusals && reason == NN_REASON_NO_PEER)
		reason = NN_REASON_UNPROVEN;
	if (seek_free(seek))
		stream_alone(stream, reason);
}

enum nn_reason protocol_reason(int error)
{
	switch (error) {
	case -EMFILE:
	case -ENFILE:
		return NN_REASON_NO_FDS;
	case -EACCES:
	case -EPROTO:
	case -ENOENT:
		return NN_REASON_UNPROVEN;
	case -ECONNREFUSED:
		return NN_REASON_NO_PEER;
	default:
		return NN_REASON_NO_MEMORY;
	}
}

/* True when a send that failed so may succeed later. */
static bool passing(int error)
{
	return error == -EAGAIN || error == -ETOOMANYREFS || error == -ENOBUFS || error == -ENOMEM || error == -EINTR;
}

bool protocol_wait(struct seek *seek, unsigned polls)
{
	if (seek->patience == 0)
		return false;
	seek->patience--;
	next_try(seek, polls - seek->patience < CLOSE_POLLS ? 1 : 8);
	return true;
}

void protocol_paired(struct seek *seek)
{
	struct nn_stream *stream = seek->stream;
	struct pair *pair = seek->pair;
	uint32_t own_end = seek->own_end, peer_end = seek->peer_end;
	uint64_t peer_cookie = seek->peer_cookie;

	seek->pair = NULL; /* pair and end are the stream's now */
	if (seek_free(seek))
		stream_paired(stream, &pair->shown, own_end, peer_end, peer_cookie);
	else
		seek->pair = pair;
}

/* ---- sending ---------------------------------------------------------------------------------------------------- */

static void compose(struct message *message, const struct seek *seek, enum message_type type)
{
	memset(message, 0, sizeof(*message));
	message->magic = MESSAGE_MAGIC;
	message->major = MESSAGE_MAJOR;
	message->type = (uint16_t)type;
	message->tuple = seek->tuple;
	message->token = seek->peer_token;
	if (type != MESSAGE_KNOCK)
		message->reply = mailbox_token();
	if (seek->pair) {
		message->end = seek->own_end;
		message->cookie = seek->own_cookie;
		message->answers = seek->peer_cookie;
	}
}

static int send_with_proof(const struct seek *seek, struct message *message, enum proof_role role, const struct mailbox_id *to,
	int fds[FDS_MAX], unsigned count)
{
	uint32_t uid;
	int error, proof = proof_make(seek->stream, role, to, &uid);

	if (proof < 0)
		return proof;
	fds[count] = proof;
	error = mailbox_send(message, to, fds, count + 1, uid);
	sys_call1(SYS_close, proof);
	return error;
}

static void knock(struct seek *seek)
{
	struct message message;
	int fds[FDS_MAX];
	int error = mailbox_need();

	if (error) {
		protocol_give_up(seek, protocol_reason(error));
		return;
	}
	compose(&message, seek, MESSAGE_KNOCK);
	error = mailbox_send(&message, NULL, NULL, 0, 0);
	if (!error) {
		compose(&message, seek, MESSAGE_HELLO);
		error = send_with_proof(seek, &message, PROOF_HELLO, NULL, fds, 0);
	}
	if (!error) {
		seek_set(seek, SEEK_HELLO_SENT);
		seek->patience = CLOSE_POLLS;
		next_try(seek, 1);
	} else if (seek->stream->tries == KNOCKS && (error == -ECONNREFUSED || passing(error)) && protocol_linger(seek)) {
		return;
	} else if ((error != -ECONNREFUSED && !passing(error)) || seek->stream->tries == KNOCKS) {
		protocol_give_up(seek, passing(error) ? NN_REASON_NO_PEER : protocol_reason(error));
	} else {
		next_try(seek, 1u << seek->stream->tries++);
	}
}

void protocol_send_open(struct seek *seek)
{
	struct message message;
	int fds[FDS_MAX];
	int error;

	compose(&message, seek, MESSAGE_OPEN);
	error = send_with_proof(seek, &message, PROOF_OPEN, &seek->peer, fds, pair_fill(seek->pair, &message, fds));
	if (!error) {
		seek_name_drop(seek);
		seek_set(seek, SEEK_OPEN_SENT);
		seek->patience = ANSWER_POLLS;
		next_try(seek, 1);
	} else if (!passing(error) || !protocol_wait(seek, SEND_TRIES)) {
		protocol_give_up(seek, passing(error) ? NN_REASON_NO_PEER : protocol_reason(error));
	}
}

void protocol_send_accept(struct seek *seek)
{
	struct message message;
	int fds[FDS_MAX];
	unsigned count;
	int error;

	compose(&message, seek, MESSAGE_ACCEPT);
	count = pair_fill(seek->pair, &message, fds);
	error = mailbox_send(&message, &seek->peer, fds, count, (uint32_t)sys_call0(SYS_geteuid));
	if (!error) {
		pair_witness(seek->pair, seek->peer_end, seek->peer_cookie);
		protocol_paired(seek);
	} else if (!passing(error) || !protocol_wait(seek, SEND_TRIES)) {
		protocol_give_up(seek, passing(error) ? NN_REASON_NO_PEER : protocol_reason(error));
	}
}

/* ---- a stream's turn -------------------------------------------------------------------------------------------- */

static void take_name(struct seek *seek)
{
	int error = seek_name_take(seek);

	if (!error) {
		seek_set(seek, SEEK_NAMED);
		seek->patience = NAME_POLLS;
		next_try(seek, 1);
	} else if ((error == -EAGAIN || error == -EADDRINUSE) && seek->stream->tries < KNOCKS) {
		next_try(seek, 1u << seek->stream->tries++);
	} else {
		protocol_give_up(seek, error == -EAGAIN || error == -EADDRINUSE ? NN_REASON_NO_PEER : protocol_reason(error));
	}
}

void protocol_step(struct seek *seek)
{
	switch ((enum seek_state)seek->state) {
	case SEEK_NAMELESS:
		take_name(seek);
		return;
	case SEEK_NAMED:
		hear_name(seek);
		return;
	case SEEK_OPEN_UNSENT:
		protocol_send_open(seek);
		return;
	case SEEK_OPEN_SENT:
		if (!protocol_wait(seek, ANSWER_POLLS) && !protocol_linger(seek))
			protocol_give_up(seek, NN_REASON_NO_PEER);
		return;
	case SEEK_KNOCKING:
		knock(seek);
		return;
	case SEEK_HELLO_SENT:
		if (protocol_wait(seek, CLOSE_POLLS))
			return;
		if (seek->stream->tries == KNOCKS && !protocol_linger(seek)) {
			protocol_give_up(seek, NN_REASON_NO_PEER);
			return;
		}
		seek_set(seek, SEEK_KNOCKING);
		if (seek->stream->tries == KNOCKS)
			return;
		next_try(seek, 1u << seek->stream->tries++);
		return;
	case SEEK_ACCEPT_UNSENT:
		protocol_send_accept(seek);
		return;
	case SEEK_FREE:
		return;
	}
}
