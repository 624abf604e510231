/* SPDX-License-Identifier: BSD-2-Clause */
/* The ring: every place of the wrap, every size around its own, offsets beyond 32 bits, and nothing written beside it. */
#include "core_test.h"

#define RING 4096u

static struct peers peers;
static struct wire wire;

/* An open wire whose first direction begins at `begin`, on a ring of RING bytes that does not grow. */
static void set_up(uint64_t begin)
{
	core_start(RING, RING);
	peers_open(&peers);
	wire_open(&wire, &peers);
	wire_begin_at(&wire, 0, begin);
}

/* Beside the ring lies what belongs to others. */
static uint8_t *fence(uint8_t *ring)
{
	memset(ring - RING, 0xcc, RING);
	memset(ring + RING, 0xcc, RING);
	return ring;
}

static void check_fence(const uint8_t *ring)
{
	for (unsigned i = 0; i < RING; i++) {
		CHECK_IS(*(ring - RING + i), 0xcc);
		CHECK_IS(*(ring + RING + i), 0xcc);
	}
}

/* Brings the direction up on a ring with neighbours. */
static uint8_t *up(uint64_t *at)
{
	/* The ring allocated first is not the first of the region: there is room before it. */
	CHECK(arena_ring_alloc(peers.arena[0], RING));
	pass(&wire, 0, at, 1);
	CHECK(wire.stream[0]->tx_ring && wire.stream[1]->rx_ring);
	CHECK_IS(wire.stream[0]->tx_mask, RING - 1);
	return fence(wire.stream[0]->tx_ring);
}

static void wrap_at_every_offset(uint64_t begin)
{
	static const size_t sizes[] = {1, 2, RING / 2 + 1, RING - 1, RING};
	uint64_t at = begin;
	uint8_t *ring;

	set_up(begin);
	ring = up(&at);
	for (unsigned place = 0; place < RING; place++) {
		size_t step = (place + RING - at % RING) % RING;

		if (step)
			pass(&wire, 0, &at, step);
		CHECK_IS(at % RING, place);
		for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i += place % 16 ? 2 : 1)
			pass(&wire, 0, &at, sizes[i]);
	}
	CHECK_IS(wire.stream[0]->tx_epoch, 1); /* all on the one ring */
	CHECK_IS(atomic_load(&wire.stream[0]->own->tail), at);
	CHECK_IS(atomic_load(&wire.stream[1]->own->head), at);
	check_fence(ring);
	wire_close(&wire);
}

static void wrap_from_zero(void)
{
	wrap_at_every_offset(0);
}

static void wrap_below_2_32(void)
{
	wrap_at_every_offset((1ull << 32) - 3 * RING - 5);
}

static void wrap_beyond_2_40(void)
{
	wrap_at_every_offset((1ull << 40) + 77);
}

static void wrap_below_2_62(void)
{
	wrap_at_every_offset((1ull << 62) - RING);
}

static void as_much_as_there_is_room_for(void)
{
	static uint8_t out[RING + 1], in[2 * RING];
	uint64_t at = (1ull << 32) - RING / 2;
	uint8_t *ring;

	set_up(at);
	ring = up(&at);
	fill_bytes(out, sizeof out, at, 0);
	CHECK_IS(call_send(wire.fd[0], out, RING + 1, MSG_DONTWAIT), RING);
	CHECK_IS(call_send(wire.fd[0], out, 1, MSG_DONTWAIT), -EAGAIN);
	CHECK_IS(call_inq(wire.fd[1]), RING);
	/* One byte of room is one byte of room, also across the end. */
	CHECK_IS(call_recv(wire.fd[1], in, 1, 0), 1);
	CHECK_IS(call_send(wire.fd[0], out + RING, 1, MSG_DONTWAIT), 1);
	CHECK_IS(call_send(wire.fd[0], out, 1, MSG_DONTWAIT), -EAGAIN);
	CHECK_IS(call_recv(wire.fd[1], in + 1, sizeof in - 1, 0), RING);
	check_bytes(in, RING + 1, at, 0);
	CHECK_IS(call_recv(wire.fd[1], in, 1, MSG_DONTWAIT), -EAGAIN);
	check_fence(ring);
	wire_close(&wire);
}

static void peeking_and_discarding(void)
{
	static uint8_t bytes[RING];
	uint64_t at = 0;

	set_up(0);
	up(&at);
	pass(&wire, 0, &at, RING - 8); /* what follows wraps */
	fill_bytes(bytes, 100, at, 0);
	CHECK_IS(call_send(wire.fd[0], bytes, 100, 0), 100);
	for (int i = 0; i < 2; i++) {
		memset(bytes, 0, sizeof bytes);
		CHECK_IS(call_recv(wire.fd[1], bytes, sizeof bytes, MSG_PEEK), 100);
		check_bytes(bytes, 100, at, 0);
		CHECK_IS(call_inq(wire.fd[1]), 100);
	}
	memset(bytes, 0xee, sizeof bytes);
	CHECK_IS(call_recv(wire.fd[1], bytes, 60, MSG_TRUNC), 60);
	for (int i = 0; i < 60; i++)
		CHECK_IS(bytes[i], 0xee);
	CHECK_IS(call_recv(wire.fd[1], bytes, sizeof bytes, 0), 40);
	check_bytes(bytes, 40, at + 60, 0);
	wire_close(&wire);
}

/* Cuts `size` bytes into PIECES, some of them empty. */
enum { PIECES = 8 };
static void cut(struct iovec iov[PIECES], uint8_t *bytes, size_t size, uint64_t *seed)
{
	for (int i = 0; i < PIECES; i++) {
		size_t piece = i < PIECES - 1 ? test_random(seed) % 3 * (test_random(seed) % (size + 1)) / 2 : size;

		if (piece > size)
			piece = size;
		iov[i] = (struct iovec){bytes, piece};
		bytes += piece;
		size -= piece;
	}
}

static void scattered(void)
{
	static uint8_t out[RING], in[RING];
	uint64_t at = 0, seed = test_seed();

	set_up(0);
	up(&at);
	for (int round = 0; round < 5000; round++) {
		struct iovec iov[PIECES];
		size_t total = test_random(&seed) % RING + 1, got = 0;

		fill_bytes(out, total, at, 0);
		cut(iov, out, total, &seed);
		CHECK_IS(call_sendv(wire.fd[0], iov, PIECES, MSG_DONTWAIT), total);
		while (got < total) {
			size_t some = test_random(&seed) % (total - got) + 1;

			cut(iov, in + got, some, &seed);
			CHECK_IS(call_recvv(wire.fd[1], iov, PIECES, MSG_DONTWAIT), some);
			got += some;
		}
		check_bytes(in, total, at, 0);
		at += total;
	}
	wire_close(&wire);
}

/* The rings of neighbours on the same peer, and of the other direction, keep apart. */
static void many_at_once(void)
{
	enum { WIRES = 8 };
	static struct wire wires[WIRES];
	uint64_t at[WIRES][2] = {{0}}, seed = test_seed();

	core_start(RING, RING);
	peers_open(&peers);
	for (int i = 0; i < WIRES; i++)
		wire_open(&wires[i], &peers);
	for (int round = 0; round < 5000; round++) {
		unsigned i = test_random(&seed) % WIRES, sender = test_random(&seed) % 2;

		pass(&wires[i], (int)sender, &at[i][sender], test_random(&seed) % RING + 1);
	}
	for (int i = 0; i < WIRES; i++)
		wire_close(&wires[i]);
	lease_sweep();
	CHECK_IS(rings_in_use(&peers, 0), 0);
	CHECK_IS(rings_in_use(&peers, 1), 0);
}

CORE_TEST(wrap_from_zero, 60)
CORE_TEST(wrap_below_2_32, 60)
CORE_TEST(wrap_beyond_2_40, 60)
CORE_TEST(wrap_below_2_62, 60)
CORE_TEST(as_much_as_there_is_room_for, 20)
CORE_TEST(peeking_and_discarding, 20)
CORE_TEST(scattered, 30)
CORE_TEST(many_at_once, 30)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_wrap_from_zero),
		cmocka_unit_test(test_wrap_below_2_32),
		cmocka_unit_test(test_wrap_beyond_2_40),
		cmocka_unit_test(test_wrap_below_2_62),
		cmocka_unit_test(test_as_much_as_there_is_room_for),
		cmocka_unit_test(test_peeking_and_discarding),
		cmocka_unit_test(test_scattered),
		cmocka_unit_test(test_many_at_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
