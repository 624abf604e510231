/* SPDX-License-Identifier: BSD-2-Clause */
#include "shim/cmd/cmd.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char help[] =
	"Usage: notnets run [OPTION]... [--] PROGRAM [ARGUMENT]...\n"
	"       notnets stat [OPTION]... [PID]...\n"
	"\n"
	"Let unmodified programs of one machine talk through shared memory where they\n"
	"talk through TCP.\n"
	"\n"
	"Commands:\n"
	"  run            execute a program with the shim preloaded\n"
	"  stat           list the processes that carry the shim, and their connections\n"
	"\n"
	"Options:\n"
	"  -h, --help     display this help and exit\n"
	"  -V, --version  output version information and exit\n"
	"\n"
	"'notnets COMMAND --help' tells about a command; see also notnets(1) and\n"
	"libnotnets_shim(7).\n";

static const struct {
	const char *name;
	int (*run)(int argc, char **argv);
} commands[] = {
	{"run", cmd_run},
	{"stat", cmd_stat},
};

int cmd_try_help(const char *subcommand, int code)
{
	fprintf(stderr, "Try 'notnets%s%s --help' for more information.\n", subcommand ? " " : "",
		subcommand ? subcommand : "");
	return code;
}

int cmd_flush(int code)
{
	if (fflush(stdout) == 0 && !ferror(stdout))
		return code;
	perror("notnets: write error");
	return CMD_TROUBLE;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{"help", no_argument, NULL, 'h'},
		{"version", no_argument, NULL, 'V'},
		{NULL, 0, NULL, 0},
	};
	static char name[] = "notnets"; /* getopt's messages begin with it */
	int option;

	if (argc > 0)
		argv[0] = name;
	while ((option = getopt_long(argc, argv, "+hV", options, NULL)) != -1) {
		switch (option) {
		case 'h':
			fputs(help, stdout);
			return cmd_flush(EXIT_SUCCESS);
		case 'V':
			puts("notnets " NOTNETS_VERSION);
			return cmd_flush(EXIT_SUCCESS);
		default:
			return cmd_try_help(NULL, CMD_TROUBLE);
		}
	}
	if (optind >= argc) {
		fputs("notnets: a command is missing\n", stderr);
		return cmd_try_help(NULL, CMD_TROUBLE);
	}
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
		if (strcmp(argv[optind], commands[i].name) == 0) {
			argc -= optind;
			argv += optind;
			argv[0] = name;
			optind = 0; /* makes getopt start afresh */
			return commands[i].run(argc, argv);
		}
	}
	fprintf(stderr, "notnets: unknown command '%s'\n", argv[optind]);
	return cmd_try_help(NULL, CMD_TROUBLE);
}
