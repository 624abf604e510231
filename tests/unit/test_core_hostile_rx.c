/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Receiving from a peer that lies. Whatever it writes, calls come back in time, deliver nothing from beside the ring, spin for
 * nothing, and other streams go on. Every lie is told in every one of these situations:
 *
 *   calls    that do not block: the verdict
 *   peeks    before it reads
 *   blocks   a recv with a time limit, which must not burn the processor either
 *   polls    what is called ready must not turn out to be EAGAIN, time and again
 *   hangs up the liar's socket closes: then a recv without limit ends, too
 */
#include "core_liar.h"

enum verdict {
	RESET,  /* ECONNRESET, after at most what was plausible */
	ENDS,	/* as if reset after its end: readers are told of the end */
	SILENT, /* nothing comes, as from a peer that has nothing to say */
	EITHER, /* one of these */
};

struct lie {
	const char *name;
	enum verdict verdict;
	bool on_tcp; /* no ring so far, and ten bytes in the kernel */
	void (*tell)(struct liar *liar);
};

#define TCP_BYTES 10
static struct liar liar;
static struct others others;

#define LIE(name) static void name(struct liar *l)
#define SET(field, value) atomic_store(&l->end->field, (value))
#define ADD(field, value) atomic_fetch_add(&l->end->field, (value))
#define GOOD (LIAR_AT | LIAR_LOG2)

/* ---- tail and flags */
LIE(tail_one_too_far) { SET(tail, LIAR_HEAD + LIAR_RING + 1); }
LIE(tail_at_the_end_of_numbers) { SET(tail, UINT64_MAX); }
LIE(tail_one_back) { SET(tail, LIAR_HEAD - 1); }
LIE(tail_zero) { SET(tail, 0); }
LIE(tail_back_and_fin) { SET(tail, LIAR_HEAD - 1); SET(tx_flags, END_FIN); }
LIE(tail_back_and_reset) { SET(tail, LIAR_HEAD - 1); SET(tx_flags, END_RESET); }
LIE(tail_back_and_closed) { SET(tail, LIAR_HEAD - 1); SET(tx_flags, END_FIN | END_CLOSED | END_RESET); }
LIE(flags_all) { SET(tx_flags, ~0ull); }
LIE(flags_reset_alone) { SET(tx_flags, END_RESET); }
LIE(flags_final_on_a_ring) { SET(tx_flags, END_FINAL); }
LIE(flags_unknown) { SET(tx_flags, 0xfffffffffffffff0ull); }

/* ---- epochs */
LIE(epoch_four_on) { ADD(epoch, END_SEGMENTS); }
LIE(epoch_four_on_again) { liar_publish(l, 2, LIAR_HEAD, GOOD); SET(epoch, 5); } /* its slot is another segment's by now */
LIE(epoch_last_of_all) { SET(epoch, UINT64_MAX); }
LIE(epoch_back) { SET(epoch, 0); }
LIE(epoch_far_and_fin) { SET(epoch, 1ull << 40); SET(tx_flags, END_FIN); }

/* ---- where a segment starts */
LIE(start_before_head) { liar_publish(l, 2, LIAR_HEAD - 1, GOOD); }
LIE(start_zero) { liar_publish(l, 2, 0, GOOD); }
LIE(start_before_head_outside) { liar_publish(l, 2, LIAR_HEAD - 1, SEGMENT_OUTSIDE); }
LIE(start_beyond_tail) { liar_publish(l, 2, LIAR_HEAD + 50, GOOD); }
LIE(start_beyond_tail_outside) { liar_publish(l, 2, LIAR_HEAD + 50, SEGMENT_OUTSIDE); }
LIE(start_at_the_end_of_numbers) { liar_publish(l, 2, UINT64_MAX, GOOD); }
LIE(start_beyond_the_ring) { SET(tail, LIAR_HEAD + 2 * LIAR_RING); liar_publish(l, 2, LIAR_HEAD + LIAR_RING + 1, GOOD); }
LIE(segments_out_of_order)
{
	SET(segments[3].start, LIAR_HEAD - 50);
	SET(segments[3].where, GOOD);
	liar_publish(l, 2, LIAR_HEAD, GOOD);
	SET(epoch, 3);
}

/* ---- where it lies */
LIE(where_is_the_header) { liar_publish(l, 2, LIAR_HEAD, 12); }
LIE(where_is_an_end_block) { liar_publish(l, 2, LIAR_HEAD, offsetof(struct region, ends) | 12); }
LIE(where_is_beyond) { liar_publish(l, 2, LIAR_HEAD, LIAR_REGION | 12); }
LIE(where_is_far_beyond) { liar_publish(l, 2, LIAR_HEAD, 0xfffffffffffff000ull | 12); }
LIE(where_overlaps_the_end) { liar_publish(l, 2, LIAR_HEAD, (LIAR_REGION - LIAR_RING) | 13); }
LIE(where_log2_small) { liar_publish(l, 2, LIAR_HEAD, LIAR_AT | 11); }
LIE(where_log2_40) { liar_publish(l, 2, LIAR_HEAD, LIAR_AT | 40); }
LIE(where_log2_64) { liar_publish(l, 2, LIAR_HEAD, LIAR_AT | 64); }
LIE(where_log2_of_all_ones) { liar_publish(l, 2, LIAR_HEAD, LIAR_AT | SEGMENT_LOG2_MASK); }

/* ---- on TCP */
LIE(tcp_first_where_invalid) { liar_publish(l, 1, TCP_BYTES, 12); }
LIE(tcp_first_epoch_far) { SET(epoch, 9); }
LIE(tcp_segment_never_reached) { SET(tail, 1100); liar_publish(l, 1, 1000, GOOD); }
LIE(tcp_segment_in_the_middle) { SET(tail, 50); liar_publish(l, 1, 5, GOOD); }
LIE(tcp_tail_without_a_ring) { SET(tail, 1ull << 50); }
LIE(tcp_final_before_its_start) { SET(tx_flags, END_FINAL); liar_publish(l, 1, 1000, SEGMENT_OUTSIDE); }

/* ---- asked to send again by TCP, with 50 bytes unread */
static void ask(struct liar *l)
{
	SET(tail, LIAR_HEAD + 50);
	stream_outside(l->stream, NN_REASON_CALL, OUTSIDE_RX);
	CHECK(rx_taken(l->stream));
	CHECK_IS(atomic_load(&l->stream->own->frozen), LIAR_HEAD);
}

LIE(again_from_too_early) { ask(l); liar_publish(l, 2, LIAR_HEAD - 1, SEGMENT_OUTSIDE); }
LIE(again_but_nothing_comes) { ask(l); liar_publish(l, 2, LIAR_HEAD, SEGMENT_OUTSIDE); SET(tx_flags, END_FINAL); }
LIE(again_but_elsewhere) { ask(l); liar_publish(l, 2, LIAR_HEAD, 0xfffffffffffff000ull | 12); }
LIE(again_what_was_read)
{
	char bytes[50];

	ask(l);
	CHECK_IS(call_recv(l->fd, bytes, sizeof bytes, MSG_DONTWAIT), 50);
	liar_publish(l, 2, LIAR_HEAD, SEGMENT_OUTSIDE); /* but nothing comes that could be dropped */
	SET(tx_flags, END_FINAL);
}

/* ---- words of the other direction */
LIE(attached_to_everything) { SET(attach[0], ~0ull); SET(attach[1], ~0ull); SET(space_at, 1); }
LIE(another_cookie) { SET(cookie, 1); }

#define ON_RING(lie, verdict) {#lie, verdict, false, lie}
#define ON_TCP(lie, verdict) {#lie, verdict, true, lie}
static const struct lie lies[] = {
	ON_RING(tail_one_too_far, RESET), ON_RING(tail_at_the_end_of_numbers, RESET), ON_RING(tail_one_back, EITHER),
	ON_RING(tail_zero, EITHER), ON_RING(tail_back_and_fin, RESET), ON_RING(tail_back_and_reset, RESET),
	ON_RING(tail_back_and_closed, RESET), ON_RING(flags_all, ENDS), ON_RING(flags_reset_alone, RESET),
	ON_RING(flags_final_on_a_ring, EITHER), ON_RING(flags_unknown, SILENT), ON_RING(epoch_four_on, RESET),
	ON_RING(epoch_four_on_again, RESET), ON_RING(epoch_last_of_all, RESET), ON_RING(epoch_back, RESET), ON_RING(epoch_far_and_fin, RESET),
	ON_RING(start_before_head, RESET), ON_RING(start_zero, RESET), ON_RING(start_before_head_outside, EITHER),
	ON_RING(start_beyond_tail, EITHER), ON_RING(start_beyond_tail_outside, EITHER),
	ON_RING(start_at_the_end_of_numbers, EITHER), ON_RING(start_beyond_the_ring, RESET),
	ON_RING(segments_out_of_order, RESET), ON_RING(where_is_the_header, RESET), ON_RING(where_is_an_end_block, RESET),
	ON_RING(where_is_beyond, RESET), ON_RING(where_is_far_beyond, RESET), ON_RING(where_overlaps_the_end, RESET),
	ON_RING(where_log2_small, RESET), ON_RING(where_log2_40, RESET), ON_RING(where_log2_64, RESET),
	ON_RING(where_log2_of_all_ones, RESET), ON_RING(again_from_too_early, EITHER), ON_RING(again_but_nothing_comes, EITHER),
	ON_RING(again_but_elsewhere, RESET), ON_RING(again_what_was_read, EITHER), ON_RING(attached_to_everything, SILENT),
	ON_RING(another_cookie, SILENT), ON_TCP(tcp_first_where_invalid, RESET), ON_TCP(tcp_first_epoch_far, RESET),
	ON_TCP(tcp_segment_never_reached, EITHER), ON_TCP(tcp_segment_in_the_middle, EITHER),
	ON_TCP(tcp_tail_without_a_ring, EITHER), ON_TCP(tcp_final_before_its_start, EITHER),
};
#define LIES (sizeof lies / sizeof *lies)

/* ---- situations */

static const struct lie *lie;

static void set_up(void)
{
	core_start(LIAR_RING, LIAR_RING);
	liar_open(&liar);
	if (lie->on_tcp)
		CHECK_IS(write(liar.peer_fd, "tttttttttt", TCP_BYTES), TCP_BYTES);
	else
		liar_rings(&liar);
	others_open(&others, &liar);
	others_go_on(&others);
	lie->tell(&liar);
}

static void tear_down(void)
{
	others_go_on(&others);
	CHECK_IS(nn_close(liar.fd), 0);
	others_go_on(&others);
}

/* One recv of whatever is plausible. 1: there may be more. Else 0 or -errno. */
static long receive(int flags)
{
	static char bytes[16 * LIAR_RING];
	static size_t total;
	long got = call_recv(liar.fd, bytes, sizeof bytes, flags);

	for (long i = 0; i < got; i++)
		CHECK(bytes[i] == LIAR_BYTE || (lie->on_tcp && bytes[i] == 't'));
	if (got > 0 && !(flags & MSG_PEEK))
		total += (size_t)got;
	CHECK(total <= 2 * LIAR_RING);
	return got > 0 ? 1 : got;
}

/* The outcome after the last byte. */
static long receive_all(int flags)
{
	long outcome;

	for (int calls = 0; (outcome = receive(flags)) > 0; calls++)
		CHECK(calls < 100);
	return outcome;
}

static void check_outcome(long outcome)
{
	if (lie->verdict != EITHER || outcome != -EAGAIN)
		CHECK_IS(outcome, lie->verdict == SILENT ? -EAGAIN : lie->verdict == ENDS ? 0 : -ECONNRESET);
}

static void calls(void)
{
	set_up();
	CHECK(call_inq(liar.fd) <= (long)(2 * LIAR_RING));
	long outcome = receive_all(MSG_DONTWAIT);
	check_outcome(outcome);
	/* No different when asked again; TCP tells of a reset once, then of the end. */
	long again = receive_all(MSG_DONTWAIT);
	CHECK(again == outcome || (again == 0 && outcome == -ECONNRESET));
	tear_down();
}

static void peeks(void)
{
	set_up();
	long outcome = receive(MSG_DONTWAIT | MSG_PEEK);
	if (outcome <= 0)
		check_outcome(outcome);
	receive(MSG_DONTWAIT | MSG_PEEK);
	receive_all(MSG_DONTWAIT);
	tear_down();
}

static long cpu_ms(void)
{
	struct timespec used;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
	return used.tv_sec * 1000 + used.tv_nsec / 1000000;
}

static void blocks(void)
{
	set_up();
	set_timeout(liar.fd, SO_RCVTIMEO, 200);
	long begun = cpu_ms();
	check_outcome(receive_all(0));
	CHECK(cpu_ms() - begun < 100);
	tear_down();
}

static void polls(void)
{
	set_up();
	for (int look = 0; look < 8; look++) {
		struct pollfd fd = {.fd = liar.fd, .events = POLLIN | POLLOUT};
		static const struct timespec now;
		struct nn_io io;

		if (nn_poll(&io, &fd, 1, &now, NULL) == NN_RAW)
			CHECK(poll(&fd, 1, 0) >= 0);
		/* The kernel alone may call something ready that is none of ours yet: once. */
		if (!(fd.revents & (POLLIN | POLLERR | POLLHUP)) || receive_all(MSG_DONTWAIT) != -EAGAIN) {
			tear_down();
			return;
		}
	}
	CHECK(!"ready, and yet EAGAIN, for ever");
}

static void hangs_up(void)
{
	set_up();
	close(liar.peer_fd);
	long outcome = receive_all(0);
	CHECK(outcome == 0 || outcome == -ECONNRESET);
	tear_down();
}

static const struct situation situations[] = {{"calls", calls}, {"peeks", peeks}, {"blocks", blocks}, {"polls", polls}, {"hangs_up", hangs_up}};
#define SITUATIONS (sizeof situations / sizeof *situations)

LIAR_MAIN
