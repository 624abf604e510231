/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The player executes single socket operations on behalf of a script and tells what came of each. It is one process
 * with several threads ("actors"); the conductor starts two of them and puts the script on the board (board.h), from which
 * they take the steps themselves.
 *
 * The outcome of a step is text: OUTCOME [#PRIVATE...]. It is compared between kernel TCP and the shim; what follows '#' is
 * not, and serves later steps (ports).
 */
#ifndef TESTS_CONFORMANCE_PLAYER_H
#define TESTS_CONFORMANCE_PLAYER_H

#include <stddef.h>
#include <stdint.h>

enum { CALL_ARGS = 32, CALL_OUT = 8192 };

/* One operation in the making. */
struct call {
	uint32_t turn, index; /* on the board */
	unsigned thread;
	int begun; /* the next step need not wait for this one */
	int argc; /* argv[0] is the operation */
	char *argv[CALL_ARGS];
	size_t used;
	char out[CALL_OUT];
};

struct op {
	const char *name;
	void (*run)(struct call *call);
};

/* Ended by a NULL name. */
extern const struct op ops_send[], ops_recv[], ops_ready[], ops_life[], ops_option[], ops_process[], ops_signal[], ops_stdio[];

void say(struct call *call, const char *format, ...) __attribute__((format(printf, 2, 3)));
void say_result(struct call *call, long result); /* "N", or "-1 ENAME" from errno */
void say_data(struct call *call, const void *data, size_t length);
void say_error(struct call *call, const char *what); /* a mistake in the script: ends the run */

/* The argument, or `fallback` when there are not so many. */
const char *arg(struct call *call, int index, const char *fallback);
long arg_number(struct call *call, int index, long fallback);
int arg_flags(struct call *call, int index); /* "PEEK|WAITALL", MSG_ left out */
int arg_fd(struct call *call, int index);
/* Bytes: 'text', or SIZE[@SEED] for SIZE pseudo-random ones. Allocated. */
uint8_t *arg_data(struct call *call, int index, size_t *length);

/* Cuts data into `pieces`; 0: into four, an empty one among them. Returns how many. */
enum { PIECES = 1024 };
struct iovec;
int cut(struct iovec *iov, uint8_t *data, size_t length, long pieces);

/* "127.0.0.1", "::1", "::ffff:127.0.0.1" */
struct sockaddr_storage;
unsigned parse_address(const char *text, long port, struct sockaddr_storage *address);
/* Nagle's algorithm would make it a matter of 40 ms which bytes a receiver finds. */
void no_delay(int fd);


/* Names of descriptors; a process has one table, which a forked child starts with a copy of. */
int name_fd(const char *name);        /* -1: unknown */
int name_index(const char *name);     /* stable number of a known name, -1 */
const char *name_at(int index);
void name_set(const char *name, int fd);
void name_list(char *const *argv, int argc); /* NAME=FD, as given on the command line */
int name_print(char **argv, int max);        /* the reverse; allocated strings */

uint64_t hash_bytes(uint64_t hash, const void *data, size_t length);
void name_forget(void); /* closes all but those the player was started with */
void name_child(void);	/* in a fresh child of fork */

/* What a script leaves behind is undone. SIGPIPE is counted then, not fatal: op `signals`. */
void stdio_forget(void);
void signal_forget(void);

#define HASH_START 14695981039346656037ull
uint64_t now_us(void);

void op_run(struct call *call);
/* In a fresh child of fork: become the process `name`, with this thread as its steward. Does not return. */
void player_child(const char *name) __attribute__((noreturn));
const char *player_path(void); /* of this program */
const char *player_board(void);

#endif
