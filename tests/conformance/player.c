/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The process side of the player: one thread reads the controller's lines and gives each to the thread of the actor it
 * names, which is started at its first step. A thread that is cancelled in a step answers "cancelled"; the next step of
 * that actor runs in a new thread. `pending OP` cancels the thread before the operation. Signals are for the actors' threads:
 * the reader blocks them all.
 */
#include "tests/conformance/player.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { ACTORS = 16, NAMES = 64, CONTROL_FD = 400 };

struct actor {
	char name[32];
	pthread_t thread;
	bool alive;
	char *line; /* to be executed; the actor frees it */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t work = PTHREAD_COND_INITIALIZER;
static struct actor actors[ACTORS];
static struct {
	char name[32];
	int fd;
} names[NAMES];
static const char *program, *socket_path;

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

const char *player_path(void)
{
	return program;
}

const char *player_socket(void)
{
	return socket_path;
}

void op_run(struct call *call)
{
	static const struct op *const tables[] = {ops_bytes, ops_ready, ops_life};
	for (size_t t = 0; t < sizeof tables / sizeof *tables; t++)
		for (const struct op *op = tables[t]; op->name; op++)
			if (!strcmp(op->name, call->argv[0])) {
				op->run(call);
				return;
			}
	say_error(call, call->argv[0]);
}

static void answer(const char *id, const char *text)
{
	char line[CALL_OUT + 64];
	int n = snprintf(line, sizeof line, "%s %s\n", id, text);
	for (int done = 0; done < n;) {
		ssize_t wrote = write(CONTROL_FD, line + done, (size_t)(n - done));
		if (wrote < 0 && errno != EINTR)
			_exit(3);
		done += wrote > 0 ? (int)wrote : 0;
	}
}

/* Splits at blanks; 'text' is one word and keeps its quotes. */
static void split(char *line, struct call *call)
{
	call->argc = 0;
	for (char *at = line; *at && call->argc < CALL_ARGS;) {
		while (*at == ' ')
			at++;
		if (!*at)
			break;
		call->argv[call->argc++] = at;
		if (*at == '\'') {
			at = strchr(at + 1, '\'');
			at = at ? at + 1 : call->argv[call->argc - 1] + strlen(call->argv[call->argc - 1]);
		}
		while (*at && *at != ' ')
			at++;
		if (*at)
			*at++ = '\0';
	}
}

static void actor_dies(void)
{
	struct actor *actor = NULL;
	for (int i = 0; i < ACTORS; i++)
		if (actors[i].alive && pthread_equal(actors[i].thread, pthread_self()))
			actor = &actors[i];
	pthread_mutex_lock(&lock);
	if (actor)
		actor->alive = false;
	pthread_mutex_unlock(&lock);
}

static void cancelled(void *data)
{
	actor_dies();
	answer(((struct call *)data)->id, "cancelled");
}

static void execute(char *line)
{
	struct call *call = calloc(1, sizeof *call);
	split(line, call);
	call->id = call->argv[0];
	call->argc -= 2;
	memmove(call->argv, call->argv + 2, (size_t)call->argc * sizeof *call->argv);
	bool pending = call->argc && !strcmp(call->argv[0], "pending");
	pthread_cleanup_push(cancelled, call);
	if (pending) {
		memmove(call->argv, call->argv + 1, (size_t)--call->argc * sizeof *call->argv);
		pthread_cancel(pthread_self()); /* deferred: the next cancellation point is its end */
	}
	op_run(call);
	pthread_cleanup_pop(0);
	if (pending) {
		pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
		actor_dies();
	}
	answer(call->id, call->out);
	if (pending)
		pthread_exit(NULL);
	free(call);
	free(line);
}

static void *act(void *data)
{
	struct actor *actor = data;
	for (;;) {
		pthread_mutex_lock(&lock);
		while (!actor->line)
			pthread_cond_wait(&work, &lock);
		char *line = actor->line;
		actor->line = NULL;
		pthread_mutex_unlock(&lock);
		execute(line);
	}
	return NULL;
}

static struct actor *actor_named(const char *name)
{
	for (int i = 0; i < ACTORS; i++)
		if (!strcmp(actors[i].name, name))
			return &actors[i];
	for (int i = 0; i < ACTORS; i++)
		if (!actors[i].name[0]) {
			snprintf(actors[i].name, sizeof actors[i].name, "%s", name);
			return &actors[i];
		}
	abort();
}

/* tkill ACTOR SIGNAL and cancel ACTOR are for the reader itself: the actor is busy. */
static bool direct(char *line)
{
	char id[32], name[32], op[32], what[32] = "";
	if (sscanf(line, "%31s %31s %31s %31s", id, name, op, what) < 3)
		return false;
	if (strcmp(op, "tkill") && strcmp(op, "cancel"))
		return false;
	pthread_t thread = actor_named(name)->thread;
	answer(id, (*op == 't' ? pthread_kill(thread, atoi(what)) : pthread_cancel(thread)) ? "failed" : "ok");
	free(line);
	return true;
}

static void hand_out(char *line)
{
	char name[32];
	if (sscanf(line, "%*s %31s", name) != 1 || direct(line))
		return;
	pthread_mutex_lock(&lock);
	struct actor *actor = actor_named(name);
	actor->line = line;
	if (!actor->alive) {
		actor->alive = true;
		sigset_t none, all;
		sigemptyset(&none);
		sigfillset(&all);
		pthread_sigmask(SIG_SETMASK, &none, NULL);
		if (pthread_create(&actor->thread, NULL, act, actor))
			abort();
		pthread_sigmask(SIG_SETMASK, &all, NULL);
	}
	pthread_cond_broadcast(&work);
	pthread_mutex_unlock(&lock);
}

static void control(const char *name) __attribute__((noreturn));
static void control(const char *name)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	snprintf(address.sun_path, sizeof address.sun_path, "%s", socket_path);
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) || dup3(fd, CONTROL_FD, O_CLOEXEC) < 0)
		_exit(4);
	close(fd);
	sigset_t all;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, NULL);
	char hello[64];
	snprintf(hello, sizeof hello, "%s %d", name, (int)getpid());
	answer("hello", hello);

	static char buffer[1 << 16];
	size_t used = 0;
	for (;;) {
		ssize_t n = read(CONTROL_FD, buffer + used, sizeof buffer - used);
		if (n <= 0)
			exit(0); /* the usual end: the controller has left */
		used += (size_t)n;
		for (char *end; (end = memchr(buffer, '\n', used));) {
			size_t length = (size_t)(end - buffer);
			hand_out(strndup(buffer, length));
			used -= length + 1;
			memmove(buffer, end + 1, used);
		}
	}
}

void player_child(const char *name)
{
	memset(actors, 0, sizeof actors);
	pthread_mutex_init(&lock, NULL);
	pthread_cond_init(&work, NULL);
	control(name);
}

int main(int argc, char **argv)
{
	if (argc < 3) {
		fprintf(stderr, "usage: player SOCKET NAME [NAME=FD...]\n");
		return 2;
	}
	program = argv[0];
	socket_path = argv[1];
	name_list(argv + 3, argc - 3);
	/* SIGPIPE is counted, not fatal: op `signals`. */
	struct call *call = calloc(1, sizeof *call);
	char words[] = "x x sigaction PIPE";
	split(words, call);
	memmove(call->argv, call->argv + 2, 2 * sizeof *call->argv);
	call->argc = 2;
	op_run(call);
	control(argv[2]);
}
