/* SPDX-License-Identifier: BSD-2-Clause */
/* Calls that set handlers of signals. The core keeps what it knows of handlers until it is told that they changed. */
#include "shim/preload/preload.h"

#include <signal.h>

/* Safe in a signal handler, as these calls are. */
static void changed(bool done)
{
	if (done && nn_fds)
		nn_signals_changed();
}

EXPORT int sigaction(int number, const struct sigaction *action, struct sigaction *old)
{
	int result = real.sigaction(number, action, old);
	changed(result == 0 && action);
	return result;
}
ALIAS(__sigaction, sigaction);

#define SETS_HANDLER(name) \
	EXPORT sighandler_t name(int number, sighandler_t handler) \
	{ \
		sighandler_t old = real.name(number, handler); \
		changed(old != SIG_ERR); \
		return old; \
	}
SETS_HANDLER(signal)
SETS_HANDLER(sysv_signal)
SETS_HANDLER(sigset)
ALIAS(bsd_signal, signal);
ALIAS(ssignal, signal);
ALIAS(__sysv_signal, sysv_signal);

/* Deprecated, not gone. */
EXPORT int siginterrupt(int number, int interrupt)
{
	int result = real.siginterrupt(number, interrupt);
	changed(result == 0);
	return result;
}
