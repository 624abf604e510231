/* SPDX-License-Identifier: BSD-2-Clause */
/* This process's board and doorbells: made with its first pair, shown to every peer, kept by the children it forks. */
#include "shim/rendezvous/private.h"

#include <sys/eventfd.h>

#include "shim/core/sys.h"
#include "shim/rendezvous/rendezvous.h"

static struct board *own_board;
static int own_board_fd = -1;
static int own_bells[BOARD_BELLS] = { -1, -1, -1, -1, -1, -1, -1, -1 };

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
	for (unsigned i = 0; i < BOARD_BELLS; i++) {
		if (own_bells[i] >= 0)
			continue;
		error = hold(&own_bells[i], (int)sys_call2(SYS_eventfd2, 0, EFD_NONBLOCK | EFD_CLOEXEC));
		if (error)
			return error;
	}
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
	__atomic_store_n(&own_board, board, __ATOMIC_RELEASE);
	return 0;
}

struct board *rendezvous_board(void)
{
	return __atomic_load_n(&own_board, __ATOMIC_ACQUIRE);
}

int rendezvous_bell(unsigned slot)
{
	return slot < BOARD_BELLS ? own_bells[slot] : -1;
}

void board_fill(int fds[FDS_MAX])
{
	fds[FD_BOARD] = own_board_fd;
	for (unsigned i = 0; i < BOARD_BELLS; i++)
		fds[FD_BELLS + i] = own_bells[i];
}
