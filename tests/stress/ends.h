/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * One end of a checksummed connection. The client begins with a `struct hello`; after it each direction carries bytes
 * that follow from the stream's id, the direction and the offset, so that a receiver can check every one of them.
 */
#ifndef TESTS_STRESS_ENDS_H
#define TESTS_STRESS_ENDS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum { SLOTS = 8, THREADS = 64 };

/* What all processes of a run share. Who kills a process increments the generation of its slot first: a stream may end
 * early only if a generation has changed, or if one of its ends chose to abandon it. */
struct shared {
	_Atomic uint32_t generation[SLOTS];
	_Atomic uint32_t port[SLOTS]; /* of servers; 0: none */
	_Atomic int stop;
	_Atomic uint64_t connections, bytes, abandoned, early, errors, one_way;
	struct {
		_Atomic uint64_t id, sent;
	} progress[SLOTS][THREADS]; /* one-way streams: bytes for which send() has returned */
};
extern struct shared *shared;

enum { HELLO_MAGIC = 0x6e6e7354 };
struct hello {
	uint32_t magic, slot, generation, thread;
	uint64_t id, up, down;  /* bytes each way */
	uint64_t abandon_at;    /* the server closes after having received so many; UINT64_MAX: never */
};

enum driver { BLOCKING, POLLING, SELECTING, EDGE, LEVEL, DRIVERS };

struct end {
	int fd;
	bool client;
	struct hello hello;
	uint32_t server_slot, server_generation;
	uint64_t rng;
	uint64_t sent, received, to_send, to_receive; /* without the hello */
	uint32_t hello_done;
	uint64_t abandon_at; /* close when so many were sent or received */
	bool tx_done, rx_done, failed;
	uint64_t progress_ms;
	const char *doing;
};

uint64_t rng_next(uint64_t *rng);
uint64_t rng_below(uint64_t *rng, uint64_t limit);
uint64_t now_ms(void);

/* Prepares a client's end of a new stream (fd connected), or a server's (accepted). */
void end_init(struct end *end, int fd, bool client, uint64_t seed);

/* Bytes to and fro before the hello, as many as the client likes: on a machine as busy as this one most connections would be over before both
 * directions are up. False: the peer is gone. */
bool client_warms(int fd, unsigned rounds);
bool server_warms(int fd);

/* Carries it to its end in this thread, closes it, and judges. */
void end_run(struct end *end, enum driver driver);

/* The same for several at once in one epoll set; `more`: a pipe that brings accepted descriptors, or -1. Returns when
 * all have ended and `more` has. */
void ends_run_set(struct end **ends, int count, int more, bool edge, uint32_t slot);

#endif
