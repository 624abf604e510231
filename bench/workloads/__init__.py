# SPDX-License-Identifier: BSD-2-Clause
"""What is measured. WORKLOADS holds every workload by name, in the order `all` runs them."""
from bench.workloads import calls, grpc, nginx, pingpong, redis

WORKLOADS = {w.name: w for w in (*pingpong.WORKLOADS, *nginx.WORKLOADS, *grpc.WORKLOADS, *redis.WORKLOADS, *calls.WORKLOADS)}
