# SPDX-License-Identifier: BSD-2-Clause
"""Apache as processes (prefork) and as threads (event), with ab and curl, and restarted under load.

A request that is not seen would wait for KeepAliveTimeout, which is longer than any client here may take."""
import functools
import re
import signal
import subprocess
import time

from lab import Failure, free_port, need, need_root
from families.nginx import curl, documents
from registry import each_mode, test

CONFIG = """
ServerRoot {folder}
ServerName localhost
Listen 127.0.0.1:{port}
LoadModule mpm_{kind}_module /usr/lib/apache2/modules/mod_mpm_{kind}.so
LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so
User nobody
Group nogroup
PidFile {folder}/httpd.pid
ErrorLog {folder}/error.log
Mutex file:{folder} default
DocumentRoot {folder}/www
KeepAlive On
MaxKeepAliveRequests 0
KeepAliveTimeout 60
StartServers 3
EnableMMAP {mmap}
EnableSendfile {sendfile}
"""


def apache(lab, shimmed, kind, mmap="on", sendfile="off"):
    need("apache2")
    need_root()
    port = free_port()
    documents(lab)
    if shimmed and lab.shim:
        lab.shim = lab.lend(lab.shim)
    with open(lab.path("httpd.conf"), "w", encoding="ascii") as file:
        file.write(CONFIG.format(folder=lab.folder, port=port, kind=kind, mmap=mmap, sendfile=sendfile))
    process = lab.start(["apache2", "-DFOREGROUND", "-f", lab.path("httpd.conf")], shimmed, "server", stdout=subprocess.DEVNULL)
    lab.await_port(port)
    return port, process


def ab(lab, port, shimmed, *words, concurrency=6):
    need("ab")
    count = int(words[words.index("-n") + 1])
    text = lab.run(["ab", "-q", "-c", str(concurrency), *words, f"http://127.0.0.1:{port}/small"], shimmed, seconds=20)
    if f"Complete requests:      {count}\n" not in text or "Failed requests:        0\n" not in text or "Non-2xx" in text:
        raise Failure(text)
    return text


def work(lab, server, client, kind, **options):
    port, process = apache(lab, server, kind, **options)
    ab(lab, port, client, "-k", "-n", "4000")
    ab(lab, port, client, "-n", "200")
    curl(lab, port, client)
    lab.stop(process)
    # In more connections than requests that would move them, some bytes stay where they begin.
    lab.judge(server, client, **({"tcp_share": 0.6} if server and client else {}))


for each in ("prefork", "event"):
    each_mode("apache-" + each)(functools.partial(work, kind=each))
test("apache-event-sendfile")(functools.partial(work, server=True, client=True, kind="event", mmap="off", sendfile="on"))


def graceful(lab, kind):
    """New children serve while the old ones finish what they have."""
    port, process = apache(lab, True, kind)
    load = lab.start(["ab", "-q", "-r", "-k", "-c", "6", "-t", "2", "-n", "1000000", f"http://127.0.0.1:{port}/small"], True, "client",
                     stdout=subprocess.PIPE, text=True)
    for _ in range(2):
        time.sleep(0.6)
        process.send_signal(signal.SIGUSR1)
    try:
        text, _ = load.communicate(timeout=30)
    except subprocess.TimeoutExpired:
        raise Failure("ab hangs\n" + lab.stacks(load)) from None
    if not re.search("Complete requests: +[1-9]", text) or "Non-2xx" in text:
        raise Failure(text + lab.errors())
    curl(lab, port, True)
    lab.stop(process)
    lab.require_switched(tcp_share=0.6)


for each in ("prefork", "event"):
    test("apache-graceful-" + each)(functools.partial(graceful, kind=each))
