/* SPDX-License-Identifier: BSD-2-Clause */
/* What a user says of where memory comes from. On its own: the command asks, too. */
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/stat.h>
#include <stdbool.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include "arena.h"
#include "sys.h"

static bool same(const char *text, const char *word)
{
	while (*text && *text == *word) {
		text++;
		word++;
	}
	return *text == *word;
}

/* A file on a disk would be written back to it, page by page. Whether a file system maps its device is said of a file, not of the folder. */
static int must_be_memory(const char *path)
{
	struct statfs system = {0};
	struct statx file = {0};
	int error = (int)arena_sys2(SYS_statfs, path, &system);
	int fd;

	if (error || system.f_type == TMPFS_MAGIC || system.f_type == RAMFS_MAGIC || system.f_type == HUGETLBFS_MAGIC)
		return error;
	fd = (int)arena_sys4(SYS_openat, AT_FDCWD, path, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (fd < 0)
		return fd;
	error = (int)arena_sys6(SYS_statx, fd, "", AT_EMPTY_PATH, STATX_TYPE, &file, 0);
	arena_sys_close(fd);
	return error ? error : file.stx_attributes & STATX_ATTR_DAX ? 0 : -ENOTSUP;
}

int arena_backend_parse(const char *text, struct arena_backend *backend)
{
	/* newfstatat's mode is all we need, and struct stat has the kernel's layout on 64-bit architectures. */
	struct stat status = {0};
	int error;

	*backend = (struct arena_backend){.kind = ARENA_MEMFD};
	if (!text)
		return -EINVAL;
	if (same(text, "memfd"))
		return 0;
	if (same(text, "hugetlb")) {
		backend->kind = ARENA_HUGETLB;
		return 0;
	}
	if (text[0] != '/')
		return -EINVAL;
	error = (int)arena_sys4(SYS_newfstatat, AT_FDCWD, text, &status, 0);
	if (error)
		return error;
	if (S_ISDIR(status.st_mode))
		backend->kind = ARENA_DIR;
	else if (S_ISCHR(status.st_mode))
		backend->kind = ARENA_DEVICE;
	else
		return -ENOTDIR;
	error = (int)arena_sys3(SYS_faccessat, AT_FDCWD, text, backend->kind == ARENA_DIR ? R_OK | W_OK | X_OK : R_OK | W_OK);
	if (!error && backend->kind == ARENA_DIR)
		error = must_be_memory(text);
	if (error)
		return error;
	backend->path = text;
	return 0;
}
