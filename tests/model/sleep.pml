/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Sleep and wake on a machine with store buffers (x86's TSO). Checked by SPIN.
 *
 * A writer fills a ring of SIZE bytes and sleeps when it is full; a reader drains it and sleeps when it is empty. Each
 * store goes into the queue of the processor that made it (buf[]) and reaches memory some time later, in order; a load
 * sees the newest store of its own queue, else memory. fence() waits until the own queue is empty. This is where the
 * protocol depends on more than release and acquire: each side stores one word and then loads the other's, and both
 * loads may miss both stores unless a full fence stands between them, on both sides.
 *
 *   model     format.h                            writer
 *   TAIL      end_block.tail                      writer
 *   FINISHED  END_FIN in end_block.tx_flags       writer; stands for all that is published for a sleeper to notice:
 *                                                 epoch and flags follow the same path as the tail
 *   HEAD      end_block.head                      reader
 *   ASLEEP_R  board_slot.asleep of the reader     reader: 0 awake, else the number of this sleep
 *   ASLEEP_W  board_slot.asleep of the writer     writer
 *   bell[]    the doorbell: stays rung until it is answered
 *   tcp_end[] TCP is readable: FIN or reset; wakes like a doorbell (one sleeps on both)
 *
 * Rules
 *   W1  The sleeper: asleep = a number never used before; fence; look again; block; asleep = 0.
 *   W2  The waker: publish; fence; load asleep; ring when it is not 0 and not the number it rang last: once a sleep.
 *   W3  The sleeping writer is writable again when used <= SIZE / 2. The reader rings when its head has passed a
 *       multiple of SIZE / 2. Whatever the tail, one such multiple lies where used <= SIZE / 2 holds and the ring is not
 *       yet empty or just so; and the rule needs no look at the tail. Deciding by the tail, the reader must load
 *       it after the fence (-DCROSS_BY_TAIL): with the tail it knew when it began to read it can miss the crossing
 *       (-DBREAK_STALE_TAIL), and the fence is due on every read.
 *   W4  A sleeper that finds the other end gone stops.
 *
 * -DKILL=W, -DKILL=R: that end dies at any step. What it stored does reach memory before TCP's FIN: the kernel has been entered.
 * Every run ends, and ends with all bytes received: there is no state without a successor, and no cycle.
 */
#ifndef TOTAL
#define TOTAL 6
#endif
#ifndef SIZE
#define SIZE 2
#endif

#define TAIL 0
#define FINISHED 1
#define HEAD 2
#define ASLEEP_R 3
#define ASLEEP_W 4

#define W 0
#define R 1

byte memory[5];
chan buf[2] = [3] of { byte, byte };
/* Each word as its writer sees it. A word has one writer, so one copy will do. */
byte own[5];
bit bell[2], tcp_end[2], dead[2], ended[2];

#define store(me, word, value) \
	atomic { \
		nfull(buf[me]) -> own[word] = value; buf[me]!word, own[word] \
	}
#define load(word) memory[word]
#ifdef BREAK_NO_FENCE
#define fence_w(me) skip
#define fence_s(me) skip
#elif defined(BREAK_NO_FENCE_OF_WAKER)
#define fence_w(me) skip
#define fence_s(me) empty(buf[me])
#elif defined(BREAK_NO_FENCE_OF_SLEEPER)
#define fence_w(me) empty(buf[me])
#define fence_s(me) skip
#else
#define fence_w(me) empty(buf[me])
#define fence_s(me) empty(buf[me])
#endif

#ifdef BREAK_SLEEP_NUMBER_REUSED
#define NEXT(seq) 1
#else
#define NEXT(seq) ((seq) + 1)
#endif

/* W2, after the fence. */
inline ring_bell(asleep_word, other)
{
	a = load(asleep_word);
	if
	:: a != 0 && a != rung ->
		atomic { rung = a; bell[other] = 1 }
	:: else
	fi;
	a = 0
}

proctype StoreBuffer(byte p)
{
	byte word, value;
end:	do
	:: d_step { buf[p]?word, value; memory[word] = value; word = 0; value = 0 }
	od
}

proctype Writer()
{
	byte N, seq, rung, a, h;
	{
	do
	:: N < TOTAL ->
		h = load(HEAD);
		if
		:: N - h < SIZE ->
			/* One byte or as many as fit. */
			atomic {
				if
				:: N = N + 1
				:: h + SIZE > N + 1 && TOTAL > N + 1 -> N = (h + SIZE < TOTAL -> h + SIZE : TOTAL)
				fi;
				h = 0
			};
			store(W, TAIL, N);
			fence_w(W);
			ring_bell(ASLEEP_R, R)
		:: else ->
			/* Full. */
			seq++;
			store(W, ASLEEP_W, NEXT(seq - 1));
			fence_s(W);
			do
#ifndef BREAK_NO_SECOND_LOOK
			:: h = load(HEAD);
			   if
			   :: N - h <= SIZE / 2 -> break
			   :: else
			   fi;
#else
			:: true;
#endif
			   if
			   :: d_step { bell[W] -> bell[W] = 0 }
			   :: tcp_end[W] -> goto gone
			   fi;
			   /* A new sleep has a new number. */
			   h = load(HEAD);
			   if
			   :: N - h <= SIZE / 2 -> break
			   :: else
			   fi;
			   seq++;
			   store(W, ASLEEP_W, NEXT(seq - 1));
			   fence_s(W)
			od;
			h = 0;
			store(W, ASLEEP_W, 0)
		fi
	:: N == TOTAL -> break
	od;
	store(W, FINISHED, 1);
	fence_w(W);
	ring_bell(ASLEEP_R, R);
gone:	skip
	} unless { dead[W] }
}

proctype Reader()
{
	byte rx, old, seq, rung, a, t, f;
	{
	do
	:: f = load(FINISHED) || tcp_end[R];
	   t = load(TAIL);
	   if
	   :: t > rx ->
		atomic {
			old = rx;
			if
			:: rx = t
			:: t > rx + 1 -> rx = rx + 1
			fi
		};
		store(R, HEAD, rx);
#if defined(CROSS_BY_TAIL) || defined(BREAK_STALE_TAIL)
		fence_w(R);
#ifndef BREAK_STALE_TAIL
		t = load(TAIL);
#endif
		if
		:: t - old > SIZE / 2 && t - rx <= SIZE / 2 -> ring_bell(ASLEEP_W, W)
		:: else
		fi;
#else
		if
		:: old / (SIZE / 2) != rx / (SIZE / 2) ->
			fence_w(R);
			ring_bell(ASLEEP_W, W)
		:: else
		fi;
#endif
		d_step { old = 0; t = 0; f = 0 }
	   :: t <= rx && f -> break
	   :: else ->
		seq++;
		store(R, ASLEEP_R, NEXT(seq - 1));
		fence_s(R);
		if
#ifndef BREAK_NO_SECOND_LOOK
		:: load(TAIL) > rx || load(FINISHED)
		:: else ->
#else
		:: true ->
#endif
			if
			:: d_step { bell[R] -> bell[R] = 0 }
			:: tcp_end[R]
			fi
		fi;
		store(R, ASLEEP_R, 0);
		d_step { t = 0; f = 0 }
	   fi
	od;
	assert(rx == own[TAIL]);
	assert(rx == TOTAL || dead[W])
	} unless { dead[R] }
}

proctype Killer(byte x)
{
	if
	:: true
	:: dead[x] = 1; empty(buf[x]) -> tcp_end[1 - x] = 1
	fi
}

init {
	atomic {
		run StoreBuffer(W);
		run StoreBuffer(R);
		run Writer();
		run Reader();
#ifdef KILL
		run Killer(KILL);
#endif
	}
}
