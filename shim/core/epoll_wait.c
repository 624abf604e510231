/* SPDX-License-Identifier: BSD-2-Clause */
/* epoll_wait: collect from memory, spin, sleep in the kernel. Theory in set.h. */
#include <errno.h>

#include "shim/core/active.h"
#include "shim/core/clock.h"
#include "shim/core/epoll.h"
#include "shim/core/process.h"
#include "shim/core/readiness.h"
#include "shim/core/signals.h"
#include "shim/core/set.h"
#include "shim/core/sys.h"
#include "shim/core/wait.h"
#include "shim/wait/spin.h"

#define LOOK_TICKS 150000u   /* at most so long without a look into the kernel while memory keeps us busy ... */
#define LOOK_COLLECTIONS 64u /* ... or so many collections */
#define SPIN_LOOK_NS 5000u   /* while spinning */

#define QUICK_LOOKS 24       /* before spinning with all its bookkeeping */

struct set_sleep {
	struct sleep sleep; /* first: handed out as cleanup */
	struct nn_set *set;
	struct waiter spinner; /* marks the thread as spinning */
};

/* What the kernel says of a stream's TCP connection, for the directions that are on TCP or have ended. */
static uint32_t kernel_readiness(struct nn_stream *stream, const struct readiness *state)
{
	bool over = atomic_load_explicit(&stream->kernel_hup, memory_order_relaxed);
	if (!atomic_load_explicit(&stream->kernel_news, memory_order_relaxed) && !over)
		return 0;
	uint32_t ask = state->ask | (over ? POLLRDHUP : 0);
	atomic_store(&stream->kernel_news, 0); /* what comes from now on is news again */
	struct pollfd fd = {.fd = stream->fd, .events = (short)ask};
	static const struct timespec none = {0, 0};
	struct timespec limit = none;
	if (sys_call5(SYS_ppoll, &fd, 1, &limit, NULL, 8) <= 0)
		return 0;
	if (fd.revents)
		atomic_store(&stream->kernel_news, 1);
	return (uint32_t)(unsigned short)fd.revents & (ask | POLLERR | POLLHUP);
}

/* All that can make an edge, as it is now. As in the kernel, bytes are one only for who asked for bytes, and room for who asked
 * for room; an end is one for all. Of ends in a direction that is on TCP the kernel tells. */
struct edges {
	uint64_t tail, flags;
	uint32_t in, out, end, room;
};

static struct edges edges_now(struct nn_stream *stream)
{
	struct edges now = {
		.tail = atomic_load(&stream->peer->tail),
		.in = atomic_load(&stream->kernel_in),
		.out = atomic_load(&stream->kernel_out),
		.end = atomic_load(&stream->kernel_end),
	};
	if (stream->rx_ring)
		now.flags = (peer_tx_flags(stream) & (END_FIN | END_RESET)) | (atomic_load(&stream->own->tx_flags) & END_FIN) << 32;
	return now;
}

static bool edge_since(const struct nn_reg *reg, const struct edges *now)
{
	bool bytes = now->tail != reg->seen_tail || now->in != reg->seen_in;
	bool room = now->out != reg->seen_out || now->room != reg->seen_room;
	return reg->fresh || now->flags != reg->seen_flags || now->end != reg->seen_end || (bytes && (reg->events & READY_IN)) ||
	       (room && (reg->events & READY_OUT));
}

static void edges_seen(struct nn_reg *reg, const struct edges *now)
{
	reg->fresh = false;
	reg->seen_tail = now->tail;
	reg->seen_flags = now->flags;
	reg->seen_in = now->in;
	reg->seen_out = now->out;
	reg->seen_end = now->end;
	reg->seen_room = now->room;
}

/* The events to report for one registration, 0: none. Peeking, an edge stays one. Under the set's lock. */
static uint32_t reg_events(struct nn_reg *reg, bool peek)
{
	if (reg->disabled)
		return 0;
	struct nn_stream *stream = stream_at(reg->stream);
	/* What is seen here is an edge the next time only if it has changed again; room is what readiness finds. */
	struct edges now = edges_now(stream);
	struct readiness state = stream_readiness(stream);
	now.room = atomic_load(&stream->tx_edges);
	uint32_t mask = state.ready;
	if (state.ask || atomic_load_explicit(&stream->kernel_hup, memory_order_relaxed))
		mask |= kernel_readiness(stream, &state);
	mask &= reg->events | EPOLLERR | EPOLLHUP;
	if (!mask)
		return 0;
	if (reg->events & EPOLLET) {
		if (!edge_since(reg, &now))
			return 0;
		if (!peek)
			edges_seen(reg, &now);
	}
	return mask;
}

/* What is due on the registration's stream. Under the set's lock, which is let go meanwhile: afterwards the registration may be gone. False:
 * not now. */
static bool service(struct nn_set *set, const struct nn_reg *reg)
{
	uint32_t index = reg->stream;
	if (!stream_due(stream_at(index)))
		return true;
	lock_drop(&set->lock, LOCK_TAKEN);
	struct nn_stream *stream = stream_hold(index);
	bool served = !stream || stream_service(stream);
	if (stream)
		stream_put(stream);
	lock_take(&set->lock, nn_self());
	return served;
}

/* The events to report now, 0: none. The registration has been reported by that. */
static uint32_t report(struct nn_reg *reg)
{
	uint32_t mask = reg_events(reg, false);
	if (mask && (reg->events & EPOLLONESHOT))
		reg->disabled = true;
	return mask;
}

static int collect_all(struct nn_set *set, struct epoll_event *events, int max, bool *unsure)
{
	int count = 0;
	uint32_t at = set->cursor;
	for (uint32_t i = 0; i < set->managed_count && count < max; i++, at++) {
		if (at >= set->managed_count)
			at = 0;
		*unsure |= !service(set, reg_at(set->managed[at]));
		if (at >= set->managed_count)
			continue;
		struct nn_reg *reg = reg_at(set->managed[at]);
		events[count].events = report(reg);
		events[count].data.u64 = reg->data;
		count += events[count].events != 0;
	}
	if (count == max)
		set->cursor = at; /* the others are served first the next time */
	return count;
}

/* Of a large set: only those that may have news. What is ready by level stays in the queue, behind the others. */
static int collect_active(struct nn_set *set, struct epoll_event *events, int max, bool *unsure)
{
	int count = 0;
	for (uint32_t left = active_look(set); left && count < max; left--) {
		struct nn_reg *reg = active_take(set);
		if (!reg)
			continue;
		bool served = service(set, reg);
		*unsure |= !served;
		if (!reg->in_use || !reg->managed || !reg->hot || reg->set != set_index(set))
			continue;
		uint32_t mask = report(reg);
		if (!served || (mask && !(reg->events & (EPOLLET | EPOLLONESHOT))) || stream_due(stream_at(reg->stream)))
			active_keep(set, reg);
		else
			active_cool(reg);
		if (!mask)
			continue;
		events[count].events = mask;
		events[count++].data.u64 = reg->data;
	}
	return count;
}

/* Moves up to `max` ready registrations into `events`. *unsure: look again before sleeping. */
static int collect(struct nn_set *set, struct epoll_event *events, int max, bool *unsure)
{
	*unsure = false;
	if (!set->managed_count)
		return 0;
	int count = 0;
	enum lock_outcome lock = lock_take(&set->lock, nn_self());
	if (lock == LOCK_TAKEN)
		count = set->active ? collect_active(set, events, max, unsure) : collect_all(set, events, max, unsure);
	lock_drop(&set->lock, lock);
	return count;
}

/* Those that are to be looked at, by number; NULL: gone since. */
static struct nn_reg *nth(struct nn_set *set, uint32_t at)
{
	if (set->active)
		return active_peek(set, at);
	return at < set->managed_count ? reg_at(set->managed[at]) : NULL;
}

static bool any_ready(struct nn_set *set)
{
	bool any = false;
	enum lock_outcome lock = lock_take(&set->lock, nn_self());
	uint32_t count = set->active ? active_look(set) : set->managed_count;
	for (uint32_t i = 0; i < count && !any; i++) {
		struct nn_reg *reg = nth(set, i);
		if (reg && lock == LOCK_TAKEN) {
			any = !service(set, reg);
			reg = nth(set, i);
		}
		any |= reg && reg_events(reg, true);
	}
	lock_drop(&set->lock, lock);
	return any;
}

/*
 * Others watch the set's descriptor in the kernel (set.h): its bell must be readable exactly when something is ready. One that
 * rings already is left alone, so that an edge is seen once; else silenced first, asleep for the peers, then one more look.
 */
static void settle_bell(struct nn_set *set)
{
	if (!set->exposed || set->waiter.slot < 0)
		return;
	if (any_ready(set)) {
		struct pollfd bell = {.fd = waiter_bell(&set->waiter), .events = POLLIN};
		struct timespec none = {0, 0};
		if (sys_call5(SYS_ppoll, &bell, 1, &none, NULL, 8) <= 0)
			waiter_ring_own(&set->waiter);
		return;
	}
	waiter_hush(&set->waiter);
	waiter_falls_asleep(&set->waiter);
	if (any_ready(set))
		waiter_ring_own(&set->waiter);
}

void epoll_set_exposed(uint32_t index)
{
	struct nn_set *set = set_at(index);
	enum lock_outcome lock = lock_take(&set->lock, nn_self());
	bool first = !set->exposed;
	set->exposed = true;
	lock_drop(&set->lock, lock);
	if (set->waiter.slot < 0)
		return;
	if (!first) {
		settle_bell(set);
		return;
	}
	struct epoll_event level = {.events = EPOLLIN, .data.u64 = key_of(KEY_BELL)};
	sys_call4(SYS_epoll_ctl, set->epfd, EPOLL_CTL_MOD, waiter_bell(&set->waiter), &level);
	settle_bell(set);
}

/* Takes our own items out of what the kernel reported. Returns how many of the application's remain. *ours: there were some of ours, whose
 * edges are taken; the caller looks at memory, or sees to it that another sleeper does (done). */
static int sift(struct nn_set *set, struct epoll_event *events, int count, bool *ours)
{
	int kept = 0;
	enum lock_outcome lock = lock_take(&set->lock, nn_self()); /* registrations stay what they are */
	for (int i = 0; i < count; i++) {
		uint32_t index;
		uint64_t data = events[i].data.u64;
		if (!key_index(data, &index)) {
			events[kept++] = events[i];
			continue;
		}
		*ours = true;
		if (index == KEY_BELL) {
			/* Level-triggered it rings until settle_bell finds nothing ready. */
			if (!set->exposed)
				waiter_heard(&set->waiter);
			continue;
		}
		if (index >= REGS)
			continue;
		struct nn_reg *reg = reg_at(index);
		if (!reg->in_use || reg->set != set_index(set))
			continue;
		if (!reg->managed) {
			/* Not ours to tell yet: only that it has fired. */
			reg->disabled = reg->events & EPOLLONESHOT;
			events[kept] = events[i];
			events[kept++].data.u64 = reg->data;
			continue;
		}
		struct nn_stream *stream = stream_at(reg->stream);
		uint32_t what = events[i].events;
		active_heat(set, reg);
		atomic_fetch_or(&stream->kernel_news, what);
		bool knew = atomic_load(&stream->kernel_hup) || (peer_tx_flags(stream) & END_FIN);
		bool had_error = atomic_load(&stream->error) || (peer_tx_flags(stream) & END_RESET);
		if (what & (EPOLLRDHUP | EPOLLHUP | EPOLLERR))
			stream_look(stream);
		/* An edge for the application, unless memory had told it already. */
		if (!stream->rx_ring && (what & EPOLLIN))
			atomic_fetch_add(&stream->kernel_in, 1);
		if ((what & EPOLLPRI) || (!knew && atomic_load(&stream->kernel_hup)) || (!had_error && atomic_load(&stream->error)))
			atomic_fetch_add(&stream->kernel_end, 1);
		if (!tx_taken(stream) && (what & EPOLLOUT) && !atomic_exchange(&stream->expect_out, 0))
			atomic_fetch_add(&stream->kernel_out, 1);
	}
	lock_drop(&set->lock, lock);
	return kept;
}

/* A look into the kernel without waiting. */
static long kernel_look(struct nn_set *set, struct epoll_event *events, int max, bool *ours)
{
	set->looked = cpu_ticks();
	set->hurried = 0;
	struct timespec limit = {0, 0};
	long count = sys_call6(SYS_epoll_pwait2, set->epfd, events, max, &limit, NULL, 8);
	if (count == -ENOSYS)
		count = sys_call6(SYS_epoll_pwait, set->epfd, events, max, 0, NULL, 8);
	return count <= 0 ? count : sift(set, events, (int)count, ours);
}

/* A thread leaves the set's sleepers. The last one out takes the set's mark away, but no mark that another has made since; else the next
 * news must ring again, in an empty bell, for those who sleep on. */
static void leave_sleepers(struct nn_set *set, bool *ours)
{
	uint64_t mark = waiter_mark(&set->waiter);
	if (atomic_fetch_sub(&set->sleepers, 1) > 1)
		*ours |= waiter_falls_asleep(&set->waiter);
	else if (!set->exposed)
		waiter_unmark(&set->waiter, mark);
}

static void undo(struct sleep *sleep)
{
	struct set_sleep *whole = (struct set_sleep *)sleep;
	struct nn_set *set = whole->set;
	bool ours = false;
	leave_sleepers(set, &ours);
	if (atomic_load(&set->sleepers))
		waiter_ring_own(&set->waiter); /* we may have taken an edge */
	waiter_drop(&whole->spinner);
}

static long sleep_in_kernel(struct set_sleep *whole, struct epoll_event *events, int max, uint64_t left, const sigset_t *mask,
	bool *unsure, bool *ours)
{
	struct nn_set *set = whole->set;
	bool managed = set->managed_count;
	atomic_fetch_add(&set->sleepers, 1);
	if (managed)
		*ours |= waiter_falls_asleep(&set->waiter);
	long count = collect(set, events, max, unsure); /* W2 */
	*ours &= count == max;
	if (!count && !*unsure) {
		if (set->blind && managed && left > BLIND_NS)
			left = BLIND_NS;
		struct timespec limit = {(time_t)(left / NS_IN_S), (long)(left % NS_IN_S)};
		count = nn_front.epoll_pwait2(set->epfd, events, max, left == UINT64_MAX ? NULL : &limit, mask, whole);
		set->looked = cpu_ticks();
		if (count > 0)
			count = sift(set, events, (int)count, ours);
	}
	leave_sleepers(set, ours);
	return count;
}

static uint64_t deadline_of(const struct timespec *timeout)
{
	if (!timeout || timeout->tv_sec < 0 || (uint64_t)timeout->tv_sec > 1000000000u)
		return UINT64_MAX;
	if (!timeout->tv_sec && !timeout->tv_nsec)
		return 0;
	return nn_now_ns() + (uint64_t)timeout->tv_sec * NS_IN_S + (uint64_t)timeout->tv_nsec;
}

/* Spins. Returns events found, or -EINTR. */
static long spin_in(struct set_sleep *whole, struct epoll_event *events, int max, bool *unsure, bool *ours)
{
	struct nn_set *set = whole->set;
	struct spin spin;
	long count = 0;
	if (!set->managed_count)
		return 0;
	for (unsigned i = 0; i < QUICK_LOOKS && nn_config.spin_ns && !count; i++) {
		cpu_relax();
		count = collect(set, events, max, unsure);
	}
	if (count)
		return count;
	waiter_take(&whole->spinner, nn_self());
	if (spin_begin(&spin, &whole->spinner, &set->spin_history)) {
		uint64_t looked = nn_now_ns();
		while (!count && spin_turn(&spin)) {
			count = collect(set, events, max, unsure);
			*ours &= count == max; /* else all that it might be of is collected */
			if (!count && set->items && nn_now_ns() - looked > SPIN_LOOK_NS) {
				count = kernel_look(set, events, max, ours);
				looked = nn_now_ns();
			}
		}
		if (signals_end_poll(spin_end(&spin, count > 0)))
			count = -EINTR;
	}
	waiter_drop(&whole->spinner);
	return count;
}

/*
 * The end of a wait that has `count` events, or failed. `ours`: it took an edge of ours from the kernel after its last look at memory, perhaps
 * that of news for which nobody will ring a second time. So it looks now, unless events from memory are among the `count` already
 * (`looked`: the same would come twice); and where that may not show all, wakes another sleeper.
 */
static long done(struct nn_set *set, struct epoll_event *events, int max, long count, bool ours, bool looked)
{
	bool unsure;
	if (ours && !set->exposed && atomic_load(&set->sleepers))
		waiter_settle(&set->waiter); /* they sleep on it now */
	if (ours && !looked && count >= 0 && count < max)
		count += collect(set, events + count, max - (int)count, &unsure);
	settle_bell(set);
	if (ours && (looked || count == max || count < 0) && atomic_load(&set->sleepers))
		waiter_ring_own(&set->waiter);
	return count;
}

static long wait_in(struct nn_set *set, struct epoll_event *events, int max, uint64_t deadline, const sigset_t *mask)
{
	/* Sets in this one may look readable for what has been read since. */
	for (uint32_t i = 0; i < set->nested_count; i++)
		if (set_at(set->nested[i])->in_use)
			settle_bell(set_at(set->nested[i]));
	struct set_sleep whole = {.sleep = {.undo = undo}, .set = set, .spinner = {.slot = -1}};
	bool ours = false;
	for (;;) {
		bool unsure = false;
		/* Busy with memory: the kernel's items get their turn now and then, and some of the places. */
		bool turn = set->managed_count && (++set->hurried > LOOK_COLLECTIONS || cpu_ticks() - set->looked > LOOK_TICKS);
		int places = turn ? max - (max + 3) / 4 : max;
		long count = places ? collect(set, events, places, &unsure) : 0;
		if (count || !places) {
			ours = count == places; /* then there may be more */
			if (turn) {
				long more = kernel_look(set, events + count, max - (int)count, &ours);
				count += more > 0 ? more : 0;
			}
			if (!count)
				count = collect(set, events, max, &unsure);
			if (count)
				return done(set, events, max, count, ours, true);
		}
		if (deadline == 0 && !unsure) {
			settle_bell(set);
			count = kernel_look(set, events, max, &ours);
			/* Only our own news: it may have made a stream ready. */
			return done(set, events, max, count, ours || set->exposed, false);
		}
		count = spin_in(&whole, events, max, &unsure, &ours);
		if (count)
			return done(set, events, max, count, ours, false);
		uint64_t now = deadline == UINT64_MAX ? 0 : nn_now_ns();
		bool late = deadline <= now;
		uint64_t left = deadline == UINT64_MAX ? UINT64_MAX : late ? 0 : deadline - now;
		settle_bell(set);
		count = sleep_in_kernel(&whole, events, max, left, mask, &unsure, &ours);
		if (count)
			return done(set, events, max, count, ours, false);
		if (deadline != UINT64_MAX && nn_now_ns() >= deadline)
			deadline = 0; /* one last look, at all there is */
	}
}

int nn_epoll_wait(struct nn_io *io, int epfd, struct epoll_event *events, int max, const struct timespec *timeout,
	const sigset_t *mask)
{
	io->stream = NULL;
	io->counted = false;
	uint32_t entry = fd_entry(epfd);
	if (entry >> NN_KIND_SHIFT != NN_SET || max <= 0 || max > 0x7fffffff / (int)sizeof *events || !events)
		return NN_RAW;
	struct nn_set *set = set_at(entry & ((1u << NN_KIND_SHIFT) - 1));
	if (set->epfd != epfd && fd_entry(set->epfd) != entry)
		set->epfd = epfd;
	io->result = wait_in(set, events, max, deadline_of(timeout), mask);
	return NN_DONE;
}
