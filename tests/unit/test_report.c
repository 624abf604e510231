/* SPDX-License-Identifier: BSD-2-Clause */
/* The report line: what it sums, how it is escaped, and that writing it cannot hurt the process. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "shim/core/report.h"

static struct state *state;
static char path[] = "/tmp/notnets-test-report-XXXXXX";

static int set_up(void **unused)
{
	int fd;

	(void)unused;
	state = mmap(NULL, sizeof(*state), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (state == MAP_FAILED)
		return -1;
	state->pid = 4711;
	strcpy(state->program, "server");
	strcpy(path + sizeof(path) - 7, "XXXXXX");
	fd = mkstemp(path);
	return fd < 0 ? -1 : close(fd);
}

static int tear_down(void **unused)
{
	(void)unused;
	unlink(path);
	return munmap(state, sizeof(*state));
}

static const char *read_back(void)
{
	static char content[8192];
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t length = read(fd, content, sizeof(content) - 1);

	assert_true(fd >= 0 && length >= 0);
	content[length] = '\0';
	close(fd);
	return content;
}

static void an_idle_process_reports_zeros(void **unused)
{
	(void)unused;
	assert_int_equal(report_write(path, state), 0);
	assert_string_equal(read_back(),
		"{\"pid\":4711,\"program\":\"server\",\"version\":\"" NOTNETS_VERSION "\",\"connections\":0,\"streams\":0,"
		"\"switched_up\":0,\"switched_down\":0,\"tx_ring\":0,\"rx_ring\":0,\"tx_tcp\":0,\"rx_tcp\":0,"
		"\"doorbells_rung\":0,\"doorbells_heard\":0,\"spins\":0,\"spin_hits\":0,\"sleeps\":0,\"reasons\":{}}\n");
}

static void live_streams_are_added(void **unused)
{
	struct state_stream *live = &state->streams[1], *dead = &state->streams[0];

	(void)unused;
	state->stream_top = 2;
	state->totals.connections = 2;
	state->totals.tx_ring = 1000;
	state->totals.reasons[NN_REASON_NO_PEER] = 1;
	live->in_use = 1;
	live->tx.ring_bytes = 10;
	live->rx.ring_bytes = 20;
	live->tx.tcp_bytes = 30;
	live->rx.tcp_bytes = UINT64_C(1) << 40;
	live->tx.reason = NN_REASON_SHORT;
	dead->tx.ring_bytes = 999;
	assert_int_equal(report_write(path, state), 0);
	assert_non_null(strstr(read_back(), "\"tx_ring\":1010,\"rx_ring\":20,\"tx_tcp\":30,\"rx_tcp\":1099511627776,"));
	assert_non_null(strstr(read_back(), "\"reasons\":{\"too short so far\":1,\"peer has no shim\":1}}\n"));
}

static void reasons_out_of_range_are_left_out(void **unused)
{
	(void)unused;
	state->stream_top = 1;
	state->streams[0].in_use = 1;
	state->streams[0].tx.reason = NN_REASONS + 5;
	assert_int_equal(report_write(path, state), 0);
	assert_non_null(strstr(read_back(), "\"reasons\":{}"));
}

static void a_program_name_is_escaped(void **unused)
{
	(void)unused;
	memcpy(state->program, "a\"\\\n\xc3\xa9\xff\xe2\x82", 10);
	assert_int_equal(report_write(path, state), 0);
	assert_non_null(strstr(read_back(), "\"program\":\"a\\\"\\\\\\u000a\xc3\xa9\\ufffd\\ufffd\\ufffd\","));
}

static void the_longest_line_fits(void **unused)
{
	(void)unused;
	memset(state->program, 1, sizeof(state->program));
	memset(&state->totals, 0xff, sizeof(state->totals));
	state->pid = UINT32_MAX;
	assert_int_equal(report_write(path, state), 0);
	assert_int_equal(read_back()[strlen(read_back()) - 1], '\n');
}

static void lines_are_appended(void **unused)
{
	const char *content;

	(void)unused;
	assert_int_equal(report_write(path, state), 0);
	state->pid = 4712;
	assert_int_equal(report_write(path, state), 0);
	content = strchr(read_back(), '\n');
	assert_non_null(content);
	assert_non_null(strstr(content + 1, "{\"pid\":4712,"));
}

static void a_missing_folder_is_an_error(void **unused)
{
	(void)unused;
	assert_int_equal(report_write("/nonexistent/report", state), -ENOENT);
}

static void a_fifo_without_reader_does_not_block(void **unused)
{
	(void)unused;
	unlink(path);
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_int_equal(report_write(path, state), -ENXIO);
}

static void a_file_size_limit_does_not_kill(void **unused)
{
	pid_t child = fork();
	int status;

	(void)unused;
	if (child == 0) {
		const struct rlimit none = {0, 0};
		sigset_t pending;

		setrlimit(RLIMIT_FSIZE, &none);
		if (report_write(path, state) != -EFBIG)
			_exit(1);
		sigpending(&pending);
		_exit(sigismember(&pending, SIGXFSZ) ? 2 : 0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

static void every_reason_has_words(void **unused)
{
	(void)unused;
	for (unsigned i = 0; i < NN_REASONS; i++)
		assert_string_not_equal(state_reason_text(i), "unknown");
	assert_string_equal(state_reason_text(NN_REASONS), "unknown");
	assert_string_equal(state_reason_text(UINT32_MAX), "unknown");
}

static void text_that_does_not_fit_is_cut(void **unused)
{
	char bytes[4];
	struct text text = {.bytes = bytes, .size = sizeof(bytes)};

	(void)unused;
	text_number(&text, 12345);
	assert_true(text.cut);
	assert_int_equal(text.length, 4);
	assert_memory_equal(bytes, "1234", 4);
}

static void json_text_takes_only_valid_utf8(void **unused)
{
	static const struct {
		const char *in, *out;
	} cases[] = {
		{"\xf0\x9f\x98\x80", "\xf0\x9f\x98\x80"},
		{"\xc0\xaf", "\\ufffd\\ufffd"},                 /* overlong */
		{"\xed\xa0\x80", "\\ufffd\\ufffd\\ufffd"},      /* surrogate */
		{"\xf4\x90\x80\x80", "\\ufffd\\ufffd\\ufffd\\ufffd"}, /* above U+10FFFF */
		{"\x1b[2J\x7f", "\\u001b[2J\\u007f"},
	};

	(void)unused;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char bytes[64];
		struct text text = {.bytes = bytes, .size = sizeof(bytes)};

		text_json(&text, cases[i].in, strlen(cases[i].in));
		assert_int_equal(text.length, strlen(cases[i].out));
		assert_memory_equal(bytes, cases[i].out, text.length);
	}
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(an_idle_process_reports_zeros),
		TEST(live_streams_are_added),
		TEST(reasons_out_of_range_are_left_out),
		TEST(a_program_name_is_escaped),
		TEST(the_longest_line_fits),
		TEST(lines_are_appended),
		TEST(a_missing_folder_is_an_error),
		TEST(a_fifo_without_reader_does_not_block),
		TEST(a_file_size_limit_does_not_kill),
		cmocka_unit_test(every_reason_has_words),
		cmocka_unit_test(text_that_does_not_fit_is_cut),
		cmocka_unit_test(json_text_takes_only_valid_utf8),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
