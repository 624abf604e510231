/* SPDX-License-Identifier: BSD-2-Clause */
#include "shim/wait/bell.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "shim/core/hidden.h"
#include "shim/core/nn.h"
#include "shim/core/stream.h"
#include "shim/core/sys.h"
#include "shim/rendezvous/rendezvous.h"

#ifndef SO_PASSRIGHTS
#define SO_PASSRIGHTS 83
#endif

#define LISTEN 1024u /* datagrams taken at once at most: a peer may ring as fast as we listen */

/* This process's bells. One is the business of whoever holds the slot. */
static struct {
	uint64_t id; /* 0: none */
	int fd;      /* hidden */
	_Atomic uint32_t heard; /* and not emptied since */
} bells[BOARD_SLOTS];

static char *hex(char *at, uint64_t word)
{
	for (int shift = 60; shift >= 0; shift -= 4)
		*at++ = "0123456789abcdef"[word >> shift & 15];
	return at;
}

/* "notnets1/w/" + board name + "/" + bell. */
static socklen_t bell_name(struct sockaddr_un *address, const struct board *board, uint64_t id)
{
	memset(address, 0, sizeof *address);
	address->sun_family = AF_UNIX;
	char *at = address->sun_path + 1;
	memcpy(at, "notnets1/w/", 11);
	at = hex(at + 11, board->name[0]);
	at = hex(at, board->name[1]);
	*at++ = '/';
	at = hex(at, id);
	return (socklen_t)(at - (char *)address);
}

/* True until the number was closed by a call we did not see. (In tests without a table nothing is.) */
static bool still_ours(int fd)
{
	return !nn_fds || nn_kind_of(fd) == NN_HIDDEN;
}

static long make_socket(void)
{
	return sys_call3(SYS_socket, AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
}

static int make_bell(unsigned slot)
{
	long fd = make_socket();
	if (fd < 0)
		return (int)fd;
	/* A descriptor that came with a datagram would be closed by the thread that drops it, and closing may take its time
	 * (SO_LINGER). Kernels before 6.16 do not know the option. */
	const int off = 0;
	sys_call5(SYS_setsockopt, fd, SOL_SOCKET, SO_PASSRIGHTS, &off, sizeof off);
	uint64_t id = 0; /* of 64 random bits: not taken already, and not guessed before it is there */
	long outcome = sys_call3(SYS_getrandom, &id, sizeof id, GRND_NONBLOCK);
	if (outcome >= 0 && (!id || !rendezvous_is_home((int)fd)))
		outcome = -ENETUNREACH;
	if (outcome >= 0) {
		struct sockaddr_un address;
		socklen_t length = bell_name(&address, rendezvous_board(), id);
		outcome = sys_call3(SYS_bind, fd, &address, length);
	}
	if (outcome < 0) {
		sys_call1(SYS_close, fd);
		return (int)outcome;
	}
	fd = hidden_take((int)fd);
	if (fd < 0)
		return (int)fd;
	bells[slot].fd = (int)fd;
	outcome = hidden_watch(&bells[slot].fd);
	if (outcome < 0) {
		hidden_close((int)fd);
		return (int)outcome;
	}
	bells[slot].id = id;
	return 0;
}

static void drop_bell(unsigned slot)
{
	bells[slot].id = 0;
	hidden_unwatch(&bells[slot].fd);
	hidden_close(bells[slot].fd);
}

int bell_of(unsigned slot)
{
	if (bells[slot].id && !still_ours(bells[slot].fd))
		drop_bell(slot);
	if (!bells[slot].id) {
		int outcome = make_bell(slot);
		if (outcome < 0)
			return outcome;
	}
	_Atomic uint64_t *shown = &rendezvous_board()->slots[slot].bell;
	if (atomic_load_explicit(shown, memory_order_relaxed) != bells[slot].id)
		atomic_store_explicit(shown, bells[slot].id, memory_order_relaxed); /* seen by who sees W1, which follows */
	return bells[slot].fd;
}

void bell_heard(unsigned slot)
{
	atomic_store(&bells[slot].heard, 1);
}

bool bell_settle(unsigned slot)
{
	if (!atomic_load(&bells[slot].heard))
		return false;
	bell_hush(slot);
	return true;
}

void bell_hush(unsigned slot)
{
	atomic_store(&bells[slot].heard, 0); /* first: what is heard from now on is for another time */
	if (!bells[slot].id || !still_ours(bells[slot].fd))
		return;
	char nothing;
	for (unsigned taken = 0; taken < LISTEN; taken++)
		if (sys_call6(SYS_recvfrom, bells[slot].fd, &nothing, 1, MSG_DONTWAIT, NULL, NULL) < 0)
			return;
	/* Never seen empty, so a refused ringer may have no edge: here it is. */
	bell_ring_own(slot);
}

void bell_ring_own(unsigned slot)
{
	if (!bells[slot].id || !still_ours(bells[slot].fd))
		return;
	struct sockaddr_un address;
	socklen_t length = bell_name(&address, rendezvous_board(), bells[slot].id);
	/* To itself: the kernel does not ask whether the queue is full. Only when that holds hundreds of our own is it refused; then the
	 * last of them is an edge still to be taken. */
	sys_call6(SYS_sendto, bells[slot].fd, NULL, 0, MSG_DONTWAIT | MSG_NOSIGNAL, &address, length);
}

/* By the pair's voice, or where something else has got its number, by a socket made for that. -errno. */
static long ring(const struct nn_pair *pair, const struct sockaddr_un *address, socklen_t length)
{
	long fd = pair->voice;
	bool own = still_ours((int)fd);
	if (!own) {
		fd = make_socket();
		if (fd < 0)
			return fd;
	}
	long outcome = sys_call6(SYS_sendto, fd, NULL, 0, MSG_DONTWAIT | MSG_NOSIGNAL, address, length);
	if (!own)
		sys_call1(SYS_close, fd);
	return outcome;
}

void bell_ring_shared(const struct nn_pair *pair, unsigned slot)
{
	const struct board *board = rendezvous_board();
	uint64_t id = atomic_load(&board->slots[slot].bell);
	if (id == bells[slot].id) {
		bell_ring_own(slot);
		return;
	}
	if (nn_filtered)
		return; /* the filter may not expect what it takes */
	struct sockaddr_un address;
	socklen_t length = bell_name(&address, board, id);
	ring(pair, &address, length);
}

bool bell_ring(const struct nn_pair *pair, unsigned slot)
{
	uint64_t id = atomic_load_explicit(&pair->peer_board->slots[slot].bell, memory_order_relaxed);
	if (!id)
		return true;
	struct sockaddr_un address;
	socklen_t length = bell_name(&address, pair->peer_board, id);
	long outcome = ring(pair, &address, length);
	return outcome >= 0 || outcome == -EAGAIN || outcome == -ECONNREFUSED;
}

void bells_fork_child(void)
{
	for (unsigned i = 0; i < BOARD_SLOTS; i++)
		if (bells[i].id)
			drop_bell(i);
}
