/* SPDX-License-Identifier: BSD-2-Clause */
/* Included before everything else that clang-tidy sees: to its analyzer, a system call made by assembler fills no memory, and
 * whatever it returns by pointer stays garbage. A function it cannot look into may fill it. */
#include "arena/sys.h"
#include "shim/core/sys.h"

long tidy_opaque(long nr, long a, long b, long c, long d, long e, long f);
#define arena_sys tidy_opaque
#define sys6 tidy_opaque
