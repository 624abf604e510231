/* SPDX-License-Identifier: BSD-2-Clause */
/* What an epoll set has to report: from memory, and out of what the kernel reports. */
#ifndef SHIM_CORE_COLLECT_H
#define SHIM_CORE_COLLECT_H

#include <sys/epoll.h>

#include "shim/core/set.h"

/* Moves up to `max` ready registrations into `events`, and says how many. *unsure: look again before sleeping. */
int set_collect(struct nn_set *set, struct epoll_event *events, int max, bool *unsure);

/* Takes our own items out of what the kernel reported. Returns how many of the application's remain. *ours: there were some of ours, whose
 * edges are taken; the caller looks at memory, or sees to it that another sleeper does. */
int set_sift(struct nn_set *set, struct epoll_event *events, int count, bool *ours);

/* A set that others watch in the kernel: its bell is readable exactly when something is ready. */
void set_settle_bell(struct nn_set *set);

#endif
