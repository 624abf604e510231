/* SPDX-License-Identifier: BSD-2-Clause */
#include "shim/core/alive.h"

#include <errno.h>
#include <poll.h>
#include <stddef.h>
#include <time.h>

#include "shim/core/process.h"
#include "shim/core/sys.h"

uint32_t nn_space;

/* A signal can be sent to a process that only waits to be reaped; its pidfd is readable by then. */
static long ended(uint32_t pid)
{
	long fd = sys_call2(SYS_pidfd_open, pid, 0);
	if (fd < 0)
		return fd;
	struct pollfd end = {.fd = (int)fd, .events = POLLIN};
	struct timespec none = {0, 0};
	long outcome = sys_call5(SYS_ppoll, &end, 1, &none, NULL, 8);
	sys_call1(SYS_close, fd);
	return outcome == 1;
}

bool process_gone(uint32_t pid)
{
	long outcome = ended(pid);
	return outcome == 1 || outcome == -ESRCH || (outcome < 0 && sys_call2(SYS_kill, pid, 0) == -ESRCH);
}

bool thread_gone(uint32_t self)
{
	const uint32_t tid = self & ((1u << ID_BITS) - 1);
	if ((self ^ nn_space) >> ID_BITS)
		return false; /* what this id is to us is another thread */
	/* Of a process that waits to be reaped only the first thread is left, which has the number of the process. */
	return sys_call2(SYS_tkill, tid, 0) == -ESRCH || ended(tid) == 1;
}
