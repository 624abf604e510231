/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * memfds: mapped by us to write, then sealed so that nobody can map them to write again, nor change their size.
 *
 * Memory of 2 MiB pages is allocated in full before it is mapped: a huge page that the pool cannot deliver is then an
 * error here, and no SIGBUS in us or in the peer later.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/memfd.h>
#include <sys/mman.h>

#include "backend.h"
#include "sys.h"

#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x0010
#endif
#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 8u
#endif

static int create(const char *name, unsigned flags)
{
	/* Since Linux 6.3 a memfd should say that it will not be executed, and may have to. */
	int fd = (int)arena_sys2(SYS_memfd_create, name, flags | MFD_NOEXEC_SEAL);

	return fd == -EINVAL ? (int)arena_sys2(SYS_memfd_create, name, flags) : fd;
}

static int fill(int fd, bool huge, struct backing *backing)
{
	int error = (int)arena_sys2(SYS_ftruncate, fd, backing->length);

	if (!error && huge)
		error = (int)arena_sys4(SYS_fallocate, fd, 0, 0, backing->length);
	if (error)
		return error;
	error = arena_sparse_map(&backing->base, backing->length, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (error)
		return error;
	error = (int)arena_sys3(SYS_fcntl, fd, F_ADD_SEALS,
				F_SEAL_FUTURE_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
	if (error)
		arena_sparse_unmap(backing->base, backing->length);
	return error;
}

int backing_memfd(const char *name, bool huge, uint64_t length, struct backing *backing)
{
	uint64_t grain = huge ? HUGE_PAGE : ARENA_PAGE;
	int error;
	int fd;

	length = (length + grain - 1) & ~(grain - 1);
	error = backing_check_limit(length);
	if (error)
		return error;
	fd = create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING | (huge ? MFD_HUGETLB | MFD_HUGE_2MB : 0u));
	if (fd < 0)
		return fd;
	*backing = (struct backing){.length = length, .grain = grain, .fd = fd, .device_slot = -1};
	error = fill(fd, huge, backing);
	if (error)
		arena_sys_close(fd);
	return error;
}
