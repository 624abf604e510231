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
	bool unsure;    /* another thread is moving the stream: look again before sleeping */
};

/* Looks at memory only (and enters new segments). HUP and ERR are always the kernel's to tell, too. */
struct readiness stream_readiness(struct nn_stream *stream);

#endif
