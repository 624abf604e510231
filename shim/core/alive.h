/* SPDX-License-Identifier: BSD-2-Clause */
/* Whether another process has come to its end. One that waits to be reaped has: its descriptors are closed. */
#ifndef SHIM_CORE_ALIVE_H
#define SHIM_CORE_ALIVE_H

#include <stdbool.h>
#include <stdint.h>

/* False also when it cannot be told. */
bool process_gone(uint32_t pid);

/* The same of a thread, by its nn_self(). */
bool thread_gone(uint32_t self);

#endif
