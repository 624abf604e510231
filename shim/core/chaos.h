/* SPDX-License-Identifier: BSD-2-Clause */
/* NOTNETS_CHAOS: moves sending directions at random, for tests. */
#ifndef SHIM_CORE_CHAOS_H
#define SHIM_CORE_CHAOS_H

#include "shim/core/stream.h"

void chaos_roll(struct nn_stream *stream);

static inline void chaos_tx(struct nn_stream *stream)
{
	extern struct nn_config nn_config;
	if (__builtin_expect(nn_config.chaos != 0, 0))
		chaos_roll(stream);
}

#endif
