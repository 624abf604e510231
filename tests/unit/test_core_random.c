/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Anything at all, between two ends both driven by the core, against a model of two byte streams: not a byte lost, doubled or
 * reordered, nobody called ready who is not, nobody left waiting for what is there.
 *
 * The seed of the last run is printed: SEED=that RUNS=1 repeats a failure. TRACE=1 says what is done.
 */
#include "core_test.h"

#include <inttypes.h>

#include "shim/core/clock.h"

#define RING_MIN 4096u
#define RING_MAX 65536u
#define SOME (3 * RING_MAX)

/* One direction, from end `sender` to the other. */
struct flow {
	uint64_t base;           /* the first byte's offset */
	uint64_t sent, received; /* bytes */
	bool fin, fin_seen;
	unsigned refusals;       /* sends in a row that were promised room and got none, without a byte read between */
};

static struct peers peers;
static struct wire wire;
static struct flow flows[2];
static uint64_t seed, *run_seed; /* shared with the process that tells of failures */
static bool trace;
static uint8_t bytes[SOME];

#define SAY(...) \
	do { \
		if (trace) \
			fprintf(stderr, __VA_ARGS__); \
	} while (0)

static void show(void)
{
	for (int i = 0; i < 2; i++) {
		const struct nn_stream *stream = wire.stream[i];
		const struct end_block *own = stream->own;

		fprintf(stderr, "  end %d: sent %#" PRIx64 ", of the other's received %#" PRIx64, i, flows[i].base + flows[i].sent,
			flows[!i].base + flows[!i].received);
		fprintf(stderr, "; tx %s%s epoch %" PRIu64 " start %#" PRIx64 " tail %#" PRIx64, stream->tx_ring ? "ring" : "tcp",
			stream->tx_replaying ? " replaying" : "", stream->tx_epoch, stream->tx_start, atomic_load(&own->tail));
		fprintf(stderr, "; rx %s epoch %" PRIu64 " head %#" PRIx64 " skip %" PRIu64 " flags %#" PRIx64 "\n",
			stream->rx_ring ? "ring" : "tcp", stream->rx_epoch, atomic_load(&own->head), atomic_load(&own->skip),
			atomic_load(&own->rx_flags));
	}
}

/* As CHECK, with what a reader wants to know. */
static void broken(int line, const char *what)
{
	fprintf(stderr, "%s:%d: %s\n", __FILE__, line, what);
	show();
	_exit(1);
}

#define HOLDS(x) \
	do { \
		if (!(x)) \
			broken(__LINE__, #x); \
	} while (0)

static uint64_t dice(uint64_t sides)
{
	return test_random(&seed) % sides;
}

static uint64_t unread(int sender)
{
	return flows[sender].sent - flows[sender].received;
}

/* What any call of an application would do on the way. */
static struct readiness look(int end)
{
	stream_service(wire.stream[end]);
	return stream_readiness(wire.stream[end]);
}

/* Few bytes mostly; sometimes about a ring, sometimes more than all rings. */
static size_t some_size(void)
{
	switch (dice(8)) {
	case 0:
		return RING_MIN - 2 + dice(5);
	case 1:
		return dice(SOME) + 1;
	case 2:
		return dice(RING_MAX) + 1;
	default:
		return dice(RING_MIN) + 1;
	}
}

/* ---- operations */

static void do_send(int end)
{
	struct flow *flow = &flows[end];
	size_t size = some_size();
	bool promised = look(end).ready & POLLOUT;
	long outcome;

	fill_bytes(bytes, size, flow->base + flow->sent, (unsigned)end);
	outcome = call_send(wire.fd[end], bytes, size, MSG_DONTWAIT);
	SAY("%d send %zu -> %ld\n", end, size, outcome);
	if (flow->fin) {
		HOLDS(outcome == -EPIPE);
		return;
	}
	HOLDS(outcome > 0 || outcome == -EAGAIN);
	if (outcome > 0) {
		HOLDS((size_t)outcome <= size);
		flow->sent += (uint64_t)outcome;
		flow->refusals = 0;
		return;
	}
	HOLDS(unread(end) || !tx_taken(wire.stream[end]) || wire.stream[end]->tx_replaying); /* full of what? */
	/* Exactly full is found out by trying, once. */
	flow->refusals += promised;
	HOLDS(flow->refusals < 2);
}

/* Bytes may be on their way through the kernel, or to be sent again by the other end's next call. */
static long receive(int end, size_t size, int flags)
{
	const struct flow *flow = &flows[!end];
	struct timespec nap = {0, 1000000};
	long outcome;

	for (int tries = 0;; tries++) {
		outcome = call_recv(wire.fd[end], bytes, size, flags | MSG_DONTWAIT);
		if (outcome != -EAGAIN || !(unread(!end) || (flow->fin && !flow->fin_seen)))
			return outcome;
		HOLDS(tries < 1000);
		look(!end);
		if (tries > 3)
			nanosleep(&nap, NULL);
	}
}

static void do_recv(int end)
{
	static const int choices[] = {0, 0, 0, 0, MSG_PEEK, MSG_TRUNC, MSG_WAITALL};
	struct flow *flow = &flows[!end];
	int flags = choices[dice(7)];
	size_t size = some_size();
	long outcome;

	memset(bytes, 0, size);
	outcome = receive(end, size, flags);
	SAY("%d recv %zu flags %#x -> %ld\n", end, size, (unsigned)flags, outcome);
	if (outcome == 0) {
		HOLDS(flow->fin && !unread(!end));
		flow->fin_seen = true;
		return;
	}
	if (outcome < 0) {
		HOLDS(outcome == -EAGAIN);
		return;
	}
	HOLDS((uint64_t)outcome <= unread(!end));
	if (flags != MSG_TRUNC)
		for (long i = 0; i < outcome; i++)
			HOLDS(bytes[i] == byte_at(flow->base + flow->received + (uint64_t)i, (unsigned)!end));
	if (flags == MSG_PEEK)
		return;
	flow->received += (uint64_t)outcome;
	flow->refusals = 0;
}

static void do_inq(int end)
{
	const struct nn_stream *to = wire.stream[end], *from = wire.stream[!end];
	uint64_t said = (uint64_t)call_inq(wire.fd[end]);

	SAY("%d inq -> %llu\n", end, (unsigned long long)said);
	HOLDS(said <= unread(!end));
	if (rx_taken(to) && to->rx_ring && to->rx_epoch == from->tx_epoch)
		HOLDS(said == unread(!end));
}

static void do_look(int end)
{
	struct readiness state = look(end);
	const struct nn_stream *to = wire.stream[end];

	SAY("%d ready %#x ask %#x\n", end, state.ready, state.ask);
	if (state.ready & POLLIN)
		HOLDS(unread(!end) || flows[!end].fin);
	if (rx_taken(to) && to->rx_ring && (unread(!end) || flows[!end].fin) && to->rx_epoch == wire.stream[!end]->tx_epoch)
		HOLDS(state.ready & POLLIN);
	HOLDS(!(state.ready & POLLERR));
}

static void do_grow(int end)
{
	struct nn_stream *stream = wire.stream[end];
	enum lock_outcome lock = lock_take(&stream->own->tx_lock, nn_self());

	if (tx_taken(stream) && !stream->tx_replaying && !tx_outside_wanted(stream))
		SAY("%d grow -> %d\n", end, tx_grow(stream, 1));
	lock_drop(&stream->own->tx_lock, lock);
}

static void do_shutdown(int end)
{
	const struct nn_stream *stream = wire.stream[end];

	if (flows[end].fin)
		return;
	/* With bytes to be sent again and no room for them in the kernel it could only wait in vain. */
	for (int tries = 0; stream->tx_replaying || tx_outside_wanted(stream); tries++) {
		HOLDS(tries < 100000);
		look(end);
		do_recv(!end);
	}
	SAY("%d shutdown\n", end);
	HOLDS(nn_shutdown(wire.fd[end], SHUT_WR) == 0);
	flows[end].fin = true;
}

static void do_something(void)
{
	int end = (int)dice(2);
	uint64_t what = dice(1000);

	if (what < 400) {
		do_send(end);
	} else if (what < 800) {
		do_recv(end);
	} else if (what < 860) {
		do_look(end);
	} else if (what < 900) {
		do_inq(end);
	} else if (what < 960) {
		SAY("%d down\n", end);
		call_down(wire.stream[end]);
	} else if (what < 990) {
		do_grow(end);
	} else if (what < 994) {
		unsigned parts = (unsigned)dice(3) + 1;

		SAY("%d outside %u\n", end, parts);
		stream_outside(wire.stream[end], NN_REASON_CALL, parts);
	} else if (what < 995) {
		do_shutdown(end);
	}
}

/* Whatever was sent arrives, and then the end. */
static void finish(int sender)
{
	struct flow *flow = &flows[sender];

	do_shutdown(sender);
	for (int tries = 0; !flow->fin_seen; tries++) {
		HOLDS(tries < 100000);
		do_recv(!sender);
	}
	HOLDS(flow->sent == flow->received);
}

static void one_run(void)
{
	/* Where 32 bits end, far beyond, or at the beginning. */
	static const uint64_t bases[] = {0, 0, (1ull << 32) - 3 * RING_MAX, 1ull << 40, (1ull << 62) - 1};

	static const int few = 4608;

	seed = *run_seed ? *run_seed : 1;
	memset(flows, 0, sizeof flows);
	wire_open(&wire, &peers);
	/* Sometimes the kernel, too, has hardly any room. That takes time, so for a few operations only. */
	const bool tight = !dice(60);
	for (int i = 0; i < 2 && tight; i++)
		setsockopt(wire.fd[i], SOL_SOCKET, SO_SNDBUF, &few, sizeof few);
	for (int i = 0; i < 2; i++) {
		flows[i].base = bases[dice(5)];
		wire_begin_at(&wire, i, flows[i].base);
	}
	for (uint64_t left = dice(tight ? 100 : 1500) + 10; left; left--) {
		do_something();
		if (trace)
			show();
	}
	finish(0);
	finish(1);
	wire_close(&wire);
}

static void runs(void)
{
	const char *count = getenv("RUNS");
	uint64_t next = test_seed();

	trace = getenv("TRACE");
	core_start(RING_MIN, RING_MAX);
	peers_open(&peers);
	const uint64_t until = nn_now_ns() + 15 * 1000000000ull;
	/* Without RUNS, as many as a slow machine has time for. */
	for (unsigned long left = count ? strtoul(count, NULL, 0) : 300; left && (count || nn_now_ns() < until); left--) {
		*run_seed = next;
		one_run();
		next = test_random(&next);
	}
	/* Everything is given back. */
	for (int i = 0; i < 1000 && rings_in_use(&peers, 0) + rings_in_use(&peers, 1); i++)
		lease_sweep();
	CHECK_IS(rings_in_use(&peers, 0) + rings_in_use(&peers, 1), 0);
}

static void test_runs(void **state)
{
	(void)state;
	in_child(runs, 100);
}

static int begin(void **state)
{
	(void)state;
	run_seed = mmap(NULL, sizeof *run_seed, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	return run_seed == MAP_FAILED;
}

static int tell_seed(void **state)
{
	(void)state;
	fprintf(stderr, "last run: SEED=%#" PRIx64 " RUNS=1\n", *run_seed);
	return munmap(run_seed, sizeof *run_seed);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_runs, begin, tell_seed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
