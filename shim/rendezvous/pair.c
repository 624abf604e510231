/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Pairs: what this process and one peer process share, found by the peer's mailbox. Objects are type-stable.
 *
 * My region is made when the first stream with that peer needs it. Its descriptor is kept until the peer has mapped it: it
 * says so (MESSAGE_HAVE_YOURS), it answers an OPEN, or an end of its that needs my region becomes ready.
 *
 * A pair without streams stays: the peer will come again. It is freed when another pair is made and the peer's mailbox is
 * gone. A few are looked at each time, in turn.
 */
#include "shim/core/process.h"
#include "shim/rendezvous/private.h"

#include "shim/core/lease.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "shim/core/sys.h"
#include "shim/rendezvous/rendezvous.h"

#define PAIRS_MAX 4096u
#define CHUNK 32u
#define SWEEP_LOOK 64u  /* pairs looked at for each new one */
#define SWEEP_PROBE 4u  /* mailboxes tried */
#define VOICE_ROOM (2 * (int)BOARD_SLOTS * 1024) /* a datagram costs somewhat less; the kernel doubles it, within its limits */

static struct pair *chunks[PAIRS_MAX / CHUNK];
static unsigned pair_top, sweep_at;

static struct pair *pair_at(unsigned number)
{
	return &chunks[number / CHUNK][number % CHUNK];
}

/* ---- making and freeing ----------------------------------------------------------------------------------------- */

static void pair_free(struct pair *pair)
{
	struct nn_pair *shown = &pair->shown;

	if (!lease_forget(shown))
		return; /* at a later sweep */
	if (shown->peer)
		region_detach(shown->peer, shown->peer_length);
	if (shown->peer_board)
		board_detach(shown->peer_board);
	let_go(&shown->voice);
	let_go(&pair->share.fd);
	if (shown->arena)
		arena_destroy(shown->arena);
	pair->used = false;
}

/* True when the peer has certainly mapped my memory. */
static void look_at_witness(struct pair *pair)
{
	const struct end_block *end;

	if (pair->share.fd < 0 || !pair->witness_cookie || !pair->shown.peer)
		return;
	end = &pair->shown.peer->ends[pair->witness_end];
	if (atomic_load_explicit(&end->cookie, memory_order_acquire) == pair->witness_cookie &&
	    atomic_load_explicit(&end->rx_flags, memory_order_acquire) & END_READY)
		pair_confirmed(pair);
}

static void sweep(void)
{
	unsigned probes = 0;

	for (unsigned i = 0; i < SWEEP_LOOK && i < pair_top && probes < SWEEP_PROBE; i++) {
		struct pair *pair = pair_at(sweep_at = (sweep_at + 1) % pair_top);

		if (!pair->used)
			continue;
		look_at_witness(pair);
		if (atomic_load_explicit(&pair->shown.streams, memory_order_acquire) != 0)
			continue;
		if (pair->shown.inherited) {
			pair_free(pair);
			continue;
		}
		probes++;
		if (mailbox_alive(&pair->peer_id) == 0)
			pair_free(pair);
	}
}

static struct pair *pair_new(void)
{
	struct pair *pair = NULL;

	for (unsigned i = 0; i < pair_top && !pair; i++)
		if (!pair_at(i)->used)
			pair = pair_at(i);
	if (!pair) {
		if (pair_top == PAIRS_MAX)
			return NULL;
		if (pair_top % CHUNK == 0) {
			void *chunk = (void *)sys_call6(SYS_mmap, 0, sizeof(struct pair) * CHUNK, PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

			if (sys_failed(chunk))
				return NULL;
			chunks[pair_top / CHUNK] = chunk;
		}
		pair = pair_at(pair_top++);
	}
	memset(pair, 0, sizeof(*pair));
	pair->share.fd = -1;
	pair->shown.voice = -1;
	return pair;
}

/* May so much more be mapped? */
static bool room_for(uint64_t length)
{
	uint64_t allowance = process_allowance(), mapped = 0;

	if (allowance == UINT64_MAX)
		return true;
	for (unsigned i = 0; i < pair_top; i++)
		if (pair_at(i)->used)
			mapped += pair_at(i)->share.length + (pair_at(i)->shown.peer ? pair_at(i)->shown.peer_length : 0);
	return length <= allowance && mapped <= allowance - length;
}

/* A region's length: the backend's own choice (0), or what leaves room for others. */
static uint64_t length_to_make(void)
{
	uint64_t allowance = process_allowance();

	return allowance / 4 >= 1ull << 30 ? 0 : allowance / 4 & ~(uint64_t)(ARENA_PAGE - 1);
}

int pair_take(const struct mailbox_id *peer, bool connector, struct pair **found)
{
	bool self = memcmp(peer, mailbox_own(), sizeof(*peer)) == 0;
	uint8_t role = self && !connector;
	struct arena_share share;
	struct pair *pair;
	int error;

	for (unsigned i = 0; i < pair_top; i++) {
		pair = pair_at(i);
		if (pair->used && !pair->shown.inherited && pair->role == role &&
		    memcmp(&pair->peer_id, peer, sizeof(*peer)) == 0) {
			atomic_fetch_add_explicit(&pair->shown.streams, 1, memory_order_relaxed);
			*found = pair;
			return 0;
		}
	}
	error = board_need();
	if (error)
		return error;
	sweep();
	pair = pair_new();
	if (!pair)
		return -ENOMEM;
	do
		error = random_bytes(&pair->memory, sizeof(pair->memory));
	while (!error && !pair->memory);
	if (error)
		return error;
	if (!room_for(length_to_make()))
		return -ENOMEM;
	error = arena_create(&nn_config.backend, length_to_make(), &pair->shown.arena, &share);
	if (error)
		return error;
	pair->share = share;
	error = hold(&pair->share.fd, share.fd);
	if (error) {
		arena_destroy(pair->shown.arena);
		return error;
	}
	pair->shown.own = arena_region(pair->shown.arena);
	pair->peer_id = *peer;
	pair->role = role;
	atomic_store_explicit(&pair->shown.streams, 1, memory_order_relaxed);
	pair->used = true;
	*found = pair;
	return 0;
}

void rendezvous_pair_put(struct nn_pair *pair)
{
	atomic_fetch_sub_explicit(&pair->streams, 1, memory_order_release);
}

/* ---- exchanging memory ------------------------------------------------------------------------------------------ */

unsigned pair_fill(struct pair *pair, struct message *message, int fds[FDS_MAX])
{
	message->memory = pair->memory;
	if (pair->shown.peer)
		message->flags |= MESSAGE_HAVE_YOURS;
	if (pair->peer_has_mine)
		return 0;
	message->flags |= MESSAGE_HAS_MEMORY;
	message->region_offset = pair->share.offset;
	message->region_length = pair->share.length;
	fds[FD_REGION] = pair->share.fd;
	fds[FD_BOARD] = board_fd();
	return FD_MEMORY_END;
}

/* A socket to ring the peer's doorbells with. The kernel charges it for what lies unread in them: up to two rings for each of the
 * peer's slots, when that is honest. */
static int need_voice(struct pair *pair)
{
	const int room = VOICE_ROOM;
	int fd;

	if (pair->shown.voice >= 0)
		return 0;
	fd = (int)sys_call3(SYS_socket, AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd >= 0)
		sys_call5(SYS_setsockopt, fd, SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
	return hold(&pair->shown.voice, fd);
}

int pair_attach(struct pair *pair, struct incoming *in)
{
	struct nn_pair *shown = &pair->shown;
	struct arena_share share = { in->fds[FD_REGION], in->message.region_offset, in->message.region_length };
	const struct region *region;
	const struct board *board;
	uint64_t length;
	int error;

	if (shown->peer)
		return pair->peer_memory == in->message.memory ? 0 : -EPROTO;
	if (!(in->message.flags & MESSAGE_HAS_MEMORY) || in->fd_count < FD_MEMORY_END || !in->message.memory)
		return -EPROTO;
	if (!room_for(share.length))
		return -ENOMEM;
	error = region_attach_from(&nn_config.backend, &share, &region, &length);
	if (error)
		return error;
	error = board_attach(in->fds[FD_BOARD], &board);
	if (error) {
		region_detach(region, length);
		return error;
	}
	error = need_voice(pair);
	if (error) {
		board_detach(board);
		region_detach(region, length);
		return error;
	}
	shown->peer = region;
	shown->peer_length = length;
	shown->peer_board = board;
	shown->peer_pid = in->pid;
	pair->peer_memory = in->message.memory;
	return 0;
}

bool pair_end_valid(const struct pair *pair, uint32_t end, uint64_t cookie)
{
	/* Pairs with the release of the cookie in arena_end_alloc: the block is zeroed before it is marked. */
	return end < REGION_ENDS && cookie != 0 &&
	       atomic_load_explicit(&pair->shown.peer->ends[end].cookie, memory_order_acquire) == cookie;
}

void pair_confirmed(struct pair *pair)
{
	pair->peer_has_mine = true;
	let_go(&pair->share.fd);
}

void pair_witness(struct pair *pair, uint32_t end, uint64_t cookie)
{
	look_at_witness(pair);
	if (pair->peer_has_mine)
		return;
	pair->witness_end = end;
	pair->witness_cookie = cookie;
}

unsigned pairs_count(unsigned (*count)(const struct board *board, uint64_t now), uint64_t now)
{
	unsigned sum = 0;

	for (unsigned i = 0; i < pair_top; i++) {
		const struct pair *pair = pair_at(i);

		if (pair->used && pair->shown.peer_board && memcmp(&pair->peer_id, mailbox_own(), sizeof(pair->peer_id)) != 0)
			sum += count(pair->shown.peer_board, now);
	}
	return sum;
}

void pairs_forked(void)
{
	for (unsigned i = 0; i < pair_top; i++) {
		struct pair *pair = pair_at(i);

		if (!pair->used)
			continue;
		if (!pair->shown.inherited)
			arena_disown(pair->shown.arena);
		pair->shown.inherited = true;
		let_go(&pair->share.fd);
	}
}
