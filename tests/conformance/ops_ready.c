/* SPDX-License-Identifier: BSD-2-Clause */
/* Readiness: poll, select and epoll; and the other things that a set may hold. */
#include "tests/conformance/player.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/select.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

/* EPOLL and POLL flags have the same values up to RDHUP. */
static const struct {
	const char *name;
	uint32_t flag;
} events_table[] = {{"IN", EPOLLIN}, {"PRI", EPOLLPRI}, {"OUT", EPOLLOUT}, {"ERR", EPOLLERR}, {"HUP", EPOLLHUP},
	{"RDNORM", EPOLLRDNORM}, {"RDBAND", EPOLLRDBAND}, {"WRNORM", EPOLLWRNORM}, {"WRBAND", EPOLLWRBAND},
	{"RDHUP", EPOLLRDHUP}, {"NVAL", POLLNVAL}, {"ET", EPOLLET}, {"ONESHOT", EPOLLONESHOT},
	{"EXCLUSIVE", EPOLLEXCLUSIVE}};
enum { EVENTS = sizeof events_table / sizeof *events_table };

static uint32_t parse_events(struct call *call, const char *text)
{
	char words[128];
	uint32_t events = 0;
	snprintf(words, sizeof words, "%s", text);
	for (char *save, *word = strtok_r(words, "|", &save); word; word = strtok_r(NULL, "|", &save)) {
		int i = 0;
		while (i < EVENTS && strcmp(events_table[i].name, word))
			i++;
		if (i < EVENTS)
			events |= events_table[i].flag;
		else if (strcmp(word, "0"))
			say_error(call, word);
	}
	return events;
}

static void say_events(struct call *call, const char *name, uint32_t events)
{
	say(call, " %s:", name);
	for (int i = 0; i < EVENTS; i++)
		if (events & events_table[i].flag)
			say(call, "%s,", events_table[i].name);
}

/* poll TIMEOUT_MS FD:EVENTS...; ppoll the same */
static void poll_any(struct call *call, int p)
{
	struct pollfd fds[CALL_ARGS];
	nfds_t count = 0;
	for (int i = 2; i < call->argc; i++) {
		char *colon = strchr(call->argv[i], ':');
		if (!colon) {
			say_error(call, "FD:EVENTS");
			return;
		}
		*colon = '\0';
		fds[count++] = (struct pollfd){arg_fd(call, i), (short)parse_events(call, colon + 1), 0x7fff};
	}
	long ms = arg_number(call, 1, 0);
	struct timespec timeout = {ms / 1000, ms % 1000 * 1000000};
	int n = p ? ppoll(fds, count, ms < 0 ? NULL : &timeout, NULL) : poll(fds, count, (int)ms);
	say_result(call, n);
	for (nfds_t i = 0; n >= 0 && i < count; i++)
		if (fds[i].revents)
			say_events(call, call->argv[i + 2], (uint16_t)fds[i].revents);
}

static void op_poll(struct call *call)
{
	poll_any(call, 0);
}

static void op_ppoll(struct call *call)
{
	poll_any(call, 1);
}

static void parse_set(struct call *call, const char *text, fd_set *set, int *top)
{
	char words[128];
	snprintf(words, sizeof words, "%s", text);
	for (char *save, *word = strtok_r(words, ",", &save); word; word = strtok_r(NULL, ",", &save)) {
		int fd = name_fd(word);
		if (fd < 0 || fd >= FD_SETSIZE) {
			say_error(call, word);
			continue;
		}
		FD_SET(fd, set);
		if (fd >= *top)
			*top = fd + 1;
	}
}

static void say_set(struct call *call, const char *text, const fd_set *set)
{
	char words[128];
	snprintf(words, sizeof words, "%s", text);
	for (char *save, *word = strtok_r(words, ",", &save); word; word = strtok_r(NULL, ",", &save))
		if (FD_ISSET(name_fd(word), set))
			say(call, " %s", word);
}

/* select TIMEOUT_MS in=FD,FD out=FD ex=FD; pselect the same */
static void select_any(struct call *call, int p)
{
	fd_set sets[3];
	const char *words[3] = {"", "", ""};
	static const char *const kinds[3] = {"in=", "out=", "ex="};
	int top = 0;
	for (int k = 0; k < 3; k++) {
		FD_ZERO(&sets[k]);
		for (int i = 2; i < call->argc; i++)
			if (!strncmp(call->argv[i], kinds[k], strlen(kinds[k]))) {
				words[k] = call->argv[i] + strlen(kinds[k]);
				parse_set(call, words[k], &sets[k], &top);
			}
	}
	long ms = arg_number(call, 1, 0);
	struct timespec timeout = {ms / 1000, ms % 1000 * 1000000};
	struct timeval timeval = {ms / 1000, ms % 1000 * 1000};
	int n = p ? pselect(top, &sets[0], &sets[1], &sets[2], ms < 0 ? NULL : &timeout, NULL)
		  : select(top, &sets[0], &sets[1], &sets[2], ms < 0 ? NULL : &timeval);
	say_result(call, n);
	for (int k = 0; n >= 0 && k < 3; k++) {
		say(call, " %s", kinds[k]);
		say_set(call, words[k], &sets[k]);
	}
}

static void op_select(struct call *call)
{
	select_any(call, 0);
}

static void op_pselect(struct call *call)
{
	select_any(call, 1);
}

/* epoll NAME */
static void op_epoll(struct call *call)
{
	int fd = epoll_create1(EPOLL_CLOEXEC);
	name_set(arg(call, 1, "?"), fd);
	say_result(call, fd);
}

#define DATA_MARK 0xabcd123400000000ull

/* ctl EPOLL add|mod|del FD [EVENTS] */
static void op_ctl(struct call *call)
{
	const char *word = arg(call, 2, "");
	int op = !strcmp(word, "add") ? EPOLL_CTL_ADD : !strcmp(word, "mod") ? EPOLL_CTL_MOD : EPOLL_CTL_DEL;
	struct epoll_event event = {.events = parse_events(call, arg(call, 4, "0")),
		.data.u64 = DATA_MARK | (unsigned)name_index(arg(call, 3, "?"))};
	say_result(call, epoll_ctl(arg_fd(call, 1), op, arg_fd(call, 3), op == EPOLL_CTL_DEL ? NULL : &event));
}

static int by_data(const void *a, const void *b)
{
	uint64_t x = ((const struct epoll_event *)a)->data.u64, y = ((const struct epoll_event *)b)->data.u64;
	return x < y ? -1 : x > y;
}

/* wait EPOLL TIMEOUT_MS [MAX]; pwait the same. The order of events is not compared, their set is. */
static void wait_any(struct call *call, int p)
{
	struct epoll_event events[32];
	int fd = arg_fd(call, 1), ms = (int)arg_number(call, 2, 0), max = (int)arg_number(call, 3, 32);
	struct timespec timeout = {ms / 1000, ms % 1000 * 1000000};
	sigset_t none;
	sigemptyset(&none);
	int n = p == 2 ? epoll_pwait2(fd, events, max, ms < 0 ? NULL : &timeout, &none)
		: p    ? epoll_pwait(fd, events, max, ms, &none)
		       : epoll_wait(fd, events, max, ms);
	say_result(call, n);
	if (n > 0)
		qsort(events, (size_t)n, sizeof *events, by_data);
	for (int i = 0; i < n; i++)
		say_events(call, (events[i].data.u64 & ~0xffull) == DATA_MARK ? name_at(events[i].data.u64 & 0xff) : "DATA?",
			events[i].events);
}

static void op_wait(struct call *call)
{
	wait_any(call, 0);
}

static void op_pwait(struct call *call)
{
	wait_any(call, 1);
}

static void op_pwait2(struct call *call)
{
	wait_any(call, 2);
}

/* eventfd NAME [VALUE]; bell FD: adds one */
static void op_eventfd(struct call *call)
{
	int fd = eventfd((unsigned)arg_number(call, 2, 0), EFD_CLOEXEC | EFD_NONBLOCK);
	name_set(arg(call, 1, "?"), fd);
	say_result(call, fd);
}

static void op_bell(struct call *call)
{
	uint64_t one = 1;
	say_result(call, write(arg_fd(call, 1), &one, sizeof one));
}

/* timer NAME MS */
static void op_timer(struct call *call)
{
	long ms = arg_number(call, 2, 1);
	int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	struct itimerspec when = {.it_value = {ms / 1000, ms % 1000 * 1000000}};
	timerfd_settime(fd, 0, &when, NULL);
	name_set(arg(call, 1, "?"), fd);
	say_result(call, fd);
}

/* pipe NAME_IN NAME_OUT */
static void op_pipe(struct call *call)
{
	int fds[2] = {-1, -1};
	int result = pipe(fds);
	name_set(arg(call, 1, "?"), fds[0]);
	name_set(arg(call, 2, "?"), fds[1]);
	say_result(call, result);
}

const struct op ops_ready[] = {{"poll", op_poll}, {"ppoll", op_ppoll}, {"select", op_select}, {"pselect", op_pselect},
	{"epoll", op_epoll}, {"ctl", op_ctl}, {"wait", op_wait}, {"pwait", op_pwait}, {"pwait2", op_pwait2},
	{"eventfd", op_eventfd}, {"bell", op_bell}, {"timer", op_timer}, {"pipe", op_pipe}, {NULL, NULL}};
