/* SPDX-License-Identifier: BSD-2-Clause */
/* `notnets stat`: who carries the shim, which way the bytes go, and why. */
#include "shim/cmd/cmd.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shim/cmd/process.h"
#include "shim/cmd/show.h"

static const char help[] =
	"Usage: notnets stat [OPTION]... [PID]...\n"
	"\n"
	"List the processes of this network namespace that carry the shim, or those with\n"
	"the given PIDs, and their open TCP connections: which way the bytes of each\n"
	"direction go ('up': through shared memory) and why.\n"
	"\n"
	"Options:\n"
	"  -J, --json     use the JSON output format\n"
	"  -h, --help     display this help and exit\n"
	"  -V, --version  output version information and exit\n"
	"\n"
	"Exit status: 0 on success, 1 if a given PID is of no process that carries the\n"
	"shim, 2 on trouble.\n";

/* The worse of two exit codes. */
static int worse(int a, int b)
{
	return a > b ? a : b;
}

static int add_named(struct process_list *list, const char *text)
{
	char *end;
	long pid;
	int result;

	errno = 0;
	pid = strtol(text, &end, 10);
	if (errno || end == text || *end || pid <= 0 || pid > INT_MAX) {
		fprintf(stderr, "notnets: invalid PID '%s'\n", text);
		return cmd_try_help("stat", CMD_TROUBLE);
	}
	for (size_t i = 0; i < list->count; i++)
		if (list->processes[i].pid == (pid_t)pid)
			return EXIT_SUCCESS;
	result = process_add(list, (pid_t)pid);
	if (result > 0)
		return EXIT_SUCCESS;
	fprintf(stderr, "notnets: %ld: %s\n", pid, result ? strerror(-result) : "carries no shim");
	return result == 0 || result == -ESRCH ? CMD_ABSENT : CMD_TROUBLE;
}

static int add_everybody(struct process_list *list)
{
	int result = process_add_all(list);

	if (result == 0)
		return EXIT_SUCCESS;
	fprintf(stderr, "notnets: /proc: %s\n", strerror(-result));
	return CMD_TROUBLE;
}

static void print_notes(const struct process_list *list, bool named)
{
	for (size_t i = 0; i < list->count; i++) {
		if (list->processes[i].alien)
			fprintf(stderr, "notnets: %d: its shim is of another version: connections are not shown\n",
				(int)list->processes[i].pid);
		if (list->processes[i].disabled)
			fprintf(stderr, "notnets: %d: its shim is switched off (NOTNETS_DISABLE)\n", (int)list->processes[i].pid);
	}
	if (!named && !list->count)
		fputs("notnets: no process that carries the shim was found\n", stderr);
	if (list->not_permitted)
		fprintf(stderr, "notnets: %zu process%s could not be looked into: not permitted\n", list->not_permitted,
			list->not_permitted == 1 ? "" : "es");
}

int cmd_stat(int argc, char **argv)
{
	static const struct option options[] = {
		{"json", no_argument, NULL, 'J'},
		{"help", no_argument, NULL, 'h'},
		{"version", no_argument, NULL, 'V'},
		{NULL, 0, NULL, 0},
	};
	struct process_list list = {0};
	int code = EXIT_SUCCESS;
	bool json = false, named;
	int option;

	while ((option = getopt_long(argc, argv, "JhV", options, NULL)) != -1) {
		switch (option) {
		case 'J':
			json = true;
			break;
		case 'h':
			fputs(help, stdout);
			return cmd_flush(EXIT_SUCCESS);
		case 'V':
			puts("notnets " NOTNETS_VERSION);
			return cmd_flush(EXIT_SUCCESS);
		default:
			return cmd_try_help("stat", CMD_TROUBLE);
		}
	}
	named = optind < argc;
	for (int i = optind; i < argc; i++)
		code = worse(code, add_named(&list, argv[i]));
	if (!named)
		code = add_everybody(&list);

	if (json)
		show_json(&list);
	else if (!show_tables(&list))
		code = CMD_TROUBLE;
	code = cmd_flush(code);
	print_notes(&list, named);
	process_list_free(&list);
	return code;
}
