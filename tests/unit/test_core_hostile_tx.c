/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Sending to a peer that lies about what it has received. Whatever it writes, no more than a ring is taken that nobody reads, nothing
 * is written beside the ring, calls come back in time and burn nothing, and other streams go on.
 *
 *   calls    that do not block
 *   blocks   a send with a time limit
 *   polls    what is called ready must not turn out to be EAGAIN, time and again
 *   hangs up the liar's socket closes: then a send without limit fails
 */
#include "core_liar.h"

enum {
	SENT = 2 * LIAR_RING + 1000, /* sent and acknowledged before the lie */
	UNREAD = 600,                /* sent and not read */
};

struct lie {
	const char *name;
	long most;  /* bytes that may be taken after the lie; ANY: TCP may take them, and an error is in order, too */
	bool fewer; /* or fewer: what it had read it now denies */
	void (*tell)(struct liar *liar);
};

static struct liar liar;
static struct others others;

#define LIE(name) static void name(struct liar *l)
#define SET(field, value) atomic_store(&l->end->field, (value))

/* ---- head; one that is beyond the tail means something once the tail has come so far */
LIE(silent) { (void)l; }
LIE(head_one_beyond) { SET(head, SENT + UNREAD + 1); }
LIE(head_at_the_end_of_numbers) { SET(head, UINT64_MAX); }
LIE(head_back) { SET(head, SENT - 500); }
LIE(head_zero) { SET(head, 0); }

/* ---- acked: rings left behind may be freed, another may follow */
LIE(acked_beyond) { SET(acked, 7); }
LIE(acked_all) { SET(acked, UINT64_MAX); }
LIE(acked_zero) { SET(acked, 0); }

/* ---- asked to send again */
LIE(frozen_beyond_tail) { SET(frozen, SENT + UNREAD + 1); SET(rx_flags, END_READY | END_WANT_OUTSIDE); }
LIE(frozen_far_beyond) { SET(frozen, UINT64_MAX); SET(rx_flags, END_READY | END_WANT_OUTSIDE); }
LIE(frozen_zero) { SET(frozen, 0); SET(rx_flags, END_READY | END_WANT_OUTSIDE); }
LIE(frozen_a_ring_back) { SET(frozen, SENT + UNREAD - LIAR_RING - 1); SET(rx_flags, END_READY | END_WANT_OUTSIDE); }
LIE(frozen_without_asking) { SET(frozen, 1); }

/* ---- flags and the rest */
LIE(flags_all) { SET(rx_flags, ~0ull); SET(tx_flags, ~0ull); }
LIE(flags_none) { SET(rx_flags, 0); }
LIE(flags_done) { SET(rx_flags, END_READY | END_DONE); }
LIE(flags_activity) { SET(rx_flags, END_READY | END_WANT_ACTIVITY); }
LIE(flags_fin) { SET(tx_flags, END_FIN); }
LIE(flags_closed) { SET(tx_flags, END_FIN | END_CLOSED); }
LIE(flags_reset) { SET(tx_flags, END_RESET); }
LIE(another_cookie) { SET(cookie, 1); }
LIE(no_cookie) { SET(cookie, 0); }
LIE(attached_to_everything) { SET(attach[0], ~0ull); SET(attach[1], ~0ull); }

#define ROOM ((long)(LIAR_RING - UNREAD))
#define ANY 0
#define TOLD(lie, most) {#lie, most, false, lie}
#define DENIED(lie, most) {#lie, most, true, lie}
static const struct lie lies[] = {
	TOLD(silent, ROOM), TOLD(head_one_beyond, LIAR_RING + 1), DENIED(head_at_the_end_of_numbers, ROOM), DENIED(head_back, ROOM),
	DENIED(head_zero, ROOM), TOLD(acked_beyond, ROOM), TOLD(acked_all, ROOM), TOLD(acked_zero, ROOM),
	TOLD(frozen_beyond_tail, ANY), TOLD(frozen_far_beyond, ANY), TOLD(frozen_zero, ANY), TOLD(frozen_a_ring_back, ANY),
	TOLD(frozen_without_asking, ROOM), TOLD(flags_all, ANY), TOLD(flags_none, ROOM), TOLD(flags_done, ROOM),
	TOLD(flags_activity, ROOM), TOLD(flags_fin, ANY), TOLD(flags_closed, ANY), TOLD(flags_reset, ANY),
	TOLD(another_cookie, ROOM), TOLD(no_cookie, ROOM), TOLD(attached_to_everything, ROOM),
};
#define LIES (sizeof lies / sizeof *lies)

/* ---- situations */

static const struct lie *lie;
static uint8_t some[LIAR_RING];

/* All around the rings in use. */
#define FENCE (64u * LIAR_RING)
static uint64_t fenced[2];

static void fence(void)
{
	uint8_t *rings = (uint8_t *)liar.pair->own + REGION_RINGS;

	fenced[0] = liar.stream->tx_offset;
	fenced[1] = others.mood.stream->tx_offset;
	for (uint64_t at = 0; at < FENCE; at += LIAR_RING)
		if (REGION_RINGS + at != fenced[0] && REGION_RINGS + at != fenced[1])
			memset(rings + at, 0xcc, LIAR_RING);
}

static void check_fence(void)
{
	const uint8_t *rings = (uint8_t *)liar.pair->own + REGION_RINGS;

	for (uint64_t at = 0; at < FENCE; at++)
		if (REGION_RINGS + (at & ~(LIAR_RING - 1)) != fenced[0] && REGION_RINGS + (at & ~(LIAR_RING - 1)) != fenced[1])
			CHECK(rings[at] == 0xcc);
}

static void set_up(void)
{
	core_start(LIAR_RING, LIAR_RING);
	liar_open(&liar);
	memset(some, 's', sizeof some);
	liar_obeys(&liar, SENT);
	CHECK_IS(call_send(liar.fd, some, UNREAD, MSG_DONTWAIT), UNREAD);
	CHECK_IS(atomic_load(&liar.stream->own->tail), SENT + UNREAD);
	others_open(&others, &liar);
	others_go_on(&others);
	fence();
	lie->tell(&liar);
}

static void tear_down(void)
{
	others_go_on(&others);
	check_fence();
	CHECK_IS(nn_close(liar.fd), 0);
	others_go_on(&others);
	check_fence();
}

/* Sends until nothing more is taken: what was, and the outcome that ended it. TCP takes what it likes. */
static long send_all(int flags, long *outcome)
{
	long total = 0;

	while (total < 1 << 20 && (*outcome = call_send(liar.fd, some, 333, flags)) > 0)
		total += *outcome;
	return total;
}

static void check_sent(long total, long outcome)
{
	if (lie->most) {
		CHECK(total <= lie->most);
		CHECK_IS(outcome, -EAGAIN);
	} else {
		CHECK(outcome > 0 || outcome == -EAGAIN || outcome == -ECONNRESET || outcome == -EPIPE);
	}
}

static void calls(void)
{
	long outcome, total;
	int value;
	struct nn_io io;

	set_up();
	nn_outq(&io, liar.fd, &value);
	total = send_all(MSG_DONTWAIT, &outcome);
	check_sent(total, outcome);
	total += send_all(MSG_DONTWAIT, &outcome);
	check_sent(total, outcome);
	if (lie->most && !lie->fewer)
		CHECK_IS(total, lie->most); /* all there is room for is had */
	tear_down();
}

static void blocks(void)
{
	struct timespec begun, ended;
	long outcome;

	set_up();
	set_timeout(liar.fd, SO_SNDTIMEO, 200);
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &begun);
	send_all(0, &outcome); /* what finds no room for a while goes by TCP */
	CHECK(outcome > 0 || outcome == -EAGAIN || outcome == -ECONNRESET || outcome == -EPIPE);
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ended);
	CHECK((ended.tv_sec - begun.tv_sec) * 1000 + (ended.tv_nsec - begun.tv_nsec) / 1000000 < 100);
	tear_down();
}

static void polls(void)
{
	unsigned promises = 0;

	set_up();
	for (int look = 0; look < 8; look++) {
		struct pollfd fd = {.fd = liar.fd, .events = POLLIN | POLLOUT};
		static const struct timespec now;
		struct nn_io io;
		char byte = 0;
		long outcome;

		if (nn_poll(&io, &fd, 1, &now, NULL) == NN_RAW)
			CHECK(poll(&fd, 1, 0) >= 0);
		if (fd.revents & POLLOUT)
			promises += send_all(MSG_DONTWAIT, &outcome) == 0 && outcome == -EAGAIN;
		else if (fd.revents)
			promises += call_recv(liar.fd, &byte, 1, MSG_DONTWAIT) == -EAGAIN &&
				    call_send(liar.fd, some, 1, MSG_DONTWAIT) == -EAGAIN;
	}
	CHECK(promises < 2);
	tear_down();
}

static void hangs_up(void)
{
	const struct linger reset = {1, 0};
	long outcome;

	set_up();
	setsockopt(liar.peer_fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
	close(liar.peer_fd);
	send_all(0, &outcome);
	CHECK(outcome == -EPIPE || outcome == -ECONNRESET);
	tear_down();
}

static const struct situation situations[] = {{"calls", calls}, {"blocks", blocks}, {"polls", polls}, {"hangs_up", hangs_up}};
#define SITUATIONS (sizeof situations / sizeof *situations)

LIAR_MAIN
