/* SPDX-License-Identifier: BSD-2-Clause */
/* What attaching to a peer's board and region have in common. */
#ifndef ARENA_ATTACH_H
#define ARENA_ATTACH_H

#include <stdint.h>

/* Maps `length` bytes of a peer's memfd to read, if it is sealed as ours are and of exactly that length. -EPROTO. */
int attach_sealed(int fd, uint64_t length, void **base);

/* 0 when the header at `base` fits; else unmaps `length` bytes there and returns -EPROTO. */
int attach_header(void *base, uint64_t magic, uint64_t length, uint64_t end_count);

#endif
