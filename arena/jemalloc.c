/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The way into our private jemalloc (jemalloc_host.c is the way out).
 *
 * One thread at a time. jemalloc keeps state for each thread in thread-local memory, links it into lists and wants to
 * hear when the thread ends. We cannot promise that: threads of the application end without telling us, and a child of
 * fork inherits lists that name threads it does not have. So a thread's state lives only while it is inside: on the
 * way out it is taken down (arena_je_tsd_cleanup) and its memory put back to what the loader had put there. Outside,
 * jemalloc has no threads at all. That costs about a microsecond, for calls that a stream makes a handful of times.
 *
 * Fork needs no more than the lock: held across fork(), it means that the child inherits jemalloc between two calls,
 * and its own mutexes are never locked (jemalloc_host.c).
 */
#include "jemalloc.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "call_on.h"
#include "build-jemalloc-tsd.h" /* ARENA_JE_TSD_SIZE, made from the object; see rules.mk */

/* Hidden here: jemalloc's own object says that they are for everybody, and the narrower word counts. */
#pragma GCC visibility push(hidden)
void *arena_je_mallocx(size_t size, int flags);
void arena_je_dallocx(void *memory, int flags);
size_t arena_je_sallocx(const void *memory, int flags);
int arena_je_mallctl(const char *name, void *old, size_t *old_size, void *new, size_t new_size);
void arena_je_tsd_cleanup(void *tsd);
extern bool arena_je_opt_cache_oblivious;

extern __thread unsigned char arena_je_tsd[ARENA_JE_TSD_SIZE] __attribute__((tls_model("initial-exec")));
#pragma GCC visibility pop

/* jemalloc's arena_config_t, for "experimental.arenas_create_ext". */
struct je_arena_config {
	extent_hooks_t *extent_hooks;
	bool metadata_use_hooks; /* false: nothing of jemalloc's own lies in memory that a peer can see */
};

struct arena_handlers arena_handlers;
static struct arena_lock lock;
static bool pristine_known;
static unsigned char pristine[ARENA_JE_TSD_SIZE]; /* a thread's state as the loader makes it */

/* One visit. */
struct visit {
	void (*work)(struct visit *visit);
	extent_hooks_t *hooks;
	unsigned heap;
	const char *what;
	size_t bytes;
	void *memory;
	size_t size;
	int outcome;
};

static void stay(void *data)
{
	struct visit *visit = data;

	if (!pristine_known) {
		memcpy(pristine, arena_je_tsd, sizeof pristine);
		pristine_known = true;
		/* It would add a page to each ring, to vary the alignment within the first one. This version reads no such
		 * option from arena_je_conf. */
		arena_je_opt_cache_oblivious = false;
	}
	visit->work(visit);
	arena_je_tsd_cleanup(arena_je_tsd);
	memcpy(arena_je_tsd, pristine, sizeof pristine);
}

/* jemalloc wants more stack than a thread of the application's may have left (PTHREAD_STACK_MIN, an alternate stack): it gets one of its
 * own, which one is enough for, under the lock. */
static void visit(struct visit *visit)
{
	static _Alignas(64) unsigned char room[64 << 10];

	arena_lock_take(&lock);
	arena_call_on(room + sizeof room, stay, visit);
	arena_lock_drop(&lock);
}

void heap_lock(void)
{
	arena_lock_take(&lock);
}

void heap_unlock(void)
{
	arena_lock_drop(&lock);
}

void heap_lock_reset(void)
{
	lock.state = 1; /* nobody sleeps on it in this process */
	arena_lock_drop(&lock);
}

static void create(struct visit *visit)
{
	struct je_arena_config config = {.extent_hooks = visit->hooks, .metadata_use_hooks = false};
	size_t size = sizeof visit->heap;

	visit->outcome = arena_je_mallctl("experimental.arenas_create_ext", &visit->heap, &size, &config, sizeof config);
}

int heap_create(extent_hooks_t *hooks)
{
	struct visit made = {.work = create, .hooks = hooks};

	visit(&made);
	return made.outcome ? -made.outcome : (int)made.heap;
}

/* "arena.<heap>.<what>" */
static void control(struct visit *visit)
{
	unsigned heap = visit->heap;
	const char *what = visit->what;
	char name[40] = "arena.";
	char digits[12];
	size_t at = 6;
	size_t count = 0;

	do
		digits[count++] = (char)('0' + heap % 10);
	while ((heap /= 10) != 0);
	while (count)
		name[at++] = digits[--count];
	name[at++] = '.';
	while (*what && at < sizeof name - 1)
		name[at++] = *what++;
	name[at] = 0;
	arena_je_mallctl(name, NULL, NULL, NULL, 0);
}

void heap_destroy(unsigned heap)
{
	visit(&(struct visit){.work = control, .heap = heap, .what = "destroy"});
}

static void alloc(struct visit *visit)
{
	int flags = MALLOCX_ARENA(visit->heap) | MALLOCX_TCACHE_NONE | MALLOCX_ALIGN(4096);

	visit->memory = arena_je_mallocx(visit->bytes, flags);
	visit->size = visit->memory ? arena_je_sallocx(visit->memory, 0) : 0;
}

void *heap_alloc(unsigned heap, size_t bytes, size_t *size)
{
	struct visit made = {.work = alloc, .heap = heap, .bytes = bytes};

	visit(&made);
	*size = made.size;
	return made.memory;
}

static void release(struct visit *visit)
{
	visit->size = arena_je_sallocx(visit->memory, 0);
	arena_je_dallocx(visit->memory, MALLOCX_TCACHE_NONE);
	/* The ticks that would make jemalloc look at its clock die with the thread's state: look now. */
	visit->what = "decay";
	control(visit);
}

size_t heap_free(unsigned heap, void *memory)
{
	struct visit made = {.work = release, .heap = heap, .memory = memory};

	visit(&made);
	return made.size;
}

void heap_trim(unsigned heap)
{
	visit(&(struct visit){.work = control, .heap = heap, .what = "purge"});
}
