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

#include "shim/core/log.h"
#include "shim/core/sys.h"
#include "shim/rendezvous/rendezvous.h"

#define KNOCKS 10u          /* 1 + 2 + 4 ... = 1023 calls */
#define NAME_POLLS 300u     /* 64 calls, then 236 * 8: about 2000 calls */
#define ANSWER_POLLS 180u   /* 64 calls, then 116 * 8: about 1000 */
#define CLOSE_POLLS 64u     /* how many polls are at each call */
#define SEND_TRIES 100u
#define REFUSALS 16u        /* proofs that fail before the stream gives up */
#define CHECKS 4u           /* proofs looked at in one step */

static struct nn_stream *held[MAILBOX_BATCH];
static unsigned held_count, checks;
static struct seek *turn; /* whose name socket is being read */

unsigned protocol_take_held(struct nn_stream *taken[MAILBOX_BATCH])
{
	unsigned count = held_count;

	memcpy(taken, held, count * sizeof(held[0]));
	held_count = 0;
	return count;
}

static void next_try(struct seek *seek, uint32_t calls)
{
	seek->stream->next_try = atomic_load_explicit(&seek->stream->calls, memory_order_relaxed) + calls;
}

static void give_up(struct seek *seek, enum nn_reason reason)
{
	struct nn_stream *stream = seek->stream;

	if (seek->refusals && reason == NN_REASON_NO_PEER)
		reason = NN_REASON_UNPROVEN;
	if (seek_free(seek))
		stream_alone(stream, reason);
}

static enum nn_reason reason_of(int error)
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

/* Counts down; false when the patience is at its end. */
static bool wait_on(struct seek *seek, unsigned polls)
{
	if (seek->patience == 0)
		return false;
	seek->patience--;
	next_try(seek, polls - seek->patience < CLOSE_POLLS ? 1 : 8);
	return true;
}

static void paired(struct seek *seek)
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

/* A message that failed its proof does not count, but not for ever. */
static void refused(struct seek *seek, int error)
{
	nn_log(LOG_DEBUG, "a proof failed, error", -error);
	if (++seek->refusals >= REFUSALS)
		give_up(seek, NN_REASON_UNPROVEN);
}

/* ---- sending ---------------------------------------------------------------------------------------------------- */

static void compose(struct message *message, const struct seek *seek, enum message_type type)
{
	memset(message, 0, sizeof(*message));
	message->magic = MESSAGE_MAGIC;
	message->major = MESSAGE_MAJOR;
	message->type = (uint16_t)type;
	message->tuple = seek->tuple;
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
		give_up(seek, reason_of(error));
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
	} else if ((error != -ECONNREFUSED && !passing(error)) || seek->stream->tries == KNOCKS) {
		give_up(seek, passing(error) ? NN_REASON_NO_PEER : reason_of(error));
	} else {
		next_try(seek, 1u << seek->stream->tries++);
	}
}

static void send_open(struct seek *seek)
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
	} else if (!passing(error) || !wait_on(seek, SEND_TRIES)) {
		give_up(seek, passing(error) ? NN_REASON_NO_PEER : reason_of(error));
	}
}

static void send_accept(struct seek *seek)
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
		paired(seek);
	} else if (!passing(error) || !wait_on(seek, SEND_TRIES)) {
		give_up(seek, passing(error) ? NN_REASON_NO_PEER : reason_of(error));
	}
}

/* ---- receiving -------------------------------------------------------------------------------------------------- */

/* Takes the pair with seek->peer and an end of mine in it. 0 or -errno. */
static int take_end(struct seek *seek, struct incoming *in)
{
	struct pair *pair;
	uint64_t cookie;
	int end, error;

	do
		error = random_bytes(&cookie, sizeof(cookie));
	while (!error && !cookie);
	if (!error)
		error = pair_take(&seek->peer, seek->connector, &pair);
	if (error)
		return error;
	if (in) /* the acceptor learns of the peer's memory first */
		error = pair_attach(pair, in);
	if (!error && in && !pair_end_valid(pair, in->message.end, in->message.cookie))
		error = -EPROTO;
	if (!error) {
		end = arena_end_alloc(pair->shown.arena, cookie);
		error = end < 0 ? end : 0;
	}
	if (error) {
		rendezvous_pair_put(&pair->shown);
		return error;
	}
	seek->pair = pair;
	seek->own_end = (uint32_t)end;
	seek->own_cookie = cookie;
	return 0;
}

static bool wants_hello(const struct message *message)
{
	return message->type == MESSAGE_HELLO && tuple_same(&message->tuple, &turn->tuple);
}

static void hear_hello(struct seek *seek, struct incoming *in)
{
	int error = proof_check(seek->stream, PROOF_HELLO, NULL, in, &seek->peer_inode);

	if (error) {
		refused(seek, error);
		return;
	}
	if (in->message.major != MESSAGE_MAJOR) {
		give_up(seek, NN_REASON_VERSION);
		return;
	}
	seek->peer = in->from;
	error = mailbox_need();
	if (!error)
		error = take_end(seek, NULL);
	if (error) {
		give_up(seek, reason_of(error));
		return;
	}
	seek_set(seek, SEEK_OPEN_UNSENT);
	seek->patience = SEND_TRIES;
	send_open(seek);
}

static void read_name(struct seek *seek)
{
	static struct incoming in;
	int outcome = 0;

	for (unsigned i = 0; i < 4 && seek->state == SEEK_NAMED && outcome >= 0; i++) {
		turn = seek;
		outcome = mailbox_receive(seek->name_fd, wants_hello, &in);
		if (outcome == 1) {
			hear_hello(seek, &in);
			incoming_release(&in);
		}
	}
	if (seek->state == SEEK_NAMED && !wait_on(seek, NAME_POLLS))
		give_up(seek, NN_REASON_NO_PEER);
}

/* The stream that waits for this very message. */
static struct seek *addressee(const struct message *message)
{
	struct seek *seek;

	if (message->type == MESSAGE_OPEN) {
		seek = seek_find(&message->tuple, false);
		return seek && (seek->state == SEEK_KNOCKING || seek->state == SEEK_HELLO_SENT) ? seek : NULL;
	}
	if (message->type == MESSAGE_ACCEPT && message->major == MESSAGE_MAJOR) {
		seek = seek_find(&message->tuple, true);
		return seek && seek->state == SEEK_OPEN_SENT && seek->own_cookie == message->answers ? seek : NULL;
	}
	return NULL;
}

static bool wanted(const struct message *message)
{
	return addressee(message) != NULL;
}

static void hear_open(struct seek *seek, struct incoming *in)
{
	int error;

	checks++;
	error = proof_check(seek->stream, PROOF_OPEN, mailbox_own(), in, &seek->peer_inode);
	if (error) {
		refused(seek, error);
		return;
	}
	if (in->message.major != MESSAGE_MAJOR) {
		give_up(seek, NN_REASON_VERSION);
		return;
	}
	seek->peer = in->from;
	seek->peer_end = in->message.end;
	seek->peer_cookie = in->message.cookie;
	error = take_end(seek, in);
	if (error) {
		give_up(seek, reason_of(error));
		return;
	}
	if (in->message.flags & MESSAGE_HAVE_YOURS)
		pair_confirmed(seek->pair);
	seek_set(seek, SEEK_ACCEPT_UNSENT);
	seek->patience = SEND_TRIES;
	send_accept(seek);
}

static void hear_accept(struct seek *seek, struct incoming *in)
{
	int error;

	if (memcmp(&in->from, &seek->peer, sizeof(in->from)) != 0)
		return;
	error = proof_still(seek->stream, seek->peer_inode);
	if (!error)
		error = pair_attach(seek->pair, in);
	if (!error && !pair_end_valid(seek->pair, in->message.end, in->message.cookie))
		error = -EPROTO;
	if (error) {
		give_up(seek, reason_of(error));
		return;
	}
	pair_confirmed(seek->pair);
	seek->peer_end = in->message.end;
	seek->peer_cookie = in->message.cookie;
	paired(seek);
}

/* A stream that is not ours to step may be closed by another thread at any time: hold it. */
static bool hold_stream(const struct seek *seek)
{
	struct nn_stream *stream = stream_get(seek->stream->fd);

	if (!stream)
		return false;
	held[held_count++] = stream;
	return stream == seek->stream && seek_of(stream) == seek &&
	       atomic_load_explicit(&stream->phase, memory_order_acquire) == STREAM_SEEKING;
}

void protocol_mailbox(void)
{
	static struct incoming in;

	checks = 0;
	for (unsigned i = 0; i < MAILBOX_BATCH && checks < CHECKS && mailbox_exists(); i++) {
		int outcome = mailbox_receive(-1, wanted, &in);
		struct seek *seek;

		if (outcome < 0)
			break;
		if (outcome == 0)
			continue;
		seek = addressee(&in.message);
		if (seek && hold_stream(seek)) {
			if (in.message.type == MESSAGE_OPEN)
				hear_open(seek, &in);
			else
				hear_accept(seek, &in);
		}
		incoming_release(&in);
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
		give_up(seek, error == -EAGAIN || error == -EADDRINUSE ? NN_REASON_NO_PEER : reason_of(error));
	}
}

void protocol_step(struct seek *seek)
{
	switch ((enum seek_state)seek->state) {
	case SEEK_NAMELESS:
		take_name(seek);
		return;
	case SEEK_NAMED:
		read_name(seek);
		return;
	case SEEK_OPEN_UNSENT:
		send_open(seek);
		return;
	case SEEK_OPEN_SENT:
		if (!wait_on(seek, ANSWER_POLLS))
			give_up(seek, NN_REASON_NO_PEER);
		return;
	case SEEK_KNOCKING:
		knock(seek);
		return;
	case SEEK_HELLO_SENT:
		if (wait_on(seek, CLOSE_POLLS))
			return;
		if (seek->stream->tries == KNOCKS) {
			give_up(seek, NN_REASON_NO_PEER);
			return;
		}
		seek_set(seek, SEEK_KNOCKING);
		next_try(seek, 1u << seek->stream->tries++);
		return;
	case SEEK_ACCEPT_UNSENT:
		send_accept(seek);
		return;
	case SEEK_FREE:
		return;
	}
}
