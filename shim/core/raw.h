/* SPDX-License-Identifier: BSD-2-Clause */
/* Raw calls: those the front end makes while a direction is on TCP, counted while they are in flight. */
#ifndef SHIM_CORE_RAW_H
#define SHIM_CORE_RAW_H

#include "shim/core/stream.h"

/* Counts a raw call in io->stream's direction. False: the direction is the core's by now. */
bool raw_begin(struct nn_io *io);

/* The same for a wait that is not a call of its own (poll): false when the direction is the core's. */
bool raw_hold(struct nn_stream *stream, bool sending);
void raw_release(struct nn_stream *stream, bool sending);

#endif
