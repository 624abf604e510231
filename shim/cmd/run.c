/* SPDX-License-Identifier: BSD-2-Clause */
/* `notnets run`: puts LD_PRELOAD and NOTNETS_* in the environment and executes. The values are judged as the shim judges them. */
#include "shim/cmd/cmd.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "shim/cmd/program.h"
#include "shim/preload/config.h"

static const char help[] =
	"Usage: notnets run [OPTION]... [--] PROGRAM [ARGUMENT]...\n"
	"\n"
	"Execute PROGRAM with the shim preloaded. Its TCP connections to other programs\n"
	"that carry the shim move to shared memory; all others stay as they are.\n"
	"\n"
	"Options (each sets the environment variable named):\n"
	"      --after-bytes=BYTES  move a connection after BYTES (NOTNETS_AFTER_BYTES)\n"
	"      --after-calls=COUNT  or after COUNT calls (NOTNETS_AFTER_CALLS)\n"
	"      --arena=WHERE        memfd, hugetlb, or the path of a directory or DAX\n"
	"                             device to take memory from (NOTNETS_ARENA)\n"
	"      --disable            load the shim, but stay on TCP (NOTNETS_DISABLE=1)\n"
	"      --log=LEVEL[:FILE]   write messages to stderr or FILE (NOTNETS_LOG)\n"
	"      --report=FILE        append a line of JSON to FILE when a process ends\n"
	"                             (NOTNETS_REPORT)\n"
	"      --ring-max=BYTES     largest ring (NOTNETS_RING_MAX)\n"
	"      --ring-min=BYTES     size a ring starts with (NOTNETS_RING_MIN)\n"
	"      --spin=MICROSECONDS  longest spin before a sleep (NOTNETS_SPIN)\n"
	"  -q, --quiet              do not warn of programs that cannot load the shim\n"
	"  -h, --help               display this help and exit\n"
	"  -V, --version            output version information and exit\n"
	"\n"
	"Exit status: that of PROGRAM; 125 if notnets itself fails, 126 if PROGRAM is\n"
	"found but cannot be executed, 127 if it is not found.\n";

enum { OPTION_VARIABLE = 256 }; /* OPTION_VARIABLE + i sets variables[i] */

static const char *const variables[] = {
	"NOTNETS_AFTER_BYTES",
	"NOTNETS_AFTER_CALLS",
	"NOTNETS_ARENA",
	"NOTNETS_DISABLE",
	"NOTNETS_LOG",
	"NOTNETS_REPORT",
	"NOTNETS_RING_MAX",
	"NOTNETS_RING_MIN",
	"NOTNETS_SPIN",
};

static const struct option options[] = {
	{"after-bytes", required_argument, NULL, OPTION_VARIABLE + 0},
	{"after-calls", required_argument, NULL, OPTION_VARIABLE + 1},
	{"arena", required_argument, NULL, OPTION_VARIABLE + 2},
	{"disable", no_argument, NULL, OPTION_VARIABLE + 3},
	{"log", required_argument, NULL, OPTION_VARIABLE + 4},
	{"report", required_argument, NULL, OPTION_VARIABLE + 5},
	{"ring-max", required_argument, NULL, OPTION_VARIABLE + 6},
	{"ring-min", required_argument, NULL, OPTION_VARIABLE + 7},
	{"spin", required_argument, NULL, OPTION_VARIABLE + 8},
	{"quiet", no_argument, NULL, 'q'},
	{"help", no_argument, NULL, 'h'},
	{"version", no_argument, NULL, 'V'},
	{NULL, 0, NULL, 0},
};

/* The library lies beside this command in a build folder, and in ../lib once installed. */
static bool find_library(char path[static PATH_MAX])
{
	static const char *const places[] = {"%.*s/" CMD_LIBRARY, "%.*s/../lib/" CMD_LIBRARY};
	char self[PATH_MAX], *slash;
	ssize_t length = readlink("/proc/self/exe", self, sizeof(self) - 1);

	if (length <= 0)
		return false;
	self[length] = '\0';
	slash = strrchr(self, '/');
	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		char place[PATH_MAX + sizeof("/../lib/" CMD_LIBRARY)];

		snprintf(place, sizeof(place), places[i], (int)(slash - self), self);
		if (access(place, R_OK) == 0 && realpath(place, path))
			return true;
	}
	fprintf(stderr, "notnets: " CMD_LIBRARY " is neither in %.*s nor in %.*s/../lib\n", (int)(slash - self), self,
		(int)(slash - self), self);
	return false;
}

/* Puts the library first in LD_PRELOAD, unless it is already in it. */
static bool preload(const char *library)
{
	const char *before = getenv("LD_PRELOAD");
	size_t length = strlen(library);
	char *value;
	bool done;

	if (strpbrk(library, " :")) {
		fprintf(stderr, "notnets: cannot preload '%s': the path has a space or colon\n", library);
		return false;
	}
	for (const char *entry = before; entry && *entry; entry += strcspn(entry, " :"), entry += strspn(entry, " :"))
		if (strncmp(entry, library, length) == 0 && strchr(" :", entry[length]))
			return true;
	if (asprintf(&value, "%s%s%s", library, before && *before ? ":" : "", before ? before : "") < 0) {
		perror("notnets");
		return false;
	}
	done = setenv("LD_PRELOAD", value, 1) == 0;
	if (!done)
		perror("notnets");
	free(value);
	return done;
}

/* A child in another folder must find the same file: puts the current one before a relative name. The name begins at
 * `name`, within `value`. */
static const char *absolute(const char *value, const char *name, char *buffer, size_t size)
{
	char *here;
	int length;

	if (name[0] == '/' || name[0] == '\0')
		return value;
	here = getcwd(NULL, 0);
	if (!here)
		return value;
	length = snprintf(buffer, size, "%.*s%s/%s", (int)(name - value), value, here, name);
	free(here);
	return length < (int)size ? buffer : value;
}

static bool set_variable(const char *name, const char *value)
{
	char buffer[PATH_MAX];

	if (strcmp(name, "NOTNETS_REPORT") == 0)
		value = absolute(value, value, buffer, sizeof(buffer));
	else if (strcmp(name, "NOTNETS_LOG") == 0 && strchr(value, ':'))
		value = absolute(value, strchr(value, ':') + 1, buffer, sizeof(buffer));
	if (setenv(name, value, 1) == 0)
		return true;
	perror("notnets");
	return false;
}

int cmd_run(int argc, char **argv)
{
	static struct front_config config;
	char library[PATH_MAX];
	const char *objection;
	bool quiet = false;
	int option, code;

	while ((option = getopt_long(argc, argv, "+qhV", options, NULL)) != -1) {
		switch (option) {
		case 'q':
			quiet = true;
			break;
		case 'h':
			fputs(help, stdout);
			return cmd_flush(EXIT_SUCCESS);
		case 'V':
			puts("notnets " NOTNETS_VERSION);
			return cmd_flush(EXIT_SUCCESS);
		case '?':
			return cmd_try_help("run", CMD_RUN_TROUBLE);
		default:
			if (!set_variable(variables[option - OPTION_VARIABLE], optarg ? optarg : "1"))
				return CMD_RUN_TROUBLE;
		}
	}
	if (optind >= argc) {
		fputs("notnets: a program is missing\n", stderr);
		return cmd_try_help("run", CMD_RUN_TROUBLE);
	}
	/* With NOTNETS_DISABLE nobody looks at them. */
	if (!config_disabled() && config_read(&config, "") < 0)
		return cmd_try_help("run", CMD_RUN_TROUBLE);
	if (!find_library(library) || !preload(library))
		return CMD_RUN_TROUBLE;
	objection = quiet ? NULL : program_objection(argv[optind]);
	if (objection)
		fprintf(stderr, "notnets: %s %s: it cannot load the shim and stays on TCP\n", argv[optind], objection);
	execvp(argv[optind], argv + optind);
	code = errno == ENOENT ? CMD_RUN_NOT_FOUND : CMD_RUN_NOT_EXECUTABLE;
	fprintf(stderr, "notnets: %s: %s\n", argv[optind], strerror(errno));
	return code;
}
