/* SPDX-License-Identifier: BSD-2-Clause */
/* What `notnets stat` prints. */
#ifndef SHIM_CMD_SHOW_H
#define SHIM_CMD_SHOW_H

#include <netinet/in.h>
#include <stdbool.h>

#include "shim/cmd/process.h"

/* Two tables: processes, then the two directions of each connection. False: out of memory (a message was printed). */
bool show_tables(struct process_list *list);

/* One JSON object; schema in notnets(1). */
void show_json(struct process_list *list);

/* "192.0.2.1:80" (also for a v4-mapped address), "[2001:db8::1]:80", "[fe80::1%2]:80"; "" when it is not known. */
#define SHOW_ADDRESS_SIZE 80
const char *show_address(char text[static SHOW_ADDRESS_SIZE], const struct sockaddr_in6 *address);

#endif
