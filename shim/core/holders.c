/* SPDX-License-Identifier: BSD-2-Clause */
#include "shim/core/holders.h"

#include <sys/mman.h>

#include "shim/core/alive.h"
#include "shim/core/process.h"
#include "shim/core/stream.h"
#include "shim/core/sys.h"

#define MEMBERS 1024u
#define WORDS (MEMBERS / 64)
#define SOCKETS STATE_STREAMS
#define NONE UINT32_MAX

/* What a member's pid says besides. */
#define FREE 0u
#define UNBORN UINT32_MAX           /* a child that has not come so far */
#define ENDED (UINT32_MAX - 1)      /* being cleared away, by one process alone */

struct member {
	_Atomic uint32_t pid;
	_Atomic uint64_t space; /* in which that number means it: inode of the pid namespace, 0 not known */
};

struct holders {
	_Atomic uint32_t use;       /* 0: free; else a number never given twice */
	_Atomic uint32_t uncounted; /* held by a process without a place */
	_Atomic uint64_t by[WORDS];
};

struct family {
	_Atomic uint32_t uses;
	_Atomic uint32_t sockets_top; /* no socket at this place or above was ever used */
	struct member members[MEMBERS];
	struct holders sockets[SOCKETS];
};

static struct family *family; /* inherited by all descendants; NULL until the first fork with a stream */
static uint32_t own = NONE;
static uint64_t space; /* of our process id, while we have a place */
static uint32_t child = NONE; /* between holders_fork_begin and what ends it, under the lock that is held across fork */
static bool child_placed;
static uint32_t next_socket;

/* ---- members ---------------------------------------------------------------------------------------------------------- */

static bool lives(struct member *member)
{
	uint32_t pid = atomic_load(&member->pid);
	if (pid == FREE || pid == ENDED)
		return false;
	if (pid == UNBORN)
		return true;
	uint64_t there = atomic_load(&member->space);
	return !there || there != space || !process_gone(pid);
}

static bool nobody(const struct holders *holders)
{
	for (unsigned w = 0; w < WORDS; w++)
		if (atomic_load(&holders->by[w]))
			return false;
	return !atomic_load(&holders->uncounted);
}

/* Takes all bits of these members, which are ENDED, and then their places are free. Of a socket that loses its last bit nobody
 * is left who could set another: that is free, too. */
static void clear_away(const uint64_t ended[WORDS])
{
	uint32_t top = atomic_load(&family->sockets_top);
	for (uint32_t s = 0; s < top; s++) {
		struct holders *holders = &family->sockets[s];
		uint32_t use = atomic_load(&holders->use);
		bool took = false;
		for (unsigned w = 0; w < WORDS; w++)
			if (atomic_load(&holders->by[w]) & ended[w])
				took |= atomic_fetch_and(&holders->by[w], ~ended[w]) & ended[w];
		if (took && use && nobody(holders))
			atomic_compare_exchange_strong(&holders->use, &use, 0);
	}
	for (uint32_t m = 0; m < MEMBERS; m++)
		if (ended[m / 64] >> m % 64 & 1)
			atomic_store(&family->members[m].pid, FREE);
}

static void bury(void)
{
	uint64_t ended[WORDS] = {0};
	bool any = false;
	for (uint32_t m = 0; m < MEMBERS; m++) {
		struct member *member = &family->members[m];
		uint32_t pid = atomic_load(&member->pid);
		if (pid == FREE || pid == ENDED || m == own || lives(member) ||
			!atomic_compare_exchange_strong(&member->pid, &pid, ENDED))
			continue;
		ended[m / 64] |= 1ull << m % 64;
		any = true;
	}
	if (any)
		clear_away(ended);
}

static uint32_t new_member(void)
{
	for (int pass = 0; pass < 2; pass++) {
		for (uint32_t m = 0; m < MEMBERS; m++) {
			uint32_t pid = FREE;
			if (atomic_compare_exchange_strong(&family->members[m].pid, &pid, UNBORN))
				return m;
		}
		if (pass == 0)
			bury();
	}
	return NONE;
}

static void be_born(uint32_t member)
{
	own = member;
	if (own == NONE)
		return;
	atomic_store(&family->members[own].space, space);
	atomic_store(&family->members[own].pid, (uint32_t)nn_pid);
}

/* ---- sockets ---------------------------------------------------------------------------------------------------------- */

static struct holders *take_socket(void)
{
	for (uint32_t i = 0; i < SOCKETS; i++) {
		uint32_t index = next_socket++ % SOCKETS, none = 0;
		struct holders *holders = &family->sockets[index];
		uint32_t use = atomic_fetch_add(&family->uses, 1) + 1;
		if (!use || !atomic_compare_exchange_strong(&holders->use, &none, use))
			continue;
		uint32_t top = atomic_load(&family->sockets_top);
		while (index >= top && !atomic_compare_exchange_weak(&family->sockets_top, &top, index + 1))
			;
		return holders;
	}
	return NULL;
}

static struct holders *new_socket(void)
{
	struct holders *holders = take_socket();
	if (!holders) {
		bury();
		holders = take_socket();
	}
	return holders;
}

static void set_bit(struct holders *holders, uint32_t member)
{
	if (member == NONE)
		atomic_store(&holders->uncounted, 1);
	else
		atomic_fetch_or(&holders->by[member / 64], 1ull << member % 64);
}

static bool others_live(const struct holders *holders)
{
	if (atomic_load(&holders->uncounted) || own == NONE)
		return true;
	for (uint32_t w = 0; w < WORDS; w++) {
		uint64_t bits = atomic_load(&holders->by[w]);
		if (own / 64 == w)
			bits &= ~(1ull << own % 64);
		for (; bits; bits &= bits - 1)
			if (lives(&family->members[w * 64 + (uint32_t)__builtin_ctzll(bits)]))
				return true;
	}
	return false;
}

uint32_t holders_use(const struct holders *holders)
{
	return holders ? atomic_load(&holders->use) : 0;
}

bool holders_live(const struct holders *holders, uint32_t use)
{
	/* Freed in between, the bits may be another socket's. */
	return !holders || (atomic_load(&holders->use) == use && others_live(holders) && atomic_load(&holders->use) == use);
}

/* ---- streams ---------------------------------------------------------------------------------------------------------- */

bool holders_others(struct nn_stream *stream)
{
	if (!stream_is_shared(stream))
		return false;
	uint32_t asked = atomic_load(&stream->others);
	if (!stream->holders || atomic_load(&stream->holders_unknown) || others_live(stream->holders))
		return true;
	/* What we found is old when we have forked meanwhile. */
	return !atomic_compare_exchange_strong(&stream->others, &asked, 1) && asked > 1;
}

void holders_look(struct nn_stream *stream)
{
	uint32_t looks = atomic_fetch_add_explicit(&stream->looks, 1, memory_order_relaxed);
	if (!(looks & (looks - 1)) || looks % 256 == 0)
		holders_others(stream);
}

bool holders_leave(struct nn_stream *stream)
{
	struct holders *holders = stream->holders;
	if (!atomic_load(&stream->others))
		return false;
	if (!holders)
		return stream_is_shared(stream);
	/* First out, then the look: of two that leave at once, one at least finds nobody. */
	if (own != NONE)
		atomic_fetch_and(&holders->by[own / 64], ~(1ull << own % 64));
	bool others = stream_is_shared(stream) && (atomic_load(&stream->holders_unknown) || others_live(holders));
	uint32_t use = stream->holders_use;
	if (nobody(holders))
		atomic_compare_exchange_strong(&holders->use, &use, 0);
	return others;
}

void holders_return(struct nn_stream *stream)
{
	if (!stream->holders)
		return;
	if (holders_use(stream->holders) == stream->holders_use) {
		set_bit(stream->holders, own);
		if (holders_use(stream->holders) == stream->holders_use)
			return;
		if (own != NONE)
			atomic_fetch_and(&stream->holders->by[own / 64], ~(1ull << own % 64));
	}
	/* We had been the last. */
	stream->holders = NULL;
	atomic_store(&stream->others, 0);
}

/* ---- fork ------------------------------------------------------------------------------------------------------------- */

/* False: no memory. */
static bool need_places(void)
{
	if (!family) {
		void *memory = (void *)sys_call6(SYS_mmap, NULL, sizeof *family, PROT_READ | PROT_WRITE,
			MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		if (sys_failed(memory))
			return false;
		family = memory;
	}
	if (child_placed)
		return true;
	child_placed = true;
	if (own == NONE) {
		space = process_namespace();
		be_born(new_member());
	}
	child = new_member();
	return true;
}

void holders_fork_begin(void)
{
	child = NONE;
	child_placed = false;
}

void holders_fork_stream(struct nn_stream *stream)
{
	bool first = !atomic_load(&stream->others);
	if (need_places()) {
		if (first) {
			stream->holders = new_socket();
			stream->holders_use = holders_use(stream->holders);
		}
		if (stream->holders) {
			set_bit(stream->holders, own);
			set_bit(stream->holders, child);
		}
	}
	if (first)
		atomic_store(&stream->others, 1);
	atomic_store(&stream->looks, 0);
	atomic_fetch_add(&stream->others, 1);
}

void holders_fork_missed(struct nn_stream *stream)
{
	atomic_store(&stream->holders_unknown, true);
	atomic_fetch_add(&stream->others, 2);
	atomic_store(&stream->shared, 1);
}

void holders_fork_end(bool failed)
{
	if (failed && child != NONE) {
		uint64_t unborn[WORDS] = {0};
		unborn[child / 64] = 1ull << child % 64;
		atomic_store(&family->members[child].pid, ENDED);
		clear_away(unborn);
	}
	child = NONE;
}

void holders_fork_child(void)
{
	space = child == NONE ? 0 : process_namespace();
	be_born(child);
	child = NONE;
}
