# SPDX-License-Identifier: BSD-2-Clause
"""Programs in the middle that encrypt: stunnel, and ssh with its forwarded ports."""
import shutil
import subprocess

from lab import Failure, free_port, need, need_root
from families.nginx import curl, nginx
from registry import each_mode

STUNNEL = """
foreground = yes
pid =
syslog = no
debug = notice
[tunnel]
client = {client}
accept = 127.0.0.1:{port}
connect = 127.0.0.1:{upstream}
{more}
"""


def stunnel(lab, shimmed, side, upstream, client, more):
    need("stunnel4")
    port = free_port()
    path = lab.path(f"stunnel-{port}.conf")
    with open(path, "w", encoding="ascii") as file:
        file.write(STUNNEL.format(port=port, upstream=upstream, client=client, more=more))
    process = lab.start(["stunnel4", path], shimmed, side, stdout=subprocess.DEVNULL)
    lab.await_port(port)
    return port, process


def certificate(lab):
    need("openssl")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj",
                    "/CN=localhost", "-keyout", lab.path("key.pem"), "-out", lab.path("cert.pem")], check=True, stderr=subprocess.DEVNULL)
    return f"cert = {lab.path('cert.pem')}\nkey = {lab.path('key.pem')}"


@each_mode("stunnel")
def tls(lab, server, client):
    """curl, a stunnel that encrypts, one that decrypts, nginx."""
    upstream, origin = nginx(lab, server, sendfile="off")
    secret, process = stunnel(lab, server, "server", upstream[0], "no", certificate(lab))
    port, front = stunnel(lab, client, "client", secret, "yes", f"verifyPeer = yes\nCAfile = {lab.path('cert.pem')}")
    curl(lab, port, client)
    for each in (front, process, origin):
        lab.stop(each)
    with open(lab.path("stderr"), encoding="utf-8", errors="replace") as file:
        if times := file.read().count("Would block"):  # and stunnel sleeps for a second
            raise Failure(f"{times} times poll(2) told what the call after it denied")
    if not lab.shim:
        return
    # Two of the three connections are plain TCP where only one side has the shim.
    for side, shimmed in (("server", server), ("client", client)):
        if shimmed:
            lab.require_switched((side,), tcp_share=0.8)


# ---- ssh -------------------------------------------------------------------------------------------------------------

SSHD = """
ListenAddress 127.0.0.1
Port {port}
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/user_key.pub
StrictModes no
PasswordAuthentication no
PermitRootLogin prohibit-password
UsePAM no
PidFile none
"""


@each_mode("ssh-forwarding")
def forwarding(lab, server, client):
    """curl through ssh and sshd to nginx: by a port here, a port there, and SOCKS. What the two say to each other goes by TCP, as sshd
    executes itself anew with the connection as its standard input. Between curl and ssh, and sshd and nginx, are rings."""
    need("sshd", "ssh", "ssh-keygen", "unshare")
    need_root()
    for name in ("host_key", "user_key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", lab.path(name)], check=True)
    upstream, origin = nginx(lab, server, sendfile="off")
    port, here, there, socks = (free_port() for _ in range(4))
    with open(lab.path("sshd_config"), "w", encoding="ascii") as file:
        file.write(SSHD.format(port=port, folder=lab.folder))
    own_run = 'mount -t tmpfs none /run && mkdir -m 755 /run/sshd && exec "$@"'
    daemon = lab.start(["unshare", "-m", "sh", "-c", own_run, "sh", shutil.which("sshd"), "-D", "-e", "-f", lab.path("sshd_config")], server,
                       "server")
    lab.await_port(port)
    options = [w for o in ("BatchMode=yes", "StrictHostKeyChecking=no", "ExitOnForwardFailure=yes", "LogLevel=ERROR",
                           f"UserKnownHostsFile={lab.path('known')}") for w in ("-o", o)]
    ssh = lab.start(["ssh", "-F", "none", *options, "-i", lab.path("user_key"), "-p", str(port), "-N", "-L", f"{here}:127.0.0.1:{upstream[0]}",
                     "-R", f"{there}:127.0.0.1:{upstream[0]}", "-D", str(socks), "root@127.0.0.1"], client, "client")
    for each in (here, there, socks):
        lab.await_port(each)
    curl(lab, here, client)
    curl(lab, there, client, count=20)
    with open(lab.path("curlrc"), "a", encoding="ascii") as file:
        file.write(f'proxy = "socks5://127.0.0.1:{socks}"\n')
    lab.run(["curl", "-sS", "--fail", "-K", lab.path("curlrc")], client)
    lab.stop(ssh)
    lab.stop(daemon)
    lab.stop(origin)
    for side, shimmed in (("server", server), ("client", client)):
        if shimmed and lab.shim:
            lab.require_switched((side,), tcp_share=0.8)
