/* SPDX-License-Identifier: BSD-2-Clause */
#include "shim/core/log.h"

#include "shim/core/process.h"
#include "shim/core/sys.h"

static unsigned put_text(char *line, unsigned at, unsigned end, const char *text)
{
	while (*text && at < end)
		line[at++] = *text++;
	return at;
}

static unsigned put_number(char *line, unsigned at, unsigned end, long number)
{
	char digits[24];
	unsigned count = 0;
	unsigned long rest = number < 0 ? -(unsigned long)number : (unsigned long)number;
	do
		digits[count++] = (char)('0' + rest % 10);
	while (rest /= 10);
	if (number < 0 && at < end)
		line[at++] = '-';
	while (count && at < end)
		line[at++] = digits[--count];
	return at;
}

void nn_log(int level, const char *message, long number)
{
	if ((int)nn_config.log_level < level || nn_config.log_fd < 0)
		return;
	char line[256];
	const unsigned end = sizeof line - 1;
	unsigned at = put_text(line, 0, end, "notnets: ");
	at = put_number(line, at, end, sys_call0(SYS_getpid));
	at = put_text(line, at, end, ": ");
	at = put_text(line, at, end, message);
	at = put_text(line, at, end, " ");
	at = put_number(line, at, end, number);
	line[at++] = '\n';
	sys_call3(SYS_write, nn_config.log_fd, line, at);
}
