/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Attaching to a peer's memory, which may be anything that a descriptor can name.
 *
 * What must hold before the first load, or that load may be a SIGBUS: it is a file in memory, sealed against shrinking,
 * of the length we map, and, with huge pages, all there (a missing huge page is SIGBUS when the pool is empty, and the
 * seals keep our peer from taking away what is there). Only then comes the header's own ladder (header.h).
 */
#include "attach.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statfs.h>

#include "backend.h"
#include "header.h"
#include "sys.h"

#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x0010
#endif

#define SEALS_NEEDED (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE)

static int map(int fd, uint64_t offset, uint64_t length, void **base)
{
	int error = arena_sparse_map(base, length, PROT_READ, MAP_SHARED, fd, offset);

	if (!error)
		arena_sys3(SYS_madvise, *base, length, MADV_DONTDUMP);
	return error;
}

int attach_sealed(int fd, uint64_t length, void **base)
{
	struct stat status = {0};
	struct statfs system = {0};
	/* Only files in memory have seals; others answer -EINVAL. */
	int seals = (int)arena_sys2(SYS_fcntl, fd, F_GET_SEALS);

	if (seals < 0 || (seals & SEALS_NEEDED) != SEALS_NEEDED)
		return -EPROTO;
	if (arena_sys2(SYS_fstat, fd, &status) || arena_sys2(SYS_fstatfs, fd, &system))
		return -EPROTO;
	if (!S_ISREG(status.st_mode) || status.st_size < 0 || (uint64_t)status.st_size != length)
		return -EPROTO;
	if (system.f_type == HUGETLBFS_MAGIC && (uint64_t)status.st_blocks < length / 512)
		return -EPROTO;
	return map(fd, 0, length, base);
}

/* Memory that cannot be sealed: only from the very directory or device that we were told to use ourselves. */
static int attach_trusted(const struct arena_backend *mine, const struct arena_share *share, void **base)
{
	struct stat own = {0};
	struct stat status = {0};

	if (!mine || !mine->path || arena_sys4(SYS_newfstatat, AT_FDCWD, mine->path, &own, 0) ||
	    arena_sys2(SYS_fstat, share->fd, &status))
		return -EPROTO;
	if (mine->kind == ARENA_DIR) {
		if (!S_ISREG(status.st_mode) || status.st_dev != own.st_dev || share->offset != 0 ||
		    (uint64_t)status.st_size != share->length)
			return -EPROTO;
	} else if (mine->kind == ARENA_DEVICE) {
		if (!S_ISCHR(status.st_mode) || status.st_rdev != own.st_rdev || share->offset % HUGE_PAGE)
			return -EPROTO;
	} else {
		return -EPROTO;
	}
	return map(share->fd, share->offset, share->length, base);
}

int attach_header(void *base, uint64_t magic, uint64_t length, uint64_t end_count)
{
	if (header_check(base, magic, length, end_count) == HEADER_FITS)
		return 0;
	arena_sparse_unmap(base, length);
	return -EPROTO;
}

int region_attach_from(const struct arena_backend *mine, const struct arena_share *share, const struct region **region,
		       uint64_t *length)
{
	void *base;
	int error;

	if (share->length <= REGION_RINGS || share->length > REGION_LENGTH_MOST || share->length % ARENA_PAGE ||
	    share->offset > INT64_MAX - share->length)
		return -EPROTO;
	error = share->offset ? -EPROTO : attach_sealed(share->fd, share->length, &base);
	if (error == -EPROTO)
		error = attach_trusted(mine, share, &base);
	if (!error)
		error = attach_header(base, REGION_MAGIC, share->length, REGION_ENDS);
	if (error)
		return error;
	*region = base;
	*length = share->length;
	return 0;
}

int region_attach(const struct arena_share *share, const struct region **region, uint64_t *length)
{
	return region_attach_from(NULL, share, region, length);
}

void region_detach(const struct region *region, uint64_t length)
{
	arena_sparse_unmap((void *)region, length);
}
