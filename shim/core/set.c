/* SPDX-License-Identifier: BSD-2-Clause */
#include "shim/core/set.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "shim/core/active.h"
#include "shim/core/epoll.h"
#include "shim/core/process.h"
#include "shim/core/sys.h"

_Atomic uint32_t table_lock;

static struct nn_reg *regs;
static struct nn_set *sets;
static uint32_t reg_top, set_top; /* entries from here on were never used */

/* Entries that were given back, oldest first: one is used again only when so many others were given back since, as there may be threads that
 * still look at it. 1 + index, linked by `next`. */
#define SETTLED_REGS 1024u
#define SETTLED_SETS 64u
static struct freed {
	uint32_t first, last, count;
} freed_regs, freed_sets;
static uint64_t secret; /* upper 40 bits of our keys; guessed by no application */

static bool tables(void)
{
	if (!regs)
		regs = process_table(REGS * sizeof *regs);
	if (!sets)
		sets = process_table(SETS * sizeof *sets);
	while (!secret) {
		sys_call3(SYS_getrandom, &secret, sizeof secret, 0);
		secret &= ~0xffffffull;
	}
	return regs && sets;
}

struct nn_reg *reg_at(uint32_t index)
{
	return &regs[index];
}

struct nn_set *set_at(uint32_t index)
{
	return &sets[index];
}

uint32_t reg_index(const struct nn_reg *reg)
{
	return (uint32_t)(reg - regs);
}

uint32_t set_index(const struct nn_set *set)
{
	return (uint32_t)(set - sets);
}

uint64_t key_of(uint32_t index)
{
	return secret | index;
}

bool key_index(uint64_t data, uint32_t *index)
{
	*index = (uint32_t)(data & 0xffffff);
	return secret && (data & ~0xffffffull) == secret;
}

static uint32_t *freed_link(uint32_t index, bool set)
{
	return set ? &sets[index].next_free : &regs[index].next;
}

static void give_back(struct freed *freed, uint32_t index)
{
	bool set = freed == &freed_sets;
	*freed_link(index, set) = 0;
	if (freed->first)
		*freed_link(freed->last - 1, set) = index + 1;
	else
		freed->first = index + 1;
	freed->last = index + 1;
	freed->count++;
}

/* The index of an unused entry; `all`: there is none. */
static uint32_t take_unused(struct freed *freed, uint32_t settled, uint32_t *top, uint32_t all)
{
	if (freed->count <= settled && *top < all)
		return (*top)++;
	if (!freed->count)
		return all;
	uint32_t index = freed->first - 1;
	freed->first = *freed_link(index, freed == &freed_sets);
	freed->count--;
	return index;
}

struct nn_reg *reg_new(struct nn_stream *stream, struct nn_set *set, int fd)
{
	uint32_t index = take_unused(&freed_regs, SETTLED_REGS, &reg_top, REGS);
	if (index == REGS)
		return NULL;
	struct nn_reg *reg = &regs[index];
	memset(reg, 0, sizeof *reg);
	reg->in_use = reg->fresh = true;
	reg->stream = stream->index;
	reg->set = set_index(set);
	reg->fd = fd;
	reg->next = atomic_load(&stream->regs);
	atomic_store(&stream->regs, 1 + index);
	return reg;
}

/* Out of the set's list of managed ones. Under the set's lock. */
static void forget_managed(struct nn_set *set, struct nn_reg *reg)
{
	active_remove(set, reg);
	uint32_t last = set->managed[--set->managed_count];
	set->managed[reg->place] = last;
	regs[last].place = reg->place;
	reg->managed = false;
}

static bool still_watched(const struct nn_stream *stream, const struct nn_set *set)
{
	for (uint32_t at = atomic_load(&stream->regs); at; at = regs[at - 1].next)
		if (regs[at - 1].set == set_index(set) && regs[at - 1].managed)
			return true;
	return false;
}

void reg_free(struct nn_reg *reg)
{
	struct nn_stream *stream = stream_at(reg->stream);
	struct nn_set *set = &sets[reg->set];
	uint32_t index = reg_index(reg);
	enum lock_outcome lock = lock_take(&set->lock, nn_self());
	if (reg->managed) {
		forget_managed(set, reg);
		if (stream->own && !still_watched(stream, set))
			waiter_detach(&set->waiter, stream->own);
	} else if (set->items) {
		set->items--;
	}
	lock_drop(&set->lock, lock);
	if (atomic_load(&stream->regs) == 1 + index) {
		atomic_store(&stream->regs, reg->next);
	} else {
		for (uint32_t at = atomic_load(&stream->regs); at; at = regs[at - 1].next)
			if (regs[at - 1].next == 1 + index) {
				regs[at - 1].next = reg->next;
				break;
			}
	}
	reg->in_use = false;
	give_back(&freed_regs, index);
}

struct nn_reg *reg_find(const struct nn_stream *stream, const struct nn_set *set, int fd)
{
	for (uint32_t at = atomic_load(&stream->regs); at; at = regs[at - 1].next)
		if (regs[at - 1].set == set_index(set) && regs[at - 1].fd == fd)
			return &regs[at - 1];
	return NULL;
}

void nn_epoll_created(int epfd)
{
	if (nn_kind_of(epfd) != NN_NONE)
		nn_appeared(epfd);
	if (nn_confined)
		return;
	enum lock_outcome lock = lock_take(&table_lock, nn_self());
	uint32_t index = lock == LOCK_TAKEN && tables() ? take_unused(&freed_sets, SETTLED_SETS, &set_top, SETS) : SETS;
	if (index < SETS) {
		struct nn_set *set = &sets[index];
		uint32_t *managed = set->managed; /* kept for reuse */
		uint32_t room = set->managed_room;
		memset(set, 0, sizeof *set);
		set->managed = managed;
		set->managed_room = room;
		set->in_use = true;
		set->epfd = epfd;
		set->fds = 1;
		atomic_store(&set->spin_history, ~0u);
		set->waiter = (struct waiter){.slot = -1};
		fd_set_entry(epfd, NN_SET, index);
	}
	lock_drop(&table_lock, lock);
}

void epoll_set_duplicated(uint32_t index)
{
	enum lock_outcome lock = lock_take(&table_lock, nn_self());
	sets[index].fds++;
	lock_drop(&table_lock, lock);
}

void epoll_set_closed(uint32_t index)
{
	struct nn_set *set = &sets[index];
	enum lock_outcome lock = lock_take(&table_lock, nn_self());
	if (set->in_use && --set->fds == 0) {
		/* Every registration in it goes; the streams' lists know them. */
		for (uint32_t i = 0; i < stream_top(); i++) {
			struct nn_stream *stream = stream_at(i);
			for (uint32_t at = atomic_load(&stream->regs); at;) {
				struct nn_reg *reg = &regs[at - 1];
				at = reg->next;
				if (reg->set == index)
					reg_free(reg);
			}
		}
		if (set->waiter.slot >= 0) {
			/* The bell stays open, for the next holder of the slot, and so may the kernel's set, in another process. */
			sys_call4(SYS_epoll_ctl, set->epfd, EPOLL_CTL_DEL, waiter_bell(&set->waiter), NULL);
			waiter_drop(&set->waiter);
		}
		active_end(set);
		set->in_use = false;
		give_back(&freed_sets, index);
	} else if (set->in_use && nn_kind_of(set->epfd) != NN_SET) {
		for (int fd = 0; fd < fd_top(); fd++)
			if (fd_entry(fd) == ((uint32_t)NN_SET << NN_KIND_SHIFT | index)) {
				set->epfd = fd;
				break;
			}
	}
	lock_drop(&table_lock, lock);
}

void epoll_stream_gone(struct nn_stream *stream)
{
	if (!atomic_load(&stream->regs))
		return;
	enum lock_outcome lock = lock_take(&table_lock, nn_self());
	while (atomic_load(&stream->regs))
		reg_free(&regs[atomic_load(&stream->regs) - 1]);
	lock_drop(&table_lock, lock);
}

void epoll_stream_touched(struct nn_stream *stream)
{
	if (!atomic_load(&stream->regs))
		return;
	enum lock_outcome lock = lock_take(&table_lock, nn_self());
	for (uint32_t at = atomic_load(&stream->regs); at; at = regs[at - 1].next) {
		struct nn_set *set = &sets[regs[at - 1].set];
		enum lock_outcome inner = lock_take(&set->lock, nn_self());
		if (regs[at - 1].managed)
			active_heat(set, &regs[at - 1]);
		lock_drop(&set->lock, inner);
	}
	lock_drop(&table_lock, lock);
}

bool epoll_set_is_plain(uint32_t index)
{
	bool plain = true;
	enum lock_outcome lock = lock_take(&table_lock, nn_self());
	for (uint32_t i = 0; i < stream_top() && plain; i++)
		for (uint32_t at = atomic_load(&stream_at(i)->regs); at; at = regs[at - 1].next)
			plain &= regs[at - 1].set != index || !(regs[at - 1].managed || (regs[at - 1].events & EPOLLONESHOT));
	lock_drop(&table_lock, lock);
	return plain;
}

void epoll_fork_child(void)
{
	atomic_store(&table_lock, 0);
	for (uint32_t i = 0; sets && i < set_top; i++) {
		atomic_store(&sets[i].lock, 0);
		atomic_store(&sets[i].sleepers, 0);
		active_forked(&sets[i]);
		if (sets[i].in_use && sets[i].waiter.slot >= 0) {
			/* Slot and doorbell are our parent's. */
			sets[i].blind = true;
			sets[i].waiter = (struct waiter){.slot = -1};
		}
	}
}
