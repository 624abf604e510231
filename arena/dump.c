/* SPDX-License-Identifier: BSD-2-Clause */
/* See dump.h. */
#include "dump.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>

#include "arena.h"
#include "header.h"

#define TX_FLAGS (END_FIN | END_CLOSED | END_RESET | END_FINAL | END_RESET_LATE)
#define RX_FLAGS (END_READY | END_WANT_OUTSIDE | END_WANT_ACTIVITY | END_DONE | END_TOLD | END_SHUT)

struct dump {
	FILE *out;
	unsigned faults;
};

__attribute__((format(printf, 2, 3))) static void say(struct dump *dump, const char *format, ...)
{
	va_list arguments;

	if (!dump->out)
		return;
	va_start(arguments, format);
	vfprintf(dump->out, format, arguments);
	va_end(arguments);
}

#define fault(dump, ...) ((dump)->faults++, say(dump, "  fault: " __VA_ARGS__))

static uint64_t word(const _Atomic uint64_t *at)
{
	return atomic_load_explicit(at, memory_order_acquire);
}

static bool dump_header(struct dump *dump, const struct arena_header *header, uint64_t magic, uint64_t length,
			uint64_t count)
{
	enum header_fit fit = header_check(header, magic, length, count);

	say(dump, "header: major %" PRIu64 ", compat %" PRIx64 "/%" PRIx64 "/%" PRIx64 ", %" PRIu64 " bytes: %s\n",
	    header->major, header->compat, header->incompat, header->ro_compat, length, header_fit_name(fit));
	if (fit != HEADER_FITS)
		fault(dump, "header: %s\n", header_fit_name(fit));
	return fit == HEADER_FITS;
}

static void dump_segment(struct dump *dump, const struct end_block *end, uint64_t epoch, uint64_t length)
{
	uint64_t start = word(&end->segments[epoch % END_SEGMENTS].start);
	uint64_t where = word(&end->segments[epoch % END_SEGMENTS].where);

	if (where == SEGMENT_OUTSIDE) {
		say(dump, "  segment %" PRIu64 ": from %" PRIu64 " outside\n", epoch, start);
		return;
	}
	say(dump, "  segment %" PRIu64 ": from %" PRIu64 " ring at %#" PRIx64 ", 2^%u bytes\n", epoch, start,
	    (uint64_t)(where & ~SEGMENT_LOG2_MASK), (unsigned)(where & SEGMENT_LOG2_MASK));
	if (!region_ring_valid(length, where & ~SEGMENT_LOG2_MASK, (unsigned)(where & SEGMENT_LOG2_MASK)))
		fault(dump, "segment %" PRIu64 " lies outside the rings\n", epoch);
}

static void dump_end(struct dump *dump, const struct end_block *end, unsigned number, uint64_t length)
{
	uint64_t epoch = word(&end->epoch);
	uint64_t tx = word(&end->tx_flags);
	uint64_t rx = word(&end->rx_flags);

	say(dump,
	    "end %u: cookie %016" PRIx64 " tail %" PRIu64 " tx %" PRIx64 " epoch %" PRIu64 " head %" PRIu64 " acked %" PRIu64
	    " rx %" PRIx64 "\n",
	    number, word(&end->cookie), word(&end->tail), tx, epoch, word(&end->head), word(&end->acked), rx);
	if (epoch > 1)
		dump_segment(dump, end, epoch - 1, length);
	if (epoch > 0)
		dump_segment(dump, end, epoch, length);
	if (epoch > 1 && word(&end->segments[epoch % END_SEGMENTS].start) < word(&end->segments[(epoch - 1) % END_SEGMENTS].start))
		fault(dump, "segment %" PRIu64 " starts before the one before it\n", epoch);
	if (tx & ~TX_FLAGS)
		fault(dump, "unknown tx flags\n");
	if ((tx & END_CLOSED) && !(tx & END_FIN))
		fault(dump, "closed without end of data\n");
	if (rx & ~RX_FLAGS)
		fault(dump, "unknown rx flags\n");
}

unsigned region_dump(const struct region *region, uint64_t length, FILE *out)
{
	struct dump dump = {.out = out};

	if (!dump_header(&dump, &region->header, REGION_MAGIC, length, REGION_ENDS) || length <= REGION_RINGS)
		return dump.faults;
	for (unsigned i = 0; i < REGION_ENDS; i++)
		if (word(&region->ends[i].cookie))
			dump_end(&dump, &region->ends[i], i, length);
	return dump.faults;
}

unsigned board_dump(const struct board *board, uint64_t length, FILE *out)
{
	struct dump dump = {.out = out};

	if (!dump_header(&dump, &board->header, BOARD_MAGIC, length, BOARD_SLOTS))
		return dump.faults;
	for (unsigned i = 0; i < BOARD_SLOTS; i++)
		if (word(&board->slots[i].asleep))
			say(&dump, "slot %u: asleep, sleep %" PRIu64 "\n", i, word(&board->slots[i].asleep));
	return dump.faults;
}
