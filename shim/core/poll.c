/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * poll(2) and select(2) over descriptors some of which are streams.
 *
 * What memory can tell is told from memory; the rest of the question goes to the kernel, in one poll over a copy of the list
 * in which the directions that are on rings do not ask. Directions still on TCP are held as raw calls, so that they do not move while
 * the kernel watches them for us.
 */
#include <errno.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "shim/core/clock.h"
#include "shim/core/error.h"
#include "shim/core/process.h"
#include "shim/core/raw.h"
#include "shim/core/readiness.h"
#include "shim/core/signals.h"
#include "shim/core/stall.h"
#include "shim/core/sys.h"
#include "shim/core/wait.h"
#include "shim/wait/spin.h"

#define FEW 32u /* lists up to this length live on the stack */
#define LOOK_NS 5000u /* while spinning, other descriptors are looked at this often */

struct watch {
	struct nn_stream *stream; /* NULL: the kernel's alone */
	bool held_rx, held_tx;
};

struct list {
	struct nn_guard guard;
	struct waiter waiter;
	struct pollfd *fds; /* the application's */
	struct pollfd *asked; /* the kernel's copy, one longer */
	struct watch *watches;
	nfds_t count;
	struct nn_ran began; /* as the call began */
	struct signals_hold hold;
	uint64_t outside; /* of a call with a mask: the thread's own, */
	bool blocked;     /* while all signals are blocked */
	bool others;  /* something in the list only the kernel knows */
	bool rings;   /* something in it is on a ring */
	bool attached;
	bool unsure;  /* the last look was not conclusive */
	bool deaf;    /* it found a stream whose end the kernel cannot tell */
	bool rung;    /* the last question to the kernel found the bell readable */
	bool crowded; /* there are as many entries as the kernel takes: none for a bell */
	void *memory; /* of long lists */
	size_t bytes;
	struct pollfd few_asked[FEW + 1];
	struct watch few_watches[FEW];
};

static bool list_begin(struct list *list, struct pollfd *fds, nfds_t count)
{
	list->fds = fds;
	list->asked = list->few_asked;
	list->watches = list->few_watches;
	if (count > FEW) {
		list->bytes = count * (sizeof *list->watches + sizeof *list->asked) + sizeof *list->asked;
		list->memory = process_memory(list->bytes);
		if (!list->memory)
			return false;
		list->watches = list->memory;
		list->asked = (struct pollfd *)(list->watches + count);
	}
	for (nfds_t i = 0; i < count; i++) {
		struct watch *watch = &list->watches[i];
		*watch = (struct watch){.stream = NULL};
		list->count = i + 1;
		watch->stream = fds[i].fd >= 0 ? stream_get(fds[i].fd) : NULL;
		if (!watch->stream) {
			list->others |= fds[i].fd >= 0;
			continue;
		}
		stream_tick(watch->stream);
		watch->held_rx = raw_hold(watch->stream, false);
		watch->held_tx = raw_hold(watch->stream, true);
		list->rings |= !watch->held_rx || !watch->held_tx;
		list->others |= watch->held_rx || watch->held_tx || (fds[i].events & POLLPRI);
	}
	return true;
}

static void list_detach(struct list *list)
{
	if (!list->attached)
		return;
	for (nfds_t i = 0; i < list->count; i++)
		if (list->watches[i].stream && stream_is_paired(list->watches[i].stream))
			waiter_detach(&list->waiter, list->watches[i].stream->own);
	list->attached = false;
}

static void list_end(struct list *list)
{
	list_detach(list);
	waiter_drop(&list->waiter);
	while (list->count) {
		struct watch watch = list->watches[--list->count]; /* a jump that comes in between releases nothing twice */
		if (!watch.stream)
			continue;
		if (watch.held_rx)
			raw_release(watch.stream, false);
		if (watch.held_tx)
			raw_release(watch.stream, true);
		stream_put(watch.stream);
	}
	void *memory = list->memory;
	list->memory = NULL;
	if (memory)
		sys_call2(SYS_munmap, memory, list->bytes);
}

/* A mask given to the call counts for all of it: outside of the sleep none gets through. */
static void block_others(struct list *list)
{
	list->blocked = signals_block(&list->outside);
}

static void unblock_others(struct list *list)
{
	if (list->blocked)
		signals_unblock(list->outside);
	list->blocked = false;
}

static void undo(void *data)
{
	struct list *list = data;
	signals_release(&list->hold, 0);
	unblock_others(list);
	list_end(list);
}

/* Only the kernel knows of the end of a peer that died without a word: asked of it whenever it is asked anything, and now and then for
 * this alone, for one who polls while memory keeps him busy. Asleep, this wakes us. */
static short ask_for_end(struct list *list, struct nn_stream *stream, bool sleeping)
{
	if (!stream_is_paired(stream) || atomic_load(&stream->kernel_hup))
		return 0;
	bool deaf = stream_shut_rx(stream); /* then the kernel says so of us, and there is no telling the peer's end from it */
	bool due = stream_look_due(stream);
	if (deaf && (due || sleeping)) {
		stream_look(stream, 0);
	} else if (due && !sleeping) {
		atomic_store_explicit(&stream->looked, cpu_ticks(), memory_order_relaxed);
		list->others = true;
	}
	list->deaf |= sleeping && deaf;
	return deaf ? 0 : POLLRDHUP;
}

/* What memory says; and what remains to be asked. Returns how many are ready. */
static long look(struct list *list, bool sleeping)
{
	long ready = 0;
	list->unsure = list->deaf = false;
	for (nfds_t i = 0; i < list->count; i++) {
		struct pollfd *fd = &list->fds[i];
		list->asked[i] = (struct pollfd){.fd = fd->fd, .events = fd->events};
		fd->revents = 0;
		struct nn_stream *stream = list->watches[i].stream;
		if (!stream)
			continue;
		if (stream_due(stream))
			list->unsure |= !stream_service(stream);
		short end = ask_for_end(list, stream, sleeping);
		struct readiness state = stream_readiness(stream);
		fd->revents = (short)(state.ready & ((uint32_t)fd->events | POLLERR | POLLHUP));
		list->asked[i].events = (short)((uint32_t)fd->events & state.ask) | end;
		if (sleeping && stream->tx_replaying)
			list->asked[i].events |= POLLOUT;
		list->others |= (uint32_t)fd->events & state.ask & ~(uint32_t)POLLPRI;
		/* HUP, which nobody need ask for: with our FIN sent, the kernel knows whether the peer's has come by TCP. */
		if ((state.ask & POLLRDHUP) && stream_is_paired(stream) && (atomic_load(&stream->own->tx_flags) & END_FIN))
			list->others = true;
		ready += fd->revents != 0;
	}
	return ready;
}

/* What was sent before what is found, on a connection that had nothing yet when it was looked at, is there the second time: the kernel would not
 * tell of the later one alone. */
static long look_twice(struct list *list)
{
	long ready = look(list, false);
	return ready && (nfds_t)ready < list->count ? look(list, false) : ready;
}

/* Adds what the kernel answered. Returns how many are ready. */
static long merge(struct list *list)
{
	long ready = 0;
	for (nfds_t i = 0; i < list->count; i++) {
		struct pollfd *fd = &list->fds[i];
		struct nn_stream *stream = list->watches[i].stream;
		short answer = list->asked[i].revents;
		if (stream && stream_is_paired(stream) && (answer & (POLLRDHUP | POLLHUP | POLLERR)) && !atomic_load(&stream->kernel_hup))
			stream_look(stream, (uint32_t)answer);
		if (stream && (answer & POLLERR) && stream_told_again(stream))
			answer &= ~POLLERR;
		if (stream && stream->tx_replaying)
			answer &= ~(short)READY_OUT; /* that room is for what is sent again */
		fd->revents |= (short)(answer & (fd->events | POLLERR | POLLHUP | POLLNVAL));
		if (answer & POLLNVAL) { /* closed while we slept */
			fd->revents = POLLNVAL;
			ready++;
			continue;
		}
		if (stream && stream_is_paired(stream) && rx_taken(stream)) {
			struct readiness state = stream_readiness(stream);
			fd->revents |= (short)(state.ready & ((uint32_t)fd->events | POLLERR | POLLHUP));
		}
		ready += fd->revents != 0;
	}
	return ready;
}

static long ask_kernel(struct list *list, const struct timespec *timeout, const sigset_t *mask, int bell)
{
	if (bell < 0)
		return nn_front.ppoll(list->asked, list->count, timeout, mask, &list->guard);
	/* In an entry that the application does not use, where there is one: their number is limited (RLIMIT_NOFILE). */
	nfds_t place = 0;
	while (place < list->count && list->asked[place].fd >= 0)
		place++;
	list->asked[place] = (struct pollfd){.fd = bell, .events = POLLIN};
	long outcome = nn_front.ppoll(list->asked, list->count + (place == list->count), timeout, mask, &list->guard);
	list->rung = outcome > 0 && list->asked[place].revents;
	list->asked[place] = (struct pollfd){.fd = -1};
	return outcome;
}

/* A caller with a mask has blocked, until now, what may interrupt. */
static long sleep_in_kernel(struct list *list, struct timespec *timeout, const sigset_t *mask, int bell)
{
	if (mask)
		return ask_kernel(list, timeout, mask, bell);
	long outcome = signals_hold(&list->hold, list->began, timeout);
	if (outcome < 0)
		return outcome;
	outcome = ask_kernel(list, timeout, list->hold.held ? &list->hold.mask : NULL, bell);
	return signals_release(&list->hold, outcome);
}

static bool attach_all(struct list *list)
{
	bool heard = true;
	for (nfds_t i = 0; i < list->count; i++) {
		struct nn_stream *stream = list->watches[i].stream;
		if (!stream || !stream_is_paired(stream))
			continue;
		heard &= waiter_attach(&list->waiter, stream->own);
		if (stream->tx_ring && atomic_load(&stream->tx_full))
			tx_want_room(stream);
	}
	list->attached = true;
	return heard;
}

static _Atomic uint32_t history = ~0u; /* of all polls of this process */

static long poll_list(struct list *list, uint64_t deadline, const sigset_t *mask)
{
	static const struct timespec none = {0, 0};
	stall_sweep(UINT64_MAX);
	for (;;) {
		long ready = look_twice(list);
		bool now_only = deadline == 0;
		if (ready || now_only) {
			if (!list->others && ready)
				return ready;
			/* Where nothing is ready, whatever the mask lets in ends the call. */
			long answer = ask_kernel(list, &none, ready ? NULL : mask, -1);
			return answer < 0 ? answer : merge(list);
		}
		waiter_take(&list->waiter, nn_self());
		struct spin spin;
		long outcome = 0;
		if (list->rings && spin_begin(&spin, &list->waiter, &history, list->began)) {
			uint64_t looked = nn_now_ns();
			while (!ready && spin_turn(&spin)) {
				ready = look_twice(list);
				if (!ready && list->others && nn_now_ns() - looked > LOOK_NS) {
					if (ask_kernel(list, &none, NULL, -1) > 0)
						ready = merge(list);
					looked = nn_now_ns();
				}
			}
			if (signals_end_poll(spin_end(&spin, ready)))
				outcome = -EINTR;
		}
		if (!ready && !outcome) {
			const int bell = list->crowded ? -1 : waiter_bell(&list->waiter);
			bool heard = attach_all(list) && bell >= 0;
			uint64_t soon = stall_sweep(UINT64_MAX);
			waiter_falls_asleep(&list->waiter);
			if (!look(list, true) && !list->unsure) { /* W2 */
				uint64_t now = deadline == UINT64_MAX ? 0 : nn_now_ns();
				uint64_t left = deadline == UINT64_MAX ? UINT64_MAX : deadline > now ? deadline - now : 0;
				bool all = (heard && !list->deaf) || !list->rings || left <= BLIND_NS;
				if (!all)
					left = BLIND_NS;
				if (soon < left) {
					left = soon;
					all = false;
				}
				struct timespec limit = left == UINT64_MAX ? SIGNALS_NO_LIMIT : (struct timespec){(time_t)(left / NS_IN_S), (long)(left % NS_IN_S)};
				outcome = sleep_in_kernel(list, &limit, mask, bell);
				waiter_wakes(&list->waiter);
				if (outcome > 0 && bell >= 0 && list->rung)
					waiter_heard(&list->waiter);
				if (outcome == -EINVAL && bell >= 0) {
					list->crowded = true; /* once more without it */
					outcome = 0;
				} else if (outcome > 0)
					ready = merge(list);
				else if (outcome == 0 && all && left != UINT64_MAX)
					deadline = 0; /* time is over: one last look */
			}
			waiter_wakes(&list->waiter);
		}
		list_detach(list);
		waiter_drop(&list->waiter);
		if (outcome < 0)
			return outcome;
		if (ready)
			return ready;
	}
}

static uint64_t deadline_of(const struct timespec *timeout)
{
	if (!timeout)
		return UINT64_MAX;
	if (!timeout->tv_sec && !timeout->tv_nsec)
		return 0;
	if ((uint64_t)timeout->tv_sec > 1000000000u)
		return UINT64_MAX;
	return nn_now_ns() + (uint64_t)timeout->tv_sec * NS_IN_S + (uint64_t)timeout->tv_nsec;
}

static bool concerns_us(const struct pollfd *fds, nfds_t count)
{
	bool streams = false;
	for (nfds_t i = 0; i < count; i++) {
		uint32_t entry = fd_entry(fds[i].fd);
		enum nn_kind kind = (enum nn_kind)(entry >> NN_KIND_SHIFT);
		streams |= kind == NN_STREAM && !stream_is_kernels(stream_at(entry & ((1u << NN_KIND_SHIFT) - 1)));
		if (kind == NN_SET) {
			nn_passing(fds[i].fd);
			streams |= stall_any(); /* of a stream in the set, perhaps */
		}
	}
	return streams;
}

/* The kernel refuses more entries than there may be descriptors. Short lists are taken to be none of those. */
static bool is_too_long(nfds_t count)
{
	struct rlimit64 limit;
	return count > FEW && !nn_confined && sys_call4(SYS_prlimit64, 0, RLIMIT_NOFILE, NULL, &limit) == 0 && count > limit.rlim_cur;
}

int nn_poll(struct nn_io *io, struct pollfd *fds, nfds_t count, const struct timespec *timeout, const sigset_t *mask)
{
	io->stream = NULL;
	io->counted = false;
	if (!concerns_us(fds, count) || (timeout && ((uint64_t)timeout->tv_nsec >= NS_IN_S || timeout->tv_sec < 0)))
		return NN_RAW;
	if (is_too_long(count)) {
		io->result = -EINVAL;
		return NN_DONE;
	}
	struct list list = {.waiter = {.slot = -1}, .began = signals_ran()};
	guard_begin(&list.guard, undo, &list);
	bool begun = list_begin(&list, fds, count);
	if (begun) {
		uint64_t deadline = deadline_of(timeout);
		if (mask && deadline)
			block_others(&list);
		io->result = poll_list(&list, deadline, mask);
		unblock_others(&list);
		list_end(&list);
	}
	guard_end(&list.guard);
	return begun ? NN_DONE : NN_RAW;
}
