# SPDX-License-Identifier: BSD-2-Clause
"""redis with redis-benchmark and redis-cli."""
import subprocess

from lab import Failure, free_port, need
from registry import each_mode


@each_mode("redis")
def redis(lab, server, client):
    need("redis-server", "redis-benchmark", "redis-cli")
    port = free_port()
    process = lab.start(["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no",
                         "--dir", lab.folder], server, "server", stdout=subprocess.DEVNULL)
    lab.await_port(port)
    for more in ("-c 1 -n 5000", "-c 20 -n 20000", "-c 8 -n 50000 -P 16", "-c 4 -n 2000 -d 100000"):
        text = lab.run(["redis-benchmark", "-p", str(port), "-q", "-t", "set,get"] + more.split(), client)
        if text.count("requests per second") < 2 or "rror" in text:
            raise Failure(text)
    script = lab.path("script")
    with open(script, "w", encoding="ascii") as file:
        file.write("".join(f"SET key{i} {'v' * (i * 37)}\nSTRLEN key{i}\n" for i in range(300)))
    text = lab.run(["sh", "-c", f"redis-cli -p {port} < {script}"], client)
    if text.split() != [w for i in range(300) for w in ("OK", str(i * 37))]:
        # SET with an empty value is an error in both cases
        got = [w for w in text.split() if w.isdigit()]
        if got[1:] != [str(i * 37) for i in range(1, 300)][-len(got[1:]):]:
            raise Failure("redis-cli: " + text[-300:])
    lab.run(["redis-cli", "-p", str(port), "shutdown", "nosave"], False)
    process.wait(10)
    lab.judge(server, client)
