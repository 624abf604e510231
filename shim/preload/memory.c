/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * mlockall(2) makes memory of all address space there is. Of ours that is gigabytes which are never used (nn_reserved): so what is there is locked
 * one mapping at a time, without those.
 */
#include "shim/preload/preload.h"

#include <linux/capability.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "shim/core/sys.h"

/* Calls `what` with each stretch of /proc/self/maps that is not ours; false: cannot be read. */
static bool each_mapping(void (*what)(uintptr_t begin, uintptr_t end, void *data), void *data)
{
	char text[4096];
	size_t held = 0;
	int fd = (int)sys_call4(SYS_openat, AT_FDCWD, "/proc/self/maps", O_RDONLY | O_CLOEXEC, 0);
	if (fd < 0)
		return false;
	for (long got; (got = sys_call3(SYS_read, fd, text + held, sizeof text - 1 - held)) > 0;) {
		held += (size_t)got;
		text[held] = 0;
		char *line = text;
		for (char *end; (end = strchr(line, '\n')); line = end + 1) {
			char *rest;
			uintptr_t at = strtoull(line, &rest, 16), until = strtoull(rest + 1, NULL, 16), ours, behind;
			for (; at < until; at = behind) {
				if (!nn_reserved(at, &ours, &behind) || ours >= until)
					ours = behind = until;
				if (ours > at)
					what(at, ours, data);
			}
		}
		held -= (size_t)(line - text);
		memmove(text, line, held);
	}
	sys_call1(SYS_close, fd);
	return true;
}

static void sum(uintptr_t begin, uintptr_t end, void *data)
{
	*(uint64_t *)data += end - begin;
}

/* What the kernel does not lock it passes over, as in mlockall. */
static void lock(uintptr_t begin, uintptr_t end, void *data)
{
	sys_call3(SYS_mlock2, begin, end - begin, *(unsigned *)data);
}

static bool may_lock_all(void)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct sets[2] = {{0}};
	return sys_call2(SYS_capget, &header, sets) == 0 && (sets[0].effective & (1u << CAP_IPC_LOCK));
}

static int lock_what_is_there(unsigned how)
{
	struct rlimit limit;
	uint64_t total = 0;
	if (sys_call4(SYS_prlimit64, 0, RLIMIT_MEMLOCK, NULL, &limit) < 0 || !each_mapping(sum, &total))
		return -ENOMEM;
	if (total > limit.rlim_cur && !may_lock_all())
		return limit.rlim_cur ? -ENOMEM : -EPERM;
	each_mapping(lock, &how);
	return 0;
}

EXPORT int mlockall(int flags)
{
	const int known = MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT;
	if (!nn_fds || nn_in_vfork_child() || (flags & ~known) || !(flags & (MCL_CURRENT | MCL_FUTURE)))
		return real.mlockall(flags);
	if (flags & MCL_FUTURE) {
		nn_locks_future();
		if (!(flags & MCL_CURRENT))
			return real.mlockall(flags);
	}
	int outcome = lock_what_is_there(flags & MCL_ONFAULT ? MLOCK_ONFAULT : 0);
	if (outcome == 0 && (flags & MCL_FUTURE))
		return real.mlockall(flags & ~MCL_CURRENT);
	return (int)answer(outcome);
}
