/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef SHIM_CMD_PROGRAM_H
#define SHIM_CMD_PROGRAM_H

/* Why a program will not load the shim although LD_PRELOAD names it, in words that follow "PROGRAM " ("is statically
 * linked"), or NULL when nothing speaks against it. `name` is looked up in PATH as execvp(3) does. A script is judged by its
 * interpreter. */
const char *program_objection(const char *name);

#endif
