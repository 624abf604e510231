/* SPDX-License-Identifier: BSD-2-Clause */
/* What the arena's unit tests share. */
#ifndef ARENA_TEST_H
#define ARENA_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

#include "arena/arena.h"

/* SEED from the environment or the clock; printed, so that a failure can be repeated. */
static inline uint64_t test_seed(void)
{
	const char *text = getenv("SEED");
	uint64_t seed = text ? strtoull(text, NULL, 0) : (uint64_t)time(NULL) * 0x9e3779b97f4a7c15ull;

	fprintf(stderr, "SEED=%#llx\n", (unsigned long long)seed);
	return seed ? seed : 1;
}

/* xorshift64* */
static inline uint64_t test_random(uint64_t *state)
{
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return *state * 0x2545f4914f6cdd1dull;
}

static inline struct arena *test_arena(uint64_t length, struct arena_share *share)
{
	struct arena_backend backend = {.kind = ARENA_MEMFD};
	struct arena *arena;

	assert_int_equal(arena_create(&backend, length, &arena, share), 0);
	return arena;
}

#endif
