/* SPDX-License-Identifier: BSD-2-Clause */
/* One line a message, written at once, without stdio; nothing when NOTNETS_LOG is below its level. */
#ifndef SHIM_CORE_LOG_H
#define SHIM_CORE_LOG_H

#include "shim/core/state.h"

enum log_level { LOG_WARNING = 1, LOG_INFO = 2, LOG_DEBUG = 3 };

struct nn_stream;

/* "notnets: PID: message number". */
void nn_log(enum log_level level, const char *message, long number);

/* LOG_INFO: "notnets: PID: fd N, LOCAL to REMOTE: what, reason". Without addresses while they are not known, without NN_REASON_NONE. */
void nn_log_stream(const struct nn_stream *stream, const char *what, enum nn_reason reason);

#endif
