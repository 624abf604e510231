/* SPDX-License-Identifier: BSD-2-Clause */
/* What `notnets stat` makes of another process's state, hostile ones included. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "shim/cmd/show.h"
#include "shim/cmd/snapshot.h"

static int fd;
static struct state *state;

static int set_up(void **unused)
{
	(void)unused;
	fd = memfd_create(STATE_NAME, MFD_CLOEXEC);
	if (fd < 0 || ftruncate(fd, sizeof(*state)) < 0)
		return -1;
	state = mmap(NULL, sizeof(*state), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
	if (state == MAP_FAILED)
		return -1;
	state->version = STATE_VERSION;
	state->pid = 17;
	state->stream_size = sizeof(struct state_stream);
	strcpy(state->program, "peer");
	state->magic = STATE_MAGIC;
	return 0;
}

static int tear_down(void **unused)
{
	(void)unused;
	close(fd);
	return munmap(state, sizeof(*state));
}

static void expect(int outcome)
{
	struct snapshot snapshot;

	assert_int_equal(snapshot_take(&snapshot, fd), outcome);
	if (outcome == SNAPSHOT_TAKEN)
		snapshot_free(&snapshot);
}

static void streams_in_use_are_copied(void **unused)
{
	struct snapshot snapshot;

	(void)unused;
	state->stream_top = 5;
	state->streams[1].in_use = 1;
	state->streams[1].fd = 11;
	state->streams[4].in_use = 1;
	state->streams[4].fd = 14;
	state->streams[5].in_use = 1; /* beyond the top */
	state->totals.sleeps = 3;
	assert_int_equal(snapshot_take(&snapshot, fd), SNAPSHOT_TAKEN);
	assert_int_equal(snapshot.pid, 17);
	assert_string_equal(snapshot.program, "peer");
	assert_int_equal(snapshot.totals.sleeps, 3);
	assert_int_equal(snapshot.count, 2);
	assert_int_equal(snapshot.streams[0].fd, 11);
	assert_int_equal(snapshot.streams[1].fd, 14);
	snapshot_free(&snapshot);
}

static void a_program_name_without_end_is_ended(void **unused)
{
	struct snapshot snapshot;

	(void)unused;
	memset(state->program, 'x', sizeof(state->program));
	assert_int_equal(snapshot_take(&snapshot, fd), SNAPSHOT_TAKEN);
	assert_int_equal(strlen(snapshot.program), sizeof(state->program));
	snapshot_free(&snapshot);
}

static void what_is_not_published_is_foreign(void **unused)
{
	(void)unused;
	state->magic = 0;
	expect(SNAPSHOT_FOREIGN);
}

static void other_versions_are_told_apart(void **unused)
{
	(void)unused;
	state->version = STATE_VERSION + 1;
	expect(SNAPSHOT_VERSION);
	state->version = STATE_VERSION;
	state->stream_size++;
	expect(SNAPSHOT_VERSION);
}

static void sizes_are_checked_against_the_file(void **unused)
{
	(void)unused;
	state->stream_top = STATE_STREAMS;
	expect(SNAPSHOT_TAKEN);
	state->stream_top = STATE_STREAMS + 1;
	expect(SNAPSHOT_BROKEN);
	state->stream_top = UINT32_MAX;
	expect(SNAPSHOT_BROKEN);
	state->stream_top = 10;
	assert_int_equal(ftruncate(fd, offsetof(struct state, streams) + 10 * sizeof(struct state_stream)), 0);
	expect(SNAPSHOT_TAKEN);
	assert_int_equal(ftruncate(fd, offsetof(struct state, streams) + 10 * sizeof(struct state_stream) - 1), 0);
	expect(SNAPSHOT_BROKEN);
	assert_int_equal(ftruncate(fd, offsetof(struct state, streams) - 1), 0);
	expect(SNAPSHOT_FOREIGN);
	assert_int_equal(ftruncate(fd, 0), 0);
	expect(SNAPSHOT_FOREIGN);
}

static void what_is_no_file_is_foreign(void **unused)
{
	struct snapshot snapshot;
	int ends[2];

	(void)unused;
	assert_int_equal(pipe(ends), 0);
	assert_int_equal(snapshot_take(&snapshot, ends[0]), SNAPSHOT_FOREIGN);
	close(ends[0]);
	close(ends[1]);
}

/* Whatever bytes lie there, taking a snapshot ends, and stays in bounds (run under the address sanitizer). */
static void random_heads_are_survived(void **unused)
{
	unsigned seed = 20240607;

	(void)unused;
	print_message("seed %u\n", seed);
	srandom(seed);
	for (unsigned round = 0; round < 2000; round++) {
		struct snapshot snapshot;
		unsigned char *bytes = (unsigned char *)state;

		for (unsigned i = 0; i < 8; i++)
			bytes[(size_t)random() % offsetof(struct state, streams)] = (unsigned char)random();
		if (round % 2) {
			state->magic = STATE_MAGIC;
			state->version = STATE_VERSION;
			state->stream_size = sizeof(struct state_stream);
		}
		state->stream_top %= 4096; /* or it is refused nearly always */
		if (snapshot_take(&snapshot, fd) == SNAPSHOT_TAKEN)
			snapshot_free(&snapshot);
	}
}

static void addresses_are_shown_as_people_write_them(void **unused)
{
	static const struct {
		const char *address, *text;
		uint32_t scope;
	} cases[] = {
		{"::ffff:192.0.2.1", "192.0.2.1:80", 0},
		{"::1", "[::1]:80", 0},
		{"fe80::1", "[fe80::1%2]:80", 2},
	};
	char text[SHOW_ADDRESS_SIZE];
	struct sockaddr_in6 address = {0};

	(void)unused;
	assert_string_equal(show_address(text, &address), "");
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		address = (struct sockaddr_in6){
			.sin6_family = AF_INET6, .sin6_port = htons(80), .sin6_scope_id = cases[i].scope};
		assert_int_equal(inet_pton(AF_INET6, cases[i].address, &address.sin6_addr), 1);
		assert_string_equal(show_address(text, &address), cases[i].text);
	}
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(streams_in_use_are_copied),
		TEST(a_program_name_without_end_is_ended),
		TEST(what_is_not_published_is_foreign),
		TEST(other_versions_are_told_apart),
		TEST(sizes_are_checked_against_the_file),
		cmocka_unit_test(what_is_no_file_is_foreign),
		TEST(random_heads_are_survived),
		cmocka_unit_test(addresses_are_shown_as_people_write_them),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
