/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Time and latency for the load programs: a clock in nanoseconds, a histogram, and the one line of JSON every load
 * program prints. The histogram is log-linear: 64 steps per power of two, so a percentile is right to 1.6 %, and
 * noting a value costs a few instructions and no memory beyond the fixed table.
 */
#ifndef BENCH_LATENCY_H
#define BENCH_LATENCY_H

#include <stdint.h>
#include <stdio.h>
#include <time.h>

#define LATENCY_STEP_BITS 6
#define LATENCY_STEPS (1u << LATENCY_STEP_BITS)

struct latency {
	uint64_t count;
	uint64_t step[(64 - LATENCY_STEP_BITS) * LATENCY_STEPS];
};

static inline uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static inline void latency_note(struct latency *l, uint64_t ns)
{
	unsigned top = 63 - (unsigned)__builtin_clzll(ns | 1);
	unsigned shift = top < LATENCY_STEP_BITS ? 0 : top - LATENCY_STEP_BITS;

	/* The mantissa keeps its leading one, so consecutive powers of two follow each other without a gap. */
	l->step[shift * LATENCY_STEPS + (unsigned)(ns >> shift)]++;
	l->count++;
}

/** The value below which @share (0..1) of the notes lie, in microseconds. */
static inline double latency_us(const struct latency *l, double share)
{
	uint64_t wanted = (uint64_t)((double)l->count * share), seen = 0;

	for (unsigned i = 0; i < sizeof(l->step) / sizeof(l->step[0]); i++) {
		seen += l->step[i];
		if (seen > wanted) {
			unsigned shift = i < 2 * LATENCY_STEPS ? 0 : i / LATENCY_STEPS - 1;
			uint64_t mantissa = i - shift * LATENCY_STEPS;

			return (double)(mantissa << shift) / 1000.0;
		}
	}
	return 0;
}

/** Print the result: operations and bytes per second, and percentiles if any were noted. */
static inline void latency_print(const struct latency *l, uint64_t operations, uint64_t bytes, uint64_t ns)
{
	double seconds = (double)ns / 1e9;

	printf("{\"rate\": %.3f, \"gigabytes\": %.6f", (double)operations / seconds, (double)bytes / seconds / 1e9);
	if (l && l->count)
		printf(", \"p50\": %.3f, \"p99\": %.3f", latency_us(l, 0.50), latency_us(l, 0.99));
	printf("}\n");
}

#endif
