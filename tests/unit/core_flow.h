/* SPDX-License-Identifier: BSD-2-Clause */
/* One wire, of which one direction is used: end 0 sends, end 1 receives. */
#ifndef CORE_FLOW_H
#define CORE_FLOW_H

#include "core_test.h"
#include "shim/core/clock.h"

#define RING 4096u
#define MOST (4 * RING)

static struct peers peers;
static struct wire wire;
static struct nn_stream *from, *to;
static uint64_t sent, received;
static uint8_t bytes[1 << 20];

static inline void set_up(void)
{
	core_start(RING, MOST);
	peers_open(&peers);
	wire_open(&wire, &peers);
	from = wire.stream[0];
	to = wire.stream[1];
}

static inline void put(size_t size)
{
	fill_bytes(bytes, size, sent, 0);
	CHECK_IS(call_send(wire.fd[0], bytes, size, MSG_DONTWAIT), size);
	sent += size;
}

static inline void get(size_t size)
{
	memset(bytes, 0, size);
	CHECK_IS(call_recv(wire.fd[1], bytes, size, MSG_WAITALL), size);
	check_bytes(bytes, size, received, 0);
	received += size;
}

/* All that is under way, and no more. */
static inline void get_rest(void)
{
	if (received < sent)
		get(sent - received);
	CHECK_IS(call_recv(wire.fd[1], bytes, 1, MSG_DONTWAIT), -EAGAIN);
}

static inline uint64_t now_ms(void)
{
	return nn_now_ns() / 1000000;
}

#endif
