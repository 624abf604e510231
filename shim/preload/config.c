/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Configuration from the environment. Variables are a table; each has a parser and the words that say what it allows,
 * which are all a user sees of a bad value. No stdio: this runs in other people's constructors.
 */
#include "shim/preload/config.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "shim/core/sys.h"
#include "shim/core/text.h"

/* A decimal number with an optional factor K, M or G (1024). */
static bool number(const char *text, uint64_t *value)
{
	uint64_t sum = 0;
	const char *at = text;
	for (; *at >= '0' && *at <= '9'; at++)
		if (__builtin_mul_overflow(sum, 10u, &sum) || __builtin_add_overflow(sum, (uint64_t)(*at - '0'), &sum))
			return false;
	if (at == text)
		return false;
	static const char factors[] = "KMG";
	const char *factor = *at ? strchr(factors, *at) : NULL;
	if (factor) {
		uint64_t times = 1ull << (10 * (factor - factors + 1));
		if (__builtin_mul_overflow(sum, times, &sum))
			return false;
		at++;
	}
	*value = sum;
	return *at == 0;
}

static bool number_between(const char *text, uint64_t least, uint64_t most, uint64_t *value)
{
	return number(text, value) && *value >= least && *value <= most;
}

static bool number32(const char *text, uint32_t most, uint32_t *value)
{
	uint64_t wide;
	if (!number_between(text, 0, most, &wide))
		return false;
	*value = (uint32_t)wide;
	return true;
}

static bool ring_size(const char *text, uint64_t *value)
{
	return number_between(text, 4096, 64u << 20, value) && (*value & (*value - 1)) == 0;
}

static bool set_arena(struct front_config *config, const char *text)
{
	return arena_backend_parse(text, &config->core.backend) == 0;
}

static bool set_ring_min(struct front_config *config, const char *text)
{
	config->ring_min_asked = true;
	return ring_size(text, &config->core.ring_min);
}

static bool set_ring_max(struct front_config *config, const char *text)
{
	config->ring_max_asked = true;
	return ring_size(text, &config->core.ring_max) && (!config->ring_min_asked || config->core.ring_max >= config->core.ring_min);
}

static bool set_spin(struct front_config *config, const char *text)
{
	if (!number32(text, 1000, &config->core.spin_ns))
		return false;
	config->core.spin_ns *= 1000;
	return true;
}

static bool set_after_calls(struct front_config *config, const char *text)
{
	return number32(text, 1000000, &config->core.after_calls);
}

static bool set_after_bytes(struct front_config *config, const char *text)
{
	return number_between(text, 0, UINT64_MAX, &config->core.after_bytes);
}

static bool set_chaos(struct front_config *config, const char *text)
{
	return number32(text, UINT32_MAX, &config->core.chaos);
}

static bool set_log(struct front_config *config, const char *text)
{
	static const char *const levels[] = {"off", "warn", "info", "debug"};
	const char *colon = strchr(text, ':');
	size_t length = colon ? (size_t)(colon - text) : strlen(text);
	config->log_path = colon ? colon + 1 : NULL;
	if (colon && !colon[1])
		return false;
	for (uint32_t i = 0; i < sizeof levels / sizeof *levels; i++)
		if (strlen(levels[i]) == length && !memcmp(levels[i], text, length)) {
			config->core.log_level = i;
			return true;
		}
	return false;
}

/* The program may change its directory before the report is written. */
static bool set_report(struct front_config *config, const char *text)
{
	size_t at = 0;
	if (*text != '/') {
		long length = sys_call2(SYS_getcwd, config->report, sizeof config->report);
		if (length <= 0 || config->report[0] != '/')
			return false;
		at = strlen(config->report);
		if (at + 1 >= sizeof config->report)
			return false;
		config->report[at++] = '/';
	}
	size_t length = strlen(text);
	if (length >= sizeof config->report - at)
		return false;
	memcpy(config->report + at, text, length + 1);
	config->core.report = config->report;
	return true;
}

static const struct variable {
	const char *name;
	bool (*set)(struct front_config *config, const char *text);
	const char *allowed;
} variables[] = {
	{"NOTNETS_ARENA", set_arena,
		"memfd, hugetlb, or the absolute path of a DAX device, or of a directory on tmpfs, hugetlbfs or a DAX file system that can be written"},
	{"NOTNETS_RING_MIN", set_ring_min, "a power of two from 4K to 64M"},
	{"NOTNETS_RING_MAX", set_ring_max, "a power of two from 4K to 64M, not below NOTNETS_RING_MIN"},
	{"NOTNETS_SPIN", set_spin, "microseconds from 0 to 1000"},
	{"NOTNETS_AFTER_CALLS", set_after_calls, "a number from 0 to 1000000"},
	{"NOTNETS_AFTER_BYTES", set_after_bytes, "a number of bytes, K, M or G after it allowed"},
	{"NOTNETS_LOG", set_log, "off, warn, info or debug, a colon and a file after it allowed"},
	{"NOTNETS_REPORT", set_report, "the path of a file"},
	{"NOTNETS_CHAOS", set_chaos, "a number from 0 to 4294967295"},
};

static size_t put(char *line, size_t at, size_t end, const char *text)
{
	for (; *text && at < end; text++)
		line[at++] = (*text >= 0 && *text < ' ') || *text == 127 ? '?' : *text;
	return at;
}

void config_complain(const char *name, const char *text, const char *of, const char *consequence)
{
	char line[512];
	size_t at = put(line, 0, 100, "notnets: ");
	at = put(line, at, 100, name);
	at = put(line, at, 100, "=");
	at = put(line, at, 300, text);
	at = put(line, at, sizeof line - 1, ": ");
	at = put(line, at, sizeof line - 1, of);
	at = put(line, at, sizeof line - 1, consequence);
	line[at++] = '\n';
	text_write(&(struct text){.bytes = line, .size = sizeof line, .length = at}, 2);
}

static void refuse(const struct variable *variable, const char *text, const char *consequence)
{
	char allowed[160] = "allowed is ";
	allowed[put(allowed, strlen(allowed), sizeof allowed - 1, variable->allowed)] = 0;
	config_complain(variable->name, text, allowed, consequence);
}

bool config_disabled(void)
{
	const char *text = getenv("NOTNETS_DISABLE");
	return text && *text && strcmp(text, "0") != 0;
}

int config_read(struct front_config *config, const char *consequence)
{
	config->ring_min_asked = config->ring_max_asked = false;
	config->core = (struct nn_config){
		.backend = {ARENA_MEMFD, NULL},
		.ring_min = 64u << 10,
		.ring_max = 1u << 20, /* as much as the kernel surely takes at once when a stream goes back to TCP */
		.spin_ns = 200000,
		.after_calls = 6,
		.after_bytes = 64u << 10,
		.log_fd = -1,
	};
	config->log_path = NULL;
	for (size_t i = 0; i < sizeof variables / sizeof *variables; i++) {
		const char *text = getenv(variables[i].name);
		if (!text || !*text)
			continue; /* an empty value is none */
		if (!variables[i].set(config, text)) {
			refuse(&variables[i], text, consequence);
			return -EINVAL;
		}
	}
	/* Where only one is set, the other follows. */
	if (config->core.ring_max < config->core.ring_min && config->ring_max_asked)
		config->core.ring_min = config->core.ring_max;
	else if (config->core.ring_max < config->core.ring_min)
		config->core.ring_max = config->core.ring_min;
	return 0;
}
