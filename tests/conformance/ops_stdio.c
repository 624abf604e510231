/* SPDX-License-Identifier: BSD-2-Clause */
/* stdio on streams. */
#include "tests/conformance/player.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* fclose FD [DATA]: fdopen, fputs, fclose, which closes without a call one could hook */
static void op_fclose(struct call *call)
{
	FILE *file = fdopen(arg_fd(call, 1), "r+");
	if (!file) {
		say_result(call, -1);
		return;
	}
	if (call->argc > 2) {
		size_t length;
		uint8_t *data = arg_data(call, 2, &length);
		say(call, "%zu ", fwrite(data, 1, length, file));
		free(data);
	}
	say_result(call, fclose(file));
}

/* fgets FD: one line through a stream on a dup */
static void op_fgets(struct call *call)
{
	char line[256] = "";
	int fd = dup(arg_fd(call, 1));
	FILE *file = fdopen(fd, "r");
	char *got = file ? fgets(line, sizeof line, file) : NULL;
	say(call, "%s", got ? "line" : "nothing");
	say_data(call, line, strlen(line));
	if (file)
		fclose(file);
}

/* file FD MODE: a stream for later steps, one for each process; gets [SIZE]; puts DATA; flush; unget CHAR; fstate; fend.
 * They tell what stdio says, and what the descriptor has to do with it. */
static FILE *kept;

static void op_file(struct call *call)
{
	errno = 0;
	kept = fdopen(arg_fd(call, 1), arg(call, 2, "r+"));
	if (kept)
		say(call, "fileno %s", fileno(kept) == arg_fd(call, 1) ? "same" : "different");
	else
		say_result(call, -1);
}

/* fconnect NAME ADDRESS PORT MODE: as file, of a socket that connects only afterwards */
static void op_fconnect(struct call *call)
{
	struct sockaddr_storage address;
	socklen_t length = parse_address(arg(call, 2, "127.0.0.1"), arg_number(call, 3, 0), &address);
	int fd = socket(address.ss_family, SOCK_STREAM, 0);
	no_delay(fd);
	name_set(arg(call, 1, "?"), fd);
	kept = fdopen(fd, arg(call, 4, "r+"));
	say_result(call, connect(fd, (struct sockaddr *)&address, length));
}

/* fstderr FD: as file, with what exists for the copy of FD at number 2, or for FD itself; freestderr: that number is free */
static void op_freestderr(struct call *call)
{
	say_result(call, close(STDERR_FILENO));
}

static void op_fstderr(struct call *call)
{
	say_result(call, dup2(arg_fd(call, 1), STDERR_FILENO));
	kept = stderr;
}

static void op_gets(struct call *call)
{
	char line[8192];
	errno = 0;
	if (fgets(line, (int)arg_number(call, 1, sizeof line), kept)) {
		say(call, "line");
		say_data(call, line, strlen(line));
	} else {
		say(call, "nothing %s%s %s", feof(kept) ? "eof" : "", ferror(kept) ? "error" : "", strerrorname_np(errno));
		clearerr(kept);
	}
}

static void op_puts(struct call *call)
{
	size_t length;
	uint8_t *data = arg_data(call, 1, &length);
	say(call, "%d", fprintf(kept, "%.*s\n", (int)length, (char *)data));
	free(data);
}

static void op_flush(struct call *call)
{
	say_result(call, fflush(kept));
}

static void op_unget(struct call *call)
{
	say(call, "%d", ungetc(*arg(call, 1, "x"), kept));
}

/* buffer none|line|full */
static void op_buffer(struct call *call)
{
	const char *how = arg(call, 1, "none");
	say_result(call, setvbuf(kept, NULL, *how == 'n' ? _IONBF : *how == 'l' ? _IOLBF : _IOFBF, 0));
}

static void op_fstate(struct call *call)
{
	errno = 0;
	say(call, "tell %ld %s eof %d error %d", ftell(kept), strerrorname_np(errno), feof(kept), ferror(kept));
}

/* fend [PATH]: fclose, or freopen to PATH and then fclose */
static void op_fend(struct call *call)
{
	if (call->argc > 1)
		say(call, "%s ", freopen(arg(call, 1, ""), "r", kept) ? "reopened" : "not");
	say_result(call, fclose(kept));
	kept = NULL;
}

/* dprintf FD DATA */
static void op_dprintf(struct call *call)
{
	size_t length;
	uint8_t *data = arg_data(call, 2, &length);
	say_result(call, dprintf(arg_fd(call, 1), "<%.*s>", (int)length, (char *)data));
	free(data);
}

void stdio_forget(void)
{
	if (kept && kept != stderr)
		fclose(kept);
	kept = NULL;
}

const struct op ops_stdio[] = {{"fclose", op_fclose}, {"fgets", op_fgets}, {"file", op_file},
	{"fconnect", op_fconnect}, {"fstderr", op_fstderr},
	{"freestderr", op_freestderr}, {"gets", op_gets}, {"puts", op_puts}, {"flush", op_flush},
	{"unget", op_unget}, {"buffer", op_buffer}, {"fstate", op_fstate}, {"fend", op_fend}, {"dprintf", op_dprintf},
	{NULL, NULL}};
