// SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only)
/*
 * Redirects what one loopback socket sends straight into the receive queue of the other.
 *
 * sock_ops sees both ends of every handshake in its cgroup and puts them into a sock hash under their ports; sk_msg
 * runs on every send and looks for the other end under the mirrored ports. 127.0.0.1 only, so ports are key enough.
 */
#include "bench/peers/sockmap.h"

#include <linux/bpf.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define LOOPBACK bpf_htonl(0x7f000001)

struct {
	__uint(type, BPF_MAP_TYPE_SOCKHASH);
	__uint(max_entries, 65536);
	__type(key, struct sockmap_key);
	__type(value, __u64);
} ends SEC(".maps");

__u64 redirected = 0;

SEC("sockops")
int note_end(struct bpf_sock_ops *ops)
{
	struct sockmap_key key = {.local = ops->local_port, .remote = bpf_ntohl(ops->remote_port)};

	/* Not asked for the family: a dual-stack server sees 127.0.0.1 on an IPv6 socket. */
	if (ops->local_ip4 != LOOPBACK || ops->remote_ip4 != LOOPBACK)
		return 1;
	if (ops->op == BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB || ops->op == BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB)
		bpf_sock_hash_update(ops, &ends, &key, BPF_ANY);
	return 1;
}

SEC("sk_msg")
int redirect(struct sk_msg_md *msg)
{
	struct sockmap_key key = {.local = bpf_ntohl(msg->remote_port), .remote = msg->local_port};

	/* Once per send from either end, so two CPUs at once: a lost count is harmless, a locked add would be in the
	 * way. */
	redirected++;
	return bpf_msg_redirect_hash(msg, &ends, &key, BPF_F_INGRESS);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
