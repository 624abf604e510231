/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Programs ignore LD_PRELOAD silently: static ones (Go, most of all) have no dynamic loader, and the loader drops it
 * for those that gain privileges by being executed. "Not faster, and no word why" is the complaint we spare users
 * here, by a look at the file before it is executed.
 */
#include "shim/cmd/program.h"

#include <elf.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#define MAX_SEGMENTS 256

/* Finds the file that execvp would execute. */
static bool look_up(const char *name, char path[static PATH_MAX])
{
	const char *entry = getenv("PATH");

	if (strchr(name, '/'))
		return snprintf(path, PATH_MAX, "%s", name) < PATH_MAX;
	if (!entry)
		entry = "/bin:/usr/bin";
	for (;;) {
		int length = (int)strcspn(entry, ":");
		struct stat status;

		if (snprintf(path, PATH_MAX, "%.*s%s%s", length, entry, length ? "/" : "", name) < PATH_MAX &&
			stat(path, &status) == 0 && S_ISREG(status.st_mode) && access(path, X_OK) == 0)
			return true;
		if (!entry[length])
			return false;
		entry += length + 1;
	}
}

static const char *judge_elf(int fd)
{
	Elf64_Ehdr header;
	Elf64_Phdr segment;

	if (pread(fd, &header, sizeof(header), 0) != (ssize_t)sizeof(header) ||
		memcmp(header.e_ident, ELFMAG, SELFMAG) != 0)
		return NULL;
	if (header.e_ident[EI_CLASS] != ELFCLASS64)
		return "is a 32-bit program";
	if (header.e_phentsize != sizeof(segment))
		return NULL;
	for (unsigned i = 0; i < header.e_phnum && i < MAX_SEGMENTS; i++) {
		char loader[PATH_MAX];
		ssize_t length;

		if (pread(fd, &segment, sizeof(segment), (off_t)(header.e_phoff + i * sizeof(segment))) !=
			(ssize_t)sizeof(segment))
			return NULL;
		if (segment.p_type != PT_INTERP)
			continue;
		length = pread(fd, loader, sizeof(loader) - 1, (off_t)segment.p_offset);
		if (length <= 0)
			return NULL;
		loader[length] = '\0';
		return strstr(loader, "ld-musl") ? "uses musl, not glibc" : NULL;
	}
	return "is statically linked";
}

static const char *judge(const char *path, bool follow)
{
	const char *objection = NULL;
	char start[PATH_MAX + 2];
	struct stat status;
	ssize_t length;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

	if (fd < 0)
		return NULL;
	length = pread(fd, start, sizeof(start) - 1, 0);
	if (length > 2 && start[0] == '#' && start[1] == '!') {
		/* The kernel takes the privileges of the interpreter, not of the script. */
		char *interpreter = start + 2;

		start[length] = '\0';
		interpreter += strspn(interpreter, " \t");
		interpreter[strcspn(interpreter, " \t\n")] = '\0';
		objection = follow ? judge(interpreter, false) : NULL;
	} else if (fstat(fd, &status) == 0 && S_ISREG(status.st_mode)) {
		if (((status.st_mode & S_ISUID) && status.st_uid != geteuid()) ||
			((status.st_mode & S_ISGID) && (status.st_mode & S_IXGRP) && status.st_gid != getegid()))
			objection = "is set-user-ID or set-group-ID";
		else if (geteuid() != 0 && fgetxattr(fd, "security.capability", NULL, 0) > 0)
			objection = "has file capabilities";
		else
			objection = judge_elf(fd);
	}
	close(fd);
	return objection;
}

const char *program_objection(const char *name)
{
	char path[PATH_MAX];

	return look_up(name, path) ? judge(path, true) : NULL;
}
