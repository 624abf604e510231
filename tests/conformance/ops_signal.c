/* SPDX-License-Identifier: BSD-2-Clause */
/* Signals and time; operations on operations. */
#include "tests/conformance/player.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile sig_atomic_t seen[65];

static void on_signal(int number)
{
	seen[number]++;
}

static int signal_named(const char *name)
{
	return !strcmp(name, "PIPE") ? SIGPIPE : !strcmp(name, "ALRM") ? SIGALRM : !strcmp(name, "URG") ? SIGURG
		: !strcmp(name, "IO")						      ? SIGIO
		: !strcmp(name, "USR2")						      ? SIGUSR2
											      : SIGUSR1;
}

/* sigaction SIGNAL [restart|default|ignore] */
static void op_sigaction(struct call *call)
{
	const char *how = arg(call, 2, "");
	struct sigaction action = {.sa_handler = on_signal, .sa_flags = strcmp(how, "restart") ? 0 : SA_RESTART};
	if (!strcmp(how, "default"))
		action.sa_handler = SIG_DFL;
	if (!strcmp(how, "ignore"))
		action.sa_handler = SIG_IGN;
	say_result(call, sigaction(signal_named(arg(call, 1, "USR1")), &action, NULL));
}

void signal_forget(void)
{
	static const int used[] = {SIGALRM, SIGURG, SIGIO, SIGUSR1, SIGUSR2};
	struct itimerval never = {{0, 0}, {0, 0}};
	setitimer(ITIMER_REAL, &never, NULL);
	for (size_t i = 0; i < sizeof used / sizeof *used; i++)
		signal(used[i], SIG_DFL);
	struct sigaction count = {.sa_handler = on_signal};
	sigaction(SIGPIPE, &count, NULL);
	memset((void *)seen, 0, sizeof seen);
}

/* signals: which have come since last asked */
static void op_signals(struct call *call)
{
	say(call, "seen");
	for (int i = 1; i < 65; i++) {
		if (seen[i])
			say(call, " SIG%s*%d", sigabbrev_np(i), (int)seen[i]);
		seen[i] = 0;
	}
}

/* alarm MS: SIGALRM to this process after so long */
static void op_alarm(struct call *call)
{
	long ms = arg_number(call, 1, 10);
	struct itimerval when = {.it_value = {ms / 1000, ms % 1000 * 1000}};
	say_result(call, setitimer(ITIMER_REAL, &when, NULL));
}

/* own FD: signals for urgent data */
static void op_own(struct call *call)
{
	say_result(call, fcntl(arg_fd(call, 1), F_SETOWN, getpid()));
}

/* sleep MS */
static void op_sleep(struct call *call)
{
	usleep((useconds_t)arg_number(call, 1, 1) * 1000u);
	say(call, "ok");
}

static void shift(struct call *call, int by)
{
	call->argc -= by;
	memmove(call->argv, call->argv + by, (size_t)call->argc * sizeof *call->argv);
}

/* timed MS OP...: says whether OP took about so long */
static void op_timed(struct call *call)
{
	uint64_t wanted = (uint64_t)arg_number(call, 1, 0) * 1000u, start = now_us();
	shift(call, 2);
	op_run(call);
	uint64_t took = now_us() - start;
	say(call, took + 2000 < wanted ? " too early" : took > wanted + 150000 ? " too late" : " in time");
}

/* lazy OP...: did it sleep while it waited? */
static void op_lazy(struct call *call)
{
	struct timespec before, after;
	shift(call, 1);
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &before);
	op_run(call);
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &after);
	long spent = (after.tv_sec - before.tv_sec) * 1000 + (after.tv_nsec - before.tv_nsec) / 1000000;
	say(call, spent < 60 ? " lazily" : " busily");
}

/* until OUTCOME OP...: repeats OP until its outcome is OUTCOME ('quoted'), for two seconds */
static void op_until(struct call *call)
{
	char wanted[256];
	snprintf(wanted, sizeof wanted, "%s", arg(call, 1, "''") + 1);
	if (*wanted)
		wanted[strlen(wanted) - 1] = '\0';
	shift(call, 2);
	char *words[CALL_ARGS];
	int count = call->argc;
	for (int i = 0; i < count; i++)
		words[i] = strdup(call->argv[i]);
	for (uint64_t start = now_us(); now_us() - start < 2000000;) {
		call->used = 0;
		call->argc = count;
		for (int i = 0; i < count; i++)
			strcpy(call->argv[i], words[i]);
		op_run(call);
		call->out[call->used] = '\0';
		if (!strcmp(call->out, wanted))
			break;
		usleep(1000);
	}
	for (int i = 0; i < count; i++)
		free(words[i]);
}

const struct op ops_signal[] = {{"sigaction", op_sigaction}, {"signals", op_signals}, {"alarm", op_alarm},
	{"own", op_own}, {"sleep", op_sleep}, {"timed", op_timed}, {"lazy", op_lazy}, {"until", op_until},
	{NULL, NULL}};
