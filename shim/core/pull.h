/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef SHIM_CORE_PULL_H
#define SHIM_CORE_PULL_H

#include "shim/core/cursor.h"
#include "shim/core/stream.h"

enum { PULL_NOTHING = 0, PULL_END = -1 }; /* else bytes, or below PULL_END: -errno */

/* How a call wants its bytes. */
struct wish {
	bool peek;    /* MSG_PEEK: leave them */
	bool discard; /* MSG_TRUNC: do not copy them */
};

/* Whatever is there without waiting, across segments. Under rx_lock. */
long stream_pull(struct nn_stream *stream, struct cursor *to, struct wish wish);

#endif
