/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Which registrations of a large epoll set may have news, so that a wait costs the same with ten idle streams and with ten thousand.
 *
 * Peers count what they publish for ends that want it (END_WANT_ACTIVITY): a word for each few ends of a region, and above that a word for
 * many of those (format.h). A set that has grown large keeps, for each pair of processes, what it has seen of these words, and lists of
 * its registrations by group. A registration is *hot* from the moment that something may have changed until it is looked at
 * and found not ready; only hot ones are looked at. It becomes hot when
 *
 *   - a word of its group has changed                                     (active_look)
 *   - the kernel reports something of its stream                          (sift)
 *   - it is added, changed, or its stream moves, or is shut down here     (active_heat)
 *
 * The words are read before what they vouch for, and written after it: news that a look misses changes a word that the next look finds
 * changed.
 *
 * Everything here is called under the set's lock.
 */
#ifndef SHIM_CORE_ACTIVE_H
#define SHIM_CORE_ACTIVE_H

#include "shim/core/set.h"

/* A registration becomes managed, or is no more. The first makes the set a large one when it is. */
void active_add(struct nn_set *set, struct nn_reg *reg);
void active_remove(struct nn_set *set, struct nn_reg *reg);
void active_end(struct nn_set *set);
void active_forked(struct nn_set *set); /* in the child: another thread may have been at the queue */

void active_heat(struct nn_set *set, struct nn_reg *reg);

/* Asks what has changed. Returns how many hot ones are in the queue, some of them perhaps no more. Only for large sets. */
uint32_t active_look(struct nn_set *set);

/* The `at`th of the queue; NULL: gone since. */
struct nn_reg *active_peek(struct nn_set *set, uint32_t at);

/* Takes the first out of the queue; NULL: gone since. It stays hot until active_cool, or goes to the end of the queue by active_keep. */
struct nn_reg *active_take(struct nn_set *set);
void active_cool(struct nn_reg *reg);
void active_keep(struct nn_set *set, struct nn_reg *reg);

#endif
