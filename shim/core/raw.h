/* SPDX-License-Identifier: BSD-2-Clause */
/* Raw calls: those the front end makes while a direction is on TCP, counted while they are in flight. */
#ifndef SHIM_CORE_RAW_H
#define SHIM_CORE_RAW_H

#include "shim/core/stream.h"

/* Counts a raw call in io->stream's direction. False: the direction is the core's by now. */
bool raw_begin(struct nn_io *io);

/* The answer for a call that is the kernel's to serve, counted or not: NN_RAW; but when another thread has closed the number meanwhile, which
 * may be anything now, the call is made here, on the socket that it was meant for. */
int raw_call(struct nn_io *io, int fd, const struct msghdr *message, int flags);

/* The same as raw_begin for a wait that is not a call of its own (poll): false when the direction is the core's. */
bool raw_hold(struct nn_stream *stream, bool sending);
void raw_release(struct nn_stream *stream, bool sending);

/* Lets go of the call's stream. */
void io_put(struct nn_io *io);

#endif
