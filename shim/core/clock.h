/* SPDX-License-Identifier: BSD-2-Clause */
/* Time: nanoseconds where they matter, processor ticks where only "a while ago" does. */
#ifndef SHIM_CORE_CLOCK_H
#define SHIM_CORE_CLOCK_H

#include <stdint.h>

#include "shim/core/process.h"

/* CLOCK_MONOTONIC, ns. */
static inline uint64_t nn_now_ns(void)
{
	return nn_front.now();
}

/* A counter that never runs backwards on one processor; 1 to 5 a nanosecond on x86-64, fewer elsewhere. */
static inline uint64_t cpu_ticks(void)
{
#if defined(__x86_64__)
	return __builtin_ia32_rdtsc();
#else
	return nn_now_ns();
#endif
}

static inline void cpu_relax(void)
{
#if defined(__x86_64__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield" ::: "memory");
#endif
}

#endif
