/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Files in a directory (tmpfs, hugetlbfs, a file system on a DAX device): nameless, sparse, filled page by page before
 * use, since a write to a hole of a full file system is SIGBUS.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statfs.h>

#include "backend.h"
#include "sys.h"

/* For file systems without O_TMPFILE: a name that lives for an instant. */
static int create_unlinked(const char *path)
{
	int dir = (int)arena_sys4(SYS_openat, AT_FDCWD, path, O_PATH | O_DIRECTORY | O_CLOEXEC, 0);
	int fd = -EEXIST;

	if (dir < 0)
		return dir;
	for (int tries = 0; tries < 16 && fd == -EEXIST; tries++) {
		char name[] = ".notnets-0000000000000000";
		uint64_t random = 0;

		arena_sys3(SYS_getrandom, &random, sizeof random, 0);
		for (unsigned i = 0; i < 16; i++)
			name[9 + i] = "0123456789abcdef"[random >> (4 * i) & 15];
		fd = (int)arena_sys4(SYS_openat, dir, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
		if (fd >= 0)
			arena_sys3(SYS_unlinkat, dir, name, 0);
	}
	arena_sys_close(dir);
	return fd;
}

static int create(const char *path)
{
	int fd = (int)arena_sys4(SYS_openat, AT_FDCWD, path, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	return fd == -EOPNOTSUPP || fd == -EISDIR ? create_unlinked(path) : fd;
}

/* A second descriptor of the same file, that can only read. */
static int reopen_to_read(int fd)
{
	char path[32] = "/proc/self/fd/";
	char digits[12];
	unsigned at = 14;
	unsigned count = 0;

	do
		digits[count++] = (char)('0' + fd % 10);
	while ((fd /= 10) != 0);
	while (count)
		path[at++] = digits[--count];
	path[at] = 0;
	return (int)arena_sys4(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);
}

static int fill(int fd, uint64_t length, struct backing *backing)
{
	struct statfs system = {0};
	int error = (int)arena_sys2(SYS_fstatfs, fd, &system);

	if (error)
		return error;
	backing->grain = system.f_type == HUGETLBFS_MAGIC ? (uint64_t)system.f_bsize : ARENA_PAGE;
	backing->length = (length + backing->grain - 1) & ~(backing->grain - 1);
	error = backing_check_limit(backing->length);
	if (!error)
		error = (int)arena_sys2(SYS_ftruncate, fd, backing->length);
	if (!error)
		error = arena_sparse_map(&backing->base, backing->length, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (error)
		return error;
	error = backing_populate(backing, 0, REGION_RINGS);
	if (!error) {
		backing->fd = reopen_to_read(fd);
		error = backing->fd < 0 ? backing->fd : 0;
	}
	if (error)
		arena_sparse_unmap(backing->base, backing->length);
	return error;
}

int backing_dir(const char *path, uint64_t length, struct backing *backing)
{
	int fd = create(path);
	int error;

	if (fd < 0)
		return fd;
	*backing = (struct backing){.fd = -1, .populate = true, .punch = true, .device_slot = -1};
	error = fill(fd, length, backing);
	/* The mapping is all that we need to write, to fill and to punch. */
	arena_sys_close(fd);
	return error;
}
