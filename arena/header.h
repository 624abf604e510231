/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The header of boards and regions: written once by the owner, checked by whoever attaches.
 */
#ifndef ARENA_HEADER_H
#define ARENA_HEADER_H

#include "format.h"

/* How far up the ladder of checks a header got. */
enum header_fit {
	HEADER_FITS,
	HEADER_NO_MAGIC,      /* not this kind of memory, or its owner has not finished it */
	HEADER_WORD_ORDER,    /* another byte order or word size */
	HEADER_CHECKSUM,      /* spoilt */
	HEADER_MAJOR,         /* another major version */
	HEADER_INCOMPAT,      /* needs features that we do not know */
	HEADER_RESERVED,      /* reserved words are not zero */
	HEADER_LENGTH,        /* not the length of what was mapped */
	HEADER_END_COUNT,     /* another number of end blocks or slots */
};

/* Fills a zeroed header and publishes `magic` last. */
void header_publish(struct arena_header *header, uint64_t magic, uint64_t length, uint64_t end_count);

/* Copies the header once and checks the copy. */
enum header_fit header_check(const struct arena_header *header, uint64_t magic, uint64_t length, uint64_t end_count);

/* A word for reports. */
const char *header_fit_name(enum header_fit fit);

#endif
