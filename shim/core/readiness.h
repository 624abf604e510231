/* SPDX-License-Identifier: BSD-2-Clause */
/* What poll, select and epoll would say of a stream. */
#ifndef SHIM_CORE_READINESS_H
#define SHIM_CORE_READINESS_H

#include "shim/core/stream.h"

#define READY_IN (POLLIN | POLLRDNORM)
#define READY_OUT (POLLOUT | POLLWRNORM)

struct readiness {
	uint32_t ready; /* POLL* bits that hold, as far as memory tells */
	uint32_t ask;   /* bits that only the kernel can tell, because the direction is on TCP */
};

/* True when the peer has published something that must be acted upon before readiness tells all: a segment that begins here, or a
 * wish to have the rest by TCP. */
bool stream_due(const struct nn_stream *stream);

/* Acts upon it as far as that goes without waiting. May take every lock there is: callers hold none. False: another thread has the
 * stream just now; look again before sleeping. */
bool stream_service(struct nn_stream *stream);

/* Looks at memory only. HUP and ERR are always the kernel's to tell, too. */
struct readiness stream_readiness(struct nn_stream *stream);

#endif
