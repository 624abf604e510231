/* SPDX-License-Identifier: BSD-2-Clause */
/* This process's board: made with its first pair, shown to every peer, kept by the children it forks. */
#include "shim/rendezvous/private.h"

#include "shim/core/sys.h"
#include "shim/rendezvous/rendezvous.h"

#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71
#endif

static struct board *own_board;
static int own_board_fd = -1;
static uint64_t home; /* names the network namespace; 0: the kernel does not tell */

static uint64_t namespace_of(int fd)
{
	uint64_t cookie = 0;
	socklen_t length = sizeof(cookie);

	return sys_call5(SYS_getsockopt, fd, SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &length) < 0 ? 0 : cookie;
}

int board_need(void)
{
	struct arena_share share;
	struct board *board;
	uint64_t name[2];
	int error;

	if (own_board)
		return 0;
	error = random_bytes(name, sizeof(name));
	if (error)
		return error;
	error = board_create(&board, &share);
	if (error)
		return error;
	board->name[0] = name[0];
	board->name[1] = name[1];
	error = hold(&own_board_fd, share.fd);
	if (error) {
		board_detach(board);
		return error;
	}
	home = namespace_of(mailbox_socket());
	__atomic_store_n(&own_board, board, __ATOMIC_RELEASE);
	return 0;
}

struct board *rendezvous_board(void)
{
	return __atomic_load_n(&own_board, __ATOMIC_ACQUIRE);
}

bool rendezvous_is_home(int fd)
{
	return !home || namespace_of(fd) == home;
}

int board_fd(void)
{
	return own_board_fd;
}
