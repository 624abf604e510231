/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Hidden descriptors. They take the highest free numbers below the hard limit where that exceeds the soft one (raised for the
 * moment of the dup: numbers already given out stay valid), so that the application never runs into them and a
 * select set never holds one; else the highest below the soft limit.
 */
#include "shim/core/hidden.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/resource.h>

#include "shim/core/process.h"
#include "shim/core/sys.h"

#define HOLDERS 16384
static int **holders; /* HOLDERS pointers to where hidden numbers are kept */
static _Atomic uint32_t lock;
static int next_hint;
static _Atomic unsigned high_top;

unsigned hidden_top(void)
{
	return atomic_load(&high_top);
}

static void note(int fd)
{
	fd_set_entry(fd, NN_HIDDEN, 0);
	if (atomic_load(&high_top) <= (unsigned)fd)
		atomic_store(&high_top, (unsigned)fd + 1);
}

static void take_lock(void)
{
	uint32_t nobody = 0;
	while (!atomic_compare_exchange_weak(&lock, &nobody, 1)) {
		nobody = 0;
		sys_call0(SYS_sched_yield);
	}
}

/* Copies `fd` to the highest free number it can get. */
static int dup_high(int fd)
{
	struct rlimit limit;
	if (sys_call4(SYS_prlimit64, 0, RLIMIT_NOFILE, NULL, &limit) < 0)
		return -EMFILE;
	struct rlimit raised = limit;
	bool did_raise = false;
	uint64_t above = limit.rlim_cur;
	if (limit.rlim_max > limit.rlim_cur && limit.rlim_cur < NN_FD_MAX) {
		raised.rlim_cur = limit.rlim_max < NN_FD_MAX ? limit.rlim_max : NN_FD_MAX;
		uint64_t wanted = limit.rlim_cur + 16384;
		if (raised.rlim_cur > wanted)
			raised.rlim_cur = wanted; /* the kernel's table grows with the highest number */
		did_raise = sys_call4(SYS_prlimit64, 0, RLIMIT_NOFILE, &raised, NULL) == 0;
	}
	int outcome = -EMFILE;
	if (did_raise) {
		int from = next_hint > (int)above ? next_hint : (int)above;
		outcome = (int)sys_call3(SYS_fcntl, fd, F_DUPFD_CLOEXEC, from);
		if (outcome < 0)
			outcome = (int)sys_call3(SYS_fcntl, fd, F_DUPFD_CLOEXEC, (int)above);
		sys_call4(SYS_prlimit64, 0, RLIMIT_NOFILE, &limit, NULL);
		if (outcome >= 0)
			next_hint = outcome + 1;
		else
			next_hint = 0;
	}
	if (outcome < 0) {
		/* Look downwards from the top of what we may have, in widening steps. */
		uint64_t top = above < NN_FD_MAX ? above : NN_FD_MAX;
		for (uint64_t room = 64; outcome < 0 && room < top; room *= 2)
			outcome = (int)sys_call3(SYS_fcntl, fd, F_DUPFD_CLOEXEC, (int)(top - room));
	}
	return outcome;
}

int hidden_take(int fd)
{
	if (fd < 0)
		return fd;
	take_lock();
	int high = dup_high(fd);
	if (high >= 0)
		note(high);
	atomic_store(&lock, 0);
	sys_call1(SYS_close, fd);
	return high;
}

void hidden_close(int fd)
{
	if (fd < 0 || nn_kind_of(fd) != NN_HIDDEN)
		return; /* taken from us by a call we do not see; the number may be the application's now */
	fd_clear(fd);
	if (fd < next_hint)
		next_hint = fd;
	sys_call1(SYS_close, fd);
}

void hidden_watch(int *holder)
{
	take_lock();
	if (!holders)
		holders = process_memory(HOLDERS * sizeof *holders);
	for (int i = 0; holders && i < HOLDERS; i++)
		if (!holders[i]) {
			holders[i] = holder;
			break;
		}
	atomic_store(&lock, 0);
}

void hidden_unwatch(int *holder)
{
	take_lock();
	for (int i = 0; holders && i < HOLDERS && holders[i]; i++)
		if (holders[i] == holder) {
			/* Keep the list dense: the last one fills the gap. */
			int last = i;
			while (last + 1 < HOLDERS && holders[last + 1])
				last++;
			holders[i] = holders[last];
			holders[last] = NULL;
			break;
		}
	atomic_store(&lock, 0);
}

void hidden_evict(int fd)
{
	if (nn_kind_of(fd) != NN_HIDDEN)
		return;
	take_lock();
	int moved = dup_high(fd);
	if (moved >= 0)
		note(moved);
	for (int i = 0; holders && i < HOLDERS && holders[i]; i++)
		if (*holders[i] == fd)
			*holders[i] = moved;
	fd_clear(fd);
	atomic_store(&lock, 0);
	sys_call1(SYS_close, fd);
}
