/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The process side of the player: its threads ("actors") take the steps that are theirs from the board. The main thread is
 * the steward: it starts an actor's thread at the first step of that actor, does what has to be done about an actor that
 * is busy, and ends the process when the board says so. A thread that is cancelled in a step answers "cancelled"; the
 * next step of that actor runs in a new thread. `pending OP` cancels the thread before the operation. Signals are for the actors' threads: the steward blocks them all.
 */
#include "tests/conformance/player.h"
#include "tests/conformance/board.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static struct board *board;
static const char *program, *board_path;
static unsigned self; /* index of this process */
static pthread_t threads[BOARD_THREADS];

const char *player_path(void)
{
	return program;
}

const char *player_board(void)
{
	return board_path;
}

void op_run(struct call *call)
{
	static const struct op *const tables[] = {ops_send, ops_recv, ops_ready, ops_life, ops_option, ops_process, ops_signal,
		ops_stdio};
	for (size_t t = 0; t < sizeof tables / sizeof *tables; t++)
		for (const struct op *op = tables[t]; op->name; op++)
			if (!strcmp(op->name, call->argv[0])) {
				op->run(call);
				return;
			}
	say_error(call, call->argv[0]);
}

/* Splits at blanks; 'text' is one word and keeps its quotes. */
static void split(char *line, struct call *call)
{
	call->argc = 0;
	for (char *at = line; *at && call->argc < CALL_ARGS;) {
		while (*at == ' ')
			at++;
		if (!*at)
			break;
		call->argv[call->argc++] = at;
		if (*at == '\'') {
			at = strchr(at + 1, '\'');
			at = at ? at + 1 : call->argv[call->argc - 1] + strlen(call->argv[call->argc - 1]);
		}
		while (*at && *at != ' ')
			at++;
		if (*at)
			*at++ = '\0';
	}
}

/* The private part of an earlier step's outcome. */
static const char *private_of(uint32_t index)
{
	const char *outcome = index < board->count ? board->text + atomic_load(&board->steps[index].outcome) : "";
	const char *mark = strchr(outcome, '#');
	return mark ? mark + 1 : "";
}

/* The text of a step, with {N} replaced by the private part of what step N brought. Allocated. */
static char *text_of(const struct board_step *step)
{
	const char *from = board->text + step->text, *brace;
	size_t room = strlen(from) + 256;
	char *text = malloc(room), *to = text;
	while ((brace = strchr(from, '{'))) {
		to += snprintf(to, room - (size_t)(to - text), "%.*s%s", (int)(brace - from), from,
			private_of((uint32_t)strtoul(brace + 1, NULL, 10)));
		from = strchr(brace, '}');
		from = from ? from + 1 : "";
	}
	snprintf(to, room - (size_t)(to - text), "%s", from);
	return text;
}

static struct call *call_new(char *text)
{
	struct call *call = calloc(1, sizeof *call);
	split(text, call);
	return call;
}

static void finish(struct call *call, const char *outcome)
{
	board_done(board, call->turn, call->index, outcome);
	if (!call->begun)
		board_advance(board, call->turn);
}

static void cancelled(void *data)
{
	struct call *call = data;
	atomic_store(&board->processes[self].threads[call->thread].alive, 0);
	finish(call, "cancelled");
}

/* Runs the step that is due. */
static void execute(uint32_t turn, unsigned thread)
{
	uint32_t index = turn & 0xffff;
	struct board_step *step = &board->steps[index];
	char *text = text_of(step);
	struct call *call = call_new(text);
	call->turn = turn;
	call->index = index;
	call->thread = thread;
	call->begun = step->kind == STEP_START;
	bool pending = call->argc && !strcmp(call->argv[0], "pending");
	atomic_store(&step->tid, (int32_t)syscall(SYS_gettid));
	atomic_store(&step->state, STEP_RUNNING);
	pthread_cleanup_push(cancelled, call);
	if (call->begun)
		board_advance(board, turn);
	if (pending) {
		memmove(call->argv, call->argv + 1, (size_t)--call->argc * sizeof *call->argv);
		pthread_cancel(pthread_self()); /* deferred: the next cancellation point is its end */
	}
	op_run(call);
	pthread_cleanup_pop(0);
	if (pending) {
		pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
		atomic_store(&board->processes[self].threads[thread].alive, 0);
	}
	finish(call, call->out);
	free(call);
	free(text);
	if (pending)
		pthread_exit(NULL);
}

/* Is the step that is due for this thread, and not yet begun? */
static bool is_mine(uint32_t turn, unsigned thread)
{
	uint32_t index = turn & 0xffff;
	if (index >= BOARD_STEPS || index >= board->count)
		return false;
	struct board_step *step = &board->steps[index];
	return (step->kind == STEP_RUN || step->kind == STEP_START) && step->process == self && step->thread == thread &&
	       atomic_load(&step->state) == STEP_WAITING;
}

static void *act(void *data)
{
	unsigned thread = (unsigned)(uintptr_t)data;
	_Atomic uint32_t *bell = &board->processes[self].threads[thread].bell;
	for (;;) {
		uint32_t seen = atomic_load(bell), turn = atomic_load(&board->turn);
		if (is_mine(turn, thread))
			execute(turn, thread);
		else
			bell_wait(bell, seen, 10000000);
	}
	return NULL;
}

static void start_actor(unsigned thread)
{
	sigset_t none, all;
	sigemptyset(&none);
	sigfillset(&all);
	atomic_store(&board->processes[self].threads[thread].alive, 1);
	pthread_sigmask(SIG_SETMASK, &none, NULL);
	if (pthread_create(&threads[thread], NULL, act, (void *)(uintptr_t)thread))
		abort();
	pthread_sigmask(SIG_SETMASK, &all, NULL);
}

/* Between two scripts: nothing of the first is left but the threads. */
static void reset(void)
{
	stdio_forget();
	name_forget();
	signal_forget();
}

/* tkill and cancel of an actor that is busy; reset; stop. */
static void direct(uint32_t turn, const struct board_step *step)
{
	char *text = text_of(step);
	struct call *call = call_new(text);
	pthread_t thread = threads[step->thread];
	const char *outcome = "ok", *what = arg(call, 0, "");
	if (!strcmp(what, "reset"))
		reset();
	else if (!strcmp(what, "tkill"))
		outcome = pthread_kill(thread, atoi(arg(call, 1, "10"))) ? "failed" : "ok";
	else
		outcome = pthread_cancel(thread) ? "failed" : "ok";
	board_done(board, turn, turn & 0xffff, outcome);
	board_advance(board, turn);
	free(call);
	free(text);
}

static void steward(void) __attribute__((noreturn));
static void steward(void)
{
	struct board_process *process = &board->processes[self];
	sigset_t all;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, NULL);
	for (int i = 0; i < BOARD_THREADS; i++)
		atomic_store(&process->threads[i].alive, 0);
	board_hello(board, self);
	for (;;) {
		uint32_t seen = atomic_load(&process->bell), turn = atomic_load(&board->turn), index = turn & 0xffff;
		if (atomic_load(&board->over))
			exit(0);
		struct board_step *step = index < board->count ? &board->steps[index] : NULL;
		if (step && step->process == self && step->kind == STEP_DIRECT)
			direct(turn, step);
		else if (step && is_mine(turn, step->thread) && !atomic_load(&process->threads[step->thread].alive))
			start_actor(step->thread);
		else
			bell_wait(&process->bell, seen, 3000000);
		if (kill(board->conductor, 0) && errno == ESRCH)
			_exit(3);
	}
}

void player_child(const char *name)
{
	self = (unsigned)(*name - 'A');
	name_child();
	steward();
}

int main(int argc, char **argv)
{
	if (argc < 3 || !(board = board_map(argv[1]))) {
		fprintf(stderr, "usage: player BOARD NAME [NAME=FD...]\n");
		return 2;
	}
	program = argv[0];
	board_path = argv[1];
	self = (unsigned)(*argv[2] - 'A');
	name_list(argv + 3, argc - 3);
	signal_forget();
	steward();
}
