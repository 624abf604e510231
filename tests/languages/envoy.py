# SPDX-License-Identifier: BSD-2-Clause
"""Envoy between two programs: it accepts from the client, and connects to the server. In reports it is a side of its own."""
import json
import os
import subprocess

from lab import Failure, Skip, free_port
from registry import BUILD

ENVOY = os.path.join(BUILD, "languages/envoy/envoy")
PACKAGE = "type.googleapis.com/envoy.extensions."
SIDES = ("server", "client", "envoy")
MODES = {"both": (True, True), "neither": (False, False), "ends": (False, True), "envoy": (True, False)}  # name: (Envoy, both programs)


def address(port):
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def typed(kind, **fields):
    return {"@type": PACKAGE + kind, **fields}


def manager():
    """HTTP, whichever version comes; no time limits but those of the caller."""
    route = {"match": {"prefix": "/"}, "route": {"cluster": "upstream", "timeout": "0s", "idle_timeout": "0s"}}
    return {"name": "http", "typed_config": typed(
        "filters.network.http_connection_manager.v3.HttpConnectionManager", stat_prefix="http", codec_type="AUTO",
        route_config={"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        http_filters=[{"name": "router", "typed_config": typed("filters.http.router.v3.Router")}])}


def pipe():
    return {"name": "tcp", "typed_config": typed("filters.network.tcp_proxy.v3.TcpProxy", stat_prefix="tcp", cluster="upstream")}


def tls(kind, **fields):
    return {"name": "tls", "typed_config": typed(f"transport_sockets.tls.v3.{kind}TlsContext", **fields)}


def configuration(ports, upstream, grpc, files):
    chains = [{"filters": [filters]} for filters in (manager(), pipe())]
    version = {"http2_protocol_options": {}} if grpc else {"http_protocol_options": {}}
    cluster = {
        "name": "upstream", "connect_timeout": "5s",
        "load_assignment": {"cluster_name": "upstream", "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(upstream)}}]}]},
        "typed_extension_protocol_options": {
            PACKAGE.split("/")[1] + "upstreams.http.v3.HttpProtocolOptions":
                typed("upstreams.http.v3.HttpProtocolOptions", explicit_http_config=version)},
    }
    if files:
        cert, key = ({"filename": name} for name in files)
        chains[0]["transport_socket"] = tls("Downstream", common_tls_context={
            "alpn_protocols": ["h2"], "tls_certificates": [{"certificate_chain": cert, "private_key": key}]})
        cluster["transport_socket"] = tls("Upstream", sni="localhost", common_tls_context={
            "alpn_protocols": ["h2"], "validation_context": {"trusted_ca": cert}})
    return {"static_resources": {
        "listeners": [{"name": str(port), "address": address(port), "filter_chains": [chain]} for port, chain in zip(ports, chains)],
        "clusters": [cluster]}}


def envoy(lab, shimmed, upstream, grpc, files=(), ports=None):
    """Starts Envoy; its ports, that of HTTP and that where bytes pass as they come, and the process."""
    if not os.path.exists(ENVOY):
        raise Skip("envoy was not fetched")
    ports = ports or [free_port(), free_port()]
    with open(lab.path("envoy.json"), "w", encoding="ascii") as file:
        json.dump(configuration(ports, upstream, grpc, files), file)
    process = lab.start([ENVOY, "-c", lab.path("envoy.json"), "--concurrency", "2", "--disable-hot-restart", "-l", "error"],
                        shimmed, "envoy", stdout=subprocess.DEVNULL)
    for port in ports:
        lab.await_port(port, 20)
    return ports, process


def judge(lab, in_envoy, at_ends, **more):
    if in_envoy and at_ends:
        lab.require_switched(SIDES, **more)
    else:
        lab.require_plain(SIDES)
        for side, shimmed in zip(SIDES, (at_ends, at_ends, in_envoy)):
            if shimmed and lab.shim and not lab.reports(side):
                raise Failure(f"no report of the {side}")
