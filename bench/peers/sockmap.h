/* SPDX-License-Identifier: BSD-2-Clause */
/* Shared by sockmap.bpf.c and sockmap.c. */
#ifndef BENCH_SOCKMAP_H
#define BENCH_SOCKMAP_H

#include <linux/types.h>

/* Both in host byte order, as seen from the socket that is stored. */
struct sockmap_key {
	__u32 local;
	__u32 remote;
};

#endif
