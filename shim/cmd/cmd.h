/* SPDX-License-Identifier: BSD-2-Clause */
/* The `notnets` command: one file for each subcommand, see notnets(1). */
#ifndef SHIM_CMD_H
#define SHIM_CMD_H

#define CMD_LIBRARY "libnotnets_shim.so"

/* Exit codes. `run` follows env(1): its own failures must differ from those of the program. */
enum {
	CMD_ABSENT = 1,        /* stat: a named process carries no shim */
	CMD_TROUBLE = 2,       /* wrong usage, or the answer could not be found */
	CMD_RUN_TROUBLE = 125, /* run: wrong usage, or no library */
	CMD_RUN_NOT_EXECUTABLE = 126,
	CMD_RUN_NOT_FOUND = 127,
};

/* Both take what main takes and return the exit code. */
int cmd_run(int argc, char **argv);
int cmd_stat(int argc, char **argv);

/* For a usage error: says where help is and returns `code`. `subcommand` may be NULL. */
int cmd_try_help(const char *subcommand, int code);

/* Flushes stdout: `code`, or CMD_TROUBLE when something could not be written. */
int cmd_flush(int code);

#endif
