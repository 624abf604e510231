/* SPDX-License-Identifier: BSD-2-Clause */
/* epoll_ctl, and what happens to registrations when a stream moves. Theory in set.h. */
#include "shim/core/epoll.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "shim/core/active.h"
#include "shim/core/process.h"
#include "shim/core/raw.h"
#include "shim/core/set.h"
#include "shim/core/switch.h"
#include "shim/core/sys.h"

static long kernel_ctl(const struct nn_set *set, int op, int fd, uint32_t events, uint64_t data)
{
	struct epoll_event event = {.events = events, .data.u64 = data};
	return sys_call4(SYS_epoll_ctl, set->epfd, op, fd, &event);
}

/* A stream once managed stays so, also when its bytes are back on TCP for good. */
static bool stream_is_managed(const struct nn_stream *stream)
{
	return stream_is_paired(stream) && (rx_taken(stream) || stream->rx_final);
}

/* Kernel's view of a managed registration: every edge, and room only while sending is on TCP. */
static uint32_t managed_events(const struct nn_stream *stream)
{
	return EPOLLIN | EPOLLPRI | EPOLLRDHUP | EPOLLET | (tx_taken(stream) && !stream->tx_replaying ? 0 : EPOLLOUT);
}

/* A slot and a doorbell for the set. */
static bool set_gets_bell(struct nn_set *set)
{
	if (set->waiter.slot >= 0 || set->blind)
		return true;
	struct waiter waiter;
	/* The slot outlives the calling thread: it is held in the name of the process. */
	waiter_take(&waiter, nn_own());
	int bell = waiter_bell(&waiter);
	if (bell < 0 || kernel_ctl(set, EPOLL_CTL_ADD, bell, EPOLLIN | (set->exposed ? 0 : EPOLLET), key_of(KEY_BELL)) < 0) {
		waiter_drop(&waiter);
		return false;
	}
	set->waiter = waiter;
	return true;
}

static bool room_for_managed(struct nn_set *set)
{
	if (set->managed_count < set->managed_room)
		return true;
	uint32_t room = set->managed_room ? set->managed_room * 2 : 1024;
	uint32_t *larger = process_memory(room * sizeof *larger);
	if (!larger)
		return false;
	if (set->managed_count)
		memcpy(larger, set->managed, set->managed_count * sizeof *larger);
	if (set->managed)
		sys_call2(SYS_munmap, set->managed, set->managed_room * sizeof *larger);
	set->managed = larger;
	set->managed_room = room;
	return true;
}

/* The kernel's item of a registration whose number is closed, while a duplicate lives on, cannot be changed any more; and under the number
 * there may be another's. */
static bool changeable(const struct nn_reg *reg)
{
	return stream_is_at(stream_at(reg->stream), reg->fd);
}

bool reg_manage(struct nn_reg *reg)
{
	struct nn_stream *stream = stream_at(reg->stream);
	struct nn_set *set = set_at(reg->set);
	enum lock_outcome lock = lock_take(&set->lock, nn_self());
	if (reg->managed) {
		atomic_fetch_or(&stream->kernel_news, EPOLLIN | EPOLLOUT);
		active_heat(set, reg);
		lock_drop(&set->lock, lock);
		if (changeable(reg))
			kernel_ctl(set, EPOLL_CTL_MOD, reg->fd, managed_events(stream), key_of(reg_index(reg)));
		return true;
	}
	bool done = changeable(reg) && set_gets_bell(set) && room_for_managed(set) && (set->blind || waiter_attach(&set->waiter, stream->own));
	if (done) {
		reg->managed = reg->fresh = true;
		reg->place = set->managed_count;
		set->managed[set->managed_count++] = reg_index(reg);
		active_add(set, reg);
		if (set->items)
			set->items--;
		atomic_fetch_or(&stream->kernel_news, EPOLLIN | EPOLLOUT);
		kernel_ctl(set, EPOLL_CTL_MOD, reg->fd, managed_events(stream), key_of(reg_index(reg)));
		/* Whoever sleeps in this set slept without regard for the stream. */
		waiter_ring_own(&set->waiter);
	}
	lock_drop(&set->lock, lock);
	return done;
}

void epoll_stream_moved(struct nn_stream *stream)
{
	if (!atomic_load(&stream->regs) || !stream_is_managed(stream))
		return;
	enum lock_outcome lock = lock_take(&table_lock, nn_self());
	for (uint32_t at = atomic_load(&stream->regs); at; at = reg_at(at - 1)->next)
		reg_manage(reg_at(at - 1));
	lock_drop(&table_lock, lock);
}

bool epoll_stream_can_move(struct nn_stream *stream)
{
	bool can = true;
	enum lock_outcome lock = lock_take(&table_lock, nn_self());
	for (uint32_t at = atomic_load(&stream->regs); at && can; at = reg_at(at - 1)->next) {
		struct nn_reg *reg = reg_at(at - 1);
		can = changeable(reg) && reg_manage(reg);
	}
	lock_drop(&table_lock, lock);
	return can && lock == LOCK_TAKEN;
}

static void describe(struct nn_reg *reg, const struct epoll_event *event)
{
	struct nn_set *set = set_at(reg->set);
	enum lock_outcome lock = lock_take(&set->lock, nn_self());
	reg->events = event->events;
	reg->data = event->data.u64;
	reg->disabled = false;
	reg->fresh = true;
	if (reg->managed)
		active_heat(set, reg);
	lock_drop(&set->lock, lock);
}

/* The stream's registration changes with the kernel's. Under the table's lock; the kernel has agreed. False: nobody would tell
 * the set what happens on rings. */
static bool change(struct nn_set *set, struct nn_stream *stream, int op, int fd, const struct epoll_event *event)
{
	struct nn_reg *reg = reg_find(stream, set, fd);
	if (op == EPOLL_CTL_DEL || !event) { /* the kernel takes nothing else without an event */
		if (reg)
			reg_free(reg);
		return true;
	}
	if (reg && op == EPOLL_CTL_ADD) {
		reg_free(reg); /* the kernel no longer had it: a number closed behind our back */
		reg = NULL;
	}
	if (!reg) {
		reg = reg_new(stream, set, fd);
		if (!reg)
			return false;
		set->items++;
	}
	describe(reg, event);
	if (stream_is_managed(stream)) {
		atomic_fetch_or(&stream->kernel_news, EPOLLIN | EPOLLOUT);
		if (!reg_manage(reg)) {
			/* No slot, no descriptor: the kernel's word again, and bytes that it sees. */
			kernel_ctl(set, EPOLL_CTL_MOD, fd, event->events & ~EPOLLEXCLUSIVE, event->data.u64);
			return false;
		}
		/* Ready already? Then whoever sleeps in the set must hear of it. Who is not counted yet looks after we had the set's lock. */
		if (atomic_load(&set->sleepers) || set->exposed)
			waiter_ring_own(&set->waiter);
	}
	return true;
}

/* EPOLLONESHOT of a stream that is not managed yet: the kernel keeps it under a number of ours, so that we know when it has fired, which
 * may be before this returns. *reg: the registration, described. Under the table's lock. */
static long ctl_oneshot(struct nn_set *set, struct nn_stream *stream, int op, int fd, const struct epoll_event *event,
	struct nn_reg **reg)
{
	struct nn_reg *known = reg_find(stream, set, fd);
	struct nn_reg before = known ? *known : (struct nn_reg){0};
	*reg = op == EPOLL_CTL_ADD ? reg_new(stream, set, fd) : known;
	if (!*reg)
		return kernel_ctl(set, op, fd, event->events, event->data.u64);
	if (*reg != known)
		set->items++;
	describe(*reg, event);
	long outcome = kernel_ctl(set, op, fd, event->events, key_of(reg_index(*reg)));
	if (outcome == 0) {
		if (known && *reg != known)
			reg_free(known); /* the kernel no longer had it: a number closed behind our back */
		return 0;
	}
	if (*reg == known) {
		struct epoll_event old = {.events = before.events, .data.u64 = before.data};
		describe(known, &old);
		known->disabled = before.disabled;
		known->fresh = before.fresh;
	} else {
		reg_free(*reg);
	}
	*reg = NULL;
	return outcome;
}

/* `inner` becomes an item of `outer`. */
static void nest(struct nn_set *outer, uint32_t inner)
{
	epoll_set_exposed(inner);
	for (uint32_t i = 0; i < outer->nested_count; i++)
		if (outer->nested[i] == inner)
			return;
	if (outer->nested_count < sizeof outer->nested / sizeof *outer->nested)
		outer->nested[outer->nested_count++] = inner;
}

long nn_epoll_ctl(int epfd, int op, int fd, struct epoll_event *event)
{
	if (nn_kind_of(fd) == NN_HIDDEN)
		return -EBADF;
	if (nn_kind_of(fd) == NN_SET && nn_kind_of(epfd) == NN_SET && op == EPOLL_CTL_ADD)
		nest(set_at(fd_entry(epfd) & ((1u << NN_KIND_SHIFT) - 1)), fd_entry(fd) & ((1u << NN_KIND_SHIFT) - 1));
	if (op == EPOLL_CTL_ADD && nn_kind_of(epfd) == NN_SET)
		stream_adopt(fd);
	struct nn_stream *stream = stream_get(fd);
	if (nn_kind_of(epfd) != NN_SET) {
		/* A set made before we were here: nobody would wake those who sleep in it. */
		if (stream) {
			stream_outside(stream, NN_REASON_CALL, OUTSIDE_BOTH);
			stream_put(stream);
		}
		return sys_call4(SYS_epoll_ctl, epfd, op, fd, event);
	}
	struct nn_set *set = set_at(fd_entry(epfd) & ((1u << NN_KIND_SHIFT) - 1));
	enum lock_outcome lock = lock_take(&table_lock, nn_self());
	long outcome;
	struct nn_reg *known = stream ? reg_find(stream, set, fd) : NULL;
	struct nn_reg *described = NULL;
	uint32_t phase = stream ? atomic_load(&stream->phase) : STREAM_FREE;
	bool adds = op == EPOLL_CTL_ADD || op == EPOLL_CTL_MOD;
	bool managed = stream && stream_is_managed(stream) && adds && event;
	if (op == EPOLL_CTL_MOD && event && known && (known->events & EPOLLEXCLUSIVE)) {
		outcome = -EINVAL; /* as the kernel, which does not know that it is exclusive */
	} else if (managed) {
		/* Let the kernel judge the request (EEXIST, ENOENT, EINVAL...) with what it will keep. EXCLUSIVE cannot be
		 * modified later, and what it avoids, waking several sets, costs nothing here. */
		bool valid = op == EPOLL_CTL_ADD || !(event->events & EPOLLEXCLUSIVE);
		struct epoll_event ours = {.events = valid ? managed_events(stream) : event->events, .data.u64 = key_of(KEY_BELL)};
		outcome = sys_call4(SYS_epoll_ctl, epfd, op, fd, &ours);
	} else if (stream && event && adds && (event->events & EPOLLONESHOT) && phase != STREAM_ALONE && lock == LOCK_TAKEN) {
		outcome = ctl_oneshot(set, stream, op, fd, event, &described);
	} else if (stream && event && op == EPOLL_CTL_ADD && (event->events & EPOLLEXCLUSIVE) && phase != STREAM_ALONE) {
		struct epoll_event plain = {.events = event->events & ~EPOLLEXCLUSIVE, .data = event->data};
		outcome = sys_call4(SYS_epoll_ctl, epfd, op, fd, &plain);
	} else {
		outcome = sys_call4(SYS_epoll_ctl, epfd, op, fd, event);
	}
	bool heard = true;
	if (outcome == 0 && lock == LOCK_TAKEN) {
		if (described)
			; /* nothing is left to do */
		else if (stream && (phase != STREAM_ALONE || known))
			heard = change(set, stream, op, fd, event);
		else if (op == EPOLL_CTL_ADD)
			set->items++;
		else if (op == EPOLL_CTL_DEL && set->items)
			set->items--;
	}
	lock_drop(&table_lock, lock);
	if (!heard)
		stream_outside(stream, NN_REASON_NO_FDS, OUTSIDE_BOTH);
	if (stream)
		stream_put(stream);
	return outcome;
}
