/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Leases: end blocks and rings whose stream is closed here, while the peer may still read them. They are freed once the peer's
 * end says END_DONE, has been reused, or the pair goes.
 */
#ifndef SHIM_CORE_LEASE_H
#define SHIM_CORE_LEASE_H

#include "shim/core/stream.h"

/* Takes over the end, its rings and the hold on the pair. */
void lease_begin(struct nn_stream *stream);
void lease_sweep(void);                  /* bounded work */
void lease_fork_child(void);             /* they are the parent's */

/* The pair's memory is about to go. False: not now, in a signal handler that interrupted work on leases. */
bool lease_forget(struct nn_pair *pair);

#endif
