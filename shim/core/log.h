/* SPDX-License-Identifier: BSD-2-Clause */
/* One line a message, written at once, without stdio. */
#ifndef SHIM_CORE_LOG_H
#define SHIM_CORE_LOG_H

enum { LOG_WARNING = 1, LOG_INFO = 2, LOG_DEBUG = 3 };

/* "notnets: PID: message number"; nothing when NOTNETS_LOG is below `level`. */
void nn_log(int level, const char *message, long number);

#endif
