// SPDX-License-Identifier: BSD-2-Clause
/*
 * What shared memory itself allows on this machine, to judge everything else by.
 *
 *   pingpong  two processes, two cache lines, each written by one of them; both spin on the other's line
 *   stream    one process copies messages from its own memory into shared slots, the other copies them out: the two
 *             copies that send and recv imply, and nothing else
 *
 * Both processes are pinned to a CPU of their own: a limit must not depend on where the scheduler puts them. Spinning
 * needs two CPUs; with one the program says so and exits with 77.
 */
#include "bench/workloads/latency.h"

#include <getopt.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SAMPLE = 16, RING = 1 << 20, SLOT_MAX = 1 << 16 };

struct shared {
	/* parent: round trips or slots begun; UINT64_MAX ends the run */
	_Alignas(128) _Atomic uint64_t there;
	/* child: answered */
	_Alignas(128) _Atomic uint64_t back;
	_Alignas(4096) char ring[RING];
};

static struct shared *shared;
static struct latency latency;

static inline void relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield");
#endif
}

static inline void publish(_Atomic uint64_t *line, uint64_t value)
{
	atomic_store_explicit(line, value, memory_order_release);
}

static inline uint64_t observe(_Atomic uint64_t *line)
{
	return atomic_load_explicit(line, memory_order_acquire);
}

static bool pin(int which)
{
	cpu_set_t all, one;

	CPU_ZERO(&one);
	if (sched_getaffinity(0, sizeof(all), &all) || CPU_COUNT(&all) < 2)
		return false;
	for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
		if (CPU_ISSET(cpu, &all) && which-- == 0) {
			CPU_SET(cpu, &one);
			return sched_setaffinity(0, sizeof(one), &one) == 0;
		}
	return false;
}

static void answer(void)
{
	uint64_t seen = 0;

	for (;;) {
		uint64_t there = observe(&shared->there);

		if (there == UINT64_MAX)
			return;
		if (there == seen)
			relax();
		else
			publish(&shared->back, seen = there);
	}
}

static void pingpong(uint64_t start, uint64_t end)
{
	uint64_t done = 0, now = start;

	while (now < end) {
		uint64_t before = now;

		for (int i = 0; i < SAMPLE; i++) {
			publish(&shared->there, ++done);
			while (observe(&shared->back) != done)
				relax();
			if (i == 0)
				latency_note(&latency, now_ns() - before);
		}
		now = now_ns();
	}
	publish(&shared->there, UINT64_MAX);
	latency_print(&latency, done, done * 64, now - start);
}

static void drain(size_t slot)
{
	static char own[SLOT_MAX];
	uint64_t slots = RING / slot, done = 0;

	for (;;) {
		uint64_t there = observe(&shared->there);

		if (there == UINT64_MAX)
			return;
		if (there == done)
			relax();
		for (; done < there; publish(&shared->back, ++done)) {
			memcpy(own, shared->ring + done % slots * slot, slot);
			__asm__ volatile("" : : "r"(own) : "memory");
		}
	}
}

static void stream(uint64_t start, uint64_t end, char *own, size_t size, size_t slot)
{
	uint64_t slots = RING / slot, done = 0, batch = size >= 65536 ? 1 : 64, messages = 0;

	while (now_ns() < end) {
		for (uint64_t i = 0; i < batch; i++, messages++)
			for (size_t at = 0; at < size; at += slot) {
				while (done - observe(&shared->back) >= slots)
					relax();
				__asm__ volatile("" : : "r"(own) : "memory");
				memcpy(shared->ring + done % slots * slot, own + at, slot);
				publish(&shared->there, ++done);
			}
	}
	while (observe(&shared->back) != done)
		relax();
	publish(&shared->there, UINT64_MAX);
	latency_print(NULL, messages, messages * size, now_ns() - start);
}

int main(int argc, char **argv)
{
	static const struct option known[] = {
		{"mode", 1, NULL, 'm'},
		{"size", 1, NULL, 's'},
		{"seconds", 1, NULL, 't'},
		{NULL, 0, NULL, 0},
	};
	const char *mode = "pingpong";
	size_t size = 64, slot;
	char *own;
	double seconds = 1;
	bool streaming;
	uint64_t start;

	for (int c; (c = getopt_long(argc, argv, "", known, NULL)) != -1;) {
		switch (c) {
		case 'm':
			mode = optarg;
			break;
		case 's':
			size = strtoul(optarg, NULL, 0);
			break;
		case 't':
			seconds = atof(optarg);
			break;
		default:
			fputs("usage: limit [--mode pingpong|stream] [--size BYTES] [--seconds S]\n", stderr);
			return 2;
		}
	}
	streaming = strcmp(mode, "stream") == 0;
	slot = size < SLOT_MAX ? size : SLOT_MAX;
	if (!size || size % slot)
		return fputs("limit: sizes above 64 KiB must be multiples of it\n", stderr), 2;
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (shared == MAP_FAILED)
		return perror("limit"), 1;
	if (!pin(0))
		return fputs("limit: needs two CPUs\n", stderr), 77;
	own = calloc(1, size);
	if (!own)
		return perror("limit"), 1;
	if (fork() == 0) {
		cpu_set_t all;

		prctl(PR_SET_PDEATHSIG, 9);
		memset(&all, 0xff, sizeof(all));
		sched_setaffinity(0, sizeof(all), &all);
		pin(1);
		streaming ? drain(slot) : answer();
		_exit(0);
	}
	start = now_ns();
	if (streaming)
		stream(start, start + (uint64_t)(seconds * 1e9), own, size, slot);
	else
		pingpong(start, start + (uint64_t)(seconds * 1e9));
	fflush(stdout);
	wait(NULL);
	free(own);
	return 0;
}
