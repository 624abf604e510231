/* SPDX-License-Identifier: BSD-2-Clause */
/* The words of a step: its arguments, the outcome in the making, and the names that descriptors have. */
#include "tests/conformance/player.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { NAMES = 64 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct {
	char name[32];
	int fd;
} names[NAMES];

void say(struct call *call, const char *format, ...)
{
	va_list list;
	va_start(list, format);
	int n = vsnprintf(call->out + call->used, sizeof call->out - call->used, format, list);
	va_end(list);
	if (n > 0)
		call->used += (size_t)n;
	if (call->used >= sizeof call->out)
		call->used = sizeof call->out - 1;
}

void say_result(struct call *call, long result)
{
	if (result < 0)
		say(call, "-1 %s", strerrorname_np(errno));
	else
		say(call, "%ld", result);
}

void say_error(struct call *call, const char *what)
{
	say(call, "SCRIPT-ERROR %s", what);
}

void say_data(struct call *call, const void *data, size_t length)
{
	const uint8_t *bytes = data;
	if (length > 48) {
		say(call, " <%016llx>", (unsigned long long)hash_bytes(HASH_START, data, length));
		return;
	}
	say(call, " '");
	for (size_t i = 0; i < length; i++)
		if (bytes[i] > ' ' && bytes[i] < 127 && bytes[i] != '#')
			say(call, "%c", bytes[i]);
		else
			say(call, "\\x%02x", bytes[i]);
	say(call, "'");
}

uint64_t hash_bytes(uint64_t hash, const void *data, size_t length)
{
	const uint8_t *bytes = data;
	for (size_t i = 0; i < length; i++)
		hash = (hash ^ bytes[i]) * 1099511628211ull;
	return hash;
}

uint64_t now_us(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000u + (uint64_t)now.tv_nsec / 1000u;
}

const char *arg(struct call *call, int index, const char *fallback)
{
	return index < call->argc ? call->argv[index] : fallback;
}

long arg_number(struct call *call, int index, long fallback)
{
	return index < call->argc ? strtol(call->argv[index], NULL, 0) : fallback;
}

int arg_fd(struct call *call, int index)
{
	const char *name = arg(call, index, "-1");
	if (*name == '-' || (*name >= '0' && *name <= '9'))
		return atoi(name);
	int fd = name_fd(name);
	if (fd < 0 && name_index(name) < 0)
		say_error(call, name);
	return fd;
}

int arg_flags(struct call *call, int index)
{
	static const struct {
		const char *name;
		int flag;
	} table[] = {{"PEEK", MSG_PEEK}, {"WAITALL", MSG_WAITALL}, {"DONTWAIT", MSG_DONTWAIT}, {"TRUNC", MSG_TRUNC},
		{"OOB", MSG_OOB}, {"NOSIGNAL", MSG_NOSIGNAL}, {"MORE", MSG_MORE}, {"EOR", MSG_EOR},
		{"CMSG_CLOEXEC", MSG_CMSG_CLOEXEC}, {"ERRQUEUE", MSG_ERRQUEUE}, {"WAITFORONE", MSG_WAITFORONE}, {"0", 0}};
	char words[128];
	int flags = 0;
	snprintf(words, sizeof words, "%s", arg(call, index, "0"));
	for (char *save, *word = strtok_r(words, "|", &save); word; word = strtok_r(NULL, "|", &save)) {
		size_t i = 0;
		while (i < sizeof table / sizeof *table && strcmp(table[i].name, word))
			i++;
		if (i == sizeof table / sizeof *table)
			say_error(call, word);
		else
			flags |= table[i].flag;
	}
	return flags;
}

uint8_t *arg_data(struct call *call, int index, size_t *length)
{
	const char *text = arg(call, index, "0");
	if (*text == '\'') {
		*length = strlen(text) - 2;
		return (uint8_t *)strndup(text + 1, *length);
	}
	char *at;
	*length = strtoul(text, &at, 0);
	uint64_t x = (*at == '@' ? strtoul(at + 1, NULL, 0) : 1) * 0x9e3779b97f4a7c15ull | 1;
	uint8_t *data = malloc(*length + 1);
	for (size_t i = 0; i < *length; i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		data[i] = (uint8_t)(x >> 24);
	}
	return data;
}

int cut(struct iovec *iov, uint8_t *data, size_t length, long pieces)
{
	for (long i = 0; i < pieces && i < PIECES; i++)
		iov[i] = (struct iovec){data + length * (size_t)i / (size_t)pieces,
			length * (size_t)(i + 1) / (size_t)pieces - length * (size_t)i / (size_t)pieces};
	if (pieces)
		return (int)pieces;
	size_t first = length / 3, second = length / 2 - first;
	iov[0] = (struct iovec){data, first};
	iov[1] = (struct iovec){data + first, 0};
	iov[2] = (struct iovec){data + first, second};
	iov[3] = (struct iovec){data + first + second, length - first - second};
	return 4;
}

int name_index(const char *name)
{
	int found = -1;
	pthread_mutex_lock(&lock);
	for (int i = 0; i < NAMES && found < 0; i++)
		if (names[i].name[0] && !strcmp(names[i].name, name))
			found = i;
	pthread_mutex_unlock(&lock);
	return found;
}

int name_fd(const char *name)
{
	int i = name_index(name);
	return i < 0 ? -1 : names[i].fd;
}

const char *name_at(int index)
{
	return index >= 0 && index < NAMES ? names[index].name : "?";
}

void name_set(const char *name, int fd)
{
	int i = name_index(name);
	pthread_mutex_lock(&lock);
	for (int k = 0; k < NAMES && i < 0; k++)
		if (!names[k].name[0])
			i = k;
	if (i >= 0) {
		snprintf(names[i].name, sizeof names[i].name, "%s", name);
		names[i].fd = fd;
	}
	pthread_mutex_unlock(&lock);
}

void name_list(char *const *argv, int argc)
{
	for (int i = 0; i < argc; i++) {
		char name[32];
		int fd;
		if (sscanf(argv[i], "%31[^=]=%d", name, &fd) == 2)
			name_set(name, fd);
	}
}

int name_print(char **argv, int max)
{
	int n = 0;
	for (int i = 0; i < NAMES && n < max; i++)
		if (names[i].name[0] && asprintf(&argv[n], "%s=%d", names[i].name, names[i].fd) > 0)
			n++;
	return n;
}

void name_forget(void)
{
	for (int i = 0; i < NAMES; i++) {
		if (names[i].name[0] && strcmp(names[i].name, "u") && names[i].fd > 2)
			close(names[i].fd);
		if (strcmp(names[i].name, "u"))
			names[i].name[0] = '\0';
	}
}

void name_child(void)
{
	pthread_mutex_init(&lock, NULL);
}
