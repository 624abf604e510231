/* SPDX-License-Identifier: BSD-2-Clause */
/* The state of a busy end (busy.c), and what may happen to it (events.c). */
#ifndef TESTS_BUSY_H
#define TESTS_BUSY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CHUNK 65536u
#define AHEAD (4u << 20)

struct busy {
	const char *program;
	int fd;              /* -1: somebody else went on, to a good end */
	uint64_t total, sent, received; /* bytes, each way */
	void (*event)(void); /* still to come */
	uint64_t chunk;      /* most bytes of one call */
	unsigned pace;
};
extern struct busy busy;

void die(const char *what);
void fill(unsigned char *to, uint64_t offset, size_t size);
void go_on(void); /* to the end of the connection */

/* NULL, and a word on stderr, when there is none of this name. */
void (*event_named(const char *name))(void);

/* Takes a connection from the process at the other end of a Unix socket, and goes on with it. */
void take_over(int unix_fd);

/* Forbids a system call to this process and those that it becomes. */
void deny(const char *call);

#endif
