// SPDX-License-Identifier: BSD-2-Clause
/*
 * Loads sockmap.bpf.c and attaches it to a cgroup: `sockmap CGROUP`. Prints "ready", then for every line on stdin the
 * number of sends redirected so far. Nothing is pinned: programs and attachments end with this process.
 */
#include "sockmap.skel.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

static int fail(const char *what, int error)
{
	fprintf(stderr, "%s: %s\n", what, strerror(error < 0 ? -error : error));
	return 1;
}

int main(int argc, char **argv)
{
	struct sockmap_bpf *bpf;
	struct bpf_link *link;
	char line[16];
	int cgroup, error;

	if (argc != 2)
		return fputs("usage: sockmap CGROUP\n", stderr), 2;
	cgroup = open(argv[1], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (cgroup < 0)
		return fail(argv[1], errno);
	bpf = sockmap_bpf__open_and_load();
	if (!bpf)
		return fail("loading the programs", errno);
	error = bpf_prog_attach(
		bpf_program__fd(bpf->progs.redirect), bpf_map__fd(bpf->maps.ends), BPF_SK_MSG_VERDICT, 0);
	if (error)
		return fail("attaching sk_msg", errno);
	link = bpf_program__attach_cgroup(bpf->progs.note_end, cgroup);
	if (!link)
		return fail("attaching sock_ops", errno);
	puts("ready");
	fflush(stdout);
	while (fgets(line, sizeof(line), stdin)) {
		printf("%llu\n", (unsigned long long)bpf->bss->redirected);
		fflush(stdout);
	}
	bpf_link__destroy(link);
	sockmap_bpf__destroy(bpf);
	return 0;
}
