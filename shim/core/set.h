/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Epoll sets and the registrations in them. What the files set.c (bookkeeping), epoll.c (epoll_ctl and moving streams),
 * collect.c (what there is to report), active.c (of large sets) and epoll_wait.c share.
 *
 * The application's epoll set stays in the kernel, and every registration with it. While a stream is on TCP its registration is what the
 * application asked for. From the moment its receiving direction is READY it is *managed*: the kernel's item is changed to report every edge
 * of the TCP connection (it will be FIN, RST, or bytes of a direction that is on TCP) under a number of our own instead of
 * the application's data, and what the application hears is computed here. A managed registration stays managed.
 *
 * A set with managed registrations has a waiter of its own (slot and doorbell, the doorbell being an item of the set, edge-triggered)
 * attached to all its streams. A set that others can see (nested, polled, passed) must look readable to the kernel whenever it would be: its
 * doorbell is level-triggered, it always counts as asleep, and the bell is silenced only when nothing is ready.
 *
 * Locks, in this order: a stream's tx_lock/rx_lock; the table's lock; a set's lock. Whoever holds one of the latter may
 * only try a former.
 */
#ifndef SHIM_CORE_SET_H
#define SHIM_CORE_SET_H

#include "shim/core/lock.h"
#include "shim/core/stream.h"
#include "shim/wait/waiter.h"

#define REGS (1u << 20)
#define SETS (1u << 16)
#define KEY_BELL 0xffffffu

struct nn_reg {
	bool in_use, managed;
	bool disabled; /* EPOLLONESHOT has fired */
	bool fresh;    /* added, changed or moved since last reported: its next state is an edge */
	uint32_t stream, set;
	int fd;
	uint32_t events;
	uint64_t data;
	uint32_t next;  /* of the same stream, 1 + index */
	bool hot;       /* of a large set: see active.h, as for the next two */
	uint32_t watched, group_next;
	uint32_t place; /* in set->managed */
	uint32_t told;  /* the set's collection that reported it last */
	/* What the last report had seen. */
	uint64_t seen_tail, seen_flags;
	uint32_t seen_in, seen_out, seen_end, seen_room;
};

struct nn_set {
	_Atomic uint32_t lock;
	bool in_use;
	bool blind;   /* inherited by fork: no doorbell reaches us */
	bool exposed;
	int epfd;
	uint32_t fds;
	uint32_t items;    /* registrations in the kernel that are not managed */
	struct waiter waiter; /* slot -1 until the first managed registration */
	uint32_t *managed; /* indices of registrations */
	uint32_t managed_count, managed_room;
	uint32_t next_free; /* see set.c */
	uint32_t cursor;   /* where the next collection starts */
	_Atomic uint32_t sleepers;
	_Atomic uint32_t spin_history;
	uint64_t looked;   /* ticks at the last look into the kernel */
	uint32_t hurried;  /* collections since */
	uint32_t collection; /* counts them all */
	uint32_t nested[4], nested_count; /* sets in this one */
	struct active *active; /* of a large set, else NULL */
};

extern _Atomic uint32_t table_lock;

struct nn_reg *reg_at(uint32_t index);
struct nn_set *set_at(uint32_t index);
uint32_t reg_index(const struct nn_reg *reg);
uint32_t set_index(const struct nn_set *set);

/* Under the table's lock. NULL: no room. */
struct nn_reg *reg_new(struct nn_stream *stream, struct nn_set *set, int fd);
void reg_free(struct nn_reg *reg);
struct nn_reg *reg_find(const struct nn_stream *stream, const struct nn_set *set, int fd);

/* The epoll user data under which the kernel reports item `index`, and back; false: the application's own data. */
uint64_t key_of(uint32_t index);
bool key_index(uint64_t data, uint32_t *index);

/* Makes the registration managed, or adapts its kernel item to where the stream's directions are. Under the table's lock. */
bool reg_manage(struct nn_reg *reg);

#endif
