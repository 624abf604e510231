# SPDX-License-Identifier: BSD-2-Clause
"""nginx with one worker, under wrk (HTTP/1.1) and h2load (HTTP/2 in the clear)."""
import os
import re

from bench.workloads.base import P50, P99, RATE, Workload, find_program

# The worker keeps the identity it was started with: it must be able to append to the report file.
CONFIGURATION = """\
{user}
daemon off;
worker_processes 1;
pid {folder}/pid;
error_log {folder}/error.log crit;
events {{ worker_connections 1024; }}
http {{
	access_log off;
	keepalive_requests 1000000000;
	keepalive_timeout 600s;
	client_body_temp_path {folder}/body;
	proxy_temp_path {folder}/proxy;
	fastcgi_temp_path {folder}/fastcgi;
	uwsgi_temp_path {folder}/uwsgi;
	scgi_temp_path {folder}/scgi;
	server {{
		listen {listen};
		location / {{ return 200 "{body}"; }}
	}}
}}
"""
BODY = "sixty-four bytes of page, as small as a page that is one can be."
UNIT = {"us": 1.0, "ms": 1e3, "s": 1e6}


def microseconds(text):
    value, unit = re.fullmatch(r"([\d.]+)(us|ms|s)", text).groups()
    return float(value) * UNIT[unit]


class Nginx(Workload):
    http2 = False

    def server(self, place):
        listen = f"unix:{place.path}" if place.family == "uds" else f"127.0.0.1:{place.port}"
        configuration = place.write("nginx.conf", CONFIGURATION.format(
            user="user root;" if os.geteuid() == 0 else "", folder=place.folder, body=BODY,
            listen=listen + (" http2" if self.http2 else "")))
        return [find_program("nginx"), "-e", os.path.join(place.folder, "error.log"), "-p", place.folder,
                "-c", configuration]


class Wrk(Nginx):
    program = "nginx"
    families = ("tcp",)
    commands = ("nginx", "wrk")

    def __init__(self, connections):
        self.name, self.what, self.connections = f"wrk-c{connections}", f"wrk -t1 -c{connections}", connections

    def load(self, place, seconds, rate):
        return ["wrk", "-t1", f"-c{self.connections}", f"-d{max(1, round(seconds))}s", "--latency",
                f"http://127.0.0.1:{place.port}/"]

    def parse(self, text):
        def find(pattern):
            return re.search(pattern, text).group(1)
        errors = [line.strip() for line in text.splitlines() if "Non-2xx" in line or "Socket errors" in line]
        if errors:
            raise ValueError("wrk saw errors: " + ", ".join(errors))
        return {"rate": float(find(r"Requests/sec:\s+([\d.]+)")), "p50": microseconds(find(r"\s50%\s+(\S+)")),
                "p99": microseconds(find(r"\s99%\s+(\S+)"))}


class H2load(Nginx):
    name, program, what = "h2load", "nginx HTTP/2", "h2load -c8 -m8"
    metrics = (RATE,)
    commands = ("nginx", "h2load")
    http2 = True

    def load(self, place, seconds, rate):
        where = ["-B", f"unix:{place.path}"] if place.family == "uds" else []
        return ["h2load", "-c8", "-m8", "-D", str(max(1, round(seconds))), *where,
                f"http://127.0.0.1:{place.port}/"]

    def parse(self, text):
        done = re.search(r"finished in [\d.]+m?s, ([\d.]+) req/s", text)
        failed = re.search(r"(\d+) failed, (\d+) errored", text)
        if not done or failed.groups() != ("0", "0") or float(done.group(1)) == 0:
            raise ValueError("h2load saw errors: " + text)
        return {"rate": float(done.group(1))}


WORKLOADS = (Wrk(1), Wrk(16), Wrk(64), H2load())
