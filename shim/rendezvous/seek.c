/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The table of streams that seek their peer. Entries are numbered and type-stable (chunks are never unmapped), found by
 * connection in hash buckets, and by stream in a flat table of numbers.
 *
 * A stream may go away while another thread, or the very code that a signal handler has interrupted, holds the rendezvous lock.
 * So rendezvous_abandon waits for nobody: it cuts the stream's number out of the flat table, marks the entry and pushes
 * it on a list that whoever holds the lock, or takes it next, works off (seek_reap).
 */
#include "shim/rendezvous/private.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "shim/core/clock.h"
#include "shim/core/sys.h"
#include "shim/rendezvous/rendezvous.h"

#define BUCKETS 4096u
#define CHUNK 64u
#define CHUNKS 4096u
#define NAME_MIN_NS 1000000000ull /* a name is left in peace so long */

static struct seek *chunks[CHUNKS];
static uint32_t seek_top = 1, free_first; /* number 0 is none */
static uint32_t buckets[BUCKETS];
static uint64_t bucket_key;
static _Atomic uint32_t *numbers; /* by stream index */
static _Atomic uint32_t gone_first;
static unsigned waiting;

static uint32_t named[NAMES_MAX]; /* entries that hold a name */
static unsigned named_count, named_at;

static struct seek *seek_at(uint32_t number)
{
	return &chunks[number / CHUNK][number % CHUNK];
}

static uint32_t bucket_of(const struct tuple *tuple)
{
	uint64_t hash = bucket_key;
	uint32_t words[sizeof(*tuple) / 4];

	memcpy(words, tuple, sizeof(words));
	for (unsigned i = 0; i < sizeof(words) / 4; i++) {
		hash = (hash ^ words[i]) * 0x9e3779b97f4a7c15ull;
		hash ^= hash >> 29;
	}
	return (uint32_t)(hash % BUCKETS);
}

struct seek *seek_of(const struct nn_stream *stream)
{
	uint32_t number;

	if (!numbers || stream->index >= STATE_STREAMS)
		return NULL;
	number = atomic_load_explicit(&numbers[stream->index], memory_order_acquire);
	return number ? seek_at(number) : NULL;
}

struct seek *seek_add(struct nn_stream *stream)
{
	struct seek *seek;
	uint32_t number, bucket;

	if (stream->index >= STATE_STREAMS)
		return NULL;
	if (!numbers) {
		if (random_bytes(&bucket_key, sizeof(bucket_key)))
			return NULL;
		numbers = process_table(STATE_STREAMS * sizeof(*numbers));
		if (!numbers)
			return NULL;
	}
	if (free_first) {
		number = free_first;
		seek = seek_at(number);
		free_first = seek->next;
	} else {
		number = seek_top;
		if (number / CHUNK == CHUNKS)
			return NULL;
		if (!chunks[number / CHUNK]) {
			chunks[number / CHUNK] = process_table(CHUNK * sizeof(struct seek));
			if (!chunks[number / CHUNK])
				return NULL;
		}
		seek_top++;
		seek = seek_at(number);
	}
	memset(seek, 0, sizeof(*seek));
	seek->number = number;
	seek->stream = stream;
	seek->stream_index = stream->index;
	seek->connector = stream->connector;
	seek->name_fd = -1;
	seek->since_ns = nn_now_ns();
	seek->state = stream->connector ? SEEK_NAMELESS : SEEK_KNOCKING;
	tuple_of(stream, &seek->tuple);
	bucket = bucket_of(&seek->tuple);
	seek->next = buckets[bucket];
	buckets[bucket] = number;
	atomic_store_explicit(&numbers[stream->index], number, memory_order_release);
	return seek;
}

/* The newest: an older one with the same addresses is a connection that died unnoticed. */
struct seek *seek_find(const struct tuple *tuple, bool connector)
{
	if (!numbers)
		return NULL;
	for (uint32_t n = buckets[bucket_of(tuple)]; n; n = seek_at(n)->next) {
		struct seek *seek = seek_at(n);

		if (seek->connector == connector && !atomic_load_explicit(&seek->gone, memory_order_acquire) &&
		    tuple_same(&seek->tuple, tuple))
			return seek;
	}
	return NULL;
}

static bool expects(unsigned state)
{
	return state == SEEK_OPEN_SENT || state == SEEK_HELLO_SENT;
}

void seek_set(struct seek *seek, enum seek_state state)
{
	waiting += expects(state);
	waiting -= expects(seek->state);
	seek->state = (uint8_t)state;
}

unsigned seeks_waiting(void)
{
	return waiting;
}

/* ---- names ------------------------------------------------------------------------------------------------------ */

void seek_name_drop(struct seek *seek)
{
	if (seek->name_fd < 0)
		return;
	let_go(&seek->name_fd);
	for (unsigned i = 0; i < named_count; i++)
		if (named[i] == seek->number) {
			named[i] = named[--named_count];
			break;
		}
}

/* Connections whose peer has no shim would hold their names for ever if they are idle: the first old one found loses it. */
static bool make_room(uint64_t now)
{
	for (unsigned i = 0; i < 8; i++) {
		struct seek *seek = seek_at(named[named_at = (named_at + 1) % named_count]);

		if (now - seek->named_ns < NAME_MIN_NS)
			continue;
		seek_name_drop(seek);
		seek_set(seek, SEEK_NAMELESS);
		return true;
	}
	return false;
}

int seek_name_take(struct seek *seek)
{
	uint64_t now = nn_now_ns();
	int error;

	if (named_count == NAMES_MAX && !make_room(now))
		return -EAGAIN;
	error = mailbox_name_take(&seek->name_fd, &seek->tuple);
	if (error)
		return error;
	seek->named_ns = now;
	named[named_count++] = seek->number;
	return 0;
}

/* ---- the end ---------------------------------------------------------------------------------------------------- */

static void release(struct seek *seek)
{
	uint32_t *link = &buckets[bucket_of(&seek->tuple)];

	while (*link != seek->number)
		link = &seek_at(*link)->next;
	*link = seek->next;
	seek_set(seek, SEEK_FREE);
	seek_name_drop(seek);
	if (seek->pair) {
		arena_end_free(seek->pair->shown.arena, seek->own_end);
		rendezvous_pair_put(&seek->pair->shown);
		seek->pair = NULL;
	}
	seek->stream = NULL;
	seek->next = free_first;
	free_first = seek->number;
}

bool seek_free(struct seek *seek)
{
	uint32_t number = seek->number;

	/* Lost against rendezvous_abandon: then seek_reap does it. */
	if (!atomic_compare_exchange_strong(&numbers[seek->stream_index], &number, 0))
		return false;
	release(seek);
	return true;
}

void seek_detach(const struct nn_stream *stream)
{
	uint32_t number, first;

	if (!numbers || stream->index >= STATE_STREAMS)
		return;
	if (!atomic_load_explicit(&numbers[stream->index], memory_order_relaxed))
		return;
	number = atomic_exchange(&numbers[stream->index], 0);
	if (!number)
		return;
	atomic_store_explicit(&seek_at(number)->gone, 1, memory_order_release);
	first = atomic_load(&gone_first);
	do
		seek_at(number)->next_gone = first;
	while (!atomic_compare_exchange_weak(&gone_first, &first, number));
}

bool seek_gone_pending(void)
{
	return atomic_load(&gone_first) != 0;
}

void seek_reap(void)
{
	uint32_t next;

	for (uint32_t n = atomic_exchange(&gone_first, 0); n; n = next) {
		next = seek_at(n)->next_gone;
		release(seek_at(n));
	}
}

/* The entries are the parent's, and so are the ends they hold; the copies of their descriptors go. */
void seeks_forked(void)
{
	for (uint32_t n = 1; n < seek_top; n++) {
		struct seek *seek = seek_at(n);

		if (seek->state == SEEK_FREE)
			continue;
		let_go(&seek->name_fd);
		if (seek->pair)
			rendezvous_pair_put(&seek->pair->shown);
		atomic_store(&numbers[seek->stream_index], 0);
		seek->state = SEEK_FREE;
	}
	seek_top = 1;
	free_first = 0;
	atomic_store(&gone_first, 0);
	waiting = named_count = 0;
	memset(buckets, 0, sizeof(buckets));
}
