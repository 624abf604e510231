/* SPDX-License-Identifier: BSD-2-Clause */
/* NOTNETS_* variables, see shim/core/config.h for what they mean. */
#ifndef SHIM_PRELOAD_CONFIG_H
#define SHIM_PRELOAD_CONFIG_H

#include <limits.h>
#include <stdbool.h>

#include "shim/core/config.h"

struct front_config {
	struct nn_config core;         /* log_fd is -1, log_level what was asked for */
	const char *log_path;          /* NOTNETS_LOG=LEVEL:FILE, or NULL: stderr */
	char report[PATH_MAX];         /* behind core.report */
	bool ring_min_asked, ring_max_asked;
};

/* NOTNETS_DISABLE: set, and neither empty nor "0". */
bool config_disabled(void);

/* Reads the environment. 0; -EINVAL: a value was bad, which one, what is allowed and the consequence were written to stderr. Strings are
 * borrowed from the environment where not copied. */
int config_read(struct front_config *config, const char *consequence);

/* One line on stderr: "notnets: NAME=TEXT: OFCONSEQUENCE". */
void config_complain(const char *name, const char *text, const char *of, const char *consequence);

#endif
