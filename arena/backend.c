/* SPDX-License-Identifier: BSD-2-Clause */
/* See backend.h. */
#include "backend.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "sys.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

/* A memfd costs what is touched; the others may take all of it from a pool. */
#define LENGTH_MEMFD (1ull << 30)
#define LENGTH_POOL (64ull << 20)

int backing_check_limit(uint64_t length)
{
	struct rlimit limit = {0};
	int error = (int)arena_sys4(SYS_prlimit64, 0, RLIMIT_FSIZE, 0, &limit);

	return error ? error : limit.rlim_cur < length ? -EFBIG : 0;
}

int backing_create(const struct arena_backend *backend, uint64_t length, struct backing *backing)
{
	int error;

	if (length == 0)
		length = backend->kind == ARENA_MEMFD ? LENGTH_MEMFD : LENGTH_POOL;
	if (length > REGION_LENGTH_MOST)
		return -EFBIG;
	switch (backend->kind) {
	case ARENA_MEMFD:
		error = backing_memfd("notnets-region", false, length, backing);
		break;
	case ARENA_HUGETLB:
		error = backing_memfd("notnets-region", true, length, backing);
		break;
	case ARENA_DIR:
		error = backing_dir(backend->path, length, backing);
		break;
	case ARENA_DEVICE:
		error = backing_device(backend->path, length, backing);
		break;
	default:
		return -EINVAL;
	}
	if (error)
		return error;
	/* A core dump would carry the rings along. */
	arena_sys3(SYS_madvise, backing->base, backing->length, MADV_DONTDUMP);
	return 0;
}

void backing_destroy(const struct arena_backend *backend, struct backing *backing)
{
	arena_sparse_unmap(backing->base, backing->length);
	if (backing->device_slot >= 0)
		backing_device_release(backend->path, backing);
}

int backing_populate(const struct backing *backing, uint64_t at, uint64_t length)
{
	uint64_t start = at & ~(backing->grain - 1);
	uint64_t end = (at + length + backing->grain - 1) & ~(backing->grain - 1);

	if (!backing->populate)
		return 0;
	return (int)arena_sys3(SYS_madvise, (char *)backing->base + start, end - start, MADV_POPULATE_WRITE);
}

bool backing_punch(const struct backing *backing, uint64_t at, uint64_t length)
{
	return backing->punch && arena_sys3(SYS_madvise, (char *)backing->base + at, length, MADV_REMOVE) == 0;
}
