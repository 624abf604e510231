/* SPDX-License-Identifier: BSD-2-Clause */
/* See extents.h. */
#include "extents.h"

#include "format.h"

#define WORD_BITS 64u

static bool bit(const struct extents *extents, uint64_t page)
{
	return extents->bits[page / WORD_BITS] >> (page % WORD_BITS) & 1;
}

/* The bits of one word that lie in [page, end); *page moves on to the next word. */
static uint64_t word_mask(uint64_t *page, uint64_t end)
{
	uint64_t first = *page % WORD_BITS;
	uint64_t count = end - *page < WORD_BITS - first ? end - *page : WORD_BITS - first;
	uint64_t ones = count == WORD_BITS ? ~0ull : (1ull << count) - 1;

	*page += count;
	return ones << first;
}

static void set_range(struct extents *extents, uint64_t page, uint64_t end)
{
	while (page < end) {
		uint64_t *word = &extents->bits[page / WORD_BITS];

		*word |= word_mask(&page, end);
	}
}

static void clear_range(struct extents *extents, uint64_t page, uint64_t end)
{
	while (page < end) {
		uint64_t *word = &extents->bits[page / WORD_BITS];

		*word &= ~word_mask(&page, end);
	}
}

/* First page in [page, end) whose bit is `value`; `end` when there is none. */
static uint64_t find(const struct extents *extents, uint64_t page, uint64_t end, bool value)
{
	while (page < end) {
		uint64_t at = page;
		uint64_t word = extents->bits[page / WORD_BITS];
		uint64_t hits = (value ? word : ~word) & word_mask(&page, end);

		if (hits)
			return at - at % WORD_BITS + (unsigned)__builtin_ctzll(hits);
	}
	return end;
}

uint64_t extents_bits_size(uint64_t length)
{
	return (length / ARENA_PAGE + WORD_BITS - 1) / WORD_BITS * sizeof(uint64_t);
}

void extents_init(struct extents *extents, uint64_t start, uint64_t length, uint64_t *bits)
{
	*extents = (struct extents){.start = start, .pages = length / ARENA_PAGE, .bits = bits};
}

uint64_t extents_alloc(struct extents *extents, uint64_t size, uint64_t align, uint64_t skew)
{
	uint64_t need = size / ARENA_PAGE;
	uint64_t mask = align > ARENA_PAGE ? align - 1 : ARENA_PAGE - 1;
	uint64_t page = extents->lowest * WORD_BITS;

	if (size == 0 || size % ARENA_PAGE)
		return EXTENTS_NONE;
	page = find(extents, page < extents->pages ? page : extents->pages, extents->pages, false);
	extents->lowest = page / WORD_BITS;
	while (page < extents->pages) {
		uint64_t address = skew + extents->start + page * ARENA_PAGE;
		uint64_t taken;

		page += (((address + mask) & ~mask) - address) / ARENA_PAGE;
		if (page > extents->pages || need > extents->pages - page)
			break;
		taken = find(extents, page, page + need, true);
		if (taken == page + need) {
			set_range(extents, page, taken);
			extents->used += need;
			return extents->start + page * ARENA_PAGE;
		}
		page = find(extents, taken, extents->pages, false);
	}
	return EXTENTS_NONE;
}

/* The range in pages; false when it does not lie in `extents`. */
static bool to_pages(const struct extents *extents, uint64_t offset, uint64_t size, uint64_t *page, uint64_t *end)
{
	if (offset < extents->start || (offset | size) % ARENA_PAGE || size == 0)
		return false;
	*page = (offset - extents->start) / ARENA_PAGE;
	if (*page >= extents->pages || size / ARENA_PAGE > extents->pages - *page)
		return false;
	*end = *page + size / ARENA_PAGE;
	return true;
}

bool extents_in_use(const struct extents *extents, uint64_t offset, uint64_t size)
{
	uint64_t page, end;

	return to_pages(extents, offset, size, &page, &end) && find(extents, page, end, false) == end;
}

bool extents_free(struct extents *extents, uint64_t offset, uint64_t size, uint64_t reach, uint64_t *free_start,
		  uint64_t *free_end)
{
	uint64_t page, end, low, high;

	if (!to_pages(extents, offset, size, &page, &end) || find(extents, page, end, false) != end)
		return false;
	clear_range(extents, page, end);
	extents->used -= end - page;
	if (page / WORD_BITS < extents->lowest)
		extents->lowest = page / WORD_BITS;

	reach /= ARENA_PAGE;
	low = page > reach ? page - reach : 0;
	high = extents->pages - end > reach ? end + reach : extents->pages;
	while (page > low && !bit(extents, page - 1))
		page--;
	*free_start = extents->start + page * ARENA_PAGE;
	*free_end = extents->start + find(extents, end, high, true) * ARENA_PAGE;
	return true;
}
