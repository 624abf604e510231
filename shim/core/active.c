/* SPDX-License-Identifier: BSD-2-Clause */
#include "shim/core/active.h"

#include <string.h>
#include <sys/mman.h>

#include "shim/core/process.h"
#include "shim/core/sys.h"

#define LARGE 64u

/* One pair of processes, as the set knows it. */
struct watched {
	struct nn_pair *pair; /* NULL: free */
	uint32_t count;       /* registrations */
	uint64_t seen_top[ACTIVITY_TOP_WORDS], seen[ACTIVITY_WORDS];
	uint32_t first[ACTIVITY_WORDS]; /* registrations by group, 1 + index */
};

struct active {
	uint32_t *queue; /* indices of hot registrations, a ring; some may be gone */
	uint32_t room, head, count;
	bool all;        /* the queue could not hold them */
	uint32_t unwatched; /* registrations for whose pair there was no memory: they are always hot */
	struct watched **pairs;
	uint32_t pairs_room;
};

static void *larger(void *old, size_t bytes, size_t more)
{
	void *memory = process_memory(more);
	if (memory && old) {
		memcpy(memory, old, bytes);
		sys_call2(SYS_munmap, old, bytes);
	}
	return memory;
}

static struct watched *watch(struct active *active, struct nn_pair *pair, uint32_t *index)
{
	uint32_t free = active->pairs_room;
	for (uint32_t i = 0; i < active->pairs_room; i++) {
		struct watched *watched = active->pairs[i];
		if (watched && watched->pair == pair) {
			*index = i;
			return watched;
		}
		if ((!watched || !watched->pair) && free == active->pairs_room)
			free = i;
	}
	if (free == active->pairs_room) {
		uint32_t room = free ? free * 2 : 512;
		struct watched **pairs = larger(active->pairs, free * sizeof *pairs, room * sizeof *pairs);
		if (!pairs)
			return NULL;
		active->pairs = pairs;
		active->pairs_room = room;
	}
	if (!active->pairs[free])
		active->pairs[free] = process_memory(sizeof *active->pairs[free]);
	struct watched *watched = active->pairs[free];
	if (!watched)
		return NULL;
	memset(watched, 0, sizeof *watched);
	watched->pair = pair;
	*index = free;
	return watched;
}

static void link_one(struct nn_set *set, struct nn_reg *reg)
{
	struct active *active = set->active;
	struct nn_stream *stream = stream_at(reg->stream);
	uint32_t index;
	struct watched *watched = watch(active, stream->pair, &index);
	reg->watched = 0;
	if (watched) {
		uint32_t *first = &watched->first[stream->peer_end / ACTIVITY_GROUP];
		reg->group_next = *first;
		*first = 1 + reg_index(reg);
		reg->watched = 1 + index;
		watched->count++;
		/* What the peer publishes from here on it counts; what it has published the first look will see. */
		atomic_fetch_or(&stream->own->rx_flags, END_WANT_ACTIVITY);
	} else {
		active->unwatched++;
	}
	active_heat(set, reg);
}

static bool begin(struct nn_set *set)
{
	uint32_t room = 1024;
	while (room < set->managed_room)
		room *= 2;
	struct active *active = process_memory(sizeof *active);
	uint32_t *queue = process_memory(room * sizeof *queue);
	if (!active || !queue) {
		if (active)
			sys_call2(SYS_munmap, active, sizeof *active);
		if (queue)
			sys_call2(SYS_munmap, queue, room * sizeof *queue);
		return false;
	}
	active->queue = queue;
	active->room = room;
	set->active = active;
	return true;
}

void active_add(struct nn_set *set, struct nn_reg *reg)
{
	reg->hot = false;
	if (set->active) {
		link_one(set, reg);
		return;
	}
	/* Under chaos every set is a large one, so that all that is tested of sets is tested of those. */
	if (set->managed_count <= (nn_config.chaos ? 0 : LARGE) || !begin(set))
		return;
	for (uint32_t i = 0; i < set->managed_count; i++)
		link_one(set, reg_at(set->managed[i]));
}

void active_remove(struct nn_set *set, struct nn_reg *reg)
{
	reg->hot = false;
	if (!set->active)
		return;
	if (!reg->watched) {
		set->active->unwatched--;
		return;
	}
	struct watched *watched = set->active->pairs[reg->watched - 1];
	uint32_t *link = &watched->first[stream_at(reg->stream)->peer_end / ACTIVITY_GROUP];
	while (*link && *link != 1 + reg_index(reg))
		link = &reg_at(*link - 1)->group_next;
	if (*link)
		*link = reg->group_next;
	if (--watched->count == 0)
		watched->pair = NULL;
	reg->watched = 0;
}

void active_end(struct nn_set *set)
{
	struct active *active = set->active;
	if (!active)
		return;
	for (uint32_t i = 0; i < active->pairs_room; i++)
		if (active->pairs[i])
			sys_call2(SYS_munmap, active->pairs[i], sizeof *active->pairs[i]);
	if (active->pairs)
		sys_call2(SYS_munmap, active->pairs, active->pairs_room * sizeof *active->pairs);
	sys_call2(SYS_munmap, active->queue, active->room * sizeof *active->queue);
	sys_call2(SYS_munmap, active, sizeof *active);
	set->active = NULL;
}

void active_forked(struct nn_set *set)
{
	if (set->active)
		set->active->all = true;
}

static void push(struct active *active, struct nn_reg *reg)
{
	if (active->count == active->room) {
		active->all = true;
		return;
	}
	active->queue[(active->head + active->count++) % active->room] = reg_index(reg);
}

void active_heat(struct nn_set *set, struct nn_reg *reg)
{
	if (!set->active || reg->hot)
		return;
	reg->hot = true;
	push(set->active, reg);
}

/* Everything is hot, in a queue that holds it. */
static void heat_all(struct nn_set *set)
{
	struct active *active = set->active;
	while (active->room < set->managed_room) {
		uint32_t *queue = process_memory(2 * active->room * sizeof *queue);
		if (!queue)
			return; /* and once more the next time */
		sys_call2(SYS_munmap, active->queue, active->room * sizeof *queue);
		active->queue = queue;
		active->room *= 2;
	}
	active->all = false;
	active->head = active->count = 0;
	for (uint32_t i = 0; i < set->managed_count; i++) {
		struct nn_reg *reg = reg_at(set->managed[i]);
		reg->hot = true;
		push(active, reg);
	}
}

static void look_at(struct nn_set *set, struct watched *watched)
{
	const struct region *peer = watched->pair->peer;
	for (uint32_t t = 0; t < ACTIVITY_TOP_WORDS; t++) {
		uint64_t top = atomic_load(&peer->activity_top[t]);
		if (top == watched->seen_top[t])
			continue;
		watched->seen_top[t] = top;
		for (uint32_t group = t * ACTIVITY_FAN; group < (t + 1) * ACTIVITY_FAN && group < ACTIVITY_WORDS; group++) {
			uint64_t word = atomic_load(&peer->activity[group]);
			if (word == watched->seen[group])
				continue;
			watched->seen[group] = word;
			for (uint32_t at = watched->first[group]; at; at = reg_at(at - 1)->group_next)
				active_heat(set, reg_at(at - 1));
		}
	}
}

uint32_t active_look(struct nn_set *set)
{
	struct active *active = set->active;
	for (uint32_t i = 0; i < active->pairs_room; i++)
		if (active->pairs[i] && active->pairs[i]->pair)
			look_at(set, active->pairs[i]);
	if (active->all || active->unwatched)
		heat_all(set);
	return active->count;
}

static struct nn_reg *valid(struct nn_set *set, uint32_t index)
{
	struct nn_reg *reg = reg_at(index);
	return reg->in_use && reg->managed && reg->hot && reg->set == set_index(set) ? reg : NULL;
}

struct nn_reg *active_peek(struct nn_set *set, uint32_t at)
{
	struct active *active = set->active;
	return at < active->count ? valid(set, active->queue[(active->head + at) % active->room]) : NULL;
}

struct nn_reg *active_take(struct nn_set *set)
{
	struct active *active = set->active;
	if (!active->count)
		return NULL;
	uint32_t index = active->queue[active->head];
	active->head = (active->head + 1) % active->room;
	active->count--;
	return valid(set, index);
}

void active_cool(struct nn_reg *reg)
{
	reg->hot = false;
}

void active_keep(struct nn_set *set, struct nn_reg *reg)
{
	push(set->active, reg);
}
