/* SPDX-License-Identifier: BSD-2-Clause */
#include "shim/core/report.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "shim/core/sys.h"

#define REPORT_SIZE 4096 /* every number at its longest and every reason fit */

static uint64_t read_counter(const _Atomic uint64_t *counter)
{
	return atomic_load_explicit(counter, memory_order_relaxed);
}

void report_sum(struct report_sums *sums, const struct state_totals *totals, const struct state_stream *streams,
	size_t count)
{
	*sums = (struct report_sums){
		.connections = read_counter(&totals->connections),
		.streams = read_counter(&totals->streams),
		.ups = read_counter(&totals->ups),
		.downs = read_counter(&totals->downs),
		.tx_ring = read_counter(&totals->tx_ring),
		.rx_ring = read_counter(&totals->rx_ring),
		.tx_tcp = read_counter(&totals->tx_tcp),
		.rx_tcp = read_counter(&totals->rx_tcp),
		.doorbells_rung = read_counter(&totals->doorbells_rung),
		.doorbells_heard = read_counter(&totals->doorbells_heard),
		.spins = read_counter(&totals->spins),
		.spin_hits = read_counter(&totals->spin_hits),
		.sleeps = read_counter(&totals->sleeps),
	};
	for (unsigned i = 0; i < NN_REASONS; i++)
		sums->reasons[i] = read_counter(&totals->reasons[i]);

	for (const struct state_stream *stream = streams; stream < streams + count; stream++) {
		uint32_t reason = NN_REASON_NONE;

		/* Acquire: what was set before in_use is seen. */
		if (!atomic_load_explicit(&stream->in_use, memory_order_acquire))
			continue;
		sums->tx_ring += read_counter(&stream->tx.ring_bytes);
		sums->rx_ring += read_counter(&stream->rx.ring_bytes);
		sums->tx_tcp += read_counter(&stream->tx.tcp_bytes);
		sums->rx_tcp += read_counter(&stream->rx.tcp_bytes);
		if (!atomic_load_explicit(&stream->tx.up, memory_order_relaxed))
			reason = atomic_load_explicit(&stream->tx.reason, memory_order_relaxed);
		if (reason < NN_REASONS)
			sums->reasons[reason]++;
	}
}

static void member(struct text *text, const char *name, uint64_t value)
{
	text_char(text, '"');
	text_string(text, name);
	text_string(text, "\":");
	text_number(text, value);
	text_char(text, ',');
}

void report_members(struct text *text, const struct report_sums *sums)
{
	const char *between = "";

	member(text, "connections", sums->connections);
	member(text, "streams", sums->streams);
	member(text, "switched_up", sums->ups);
	member(text, "switched_down", sums->downs);
	member(text, "tx_ring", sums->tx_ring);
	member(text, "rx_ring", sums->rx_ring);
	member(text, "tx_tcp", sums->tx_tcp);
	member(text, "rx_tcp", sums->rx_tcp);
	member(text, "doorbells_rung", sums->doorbells_rung);
	member(text, "doorbells_heard", sums->doorbells_heard);
	member(text, "spins", sums->spins);
	member(text, "spin_hits", sums->spin_hits);
	member(text, "sleeps", sums->sleeps);
	text_string(text, "\"reasons\":{");
	for (unsigned i = 0; i < NN_REASONS; i++) {
		if (!sums->reasons[i])
			continue;
		text_string(text, between);
		between = ",";
		text_char(text, '"');
		text_string(text, state_reason_text(i));
		text_string(text, "\":");
		text_number(text, sums->reasons[i]);
	}
	text_char(text, '}');
}

void report_format(struct text *text, const struct state *state)
{
	struct report_sums sums;
	uint32_t top = atomic_load_explicit(&state->stream_top, memory_order_acquire);

	report_sum(&sums, &state->totals, state->streams, top < STATE_STREAMS ? top : STATE_STREAMS);
	text_string(text, "{\"pid\":");
	text_number(text, atomic_load_explicit(&state->pid, memory_order_relaxed));
	text_string(text, ",\"program\":\"");
	text_json(text, state->program, sizeof(state->program));
	text_string(text, "\",\"version\":\"" NOTNETS_VERSION "\",");
	report_members(text, &sums);
	text_string(text, "}\n");
}

int report_write(const char *path, const struct state *state)
{
	char line[REPORT_SIZE];
	struct text text = {.bytes = line, .size = sizeof(line)};
	int result;
	long fd;

	report_format(&text, state);
	if (text.cut)
		return -EOVERFLOW;
	/* O_NONBLOCK: a FIFO that nobody reads is an error at once. */
	do
		fd = sys_call4(SYS_openat, AT_FDCWD, path,
			O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0666);
	while (fd == -EINTR);
	if (fd < 0)
		return (int)fd;
	result = text_write(&text, (int)fd);
	sys_call1(SYS_close, fd);
	return result;
}
