/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The switch: a conversation moves between TCP and rings at agreed byte offsets, and ends. Checked by SPIN.
 *
 * Parties. End x (0 or 1) is a process with two threads: Tx(x) sends direction x, Rx(1-x) receives the other one. A
 * direction is called by its sender: tail[0] is in the memory of end 0, head[0] in that of end 1. The words are those
 * of arena/format.h, every access to one is a step of its own, and each has one writer:
 *
 *   model                               format.h                        writer
 *   tail[d], tx_flags[d], epoch[d]      end_block line 0                Tx(d)
 *   seg_start[], seg_where[]            end_block.segments, slot e % 4  Tx(d)
 *   head[d], acked[d], rx_flags[d],     end_block lines 2 and 3 of      Rx(d)
 *   frozen[d]                           the other end
 *   ring[]                              rings; where = SMALL or BIG     Tx(d)
 *   FIN CLOSED RESET FINAL READY WANT   END_FIN ... END_WANT_OUTSIDE
 *
 * TCP is tcp[d] (bytes on their way, at most CAP), tcp_fin[d] and tcp_rst[d] (what end d sent last) and tcp_gone[x] (end
 * x holds no socket any more). A byte's value is its offset, so a receiver that asserts "the byte I got is my offset"
 * asserts that nothing is lost, doubled or reordered. A ring is overwritten with JUNK as soon as its receiver has left
 * it, which is the soonest a sender may free it. The ghost sent[d] counts what was sent: bytes below a published
 * tail, and bytes TCP has taken.
 *
 * Rules of the sender
 *   S1  A segment is written to its slot before the epoch that names it; bytes before the tail that covers them; the
 *       tail before FIN; FIN before TCP's shutdown.
 *   S2  Up and growing want READY, acked == epoch, and no write to TCP in flight in another thread.
 *   S3  Down is free: in a ring at most one epoch is unacknowledged (S2), so there are never more than two.
 *   S4  Asked to go outside (WANT), a sender whose newest segment is a ring publishes a last segment that begins at
 *       max(frozen, head, what it gave to TCP) and sends the bytes from there to the tail again. Not at `frozen`: a
 *       receiver that has not yet reached the ring has the bytes before it in TCP's queue, and one that has tired of
 *       waiting has read on, maybe out of a ring that is freed by now. A sender that is outside already cannot
 *       repeat anything (later bytes may be in TCP) and just says FINAL.
 *   S5  It does not shut down or close before what it sends again has all gone to TCP.
 *   S6  A sender that finds the ring full after the peer has sent FIN goes down instead of sleeping: the kernel says
 *       nothing more when a process dies whose FIN it has already sent. Only a byte on TCP brings the reset.
 *   S7  The peer is gone when it says CLOSED, when TCP says reset, or when TCP says FIN and its flags do not.
 *   S8  A sender that leaves for good takes along what is unread, if its newest segment is a ring that the receiver has entered: it
 *       publishes a last segment outside at the head and sends again from there, as if asked.
 *   S9  A sender whose ring stalls does the same, from the head or where its newest ring begins, but may go up again when all of it has gone
 *       to TCP.
 *
 * Rules of the receiver
 *   R1  READY only when no read that knows nothing of segments is under way.
 *   R2  It is in the newest segment that starts at or before rx, and acknowledges what it enters. When that start lies
 *       before rx (bytes sent again that it took from the ring meanwhile), it drops that many bytes.
 *   R3  Ring: tail first, then epoch; no further than the next start; head after the copy.
 *   R4  Outside: count TCP's bytes, then epoch; take no more than counted and no further than the next start.
 *   R5  FIN, in flags or on TCP, then tail and epoch once more, then EOF.
 *   R6  FIN on TCP without FIN in flags: the peer died. It is a reset when it left bytes of mine unread in the ring.
 *   R7  WANT after `frozen`. Answered are FINAL, FIN and an end of TCP. Then, if no byte it still needs lies in a
 *       ring, it enters the last segment and lets the fd go: whoever has it reads TCP alone. Else it must read on.
 *
 *   R8  It enters no later segment before it has dropped what comes twice.
 *
 * Every wait is on a condition that somebody else makes true: that a sleeper is woken is shown in sleep.pml. The state
 * graph has no cycle (`check` verifies that as well), hence every run ends; every end that is not stuck has delivered
 * all: "eventually" comes without an appeal to fairness.
 *
 * Known limit, excepted in `excused` below: a sender killed while it sends again loses what it had not yet repeated.
 *
 * Sizes: -DCOARSE (fewer, larger steps), -DNDIR=1|2 directions, -DTOTAL bytes in each, -DSW switches of the sender's free will, -DCAP.
 * Features: -DRAW (starts before READY), -DGROW, -DCLOSE, -DKILL0, -DKILL1 (that end dies at any step), -DWANT=times
 * the receiver asks, -DLEAVE (the sender may leave with what is unread), -DSPILL (it may stall), -DGIVEUP (it may tire of waiting and read on), -DSPARE (NDIR=1: TCP may hold a byte the sender
 * never read, the receiver may have sent FIN), -DEARLY (the application may write less than TOTAL).
 * -DBREAK_... breaks one rule; `check` wants SPIN to find out.
 */
#ifndef NDIR
#define NDIR 1
#endif
#ifndef TOTAL
#define TOTAL 4
#endif
#ifndef SW
#define SW 3
#endif
#ifndef CAP
#define CAP 2
#endif

#define OUTSIDE 0
#define SMALL 1
#define BIG 2
#define RING_SIZE(w) (2 * (w))
#define RING(d, w, o) ring[(d) * 6 + ((w) - 1) * 2 + (o) % RING_SIZE(w)]
#define JUNK 254
#define NEVER 255

#define FIN 1
#define CLOSED 2
#define RESET 4
#define FINAL 8
#define READY 1
#define WANTS 2

#define SLOT(d, e) ((d) * 4 + (e) % 4)
#define START(d, e) seg_start[SLOT(d, e)]
#define WHERE(d, e) seg_where[SLOT(d, e)]
#define MAX(a, b) ((a) > (b) -> (a) : (b))
#define MIN(a, b) ((a) < (b) -> (a) : (b))

byte tail[2], tx_flags[2], epoch[2], seg_start[8], seg_where[8];
byte head[2], acked[2], rx_flags[2], frozen[2];
byte ring[12];

chan tcp[2] = [CAP] of { byte };
bit tcp_fin[2], tcp_rst[2], tcp_gone[2];

bit dead[2], closed[2]; /* the threads of end x stop */
/* Ghosts. */
byte sent[2];
bit repeating[2]; /* bytes of a ring still have to go to TCP */
bit lost[2];      /* TCP threw bytes away, as it does after a reset */
bit rude[2];      /* end x went, without FIN before, while its ring held bytes it had not read */

/* What the kernel does when the last fd of end x is closed. */
inline kernel_close(x)
{
	tcp_gone[x] = 1;
	if
	:: len(tcp[1 - x]) > 0 ->
		tcp_rst[x] = 1;
		do
		:: len(tcp[1 - x]) > 0 -> tcp[1 - x]?_
		:: else -> break
		od
	:: else -> tcp_fin[x] = 1
	fi
}

/* After a reset TCP may or may not still deliver. */
inline maybe_lose(x)
{
	if
	:: tcp_rst[x] && len(tcp[x]) > 0 ->
		lost[x] = 1;
		do
		:: len(tcp[x]) > 0 -> tcp[x]?_
		:: else -> break
		od
	:: true
	fi
}

/* With -DCOARSE a receiver looks, takes and acknowledges in one step (it yields where it waits); segments are published
 * in one. The steps are interleaved one by one where a single direction is checked. */
#ifdef COARSE
#define LOOK_BEGIN atomic {
#define LOOK_END }
#else
#define LOOK_BEGIN
#define LOOK_END
#endif

#define PEER_GONE(x) ((tx_flags[1 - (x)] & CLOSED) || tcp_rst[1 - (x)] || (tcp_fin[1 - (x)] && !(tx_flags[1 - (x)] & FIN)))

#define NOW WHERE(d, epoch[d])
#define USED (N - MAX(head[d], START(d, epoch[d])))
#define ROOM (RING_SIZE(NOW) - USED)

#ifdef BREAK_UP_WITHOUT_ACK
#define ACKED (epoch[d] - acked[d] < 2)
#else
#define ACKED (acked[d] == epoch[d])
#endif
#ifdef BREAK_UP_IN_FLIGHT
#define QUIET (wr == N)
#else
#define QUIET (wr == N && !inflight)
#endif

/* S1: the slot, then the epoch. */
inline publish_segment(s, w)
{
	LOOK_BEGIN
#ifdef BREAK_EPOCH_BEFORE_SLOT
	epoch[d] = epoch[d] + 1;
	d_step {
		START(d, epoch[d]) = s;
		WHERE(d, epoch[d]) = w
	}
#else
	d_step {
		START(d, epoch[d] + 1) = s;
		WHERE(d, epoch[d] + 1) = w
	};
	epoch[d] = epoch[d] + 1
#endif
	LOOK_END
	assert(epoch[d] - acked[d] <= 2) /* S3: the receiver's next slot still stands */
}

inline spoil(w)
{
	RING(d, w, 0) = JUNK;
	RING(d, w, 1) = JUNK;
	if
	:: w == BIG ->
		RING(d, w, 2) = JUNK;
		RING(d, w, 3) = JUNK
	:: else
	fi
}

proctype Tx(byte d)
{
	byte N;  /* bytes taken from the application */
	byte wr; /* next byte to write; behind N while bytes are sent again */
	byte given; /* TCP has all bytes of its segments below this */
	byte n, sw, old;
	byte total = TOTAL; /* the application will write so much, and insists */
	bit inflight; /* a write to TCP has not returned yet */
	bit reset;
	{
#ifdef EARLY
	select(total : 0 .. TOTAL);
#endif
	do
	/* Into the ring: copy, then publish. */
	:: atomic {
		NOW != OUTSIDE && N < total && !(tx_flags[d] & FIN) && ROOM > 0 ->
		if
		:: n = 1
		:: ROOM > 1 && N + 2 <= total -> n = 2
		fi
	   };
#ifdef BREAK_TAIL_BEFORE_COPY
	   d_step { tail[d] = N + n; sent[d] = N + n };
#endif
#ifdef BREAK_FIN_BEFORE_TAIL
	   if
	   :: N + n == total -> tx_flags[d] = tx_flags[d] | FIN
	   :: else
	   fi;
#endif
	   d_step {
		RING(d, NOW, N) = N;
		if
		:: n == 2 -> RING(d, NOW, N + 1) = N + 1
		:: else
		fi
	   };
	   d_step { N = N + n; wr = N; n = 0; tail[d] = N; sent[d] = N }
#ifdef BREAK_FIN_BEFORE_TAIL
	   ;
	   if
	   :: tx_flags[d] & FIN -> tcp_fin[d] = 1; break
	   :: else
	   fi
#endif

	/* To TCP: the kernel takes the byte, later the call returns and the sender knows. */
	:: atomic {
		NOW == OUTSIDE && !inflight && !(tx_flags[d] & FIN) && (wr < N || N < total) && (nfull(tcp[d]) || tcp_gone[1 - d]) ->
		if
		:: wr < N ->
			/* Again, out of the ring it lies in: the newest, or the one before where that is a ring too. */
			old = epoch[d] - 1;
			if
			:: wr < START(d, old) -> old--
			:: else
			fi;
			assert(WHERE(d, old) != OUTSIDE);
			assert(RING(d, WHERE(d, old), wr) == wr);
			old = 0
		:: else
		fi;
		if
		:: tcp_gone[1 - d] -> tcp_rst[1 - d] = 1
		:: else -> tcp[d]!wr; sent[d] = MAX(sent[d], wr + 1)
		fi;
		inflight = 1
	   }
	:: d_step {
		inflight ->
		inflight = 0;
		wr++;
		N = MAX(N, wr);
#ifdef BREAK_REPEAT_OUT_OF_ORDER
		wr = (repeating[d] && WHERE(d, epoch[d] - 1) == OUTSIDE && wr == START(d, epoch[d] - 1) -> N : wr);
#endif
		given = wr;
		repeating[d] = (wr < N)
	   }

	/* Up, or from a ring to a bigger one. */
	:: atomic {
		NOW == OUTSIDE && (rx_flags[d] & READY) && ACKED && QUIET && sw < SW &&
		!(rx_flags[d] & WANTS) && !(tx_flags[d] & (FINAL | FIN)) -> sw++
	   };
	   publish_segment(N, SMALL)
#ifdef GROW
	:: atomic { NOW == SMALL && ACKED && sw < SW && !(rx_flags[d] & WANTS) && !(tx_flags[d] & FIN) -> sw++ };
#ifdef BREAK_FREE_BEFORE_ACK
	   d_step { spoil(SMALL) };
#endif
	   publish_segment(N, BIG)
#endif
	/* Down, of its own will or because a full ring would hide the peer's death (S6). */
	:: atomic {
		NOW != OUTSIDE && !(tx_flags[d] & FIN) && sw < SW -> sw++
	   };
	   publish_segment(N, OUTSIDE)
#ifndef BREAK_SLEEP_AFTER_PEER_FIN
	:: NOW != OUTSIDE && !(tx_flags[d] & FIN) && N < total && ROOM == 0 && (tx_flags[1 - d] & FIN) ->
	   publish_segment(N, OUTSIDE)
#endif

#ifdef LEAVE
	/* S8 */
	:: atomic {
#ifdef BREAK_LEAVE_UNENTERED
		NOW != OUTSIDE && head[d] < N && !(tx_flags[d] & (FINAL | FIN)) ->
#else
		NOW != OUTSIDE && acked[d] == epoch[d] && head[d] >= START(d, epoch[d]) && head[d] < N && !(tx_flags[d] & (FINAL | FIN)) ->
#endif
		wr = head[d];
		repeating[d] = 1
	   };
	   publish_segment(wr, OUTSIDE);
	   tx_flags[d] = tx_flags[d] | FINAL
#endif

#ifdef SPILL
	/* S9 */
	:: atomic {
		NOW != OUTSIDE && wr == N && head[d] < N && sw < SW && !(rx_flags[d] & WANTS) && !(tx_flags[d] & (FINAL | FIN)) ->
		sw++;
		wr = head[d];
		if
#ifndef BREAK_SPILL_BEFORE_RING
		:: wr < START(d, epoch[d]) && (ACKED || WHERE(d, epoch[d] - 1) == OUTSIDE) -> wr = START(d, epoch[d])
#endif
		:: else
		fi;
		repeating[d] = (wr < N)
	   };
	   publish_segment(wr, OUTSIDE)
#endif

#ifdef WANT
	/* S4 */
	:: (rx_flags[d] & WANTS) && !(tx_flags[d] & (FINAL | FIN)) ->
	   if
	   :: NOW != OUTSIDE ->
#ifdef BREAK_REPEAT_FROM_FROZEN
		d_step { wr = MIN(frozen[d], N); repeating[d] = (wr < N) };
#else
#ifdef BREAK_REPEAT_FORGETS_HEAD
		d_step { wr = MAX(frozen[d], given); repeating[d] = (wr < N) };
#else
		d_step { wr = MAX(frozen[d], given); wr = MAX(wr, head[d]); repeating[d] = (wr < N) };
#endif
#endif
		publish_segment(wr, OUTSIDE)
	   :: else
#ifdef BREAK_REPEAT_OUT_OF_ORDER
		/* Repeats although later bytes may be in TCP already. */
		if
		:: frozen[d] < START(d, epoch[d]) && WHERE(d, epoch[d] - 1) == SMALL && frozen[d] >= START(d, epoch[d] - 1) &&
		   !inflight && acked[d] == epoch[d] - 1 && wr == N ->
			d_step { wr = frozen[d]; repeating[d] = 1 };
			publish_segment(wr, OUTSIDE)
		:: else
		fi
#endif
	   fi;
	   tx_flags[d] = tx_flags[d] | FINAL
#endif

	/* Half-close. */
#ifdef BREAK_FIN_WHILE_REPEATING
	:: N == total && !inflight && !(tx_flags[d] & FIN) ->
#else
	:: N == total && wr == N && !inflight && !(tx_flags[d] & FIN) ->
#endif
#ifdef BREAK_SHUTDOWN_BEFORE_FLAG
	   tcp_fin[d] = 1;
	   tx_flags[d] = tx_flags[d] | FIN
#else
	   tx_flags[d] = tx_flags[d] | FIN;
	   tcp_fin[d] = 1
#endif
#ifndef CLOSE
	   break
#else
	:: wr == N && !inflight ->
	   d_step {
		closed[d] = 1; /* stops the thread that receives */
		reset = (tail[1 - d] > head[1 - d]);
		rude[d] = (reset && !(tx_flags[d] & FIN))
	   };
#ifdef BREAK_CLOSE_HIDES_UNREAD
	   reset = 0;
#endif
	   tx_flags[d] = tx_flags[d] | FIN | CLOSED | (reset -> RESET : 0);
	   atomic { kernel_close(d); maybe_lose(d) };
	   break
#endif

	/* S7: send fails. */
	:: !inflight && PEER_GONE(d) -> break
	od
	} unless { dead[d] }
}

/* end = where this segment ends by what `ep` tells, e = the segment rx is in (R2). */
inline find_segment()
{
	end = NEVER;
	e = er;
	n = er + 1;
	do
	:: n <= ep ->
		if
#ifdef BREAK_ENTER_BEFORE_DROPPED
		:: START(d, n) <= rx -> e = n; end = NEVER
#else
		:: START(d, n) <= rx && skip_bytes == 0 -> e = n; end = NEVER
#endif
		:: else -> end = MIN(end, START(d, n))
		fi;
		n++
	:: else -> break
	od;
	n = 0
}

/* Acknowledges. The sender may from now on free the rings left behind; so they are spoilt, at the worst moment. */
inline enter_segment()
{
	if
	:: e != er ->
		d_step {
			er = e;
			assert(START(d, e) <= rx);
			skip_bytes = rx - START(d, e);
#if !defined(GIVEUP) && !defined(LEAVE) && !defined(SPILL)
			assert(skip_bytes == 0);
#endif
			acked[d] = e;
			if
			:: !repeating[d] ->
				if
				:: WHERE(d, e) != SMALL -> spoil(SMALL)
				:: else
				fi;
				if
				:: WHERE(d, e) != BIG -> spoil(BIG)
				:: else
				fi
			:: else
			fi
		}
	:: else
	fi
}

/* Takes n bytes from TCP, in one system call. */
inline take_tcp()
{
	do
	:: n > 0 && len(tcp[d]) > 0 ->
		tcp[d]?v;
		n--;
		if
		:: skip_bytes > 0 -> assert(v == rx - skip_bytes); skip_bytes--
		:: else -> assert(v == rx); rx++
		fi
	:: else -> n = 0; break
	od;
	v = 0
}

#ifdef WANT
#define MAY_WANT (wants < WANT && skip_bytes == 0)
#else
#define MAY_WANT false
#define NO_WANT
#endif
#ifdef BREAK_NO_EXCUSE_FOR_DEATH_WHILE_REPEATING
#define EXCUSED lost[d]
#else
#define EXCUSED (lost[d] || (dead[d] && repeating[d]))
#endif
#define TCP_OVER (tcp_fin[d] || tcp_rst[d])

proctype Rx(byte d)
{
	byte rx;     /* bytes received */
	byte er, ep; /* the segment I am in, the newest I know of */
	byte e, end, n, k, t, v, skip_bytes;
	byte wants;
	bit over, mine;
	{
#ifdef RAW
	/* Reads that know nothing of segments, until READY (R1). */
	do
	:: d_step { len(tcp[d]) > 0 -> n = 1; take_tcp() }
	:: d_step { len(tcp[d]) > 1 -> n = 2; take_tcp() }
	:: len(tcp[d]) == 0 && TCP_OVER -> goto ended
	:: true -> break
	od;
	head[d] = rx;
#endif
	rx_flags[d] = READY;
#ifdef BREAK_RAW_READ_AT_READY
	if
	:: true
	:: d_step { len(tcp[d]) > 0 -> n = 2; take_tcp() }; head[d] = rx
	fi;
#endif
	do
	:: WHERE(d, er) == OUTSIDE ->
		/* R4 */
		LOOK_BEGIN
		ep = epoch[d];
		d_step { k = len(tcp[d]); over = (k == 0 && TCP_OVER) };
#ifdef BREAK_NO_RECHECK_AFTER_FIN
		if
		:: over && er == ep -> goto ended
		:: else
		fi;
#endif
#ifndef BREAK_NO_EPOCH_RECHECK
		ep = epoch[d];
#endif
		d_step { find_segment() };
		if
		:: e == er && over -> /* R5: nothing newer to enter */
			assert(end == NEVER || EXCUSED);
			goto ended
		:: e == er && !over && k > 0 ->
#ifdef BREAK_MORE_THAN_COUNTED
			d_step { n = MIN(CAP, end - rx + skip_bytes); take_tcp(); find_segment() };
#else
			atomic {
				n = MIN(k, end - rx + skip_bytes);
				if
				:: n > 1 -> n = 1
				:: true
				fi;
				d_step { take_tcp(); find_segment() }
			};
#endif
			head[d] = rx
		:: e == er && !over && k == 0 ->
			if
			:: len(tcp[d]) > 0 || TCP_OVER || epoch[d] != ep
			:: MAY_WANT -> goto want
			fi
		:: e != er
		fi;
		enter_segment();
		d_step { k = 0; over = 0; e = 0; end = 0 }
		LOOK_END

	:: WHERE(d, er) != OUTSIDE ->
		/* R3 */
		LOOK_BEGIN
#ifdef BREAK_EPOCH_BEFORE_TAIL
		ep = epoch[d];
		t = tail[d];
#else
		t = tail[d];
		ep = epoch[d];
#endif
		d_step { find_segment(); t = MIN(t, end) };
		if
		:: e == er && t > rx ->
			atomic {
				n = t - rx;
				if
				:: n > 1 -> n = 1
				:: true
				fi
			};
#ifdef BREAK_HEAD_BEFORE_COPY
			head[d] = rx + n;
#endif
			d_step {
				do
				:: n > 0 ->
					assert(RING(d, WHERE(d, er), rx) == rx);
					rx++;
					n--
				:: else -> break
				od;
				find_segment()
			};
			head[d] = rx
		:: e == er && t <= rx ->
			/* Empty. R5: FIN first, then another look. */
			if
			:: (tx_flags[d] & FIN) || TCP_OVER ->
#ifdef BREAK_NO_RECHECK_AFTER_FIN
				goto ended;
#endif
				t = tail[d];
				if
				:: t <= rx && epoch[d] == ep -> goto ended
				:: else
				fi
			:: else ->
				if
				:: tail[d] > rx || epoch[d] != ep || (tx_flags[d] & FIN) || TCP_OVER
				:: MAY_WANT -> goto want
				fi
			fi
		:: else
		fi;
		enter_segment();
		d_step { t = 0; e = 0; end = 0 }
		LOOK_END
#ifdef WANT
	/* R7 */
	:: MAY_WANT ->
want:		skip;
		d_step { wants++; k = 0; t = 0; e = 0; end = 0 };
		frozen[d] = rx;
		rx_flags[d] = READY | WANTS;
		if
		:: (tx_flags[d] & (FINAL | FIN)) || TCP_OVER -> over = 1
#ifdef GIVEUP
		:: true
#endif
		fi;
		ep = epoch[d];
		d_step {
			find_segment();
			/* Does a byte that I still need lie in a ring? */
			over = over && WHERE(d, ep) == OUTSIDE && (e == ep || WHERE(d, e) == OUTSIDE);
			n = e + 1;
			do
			:: n < ep ->
				over = over && (WHERE(d, n) == OUTSIDE || START(d, n) >= START(d, n + 1));
				n++
			:: else -> break
			od;
			n = 0;
#ifdef BREAK_LEAVE_WITH_BYTES_IN_RING
			over = 1;
#endif
			if
			:: over && (er == 0 || START(d, ep) >= rx) -> e = ep
			:: else -> over = 0
			fi
		};
		if
		:: over ->
			er = e;
			acked[d] = e;
			break
		:: else ->
			rx_flags[d] = READY;
			d_step { over = 0; e = 0; end = 0; ep = er /* look at it all again */ }
		fi
#endif
#ifdef NO_WANT
	:: false ->
want:		skip
#endif
	od;

	/* The fd has gone to somebody who reads TCP and knows nothing else. */
	do
	:: d_step { len(tcp[d]) > 0 -> n = 1; take_tcp() }
	:: len(tcp[d]) == 0 && TCP_OVER -> break
	od;
	assert(rx == sent[d] || EXCUSED);
	goto done;

ended:
	/* End of file, or reset. Either comes after all that was sent. */
	assert(rx == sent[d] || EXCUSED);
	/* R6 */
#ifndef BREAK_DEATH_HIDES_UNREAD
	mine = (!(tx_flags[d] & FIN) && tail[1 - d] > head[1 - d]);
#endif
	if
	:: (tx_flags[d] & RESET) || tcp_rst[d] || mine
	:: else -> assert(!rude[d])
	fi;
done:	skip
	} unless { dead[1 - d] || closed[1 - d] }
}

/* Death at any step: threads stop where they are, the kernel closes. */
proctype Killer(byte x)
{
	if
	:: true
	:: atomic {
		dead[x] = 1;
		rude[x] = (tail[1 - x] > head[1 - x] && !(tx_flags[x] & FIN) && !closed[x]);
		if
		:: !tcp_gone[x] -> kernel_close(x); maybe_lose(x)
		:: else
		fi
	   }
	fi
}

init {
	atomic {
#ifdef SPARE
		if
		:: tcp[1]!0
		:: true
		fi;
		if
		:: tx_flags[1] = FIN; tcp_fin[1] = 1
		:: true
		fi;
#endif
		run Tx(0);
		run Rx(0);
#if NDIR == 2
		run Tx(1);
		run Rx(1);
#endif
#ifdef KILL0
		run Killer(0);
#endif
#ifdef KILL1
		run Killer(1);
#endif
	}
}
