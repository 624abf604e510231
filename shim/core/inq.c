/* SPDX-License-Identifier: BSD-2-Clause */
/* FIONREAD, SIOCOUTQ: how many bytes wait, here and there. */
#include <linux/sockios.h>
#include <sys/ioctl.h>

#include "shim/core/lock.h"
#include "shim/core/process.h"
#include "shim/core/switch.h"
#include "shim/core/sys.h"

/* Of the ring that a segment lies in; 0: none, or an impossible one. */
static uint64_t ring_bytes(const struct nn_stream *stream, uint64_t where)
{
	unsigned log2 = (unsigned)(where & SEGMENT_LOG2_MASK);
	return region_ring_valid(stream->pair->peer_length, where & ~(uint64_t)SEGMENT_LOG2_MASK, log2) ? 1ull << log2 : 0;
}

/* Bytes to be read: in the rings of this and the following segments, and in the kernel. A segment that begins before the last one
 * ended was sent again because we asked: what both have counts once. */
static uint64_t waiting(const struct nn_stream *stream)
{
	int held = 0;
	uint64_t newest = atomic_load(&stream->peer->epoch), tail = atomic_load(&stream->peer->tail);
	uint64_t from = atomic_load(&stream->own->head), count = 0, twice = atomic_load(&stream->own->skip);
	if (!stream->rx_ring || newest != stream->rx_epoch)
		sys_call3(SYS_ioctl, stream->fd, FIONREAD, &held);
	uint64_t ring = stream->rx_ring ? stream->rx_mask + 1 : 0;
	for (uint64_t epoch = stream->rx_epoch;; epoch++) {
		const struct end_segment *next = &stream->peer->segments[(epoch + 1) % END_SEGMENTS];
		uint64_t end = epoch == newest ? tail : atomic_load(&next->start);
		/* No more than the ring holds, whatever the peer says: programs allocate what they are told. */
		if (ring && end > from)
			count += end - from < ring ? end - from : ring;
		if (epoch == newest || newest - epoch >= END_SEGMENTS)
			break;
		if (end < from)
			twice += from - end;
		else
			from = end;
		ring = ring_bytes(stream, atomic_load(&next->where));
	}
	return count + ((uint64_t)held > twice ? (uint64_t)held - twice : 0);
}

int nn_inq(struct nn_io *io, int fd, int *value)
{
	io->counted = false;
	io->sending = false;
	io->stream = stream_get(fd);
	if (!io->stream)
		return NN_RAW;
	struct nn_stream *stream = io->stream;
	io->stream = NULL;
	int outcome = NN_RAW;
	if (stream_is_paired(stream) && rx_taken(stream)) {
		enum lock_outcome lock = rx_lock(stream);
		if (lock != LOCK_NESTED) {
			if (atomic_load_explicit(&stream->shared, memory_order_relaxed))
				rx_reload(stream); /* another process may have read on */
			rx_enter(stream);
		}
		uint64_t count = waiting(stream);
		*value = count > INT32_MAX ? INT32_MAX : (int)count;
		io->result = 0;
		outcome = NN_DONE;
		rx_unlock(stream, lock);
	}
	stream_put(stream);
	return outcome;
}

int nn_outq(struct nn_io *io, int fd, int *value)
{
	struct nn_stream *stream = stream_get(fd);
	io->stream = NULL;
	io->counted = false;
	if (!stream)
		return NN_RAW;
	int outcome = NN_RAW;
	if (stream_is_paired(stream) && tx_taken(stream)) {
		/* What reached the ring has reached the peer's memory: acknowledged, in TCP's terms. */
		*value = 0;
		io->result = 0;
		outcome = NN_DONE;
	}
	stream_put(stream);
	return outcome;
}
