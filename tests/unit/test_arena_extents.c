/* SPDX-License-Identifier: BSD-2-Clause */
/* extents.c against a model that looks at every page, and the device's table against its own rules. */
#include "arena_test.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "arena/device_table.h"
#include "arena/extents.h"

#define PAGES 517u /* no multiple of a word's bits */
#define START 0x804000ull
#define SKEW 0x7f0000003000ull

static bool model[PAGES];

static uint64_t model_alloc(uint64_t pages, uint64_t align)
{
	for (uint64_t page = 0; page + pages <= PAGES; page++) {
		uint64_t count = 0;

		if ((SKEW + START + page * ARENA_PAGE) % align)
			continue;
		while (count < pages && !model[page + count])
			count++;
		if (count == pages) {
			memset(model + page, true, pages);
			return START + page * ARENA_PAGE;
		}
	}
	return EXTENTS_NONE;
}

/* The free range around [page, page + pages), `reach` pages to either side at most. */
static void model_around(uint64_t page, uint64_t pages, uint64_t reach, uint64_t *low, uint64_t *high)
{
	*low = page;
	*high = page + pages;
	while (*low > 0 && page - *low < reach && !model[*low - 1])
		--*low;
	while (*high < PAGES && *high - page - pages < reach && !model[*high])
		++*high;
	*low = START + *low * ARENA_PAGE;
	*high = START + *high * ARENA_PAGE;
}

static bool model_used(uint64_t page, uint64_t pages)
{
	while (pages--)
		if (!model[page++])
			return false;
	return true;
}

static void test_model(void **state)
{
	uint64_t random = test_seed();
	uint64_t bits[(PAGES + 63) / 64] = {0};
	struct extents extents;

	(void)state;
	memset(model, 0, sizeof model);
	assert_int_equal(extents_bits_size(PAGES * ARENA_PAGE), sizeof bits);
	extents_init(&extents, START, PAGES * ARENA_PAGE, bits);
	for (unsigned round = 0; round < 200000; round++) {
		uint64_t dice = test_random(&random);
		uint64_t pages = 1 + (dice >> 8) % (dice & 0x30 ? 12 : 130);
		uint64_t page = (dice >> 24) % PAGES;
		uint64_t used = 0;

		if (dice & 1) {
			uint64_t align = ARENA_PAGE << (dice >> 48) % 6;

			assert_int_equal(extents_alloc(&extents, pages * ARENA_PAGE, align, SKEW), model_alloc(pages, align));
		} else if (page + pages <= PAGES) {
			uint64_t reach = (dice >> 40) % 64;
			bool sound = model_used(page, pages);
			uint64_t low, high, model_low, model_high;

			assert_int_equal(extents_in_use(&extents, START + page * ARENA_PAGE, pages * ARENA_PAGE), sound);
			assert_int_equal(extents_free(&extents, START + page * ARENA_PAGE, pages * ARENA_PAGE,
						      reach * ARENA_PAGE, &low, &high),
					 sound);
			if (sound) {
				memset(model + page, false, pages);
				model_around(page, pages, reach, &model_low, &model_high);
				assert_int_equal(low, model_low);
				assert_int_equal(high, model_high);
			}
		}
		if (round % 64 == 0) {
			for (unsigned i = 0; i < PAGES; i++)
				used += model[i];
			assert_int_equal(extents.used, used);
		}
	}
}

static void test_refusals(void **state)
{
	uint64_t bits[(PAGES + 63) / 64] = {0};
	struct extents extents;
	uint64_t low, high;

	(void)state;
	extents_init(&extents, START, PAGES * ARENA_PAGE, bits);
	assert_int_equal(extents_alloc(&extents, 0, ARENA_PAGE, 0), EXTENTS_NONE);
	assert_int_equal(extents_alloc(&extents, 100, ARENA_PAGE, 0), EXTENTS_NONE);
	assert_int_equal(extents_alloc(&extents, (PAGES + 1) * ARENA_PAGE, ARENA_PAGE, 0), EXTENTS_NONE);
	assert_int_equal(extents_alloc(&extents, ~(uint64_t)(ARENA_PAGE - 1), ARENA_PAGE, 0), EXTENTS_NONE);
	assert_int_equal(extents_alloc(&extents, PAGES * ARENA_PAGE, ARENA_PAGE, 0), START);
	assert_int_equal(extents_alloc(&extents, ARENA_PAGE, ARENA_PAGE, 0), EXTENTS_NONE);
	assert_false(extents_free(&extents, START - ARENA_PAGE, ARENA_PAGE, 0, &low, &high));
	assert_false(extents_free(&extents, START + 1, ARENA_PAGE, 0, &low, &high));
	assert_false(extents_free(&extents, START + PAGES * ARENA_PAGE, ARENA_PAGE, 0, &low, &high));
	assert_false(extents_free(&extents, START, ~(uint64_t)(ARENA_PAGE - 1), 0, &low, &high));
	assert_true(extents_free(&extents, START, ARENA_PAGE, 0, &low, &high));
	assert_false(extents_free(&extents, START, ARENA_PAGE, 0, &low, &high));
}

/* ---- the device's table ----------------------------------------------------------------------------------------- */

#define MIB 0x100000ull
#define DEVICE_LENGTH (64 * MIB)

static bool only_seven_lives(uint64_t pid, uint64_t born)
{
	return pid == 7 && born == 70;
}

static void test_device_table(void **state)
{
	struct device_table *table = calloc(1, sizeof *table);
	int slot;

	(void)state;
	assert_non_null(table);
	slot = device_table_take(table, DEVICE_LENGTH, 16 * MIB, 7, 70, only_seven_lives);
	assert_int_equal(slot, 0);
	assert_int_equal(table->slots[0].start, DEVICE_TABLE_BYTES);
	/* Pid 7 of an earlier life, and pid 8: both gone by the next call. */
	assert_int_equal(device_table_take(table, DEVICE_LENGTH, 16 * MIB, 7, 60, only_seven_lives), 1);
	assert_int_equal(table->slots[1].start, DEVICE_TABLE_BYTES + 16 * MIB);
	slot = device_table_take(table, DEVICE_LENGTH, 46 * MIB, 7, 70, only_seven_lives);
	assert_int_equal(slot, 1);
	assert_int_equal(table->slots[1].start, DEVICE_TABLE_BYTES + 16 * MIB);
	assert_int_equal(device_table_take(table, DEVICE_LENGTH, 2 * MIB, 7, 70, only_seven_lives), -ENOSPC);
	assert_int_equal(device_table_take(table, DEVICE_LENGTH, 3, 7, 70, only_seven_lives), -EINVAL);
	assert_int_equal(device_table_take(table, 2 * DEVICE_LENGTH, 2 * MIB, 7, 70, only_seven_lives), -EPROTO);
	/* Wild entries neither crash nor stop it. */
	table->slots[1] = (struct device_slot){.start = ~0ull, .length = ~0ull, .pid = 7, .born = 70};
	assert_int_equal(device_table_take(table, DEVICE_LENGTH, 2 * MIB, 7, 70, only_seven_lives), 2);
	free(table);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_model),
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_device_table),
	};

	return cmocka_run_group_tests_name("arena extents", tests, NULL, NULL);
}
