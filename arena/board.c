/* SPDX-License-Identifier: BSD-2-Clause */
/* Boards: always sealed memfds, whatever backs the regions; they are small and every peer sees them. */
#include <sys/mman.h>

#include "attach.h"
#include "backend.h"
#include "header.h"
#include "sys.h"

#define BOARD_LENGTH ((sizeof(struct board) + ARENA_PAGE - 1) & ~(uint64_t)(ARENA_PAGE - 1))

int board_create(struct board **board, struct arena_share *share)
{
	struct backing backing;
	int error = backing_memfd("notnets-board", false, BOARD_LENGTH, &backing);

	if (error)
		return error;
	*board = backing.base;
	header_publish(&(*board)->header, BOARD_MAGIC, backing.length, BOARD_SLOTS);
	*share = (struct arena_share){.fd = backing.fd, .offset = 0, .length = backing.length};
	return 0;
}

int board_attach(int fd, const struct board **board)
{
	void *base;
	int error = attach_sealed(fd, BOARD_LENGTH, &base);

	if (error)
		return error;
	error = attach_header(base, BOARD_MAGIC, BOARD_LENGTH, BOARD_SLOTS);
	if (!error)
		*board = base;
	return error;
}

void board_detach(const struct board *board)
{
	arena_sys_munmap(board, BOARD_LENGTH);
}
