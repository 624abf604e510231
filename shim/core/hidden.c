/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Hidden descriptors. They take the highest free numbers below the hard limit where that exceeds the soft one (raised for the
 * moment of the dup: numbers already given out stay valid), so that the application never runs into them and a
 * select set never holds one; else the highest below the soft limit.
 *
 * One lock guards the numbers and the list of holders. It is held for a few system calls, in which no handler runs: none
 * can interrupt its holder and then wait for it, nor see the raised limit. It is taken across fork, so that the child finds the
 * list whole and the lock free. Two kinds of children come without that:
 *   - one that shares our memory (vfork, posix_spawn) takes the lock as a thread does, and may be killed while it has it: who
 *     waits asks now and then whether the holder lives;
 *   - a copy made by a system call that nobody saw may have copied a lock held by a thread that it does not have: the holder lives, but in
 *     another address space.
 */
#include "shim/core/hidden.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "shim/core/process.h"
#include "shim/core/signals.h"
#include "shim/core/sys.h"

#define ASK_TURNS 256u /* after so many turns who waits asks for the holder */

/* Where hidden numbers are kept. Under the lock. */
static int **holders;
static size_t holder_count, holder_room;

static _Atomic uint64_t lock; /* process << 32 | thread that holds it, 0: nobody */
static int next_hint;         /* under the lock */
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

/* True when the holder will never let go: killed, or left behind in the memory that this process was copied from. */
static bool holder_is_gone(uint64_t holder, uint32_t process)
{
	uint32_t other = (uint32_t)(holder >> 32);
	if (sys_call3(SYS_tgkill, other, (uint32_t)holder, 0) == -ESRCH)
		return true;
	/* Where the kernel does not tell (a negative answer) it counts as alive. */
	return other != process && sys_call5(SYS_kcmp, process, other, KCMP_VM, 0, 0) > 0;
}

/* What it returns is for drop_lock. */
static struct signals_section take_lock(void)
{
	struct signals_section section = signals_section_begin();
	uint64_t nobody = 0;
	/* Not nn_self: a child of vfork would pass for its parent. */
	uint32_t process = (uint32_t)sys_call0(SYS_getpid);
	uint64_t self = (uint64_t)process << 32 | (uint32_t)sys_call0(SYS_gettid);
	for (unsigned turn = 1; !atomic_compare_exchange_weak(&lock, &nobody, self); turn++) {
		uint64_t holder = nobody;
		nobody = 0;
		sys_call0(SYS_sched_yield);
		if (holder && turn % ASK_TURNS == 0 && holder_is_gone(holder, process) &&
			atomic_compare_exchange_strong(&lock, &holder, self))
			break;
	}
	return section;
}

static void drop_lock(struct signals_section section)
{
	atomic_store(&lock, 0);
	signals_section_end(section);
}

static struct signals_section fork_section; /* of the thread that forks; under the lock */

void hidden_fork_prepare(void)
{
	struct signals_section section = take_lock();
	fork_section = section;
}

void hidden_fork_done(void)
{
	drop_lock(fork_section);
}

/* Puts back the limit that was raised to `raised`. What another thread has set meanwhile wins: each exchange shows whether what it
 * replaced was ours. (One that was set and set back in between is taken for none.) */
static void lower_limit(const struct rlimit *limit, const struct rlimit *raised)
{
	struct rlimit ours = *raised, wanted = *limit, found;
	while (sys_call4(SYS_prlimit64, 0, RLIMIT_NOFILE, &wanted, &found) == 0 &&
		(found.rlim_cur != ours.rlim_cur || found.rlim_max != ours.rlim_max)) {
		ours = wanted;
		wanted = found;
	}
}

/* Copies `fd` to the highest free number that the limit, as it is now, allows. -EINVAL: it has been lowered meanwhile. */
static int dup_below_limit(int fd)
{
	struct rlimit limit;
	if (sys_call4(SYS_prlimit64, 0, RLIMIT_NOFILE, NULL, &limit) < 0)
		return -EMFILE;
	struct rlimit raised = limit;
	bool did_raise = false;
	if (limit.rlim_max > limit.rlim_cur && limit.rlim_cur < NN_FD_MAX) {
		raised.rlim_cur = limit.rlim_max < NN_FD_MAX ? limit.rlim_max : NN_FD_MAX;
		uint64_t wanted = limit.rlim_cur + 16384;
		if (raised.rlim_cur > wanted)
			raised.rlim_cur = wanted; /* the kernel's table grows with the highest number */
		/* What it replaces is what is put back: another thread may have set it just now. */
		did_raise = sys_call4(SYS_prlimit64, 0, RLIMIT_NOFILE, &raised, &limit) == 0;
	}
	uint64_t above = limit.rlim_cur;
	int outcome = -EMFILE;
	if (did_raise) {
		int from = next_hint > (int)above ? next_hint : (int)above;
		outcome = (int)sys_call3(SYS_fcntl, fd, F_DUPFD_CLOEXEC, from);
		if (outcome < 0)
			outcome = (int)sys_call3(SYS_fcntl, fd, F_DUPFD_CLOEXEC, (int)above);
		lower_limit(&limit, &raised);
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

/* Copies `fd` to the highest free number it can get. Under the lock. */
static int dup_high(int fd)
{
	int outcome = -EINVAL;
	for (int tries = 0; outcome == -EINVAL && tries < 8; tries++)
		outcome = dup_below_limit(fd);
	return outcome;
}

int hidden_copy(int fd)
{
	if (fd < 0)
		return fd;
	struct signals_section section = take_lock();
	int high = dup_high(fd);
	if (high >= 0)
		note(high);
	drop_lock(section);
	return high;
}

int hidden_take(int fd)
{
	int high = hidden_copy(fd);
	if (fd >= 0)
		sys_call1(SYS_close, fd);
	return high;
}

void hidden_close(int fd)
{
	if (fd < 0 || nn_kind_of(fd) != NN_HIDDEN)
		return; /* taken from us by a call we do not see; the number may be the application's now */
	struct signals_section section = take_lock();
	fd_clear(fd);
	if (fd < next_hint)
		next_hint = fd;
	drop_lock(section);
	sys_call1(SYS_close, fd);
}

static bool room_for_holder(void)
{
	if (holder_count < holder_room)
		return true;
	size_t room = holder_room ? holder_room * 2 : 512;
	int **larger = process_memory(room * sizeof *larger);
	if (!larger)
		return false;
	if (holders) {
		memcpy(larger, holders, holder_count * sizeof *larger);
		sys_call2(SYS_munmap, holders, holder_room * sizeof *larger);
	}
	holders = larger;
	holder_room = room;
	return true;
}

int hidden_watch(int *holder)
{
	struct signals_section section = take_lock();
	bool room = room_for_holder();
	if (room)
		holders[holder_count++] = holder;
	drop_lock(section);
	return room ? 0 : -ENOMEM;
}

void hidden_unwatch(int *holder)
{
	struct signals_section section = take_lock();
	for (size_t i = 0; i < holder_count; i++)
		if (holders[i] == holder) {
			holders[i] = holders[--holder_count];
			break;
		}
	drop_lock(section);
}

void hidden_evict(int fd)
{
	if (nn_kind_of(fd) != NN_HIDDEN)
		return;
	struct signals_section section = take_lock();
	int moved = dup_high(fd);
	if (moved >= 0)
		note(moved);
	for (size_t i = 0; i < holder_count; i++)
		if (*holders[i] == fd)
			*holders[i] = moved;
	fd_clear(fd);
	drop_lock(section);
	sys_call1(SYS_close, fd);
}
