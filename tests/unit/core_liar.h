/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A peer that writes what it likes: the core's end is real, the other end's block and rings are the test's to write.
 *
 * The core sees the liar's region read-only, nothing of it but the end blocks and the rings, and an unmapped page follows.
 * The ring that an honest liar uses is filled with LIAR_BYTE, everything beside it with LIAR_SECRET.
 */
#ifndef CORE_LIAR_H
#define CORE_LIAR_H

#include "core_test.h"

#define LIAR_LOG2 12u
#define LIAR_RING (1ull << LIAR_LOG2)
#define LIAR_AT (REGION_RINGS + 4 * LIAR_RING)           /* the ring's place */
#define LIAR_REGION (REGION_RINGS + 16 * LIAR_RING)
#define LIAR_BYTE 'r'
#define LIAR_SECRET 'X'
#define LIAR_COOKIE 0x1a5u
#define LIAR_HEAD 100u /* read of the ring once set up */

struct liar {
	struct nn_pair *pair;   /* the core's */
	struct region *region;  /* as the liar writes it */
	struct end_block *end;  /* of it, that the stream's peer uses */
	struct nn_stream *stream;
	int fd, peer_fd;        /* the core's socket, the liar's */
};

static inline void liar_memory(struct liar *liar)
{
	int fd = memfd_create("liar", MFD_CLOEXEC);
	char *seen = mmap(NULL, LIAR_REGION + ARENA_PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	CHECK(fd >= 0 && seen != MAP_FAILED);
	CHECK_IS(ftruncate(fd, LIAR_REGION), 0);
	liar->region = mmap(NULL, LIAR_REGION, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	CHECK(liar->region != MAP_FAILED);
	CHECK(mmap(seen, LIAR_REGION, PROT_READ, MAP_SHARED | MAP_FIXED, fd, 0) == seen);
	CHECK_IS(mprotect(seen, offsetof(struct region, ends), PROT_NONE), 0);
	close(fd);
	memset((char *)liar->region + REGION_RINGS, LIAR_SECRET, LIAR_REGION - REGION_RINGS);
	memset((char *)liar->region + LIAR_AT, LIAR_BYTE, LIAR_RING);
	liar->pair->peer = (const struct region *)seen;
	liar->pair->peer_length = LIAR_REGION;
}

/* Segment `epoch` as the liar would have it, and the epoch. */
static inline void liar_publish(struct liar *liar, uint64_t epoch, uint64_t start, uint64_t where)
{
	atomic_store(&liar->end->segments[epoch % END_SEGMENTS].start, start);
	atomic_store(&liar->end->segments[epoch % END_SEGMENTS].where, where);
	atomic_store(&liar->end->epoch, epoch);
}

/* Another stream between the same two, on the liar's end `number`. */
static inline void liar_stream(struct liar *liar, unsigned number)
{
	struct wire wire;
	int own;

	wire_connect(&wire, 1);
	liar->fd = wire.fd[0];
	liar->peer_fd = wire.fd[1];
	liar->stream = wire.stream[0];
	liar->end = &liar->region->ends[number];
	atomic_store(&liar->end->cookie, LIAR_COOKIE);
	own = arena_end_alloc(liar->pair->arena, LIAR_COOKIE);
	CHECK(own >= 0);
	wire_pair_side(liar->stream, liar->pair, (unsigned)own, number, LIAR_COOKIE);
	stream_tick(liar->stream);
	CHECK(rx_taken(liar->stream));
}

static inline void liar_open(struct liar *liar)
{
	const struct arena_backend backend = {.kind = ARENA_MEMFD};
	static struct nn_pair pair;
	struct arena_share share;

	memset(liar, 0, sizeof *liar);
	liar->pair = &pair;
	CHECK_IS(arena_create(&backend, TEST_REGION, &liar->pair->arena, &share), 0);
	close(share.fd);
	liar->pair->own = arena_region(liar->pair->arena);
	pair_bells(liar->pair);
	liar_memory(liar);
	liar_stream(liar, 7);
}

/* Honest so far: LIAR_HEAD bytes have come by the ring and been read. */
static inline void liar_rings(struct liar *liar)
{
	char bytes[2 * LIAR_HEAD];

	atomic_store(&liar->end->tail, LIAR_HEAD);
	liar_publish(liar, 1, 0, LIAR_AT | LIAR_LOG2);
	CHECK_IS(call_recv(liar->fd, bytes, sizeof bytes, MSG_DONTWAIT), LIAR_HEAD);
	CHECK(liar->stream->rx_ring);
}

/* Honest so far: the core sends by ring, and has sent `bytes`. */
static inline void liar_obeys(struct liar *liar, size_t bytes)
{
	static char some[4 * LIAR_RING];

	atomic_store(&liar->end->rx_flags, END_READY);
	while (bytes) {
		size_t piece = bytes < LIAR_RING ? bytes : LIAR_RING;

		CHECK_IS(call_send(liar->fd, some, piece, MSG_DONTWAIT), piece);
		atomic_store(&liar->end->acked, atomic_load(&liar->stream->own->epoch));
		atomic_store(&liar->end->head, atomic_load(&liar->stream->own->tail));
		bytes -= piece;
	}
	CHECK(liar->stream->tx_ring);
}

/* What no lie may disturb: a stream with an honest peer, and one with this liar in a better mood. */
struct others {
	struct peers peers;
	struct wire wire;
	uint64_t at[2];
	struct liar mood;
};

static inline void others_open(struct others *others, const struct liar *liar)
{
	peers_open(&others->peers);
	wire_open(&others->wire, &others->peers);
	others->at[0] = others->at[1] = 0;
	others->mood = *liar;
	liar_stream(&others->mood, 9);
	liar_rings(&others->mood);
	liar_obeys(&others->mood, 10);
}

static inline void others_go_on(struct others *others)
{
	struct liar *mood = &others->mood;
	char bytes[16];

	for (int sender = 0; sender < 2; sender++)
		pass(&others->wire, sender, &others->at[sender], 3000);
	atomic_fetch_add(&mood->end->tail, 10);
	CHECK_IS(call_recv(mood->fd, bytes, sizeof bytes, MSG_DONTWAIT), 10);
	CHECK_IS(call_send(mood->fd, bytes, 10, MSG_DONTWAIT), 10);
	atomic_fetch_add(&mood->end->head, 10);
}

/* Every one of `lies`, which begin with their names, is told in every one of `situations`; the situation finds it in `lie`. */
struct situation {
	const char *name;
	void (*body)(void);
};

#define LIAR_MAIN \
	static void run(void **state) \
	{ \
		size_t number = (size_t)*state; \
		lie = &lies[number / SITUATIONS]; \
		in_child(situations[number % SITUATIONS].body, 2); \
	} \
	int main(void) \
	{ \
		static struct CMUnitTest tests[LIES * SITUATIONS]; \
		static char names[LIES * SITUATIONS][80]; \
		for (size_t i = 0; i < LIES * SITUATIONS; i++) { \
			snprintf(names[i], sizeof names[i], "%s: %s", lies[i / SITUATIONS].name, situations[i % SITUATIONS].name); \
			tests[i] = (struct CMUnitTest){.name = names[i], .test_func = run, .initial_state = (void *)i}; \
		} \
		return cmocka_run_group_tests(tests, NULL, NULL); \
	}

#endif
