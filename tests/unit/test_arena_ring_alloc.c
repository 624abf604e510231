/* SPDX-License-Identifier: BSD-2-Clause */
/* Rings: no two overlap, all of the region can be had and had again, many threads, fork, and no trace in the
 * application's own malloc. */
#include "arena_test.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define MANY 10000u
#define RING 16384u

static uint64_t rings[MANY];

static int by_value(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a;
	uint64_t y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static uint64_t blocks(int fd)
{
	struct stat status;

	assert_int_equal(fstat(fd, &status), 0);
	return (uint64_t)status.st_blocks * 512;
}

static void test_ten_thousand(void **state)
{
	struct arena_share share;
	struct arena *arena = test_arena(0, &share);
	struct arena_stats stats;

	(void)state;
	/* Twice: the second time from memory that was used before. */
	for (unsigned round = 0; round < 2; round++) {
		for (unsigned i = 0; i < MANY; i++) {
			rings[i] = arena_ring_alloc(arena, RING);
			assert_true(region_ring_valid(share.length, rings[i], 14));
		}
		arena_get_stats(arena, &stats);
		assert_int_equal(stats.rings, MANY);
		assert_int_equal(stats.ring_bytes, (uint64_t)MANY * RING);
		qsort(rings, MANY, sizeof rings[0], by_value);
		for (unsigned i = 1; i < MANY; i++)
			assert_true(rings[i] - rings[i - 1] >= RING);
		/* Idle rings cost nothing but bookkeeping. */
		assert_true(blocks(share.fd) < 1 << 20);
		for (unsigned i = 0; i < MANY; i++)
			arena_ring_free(arena, rings[i]);
	}
	arena_get_stats(arena, &stats);
	assert_int_equal(stats.rings, 0);
	assert_int_equal(stats.ring_bytes, 0);
	arena_destroy(arena);
	close(share.fd);
}

static void test_sizes(void **state)
{
	struct arena_share share;
	struct arena *arena = test_arena(REGION_RINGS + (64u << 20), &share);
	uint64_t end = REGION_RINGS + (64u << 20);
	uint64_t all;

	(void)state;
	assert_int_equal(arena_ring_alloc(arena, 0), 0);
	assert_int_equal(arena_ring_alloc(arena, 2048), 0);
	assert_int_equal(arena_ring_alloc(arena, 5000), 0);
	assert_int_equal(arena_ring_alloc(arena, 12288), 0);
	assert_int_equal(arena_ring_alloc(arena, 1ull << 63), 0);
	assert_int_equal(arena_ring_alloc(arena, ~0ull), 0);
	arena_ring_free(arena, 0);
	for (unsigned log2 = 12; log2 <= 25; log2++) {
		uint64_t ring = arena_ring_alloc(arena, 1ull << log2);

		assert_true(region_ring_valid(end, ring, log2));
		memset((char *)arena_region(arena) + ring, 1, 1ull << log2);
		arena_ring_free(arena, ring);
	}
	/* The whole of it, once everything else is given back. */
	arena_trim(arena);
	all = arena_ring_alloc(arena, 64u << 20);
	assert_int_equal(all, REGION_RINGS);
	assert_int_equal(arena_ring_alloc(arena, 4096), 0);
	arena_ring_free(arena, all);
	assert_int_not_equal(arena_ring_alloc(arena, 4096), 0);
	arena_destroy(arena);
	close(share.fd);
}

/* Every ring is filled with a value of its own and checked when it is freed. */
static void churn(struct arena *arena, uint64_t seed, unsigned rounds)
{
	enum { HELD = 64 };
	uint64_t held[HELD] = {0};
	uint64_t size[HELD] = {0};

	while (rounds--) {
		uint64_t dice = test_random(&seed);
		unsigned i = dice % HELD;
		uint64_t *words = (uint64_t *)((char *)arena_region(arena) + held[i]);

		if (held[i]) {
			for (uint64_t at = 0; at < size[i] / 8; at += 512)
				if (words[at] != (held[i] ^ at ^ (uintptr_t)held))
					abort();
			arena_ring_free(arena, held[i]);
			held[i] = 0;
			continue;
		}
		size[i] = 4096ull << (dice >> 8) % 8;
		held[i] = arena_ring_alloc(arena, size[i]);
		words = (uint64_t *)((char *)arena_region(arena) + held[i]);
		for (uint64_t at = 0; held[i] && at < size[i] / 8; at += 512)
			words[at] = held[i] ^ at ^ (uintptr_t)held;
	}
	for (unsigned i = 0; i < HELD; i++)
		if (held[i])
			arena_ring_free(arena, held[i]);
}

struct churner {
	struct arena *arena;
	uint64_t seed;
};

static void *churn_thread(void *argument)
{
	struct churner *churner = argument;

	churn(churner->arena, churner->seed, 2000);
	return NULL;
}

/* Threads come and go: each generation finds what the last one left. */
static void test_threads(void **state)
{
	uint64_t seed = test_seed();
	struct arena_share share;
	struct arena *arena = test_arena(REGION_RINGS + (32u << 20), &share);
	struct arena_stats stats;

	(void)state;
	for (unsigned generation = 0; generation < 8; generation++) {
		pthread_t threads[4];
		struct churner churners[4];

		for (unsigned i = 0; i < 4; i++) {
			churners[i] = (struct churner){arena, test_random(&seed) | 1};
			assert_int_equal(pthread_create(&threads[i], NULL, churn_thread, &churners[i]), 0);
		}
		for (unsigned i = 0; i < 4; i++)
			pthread_join(threads[i], NULL);
	}
	arena_get_stats(arena, &stats);
	assert_int_equal(stats.rings, 0);
	arena_trim(arena);
	assert_int_equal(arena_ring_alloc(arena, 32u << 20), REGION_RINGS);
	arena_destroy(arena);
	close(share.fd);
}

/* Pages of freed rings: used again where they cannot be given back, given back where they can. */
static void test_memory_returns(void **state)
{
	struct arena_backend shm = {.kind = ARENA_DIR, .path = "/dev/shm"};
	struct arena_share share;
	struct arena *arena = test_arena(0, &share);
	uint64_t high;
	int error;

	(void)state;
	for (unsigned round = 0; round < 20; round++) {
		uint64_t ring = arena_ring_alloc(arena, 8u << 20);

		memset((char *)arena_region(arena) + ring, 1, 8u << 20);
		arena_ring_free(arena, ring);
		arena_trim(arena);
	}
	assert_true(blocks(share.fd) < 9u << 20);
	arena_destroy(arena);
	close(share.fd);

	error = arena_create(&shm, REGION_RINGS + (32u << 20), &arena, &share);
	if (error == -ENOENT || error == -EACCES || error == -ENOSPC)
		skip();
	assert_int_equal(error, 0);
	for (unsigned i = 0; i < 64; i++) {
		rings[i] = arena_ring_alloc(arena, 1u << 18);
		memset((char *)arena_region(arena) + rings[i], 1, 1u << 18);
	}
	high = blocks(share.fd);
	for (unsigned i = 0; i < 64; i++)
		arena_ring_free(arena, rings[i]);
	arena_trim(arena);
	assert_true(blocks(share.fd) + (15u << 20) < high);
	/* The rings' pages read as zero when they come back. */
	rings[0] = arena_ring_alloc(arena, 1u << 18);
	assert_int_equal(((char *)arena_region(arena))[rings[0]], 0);
	arena_destroy(arena);
	close(share.fd);
}

static _Atomic int stop;

static void *churn_until_stopped(void *argument)
{
	struct churner *churner = argument;

	while (!stop)
		churn(churner->arena, churner->seed, 100);
	return NULL;
}

/* What a child may do with what it inherited, and with arenas of its own. */
static int in_child(struct arena *arena, uint64_t ring, uint64_t seed)
{
	struct arena_backend backend = {.kind = ARENA_MEMFD};
	struct arena_share share;
	struct arena *own;

	alarm(20);
	arena_disown(arena);
	if (arena_ring_alloc(arena, 4096) || arena_end_alloc(arena, 5) != -ENOSPC)
		return 1;
	arena_ring_free(arena, ring);
	arena_end_free(arena, 0);
	arena_trim(arena);
	if (arena_region(arena)->ends[0].cookie != 42)
		return 2;
	((char *)arena_region(arena))[ring] = 'c';
	if (arena_create(&backend, REGION_RINGS + (32u << 20), &own, &share))
		return 3;
	churn(own, seed | 1, 500);
	arena_destroy(arena);
	churn(own, seed | 1, 500);
	arena_destroy(own);
	return 0;
}

static void test_fork(void **state)
{
	uint64_t seed = test_seed();
	struct arena_share share;
	struct arena *arena = test_arena(REGION_RINGS + (32u << 20), &share);
	uint64_t ring = arena_ring_alloc(arena, 4096);
	struct churner churners[2] = {{arena, test_random(&seed) | 1}, {arena, test_random(&seed) | 1}};
	pthread_t threads[2];

	(void)state;
	assert_int_equal(arena_end_alloc(arena, 42), 0);
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, churn_until_stopped, &churners[i]), 0);
	for (unsigned i = 0; i < 50; i++) {
		pid_t child;
		int status;

		((char *)arena_region(arena))[ring] = 'p';
		arena_fork_prepare();
		child = fork();
		if (child == 0) {
			arena_fork_child();
			_exit(in_child(arena, ring, seed));
		}
		arena_fork_parent();
		assert_true(child > 0);
		assert_int_equal(waitpid(child, &status, 0), child);
		assert_true(WIFEXITED(status));
		assert_int_equal(WEXITSTATUS(status), 0);
		assert_int_equal(((char *)arena_region(arena))[ring], 'c');
	}
	stop = 1;
	for (unsigned i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(arena_region(arena)->ends[0].cookie, 42);
	arena_destroy(arena);
	close(share.fd);
}

static struct arena *handler_arena;
static _Atomic unsigned handled;

static void allocate_in_handler(int signal_number)
{
	uint64_t ring = arena_ring_alloc(handler_arena, 8192);

	(void)signal_number;
	if (ring)
		arena_ring_free(handler_arena, ring);
	handled++;
}

/* A signal handler may come in between and do the same. */
static void test_signal_handler(void **state)
{
	struct sigaction action = {.sa_handler = allocate_in_handler};
	struct arena_share share;
	struct itimerspec often = {.it_interval.tv_nsec = 50000, .it_value.tv_nsec = 50000};
	struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
	timer_t timer;

	(void)state;
	handler_arena = test_arena(REGION_RINGS + (32u << 20), &share);
	assert_int_equal(sigaction(SIGUSR1, &action, NULL), 0);
	assert_int_equal(timer_create(CLOCK_MONOTONIC, &event, &timer), 0);
	assert_int_equal(timer_settime(timer, 0, &often, NULL), 0);
	while (handled < 200)
		churn(handler_arena, 12345, 100);
	timer_delete(timer);
	signal(SIGUSR1, SIG_IGN);
	arena_destroy(handler_arena);
	close(share.fd);
}

/* Regions come and go with their peers; nothing is left over. */
static void test_many_arenas(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 5000; i++) {
		struct arena_share share;
		struct arena *arena = test_arena(REGION_RINGS + (1u << 20), &share);

		assert_int_not_equal(arena_ring_alloc(arena, 65536), 0);
		arena_destroy(arena);
		close(share.fd);
	}
}

/* The allocator of the process is the one it would have without us, and none of its names is ours. */
static void test_own_malloc(void **state)
{
	static const char *const names[] = {"malloc", "free", "calloc", "realloc", "posix_memalign", "mallctl", "mallocx",
					    "malloc_conf", "je_malloc", "arena_je_mallocx"};
	void *self = dlopen(NULL, RTLD_NOW);
	Dl_info executable;

	(void)state;
	assert_int_not_equal(dladdr((void *)test_own_malloc, &executable), 0);
	for (unsigned i = 0; i < sizeof names / sizeof names[0]; i++) {
		void *address = dlsym(self, names[i]);
		Dl_info info;

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || defined(__clang__)
		/* A sanitizer's own malloc may be linked in. */
		if (i < 5)
			continue;
#endif
		if (i >= 5)
			assert_null(address);
		else
			assert_true(dladdr(address, &info) && info.dli_fbase != executable.dli_fbase);
	}
	dlclose(self);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ten_thousand),
		cmocka_unit_test(test_sizes),
		cmocka_unit_test(test_threads),
		cmocka_unit_test(test_memory_returns),
		cmocka_unit_test(test_fork),
		cmocka_unit_test(test_signal_handler),
		cmocka_unit_test(test_many_arenas),
		cmocka_unit_test(test_own_malloc),
	};

	return cmocka_run_group_tests_name("arena rings", tests, NULL, NULL);
}
