/* SPDX-License-Identifier: BSD-2-Clause */
#include "tests/conformance/board.h"

#include <fcntl.h>
#include <linux/futex.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

struct board *board_map(const char *path)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return NULL;
	void *at = mmap(NULL, sizeof(struct board), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	return at == MAP_FAILED ? NULL : at;
}

void bell_wait(_Atomic uint32_t *bell, uint32_t seen, long us)
{
	struct timespec limit = {us / 1000000, us % 1000000 * 1000};
	syscall(SYS_futex, bell, FUTEX_WAIT, seen, &limit, NULL, 0);
}

void bell_ring(_Atomic uint32_t *bell)
{
	atomic_fetch_add(bell, 1);
	syscall(SYS_futex, bell, FUTEX_WAKE, 1 << 30, NULL, NULL, 0);
}

uint32_t board_index(struct board *board)
{
	return atomic_load(&board->turn) & 0xffff;
}

static void wake_owner(struct board *board, const struct board_step *step)
{
	struct board_process *process = &board->processes[step->process];
	struct board_thread *thread = &process->threads[step->thread];
	if (step->kind == STEP_WATCH || step->kind == STEP_SETTLE || step->kind == STEP_HOST)
		bell_ring(&board->bell);
	else if (step->kind == STEP_DIRECT || !atomic_load(&thread->alive))
		bell_ring(&process->bell);
	else
		bell_ring(&thread->bell);
}

static bool is_over(struct board *board, const struct board_step *step)
{
	if (step->kind == STEP_COLLECT)
		return atomic_load(&board->steps[step->of].state) == STEP_DONE;
	return step->kind == STEP_GREET && atomic_load(&board->processes[step->process].hellos) >= step->wanted;
}

void board_advance(struct board *board, uint32_t turn)
{
	while (atomic_compare_exchange_strong(&board->turn, &turn, turn + 1)) {
		uint32_t index = ++turn & 0xffff;
		if (index >= board->count) {
			bell_ring(&board->bell);
			return;
		}
		const struct board_step *step = &board->steps[index];
		if (step->kind != STEP_COLLECT && step->kind != STEP_GREET) {
			wake_owner(board, step);
			return;
		}
		if (!is_over(board, step))
			return;
	}
}

/* Moves on from a step that nobody owns, if that is due and over. */
static void advance_from_ownerless(struct board *board, uint32_t script)
{
	uint32_t turn = atomic_load(&board->turn), index = turn & 0xffff;
	if (turn >> 16 == script && index < board->count && is_over(board, &board->steps[index]))
		board_advance(board, turn);
}

void board_done(struct board *board, uint32_t turn, uint32_t index, const char *outcome)
{
	size_t length = strlen(outcome) + 1;
	uint32_t at = atomic_fetch_add(&board->used, (uint32_t)length);
	if (at + length > BOARD_TEXT) {
		at = 0; /* the empty string that is always there */
	} else {
		memcpy(board->text + at, outcome, length);
	}
	atomic_store(&board->steps[index].outcome, at);
	atomic_store(&board->steps[index].state, STEP_DONE);
	uint32_t now = atomic_load(&board->turn);
	if (now >> 16 == turn >> 16 && (now & 0xffff) < board->count && board->steps[now & 0xffff].kind == STEP_WATCH &&
		board->steps[now & 0xffff].of == index)
		bell_ring(&board->bell);
	advance_from_ownerless(board, turn >> 16);
}

void board_hello(struct board *board, unsigned process)
{
	atomic_store(&board->processes[process].pid, (int32_t)getpid());
	atomic_fetch_add(&board->processes[process].hellos, 1);
	bell_ring(&board->bell);
	advance_from_ownerless(board, atomic_load(&board->turn) >> 16);
}
