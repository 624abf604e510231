/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Which processes hold a socket. After fork there are several, and what a stream may do depends on it: it goes up only while one
 * process holds it, and the last close is the one that tells the peer.
 *
 * The processes that descend from one another share a table: a place for each process, and for each socket that was inherited a
 * bit for each place. A bit is set before the fork by the parent, for the child too, and cleared when a process closes the
 * socket. One that ends by itself or is killed clears nothing: whether the owner of a bit still lives is asked of the
 * kernel, by whoever needs to know, and that is right at any instant: it holds the socket until it has come to its end.
 *
 * What a process last found out it keeps in its own memory (stream->others), so that calls on streams ask nobody:
 *
 *   others 0          never inherited
 *   others 1          no other process holds the socket, nor ever will but by a fork of ours
 *   others above 1    others may: holders_look() asks again; counts our forks, so that an answer older than a fork is dropped
 *
 * A process that finds no place, whose process ids mean something else (another pid namespace), or that was killed before it
 * had done its first step, counts as alive for good. So does one whose number another process has got since.
 */
#ifndef SHIM_CORE_HOLDERS_H
#define SHIM_CORE_HOLDERS_H

#include <stdbool.h>
#include <stdint.h>

struct holders;
struct nn_stream;

/* Around fork: begin, then holders_fork_stream for every stream that the child inherits; end in the parent, child in the child. */
void holders_fork_begin(void);
void holders_fork_stream(struct nn_stream *stream);
void holders_fork_end(bool failed);
void holders_fork_child(void);

/* A socket that another thread made while we forked: perhaps the other process has it as well, and nobody can tell for how long. */
void holders_fork_missed(struct nn_stream *stream);

/* This process lets go of the socket. True: others still hold it. */
bool holders_leave(struct nn_stream *stream);

/* It does not, after all. */
void holders_return(struct nn_stream *stream);

/* True: others hold the socket. Asks the kernel where it must. */
bool holders_others(struct nn_stream *stream);

/* The same from where calls end: asks now and then, ever more seldom. */
void holders_look(struct nn_stream *stream);

/* For those who do not hold it themselves: a socket's use of its bits, and whether any holder of that use lives. */
uint32_t holders_use(const struct holders *holders);
bool holders_live(const struct holders *holders, uint32_t use);

#endif
