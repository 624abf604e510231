# SPDX-License-Identifier: BSD-2-Clause
"""The JSON file: one line per measurement and metric."""
import json


class JsonLines:
    def __init__(self, path):
        self.file = open(path, "w", encoding="utf-8")

    def write(self, workload, peer, index, found):
        for metric in workload.metrics:
            self.file.write(json.dumps({
                "workload": workload.name, "peer": peer.name, "round": index + 1, "metric": metric.name,
                "unit": metric.unit, "better": metric.better, "value": found.values[metric.name],
                "streams": found.evidence.streams, "ring_bytes": found.evidence.ring_bytes,
                "tcp_bytes": found.evidence.tcp_bytes, "cpu_us": found.cpu_us}) + "\n")
        self.file.flush()

    def close(self):
        self.file.close()
