/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The report: one line of JSON that a process appends to the file of NOTNETS_REPORT when it ends. Its schema is in
 * libnotnets_shim(7). `notnets stat` shows the same sums of processes that still run.
 */
#ifndef SHIM_CORE_REPORT_H
#define SHIM_CORE_REPORT_H

#include <stddef.h>
#include <stdint.h>

#include "shim/core/state.h"
#include "shim/core/text.h"

/* Totals of closed and live connections together. */
struct report_sums {
	uint64_t connections, streams, ups, downs;
	uint64_t tx_ring, rx_ring, tx_tcp, rx_tcp;
	uint64_t doorbells_rung, doorbells_heard, spins, spin_hits, sleeps;
	uint64_t reasons[NN_REASONS];
};

/* Adds those of `count` streams that are in use to the totals. Safe against writers that go on meanwhile. */
void report_sum(struct report_sums *sums, const struct state_totals *totals, const struct state_stream *streams,
	size_t count);

/* The members `"connections":N,...,"reasons":{...}` without the braces around them. */
void report_members(struct text *text, const struct report_sums *sums);

/* The whole line, newline included. */
void report_format(struct text *text, const struct state *state);

/* Appends the line to the file at `path` with one write, creating the file (mode 0666 less the umask). A full disk, a file
 * size limit or a FIFO without a reader makes it fail, and neither kill nor delay the process. 0 or -errno. */
int report_write(const char *path, const struct state *state);

#endif
