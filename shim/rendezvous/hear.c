/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What comes in: HELLO at a connection's name, OPEN and ACCEPT in the mailbox. Anybody may send anything, so each step
 * looks at a bounded number of messages and proofs, and a stream gives up after a bounded number of false ones.
 *
 * Messages in the mailbox are for all the streams of this process. A stream that is not the one whose call we are in is held
 * (stream_get) while it is worked on; it is put after the lock is released, because that may free it.
 */
#include "shim/rendezvous/private.h"

#include <errno.h>
#include <string.h>

#include "shim/core/log.h"
#include "shim/core/sys.h"
#include "shim/rendezvous/rendezvous.h"

#define NAME_BATCH 4u /* messages read from a name in one step */
#define REFUSALS 16u  /* proofs that fail before the stream gives up */
#define CHECKS 4u     /* proofs of the mailbox's messages looked at in one step */

static struct nn_stream *held[MAILBOX_BATCH];
static unsigned held_count, checks;
static struct seek *turn; /* whose name socket is being read */

unsigned hear_take_held(struct nn_stream *taken[MAILBOX_BATCH])
{
	unsigned count = held_count;

	memcpy(taken, held, count * sizeof(held[0]));
	held_count = 0;
	return count;
}

/* A message that failed its proof does not count, but not for ever. */
static void refused(struct seek *seek, int error)
{
	nn_log(LOG_DEBUG, "a proof failed, error", -error);
	if (++seek->refusals >= REFUSALS)
		protocol_give_up(seek, NN_REASON_UNPROVEN);
}

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
		protocol_give_up(seek, NN_REASON_VERSION);
		return;
	}
	seek->peer = in->from;
	seek->peer_token = in->message.reply;
	error = mailbox_need();
	if (!error)
		error = take_end(seek, NULL);
	if (error) {
		protocol_give_up(seek, protocol_reason(error));
		return;
	}
	seek_set(seek, SEEK_OPEN_UNSENT);
	seek->patience = SEND_TRIES;
	protocol_send_open(seek);
}

void hear_name(struct seek *seek)
{
	static struct incoming in;
	int outcome = 0;

	for (unsigned i = 0; i < NAME_BATCH && seek->state == SEEK_NAMED && outcome >= 0; i++) {
		turn = seek;
		outcome = mailbox_receive(seek->name_fd, wants_hello, &in);
		if (outcome == 1) {
			hear_hello(seek, &in);
			incoming_release(&in);
		}
	}
	if (seek->state == SEEK_NAMED && !protocol_wait(seek, NAME_POLLS) && !protocol_linger(seek))
		protocol_give_up(seek, NN_REASON_NO_PEER);
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
		protocol_give_up(seek, NN_REASON_VERSION);
		return;
	}
	seek->peer = in->from;
	seek->peer_token = in->message.reply;
	seek->peer_end = in->message.end;
	seek->peer_cookie = in->message.cookie;
	error = take_end(seek, in);
	if (error) {
		protocol_give_up(seek, protocol_reason(error));
		return;
	}
	if (in->message.flags & MESSAGE_HAVE_YOURS)
		pair_confirmed(seek->pair);
	seek_set(seek, SEEK_ACCEPT_UNSENT);
	seek->patience = SEND_TRIES;
	protocol_send_accept(seek);
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
		protocol_give_up(seek, protocol_reason(error));
		return;
	}
	pair_confirmed(seek->pair);
	seek->peer_end = in->message.end;
	seek->peer_cookie = in->message.cookie;
	protocol_paired(seek);
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

void hear_mailbox(void)
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
