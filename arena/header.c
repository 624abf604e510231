/* SPDX-License-Identifier: BSD-2-Clause */
/* See header.h. */
#include "header.h"

#include <string.h>

#define HEADER_WORDS (sizeof(struct arena_header) / sizeof(uint64_t))

/* FNV-1a over whole words: everything between the magic and the checksum. */
static uint64_t checksum(const struct arena_header *header)
{
	uint64_t words[HEADER_WORDS];
	uint64_t sum = 0xcbf29ce484222325ull;

	memcpy(words, header, sizeof words);
	for (unsigned i = 1; i < HEADER_WORDS - 1; i++)
		sum = (sum ^ words[i]) * 0x100000001b3ull;
	return sum;
}

void header_publish(struct arena_header *header, uint64_t magic, uint64_t length, uint64_t end_count)
{
	header->word_mark = ARENA_WORD_MARK;
	header->major = ARENA_MAJOR;
	header->length = length;
	header->end_count = end_count;
	header->checksum = checksum(header);
	/* Release: pairs with the acquire in header_check. */
	atomic_store_explicit(&header->magic, magic, memory_order_release);
}

enum header_fit header_check(const struct arena_header *header, uint64_t magic, uint64_t length, uint64_t end_count)
{
	struct arena_header copy;

	/* Acquire: pairs with the release in header_publish; who sees the magic sees the rest. */
	if (atomic_load_explicit(&header->magic, memory_order_acquire) != magic)
		return HEADER_NO_MAGIC;
	memcpy(&copy, (const void *)header, sizeof copy);
	/* The compiler must not go back to the shared original, which may change under us. */
	__asm__ volatile("" : : "r"(&copy) : "memory");
	if (copy.word_mark != ARENA_WORD_MARK)
		return HEADER_WORD_ORDER;
	if (copy.checksum != checksum(&copy))
		return HEADER_CHECKSUM;
	if (copy.major != ARENA_MAJOR)
		return HEADER_MAJOR;
	if (copy.incompat != 0)
		return HEADER_INCOMPAT;
	for (unsigned i = 0; i < sizeof copy.reserved / sizeof copy.reserved[0]; i++)
		if (copy.reserved[i] != 0)
			return HEADER_RESERVED;
	if (copy.length != length)
		return HEADER_LENGTH;
	if (copy.end_count != end_count)
		return HEADER_END_COUNT;
	return HEADER_FITS;
}

const char *header_fit_name(enum header_fit fit)
{
	switch (fit) {
	case HEADER_FITS:
		return "fits";
	case HEADER_NO_MAGIC:
		return "magic";
	case HEADER_WORD_ORDER:
		return "word order";
	case HEADER_CHECKSUM:
		return "checksum";
	case HEADER_MAJOR:
		return "major version";
	case HEADER_INCOMPAT:
		return "incompatible features";
	case HEADER_RESERVED:
		return "reserved words";
	case HEADER_LENGTH:
		return "length";
	case HEADER_END_COUNT:
		return "end count";
	}
	return "?";
}
