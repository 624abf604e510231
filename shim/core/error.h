/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Errors and ends: who knows of them, and that the application is told once.
 *
 * A connection ends in two places. A peer that closes or shuts down says so in its end block (END_FIN, END_CLOSED, END_RESET) before its kernel
 * sends FIN or RST; one that dies says nothing, and its kernel's FIN is the news (stream_look). With bytes of ours unread in its ring
 * TCP would have sent RST: such a reset is inferred.
 *
 * An error is reported once, by whichever call asks first, in whichever process of those that share the end. So what only we know of (a
 * reset from memory, or inferred) lies in the end block, `own->error`; what the kernel knows stays in the kernel, which gives
 * it to programs that know nothing of us as well, and the block has ERROR_KERNEL at most. A reset that was told from memory comes a
 * second time, by the kernel's RST, now or in a moment: END_TOLD marks it, and the kernel's is taken and dropped (stream_told_again).
 *
 * Readers get all bytes first, then the error, then the end; a reset that came after the peer's end is for writers alone, as EPIPE.
 */
#ifndef SHIM_CORE_ERROR_H
#define SHIM_CORE_ERROR_H

#include <errno.h>

#include "shim/core/stream.h"

/* Asks the kernel about FIN and RST; sets kernel_hup and error. `revents`: what poll has just said of the socket, 0 if it was not
 * asked; an end of which the peer's kernel knows nothing is the application's own shutdown. */
void stream_look(struct nn_stream *stream, uint32_t revents);

/* The application has heard of a reset, in this process or in another that shares the end. */
static inline bool stream_reset_told(const struct nn_stream *stream)
{
	return stream_is_paired(stream) && (atomic_load(&stream->own->rx_flags) & END_TOLD);
}

/* Notes that it has. False: it had before. */
static inline bool stream_tell_reset(struct nn_stream *stream)
{
	return stream_is_paired(stream) && !(atomic_fetch_or(&stream->own->rx_flags, END_TOLD) & END_TOLD);
}

/* The kernel has an error for the application. It stays there, for whoever asks first: a program that we start knows nothing of us. */
#define ERROR_KERNEL 0x10000

/* ERROR_KERNEL while the kernel has an error to report, or 0. */
int stream_error_in_kernel(const struct nn_stream *stream);

/* errno to report once, after the bytes, for all who share the end: of a reset that the kernel did not see; or ERROR_KERNEL; or 0. */
static inline int stream_error(const struct nn_stream *stream)
{
	int error = stream_is_paired(stream) ? (int)atomic_load_explicit(&stream->own->error, memory_order_relaxed) : 0;
	return error == ERROR_KERNEL ? stream_error_in_kernel(stream) : error;
}

/* The same, but for the kernel's. */
static inline bool stream_has_error(const struct nn_stream *stream)
{
	int error = stream_error(stream);
	return error && error != ERROR_KERNEL;
}

/* Nothing when the application has heard of a reset. */
static inline void stream_set_error(struct nn_stream *stream, int error)
{
	if (stream_is_paired(stream) && !stream_reset_told(stream))
		atomic_store(&stream->own->error, (uint32_t)error);
}

/* The peer reset the connection (END_RESET) and the application has not heard of it. */
static inline bool stream_reset_unseen(const struct nn_stream *stream)
{
	return (peer_tx_flags(stream) & END_RESET) && !stream_reset_told(stream);
}

/* The reset came after the peer's end: readers are told of the end alone. */
static inline bool stream_reset_late(const struct nn_stream *stream)
{
	return (peer_tx_flags(stream) & END_RESET_LATE) || stream_error(stream) == EPIPE;
}

/* The error to report now, 0 for none; it is reported once. */
int stream_take_error(struct nn_stream *stream);

/* A reset that was told from memory the kernel has to report as well, once its RST has come. True: so it is, and what the kernel has, or
 * had, is not for the application. */
bool stream_told_again(const struct nn_stream *stream);

/* What the kernel has answered; if it was an error, nobody tells the application again. */
static inline void stream_error_told(struct nn_stream *stream, long outcome)
{
	if (outcome >= 0 || !stream_is_paired(stream))
		return;
	if (outcome == -ECONNRESET)
		stream_tell_reset(stream);
	if (outcome == -ECONNRESET || outcome == -stream_error(stream))
		atomic_store(&stream->own->error, 0);
}

#endif
