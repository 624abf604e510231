/* SPDX-License-Identifier: BSD-2-Clause */
#include "arena.h"

#include <stddef.h>
#include <sys/mman.h>

#include "sys.h"

/* Who finds no place here is locked like anything else. */
#define RANGES 4096u

static struct range {
	_Atomic uintptr_t begin; /* 0: none */
	_Atomic uint64_t length;
} ranges[RANGES];
static _Atomic uint32_t top;

_Atomic bool arena_sparse_locking;

static void note(void *base, uint64_t length)
{
	for (uint32_t i = 0; i < RANGES; i++) {
		uintptr_t none = 0;
		if (!atomic_compare_exchange_strong(&ranges[i].begin, &none, (uintptr_t)base))
			continue;
		atomic_store(&ranges[i].length, length);
		uint32_t seen = atomic_load(&top);
		while (seen <= i && !atomic_compare_exchange_weak(&top, &seen, i + 1))
			;
		return;
	}
}

static void forget(const void *base)
{
	for (uint32_t i = 0; i < atomic_load(&top); i++)
		if (atomic_load(&ranges[i].begin) == (uintptr_t)base) {
			atomic_store(&ranges[i].length, 0);
			atomic_store(&ranges[i].begin, 0);
			return;
		}
}

int arena_sparse_map(void **base, uint64_t length, int prot, int flags, int fd, uint64_t offset)
{
	/* Without access nothing is filled in; what is not locked any more is not filled in when it gets access. */
	bool locking = atomic_load(&arena_sparse_locking);
	int error = arena_sys_mmap(base, length, locking ? PROT_NONE : prot, flags, fd, offset);

	if (!error && locking) {
		arena_sys2(SYS_munlock, *base, length);
		error = (int)arena_sys3(SYS_mprotect, *base, length, prot);
		if (error)
			arena_sys_munmap(*base, length);
	}
	if (!error)
		note(*base, length);
	return error;
}

void arena_sparse_unmap(void *base, uint64_t length)
{
	forget(base);
	arena_sys_munmap(base, length);
}

bool arena_sparse_next(uintptr_t address, uintptr_t *begin, uintptr_t *end)
{
	bool found = false;

	for (uint32_t i = 0; i < atomic_load(&top); i++) {
		uintptr_t at = atomic_load(&ranges[i].begin);
		uint64_t length = atomic_load(&ranges[i].length);
		if (!at || at + length <= address || (found && at >= *begin))
			continue;
		*begin = at;
		*end = at + length;
		found = true;
	}
	return found;
}
