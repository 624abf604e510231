/* SPDX-License-Identifier: BSD-2-Clause */
#include "shim/wait/waiter.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "shim/core/hidden.h"
#include "shim/core/process.h"
#include "shim/core/stream.h"
#include "shim/core/sys.h"
#include "shim/rendezvous/rendezvous.h"

/* The abstract name of a datagram doorbell: "notnets1/w/" + board name + "/" + slot. */
static socklen_t bell_name(struct sockaddr_un *address, const struct board *board, unsigned slot)
{
	static const char hex[] = "0123456789abcdef";
	memset(address, 0, sizeof *address);
	address->sun_family = AF_UNIX;
	char *at = address->sun_path + 1;
	memcpy(at, "notnets1/w/", 11);
	at += 11;
	for (int word = 0; word < 2; word++) {
		uint64_t name = board->name[word];
		for (int i = 60; i >= 0; i -= 4)
			*at++ = hex[name >> i & 15];
	}
	*at++ = '/';
	*at++ = hex[slot >> 8 & 15];
	*at++ = hex[slot >> 4 & 15];
	*at++ = hex[slot & 15];
	return (socklen_t)(at - (char *)address);
}

/* A bell for a slot that has no eventfd. */
static int make_datagram_bell(const struct board *board, unsigned slot)
{
	int fd = hidden_take((int)sys_call3(SYS_socket, AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
	if (fd < 0)
		return fd;
	struct sockaddr_un address;
	socklen_t length = bell_name(&address, board, slot);
	long outcome = sys_call3(SYS_bind, fd, &address, length);
	if (outcome < 0) {
		hidden_close(fd);
		return (int)outcome;
	}
	return fd;
}

void waiter_take(struct waiter *waiter, uint32_t self)
{
	waiter->slot = waiter->bell = -1;
	waiter->own_bell = false;
	struct board *board = rendezvous_board();
	if (!board)
		return;
	for (int pass = 0; pass < 2; pass++)
		for (unsigned i = 0; i < BOARD_SLOTS; i++) {
			struct board_slot *slot = &board->slots[i];
			uint64_t holder = atomic_load_explicit(&slot->holder, memory_order_relaxed);
			/* Second time round: slots of threads that are gone. */
			if (holder && (pass == 0 || sys_call2(SYS_tkill, holder, 0) != -ESRCH))
				continue;
			if (!atomic_compare_exchange_strong(&slot->holder, &holder, self))
				continue;
			uint64_t used = atomic_load(&board->slots_used);
			while (used <= i && !atomic_compare_exchange_weak(&board->slots_used, &used, i + 1))
				;
			atomic_store(&slot->asleep, 0);
			waiter->slot = (int)i;
			if (i < BOARD_BELLS) {
				waiter->bell = rendezvous_bell(i);
			} else {
				waiter->bell = make_datagram_bell(board, i);
				waiter->own_bell = waiter->bell >= 0;
			}
			return;
		}
}

void waiter_drop(struct waiter *waiter)
{
	if (waiter->own_bell)
		hidden_close(waiter->bell);
	if (waiter->slot >= 0) {
		struct board_slot *slot = &rendezvous_board()->slots[waiter->slot];
		atomic_store_explicit(&slot->spinning, 0, memory_order_relaxed);
		atomic_store_explicit(&slot->asleep, 0, memory_order_relaxed);
		atomic_store_explicit(&slot->holder, 0, memory_order_release);
	}
	waiter->slot = waiter->bell = -1;
	waiter->own_bell = false;
}

void waiter_spins(const struct waiter *waiter, uint64_t now)
{
	if (waiter->slot >= 0)
		atomic_store_explicit(&rendezvous_board()->slots[waiter->slot].spinning, now, memory_order_relaxed);
}

bool waiter_attach(const struct waiter *waiter, struct end_block *own)
{
	if (waiter->slot < 0)
		return false;
	for (unsigned word = 0; word < 2; word++) {
		uint64_t places = atomic_load(&own->attach[word]);
		for (unsigned shift = 0; shift < 64;) {
			if (places >> shift & 0xffff) {
				shift += 16;
				continue;
			}
			uint64_t taken = places | (uint64_t)(waiter->slot + 1) << shift;
			if (atomic_compare_exchange_strong(&own->attach[word], &places, taken))
				return true;
			/* `places` is fresh now: look at the same place again. */
		}
	}
	return false;
}

void waiter_detach(const struct waiter *waiter, struct end_block *own)
{
	if (waiter->slot < 0)
		return;
	const uint64_t place = (unsigned)waiter->slot + 1u;
	for (unsigned word = 0; word < 2; word++) {
		uint64_t places = atomic_load(&own->attach[word]);
		for (unsigned shift = 0; shift < 64;) {
			if ((places >> shift & 0xffff) != place) {
				shift += 16;
				continue;
			}
			if (atomic_compare_exchange_strong(&own->attach[word], &places, places & ~(0xffffull << shift)))
				return;
		}
	}
}

void waiter_falls_asleep(const struct waiter *waiter)
{
	if (waiter->slot < 0)
		return;
	struct board_slot *slot = &rendezvous_board()->slots[waiter->slot];
	atomic_store_explicit(&slot->spinning, 0, memory_order_relaxed);
	atomic_store(&slot->asleep, atomic_fetch_add(&slot->sleeps, 1) + 1); /* W1 */
	COUNT_SHARED(nn_state->totals.sleeps, 1);
}

void waiter_wakes(const struct waiter *waiter)
{
	if (waiter->slot >= 0)
		atomic_store_explicit(&rendezvous_board()->slots[waiter->slot].asleep, 0, memory_order_relaxed);
}

uint64_t waiter_mark(const struct waiter *waiter)
{
	return waiter->slot < 0 ? 0 : atomic_load(&rendezvous_board()->slots[waiter->slot].asleep);
}

void waiter_unmark(const struct waiter *waiter, uint64_t mark)
{
	if (waiter->slot >= 0)
		atomic_compare_exchange_strong(&rendezvous_board()->slots[waiter->slot].asleep, &mark, 0);
}

void waiter_hush(const struct waiter *waiter)
{
	char nothing[64];
	if (waiter->bell < 0)
		return;
	COUNT_SHARED(nn_state->totals.doorbells_heard, 1);
	/* An eventfd is empty after one read; a socket may hold a datagram for every peer that rang. */
	while (sys_call3(SYS_read, waiter->bell, nothing, sizeof nothing) >= 0 && waiter->own_bell)
		;
}

static void ring_datagram(const struct board *board, unsigned slot)
{
	static int voice = -1; /* one unbound socket of this process speaks to all */
	if (voice < 0 || nn_kind_of(voice) != NN_HIDDEN) {
		int fd = hidden_take((int)sys_call3(SYS_socket, AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
		if (fd < 0)
			return;
		voice = fd;
	}
	struct sockaddr_un address;
	socklen_t length = bell_name(&address, board, slot);
	/* A full queue has been rung already. */
	sys_call6(SYS_sendto, voice, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL, &address, length);
}

void waiter_ring_own(const struct waiter *waiter)
{
	const uint64_t one = 1;
	if (waiter->slot < 0)
		return;
	if (waiter->own_bell)
		ring_datagram(rendezvous_board(), (unsigned)waiter->slot);
	else
		sys_call3(SYS_write, waiter->bell, &one, sizeof one);
}

static void ring_slot(struct nn_pair *pair, unsigned slot)
{
	if (slot >= BOARD_SLOTS)
		return;
	uint64_t asleep = atomic_load(&pair->peer_board->slots[slot].asleep); /* P2 */
	if (!asleep || atomic_exchange_explicit(&pair->rung[slot], asleep, memory_order_relaxed) == asleep)
		return;
	COUNT_SHARED(nn_state->totals.doorbells_rung, 1);
	if (slot < BOARD_BELLS) {
		const uint64_t one = 1;
		sys_call3(SYS_write, pair->bells[slot], &one, sizeof one);
	} else {
		ring_datagram(pair->peer_board, slot);
	}
}

void doorbell_ring(struct nn_pair *pair, const struct end_block *peer)
{
	for (unsigned word = 0; word < 2; word++)
		for (uint64_t places = atomic_load(&peer->attach[word]); places; places >>= 16)
			if (places & 0xffff)
				ring_slot(pair, (unsigned)(places & 0xffff) - 1);
}
