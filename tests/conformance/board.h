/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The board: one script, step by step, in memory that the conductor shares with all players. Nobody hands steps out. `turn`
 * names the step that is due; the thread that ends a step moves it on and wakes only the thread that the next one belongs
 * to, so that many steps of one thread cost no wake-up at all, and a change of thread costs one.
 *
 * A step belongs to
 *   an actor      RUN: the step ends when the operation has returned; START: as soon as it has begun
 *   nobody        COLLECT: ends when the step `of` has; GREET: ends when `process` has said hello `wanted` times
 *   a steward     DIRECT: the main thread of `process` does it, as the actor is busy
 *   the conductor WATCH: ends when the step `of` has, or sleeps in the kernel for good; SETTLE: or sleeps at all;
 *                 HOST: sleep, kill and the like
 *
 * Two may see at once that a COLLECT or GREET is over: the thread that brings it about, and the one that moved `turn`
 * there. Both first write what they did, then read what the other did (all sequentially consistent), so at least one sees it;
 * both move `turn` by compare-and-swap from that very step, so only one does. `turn` has the number of the script in its
 * upper half: a thread that comes late from an older script moves nothing.
 */
#ifndef TESTS_CONFORMANCE_BOARD_H
#define TESTS_CONFORMANCE_BOARD_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum {
	BOARD_STEPS = 4096,
	BOARD_TEXT = 1 << 21,
	BOARD_PROCESSES = 26, /* by their letters */
	BOARD_THREADS = 10,   /* of one process, by their digits; none is 0 */
	BOARD_IDLE = 0xffff,  /* in the lower half of `turn`: no script is on the board */
	OUTCOME_MAX = 8192,
};

enum step_kind { STEP_RUN, STEP_START, STEP_COLLECT, STEP_GREET, STEP_DIRECT, STEP_WATCH, STEP_SETTLE, STEP_HOST };
enum step_state { STEP_WAITING, STEP_RUNNING, STEP_DONE };

struct board_step {
	uint8_t kind, process, thread;
	uint16_t of;
	uint32_t wanted;
	uint32_t text;		  /* offsets into `board.text` */
	_Atomic uint32_t outcome; /* written before `state` says DONE */
	_Atomic uint32_t state;
	_Atomic int32_t tid; /* of the thread that runs it */
};

struct board_thread {
	_Atomic uint32_t bell; /* a futex; counts */
	_Atomic uint32_t alive;
};

struct board_process {
	_Atomic uint32_t bell; /* the steward's */
	_Atomic uint32_t hellos;
	_Atomic int32_t pid;
	struct board_thread threads[BOARD_THREADS];
};

struct board {
	_Atomic uint32_t turn; /* number of the script, index of the step */
	_Atomic uint32_t over; /* players: exit */
	_Atomic uint32_t bell; /* the conductor's */
	int32_t conductor;     /* its pid */
	uint32_t count;	       /* of steps */
	_Atomic uint32_t used; /* of `text` */
	struct board_process processes[BOARD_PROCESSES];
	struct board_step steps[BOARD_STEPS];
	char text[BOARD_TEXT];
};

/* Maps the board in the file `path`; NULL on error. */
struct board *board_map(const char *path);

/* Sleeps until `bell` is no longer `seen`, or so long, or a signal comes. */
void bell_wait(_Atomic uint32_t *bell, uint32_t seen, long us);
void bell_ring(_Atomic uint32_t *bell);

/* The index of the step that is due, or BOARD_IDLE. */
uint32_t board_index(struct board *board);

/* The step `index` of the script of `turn` is over: goes on to the next, if that is not done yet, and wakes its owner. */
void board_advance(struct board *board, uint32_t turn);

/* Writes down what came of a step, and moves on where somebody waits for just that. */
void board_done(struct board *board, uint32_t turn, uint32_t index, const char *outcome);

/* A process is there: it has said hello. */
void board_hello(struct board *board, unsigned process);

#endif
